"""The worth of a synthetic set: the quality of recommenders trained on it, on users who were kept out.

Each recommender is trained three times, on the real users, on the synthetic users and on both, and recommends to kept-out
users from most of their items; the rest is held out. That is the usual test of synthetic data (train on synthetic, test on
real: Esteban, Hyland and Rätsch 2017, arXiv 1706.02633), compared with training on real data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from unblur.audit.attacks.attack import sentence
from unblur.audit.findings import (
    FEWEST_USERS,
    Conclusion,
    Finding,
    Gate,
    Gates,
    Unmeasured,
    attempted,
    too_few,
)
from unblur.data.interactions import Interactions
from unblur.evaluation.metrics import PerUser
from unblur.evaluation.protocol import RankingProtocol
from unblur.evaluation.report import Measurement
from unblur.models.linear.ease import EASE
from unblur.models.linear.factors import TruncatedSVD
from unblur.models.popularity import Popularity
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams
from unblur.recommender import RecommenderSpec
from unblur.synthesis.utility.protocol import Rated, detached, hold_out, measurements_of, stacked

CUTOFF = 10
"""The length of the lists, or the number of items if that is smaller."""
HELD_OUT = 0.2
"""The share of each user's items that is held out, rounded up: that of the SDRM paper."""
METRICS = ("capped_recall", "ndcg")
"""Hits / min(k, relevant), and NDCG."""
REAL, SYNTHETIC, BOTH = "real", "synthetic", "both"
RANK = 20
"""The rank of the truncated SVD: that of the SDRM paper, unless the sets are smaller."""
MOST_ITEMS = 5000
"""The largest catalogue for EASE, whose memory grows with its square (5,000² float64 are 200 MB)."""


@dataclass(frozen=True, kw_only=True)
class Worth:
    """One metric of one recommender by its training users: means over kept-out users, with 95 % intervals."""

    recommender: str
    """The kind, with a number from the second of a kind on."""
    metric: str
    """Such as ``capped_recall@10``."""
    real: Measurement
    synthetic: Measurement
    both: Measurement
    """Trained on real and synthetic users together."""
    lost: Measurement
    """Synthetic − real, over the same users: the loss by synthetic users in place of the real ones."""
    gained: Measurement
    """Both − real: the gain by synthetic users in addition to the real ones."""

    @property
    def share(self) -> float:
        """synthetic / real; 1 if the latter is 0, which no gate passes."""
        return self.synthetic.value / self.real.value if self.real.value else 1.0


def taught_recommenders(train: Interactions, synthetic: Interactions) -> tuple[RecommenderSpec, ...]:
    """Popularity, a truncated SVD, and EASE unless the catalogue is too large for it."""
    fewest = min(int((part.user_degrees > 0).sum()) for part in (train, synthetic))
    rank = min(RANK, train.n_items - 1, fewest - 1)
    return (
        Popularity(),
        *([TruncatedSVD(rank=rank)] if rank > 0 else []),
        *([EASE()] if train.n_items <= MOST_ITEMS else []),
    )


def worth(
    train: Interactions,
    synthetic: Interactions,
    holdout: Interactions,
    recommenders: Sequence[RecommenderSpec],
    *,
    users: int | None = None,
    resamples: int = 1000,
    rng: RNG | None = None,
    progress: Progress = silent,
) -> tuple[tuple[Worth, ...], Mapping[str, Unmeasured]]:
    """Train each recommender on `train`, on `synthetic` and on both, and test it on users of `holdout`.

    The three sets have the same items. Test users are those of the holdout with two items or more, at most `users` random
    ones; they are in no training. Returns the figures, and by name the recommenders that cannot be trained on one of the sets;
    both are empty if there are no test users.
    """
    generators = streams(rng, "users", "items", "fit", "bootstrap")
    tested = np.flatnonzero(holdout.user_degrees > 1)
    if not len(tested):
        return (), {}
    if users is not None and len(tested) > users:
        tested = np.sort(generators["users"].choice(tested, size=users, replace=False))
    test_users = holdout.take_users(tested)
    histories, held_out = hold_out(Rated(test_users, test_users), HELD_OUT, False, generators["items"])
    training_sets = {REAL: train, SYNTHETIC: synthetic, BOTH: stacked([train, synthetic])}
    protocol = RankingProtocol(cutoffs=(min(CUTOFF, train.n_items),), metrics=METRICS, resamples=0)

    def arms_of(spec: RecommenderSpec) -> dict[str, PerUser]:
        """The values of the test users by arm."""
        arms = {}
        for name, rows in training_sets.items():
            model = spec.fit(rows, rng=int(generators["fit"].integers(2**31)))
            split = detached(rows, histories.liked, held_out.liked, "utility")
            ranking = protocol.rank(model, split, exclude=split.histories)
            arms[name] = protocol.measure(ranking, split).per_user
        return arms

    worths: list[Worth] = []
    unmeasured: dict[str, Unmeasured] = {}
    for index, spec in enumerate(recommenders):
        progress(ProgressEvent("utility", index, len(recommenders)))
        n_before = [earlier.kind for earlier in recommenders[:index]].count(spec.kind)
        name = f"{spec.kind} {n_before + 1}" if n_before else spec.kind
        arms = attempted(partial(arms_of, spec))
        if isinstance(arms, Unmeasured):
            unmeasured[name] = arms
            continue
        measurements = measurements_of(
            [arms], compared=arms[REAL].names, resamples=resamples, rng=generators["bootstrap"]
        )
        worths += [_worth(name, metric, measurements) for metric in arms[REAL].names]
    progress(ProgressEvent("utility", len(recommenders), len(recommenders)))
    return tuple(worths), unmeasured


