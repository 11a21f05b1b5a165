"""The files of a log: one, or those in a folder."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from unblur.data.formats.opening import (
    SUFFIXES,
    contents_of,
    data_stem,
    data_suffix,
    is_file,
    is_folder,
    names_in,
)
from unblur.errors import Argument, DataError

SPLIT_PARTS = {"train": ("train",), "valid": ("valid", "validation", "val", "dev"), "test": ("test",)}
"""The parts of a split folder and their file names without suffixes."""

_PARTITION = re.compile(r"([^=]+)=(.*)")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""What Hive, Spark and polars call the folder of rows without a value."""


def log_files(path: str | Path, parts: str | None) -> list[tuple[Path, dict[str, str | None]]]:
    """The files of a log in the order of their names, each with the values that its folders name, as in ``day=2024-05-01``.

    A path of a file is that file. In a folder, all files of a known format are part files, below folders ``name=value`` as
    well; hidden ones, and those that begin with an underscore, are not. `parts` is a pattern of names in the folder instead,
    such as ``*.csv`` or ``2024-*/part-*``. Raises `DataError` if there are none, and for the folder of a split.
    """
    DataError.unless(
        isinstance(path, str | os.PathLike),
        f"A log is read from the path of a file or of a folder; saw {type(path).__name__}. Make interactions of a frame by "
        "`Interactions.from_frame`, of columns by `from_pairs`; read several files as a folder, with ",
        Argument("parts"),
        ".",
    )
    root = Path(path)
    if parts is not None:
        DataError.unless(
            is_folder(root),
            Argument("parts"),
            f" is a pattern of names in a folder; {root} is none. Give the folder, or leave the pattern out; "
            "in a shell put it in quotes, or the names of the files take its place.",
        )
        names = sorted(glob.glob(parts, root_dir=root, recursive=True))  # noqa: PTH207 - `Path.glob` refuses absolute patterns
        files = [root / name for name in names if is_file(root / name)]
        DataError.unless(
            files,
            Argument("parts"),
            f" must fit some file in {root}; {parts!r} fits none, and there is {contents_of(root)}. Correct it.",
        )
    elif is_folder(root):
        split = [name for name in names_in(root) if data_suffix(name) in SUFFIXES and _is_split(name)]
        DataError.unless(
            not split,
            f"A file must be given, or a folder of part files; {root} is a folder, and it holds {', '.join(map(repr, split))}. "
            "Give one of its files, or read a folder with train, valid and test files with `read_split_folder`.",
        )
        files = list(_part_files(root))
        DataError.unless(
            files,
            f"A file must be given, or a folder of part files; {root} is a folder, and it holds no file of a known format, but "
            f"{contents_of(root)}. Correct the path, or say which files are meant with ",
            Argument("parts"),
            ".",
        )
    else:
        return [(root, {})]
    return [
        (file, _partition(file.relative_to(root) if root in file.parents else Path(file.name)))
        for file in files
    ]


def _is_split(name: str) -> bool:
    return any(data_stem(name).lower() in stems for stems in SPLIT_PARTS.values())


def _part_files(folder: Path) -> Iterator[Path]:
    for name in names_in(folder):
        entry = folder / name
        if name.startswith((".", "_")):
            continue
        if is_folder(entry):
            if _PARTITION.fullmatch(name):
                yield from _part_files(entry)
        elif data_suffix(name) in SUFFIXES or name.startswith("part-"):
            yield entry


def _partition(path: Path) -> dict[str, str | None]:
    """The values that the folders of a file name."""
    matches = filter(None, map(_PARTITION.fullmatch, path.parts[:-1]))
    return {match[1]: None if match[2] == _NO_VALUE else unquote(match[2]) for match in matches}
