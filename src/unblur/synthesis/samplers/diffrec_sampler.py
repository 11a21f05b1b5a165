"""DiffRec as a sampler: its reverse chain on random users instead of real histories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions, check_train
from unblur.data.vocabulary import Vocabulary
from unblur.errors import SpecError
from unblur.fitted import StoppingData, Tensors, learned
from unblur.models.diffusion.diffrec import DiffRec
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import Sampling
from unblur.progress import Run
from unblur.randomness import RNG
from unblur.registry import resolve
from unblur.spec import Spec, spec
from unblur.synthesis.discretization import Scores, discretized
from unblur.synthesis.samplers.simple import popular_rows
from unblur.synthesis.settings import Discretization
from unblur.synthesis.synthesizer import (
    Blocks,
    CountedSynthesizer,
    RealCounts,
    Rows,
    SynthesizerSpec,
    UserBlock,
)
from unblur.training.settings import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unblur.models.diffusion.diffrec import DiffRecRecommender


@spec
class DiffRecSampler(SynthesizerSpec["DiffRecSynthesizer"]):
    """DiffRec (Wang et al., SIGIR 2023) started from users whose items are drawn by popularity alone.

    Its schedules never reach pure noise, so a start there is no start: the chain is given a random row of a
    real number of items, made noisy, and what it makes of it is the synthetic user.
    """

    kind: ClassVar[str] = "diffrec-sampler"
    fitted: ClassVar[str] = "unblur.synthesis.samplers.diffrec_sampler:DiffRecSynthesizer"
    stochastic: ClassVar[bool] = True
    model: DiffRec = DiffRec(
        schedule=Schedule(scale=0.1), sampling=Sampling(start_steps=5, noise=True), epochs=100
    )
    """The model, and how it is trained."""
    discretization: Discretization = Discretization(rule="user-counts")
    """How scores become items."""

    def __post_init__(self) -> None:
        if self.model.time_weights is not None:
            raise SpecError(
                "Synthetic users have no times, so `model.time_weights` must be nothing; saw "
                f"{self.model.time_weights!r}. Leave it out."
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
            model=model,
            item_counts=train.item_degrees,
            users_with=RealCounts.of(train).users_with,
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DiffRecSynthesizer(CountedSynthesizer["DiffRecSampler"]):
    """Scores of random rows, turned into items. Items that nobody in train had are never sampled."""

    model: DiffRecRecommender
    """Makes the scores."""
    item_counts: NDArray[np.int64] = learned("items", dtype="int64")

    def tensors(self) -> Tensors:
        """Also those of the model, below ``model.``."""
        inner = {f"model.{name}": tensor for name, tensor in self.model.tensors().items()}
        return {**super().tensors(), **inner}

    @classmethod
    def from_tensors(
        cls, spec: Spec, items: Vocabulary, columns: Mapping[str, NDArray[Any]], tensors: Tensors, device: str
    ) -> Self:
        """With the model from the arrays below ``model.``."""
        assert isinstance(spec, DiffRecSampler)  # the registry gave the class by its kind
        own = {name: array for name, array in tensors.items() if not name.startswith("model.")}
        inner = {name.removeprefix("model."): tensors[name] for name in tensors.keys() - own.keys()}
        users_with, item_counts = (np.asarray(own[name]) for name in ("users_with", "item_counts"))
        model: DiffRecRecommender = resolve(spec.model.fitted).from_tensors(
            spec.model, items, {"count": item_counts}, inner, device
        )
        n_users = int(np.asarray(own["n_real_users"])[0])
        return cls(
            spec,
            items,
            n_users,
            device=device,
            model=model,
            item_counts=item_counts,
            users_with=users_with,
        )

    def _rows(self, blocks: Blocks) -> Rows:
        return discretized(self._scored(blocks), self.spec.discretization, self.counts, blocks.n_users)

    def _scored(self, blocks: Blocks) -> Iterator[tuple[UserBlock, Scores]]:
        for block in blocks:
            sizes = np.maximum(self.counts.drawn(block.size, block.random), 1)
            rows = popular_rows(self.item_counts, sizes, block.random)
            scores = self.model.score(Interactions(rows, Vocabulary.range(block.size), self.items))
            scores[:, self.item_counts == 0] = -np.inf
            yield block, scores
