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
from pathlib import Path
from typing import BinaryIO

from unblur.data.catalogue.copies import cache_folder, verify
from unblur.data.catalogue.listing import dataset
from unblur.data.catalogue.records import Dataset, Download
from unblur.data.files.writing import replacing
from unblur.errors import CapabilityError, DataError, some
from unblur.progress import Progress, ProgressEvent, silent

CHUNK_BYTES = 1 << 18
_FINAL = {400, 401, 403, 404, 405, 410, 451}


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
    goes on from where it stopped the next time.

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
    for last_try in (False, True):
        resumed = [
            _arrived(download, _address(download, address), staging, progress, timeout, attempts, pause)
            for download in wanted.downloads
        ]
        wrong = [check for check in verify(wanted, staging, progress=progress) if check.holds is False]
        if not wrong:
            break
        shutil.rmtree(staging)
        if last_try or not any(resumed):
            first = wrong[0]
            seen = first.problem or f"{first.n_interactions:,} interactions, {first.fingerprint}"
            expected = first.expected.fingerprint or f"{first.expected.n_interactions} interactions"
            raise DataError(
                f'The part {first.part} of {wanted.name}, read as "{first.reading}", must be {expected}; '
                f"what was fetched is {seen}. The origin has changed or sent something else; nothing was "
                f"kept. {wanted.by_hand}"
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


def _address(download: Download, base: str | None) -> str:
    whole = download.address
    if base is not None:
        whole = f"{base.rstrip('/')}/{download.address.rpartition('/')[2]}"
    if urllib.parse.urlsplit(whole).scheme not in ("http", "https"):
        raise DataError(
            f"An address to fetch from must begin with https:// or http://; saw {whole!r}. Correct it."
        )
    return whole


def _arrived(
    download: Download,
    address: str,
    folder: Path,
    progress: Progress,
    timeout: float,
    attempts: int,
    pause: float,
) -> bool:
    """Get one file into `folder`, unpacked. Returns whether some of it had arrived before."""
    target = folder / download.save_as
    wanted_files = [folder / kept for kept in download.members.values()] or [target]
    if all(file.is_file() for file in wanted_files):
        return True
    part = target.with_name(f"{target.name}.part")
    resumed = part.exists()
    resumed |= _transferred(download, address, part, progress, timeout, attempts, pause)
    try:
        _check_file(download, part)
    except DataError:
        part.unlink()
        if not resumed:
            raise
        _transferred(
            download, address, part, progress, timeout, attempts, pause
        )  # once more, from the beginning
        try:
            _check_file(download, part)
        except DataError:
            part.unlink()
            raise
    if download.members:
        _unpack(download, part, folder)
        part.unlink()
    else:
        part.replace(target)
    return resumed


def _transferred(
    download: Download,
    address: str,
    part: Path,
    progress: Progress,
    timeout: float,
    attempts: int,
    pause: float,
) -> bool:
    """Fill `part` to its end, however often the connection breaks. Returns whether it broke."""
    fruitless, broken = 0, False
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _transfer(download, address, part, progress, timeout)
            return broken
        except _BrokenOff as problem:
            broken = True
            after = part.stat().st_size if part.exists() else 0
            fruitless = 0 if after > before else fruitless + 1
            if fruitless >= attempts:
                raise CapabilityError(
                    f"{address} must be reachable to be fetched; {problem}. Run it again later: {after:,} "
                    "bytes have arrived and are kept."
                ) from None
            time.sleep(pause * 2 ** max(0, fruitless - 1) if fruitless else 0)


def _transfer(download: Download, address: str, part: Path, progress: Progress, timeout: float) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "unblur", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as problem:
        with problem:
            if problem.code == 416 and have:
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
        goes_on = response.status == 206 and given.startswith(f"bytes {have}-")
        if response.status == 206 and not goes_on:
            part.unlink()
            raise _BrokenOff(f"the server sent {given!r} instead of what was asked for")
        length = response.headers.get("Content-Length")
        start = have if goes_on else 0
        total = start + int(length) if length and length.isdigit() else download.n_bytes
        with part.open("ab" if goes_on else "wb") as stream:
            done = _copied(response, stream, start, total, f"fetch {download.save_as}", progress)
            stream.flush()
            os.fsync(stream.fileno())
    if total is not None and done < total:
        raise _BrokenOff(f"the connection ended after {done:,} of {total:,} bytes")


def _copied(
    response: http.client.HTTPResponse,
    stream: BinaryIO,
    start: int,
    total: int | None,
    stage: str,
    progress: Progress,
) -> int:
    done = start
    progress(ProgressEvent(stage, done, total))
    while True:
        try:
            chunk = response.read1(CHUNK_BYTES)
        except http.client.IncompleteRead as problem:
            chunk = problem.partial
            stream.write(chunk)
            raise _BrokenOff(f"the connection ended after {done + len(chunk):,} bytes") from None
        except (http.client.HTTPException, OSError) as problem:
            raise _BrokenOff(str(problem) or type(problem).__name__) from None
        if not chunk:
            return done
        stream.write(chunk)
        done += len(chunk)
        progress(ProgressEvent(stage, done, total))


def _check_file(download: Download, part: Path) -> None:
    size = part.stat().st_size
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
