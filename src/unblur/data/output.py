"""Write files and folders: whole or not at all, and never over what somebody else wrote.

Everything that is written goes through an `OutputFile`, an `OutputFolder` or a `GrowingFolder`, and what the system refuses
meanwhile is raised as an `ArtifactError` by `system_errors`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, Self, TypeAlias, cast, get_args

import polars as pl

from unblur.data.formats.opening import open_regular
from unblur.document.text import json_text
from unblur.errors import Argument, ArtifactError, DataError, reason_of, some

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Inputs: TypeAlias = Iterable[str | Path | None]
"""Paths that a command reads; `None` for what was not given."""

Identity: TypeAlias = tuple[int, ...] | None
"""What tells a file or folder from another one in its place; `None` if there is none."""

MANIFEST = "manifest.json"
"""The file of a folder that names the files that were written with it."""

_ELSEWHERE = "Make room, or give another path."

_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
"""The numbers of what the system refuses to those who write, whatever they write."""


@contextmanager
def system_errors(must_hold: str, advice: str = _ELSEWHERE, *, partial: Path | None = None) -> Iterator[None]:
    """Raise what the system refuses inside (a full disk, a folder that is read-only) as an `ArtifactError`.

    Its message is what must hold, the system's reason and the advice. With the file or folder `partial` that is being
    written, other errors pass as they are: that an input is missing is no fault of the output.
    """
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as problem:
        # polars has an error of its own for a full disk, with the number in its text; numpy's has neither number nor name.
        in_text = re.search(r"\(os error (\d+)\)", str(problem))
        number = int(in_text[1]) if in_text else getattr(problem, "errno", None)
        if number not in _OF_WRITING and not (
            isinstance(problem, OSError)
            and (partial is None or number is None or Path(str(problem.filename)).is_relative_to(partial))
        ):
            raise
        raise ArtifactError(f"{must_hold}; {reason_of(problem)}. {advice}") from problem


# ------------------------------------------------------------------------------------------------------ sealed text


def sealed(values: Mapping[str, Any]) -> bytes:
    """Return JSON text that ends with the sha256 of the text without that entry.

    Raises `ArtifactError` for values that JSON does not have.
    """
    try:
        return _rendered({**values, "sha256": hashlib.sha256(_rendered(values)).hexdigest()})
    except (TypeError, ValueError) as problem:
        raise ArtifactError(
            f"JSON takes finite numbers, strings, lists and tables; {problem}. Convert the values."
        ) from None


def unsealed(text: bytes) -> dict[str, Any]:
    """Return the values of a text that `sealed` wrote, or an earlier version without a checksum.

    Raises `ValueError` for a text that was changed since.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__} instead of a table")
        content = {name: value for name, value in values.items() if name != "sha256"}
        if "sha256" in values and text != sealed(content):
            raise ValueError("it was changed after it was written")
    except (ArtifactError, RecursionError) as problem:
        raise ValueError(str(problem)) from None
    return content


def _rendered(values: Mapping[str, Any]) -> bytes:
    return json_text(values).encode()


def sha256_of(file: Path) -> str:
    """The checksum of a file, hexadecimal."""
    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ----------------------------------------------------------------------------------------------------------- places


