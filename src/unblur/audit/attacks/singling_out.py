"""Singling out: do k items that just one synthetic user has together point at just one real person?

The attacker holds the synthetic set only. They look for k items that exactly one synthetic user has together, and
claim that exactly one person in the training data has them. The claim is right where that is so. The same claims
are held against as many users who were not in training (control): rare combinations are rare everywhere. The naive
baseline makes its claims of items drawn by popularity. After Giomi et al. (Anonymeter, PoPETs 2023), for sets of items.

Claims are not independent: somebody with many items is in many of them, and decides them together. Intervals are
therefore those of a jackknife over real users.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.audit.attacks.guesses import Guesses
from unblur.audit.attacks.membership import drawn
from unblur.audit.attacks.rates import FEWEST_USERS, Share, Unmeasured, too_few
from unblur.audit.attacks.samples import Samples
from unblur.randomness import RNG, streams

KNOWN_ITEMS = (2, 3, 5)
"""The numbers of items in a claim."""
FEWEST_CLAIMS = 50
_ROUNDS = 8


def singling_out(
    samples: Samples, k: int, *, claims: int = 2_000, rng: RNG | None = None
) -> Guesses | Unmeasured:
    """How often claims of `k` items single out a training user; up to `claims` of them."""
    chance = streams(rng, "claims", "baseline", "train", "holdout")
    synthetic, train = samples.synthetic.matrix, samples.train.matrix
    made = _claims(synthetic, k, claims, chance["claims"])
    if len(made) < FEWEST_CLAIMS:
        return Unmeasured(
            f"cannot be measured: needs at least {FEWEST_CLAIMS} sets of {k} items that just one synthetic user has; "
            f"there are {len(made)}"
        )
    control: Share | Unmeasured = Unmeasured(
        "cannot be measured: needs users who were not in training (a holdout); none were given"
    )
    if samples.holdout is not None:
        # Of equally many users, because a larger crowd has fewer people who stand alone.
        size = min(train.shape[0], samples.holdout.n_users)
        if size < FEWEST_USERS:
            control = too_few(FEWEST_USERS, "users of each kind, learned from and not", size)
        else:
            train = train[drawn(train.shape[0], size, chance["train"])]
            apart = samples.holdout.matrix[drawn(samples.holdout.n_users, size, chance["holdout"])]
            control = _right(made, apart)
    popularity = np.bincount(synthetic.indices, minlength=synthetic.shape[1]).astype(np.float64)
    return Guesses(
        attack=_right(made, train),
        control=control,
        baseline=_right(_by_popularity(popularity, k, len(made), chance["baseline"]), train),
    )


def _claims(rows: sparse.csr_array, k: int, wanted: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Distinct sets of `k` items that exactly one row has together, (n, k), n at most `wanted`."""
    able = np.flatnonzero(np.diff(rows.indptr) >= k)
    found = np.empty((0, k), dtype=np.int64)
    for _ in range(_ROUNDS if len(able) else 0):
        owners = random.choice(able, size=wanted)
        starts, lengths = rows.indptr[owners], np.diff(rows.indptr)[owners]
        tried = np.sort(_picks(rows, starts, lengths, k, random), axis=1)
        found = np.unique(np.concatenate([found, tried[_holders(tried, rows) == 1]]), axis=0)
        if len(found) >= wanted:
            break
    return found[random.permutation(len(found))[:wanted]]


def _picks(
    rows: sparse.csr_array,
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    k: int,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """`k` different items of each row, at random (Floyd's sampling, all rows at once)."""
    chosen = np.empty((len(starts), k), dtype=np.int64)
    for at in range(k):
        upper = lengths.astype(np.int64) - k + at
        place = (random.random(len(starts)) * (upper + 1)).astype(np.int64)
        taken = (chosen[:, :at] == place[:, None]).any(axis=1)
        chosen[:, at] = np.where(taken, upper, place)
    return np.asarray(rows.indices[starts[:, None] + chosen], dtype=np.int64)


def _by_popularity(
    popularity: NDArray[np.float64], k: int, n: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """`n` sets of `k` different items, drawn by popularity (Gumbel top-k over the items that anybody has)."""
    items = np.flatnonzero(popularity)
    weights = np.log(popularity[items])
    made = np.empty((n, min(k, len(items))), dtype=np.int64)
    step = max(1, (1 << 22) // len(items))
    for start in range(0, n, step):
        keys = weights + random.gumbel(size=(min(step, n - start), len(items)))
        made[start : start + step] = items[
            np.argpartition(-keys, made.shape[1] - 1, axis=1)[:, : made.shape[1]]
        ]
    return made


def _holders(claims: NDArray[np.int64], rows: sparse.csr_array) -> NDArray[np.int64]:
    """How many rows have all items of each claim."""
    return _held(claims, rows)[0]


def _held(claims: NDArray[np.int64], rows: sparse.csr_array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many rows have all items of each claim, and how many more claims just one row has without each row."""
    n, k = claims.shape
    asked = sparse.csr_array(
        (np.ones(n * k, dtype=np.float32), claims.ravel(), np.arange(0, n * k + 1, k)),
        shape=(n, rows.shape[1]),
    )
    turned = rows.T.tocsr()
    counts, gained = np.zeros(n, dtype=np.int64), np.zeros(rows.shape[0], dtype=np.int64)
    step = max(1, (1 << 22) // max(1, rows.shape[0]))
    for start in range(0, n, step):
        shared = asked[start : start + step] @ turned
        owner = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr))
        whole = shared.data == k
        found = np.bincount(owner[whole], minlength=shared.shape[0])
        counts[start : start + step] = found
        of_claim, holder = found[owner[whole]], shared.indices[whole]
        for times, sign in ((2, 1), (1, -1)):
            gained += sign * np.bincount(holder[of_claim == times], minlength=len(gained))
    return counts, gained


def _right(claims: NDArray[np.int64], rows: sparse.csr_array) -> Share:
    """The share of claims that just one row has; its design effect from the jackknife over rows."""
    counts, gained = _held(claims, rows)
    hits, n, users = int((counts == 1).sum()), len(claims), len(gained)
    independent = hits * (n - hits) / n
    varied = float(gained.var()) * (users - 1)
    return Share(hits, n, max(1.0, varied / independent) if independent else 1.0)
