"""The tables of a comparison as rows of text, and all of it as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unblur.document.markdown import figure
from unblur.evaluation.beyond_accuracy import HEAD, MEANINGS
from unblur.evaluation.differences import LEVEL, PERMUTATIONS
from unblur.evaluation.metrics import metric_at, parse_metric
from unblur.experiment.comparison.summary import Comparison, Figure


@dataclass(frozen=True)
class Rows:
    """A table: one row of text a model."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    """How many columns are words; the others are figures."""


def leaderboard(found: Comparison) -> Rows:
    """Accuracy: the metric with its interval, the other measures, spread over seeds, and the test against the first."""
    others = [name for name in found.names if name != found.metric]
    seeds = any(len(result.seeds) > 1 for result in found.results)
    columns = [
        "model",
        found.metric,
        "95 % interval",
        *(["± seeds"] if seeds else []),
        *others,
        "against the first",
    ]
    rows = []
    for place, result in enumerate(found.results):
        entry = found.figures[result.name]
        spread = np.std(result.by_seed[found.metric], ddof=1) if len(result.seeds) > 1 else None
        row = [result.name, figure(entry[found.metric].value), _interval(entry[found.metric])]
        row += [("–" if spread is None else figure(float(spread)))] if seeds else []
        row += [figure(entry[name].value) for name in others]
        rows.append((*row, _against_first(found, place)))
    return Rows(f"Accuracy, {found.size['counted']:,} users", tuple(columns), tuple(rows))


def beyond_accuracy(found: Comparison) -> Rows:
    """Coverage, concentration, popularity, novelty, diversity at the metric's cut-off."""
    _, k = parse_metric(found.metric)
    columns, rows = ["model"], []
    names = [metric_at(name, k) for name in MEANINGS]
    columns += [name.replace("_", " ") for name in names]
    for result in found.results:
        entry = found.figures[result.name]
        values = {**result.totals, **{name: one.value for name, one in entry.items()}}
        rows.append((result.name, *(figure(values[name]) if name in values else "–" for name in names)))
    return Rows("Beyond accuracy", tuple(columns), tuple(rows))


def costs(found: Comparison) -> Rows:
    """Seconds and memory."""
    energy = any(result.costs.joules is not None for result in found.results)
    columns = (
        "model",
        "settings tried",
        "search, s",
        "fit, s",
        "ms a user",
        "peak memory, MB",
        "of which before, MB",
        *(["energy, J"] if energy else []),
    )
    rows = tuple(
        (
            result.name,
            str(result.search.get("trials", 0)),
            f"{result.costs.search_seconds:,.1f}",
            f"{result.costs.fit_seconds:,.2f}",
            f"{result.costs.milliseconds_a_user:,.3f}",
            f"{result.costs.peak_mb:,.0f}" + ("" if result.costs.peak_is_own else " or less"),
            f"{result.costs.before_mb:,.0f}",
            *([] if not energy else ["–" if result.costs.joules is None else f"{result.costs.joules:,.0f}"]),
        )
        for result in found.results
    )
    return Rows("Cost", columns, rows)


def groups(found: Comparison) -> Rows:
    """The metric for users with few and many interactions; recall of popular and rare items."""
    labels = list(found.groups)
    columns = ["model"]
    for label in labels:
        n_users = next(iter(found.groups[label].values())).n_users
        columns.append(f"{label}, {n_users:,} users")
    rows = [
        (result.name, *(_with_half(found.groups[label][result.name]) for label in labels))
        for result in found.results
    ]
    return Rows("Groups", tuple(columns), tuple(rows))


def pairs(found: Comparison) -> Rows:
    """Every pair with its difference, interval and p-values."""
    columns = ("pair", f"difference in {found.metric}", "95 % interval", "p", "p after Holm", "differ")
    rows = tuple(
        (
            f"{found.results[entry.one].name} − {found.results[entry.other].name}",
            figure(entry.mean, signed=True),
            f"{figure(entry.low, signed=True)} … {figure(entry.high, signed=True)}",
            probability(entry.p_value),
            probability(entry.adjusted),
            "yes" if entry.differs else "no",
        )
        for entry in found.differences
    )
    return Rows("Pairs", columns, rows)


def settings(found: Comparison) -> Rows:
    """What was chosen."""
    rows = []
    for result in found.results:
        searched = result.search.get("searched", [])
        chosen = ", ".join(f"{path} = {_at(result.chosen, path)}" for path in searched)
        rows.append((result.name, str(result.chosen["kind"]), chosen or "as given"))
    return Rows("Settings", ("model", "kind", "chosen on validation data"), tuple(rows), left=3)


