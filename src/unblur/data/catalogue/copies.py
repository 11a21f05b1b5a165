"""Local copies of public data sets: find, read, verify and fetch them.

A download from the origin is resumed where it broke off, checked, and kept as a whole or not at all.
"""

from __future__ import annotations

import http.client
import lzma
import os
import re
import shutil
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from unblur.data.catalogue.generation import demo_interactions
from unblur.data.catalogue.listing import DATASETS, Content, Dataset, Download, NamedReading, dataset
from unblur.data.files import split_files
from unblur.data.formats.opening import contents_of, is_file, is_folder
from unblur.data.formats.parts import log_files
from unblur.data.interactions import Interactions
from unblur.data.output import FolderKind, OutputFile, OutputFolder, locked, sha256_of, system_errors
from unblur.data.vocabulary import Vocabulary
from unblur.errors import CapabilityError, DataError, UnblurError, about, some
from unblur.progress import Progress, ProgressEvent, silent


@dataclass(frozen=True)
class PartCheck:
    """One part of a copy under one reading: the content that it has, and the content that it must have."""

    part: str
    reading: str
    file: Path
    expected: Content
    found: Content | None
    """The content that was read; `None` if reading failed."""
    problem: str | None = None
    """Why reading failed."""

    @property
    def holds(self) -> bool | None:
        """True if the content is right; `None` if the right content is unknown."""
        if self.found is None:
            return False
        if self.expected.fingerprint is not None:
            return self.found.fingerprint == self.expected.fingerprint
        return None if self.expected.n_interactions in (None, self.found.n_interactions) else False


def cache_folder() -> Path:
    """The folder that `fetch` writes to: ``unblur`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``."""
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named and Path(named).is_absolute() else Path.home() / ".cache") / "unblur"


