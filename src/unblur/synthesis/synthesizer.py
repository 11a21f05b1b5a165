"""The contract of synthesizers: sample synthetic users, all at once or as a stream, and save."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from typing_extensions import TypeVar

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, some
from unblur.fitted import COUNTS, Array, Fitted, FittedSpec, S_co, Tensors, learned
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams
from unblur.saving.models import load_as, save

if TYPE_CHECKING:
    from unblur.synthesis.discretization import Discretization

BLOCK = 1024
"""Users sampled together, from one generator. It is not the caller's batch size, which therefore changes no user; another
value changes all samples."""

Rows: TypeAlias = Iterator[sparse.csr_array]
"""The users of each block, (block size, n_items), in order; entries are positive."""


@dataclass(frozen=True)
class UserBlock:
    """Users that are sampled together."""

    size: int
    """The number of users."""
    random: np.random.Generator
    """Their only source of randomness; it depends on the seed and the block's index alone."""


@dataclass(frozen=True)
class Blocks:
    """All users of one sample, in blocks. Each iteration gives the same generators again."""

    n_users: int
    seed: int

    def __iter__(self) -> Iterator[UserBlock]:
        for index, start in enumerate(range(0, self.n_users, BLOCK)):
            yield UserBlock(min(BLOCK, self.n_users - start), np.random.default_rng([self.seed, index]))


Y_co = TypeVar("Y_co", bound="Synthesizer", covariant=True, default="Synthesizer")


class SynthesizerSpec(FittedSpec[Y_co]):
    """Hyper-parameters of a synthesizer, and its training."""

    arms: ClassVar[tuple[str, ...]] = ("synthetic",)
    """The ways to sample a fitted synthesizer, as names for `Synthesizer.arm`."""

    @property
    def arm(self) -> str:
        """The arm that these hyper-parameters set."""
        return self.arms[0]

    @property
    def stops_by_users(self) -> bool:
        """True if training stops early by users who are given for that."""
        return False

    def within(self, train: Interactions, *, all_teach: bool = False) -> tuple[Self, tuple[str, ...]]:
        """Return the spec with batches cut to the number of training users, as SDRM's authors do, and a note on each cut.

        Users of `train` who are set aside for early stopping are not training users, unless `all_teach`, because those
        users are given separately.
        """
        return self, ()

    def without_departures(self) -> Self:
        """Return the spec without the departures of its authors' code inside the model."""
        return self


