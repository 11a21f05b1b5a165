"""`fetch` against a server on this machine: whole, resumed, broken, wrong, interrupted."""

import hashlib
import io
import re
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from unblur import Interactions
from unblur.data import catalogue as datasets
from unblur.data.catalogue.listing import Content, Dataset, Download, NamedReading
from unblur.errors import ArtifactError, CapabilityError, DataError
from unblur.progress import ProgressEvent

TRAIN = Interactions.from_pairs([user for user in range(400) for _ in range(50)], list(range(50)) * 400)
TEST = Interactions.from_pairs(range(400), [50] * 400)


def adjacency(data: Interactions) -> bytes:
    lists: dict[int, list[int]] = {}
    for user, item in data.to_frame().select("user", "item").rows():
        lists.setdefault(user, []).append(item)
    return "".join(f"{user} {' '.join(map(str, items))}\n" for user, items in lists.items()).encode()


FILES = {"train.txt": adjacency(TRAIN), "test.txt": adjacency(TEST)}


def parts() -> dict[str, Content]:
    return {
        name: Content(data.n_interactions, data.fingerprint())
        for name, data in (("train", TRAIN), ("test", TEST))
    }


def known(**changes: Any) -> Dataset:
    facts: dict[str, Any] = {
        "name": "small",
        "title": "small",
        "numbered": (False, False),
        "readings": (NamedReading(name="pairs", meaning="", options={"format": "adjacency"}, parts=parts()),),
        "downloads": tuple(
            Download(address=f"https://example.invalid/{name}", save_as=name) for name in FILES
        ),
        "by_hand": "Ask for it.",
        "licence": "none",
        "citation": "none",
    }
    return Dataset(**{**facts, **changes})


class Origin(ThreadingHTTPServer):
    """A web server whose faults the tests choose."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.ranges = True
        self.drop_after: list[int] = []
        """The bytes to send before the connection is cut, one entry a request; later requests get whole files."""
        self.statuses: list[int] = []
        """Error codes to answer with, one a request; later requests get files."""
        self.with_length = True
        self.length = ""
        """Said in place of the length, if not empty."""
        self.leads_to: dict[str, str] = {}
        """Where a file is redirected to."""
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing if a client disconnects."""


class Handler(BaseHTTPRequestHandler):
    server: Origin

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        byte_range = self.headers.get("Range")
        self.server.asked.append((name, byte_range))
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        if name not in self.server.files:
            self.send_error(404)
            return
        if name in self.server.leads_to:
            self.send_response(302)
            self.send_header("Location", self.server.leads_to[name])
            self.end_headers()
            return
        content = self.server.files[name]
        start = int(byte_range.removeprefix("bytes=").rstrip("-")) if byte_range and self.server.ranges else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.with_length:
            self.send_header("Content-Length", self.server.length or str(len(body)))
        self.end_headers()
        if self.server.drop_after:
            body = body[: self.server.drop_after.pop(0)]
        with suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Origin]:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("UNBLUR_DATA", raising=False)
    server = Origin()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(dataset: Dataset, origin: Origin, **options: Any) -> Path:
    return datasets.fetch(dataset, address=origin.address, pause=0.0, timeout=10, **options)


def is_right(dataset: Dataset) -> bool:
    parts = datasets.load(dataset)
    return (
        parts["train"].fingerprint() == TRAIN.fingerprint()
        and parts["test"].fingerprint() == TEST.fingerprint()
    )


