"""A blend: the weighted sum of the scores of several models, each on the scale of the user's best scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import SpecError
from unblur.fitted import StoppingData, Tensors
from unblur.models.inner import PLAIN, InnerTable, spec_of, table_of
from unblur.randomness import streams
from unblur.ranking import top_k
from unblur.recommender import RNG, Recommender, RecommenderSpec, Run
from unblur.registry import resolve
from unblur.spec import Dimension, Spec, choices, spec

SCALE_ITEMS = 50
"""The best scores whose mean is a user's scale: more than a list has, so that no single score decides it, and few enough to
be those that compete for places in it."""
NOISE = 1e-6
"""The share of a row's largest score that rounding in float32 can make of nothing: a mean below it is no scale."""


MOST_MODELS = 100
"""Models of a blend, those of blends within it included: ten times what pays. A table from elsewhere may hold any number, each in
the next."""


def _n_models(parts: Any) -> int:
    """The number of models in a table of parts, those of blends within it included; they are not yet read as specs."""
    tables = parts.values() if isinstance(parts, Mapping) else ()
    return sum(1 + _n_models(table.get("parts")) for table in tables if isinstance(table, Mapping))


_DEFAULT: Mapping[str, Mapping[str, Any]] = {
    "spectral": {"kind": "low-pass"},
    "users": {"kind": "user-knn", "neighbours": "all", "weighting": "tf-idf", "power": 2.0},
}


