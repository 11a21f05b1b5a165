"""The public data sets that the papers use, as frozen values; `catalogue.toml` in this folder holds the facts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter

from unblur.data.formats.opening import SUFFIXES, is_file
from unblur.errors import DataError, nearest


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file to fetch."""

    address: str
    """The https address."""
    save_as: str
    """The name of the file in the data set's folder."""
    n_bytes: int | None = None
    """Its size, if known."""
    max_bytes: int = 100_000_000
    """The most bytes that are taken if the size is unknown, and the most that are unpacked: several times those of any
    file here."""
    sha256: str | None = None
    """The checksum of the file, hexadecimal, if known."""
    members: Mapping[str, str] = field(default_factory=dict)
    """For a zip archive: the members to keep, each with its file name; nothing else is unpacked."""


@dataclass(frozen=True)
class Content:
    """The known content of one part under one reading."""

    n_interactions: int | None = None
    """The number of pairs; `None` if unknown."""
    fingerprint: str | None = None
    """`Interactions.fingerprint()` of it; `None` if there was no copy to compute it from."""

    def __str__(self) -> str:
        known = [] if self.n_interactions is None else [f"{self.n_interactions:,} interactions"]
        return ", ".join([*known, *([] if self.fingerprint is None else [self.fingerprint])])


@dataclass(frozen=True, kw_only=True)
class NamedReading:
    """One way to read the files as interactions, and the content that results."""

    name: str
    """``pairs``, ``liked``, ``observed``, ``rated``, ``timed`` …"""
    meaning: str
    """The meaning of an interaction and of its weight."""
    options: Annotated[Mapping[str, Any], AfterValidator(MappingProxyType)]
    """Options of `unblur.data.files.read`, the same for each part and each file format."""
    timed: bool = False
    """True if the interactions must have times."""
    parts: Annotated[Mapping[str, Content], AfterValidator(MappingProxyType)]
    """The known content of each part."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A public data set."""

    name: str
    title: str
    """A line for people."""
    n_users: int | None = None
    n_items: int | None = None
    generated: bool = False
    """True for a generated set, which needs no files."""
    numbered: tuple[bool, bool]
    """True if the labels of users, and of items, are 0, 1, …, n − 1, hence the same in all parts."""
    readings: tuple[NamedReading, ...]
    """The first is the default."""
    downloads: tuple[Download, ...] = ()
    """The files to fetch; empty if the origin cannot be fetched, and `by_hand` says what to do."""
    by_hand: str
    """Instructions to get the data without `fetch`."""
    licence: str
    citation: str
    file_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further names, without endings, of each part's file; the part's own name is always one."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of its parts: train, valid and test, or all."""
        return tuple(self.readings[0].parts)

    @property
    def unverified(self) -> tuple[str, ...]:
        """The parts of which neither a file's checksum nor a fingerprint of the content is known."""
        if self.downloads and all(download.sha256 for download in self.downloads):
            return ()
        return tuple(
            part for part in self.parts if not any(way.parts[part].fingerprint for way in self.readings)
        )

    def reading(self, name: str | None = None) -> NamedReading:
        """The reading of that name, the default one for `None`. Raises `DataError` for any other name."""
        for reading in self.readings:
            if name in (None, reading.name):
                return reading
        names = [reading.name for reading in self.readings]
        raise DataError(
            f"The readings of {self.name} are {', '.join(names)}; saw {name!r}.{nearest(str(name), names)} "
            "Choose one of them."
        )

    def files_in(self, folder: Path) -> dict[str, Path]:
        """The file of each part in a folder, in the first format of `unblur.data.files` that exists."""
        return {part: files[0] for part in self.parts if (files := self._copies_of(part, folder))}

    def _copies_of(self, part: str, folder: Path) -> list[Path]:
        """The files in a folder with one of the part's names, in the order of names and formats."""
        stems = (part, *self.file_names.get(part, ()))
        named = (folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
        return [file for file in named if is_file(file)]


_FACTS = resources.files("unblur.data.catalogue").joinpath("catalogue.toml").read_text(encoding="utf-8")
_DATASET = TypeAdapter(Dataset)  # once: it takes longer to make than to use
DATASETS: Mapping[str, Dataset] = MappingProxyType(
    {name: _DATASET.validate_python({"name": name, **facts}) for name, facts in tomllib.loads(_FACTS).items()}
)
"""Every known data set by its name."""


def dataset(name: str | Dataset) -> Dataset:
    """The data set of that name; a record of your own is handed back. Raises `DataError` for other names."""
    if isinstance(name, Dataset):
        return name
    DataError.unless(
        name in DATASETS,
        f"A data set must be one of {', '.join(DATASETS)}; saw {name!r}.{nearest(name, DATASETS)} To use "
        "data of your own, read it with `Interactions.read`, or give its path.",
    )
    return DATASETS[name]
