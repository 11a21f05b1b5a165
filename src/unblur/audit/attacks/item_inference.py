"""Inference of a held-out item: what does the synthetic set say about the one item that an attacker does not know?

The attacker knows all items of a person but one, takes the synthetic users most like them, and guesses the item that
these have most, each counted by its Jaccard similarity. The naive baseline guesses the most popular item that the
person is not known to have. The control is the same attack on users who were not in training: what is right about
them too is recommendation, not leakage.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.audit.attacks.guesses import Guesses
from unblur.audit.attacks.membership import drawn
from unblur.audit.attacks.neighbours import closest
from unblur.audit.attacks.rates import FEWEST_USERS, Share, Unmeasured, too_few
from unblur.audit.attacks.samples import Samples
from unblur.randomness import RNG, streams

NEIGHBOURS = 10
"""From how many synthetic users an item is guessed."""


def item_inference(
    samples: Samples, *, users: int | None = 2_000, rng: RNG | None = None
) -> Guesses | Unmeasured:
    """How often the hidden item of a member is guessed; on up to `users` members and outsiders with two items or more."""
    chance = streams(rng, "members", "outsiders", "hidden of members", "hidden of outsiders")
    synthetic = samples.synthetic.matrix
    members = _targets(samples.train.matrix, users, chance["members"])
    if members.shape[0] < FEWEST_USERS:
        return too_few(FEWEST_USERS, "members with two items or more", int(members.shape[0]))
    known, hidden = _hide(members, chance["hidden of members"])
    popularity = np.bincount(synthetic.indices, minlength=synthetic.shape[1])
    control: Share | Unmeasured = Unmeasured(
        "cannot be measured: needs users who were not in training (a holdout); none were given"
    )
    if samples.holdout is not None:
        outsiders = _targets(samples.holdout.matrix, users, chance["outsiders"])
        if outsiders.shape[0] < FEWEST_USERS:
            control = too_few(
                FEWEST_USERS, "users with two items or more who were not in training", int(outsiders.shape[0])
            )
        else:
            control = _attacked(*_hide(outsiders, chance["hidden of outsiders"]), synthetic)
    return Guesses(
        attack=_attacked(known, hidden, synthetic),
        control=control,
        baseline=_share(_most_popular(known, popularity), hidden),
    )


def _targets(matrix: sparse.csr_array, users: int | None, random: np.random.Generator) -> sparse.csr_array:
    able = np.flatnonzero(np.diff(matrix.indptr) >= 2)
    return matrix[able[drawn(len(able), users, random)]]


def _hide(rows: sparse.csr_array, random: np.random.Generator) -> tuple[sparse.csr_array, NDArray[np.int64]]:
    """The rows without one random item each, and that item, (n_rows,)."""
    lengths = np.diff(rows.indptr)
    entry = rows.indptr[:-1] + (random.random(len(lengths)) * lengths).astype(np.int64)
    kept = np.ones(rows.nnz, dtype=bool)
    kept[entry] = False
    indptr = np.concatenate(([0], np.cumsum(lengths - 1)))
    known = sparse.csr_array((rows.data[kept], rows.indices[kept], indptr), shape=rows.shape)
    return known, np.asarray(rows.indices[entry], dtype=np.int64)


def _attacked(known: sparse.csr_array, hidden: NDArray[np.int64], synthetic: sparse.csr_array) -> Share:
    votes = closest(known, synthetic, NEIGHBOURS) @ synthetic
    votes = sparse.csr_array(votes - votes.multiply(known))
    votes.eliminate_zeros()
    votes.sort_indices()
    guess = np.full(known.shape[0], -1, dtype=np.int64)
    owner = np.repeat(np.arange(known.shape[0]), np.diff(votes.indptr))
    order = np.lexsort((votes.indices, -votes.data, owner))
    some = np.flatnonzero(np.diff(votes.indptr))
    guess[some] = votes.indices[order[votes.indptr[some]]]
    return _share(guess, hidden)


def _most_popular(known: sparse.csr_array, popularity: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most popular item that each row does not have, (n_rows,)."""
    rank = np.empty(len(popularity), dtype=np.int64)
    order = np.argsort(-popularity, kind="stable")
    rank[order] = np.arange(len(order))
    owner = np.repeat(np.arange(known.shape[0]), np.diff(known.indptr))
    ranks = rank[known.indices]
    in_order = np.lexsort((ranks, owner))
    place = np.arange(len(ranks)) - np.repeat(known.indptr[:-1], np.diff(known.indptr))
    # A row's items fill the ranks 0, 1, 2, … up to the first that is missing.
    filled = np.bincount(owner[ranks[in_order] == place], minlength=known.shape[0])
    return np.asarray(order[np.minimum(filled, len(order) - 1)], dtype=np.int64)


def _share(guess: NDArray[np.int64], hidden: NDArray[np.int64]) -> Share:
    return Share(int((guess == hidden).sum()), len(hidden))
