"""Getting a data set from its origin: resumed where it broke off, checked, and there as a whole or not at
all."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from unblur.data.catalogue.copies import cache_folder, verify
from unblur.data.catalogue.listing import Dataset, Download, dataset
from unblur.data.files.writing import replacing
from unblur.errors import CapabilityError, DataError, some
from unblur.progress import Progress, ProgressEvent, silent

CHUNK_BYTES = 1 << 18
"""How much is received at a time: large enough to be fast, and a bar of progress moves with each."""
_FINAL = {400, 401, 403, 404, 405, 410, 451}  # answers that another attempt does not change


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
    if not wanted.downloads:
        raise CapabilityError(
            f"The data set {wanted.name} cannot be fetched from its origin. {wanted.by_hand}"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        return _already_there(wanted, target)
    staging = target.with_name(f".{target.name}.part")
    staging.mkdir(parents=True, exist_ok=True)
    origin = _Origin(address, progress, timeout, attempts, pause)
    for last_try in (False, True):
        resumed = [origin.get(download, staging) for download in wanted.downloads]
        wrong = [check for check in verify(wanted, staging, progress=progress) if check.holds is False]
        if not wrong:
            break
        shutil.rmtree(staging)
        if last_try or not any(resumed):
            first = wrong[0]
            raise DataError(
                f'The part {first.part} of {wanted.name}, read as "{first.reading}", must be {first.expected}; '
                f"what was fetched is {first.problem or first.found}. The origin has changed or sent something else; "
                f"nothing was kept. {wanted.by_hand}"
            )
        staging.mkdir(parents=True)
    staging.replace(target)
    return target


def _already_there(wanted: Dataset, target: Path) -> Path:
    checks = verify(wanted, target) if target.is_dir() and wanted.files_in(target) else ()
    complete = {check.part for check in checks} == set(wanted.parts)
    if complete and all(check.holds is not False for check in checks):
        return target
    raise DataError(
        f"The folder to fetch into must be empty or hold a good copy of {wanted.name}; {target} holds "
        "something else. Move it away, or give another folder."
    )


@dataclass(frozen=True)
class _Origin:
    """Where files are fetched from, and with how much patience; `fetch` says what each of these means."""

    base: str | None
    progress: Progress
    timeout: float
    attempts: int
    pause: float

    def get(self, download: Download, folder: Path) -> bool:
        """Get one file into `folder`, unpacked. Returns whether some of it had arrived before."""
        address, target = self._address_of(download), folder / download.save_as
        wanted_files = [folder / kept for kept in download.members.values()] or [target]
        if all(file.is_file() for file in wanted_files):
            return True
        part = target.with_name(f"{target.name}.part")
        resumed = False
        for last_try in (False, True):  # what was put together from several pieces may be of two versions
            resumed |= part.exists()
            resumed |= self._transferred(download, address, part)
            try:
                _check_file(download, part)
                break
            except DataError:
                part.unlink()
                if last_try or not resumed:
                    raise
        if download.members:
            _unpack(download, part, folder)
            part.unlink()
        else:
            part.replace(target)
        return resumed

    def _address_of(self, download: Download) -> str:
        whole = download.address
        if self.base is not None:
            whole = f"{self.base.rstrip('/')}/{download.address.rpartition('/')[2]}"
        if urllib.parse.urlsplit(whole).scheme not in ("http", "https"):
            raise DataError(
                f"An address to fetch from must begin with https:// or http://; saw {whole!r}. Correct it."
            )
        return whole

    def _transferred(self, download: Download, address: str, part: Path) -> bool:
        """Fill `part` to its end, however often the connection breaks. Returns whether it broke."""
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
        """Fetch what is missing of a file over one connection. Raises `_BrokenOff` where it ends early."""
        have = _size(part)
        headers = {"User-Agent": "unblur", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            request = urllib.request.Request(address, headers=headers)
            response = urllib.request.urlopen(request, timeout=self.timeout)
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
        except (urllib.error.URLError, http.client.HTTPException, OSError) as problem:
            raise _BrokenOff(str(getattr(problem, "reason", problem)) or type(problem).__name__) from None
        with response:
            given = response.headers.get("Content-Range", "")
            resumes = response.status == 206 and given.startswith(f"bytes {have}-")
            if response.status == 206 and not resumes:
                part.unlink()
                raise _BrokenOff(f"the server sent {given!r} instead of what was asked for")
            length = response.headers.get("Content-Length")
            start = have if resumes else 0
            total = start + int(length) if length and length.isdigit() else download.n_bytes
            with part.open("ab" if resumes else "wb") as stream:
                done = self._copied(response, stream, start, total, f"fetch {download.save_as}")
                stream.flush()
                os.fsync(stream.fileno())
        if total is not None and done < total:
            raise _BrokenOff(f"the connection ended after {done:,} of {total:,} bytes")

    def _copied(
        self, response: http.client.HTTPResponse, stream: BinaryIO, start: int, total: int | None, stage: str
    ) -> int:
        """Copy what a server sends to a file, chunk by chunk. Returns how many bytes the file has then."""
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
            if not chunk:
                return done
            stream.write(chunk)
            done += len(chunk)
            self.progress(ProgressEvent(stage, done, total))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _check_file(download: Download, part: Path) -> None:
    size = _size(part)
    if download.n_bytes is not None and size != download.n_bytes:
        raise DataError(
            f"{download.save_as} must have {download.n_bytes:,} bytes; {size:,} arrived. The origin has "
            "changed or sent something else; nothing was kept."
        )
    if download.sha256 is not None:
        with part.open("rb") as stream:
            seen = hashlib.file_digest(stream, "sha256").hexdigest()
        if seen != download.sha256:
            raise DataError(
                f"{download.save_as} must have the SHA-256 {download.sha256}; it has {seen}. The origin has "
                "changed or sent something else; nothing was kept."
            )


def _unpack(download: Download, archive: Path, folder: Path) -> None:
    """Write the wanted members under their given names; what an archive calls its members decides no path."""
    try:
        with zipfile.ZipFile(archive) as opened:
            missing = sorted(set(download.members) - set(opened.namelist()))
            if missing:
                raise DataError(
                    f"{download.save_as} must hold {some(download.members)}; {some(missing)} is not in it. "
                    "The origin has changed; nothing was kept."
                )
            for member, kept in download.members.items():
                with opened.open(member) as packed, replacing(folder / kept) as stream:
                    shutil.copyfileobj(packed, stream)
    except (zipfile.BadZipFile, zlib.error, EOFError) as problem:
        archive.unlink()
        raise DataError(
            f"{download.save_as} must be a whole zip archive; it is not: {problem}. Nothing was kept; run it "
            "again."
        ) from None
