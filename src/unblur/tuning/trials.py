"""Which settings are tried, and what each of them reaches on a hold-out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unblur.data.splits.sets import Split
from unblur.errors import DataError, SpecError, nearest, some
from unblur.evaluation.metrics import parse_metric, per_user
from unblur.models.spectral.bspm import BSPM
from unblur.models.spectral.shared_pass import SharedPass, share
from unblur.progress import Progress, silent
from unblur.randomness import RNG, generator
from unblur.run import Run
from unblur.spec import Spec, replace_field, spec_to_dict

T = TypeVar("T")
Space = Mapping[str, tuple[Any, ...]]
"""The values to try at each dotted path of a spec."""


def space_of(base: Any, changes: Mapping[str, Sequence[Any]] | None = None) -> dict[str, tuple[Any, ...]]:
    """The search space of a spec, with the values of some paths replaced.

    Paths inside a part that the spec leaves out (no sharpening, no low-pass) are not searched. Raises `SpecError`
    for an unknown path, a path to a whole part, an empty list of values, and a spec that has nothing to search.
    """
    known = own_space(base)
    plain = dict(_leaves(spec_to_dict(base)))
    for path, values in (changes or {}).items():
        if not values:
            raise SpecError(
                f"Each searched path must have values to try; {path} has none. Give some, or leave it out."
            )
        if path not in known and path not in plain:
            hint = nearest(path, {**known, **plain})
            raise SpecError(f"{path} is not a hyper-parameter of {type(base).__name__}.{hint}")
        known[path] = tuple(value for place, value in enumerate(values) if value not in values[:place])
    tree = spec_to_dict(base)
    kept = {path: values for path, values in known.items() if inside(tree, path)}
    if not kept:
        raise SpecError(
            f"{type(base).__name__} has no search space, so there is nothing to tune. Tune another model."
        )
    return kept


def own_space(base: Spec) -> dict[str, tuple[Any, ...]]:
    """The values of each path that a kind which is not trained by epochs comes with."""
    return {} if base.plans() else {entry.name: entry.all() or () for entry in type(base)().space()}


def settings_of(base: T, space: Space, n: int, *, rng: RNG | None = None) -> list[T]:
    """`n` different settings of the space, drawn at random without repeats; all of them when there are no more."""
    paths, size = list(space), prod(len(values) for values in space.values())
    if n < 1:
        raise SpecError(f"There must be at least 1 trial; saw {n}. Raise it.")
    if size <= n:
        picked = list(product(*space.values()))
    else:
        places = generator(rng).choice(size, size=n, replace=False)
        grid = np.stack(np.unravel_index(np.sort(places), [len(values) for values in space.values()]), axis=1)
        picked = [
            tuple(space[path][at] for path, at in zip(paths, row, strict=True)) for row in grid.tolist()
        ]
    made = []
    for values in picked:
        one: Any = base
        for path, value in zip(paths, values, strict=True):
            one = replace_field(one, path, value)
        made.append(one)
    return made


def value_at(spec: Any, path: str) -> Any:
    """The plain value at a dotted path of a spec; `None` inside a part that is left out."""
    here: Any = spec_to_dict(spec)
    for part in path.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    return here


def departures(spec: Any, space: Space) -> int:
    """At how many searched paths a setting departs from its class's defaults: fewer is simpler."""
    default = type(spec)()
    return sum(value_at(default, path) != value_at(spec, path) for path in space)


class Trials:
    """Values of a metric for each user under many settings, on one hold-out.

    BSPM settings share one decomposition and one pass (`unblur.models.spectral.shared_pass`); others are fitted one by one.
    """

    def __init__(
        self,
        specs: Sequence[Any],
        split: Split,
        metric: str,
        *,
        users: int,
        rng: RNG | None,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> None:
        self.metric = metric
        self.name, self.cutoff = parse_metric(metric)
        if self.cutoff > split.train.n_items:
            raise DataError(
                f"The metric must not look at more places than there are items, {split.train.n_items:,}; saw {metric}. "
                "Choose by a lower cut-off."
            )
        random = generator(rng)
        tested = np.flatnonzero(split.held_out.user_degrees > 0)
        if min(len(tested), users) < 2:
            raise DataError(
                "Settings are compared over at least 2 users with something held out; "
                f"saw {min(len(tested), users)}. Hold out a larger share, or more data."
            )
        if len(tested) > users:
            tested = np.sort(random.choice(tested, size=users, replace=False))
        self.specs = list(specs)
        self.train = split.train
        self.histories = split.histories.take_users(tested)
        self.held_out = split.held_out.take_users(tested)
        self.random, self.device, self.progress = random, device, progress
        self.shared: SharedPass | None = None
        if all(isinstance(spec, BSPM) for spec in self.specs):
            smaller = min(split.train.n_users, split.train.n_items)
            ranks = [spec.low_pass.rank for spec in self.specs if spec.low_pass is not None]
            if ranks and max(ranks) > smaller:
                raise SpecError(
                    f"No searched rank may exceed the smaller side of the matrix, {smaller:,}; saw {some(sorted(set(ranks)))}. "
                    "Leave the larger ones out of the search space."
                )
            self.shared = share(self.specs, split.train, rng=random, run=Run(device, progress))

    def values(self, settings: Sequence[int] | None = None) -> NDArray[np.float64]:
        """(settings, users) the metric; exact for up to eight settings, see `SharedPass.rankings`."""
        chosen = list(range(len(self.specs))) if settings is None else list(settings)
        table = np.zeros((len(chosen), self.histories.n_users))
        for which, positions in enumerate(self._rankings(chosen)):
            table[which] = self._measured(positions)
        return table

    def _rankings(self, chosen: list[int]) -> Iterator[NDArray[np.int32]]:
        """The lists (users, cut-off) of one setting after the other."""
        if self.shared is not None:
            made = np.empty((len(chosen), self.histories.n_users, self.cutoff), dtype=np.int32)
            for rows, positions in self.shared.rankings(
                self.histories, k=self.cutoff, settings=chosen, progress=self.progress
            ):
                made[:, rows] = positions
            yield from made
            return
        for setting in chosen:
            model = self.specs[setting].fit(
                self.train, rng=self.random, device=self.device, progress=self.progress
            )
            yield model.recommend(self.histories, k=self.cutoff).positions

    def _measured(self, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        return per_user(positions, self.held_out.matrix, [self.name], [self.cutoff])[self.metric]


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted path and the value of everything in nested tables that is no table itself."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def inside(tree: Any, path: str) -> bool:
    """Whether the table that a dotted path points into is there."""
    here = tree
    for part in path.split(".")[:-1]:
        here = here.get(part) if isinstance(here, dict) else None
        if here is None:
            return False
    return True
