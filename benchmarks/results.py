"""`python -m benchmarks.results [PART …]`: the comparisons that docs/results/results.toml describes, their pages, the tables of recipes.

Each part is one call of `unblur compare`, whose folder keeps what is done: a second call computes only what is missing.
`--pages` makes pages and tables anew from the figures that are there, without any data.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from unblur.data.catalogue import dataset
from unblur.document.markdown import section_as_markdown
from unblur.errors import DataError
from unblur.experiment.comparison.page import comparison_document, sizes
from unblur.experiment.comparison.results import Comparison
from unblur.experiment.ranking import RankingTask
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.schema import Recipe

HERE = Path(__file__).parent.parent
RESULTS = HERE / "docs" / "results"
INDEX = RESULTS / "index.md"
BASELINES = RESULTS / "baselines.md"
README = HERE / "README.md"
NOT_SHOWN = ("curve", "exposure", "training")
"""Fields that only the plots of a comparison's page need, not its tables."""
DIGITS = 6
"""Significant digits of the figures that are kept: two more than tables show."""
AS_THEY_ARE = (
    "Run by `unblur run` with the settings of the recipe, without a search in the same budget; what is measured is kept in each "
    "recipe. Settings are the authors', or were chosen on interactions held out of train; the documentation of each model says "
    "where test was looked at more than once."
)


@dataclass(frozen=True)
class Part:
    """One comparison."""

    name: str
    title: str
    about: str
    recipe: str
    models: tuple[str, ...]
    protocol: str = ""
    trials: int = 0
    seconds: float = 0
    seeds: int = 1
    spaces: dict[str, list[Any]] = field(default_factory=dict)
    published: tuple[str, ...] = ()
    """Recipes whose published numbers are shown next to those of the models."""

    def words(self, out: str) -> list[str]:
        """The command's words after ``unblur``."""
        words = ["compare", *self.models, "--recipe", self.recipe]
        for option in ("protocol", "trials", "seconds"):
            if getattr(self, option):
                words += [f"--{option}", f"{getattr(self, option)}"]
        words += [] if self.seeds == 1 else ["--seeds", str(self.seeds)]
        for path, values in self.spaces.items():
            words += ["--space", f"{path}={json.dumps(values)}"]
        return [*words, "--out", out]


@dataclass(frozen=True)
class Page:
    """A page with one comparison or several."""

    file: str
    title: str
    about: str
    parts: tuple[Part, ...]
    remarks: tuple[str, ...] = ()
    """Remarks written by hand; to be checked when the figures change."""
    recipes: tuple[str, ...] = ()
    """Recipes that were run by themselves, without a search, shown next to the comparison."""
    measures: tuple[str, ...] = ()
    """The metrics of these recipes that are shown."""


@dataclass(frozen=True)
class Yardstick:
    """Published figures of one data set, each of a model: those that baselines are held against."""

    data: str
    train: str
    """The fingerprint of the train part that they belong to: levels of another split say nothing."""
    measures: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...], str], ...]
    """The model, its figures in the order of `measures`, and their source."""

    def __post_init__(self) -> None:
        known = dataset(self.data).readings[0].parts["train"].fingerprint
        DataError.unless(
            known == self.train,
            f"Published figures must be of the split that is measured: the train part of {self.data} is {known}; these are of "
            f"{self.train}. Give the fingerprint of their own split, or leave them out.",
        )


def yardsticks(text: str | None = None) -> tuple[Yardstick, ...]:
    """The published figures. Raises `DataError` for those of another split."""
    content = tomllib.loads((RESULTS / "results.toml").read_text() if text is None else text)
    return tuple(
        Yardstick(
            entry["data"],
            entry["train"],
            tuple(entry["measures"]),
            tuple((row["model"], tuple(row["values"]), row["source"]) for row in entry["rows"]),
        )
        for entry in content.get("yardstick", [])
    )


