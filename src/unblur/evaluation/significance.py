"""Uncertainty of means over users: bootstrap intervals, paired tests, correction for multiple tests.

The sums behind an interval are exact: values are first rounded to a grid so coarse (relative 2**-38 for 30,000 users)
that all partial sums fit into a float64. So an interval is bitwise the same for any number of threads, any linear
algebra library and any chunking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from unblur.errors import DataError
from unblur.randomness import RNG, generator, streams

CELLS_AT_ONCE = 1 << 21
"""Number of cells, users x resamples, in memory at a time (16 MB). Intervals do not depend on it; the random signs of a
permutation do."""
PERMUTATIONS = 10_000
"""Signs drawn where not all can be tried: a p-value of .05 is then known to ±.004 (95 %)."""
LEVEL = 0.05
"""Significance level, the customary one: a pair differs if its adjusted p-value is below it."""


def bootstrap_interval(
    values: NDArray[np.float64], *, resamples: int = 1000, confidence: float = 0.95, rng: RNG | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The percentile bootstrap interval of the mean over users (Efron & Tibshirani, 1993, section 13.3).

    values: a row per user and a column per measurement, (n_users, n_columns) or (n_users,). All columns are
    resampled together, by one matrix product. Returns the low and the high ends, (n_columns,) each. The draws
    are those of `scipy.stats.bootstrap` with ``method="percentile"``. Raises `DataError` for no users, a
    value that is not finite, no resamples, or a confidence outside 0 ... 1.
    """
    DataError.unless(
        resamples >= 1 and 0 < confidence < 1,
        "An interval needs at least 1 resample and a confidence strictly between 0 and 1; "
        f"saw {resamples} and {confidence}.",
    )
    array = np.asarray(values, dtype=np.float64)
    table = array[:, None] if array.ndim == 1 else array
    DataError.unless(
        table.ndim == 2 and len(table),
        f"There must be a row of values for each user, and at least one user; saw shape {array.shape}.",
    )
    DataError.unless(
        np.isfinite(table).all(),
        "Values must be finite to have a mean; saw NaN or infinity. Leave such users out.",
    )
    random_generator = generator(rng)
    n_users = len(table)
    mean = table.mean(axis=0)
    centred = _exactly_summable(table - mean)
    sums = np.empty((resamples, table.shape[1]))
    step = max(1, CELLS_AT_ONCE // n_users)
    for start in range(0, resamples, step):
        samples = random_generator.integers(
            0, n_users, (min(step, resamples - start), n_users), dtype=np.int32
        )
        counts = np.apply_along_axis(np.bincount, 1, samples, minlength=n_users)
        sums[start : start + step] = counts.astype(np.float64) @ centred
    low, high = np.quantile(sums / n_users, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return mean + low, mean + high


def sign_flip_tests(
    gaps: NDArray[np.float64], *, permutations: int = PERMUTATIONS, rng: RNG | None = None
) -> NDArray[np.float64]:
    """The two-sided p-values of paired differences: the fraction of random sign flips with as large a mean difference.

    `gaps`: the differences between two models' values per user, (n_users, n_pairs); the result has shape (n_pairs,).
    Fisher's sign-flip test (The Design of Experiments, 1935) from random patterns that serve all columns, as (1 + as
    large) / (1 + permutations) (Phipson & Smyth, 2010). Sums that differ from the observed one by rounding alone count
    as large.
    """
    random_generator = streams(rng, "signs")["signs"]
    nonzero = gaps[(gaps != 0).any(axis=1)]
    n_users, observed = len(nonzero), nonzero.sum(axis=0)
    if not n_users:
        return np.ones(gaps.shape[1])
    # Users without a difference change no sum, and were left out. The relative 1e-12 is well above rounding.
    threshold = np.abs(observed) - 1e-12 * np.abs(nonzero).sum(axis=0)
    as_large = np.zeros(len(threshold), dtype=np.int64)
    step = max(1, CELLS_AT_ONCE // n_users)
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        bits = np.frombuffer(random_generator.bytes(rows * -(-n_users // 8)), dtype=np.uint8).reshape(
            rows, -1
        )
        flips = np.unpackbits(bits, axis=1, count=n_users).astype(np.float64)
        sums = observed - 2.0 * (flips @ nonzero)  # Σ ±d = Σ d − 2·Σ over the flipped ones
        as_large += np.count_nonzero(np.abs(sums) >= threshold, axis=0)
    return np.asarray((1 + as_large) / (1 + permutations))


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values adjusted for multiple tests (Holm, A Simple Sequentially Rejective Multiple Test Procedure).

    Rejecting if an adjusted value is below α keeps the probability of any false rejection below α.
    """
    raw = np.asarray(p_values, dtype=np.float64)
    DataError.unless(
        raw.ndim == 1 and ((raw >= 0) & (raw <= 1)).all(),
        f"P-values must be a sequence of numbers between 0 and 1; saw {raw.tolist()}.",
    )
    order = np.argsort(raw, kind="stable")
    scaled = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(scaled, 1.0)
    return adjusted


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between two models, over the same users."""

    one: int
    other: int
    """The columns of the two models."""
    mean: float
    """The mean over users of one − other."""
    low: float
    high: float
    """The 95 % bootstrap interval of that mean; not corrected for the number of pairs."""
    p_value: float
    """Two-sided, of the sign-flip test."""
    adjusted: float
    """The same after Holm's correction for all pairs."""

    @property
    def differs(self) -> bool:
        """True if the difference is significant at `LEVEL`."""
        return self.adjusted < LEVEL


def differences(
    values: NDArray[np.float64],
    *,
    permutations: int = PERMUTATIONS,
    resamples: int = 1000,
    rng: RNG | None = None,
) -> list[Difference]:
    """Compare all pairs of columns of `values`, (n_users, n_models), finite, with a row per user.

    `sign_flip_tests` of the paired differences, where each random pattern of signs serves all pairs; then Holm's
    correction over all pairs. All pairs are tested, not only the best model against the rest: the best was picked by the
    same numbers, and tests that ignore this find too many differences.
    """
    DataError.unless(
        values.ndim == 2 and len(values) and np.isfinite(values).all(),
        f"Values must be finite, with a row per user and a column per model; saw shape {values.shape}. Leave users "
        "without a value out.",
    )
    pairs = list(combinations(range(values.shape[1]), 2))
    if not pairs:
        return []
    generators = streams(rng, "signs", "bootstrap")
    gaps = np.stack([values[:, one] - values[:, other] for one, other in pairs], axis=1)
    p_values = sign_flip_tests(gaps, permutations=permutations, rng=generators["signs"])
    adjusted = holm(p_values)
    low = high = gaps.mean(axis=0)
    if resamples:
        low, high = bootstrap_interval(gaps, resamples=resamples, rng=generators["bootstrap"])
    return [
        Difference(
            one,
            other,
            float(gap.mean()),
            float(low[pair]),
            float(high[pair]),
            float(p_values[pair]),
            float(adjusted[pair]),
        )
        for pair, ((one, other), gap) in enumerate(zip(pairs, gaps.T, strict=True))
    ]


def _exactly_summable(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column rounded to a grid of a power of two on which any n_users of its values add up exactly.

    With |x| < 2**e and n < 2**b, the grid 2**(e + b - 53) leaves at most 53 bits to any sum.
    """
    # The floor keeps the grid of tiny values a normal float64, above 2**-1022.
    exponent = np.maximum(np.frexp(np.abs(table).max(axis=0))[1], -960)
    grid = np.ldexp(1.0, exponent + len(table).bit_length() - 53)
    return np.asarray(np.rint(table / grid) * grid)
