"""`python -m benchmarks.page`: docs/benchmarks.md and its plot, from docs/benchmarks.json (`make bench` writes it)."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("Agg")


def plot(found: dict[str, Any], target: Path) -> None:
    """Time a user and peak memory against the number of interactions, both with the line that linear cost gives."""
    sizes = sorted(int(size) for size in found)
    each = [found[str(size)] for size in sizes]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, values, label in (
        (left, [one["ms_per_user"] for one in each], "milliseconds a user (fitted model, top 20)"),
        (right, [one["peak_rss_gb"] for one in each], "peak memory of the process, GB"),
    ):
        axes.plot(sizes, values, "o-", color="#2a6f97", label="measured")
        slope = values[-1] / sizes[-1]
        axes.plot(
            sizes,
            [slope * size for size in sizes],
            "--",
            color="#999999",
            label="in proportion to the largest",
        )
        axes.set(xscale="log", yscale="log", xlabel="interactions, millions (27 a user)", ylabel=label)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.legend(frameon=False)
    figure.suptitle(f"Generated data, recipe bspm/amazon-book, ranked {each[0]['users']:,} users a point")
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
            "Generated sets with power-law degrees, 27 interactions a user and 0.7 items a user; `bspm/amazon-book` (no low-pass",
            "filter, a polynomial of degree 9). A user costs a fixed number of sparse products, so the operations a user grow in",
            "proportion to the interactions. The time grows faster than that, about three times over the whole range: the blocks of",
            "vectors leave the processor's caches one after another, and in the end each interaction waits for main memory.",
            "Memory grows less than in proportion.",
            "",
            "| interactions | users | items | fit, s | ms a user | peak GB |",
            "|---|---|---|---|---|---|",
        ]
        for size, one in figures["scaling"].items():
            users = int(size) * 1_000_000 // 27
            lines.append(
                f"| {size} M | {users:,} | {int(users * 0.7):,} | {one['fit_seconds']:.2f} | {one['ms_per_user']:.2f} "
                f"| {one['peak_rss_gb']:.2f} |"
            )
        lines += ["", "![Milliseconds a user and peak memory against interactions](cost-against-size.png)"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page and the plot beside the figures."""
    docs = Path(__file__).parent.parent / "docs"
    figures = json.loads((docs / "benchmarks.json").read_text())
    rows = [row for section in figures["rows"].values() for row in section]
    (docs / "benchmarks.md").write_text(page(figures, rows))
    if "scaling" in figures:
        plot(figures["scaling"], docs / "cost-against-size.png")


if __name__ == "__main__":
    main()
