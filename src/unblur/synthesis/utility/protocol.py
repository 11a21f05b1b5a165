"""The protocol of the utility of synthetic users (Lilienthal et al., IEEE Access 12, 2024, section 5).

Users are in disjoint groups: training users, users to stop by, and evaluated users. A recommender is trained on an arm of
synthetic users, and evaluated on items held out of the evaluated users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
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
from unblur.spec import CountOrZero, replace_field, spec, spec_to_dict
from unblur.training.settings import Share


@spec
class Departures:
    """The departures of the authors' code from their paper, or from sense. All are off under the strict protocol.

    Those inside the model are settings of the model: `diffusion.noise_without_root`,
    `diffusion.tied_hidden_layers` and `diffusion.sampling_dropout`.
    """

    reported_users_stop: bool = False
    """The users that scores are reported on also end the training of the autoencoder, and of a downstream recommender
    that stops by others' held-out items. Off: a group of its own does."""
    dislikes_are_positives: bool = False
    """The downstream recommender is trained on, and recommends from, every observed pair, low ratings included. Off:
    likes alone."""
    learned_dislikes_are_negatives: bool = False
    """With `dislikes_are_positives`: low ratings of the histories are positives, while of the training users only likes
    count. Off: low ratings of both."""
    dislikes_are_held_out: bool = False
    """The share to hold out is taken of all observed items of a user, and the liked ones among them are relevant. Off: of
    the liked items."""
    dislikes_are_relevant: bool = False
    """With `dislikes_are_held_out`: every held-out item is relevant, whatever its rating. Off: liked items."""
    legacy_generator: bool = False
    """Held-out items are drawn by `numpy.random.RandomState` (MT19937) of `hold_out_seed`, user after user: the draw of
    the authors' code. Off: by numpy's default generator (PCG64)."""
    augment_is_replace: bool = False
    """As the authors' code does for SVD, the recommender is trained on synthetic users and histories alone, under
    ``augment`` too. Off: ``augment`` adds the real users."""
    one_sample: bool = False
    """As the authors' code does for NeuMF, the column of multi-resolution sampling is measured on the sample of full
    resolution. Off: on its own sample."""
    zero_threshold: bool = False
    """As far as is known, the basis of the published figures of NeuMF: a synthetic user has every item with a score above
    0, which is half of all items, whatever the synthesizer's own rule. Off: that rule."""
    ideal_counts_dislikes: bool = False
    """As the authors' code does for NeuMF, the ideal of NDCG counts held-out items of any rating. Off: liked items."""
    first_epoch: bool = False
    """As the authors' code does for NeuMF, the weights of the first epoch are evaluated. Off: of the last."""

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
    """The groups of users, and the training data of the downstream recommender."""

    mode: Literal["augment", "replace"] = "augment"
    """``augment``: the downstream recommender is trained on real users, synthetic users and histories of the reported
    users; ``replace``: on synthetic users and these histories."""
    learn: Annotated[tuple[str, ...], Field(min_length=1)] = ("train", "test")
    """The parts of the data with the users that the synthesizer may learn from."""
    report: str = "valid"
    """The part with the users that metrics are reported on."""
    observed: str | None = "observed"
    """The reading of the data in which every rating is an interaction. `None`: there are likes only."""
    report_users: Share = 0.1
    """The fraction of users that metrics are reported on, if the data have no part of that name."""
    held_out: Share = 0.2
    """The share of each reported user's items that is held out, rounded up; the rest is the history."""
    stopping_users: Share = 0.1
    """The fraction of the users of `learn` that stops the training of the autoencoder and of a downstream recommender that
    stops early, and does nothing else."""
    search_users: Share = 0.1
    """The fraction of them that a search is judged by; without a search they are learned from."""
    hold_out_seed: CountOrZero = 123
    """The seed of the groups and of the held-out items, which are therefore the same in all runs."""
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
    """Users with the items they liked, and with all items they rated."""

    liked: Interactions
    observed: Interactions
    """The same users and items; every liked pair is among its pairs."""

    def __post_init__(self) -> None:
        VocabularyMismatch.unless(
            self.liked.users == self.observed.users
            and self.liked.items == self.observed.items
            and self.observed.contains(self.liked.rows(), self.liked.matrix.indices).all(),
            "Liked pairs must be among the observed ones, over the same users and items; some are not. Check that "
            "both are readings of the same data.",
        )

    def take(self, rows: NDArray[np.intp]) -> Rated:
        """The users at these positions."""
        return Rated(self.liked.take_users(rows), self.observed.take_users(rows))

    def pairs(self, observed: bool) -> Interactions:
        """All observed pairs, or the liked ones."""
        return self.observed if observed else self.liked


