"""From a spec and data to a training run: what is set aside, seeds, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.errors import DataError
from unblur.progress import Progress
from unblur.randomness import RNG, streams
from unblur.recommender import Recommender
from unblur.spec import spec_to_dict
from unblur.training.checkpoints import CheckpointFolder, recorded_seed
from unblur.training.devices import check_device
from unblur.training.learner import Learner
from unblur.training.loop import Scalars, Training
from unblur.training.settings import Plan, Stopping
from unblur.training.stopping import Judge, carve, given

R = TypeVar("R", bound=Recommender)


class TrainedSpec(Protocol):
    """The fields that every trained spec has."""

    kind: ClassVar[str]

    @property
    def epochs(self) -> int:
        """The most passes over the rows."""
        ...

    @property
    def batch_size(self) -> int:
        """Rows a batch."""
        ...

    @property
    def precision(self) -> Literal["float32", "bfloat16"]:
        """What matrix products of training are computed in."""
        ...

    @property
    def stopping(self) -> Stopping | None:
        """When training ends early."""
        ...


def start_run(
    spec: TrainedSpec,
    make_learner: Callable[[Interactions, NDArray[np.int64], int, torch.device], Learner[R]],
    train: Interactions,
    *,
    rng: RNG | None,
    device: str,
    progress: Progress,
    validation: Interactions | None,
    checkpoints: str | Path | None,
    tensorboard: str | Path | None,
    identity: Mapping[str, Any] | None = None,
) -> Training[R]:
    """A run that is ready to start, or to go on where its checkpoints end.

    `make_learner` takes the interactions to train on, the item degrees of `train`, a seed and the device. `identity` holds plain values,
    beside spec, data and seed, that a checkpoint must agree in.
    """
    if not train.n_interactions:
        raise DataError("There must be interactions to train on; saw none. Check what was read.")
    on = check_device(device, spec.precision)
    stopping = spec.stopping
    if validation is not None and stopping is None:
        raise DataError(
            "`validation` serves to stop by, and this spec does not stop early; saw both. "
            "Give the spec a `stopping`, or leave `validation` out."
        )
    folder = None if checkpoints is None else Path(checkpoints)
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
        Plan(
            epochs=spec.epochs,
            batch_size=spec.batch_size,
            precision=spec.precision,
            stopping=stopping,
            decay=getattr(spec, "decay", "none"),  # few specs let the learning rate fall
        ),
        seed=seed,
        device=device,
        judge=None if split is None or stopping is None else Judge.of(split, stopping.metric),
        checkpoints=None if folder is None else CheckpointFolder(folder, whose),
        checkpoint_every=1 if stopping is None else stopping.every,
        scalars=None if tensorboard is None else Scalars(tensorboard),
        progress=progress,
    )
