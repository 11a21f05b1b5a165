"""A comparison as a document: its tables, its plots, and how the numbers were measured."""

from __future__ import annotations

import numpy as np

from unblur.document.blocks import (
    Cell,
    Document,
    DocumentBlock,
    Listing,
    Paragraph,
    Plot,
    Section,
    Table,
    interval,
    number,
)
from unblur.document.plots import Axis, interval_plot, line_plot, named_dot_plot
from unblur.evaluation.metrics import HEAD, MEANINGS, metric_at, parse_metric
from unblur.evaluation.report import with_half
from unblur.evaluation.significance import LEVEL, PERMUTATIONS
from unblur.experiment.comparison.results import Comparison
from unblur.experiment.page import dot, made_with, popularity_plot, response_blocks, training_plots
from unblur.tuning.points import entry_at

_MOST_LINES = 6
"""How many lines a plot shows: there are as many colours."""
_MOST_IN_GROUPS = 4
"""How many models a plot of groups shows: each has a row in each of three groups."""


def comparison_document(found: Comparison) -> Document:
    """The comparison: all of it as a page; without plots and the table of every pair as Markdown."""
    sections = [
        Section(
            f"Accuracy, {found.size['counted']:,} users",
            (leaderboard(found), _intervals(found), *_curves(found)),
        ),
        Section(
            "Did not get through",
            (Listing([(Cell(name, "bad"), reason) for name, reason in found.failures.items()]),),
        ),
        Section("Beyond accuracy", (beyond_accuracy(found), _popularity(found))),
        Section("Cost", (costs(found), *_accuracy_against_cost(found))),
        Section("Groups", _groups(found)),
        Section("Settings", (settings(found),)),
        Section("Pairs", _level(found)),
        Section("Every pair", (pairs(found),), detail=True),
    ]
    for result in found.results:
        if result.response:
            sections.append(
                Section(f"The filter of {result.name}", response_blocks(result.response), detail=True)
            )
        if len(result.training) > 1:
            sections.append(Section(f"The training of {result.name}", training_plots(result.training)))
    sections += [
        Section("How this was measured", (Listing(method(found)),)),
        Section("Notes", (Listing(found.notes),)),
        Section(
            "Measures",
            (Listing([(Cell(name.replace("_", " ")), meaning) for name, meaning in MEANINGS.items()]),),
        ),
    ]
    return Document(
        f"{found.ground or 'Comparison'}: {len(found.results)} models",
        sections,
        f"{found.verdict()} {sizes(found)}",
        [
            *(f"{name}: {value}" for name, value in found.data.items()),
            *made_with(found.versions, found.machine),
        ],
    )


def sizes(found: Comparison) -> str:
    """How much was learned from, how many users were tested, and by whose rules, in a sentence."""
    size = found.size
    return (
        f"{size['users']:,} users, {size['items']:,} items, {size['interactions']:,} interactions to learn from; "
        f"{size['counted']:,} users tested; protocol: {found.protocol}."
    )


# ----------------------------------------------------------------------------------------------- tables


def leaderboard(found: Comparison) -> Table:
    """Accuracy: the metric with its interval, the other measures, spread over seeds, and the test against the first."""
    others = [name for name in found.names if name != found.metric]
    spread = ["± seeds"] if any(len(result.seeds) > 1 for result in found.results) else []
    rows = []
    for place, result in enumerate(found.results):
        figures = found.figures[result.name]
        first = figures[found.metric]
        seeds = result.by_seed[found.metric]
        deviation = number(float(np.std(seeds, ddof=1))) if len(seeds) > 1 else "–"
        rows.append(
            (
                result.name,
                number(first.value),
                interval(first.low, first.high),
                *(deviation for _ in spread),
                *(number(figures[name].value) for name in others),
                _against_first(found, place),
            )
        )
    return Table(("model", found.metric, "95 % interval", *spread, *others, "against the first"), rows)


def beyond_accuracy(found: Comparison) -> Table:
    """Coverage, concentration, popularity, novelty, diversity at the metric's cut-off."""
    _, k = parse_metric(found.metric)
    names = [metric_at(name, k) for name in MEANINGS]
    rows = []
    for result in found.results:
        means = {name: entry.value for name, entry in found.figures[result.name].items()}
        values = {**result.totals, **means}
        rows.append((result.name, *(number(values[name]) if name in values else "–" for name in names)))
    return Table(("model", *(name.replace("_", " ") for name in names)), rows)


def costs(found: Comparison) -> Table:
    """Seconds and memory."""
    return Table(
        (
            "model",
            "settings tried",
            "search, s",
            "fit, s",
            "ms a user",
            "peak memory, MB",
            "of which before, MB",
        ),
        [
            (
                result.name,
                str(result.search.get("trials", 0)),
                f"{result.costs.search_seconds:,.1f}",
                f"{result.costs.fit_seconds:,.2f}",
                f"{result.costs.milliseconds_a_user:,.3f}",
                f"{result.costs.peak_mb:,.0f}" + ("" if result.costs.peak_is_own else " or less"),
                f"{result.costs.before_mb:,.0f}",
            )
            for result in found.results
        ],
    )


def settings(found: Comparison) -> Table:
    """What was chosen."""
    rows = []
    for result in found.results:
        searched = {
            path: entry_at(result.chosen, path.split(".")) for path in result.search.get("searched", ())
        }
        chosen = ", ".join(f"{path} = {value}" for path, value in searched.items())
        rows.append((result.name, str(result.chosen["kind"]), chosen or "as given"))
    return Table(("model", "kind", "chosen on validation data"), rows, left=3)


