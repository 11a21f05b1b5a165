"""Who teaches, who stops and who reports: disjoint groups of users, and what is held out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.splits import Split
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, VocabularyMismatch
from unblur.randomness import streams
from unblur.synthesis.utility.settings import Departures, Utility


@dataclass(frozen=True, eq=False)
class Rated:
    """Users with what they liked, and with all that they are known to have met."""

    liked: Interactions
    observed: Interactions
    """The same users and items; every liked pair is among its pairs."""

    def __post_init__(self) -> None:
        same = self.liked.users == self.observed.users and self.liked.items == self.observed.items
        if not same or not self.observed.contains(self.liked.rows(), self.liked.matrix.indices).all():
            raise VocabularyMismatch(
                "Liked pairs must be among the observed ones, over the same users and items; some are not. Are the "
                "two readings of the same data?"
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
    if any(part.items != items for part in parts):
        raise VocabularyMismatch(
            "Rows can be put below each other where they are over the same items; these are not. Bring them onto "
            "one vocabulary with `.onto(items=…)`."
        )
    whole = sparse.csr_array(sparse.vstack([part.matrix for part in parts], format="csr"))
    return Interactions(whole, Vocabulary.range(whole.shape[0]), items)


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
    n_stop, n_search = (max(1, round(share * len(order))) for share in (utility.stopping, utility.searching))
    stop, search = np.sort(order[:n_stop]), np.sort(order[n_stop : n_stop + n_search])
    searching = judged == "searching"
    own_group = searching or not departures.reported_users_stop
    teaching = order[(n_stop if own_group else 0) + (n_search if searching else 0) :]
    if len(teaching) < 1:
        raise DataError(
            f"Somebody must be left to learn from; of {len(order):,} users none is. Give more users."
        )
    learned = learnable.take(np.sort(teaching))
    subject, chance = (
        (learnable.take(search), random["searching"])
        if searching
        else (reported, _chance(utility.hold_out_seed, departures.legacy_generator))
    )
    histories, held = shown_and_hidden(subject, utility.held_out, departures.dislikes_are_held_out, chance)
    if own_group:
        shown, hidden = shown_and_hidden(learnable.take(stop), utility.held_out, False, random["stopping"])
        stopping = Split(learned.liked, shown.liked, hidden.liked, "a group of its own")
    else:
        stopping = detached(learned.liked, histories.liked, held.liked, "the reported users")
    return UserGroups(
        learned=learned,
        stopping=stopping,
        judged_stop=not own_group,
        histories=histories,
        held_out=held.liked,
        held_out_observed=held.observed,
        notes=_notes(learned, stopping, histories, searching),
    )


def _chance(seed: int, legacy: bool) -> np.random.Generator | np.random.RandomState:
    return np.random.RandomState(seed) if legacy else np.random.default_rng(seed)


def shown_and_hidden(
    users: Rated, fraction: float, of_observed: bool, chance: np.random.Generator | np.random.RandomState
) -> tuple[Rated, Rated]:
    """What is shown of each user, and what is not: a share, rounded up, of the observed or of the liked items."""
    base = users.chosen(of_observed)
    if not base.n_interactions:
        raise DataError("Users to judge by must have something; none has. Give others.")
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
    inside = liked.contains(observed.rows(), observed.matrix.indices)
    return Rated(observed.keep(inside), observed)


def detached(train: Interactions, histories: Interactions, held_out: Interactions, method: str) -> Split:
    """A split whose users are nobody of train, whatever they are called."""
    users = Vocabulary(np.arange(histories.n_users) + train.n_users)
    shown, hidden = (Interactions(part.matrix, users, part.items) for part in (histories, held_out))
    if train.users != Vocabulary.range(train.n_users):
        train = Interactions(train.matrix, Vocabulary.range(train.n_users), train.items)
    return Split(train, shown, hidden, method)


def _notes(learned: Rated, stopping: Split, histories: Rated, searching: bool) -> tuple[str, ...]:
    role = "searched on" if searching else "reported on"
    counts = f"{learned.liked.n_users:,} learned from, {stopping.histories.n_users:,} stopped by"
    return (f"users: {counts} ({stopping.method}), {histories.liked.n_users:,} {role}",)
