"""How the utility of synthetic users is measured (Lilienthal et al., IEEE Access 12, 2024, section 5).

Users are in disjoint groups: some teach, some stop trainings, some are judged. A recommender learns from an arm of synthetic
users, and must find again what is held out of those who are judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, field_validator
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.splits import Split
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, VocabularyMismatch
from unblur.evaluation.metrics import LIST_METRICS, PerUser, discount, metric_at, parse_metric
from unblur.evaluation.protocol import RankingProtocol
from unblur.evaluation.report import Measurement
from unblur.progress import Run
from unblur.randomness import RNG, generator, streams
from unblur.recommender import RecommenderSpec
from unblur.spec import replace_field, spec, spec_to_dict
from unblur.training.settings import Share


@spec
class Departures:
    """Where the authors' code departs from their paper, or from sense. All are off under the strict protocol.

    Those inside the model are settings of the model: `diffusion.noise_without_root`,
    `diffusion.tied_hidden_layers` and `diffusion.sampling_dropout`.
    """

    reported_users_stop: bool = False
    """The users that scores are reported on also end the training of the autoencoder, and of a downstream recommender
    that stops by others' held-out items. Off: a group of its own does."""
    dislikes_are_positives: bool = False
    """The downstream recommender learns from, and is shown, every observed pair, low ratings included. Off:
    likes alone."""
    learned_dislikes_are_negatives: bool = False
    """Where `dislikes_are_positives` is on: only low ratings of the histories are positives, while of the users who
    teach likes alone count. Off: of both."""
    dislikes_are_held_out: bool = False
    """The share that is held out is one of all observed items of a user, of which the liked ones count as
    relevant. Off: one of the liked items."""
    dislikes_are_relevant: bool = False
    """Where `dislikes_are_held_out` is on: every held-out item counts as relevant, whatever its rating. Off: liked
    ones."""
    legacy_generator: bool = False
    """What is held out is drawn by `numpy.random.RandomState` (MT19937) of `hold_out_seed`, user after user: the draw
    of the authors' code. Off: by numpy's default generator (PCG64)."""
    augment_is_replace: bool = False
    """What the authors' code does for SVD: with its augment flag too, the recommender learns from synthetic users
    and histories alone. Off: ``augment`` means what it says."""
    one_sample: bool = False
    """What the authors' code does for NeuMF: the column of multi-resolution sampling comes from the full
    resolution's sample. Off: each has its own."""
    zero_threshold: bool = False
    """What the published figures of NeuMF rest on, by all that is known: a synthetic user has every item with a score above
    0, which are half of all items, whatever the synthesizer's own rule. Off: that rule."""
    ideal_counts_dislikes: bool = False
    """What the authors' code does for NeuMF: the ideal of NDCG counts held-out items of any rating. Off: liked
    ones."""
    first_epoch: bool = False
    """What the authors' code does for NeuMF: the weights of the first epoch are scored. Off: the last's."""

    def in_force(self) -> tuple[str, ...]:
        """The names of those that are on."""
        return tuple(entry.name for entry in fields(self) if getattr(self, entry.name))


@spec(
    renamed={
        "compared": "metrics",
        "reported": "report_users",
        "searching": "search_users",
        "stopping": "stopping_users",
    }
)
class Utility:
    """Who teaches, who stops, who reports, and what the downstream recommender learns from."""

    mode: Literal["augment", "replace"] = "augment"
    """``augment``: the downstream recommender learns from real users, synthetic ones and histories of the reported
    users; ``replace``: from synthetic users and these histories."""
    learn: Annotated[tuple[str, ...], Field(min_length=1)] = ("train", "test")
    """The parts of the data whose users the synthesizer may learn from."""
    report: str = "valid"
    """The part whose users scores are reported on."""
    observed: str | None = "observed"
    """The reading of the data in which an interaction is a rating of any height. `None`: there are likes only."""
    report_users: Share = 0.1
    """The fraction of users that scores are reported on, if the data have no part of that name."""
    held_out: Share = 0.2
    """Which part of each reported user's items must be found again, rounded up; the rest is the history."""
    stopping_users: Share = 0.1
    """The fraction of the users of `learn` that stops the training of the autoencoder and of a downstream recommender that
    stops early, and does nothing else."""
    search_users: Share = 0.1
    """The fraction of them that a search is judged by; without a search they are learned from."""
    hold_out_seed: NonNegativeInt = 123
    """What is held out, and who is in which group, comes from this seed alone: it is the same in all runs."""
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("capped_recall@10",)
    """For which measurements the best run, the spread over runs, and paired differences are given."""
    departures: Departures = Departures()
    """Under the paper's protocol."""

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if parse_metric(name)[0] in LIST_METRICS:
                raise ValueError(f"{name} has no value for a user, so nothing can be paired. Name another.")
        return names


