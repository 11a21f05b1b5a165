"""Simple synthesizers, the baselines of all others.

They draw items independently, exchange items of real users, walk along co-occurrences, or run DiffRec's reverse chain on
random users.
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
from unblur.fitted import COUNTS, FROM_ZERO, StoppingData, learned, weights
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
    """Users who take items by their popularity alone."""

    kind: ClassVar[str] = "independent-items"
    fitted: ClassVar[str] = "unblur.synthesis.samplers:IndependentItemsSynthesizer"
    counts: Literal["real", "free"] = "real"
    """``real``: as many items per user as a random real user has, drawn in proportion to popularity without
    replacement. ``free``: each item independently with its real frequency."""

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
    """Holds the number of users of each item, and the distribution of the number of items per user."""

    item_counts: NDArray[np.int64] = learned("items", dtype="int64", values=COUNTS)

    def _rows(self, blocks: Blocks) -> Rows:
        for block in blocks:
            if self.spec.counts == "real":
                sizes = self.counts.draw(block.size, block.random)
                yield popular_rows(self.item_counts, sizes, block.random)
            else:
                shape = (block.size, len(self.items))
                probabilities = (self.item_counts / self.n_real_users).astype(np.float32)
                yield above(probabilities - block.random.random(shape, dtype=np.float32), 0.0)


def popular_rows(
    item_counts: NDArray[np.int64], sizes: NDArray[np.int64], random: np.random.Generator
) -> sparse.csr_array:
    """Draw `sizes` (n,) different items per row, one after the other in proportion to `item_counts`; (n, n_items).

    By exponential races: the items of smallest E_i/w_i are such a draw (Efraimidis and Spirakis, 2006). Items that nobody
    had are never drawn.
    """
    with np.errstate(divide="ignore"):  # log 0 = −∞ is never drawn
        logs = np.log(item_counts, dtype=np.float32)
    # The order of E_i/w_i from below is that of log w_i − log E_i from above, which does not overflow.
    exponentials = random.standard_exponential((len(sizes), len(item_counts)), dtype=np.float32)
    return best(logs - np.log(np.maximum(exponentials, np.finfo(np.float32).tiny)), sizes)


_ROUNDS = 32
"""Rounds in which items are drawn for all users together, before the remaining users get an exact draw each. Both are the
same distribution; the number (chosen by hand) decides time and the bits."""


@spec(renamed={"exchanged": "fraction"})
class FlippedUsers(SynthesizerSpec["FlippedUsersSynthesizer"]):
    """Real users with random items exchanged for items drawn by popularity.

    They keep the number of items, the density and most co-occurrences, and reveal real users: a positive control, which
    an audit must detect.
    """

    kind: ClassVar[str] = "flipped-users"
    fitted: ClassVar[str] = "unblur.synthesis.samplers:FlippedUsersSynthesizer"
    fraction: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The fraction of items that are exchanged, each with this probability. 0 publishes real users."""

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
    """Holds the rows of all real users, without their labels."""

    rows: sparse.csr_array = learned("users", "items", sparse=True, values=COUNTS)

    @cached_property
    def _popularity(self) -> NDArray[np.intp]:
        return np.bincount(self.rows.indices, minlength=len(self.items))

    @property
    def notes(self) -> tuple[str, ...]:
        """The warning that it holds real rows."""
        return ("This synthesizer holds the rows of real users, and its samples are near copies of them.",)

    def _rows(self, blocks: Blocks) -> Rows:
        n_items = len(self.items)
        for block in blocks:
            chosen = self.rows[block.random.integers(0, self.rows.shape[0], block.size)]
            owners = np.repeat(np.arange(block.size), np.diff(chosen.indptr))
            lost = block.random.random(chosen.nnz) < self.spec.fraction
            has = np.zeros((block.size, n_items), dtype=bool)
            has[owners[~lost], chosen.indices[~lost]] = True
            pending = owners[lost]  # one entry per item that is still to be drawn
            for _ in range(_ROUNDS):
                if not len(pending):
                    break
                # The item of a random interaction is drawn by popularity; one that the user already has is drawn again.
                items = self.rows.indices[block.random.integers(0, self.rows.nnz, len(pending))]
                keys, first = np.unique(pending * n_items + items, return_index=True)
                new = ~has.ravel()[keys]
                has.ravel()[keys[new]] = True
                pending = np.delete(pending, first[new])
            # Users with nearly all items would need many rounds. Rejection has the distribution of one draw without
            # replacement from the items that are left, which is made for each of them.
            users, missing = np.unique(pending, return_counts=True)
            for user, size in zip(users, missing, strict=True):
                free = np.where(has[user], 0, self._popularity)
                has[user] |= popular_rows(free, np.array([size]), block.random).toarray()[0] > 0
            yield sparse.csr_array(has, dtype=np.float32)


MOST_ROUNDS = 20
"""Steps of a walk per item of the largest user of a block. A walk that is not done by then, such as one in a small component
of the graph, stays shorter than drawn (chosen by hand)."""