@spec
class Blend(RecommenderSpec["BlendRecommender"]):
    """Scores ``Σ_p w_p·N(S_p)``, where S_p are the scores of part p, and N divides a user's by the mean of his 50 best.

    The best are those of items that the history does not have. Where their mean is below 0 (a network's logarithms), N divides
    by its absolute value, which keeps the order; where it is nothing but rounding, by 1. Parts are any kinds, each fitted to train by itself.
    """

    kind: ClassVar[str] = "blend"
    fitted: ClassVar[str] = "unblur.models.blend:BlendRecommender"

    parts: Annotated[Mapping[str, InnerTable], Field(min_length=1, max_length=MOST_MODELS), PLAIN] = Field(
        default_factory=lambda: dict(_DEFAULT)
    )
    """The models, by names of letters, digits, - and _: specs, or their tables with their kinds."""
    weights: Annotated[Mapping[str, Annotated[float, Field(ge=-1e6, le=1e6)]], PLAIN] = Field(
        default_factory=dict
    )
    """w, by the names of the parts; 1 for those that are not there."""

    def __post_init__(self) -> None:
        SpecError.unless(
            _n_models(self.parts) <= MOST_MODELS,
            f"A blend must have at most {MOST_MODELS} models, those of blends within it included; saw more. Leave some out.",
        )
        for name in self.parts:
            SpecError.unless(
                name.replace("-", "_").isidentifier(),
                f"The name of a part must be a word of letters, digits, - and _; saw {name!r}. Rename it.",
            )
        unknown = sorted(self.weights.keys() - self.parts.keys())
        SpecError.unless(
            not unknown,
            f"Weights must be those of parts ({', '.join(self.parts)}); saw {', '.join(unknown)}. Correct the names.",
        )
        # Every value is written out, so that a search finds its paths.
        parts = {name: MappingProxyType(table_of(model)) for name, model in self.models.items()}
        weights = {name: float(self.weights.get(name, 1.0)) for name in self.parts}
        object.__setattr__(self, "parts", MappingProxyType(parts))
        object.__setattr__(self, "weights", MappingProxyType(weights))

    @cached_property
    def models(self) -> Mapping[str, RecommenderSpec[Recommender]]:
        """The specs of the parts. Raises `SpecError` for one that cannot be."""
        return {name: spec_of(table) for name, table in self.parts.items()}

    @property
    def stochastic(self) -> bool:  # type: ignore[override]  # a class variable of the others
        """True if any part is."""
        return any(model.stochastic for model in self.models.values())

    @property
    def personal(self) -> bool:  # type: ignore[override]
        """True if any part is."""
        return any(model.personal for model in self.models.values())

    @property
    def zero_without_signal(self) -> bool:  # type: ignore[override]
        """True if all parts are."""
        return all(model.zero_without_signal for model in self.models.values())

    @property
    def needs_timestamps(self) -> bool:
        """True if any part does."""
        return any(model.needs_timestamps for model in self.models.values())

    @property
    def uses_weights(self) -> bool:
        """True if any part does."""
        return any(model.uses_weights for model in self.models.values())

    @property
    def weights_setting(self) -> str:  # type: ignore[override]  # a class variable of the others
        """That of the last part that has one."""
        settings = {name: model.weights_setting for name, model in self.models.items()}
        return next((f"parts.{name}.{settings[name]}" for name in reversed(settings) if settings[name]), "")

    def with_weights(self, data: Interactions) -> Interactions:
        """Return the interactions as they are: each part takes the weights that count for it."""
        return data

    def notes_on(self, train: Interactions) -> tuple[str, ...]:
        """The notes of the parts."""
        return tuple(note for model in self.models.values() for note in model.notes_on(train))

    def space(self) -> tuple[Dimension, ...]:
        """The spaces of the parts, and the weights of all but the first: only their ratios count."""
        of_parts = [
            replace(
                dimension,
                name=f"parts.{name}.{dimension.name}",
                paths=tuple(f"parts.{name}.{path}" for path in dimension.paths),
            )
            for name, model in self.models.items()
            for dimension in model.space()
        ]
        others = list(self.parts)[1:]
        return (*of_parts, *choices(**{f"weights.{name}": (0.1, 0.2, 0.3, 0.5, 0.7, 1.0) for name in others}))

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> BlendRecommender:
        """Fit each part to train, one after the other; one that stops early holds interactions out of train itself."""
        seeds = streams(rng, *(f"part {number}" for number in range(len(self.parts))))
        parts = {
            name: model.fit_in(run, train, rng=seed)
            for (name, model), seed in zip(self.models.items(), seeds.values(), strict=True)
        }
        return BlendRecommender(self, train.items, train.item_degrees, device=run.device, parts=parts)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class BlendRecommender(Recommender["Blend"]):
    """Scores are weighted sums of those of its parts, each divided by a scale of the user's own."""

    batch: ClassVar[int] = 256
    in_threads: ClassVar[bool] = True

    parts: Mapping[str, Recommender]
    """The fitted parts; their arrays are what is saved."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the parts."""
        return tuple(f"{name}: {note}" for name, part in self.parts.items() for note in part.notes)

    @property
    def exact(self) -> bool:
        """True if the shares of all parts add up: their weighted sum does as well, at the scales of the whole history."""
        return all(part.exact for part in self.parts.values())

    def tensors(self) -> Tensors:
        """The arrays of the parts, under ``part.array``."""
        return {
            f"{name}.{array}": values
            for name, part in self.parts.items()
            for array, values in part.tensors().items()
        }

    @classmethod
    def from_tensors(
        cls, spec: Spec, items: Vocabulary, columns: Mapping[str, NDArray[Any]], tensors: Tensors, device: str
    ) -> Self:
        """Restore the parts from the same arrays."""
        assert isinstance(spec, Blend)  # the registry gave the class by its kind
        own: dict[str, dict[str, Any]] = {name: {} for name in spec.parts}
        for path, values in tensors.items():
            name, _, array = path.partition(".")
            if name not in own:
                raise ValueError(f"no part of a {cls.__name__}: {path}")
            own[name][array] = values
        parts: dict[str, Recommender] = {
            name: resolve(model.fitted).from_tensors(model, items, columns, own[name], device)
            for name, model in spec.models.items()
        }
        counts = next(iter(parts.values())).item_counts
        return cls(spec, items, counts, device=device, parts=parts)

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        total: NDArray[np.float32] | None = None
        for name, part in self.parts.items():
            scores = part.score(histories)
            scores *= (self.spec.weights[name] / self._scales(scores, histories))[:, None]
            total = scores if total is None else np.add(total, scores, out=total)
        assert total is not None  # a blend has at least one part
        return total

    def _scales(self, scores: NDArray[np.float32], histories: Interactions) -> NDArray[np.float32]:
        """The absolute mean of each row's best scores outside the history, (n_rows,); 1 where it is 0 up to rounding."""
        largest = np.maximum(scores.max(axis=1), -scores.min(axis=1))
        seen = histories.rows(), histories.matrix.indices
        own = scores[seen]
        scores[seen] = -np.inf
        _, best = top_k(scores, min(SCALE_ITEMS, scores.shape[1]), self.tie_ranks)
        scores[seen] = own
        present = best > -np.inf  # fewer remain if the history has nearly all items
        means = np.where(present, best, 0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
        return np.where(np.abs(means) <= NOISE * largest, 1, np.abs(means)).astype(np.float32)

    def shares(
        self, history: Interactions, targets: NDArray[np.intp]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return scores and parts as any model does: the parts' own, weighted and scaled as for the whole history."""
        shares = np.zeros((history.n_interactions, len(targets)))
        for name, part in self.parts.items():
            scores = part.score(history)
            factor = self.spec.weights[name] / float(self._scales(scores, history)[0])
            shares += factor * part.shares(history, targets)[1]
        return self.score(history)[0, targets], shares
