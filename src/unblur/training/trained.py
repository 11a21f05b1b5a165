"""What specs whose models are trained epoch by epoch have in common: `fit` and `training`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.progress import Progress, silent
from unblur.randomness import RNG
from unblur.recommender import Recommender

if TYPE_CHECKING:
    import torch

    from unblur.training.learner import Learner
    from unblur.training.loop import Training

R = TypeVar("R", bound=Recommender)


class TrainedByEpochs(Generic[R]):
    """A spec with `epochs`, `batch_size`, `precision` and `stopping`, and with a learner of its own."""

    def fit(
        self,
        train: Interactions,
        *,
        rng: RNG | None = None,
        device: str = "cpu",
        progress: Progress = silent,
        validation: Interactions | None = None,
        checkpoints: str | Path | None = None,
        tensorboard: str | Path | None = None,
        **own: Any,
    ) -> R:
        """Train, and return the recommender of the best evaluated epoch (of the last one without `stopping`).

        - `validation`: interactions of the same users and items to stop by, where a protocol gives some.
          Without it `stopping` sets a part of `train` aside, and the rest is trained on.
        - `checkpoints`: a folder to keep the state of the run in after every evaluated epoch. Called again
          with the same spec, data and seed, an interrupted run goes on from there and ends in the same bytes.
        - `tensorboard`: a folder for event files.
        - `own`: what `training` of this kind takes beside these.

        Raises `DataError` for data that cannot be trained on, `DivergedTraining` when a loss is not finite,
        and `ArtifactError` when a checkpoint cannot be written or belongs to another run.
        """
        run = self.training(
            train,
            rng=rng,
            device=device,
            progress=progress,
            validation=validation,
            checkpoints=checkpoints,
            tensorboard=tensorboard,
            **own,
        )
        for _ in run.epochs():
            pass
        return run.fitted()

    def training(
        self,
        train: Interactions,
        *,
        rng: RNG | None = None,
        device: str = "cpu",
        progress: Progress = silent,
        validation: Interactions | None = None,
        checkpoints: str | Path | None = None,
        tensorboard: str | Path | None = None,
    ) -> Training[R]:
        """What `fit` runs, for a caller who wants to see each epoch and to stop at will; arguments as of
        `fit`."""
        from unblur.training.runs import start_run

        return start_run(
            self,  # type: ignore[arg-type]  # the fields are those of the spec that this is mixed into
            self.learner,
            train,
            rng=rng,
            device=device,
            progress=progress,
            validation=validation,
            checkpoints=checkpoints,
            tensorboard=tensorboard,
        )

    def learner(
        self, train: Interactions, item_counts: NDArray[np.int64], seed: int, device: torch.device
    ) -> Learner[R]:
        """Fresh weights and the rows they learn from; `item_counts`, (n_items,), are of all that was given."""
        raise NotImplementedError
