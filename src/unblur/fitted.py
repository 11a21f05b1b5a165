"""A fitted thing: a spec, the items that it speaks of, and named arrays. Everything else is derived from these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from typing_extensions import TypeVar

from unblur.data.interactions import Interactions
from unblur.data.splits import Split
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.progress import Progress, Run, silent
from unblur.randomness import RNG
from unblur.spec import Spec

Array: TypeAlias = "NDArray[Any] | sparse.csr_array"
"""A dense array, or a CSR matrix."""
Tensors: TypeAlias = Mapping[str, Array]
"""What a fitted thing is made of, by name."""


def learned(*shape: str | int, dtype: str | None = "float32", **more: Any) -> Any:
    """A field of a `Fitted` dataclass that holds an array, kept when the thing is saved.

    Sides of its shape are ``"items"``, a dotted path of the spec (``"rank"``, ``"low_pass.rank"``), a number, or any
    other word, which stands for the same size wherever it occurs. A field with the default `None` may be left out, and
    is then not kept. Without `dtype` any type of number does.
    """
    return field(metadata={"shape": shape, "dtype": dtype}, **more)


def weights(prefix: str = "") -> Any:
    """A field of a `Fitted` dataclass that holds a network's weights by name, kept under ``prefix + name``."""
    return field(metadata={"prefix": prefix})


StoppingData: TypeAlias = Interactions | Split
"""What a training stops by: interactions of the same users and items, or histories with what was held out of them."""
F_co = TypeVar("F_co", bound="Fitted", covariant=True, default="Fitted")
S_co = TypeVar("S_co", bound=Spec, covariant=True, default=Spec)


class FittedSpec(Spec, ABC, Generic[F_co]):
    """Hyper-parameters, and how to fit them to data.

    A subclass is decorated with `unblur.spec.spec`, names its `kind` and its `fitted` class, and says in `learn` how it
    is fitted.
    """

    def fit(
        self,
        train: Interactions,
        *,
        rng: RNG | None = None,
        device: str = "cpu",
        progress: Progress = silent,
        validation: StoppingData | None = None,
        checkpoints: str | Path | None = None,
        tensorboard: str | Path | None = None,
    ) -> F_co:
        """Learn from `train`, which stays unchanged, and return a new fitted thing.

        - `rng`: where all chance comes from; needed by kinds that are `stochastic`.
        - `validation`: interactions of the same users and items, for kinds whose training `stops` early to stop by.
        - `checkpoints`: a folder to keep the state of trainings in, for kinds that are trained by epochs. The same call
          resumes an interrupted run, which ends in the same bytes.
        - `tensorboard`: a folder for event files, likewise.

        Raises `DataError` for data that cannot be learned from, and for keywords that this kind has no use for.
        """
        run = Run(
            device,
            progress,
            None if checkpoints is None else Path(checkpoints),
            None if tensorboard is None else Path(tensorboard),
        )
        return self.fit_in(run, train, rng=rng, validation=validation)

    def fit_in(
        self,
        run: Run,
        train: Interactions,
        *,
        rng: RNG | None = None,
        validation: StoppingData | None = None,
    ) -> F_co:
        """`fit` within a run."""
        DataError.unless(
            validation is None or self.stops,
            "`validation` serves to stop by, and this spec does not stop early; saw both. "
            "Give the spec a `stopping`, or leave `validation` out.",
        )
        DataError.unless(
            self.plans() or not (run.checkpoints or run.events),
            f"Checkpoints keep the state of a training by epochs; {self.kind} has none. Leave `checkpoints` out.",
        )
        return self.learn(train, rng=rng, run=run, validation=validation)

    @abstractmethod
    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> F_co:
        """How `fit` learns; `validation` is `None` for kinds that do not stop early."""


