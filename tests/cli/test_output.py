"""What commands write: nothing of anybody else's is lost, whatever happens, and nothing steers a terminal."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.cli.conftest import COLUMNS, Unblur
from unblur.cli import terminal
from unblur.cli.main import main
from unblur.data import output
from unblur.data.interactions import Interactions
from unblur.recommender import Recommender, load


@pytest.fixture
def model(unblur: Unblur, events: Path, tmp_path: Path) -> Path:
    """A saved model of the items' popularity."""
    place = tmp_path / "model"
    assert unblur("fit", events, "--model", "popularity", *COLUMNS, "--out", place).code == 0
    return place


# ---------------------------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize("command", ["run", "tune", "audit", "fit", "synthesize"])
def test_overwrite_takes_nothing_that_the_command_did_not_write(
    unblur: Unblur, events: Path, tmp_path: Path, command: str
) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    for name in ("report.json", "card.md", "thesis.txt"):
        (place / name).write_text('{"measurements": "of my own", "kind": "audit"}')
    words = {
        "run": ("run", "popularity/demo"),
        "tune": ("tune", "ease/demo", "--trials", "1"),
        "audit": ("audit", events, events, *COLUMNS),
        "fit": ("fit", events, "--model", "popularity", *COLUMNS),
        "synthesize": ("synthesize", events, "--model", "independent-items", *COLUMNS),
    }[command]
    ran = unblur(*words, "--out", place, "--overwrite")
    assert ran.code == 2
    assert "holds something else" in ran.err
    assert "thesis.txt" in ran.err
    assert sorted(path.name for path in place.iterdir()) == ["card.md", "report.json", "thesis.txt"]


