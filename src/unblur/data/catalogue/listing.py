"""The public data sets that the papers use; `catalogue.toml` beside this file holds the facts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any

from unblur.data.catalogue.records import Content, Dataset, Download, Reading
from unblur.errors import DataError, nearest


def _dataset(name: str, facts: dict[str, Any]) -> Dataset:
    readings = tuple(
        Reading(
            **{key: value for key, value in reading.items() if key not in ("options", "parts")},
            options=MappingProxyType(reading["options"]),
            parts=MappingProxyType({part: Content(**content) for part, content in reading["parts"].items()}),
        )
        for reading in facts.pop("readings")
    )
    downloads = tuple(Download(**download) for download in facts.pop("downloads", ()))
    names = {part: tuple(stems) for part, stems in facts.pop("file_names", {}).items()}
    numbered = tuple(facts.pop("numbered"))
    return Dataset(
        name=name, readings=readings, downloads=downloads, file_names=names, numbered=numbered, **facts
    )


def _catalogue() -> Mapping[str, Dataset]:
    text = resources.files("unblur.data.catalogue").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return MappingProxyType({name: _dataset(name, facts) for name, facts in tomllib.loads(text).items()})


DATASETS: Mapping[str, Dataset] = _catalogue()
"""Every known data set by its name."""


def dataset(name: str | Dataset) -> Dataset:
    """The data set of that name; a record of your own is handed back. Raises `DataError` for other names."""
    if isinstance(name, Dataset):
        return name
    if name not in DATASETS:
        raise DataError(
            f"A data set must be one of {', '.join(DATASETS)}; saw {name!r}.{nearest(name, DATASETS)} To use "
            "data of your own, read it with `Interactions.read`, or give its path."
        )
    return DATASETS[name]
