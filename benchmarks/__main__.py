"""`python -m benchmarks [SECTION …] [--write FOLDER]`: the figures of the README, measured on this machine.

The data are those of `$UNBLUR_DATA`; sections whose data are missing are left out by name. Timings are only
comparable within one run: the textbook path and ours take turns in it.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Row, machine, measured, print_head, print_rows
from benchmarks.read_parquet import a_million_users, from_a_log, measure as read_parquet
from benchmarks.synthesis import synthesis


def against_textbook(data: str, name: str, model: str = "bspm") -> tuple[list[Row], dict[str, Any]]:
    """Gowalla or Yelp2018, Parquet to metrics, all users, by our path and by the textbook path."""
    ours = measured("ours", "run", folder=data, name=name, model=model)
    book = measured("textbook", "run", folder=data, name=name, model=model)
    parts = ("read_seconds", "fit_seconds", "score_seconds", "evaluate_seconds")
    total, book_total = (sum(each[part] for part in parts) for each in (ours, book))
    detail = ", ".join(f"{part.split('_')[0]} {ours[part]:.1f} / {book[part]:.1f}" for part in parts)
    expected = {
        ("bspm", "gowalla"): ".1920 / .1597",
        ("bspm", "yelp2018"): ".0720 / .0593",
        ("chebycf", "gowalla"): ".1941 / .1616",
    }[model, name]
    name = name if model == "bspm" else f"{name}, {model}"
    rows = [
        (
            f"{name}: Recall@20 / NDCG@20",
            f"{expected} ± .0003",
            f"{ours['recall@20']:.4f} / {ours['ndcg@20']:.4f}",
        ),
        (
            f"{name}: textbook path's Recall@20 / NDCG@20",
            "the same",
            f"{book['recall@20']:.4f} / {book['ndcg@20']:.4f}",
        ),
        (
            f"{name}: Parquet to metrics, {ours['users']:,} users, ours against the textbook path",
            "≥ 8 times, aim 15",
            f"{book_total / total:.1f} times ({total:.1f} s / {book_total:.1f} s: {detail})",
        ),
        (f"{name}: users a second after fit", "≥ 700, aim 1,000", f"{ours['users_per_second']:,.0f}"),
        (
            f"{name}: peak memory",
            "≤ 3 GB",
            f"{ours['peak_rss_gb']:.2f} GB (textbook {book['peak_rss_gb']:.2f})",
        ),
    ]
    return rows, {"ours": ours, "textbook": book}


def accuracy(data: str) -> tuple[list[Row], dict[str, Any]]:
    """The reference lists and the residuals of the decomposition."""
    reference = Path(data).parent / "golden" / "bspm-gowalla.npz"
    measurement = measured("ours", "golden", folder=data, golden_file=str(reference))
    return [
        (
            "gowalla: the same items among the best 20 of 200 users",
            "≥ 99.9 %",
            f"{measurement['same_items']:.2%}",
        ),
        ("truncated SVD, rank 448: largest ‖Av − σu‖", "≤ 1e-5", f"{measurement['residual']:.1e}"),
        (
            "truncated SVD, rank 448: largest ‖Aᵀu − σv‖",
            "≤ 1e-5",
            f"{measurement['transposed_residual']:.1e}",
        ),
        ("truncated SVD: same rng, same bytes", "yes", "yes" if measurement["deterministic"] else "no"),
    ], measurement


def latency(data: str) -> tuple[list[Row], dict[str, Any]]:
    """One new user of 50 items."""
    measurement = measured("ours", "one_user", folder=data)
    figure = f"{measurement['median_ms']:.1f} ms (worst of 50: {measurement['worst_ms']:.1f})"
    return [("gowalla: one new user of 50 items, model loaded", "≤ 10 ms", figure)], measurement


def search(data: str) -> tuple[list[Row], dict[str, Any]]:
    """Searches over 500 settings, of BSPM and of EASE's ridge."""
    ridges = np.geomspace(50, 10_000, 500).round(1).tolist()
    measurements = {
        "bspm": measured("ours", "searched", folder=data, name="gowalla", recipe="bspm/gowalla", spaces={}),
        "ease": measured(
            "ours",
            "searched",
            folder=data,
            name="ml-1m_clean",
            recipe="ease/ml-1m",
            spaces={"ridge": ridges, "dropout": [0.0]},
        ),
    }
    return [
        (
            f"search: {figures['settings']} settings of {model}, {figures['users']:,} users, against one evaluation, processor time",
            "≤ 6 times",
            f"{figures['ratio']:.1f} times ({figures['search_seconds']:.1f} s / {figures['one_evaluation_seconds']:.1f} s)",
        )
        for model, figures in measurements.items()
    ], measurements


