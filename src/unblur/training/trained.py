"""Specs whose models are trained epoch by epoch: how `fit` learns, and `training` for who wants to watch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from unblur.data.interactions import Interactions
from unblur.fitted import StoppingData
from unblur.randomness import RNG
from unblur.recommender import Recommender, RecommenderSpec
from unblur.registry import resolve
from unblur.run import Run
from unblur.training.settings import Plan, Precision, Stopping

if TYPE_CHECKING:
    from unblur.training.loop import Training

R = TypeVar("R", bound=Recommender)
START = "unblur.training.run:start"
"""What starts a training; a place, since it needs torch."""


class TrainedByEpochs(RecommenderSpec[R]):
    """A spec with `epochs`, `batch_size`, `precision` and `stopping`, and with a learner of its own."""

    learner: ClassVar[str]
    """``module:Class`` of what trains it, made of the spec, the interactions to train on, the item degrees of all that was
    given, a seed and the device. It is a place and not the class, which needs torch."""
    epochs: int
    batch_size: int
    precision: Precision
    stopping: Stopping | None

    def plans(self) -> Mapping[str, Plan]:
        """The one training."""
        return {"training": Plan(self.epochs, self.batch_size, self.precision, self.stopping, self.decays)}

    @property
    def decays(self) -> Literal["none", "linear"]:
        """How the learning rate falls."""
        return "none"

    def learn(self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None) -> R:
        """Train, and return the recommender of the best evaluated epoch (of the last one without `stopping`).

        Without `validation`, `stopping` sets a part of `train` aside, and the rest is trained on. Raises `DataError` for
        data that cannot be trained on, `DivergedTraining` when a loss is not finite, and `ArtifactError` when a
        checkpoint cannot be written or belongs to another run.
        """
        return self.training(train, rng=rng, run=run, validation=validation).finished()

    def training(
        self,
        train: Interactions,
        *,
        rng: RNG | None = None,
        run: Run = Run(),
        validation: StoppingData | None = None,
    ) -> Training[R]:
        """What `fit` runs, for a caller who wants to see each epoch and to stop at will; arguments as of `fit_in`."""
        training: Training[R] = resolve(START)(
            self,
            partial(resolve(self.learner), self),
            train,
            rng=rng,
            run=run,
            validation=validation,
            identity={},
        )
        return training
