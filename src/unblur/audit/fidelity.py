"""Validity and fidelity: checks that every synthetic set must pass, and statistics of synthetic users next to those of
kept-out real users.

A resample of users is a vector of multiplicities, so that a bootstrap is a matrix product: `Tally.of` takes many such
vectors at once and computes the counts that all statistics are functions of.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from unblur.audit.attacks.attack import row_hashes
from unblur.audit.findings import FEWEST_USERS, Conclusion, Finding, Gate, Interval, finding_id, too_few
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams

TAIL_SHARE = 0.8
"""The long tail is this share of the catalogue: the items of fewest training users."""
POPULAR = 500
"""The number of most popular training items for co-occurrence: GROUPS matrices of 500² float32 are 20 MB (chosen by hand)."""
GROUPS = 20
"""The number of random groups of users of the jackknife of co-occurrence."""
CURVE_POINTS = 80
"""Points of a curve on the page; more are indistinguishable."""
RESAMPLES_AT_ONCE = 20
"""Resamples in memory at a time; no result depends on it."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of items and of numbers of items per user, of a set of users or of many resamples of it."""

    items: NDArray[np.float64]
    """The number of users of each item, (n_resamples, n_items)."""
    activity: NDArray[np.float64]
    """The number of users with 0, 1, 2, … items, (n_resamples, most + 1)."""

    @classmethod
    def of(cls, matrix: sparse.csr_array, weights: NDArray[Any] | None = None, *, most: int) -> Tally:
        """Count the rows of a binary matrix, with multiplicities `weights`, (n_resamples, n_users), or 1 if `None`.

        most: the largest number of items per user, which sets the width of `activity`.
        """
        degrees = np.diff(matrix.indptr)
        if weights is None:
            weights = np.ones((1, len(degrees)))
        indicators = sparse.csr_array(
            (np.ones(len(degrees)), (np.arange(len(degrees)), degrees)), shape=(len(degrees), most + 1)
        )
        # Xᵀ times weights, not weights times X: scipy multiplies fast with the sparse matrix on the left.
        transposed = weights.T.astype(np.float64)
        return cls(np.asarray(matrix.T @ transposed).T, np.asarray(indicators.T @ transposed).T)


Distance: TypeAlias = Callable[[Tally, Tally], NDArray[np.float64]]
"""(resamples, train) → a value for each resample, (n_resamples,)."""


def popularity_total_variation(tally: Tally, train: Tally) -> NDArray[np.float64]:
    """½ Σ |p − q| over the items' shares of all interactions: 0 if equal, 1 if disjoint."""
    return np.asarray(np.abs(_shares(tally.items) - _shares(train.items)).sum(axis=1) / 2)


def popularity_divergence(tally: Tally, train: Tally) -> NDArray[np.float64]:
    """The Jensen-Shannon divergence of the item shares in bits (Lin, 1991): 0 if equal, 1 if disjoint."""
    p, q = np.broadcast_arrays(_shares(tally.items), _shares(train.items))
    middle = (p + q) / 2
    return np.maximum(0.0, (_entropy_gap(p, middle) + _entropy_gap(q, middle)) / 2)


def popularity_rank_correlation(tally: Tally, train: Tally) -> NDArray[np.float64]:
    """Spearman's rank correlation of the numbers of users of the items, ties by mid-ranks; 0 if all counts are equal."""
    rank_tables = (stats.rankdata(counts, axis=1) for counts in (tally.items, train.items))
    ranks, reference = (table - table.mean(axis=1, keepdims=True) for table in rank_tables)
    scales = np.sqrt((ranks**2).sum(axis=1) * (reference**2).sum())
    return np.asarray(np.divide(ranks @ reference[0], scales, out=np.zeros(len(ranks)), where=scales > 0))


def activity_wasserstein(tally: Tally, train: Tally) -> NDArray[np.float64]:
    """The Wasserstein-1 distance of the numbers of items per user, in items."""
    return np.asarray(np.abs(_cumulated(tally.activity) - _cumulated(train.activity)).sum(axis=1))