@spec
class CooccurrenceWalk(SynthesizerSpec["CooccurrenceWalkSynthesizer"]):
    """A Markov chain over items: the first by popularity, each next in proportion to its co-occurrences with the last.

    The walk ends with as many different items as a random real user had.
    """

    kind: ClassVar[str] = "cooccurrence-walk"
    fitted: ClassVar[str] = "unblur.synthesis.samplers:CooccurrenceWalkSynthesizer"
    restart: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The probability that the next item is drawn by popularity, regardless of the last."""

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> CooccurrenceWalkSynthesizer:
        """Count the users of each pair of items; `rng` and `run.progress` are not needed."""
        check_train(train)
        x = train.binarized().matrix
        counts = sparse.csr_array(x.T @ x)
        beside = sparse.csr_array(counts - sparse.diags_array(counts.diagonal()))
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
    """Holds the number of users of each item and of each pair of items."""

    beside: sparse.csr_array = learned("items", "items", sparse=True, values=FROM_ZERO)
    """The number of users of each pair of items; the diagonal is empty."""
    item_counts: NDArray[np.int64] = learned("items", dtype="int64", values=COUNTS)

    @cached_property
    def _sums(self) -> NDArray[np.float64]:
        return np.concatenate(([0.0], np.cumsum(self.beside.data, dtype=np.float64)))

    @cached_property
    def _popular(self) -> NDArray[np.float64]:
        return np.cumsum(self.item_counts, dtype=np.float64)

    def _rows(self, blocks: Blocks) -> Rows:
        n_reachable = int((self.item_counts > 0).sum())
        for block in blocks:
            sizes = np.minimum(self.counts.draw(block.size, block.random), n_reachable)
            has = np.zeros((block.size, len(self.items)), dtype=bool)
            n_visited = np.zeros(block.size, dtype=np.int64)
            last = self._by_popularity(block.size, block.random)
            for _ in range(MOST_ROUNDS * int(sizes.max(initial=0))):
                active = np.flatnonzero(n_visited < sizes)
                if not len(active):
                    break
                new = ~has[active, last[active]]
                has[active, last[active]] = True
                n_visited[active] += new
                last[active] = self._next(last[active], block.random)
            yield sparse.csr_array(has, dtype=np.float32)

    def _next(self, last: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """The items after `last`, (n,): by inverting the cumulative counts of its row, all rows in one search."""
        starts, stops = self._sums[self.beside.indptr[last]], self._sums[self.beside.indptr[last + 1]]
        entry = np.searchsorted(
            self._sums, starts + random.random(len(last)) * (stops - starts), side="right"
        )
        # Rounding of the sum can lead one entry out of the row.
        entry = np.clip(entry - 1, self.beside.indptr[last], np.maximum(self.beside.indptr[last + 1] - 1, 0))
        # An item that occurs with no other has an empty row, so the walk restarts there.
        restarts = (random.random(len(last)) < self.spec.restart) | (stops <= starts)
        items = np.zeros(len(last), dtype=np.int64)
        items[~restarts] = self.beside.indices[entry[~restarts]]
        items[restarts] = self._by_popularity(int(restarts.sum()), random)
        return items

    def _by_popularity(self, size: int, random: np.random.Generator) -> NDArray[np.int64]:
        items = np.searchsorted(self._popular, random.random(size) * self._popular[-1], side="right")
        return np.asarray(items, dtype=np.int64)


@spec
class DiffRecSampler(SynthesizerSpec["DiffRecSynthesizer"]):
    """DiffRec (Wang et al., SIGIR 2023) started from users whose items are drawn by popularity alone.

    Its schedules never reach pure noise, so the chain cannot start from N(0, I): it starts from a random row with a real
    number of items and noise, and its result is the synthetic user.
    """

    kind: ClassVar[str] = "diffrec-sampler"
    fitted: ClassVar[str] = "unblur.synthesis.samplers:DiffRecSynthesizer"
    stochastic: ClassVar[bool] = True
    model: DiffRec = DiffRec(
        schedule=Schedule(scale=0.1), sampling=Sampling(start_steps=5, noise=True), epochs=100
    )
    """The model and its training."""
    discretization: Discretization = Discretization(rule="user-counts")
    """The rule that turns scores into items."""

    def __post_init__(self) -> None:
        SpecError.unless(
            self.model.time_weights is None,
            "Synthetic users have no timestamps, so `model.time_weights` must be nothing; saw "
            f"{self.model.time_weights!r}. Leave it out.",
        )

    def plans(self) -> Mapping[str, Plan]:
        """The training of the model."""
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
    """Holds a DiffRec model, whose scores of random rows become items. Items that no training user had are never sampled."""

    built: ClassVar[tuple[str, ...]] = ("model",)
    model_arrays: Weights = weights("model.")
    """The arrays of `model`."""
    item_counts: NDArray[np.int64] = learned("items", dtype="int64", values=COUNTS)

    @cached_property
    def model(self) -> DiffRecRecommender:
        """The recommender that scores random rows."""
        arrays = {name: array.cpu().numpy() for name, array in self.model_arrays.items()}
        counts = {"count": self.item_counts}
        return DiffRecRecommender.from_tensors(self.spec.model, self.items, counts, arrays, self.device)

    def _rows(self, blocks: Blocks) -> Rows:
        return discretized(self._scored(blocks), self.spec.discretization, self.counts, blocks.n_users)

    def _scored(self, blocks: Blocks) -> Iterator[tuple[UserBlock, Scores]]:
        for block in blocks:
            sizes = np.maximum(self.counts.draw(block.size, block.random), 1)
            rows = popular_rows(self.item_counts, sizes, block.random)
            scores = self.model.score(Interactions(rows, Vocabulary.range(block.size), self.items))
            scores[:, self.item_counts == 0] = -np.inf
            yield block, scores
