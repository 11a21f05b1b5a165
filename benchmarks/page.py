"""`python -m benchmarks.page`: the tables of docs/results/benchmarks.md and its plot, from benchmarks.json there (written by
`python -m benchmarks --write docs/results`) and the evidence of a GPU in docs/results/gpu (`python -m benchmarks.gpu` writes it)."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.__main__ import GROWTHS
from benchmarks.gpu import evidence_lines
from benchmarks.results import RESULTS, with_blocks

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


def text(page: str, figures: dict[str, Any]) -> str:
    """The page with its tables made anew; what stands between them is written by hand."""
    return with_blocks(
        page,
        {
            "measured": measured_table(figures["machines"], figures["rows"]),
            "scaling": scaling_table(figures["scaling"]),
            "item-models": item_models_table(figures["item-models"]),
            "gpu": "\n".join(evidence_lines()),
        },
    )


def measured_table(machines: dict[str, str], rows: dict[str, list[list[str]]]) -> str:
    """The machine of each section, and what was measured, but for the cost against size."""
    sections = {
        machine: ", ".join(section for section in machines if machines[section] == machine)
        for machine in dict.fromkeys(machines.values())
    }
    lines = [
        *(f"- {machine}: {names}" for machine, names in sections.items()),
        "",
        "| what | target | measured |",
        "|---|---|---|",
    ]
    measured = (row for section in rows.values() for row in section)
    return "\n".join(
        [
            *lines,
            *(f"| {' | '.join(row)} |" for row in measured if not row[0].startswith("cost against size")),
        ]
    )


def scaling_table(scaling: dict[str, dict[str, Any]]) -> str:
    """BSPM's cost by the number of interactions."""
    lines = [
        "| interactions | users | items | fit, s | first ranking, s | ms a user | ms a user and million | peak GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for growth, sizes in scaling.items():
        for size, one in sizes.items():
            users = int(size) * 1_000_000 // 27
            lines.append(
                f"| {size} M | {users:,} | {GROWTHS[growth](users):,} | {one['fit_seconds']:.2f} | {one['first_seconds']:.2f} "
                f"| {one['ms_per_user']:.2f} | {one['ms_per_user'] / int(size):.2f} | {one['peak_rss_gb']:.2f} |"
            )
    return "\n".join(lines)


def item_models_table(models: dict[str, dict[str, Any]]) -> str:
    """The cost of models of item neighbours by the number of interactions."""
    lines = [
        "| recipe | interactions | items | fit, s | fit, s a million | ms a user | ms a user and million | peak GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for recipe, sizes in models.items():
        for size, one in sizes.items():
            items = GROWTHS["users and items grow"](int(size) * 1_000_000 // 27)
            lines.append(
                f"| `{recipe}` | {size} M | {items:,} | {one['fit_processor_seconds']:.1f} "
                f"| {one['fit_processor_seconds'] / int(size):.2f} | {one['processor_ms_per_user']:.2f} "
                f"| {one['processor_ms_per_user'] / int(size):.3f} | {one['peak_rss_gb']:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Write the page's tables and the plot next to the figures."""
    figures = json.loads((RESULTS / "benchmarks.json").read_text())
    place = RESULTS / "benchmarks.md"
    place.write_text(text(place.read_text(), figures))
    plot(figures["scaling"], RESULTS / "cost-against-size.png")


if __name__ == "__main__":
    main()