def test_a_whole_download(origin: Origin, tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    place = fetch(known(), origin, progress=events.append)
    assert place == tmp_path / "cache" / "unblur" / "small"
    assert {file.name for file in place.iterdir()} == {"train.txt", "test.txt"}
    assert [entry.name for entry in place.parent.iterdir()] == ["small"]
    assert is_right(known())
    of_train = [event for event in events if event.stage == "fetch train.txt"]
    assert [of_train[0].done, of_train[-1].done] == [0, len(FILES["train.txt"])]
    assert {event.total for event in of_train} == {len(FILES["train.txt"])}


def test_a_full_disk_is_an_error_of_ours(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(ArtifactError, match=r"must be writable; .*No space left on device\. Make room"):
            fetch(known(), origin)
    fetch(known(), origin)
    assert is_right(known())
    with pytest.raises(ArtifactError, match="in a folder that can be written to"):
        fetch(known(), origin, folder="/proc/unblur")


def test_a_local_copy_is_not_fetched_again(origin: Origin) -> None:
    fetch(known(), origin)
    origin.asked.clear()
    assert is_right(known())
    fetch(known(), origin)
    assert origin.asked == []


def test_a_broken_download_is_resumed(origin: Origin) -> None:
    origin.drop_after = [1000, 500, 0]
    fetch(known(), origin)
    assert [byte_range for name, byte_range in origin.asked if name == "train.txt"] == [
        None,
        "bytes=1000-",
        "bytes=1500-",
        "bytes=1500-",
    ]
    assert is_right(known())


def test_a_server_without_ranges_starts_over(origin: Origin) -> None:
    origin.drop_after = [1000, 2000]
    origin.ranges = False
    fetch(known(), origin)
    assert is_right(known())


def test_a_server_that_does_not_send_the_length(origin: Origin) -> None:
    origin.with_length = False
    fetch(known(), origin)
    assert is_right(known())


def test_a_download_without_progress_gives_up_and_keeps_its_bytes(origin: Origin, tmp_path: Path) -> None:
    origin.drop_after = [1000, *[0] * 20]
    with pytest.raises(CapabilityError, match="1,000 bytes have arrived and are kept"):
        fetch(known(), origin, attempts=3)
    assert len(origin.asked) == 4
    assert not (tmp_path / "cache" / "unblur" / "small").exists()
    origin.drop_after = []
    fetch(known(), origin)
    assert origin.asked[4] == ("train.txt", "bytes=1000-")
    assert is_right(known())


def test_a_busy_server_is_asked_again(origin: Origin) -> None:
    origin.statuses = [503, 429]
    fetch(known(), origin)
    assert is_right(known())


def test_a_missing_file_is_final(origin: Origin) -> None:
    del origin.files["test.txt"]
    with pytest.raises(CapabilityError, match=r"the server says 404.*by hand"):
        fetch(known(), origin)
    assert len(origin.asked) == 2


def test_no_server(tmp_path: Path, origin: Origin) -> None:
    with pytest.raises(CapabilityError, match=r"must be reachable.*0 bytes"):
        datasets.fetch(
            known(), address="http://127.0.0.1:9", pause=0.0, attempts=2, folder=tmp_path / "small"
        )
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    "content", [b"<html>moved</html>", FILES["test.txt"], b"", FILES["train.txt"][:-40], b"0 1 2\n3 x\n"]
)
def test_wrong_content_is_refused_and_not_kept(content: bytes, origin: Origin, tmp_path: Path) -> None:
    origin.files["train.txt"] = content
    with pytest.raises(DataError, match=r"part train of small.*nothing was kept. Ask for it"):
        fetch(known(), origin)
    assert list((tmp_path / "cache" / "unblur").iterdir()) == []


def test_a_partial_file_of_other_content_is_fetched_anew(origin: Origin, tmp_path: Path) -> None:
    staging = tmp_path / "cache" / "unblur" / ".small.part"
    staging.mkdir(parents=True)
    (staging / "train.txt.part").write_bytes(b"9" * 1000)
    fetch(known(), origin)
    assert is_right(known())


@pytest.mark.parametrize("size", [len(FILES["train.txt"]), len(FILES["train.txt"]) + 7])
def test_a_partial_file_that_is_complete_or_too_long(size: int, origin: Origin, tmp_path: Path) -> None:
    staging = tmp_path / "cache" / "unblur" / ".small.part"
    staging.mkdir(parents=True)
    (staging / "train.txt.part").write_bytes((FILES["train.txt"] + b"1234567")[:size])
    fetch(known(), origin)
    assert is_right(known())


def test_size_and_checksum_of_the_file(origin: Origin, tmp_path: Path) -> None:
    def one(**facts: Any) -> Dataset:
        train, test = known().downloads
        return known(downloads=(Download(address=train.address, save_as=train.save_as, **facts), test))

    with pytest.raises(DataError, match="must have 5 bytes"):
        fetch(one(n_bytes=5), origin)
    with pytest.raises(DataError, match="must have the SHA-256 00"):
        fetch(one(sha256="00"), origin)
    assert not (tmp_path / "cache" / "unblur" / "small").exists()
    content = FILES["train.txt"]
    fetch(one(n_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()), origin)
    assert is_right(known())


def test_a_file_that_does_not_end_is_given_up(origin: Origin, tmp_path: Path) -> None:
    train, test = known().downloads
    small = Download(address=train.address, save_as=train.save_as, max_bytes=100_000)
    origin.files["train.txt"] = FILES["train.txt"] + b" " * 20_000_000
    received: list[int] = []
    for origin.with_length in (True, False):
        with pytest.raises(DataError, match=r"at most 100,000 bytes; .* arrived, and more were to come"):
            fetch(known(downloads=(small, test)), origin, progress=lambda event: received.append(event.done))
    assert max(received) < 1_000_000
    assert not list((tmp_path / "cache" / "unblur").rglob("train*"))


def test_an_archive_that_unpacks_to_too_much(origin: Origin, tmp_path: Path) -> None:
    origin.files["small.zip"] = archive({"small/train.txt": b"0" * 5_000_000, "small/test.txt": b"0 1"})
    (zip_file,) = zipped().downloads
    limited = known(downloads=(replace(zip_file, max_bytes=100_000),))
    with pytest.raises(DataError, match="must unpack to at most 100,000 bytes; it has 5,000,003"):
        fetch(limited, origin)
    assert not list((tmp_path / "cache" / "unblur").rglob("*.txt"))


def test_two_that_fetch_into_one_folder(origin: Origin, tmp_path: Path) -> None:
    refusals: list[str] = []

    def meanwhile(event: ProgressEvent) -> None:
        if not refusals:
            with pytest.raises(CapabilityError, match="one process at a time") as caught:
                fetch(known(), origin)
            refusals.append(str(caught.value))

    fetch(known(), origin, progress=meanwhile)
    assert len(refusals) == 1
    assert is_right(known())
    assert [entry.name for entry in (tmp_path / "cache" / "unblur").iterdir()] == ["small"]


def test_what_cannot_be_verified_names_a_commit() -> None:
    assert known().unverified == ()
    assert known(readings=(replace(known().readings[0], parts={"train": Content(5)}),)).unverified == (
        "train",
    )
    for dataset in datasets.DATASETS.values():
        for download in dataset.downloads:
            limit = download.n_bytes or download.max_bytes
            assert 0 < limit <= 100_000_000
            pinned = download.sha256 or not dataset.unverified
            assert pinned or re.search(r"/[0-9a-f]{40}/", download.address)
    assert datasets.dataset("amazon-book").unverified == ("train", "test")


def test_a_resumed_file_with_a_wrong_checksum_is_fetched_anew(origin: Origin, tmp_path: Path) -> None:
    staging = tmp_path / "cache" / "unblur" / ".small.part"
    staging.mkdir(parents=True)
    (staging / "train.txt.part").write_bytes(b"9" * 1000)
    train, test = known().downloads
    digest = hashlib.sha256(FILES["train.txt"]).hexdigest()
    fetch(
        known(downloads=(Download(address=train.address, save_as="train.txt", sha256=digest), test)), origin
    )
    assert origin.asked[0] == ("train.txt", "bytes=1000-")
    assert origin.asked[1] == ("train.txt", None)
    assert is_right(known())


def test_an_interrupt_leaves_no_final_file(origin: Origin, tmp_path: Path) -> None:
    origin.files["train.txt"] += b" " * 3_000_000

    def interrupt(event: ProgressEvent) -> None:
        if event.done > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(known(), origin, progress=interrupt)
    assert not (tmp_path / "cache" / "unblur" / "small").exists()
    partial = tmp_path / "cache" / "unblur" / ".small.part" / "train.txt.part"
    arrived = partial.stat().st_size
    assert arrived > 500_000
    origin.asked.clear()
    fetch(known(), origin)
    assert origin.asked[0] == ("train.txt", f"bytes={arrived}-")
    assert is_right(known())


def archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return stream.getvalue()


def zipped() -> Dataset:
    members = {"small/train.txt": "train.txt", "small/test.txt": "test.txt"}
    return known(
        downloads=(
            Download(address="https://example.invalid/small.zip", save_as="small.zip", members=members),
        )
    )


def test_an_archive_is_unpacked_by_given_names_only(origin: Origin, tmp_path: Path) -> None:
    inside = {f"small/{name}": content for name, content in FILES.items()}
    hostile = {
        "../../escaped.txt": b"x",
        "/escaped.txt": b"x",
        "small/../../escaped.txt": b"x",
        "small/more": b"x",
    }
    origin.files["small.zip"] = archive(inside | hostile)
    place = fetch(zipped(), origin)
    assert {file.name for file in place.iterdir()} == {"train.txt", "test.txt"}
    assert not list(tmp_path.rglob("*escaped*"))
    assert is_right(zipped())


def test_an_archive_that_lacks_a_member(origin: Origin, tmp_path: Path) -> None:
    origin.files["small.zip"] = archive({"small/train.txt": FILES["train.txt"]})
    with pytest.raises(DataError, match=r"'small/test.txt' is not in it"):
        fetch(zipped(), origin)
    assert not (tmp_path / "cache" / "unblur" / "small").exists()


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_archive(damage: str, origin: Origin, tmp_path: Path) -> None:
    damaged = bytearray(archive({f"small/{name}": content for name, content in FILES.items()}))
    if damage == "changed":
        damaged[200] ^= 0xFF
    origin.files["small.zip"] = bytes(damaged[:-100] if damage == "cut" else damaged)
    with pytest.raises(DataError, match="must be a whole zip archive"):
        fetch(zipped(), origin)
    assert not (tmp_path / "cache" / "unblur" / "small").exists()
    origin.files["small.zip"] = archive({f"small/{name}": content for name, content in FILES.items()})
    fetch(zipped(), origin)
    assert is_right(zipped())


def test_a_folder_in_the_way_is_left_alone(origin: Origin, tmp_path: Path) -> None:
    place = tmp_path / "here"
    place.mkdir()
    (place / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds something else"):
        fetch(known(), origin, folder=place)
    (place / "train.txt").write_bytes(FILES["train.txt"])
    (place / "test.txt").write_bytes(FILES["train.txt"])
    with pytest.raises(DataError, match="holds something else"):
        fetch(known(), origin, folder=place)
    assert (place / "thesis.tex").read_text() == "years of work"
    assert origin.asked == []


def test_a_folder_behind_a_link_is_filled_and_one_that_cannot_be_is_refused_before_the_download(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for place, message in (
        ("../nowhere", "link to nowhere"),
        (".", "working folder"),
        ("x" * 300, "too long"),
    ):
        with pytest.raises(ArtifactError, match=message):
            fetch(known(), origin, folder=place)
    assert origin.asked == []
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path)
    fetch(known(), origin, folder=tmp_path / "link")
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == ["test.txt", "train.txt"]
    assert (tmp_path / "link").is_symlink()


def test_data_that_cannot_be_fetched_say_how_to_get_them() -> None:
    with pytest.raises(CapabilityError, match="Ask for it"):
        datasets.fetch(known(downloads=()))


@pytest.mark.parametrize("address", ["file:///etc", "ftp://example.invalid/data", "nowhere"])
def test_only_web_addresses(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must begin with https"):
        datasets.fetch(known(), address=address, folder=tmp_path / "small")


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/x", "unblur:x"])
def test_a_redirection_is_followed_to_no_other_kind_of_address(place: str, origin: Origin) -> None:
    origin.files["moved.txt"] = FILES["train.txt"]
    origin.leads_to["train.txt"] = f"{origin.address}/moved.txt"
    fetch(known(), origin)
    assert is_right(known())
    origin.leads_to["test.txt"] = place
    with pytest.raises(CapabilityError, match=r"the server says 302 .* is not allowed"):
        fetch(known(), origin, folder=datasets.copies.cache_folder() / "other")
    assert [name for name, _ in origin.asked].count("test.txt") == 2, "asked again in vain"


def test_a_redirection_does_not_leave_https() -> None:
    request = urllib.request.Request("https://example.invalid/a")
    follow = partial(datasets.copies._Redirects().redirect_request, request, None, 302, "", {})
    assert follow("https://example.invalid/b") is not None
    with pytest.raises(urllib.error.HTTPError, match="is not allowed"):
        follow("http://example.invalid/b")


@pytest.mark.parametrize("length", ["\N{SUPERSCRIPT TWO}", "9" * 5_000, "-1", "+5x"])
def test_a_length_that_is_none_is_passed_over(length: str, origin: Origin) -> None:
    origin.length = length
    fetch(known(), origin, attempts=1)
    assert is_right(known())


@pytest.mark.parametrize(
    "address",
    [
        "http://[",
        "http://",
        "http:///x",
        "file:///etc",
        "http://h\u00e9/",
        "http://h/\u00e9",
        "http://h/ /",
        "//h/",
    ],
)
def test_an_address_is_a_url(address: str) -> None:
    with pytest.raises(DataError, match="must begin with https"):
        datasets.fetch(known(), address=address)
    with pytest.raises(CapabilityError, match="must be reachable"):
        datasets.fetch(known(), address="http://127.0.0.1:99999", attempts=1)


def marked(content: bytes, flag: int = 0, method: int = 0) -> bytes:
    """An archive whose files say that they have a password, or another method of compression."""
    changed = bytearray(content)
    for head, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(head)
        while start >= 0:
            changed[start + at] |= flag
            changed[start + at + 2] |= method
            start = content.find(head, start + 4)
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: marked(content, flag=1),
        lambda content: marked(content, method=96),
        lambda content: content[:-30],
        lambda content: content.replace(b"small/train", b"../../train"),
        lambda content: b"<html>moved</html>",
        lambda content: b"",
    ],
)
def test_a_hostile_archive_is_refused_and_not_kept(damage: Any, origin: Origin, tmp_path: Path) -> None:
    whole = archive({f"small/{name}": content for name, content in FILES.items()})
    origin.files["small.zip"] = damage(whole)
    with pytest.raises(DataError, match=r"(?i)nothing was kept"):
        fetch(zipped(), origin)
    assert list((tmp_path / "cache" / "unblur").iterdir()) == []
    assert not list(tmp_path.rglob("train*"))
    origin.files["small.zip"] = whole
    fetch(zipped(), origin)
    assert is_right(zipped())
