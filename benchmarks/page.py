"""`python -m benchmarks.page`: docs/results/benchmarks.md and its plot, from benchmarks.json there (`make bench` writes it)
and the evidence of a GPU in docs/results/gpu (`python -m benchmarks.gpu` writes it)."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.__main__ import GROWTHS
from benchmarks.gpu import evidence_lines

mpl.use("Agg")


def plot(scaling: dict[str, dict[str, Any]], target: Path) -> None:
    """Time a user and peak memory against the number of interactions, both with the line that linear cost gives."""
    figure, (time_axes, memory_axes) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, key, label in (
        (time_axes, "ms_per_user", "milliseconds a user (fitted model, top 20)"),
        (memory_axes, "peak_rss_gb", "peak memory of the process, GB"),
    ):
        for (growth, sizes), color in zip(scaling.items(), ("#2a6f97", "#c1666b"), strict=True):
            values = [point[key] for point in sizes.values()]
            millions = [int(size) for size in sizes]
            axes.plot(millions, values, "o-", color=color, label=growth)
            slope = values[0] / millions[0]
            axes.plot(millions, [slope * size for size in millions], ":", color=color, linewidth=1)
        axes.plot([], [], ":", color="#999999", label="in proportion to the smallest")
        axes.set(xscale="log", yscale="log", xlabel="interactions, millions (27 a user)", ylabel=label)
        axes.set_xticks(millions, [str(size) for size in millions])
        axes.minorticks_off()
        axes.legend(frameon=False)
    users = next(iter(next(iter(scaling.values())).values()))["users"]
    figure.suptitle(f"Generated data, recipe bspm/amazon-book, ranked {users:,} users a point")
    figure.savefig(target, dpi=110)
    plt.close(figure)


def page(figures: dict[str, Any], rows: list[list[str]]) -> str:
    """The page in Markdown."""
    lines = [
        "# Benchmarks",
        "",
        f"Measured with `python -m benchmarks` on: {figures['machine']}. Each figure is of a process of its own; the textbook path",
        "(`benchmarks/textbook.py`: ODE solver, dense rows, SciPy) and ours take turns in one run.",
        "",
        "| what | target | measured |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows if not row[0].startswith("cost against size")),
    ]
    if "scaling" in figures:
        lines += [
            "",
            "## Cost against size",
            "",
            "Generated sets with power-law degrees and no other structure, 27 interactions a user; `bspm/amazon-book` (no low-pass",
            "filter, a polynomial of degree 9). A user costs a fixed number of sparse products, so the operations a user grow in",
            "proportion to the interactions. *users grow*: the catalogue is Amazon-book's, 91,599 items; users are worked through in",
            "slices that fit the caches. *users and items grow*: 0.7 items a user; here each interaction reads a row of a block of",
            "items that has outgrown the caches, and waits for main memory.",
            "",
            "| interactions | users | items | fit, s | first ranking, s | ms a user | ms a user and million | peak GB |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for growth, sizes in figures["scaling"].items():
            for size, one in sizes.items():
                users = int(size) * 1_000_000 // 27
                lines.append(
                    f"| {size} M | {users:,} | {GROWTHS[growth](users):,} | {one['fit_seconds']:.2f} | {one['first_seconds']:.2f} "
                    f"| {one['ms_per_user']:.2f} | {one['ms_per_user'] / int(size):.2f} | {one['peak_rss_gb']:.2f} |"
                )
        lines += ["", "![Milliseconds a user and peak memory against interactions](cost-against-size.png)"]
    if "item-models" in figures:
        lines += [
            "",
            "### Models of item neighbours",
            "",
            "The same generated sets where users and items grow: `item-knn/yelp2018` (300 neighbours, Gram norm) and `sansa/yelp2018` (50",
            "entries an item). Seconds are the processor's, of all threads. Both multiply items by items, Σ_u degree_u² operations, twice.",
            "",
            "| recipe | interactions | items | fit, s | fit, s a million | ms a user | peak GB |",
            "|---|---|---|---|---|---|---|",
        ]
        for recipe, sizes in figures["item-models"].items():
            for size, one in sizes.items():
                items = GROWTHS["users and items grow"](int(size) * 1_000_000 // 27)
                lines.append(
                    f"| `{recipe}` | {size} M | {items:,} | {one['fit_processor_seconds']:.1f} "
                    f"| {one['fit_processor_seconds'] / int(size):.2f} | {one['processor_ms_per_user']:.2f} | {one['peak_rss_gb']:.2f} |"
                )
    return "\n".join([*lines, "", *evidence_lines()]) + "\n"


def main() -> None:
    """Write the page and the plot next to the figures."""
    docs = Path(__file__).parent.parent / "docs" / "results"
    figures = json.loads((docs / "benchmarks.json").read_text())
    rows = [row for section in figures["rows"].values() for row in section]
    (docs / "benchmarks.md").write_text(page(figures, rows))
    if "scaling" in figures:
        plot(figures["scaling"], docs / "cost-against-size.png")


if __name__ == "__main__":
    main()
