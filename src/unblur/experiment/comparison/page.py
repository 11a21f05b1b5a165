"""A comparison as a document: tables, plots, and the method of measurement."""

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
from unblur.experiment.page import dot, environment_lines, popularity_plot, response_blocks, training_plots
from unblur.tuning.points import entry_at

_MAX_LINES = 6
"""Largest number of lines of a plot: the number of its colours."""
_MAX_GROUPED_MODELS = 4
"""Largest number of models in a plot of groups, each with a row in each of three groups: twelve rows."""


def comparison_document(comparison: Comparison) -> Document:
    """The document of a comparison; its Markdown form leaves out plots and the table of all pairs."""
    sections = [
        Section(
            f"Accuracy, {comparison.size['counted']:,} users",
            (leaderboard(comparison), _intervals(comparison), *_curves(comparison)),
        ),
        Section(
            "Failed",
            (Listing([(Cell(name, "bad"), reason) for name, reason in comparison.failures.items()]),),
        ),
        Section("Beyond accuracy", (beyond_accuracy(comparison), _popularity(comparison))),
        Section("Cost", (costs(comparison), *_accuracy_against_cost(comparison))),
        Section("Groups", _groups(comparison)),
        Section("Settings", (settings(comparison),)),
        Section("Pairs", _indistinguishable(comparison)),
        Section("All pairs", (pairs(comparison),), detail=True),
    ]
    for result in comparison.results:
        if result.response:
            sections.append(
                Section(f"The filter of {result.name}", response_blocks(result.response), detail=True)
            )
        if len(result.training) > 1:
            sections.append(Section(f"The training of {result.name}", training_plots(result.training)))
    sections += [
        Section("Method", (Listing(method(comparison)),)),
        Section("Notes", (Listing(comparison.notes),)),
        Section(
            "Measures",
            (Listing([(Cell(name.replace("_", " ")), meaning) for name, meaning in MEANINGS.items()]),),
        ),
    ]
    return Document(
        f"{comparison.ground or 'Comparison'}: {len(comparison.results)} models",
        sections,
        f"{comparison.verdict()} {sizes(comparison)}",
        [
            *(f"{name}: {value}" for name, value in comparison.data.items()),
            *environment_lines(comparison.versions, comparison.machine),
        ],
    )


def sizes(comparison: Comparison) -> str:
    """The sizes of training and test data, and the protocol, in a sentence."""
    size = comparison.size
    return (
        f"{size['users']:,} users, {size['items']:,} items, {size['interactions']:,} training interactions; "
        f"{size['counted']:,} users tested; protocol: {comparison.protocol}."
    )


# ----------------------------------------------------------------------------------------------- tables


def leaderboard(comparison: Comparison) -> Table:
    """Accuracy: the metric with its interval, its deviation over seeds, the other metrics, and the test against the first."""
    others = [name for name in comparison.names if name != comparison.metric]
    spread = ["± seeds"] if any(len(result.seeds) > 1 for result in comparison.results) else []
    rows = []
    for position, result in enumerate(comparison.results):
        figures = comparison.figures[result.name]
        first = figures[comparison.metric]
        seeds = result.by_seed[comparison.metric]
        deviation = number(float(np.std(seeds, ddof=1))) if len(seeds) > 1 else "–"
        rows.append(
            (
                result.name,
                number(first.value),
                interval(first.low, first.high),
                *(deviation for _ in spread),
                *(number(figures[name].value) for name in others),
                _against_first(comparison, position),
            )
        )
    return Table(("model", comparison.metric, "95 % interval", *spread, *others, "against the first"), rows)


def beyond_accuracy(comparison: Comparison) -> Table:
    """The metric next to coverage, concentration, popularity, novelty and diversity at its cut-off: what each costs."""
    _, k = parse_metric(comparison.metric)
    names = [metric_at(name, k) for name in MEANINGS]
    rows = []
    for result in comparison.results:
        means = {name: entry.value for name, entry in comparison.figures[result.name].items()}
        values = {**result.totals, **means}
        cells = (number(values[name]) if name in values else "–" for name in (comparison.metric, *names))
        rows.append((result.name, *cells))
    return Table(("model", comparison.metric, *(name.replace("_", " ") for name in names)), rows)


def costs(comparison: Comparison) -> Table:
    """Time and memory of search, fit and scoring."""
    return Table(
        (
            "model",
            "settings tried",
            "search, s",
            "fit, s",
            "ms per user",
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
            for result in comparison.results
        ],
    )


def settings(comparison: Comparison) -> Table:
    """The settings that were chosen for each model."""
    rows = []
    for result in comparison.results:
        searched = {
            path: entry_at(result.chosen, path.split(".")) for path in result.search.get("searched", ())
        }
        chosen = ", ".join(f"{path} = {value}" for path, value in searched.items())
        rows.append((result.name, str(result.chosen["kind"]), chosen or "as given"))
    return Table(("model", "kind", "chosen on validation data"), rows, left=3)


def pairs(comparison: Comparison) -> Table:
    """All pairs of models with their differences, intervals and p-values."""
    return Table(
        ("pair", f"difference in {comparison.metric}", "95 % interval", "p", "p after Holm", "differ"),
        [
            (
                f"{comparison.results[entry.one].name} − {comparison.results[entry.other].name}",
                number(entry.mean, signed=True),
                interval(entry.low, entry.high, signed=True),
                probability(entry.p_value),
                probability(entry.adjusted),
                "yes" if entry.differs else "no",
            )
            for entry in comparison.differences
        ],
    )