def amazon_shape(data: str) -> tuple[list[Row], dict[str, Any]]:
    """A generated set of Amazon-book's shape."""
    measurement = measured(
        "ours",
        "shape",
        n_users=52_643,
        n_items=91_599,
        n_interactions=2_380_730,
        recipe="bspm/amazon-book",
        users=8192,
    )
    figure = (
        f"{measurement['peak_rss_gb']:.2f} GB; fit {measurement['fit_seconds']:.1f} s, {measurement['users']:,} users ranked in "
        f"{measurement['score_seconds']:.1f} s, {measurement['ms_per_user']:.2f} ms a user"
    )
    return [("generated, 52,643 × 91,599, 2.4 M, bspm/amazon-book", "≤ 8 GB", figure)], measurement


def parquet(data: str) -> tuple[list[Row], dict[str, Any]]:
    """20 million rows of Parquet, with integer and with string labels."""
    measurements = {labels: read_parquet(20_000_000, labels) for labels in ("int", "str")}
    rows = [
        (
            f"20 M rows of Parquet with {name} labels, read and indexed",
            "≤ 20 s, ≤ 4 GB",
            f"{measurements[labels]['seconds']:.1f} s, {measurements[labels]['peak_rss_gb']:.2f} GB",
        )
        for labels, name in (("int", "integer"), ("str", "string"))
    ]
    return rows, measurements


def logs(data: str) -> tuple[list[Row], dict[str, Any]]:
    """100 million rows of Parquet; lists of a million users; and the way from a gzip log to lists, with implicit next to it."""
    with tempfile.TemporaryDirectory() as folder:
        million, large = a_million_users(Path(folder)), read_parquet(100_000_000)
    with tempfile.TemporaryDirectory() as folder:
        walk = from_a_log(Path(folder))
    recommend, implicit = million["recommend"], walk["implicit"]
    steps = ", ".join(
        f"{step} {walk[step]['seconds']:.0f} s and {walk[step]['peak_rss_gb']:.1f} GB"
        for step in ("describe", "fit", "recommend")
    )
    theirs = ", ".join(f"{step} {implicit[step]:.0f} s" for step in ("read", "fit", "recommend"))
    rows = [
        (
            "100 M rows of Parquet, read and indexed",
            "≤ 8 GB",
            f"{large['seconds']:.0f} s, {large['peak_rss_gb']:.2f} GB",
        ),
        (
            "lists of 20 for a million users, 40,000 items, from Parquet to Parquet, popularity",
            "≤ 2 GB",
            f"{recommend['peak_rss_gb']:.2f} GB, {1_000_000 / recommend['seconds']:,.0f} users a second",
        ),
        ("a gzip log of 10 M rows to lists of all 125,000 users, item-knn", "reported", steps),
        (
            "the same by pandas and implicit, in one process",
            "reported",
            f"{theirs}; {implicit['peak_rss_gb']:.1f} GB",
        ),
    ]
    return rows, {"large": large, "million": million, "walk": walk}