def activity_ks(tally: Tally, train: Tally) -> NDArray[np.float64]:
    """The Kolmogorov-Smirnov distance of the numbers of items per user: the widest gap of the distribution functions."""
    return np.asarray(np.abs(_cumulated(tally.activity) - _cumulated(train.activity)).max(axis=1))


def coverage(tally: Tally, train: Tally) -> NDArray[np.float64]:
    """The share of the catalogue that some user has."""
    return np.asarray((tally.items > 0).mean(axis=1))


def long_tail(tally: Tally, train: Tally) -> NDArray[np.float64]:
    """The share of all interactions that fall on the `TAIL_SHARE` of the items that fewest training users have."""
    tail = np.argsort(train.items[0], kind="stable")[: int(TAIL_SHARE * train.items.shape[1])]
    return np.asarray(_shares(tally.items)[:, tail].sum(axis=1))


def sparsity(tally: Tally, train: Tally) -> NDArray[np.float64]:
    """The share of user-item pairs that are absent."""
    users = tally.activity.sum(axis=1)
    return np.asarray(1 - tally.items.sum(axis=1) / np.maximum(1, users * tally.items.shape[1]))


@dataclass(frozen=True, slots=True)
class Statistic:
    """A statistic to compare sets of users by."""

    name: str
    meaning: str
    of: Distance
    distance: bool
    """True for a distance from train (0 for train itself), false for a property that train has a value of as well."""
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
    """The numbers of users with two of the items together, in each of `GROUPS` random groups, (n_groups, n, n).

    The diagonal is 0.
    """
    columns = sparse.csr_array(rows[:, items])
    group = random.permutation(rows.shape[0]) % GROUPS
    parts = (columns[np.flatnonzero(group == index)] for index in range(GROUPS))
    counts = np.stack([(part.T @ part).toarray() for part in parts]).astype(np.float32)
    counts[:, np.arange(len(items)), np.arange(len(items))] = 0
    return counts


def cooccurrence_distance(counts: NDArray[np.float32], train: NDArray[np.float32]) -> Interval | None:
    """(value, low, high): the total variation of the two distributions over pairs, with a jackknife interval.

    counts, train: grouped counts; the groups of `counts` are left out in turn (Quenouille 1956, Tukey 1958). `None` if a
    set has no pair.
    """
    reference, total = train.sum(axis=0, dtype=np.float64), counts.sum(axis=0, dtype=np.float64)
    if not reference.sum() or not total.sum():
        return None
    q = reference / reference.sum()
    value = _total_variation(total, q)
    without = np.array([_total_variation(total - part, q) for part in counts])
    n = len(counts)
    error = float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))
    # 1.96, the 97.5 % quantile of the normal distribution.
    return value, max(0.0, value - 1.96 * error), min(1.0, value + 1.96 * error)


