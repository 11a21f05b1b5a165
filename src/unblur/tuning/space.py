"""What a study searches: dimensions, each with the values it may take and where in a spec they go."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, TypeVar

import numpy as np

from unblur.data.interactions import Interactions
from unblur.space import Choice as Choice
from unblur.space import Dimension as Dimension
from unblur.space import Point as Point
from unblur.space import Range as Range
from unblur.spec import set_path, spec_from_dict, spec_to_dict
from unblur.tuning.search import _within_rank
from unblur.tuning.trials import inside, space_of, value_at

T = TypeVar("T")


def dimensions_of(
    base: Any, changes: Mapping[str, Sequence[Any]] | None = None, *, train: Interactions | None = None
) -> tuple[Dimension, ...]:
    """The search space of a spec's class as dimensions: its own ``search_space``, or that of `SPACES`.

    With `train` ranks beyond those of its matrix are left out. Errors are those of `space_of`.
    """
    tree = spec_to_dict(base)
    known = {path: values for path, values in SPACES.get(base.kind, {}).items() if inside(tree, path)}
    found = space_of(base, known | dict(changes or {}))
    if train is not None:
        found = _within_rank(found, train)
    return tuple(Dimension(path, choice(values), (path,)) for path, values in found.items())


def choice(values: Sequence[Any]) -> Choice:
    """One of the values, which become plain: tuples are lists."""
    return Choice(tuple(json.loads(json.dumps(list(values)))))


def size_of(space: Sequence[Dimension]) -> int | None:
    """How many points there are; `None` where there is no end of them."""
    sizes = [dimension.all() for dimension in space]
    return None if any(values is None for values in sizes) else prod(len(values or ()) for values in sizes)


def point_at(space: Sequence[Dimension], number: int) -> dict[str, Any]:
    """The point of that number, from 0, where the last dimension runs fastest; all dimensions have an end."""
    grid = [dimension.all() or () for dimension in space]
    places = np.unravel_index(number, [len(values) for values in grid])
    return {
        dimension.name: values[int(place)]
        for dimension, values, place in zip(space, grid, places, strict=True)
    }


def set_point(base: T, space: Sequence[Dimension], point: Point) -> T:
    """A copy of the spec with a point's values in it. Raises `SpecError` where they do not go together."""
    tree = spec_to_dict(base)
    for dimension in space:
        for path in dimension.paths:
            tree = set_path(tree, path, dimension.convert(point[dimension.name]))
    return spec_from_dict(type(base), tree)


def point_of(base: Any, space: Sequence[Dimension]) -> dict[str, Any]:
    """Where a spec lies in a space: its own values, which need not be among those that are tried."""
    values = {dimension.name: value_at(base, dimension.paths[0]) for dimension in space}
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


_DIFFUSION: Mapping[str, tuple[Any, ...]] = {
    "optimizer.learning_rate": (1e-3, 5e-4, 1e-4, 5e-5, 1e-5),
    "denoiser.dims": ([300], [1000], [200, 600]),
    "schedule.steps": (2, 5, 10, 40),
    "schedule.scale": (0.0001, 0.001, 0.005, 0.01, 0.1, 0.5),
    "schedule.lowest": (0.0005, 0.001, 0.005),
    "schedule.highest": (0.006, 0.01, 0.02),
    "objective.reweight": (True, False),
    "time_weights.oldest": (0.1, 0.3, 0.5),
}
_MULTINOMIAL: Mapping[str, tuple[Any, ...]] = {
    "optimizer.learning_rate": (3e-3, 1e-3, 3e-4),
    "optimizer.weight_decay": (0.0, 1e-5, 1e-4, 1e-3),
    "dims": ([200], [600, 200]),
    "dropout": (0.2, 0.5, 0.7),
}
SPACES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "diffrec": _DIFFUSION,
    "l-diffrec": {
        **_DIFFUSION,
        "denoiser.dims": ([300], [1000]),
        "autoencoder.optimizer.learning_rate": (1e-3, 5e-4, 1e-4),
        "autoencoder.diffusion_weight": (0.03, 0.05, 0.1),
        "clusters.count": (1, 2, 3),
    },
    "mult-dae": _MULTINOMIAL,
    "mult-vae": {**_MULTINOMIAL, "kl_weight": (0.0, 0.1, 0.2, 0.5, 1.0)},
    "lightgcn": {
        "optimizer.learning_rate": (3e-3, 1e-3, 5e-4),
        "ridge": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
        "layers": (1, 2, 3, 4),
        "width": (32, 64, 128),
    },
    "neumf": {
        "optimizer.learning_rate": (3e-3, 1e-3, 3e-4),
        "factors": (8, 16, 32, 64),
        "dropout": (0.0, 0.2, 0.5),
        "negatives": (1, 4),
    },
    "row-mlp": {
        "optimizer.learning_rate": (1e-3, 3e-4, 1e-4),
        "dropout": (0.2, 0.5),
        "dims": ([256], [512, 256, 256]),
    },
    "truncated-svd": {"rank": (8, 16, 20, 32, 64, 128, 256)},
}
"""The search spaces of specs whose every setting costs a training, by kind. Those of the diffusion models: the
values of the authors' published settings (Wang et al., SIGIR 2023) and those between. They stand here and not with the specs, since a class with a
``search_space`` of its own is searched by `unblur.tuning.search` under the strict protocol, at a training a
setting and hold-out."""
