"""Fidelity: every statistic of the synthetic users beside the same one of real users who were kept out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.audit.fidelity.cooccurrence import (
    POPULAR,
    cooccurrence_distance,
    grouped_cooccurrence,
    popular_items,
)
from unblur.audit.fidelity.statistics import STATISTICS, Statistic, Summary
from unblur.data.interactions import Interactions
from unblur.errors import DataError, VocabularyMismatch
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams

CURVE_POINTS = 80
RESAMPLES_AT_ONCE = 20
"""How many resamples are held at a time; no result depends on it."""
_RANGES = {True: (0.0, np.inf), False: (-1.0, 1.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """One statistic of equally many synthetic and kept-out real users, each against the training users."""

    name: str
    meaning: str
    unit: str
    value: float
    low: float
    """Of the 95 % interval over users (bootstrap, centred on the value; co-occurrence: jackknife)."""
    high: float
    yardstick: float
    """The same of the real users: what two real samples differ by."""
    yardstick_low: float
    yardstick_high: float
    train: float | None
    """The value of the training users; `None` for a distance, where it is 0."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What the pages plot: shares for train, synthetic and the yardstick, by name."""

    popularity: dict[str, tuple[tuple[float, float], ...]]
    """(share of the catalogue, most popular first; cumulative share of interactions)."""
    activity: dict[str, tuple[tuple[float, float], ...]]
    """(items; share of users who have no more)."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How like the real users the synthetic ones are."""

    likenesses: tuple[Likeness, ...]
    curves: Curves
    n_users: int
    """How many synthetic users, and how many real ones as the yardstick, were compared with train."""
    n_train: int
    yardstick: str
    """What the yardstick is: the holdout, or half of train against the other half."""


def fidelity(
    train: Interactions,
    synthetic: Interactions,
    holdout: Interactions | None = None,
    *,
    resamples: int = 200,
    rng: RNG | None = None,
    progress: Progress = silent,
) -> Fidelity:
    """Compare the sets, which must be over the same items, by every statistic.

    Equally many synthetic and held-out users are compared with train, because most statistics depend on the number
    of users. Without a holdout, half of train is the yardstick and both are compared with the other half. Raises
    `VocabularyMismatch` for other items, and `DataError` for an empty set or fewer than two users.
    """
    given = [part for part in (train, synthetic, holdout) if part is not None]
    if any(part.items != train.items for part in given):
        raise VocabularyMismatch(
            "Sets must be over the same items to be compared; they differ. Bring them onto one vocabulary with "
            "`.onto(items=…)`."
        )
    if any(not part.n_interactions or part.n_users < 2 for part in given):
        raise DataError(
            f"Fidelity needs at least two users and some interactions in each set; saw {given}. Give more."
        )
    chance = streams(rng, "halves", "sample", "resamples", "groups")
    reference, real = _apart(train, holdout, chance["halves"])
    size = min(synthetic.n_users, real.shape[0])
    made = synthetic.matrix[np.sort(chance["sample"].permutation(synthetic.n_users)[:size])]
    real = real[np.sort(chance["sample"].permutation(real.shape[0])[:size])]
    parts = {"train": reference, "synthetic": made, "other real": real}
    most = max(int(np.diff(part.indptr).max()) for part in parts.values())
    against = Summary.of(reference, most=most)
    values = {name: _values(part, against, most) for name, part in parts.items()}
    widths = {
        name: _spread(parts[name], against, most, resamples, chance["resamples"], progress, name)
        for name in ("synthetic", "other real")
    }
    likenesses = [_likeness(entry, at, values, widths) for at, entry in enumerate(STATISTICS.values())]
    together = _cooccurrence(parts, chance["groups"])
    if together is not None:
        likenesses.insert(5, together)
    return Fidelity(
        likenesses=tuple(likenesses),
        curves=_curves(parts, most),
        n_users=size,
        n_train=int(reference.shape[0]),
        yardstick="users who were not in training"
        if holdout is not None
        else "one half of train against the other",
    )


