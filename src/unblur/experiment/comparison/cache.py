"""The folder of a comparison: right at any moment, whenever it is killed.

``comparison.json`` says whose results these are; ``models/`` has a JSON and a Parquet file for each model that is
through, the JSON last; ``trials/`` has a folder for each study.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from unblur.data.files.writing import replacing, write_parquet
from unblur.data.vocabulary import Vocabulary
from unblur.errors import ArtifactError, DataError, some
from unblur.experiment.comparison.entries import Entry
from unblur.experiment.comparison.results import Result

IDENTITY = "comparison.json"
"""The file that says whose results these are."""


@dataclass(frozen=True)
class Cache:
    """Results of models in a folder."""

    folder: Path

    def open(self, identity: Mapping[str, Any]) -> None:
        """Make the folder, or check that it is that of the same comparison.

        Raises `ArtifactError` for the folder of another comparison, for one that is something else, and for one that
        cannot be written.
        """
        wanted = json.loads(json.dumps(dict(identity)))
        place = self.folder / IDENTITY
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not place.is_file():
                if any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
                    raise ArtifactError(
                        f"A comparison is kept in a new folder or in its own; {self.folder} holds something else. Give "
                        "another path."
                    )
                self._write(IDENTITY, _text(wanted))
            found = json.loads(place.read_text(encoding="utf-8"))
            for name in ("models", "trials"):
                (self.folder / name).mkdir(exist_ok=True)
        except (OSError, ValueError) as problem:
            if isinstance(problem, ArtifactError):
                raise
            raise ArtifactError(
                f"The folder of a comparison must be whole and one that can be written; {self.folder}: {problem}. "
                "Give another path."
            ) from None
        there = found if isinstance(found, dict) else {}
        differing = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
        if differing:
            raise ArtifactError(
                f"Results are kept with those of the same comparison; in {self.folder} these differ: {some(differing)}. "
                "Give the same data, protocol, budget and seeds, or another folder."
            )

    def trials(self, entry: Entry, pruner: str = "none") -> Path:
        """Where the study of a model keeps its trials; those of another pruner are other trials."""
        return self.folder / "trials" / (slug(entry) + ("" if pruner == "none" else f"-{pruner}"))

    def read(self, entry: Entry) -> Result | None:
        """The result of a model; `None` where there is none, or none that is whole."""
        place = self.folder / "models" / f"{slug(entry)}.json"
        try:
            given = json.loads(place.read_text(encoding="utf-8"))
            table = place.with_suffix(".parquet")
            if given.pop("table") != _checksum(table):
                return None
            frame = pl.read_parquet(table)
            values = frame.drop("user").to_numpy().astype(np.float64)
            return Result.from_dict(given, Vocabulary(frame["user"]), values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError):
            return None

    def add(self, entry: Entry, result: Result) -> None:
        """Keep a result, whole or not at all."""
        place = self.folder / "models" / f"{slug(entry)}.json"
        columns = {name: result.values[name] for name in result.values.names}
        frame = pl.DataFrame({"user": result.users.series, **columns})
        try:
            write_parquet(frame, place.with_suffix(".parquet"))
            self._write(
                f"models/{place.name}",
                _text({**result.to_dict(), "table": _checksum(place.with_suffix(".parquet"))}),
            )
        except (OSError, DataError) as problem:
            raise ArtifactError(
                f"A finished model must be written; {place}: {problem}. Make room: the earlier ones are kept."
            ) from None

    def write(self, texts: Mapping[str, str]) -> None:
        """Write text files at the top of the folder, each whole or not at all."""
        for name, text in texts.items():
            self._write(name, text)

    def _write(self, name: str, text: str) -> None:
        try:
            with replacing(self.folder / name) as stream:
                stream.write(text.encode())
        except (OSError, DataError) as problem:
            raise ArtifactError(
                f"The folder of a comparison must be one that can be written; {self.folder / name}: {problem}. Make "
                "room: what is there already is kept."
            ) from None


def slug(entry: Entry) -> str:
    """A file name for a model: its name, and a checksum of its settings."""
    digest = hashlib.sha256(json.dumps([entry.name, entry.to_dict()], sort_keys=True).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', entry.name).strip('.') or 'model'}-{digest[:10]}"


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