@dataclass(frozen=True, eq=False)
class Rated:
    """Users with what they liked, and with all that they are known to have met."""

    liked: Interactions
    observed: Interactions
    """The same users and items; every liked pair is among its pairs."""

    def __post_init__(self) -> None:
        VocabularyMismatch.unless(
            self.liked.users == self.observed.users
            and self.liked.items == self.observed.items
            and self.observed.contains(self.liked.rows(), self.liked.matrix.indices).all(),
            "Liked pairs must be among the observed ones, over the same users and items; some are not. Are the "
            "two readings of the same data?",
        )

    def take(self, rows: NDArray[np.intp]) -> Rated:
        """Some users, by position."""
        return Rated(self.liked.take_users(rows), self.observed.take_users(rows))

    def chosen(self, observed: bool) -> Interactions:
        """All observed pairs, or those liked."""
        return self.observed if observed else self.liked


@dataclass(frozen=True, eq=False)
class UserGroups:
    """Everybody in his or her role."""

    learned: Rated
    """Whom the synthesizer learns from; also the real users of the downstream recommender."""
    stopping: Split
    """What trainings stop by: likes, given in part and to be found again."""
    judged_stop: bool
    """Whether these are the users that are judged, so that a downstream recommender stops by them as well."""
    histories: Rated
    """What the downstream recommender is shown of the users that are judged."""
    held_out: Interactions
    """What it must find again: their liked items."""
    held_out_observed: Interactions
    """All that was held out of them, liked or not."""
    notes: tuple[str, ...]


def stacked(parts: Sequence[Interactions]) -> Interactions:
    """The rows of all parts, one below the other, over the same items; users are labelled 0, 1, 2, …."""
    items = parts[0].items
    VocabularyMismatch.unless(
        all(part.items == items for part in parts),
        "Rows can be put below each other where they are over the same items; these are not. Bring them onto "
        "one vocabulary with `.onto(items=…)`.",
    )
    return Interactions.from_matrix(sparse.vstack([part.matrix for part in parts], format="csr"), items=items)


def grouped(
    learnable: Rated,
    reported: Rated,
    utility: Utility,
    departures: Departures,
    *,
    judged: Literal["reported", "searching"] = "reported",
) -> UserGroups:
    """The groups that a protocol makes of two sets of users.

    Without the departure `reported_users_stop` the users to stop by are drawn from `learnable`, and so, with
    ``judged="searching"``, are those to judge by; neither are learned from then. The draw is the same whichever is
    judged. Raises `DataError` where a group has nobody with something held out.
    """
    random = streams(utility.hold_out_seed, "groups", "stopping", "searching")
    order = random["groups"].permutation(learnable.liked.n_users)
    n_stop, n_search = (
        max(1, round(share * len(order))) for share in (utility.stopping_users, utility.search_users)
    )
    stop, search = np.sort(order[:n_stop]), np.sort(order[n_stop : n_stop + n_search])
    searching = judged == "searching"
    own_group = searching or not departures.reported_users_stop
    teach = order[(n_stop if own_group else 0) + (n_search if searching else 0) :]
    DataError.unless(
        len(teach), f"Somebody must be left to learn from; of {len(order):,} users none is. Give more users."
    )
    learned = learnable.take(np.sort(teach))
    chance: np.random.Generator | np.random.RandomState
    if searching:
        subject, role, chance = learnable.take(search), "searched on", random["searching"]
    else:
        draw = np.random.RandomState if departures.legacy_generator else np.random.default_rng
        subject, role, chance = reported, "reported on", draw(utility.hold_out_seed)
    histories, held = shown_and_hidden(subject, utility.held_out, departures.dislikes_are_held_out, chance)
    if own_group:
        shown, hidden = shown_and_hidden(learnable.take(stop), utility.held_out, False, random["stopping"])
        stopping = Split(learned.liked, shown.liked, hidden.liked, "a group of its own")
    else:
        stopping = detached(learned.liked, histories.liked, held.liked, "the reported users")
    counts = f"{learned.liked.n_users:,} learned from, {stopping.histories.n_users:,} stopped by"
    return UserGroups(
        learned=learned,
        stopping=stopping,
        judged_stop=not own_group,
        histories=histories,
        held_out=held.liked,
        held_out_observed=held.observed,
        notes=(f"users: {counts} ({stopping.method}), {histories.liked.n_users:,} {role}",),
    )


