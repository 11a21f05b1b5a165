"""Files and folders are written whole or not at all, and never over what somebody else wrote."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from unblur.data import output
from unblur.data.output import (
    FolderKind,
    GrowingFolder,
    OutputFile,
    OutputFolder,
    sealed,
    table_format,
    unsealed,
    write_tables,
)
from unblur.errors import ArtifactError, DataError

THING = FolderKind("unblur-thing", ("a.txt", "inner/b.txt"), ("a.txt", "thing"))


def put(path: Path, text: str = "thing", *, overwrite: bool = False) -> None:
    with OutputFolder(path, THING, overwrite=overwrite).written() as folder:
        (folder / "a.txt").write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner" / "b.txt").write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def aged(path: Path) -> Path:
    """The path with the age of what a killed command left."""
    os.utime(path, (time.time() - 60,) * 2)
    return path


# ---------------------------------------------------------------------------------------------------------- folders


def test_a_folder_lists_its_files(tmp_path: Path) -> None:
    put(tmp_path / "o")
    assert unsealed((tmp_path / "o" / "manifest.json").read_bytes()) == {
        "format": "unblur-thing",
        "files": ["a.txt", "inner/b.txt"],
    }


@pytest.mark.parametrize("stranger", ["notes.txt", ".git", "inner/mine.csv", "inner/deeper/x", "link"])
def test_only_what_was_written_with_it_is_replaced(tmp_path: Path, stranger: str) -> None:
    place = tmp_path / "o"
    put(place)
    (place / stranger).parent.mkdir(exist_ok=True)
    if stranger == "link":
        (place / stranger).symlink_to(tmp_path)
    else:
        (place / stranger).write_text("years")
    before = sorted(place.rglob("*"))
    with pytest.raises(ArtifactError, match=rf"something else: '{stranger}'"):
        put(place, overwrite=True)
    assert sorted(place.rglob("*")) == before
    (place / stranger).unlink()
    if stranger != "inner/deeper/x":  # an empty folder is somebody's as well
        put(place, "second thing", overwrite=True)
        assert content(place)["a.txt"] == "second thing"


def test_a_folder_with_files_of_the_same_names_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "a.txt").write_text("my own")
    with pytest.raises(ArtifactError, match=r"something else: 'a\.txt'"):
        put(tmp_path / "o", overwrite=True)


@pytest.mark.parametrize(
    "damage",
    [
        *(None, b"{", b"[1]"),
        *(b'{"format": "unblur-thing", "files": %s}' % files for files in (b"5", b"null", b"false")),
    ],
)
def test_a_folder_of_an_earlier_version_or_with_a_damaged_manifest_is_replaced(
    tmp_path: Path, damage: bytes | None
) -> None:
    put(tmp_path / "o")
    manifest = tmp_path / "o" / "manifest.json"
    manifest.unlink() if damage is None else manifest.write_bytes(damage)
    put(tmp_path / "o", "second thing", overwrite=True)
    assert content(tmp_path / "o")["a.txt"] == "second thing"


def test_no_input_is_replaced(tmp_path: Path) -> None:
    put(tmp_path / "o")
    (tmp_path / "link").symlink_to(tmp_path / "o" / "inner")
    for source in (tmp_path / "o" / "a.txt", tmp_path / "o", tmp_path / "link" / "b.txt"):
        with pytest.raises(ArtifactError, match="must not replace an input"):
            OutputFolder(tmp_path / "o", THING, overwrite=True, inputs=(source, None)).checked()


def test_no_output_holds_another_of_the_same_command(tmp_path: Path) -> None:
    """Checkpoints in the folder of a run, or a receipt in that of a model, when neither is there yet."""
    for other in ("o/inner", "o"):
        with pytest.raises(ArtifactError, match="must not replace an input"):
            OutputFolder(tmp_path / "o", THING, inputs=(tmp_path / other,)).checked()
    with pytest.raises(ArtifactError, match="must not replace an input"):
        OutputFile(tmp_path / "o", inputs=(tmp_path / "o",)).checked()


def appears(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("years")


@pytest.mark.parametrize(
    ("before", "overwrite", "meanwhile"),
    [
        (False, False, appears),
        (False, True, appears),
        (False, False, put),
        (False, False, Path.touch),
        (True, True, lambda path: (path / "notes.txt").write_text("years")),
    ],
)
def test_what_appears_meanwhile_stays_and_the_result_is_kept_next_to_it(
    tmp_path: Path, before: bool, overwrite: bool, meanwhile: Callable[[Path], object]
) -> None:
    place = tmp_path / "o"
    if before:
        put(place, "first thing")
    with pytest.raises(ArtifactError, match="The result is whole and was kept: ") as caught:  # noqa: PT012, SIM117
        with OutputFolder(place, THING, overwrite=overwrite).written() as folder:
            (folder / "a.txt").write_text("second thing")
            meanwhile(place)
            theirs = content(place)
    assert content(place) == theirs
    (kept,) = (path for path in tmp_path.iterdir() if path != place)
    assert str(kept) in str(caught.value)
    assert content(kept)["a.txt"] == "second thing"


@pytest.mark.parametrize(
    "meanwhile",
    [
        appears,
        Path.touch,
        os.mkfifo,
        lambda path: path.symlink_to(path.parent),
        lambda path: put(path, "theirs"),
    ],
)
def test_what_appears_during_the_work_stays_and_the_result_is_kept_next_to_it(
    tmp_path: Path, meanwhile: Callable[[Path], object]
) -> None:
    """Once a place is checked, no work is lost: it begins long before anything is written."""
    place = tmp_path / "o"
    to_folder, to_file = OutputFolder(place, THING, overwrite=True).checked(), OutputFile(place).checked()
    meanwhile(place)
    theirs = os.lstat(place)
    with pytest.raises(ArtifactError, match="was kept: ") as caught, to_folder.written() as folder:
        (folder / "a.txt").write_text("ours")
    with pytest.raises(ArtifactError, match="was kept: ") as other, to_file.written() as stream:
        stream.write(b"ours")
    assert os.path.samestat(os.lstat(place), theirs)
    kept = [path for path in tmp_path.iterdir() if path != place]
    assert sorted(path.is_dir() for path in kept) == [False, True]
    for path in kept:
        assert str(path) in f"{caught.value} {other.value}"
        assert (path / "a.txt" if path.is_dir() else path).read_text() == "ours"


def test_of_two_that_replace_one_folder_the_second_does_not_replace_the_first(tmp_path: Path) -> None:
    """Both have read the earlier one, and what the first has made of it would be lost."""
    place = tmp_path / "o"
    put(place, "first thing")
    outputs = [OutputFolder(place, THING, overwrite=True).checked() for _ in range(2)]
    for number, written in enumerate(outputs):
        with (
            pytest.raises(ArtifactError, match=r"another process has replaced it.*was kept: ")
            if number
            else nullcontext(),
            written.written() as folder,
        ):
            (folder / "a.txt").write_text(f"thing {number}")
    assert content(place)["a.txt"] == "thing 0"
    assert sorted(content(path)["a.txt"] for path in tmp_path.iterdir()) == ["thing 0", "thing 1"]


def test_of_two_at_once_one_is_kept_next_to_the_other(tmp_path: Path) -> None:
    start, problems = threading.Barrier(4), []

    def write(number: int) -> None:
        start.wait()
        try:
            put(tmp_path / "o", f"thing {number}")
        except ArtifactError as problem:
            problems.append(str(problem))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(problems) == 3
    kept = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    texts = sorted(content(path)["a.txt"] for path in kept)
    late = sum("was kept" in problem for problem in problems)  # others were refused at the start
    assert len(texts) == len(set(texts)) == 1 + late


def test_a_link_is_followed_and_one_to_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    put(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real")["a.txt"] == "thing"
    put(tmp_path / "link", "second thing", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real")["a.txt"] == "second thing"
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("nowhere", "loop"):
        with pytest.raises(ArtifactError, match="link to nowhere"):
            OutputFolder(tmp_path / name, THING).checked()
        with pytest.raises(ArtifactError, match="link to nowhere"):
            OutputFile(tmp_path / name).checked()


def test_a_mount_point_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArtifactError, match="mount point"):
        OutputFolder("/dev/shm" if os.path.ismount("/dev/shm") else "/", THING).checked()
    (tmp_path / "o").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    with pytest.raises(ArtifactError, match="mount point"):
        OutputFolder(tmp_path / "o", THING).checked()


def test_what_is_mounted_from_the_same_file_system_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own `ismount` does not see it; letters that part words are octal in the system's list."""
    folder, file = tmp_path / "a b", tmp_path / "c"
    folder.mkdir()
    file.touch()
    lines = "".join(
        f"36 35 98:0 /x {str(path).replace(' ', chr(92) + '040')} rw - ext4 /dev/root rw\n"
        for path in (folder, file)
    )
    monkeypatch.setattr(output.Path, "read_bytes", lambda path: lines.encode())
    for written in (OutputFolder(folder, THING), OutputFile(file, overwrite=True)):
        with pytest.raises(ArtifactError, match="mount point"):
            written.checked()
    OutputFolder(tmp_path / "x", THING).checked()
    GrowingFolder(folder, "a.txt", "Things must be kept in a folder").checked()


