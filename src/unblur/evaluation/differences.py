"""Which differences between models chance does not explain: all pairs, over the same users, with Holm's correction."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from unblur.errors import DataError
from unblur.evaluation.significance import bootstrap_interval, holm
from unblur.randomness import RNG, streams

PERMUTATIONS = 10_000
LEVEL = 0.05
"""A pair differs where its adjusted p-value is below this."""
_CELLS = 1 << 21


@dataclass(frozen=True, slots=True)
class Difference:
    """Two models beside each other."""

    one: int
    other: int
    """Their places in the table."""
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
        """Whether chance does not explain it."""
        return self.adjusted < LEVEL


def differences(
    values: NDArray[np.float64],
    *,
    permutations: int = PERMUTATIONS,
    resamples: int = 1000,
    rng: RNG | None = None,
) -> list[Difference]:
    """Every pair of columns compared: values (n_users, n_models), one row a user, finite.

    Fisher's sign-flip test of the paired differences, as `unblur.evaluation.significance.paired_permutation_test`,
    where each random pattern of signs serves all pairs; then Holm's correction over all pairs. All pairs are tested,
    not the best model against the rest: the best was picked by the same numbers, and tests that forget it find too much.
    """
    if values.ndim != 2 or not len(values) or not bool(np.isfinite(values).all()):
        raise DataError(
            f"There must be finite values, one row a user and one column a model; saw shape {values.shape}. Leave users "
            "without a value out."
        )
    pairs = list(combinations(range(values.shape[1]), 2))
    if not pairs:
        return []
    random = streams(rng, "signs", "bootstrap")
    gaps = np.stack([values[:, one] - values[:, other] for one, other in pairs], axis=1)
    p_values = sign_flip_tests(gaps, permutations=permutations, rng=random["signs"])
    adjusted = holm(p_values)
    low = high = gaps.mean(axis=0)
    if resamples:
        low, high = bootstrap_interval(gaps, resamples=resamples, rng=random["bootstrap"])
    return [
        Difference(
            one,
            other,
            float(gap.mean()),
            float(low[at]),
            float(high[at]),
            float(p_values[at]),
            float(adjusted[at]),
        )
        for at, ((one, other), gap) in enumerate(zip(pairs, gaps.T, strict=True))
    ]


def sign_flip_tests(
    gaps: NDArray[np.float64], *, permutations: int = PERMUTATIONS, rng: RNG | None = None
) -> NDArray[np.float64]:
    """The two-sided p-value of "each sign could be the other" for each column of (n_users, n_pairs).

    Random patterns give (1 + as large) / (1 + permutations) (Phipson and Smyth, 2010). Sums closer to the observed one
    than rounding can tell apart count as large.
    """
    random = streams(rng, "signs")["signs"]
    moved = gaps[(gaps != 0).any(axis=1)]
    if not len(moved):
        return np.ones(gaps.shape[1])
    observed = np.abs(moved.sum(axis=0))
    threshold = observed - 1e-12 * np.abs(moved).sum(axis=0)
    n_users = len(moved)
    as_large = np.zeros(gaps.shape[1], dtype=np.int64)
    step = max(1, _CELLS // n_users)
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        coins = np.frombuffer(random.bytes(rows * -(-n_users // 8)), dtype=np.uint8).reshape(rows, -1)
        flipped = np.unpackbits(coins, axis=1, count=n_users).astype(np.float64)
        # Σ ±d = Σ d − 2·Σ over the flipped ones
        sums = moved.sum(axis=0) - 2.0 * (flipped @ moved)
        as_large += np.count_nonzero(np.abs(sums) >= threshold, axis=0)
    return np.asarray((1 + as_large) / (1 + permutations))
