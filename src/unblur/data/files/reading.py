"""Interactions from one file, or from a folder with one file a part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unblur.data.formats.opening import SUFFIXES, contents_of
from unblur.data.interactions import Interactions
from unblur.errors import DataError, nearest, some

PARTS = {"train": ("train",), "valid": ("valid", "validation", "val", "dev"), "test": ("test",)}
"""The parts of a split folder and the file names, without endings, that they go by."""

read = Interactions.read
"""Interactions from one file, in any format."""


def read_split_folder(folder: str | Path, **options: Any) -> dict[str, Interactions]:
    """The parts ``train``, ``valid`` and ``test`` that a folder holds, each read by `read` with the same
    options.

    A part is a file of that name with an ending that is read (``train.parquet``; also ``validation`` and
    ``val``). Raises `DataError` when there is no train file, or two for one part.
    """
    place = Path(folder)
    if not place.is_dir():
        if place.exists():
            raise DataError(
                f"A folder with train, valid and test files must be given; {place} is a file. Use `read`."
            )
        hint = nearest(place.name, (entry.name for entry in place.absolute().parent.glob("*")))
        raise DataError(f"A folder must be there to be read; {place} is not.{hint} Correct the path.")
    parts = split_files(place)
    DataError.unless(
        "train" in parts,
        f"A split folder must hold a train file (train.parquet, say); {place} holds "
        f"{contents_of(place)}. Name the files train, valid and test, or read them one by one.",
    )
    return {part: Interactions.read(file, **options) for part, file in parts.items()}


def split_files(folder: Path) -> dict[str, Path]:
    """The file of each part in a folder, as far as there is one."""
    parts: dict[str, Path] = {}
    for part, stems in PARTS.items():
        files = sorted(
            entry
            for entry in folder.iterdir()
            if entry.is_file() and entry.suffix.lower() in SUFFIXES and entry.stem.lower() in stems
        )
        DataError.unless(
            len(files) <= 1,
            f"A folder must hold one file for {part}; {folder} holds "
            f"{some([file.name for file in files])}. Remove those that are not meant.",
        )
        if files:
            parts[part] = files[0]
    return parts
