"""The folder of a comparison, which keeps each model as it ends and is whole whenever the comparison is killed."""

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

from unblur.data.formats.opening import open_regular, read_parquet
from unblur.data.output import (
    GrowingFolder,
    Inputs,
    OutputFile,
    sealed,
    sha256_of,
    system_errors,
    unsealed,
    write_parquet,
)
from unblur.data.vocabulary import Vocabulary
from unblur.errors import ArtifactError, some
from unblur.experiment.comparison.lineup import Entry, spaces_today
from unblur.experiment.comparison.results import Result
from unblur.experiment.recipe.toml import first_values
from unblur.registry import recommender_spec
from unblur.spec import migrated

IDENTITY = "comparison.json"
"""The file of a folder that identifies the comparison."""
IN_WORDS = {
    "train": "training data",
    "held_out": "held-out items",
    "spaces": "search spaces",
    "search": "search settings",
}
"""Names in that file, in the words of messages."""


@dataclass(frozen=True)
class Cache:
    """A folder with the results of models, from which a comparison is resumed."""

    folder: Path

    def place(self, inputs: Inputs = ()) -> GrowingFolder:
        """The place of the folder, which none of the inputs may be in."""
        rule = "A comparison must be kept in a new folder or in its own"
        return GrowingFolder(self.folder, IDENTITY, rule, inputs=inputs)

    def open(self, identity: Mapping[str, Any]) -> None:
        """Create the folder, or check that it belongs to the same comparison.

        Raises `ArtifactError` for the folder of another comparison, for one with other content, and for one that cannot
        be written to.
        """
        self.place().checked()
        with system_errors(self._requirement):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.check(identity)
            if not (self.folder / IDENTITY).is_file():
                self.write({IDENTITY: sealed(json.loads(json.dumps(identity)))})
            for name in ("models", "trials"):
                (self.folder / name).mkdir(exist_ok=True)

    @property
    def _requirement(self) -> str:
        return f"The folder of a comparison must be undamaged and writable; {self.folder / IDENTITY}"

    def check(self, identity: Mapping[str, Any]) -> None:
        """Raise `ArtifactError` for the folder of another comparison."""
        expected = json.loads(json.dumps(identity))
        file = self.folder / IDENTITY
        with system_errors(self._requirement):
            if not file.exists():
                return
            try:
                with open_regular(file) as stream:
                    stored_values = unsealed(stream.read())
            except ValueError as problem:
                raise ArtifactError(
                    f"{self._requirement}: {problem}. Give another path: existing results are kept."
                ) from None
        if isinstance(stored_values.get("spaces"), dict):
            stored_values["spaces"] = spaces_today(stored_values["spaces"])
        differing = [
            name for name in {**stored_values, **expected} if stored_values.get(name) != expected.get(name)
        ]
        ArtifactError.unless(
            not differing,
            f"Results must be kept with those of the same comparison; in {self.folder} these differ: "
            f"{some([IN_WORDS.get(name, name) for name in differing])}. "
            "Give the same data, protocol, metric, search settings, spaces and seeds (trials and seconds may differ), or "
            "another folder.",
        )

    def trials(self, entry: Entry, pruner: str = "none") -> Path:
        """The folder for the trials of a model; each pruner has its own, since it changes the trials."""
        return self.folder / "trials" / (slug(entry) + ("" if pruner == "none" else f"-{pruner}"))

    def read(self, entry: Entry) -> Result | None:
        """The result of a model; `None` if there is none, or a damaged one."""
        file = self.folder / "models" / f"{slug(entry)}.json"
        table = file.with_suffix(".parquet")
        try:
            with open_regular(file) as stream:
                values = unsealed(stream.read())
            if values["table"] != sha256_of(table):
                return None
            values |= {part: _as_today(values[part]) for part in ("base", "chosen")}
            with open_regular(table) as stream:
                frame = read_parquet(stream)
            return Result.from_dict(
                values, Vocabulary(frame["user"]), frame.drop("user").to_numpy().astype(np.float64)
            )
        except (
            *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
            *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
        ):
            return None

    def add(self, entry: Entry, result: Result) -> None:
        """Write the result of a model, whole or not at all."""
        table = self.folder / "models" / f"{slug(entry)}.parquet"
        columns = {name: result.values[name] for name in result.values.names}
        write_parquet(pl.DataFrame({"user": result.users.series, **columns}), table)
        self.write({f"models/{slug(entry)}.json": sealed({**result.to_dict(), "table": sha256_of(table)})})

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write files into the folder, each whole or not at all."""
        for name, content in contents.items():
            with OutputFile(self.folder / name, overwrite=True).written() as stream:
                stream.write(content)


def slug(entry: Entry) -> str:
    """A file name for a model: its name, and a checksum of its settings, by the names that these had at first."""
    settings = json.dumps([entry.name, first_values(entry.model)], sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', entry.name).strip('.') or 'model'}-{digest[:10]}"


def _as_today(table: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model, as kept, with the names of today."""
    plain = {name: value for name, value in table.items() if name != "kind"}
    return {"kind": table["kind"], **migrated(recommender_spec(table["kind"]), plain)[0]}
