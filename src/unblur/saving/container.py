"""The format of saved models and training checkpoints: a folder of tensors, tables and one manifest.

::

    name/
    ├── manifest.json         format, contents, shapes of the arrays, size and sha256 of every file
    ├── tensors.safetensors   dense arrays; a CSR matrix as name.indptr, name.indices and name.data
    └── <table>.parquet       one file for each table

Writing is all or nothing, and reading checks everything before it returns anything. The files are data:
nothing in them names code, and nothing in them is executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any, NoReturn, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import sparse

from unblur.data.formats.opening import open_regular, read_parquet
from unblur.data.output import (
    MANIFEST,
    FolderKind,
    OutputFolder,
    identity,
    in_use,
    leftovers,
    sealed,
    sha256_of,
    unsealed,
    write_parquet,
)
from unblur.errors import ArtifactError, CapabilityError, out_of_memory, reason_of, some
from unblur.fitted import Tensors

_NUMBERS = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
}


def write_tensors(tensors: Tensors, file: Path) -> dict[str, Any]:
    """Write all `tensors` to a new file and return their layouts, plain values for a manifest.

    A CSR matrix becomes ``name.indptr``, ``name.indices`` and ``name.data``. Contiguous arrays, C or Fortran,
    are written without a copy. Raises `ArtifactError` for arrays that are not of plain numbers.
    """
    arrays: dict[str, NDArray[Any]] = {}
    layouts: dict[str, Any] = {}
    for name, tensor in tensors.items():
        layouts[name], parts = _parts(name, tensor)
        for key, array in parts.items():
            ArtifactError.unless(
                array.dtype.name in _NUMBERS,
                f"Tensors must be plain numbers; {name!r} is {array.dtype}. Convert it.",
            )
            ArtifactError.unless(
                key not in arrays, f"Tensors must have different names; two are {key!r}. Rename one."
            )
            arrays[key] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
        layouts[name]["stored"] = {key: _facts(arrays[key]) for key in parts}
    try:
        file.touch()
        mode = file.stat().st_mode
        save_file(arrays, file)
        file.chmod(mode)  # that of any new file here: safetensors writes one that nobody else may read
    except SafetensorError as problem:
        raise OSError(str(problem)) from problem
    return layouts


def read_tensors(layouts: Mapping[str, Mapping[str, Any]], file: Path) -> Tensors:
    """Return the tensors that `write_tensors` wrote, in their own memory order, writable.

    Raises `ValueError` if the file is damaged, or its arrays are not of the recorded types and shapes.
    """
    expected = {key: facts for layout in layouts.values() for key, facts in layout["stored"].items()}
    try:
        with safe_open(file, framework="np") as opened:
            names = {*opened.keys()}
            # Before any is read: a header may hold any number of them, none with any numbers.
            if foreign := sorted(names - expected.keys()):
                raise ValueError(f"tensors that are not recorded: {some(foreign)}")
            stored = {name: opened.get_tensor(name) for name in names}
    except SafetensorError as problem:
        raise ValueError(f"{file.name}: {problem}") from None
    seen = {key: _facts(array) for key, array in stored.items()}
    if wrong := sorted(key for key in expected if seen.get(key) != expected[key]):
        listed = some(f"{key} is {seen.get(key)} instead of {expected[key]}" for key in wrong)
        raise ValueError(f"tensors are not of the recorded type and shape: {listed}")
    return {name: _assembled(name, layout, stored) for name, layout in layouts.items()}


def _parts(
    name: str, tensor: NDArray[Any] | sparse.csr_array
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    if sparse.issparse(tensor):
        ArtifactError.unless(
            tensor.format == "csr", f"Sparse tensors must be CSR; {name!r} is {tensor.format}. Convert it."
        )
        layout = {"layout": "csr", "shape": [int(size) for size in tensor.shape]}
        return layout, {f"{name}.{part}": getattr(tensor, part) for part in ("indptr", "indices", "data")}
    dense = np.asarray(tensor)
    fortran = dense.flags.f_contiguous and not dense.flags.c_contiguous
    layout = {"layout": "dense", "order": "F" if fortran else "C", "shape": list(dense.shape)}
    return layout, {name: dense.T if fortran else dense}


def _assembled(
    name: str, layout: Mapping[str, Any], stored: Mapping[str, NDArray[Any]]
) -> NDArray[Any] | sparse.csr_array:
    if layout["layout"] == "csr":
        parts = (stored[f"{name}.data"], stored[f"{name}.indices"], stored[f"{name}.indptr"])
        matrix = sparse.csr_array(parts, shape=tuple(layout["shape"]))
        matrix.check_format(full_check=True)
        if not matrix.has_canonical_format:
            raise ValueError(f"the columns of a row of {name} are not ascending and distinct")
        return matrix
    dense = stored[name].T if layout["order"] == "F" else stored[name]
    if list(dense.shape) != layout["shape"]:
        raise ValueError(f"{name} has shape {dense.shape} instead of {layout['shape']}")
    return dense


def _facts(array: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": array.dtype.name, "shape": list(array.shape)}


TENSORS = "tensors.safetensors"
_MOST_BYTES = 1 << 22
"""Bytes of a manifest, at most: a hundred times that of a blend of ten networks. It is parsed and written again to be checked."""
_PART = re.compile(r"tensors\.safetensors|\w[\w-]*\.parquet", re.ASCII)
_RESERVED = ("format", "format_version", "created", "versions", "tensors", "files", "sha256")


@dataclass(frozen=True)
class Format(FolderKind):
    """A format of saved things, and its newest version, which this code writes."""

    names: tuple[str, ...] = (TENSORS, "items.parquet", "side.parquet")
    version: int = 1


@dataclass(frozen=True, eq=False)
class Container:
    """The contents of a folder, checked to be as they were written."""

    manifest: Mapping[str, Any]
    """The `contents` that were passed, and the container's own entries."""
    tensors: Tensors
    """The arrays, in the memory order in which they were written; owned by the caller, and writable."""
    tables: Mapping[str, pl.DataFrame]
    """The tables, by the name of their file without its suffix."""


