"""`--dry-run` of `unblur fit`, `tune` and `compare`: what would be done, with time and memory estimated. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from unblur.cli import terminal
from unblur.cli.terminal import FAILED, print_lines, print_table
from unblur.document.blocks import Table
from unblur.errors import UnblurError

if TYPE_CHECKING:
    from unblur.data.interactions import Interactions
    from unblur.fitted import FittedSpec

DryRun: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say what would be done, with time and memory estimated by fits to a few of the users; write nothing.",
    ),
]


def print_plan(
    models: Mapping[str, tuple[FittedSpec, int]],
    train: Interactions,
    device: str,
    *,
    k: int = 0,
    lines: Sequence[str] = (),
    limit: float | None = None,
) -> None:
    """Print what each of the models would take: a spec by name, and how many times it is fitted.

    With `k`, lists of k items are made after each fit. `limit` are the seconds after which a search ends.
    """
    from unblur.experiment.estimate import estimate
    from unblur.parallel.memory import available_bytes
    from unblur.progress import Run

    rows, sizes = [], (0, 0)
    for name, (spec, n_fits) in models.items():
        try:
            cost = estimate(spec, train, Run(device), k=k)
        except (UnblurError, ArithmeticError) as problem:  # what refuses these data would do so later as well
            terminal.failure(f"{name} would fail: {problem}")
            continue
        sizes = cost.n_users
        seconds = cost.seconds * n_fits if limit is None else min(cost.seconds * n_fits, limit + cost.seconds)
        rows.append(
            [name, f"{n_fits:,}", f"{cost.seconds:,.1f} s", f"{seconds:,.1f} s", f"{cost.memory_gb:.2f} GB"]
        )
    available = available_bytes()
    print_lines(
        f"{train.n_users:,} users, {train.n_items:,} items and {train.n_interactions:,} interactions to learn from",
        *lines,
    )
    print_table(
        Table(("model", "fits", "one fit" + " and its lists" * (k > 0), "in all", "memory"), rows, left=1)
    )
    print_lines(
        f"estimated from fits to {sizes[0]:,} and {sizes[1]:,} of the users"
        + ("" if available is None else f"; {available / 1e9:.1f} GB of memory are free"),
        "nothing was written",
    )
    if len(rows) < len(models):
        raise typer.Exit(FAILED)