@dataclass(frozen=True, eq=False, repr=False)
class Synthesizer(Fitted[S_co], ABC):
    """A fitted, immutable synthesizer, which samples users over the items of the real data."""

    n_real_users: int
    """The number of users it was fitted to."""

    noun: ClassVar[str] = "synthesizer"

    @abstractmethod
    def _rows(self, blocks: Blocks) -> Rows:
        """Yield the users of each block, one matrix per block."""

    def tensors(self) -> Tensors:
        """All learned arrays by name, and `n_real_users` as an array of one number."""
        return {**super().tensors(), "n_real_users": np.array([self.n_real_users], dtype=np.int64)}

    def facts(self) -> Mapping[str, Any]:
        """The notes, for the manifest."""
        return {"notes": list(self.notes)}

    @classmethod
    def _other_fields(
        cls, columns: Mapping[str, NDArray[Any]], remaining: dict[str, Array]
    ) -> dict[str, Any]:
        n_real_users = remaining.pop("n_real_users")
        if n_real_users.shape != (1,) or n_real_users.dtype != np.int64 or not 1 <= n_real_users[0] < 2**31:
            raise ValueError(f"n_real_users is {some([n_real_users])}")
        return {"n_real_users": int(n_real_users[0])}

    def arm(self, name: str, discretization: Discretization | None = None) -> Synthesizer:
        """A copy that samples by the arm of that name, and by `discretization` unless `None`; nothing is trained again.

        A synthesizer with one arm returns itself.
        """
        return self

    @final
    def sample(
        self,
        n_users: int | None = None,
        *,
        rng: RNG | None = None,
        batch_size: int = BLOCK,
        progress: Progress = silent,
    ) -> Interactions:
        """Sample `n_users` users (default: as many as there were real users), labelled 0, 1, 2, ….

        Items are those of the real data. The same `rng` gives the same users, whatever the `batch_size`. Raises
        `DataError` for a size below 1.
        """
        batches = self.sample_batches(n_users, rng=rng, batch_size=batch_size, progress=progress)
        rows = sparse.csr_array(sparse.vstack([batch.matrix for batch in batches], format="csr"))
        return Interactions(rows, Vocabulary.range(rows.shape[0]), self.items)

    @final
    def sample_batches(
        self,
        n_users: int | None = None,
        *,
        rng: RNG | None = None,
        batch_size: int = BLOCK,
        progress: Progress = silent,
    ) -> Iterator[Interactions]:
        """Yield the users of `sample` in batches, sampled on demand; memory does not grow with `n_users`."""
        return self._batches(self._blocks(n_users, rng), _checked("batch_size", batch_size), progress)

    def _blocks(self, n_users: int | None, rng: RNG | None) -> Blocks:
        """The blocks of a sample of `n_users` users, or of as many as there were real users if `None`."""
        size = _checked("n_users", self.n_real_users if n_users is None else n_users)
        return Blocks(size, int(streams(rng, "sampling")["sampling"].integers(0, 2**62)))

    @final
    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Save to a new folder, for `load_synthesizer`."""
        save(self, path, overwrite=overwrite)

    def _batches(self, blocks: Blocks, size: int, progress: Progress) -> Iterator[Interactions]:
        done = 0
        for rows in _regrouped(self._rows(blocks), size):
            done += rows.shape[0]
            first = done - rows.shape[0]
            users = Vocabulary(np.arange(first, done)) if first else Vocabulary.range(done)
            progress(ProgressEvent("sample users", done, blocks.n_users))
            yield Interactions(rows, users, self.items)


def load_synthesizer(path: str | Path, *, device: str = "cpu") -> Synthesizer:
    """Load a synthesizer that `Synthesizer.save` wrote; for the same `rng` it samples the same users.

    Raises `ArtifactError` as `unblur.saving.models.load_as` does.
    """
    return load_as(Synthesizer, path, device=device)  # type: ignore[type-abstract]


def _checked(name: str, value: int) -> int:
    """`value` as an int. Raises `DataError` unless it is a whole number from 1."""
    DataError.unless(
        isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1,
        f"`{name}` must be a whole number from 1; saw {value!r}. Raise it.",
    )
    return int(value)


def _regrouped(blocks: Iterable[sparse.csr_array], size: int) -> Rows:
    """The same rows, `size` at a time."""
    pending: list[sparse.csr_array] = []
    for block in blocks:
        pending.append(block)
        n_pending = sum(part.shape[0] for part in pending)
        if n_pending >= size:
            rows = sparse.csr_array(sparse.vstack(pending, format="csr"))
            full = n_pending - n_pending % size
            for start in range(0, full, size):
                yield rows[start : start + size]
            pending = [rows[full:]] if n_pending > full else []
    if pending:
        yield sparse.csr_array(sparse.vstack(pending, format="csr"))


@dataclass(frozen=True, eq=False)
class RealCounts:
    """The distribution of the number of items per real user; it says nothing about which items."""

    users_with: NDArray[np.float64]
    """(most + 1,): the number of users with 0, 1, 2, … items."""
    n_items: int

    @classmethod
    def of(cls, train: Interactions) -> RealCounts:
        """The exact counts of `train`."""
        return cls(np.bincount(train.user_degrees).astype(np.float64), train.n_items)

    @cached_property
    def density(self) -> float:
        """The share of the user-item pairs that are interactions."""
        pairs = float(self.users_with @ np.arange(len(self.users_with)))
        return pairs / max(1.0, float(self.users_with.sum()) * self.n_items)

    def draw(self, size: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Draw the numbers of items of `size` users, (size,), by inverting the cumulative counts."""
        edges = np.cumsum(self.users_with)
        n_items = np.searchsorted(edges, random.random(size) * edges[-1], side="right")
        return np.asarray(n_items, dtype=np.int64)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CountedSynthesizer(Synthesizer[S_co]):
    """A synthesizer that draws the number of items per user from that of the real users."""

    users_with: NDArray[np.float64] = learned("sizes", dtype="float64", values=COUNTS)
    """The number of real users with 0, 1, 2, … items."""

    @cached_property
    def counts(self) -> RealCounts:
        """`users_with` as a distribution."""
        return RealCounts(self.users_with, len(self.items))
