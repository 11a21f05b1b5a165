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
    from unblur.experiment.estimate import Workload

DryRun: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say what would be done, with time and memory estimated by fits to a few of the users; write nothing.",
    ),
]


def print_plan(
    workloads: Sequence[Workload],
    train: Interactions,
    device: str,
    *,
    k: int = 0,
    lines: Sequence[str] = (),
    limit: float | None = None,
    failures: Mapping[str, str] | None = None,
) -> None:
    """Print what each of the models would take. With `k`, lists of k items are made after each fit.

    `limit` are the seconds after which a search ends, `failures` the reasons why models would fail at once.
    """
    from unblur.experiment.estimate import cost_of, samples_of
    from unblur.parallel.memory import available_bytes
    from unblur.progress import Run

    rows, plans, total, failures = [], [], 0.0, dict(failures or {})
    for workload in workloads:
        if workload.fits == 0:
            rows.append([workload.name, "none: its results are kept", "", "", ""])
            plans.append({"model": workload.name, "fits": 0})
            continue
        try:
            one, whole = cost_of(workload, train, Run(device), k=k, limit=limit)
        except (UnblurError, ArithmeticError) as problem:  # what refuses these data would do so later as well
            failures[workload.name] = str(problem)
            continue
        total += whole.seconds
        plans.append(
            {
                "model": workload.name,
                "fits": workload.fits,
                "settings": 0 if workload.search is None else len(workload.search.settings),
                "fit_seconds": one.seconds,
                "seconds": whole.seconds,
                "memory_gb": whole.memory_gb,
            }
        )
        times = (f"{seconds:,.1f} s" for seconds in (one.seconds, whole.seconds))
        rows.append([workload.name, _work(workload), *times, f"{whole.memory_gb:.2f} GB"])
    print_lines(
        f"{train.n_users:,} users, {train.n_items:,} items and {train.n_interactions:,} interactions to learn from",
        *lines,
    )
    print_table(
        Table(("model", "work", "one fit" + " and its lists" * (k > 0), "in all", "memory"), rows, left=2),
        plan=plans,
    )
    available, sizes = available_bytes(), samples_of(train)
    print_lines(
        *([f"{total:,.1f} s for all models"] if len(workloads) > 1 else []),
        f"estimated from fits to {sizes[0]:,} and {sizes[1]:,} of the users"
        + ("" if available is None else f"; {available / 1e9:.1f} GB of memory are free"),
        "nothing was written",
    )
    for name, reason in failures.items():
        terminal.failure(f"{name} would fail: {reason}")
    if failures:
        raise typer.Exit(FAILED)


def _work(workload: Workload) -> str:
    """The settings and fits of a workload in words."""
    fits = f"{workload.fits:,} fit" + "s" * (workload.fits > 1)
    if workload.search is None:
        return fits
    n_settings, n_done = len(workload.search.settings), workload.search.n_done
    are_kept = "is kept" if n_done == 1 else "are kept"
    if not n_settings:
        return f"no setting left ({n_done:,} {are_kept}), then {fits}"
    judged = (
        " in one pass"
        if workload.search.together
        else f" of {workload.search.fits} fits" * (workload.search.fits > 1)
    )
    kept = f" ({n_done:,} more {are_kept})" * (n_done > 0)
    return f"{n_settings:,} setting{'s' * (n_settings > 1)}{judged}{kept}, then {fits}"