def test_no_command_replaces_the_folder_of_its_input(unblur: Unblur, parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert unblur("run", "popularity/gowalla", "--data", parts, "--out", out).code == 0
    before = (out / "recipe.toml").read_bytes()
    ran = unblur("run", out / "recipe.toml", "--data", parts, "--out", out, "--overwrite")
    assert ran.code == 2
    assert "must not replace an input" in ran.err
    assert (out / "recipe.toml").read_bytes() == before


WRITING = {
    "fit": ("fit", "log.csv", "--model", "popularity", *COLUMNS, "--out"),
    "update": ("update", "model", "--log", "log.csv", "--forget", "users.txt", *COLUMNS, "--out"),
    "export": ("export", "knn", "--web"),
    "run": ("run", "popularity/demo", "--out"),
    "tune": ("tune", "ease/demo", "--trials", "1", "--out"),
    "compare": (
        "compare",
        "popularity",
        "--data",
        "log.csv",
        *COLUMNS,
        "--set",
        "protocol.cutoffs=[3]",
        "--out",
    ),
    "synthesize": ("synthesize", "log.csv", "--model", "independent-items", *COLUMNS, "--out"),
    "audit": ("audit", "log.csv", "log.csv", *COLUMNS, "--no-utility", "--out"),
    "recommend": ("recommend", "model", "--histories", "log.csv", "--k", "2", "--out-format", "csv", "--out"),
    "similar": ("similar", "knn", "item-02", "--out-format", "csv", "--out"),
    "evaluate": ("evaluate", "model", "--data", "half.csv", "--hold-out", "0.3", *COLUMNS, "--out"),
    "translate": ("translate", "python main.py --dataset=gowalla --simple_model=bspm", "--out"),
    "receipt": (
        *("update", "model", "--log", "log.csv", "--forget", "users.txt", *COLUMNS, "--out", "other"),
        "--receipt",
    ),
}
"""Commands that write, up to the path."""


@pytest.fixture
def place(unblur: Unblur, model: Path, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with what the commands of `WRITING` read."""
    (tmp_path / "users.txt").write_text("user-03\n")
    half_of(events)
    assert unblur("fit", events, "--model", "item-knn", *COLUMNS, "--out", tmp_path / "knn").code == 0
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", WRITING)
def test_nothing_is_put_into_a_saved_model(unblur: Unblur, place: Path, command: str) -> None:
    """It would be damaged: a file that its manifest does not name."""
    ran = unblur(*WRITING[command], Path("model", "mine"))
    assert ran.code == 2
    assert "must not be in the folder of a saved model" in ran.err
    assert unblur("info", "model").code == 0
    assert load("model").items


@pytest.mark.parametrize("command", WRITING)
def test_the_result_of_work_is_kept_if_its_place_is_taken_meanwhile(
    unblur: Unblur, place: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "tune":
        monkeypatch.setattr("unblur.cli.tune.trials_folder", lambda *_: place / "trials")

    def taken(output: Any) -> Any:
        """The output once it is checked; its place is then taken, as if the work had begun."""
        checked_output = checked(output)
        if checked_output.whole and checked_output.target.name == "result":
            (place / "result").mkdir()
            (place / "result" / "mine").touch()
        return checked_output

    checked = output._Output.checked
    monkeypatch.setattr(output._Output, "checked", taken)
    ran = unblur(*WRITING[command], "result")
    if command == "compare":  # its folder grows
        assert ran.code == 0
        return
    assert ran.code == 2, ran.err
    assert "The result is whole and was kept: " in ran.err
    assert [path.name for path in (place / "result").iterdir()] == ["mine"]
    (kept,) = place.glob("result-*")
    assert str(kept) in ran.err.replace("\n", "")


def test_a_receipt_has_a_place_of_its_own_and_is_not_lost(
    unblur: Unblur, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = WRITING["update"]
    for receipt in ("out", "out/receipt.json", "users.txt", "model/manifest.json"):
        ran = unblur(*words, "out", "--receipt", receipt, "--overwrite")
        assert ran.code == 2, receipt
        assert not (place / "out").exists()
    ran = unblur(*words, "out", "--receipt", "-")
    assert json.loads(ran.out)["removed"]["users"] == 1
    assert "written to out" in ran.err

    def full(descriptor: int) -> None:
        if ".receipt.json." in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ran = unblur(*words, "model", "--receipt", "receipt.json", "--overwrite")
    assert (ran.code, "No space left on device" in ran.err) == (2, True)
    assert json.loads(ran.out[: ran.out.rindex("}") + 1])["removed"]["users"] == 1


def test_an_update_does_not_undo_another_one(
    unblur: Unblur, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that read one model and replace it the later would bring back whom the earlier forgot."""
    (place / "others.txt").write_text("user-05\n")
    updated, words = (
        Recommender.updated,
        ("update", "model", "--log", "log.csv", *COLUMNS, "--out", "model", "--overwrite"),
    )

    def meanwhile(model: Recommender, *more: Any, **options: Any) -> Recommender:
        monkeypatch.undo()
        monkeypatch.chdir(place)
        assert main([*map(str, words), "--forget", "others.txt"]) == 0
        return updated(model, *more, **options)

    monkeypatch.setattr(Recommender, "updated", meanwhile)
    ran = unblur(*words, "--forget", "users.txt")
    assert ran.code == 2
    assert "another process has replaced it" in ran.err
    assert len(list(place.glob("model-*"))) == 1


def test_the_recipe_of_a_comparison_that_takes_part_in_it_is_not_replaced(
    unblur: Unblur, place: Path
) -> None:
    words = WRITING["compare"]
    assert unblur(*words, "place").code == 0
    before = (place / "place" / "winner.toml").read_bytes()
    ran = unblur(*words[:1], Path("place", "winner.toml"), *words[2:], "place")
    assert (ran.code, "must not replace an input" in ran.err) == (2, True)
    assert (place / "place" / "winner.toml").read_bytes() == before


# ------------------------------------------------------------------------------------------------------------ files


def test_lists_replace_neither_inputs_nor_devices_nor_anything_unasked(
    unblur: Unblur, model: Path, events: Path, tmp_path: Path
) -> None:
    before = events.read_bytes()
    fifo = tmp_path / "fifo.csv"
    os.mkfifo(fifo)
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "gone.csv")
    (tmp_path / "old.csv").write_text("years")
    told = {
        events: "must not replace an input",
        model / "manifest.json": "must not replace an input",
        Path("/dev/full"): "must be a regular one",
        fifo: "must be a regular one",
        link: "link to nowhere",
        tmp_path / "nowhere" / "x.csv": "must exist",
        tmp_path: "must not be a folder",
    }
    for out, message in told.items():
        words = ("recommend", model, "--histories", events, *COLUMNS, "--k", "2", "--out-format", "csv")
        ran = unblur(*words, "--out", out, "--overwrite")
        assert (ran.code, message in ran.err) == (2, True), (out, ran.err)
    ran = unblur(*words, "--out", tmp_path / "old.csv")
    assert (ran.code, "must be new" in ran.err) == (2, True)
    assert (tmp_path / "old.csv").read_text() == "years"
    assert events.read_bytes() == before
    assert fifo.is_fifo()
    assert not Path("/dev/full").is_file()
    assert unblur(*words, "--out", tmp_path / "old.csv", "--overwrite").code == 0


def test_the_format_of_lists_follows_the_name_or_the_option(
    unblur: Unblur, model: Path, events: Path, tmp_path: Path
) -> None:
    words = ("recommend", model, "--histories", events, *COLUMNS, "--k", "3")
    readers = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}
    for name, read in readers.items():
        ran = unblur(*words, "--out", tmp_path / f"lists.{name}")
        assert ran.code == 0, ran.err
        columns = ["user", "rank", "item", "score", "fallback", "filled"]
        assert read(tmp_path / f"lists.{name}").columns == columns
        assert unblur(*words, "--out", tmp_path / name, "--out-format", name).code == 0
        assert (tmp_path / name).read_bytes() == (tmp_path / f"lists.{name}").read_bytes()
    ran = unblur(*words, "--out", "-")
    assert ran.out == (tmp_path / "csv").read_text()
    assert "50 users, up to 3 items each" in ran.err
    assert unblur(*words, "--out", "-", "--out-format", "jsonl").out == (tmp_path / "jsonl").read_text()
    for more in (("--out", tmp_path / "lists.txt"), ("--out", tmp_path / "l.csv", "--out-format", "xlsx")):
        ran = unblur(*words, *more)
        assert (ran.code, "must be one of parquet, csv, jsonl" in ran.err) == (2, True)