def test_a_name_that_is_no_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    names = {
        "-": "is stdout",
        ".o.0123abcd.partial": "killed command",
        ".": "working folder",
        "..": "working folder",
    }
    for name, message in names.items():
        with pytest.raises(ArtifactError, match=message):
            OutputFolder(name, THING).checked()
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("name", ["x" * 300, "x" * 250])
def test_a_name_that_is_too_long_is_refused_before_anything_is_computed(tmp_path: Path, name: str) -> None:
    for written in (OutputFile(tmp_path / name), OutputFolder(tmp_path / name, THING)):
        with pytest.raises(ArtifactError, match="File name too long"):
            written.checked()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["/proc/o", "/sys/o"])
def test_a_place_that_takes_no_files_is_refused_before_anything_is_computed(place: str) -> None:
    for written in (OutputFolder(place, THING), OutputFile(place)):
        with pytest.raises(ArtifactError, match="in a folder that can be written to; "):
            written.checked()


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_refused_before_anything_is_computed(
    tmp_path: Path, name: str
) -> None:
    outputs = (
        OutputFile(tmp_path / name),
        OutputFolder(tmp_path / name, THING),
        GrowingFolder(tmp_path / name, "a.txt", "Things must be kept in a folder"),
    )
    for written in outputs:
        with pytest.raises(ArtifactError, match=r"; .*(null byte|surrogates not allowed)\. Make room"):
            written.checked()
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------- faults during the work


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lambda path: pl.DataFrame({"a": [1]}).select("b"), pl.exceptions.ColumnNotFoundError),
        (lambda path: (path / "input").read_bytes(), FileNotFoundError),
        (lambda path: pl.read_csv(path / "input"), FileNotFoundError),
        (lambda path: path.read_bytes(), IsADirectoryError),
    ],
)
def test_a_fault_of_what_is_to_be_written_is_not_one_of_the_place(
    tmp_path: Path, fault: Callable[[Path], object], kind: type[Exception]
) -> None:
    for written in (OutputFile(tmp_path / "o"), OutputFolder(tmp_path / "o", THING)):
        with pytest.raises(kind), written.written():
            fault(tmp_path)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", ["write_parquet", "write_csv", "write_ndjson", "write_ipc"])