@dataclass(frozen=True, kw_only=True)
class _Output:
    """A place to write to: `checked` before the work, and looked at again once the result is whole.

    What is there then and was not there before is not replaced: the result is kept next to it, and the `ArtifactError` says where.
    """

    path: str | Path = field(kw_only=False)
    overwrite: bool = False
    """Replace what is there, if it may be replaced."""
    inputs: Inputs = ()
    """Paths that the command reads or, if they are not there yet, writes as well; none may be replaced."""
    target: Path | None = None
    """The place behind the path, links followed, once it is checked."""
    earlier: Identity = None
    """What was there then."""
    whole: ClassVar[bool] = True
    """Whether it takes its name by being renamed."""

    def checked(self) -> Self:
        """Return this output with its `target`, or raise `ArtifactError` if it cannot or must not be written.

        What killed writes left there is removed, and an earlier folder that they had moved away is put back.
        """
        with system_errors(f"The output must be in a folder that can be written to; {self.path}"):
            try:
                target = Path(os.path.realpath(self.path))
            except ValueError as problem:  # a zero byte, or half of a letter
                raise OSError(errno.EINVAL, str(problem)) from None
            _remove_leftovers(target)
            ArtifactError.unless(
                str(self.path) != "-", "The output must be a path; saw -, which is stdout. Give another one."
            )
            ArtifactError.unless(
                target.exists() or not (Path(self.path).is_symlink() or target.is_symlink()),
                f"The output must not be a link to nowhere; {self.path} is one. Remove it, or give another path.",
            )
            ArtifactError.unless(
                not (self.whole and _is_mount(target)),
                f"The output must not be a mount point, which cannot be replaced; {self.path} is one. Give a path inside it, or "
                "another one.",
            )
            self._check(target)
            ArtifactError.unless(
                not _LEFTOVER.fullmatch(target.name),
                f"The output must not be named like what a killed command leaves; saw {self.path}. Give another path.",
            )
            saved = [folder for folder in target.parents if _is_container(folder)]
            ArtifactError.unless(
                not saved,
                f"The output must not be in the folder of a saved model, which would be damaged by it; {some(map(str, saved))} is "
                "one. Give another path.",
            )
            _try_writing(target if self.whole or not target.exists() else target / "file")
        return replace(self, target=target, earlier=identity(target))

    def _check(self, target: Path) -> None:
        """Raise `ArtifactError` for what must not be written to."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class OutputFile(_Output):
    """A file to write: new or, with `overwrite`, a regular one; its folder must exist."""

    def _check(self, target: Path) -> None:
        ArtifactError.unless(
            not target.is_dir(),
            f"A file to write must not be a folder; {self.path} is one. Give a file name inside it.",
        )
        ArtifactError.unless(
            target.parent.is_dir(),
            f"The folder of a file to write must exist; {target.parent} is not one. Make it first.",
        )
        _check_regular(target)
        exists = target.exists()
        ArtifactError.unless(
            not any(
                (_is_within(target, source) and (exists or not source.exists()))
                or (exists and source.exists() and target.samefile(source))
                for source in _given(self.inputs)
            ),
            f"An output must not replace an input; {self.path} is both. Give another path.",
        )
        ArtifactError.unless(
            self.overwrite or not exists,
            f"The file to write must be new; {self.path} exists. Give another path, or --overwrite.",
        )

    @contextmanager
    def written(self) -> Iterator[BinaryIO]:
        """A binary stream whose content becomes the file if the block succeeds; otherwise nothing is left.

        The content is written to a hidden sibling, flushed to disk, and renamed.
        """
        target = self.target or cast("Path", self.checked().target)
        partial = _sibling(target, "part")
        try:
            with (
                system_errors(f"A file must be written whole; {self.path}", partial=partial),
                partial.open("xb") as stream,
                locked(partial),
            ):
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                with _kept_next_to(partial, target):
                    if self.overwrite:
                        _check_regular(target)
                        _take_mode(partial, target)
                        partial.replace(target)
                    else:
                        _rename_to_new(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        _flush_names(target.parent)


def _check_regular(target: Path) -> None:
    ArtifactError.unless(
        not target.is_symlink() and (target.is_file() or not target.exists()),
        f"A file to write must be a regular one; {target} is a device, a pipe or a link. Give a file, or - for stdout.",
    )


def _rename_to_new(partial: Path, target: Path) -> None:
    """Rename a file to a name that must be new."""
    try:
        os.link(partial, target)  # unlike a rename it fails if the name is taken
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(errno.EEXIST, "File exists") from None
        partial.rename(target)


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that is replaced as a whole, and how one is recognised."""

    name: str
    """The ``format`` in its manifest: ``unblur-run``."""
    names: tuple[str, ...] = ()
    """The files that it may hold, for a manifest that is damaged, or missing since an earlier version wrote none."""
    marker: tuple[str, str] | None = None
    """A file and a text in it, by which the folder is recognised then; the name in the manifest if `None`."""

    @property
    def noun(self) -> str:
        """The name of its contents in messages: ``run``."""
        return self.name.removeprefix("unblur-")

    def own_files(self, folder: Path) -> set[str]:
        """The relative names of the files in a folder that belong to it; none for any other folder."""
        with suppress(OSError, ValueError, TypeError):  # a TypeError: its files are no list
            with open_regular(folder / MANIFEST) as stream:
                manifest = unsealed(stream.read())
            if manifest.get("format") == self.name:
                return {*map(str, manifest.get("files", ())), MANIFEST}
        file, text = self.marker or (MANIFEST, self.name)
        with suppress(OSError), open_regular(folder / file) as stream:
            if text.encode() in stream.read():
                return {*self.names, MANIFEST}
        return set()

    def owns(self, folder: Path) -> bool:
        """Return whether a folder is of this kind, with nothing else in it."""
        return _files_in(folder) <= self.own_files(folder)