def method(found: Comparison) -> tuple[str, ...]:
    """How the numbers came about, in sentences."""
    budget = found.budget or "settings as given"
    tested = (
        f"Intervals are 95 % bootstrap intervals over users. Pairs are compared by the sign-flip permutation test over users "
        f"({PERMUTATIONS:,} patterns) on {found.metric}, with Holm's correction for all pairs; they differ where p is below "
        f"{LEVEL:g}. The test speaks of users like these, not of other data sets."
    )
    grouped = (
        f"Popular items are the {HEAD:.0%} of the catalogue with the most training users, rare ones the others; thirds of the "
        "users are by the length of their history."
    )
    energy = (
        "Energy is what the processors drew while a model was fitted and scored, for whatever ran on them."
        if any(result.costs.joules is not None for result in found.results)
        else "Energy cannot be measured: this machine's counters (RAPL) are not there or may not be read."
    )
    return (
        f"Protocol: {found.protocol}. Budget: {budget}. Test data were read once for each model, after its choice.",
        tested,
        grouped,
        f"{energy} Peak memory is that of the process while a model was fitted and scored.",
    )


def level_with(found: Comparison) -> Rows:
    """Each model beside those after it that chance alone could explain its lead over."""
    rows = []
    for place, result in enumerate(found.results):
        later = [other.name for other in found.results[place + 1 :]]
        alike = [name for name in later if not found.between(result.name, name).differs]
        rows.append((result.name, ", ".join(alike) or "–"))
    return Rows("Pairs", ("model", "of those after it, not told apart by the test"), tuple(rows), left=2)


def to_markdown(found: Comparison) -> str:
    """The comparison for a person."""
    parts = [
        f"# {found.ground or 'Comparison'}: {len(found.results)} models",
        *markdown_sections(found),
        "\n".join(
            ["## Measures", "", *(f"- {name.replace('_', ' ')}: {said}" for name, said in MEANINGS.items())]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def markdown_sections(found: Comparison, *, level: int = 2) -> list[str]:
    """Sizes, verdict, tables, how it was measured, failures and notes; titles are of this level."""
    mark, size = "#" * level, found.size
    learnt = f"{size['users']:,} users, {size['items']:,} items, {size['interactions']:,} interactions to learn from"
    parts = [
        f"{learnt}; {size['counted']:,} users tested.",
        f"**{found.verdict()}**",
        *(f"{mark} {table.title}\n\n{markdown_table(table)}" for table in rows_for(found)),
    ]
    if found.differences:
        unclear = sum(not entry.differs for entry in found.differences)
        said = f"Of {len(found.differences)} pairs, chance could explain {unclear}."
        parts.append(f"{mark} Pairs\n\n{said}\n\n{markdown_table(level_with(found))}")
    failures = [f"{name}: {reason}" for name, reason in found.failures.items()]
    lists = {"Did not get through": failures, "How": method(found), "Notes": found.notes}
    parts += [
        "\n".join([f"{mark} {title}", "", *(f"- {line}" for line in lines)])
        for title, lines in lists.items()
        if lines
    ]
    return parts


def markdown_table(table: Rows) -> str:
    """Rows as a Markdown table."""
    align = [*["---"] * table.left, *["---:"] * (len(table.columns) - table.left)]
    cells = (table.columns, align, *table.rows)
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def probability(value: float) -> str:
    """A p-value in words that do not claim too much."""
    return "< .001" if value < 0.001 else f"{value:.3f}"


def _against_first(found: Comparison, place: int) -> str:
    if place == 0:
        return "–"
    entry = found.between(found.results[0].name, found.results[place].name)
    return f"p {probability(entry.adjusted)}" + ("" if entry.differs else ", may be chance")


def _interval(entry: Figure) -> str:
    return f"{figure(entry.low)} … {figure(entry.high)}"


def _with_half(entry: Figure) -> str:
    return f"{figure(entry.value)} ±{(entry.high - entry.low) / 2:.4f}"


def _at(tree: object, path: str) -> object:
    here: object = tree
    for part in path.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    return here


def rows_for(found: Comparison) -> Sequence[Rows]:
    """All tables, in the order in which they are read."""
    return (leaderboard(found), beyond_accuracy(found), costs(found), groups(found), settings(found))
