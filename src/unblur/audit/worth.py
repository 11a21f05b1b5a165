"""The worth of a synthetic set: how much recommenders that learned from it find of users who were kept out.

Each recommender learns three times, from the real users, from the synthetic ones and from both, and is shown most of each
kept-out user's items; the rest it must find again. That is the usual test of synthetic data (train on synthetic, test on
real: Esteban, Hyland and Rätsch 2017, arXiv 1706.02633), with what real data give beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unblur.audit.attacks.attack import sentence
from unblur.audit.findings import FEWEST_USERS, Conclusion, Finding, Gate, Gates, too_few
from unblur.data.interactions import Interactions
from unblur.evaluation.protocol import RankingProtocol
from unblur.evaluation.report import Measurement
from unblur.models.linear.ease import EASE
from unblur.models.linear.factors import TruncatedSVD
from unblur.models.popularity import Popularity
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams
from unblur.recommender import RecommenderSpec
from unblur.synthesis.utility.protocol import Rated, detached, measurements_of, shown_and_hidden, stacked

CUTOFF = 10
"""The length of the lists, where there are as many items."""
HELD_OUT = 0.2
"""The share of each user's items that must be found again, rounded up."""
METRICS = ("capped_recall", "ndcg")
"""Hits / min(k, relevant), and NDCG."""
REAL, SYNTHETIC, BOTH = "real", "synthetic", "both"
RANK = 20
"""Of the decomposition that is taught: that of the SDRM paper, where the sets allow it."""
MOST_ITEMS = 5000
"""The largest catalogue that EASE is taught on, whose memory grows with its square."""


@dataclass(frozen=True, kw_only=True)
class Worth:
    """One metric of one recommender, by whom it learned from: means over kept-out users, with 95 % intervals."""

    recommender: str
    """Its kind, and of several of a kind its number from the second on."""
    metric: str
    """``capped_recall@10``, say."""
    real: Measurement
    synthetic: Measurement
    both: Measurement
    """From real and synthetic users together."""
    lost: Measurement
    """Synthetic − real, over the same users: what is lost with synthetic users in place of the real ones."""
    gained: Measurement
    """Both − real: what synthetic users add to the real ones."""

    @property
    def share(self) -> float:
        """How much of what real users teach synthetic ones do; 1 where real ones teach nothing, which no gate passes."""
        return self.synthetic.value / self.real.value if self.real.value else 1.0


def taught_recommenders(train: Interactions, synthetic: Interactions) -> tuple[RecommenderSpec, ...]:
    """Popularity, a decomposition, and EASE where the catalogue is not too large for it."""
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
) -> tuple[Worth, ...]:
    """Each recommender taught by `train`, by `synthetic` and by both, and tested on users of `holdout`.

    The three sets have the same items. Of the holdout those with two items or more are tested, at most `users` random
    ones of them; none of them teaches. Nothing is measured where there are none.
    """
    generators = streams(rng, "users", "items", "fit", "bootstrap")
    tested = np.flatnonzero(holdout.user_degrees > 1)
    if not len(tested):
        return ()
    if users is not None and len(tested) > users:
        tested = np.sort(generators["users"].choice(tested, size=users, replace=False))
    people = holdout.take_users(tested)
    shown, hidden = shown_and_hidden(Rated(people, people), HELD_OUT, False, generators["items"])
    taught = {REAL: train, SYNTHETIC: synthetic, BOTH: stacked([train, synthetic])}
    protocol = RankingProtocol(cutoffs=(min(CUTOFF, train.n_items),), metrics=METRICS, resamples=0)
    worths = []
    for place, spec in enumerate(recommenders):
        progress(ProgressEvent("utility", place, len(recommenders)))
        arms = {}
        for name, rows in taught.items():
            model = spec.fit(rows, rng=int(generators["fit"].integers(2**31)))
            judged = detached(rows, shown.liked, hidden.liked, "utility")
            ranking = protocol.rank(model, judged, exclude=judged.histories)
            arms[name] = protocol.measure(ranking, judged).per_user
        measurements = measurements_of(
            [arms], compared=arms[REAL].names, resamples=resamples, rng=generators["bootstrap"]
        )
        alike = [other.kind for other in recommenders[:place]].count(spec.kind)
        name = f"{spec.kind} {alike + 1}" if alike else spec.kind
        worths += [_worth(name, metric, measurements) for metric in arms[REAL].names]
    progress(ProgressEvent("utility", len(recommenders), len(recommenders)))
    return tuple(worths)


def best_taught(utility: Sequence[Worth]) -> Worth | None:
    """Recall of the recommender that real users teach most; `None` where nothing was measured."""
    recalls = [entry for entry in utility if entry.metric.startswith(METRICS[0])]
    return max(recalls, key=lambda entry: entry.real.value, default=None)


def utility_conclusions(utility: Sequence[Worth], limits: Gates) -> Iterator[Conclusion]:
    """Compare what synthetic and real users teach the recommender that real users teach most; gate `min_utility`."""
    best, limit = best_taught(utility), limits.min_utility
    if best is None:
        missing = "what the set teaches was not measured: that takes a holdout and recommenders to teach"
        yield Gate("min_utility", False, missing)
        return
    tested = best.real.n_users
    if not best.real.value:
        reason = "what the set teaches cannot be measured: real users teach no recommender anything either"
        yield Finding("unmeasured", f"{sentence(reason)}, on {tested:,} users who were kept out.")
        yield Gate("min_utility", False, reason)
        return
    text = (
        f"A recommender ({best.recommender}) that learned from the synthetic users finds {best.synthetic.value:.1%} of what it "
        f"should among its best {best.metric.partition('@')[2]}, one that learned from the real users "
        f"{best.real.value:.1%}: {best.share:.0%} of that, on {tested:,} users who were kept out."
    )
    low, high = best.gained.low, best.gained.high
    if low is not None and high is not None:
        words = "no difference was found" if low <= 0 <= high else "better" if low > 0 else "worse"
        text += f" With synthetic users beside the real ones: {words} ({best.gained.value:+.4f}, {low:+.4f} to {high:+.4f})."
    yield Finding("note", text)
    if tested < FEWEST_USERS:
        few = too_few(FEWEST_USERS, "kept-out users with two items or more", tested)
        yield Gate("min_utility", False, f"what the set teaches {few.reason}")
    elif limit is not None:
        yield Gate(
            "min_utility",
            best.share >= limit,
            f"{best.recommender} learns {best.share:.0%} of what real users teach it ({best.metric} "
            f"{best.synthetic.value:.4f} of {best.real.value:.4f}, on {tested:,} users); the limit is {limit:.0%}",
        )


def _worth(recommender: str, metric: str, measured: Sequence[Measurement]) -> Worth:
    values = {entry.name: entry for entry in measured}
    return Worth(
        recommender=recommender,
        metric=metric,
        real=values[f"{REAL} {metric}"],
        synthetic=values[f"{SYNTHETIC} {metric}"],
        both=values[f"{BOTH} {metric}"],
        lost=_reversed(values[f"{REAL} − {SYNTHETIC} {metric}"], f"{SYNTHETIC} − {REAL} {metric}"),
        gained=_reversed(values[f"{REAL} − {BOTH} {metric}"], f"{BOTH} − {REAL} {metric}"),
    )


def _reversed(difference: Measurement, name: str) -> Measurement:
    low, high = (None if end is None else -end for end in (difference.high, difference.low))
    return replace(difference, name=name, value=-difference.value, low=low, high=high)
