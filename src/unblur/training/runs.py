"""From a spec and data to a training run: what is set aside, seeds, checkpoints."""

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
from unblur.training.devices import check_device
from unblur.training.learner import Learner
from unblur.training.loop import Scalars, Training
from unblur.training.stopping import Judge, carve, given

R = TypeVar("R", bound=Recommender)


def start_run(
    spec: Spec,
    make_learner: Callable[[Interactions, NDArray[np.int64], int, torch.device], Learner[R]],
    train: Interactions,
    *,
    rng: RNG | None,
    run: Run,
    validation: StoppingData | None,
    identity: Mapping[str, Any] | None = None,
) -> Training[R]:
    """A run that is ready to start, or to go on where its checkpoints end.

    `make_learner` takes the interactions to train on, the item degrees of `train`, a seed and the device. `identity` holds plain values,
    beside spec, data and seed, that a checkpoint must agree in.
    """
    if not train.n_interactions:
        raise DataError("There must be interactions to train on; saw none. Check what was read.")
    plan = spec.plans()["training"]
    on = check_device(run.device, plan.precision)
    if isinstance(validation, Split):
        validation = validation.held_out
    stopping = plan.stopping
    folder = run.checkpoints
    known = recorded_seed(folder) if rng is None and folder is not None else None
    seed = int(streams(rng, "training")["training"].integers(0, 2**62)) if known is None else known
    split = None
    if stopping is not None:
        split = (
            given(train, validation)
            if validation is not None
            else carve(train, stopping, streams(seed, "carve")["carve"])
        )
    whose = {
        "kind": spec.kind,
        "spec": spec_to_dict(spec),
        "train": train.fingerprint(),
        "validation": None if validation is None else validation.fingerprint(),
        "seed": seed,
        **(identity or {}),
    }
    return Training(
        make_learner(train if split is None else split.train, train.item_degrees, seed, on),
        plan,
        seed=seed,
        device=run.device,
        judge=None if split is None or stopping is None else Judge.of(split, stopping.metric),
        checkpoints=None if folder is None else CheckpointFolder(folder, whose),
        checkpoint_every=1 if stopping is None else stopping.every,
        scalars=None if run.events is None else Scalars(run.events),
        progress=run.progress,
    )