@dataclass(frozen=True, kw_only=True)
class OutputFolder(_Output):
    """A folder to write as a whole: new or empty or, with `overwrite`, one of the same kind with nothing else in it."""

    kind: FolderKind = field(kw_only=False)

    def _check(self, target: Path) -> None:
        _check_folder(self, target)
        ArtifactError.unless(
            not Path.cwd().is_relative_to(target),
            f"The output folder must not be or hold the working folder, since it is replaced; {self.path} does. Give a folder "
            "inside it.",
        )
        self._check_content(target)

    def _check_content(self, folder: Path) -> None:
        """Raise `ArtifactError` unless a folder is missing or empty, or holds nothing but what may be replaced."""
        files = _files_in(folder)
        if not files:
            return
        ArtifactError.unless(
            self.overwrite,
            f"The output folder must be new or empty; {self.path} exists and is not. Give another path, or --overwrite "
            "(`overwrite=True`).",
        )
        strangers = sorted(files - self.kind.own_files(folder))
        ArtifactError.unless(
            not strangers,
            f"Only the folder of a saved {self.kind.noun}, with nothing else in it, is ever overwritten; {self.path} holds something "
            f"else: {some(strangers)}. Give another path, or move that away first.",
        )

    @contextmanager
    def written(self) -> Iterator[Path]:
        """A new folder that takes its name if the block succeeds; otherwise nothing is left.

        It is a hidden sibling until all of it is on disk. An earlier folder is renamed then, looked at again, and removed
        once the new one has its name.
        """
        place = self if self.target else self.checked()
        target = cast("Path", place.target)
        partial = _sibling(target, "partial")
        rule = (
            f"The output folder must be written whole; {self.path}",
            f"Nothing was left behind. {_ELSEWHERE}",
        )
        try:
            with system_errors(*rule):
                partial.mkdir(parents=True)
            with system_errors(*rule, partial=partial), locked(partial):
                yield partial
                if not (partial / MANIFEST).exists():
                    listing = {"format": self.kind.name, "files": sorted(_files_in(partial))}
                    (partial / MANIFEST).write_bytes(sealed(listing))
                for entry in (*partial.rglob("*"), partial):
                    _flush(entry)
                with _kept_next_to(partial, target):
                    self._put(partial, target, place.earlier)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _put(self, partial: Path, target: Path, earlier: Identity) -> None:
        """Rename the new folder, which fails if there is one with content; with `overwrite`, the `earlier` one makes room."""
        aside = _sibling(target, "earlier")
        if not (self.overwrite and _files_in(target)):
            partial.rename(target)
        else:
            with locked(target):
                try:
                    target.rename(aside)
                    self._check_content(aside)  # under this name nobody adds to it
                    _take_mode(partial, aside)
                    ArtifactError.unless(identity(aside) == earlier, "another process has replaced it")
                    partial.rename(target)
                except BaseException:
                    if aside.exists() and not target.exists():
                        aside.rename(target)
                    raise
        _flush_names(target.parent)
        shutil.rmtree(aside, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class GrowingFolder(_Output):
    """A folder that is written file by file, and gone on with: new or empty, but for hidden files, or with its `own` file."""

    own: str = field(kw_only=False)
    """The name of the file that tells it from others."""
    rule: str = field(kw_only=False)
    """What must hold, in messages: ``Trials must be kept in a new folder``."""
    whole: ClassVar[bool] = False

    def _check(self, target: Path) -> None:
        _check_folder(self, target)
        names = [entry.name for entry in target.iterdir()] if target.exists() else []
        ArtifactError.unless(
            (target / self.own).is_file()
            if self.own in names
            else all(name.startswith(".") for name in names),
            f"{self.rule}; {self.path} holds something else. Give another path.",
        )


def _check_folder(output: _Output, target: Path) -> None:
    """Raise `ArtifactError` for what is no folder, and for one that holds an input."""
    ArtifactError.unless(
        target.is_dir() or not target.exists(),
        f"The output must be a folder; {output.path} is a file. Give another path.",
    )
    contained = [source for source in _given(output.inputs) if _is_within(source, target)]
    ArtifactError.unless(
        not contained,
        f"An output must not replace an input; {output.path} holds {some(map(str, contained))}. Give another path.",
    )


# ------------------------------------------------------------------------------------------------------- their places


def _given(inputs: Inputs) -> list[Path]:
    return [Path(source) for source in inputs if source is not None]


def _is_within(source: Path, folder: Path) -> bool:
    return Path(os.path.realpath(source)).is_relative_to(os.path.realpath(folder))


def identity(path: Path) -> Identity:
    """Return numbers that tell a file or folder from the one that replaces it; `None` if there is none.

    Another one can have the inode of one that has gone, but not its time as well; a rename changes neither.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # a ValueError: its name holds a zero byte
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _files_in(folder: Path) -> set[str]:
    """The relative names of all files, links and empty folders in a folder and its subfolders."""
    paths = set(folder.rglob("*"))
    return {path.relative_to(folder).as_posix() for path in paths - {path.parent for path in paths}}


def _is_container(folder: Path) -> bool:
    """Return whether a folder is a saved model, which lists all of its files."""
    with suppress(OSError, ValueError), open_regular(folder / MANIFEST) as stream:
        return "tensors" in unsealed(stream.read())
    return False


def _is_mount(target: Path) -> bool:
    """Return whether something is mounted at a path: a file system, or a file or folder of one (``mount --bind``)."""
    mounts = b""
    with suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_bytes()
    # Python's `ismount` does not see one of the same file system. Letters that part words are octal there: proc(5).
    name = re.sub(rb"[ \t\n\\]", lambda letter: b"\\%03o" % letter[0][0], os.fsencode(target))
    return os.path.ismount(target) or any(line.split()[4] == name for line in mounts.splitlines())


def _try_writing(target: Path) -> None:
    """Make a file without a name, of which a kill leaves nothing, in the nearest folder that exists."""
    parent = next(folder for folder in target.parents if folder.exists())
    ArtifactError.unless(
        parent.is_dir(),
        f"The output must be in a folder that can be written to; {parent} is not one. Give another path.",
    )
    tempfile.TemporaryFile(dir=parent).close()
    with suppress(FileNotFoundError):
        _sibling(parent / target.name, "partial").lstat()  # raises if the name is too long


# ----------------------------------------------------------------------------------------------------------- tables


def write_parquet(frame: pl.DataFrame, path: str | Path) -> None:
    """Write a table to a Parquet file (zstd), whole or not at all; an existing file is replaced."""
    with OutputFile(path, overwrite=True).written() as stream:
        frame.write_parquet(stream, compression="zstd")


TableFormat: TypeAlias = Literal["parquet", "csv", "jsonl"]
TABLE_FORMATS: dict[str, TableFormat] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
"""The format of a table by the ending of its file's name; the last is one JSON object a line."""


def table_format(path: str | Path, format: str | None = None) -> TableFormat:
    """Return the format for a table at `path`, which its name tells unless `format` does; raise `DataError` otherwise."""
    word = TABLE_FORMATS.get(Path(path).suffix.lower()) if format is None else format
    DataError.unless(
        word in get_args(TableFormat),
        Argument("out_format"),
        f" must be one of {', '.join(get_args(TableFormat))}, unless the file is named .parquet, .csv or .jsonl; saw "
        f"{Path(path).name if format is None else format!r}. Give one of these.",
    )
    return cast("TableFormat", word)


def write_tables(tables: Iterable[pl.DataFrame], stream: BinaryIO, format: TableFormat) -> int:
    """Write tables of the same columns below each other, one at a time, and return the number of their rows.

    In Parquet (zstd) each is a row group.
    """
    n_rows = 0
    with ExitStack() as opened:
        writer: pq.ParquetWriter | None = None
        for table in tables:
            if format == "csv":
                table.write_csv(stream, include_header=n_rows == 0)
            elif format == "jsonl":
                table.write_ndjson(stream)
            else:
                # The oldest types are those that every reader of Parquet understands: strings, not string views.
                rows = table.to_arrow(compat_level=pl.CompatLevel.oldest())
                if writer is None:
                    import pyarrow.parquet as pq

                    writer = opened.enter_context(pq.ParquetWriter(stream, rows.schema, compression="zstd"))
                writer.write_table(rows)
            n_rows += len(table)
    return n_rows


def _sibling(target: Path, purpose: str) -> Path:
    """A new hidden name next to `target`."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.{purpose}")


def _take_mode(new: Path, earlier: Path) -> None:
    """Let those read what is new who may read what it replaces, and nobody else."""
    with suppress(FileNotFoundError):
        shutil.copymode(earlier, new)


@contextmanager
def _kept_next_to(partial: Path, target: Path) -> Iterator[None]:
    """Give what was written whole a visible name next to `target` if it cannot have that one, and say where it is."""
    try:
        yield
    except (OSError, ArtifactError) as problem:
        kept = target.with_name(f"{target.name}-{secrets.token_hex(4)}")
        try:
            partial.rename(kept)
        except OSError:
            raise problem from None
        raise ArtifactError(
            f"The output must have its place to itself, and {target} was taken or closed while this ran "
            f"({reason_of(problem)}). The result is whole and was kept: {kept}."
        ) from problem


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a file or folder, by which other processes see that it is in use; false if another one has it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_free = True
    except OSError:
        is_free = False
    try:
        yield is_free
    finally:
        os.close(descriptor)


_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{8}\.(part|partial|earlier)", re.DOTALL)
"""The names of hidden siblings: the name of the output, and a purpose."""


def leftovers(target: Path) -> list[Path]:
    """The hidden siblings of `target` that writes have begun with, or moved an earlier folder to."""
    with suppress(OSError):
        named = [(entry, _LEFTOVER.fullmatch(entry.name)) for entry in target.parent.iterdir()]
        return sorted(entry for entry, match in named if match and match[1] == target.name)
    return []


def in_use(path: Path) -> bool:
    """Return whether a process is at work on a file or folder: that of a killed one is free."""
    try:
        with locked(path) as is_free:
            return not is_free
    except OSError:  # it has gone
        return False


_SETTLED_SECONDS = 1.0
"""Age of what is certainly not at the moment between its making and its lock."""


def _remove_leftovers(target: Path) -> None:
    """Remove what killed writes of `target` left, and put an earlier folder back that had no successor yet."""
    for leftover in leftovers(target):
        with suppress(OSError):
            # The age first: the lock of a new one is its writer's to take.
            if time.time() - leftover.stat().st_mtime < _SETTLED_SECONDS or in_use(leftover):
                continue
            if leftover.suffix == ".earlier" and not target.exists():
                leftover.rename(target)
            elif leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()


def _flush_names(folder: Path) -> None:
    """Flush the entries of a folder, if the file system can: what is there has its name already."""
    with suppress(OSError):
        _flush(folder)


def _flush(path: Path) -> None:
    """Flush a file or the entries of a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
