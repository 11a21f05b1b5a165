"""From a spec and data to a training: what is set aside, seeds, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split
from unblur.errors import DataError
from unblur.fitted import StoppingData
from unblur.randomness import RNG, streams
from unblur.recommender import Recommender
from unblur.run import Run
from unblur.spec import Spec, spec_to_dict
from unblur.training.checkpoints import CheckpointFolder, recorded_seed
from unblur.training.learner import Learner
from unblur.training.loop import Training, check_device
from unblur.training.stopping import Judge, carve, given

Model = TypeVar("Model", bound=Recommender)


def start(
    spec: Spec,
    make_learner: Callable[[Interactions, NDArray[np.int64], int, torch.device], Learner[Model]],
    train: Interactions,
    *,
    rng: RNG | None,
    run: Run,
    validation: StoppingData | None,
    identity: Mapping[str, Any],
) -> Training[Model]:
    """A training that is ready to begin, or to resume where its checkpoints end.

    `make_learner` takes the interactions to train on, the item degrees of `train`, a seed and the device. `identity` holds
    plain values, next to spec, data and seed, that a checkpoint must agree in.
    """
    if not train.n_interactions:
        raise DataError("There must be interactions to train on; saw none. Check what was read.")
    plan = spec.plans()["training"]
    on = check_device(run.device, plan.precision)
    held_out = validation.held_out if isinstance(validation, Split) else validation
    stopping, seed = plan.stopping, seed_of(rng, run)
    part, judge = train, None
    if stopping is not None:
        if held_out is None:
            split = carve(train, stopping, streams(seed, "carve")["carve"])
        else:
            split = given(train, held_out)
        part, judge = split.train, Judge.of(split, stopping.metric)
    return Training(
        make_learner(part, train.item_degrees, seed, on),
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
    """The seed of a training: without `rng` that of the checkpoints, if there are some."""
    known = recorded_seed(run.checkpoints) if rng is None and run.checkpoints is not None else None
    return int(streams(rng, "training")["training"].integers(0, 2**62)) if known is None else known


def identity_of(
    spec: Spec, train: Interactions, validation: StoppingData | None, seed: int
) -> dict[str, Any]:
    """Plain values in which a checkpoint and the training that resumes from it must agree."""
    fingerprint: Any
    if isinstance(validation, Split):
        parts = {"histories": validation.histories, "held_out": validation.held_out}
        fingerprint = {name: part.fingerprint() for name, part in parts.items()}
    else:
        fingerprint = None if validation is None else validation.fingerprint()
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
    """The folder for checkpoints of a run, if it keeps any."""
    return None if run.checkpoints is None else CheckpointFolder(run.checkpoints, identity, every, type(spec))
