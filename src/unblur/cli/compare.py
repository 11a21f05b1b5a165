"""`unblur compare`: several models, one data set, one protocol, one budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from unblur.cli import terminal
from unblur.cli.options import (
    Device,
    HoldOut,
    Metric,
    Pruner,
    Sampler,
    Seconds,
    Settings,
    Trials,
    reads_data,
    searching,
)
from unblur.cli.terminal import FAILED, ProgressDisplay, print_lines, print_table
from unblur.errors import RecipeError, nearest
from unblur.registry import RECOMMENDERS

if TYPE_CHECKING:
    from unblur.experiment.comparison.summary import Comparison

WINNER = "winner.toml"
"""The file in a comparison's folder that holds the best model as a recipe."""


@reads_data
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…",
            help="Recipes (shipped or TOML files) and kinds of models, such as ease or item-knn.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="A folder for results and pages. With the same command it goes on where it ended."
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Whose data, split and protocol are used; else the first recipe's."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Your own data: a file, or a folder of parts.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", metavar="paper|strict", help="Else the recipe's.")
    ] = None,
    trials: Trials = None,
    seconds: Seconds = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="How many seeds a stochastic model is fitted with.")
    ] = 1,
    metric: Metric = None,
    sampler: Sampler = None,
    pruner: Pruner = None,
    hold_out: HoldOut = None,
    spaces: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="KIND.PATH=[…]",
            help="The values to try, such as ease.ridge=[100,1000]. Repeatable.",
        ),
    ] = None,
    settings: Settings = None,
    device: Device = "cpu",
    *,
    reading: dict[str, Any],
) -> None:
    """Tune every model with the same budget on validation data, test each once, and say what differs.

    Under the paper's protocol settings are as given unless --trials or --seconds ask for a search; under the strict one
    the recipe's section search does. The options set its fields.
    Results are kept model by model and trial by trial: the same command, or one with more models, computes only what is
    missing, and one with more trials adds to those that are there. Exits with 1 when a model did not get through; the others are shown.
    """
    from unblur.experiment import comparison
    from unblur.experiment.recipe.schema import parse_settings

    RecipeError.unless(
        protocol in (None, "paper", "strict"),
        f"--protocol must be paper or strict; saw {protocol!r}. Give one of these.",
    )
    lineup = comparison.line_up(
        models,
        recipe=recipe,
        own_data=data is not None,
        protocol=cast("Literal['paper', 'strict'] | None", protocol),
        settings={
            **parse_settings(settings or ()),
            **reading,
            **searching(trials, seconds, sampler, pruner, metric, hold_out),
        },
    )
    with ProgressDisplay() as progress:
        found = comparison.compare(
            lineup,
            data=data,
            search=None if trials is None and seconds is None else lineup.ground.search,
            spaces=_spaces(spaces or ()),
            seeds=seeds,
            device=device,
            out=out,
            progress=progress,
        )
    write_pages(found, out, {WINNER: comparison.winner(found, lineup.ground).to_toml()})
    show(found)
    print_lines(
        f"written to {out}",
        f"to use the first: unblur fit {data or 'DATA'} --model {out / WINNER} --out model/",
    )
    if found.failures:
        raise typer.Exit(FAILED)


def _spaces(words: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """The values to try by kind and path, from ``kind.path=[…]``."""
    from unblur.experiment.recipe.schema import parse_settings

    found: dict[str, dict[str, list[Any]]] = {}
    for name, values in parse_settings(words).items():
        kind, _, path = name.partition(".")
        RecipeError.unless(
            kind in RECOMMENDERS and path and isinstance(values, list),
            f"--space must be KIND.PATH=[VALUE, …] with a kind of model; saw {name!r}.{nearest(kind, RECOMMENDERS)} "
            "Write it as ease.ridge=[100,1000].",
        )
        found.setdefault(kind, {})[path] = values
    return found


def write_pages(found: Comparison, out: Path, more: Mapping[str, str] | None = None) -> None:
    """Put leaderboard, figures, page and what `more` there is into the folder of a comparison."""
    from unblur.document.html import as_html
    from unblur.document.markdown import as_markdown
    from unblur.experiment.comparison.page import comparison_document
    from unblur.experiment.comparison.running import Cache

    document = comparison_document(found)
    texts = {"leaderboard.md": as_markdown(document), "report.html": as_html(document)}
    Cache(out).write({**texts, "report.json": found.to_json(), **(more or {})})


def show(found: Comparison) -> None:
    """Print the tables of a comparison."""
    from unblur.experiment.comparison.page import beyond_accuracy, costs, leaderboard

    print_table(leaderboard(found), f"Accuracy, {found.size['counted']:,} users")
    print_table(beyond_accuracy(found), "Beyond accuracy")
    print_table(costs(found), "Cost")
    print_lines(found.verdict())
    for name, reason in found.failures.items():
        terminal.err().print(
            f"{name} did not get through: {reason}", style="red", markup=False, soft_wrap=True
        )
    print_lines(*(f"note: {note}" for note in found.notes))