@dataclass(frozen=True, eq=False, repr=False)
class Fitted(Generic[S_co]):
    """Fitted and immutable. It holds items and arrays, never users.

    A subclass is a dataclass with ``kw_only=True`` whose fields `learned` and `weights` declare: from these lines come
    what is saved, what is checked when it is loaded, and the errors. What can be computed from them is a
    `functools.cached_property`.
    """

    spec: S_co
    """The hyper-parameters it was fitted with."""
    items: Vocabulary
    """The items it speaks of."""
    device: str = field(default="cpu", kw_only=True)
    """Where it computes."""

    noun: ClassVar[str]
    """What messages and formats on disk call such a thing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.items):,} items, {self.spec})"

    def __post_init__(self) -> None:
        """Raises `ValueError` for an array that is not of its declared shape and type."""
        sizes: dict[str | int, int] = {"items": len(self.items)}
        for entry in fields(self):
            array = getattr(self, entry.name) if "shape" in entry.metadata else None
            if array is not None:
                _check(entry.name, array, entry.metadata, sizes, self.spec)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its results must know: what they rest on, and what they do not promise."""
        return ()

    def tensors(self) -> Tensors:
        """Everything learned, by name: what is saved next to the items."""
        found: dict[str, Array] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if "prefix" in entry.metadata:
                prefix = entry.metadata["prefix"]
                found |= {f"{prefix}{name}": tensor.detach().cpu().numpy() for name, tensor in value.items()}
            elif "shape" in entry.metadata and value is not None:
                found[entry.name] = value
        return found

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Further columns, one value an item, of the table of items when it is saved."""
        return {}

    def facts(self) -> Mapping[str, Any]:
        """Further plain values of the manifest when it is saved."""
        return {}

    @classmethod
    def from_tensors(
        cls, spec: Spec, items: Vocabulary, columns: Mapping[str, NDArray[Any]], tensors: Tensors, device: str
    ) -> Self:
        """The fitted thing that `tensors` and `columns` came from.

        Raises `KeyError` for an array that is missing, and `ValueError` for one that does not fit, or is none of its.
        """
        left = dict(tensors)
        values = cls._further(columns, left)
        for entry in fields(cls):
            if "shape" in entry.metadata and (entry.name in left or entry.default is not None):
                values[entry.name] = left.pop(entry.name)
        # The longest prefix first: an empty one takes what is left.
        prefixes = {
            entry.name: entry.metadata["prefix"] for entry in fields(cls) if "prefix" in entry.metadata
        }
        for field_name, prefix in sorted(prefixes.items(), key=lambda one: -len(one[1])):
            own = [name for name in left if name.startswith(prefix)]
            values[field_name] = {name.removeprefix(prefix): _tensor(left.pop(name), device) for name in own}
        if left:
            raise ValueError(f"no part of a {cls.__name__}: {', '.join(sorted(left))}")
        return cls(spec=cast("S_co", spec), items=items, device=device, **values)

    @classmethod
    def _further(cls, columns: Mapping[str, NDArray[Any]], left: dict[str, Array]) -> dict[str, Any]:
        """The fields that are no arrays, from the columns of the table of items, or taken out of `left`."""
        return {}


def _tensor(array: Array, device: str) -> Any:
    import torch

    return torch.from_numpy(np.asarray(array)).to(device)


def _check(
    name: str, array: Array, declared: Mapping[str, Any], sizes: dict[str | int, int], spec: Spec
) -> None:
    """Raise `ValueError` where an array is not as declared; words that are new to `sizes` take their size here."""
    shape = declared["shape"]
    wanted = [sizes.get(side, _size_in(spec, side) if isinstance(side, str) else side) for side in shape]
    fits = len(array.shape) == len(shape) and all(
        expected in (None, size) for expected, size in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        sides = " × ".join(str(side) for side in shape) or "one number"
        known = {side: size for side, size in zip(shape, wanted, strict=True) if size is not None}
        raise ValueError(f"{name} of shape {tuple(array.shape)} instead of {sides} with {known}")
    if declared["dtype"] is not None and array.dtype.name != declared["dtype"]:
        raise ValueError(f"{name} of {array.dtype.name} instead of {declared['dtype']}")
    sizes.update(zip(shape, array.shape, strict=True))


def _size_in(spec: Spec, path: str) -> int | None:
    """The whole number at a dotted path of the spec; `None` where there is none."""
    value: object = spec
    for part in path.split("."):
        value = getattr(value, part, None)
    return value if isinstance(value, int) else None
