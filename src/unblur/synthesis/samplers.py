"""Simple synthesizers that any other must beat.

Items drawn independently, real users with items flipped, walks along co-occurrences, and DiffRec's reverse chain on random
users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from unblur.data.interactions import Interactions, check_train
from unblur.data.vocabulary import Vocabulary
from unblur.errors import SpecError
from unblur.fitted import StoppingData, learned, weights
from unblur.models.diffusion.diffrec import DiffRec, DiffRecRecommender
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import Sampling
from unblur.progress import Run
from unblur.randomness import RNG
from unblur.spec import spec
from unblur.synthesis.discretization import Discretization, Scores, above, best, discretized
from unblur.synthesis.synthesizer import (
    Blocks,
    CountedSynthesizer,
    RealCounts,
    Rows,
    Synthesizer,
    SynthesizerSpec,
    UserBlock,
)
from unblur.training.networks import Weights
from unblur.training.settings import Plan


@spec
class IndependentItems(SynthesizerSpec["IndependentItemsSynthesizer"]):
    """Each synthetic user takes items by their popularity alone."""

    kind: ClassVar[str] = "independent-items"
    fitted: ClassVar[str] = "unblur.synthesis.samplers:IndependentItemsSynthesizer"
    counts: Literal["real", "free"] = "real"
    """``real``: a user has as many items as some real user, drawn in proportion to popularity without putting
    back. ``free``: each item is taken with its real frequency, whatever else is."""

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> IndependentItemsSynthesizer:
        """Count; `rng` and `run.progress` are not needed."""
        check_train(train)
        return IndependentItemsSynthesizer(
            self,
            train.items,
            train.n_users,
            device=run.device,
            item_counts=train.item_degrees,
            users_with=RealCounts.of(train).users_with,
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class IndependentItemsSynthesizer(CountedSynthesizer["IndependentItems"]):
    """Holds how many users each item had, and how many users had how many items."""

    item_counts: NDArray[np.int64] = learned("items", dtype="int64")

    def _rows(self, blocks: Blocks) -> Rows:
        for block in blocks:
            if self.spec.counts == "real":
                sizes = self.counts.drawn(block.size, block.random)
                yield popular_rows(self.item_counts, sizes, block.random)
            else:
                shape = (block.size, len(self.items))
                margin = (self.item_counts / self.n_real_users).astype(np.float32)
                yield above(margin - block.random.random(shape, dtype=np.float32), 0.0)


def popular_rows(
    item_counts: NDArray[np.int64], sizes: NDArray[np.int64], random: np.random.Generator
) -> sparse.csr_array:
    """`sizes` (n,) different items for each row, drawn one after the other in proportion to `item_counts`.

    By exponential races: the smallest of E_i/w_i come first (Efraimidis and Spirakis, 2006). Items that nobody
    had are never drawn.
    """
    with np.errstate(divide="ignore"):
        logs = np.log(item_counts, dtype=np.float32)
    race = random.standard_exponential((len(sizes), len(item_counts)), dtype=np.float32)
    return best(logs - np.log(np.maximum(race, np.finfo(np.float32).tiny)), sizes)


_ROUNDS = 32
"""How often items are drawn for all users together."""


@spec
class FlippedUsers(SynthesizerSpec["FlippedUsersSynthesizer"]):
    """A real user's row in which random items were exchanged for ones drawn by popularity.

    It keeps the number of items, the density and most of what goes together, and gives real users away: a
    control that an audit must find.
    """

    kind: ClassVar[str] = "flipped-users"
    fitted: ClassVar[str] = "unblur.synthesis.samplers:FlippedUsersSynthesizer"
    exchanged: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The chance that an item is exchanged. 0 publishes real users."""

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> FlippedUsersSynthesizer:
        """Keep the rows; `rng` and `run.progress` are not needed."""
        check_train(train)
        return FlippedUsersSynthesizer(
            self, train.items, train.n_users, device=run.device, rows=train.binarized().matrix
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FlippedUsersSynthesizer(Synthesizer["FlippedUsers"]):
    """Holds the rows of all real users, without their names."""

    rows: sparse.csr_array = learned("users", "items")

    @cached_property
    def _popularity(self) -> NDArray[np.intp]:
        return np.bincount(self.rows.indices, minlength=len(self.items))

    @property
    def notes(self) -> tuple[str, ...]:
        """That real rows are in it."""
        return ("This synthesizer holds the rows of real users, and its samples are near copies of them.",)

    def _rows(self, blocks: Blocks) -> Rows:
        n_items = len(self.items)
        for block in blocks:
            chosen = self.rows[block.random.integers(0, self.rows.shape[0], block.size)]
            owners = np.repeat(np.arange(block.size), np.diff(chosen.indptr))
            lost = block.random.random(chosen.nnz) < self.spec.exchanged
            taken = np.zeros((block.size, n_items), dtype=bool)
            taken[owners[~lost], chosen.indices[~lost]] = True
            waiting = owners[lost]
            for _ in range(_ROUNDS):
                if not len(waiting):
                    break
                # An item of a random pair is one by popularity; one that the user has already is drawn again.
                drawn = self.rows.indices[block.random.integers(0, self.rows.nnz, len(waiting))]
                keys, first = np.unique(waiting * n_items + drawn, return_index=True)
                fresh = ~taken.ravel()[keys]
                taken.ravel()[keys[fresh]] = True
                waiting = np.delete(waiting, first[fresh])
            # Who has nearly everything would wait long. What such drawing comes to is one draw without replacement.
            users, missing = np.unique(waiting, return_counts=True)
            for user, size in zip(users, missing, strict=True):
                free = np.where(taken[user], 0, self._popularity)
                taken[user] |= popular_rows(free, np.array([size]), block.random).toarray()[0] > 0
            yield sparse.csr_array(taken, dtype=np.float32)


MOST_ROUNDS = 20
"""How many draws an item may cost, on average, before a user is left with fewer."""


@spec
class CooccurrenceWalk(SynthesizerSpec["CooccurrenceWalkSynthesizer"]):
    """A Markov chain: the first item by popularity, each next one by how many users had it beside the last.

    The walk ends with as many different items as some real user had.
    """

    kind: ClassVar[str] = "cooccurrence-walk"
    fitted: ClassVar[str] = "unblur.synthesis.samplers:CooccurrenceWalkSynthesizer"
    restart: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The chance that the next item is drawn by popularity, whatever the last one was."""

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> CooccurrenceWalkSynthesizer:
        """Count the users of each pair of items; `rng` and `run.progress` are not needed."""
        check_train(train)
        x = train.binarized().matrix
        pairs = sparse.csr_array(x.T @ x)
        beside = sparse.csr_array(pairs - sparse.diags_array(pairs.diagonal()))
        beside.sort_indices()
        return CooccurrenceWalkSynthesizer(
            self,
            train.items,
            train.n_users,
            device=run.device,
            beside=beside,
            item_counts=train.item_degrees,
            users_with=RealCounts.of(train).users_with,
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CooccurrenceWalkSynthesizer(CountedSynthesizer["CooccurrenceWalk"]):
    """Holds the numbers of users of items and of pairs of items."""

    beside: sparse.csr_array = learned("items", "items", dtype=None)
    """How many users had each pair of items."""
    item_counts: NDArray[np.int64] = learned("items", dtype="int64")

    @cached_property
    def _sums(self) -> NDArray[np.float64]:
        return np.concatenate(([0.0], np.cumsum(self.beside.data, dtype=np.float64)))

    @cached_property
    def _popular(self) -> NDArray[np.float64]:
        return np.cumsum(self.item_counts, dtype=np.float64)

    def _rows(self, blocks: Blocks) -> Rows:
        most = int((self.item_counts > 0).sum())
        for block in blocks:
            wanted = np.minimum(self.counts.drawn(block.size, block.random), most)
            taken = np.zeros((block.size, len(self.items)), dtype=bool)
            have = np.zeros(block.size, dtype=np.int64)
            last = self._by_popularity(block.size, block.random)
            for _ in range(MOST_ROUNDS * int(wanted.max(initial=0))):
                under_way = np.flatnonzero(have < wanted)
                if not len(under_way):
                    break
                fresh = ~taken[under_way, last[under_way]]
                taken[under_way, last[under_way]] = True
                have[under_way] += fresh
                last[under_way] = self._next(last[under_way], block.random)
            yield sparse.csr_array(taken, dtype=np.float32)

    def _next(self, last: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        starts, stops = self._sums[self.beside.indptr[last]], self._sums[self.beside.indptr[last + 1]]
        place = np.searchsorted(
            self._sums, starts + random.random(len(last)) * (stops - starts), side="right"
        )
        inside = np.clip(place - 1, self.beside.indptr[last], np.maximum(self.beside.indptr[last + 1] - 1, 0))
        anew = (random.random(len(last)) < self.spec.restart) | (stops <= starts)
        walked = np.zeros(len(last), dtype=np.int64)
        walked[~anew] = self.beside.indices[inside[~anew]]
        walked[anew] = self._by_popularity(int(anew.sum()), random)
        return walked

    def _by_popularity(self, size: int, random: np.random.Generator) -> NDArray[np.int64]:
        drawn = np.searchsorted(self._popular, random.random(size) * self._popular[-1], side="right")
        return np.asarray(drawn, dtype=np.int64)


@spec
class DiffRecSampler(SynthesizerSpec["DiffRecSynthesizer"]):
    """DiffRec (Wang et al., SIGIR 2023) started from users whose items are drawn by popularity alone.

    Its schedules never reach pure noise, so a start there is no start: the chain is given a random row of a
    real number of items, made noisy, and what it makes of it is the synthetic user.
    """

    kind: ClassVar[str] = "diffrec-sampler"
    fitted: ClassVar[str] = "unblur.synthesis.samplers:DiffRecSynthesizer"
    stochastic: ClassVar[bool] = True
    model: DiffRec = DiffRec(
        schedule=Schedule(scale=0.1), sampling=Sampling(start_steps=5, noise=True), epochs=100
    )
    """The model, and how it is trained."""
    discretization: Discretization = Discretization(rule="user-counts")
    """How scores become items."""

    def __post_init__(self) -> None:
        SpecError.unless(
            self.model.time_weights is None,
            "Synthetic users have no times, so `model.time_weights` must be nothing; saw "
            f"{self.model.time_weights!r}. Leave it out.",
        )

    def plans(self) -> Mapping[str, Plan]:
        """Those of the model."""
        return self.model.plans()

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> DiffRecSynthesizer:
        """Train the model as `DiffRec.fit` does."""
        check_train(train)
        model = self.model.fit_in(run, train, rng=rng, validation=validation)
        return DiffRecSynthesizer(
            self,
            train.items,
            train.n_users,
            device=run.device,
            model_arrays={name: torch.as_tensor(array) for name, array in model.tensors().items()},
            item_counts=train.item_degrees,
            users_with=RealCounts.of(train).users_with,
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DiffRecSynthesizer(CountedSynthesizer["DiffRecSampler"]):
    """Scores of random rows, turned into items. Items that nobody in train had are never sampled."""

    model_arrays: Weights = weights("model.")
    """Those of `model`."""
    item_counts: NDArray[np.int64] = learned("items", dtype="int64")

    def __post_init__(self) -> None:
        """Raises `ValueError` for arrays that do not fit."""
        super().__post_init__()
        self.model  # noqa: B018 - made here, to be checked

    @cached_property
    def model(self) -> DiffRecRecommender:
        """Makes the scores."""
        arrays = {name: array.cpu().numpy() for name, array in self.model_arrays.items()}
        counts = {"count": self.item_counts}
        return DiffRecRecommender.from_tensors(self.spec.model, self.items, counts, arrays, self.device)

    def _rows(self, blocks: Blocks) -> Rows:
        return discretized(self._scored(blocks), self.spec.discretization, self.counts, blocks.n_users)

    def _scored(self, blocks: Blocks) -> Iterator[tuple[UserBlock, Scores]]:
        for block in blocks:
            sizes = np.maximum(self.counts.drawn(block.size, block.random), 1)
            rows = popular_rows(self.item_counts, sizes, block.random)
            scores = self.model.score(Interactions(rows, Vocabulary.range(block.size), self.items))
            scores[:, self.item_counts == 0] = -np.inf
            yield block, scores