def description(text: str | None = None) -> tuple[tuple[Page, ...], dict[str, dict[str, list[str]]]]:
    """The pages, and the tables of recipes by name; "readme" is that of the README."""
    content = tomllib.loads((RESULTS / "results.toml").read_text() if text is None else text)
    pages = []
    for page in content["page"]:
        parts = tuple(
            Part(
                **{
                    name: tuple(value) if name in ("models", "published") else value
                    for name, value in part.items()
                }
            )
            for part in page.pop("part")
        )
        lists = {name: tuple(page.get(name, ())) for name in ("remarks", "recipes", "measures")}
        pages.append(Page(**{**page, **lists}, parts=parts))
    return tuple(pages), content["table"]


# --------------------------------------------------------------------------------------------------- computing


def compute(part: Part, runs: Path) -> bool:
    """Run a part and keep its figures next to the pages. Return whether every model succeeded."""
    print(f"-- {part.name}", flush=True)
    out = runs / part.name
    status = subprocess.run([sys.executable, "-m", "unblur", *part.words(str(out))], check=False).returncode
    if status in (0, 1) and (out / "report.json").is_file():
        keep(json.loads((out / "report.json").read_text()), RESULTS / f"{part.name}.json")
    if status == 130:
        raise KeyboardInterrupt
    return status == 0


def keep(report: dict[str, Any], place: Path) -> None:
    """Write the figures of a comparison that its tables need."""
    for model in report["models"]:
        model.update({name: [] for name in NOT_SHOWN}, response={})
    report["popularity"] = []
    place.write_text(json.dumps(rounded(report), ensure_ascii=False, allow_nan=False, indent=0) + "\n")