def locate(name: str | Dataset | None, data: str | Path | None = None) -> dict[str, Path]:
    """The file of each part of a data set.

    They are looked for at `data` (a file, which is then the part ``all``, or a folder), else in
    ``$UNBLUR_DATA/<name>``, else in the cache that `fetch` fills. With `data` the name may be unknown or
    `None`. A generated data set has no files.

    Raises `CapabilityError`, with the ways to get one, if there is no copy, and `DataError` if one is incomplete.
    """
    if data is not None:
        return _own_files(name, Path(data))
    if name is None:
        raise DataError("Data must be named or its path given; neither was. Give one of the two.")
    wanted = dataset(name)
    if wanted.generated:
        return {}
    named = os.environ.get("UNBLUR_DATA", "")
    for root in (*([Path(named).expanduser()] if named else []), cache_folder()):
        folder = root / wanted.name
        if is_folder(folder):
            files = wanted.files_in(folder)
            missing = [part for part in wanted.parts if part not in files]
            DataError.unless(
                not missing,
                f"A copy of {wanted.name} must have the files {', '.join(wanted.parts)}; {folder} lacks "
                f"{some(missing)} and holds {contents_of(folder)}. {wanted.by_hand}",
            )
            return files
    looked = f"$UNBLUR_DATA ({named or 'not set'})"
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
    """Read the parts of a data set from the files that `locate` finds.

    - `reading`: one of the data set's ways to read its files as interactions; the first if `None`.
    - `verify`: refuse a copy whose content is not the known one, whatever its file format.
    - `verify=False` takes other data in its place: labels are as the file has them, and `options` go to
      `unblur.data.files.read` over those of the reading.

    Raises `DataError` for a wrong, damaged or incomplete copy and `CapabilityError` if there is none.
    """
    wanted = dataset(name)
    way = wanted.reading(reading)
    DataError.unless(
        not (verify and options),
        f"Options of reading change what is read, so it cannot be checked; saw {some(options)}. Pass "
        "`verify=False` with them, or choose one of the data set's readings.",
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
                data = _read(wanted, way, file, progress)
                found = Content(data.n_interactions, data.fingerprint())
            except DataError as refusal:
                problem = str(refusal)
            checks.append(PartCheck(part, way.name, file, way.parts.get(part, Content()), found, problem))
    return tuple(checks)


def _own_files(name: str | Dataset | None, path: Path) -> dict[str, Path]:
    if not is_folder(path):
        return {"all": path}
    known = name if isinstance(name, Dataset) else DATASETS.get(name or "")
    if known is not None and len(files := known.files_in(path)) == len(known.parts):
        return files
    files = split_files(path)
    if "train" in files:
        return files
    log_files(path, None)  # raises if there are none
    return {"all": path}


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


def _right(wanted: Dataset, way: NamedReading, part: str, file: Path, progress: Progress) -> Interactions:
    """Read one part of a copy. Raises `DataError` if its content is not the known one."""
    DataError.unless(
        part in way.parts,
        f"The data set {wanted.name} has the parts {', '.join(wanted.parts)}; {file} stands for {part!r}. "
        "Give a folder with a file for each part, or pass `verify=False` to take other data.",
    )
    with about(f"{file} is no good copy of {wanted.name}, part {part}"):
        data = _read(wanted, way, file, progress)
    found = Content(data.n_interactions, data.fingerprint())
    DataError.unless(
        PartCheck(part, way.name, file, way.parts[part], found).holds is not False,
        f'The part {part} of {wanted.name}, read as "{way.name}", must be {way.parts[part]}; {file} holds '
        f"{data.n_interactions:,}, {found.fingerprint}. The copy is damaged or of another version: get it again, or "
        "pass it as data of your own (`--data PATH`).",
    )
    return data


CHUNK_BYTES = 1 << 18
"""Bytes received at a time: large enough to be fast, small enough that the progress bar moves."""
_FINAL = {*range(300, 400), 400, 401, 403, 404, 405, 410, 451}  # answers that another attempt does not change


_ADDRESS = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[^\W_][\w.-]*)(:\d{1,5})?/[!-~]*", re.ASCII)
"""What can be asked over HTTP: a host, perhaps a port, and a path of ASCII letters that can be printed."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow a redirection to HTTPS, or from HTTP to HTTP: never to what can be changed on its way, or is on this machine."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(("https://", f"{req.type}://")):
            raise urllib.error.HTTPError(
                newurl, code, f"{msg} - Redirection to {newurl} is not allowed", headers, fp
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)


class _BrokenOff(Exception):
    """The connection failed or ended early; what has arrived is kept."""


def fetch(
    name: str | Dataset,
    *,
    folder: str | Path | None = None,
    address: str | None = None,
    progress: Progress = silent,
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
) -> Path:
    """Get a data set into `folder` (the user cache when `None`) and return that folder.

    What is there already and right is not fetched again. Files arrive in a hidden sibling of the folder,
    which takes its name only when every part has been read and has the right content; an interrupted download
    is resumed where it stopped the next time.

    - `address`: a web folder to take the files from instead of their origin, such as a mirror.
    - `timeout`: seconds without a byte before an attempt is given up; `attempts`: how many in a row may bring
      nothing; `pause`: seconds before the second, doubled each time.

    Raises `CapabilityError` where the origin cannot be fetched or reached, `DataError` where what arrived is
    wrong.
    """
    wanted = dataset(name)
    target = Path(folder) if folder is not None else cache_folder() / wanted.name
    CapabilityError.unless(
        wanted.downloads, f"The data set {wanted.name} cannot be fetched from its origin. {wanted.by_hand}"
    )
    if is_folder(target) and wanted.files_in(target):
        checks = verify(wanted, target)
        complete = {check.part for check in checks} == set(wanted.parts)
        if complete and all(check.holds is not False for check in checks):
            return target
    DataError.unless(
        not (is_file(target) or (is_folder(target) and any(target.iterdir()))),
        f"The folder to fetch into must be empty or hold a good copy of {wanted.name}; {target} holds "
        "something else. Move it away, or give another folder.",
    )
    place = OutputFolder(target, FolderKind("unblur-dataset")).checked().target
    with system_errors(
        f"The folder to fetch into must be writable; {target}",
        "Make room, or give another folder; what has arrived is kept next to it, in a hidden folder, for the next try.",
    ):
        _fill(wanted, cast("Path", place), _Origin(address, progress, timeout, attempts, pause))
    return target


def _fill(wanted: Dataset, target: Path, origin: _Origin) -> None:
    """Fetch a data set into a hidden sibling of `target`, which takes its name once all is there and right."""
    staging = target.with_name(f".{target.name}.part")
    with _alone(staging):
        for last_try in (False, True):
            resumed = [origin.get(download, staging) for download in wanted.downloads]
            checks = verify(wanted, staging, progress=origin.progress)
            wrong = next((check for check in checks if check.holds is False), None)
            if wrong is None:
                break
            for file in staging.iterdir():
                file.unlink()
            if last_try or not any(resumed):
                raise DataError(
                    f'The part {wrong.part} of {wanted.name}, read as "{wrong.reading}", must be {wrong.expected}; '
                    f"what was fetched is {wrong.problem or wrong.found}. The origin has changed or sent something else; "
                    f"nothing was kept. {wanted.by_hand}"
                )
        staging.replace(target)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make a folder, and keep other processes out of it. Raises `CapabilityError` if one is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as is_free:
        # A folder that was opened just before another process finished has its last name by now.
        CapabilityError.unless(
            is_free and folder.is_dir(),
            f"A folder must be fetched into by one process at a time; another one fetches into {folder}. Wait for it, and run "
            "this again.",
        )
        try:
            yield
        finally:
            with suppress(OSError):  # it has its last name, or holds what has arrived
                folder.rmdir()


@dataclass(frozen=True)
class _Origin:
    """The origin of files, and the limits of attempts; `fetch` documents each field."""

    base: str | None
    progress: Progress
    timeout: float
    attempts: int
    pause: float

    def get(self, download: Download, folder: Path) -> bool:
        """Get one file into `folder`, unpacked. Returns whether some of it had arrived before."""
        address, target = download.address, folder / download.save_as
        if self.base is not None:
            address = f"{self.base.rstrip('/')}/{download.address.rpartition('/')[2]}"
        DataError.unless(
            _ADDRESS.fullmatch(address),
            f"An address must begin with https:// or http:// and be a whole URL of ASCII letters; saw {address!r}. Correct it.",
        )
        if all((folder / file).is_file() for file in download.members.values() or [download.save_as]):
            return True
        part = target.with_name(f"{target.name}.part")
        resumed = False
        for last_try in (False, True):  # a file of several pieces may be of two versions
            resumed |= part.exists() | self._transferred(download, address, part)
            try:
                _check_file(download, part)
                if download.members:
                    _unpack(download, part, folder)
                break
            except DataError:
                part.unlink()
                if last_try or not resumed:
                    raise
        if download.members:
            part.unlink()
        else:
            part.replace(target)
        return resumed

    def _transferred(self, download: Download, address: str, part: Path) -> bool:
        """Download `part` to its end, over several connections if one breaks. Return whether one broke."""
        fruitless, broken = 0, False
        while True:
            before = _size(part)
            try:
                self._transfer(download, address, part)
                return broken
            except _BrokenOff as problem:
                broken, after = True, _size(part)
                fruitless = 0 if after > before else fruitless + 1
                if fruitless >= self.attempts:
                    raise CapabilityError(
                        f"{address} must be reachable to be fetched; {problem}. Run it again later: {after:,} "
                        "bytes have arrived and are kept."
                    ) from None
                if fruitless:
                    time.sleep(self.pause * 2 ** (fruitless - 1))

    def _transfer(self, download: Download, address: str, part: Path) -> None:
        """Fetch the remaining bytes of a file over one connection. Raises `_BrokenOff` if it ends early."""
        have = _size(part)
        headers = {"User-Agent": "unblur", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            request = urllib.request.Request(address, headers=headers)
            response = _OPENER.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as problem:
            with problem:
                if problem.code == 416 and have:  # the range begins at or beyond the end of the file
                    if problem.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                        return  # it was complete already
                    part.unlink()
                    raise _BrokenOff("the server has less than had arrived") from None
                if problem.code in _FINAL:
                    raise CapabilityError(
                        f"{address} must be there to be fetched; the server says {problem.code} "
                        f"{problem.reason}. Get the data by hand, or give the `address` of a mirror."
                    ) from None
                raise _BrokenOff(f"the server says {problem.code} {problem.reason}") from None
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            OSError,
            ValueError,
            OverflowError,
        ) as problem:
            raise _BrokenOff(str(getattr(problem, "reason", problem)) or type(problem).__name__) from None
        with response:
            content_range = response.headers.get("Content-Range", "")
            resumes = response.status == 206 and content_range.startswith(f"bytes {have}-")
            if response.status == 206 and not resumes:
                part.unlink(missing_ok=True)
                raise _BrokenOff(f"the server sent {content_range!r} instead of what was asked for")
            start = have if resumes else 0
            total = download.n_bytes if response.length is None else start + response.length
            limit = download.n_bytes or download.max_bytes
            with part.open("ab" if resumes else "wb") as stream:
                done = self._copied(response, stream, start, total, limit, f"fetch {download.save_as}")
                stream.flush()
                os.fsync(stream.fileno())
        if total is not None and done < total and done <= limit:
            raise _BrokenOff(f"the connection ended after {done:,} of {total:,} bytes")

    def _copied(
        self,
        response: http.client.HTTPResponse,
        stream: BinaryIO,
        start: int,
        total: int | None,
        limit: int,
        stage: str,
    ) -> int:
        """Append the bytes that a server sends to a file, chunk by chunk, until it has more than `limit`. Return its size."""
        done = start
        self.progress(ProgressEvent(stage, done, total))
        while True:
            try:
                chunk = response.read1(CHUNK_BYTES)
            except http.client.IncompleteRead as problem:
                stream.write(problem.partial)
                raise _BrokenOff(
                    f"the connection ended after {done + len(problem.partial):,} bytes"
                ) from None
            except (http.client.HTTPException, OSError) as problem:
                raise _BrokenOff(str(problem) or type(problem).__name__) from None
            if not chunk or done > limit:
                return done
            stream.write(chunk)
            done += len(chunk)
            self.progress(ProgressEvent(stage, done, total))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _check_file(download: Download, part: Path) -> None:
    size, otherwise = _size(part), "The origin has changed or sent something else; nothing was kept."
    if download.n_bytes not in (None, size):
        raise DataError(
            f"{download.save_as} must have {download.n_bytes:,} bytes; {size:,} arrived. {otherwise}"
        )
    DataError.unless(
        download.n_bytes is not None or size <= download.max_bytes,
        f"{download.save_as} must have at most {download.max_bytes:,} bytes; {size:,} arrived, and more were to come. "
        f"{otherwise}",
    )
    if download.sha256 is not None:
        seen = sha256_of(part)
        DataError.unless(
            seen == download.sha256,
            f"{download.save_as} must have the SHA-256 {download.sha256}; it has {seen}. {otherwise}",
        )


def _unpack(download: Download, archive: Path, folder: Path) -> None:
    """Write the listed members under their given names; names inside the archive are never used as paths."""
    try:
        with zipfile.ZipFile(archive) as opened:
            missing = sorted(set(download.members) - set(opened.namelist()))
            DataError.unless(
                not missing,
                f"{download.save_as} must hold {some(download.members)}; {some(missing)} is not in it. "
                "The origin has changed; nothing was kept.",
            )
            n_bytes = sum(opened.getinfo(member).file_size for member in download.members)
            DataError.unless(
                n_bytes <= download.max_bytes,
                f"{download.save_as} must unpack to at most {download.max_bytes:,} bytes; it has {n_bytes:,}. The origin has "
                "changed; nothing was kept.",
            )
            for member, kept in download.members.items():
                with (
                    opened.open(member) as packed,
                    OutputFile(folder / kept, overwrite=True).written() as stream,
                ):
                    shutil.copyfileobj(packed, stream)
    except UnblurError:
        raise
    # ValueError: a name in a wrong encoding; RuntimeError: a password, or a method that is not known here.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError) as problem:
        raise DataError(
            f"{download.save_as} must be a whole zip archive; it is not: {problem}. Nothing was kept; run it "
            "again."
        ) from None
