"""What every fitted synthesizer can do: sample users that never were, all at once or in a stream, and be
saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from typing_extensions import TypeVar

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.fitted import Array, Fitted, FittedSpec, S_co, Tensors, learned
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams
from unblur.saving.models import load_as, save

if TYPE_CHECKING:
    from unblur.synthesis.discretization import Discretization

BLOCK = 1024
"""How many users are sampled together. It is not the caller's batch size, which therefore changes no user."""

Rows: TypeAlias = Iterator[sparse.csr_array]
"""The users of each block, (block size, n_items), in order; entries are positive."""


@dataclass(frozen=True)
class UserBlock:
    """Users that are sampled together."""

    size: int
    """How many users."""
    random: np.random.Generator
    """All their chance; it depends on the seed and the block's place alone."""


@dataclass(frozen=True)
class Blocks:
    """All users of one sample, in blocks. Iterated over twice, it gives the same chance twice."""

    n_users: int
    seed: int

    def __iter__(self) -> Iterator[UserBlock]:
        for place, start in enumerate(range(0, self.n_users, BLOCK)):
            yield UserBlock(min(BLOCK, self.n_users - start), np.random.default_rng([self.seed, place]))


Y_co = TypeVar("Y_co", bound="Synthesizer", covariant=True, default="Synthesizer")


class SynthesizerSpec(FittedSpec[Y_co]):
    """Hyper-parameters of a synthesizer, and how to fit them to data."""

    arms: ClassVar[tuple[str, ...]] = ("synthetic",)
    """The ways in which a fitted synthesizer can be sampled, as `Synthesizer.arm` knows them."""

    @property
    def arm(self) -> str:
        """The way that these hyper-parameters say."""
        return self.arms[0]


@dataclass(frozen=True, eq=False, repr=False)
class Synthesizer(Fitted[S_co], ABC):
    """Fitted and immutable. It samples users over the items of the real data."""

    n_real_users: int
    """How many users it was fitted to."""

    noun: ClassVar[str] = "synthesizer"

    @abstractmethod
    def _rows(self, blocks: Blocks) -> Rows:
        """The users of each block, one matrix a block."""

    def tensors(self) -> Tensors:
        """Everything learned, by name, and `n_real_users` as an array of one number."""
        return {**super().tensors(), "n_real_users": np.array([self.n_real_users], dtype=np.int64)}

    def facts(self) -> Mapping[str, Any]:
        """The notes."""
        return {"notes": list(self.notes)}

    @classmethod
    def _further(cls, columns: Mapping[str, NDArray[Any]], left: dict[str, Array]) -> dict[str, Any]:
        return {"n_real_users": int(np.asarray(left.pop("n_real_users"))[0])}

    def arm(self, name: str, discretization: Discretization | None = None) -> Synthesizer:
        """This synthesizer sampled in the way of that name, where it has several, and by another rule if one is given.

        Nothing is trained again.
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
        """`n_users` synthetic users (as many as there were real ones, unless told), labelled 0, 1, 2, ….

        Items are those of the real data. The same `rng` gives the same users, whatever the `batch_size`.
        Raises `DataError` for a size below 1.
        """
        batches = self.sample_batches(n_users, rng=rng, batch_size=batch_size, progress=progress)
        whole = sparse.csr_array(sparse.vstack([batch.matrix for batch in batches], format="csr"))
        return Interactions(whole, Vocabulary.range(whole.shape[0]), self.items)

    @final
    def sample_batches(
        self,
        n_users: int | None = None,
        *,
        rng: RNG | None = None,
        batch_size: int = BLOCK,
        progress: Progress = silent,
    ) -> Iterator[Interactions]:
        """The users of `sample` in batches, made when they are asked for; memory does not grow with
        `n_users`."""
        return self._batches(self._blocks(n_users, rng), _checked("batch_size", batch_size), progress)

    def _blocks(self, n_users: int | None, rng: RNG | None) -> Blocks:
        """The blocks in which so many users, as many as there were real ones if `None`, are sampled."""
        wanted = _checked("n_users", self.n_real_users if n_users is None else n_users)
        return Blocks(wanted, int(streams(rng, "sampling")["sampling"].integers(0, 2**62)))

    @final
    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write it to a new folder; `load_synthesizer` reads it back."""
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
    """Read a synthesizer that `Synthesizer.save` wrote; for the same `rng` it samples the same users.

    Raises `ArtifactError` as `unblur.saving.models.load_as` does.
    """
    return load_as(Synthesizer, path, device=device)  # type: ignore[type-abstract]


def _checked(name: str, value: int) -> int:
    """A whole number from 1. Raises `DataError` for anything else."""
    DataError.unless(
        isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1,
        f"`{name}` must be a whole number from 1; saw {value!r}. Raise it.",
    )
    return int(value)


def _regrouped(blocks: Iterable[sparse.csr_array], size: int) -> Rows:
    """The same rows, `size` at a time."""
    waiting: list[sparse.csr_array] = []
    for block in blocks:
        waiting.append(block)
        held = sum(part.shape[0] for part in waiting)
        if held >= size:
            whole = sparse.csr_array(sparse.vstack(waiting, format="csr"))
            full = held - held % size
            for start in range(0, full, size):
                yield whole[start : start + size]
            waiting = [whole[full:]] if held > full else []
    if waiting:
        yield sparse.csr_array(sparse.vstack(waiting, format="csr"))


@dataclass(frozen=True, eq=False)
class RealCounts:
    """What is kept of real users: how many had how many items, and nothing about which."""

    users_with: NDArray[np.float64]
    """(most + 1,): how many users had 0, 1, 2, … items."""
    n_items: int

    @classmethod
    def of(cls, train: Interactions) -> RealCounts:
        """Counted exactly."""
        return cls(np.bincount(train.user_degrees).astype(np.float64), train.n_items)

    @cached_property
    def density(self) -> float:
        """The share of user-item pairs that were present."""
        pairs = float(self.users_with @ np.arange(len(self.users_with)))
        return pairs / max(1.0, float(self.users_with.sum()) * self.n_items)

    def drawn(self, size: int, random: np.random.Generator) -> NDArray[np.int64]:
        """The numbers of items of `size` users drawn from the real ones, (size,)."""
        edges = np.cumsum(self.users_with)
        places = np.searchsorted(edges, random.random(size) * edges[-1], side="right")
        return np.asarray(places, dtype=np.int64)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CountedSynthesizer(Synthesizer[S_co]):
    """Holds how many real users had how many items."""

    users_with: NDArray[np.float64] = learned("sizes", dtype="float64")
    """How many had 0, 1, 2, … items."""

    @cached_property
    def counts(self) -> RealCounts:
        """The same, ready to be drawn from."""
        return RealCounts(self.users_with, len(self.items))
