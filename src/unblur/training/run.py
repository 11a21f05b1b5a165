"""From a spec and data to a training: validation data, seeds, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.data.splits import Split
from unblur.errors import DataError
from unblur.parallel.devices import check_device
from unblur.randomness import RNG, streams
from unblur.recommender import Recommender, RecommenderSpec, Run, StoppingData
from unblur.registry import resolve
from unblur.spec import Spec, spec_to_dict
from unblur.training.checkpoints import CheckpointFolder, recorded_seed
from unblur.training.loop import Learner, Training
from unblur.training.settings import Plan, Precision, Stopping
from unblur.training.stopping import Judge, hold_out

R = TypeVar("R", bound=Recommender)


def start(
    spec: Spec,
    make_learner: Callable[[Interactions, NDArray[np.int64], int, torch.device], Learner[R]],
    train: Interactions,
    *,
    rng: RNG | None,
    run: Run,
    validation: StoppingData | None,
    identity: Mapping[str, Any],
) -> Training[R]:
    """Return a training that is ready to begin, or to resume from its last checkpoint.

    `make_learner` takes the interactions to train on, the item degrees of `train`, a seed and the device. `identity` holds
    plain values that must match for a checkpoint to be resumed, besides spec, data and seed.
    """
    if not train.n_interactions:
        raise DataError("There must be interactions to train on; saw none. Check what was read.")
    plan = spec.plans()["training"]
    device = torch.device(check_device(run.device, plan.precision))
    held_out = validation.held_out if isinstance(validation, Split) else validation
    stopping, seed = plan.stopping, seed_of(rng, run)
    training_part, judge = train, None
    if stopping is not None:
        if held_out is None:
            split = hold_out(train, stopping, streams(seed, "carve")["carve"])
        else:
            own_held_out = held_out.onto(users=train.users, items=train.items)
            split = Split(train, train, own_held_out, "given validation")
        training_part, judge = split.train, Judge(split, stopping.metric)
    return Training(
        make_learner(training_part, train.item_degrees, seed, device),
        plan,
        seed=seed,
        run=run,
        judge=judge,
        checkpoints=checkpoints_of(
            spec,
            {**identity_of(spec, train, held_out, seed), **identity},
            run,
            every=1 if stopping is None else stopping.every,
        ),
    )


def seed_of(rng: RNG | None, run: Run) -> int:
    """Return the seed of a training: without `rng` that of the checkpoints, if there are any."""
    recorded = recorded_seed(run.checkpoints) if rng is None and run.checkpoints is not None else None
    return int(streams(rng, "training")["training"].integers(0, 2**62)) if recorded is None else recorded


def identity_of(
    spec: Spec, train: Interactions, validation: StoppingData | None, seed: int
) -> dict[str, Any]:
    """Return the plain values that must match for a checkpoint to be resumed."""
    fingerprint: Any = None
    if isinstance(validation, Split):
        parts = {"histories": validation.histories, "held_out": validation.held_out}
        fingerprint = {name: rows.fingerprint() for name, rows in parts.items()}
    elif validation is not None:
        fingerprint = validation.fingerprint()
    return {
        "kind": spec.kind,
        "spec": spec_to_dict(spec),
        "train": train.fingerprint(),
        "validation": fingerprint,
        "seed": seed,
    }


def checkpoints_of(
    spec: Spec, identity: Mapping[str, Any], run: Run, *, every: int
) -> CheckpointFolder | None:
    """Return the folder for checkpoints of a run, None if it keeps none."""
    return None if run.checkpoints is None else CheckpointFolder(run.checkpoints, identity, every, type(spec))


class TrainedByEpochs(RecommenderSpec[R]):
    """A spec with `epochs`, `batch_size`, `precision` and `stopping`, and with a learner of its own."""

    learner: ClassVar[str]
    """``module:Class`` of its learner, which takes the spec, the interactions to train on, the item degrees of all
    interactions, a seed and the device. A string, since the class may be defined below the spec."""
    epochs: int
    batch_size: int
    precision: Precision
    stopping: Stopping | None

    def plans(self) -> Mapping[str, Plan]:
        """The one training."""
        return {"training": Plan(self.epochs, self.batch_size, self.precision, self.stopping, self.decays)}

    @property
    def decays(self) -> Literal["none", "linear"]:
        """The decay of the learning rate."""
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
        """Return the training that `fit` runs, to see each epoch or to stop at will; arguments as of `fit_in`."""
        learner = partial(resolve(self.learner), self)
        return start(self, learner, train, rng=rng, run=run, validation=validation, identity={})
