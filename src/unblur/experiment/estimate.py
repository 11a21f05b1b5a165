"""Time and memory of a fit, estimated by fits to a few users."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass

import numpy as np

from unblur.data.interactions import Interactions
from unblur.experiment.provenance import rss_mb
from unblur.fitted import FittedSpec
from unblur.progress import Run
from unblur.recommender import Recommender

_SHARE = 32
"""One user of so many is fitted to: with the smaller sample, and each twice, that is a tenth of the work."""
_FEWEST = 1000
"""Users of a sample, at least: more than the rank of any factorization that a spec has by default."""
_COPIES = 4
"""Weights of a network in memory as it is trained: they, their gradients, and the two moments of Adam."""


@dataclass(frozen=True)
class Estimate:
    """What a fit takes, and lists for the users that it learns from if they were asked for."""

    seconds: float
    memory_gb: float
    """Memory of the process at its peak, in GB (10**9 bytes), what it holds already included."""
    n_users: tuple[int, int]
    """The users of both samples."""


def estimate(spec: FittedSpec, train: Interactions, run: Run, *, k: int = 0) -> Estimate:
    """Time and memory of a fit of `spec` to `train` and, if `k` is not 0, of lists of k items for its users.

    A line through what two samples of the users take, the second twice the first, all items kept: exact for what is in
    proportion to users plus a part that depends on items alone, such as the solution of EASE, which is done in the samples as
    well. Memory is what Python and NumPy allocate, and four times its weights for a network. Raises what the fit raises.
    """
    large = min(train.n_users, max(_FEWEST, train.n_users // _SHARE))
    small = -(-large // 2)
    held = rss_mb() / 1e3
    seconds, peaks = [], []

    def work(n_users: int) -> int:
        rows = np.linspace(0, train.n_users - 1, n_users).astype(np.int64)
        sample = train.take_users(rows)
        model = spec.fit_in(run, sample, rng=0)
        if k and isinstance(model, Recommender):
            model.recommend(sample, k=min(k, train.n_items))
        return sum(np.asarray(array).nbytes for array in model.tensors().values()) if spec.plans() else 0

    for n_users in (small, large):
        tracemalloc.start()  # it slows down what it watches, and the first fit imports: time is taken in a second one
        try:
            of_network = _COPIES * work(n_users)
            peaks.append(tracemalloc.get_traced_memory()[1] + of_network)
        finally:
            tracemalloc.stop()
        start = time.perf_counter()
        work(n_users)
        seconds.append(time.perf_counter() - start)

    def at_all(first: float, second: float) -> float:
        return max(second, second + (second - first) / max(1, large - small) * (train.n_users - large))

    return Estimate(at_all(*seconds), held + at_all(*peaks) / 1e9, (small, large))
