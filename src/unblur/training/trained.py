"""What specs whose models are trained epoch by epoch have in common: `fit` and `training`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.fitted import StoppingData
from unblur.randomness import RNG
from unblur.recommender import Recommender, RecommenderSpec
from unblur.run import Run
from unblur.training.settings import Plan, Precision, Stopping

if TYPE_CHECKING:
    import torch

    from unblur.training.learner import Learner
    from unblur.training.loop import Training

R = TypeVar("R", bound=Recommender)


class TrainedByEpochs(RecommenderSpec[R]):
    """A spec with `epochs`, `batch_size`, `precision` and `stopping`, and with a learner of its own."""

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

    def learn(
        self,
        train: Interactions,
        *,
        rng: RNG | None,
        run: Run,
        validation: StoppingData | None,
    ) -> R:
        """Train, and return the recommender of the best evaluated epoch (of the last one without `stopping`).

        Without `validation`, `stopping` sets a part of `train` aside, and the rest is trained on. Raises `DataError` for
        data that cannot be trained on, `DivergedTraining` when a loss is not finite, and `ArtifactError` when a
        checkpoint cannot be written or belongs to another run.
        """
        training = self.training(train, rng=rng, run=run, validation=validation)
        for _ in training.epochs():
            pass
        return training.fitted()

    def training(
        self,
        train: Interactions,
        *,
        rng: RNG | None = None,
        run: Run = Run(),
        validation: StoppingData | None = None,
    ) -> Training[R]:
        """What `fit` runs, for a caller who wants to see each epoch and to stop at will; arguments as of `fit_in`."""
        from unblur.training.runs import start_run

        return start_run(self, self.learner, train, rng=rng, run=run, validation=validation)

    def learner(
        self, train: Interactions, item_counts: NDArray[np.int64], seed: int, device: torch.device
    ) -> Learner[R]:
        """Fresh weights and the rows they learn from; `item_counts`, (n_items,), are of all that was given."""
        raise NotImplementedError
