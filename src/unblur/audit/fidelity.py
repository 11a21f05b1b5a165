"""Validity and fidelity: checks that every synthetic set must pass, and every statistic of the synthetic users next to the
same one of real users who were kept out.

A resample of users is a vector of how often each counts, so that a bootstrap is a matrix product: `Tally.of` takes many
such vectors at once and gives what every statistic reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from unblur.audit.findings import FEWEST_USERS, Conclusion, Finding, Gate, Interval, too_few
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams

TAIL_SHARE = 0.8
"""The long tail is this share of the catalogue: the items of fewest training users."""
POPULAR = 500
"""How many of the most popular training items are looked at."""
GROUPS = 20
"""In how many groups of users the interval is found, by leaving each out once."""
CURVE_POINTS = 80
"""At so many places a curve is drawn; more cannot be told apart on a page."""
RESAMPLES_AT_ONCE = 20
"""How many resamples are held at a time; no result depends on it."""


@dataclass(frozen=True, eq=False)
class Tally:
    """How often each item, and each number of items a user, occurs in a set of users or in many resamples of it."""

    items: NDArray[np.float64]
    """How often each item occurs, (n_resamples, n_items)."""
    activity: NDArray[np.float64]
    """How many users have 0, 1, 2, … items, (n_resamples, most + 1)."""

    @classmethod
    def of(cls, matrix: sparse.csr_array, weights: NDArray[Any] | None = None, *, most: int) -> Tally:
        """Of the rows of a binary matrix, each counting `weights` times, (n_resamples, n_users); once if `None`.

        most: the largest number of items of a user that has a place.
        """
        degrees = np.diff(matrix.indptr)
        if weights is None:
            weights = np.ones((1, len(degrees)))
        counted = sparse.csr_array(
            (np.ones(len(degrees)), (np.arange(len(degrees)), degrees)), shape=(len(degrees), most + 1)
        )
        # Sparse from the left is the quick side: rows of Xᵀ times columns of weights.
        turned = weights.T.astype(np.float64)
        return cls(np.asarray(matrix.T @ turned).T, np.asarray(counted.T @ turned).T)


Distance: TypeAlias = Callable[[Tally, Tally], NDArray[np.float64]]
"""(resamples, train) → a value for each resample, (n_resamples,)."""


def popularity_total_variation(one: Tally, train: Tally) -> NDArray[np.float64]:
    """½ Σ |p − q| over the shares of all interactions that each item has: 0 alike, 1 nothing in common."""
    return np.asarray(np.abs(_shares(one.items) - _shares(train.items)).sum(axis=1) / 2)


def popularity_divergence(one: Tally, train: Tally) -> NDArray[np.float64]:
    """The Jensen-Shannon divergence of the item shares in bits (Lin, 1991): 0 alike, 1 nothing in common."""
    p, q = np.broadcast_arrays(_shares(one.items), _shares(train.items))
    middle = (p + q) / 2
    return np.maximum(0.0, (_entropy_gap(p, middle) + _entropy_gap(q, middle)) / 2)


def popularity_rank_correlation(one: Tally, train: Tally) -> NDArray[np.float64]:
    """Spearman's rank correlation of the number of users of each item, ties by mid-ranks; 0 where all are equal."""
    both = (stats.rankdata(counts, axis=1) for counts in (one.items, train.items))
    ranks, reference = (each - each.mean(axis=1, keepdims=True) for each in both)
    scales = np.sqrt((ranks**2).sum(axis=1) * (reference**2).sum())
    return np.asarray(np.divide(ranks @ reference[0], scales, out=np.zeros(len(ranks)), where=scales > 0))


def activity_wasserstein(one: Tally, train: Tally) -> NDArray[np.float64]:
    """The Wasserstein-1 distance of the numbers of items a user has, in items."""
    return np.asarray(np.abs(_cumulated(one.activity) - _cumulated(train.activity)).sum(axis=1))