def test_a_full_disk_under_a_table_is_a_fault_of_the_place(tmp_path: Path, write: str) -> None:
    for written in (OutputFile(tmp_path / "o"), OutputFolder(tmp_path / "o", THING)):
        with (
            pytest.raises(ArtifactError, match=r"written whole; .*No space left on device.*Make room"),
            written.written(),
            Path("/dev/full").open("wb", buffering=0) as full,
        ):
            getattr(pl.DataFrame({"a": range(9)}), write)(full)
        assert not list(tmp_path.iterdir())


def test_a_full_disk_under_an_array_is_a_fault_of_the_place(tmp_path: Path) -> None:
    """numpy's error has neither the system's number nor a name when a part of the array was written."""
    with pytest.raises(ArtifactError, match=r"496 written\. Make room"), OutputFile(tmp_path / "o").written():
        raise OSError("99999 requested and 496 written")


def test_a_folder_that_goes_meanwhile_is_a_fault_of_the_place(tmp_path: Path) -> None:
    with (  # noqa: PT012
        pytest.raises(ArtifactError, match=r"written whole; .*; No such file"),
        OutputFolder(tmp_path / "o", THING).written() as folder,
    ):
        folder.rmdir()
        (folder / "a.txt").write_text("thing")


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["fifo", "device", "link to a device"])
def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path, kind: str, overwrite: bool) -> None:
    place = tmp_path / "out"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "device":
        place = Path("/dev/full")
    else:
        place.symlink_to("/dev/full")
    before = os.lstat(place)
    with (
        pytest.raises(ArtifactError, match="must be a regular one"),
        OutputFile(place, overwrite=overwrite).written(),
    ):
        pytest.fail("something was written")
    assert os.path.samestat(os.lstat(place), before)


