"""Local copies of public data sets: where they lie, what is in them, and whether that is right."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unblur.data.catalogue.demonstration import demo_interactions
from unblur.data.catalogue.listing import DATASETS, Content, Dataset, NamedReading, dataset
from unblur.data.files.reading import split_files
from unblur.data.formats.opening import contents_of
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import CapabilityError, DataError, about, some
from unblur.progress import Progress, silent


@dataclass(frozen=True)
class PartCheck:
    """What one part of a copy is under one reading, next to what it must be."""

    part: str
    reading: str
    file: Path
    expected: Content
    found: Content | None
    """What was read; `None` where reading failed."""
    problem: str | None = None
    """Why reading failed."""

    @property
    def holds(self) -> bool | None:
        """Whether the content is right; `None` where nobody knows what it must be."""
        if self.found is None:
            return False
        if self.expected.fingerprint is not None:
            return self.found.fingerprint == self.expected.fingerprint
        known = self.expected.n_interactions
        return False if known not in (None, self.found.n_interactions) else None


def data_folder() -> Path | None:
    """The folder that the environment variable ``UNBLUR_DATA`` names, with one folder a data set in it."""
    named = os.environ.get("UNBLUR_DATA")
    return Path(named).expanduser() if named else None


def cache_folder() -> Path:
    """Where `fetch` puts data sets: ``unblur`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``."""
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named and Path(named).is_absolute() else Path.home() / ".cache") / "unblur"


def locate(name: str | Dataset | None, data: str | Path | None = None) -> dict[str, Path]:
    """The file of each part of a data set.

    They are looked for at `data` (a file, which is then the part ``all``, or a folder), else in
    ``$UNBLUR_DATA/<name>``, else in the cache that `fetch` fills. With `data` the name may be unknown or
    `None`. A generated data set has no files.

    Raises `CapabilityError`, with the ways to get it, where there is no copy; `DataError` where one is
    incomplete.
    """
    if data is not None:
        return _own_files(name, Path(data))
    if name is None:
        raise DataError("Data must be named or its path given; neither was. Give one of the two.")
    wanted = dataset(name)
    if wanted.generated:
        return {}
    root = data_folder()
    for folder in ([] if root is None else [root / wanted.name]) + [cache_folder() / wanted.name]:
        if folder.is_dir():
            return _complete(wanted, folder)
    looked = f"$UNBLUR_DATA ({root})" if root is not None else "$UNBLUR_DATA (not set)"
    fetching = (
        f"fetch it with `unblur datasets fetch {wanted.name}`"
        if wanted.downloads
        else wanted.by_hand.rstrip(".")
    )
    raise CapabilityError(
        f"The data set {wanted.name} must be at hand; neither {looked} nor the cache {cache_folder()} has a "
        f"folder of that name. One of three: {fetching}; set UNBLUR_DATA to a folder in which {wanted.name} "
        f"is a folder with the files {', '.join(wanted.parts)}; or give the path of a copy (`--data PATH`)."
    )


def load(
    name: str | Dataset,
    path: str | Path | None = None,
    *,
    reading: str | None = None,
    verify: bool = True,
    progress: Progress = silent,
    **options: Any,
) -> dict[str, Interactions]:
    """The parts of a data set, read from wherever `locate` finds them.

    - `reading`: one of the data set's ways to make interactions of its files; the first when `None`.
    - `verify`: refuse a copy whose content is not the known one, whatever its file format.
    - `verify=False` takes other data in its place: labels are as the file has them, and `options` go to
      `unblur.data.files.read` over those of the reading.

    Raises `DataError` for a wrong, damaged or incomplete copy and `CapabilityError` where there is none.
    """
    wanted = dataset(name)
    way = wanted.reading(reading)
    if verify and options:
        raise DataError(
            f"Options of reading change what is read, so it cannot be checked; saw {some(options)}. Pass "
            "`verify=False` with them, or choose one of the data set's readings."
        )
    if wanted.generated and path is None:
        return {"all": demo_interactions()}
    files = locate(wanted, path)
    if not verify:
        options = {**{key: value for key, value in way.options.items() if key != "labels"}, **options}
        return {part: Interactions.read(file, progress=progress, **options) for part, file in files.items()}
    return {part: _right(wanted, way, part, file, progress) for part, file in files.items()}


def verify(
    name: str | Dataset, path: str | Path | None = None, *, progress: Progress = silent
) -> tuple[PartCheck, ...]:
    """Check each part of a copy under each reading. Nothing is raised for wrong content: `Check.holds` says
    it."""
    wanted = dataset(name)
    checks = []
    for part, file in locate(wanted, path).items():
        for way in wanted.readings:
            found = problem = None
            try:
                found = _content(_read(wanted, way, file, progress))
            except DataError as refusal:
                problem = str(refusal)
            checks.append(PartCheck(part, way.name, file, way.parts.get(part, Content()), found, problem))
    return tuple(checks)


def _own_files(name: str | Dataset | None, path: Path) -> dict[str, Path]:
    if not path.is_dir():
        return {"all": path}
    known = name if isinstance(name, Dataset) else DATASETS.get(name or "")
    if known is not None:
        files = known.files_in(path)
        if len(files) == len(known.parts):
            return files
    files = split_files(path)
    if "train" in files:
        return files
    raise DataError(
        f"A folder of data must hold train, valid and test files (train.parquet, say); {path} holds "
        f"{contents_of(path)}. Name its files so, or give the path of one file."
    )


def _complete(wanted: Dataset, folder: Path) -> dict[str, Path]:
    files = wanted.files_in(folder)
    missing = [part for part in wanted.parts if part not in files]
    if missing:
        raise DataError(
            f"A copy of {wanted.name} must have the files {', '.join(wanted.parts)}; {folder} lacks "
            f"{some(missing)} and holds {contents_of(folder)}. {wanted.by_hand}"
        )
    return files


def _read(wanted: Dataset, way: NamedReading, file: Path, progress: Progress) -> Interactions:
    options = dict(way.options)
    for role, size, numbered in zip(
        ("user_vocabulary", "item_vocabulary"), (wanted.n_users, wanted.n_items), wanted.numbered, strict=True
    ):
        if numbered and size is not None:
            options[role] = Vocabulary.range(size)
    data = Interactions.read(file, progress=progress, **options)
    if way.timed and data.timestamps is None:
        others = [other.name for other in wanted.readings if not other.timed]
        raise DataError(
            f'The reading "{way.name}" of {wanted.name} needs times; {file} has no column of them. Use a '
            "copy that has" + (f", or the reading {some(others)}." if others else ".")
        )
    return data


def _content(data: Interactions) -> Content:
    return Content(data.n_interactions, data.fingerprint())


def _right(wanted: Dataset, way: NamedReading, part: str, file: Path, progress: Progress) -> Interactions:
    """One part of a copy. Raises `DataError` where its content is not the known one."""
    if part not in way.parts:
        raise DataError(
            f"The data set {wanted.name} has the parts {', '.join(wanted.parts)}; {file} stands for {part!r}. "
            "Give a folder with a file for each part, or pass `verify=False` to take other data."
        )
    with about(f"{file} is no good copy of {wanted.name}, part {part}"):
        data = _read(wanted, way, file, progress)
    check = PartCheck(part, way.name, file, way.parts[part], _content(data))
    if check.holds is False:
        raise DataError(
            f'The part {part} of {wanted.name}, read as "{way.name}", must be {check.expected}; {file} holds '
            f"{data.n_interactions:,}, {data.fingerprint()}. The copy is damaged or of another version: get it again, or pass it as data of your "
            "own (`--data PATH`)."
        )
    return data