def rounded(value: Any) -> Any:
    """Plain values with floats rounded to `DIGITS`."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def figures_of(part: Part) -> Comparison | None:
    """The comparison of a part; `None` before it was computed."""
    place = RESULTS / f"{part.name}.json"
    return Comparison.from_dict(json.loads(place.read_text())) if place.is_file() else None


# ------------------------------------------------------------------------------------------------------- pages


def page_text(page: Page) -> str:
    """A page in Markdown, from the figures of its parts."""
    computed = [(part, figures) for part in page.parts if (figures := figures_of(part)) is not None]
    commands = [part.words(f"runs/results/{part.name}") for part, _ in computed]
    lines = [
        f"# {page.title}",
        page.about.strip(),
        "Made by `make results` from `results.toml`; these are its calls:",
        "```sh\n" + "\n".join(f"unblur {' '.join(map(quote, words))}" for words in commands) + "\n```",
        "## What wins",
        "\n".join(f"- {line}" for line in (*(outcome(*one) for one in computed), *page.remarks)),
    ]
    for part, figures in computed:
        lines += [f"## {part.title}", part.about.strip()]
        missing = [name for name in part.models if name not in {*computed_names(figures)}]
        lines += (
            [f"Described in `results.toml` and not computed yet: {', '.join(missing)}."] if missing else []
        )
        lines += [f"### Published and measured\n\n{published_table(part, figures)}"] if part.published else []
        lines += comparison_texts(figures)
    if page.recipes:
        lines += [
            "## Recipes as they are",
            AS_THEY_ARE,
            recipes_table(page.recipes, page.measures),
        ]
    return "\n\n".join(lines) + "\n"


def comparison_texts(comparison: Comparison) -> list[str]:
    """The sections of a comparison, but for the meanings of its measures, which stand in docs/reference/measures.md."""
    sections = [section_as_markdown(section, level=3) for section in comparison_document(comparison).sections]
    return [sizes(comparison), f"**{comparison.verdict()}**", *filter(None, sections[:-1])]


def computed_names(comparison: Comparison) -> list[str]:
    """The models that were computed, those that failed included."""
    return [*(result.name for result in comparison.results), *comparison.failures]


def outcome(part: Part, comparison: Comparison) -> str:
    """The winner of a part, those that follow, and models whose difference to them is not significant."""
    if len(comparison.results) == 1:
        return f"**{part.title}.** Nothing yet: only {comparison.results[0].name} was computed."
    winners, remaining = [], list(comparison.results)
    while remaining:
        first, tied = remaining[0].name, []
        for other in remaining[1:]:
            tied += [] if comparison.between(first, other.name).differs else [other.name]
        winners.append(f"{first}, not told apart from {', '.join(tied)}" if tied else first)
        remaining = [result for result in remaining[1:] if result.name not in tied]
    after = f" After these: {'; then '.join(winners[1:])}." if len(winners) > 1 else ""
    failed = f" Did not get through: {', '.join(comparison.failures)}." if comparison.failures else ""
    return f"**{part.title}.** {comparison.verdict()}{after}{failed}"


def published_table(part: Part, comparison: Comparison) -> str:
    """The published numbers of models next to ours."""
    rows = [
        "| model | measure | published | measured | difference | source |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for name in part.published:
        recipe = load_recipe(name)
        model = name if name in comparison.figures else name.partition("/")[0]
        if model not in comparison.figures:
            continue
        for measure, number in recipe.expected.items():
            ours = comparison.figures[model][measure].value
            rows.append(
                f"| {model} | {measure} | {number.value:.4f} | {ours:.4f} | {ours - number.value:+z.4f} | {number.source} |"
            )
    return "\n".join(rows)


# ------------------------------------------------------------------------------------------- tables of recipes


def recipes_table(names: Sequence[str], measures: Sequence[str]) -> str:
    """Published numbers of recipes next to our own, as the recipes state them."""
    short = " / ".join(measure.replace("recall", "R").replace("ndcg", "N") for measure in measures)
    rows = [
        f"| recipe, {short} | protocol | published | measured | source of the published numbers |",
        "|---|---|---|---|---|",
    ]
    for recipe in map(load_recipe, names):
        sources = "; ".join(dict.fromkeys(number.source for number in recipe.expected.values()))
        rows.append(
            f"| `{recipe.name}` | {recipe.protocol.kind} | {_numbers(recipe, 'expected', measures)} | "
            f"{_numbers(recipe, 'verified', measures)} | {sources} |"
        )
    return "\n".join(rows)


def yardstick_table(yardstick: Yardstick) -> str:
    """Each published figure, and the recipes on the same split by the same protocol whose figures are all above it."""
    measured = {
        recipe.name: tuple(recipe.verified[name].value for name in yardstick.measures)
        for recipe in map(load_recipe, shipped())
        if recipe.data.name == yardstick.data
        and isinstance(recipe.task, RankingTask)
        and recipe.task.split.kind == "files"
        and recipe.task.protocol.kind == "paper"
        and set(yardstick.measures) <= set(recipe.verified)
    }
    best_first = sorted(measured, key=lambda name: measured[name], reverse=True)
    short = " / ".join(name.replace("recall", "R").replace("ndcg", "N") for name in yardstick.measures)
    rows = [f"| published, {short} | figures | source | measured above both |", "|---|---|---|---|"]
    for model, values, source in sorted(yardstick.rows, key=lambda row: row[1], reverse=True):
        above = [name for name in best_first if all(map(float.__gt__, measured[name], values))]
        figures = " / ".join(_short(value) for value in values)
        rows.append(
            f"| {model} | {figures} | {source} | {', '.join(f'`{name}`' for name in above) or 'none'} |"
        )
    ours = ", ".join(f"`{name}` {' / '.join(map(_short, measured[name]))}" for name in best_first)
    return "\n".join(
        [
            f"### {dataset(yardstick.data).title}",
            "",
            f"Train `{yardstick.train[:23]}…`. Measured: {ours}.",
            "",
            *rows,
        ]
    )


def _short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def headline_table(names: Sequence[str]) -> str:
    """One number of each recipe, published and measured: the first that it has both of, or the first that is measured."""
    rows = ["| recipe | measure | published | measured |", "|---|---|---:|---:|"]
    for recipe in map(load_recipe, names):
        measure = next(name for name in (*recipe.expected, *recipe.verified) if name in recipe.verified)
        numbers = (_numbers(recipe, which, (measure,)) for which in ("expected", "verified"))
        rows.append(f"| `{recipe.name}` | {measure} | {' | '.join(numbers)} |")
    return "\n".join(rows)


def _numbers(recipe: Recipe, which: str, measures: Sequence[str]) -> str:
    known = getattr(recipe, which)
    if not any(measure in known for measure in measures):
        return "" if which == "expected" else "not measured"
    return " / ".join(_short(known[measure].value) if measure in known else "–" for measure in measures)


def _ground(page: Page, part: Part, comparison: Comparison) -> str:
    """The protocol, or the part's title if a page has several parts with one protocol."""
    protocols = [figures.protocol for other in page.parts if (figures := figures_of(other)) is not None]
    alike = protocols.count(comparison.protocol) > 1
    return part.title[0].lower() + part.title[1:] if alike else str(comparison.protocol)