def scaling(data: str) -> tuple[list[Row], dict[str, Any]]:
    """Cost against size: 1 to 32 million generated interactions, 27 a user, with two kinds of catalogues."""
    measurements: dict[str, Any] = {growth: {} for growth in GROWTHS}
    for growth, n_items in GROWTHS.items():
        for millions in (1, 2, 4, 8, 16, 32):
            measurements[growth][str(millions)] = measured_at(millions, n_items, "bspm/amazon-book")
    rows = [
        (
            f"cost against size: {size} M interactions, {growth}",
            "linear",
            f"{point['ms_per_user']:.2f} ms a user, {point['peak_rss_gb']:.2f} GB",
        )
        for growth, sizes in measurements.items()
        for size, point in sizes.items()
    ]
    return rows, measurements


def measured_at(millions: int, n_items: Callable[[int], int], recipe: str) -> dict[str, Any]:
    """Cost of a recipe's model on so many million generated interactions, 27 a user; `n_items` is of the number of users."""
    users = millions * 1_000_000 // 27
    return measured(
        "ours",
        "shape",
        n_users=users,
        n_items=n_items(users),
        n_interactions=millions * 1_000_000,
        recipe=recipe,
        users=512,
        warm_up=32,
    )


def item_models(data: str) -> tuple[list[Row], dict[str, Any]]:
    """Cost against size of models of item neighbours: 1 to 4 million generated interactions, items growing with users."""
    measurements: dict[str, Any] = {recipe: {} for recipe in ("item-knn/yelp2018", "sansa/yelp2018")}
    for recipe, sizes in measurements.items():
        for millions in (1, 2, 4):
            sizes[str(millions)] = measured_at(millions, GROWTHS["users and items grow"], recipe)
    rows = [
        (
            f"cost against size: {size} M interactions, {recipe}",
            "linear",
            f"fit {point['fit_processor_seconds']:.1f} s, {point['processor_ms_per_user']:.2f} ms a user, {point['peak_rss_gb']:.2f} GB",
        )
        for recipe, sizes in measurements.items()
        for size, point in sizes.items()
    ]
    return rows, measurements


GROWTHS: dict[str, Callable[[int], int]] = {
    "users grow": lambda users: 91_599,
    "users and items grow": lambda users: int(users * 0.7),
}
"""How the number of items depends on that of users; 91,599 items are Amazon-book's."""

SECTIONS: dict[str, Callable[[str], tuple[list[Row], dict[str, Any]]]] = {
    "accuracy": accuracy,
    "gowalla": partial(against_textbook, name="gowalla"),
    "yelp2018": partial(against_textbook, name="yelp2018"),
    "chebycf": partial(against_textbook, name="gowalla", model="chebycf"),
    "latency": latency,
    "search": search,
    "amazon-shape": amazon_shape,
    "parquet": parquet,
    "logs": logs,
    "scaling": scaling,
    "item-models": item_models,
    "synthesis": synthesis,
}
_WITHOUT_DATA = ("amazon-shape", "parquet", "logs", "scaling", "item-models", "synthesis")


def main() -> None:
    """Measure the sections that are named, or all, and print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument(
        "--write", type=Path, help="also write benchmarks.json here, joined with what is there"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"sections must be of {', '.join(SECTIONS)}; saw {', '.join(sorted(unknown))}")
    data = os.environ.get("UNBLUR_DATA", "")
    print_head()
    figures: dict[str, Any] = {}
    tables: dict[str, list[Row]] = {}
    for name in arguments.sections or SECTIONS:
        if not data and name not in _WITHOUT_DATA:
            print_rows([(name, "", "left out: UNBLUR_DATA is not set")])
            continue
        tables[name], figures[name] = SECTIONS[name](data)
        print_rows(tables[name])
    if arguments.write is not None:
        arguments.write.mkdir(parents=True, exist_ok=True)
        from unblur.data.output import OutputFile

        target = arguments.write / "benchmarks.json"
        known = json.loads(target.read_text()) if target.exists() else {}
        tables = {**known.get("rows", {}), **tables}
        machines = {**known.get("machines", {}), **dict.fromkeys(figures, machine())}
        joined = {**known, **figures, "machines": machines, "rows": tables}
        with OutputFile(target, overwrite=True).written() as stream:  # it holds sections of other machines
            stream.write((json.dumps(joined, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