def _apart(
    train: Interactions, holdout: Interactions | None, random: np.random.Generator
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """What is compared with, and the real users that are compared with it."""
    if holdout is not None:
        return train.matrix, holdout.matrix
    order = random.permutation(train.n_users)
    half = train.n_users // 2
    return train.matrix[np.sort(order[half:])], train.matrix[np.sort(order[:half])]


def _values(part: sparse.csr_array, against: Summary, most: int) -> NDArray[np.float64]:
    """Every statistic of a set, (n_statistics,)."""
    summary = Summary.of(part, most=most)
    return np.array([entry.of(summary, against)[0] for entry in STATISTICS.values()])


def _spread(
    part: sparse.csr_array,
    against: Summary,
    most: int,
    resamples: int,
    random: np.random.Generator,
    progress: Progress,
    name: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far below and above its mean each statistic lies at the ends of 95 % of the resamples of users.

    A resample repeats users and so lies farther from train than the sample does; its spread is taken, not its place.
    """
    n = part.shape[0]
    rows = []
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, resamples - start)
        weights = np.stack([np.bincount(random.integers(0, n, n), minlength=n) for _ in range(size)])
        summary = Summary.of(part, weights, most=most)
        rows.append(np.stack([entry.of(summary, against) for entry in STATISTICS.values()], axis=1))
        progress(ProgressEvent(f"fidelity: resample {name} users", start + size, resamples))
    table = np.concatenate(rows)
    low, high = np.quantile(table - table.mean(axis=0), [0.025, 0.975], axis=0)
    return low, high


def _likeness(
    entry: Statistic,
    at: int,
    values: dict[str, NDArray[np.float64]],
    widths: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> Likeness:
    least, largest = _RANGES[entry.distance]
    ends = {
        name: [float(np.clip(values[name][at] + width[at], least, largest)) for width in widths[name]]
        for name in ("synthetic", "other real")
    }
    return Likeness(
        name=entry.name,
        meaning=entry.meaning,
        unit=entry.unit,
        value=float(values["synthetic"][at]),
        low=ends["synthetic"][0],
        high=ends["synthetic"][1],
        yardstick=float(values["other real"][at]),
        yardstick_low=ends["other real"][0],
        yardstick_high=ends["other real"][1],
        train=None if entry.distance else float(values["train"][at]),
    )


def _cooccurrence(parts: dict[str, sparse.csr_array], random: np.random.Generator) -> Likeness | None:
    items = popular_items(parts["train"])
    counted = {name: grouped_cooccurrence(part, items, random) for name, part in parts.items()}
    made = cooccurrence_distance(counted["synthetic"], counted["train"])
    real = cooccurrence_distance(counted["other real"], counted["train"])
    if made is None or real is None:
        return None
    return Likeness(
        name="item co-occurrence, total variation",
        meaning=f"distance of how often two of the {min(POPULAR, len(items)):,} most popular items go together",
        unit="",
        value=made[0],
        low=made[1],
        high=made[2],
        yardstick=real[0],
        yardstick_low=real[1],
        yardstick_high=real[2],
        train=None,
    )


def _curves(parts: dict[str, sparse.csr_array], most: int) -> Curves:
    popularity, activity = {}, {}
    for name, part in parts.items():
        counts = np.sort(np.bincount(part.indices, minlength=part.shape[1]))[::-1]
        share = np.concatenate(([0.0], np.cumsum(counts) / counts.sum()))
        at = np.unique(np.linspace(0, len(counts), CURVE_POINTS).astype(np.int64))
        popularity[name] = tuple(zip((at / len(counts)).tolist(), share[at].tolist(), strict=True))
        degrees = np.diff(part.indptr)
        grid = np.unique(np.geomspace(1, max(2, most), CURVE_POINTS).astype(np.int64))
        below = np.searchsorted(np.sort(degrees), grid, side="right") / len(degrees)
        activity[name] = tuple(zip(grid.astype(float).tolist(), below.tolist(), strict=True))
    return Curves(popularity=popularity, activity=activity)