def best_on_real(utility: Sequence[Worth]) -> Worth | None:
    """The recall of the recommender that is best when trained on real users; `None` if nothing was measured."""
    recalls = [entry for entry in utility if entry.metric.startswith(METRICS[0])]
    return max(recalls, key=lambda entry: entry.real.value, default=None)


def utility_conclusions(utility: Sequence[Worth], limits: Gates) -> Iterator[Conclusion]:
    """Compare training on synthetic and on real users, for the recommender best on real users; gate `min_utility`."""
    best, limit = best_on_real(utility), limits.min_utility
    if best is None:
        reason = "utility was not measured: that needs a holdout and recommenders to train"
        yield Gate("min_utility", False, reason)
        return
    n_users = best.real.n_users
    if not best.real.value:
        reason = "utility cannot be measured: trained on the real users, no recommender has a hit either"
        yield Finding("unmeasured", "utility", f"{sentence(reason)}, on {n_users:,} users who were kept out.")
        yield Gate("min_utility", False, reason)
        return
    text = (
        f"Trained on the synthetic users, a recommender ({best.recommender}) has a recall of {best.synthetic.value:.1%} in its "
        f"top {best.metric.partition('@')[2]}; trained on the real users, {best.real.value:.1%}. The ratio is "
        f"{best.share:.0%}, on {n_users:,} users who were kept out."
    )
    low, high = best.gained.low, best.gained.high
    if low is not None and high is not None:
        verdict = "no difference was found" if low <= 0 <= high else "better" if low > 0 else "worse"
        text += (
            f" Trained on both, compared with the real users alone: {verdict} ({best.gained.value:+z.4f}, {low:+z.4f} to "
            f"{high:+z.4f})."
        )
    yield Finding("note", "utility", text)
    if n_users < FEWEST_USERS:
        few = too_few(FEWEST_USERS, "kept-out users with two items or more", n_users)
        yield Gate("min_utility", False, f"utility {few.reason}")
    elif limit is not None:
        yield Gate(
            "min_utility",
            best.share >= limit,
            f"trained on synthetic users, {best.recommender} reaches {best.share:.0%} of its {best.metric} on real ones "
            f"({best.synthetic.value:.4f} of {best.real.value:.4f}, on {n_users:,} users); the limit is {limit:.0%}",
            best.share,
            limit,
        )


def _worth(recommender: str, metric: str, measured: Sequence[Measurement]) -> Worth:
    values = {entry.name: entry for entry in measured}
    return Worth(
        recommender=recommender,
        metric=metric,
        real=values[f"{REAL} {metric}"],
        synthetic=values[f"{SYNTHETIC} {metric}"],
        both=values[f"{BOTH} {metric}"],
        lost=_negated(values[f"{REAL} − {SYNTHETIC} {metric}"], f"{SYNTHETIC} − {REAL} {metric}"),
        gained=_negated(values[f"{REAL} − {BOTH} {metric}"], f"{BOTH} − {REAL} {metric}"),
    )


def _negated(difference: Measurement, name: str) -> Measurement:
    low, high = (None if end is None else -end for end in (difference.high, difference.low))
    return replace(difference, name=name, value=-difference.value, low=low, high=high)
