"""A fitted thing: a spec, its items, and named arrays. Everything else is derived from these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeAlias, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from typing_extensions import TypeVar

from unblur.data.interactions import Interactions, check_interactions
from unblur.data.splits import Split
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, some
from unblur.progress import Progress, Run, silent
from unblur.randomness import RNG
from unblur.spec import Spec

Array: TypeAlias = "NDArray[Any] | sparse.csr_array"
"""A dense array, or a CSR matrix."""
Tensors: TypeAlias = Mapping[str, Array]
"""The arrays of a fitted thing, by name."""


@dataclass(frozen=True)
class Values:
    """What the numbers of an array must be, beyond their type."""

    what: str
    hold: Callable[[NDArray[Any], int], object]
    """From the numbers, and how many items there are, to whether they are so."""


FROM_ZERO = Values("not negative", lambda values, _: values.min(initial=0) >= 0)
COUNTS = Values(
    "not negative and not all 0", lambda values, _: values.min(initial=0) >= 0 < values.max(initial=0)
)
# Up to a thousandth: singular values, and entries of singular vectors, are rounded.
SHARES = Values("from 0 to 1", lambda values, _: values.min(initial=0) >= 0 and values.max(initial=0) < 1.001)
UNIT = Values(
    "from −1 to 1", lambda values, _: values.min(initial=0) > -1.001 and values.max(initial=0) < 1.001
)
SPECTRUM = Values(
    "from 1 to 0, the largest first",
    lambda values, n: SHARES.hold(values, n) and (values[1:] <= values[:-1]).all(),
)
ASCENDING = Values("ascending", lambda values, _: (values[1:] > values[:-1]).all())
PERMUTATION = Values("each item once", lambda values, n: np.array_equal(np.sort(values), np.arange(n)))
GROUPS = Values(
    "from 0 to below the number of items",
    lambda values, n: values.min(initial=0) >= 0 and values.max(initial=0) < max(n, 1),
)


def learned(
    *shape: str | int,
    dtype: str = "float32",
    sparse: bool | None = False,
    values: Values | None = None,
    **more: Any,
) -> Any:
    """Return a field of a `Fitted` dataclass that holds an array, saved with the thing.

    Sides of its shape are ``"items"``, a dotted path of the spec (``"rank"``, ``"low_pass.rank"``), a number, or any
    other word, which stands for the same size wherever it occurs. It is dense, a CSR matrix if `sparse`, or either if
    `sparse` is `None`; its numbers are as `values` says. A field with the default `None` may be left out, and is then not
    saved.
    """
    return field(metadata={"shape": shape, "dtype": dtype, "sparse": sparse, "values": values}, **more)


def weights(prefix: str = "") -> Any:
    """Return a field of a `Fitted` dataclass that holds a network's weights by name, saved as ``prefix + name``."""
    return field(metadata={"prefix": prefix})