def shown_and_hidden(
    users: Rated, fraction: float, of_observed: bool, chance: np.random.Generator | np.random.RandomState
) -> tuple[Rated, Rated]:
    """What is shown of each user, and what is not: a share, rounded up, of the observed or of the liked items."""
    base = users.chosen(of_observed)
    DataError.unless(base.n_interactions, "Users to judge by must have something; none has. Give others.")
    degrees = base.user_degrees
    counts = np.ceil(degrees * fraction - 1e-9).astype(np.int64)
    hidden = np.zeros(base.n_interactions, dtype=bool)
    for start, degree, count in zip(base.matrix.indptr[:-1], degrees, counts, strict=True):
        hidden[start + chance.permutation(degree)[:count]] = True
    shown, held = base.keep(~hidden), base.keep(hidden)
    if not of_observed:
        return Rated(shown, shown), Rated(held, held)
    return _rated(shown, users.liked), _rated(held, users.liked)


def _rated(observed: Interactions, liked: Interactions) -> Rated:
    return Rated(observed.keep(liked.contains(observed.rows(), observed.matrix.indices)), observed)


def detached(train: Interactions, histories: Interactions, held_out: Interactions, method: str) -> Split:
    """A split whose users are nobody of train, whatever they are called."""
    users = Vocabulary(np.arange(histories.n_users) + train.n_users)
    shown, hidden = (Interactions(part.matrix, users, part.items) for part in (histories, held_out))
    taught = Interactions(train.matrix, Vocabulary.range(train.n_users), train.items)
    return Split(taught, shown, hidden, method)


@dataclass(frozen=True, eq=False)
class Measured:
    """What a recommender came to."""

    values: PerUser
    """One row a user with something relevant held out (or every user, as the protocol averages)."""
    notes: tuple[str, ...]


def training_rows(
    groups: UserGroups, synthetic: Interactions | None, utility: Utility, departures: Departures
) -> Interactions:
    """What a downstream recommender learns from: [real; histories; synthetic] or [synthetic; histories].

    Without synthetic users: [real; histories].
    """
    histories = groups.histories.chosen(departures.dislikes_are_positives)
    real = groups.learned.chosen(
        departures.dislikes_are_positives and not departures.learned_dislikes_are_negatives
    )
    if synthetic is None:
        return stacked([real, histories])
    alone = utility.mode == "replace" or departures.augment_is_replace
    return stacked([synthetic, histories] if alone else [real, histories, synthetic])


def measure_arm(
    spec: RecommenderSpec,
    rows: Interactions,
    groups: UserGroups,
    protocol: RankingProtocol,
    departures: Departures,
    *,
    rng: RNG | None = None,
    run: Run | None = None,
) -> Measured:
    """Fit `spec` to `rows`, recommend to the judged users, and compare with what was held out of them.

    Items of the history are left out of the lists: all observed ones where dislikes were held out as well. A
    recommender with a `patience` is given what was held out of the users to stop by.
    """
    if departures.first_epoch and "epochs" in spec_to_dict(spec):
        spec = replace_field(spec, "epochs", 1)
    shown = groups.histories.chosen(departures.dislikes_are_positives)
    relevant = groups.held_out_observed if departures.dislikes_are_relevant else groups.held_out
    split = Split(shown, shown, relevant, "utility")
    by_users = spec.stops and not spec.plans()  # by what is held out of some, and no metric of its own rows
    validation = (split if groups.judged_stop else groups.stopping) if by_users else None
    model = spec.fit_in(run or Run(), rows, rng=rng, validation=validation)
    ranking = protocol.rank(model, split, exclude=groups.histories.chosen(departures.dislikes_are_held_out))
    found = replace(protocol, resamples=0).measure(ranking, split)
    values = found.per_user
    if departures.ideal_counts_dislikes:
        counted = protocol.counted(split)
        counts, all_counts = (part.user_degrees[counted] for part in (relevant, groups.held_out_observed))
        values = with_longer_ideal(values, counts, all_counts, protocol.cutoffs)
    return Measured(values, found.list_notes)