@dataclass(frozen=True, eq=False)
class UserGroups:
    """All users, each in one role."""

    learned: Rated
    """The training users of the synthesizer, which are also the real users of the downstream recommender."""
    stopping: Split
    """The users to stop trainings by, with their likes as histories and held-out items."""
    judged_stop: bool
    """True if these are the evaluated users, so that a downstream recommender stops by them as well."""
    histories: Rated
    """The histories of the evaluated users, from which the downstream recommender recommends."""
    held_out: Interactions
    """The held-out items that they liked."""
    held_out_observed: Interactions
    """All their held-out items, liked or not."""
    notes: tuple[str, ...]


def stacked(parts: Sequence[Interactions]) -> Interactions:
    """The rows of all parts, one below the other, over the same items; users are labelled 0, 1, 2, …."""
    items = parts[0].items
    VocabularyMismatch.unless(
        all(part.items == items for part in parts),
        "Stacked rows must be over the same items; these are not. Bring them onto one vocabulary with "
        "`.onto(items=…)`.",
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
    """Divide two sets of users into groups.

    Without the departure `reported_users_stop` the users to stop by are drawn from `learnable`, and so are the users to
    search by with ``judged="searching"``; neither group is learned from then. The draw is the same for both values of
    `judged`. Raises `DataError` if no user of a group has held-out items.
    """
    random = streams(utility.hold_out_seed, "groups", "stopping", "searching")
    order = random["groups"].permutation(learnable.liked.n_users)
    n_stop, n_search = (
        max(1, round(share * len(order))) for share in (utility.stopping_users, utility.search_users)
    )
    stop, search = np.sort(order[:n_stop]), np.sort(order[n_stop : n_stop + n_search])
    searching = judged == "searching"
    own_group = searching or not departures.reported_users_stop
    training = order[(n_stop if own_group else 0) + (n_search if searching else 0) :]
    DataError.unless(
        len(training),
        f"At least one user must remain to learn from; all {len(order):,} users are in other groups. Give more users.",
    )
    learned = learnable.take(np.sort(training))
    generator: np.random.Generator | np.random.RandomState
    if searching:
        evaluated, role, generator = learnable.take(search), "searched on", random["searching"]
    else:
        draw = np.random.RandomState if departures.legacy_generator else np.random.default_rng
        evaluated, role, generator = reported, "reported on", draw(utility.hold_out_seed)
    histories, held_out = hold_out(evaluated, utility.held_out, departures.dislikes_are_held_out, generator)
    if own_group:
        # The group of their own is ours: without departures, so by likes alone.
        own_histories, own_held_out = hold_out(
            learnable.take(stop), utility.held_out, False, random["stopping"]
        )
        stopping = Split(learned.liked, own_histories.liked, own_held_out.liked, "a group of its own")
    else:
        stopping = detached(learned.liked, histories.liked, held_out.liked, "the reported users")
    counts = f"{learned.liked.n_users:,} learned from, {stopping.histories.n_users:,} stopped by"
    return UserGroups(
        learned=learned,
        stopping=stopping,
        judged_stop=not own_group,
        histories=histories,
        held_out=held_out.liked,
        held_out_observed=held_out.observed,
        notes=(f"users: {counts} ({stopping.method}), {histories.liked.n_users:,} {role}",),
    )


def hold_out(
    users: Rated, share: float, of_observed: bool, generator: np.random.Generator | np.random.RandomState
) -> tuple[Rated, Rated]:
    """Histories and held-out items: a random share, rounded up, of each user's observed or liked items is held out."""
    base = users.pairs(of_observed)
    DataError.unless(
        base.n_interactions, "Users to evaluate on must have interactions; none has. Give other users."
    )
    degrees = base.user_degrees
    # 1e-9: a product such as 100 · 0.07 = 7.000000000000001 is 7, not 8.
    counts = np.ceil(degrees * share - 1e-9).astype(np.int64)
    mask = np.zeros(base.n_interactions, dtype=bool)
    # User by user, because the authors' draw is one permutation per user, in order.
    for start, degree, count in zip(base.matrix.indptr[:-1], degrees, counts, strict=True):
        mask[start + generator.permutation(degree)[:count]] = True
    histories, held_out = base.keep(~mask), base.keep(mask)
    if not of_observed:
        return Rated(histories, histories), Rated(held_out, held_out)
    return _rated(histories, users.liked), _rated(held_out, users.liked)


def _rated(observed: Interactions, liked: Interactions) -> Rated:
    return Rated(observed.keep(liked.contains(observed.rows(), observed.matrix.indices)), observed)


def detached(train: Interactions, histories: Interactions, held_out: Interactions, method: str) -> Split:
    """A split with new user labels, so that no evaluated user is a training user by label."""
    users = Vocabulary(np.arange(histories.n_users) + train.n_users)
    histories, held_out = (Interactions(part.matrix, users, part.items) for part in (histories, held_out))
    train = Interactions(train.matrix, Vocabulary.range(train.n_users), train.items)
    return Split(train, histories, held_out, method)


@dataclass(frozen=True, eq=False)
class Measured:
    """The metrics of one recommender."""

    values: PerUser
    """One row per user with relevant held-out items (or per user, as the protocol averages)."""
    notes: tuple[str, ...]


def training_rows(
    groups: UserGroups, synthetic: Interactions | None, utility: Utility, departures: Departures
) -> Interactions:
    """The training rows of a downstream recommender: [real; histories; synthetic] or [synthetic; histories].

    Without synthetic users: [real; histories].
    """
    histories = groups.histories.pairs(departures.dislikes_are_positives)
    real = groups.learned.pairs(
        departures.dislikes_are_positives and not departures.learned_dislikes_are_negatives
    )
    if synthetic is None:
        return stacked([real, histories])
    replaces = utility.mode == "replace" or departures.augment_is_replace
    return stacked([synthetic, histories] if replaces else [real, histories, synthetic])


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
    """Fit `spec` to `rows`, recommend to the evaluated users, and measure by their held-out items.

    Items of the history are excluded from the lists: all observed ones if dislikes were held out as well. A recommender
    that stops by held-out items of users gets those of the users to stop by.
    """
    if departures.first_epoch and "epochs" in spec_to_dict(spec):
        spec = replace_field(spec, "epochs", 1)
    histories = groups.histories.pairs(departures.dislikes_are_positives)
    relevant = groups.held_out_observed if departures.dislikes_are_relevant else groups.held_out
    split = Split(histories, histories, relevant, "utility")
    by_users = spec.stops and not spec.plans()  # by held-out items of users, not by a metric of its own rows
    validation = (split if groups.judged_stop else groups.stopping) if by_users else None
    model = spec.fit_in(run or Run(), rows, rng=rng, validation=validation)
    ranking = protocol.rank(model, split, exclude=groups.histories.pairs(departures.dislikes_are_held_out))
    # No bootstrap here: intervals are over users and runs, and follow from all runs (`measurements_of`).
    result = replace(protocol, resamples=0).measure(ranking, split)
    values = result.per_user
    if departures.ideal_counts_dislikes:
        counted = protocol.counted(split)
        counts, all_counts = (part.user_degrees[counted] for part in (relevant, groups.held_out_observed))
        values = with_longer_ideal(values, counts, all_counts, protocol.cutoffs)
    return Measured(values, result.list_notes)


def with_longer_ideal(
    values: PerUser, relevant: NDArray[np.int64], counted: NDArray[np.int64], cutoffs: tuple[int, ...]
) -> PerUser:
    """NDCG with the ideal list of `counted` items, (n_users,), instead of that of the `relevant` ones."""
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
    """Every measurement of every arm, such as ``full capped_recall@10``, and more for those `compared`.

    A run is one training of the synthesizer: the values of each user by the name of the arm, of the same users and
    measurements in all runs. A value is the mean over runs of the mean over users. Its 95 % interval is a percentile
    bootstrap that resamples users and, if there are several, runs as well (both factors: Owen, The pigeonhole bootstrap,
    Annals of Applied Statistics 1(2), 2007). For the measurements in `compared` there are also

    - ``… best run`` and ``… deviation over runs`` (with n − 1), of several runs,
    - ``full − plain-vae …``: the paired difference of each two arms, over the same users and runs.

    Raises `DataError` without runs, or for runs with different arms or measurements.
    """
    DataError.unless(runs, "There must be at least one run to measure; there is none. Run one.")
    arms, names = list(runs[0]), next(iter(runs[0].values())).names
    DataError.unless(
        all(list(run) == arms and all(table.names == names for table in run.values()) for run in runs),
        "All runs must have the same arms and measurements; these differ. Run them with the same settings.",
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
                for suffix, value in (("best run", means.max()), ("deviation over runs", means.std(ddof=1))):
                    measurements.append(
                        Measurement(name=f"{arm} {name} {suffix}", value=float(value), n_users=n_users)
                    )
        measurements += [
            _measurement(f"{left} − {right} {name}", values[left] - values[right], weights)
            for left, right in combinations(arms, 2)
        ]
    return tuple(measurements)


def _weights(
    n_runs: int, n_users: int, resamples: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The weights of runs, (resamples, n_runs), and of users, (resamples, n_users), in each resample; rows sum to 1."""
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
        means = ((weights[0] @ table) * weights[1]).sum(axis=1)
        low, high = (float(end) for end in np.quantile(means, [0.025, 0.975]))
    return Measurement(name=name, value=float(table.mean()), low=low, high=high, n_users=table.shape[1])
