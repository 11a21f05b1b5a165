"""Membership inference: can an attacker who holds the synthetic set tell whether a person was in the training data?

The attacker knows all items of a person and gives a score, higher for "was in training". Members are training
users, outsiders are users of the same kind who were kept out. An attacker that learns nothing has an area under
the ROC curve of one half. The density ratio is that of van Breugel et al. (Membership Inference Attacks against
Synthetic Data through Overfitting Detection, AISTATS 2023), with a kernel for sets.

Attackers with a reference hold other real users as well. The holdout is cut in two: half of the members and one
half of the outsiders are scored with the other half as the reference, and the other way round, so that nobody is
compared with a reference that holds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.audit.attacks.neighbours import Nearness, nearness
from unblur.audit.attacks.pairs import pair_log_share, rarest_items
from unblur.audit.attacks.rates import FEWEST_USERS, Area, Catch, Unmeasured, area, catch, roc_points, too_few
from unblur.audit.attacks.samples import Samples
from unblur.progress import Progress, silent
from unblur.randomness import RNG, streams

RATES = (0.01, 0.001)
"""The false-positive rates at which true positives are counted."""
ATTACKERS: Mapping[str, str] = MappingProxyType(
    {
        "nearest row": "Jaccard similarity of the person to the nearest synthetic user",
        "nearest row, relative": "the same, less the similarity to the nearest user of a reference",
        "density ratio": "how many synthetic users are close to the person, against a reference",
        "item likelihood": "how likely the person's items are by the item frequencies of the synthetic set, "
        "against those of a reference",
        "item pairs": "how usual the pairs of the person's items are in the synthetic set, against a reference",
    }
)
"""The attackers, and what each one's score is."""


@dataclass(frozen=True, kw_only=True)
class Membership:
    """How well one attacker tells members from outsiders."""

    attacker: str
    """A name of `ATTACKERS`."""
    auc: Area | Unmeasured
    catches: tuple[Catch | Unmeasured, ...]
    """True positives at each of `RATES`."""
    roc: tuple[tuple[float, float], ...] = ()
    """Points (false-positive rate, true-positive rate); none where nothing could be measured."""


def membership(
    samples: Samples, *, users: int | None = 10_000, rng: RNG | None = None, progress: Progress = silent
) -> tuple[Membership, ...]:
    """Every attacker on at most `users` random members and outsiders each (`None`: all of them)."""
    if samples.holdout is None:
        missing = Unmeasured(
            "cannot be measured: needs users who were not in training (a holdout); none were given"
        )
        return tuple(_unmeasured(name, missing) for name in ATTACKERS)
    n_outsiders = samples.holdout.n_users
    for size, what in ((samples.train.n_users, "members"), (n_outsiders, "users who were not in training")):
        if size < FEWEST_USERS:
            return tuple(_unmeasured(name, too_few(FEWEST_USERS, what, size)) for name in ATTACKERS)
    chance = streams(rng, "members", "outsiders")
    members = drawn(samples.train.n_users, users, chance["members"])
    outsiders = drawn(n_outsiders, users, chance["outsiders"])
    scores = _scores(samples, samples.holdout.matrix, members, outsiders, progress)
    return tuple(judged(name, score[: len(members)], score[len(members) :]) for name, score in scores.items())


def judged(attacker: str, members: NDArray[np.float64], outsiders: NDArray[np.float64]) -> Membership:
    """What the scores of an attacker are worth; one score a user, higher for "was in training"."""
    return Membership(
        attacker=attacker,
        auc=area(members, outsiders),
        catches=tuple(catch(members, outsiders, rate) for rate in RATES),
        roc=roc_points(members, outsiders),
    )


def drawn(n: int, most: int | None, random: np.random.Generator) -> NDArray[np.int64]:
    """At most `most` of the positions 0 … n − 1, at random, in random order."""
    order: NDArray[np.int64] = random.permutation(n)
    return order if most is None else order[:most]


def _unmeasured(attacker: str, reason: Unmeasured) -> Membership:
    return Membership(attacker=attacker, auc=reason, catches=(reason,) * len(RATES))


def _scores(
    samples: Samples,
    holdout: sparse.csr_array,
    members: NDArray[np.int64],
    outsiders: NDArray[np.int64],
    progress: Progress,
) -> dict[str, NDArray[np.float64]]:
    """Each attacker's scores, members first."""
    synthetic = samples.synthetic.matrix
    targets = sparse.csr_array(
        sparse.vstack([samples.train.matrix[members], holdout[outsiders]], format="csr")
    )
    near = nearness(targets, synthetic, progress=progress, stage="attack: nearest synthetic users")
    scores = {name: np.zeros(targets.shape[0]) for name in ATTACKERS}
    scores["nearest row"] = near.nearest.astype(np.float64)
    few = rarest_items(targets, np.bincount(synthetic.indices, minlength=synthetic.shape[1]))
    usual = pair_log_share(few, synthetic, progress=progress, stage="attack: item pairs")
    # Half of the holdout is a fold's reference: for outsiders the half that they are not in.
    rest = np.setdiff1d(np.arange(holdout.shape[0]), outsiders, assume_unique=True)
    second = np.zeros(holdout.shape[0], dtype=bool)
    second[outsiders[len(outsiders) // 2 :]] = True
    second[rest[len(rest) // 2 :]] = True
    fold = np.concatenate([np.arange(len(members)) % 2 == 1, second[outsiders]])
    for at, in_second in enumerate((False, True)):
        mine = np.flatnonzero(fold == in_second)
        reference = holdout[np.flatnonzero(second != in_second)]
        stage = f"attack: reference {at + 1} of 2"
        apart = nearness(targets[mine], reference, progress=progress, stage=stage)
        here = Nearness(near.nearest[mine], near.density[mine], near.mean[mine])
        scores["nearest row, relative"][mine] = here.nearest.astype(np.float64) - apart.nearest
        floor = 1e-6  # a density below that of one half-similar user in 4,000 says nothing
        scores["density ratio"][mine] = np.log((here.density + floor) / (apart.density + floor))
        scores["item likelihood"][mine] = _likelihood_ratio(targets[mine], synthetic, reference)
        scores["item pairs"][mine] = usual[mine] - pair_log_share(few[mine], reference)
    return scores


def _likelihood_ratio(
    targets: sparse.csr_array, rows: sparse.csr_array, reference: sparse.csr_array
) -> NDArray[np.float64]:
    """The log-likelihood ratio of each target, under independent items with the frequencies of either set."""
    logits, constant = np.zeros(targets.shape[1]), 0.0
    for part, sign in ((rows, 1.0), (reference, -1.0)):
        share = (np.bincount(part.indices, minlength=part.shape[1]) + 0.5) / (part.shape[0] + 1.0)
        logits += sign * (np.log(share) - np.log1p(-share))
        constant += sign * float(np.log1p(-share).sum())
    made: NDArray[np.float64] = targets @ logits + constant
    return made