def activity_ks(one: Tally, train: Tally) -> NDArray[np.float64]:
    """The Kolmogorov-Smirnov distance of the numbers of items a user has: the widest gap of the two shares."""
    return np.asarray(np.abs(_cumulated(one.activity) - _cumulated(train.activity)).max(axis=1))


def coverage(one: Tally, train: Tally) -> NDArray[np.float64]:
    """The share of the catalogue that some user has."""
    return np.asarray((one.items > 0).mean(axis=1))


def long_tail(one: Tally, train: Tally) -> NDArray[np.float64]:
    """The share of all interactions that fall on the `TAIL_SHARE` of the items that fewest training users have."""
    tail = np.argsort(train.items[0], kind="stable")[: int(TAIL_SHARE * train.items.shape[1])]
    return np.asarray(_shares(one.items)[:, tail].sum(axis=1))


def sparsity(one: Tally, train: Tally) -> NDArray[np.float64]:
    """The share of user-item pairs that are absent."""
    users = one.activity.sum(axis=1)
    return np.asarray(1 - one.items.sum(axis=1) / np.maximum(1, users * one.items.shape[1]))


@dataclass(frozen=True, slots=True)
class Statistic:
    """One thing that sets of users are compared by."""

    name: str
    meaning: str
    of: Distance
    distance: bool
    """Whether it is a distance from train (0 for train itself), or a property that train has a value of as well."""
    unit: str = ""


STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Statistic(
                "item popularity, total variation",
                "share of interactions that would have to move to other items",
                popularity_total_variation,
                True,
            ),
            Statistic(
                "item popularity, Jensen-Shannon",
                "divergence of the items' shares of interactions",
                popularity_divergence,
                True,
                "bits",
            ),
            Statistic(
                "item popularity, rank correlation",
                "Spearman's correlation of the items' numbers of users with train",
                popularity_rank_correlation,
                False,
            ),
            Statistic(
                "user activity, Wasserstein",
                "mean distance of the numbers of items a user has",
                activity_wasserstein,
                True,
                "items",
            ),
            Statistic(
                "user activity, Kolmogorov-Smirnov",
                "widest gap between the distributions of the numbers of items",
                activity_ks,
                True,
            ),
            Statistic("coverage", "share of the catalogue that some user has", coverage, False),
            Statistic(
                "long tail",
                f"share of interactions on the {TAIL_SHARE:.0%} of items with fewest users",
                long_tail,
                False,
            ),
            Statistic("sparsity", "share of user-item pairs that are absent", sparsity, False),
        )
    }
)


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(counts / np.maximum(1, counts.sum(axis=1, keepdims=True)))


