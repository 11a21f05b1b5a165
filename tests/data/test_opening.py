"""Only regular files are opened, under the very name that was given, and what the system says becomes our own error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

import unblur
from unblur.cli.main import REFUSED, main
from unblur.data.catalogue import locate
from unblur.data.files import read, read_split_folder
from unblur.errors import ArtifactError, DataError, RecipeError
from unblur.experiment.recipe.library import load_recipe
from unblur.models.popularity import Popularity

pytestmark = pytest.mark.timeout(60)  # what waits for a writer, or reads without end, fails soon


def log(*pairs: tuple[int, int]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema=["user", "item"], orient="row")


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_name_is_no_pattern(ending: str, tmp_path: Path) -> None:
    for name, frame in {"log1": log((1, 1)), "log[1]": log((7, 8)), "log*": log((9, 9))}.items():
        with (tmp_path / f"{name}.{ending}").open("wb") as stream:
            frame.write_parquet(stream) if ending == "parquet" else frame.write_csv(stream)
    assert read(tmp_path / f"log[1].{ending}").users.to_list() == [7]
    assert read(tmp_path / f"log*.{ending}").users.to_list() == [9]


def test_a_name_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    for folder, user in ((home, 1), (work / "~", 2), (work / "s3:" / "bucket", 3)):
        folder.mkdir(parents=True)
        with (folder / "log.parquet").open("wb") as stream:
            log((user, 5)).write_parquet(stream)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    assert read("./~/log.parquet").users.to_list() == [2]
    assert read("s3://bucket/log.parquet").users.to_list() == [3]


def test_the_items_of_a_model_are_its_own(tmp_path: Path) -> None:
    for name, items in {"m1": ["p", "q", "p"], "m[1]": ["x", "y", "x"]}.items():
        data = unblur.Interactions.from_pairs(["a", "a", "b"], items)
        Popularity().fit(data).save(tmp_path / name)
    assert unblur.load(tmp_path / "m[1]").items.to_list() == ["x", "y"]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo.csv")
    return tmp_path / "fifo.csv"


def test_a_pipe_is_not_waited_for_and_a_device_not_read(fifo: Path) -> None:
    for path in (str(fifo), "/dev/zero", "/dev/null"):
        with pytest.raises(DataError, match="it is a device or a pipe"):
            read(path)
    fifo.rename(fifo.with_suffix(".toml"))
    with pytest.raises(RecipeError, match="device or a pipe"):
        load_recipe(fifo.with_suffix(".toml"))


def test_commands_refuse_what_is_no_regular_file(
    fifo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log((1, 1), (1, 2), (2, 1), (2, 3)).write_csv(tmp_path / "log.csv")
    good, model = str(tmp_path / "log.csv"), str(tmp_path / "model")
    assert main(["fit", good, "--model", "popularity", "--out", model]) == 0
    for path in (str(fifo), "/dev/zero"):
        for command in (
            ["recommend", model, "--histories", good, "--candidates", path],
            ["recommend", model, "--histories", path],
            ["evaluate", model, "--data", path, "--hold-out", "0.5"],
            ["fit", path, "--out", str(tmp_path / "other")],
            ["run", "popularity/demo", "--data", path],
            ["synthesize", path, "--out", str(tmp_path / "other")],
            ["audit", good, path],
            ["audit", good, good, "--holdout", path],
        ):
            capsys.readouterr()
            assert main(command) == REFUSED, command
            assert "it is a device or a pipe" in " ".join(capsys.readouterr().err.split()), command


def loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop"


UNREADABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a long name": (lambda folder: folder / ("x" * 300), "File name too long"),
    "a link to itself": (loop, "symbolic links"),
    "a zero byte": (lambda folder: folder / "a\0b", "null byte"),
    "a file taken as a folder": (lambda folder: Path(__file__) / "log", "Not a directory"),
}


@pytest.mark.parametrize(("path_in", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_opened_is_our_error(
    path_in: Callable[[Path], Path], reason: str, tmp_path: Path
) -> None:
    path = path_in(tmp_path)
    with pytest.raises(DataError, match=reason):
        read(path)
    with pytest.raises(DataError):
        read_split_folder(path)
    with pytest.raises(RecipeError, match="shipped name or a TOML file"):
        load_recipe(path)
    with pytest.raises(ArtifactError):
        unblur.load(path)
    assert locate(None, path) == {"all": path}


@pytest.fixture
def forbidden(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file, neither of which may be read by the user who runs the test."""
    folder = tmp_path / "forbidden"
    folder.mkdir()
    (folder / "log.csv").write_text("user,item\n1,2\n")
    for entry in (folder / "log.csv", folder):
        entry.chmod(0)
    user = os.geteuid()
    tmp_path.chmod(0o755)
    if user == 0:  # who may read everything
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o700)


def test_what_may_not_be_read_is_our_error(forbidden: Path) -> None:
    with pytest.raises(DataError, match="Permission denied"):
        read(forbidden / "log.csv")
    with pytest.raises(DataError, match="Permission denied"):
        read_split_folder(forbidden)
    with pytest.raises(RecipeError, match="Permission denied"):
        load_recipe(forbidden / "log.toml")
    with pytest.raises(ArtifactError):
        unblur.load(forbidden / "model")
