"""Recent interactions count for more: a half-life on the rows that a linear model sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from scipy import sparse

from unblur.data.changes import Change
from unblur.data.interactions import Interactions
from unblur.data.splits import rank_from_latest
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, SpecError, nearest
from unblur.fitted import StoppingData, Tensors
from unblur.models.inner import InnerTable, spec_of, table_of
from unblur.models.linear.item_weights import LinearRecommender, LinearSpec
from unblur.recommender import RNG, Recommender, RecommenderSpec, Run
from unblur.registry import RECOMMENDERS, recommender_spec, resolve
from unblur.spec import Dimension, Spec, choices, spec

INNER = ("ease", "item-knn", "pure-svd", "rp3beta", "sansa", "slim", "sparse-ease")
"""Our kinds that take weighted rows."""
SECONDS = {"seconds": 1.0, "days": 86400.0}


@spec
class Recency(RecommenderSpec["RecencyRecommender"]):
    """A linear model on rows in which an interaction counts ``2^(−age / half_life)``.

    The age is counted from the newest interaction of the same row, in items (0, 1, 2, … from the newest back) or in
    time, so that scores of a row depend on nothing else. Exponential decay of a user's interest is that of Ding and
    Li (*Time Weight Collaborative Filtering*, CIKM 2005, equation 5), applied to the input of any linear model.
    """

    kind: ClassVar[str] = "recency"
    zero_without_signal: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.linear.recency:RecencyRecommender"
    weights_setting: ClassVar[str] = "inner.weights"
    inner: InnerTable = Field(default_factory=lambda: {"kind": "ease"})
    """The model that sees the weighted rows: a spec, or its table with its `kind`."""
    half_life: PositiveFloat = 5.0
    """The age at which an interaction counts half."""
    unit: Literal["items", "seconds", "days"] = "items"
    """The unit of ages. Timestamps are taken to be seconds for the latter two."""
    train_rows: bool = False
    """Weight the rows that the model is fitted to as well, not the histories only."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", MappingProxyType(table_of(self.model)))

    @cached_property
    def model(self) -> LinearSpec[LinearRecommender]:
        """The spec of the inner model. Raises `SpecError` for a kind that takes no weighted rows."""
        kind = str(self.inner.get("kind"))
        cls = recommender_spec(kind) if kind in RECOMMENDERS else None
        if cls is None or not issubclass(cls, LinearSpec):
            raise SpecError(
                f"The kind of `inner` must be one that takes weighted rows: {', '.join(INNER)}; saw {kind!r}."
                f"{nearest(kind, INNER)}"
            )
        return cast("LinearSpec[LinearRecommender]", spec_of(self.inner))

    @property
    def needs_timestamps(self) -> bool:
        """True: ages follow from timestamps."""
        return True

    @property
    def refit_reason(self) -> str | None:
        """That of the inner model, which alone sees the train rows."""
        return (
            "the weights of its train rows are those of their times"
            if self.train_rows
            else self.model.refit_reason
        )

    def update(self, model: Recommender, change: Change, run: Run) -> RecencyRecommender:
        """Update the inner model."""
        assert isinstance(model, RecencyRecommender)  # what this spec fits
        inner = self.model.update(model.inner, change, run)
        return RecencyRecommender(self, inner.items, inner.item_counts, device=run.device, inner=inner)

    def with_statistics(self, model: Recommender, log: Interactions) -> RecencyRecommender:
        """Keep those of the inner model."""
        assert isinstance(model, RecencyRecommender)  # what this spec fits
        return replace(model, inner=self.model.with_statistics(model.inner, log))

    @property
    def uses_weights(self) -> bool:
        """True if the inner model uses them: ages then reduce the weights."""
        return self.model.uses_weights

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(half_life=(1.0, 2.0, 5.0, 10.0, 20.0, 50.0))

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> RecencyRecommender:
        """Fit the inner model. Raises `DataError` when train has no timestamps."""
        DataError.unless(
            train.timestamps is not None,
            "Recency weighs interactions by their timestamps; these have none. Read the data with its time "
            f"column, or fit the inner model ({self.inner['kind']}) itself.",
        )
        rows = self.weighted(train) if self.train_rows else self.with_weights(train).matrix
        inner = self.model.fit_rows(rows, train, run.progress)
        return RecencyRecommender(self, train.items, train.item_degrees, device=run.device, inner=inner)

    def weighted(self, data: Interactions) -> sparse.csr_array:
        """Return the rows with each entry times ``2^(−age / half_life)``; in items, ties fall as `rank_from_latest` says."""
        assert data.timestamps is not None  # `learn` and `score` refuse rows without
        matrix, lengths = self.with_weights(data).matrix, data.user_degrees
        if self.unit == "items":
            ages = rank_from_latest(data)
        else:
            newest = np.full(data.n_users, np.iinfo(np.int64).min)
            np.maximum.at(newest, data.rows(), data.timestamps)
            ages = (np.repeat(newest, lengths) - data.timestamps) / SECONDS[self.unit]
        weights = np.exp2(-ages / self.half_life).astype(np.float32) * matrix.data
        return sparse.csr_array((weights, matrix.indices, matrix.indptr), shape=matrix.shape)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RecencyRecommender(Recommender["Recency"]):
    """Scores of a linear model for weighted histories.

    An interaction's weight depends on those after it, so explanations are by occlusion, not exact.
    """

    inner: LinearRecommender
    """The fitted model that sees the weighted rows; its arrays are what is saved."""

    def tensors(self) -> Tensors:
        """The arrays of the inner model."""
        return self.inner.tensors()

    @classmethod
    def from_tensors(
        cls, spec: Spec, items: Vocabulary, columns: Mapping[str, NDArray[Any]], tensors: Tensors, device: str
    ) -> Self:
        """Restore the inner model from the same arrays."""
        assert isinstance(spec, Recency)  # the registry gave the class by its kind
        model = spec.model
        inner: LinearRecommender = resolve(model.fitted).from_tensors(model, items, columns, tensors, device)
        return cls(spec, items, inner.item_counts, device=device, inner=inner)

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        return self.inner.score_rows(self.spec.weighted(histories))
