"""The trials of a study on disk: a folder that is right at any moment, whenever the study is killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unblur.data.files.writing import replacing
from unblur.errors import ArtifactError, DataError, some

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
    validations: Mapping[str, float] = field(default_factory=dict)
    """What training was judged to be worth, by epoch (a number in words, as JSON has it)."""
    pruned: bool = False
    """Whether training was ended early, so that it has no value."""

    @property
    def reached(self) -> float | None:
        """The metric, or the best that a training came to that was ended early; `None` where it could not be fitted."""
        return max(self.validations.values()) if self.pruned and self.validations else self.value


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
        differing = differing_from(found, wanted)
        if differing:
            raise ArtifactError(
                f"A study goes on only where it was begun; in {self.folder} these differ: {differing}. Give the "
                "same recipe, settings, search space, seed and data, or another folder."
            )


def differing_from(found: Any, wanted: Mapping[str, Any]) -> str:
    """Which entries of an identity differ from those wanted, in words; empty where none do."""
    there = found if isinstance(found, dict) else {}
    differing = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
    return some(differing) if differing else ""


class OwnTrials:
    """The trials of one process, in a folder or in memory."""

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]) -> None:
        """Raises `ArtifactError` as `Journal.open` does."""
        self._journal = None if folder is None else Journal(folder)
        self._done = [] if self._journal is None else self._journal.open(identity)

    def finished(self, most: int) -> list[Trial]:
        """The finished trials with numbers below `most`, in order."""
        return self._done[:most]

    def claim(self, total: int, propose: Callable[[int], Mapping[str, Any]]) -> tuple[int, Any] | None:
        """The number and point of the next trial below `total`; `None` where all are finished."""
        number = len(self._done)
        return (number, propose(number)) if number < total else None

    def add(self, trial: Trial) -> None:
        """Write a finished trial, whole or not at all."""
        if self._journal is not None:
            self._journal.add(trial)
        self._done.append(trial)

    def release(self) -> None:
        """Nothing: a trial that is not finished has left no trace."""

    def wait(self, total: int) -> None:
        """Nothing: there are no others."""