# ---------------------------------------------------------------------------------------------------- writing


def write_container(
    path: str | Path | OutputFolder,
    form: Format,
    contents: Mapping[str, Any],
    tensors: Tensors,
    tables: Mapping[str, pl.DataFrame],
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a new folder, whole or not at all, and return its manifest.

    `contents` are plain values that go into the manifest. With `overwrite` it replaces an earlier folder
    (see `OutputFolder`); a folder that holds anything else is never replaced.

    Raises `ArtifactError` if something is in the way, cannot be written, or is no plain value.
    """
    clash = sorted({*contents} & {*_RESERVED})
    ArtifactError.unless(
        not clash, f"Contents must not use the manifest's own keys; saw {some(clash)}. Rename them."
    )
    place = path if isinstance(path, OutputFolder) else OutputFolder(path, form, overwrite=overwrite)
    with place.written() as folder:
        layouts = write_tensors(tensors, folder / TENSORS)
        for name, table in tables.items():
            write_parquet(table, folder / f"{name}.parquet")
        manifest = {
            "format": form.name,
            "format_version": form.version,
            **contents,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "tensors": layouts,
            "files": {file.name: _checksum(file) for file in sorted(folder.iterdir())},
        }
        text = sealed(manifest)
        ArtifactError.unless(
            len(text) <= _MOST_BYTES,
            f"A manifest must have at most {_MOST_BYTES:,} bytes; this one has {len(text):,}. Keep less in its contents.",
        )
        (folder / MANIFEST).write_bytes(text)
    return cast("dict[str, Any]", json.loads(text))


def versions() -> dict[str, str]:
    """The versions of Python, of this library, and of the libraries that numbers depend on, torch's if it is installed."""
    from unblur import __version__

    known = {"python": python_version(), "unblur": __version__}
    for name in ("numpy", "scipy", "torch", "polars"):
        with suppress(metadata.PackageNotFoundError):
            known[name] = metadata.version(name)
    return known


def _checksum(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}


# ---------------------------------------------------------------------------------------------------- reading


def read_manifest(path: str | Path, form: Format) -> dict[str, Any]:
    """Return the manifest of a container, after a check of itself; no other file is opened.

    Raises `ArtifactError` if there is none, or if it is of another format, of a newer version, or damaged.
    """
    folder = Path(path)
    with _unreplaced(folder, form):
        return _manifest(folder, form)


def _manifest(folder: Path, form: Format) -> dict[str, Any]:
    try:
        with open_regular(folder / MANIFEST) as stream:
            text = stream.read(_MOST_BYTES + 1)
    except OSError as problem:
        _refuse_missing_manifest(folder, form, problem)
    if len(text) > _MOST_BYTES:
        refuse(folder, form, f"{MANIFEST} has more than {_MOST_BYTES:,} bytes")
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as problem:
        refuse(folder, form, f"{MANIFEST} is not complete JSON ({problem})")
    name = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
    ArtifactError.unless(
        name == form.name,
        f"The format of a {form.noun} must be {form.name!r}; {folder / MANIFEST} says {name!r}. "
        "Check the path.",
    )
    version = manifest.get("format_version")
    if type(version) is not int or version < 1:
        refuse(folder, form, f"{MANIFEST} says format version {version!r}")
    ArtifactError.unless(
        version <= form.version,
        f"This installation reads {form.noun} format {form.version} and older; {folder} has format "
        f"{version}, written by unblur {writer(manifest)}. Upgrade with `pip install --upgrade unblur`.",
    )
    try:
        unsealed(text)
    except ValueError:
        manifest.pop("sha256")
    if "sha256" not in manifest:
        refuse(folder, form, f"{MANIFEST} was changed after it was written")
    return dict(manifest)


def read_container(path: str | Path, form: Format) -> Container:
    """Read a folder that `write_container` wrote.

    Size and sha256 of every file, and type and shape of every tensor, are checked against the manifest.
    Raises `ArtifactError` for anything that is missing, changed, foreign, or outside the folder.
    """
    folder = Path(path)
    with _unreplaced(folder, form):
        manifest = _manifest(folder, form)
        with fitting_together(folder, form):
            _verify_files(folder, form, manifest["files"])
            tensors = read_tensors(manifest["tensors"], folder / TENSORS)
            names = [name for name in manifest["files"] if name != TENSORS]
            size = manifest.get("items", {}).get("size", _MOST_ROWS)  # one row an item
            tables = {Path(name).stem: _read_table(folder / name, size) for name in names}
    return Container(manifest, tensors, tables)


@contextmanager
def _unreplaced(folder: Path, form: Format) -> Iterator[None]:
    """Say that a folder was replaced if that happened while it was read, whatever came of it.

    It need not look damaged: its files are opened one by one, and each may be of another folder.
    """
    before, problem = identity(folder), None
    try:
        yield
    except ArtifactError as seen:
        problem = seen
    aside = before is None and any(
        in_use(leftover) for leftover in leftovers(folder) if leftover.suffix == ".earlier"
    )
    ArtifactError.unless(
        identity(folder) == before and not aside,
        f"A saved {form.noun} must stay in its place while it is read; another process replaced {folder} "
        "meanwhile. Try again.",
    )
    if problem is not None:
        raise problem


@contextmanager
def fitting_together(folder: str | Path, form: Format) -> Iterator[None]:
    """Refuse the folder if its parts do not fit together, whatever a library raises over them.

    Raises `CapabilityError` if they need more memory than there is.
    """
    try:
        yield
    except (ArtifactError, CapabilityError, ImportError):
        raise
    except (Exception, pl.exceptions.PanicException) as problem:  # noqa: BLE001 - and polars' panics are no `Exception`
        CapabilityError.unless(
            not out_of_memory(problem),
            f"The machine must have enough memory for this {form.noun}; {folder} needs more. Free some, or use a larger one.",
        )
        refuse(folder, form, f"the parts do not fit together ({type(problem).__name__}: {problem})", problem)


def writer(manifest: Mapping[str, Any]) -> str:
    """Return the version of unblur that wrote a container, ``?`` if the manifest does not say."""
    versions = manifest.get("versions")
    return str(versions.get("unblur", "?")) if isinstance(versions, dict) else "?"


def refuse(folder: str | Path, form: Format, seen: str, cause: BaseException | None = None) -> NoReturn:
    """Raise the `ArtifactError` for a folder that is not as it was written."""
    raise ArtifactError(
        f"A saved {form.noun} must be whole and as it was written; in {folder}, {seen}. "
        f"Copy it again from its source, or save the {form.noun} again."
    ) from cause


def _refuse_missing_manifest(folder: Path, form: Format, problem: OSError) -> NoReturn:
    if not isinstance(problem, FileNotFoundError | NotADirectoryError):
        refuse(folder, form, f"{MANIFEST} cannot be read ({reason_of(problem)})")
    state = "is a file" if folder.is_file() else f"has no {MANIFEST}" if folder.is_dir() else "does not exist"
    advice = "Check the path"
    if folder.name and not folder.exists():
        for earlier in (leftover for leftover in leftovers(folder) if leftover.suffix == ".earlier"):
            advice = f"A save was cut off, and what was there before it is whole: rename {earlier}"
    raise ArtifactError(
        f"A saved {form.noun} must be a folder with a {MANIFEST}; {folder} {state}. {advice}."
    ) from None


def _verify_files(folder: Path, form: Format, files: Mapping[str, Mapping[str, Any]]) -> None:
    if foreign := [name for name in files if not _PART.fullmatch(name)]:
        refuse(folder, form, f"{MANIFEST} names files that are no part of such a folder: {some(foreign)}")
    present = {file.name for file in folder.iterdir() if not file.name.startswith(".")} - {MANIFEST}
    if missing := sorted(set(files) - present):
        refuse(folder, form, f"these files are missing: {some(missing)}")
    if extra := sorted(present - set(files)):
        refuse(folder, form, f"there are files that {MANIFEST} does not name (move them away): {some(extra)}")
    for name, recorded in files.items():
        size = (folder / name).stat().st_size
        if size != recorded["bytes"]:
            refuse(folder, form, f"{name} has {size:,} bytes instead of {recorded['bytes']:,}")
        if sha256_of(folder / name) != recorded["sha256"]:
            refuse(folder, form, f"{name} was changed after it was written (its sha256 differs)")


_MOST_ROWS = 2**31 - 1
"""Rows of any table: positions in sparse matrices are 32-bit numbers."""
_ROWS_PER_BYTE = 16
"""Rows that a byte on disk may stand for. Labels differ, so that a row takes a third of a byte or more (a million of ``item-1`` …)."""


def _read_table(file: Path, size: int) -> pl.DataFrame:
    """Return a table of at most `size` rows; no more are read, since millions of equal ones take a few bytes on disk."""
    most = min(size, _ROWS_PER_BYTE * file.stat().st_size)
    with open_regular(file) as stream:
        table = read_parquet(stream, most + 1)
    if len(table) > most:
        raise ValueError(f"{file.name} has more than {most:,} rows")
    return table
