"""Checkpoints of a training run: folders in the container of saved models, written whole, the last two
kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.errors import ArtifactError, some
from unblur.saving.container import Format, read_container, read_manifest, write_container
from unblur.spec import Spec, migrated

CHECKPOINT = Format("unblur-checkpoint", version=1)
"""What a checkpoint is, on disk."""
KEPT = 2
"""Checkpoints on disk: the last, and the one before it should the last be damaged."""


@dataclass(frozen=True)
class CheckpointFolder:
    """The folder of one run: ``epoch-00005``, ``epoch-00010``."""

    path: Path
    identity: Mapping[str, Any]
    """Plain values that say whose run it is: spec, data, seed. Another run's checkpoints are refused."""
    every: int = 1
    """Epochs between checkpoints."""
    spec: type[Spec] | None = None
    """Of the `spec` in `identity`: what earlier versions wrote of it is read as today's."""

    def write(self, epoch: int, record: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
        """Write all that a run needs to go on after an epoch as if it had never stopped, then remove all but the last two.

        `record` holds plain values, what happened so far; `tensors` weights and optimizer states. Raises `ArtifactError` when
        it cannot be written (a full disk, say); the earlier ones stay as they are.
        """
        contents = {"identity": dict(self.identity), "epoch": epoch, "record": dict(record)}
        target = self.path / f"epoch-{epoch:05d}"
        write_container(target, CHECKPOINT, contents, tensors, {}, overwrite=True)
        for old in _folders(self.path)[:-KEPT]:
            shutil.rmtree(old)

    def latest(self) -> tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]] | None:
        """Record and tensors of the last checkpoint that is whole, or `None` where there is none.

        Raises `ArtifactError` when it belongs to another run, or when there are some and none is whole.
        """
        folders = _folders(self.path)
        for folder in reversed(folders):
            try:
                found = read_container(folder, CHECKPOINT)
            except ArtifactError:
                if folder == folders[0]:
                    raise
                continue
            self._check(folder, found.manifest["identity"])
            return found.manifest["record"], {
                name: np.asarray(tensor) for name, tensor in found.tensors.items()
            }
        return None

    def _check(self, folder: Path, found: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps(dict(self.identity)))
        if self.spec is not None and "spec" in found:
            found = {**found, "spec": migrated(self.spec, found["spec"])[0]}
        differing = _differences(dict(found), wanted)
        if differing:
            raise ArtifactError(
                f"A checkpoint continues only the run it came from; in {folder} these differ: "
                f"{some(differing)}. Use the same spec, data and seed, or another folder for checkpoints."
            )


def recorded_seed(path: Path) -> int | None:
    """The seed of the run whose checkpoints are in the folder, or `None` where there are none."""
    folders = _folders(path)
    return int(read_manifest(folders[-1], CHECKPOINT)["identity"]["seed"]) if folders else None


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.glob("epoch-*") if entry.is_dir())


def _differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    """The dotted paths at which two trees of plain values differ, with both values."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = sorted(found.keys() | wanted.keys())
        return [
            line
            for name in names
            for line in _differences(found.get(name), wanted.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if found == wanted else [f"{path}: {found!r} there, {wanted!r} here"]