def pairs(found: Comparison) -> Table:
    """Every pair with its difference, interval and p-values."""
    return Table(
        ("pair", f"difference in {found.metric}", "95 % interval", "p", "p after Holm", "differ"),
        [
            (
                f"{found.results[entry.one].name} − {found.results[entry.other].name}",
                number(entry.mean, signed=True),
                interval(entry.low, entry.high, signed=True),
                probability(entry.p_value),
                probability(entry.adjusted),
                "yes" if entry.differs else "no",
            )
            for entry in found.differences
        ],
    )


def _level(found: Comparison) -> tuple[DocumentBlock, ...]:
    """Each model next to those after it that chance alone could explain its lead over."""
    if not found.differences:
        return ()
    unclear = sum(not entry.differs for entry in found.differences)
    return (
        Paragraph(f"Of {len(found.differences)} pairs, chance could explain {unclear}."),
        Table(
            ("model", "of those after it, not told apart by the test"),
            [(result.name, ", ".join(found.level_with(result.name)) or "–") for result in found.results],
            left=2,
        ),
    )


def method(found: Comparison) -> tuple[str, ...]:
    """How the numbers came about, in sentences."""
    return (
        (
            f"Protocol: {found.protocol}. Budget: {found.budget or 'settings as given'}. Test data were read once for each "
            "model, after its choice."
        ),
        (
            "Intervals are 95 % bootstrap intervals over users. Pairs are compared by the sign-flip permutation test over users "
            f"({PERMUTATIONS:,} patterns) on {found.metric}, with Holm's correction for all pairs; they differ where p is below "
            f"{LEVEL:g}. The test speaks of users like these, not of other data sets."
        ),
        (
            f"Popular items are the {HEAD:.0%} of the catalogue with the most training users, rare ones the others; thirds of the "
            "users are by the length of their history."
        ),
        "Peak memory is that of the process while a model was fitted and scored.",
    )


def probability(value: float) -> str:
    """A p-value in words that do not claim too much."""
    return "< .001" if value < 0.001 else f"{value:.3f}"


def _against_first(found: Comparison, place: int) -> str:
    if place == 0:
        return "–"
    entry = found.between(found.results[0].name, found.results[place].name)
    return f"p {probability(entry.adjusted)}" + ("" if entry.differs else ", may be chance")


# ------------------------------------------------------------------------------------------------ plots


def _intervals(found: Comparison) -> Plot:
    return interval_plot(
        [dot(found.figures[result.name][found.metric], result.name) for result in found.results],
        axis=Axis(label=f"{found.metric}, mean over users"),
        caption=f"Means with 95 % bootstrap intervals over {found.size['counted']:,} users. Intervals may overlap where a "
        "paired test tells two models apart: users differ more than models do.",
    )


def _curves(found: Comparison) -> list[Plot]:
    """The metric at every cut-off, if lists are longer than one place."""
    shown = found.results[:_MOST_LINES]
    if len(shown[0].curve) < 2:
        return []
    name, _ = parse_metric(found.metric)
    which = "" if len(shown) == len(found.results) else f" The first {len(shown)} models are drawn."
    return [
        line_plot(
            {result.name: result.curve for result in shown},
            x=Axis(label="length of the list, k"),
            y=Axis(label=f"{name}@k, mean over users", low=0.0),
            caption=f"{name} at every cut-off, {found.size['counted']:,} users.{which}",
        )
    ]


def _accuracy_against_cost(found: Comparison) -> list[Plot]:
    costs = [result.costs for result in found.results]
    times = {
        ("seconds to fit once", "the time to fit the chosen setting"): [
            max(each.fit_seconds, 1e-3) for each in costs
        ],
        ("milliseconds to score and rank a user", "the time to serve"): [
            max(each.milliseconds_a_user, 1e-4) for each in costs
        ],
    }
    return [
        named_dot_plot(
            [
                (time, dot(found.figures[result.name][found.metric], result.name))
                for result, time in zip(found.results, taken, strict=True)
            ],
            x=Axis(label=f"{label} (logarithmic)", logarithmic=True),
            y=Axis(label=found.metric),
            caption=f"Accuracy against {what}. {found.size['counted']:,} users; bars are 95 % intervals.",
        )
        for (label, what), taken in times.items()
    ]


def _popularity(found: Comparison) -> Plot:
    shown = found.results[: _MOST_LINES - 1]  # train is a line as well
    return popularity_plot(
        {"train": found.popularity, **{result.name: result.exposure for result in shown}},
        found.size["counted"],
    )


def _groups(found: Comparison) -> tuple[DocumentBlock, ...]:
    """The metric for users with few and many interactions; recall of popular and rare items."""
    if not found.groups:
        return ()
    sizes = {label: next(iter(models.values())).n_users for label, models in found.groups.items()}
    rows = [
        (result.name, *(with_half(models[result.name]) for models in found.groups.values()))
        for result in found.results
    ]
    users = [label for label in found.groups if label.startswith("users")]
    shown = found.results[:_MOST_IN_GROUPS]
    plot = interval_plot(
        [
            dot(found.groups[label][result.name], label, series)
            for label in users
            for series, result in enumerate(shown)
        ],
        axis=Axis(label=f"{found.metric}, mean over users"),
        caption=f"The first {len(shown)} models for users with few and with many interactions, 95 % intervals; "
        f"{', '.join(f'{sizes[label]:,}' for label in users)} users.",
        legend=[result.name for result in shown],
    )
    columns = ("model", *(f"{label}, {n_users:,} users" for label, n_users in sizes.items()))
    return (Table(columns, rows), plot)
