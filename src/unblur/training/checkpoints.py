"""Checkpoints of a training run: folders in the format of saved models, each written whole, of which the last two stay."""

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
from unblur.registry import kind_today
from unblur.saving.container import Format, read_container, read_manifest, write_container
from unblur.spec import Spec, migrated

CHECKPOINT = Format("unblur-checkpoint", version=1)
"""The format of a checkpoint on disk."""
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
    """The type of the `spec` in `identity`: fields of earlier versions are read under today's names."""

    def write(self, epoch: int, record: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
        """Write all that a run needs to resume after an epoch, then remove all but the last two checkpoints.

        `record` holds plain values, the history of the run; `tensors` weights and optimizer states. Raises `ArtifactError` if
        it cannot be written (a full disk, say); the earlier ones stay as they are.
        """
        contents = {"identity": dict(self.identity), "epoch": epoch, "record": dict(record)}
        target = self.path / f"epoch-{epoch:05d}"
        write_container(target, CHECKPOINT, contents, tensors, {}, overwrite=True)
        for old in _folders(self.path)[:-KEPT]:
            if CHECKPOINT.owns(old):  # somebody's own folder may be named so
                shutil.rmtree(old)

    def latest(self) -> tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]] | None:
        """Return record and tensors of the last checkpoint that is whole, or `None` without checkpoints.

        Raises `ArtifactError` if it belongs to another run, or if no checkpoint is whole.
        """
        folders = _folders(self.path)
        for folder in reversed(folders):
            try:
                container = read_container(folder, CHECKPOINT)
            except ArtifactError:
                if folder == folders[0]:
                    raise
                continue
            self._check(folder, container.manifest["identity"])
            return container.manifest["record"], {
                name: np.asarray(tensor) for name, tensor in container.tensors.items()
            }
        return None

    def _check(self, folder: Path, saved: Mapping[str, Any]) -> None:
        expected = json.loads(json.dumps(dict(self.identity)))
        if self.spec is not None and "spec" in saved:
            spec, _ = migrated(self.spec, saved["spec"])
            saved = {**saved, "kind": kind_today(saved["kind"]), "spec": spec}
        differing = _differences(dict(saved), expected)
        if differing:
            raise ArtifactError(
                f"A checkpoint continues only the run it came from; in {folder} these differ: "
                f"{some(differing)}. Use the same spec, data and seed, or another folder for checkpoints."
            )


def recorded_seed(path: Path) -> int | None:
    """Return the seed of the run whose checkpoints are in the folder, or `None` without checkpoints."""
    folders = _folders(path)
    return int(read_manifest(folders[-1], CHECKPOINT)["identity"]["seed"]) if folders else None


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.glob("epoch-[0-9][0-9][0-9][0-9][0-9]*") if entry.is_dir())


def _differences(saved: Any, expected: Any, path: str = "") -> list[str]:
    """Return the dotted paths at which two trees of plain values differ, with both values."""
    if isinstance(saved, dict) and isinstance(expected, dict):
        names = sorted(saved.keys() | expected.keys())
        return [
            line
            for name in names
            for line in _differences(saved.get(name), expected.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if saved == expected else [f"{path}: {saved!r} there, {expected!r} here"]