def test_what_replaces_a_private_file_or_folder_is_as_private(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("before")
    put(folder)
    file.chmod(0o600)
    folder.chmod(0o700)
    with OutputFile(file, overwrite=True).written() as stream:
        stream.write(b"after")
    put(folder, "after", overwrite=True)
    assert [path.stat().st_mode & 0o777 for path in (file, folder)] == [0o600, 0o700]


def test_a_file_is_replaced_when_asked_and_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("first")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(ArtifactError, match="must be new"), OutputFile(tmp_path / "link").written():
        pytest.fail("something was written")
    with OutputFile(tmp_path / "link", overwrite=True).written() as stream:
        stream.write(b"second")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_text() == "second"
    for source in (tmp_path / "a", tmp_path / "link", tmp_path):
        with pytest.raises(ArtifactError, match="must not replace an input"):
            OutputFile(tmp_path / "a", overwrite=True, inputs=[source]).checked()


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    def link(source: object, target: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not hard_links:
        monkeypatch.setattr(output.os, "link", link)
    with OutputFile(tmp_path / "b").written() as stream:
        stream.write(b"new")
    assert (tmp_path / "b").read_text() == "new"
    with (  # noqa: PT012
        pytest.raises(ArtifactError, match="was kept: "),
        OutputFile(tmp_path / "a").written() as stream,
    ):
        stream.write(b"ours")
        (tmp_path / "a").write_text("theirs")
    assert (tmp_path / "a").read_text() == "theirs"
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["new", "ours", "theirs"]


# ----------------------------------------------------------------------------------------- what killed commands left


def test_the_next_command_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    put(tmp_path / "o")
    for purpose in ("partial", "earlier"):
        aside = tmp_path / f".o.0123abcd.{purpose}"
        aside.mkdir()
        (aside / "a.txt").write_text("half")
        aged(aside)
    aged(tmp_path / ".o.0123abcd.partial").joinpath("a.txt")
    (tmp_path / ".f.0123abcd.part").write_text("half")
    os.mkfifo(tmp_path / ".f.4567cdef.part")  # whoever made it, it is not waited for
    for name in ("0123abcd", "4567cdef"):
        aged(tmp_path / f".f.{name}.part")
    (tmp_path / ".o.mine").write_text("kept")
    put(tmp_path / "o", "second thing", overwrite=True)
    with OutputFile(tmp_path / "f", overwrite=True).written() as stream:
        stream.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".o.mine", "f", "o"]


def test_an_earlier_folder_without_a_successor_is_put_back(tmp_path: Path) -> None:
    put(tmp_path / "o", "first thing")
    (tmp_path / "o").rename(aged(tmp_path / "o").with_name(".o.0123abcd.earlier"))
    with pytest.raises(ArtifactError, match="new or empty"):
        OutputFolder(tmp_path / "o", THING).checked()
    assert content(tmp_path / "o")["a.txt"] == "first thing"
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


KILLED = """
import os, signal, sys
from pathlib import Path
from unblur.data.output import FolderKind, OutputFolder

rename, calls = Path.rename, []
def dying(self, target):
    calls.append(target)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = dying
with OutputFolder(sys.argv[1], FolderKind("unblur-thing"), overwrite=True).written() as folder:
    (folder / "a.txt").write_text("second thing")
"""


@pytest.mark.parametrize("rename", [1, 2])
def test_a_kill_at_a_rename_loses_nothing(tmp_path: Path, rename: int) -> None:
    """Before the first the earlier folder is in its place, before the second aside."""
    place = tmp_path / "o"
    put(place, "first thing")
    ended = subprocess.run([sys.executable, "-c", KILLED, place, str(rename)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert place.exists() == (rename == 1)
    for leftover in tmp_path.glob(".o.*"):
        aged(leftover)
    OutputFolder(place, THING, overwrite=True).checked()
    assert content(place)["a.txt"] == "first thing"
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


TRIED = """
import os, signal, sys
from unblur.data.output import OutputFile

calls = []
def dying(event, arguments):
    if event in ("open", "os.mkdir", "os.rmdir", "os.remove") and str(arguments[0]).startswith(sys.argv[1]):
        calls.append(event)
        if len(calls) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(dying)
OutputFile(sys.argv[1] + "/a.txt").checked()
"""


@pytest.mark.parametrize("event", [1, 2])
def test_a_kill_while_a_place_is_looked_at_leaves_nothing(tmp_path: Path, event: int) -> None:
    ended = subprocess.run([sys.executable, "-c", TRIED, tmp_path, str(event)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_in_use_until_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    used = []

    def rename(partial: Path, target: Path) -> None:
        used.append(output.in_use(partial))
        partial.rename(target)

    monkeypatch.setattr(output.os, "link", rename)
    monkeypatch.setattr(output.Path, "replace", rename)
    with OutputFile(tmp_path / "o", overwrite=overwrite).written() as stream:
        stream.write(b"whole")
    assert used == [True]
    assert (tmp_path / "o").read_bytes() == b"whole"


def test_the_lock_of_what_was_just_begun_is_left_to_its_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(output, "in_use", lambda path: asked.append(path.name) or True)
    for name in ("0123abcd", "4567cdef"):
        (tmp_path / f".o.{name}.part").touch()
    aged(tmp_path / ".o.0123abcd.part")
    OutputFile(tmp_path / "o").checked()
    assert asked == [".o.0123abcd.part"]


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "o", THING).written() as folder:
        (folder / "a.txt").write_text("thing of the first")
        aged(folder)
        put(tmp_path / "o")
        assert folder.is_dir()
        (tmp_path / "o").rename(tmp_path / "away")
    assert content(tmp_path / "o")["a.txt"] == "thing of the first"


# -------------------------------------------------------------------------------------------------- text and tables


@settings(max_examples=50, deadline=None)
@given(
    values=st.dictionaries(
        st.text(max_size=5),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    ),
    data=st.data(),
)
def test_a_sealed_text_gives_its_values_or_is_refused(values: dict[str, object], data: st.DataObject) -> None:
    values.pop("sha256", None)
    text = sealed(values)
    assert unsealed(text) == values
    place, bit = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(text)
    changed[place] ^= 1 << bit
    try:
        read = unsealed(bytes(changed))
    except ValueError:
        return
    assert b'"sha256"' not in changed  # the name of the checksum itself
    assert values.items() <= read.items()


def test_text_of_an_earlier_version_has_no_checksum() -> None:
    assert unsealed(b'{"schema": 1}') == {"schema": 1}
    with pytest.raises(ValueError, match="list instead of a table"):
        unsealed(b"[" * 3 + b"]" * 3)
    with pytest.raises(ValueError, match=r"recursion|nested|Expecting"):
        unsealed(b"[" * 100_000)


def test_text_of_any_number_of_levels_gives_its_values_or_is_refused() -> None:
    outcomes = set()
    for levels in (*range(100, sys.getrecursionlimit() + 50, 3), 10**5):
        nested = b'{"a": ' * levels + b"1" + b"}" * levels
        # A checksum makes the reader render the values again, which recurses as well.
        for text in (nested, nested[:-1] + b', "sha256": ""}'):
            try:
                outcomes.add(bool(unsealed(text)))
            except ValueError as problem:
                outcomes.add(str(problem).partition(" while")[0])
    assert True in outcomes
    assert "maximum recursion depth exceeded" in outcomes


def test_tables_come_back_from_every_format(tmp_path: Path) -> None:
    tables = [
        pl.DataFrame({"user": ["a", "b,\n"], "rank": [1, 2], "fallback": [True, False]}),
        pl.DataFrame({"user": ["ü"], "rank": [3], "fallback": [False]}),
    ]
    readers = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}
    for name, read in readers.items():
        with (tmp_path / name).open("wb") as stream:
            assert write_tables(iter(tables), stream, table_format(f"x.{name}")) == 3
        assert read(tmp_path / name).equals(pl.concat(tables))
    assert [json.loads(line)["rank"] for line in (tmp_path / "jsonl").read_text().splitlines()] == [1, 2, 3]
    assert table_format("x.txt", "csv") == table_format("x.CSV") == "csv"
    for path, told in (("x.txt", None), ("x.csv", "xlsx"), ("x", None)):
        with pytest.raises(DataError, match="must be one of parquet, csv, jsonl"):
            table_format(path, told)