def test_a_report_of_a_saved_model_is_json(unblur: Unblur, parts: Path, tmp_path: Path) -> None:
    assert unblur("fit", parts, "--model", "popularity", "--out", tmp_path / "m").code == 0
    words = ("evaluate", tmp_path / "m", "--data", parts, "--unknown-items", "ignore")
    out = tmp_path / "report.json"
    assert unblur(*words, "--out", out).code == 0
    measured = json.loads(out.read_text())["measurements"]
    assert json.loads(unblur(*words, "--out", "-").out)["measurements"] == measured
    assert "must be new" in unblur(*words, "--out", out).err
    assert "written as JSON" in unblur(*words, "--out", tmp_path / "report.csv").err


# -------------------------------------------------------------------------------------------- what the system refuses


@pytest.mark.parametrize("command", ["fit", "recommend", "evaluate", "synthesize", "compare", "translate"])
def test_a_full_disk_is_an_error_of_ours_and_leaves_nothing_half_written(
    unblur: Unblur, model: Path, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "place" / "out.json"
    out.parent.mkdir()
    words = {
        "fit": ("fit", events, "--model", "popularity", *COLUMNS),
        "recommend": ("recommend", model, "--histories", events, *COLUMNS, "--k", "2", "--out-format", "csv"),
        "evaluate": ("evaluate", model, "--data", half_of(events), "--hold-out", "0.3", *COLUMNS),
        "synthesize": ("synthesize", events, "--model", "independent-items", *COLUMNS),
        "compare": ("compare", "popularity", "--data", events, *COLUMNS, "--set", "protocol.cutoffs=[3]"),
        "translate": ("translate", "python main.py --dataset=gowalla --simple_model=bspm"),
    }[command]
    monkeypatch.setattr(os, "fsync", full)
    ran = unblur(*words, "--out", out)
    assert ran.code == 2
    assert "No space left on device. " in ran.err
    assert "Make room" in ran.err
    assert not [path for path in out.parent.rglob("*") if path.is_file()]


def half_of(events: Path) -> Path:
    """A file with half of the users."""
    other = events.with_name("half.csv")
    pl.read_csv(events).filter(pl.col("who") < "user-25").write_csv(other)
    return other


def test_a_folder_that_takes_no_files_is_named_before_anything_is_computed(
    unblur: Unblur, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (
        ("fit", events, "--model", "popularity", *COLUMNS),
        ("synthesize", events, "--model", "independent-items", *COLUMNS),
        ("run", "popularity/demo"),
        ("compare", "popularity/demo"),
        ("demo",),
    ):
        ran = unblur(*words, "--out", "/proc/unblur")
        assert ran.code == 2, words
        assert "error: " in ran.err


def test_a_closed_stdout_is_no_traceback(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(["recipes", "bspm/gowalla"]) == 141
        assert main(["recipes"]) in (0, 141)
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["recipes", "bspm/gowalla"]) == 2
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["recipes", "bspm/gowalla"]) == 0
    sys.stdout.close()
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "No space left on device" in said


# ---------------------------------------------------------------------------------------------------- names and labels

NASTY = "[/x] [v2] :smile: \x1b[31mred \x9b2J \u202eabc"


def test_a_result_is_written_before_it_is_printed_whatever_its_name(
    unblur: Unblur, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "named.toml"
    name = NASTY.encode("unicode_escape").decode().replace("\\x", "\\u00")
    path.write_text(
        f'name = "{name}"\n[data.read]\nuser = "who"\nitem = "what"\n[split]\nkind = "random"\n'
        '[model]\nkind = "popularity"\n[protocol]\ncutoffs = [3]\n'
    )
    ran = unblur("run", path, "--data", events, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    shown = r"[/x] [v2] :smile: \x1b[31mred \x9b2J \u202eabc"
    assert shown in ran.out
    printed = ran.out + ran.err + unblur("recipes", tmp_path / "out" / "recipe.toml").out
    for text in (printed, *((tmp_path / "out" / file).read_text() for file in ("recipe.toml", "report.md"))):
        assert not set("\x1b\x9b\u202e") & set(text)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["recipe"] == NASTY

    def fails(report: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("unblur.cli.recipes.print_report", fails)
    assert unblur("run", path, "--data", events, "--out", tmp_path / "second").code == 2
    assert (tmp_path / "second" / "report.json").is_file()


def test_labels_are_shown_as_plain_text_and_long_ones_shortened(unblur: Unblur, tmp_path: Path) -> None:
    long = "x" * 5_000
    data = Interactions.from_pairs([NASTY, NASTY, long, "c"], ["a", "b", "a", long])
    log = tmp_path / "log.parquet"
    data.to_frame().select("user", "item").write_parquet(log)
    assert unblur("fit", log, "--model", "item-knn", "--out", tmp_path / "m").code == 0
    ran = unblur("recommend", tmp_path / "m", "--histories", log, "--k", "1")
    assert ran.code == 0, ran.err
    assert "[/x]" in ran.out
    assert r"\x1b[31mred" in ran.out
    assert not set("\x1b\x9b\u202e") & set(ran.out)
    assert "(5,000 characters)" in ran.out
    assert long not in ran.out.replace("\n", "")
    told = unblur("similar", tmp_path / "m", f"{long}y").err
    assert "(5,0" in told
    assert len(told) < 1_000


@pytest.mark.parametrize("show", [terminal.note, terminal.error, terminal.failure, terminal.print_lines])
def test_nothing_that_is_printed_steers_a_terminal(capsys: pytest.CaptureFixture[str], show: object) -> None:
    show(NASTY)  # type: ignore[operator]
    said = "".join(capsys.readouterr())
    assert r"[/x] [v2] :smile: \x1b[31mred \x9b2J \u202eabc" in said


@pytest.mark.parametrize(
    "words",
    [
        ("\u202e\x1b[2J[/x]",),
        ("--\u202e\x1b[2J[/x]",),
        ("fit", "--\u202e\x1b[2J[/x]"),
        ("datasets", "list", "a", "\u202e\x1b[2J[/x]"),
        ("fit", "x.csv", "--min-rating", "\u202e\x1b[2J[/x]"),
        ("fit", "x.csv", "--min-rating", "9" * 100_000 + "x"),
        ("fit", "x.csv", "--out", "o", "--model", "y " * 100_000),
        ("fit",),
        ("fit", "x.csv", "--model", "ease"),
        ("serve",),
    ],
)
def test_a_wrong_word_is_an_error_as_any_other(unblur: Unblur, words: tuple[str, ...]) -> None:
    ran = unblur(*words)
    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert ran.err.strip().isprintable()
    assert len(ran.err) < 5_000


BYTES = os.fsdecode(b"caf\xe9\x1b[2J'$(id).csv")
"""The name of a file that is not UTF-8, as Linux allows."""


def test_names_that_are_no_unicode_pass_through_every_output(
    unblur: Unblur, events: Path, tmp_path: Path
) -> None:
    log = events.rename(tmp_path / BYTES)
    ours = tmp_path / "ours.toml"
    ours.write_text(
        'name = "ours"\n[data.read]\nuser = "who"\nitem = "what"\n[split]\nkind = "random"\n[model]\nkind = "ease"\n'
        "[protocol]\ncutoffs = [3]\n"
    )
    out = tmp_path / f"out-{BYTES}"
    for words in (
        ("fit", log, "--model", "item-knn", *COLUMNS),
        ("run", ours, "--data", log),
        ("compare", ours, "item-knn", "--data", log),
        ("synthesize", log, "--model", "independent-items", *COLUMNS, "--holdout", "0.3"),
        ("audit", log, log, *COLUMNS, "--waive", f"copies={BYTES}"),
    ):
        place = out.with_name(f"{words[0]}-{BYTES}")
        ran = unblur(*words, "--out", place, "--json")
        assert ran.code in (0, 1), ran.err
        assert ran.out.isascii()
        assert json.loads(ran.out)
        for file in place.rglob("*.*"):
            if file.suffix in (".html", ".md", ".toml", ".json"):
                assert file.read_text(encoding="utf-8"), file
    command = unblur(
        "synthesize", log, "--model", "independent-items", *COLUMNS, "--holdout", "0.3", "--out", out
    )
    line = command.out.partition("audit it: ")[2]
    assert line.strip().isprintable()
    assert "$'" in line
    model = tmp_path / f"fit-{BYTES}"
    ran = unblur("describe", log, *COLUMNS, "--json")
    assert json.loads(ran.out)["command"] in unblur("describe", log, *COLUMNS).out
    assert unblur("info", model, "--json").code == 0


def test_text_that_must_be_unicode_is_refused_before_the_work(
    unblur: Unblur, model: Path, events: Path, tmp_path: Path
) -> None:
    given = ("recommend", model, "--histories", events, *COLUMNS)
    for words in (
        (*given, "--users", BYTES),
        ("similar", model, BYTES),
        ("explain", model, "--histories", events, *COLUMNS, "--users", BYTES),
        ("describe", events, *COLUMNS, "--time-format", f"%Y{BYTES}"),
        ("run", "popularity/demo", "--set", f"title={BYTES}"),
        ("tune", "ease/demo", "--trials", "1", "--storage", f"sqlite:///{tmp_path}/{BYTES}"),
        ("serve", model, "--host", "\u202e" * 9),
    ):
        ran = unblur(*words)
        assert ran.code == 2, (words, ran)
        assert ran.err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_of_another_encoding_gets_escapes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert main(["datasets", "list"]) == 0
    sys.stdout.flush()
    said = written.getvalue().decode(encoding)
    assert "\\u2013" in said  # the dash of a table


def test_a_width_of_nothing_is_no_width(unblur: Unblur, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    assert "must be a shipped name" in unblur("run", "nothing/there").err


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_onto_a_full_disk_is_no_traceback(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main([option]) == 2


def test_notes_are_dim_and_the_head_of_an_error_is_bold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal.note("a note")
    terminal.error("a reason")
    assert (
        capsys.readouterr().err == "\x1b[2ma note\x1b[0m\n\x1b[1;31merror: \x1b[0m\x1b[31ma reason\x1b[0m\n"
    )