StoppingData: TypeAlias = Interactions | Split
"""Validation data to stop by: interactions of the same users and items, or histories with their held-out items."""
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

        - `rng`: the seed or generator of all random numbers; needed by kinds that are `stochastic`.
        - `validation`: interactions of the same users and items, for kinds whose training `stops` early to stop by.
        - `checkpoints`: a folder to keep the state of trainings in, for kinds that are trained by epochs. The same call
          resumes an interrupted run, which ends in the same bytes.
        - `tensorboard`: a folder for event files, likewise.

        Raises `DataError` for data that cannot be learned from, and for keywords that this kind does not take.
        """
        check_interactions(train, f"The fit of {type(self).__name__}")
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
        """Learn from `train`, as `fit` calls it; `validation` is `None` for kinds that do not stop early."""


@dataclass(frozen=True, eq=False, repr=False)
class Fitted(Generic[S_co]):
    """Fitted and immutable. It holds items and arrays, never users.

    A subclass is a dataclass with ``kw_only=True`` and fields declared by `learned` and `weights`: saving, the checks
    at load and their errors follow from these declarations. Whatever can be computed from the fields is a
    `functools.cached_property`.
    """

    spec: S_co
    """The hyper-parameters it was fitted with."""
    items: Vocabulary
    """The items it was fitted to."""
    device: str = field(default="cpu", kw_only=True)
    """The device it computes on."""

    noun: ClassVar[str]
    """Its name in messages and in formats on disk."""
    built: ClassVar[tuple[str, ...]] = ()
    """Cached properties that are computed at once: arrays that do not fit fail when they are loaded, and not in a first thread."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.items):,} items, {self.spec})"

    def __post_init__(self) -> None:
        """Raise `ValueError` for an array that is not as declared."""
        sizes: dict[str | int, int] = {"items": len(self.items)}
        for entry in fields(self):
            array = getattr(self, entry.name) if "shape" in entry.metadata else None
            if array is not None:
                _check(entry.name, array, entry.metadata, sizes, self.spec)
        for name in self.built:
            getattr(self, name)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the reader of its results: assumptions, and limits."""
        return ()

    def tensors(self) -> Tensors:
        """All learned arrays, by name, which are saved next to the items."""
        tensors: dict[str, Array] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if "prefix" in entry.metadata:
                prefix = entry.metadata["prefix"]
                tensors |= {
                    f"{prefix}{name}": tensor.detach().cpu().numpy() for name, tensor in value.items()
                }
            elif "shape" in entry.metadata and value is not None:
                tensors[entry.name] = value
        return tensors

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Further columns of the table of items when it is saved, with one value an item."""
        return {}

    def facts(self) -> Mapping[str, Any]:
        """Further plain values of the manifest when it is saved."""
        return {}

    def saved_tables(self) -> Mapping[str, pl.DataFrame]:
        """Further tables when it is saved, with a row for each item."""
        return {}

    def with_saved_tables(self, tables: Mapping[str, pl.DataFrame]) -> Self:
        """Return the same thing with the `tables` that were saved with it; `ValueError` for those that it cannot have."""
        if tables:
            raise ValueError(f"no part of a {type(self).__name__}: {', '.join(sorted(tables))}")
        return self

    @classmethod
    def from_tensors(
        cls, spec: Spec, items: Vocabulary, columns: Mapping[str, NDArray[Any]], tensors: Tensors, device: str
    ) -> Self:
        """Restore a fitted thing from its `tensors` and `columns`.

        Raises `KeyError` for an array that is missing, and `ValueError` for one that does not fit or is unknown.
        """
        if infinite := [name for name, array in tensors.items() if not is_finite(_numbers(array))]:
            raise ValueError(f"numbers that are not finite: {some(sorted(infinite))}")
        remaining = dict(tensors)
        values = cls._other_fields(columns, remaining)
        for entry in fields(cls):
            if "shape" in entry.metadata and (entry.name in remaining or entry.default is not None):
                values[entry.name] = remaining.pop(entry.name)
        # The longest prefix first: an empty one takes all that remain.
        prefixes = {
            entry.name: entry.metadata["prefix"] for entry in fields(cls) if "prefix" in entry.metadata
        }
        for field_name, prefix in sorted(prefixes.items(), key=lambda entry: -len(entry[1])):
            names = [name for name in remaining if name.startswith(prefix)]
            values[field_name] = {
                name.removeprefix(prefix): _tensor(remaining.pop(name), device) for name in names
            }
        if remaining:
            raise ValueError(f"no part of a {cls.__name__}: {', '.join(sorted(remaining))}")
        return cls(spec=cast("S_co", spec), items=items, device=device, **values)

    @classmethod
    def _other_fields(
        cls, columns: Mapping[str, NDArray[Any]], remaining: dict[str, Array]
    ) -> dict[str, Any]:
        """Return the fields that are no arrays, from the columns of the table of items, or taken out of `remaining`."""
        return {}


def _tensor(array: Array, device: str) -> Any:
    import torch

    return torch.from_numpy(np.asarray(array, order="C")).to(device)


def _check(
    name: str, array: Array, declaration: Mapping[str, Any], sizes: dict[str | int, int], spec: Spec
) -> None:
    """Raise `ValueError` if an array is not as declared; words that are new to `sizes` get their size from it."""
    shape = declaration["shape"]
    expected_sizes = [
        sizes.get(side, _size_in(spec, side) if isinstance(side, str) else side) for side in shape
    ]
    fits = len(array.shape) == len(shape) and all(
        expected in (None, size) for expected, size in zip(expected_sizes, array.shape, strict=True)
    )
    if not fits:
        sides = " × ".join(str(side) for side in shape) or "one number"
        sizes_by_side = {
            side: size for side, size in zip(shape, expected_sizes, strict=True) if size is not None
        }
        raise ValueError(f"{name} of shape {tuple(array.shape)} instead of {sides} with {sizes_by_side}")
    if array.dtype.name != declaration["dtype"]:
        raise ValueError(f"{name} of {array.dtype.name} instead of {declaration['dtype']}")
    if declaration["sparse"] not in (None, sparse.issparse(array)):
        raise ValueError(f"{name} is {'a dense array' if declaration['sparse'] else 'sparse'}")
    values = declaration["values"]
    if values is not None and not values.hold(_numbers(array), sizes["items"]):
        raise ValueError(f"the numbers of {name} are not {values.what}")
    sizes.update(zip(shape, array.shape, strict=True))


def _numbers(array: Array) -> NDArray[Any]:
    """All numbers of a dense array, or the stored ones of a sparse matrix."""
    return array.data if sparse.issparse(array) else np.asarray(array)


def is_finite(numbers: NDArray[Any]) -> bool:
    """Return whether there is neither NaN nor infinity; the ends say so, without an array of answers."""
    return numbers.dtype.kind != "f" or bool(
        np.isfinite([numbers.min(initial=0), numbers.max(initial=0)]).all()
    )


def _size_in(spec: Spec, path: str) -> int | None:
    """Return the whole number at a dotted path of the spec, `None` without one."""
    value: object = spec
    for part in path.split("."):
        value = getattr(value, part, None)
    return value if isinstance(value, int) else None
