"""Time and memory of what a command has to do with a model, estimated on a few users."""

from __future__ import annotations

import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unblur.data.interactions import Interactions
from unblur.experiment.provenance import rss_mb
from unblur.fitted import FittedSpec
from unblur.progress import Run, silent
from unblur.recommender import Recommender
from unblur.tuning.engine import Remaining

_SHARE = 32
"""One user of so many is fitted to: with the smaller sample, twice, that is a sixteenth of the work."""
_FEWEST = 1000
"""Users of a sample, at least: more than the rank of any factorization that a spec has by default."""
_COPIES = 4
"""Weights of a network in memory as it is trained: they, their gradients, and the two moments of Adam."""
_PATIENCE = 20.0
"""Seconds of the fits to a sample for which settings that share a pass are tried together. Beyond that items take the time, not users, and
most of it (a solution for each setting of EASE) is not shared."""


@dataclass(frozen=True)
class Workload:
    """What a command has to do with one model."""

    name: str
    spec: FittedSpec
    fits: int
    """The number of fits, search aside: one for each seed, none if results are kept."""
    search: Remaining[Any] | None = None


@dataclass(frozen=True)
class Estimate:
    """What a piece of work takes on all users."""

    seconds: float
    memory_gb: float
    """Memory of the process at its peak, in GB (10**9 bytes), what it holds already included."""
    sample_seconds: float
    """The seconds on the larger sample."""


def samples_of(train: Interactions) -> tuple[int, int]:
    """The users of both samples, the second twice the first."""
    large = min(train.n_users, max(_FEWEST, train.n_users // _SHARE))
    return -(-large // 2), large


def estimate(work: Callable[[Interactions], int], train: Interactions) -> Estimate:
    """Time and memory of `work` on `train`, which returns how many bytes it allocates beside those of Python and NumPy.

    A line through what two samples of the users take, all items kept: exact for what is in proportion to users plus a part that
    depends on items alone, such as the solution of EASE, which is done in the samples as well.
    """
    held = rss_mb() / 1e3
    seconds, peaks = [], []
    small, large = samples_of(train)
    for n_users in (small, small, large):  # once more to begin with, since the first imports
        sample = train.take_users(np.linspace(0, train.n_users - 1, n_users).astype(np.int64))
        tracemalloc.start()  # a fit takes a tenth longer then, one of many small arrays a half
        try:
            start = time.perf_counter()
            further = work(sample)
            seconds.append(time.perf_counter() - start)
            peaks.append(tracemalloc.get_traced_memory()[1] + further)
        finally:
            tracemalloc.stop()

    def at_all(first: float, second: float) -> float:
        return max(second, second + (second - first) / max(1, large - small) * (train.n_users - large))

    return Estimate(at_all(*seconds[1:]), held + at_all(*peaks[1:]) / 1e9, seconds[-1])


def fitting(spec: FittedSpec, run: Run, k: int) -> Callable[[Interactions], int]:
    """A fit and, if `k` is not 0, lists of k items for the users that it learns from; the weights of a network are counted as it is trained."""

    def fit(sample: Interactions) -> int:
        model = spec.fit_in(run, sample, rng=0)
        if k and isinstance(model, Recommender):
            model.recommend(sample, k=min(k, sample.n_items))
        weights = model.tensors().values() if spec.plans() else ()
        return _COPIES * sum(np.asarray(array).nbytes for array in weights)

    return fit


def judging_together(settings: Sequence[FittedSpec], run: Run, k: int) -> Callable[[Interactions], int]:
    """A pass over settings that share their work, with the lists of each."""

    def judge(sample: Interactions) -> int:
        pass_of = settings[0].shared()
        assert pass_of is not None  # as `Remaining.together` says
        shared = pass_of(settings, sample, rng=np.random.default_rng(0), run=run)
        lists = shared.rankings(sample, k=min(k, sample.n_items), settings=None, progress=silent)
        deque(lists, maxlen=0)
        return 0

    return judge


def cost_of(
    workload: Workload, train: Interactions, run: Run, *, k: int = 0, limit: float | None = None
) -> tuple[Estimate, Estimate]:
    """Estimate one fit of a workload, with its lists, and all that the workload says. `limit` are the seconds after which a search ends.

    Raises what the fit raises.
    """
    one = estimate(fitting(workload.spec, run, k), train)
    seconds, memory = one.seconds * workload.fits, one.memory_gb
    if workload.search is not None and workload.search.settings:
        settings, fits = workload.search.settings, workload.search.fits
        trial = one.seconds * fits
        searching = trial * len(settings)
        if workload.search.together and one.sample_seconds * len(settings) <= _PATIENCE:
            shared = estimate(judging_together(settings, run, k), train)
            searching, memory = shared.seconds * fits, max(memory, shared.memory_gb)
        elif limit is not None:
            searching = min(searching, limit + trial)  # the trial that runs is finished
        seconds += searching
    return one, Estimate(seconds, memory, one.sample_seconds)