def _indistinguishable(comparison: Comparison) -> tuple[DocumentBlock, ...]:
    """For each model, those below it whose distance chance alone could explain."""
    if not comparison.differences:
        return ()
    unclear = sum(not entry.differs for entry in comparison.differences)
    return (
        Paragraph(f"Of {len(comparison.differences)} pairs, chance could explain {unclear}."),
        Table(
            ("model", "models below it that the test cannot distinguish from it"),
            [
                (result.name, ", ".join(comparison.level_with(result.name)) or "–")
                for result in comparison.results
            ],
            left=2,
        ),
    )


def method(comparison: Comparison) -> tuple[str, ...]:
    """The method of measurement, in sentences."""
    return (
        (
            f"Protocol: {comparison.protocol}. Budget: {comparison.budget or 'settings as given'}. Each model was tested "
            "once, after its settings were chosen."
        ),
        (
            "Intervals are 95 % bootstrap intervals over users. Pairs are compared by the sign-flip permutation test over users "
            f"({PERMUTATIONS:,} patterns) on {comparison.metric}, with Holm's correction for all pairs; they differ if p is below "
            f"{LEVEL:g}. The test generalises to users like these, not to other data sets."
        ),
        (
            f"Popular items are the {HEAD:.0%} of the catalogue with the most training users, rare items the rest. Users are "
            "grouped into thirds by the length of their history."
        ),
        (
            "Peak memory is that of the process while a model was fitted and scored. Re-ranked lists are of the same fitted "
            "model; their time is not in the table of costs."
        ),
    )


def probability(value: float) -> str:
    """A p-value as text: three decimals, or a bound."""
    return "< .001" if value < 0.001 else f"{value:.3f}"


def _against_first(comparison: Comparison, position: int) -> str:
    if position == 0:
        return "–"
    entry = comparison.between(comparison.results[0].name, comparison.results[position].name)
    return f"p {probability(entry.adjusted)}" + ("" if entry.differs else ", may be chance")


# ------------------------------------------------------------------------------------------------ plots


def _intervals(comparison: Comparison) -> Plot:
    return interval_plot(
        [
            dot(comparison.figures[result.name][comparison.metric], result.name)
            for result in comparison.results
        ],
        axis=Axis(label=f"{comparison.metric}, mean over users"),
        caption=f"Means with 95 % bootstrap intervals over {comparison.size['counted']:,} users. Intervals may overlap even if "
        "the paired test finds a difference: users differ more than models do.",
    )


def _curves(comparison: Comparison) -> list[Plot]:
    """The metric at every cut-off, if lists are longer than one item."""
    results = comparison.results[:_MAX_LINES]
    if len(results[0].curve) < 2:
        return []
    name, _ = parse_metric(comparison.metric)
    omission = (
        "" if len(results) == len(comparison.results) else f" The first {len(results)} models are drawn."
    )
    return [
        line_plot(
            {result.name: result.curve for result in results},
            x=Axis(label="length of the list, k"),
            y=Axis(label=f"{name}@k, mean over users", low=0.0),
            caption=f"{name} at every cut-off, {comparison.size['counted']:,} users.{omission}",
        )
    ]


def _accuracy_against_cost(comparison: Comparison) -> list[Plot]:
    costs = [result.costs for result in comparison.results]
    # The axes are logarithmic, so times have a floor: a tenth of the last digit in the table of costs.
    times = {
        ("seconds to fit once", "the time to fit the chosen setting"): [
            max(cost.fit_seconds, 1e-3) for cost in costs
        ],
        ("milliseconds to score and rank a user", "the time to serve"): [
            max(cost.milliseconds_a_user, 1e-4) for cost in costs
        ],
    }
    return [
        named_dot_plot(
            [
                (time, dot(comparison.figures[result.name][comparison.metric], result.name))
                for result, time in zip(comparison.results, seconds, strict=True)
            ],
            x=Axis(label=f"{label} (logarithmic)", logarithmic=True),
            y=Axis(label=comparison.metric),
            caption=f"Accuracy against {subject}. {comparison.size['counted']:,} users; bars are 95 % intervals.",
        )
        for (label, subject), seconds in times.items()
    ]


def _popularity(comparison: Comparison) -> Plot:
    results = comparison.results[: _MAX_LINES - 1]  # one line is for train
    return popularity_plot(
        {"train": comparison.popularity, **{result.name: result.exposure for result in results}},
        comparison.size["counted"],
    )


def _groups(comparison: Comparison) -> tuple[DocumentBlock, ...]:
    """The metric for users with few and many interactions; recall of popular and rare items."""
    if not comparison.groups:
        return ()
    sizes = {label: next(iter(models.values())).n_users for label, models in comparison.groups.items()}
    rows = [
        (result.name, *(with_half(models[result.name]) for models in comparison.groups.values()))
        for result in comparison.results
    ]
    users = [label for label in comparison.groups if label.startswith("users")]
    results = comparison.results[:_MAX_GROUPED_MODELS]
    plot = interval_plot(
        [
            dot(comparison.groups[label][result.name], label, series)
            for label in users
            for series, result in enumerate(results)
        ],
        axis=Axis(label=f"{comparison.metric}, mean over users"),
        caption=f"The first {len(results)} models for users with few and with many interactions, 95 % intervals; "
        f"{', '.join(f'{sizes[label]:,}' for label in users)} users.",
        legend=[result.name for result in results],
    )
    columns = ("model", *(f"{label}, {n_users:,} users" for label, n_users in sizes.items()))
    return (Table(columns, rows), plot)