def _cumulated(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cumsum(_shares(counts), axis=1)


def _entropy_gap(p: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ p log2(p / middle), with 0 log 0 = 0."""
    ratio = np.divide(p, middle, out=np.ones_like(p), where=p > 0)
    return np.asarray((p * np.log2(ratio)).sum(axis=1))


def popular_items(train: sparse.csr_array) -> NDArray[np.int64]:
    """The `POPULAR` items that most training users have."""
    return np.argsort(-np.bincount(train.indices, minlength=train.shape[1]), kind="stable")[:POPULAR]


def grouped_cooccurrence(
    rows: sparse.csr_array, items: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.float32]:
    """In how many users of each of `GROUPS` random groups two of the items go together, (n_groups, n, n).

    The diagonal is 0. A user's pairs count once, however many items the user has.
    """
    chosen = sparse.csr_array(rows[:, items])
    group = random.permutation(rows.shape[0]) % GROUPS
    parts = (chosen[np.flatnonzero(group == at)] for at in range(GROUPS))
    counts = np.stack([(part.T @ part).toarray() for part in parts]).astype(np.float32)
    counts[:, np.arange(len(items)), np.arange(len(items))] = 0
    return counts


def cooccurrence_distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> Interval | None:
    """(value, low, high): the total variation of the two distributions over pairs, with a jackknife interval.

    one, other: grouped counts; the groups of `one` are left out in turn (Quenouille 1956, Tukey 1958). `None` where
    a set has no pair at all.
    """
    reference, whole = other.sum(axis=0, dtype=np.float64), one.sum(axis=0, dtype=np.float64)
    if not reference.sum() or not whole.sum():
        return None
    q = reference / reference.sum()
    value = _total_variation(whole, q)
    without = np.array([_total_variation(whole - part, q) for part in one])
    n = len(one)
    error = float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))
    return value, max(0.0, value - 1.96 * error), min(1.0, value + 1.96 * error)


def _total_variation(counts: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    total = counts.sum()
    return float(np.abs(counts / total - q).sum() / 2) if total else 1.0


@dataclass(frozen=True, slots=True)
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

    def farther(self) -> bool:
        """Whether the synthetic users are farther from train than the yardstick is."""
        train = self.train or 0.0
        return abs(self.value - train) > abs(self.yardstick - train)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Curves for the page, of train, synthetic and the yardstick by name."""

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
    """The yardstick in words: the holdout, or half of train against the other half."""

    def conclusions(self) -> Iterator[Finding]:
        """Name the statistics in which synthetic users are farther from train than real ones, or closer."""
        total, users = len(self.likenesses), f"{self.n_users:,} synthetic and as many real users"
        if self.n_users < FEWEST_USERS:
            few = too_few(FEWEST_USERS, "synthetic and as many real users", self.n_users)
            yield Finding("unmeasured", f"How like other real users synthetic ones are: {few.reason}.")
            return
        off = [
            entry
            for entry in self.likenesses
            if entry.low > entry.yardstick_high or entry.high < entry.yardstick_low
        ]
        if not off:
            yield Finding(
                "note",
                f"In {total} statistics no difference was found between synthetic and other real users, on {users}.",
            )
        for far, word, hint in ((True, "farther from", ""), (False, "closer to", ", as copies would be")):
            names = [entry.name for entry in off if entry.farther() is far]
            if names:
                yield Finding(
                    "note",
                    f"In {len(names)} of {total} statistics synthetic users are {word} train than other real users are"
                    f"{hint}, on {users}: {'; '.join(names)}.",
                )


def fidelity(
    train: Interactions,
    synthetic: Interactions,
    holdout: Interactions | None = None,
    *,
    resamples: int = 200,
    rng: RNG | None = None,
    progress: Progress = silent,
) -> Fidelity:
    """Compare the sets, which are over the same items and have users with items only, by every statistic.

    Equally many synthetic and held-out users are compared with train, because most statistics depend on the number
    of users. Without a holdout, half of train is the yardstick and both are compared with the other half. Raises
    `DataError` for fewer than two users.
    """
    given = [part for part in (train, synthetic, holdout) if part is not None]
    DataError.unless(
        all(part.n_users >= 2 for part in given),
        f"Fidelity needs at least two users and some interactions in each set; saw {given}. Give more.",
    )
    generators = streams(rng, "halves", "sample", "resamples", "groups")
    if holdout is not None:
        reference, real = train.matrix, holdout.matrix
    else:
        order, half = generators["halves"].permutation(train.n_users), train.n_users // 2
        reference, real = train.matrix[np.sort(order[half:])], train.matrix[np.sort(order[:half])]
    size = min(synthetic.n_users, real.shape[0])
    sample = synthetic.matrix[np.sort(generators["sample"].permutation(synthetic.n_users)[:size])]
    real = real[np.sort(generators["sample"].permutation(real.shape[0])[:size])]
    parts = {"train": reference, "synthetic": sample, "other real": real}
    most = max(int(np.diff(part.indptr).max()) for part in parts.values())
    against = Tally.of(reference, most=most)
    of_synthetic, of_real = (
        _with_intervals(parts[name], against, most, resamples, generators["resamples"], progress, name)
        for name in ("synthetic", "other real")
    )
    likenesses = [
        Likeness(
            *(entry.name, entry.meaning, entry.unit),
            *synthetic_users,
            *real_users,
            None if entry.distance else float(entry.of(against, against)[0]),
        )
        for entry, synthetic_users, real_users in zip(STATISTICS.values(), of_synthetic, of_real, strict=True)
    ]
    together = _cooccurrence(parts, generators["groups"])
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


def _with_intervals(
    part: sparse.csr_array,
    against: Tally,
    most: int,
    resamples: int,
    random: np.random.Generator,
    progress: Progress,
    name: str,
) -> list[Interval]:
    """Every statistic of a set, with the spread of its resamples of users at 95 %.

    A resample repeats users and so lies farther from train than the sample does; its spread is taken, not its place.
    """
    statistics, n = STATISTICS.values(), part.shape[0]
    rows = []
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, resamples - start)
        weights = np.stack([np.bincount(random.integers(0, n, n), minlength=n) for _ in range(size)])
        tally = Tally.of(part, weights, most=most)
        rows.append(np.stack([entry.of(tally, against) for entry in statistics], axis=1))
        progress(ProgressEvent(f"fidelity: resample {name} users", start + size, resamples))
    table = np.concatenate(rows)
    whole = Tally.of(part, most=most)
    values = np.array([entry.of(whole, against)[0] for entry in statistics])
    ends = values + np.quantile(table - table.mean(axis=0), [0.025, 0.975], axis=0)
    least, largest = np.transpose([(0.0, np.inf) if entry.distance else (-1.0, 1.0) for entry in statistics])
    low, high = np.clip(ends, least, largest)
    return list(zip(values.tolist(), low.tolist(), high.tolist(), strict=True))


def _cooccurrence(parts: dict[str, sparse.csr_array], random: np.random.Generator) -> Likeness | None:
    items = popular_items(parts["train"])
    counts = {name: grouped_cooccurrence(part, items, random) for name, part in parts.items()}
    synthetic, real = (
        cooccurrence_distance(counts[name], counts["train"]) for name in ("synthetic", "other real")
    )
    if synthetic is None or real is None:
        return None
    meaning = f"distance of how often two of the {min(POPULAR, len(items)):,} most popular items go together"
    return Likeness("item co-occurrence, total variation", meaning, "", *synthetic, *real, None)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidityCheck:
    """One check: how many of how many hold."""

    name: str
    meaning: str
    right: int
    total: int

    @property
    def passed(self) -> bool:
        """Whether all hold; 99.9 % is a failure."""
        return self.right == self.total

    @property
    def share(self) -> float:
        """right / total; 1 of nothing."""
        return self.right / self.total if self.total else 1.0


def validity(
    synthetic: Interactions, items: Vocabulary, *, empty_users: bool = False
) -> tuple[ValidityCheck, ...]:
    """The checks of a synthetic set against the items that real users have, or with `empty_users` without the last one."""
    matrix, exists = synthetic.matrix, items.positions_or_missing(synthetic.items) >= 0
    pairs = np.sort(synthetic.rows().astype(np.int64) * synthetic.n_items + matrix.indices)
    checks = [
        ("items exist", "every item is in the real catalogue", exists[matrix.indices]),
        ("no pair twice", "no user has an item twice", np.diff(pairs, prepend=-1) > 0),
        ("weights are 1", "every interaction is there or not, with weight 1", matrix.data == 1),
        ("no empty user", "every user has at least one item", synthetic.user_degrees > 0),
    ]
    return tuple(
        ValidityCheck(name=name, meaning=meaning, right=int(np.count_nonzero(holds)), total=len(holds))
        for name, meaning, holds in checks
        if not (empty_users and name == "no empty user")
    )


def validity_conclusions(checks: Sequence[ValidityCheck]) -> Iterator[Conclusion]:
    """A finding for each check that does not hold in full; `valid`."""
    broken = [check for check in checks if not check.passed]
    for check in broken:
        yield Finding(
            "fault",
            f"The set is not valid: “{check.name}” ({check.meaning}) holds for {check.right:,} of {check.total:,}.",
        )
    named = ", ".join(f"{check.name} ({check.right:,} of {check.total:,})" for check in broken)
    yield Gate(
        "valid", not broken, f"not in full: {named}" if broken else f"all {len(checks)} checks hold in full"
    )