def with_longer_ideal(
    values: PerUser, relevant: NDArray[np.int64], counted: NDArray[np.int64], cutoffs: tuple[int, ...]
) -> PerUser:
    """NDCG whose ideal list holds `counted` items, (n_users,), in place of the `relevant` ones."""
    table = values.values.copy()
    for k in cutoffs:
        name = metric_at("ndcg", k)
        if name in values.names:
            ideal = np.concatenate(([0.0], np.cumsum(discount(k))))
            right, wrong = ideal[np.minimum(relevant, k)], ideal[np.minimum(counted, k)]
            table[:, values.names.index(name)] *= np.divide(
                right, wrong, out=np.zeros_like(right), where=wrong > 0
            )
    return PerUser(values.names, table)


def measurements_of(
    runs: Sequence[Mapping[str, PerUser]],
    *,
    compared: Sequence[str],
    resamples: int = 1000,
    rng: RNG | None = None,
) -> tuple[Measurement, ...]:
    """Every measurement of every arm, ``full capped_recall@10``; then, for those `compared`, more.

    A run is one training of the synthesizer: the values of each user by the name of the arm, of the same users and
    measurements in all. A value is the mean over runs of the mean over users. Its 95 % interval is a percentile bootstrap
    in which users are drawn anew and, where there are several, runs as well (both factors: Owen, The pigeonhole bootstrap,
    Annals of Applied Statistics 1(2), 2007). For the measurements in `compared` there are besides

    - ``… best run`` and ``… deviation over runs`` (with n − 1), of several runs,
    - ``full − plain-vae …``: the paired difference of each two arms, over the same users and runs.

    Raises `DataError` where there is no run, or where runs do not have the same arms and measurements.
    """
    DataError.unless(runs, "There must be at least one run to measure; there is none. Run one.")
    arms, names = list(runs[0]), next(iter(runs[0].values())).names
    DataError.unless(
        all(list(run) == arms and all(table.names == names for table in run.values()) for run in runs),
        "All runs must have the same arms and measurements; these differ. Run them alike.",
    )
    tables = {arm: np.stack([run[arm].values for run in runs]) for arm in arms}
    n_runs, n_users, _ = tables[arms[0]].shape
    weights = _weights(n_runs, n_users, resamples, generator(rng))
    measurements = [
        _measurement(f"{arm} {name}", table[:, :, column], weights)
        for arm, table in tables.items()
        for column, name in enumerate(names)
    ]
    for name in (name for name in compared if name in names):
        values = {arm: table[:, :, names.index(name)] for arm, table in tables.items()}
        if n_runs > 1:
            for arm, table in values.items():
                means = table.mean(axis=1)
                for what, value in (("best run", means.max()), ("deviation over runs", means.std(ddof=1))):
                    measurements.append(
                        Measurement(name=f"{arm} {name} {what}", value=float(value), n_users=n_users)
                    )
        measurements += [
            _measurement(f"{one} − {other} {name}", values[one] - values[other], weights)
            for one, other in combinations(arms, 2)
        ]
    return tuple(measurements)


def _weights(
    n_runs: int, n_users: int, resamples: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """How often each run, (resamples, n_runs), and each user, (resamples, n_users), was drawn, as shares."""
    if not resamples:
        return None
    return (
        random.multinomial(n_runs, np.full(n_runs, 1 / n_runs), resamples) / n_runs,
        random.multinomial(n_users, np.full(n_users, 1 / n_users), resamples) / n_users,
    )


def _measurement(
    name: str, table: NDArray[np.float64], weights: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> Measurement:
    """The mean of (n_runs, n_users), with its interval."""
    low = high = None
    if weights is not None:
        drawn = ((weights[0] @ table) * weights[1]).sum(axis=1)
        low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    return Measurement(name=name, value=float(table.mean()), low=low, high=high, n_users=table.shape[1])