def comparisons_table(pages: Sequence[Page]) -> str:
    """The winner of each comparison."""
    rows = [
        "| data, protocol | models | first | metric | chance could explain its lead over |",
        "|---|---|---|---|---|",
    ]
    for page in pages:
        for part in page.parts:
            comparison = figures_of(part)
            if comparison is None or len(comparison.results) == 1:
                continue
            best = comparison.results[0].name
            figure = comparison.figures[best][comparison.metric]
            low, high = figure.interval
            tied = [
                one.name for one in comparison.results[1:] if not comparison.between(best, one.name).differs
            ]
            rows.append(
                f"| [{page.title}]({page.file}.md), {_ground(page, part, comparison)} | {len(comparison.results)} | `{best}` | "
                f"{comparison.metric} {figure.value:.4f} ({low:.4f} to {high:.4f}) | "
                f"{', '.join(f'`{name}`' for name in tied) or 'none'} |"
            )
    return "\n".join(rows)


def index_blocks(pages: Sequence[Page], tables: dict[str, dict[str, list[str]]]) -> dict[str, str]:
    """The blocks between the marks of the results' first page, by name."""
    blocks = {
        name: recipes_table(table["recipes"], table["measures"])
        for name, table in tables.items()
        if name != "readme"
    }
    return {**blocks, "comparisons": comparisons_table(pages)}


def with_blocks(text: str, blocks: dict[str, str]) -> str:
    """Replace the blocks between ``<!-- results: NAME -->`` and ``<!-- end of results -->`` in a text."""
    for name, block in blocks.items():
        begin, end = f"<!-- results: {name} -->", "<!-- end of results -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"The page must hold the mark {begin!r} once, and {end!r} after it.")
        text = pattern.sub(lambda _, replacement=f"{begin}\n{block}\n{end}": replacement, text)
    return text


def texts() -> Iterator[tuple[Path, str]]:
    """Every file that follows from figures and recipes, and its text."""
    pages, tables = description()
    for page in pages:
        if any(figures_of(part) is not None for part in page.parts):
            yield RESULTS / f"{page.file}.md", page_text(page)
    tables_of_yardsticks = "\n\n".join(map(yardstick_table, yardsticks()))
    yield BASELINES, with_blocks(BASELINES.read_text(), {"yardsticks": tables_of_yardsticks})
    yield INDEX, with_blocks(INDEX.read_text(), index_blocks(pages, tables))
    yield README, with_blocks(README.read_text(), {"readme": headline_table(tables["readme"]["recipes"])})


def main() -> None:
    """Compute the parts that are named, or all; then write pages and tables."""
    pages, _ = description()
    parts = {part.name: part for page in pages for part in page.parts}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; all when none is named"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/results"), help="where the comparisons are kept"
    )
    parser.add_argument("--pages", action="store_true", help="compute nothing")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.parts if name not in parts]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; parts: {', '.join(parts)}")
    names = [] if arguments.pages else arguments.parts or parts
    failed = [name for name in names if not compute(parts[name], arguments.runs)]
    for place, text in texts():
        place.write_text(text)
    if failed:
        sys.exit(f"Not all models got through: {' '.join(failed)}")


if __name__ == "__main__":
    main()
