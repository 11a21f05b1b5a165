"""A user forgotten by item neighbours on Gowalla, next to a refit: `python -m benchmarks.forgetting`, or `make forgetting`.

Both begin with the model and the logs before and after in memory; what it takes to change the log, to load and to save stands apart. Figures
are seconds of processor time, which the load of the machine moves less than those of a clock.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.measuring import print_head, print_rows
from unblur.data.changes import Change
from unblur.experiment.ranking import prepare
from unblur.experiment.recipe.library import load_recipe
from unblur.models.linear.neighbours import ItemKNN
from unblur.recommender import load

T = TypeVar("T")
ROUNDS, TOGETHER, LENGTH = 7, 20, 30
"""Rounds, each with a refit; the users that are forgotten together in a further measurement; the items of the user to forget."""
TARGET = 0.01


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return the result, and the seconds of processor time."""
    start = time.process_time()
    return work(), time.process_time() - start


def main() -> None:
    """Print a table; each round forgets another user of the model that the round before left."""
    log = prepare(load_recipe("item-knn/gowalla")).split.train
    spec = ItemKNN()
    model = spec.fit(log)
    users = log.users.take(np.flatnonzero(log.user_degrees == LENGTH)).to_list()
    with tempfile.TemporaryDirectory() as folder:
        _, saving = timed(lambda: model.save(Path(folder) / "model"))
        loaded, loading = timed(lambda: load(Path(folder) / "model"))
    changing, updating, fitting = [], [], []
    model = loaded.updated(Change.of(log))  # once, so that the lists' weakest members are known
    for user in users[:ROUNDS]:
        change, seconds = timed(lambda user=user, log=log: Change.of(log, forget=[user]))  # type: ignore[misc]
        changing.append(seconds)
        model, seconds = timed(lambda change=change, model=model: model.updated(change))  # type: ignore[misc]
        updating.append(seconds)
        refit, seconds = timed(lambda change=change: spec.fit(change.after))  # type: ignore[misc]
        fitting.append(seconds)
        assert (model.tensors()["weights"] != refit.tensors()["weights"]).nnz == 0
        log = change.after
    many = Change.of(log, forget=users[ROUNDS : ROUNDS + TOGETHER])
    _, together = timed(lambda: model.updated(many))
    refit_seconds = float(np.median(fitting))
    print_head()
    rows = {
        "a refit": (refit_seconds, ""),
        f"a user of {LENGTH} items forgotten": (float(np.median(updating)), f"≤ {TARGET:.0%} of a refit"),
        f"one of {TOGETHER} forgotten together": (together / TOGETHER, ""),
        "the log without the user": (float(np.median(changing)), ""),
        "load": (loading, ""),
        "save": (saving, ""),
    }
    print_rows(
        (name, target, f"{1000 * seconds:,.0f} ms ({seconds / refit_seconds:.1%})")
        for name, (seconds, target) in rows.items()
    )


if __name__ == "__main__":
    main()