def _total_variation(counts: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    total = counts.sum()
    return float(np.abs(counts / total - q).sum() / 2) if total else 1.0


@dataclass(frozen=True, slots=True)
class Likeness:
    """A statistic of equally many synthetic and kept-out real users, each compared with the training users."""

    name: str
    meaning: str
    unit: str
    value: float
    low: float
    """The low end of the 95 % interval over users (bootstrap, centred on the value; co-occurrence: jackknife)."""
    high: float
    yardstick: float
    """The value of the real users: the difference of two real samples."""
    yardstick_low: float
    yardstick_high: float
    train: float | None
    """The value of the training users; `None` for a distance, which is 0."""

    def farther(self) -> bool:
        """Return whether the synthetic users are farther from train than the real users are."""
        train = self.train or 0.0
        return abs(self.value - train) > abs(self.yardstick - train)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Curves for the page, by set: train, synthetic and other real users."""

    popularity: dict[str, tuple[tuple[float, float], ...]]
    """(share of the catalogue, most popular first; cumulative share of interactions)."""
    activity: dict[str, tuple[tuple[float, float], ...]]
    """(number of items; share of users with no more)."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """The similarity of synthetic and real users, by every statistic."""

    likenesses: tuple[Likeness, ...]
    curves: Curves
    n_users: int
    """The number of synthetic users, and of real ones as the yardstick, that were compared with train."""
    n_train: int
    yardstick: str
    """The yardstick in words: the holdout, or one half of train compared with the other."""

    def conclusions(self) -> Iterator[Finding]:
        """Findings on the statistics in which synthetic users are farther from train than real users, or closer."""
        total, users = len(self.likenesses), f"{self.n_users:,} synthetic and as many real users"
        if self.n_users < FEWEST_USERS:
            few = too_few(FEWEST_USERS, "synthetic and as many real users", self.n_users)
            yield Finding("unmeasured", "fidelity", f"Fidelity: {few.reason}.")
            return
        # Intervals that do not overlap show a difference well below the 5 % level, which allows for their number.
        different = [
            entry
            for entry in self.likenesses
            if entry.low > entry.yardstick_high or entry.high < entry.yardstick_low
        ]
        if not different:
            yield Finding(
                "note",
                "fidelity",
                f"In {total} statistics no difference was found between synthetic and other real users, on {users}.",
            )
        for far, word, hint in ((True, "farther from", ""), (False, "closer to", ", as copies would be")):
            names = [entry.name for entry in different if entry.farther() is far]
            if names:
                yield Finding(
                    "note",
                    finding_id(f"fidelity {word.partition(' ')[0]}"),
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
    """Compare the sets by every statistic; they are over the same items and have no users without items.

    Equally many synthetic and held-out users are compared with train, because most statistics depend on the number of
    users. Without a holdout, half of train is the yardstick and both are compared with the other half. Raises `DataError`
    for fewer than two users.
    """
    sets = [part for part in (train, synthetic, holdout) if part is not None]
    DataError.unless(
        all(part.n_users >= 2 for part in sets),
        f"Fidelity needs at least two users with interactions in each set; saw {sets}. Give more.",
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
    cooccurrence = _cooccurrence(parts, generators["groups"])
    if cooccurrence is not None:
        likenesses.insert(5, cooccurrence)  # after the other distances
    return Fidelity(
        likenesses=tuple(likenesses),
        curves=_curves(parts, most),
        n_users=size,
        n_train=int(reference.shape[0]),
        yardstick="users who were not in training"
        if holdout is not None
        else "one half of train compared with the other",
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
    """Every statistic of a set, with a 95 % bootstrap interval over users.

    A resample repeats users and is therefore farther from train than the sample: the interval takes the spread of the
    resamples around their mean, and is centred on the value of the sample.
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
    sample = Tally.of(part, most=most)
    values = np.array([entry.of(sample, against)[0] for entry in statistics])
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
        ranks = np.unique(np.linspace(0, len(counts), CURVE_POINTS).astype(np.int64))
        popularity[name] = tuple(zip((ranks / len(counts)).tolist(), share[ranks].tolist(), strict=True))
        degrees = np.diff(part.indptr)
        grid = np.unique(np.geomspace(1, max(2, most), CURVE_POINTS).astype(np.int64))
        below = np.searchsorted(np.sort(degrees), grid, side="right") / len(degrees)
        activity[name] = tuple(zip(grid.astype(float).tolist(), below.tolist(), strict=True))
    return Curves(popularity=popularity, activity=activity)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidityCheck:
    """The result of one check: the number of entries for which it holds, and of all entries."""

    name: str
    meaning: str
    right: int
    total: int

    @property
    def passed(self) -> bool:
        """True if it holds for all entries; 99.9 % is a failure."""
        return self.right == self.total

    @property
    def share(self) -> float:
        """right / total; 1 if there are no entries."""
        return self.right / self.total if self.total else 1.0


BY_CHANCE = 0.001
"""Synthetic labels are those of real users if chance agrees so often with a smaller probability (chosen by hand): a fault is no
matter of a few equal numbers."""


def validity(
    synthetic: Interactions,
    real: Sequence[Interactions],
    items: Vocabulary,
    *,
    empty_users: bool = False,
    other_columns: Collection[str] = (),
) -> tuple[ValidityCheck, ...]:
    """Check a synthetic set against sets of real users, train first, and the catalogue's items.

    `empty_users` leaves the check of empty users out. `other_columns` are columns of the file that no attack has seen.
    """
    matrix, exists = synthetic.matrix, items.positions_or_missing(synthetic.items) >= 0
    pairs = np.sort(synthetic.rows().astype(np.int64) * synthetic.n_items + matrix.indices)
    checks = [
        ("items exist", "every item is in the catalogue", exists[matrix.indices]),
        ("no pair twice", "no user has an item twice", np.diff(pairs, prepend=-1) > 0),
        ("weights are 1", "every interaction is there or not, with weight 1", matrix.data == 1),
        ("no empty user", "every user has at least one item", synthetic.user_degrees > 0),
    ]
    return (
        *(
            ValidityCheck(name=name, meaning=meaning, right=int(np.count_nonzero(holds)), total=len(holds))
            for name, meaning, holds in checks
            if not (empty_users and name == "no empty user")
        ),
        _users_differ(synthetic, real[0]),
        _new_labels(synthetic.users, [part.users for part in real]),
        _attacked_columns(synthetic, real, other_columns),
    )


def _users_differ(synthetic: Interactions, train: Interactions) -> ValidityCheck:
    """Compare the number of different rows with that of equally many training users; half of it is enough (chosen by hand)."""
    size = min(synthetic.n_users, train.n_users)
    n_synthetic, n_real = (
        len(np.unique(row_hashes(part.matrix[np.linspace(0, part.n_users - 1, size).astype(np.int64)])))
        for part in (synthetic, train)
    )
    needed = -(-n_real // 2)
    return ValidityCheck(
        name="users differ",
        meaning=f"among {size:,} users there are at least half as many different rows as among as many training users",
        right=min(n_synthetic, needed),
        total=needed,
    )


def _new_labels(synthetic: Vocabulary, real: Sequence[Vocabulary]) -> ValidityCheck:
    """Compare synthetic labels with those of each set of real users.

    Numbers that merely count users agree with those of numbered real users by chance, with the probability by which a number
    in the range of the synthetic labels is that of a real user.
    """
    most = 0
    for users in (part for part in real if part.kind == synthetic.kind):
        equal = int((users.positions_or_missing(synthetic) >= 0).sum())
        probability = 0.0
        if synthetic.kind == "int":
            low, high = (int(end) for end in (synthetic.labels.min(), synthetic.labels.max()))
            within = int(((users.labels >= low) & (users.labels <= high)).sum())
            probability = within / (high - low + 1)
        if stats.binom.sf(equal - 1, len(synthetic), probability) < BY_CHANCE:
            most = max(most, equal)
    return ValidityCheck(
        name="labels are new",
        meaning="no user has the label of a real user, but for numbers that merely count",
        right=len(synthetic) - most,
        total=len(synthetic),
    )


def _attacked_columns(
    synthetic: Interactions, real: Sequence[Interactions], others: Collection[str]
) -> ValidityCheck:
    """Name the columns that no attack has seen, and count times that are those of real users."""
    names = [*others]
    if synthetic.timestamps is not None:
        times = [part.timestamps for part in real if part.timestamps is not None]
        equal = int(np.isin(synthetic.timestamps, np.concatenate(times)).sum()) if times else 0
        names.append(f"times, {equal:,} of {len(synthetic.timestamps):,} equal to one of a real user")
    return ValidityCheck(
        name="only users and items",
        meaning="no attack looks at other columns"
        + (f", and there is no telling what these give away: {'; '.join(names)}" if names else ""),
        right=2,
        total=2 + len(names),
    )


def validity_conclusions(checks: Sequence[ValidityCheck]) -> Iterator[Conclusion]:
    """A finding for each failed check; gate `valid`."""
    failed = [check for check in checks if not check.passed]
    for check in failed:
        yield Finding(
            "fault",
            finding_id(check.name),
            f"The set is not valid: “{check.name}” ({check.meaning}) holds for {check.right:,} of {check.total:,}.",
        )
    names = ", ".join(f"{check.name} ({check.right:,} of {check.total:,})" for check in failed)
    reason = f"failed: {names}" if failed else f"all {len(checks)} checks hold"
    yield Gate("valid", not failed, reason, len(failed), 0)
