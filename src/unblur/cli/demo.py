"""`unblur demo`: compare models on generated data, in a minute, without a download."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unblur import experiment
from unblur.cli.options import Device
from unblur.cli.terminal import ProgressDisplay, print_lines, print_table
from unblur.document.blocks import Table

if TYPE_CHECKING:
    from unblur.data.interactions import Interactions
    from unblur.experiment.comparison.results import RankingOutcome
    from unblur.experiment.ranking import PreparedSplit


RECIPES = tuple(
    f"{family}/demo"
    for family in ("popularity", "item-knn", "user-knn", "rp3beta", "pure-svd", "ease", "gf-cf", "bspm")
)
"""The recipes that are run, simple models first; all have the same data and split."""
_HISTORY = range(8, 16)
"""Length of the history of the user with recommendations: enough for a taste, few enough for a line."""
_SHOWN = 5
"""Recommendations shown: a glance."""


def demo(
    device: Device = "cpu",
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder for the comparison, with the page report.html.")
    ] = None,
) -> None:
    """Run several models on generated demonstration data, compare them, and recommend items to one user."""
    from unblur.data.output import FolderKind, OutputFolder
    from unblur.evaluation.groups import with_extra_metrics
    from unblur.experiment.recipe.library import load_recipe

    place = None if out is None else OutputFolder(out, FolderKind("unblur-demo")).checked()
    recipes = [load_recipe(name) for name in RECIPES]
    with ProgressDisplay() as progress:
        prepared = experiment.prepare(recipes[0], progress=progress)
    train, held_out = prepared.split.train, prepared.split.held_out
    print_lines(
        f"Generated data: {train.n_users:,} users, {train.n_items:,} items, {train.n_interactions:,} training "
        f"interactions, {held_out.n_interactions:,} held out ({prepared.split.method})."
    )
    outcomes: list[RankingOutcome] = []
    with ProgressDisplay() as progress:
        for recipe in recipes:
            with_metrics = (
                recipe if out is None else recipe.with_protocol(with_extra_metrics(recipe.protocol))
            )
            prepared_recipe = replace(prepared, recipe=with_metrics)
            outcomes.append(experiment.measure(prepared_recipe, device=device, progress=progress))
    _show_table(outcomes, recipes[0].protocol.names)
    if place is not None:
        with place.written() as folder:
            _write_page(outcomes, prepared, folder)
        print_lines(f"written to {out}")
    _show_recommendations(outcomes[-1], prepared.split.histories)
    print_lines(
        "Next, with data of your own (a CSV or Parquet file of users and items):",
        "  unblur fit DATA --out model/",
        "  unblur recommend model/ --histories DATA --out lists.parquet",
    )


def _write_page(outcomes: list[RankingOutcome], prepared: PreparedSplit, folder: Path) -> None:
    """Write the comparison of the models as `unblur compare` does."""
    from unblur.cli.tune import write_pages
    from unblur.experiment.comparison.results import result_of, summarise
    from unblur.experiment.searching import metric_of

    metric = metric_of(outcomes[0].recipe.protocol, None)
    results = [result_of(outcome, prepared.split, metric) for outcome in outcomes]
    comparison = summarise(results, prepared.split, metric, protocol=outcomes[0].recipe.protocol)
    provenance = outcomes[0].report.provenance
    comparison = replace(
        comparison,
        ground="demo",
        data=provenance.data,
        versions=provenance.versions,
        machine=provenance.machine,
    )
    write_pages(comparison, folder)


def _show_table(outcomes: list[RankingOutcome], names: tuple[str, ...]) -> None:
    from unblur.evaluation.report import with_half

    rows = [
        (
            outcome.recipe.name,
            *(with_half(outcome.report[name]) for name in names),
            f"{outcome.report.timings.fit_seconds:.2f}",
            f"{outcome.report.timings.score_seconds:.2f}",
        )
        for outcome in outcomes
    ]
    title = f"{outcomes[0].report.measurements[0].n_users:,} users; ± is half of the 95 % interval"
    print_table(Table(("recipe", *names, "fit s", "score s"), rows, title))


def _show_recommendations(outcome: RankingOutcome, histories: Interactions) -> None:
    """Print recommendations to one user, with the items of the history that contribute most to each."""
    user = next(iter(row for row, size in enumerate(histories.user_degrees) if size in _HISTORY), 0)
    row = histories.take_users([user])
    history = row.items.take(row.matrix.indices).to_list()
    print_lines(f"User {row.users.to_list()[0]} has: {', '.join(str(item) for item in history)}.")
    rows = []
    for item in outcome.model.recommend(row, k=min(_SHOWN, len(row.items))).labels():
        reasons = outcome.model.explain(row, item)
        shares = zip(reasons.history.to_list(), reasons.shares / (reasons.score or 1.0), strict=True)
        rows.append([str(item), ", ".join(f"{cause} {share:.0%}" for cause, share in list(shares)[:3])])
    print_table(
        Table(
            ("item", "because of, by share of its score"), rows, f"{outcome.recipe.name} recommends", left=2
        )
    )
