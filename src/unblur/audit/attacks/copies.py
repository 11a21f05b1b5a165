"""Copies: synthetic users who are, or nearly are, real ones; and how near the two sets are, beside two real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.audit.attacks.membership import drawn
from unblur.audit.attacks.neighbours import nearness
from unblur.audit.attacks.rates import Share, Unmeasured
from unblur.audit.attacks.samples import Samples, row_hashes
from unblur.progress import Progress, silent
from unblur.randomness import RNG, streams

LONG_ROW = 5
"""From so many items on an equal row is counted as a copy; short rows are equal by chance."""
NEAR = 0.9
"""A Jaccard similarity from which on a row is a near copy."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Synthetic users with just the items of a training user, and such users of the holdout beside them."""

    exact: Share
    """Of all synthetic users, those with the very items of a training user."""
    exact_long: Share
    """The same, counting only copies with at least `LONG_ROW` items."""
    near: Share | Unmeasured
    """Of synthetic users looked at with at least `LONG_ROW` items, those with a Jaccard similarity of at least
    `NEAR` to a training user."""
    holdout_exact: Share | Unmeasured
    """Of the holdout users, those with the very items of a training user: what chance alone does."""
    holdout_near: Share | Unmeasured


@dataclass(frozen=True, kw_only=True)
class Distances:
    """How far synthetic users are from training users and from equally many holdout users.

    Secondary, and no evidence of privacy: a set can be far from all of train and still give members away.
    """

    nearest_to_train: tuple[float, ...]
    """The 5, 25, 50, 75 and 95 % quantiles of the Jaccard distance to the nearest training user."""
    nearest_to_holdout: tuple[float, ...] | Unmeasured
    nearer_to_train: Share | Unmeasured
    """Of synthetic users that are nearer to one of the two sets, those nearer to train; one half is no preference."""
    ties: float | None
    """The share of synthetic users that are as near to both."""
    dissimilarity: float
    """The mean Jaccard distance over all pairs of a synthetic and a training user: what Lilienthal et al. (2024)
    report as about 99 %. Two unrelated real samples have as much."""
    holdout_dissimilarity: float | None
    """The same of holdout users against training users."""
    n_users: int
    """On how many synthetic users this rests."""


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def copies(
    samples: Samples, *, users: int | None = 10_000, rng: RNG | None = None, progress: Progress = silent
) -> tuple[Copies, Distances]:
    """Exact copies among all synthetic users; near copies and distances on at most `users` of them."""
    train, synthetic = samples.train.matrix, samples.synthetic.matrix
    chance = streams(rng, "synthetic", "train", "holdout")
    looked_at = synthetic[drawn(synthetic.shape[0], users, chance["synthetic"])]
    same, long_same = _equal_rows(synthetic, train)
    to_train = nearness(looked_at, train, progress=progress, stage="copies: nearest training users")
    near = _near_share(looked_at, to_train.nearest)
    missing = Unmeasured(
        "cannot be measured: needs users who were not in training (a holdout); none were given"
    )
    n = int(synthetic.shape[0])
    if samples.holdout is None:
        found = Copies(
            exact=Share(same, n),
            exact_long=Share(long_same, n),
            near=near,
            holdout_exact=missing,
            holdout_near=missing,
        )
        distances = Distances(
            nearest_to_train=_quantiles(1 - to_train.nearest),
            nearest_to_holdout=missing,
            nearer_to_train=missing,
            ties=None,
            dissimilarity=float(1 - to_train.mean.mean()),
            holdout_dissimilarity=None,
            n_users=int(looked_at.shape[0]),
        )
        return found, distances
    holdout = samples.holdout.matrix
    apart = holdout[drawn(holdout.shape[0], users, chance["holdout"])]
    control = nearness(apart, train, progress=progress, stage="copies: holdout beside training users")
    found = Copies(
        exact=Share(same, n),
        exact_long=Share(long_same, n),
        near=near,
        holdout_exact=Share(_equal_rows(holdout, train)[0], int(holdout.shape[0])),
        holdout_near=_near_share(apart, control.nearest),
    )
    # Of equally many users on both sides, else the larger set is the nearer one.
    size = min(train.shape[0], holdout.shape[0])
    some_train = train[drawn(train.shape[0], size, chance["train"])]
    some_holdout = holdout[drawn(holdout.shape[0], size, chance["holdout"])]
    near_train = nearness(looked_at, some_train, progress=progress, stage="distances: train").nearest
    near_holdout = nearness(looked_at, some_holdout, progress=progress, stage="distances: holdout").nearest
    decided = int((near_train != near_holdout).sum())
    return found, Distances(
        nearest_to_train=_quantiles(1 - near_train),
        nearest_to_holdout=_quantiles(1 - near_holdout),
        nearer_to_train=Share(int((near_train > near_holdout).sum()), decided)
        if decided
        else Unmeasured("cannot be measured: every synthetic user is as near to both sets"),
        ties=float((near_train == near_holdout).mean()),
        dissimilarity=float(1 - to_train.mean.mean()),
        holdout_dissimilarity=float(1 - control.mean.mean()),
        n_users=int(looked_at.shape[0]),
    )


def _equal_rows(rows: sparse.csr_array, others: sparse.csr_array) -> tuple[int, int]:
    """How many of `rows` are equal to one of `others`: all of them, and those of at least `LONG_ROW` items."""
    equal = np.isin(row_hashes(rows), row_hashes(others))
    return int(equal.sum()), int((equal & (np.diff(rows.indptr) >= LONG_ROW)).sum())


def _near_share(rows: sparse.csr_array, nearest: NDArray[np.float32]) -> Share | Unmeasured:
    long = np.diff(rows.indptr) >= LONG_ROW
    if not long.any():
        return Unmeasured(f"cannot be measured: needs users with at least {LONG_ROW} items; there are none")
    return Share(int((nearest[long] >= NEAR).sum()), int(long.sum()))


def _quantiles(values: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, QUANTILES))
