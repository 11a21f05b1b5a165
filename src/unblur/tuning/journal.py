"""The trials of a study on disk: a folder that is right at any moment, whenever the study is killed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unblur.errors import ArtifactError, DataError, some
from unblur.sources import replacing

IDENTITY = "study.json"
"""The file that says whose trials these are."""


@dataclass(frozen=True)
class Trial:
    """What one setting came to."""

    number: int
    """From 0."""
    point: Mapping[str, Any]
    """The value of each dimension by name, as plain values."""
    value: float | None
    """The metric on validation data; `None` where the setting could not be fitted."""
    epochs: int | None
    """The epoch that was best, where there are epochs."""
    seconds: float
    problem: str = ""
    """Why it could not be fitted."""


@dataclass(frozen=True)
class Journal:
    """The folder of a study: ``study.json``, and ``trial-00000.json`` for each finished trial."""

    folder: Path

    def open(self, identity: Mapping[str, Any]) -> list[Trial]:
        """The finished trials, in order; the folder is made where there is none.

        Raises `ArtifactError` for the trials of another study, and for a folder that is something else, is damaged
        or cannot be written.
        """
        wanted = json.loads(json.dumps(dict(identity)))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / IDENTITY).is_file():
                if any(not entry.name.startswith(".") for entry in self.folder.iterdir()):  # .part: a kill's
                    raise ArtifactError(
                        f"Trials are kept in a new folder or in that of the same study; {self.folder} holds something "
                        "else. Give another path."
                    )
                self._write(IDENTITY, wanted)
                return []
            self._check(json.loads((self.folder / IDENTITY).read_text(encoding="utf-8")), wanted)
            trials = [self._read(file) for file in sorted(self.folder.glob("trial-*.json"))]
        except (OSError, ValueError, TypeError) as problem:
            if isinstance(problem, ArtifactError):
                raise
            raise ArtifactError(
                f"The folder of a study must be whole and one that can be written; {self.folder}: {problem}. "
                "Remove it to begin again, or give another path."
            ) from None
        numbers = [trial.number for trial in trials]
        if numbers != list(range(len(trials))):
            raise ArtifactError(
                f"The trials of a study must be numbered from 0 without gaps; {self.folder} has {some(numbers)}. "
                "Remove those after the gap."
            )
        return trials

    def add(self, trial: Trial) -> None:
        """Write a finished trial, whole or not at all."""
        self._write(f"trial-{trial.number:05d}.json", asdict(trial))

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        try:
            with replacing(self.folder / name) as stream:
                stream.write((json.dumps(values, indent=1) + "\n").encode())
        except (OSError, DataError) as problem:
            raise ArtifactError(
                f"A finished trial must be written; {self.folder / name}: {problem}. Make room: the earlier ones are kept."
            ) from None

    def _read(self, file: Path) -> Trial:
        return Trial(**json.loads(file.read_text(encoding="utf-8")))

    def _check(self, found: Any, wanted: Mapping[str, Any]) -> None:
        there = found if isinstance(found, dict) else {}
        differing = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
        if differing:
            raise ArtifactError(
                f"A study goes on only where it was begun; in {self.folder} these differ: {some(differing)}. Give the "
                "same recipe, settings, search space, seed and data, or another folder."
            )
