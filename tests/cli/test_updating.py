"""`unblur update` on a CSV file: events added, users forgotten, and the receipt."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import unblur as package
from tests.cli.conftest import COLUMNS, Unblur
from unblur.saving import models as artifact

PAGE = Path(__file__).parents[2] / "docs/how-to/update.md"


@pytest.fixture
def fitted(unblur: Unblur, events: Path, tmp_path: Path) -> Path:
    out = tmp_path / "model"
    assert unblur("fit", events, "--model", "item-knn", *COLUMNS, "--out", out).code == 0
    return out


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.txt"
    path.write_text("user-03\n\nuser-07\n")
    return path


@pytest.fixture
def new(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    path.write_text("who,what,timestamp\nanna,item-02,100\nanna,item-99,101\nuser-05,item-02,102\n")
    return path


@pytest.mark.parametrize("kind", ["item-knn", "ease", "rp3beta"])
def test_an_updated_model_is_that_of_the_log_after(
    unblur: Unblur, events: Path, new: Path, users: Path, tmp_path: Path, kind: str
) -> None:
    old, out, rest, refit = (tmp_path / name for name in ("old", "new", "rest.csv", "refit"))
    result = unblur("fit", events, "--model", kind, "--updatable", *COLUMNS, "--out", old)
    assert result.code == 0, result.err
    said = "MB of statistics are kept" if kind == "ease" else "needs the log alone; no statistics are kept"
    assert said in result.err
    result = unblur("update", old, "--log", events, "--add", new, "--forget", users, *COLUMNS, "--out", out)
    assert result.code == 0, result.err
    assert "2 users with" in result.out
    kept = pl.concat([pl.read_csv(events), pl.read_csv(new)]).filter(
        ~pl.col("who").is_in(["user-03", "user-07"])
    )
    kept.write_csv(rest)
    unblur("fit", rest, "--model", kind, *COLUMNS, "--duplicates", "last", "--out", refit)
    updated, expected = package.load(out), package.load(refit)
    # The items of the refit's file are those that somebody has.
    assert updated.items.to_list() == expected.items.to_list()
    assert np.array_equal(updated.item_counts, expected.item_counts)
    one, two = (model.tensors()["weights"] for model in (updated, expected))
    assert abs(one - two).max() <= 1e-6 * abs(two).max()
    assert (
        artifact.read_manifest(out)["provenance"]["train"]
        == artifact.read_manifest(refit)["provenance"]["train"]
    )


def test_weights_that_are_no_whole_numbers_are_summed_again(
    unblur: Unblur, users: Path, tmp_path: Path
) -> None:
    old, out, refit, receipt = (tmp_path / name for name in ("old", "new", "refit", "receipt.json"))
    random = np.random.default_rng(0)
    pairs = np.unique(random.integers(0, (30, 12), (200, 2)), axis=0)
    plays = pl.DataFrame(
        {
            "user": [f"user-{user:02}" for user in pairs[:, 0]],
            "item": [f"item-{item:02}" for item in pairs[:, 1]],
            "rating": random.uniform(0.1, 5, len(pairs)),
        }
    )
    more = plays.sample(20, seed=1).filter(~pl.col("user").is_in(["user-03", "user-07"]))
    for name, frame in (
        ("log", plays),
        ("more", more),
        ("rest", pl.concat([plays, more]).filter(~pl.col("user").is_in(["user-03", "user-07"]))),
    ):
        frame.write_csv(tmp_path / f"{name}.csv")
    words = (*["--model", "ease", "--set", "model.weights=use", "--duplicates", "sum", "--rating", "rating"],)
    assert unblur("fit", tmp_path / "log.csv", *words, "--updatable", "--out", old).code == 0
    change = ("--log", tmp_path / "log.csv", "--add", tmp_path / "more.csv", "--forget", users)
    # What was said about reading the log, --duplicates sum, is kept in the model.
    assert unblur("update", old, *change, "--out", out, "--receipt", receipt).code == 0
    assert unblur("fit", tmp_path / "rest.csv", *words, "--out", refit).code == 0
    one, two = (package.load(folder).tensors()["weights"] for folder in (out, refit))
    assert abs(one - two).max() <= 1e-6 * abs(two).max()
    assert "computed again from the log" in json.loads(receipt.read_text())["method"]


def test_a_receipt_says_what_was_asked_and_what_shows_it(
    unblur: Unblur, events: Path, fitted: Path, users: Path, tmp_path: Path
) -> None:
    out, receipt = tmp_path / "new", tmp_path / "receipt.json"
    before = artifact.read_manifest(fitted)
    words = (
        "update",
        fitted,
        "--log",
        events,
        "--forget",
        users,
        *COLUMNS,
        "--out",
        out,
        "--receipt",
        receipt,
    )
    assert unblur(*words).code == 0
    written = json.loads(receipt.read_text())
    counts = pl.read_csv(events).filter(pl.col("who").is_in(["user-03", "user-07"]))
    assert written["asked"] == {"forget": ["user-03", "user-07"], "add": {"users": 0, "interactions": 0}}
    assert written["removed"]["interactions"] == len(counts)
    assert written["log"]["after"]["n_interactions"] == len(pl.read_csv(events)) - len(counts)
    assert written["model"]["before"] == f"sha256:{before['sha256']}"
    assert written["model"]["after"] == f"sha256:{artifact.read_manifest(out)['sha256']}"
    assert written["model"]["fitted to the log before"] is True
    assert list(written["checks"].values()) == [0, True, True]
    assert "user-03" not in "".join(file.read_text(errors="replace") for file in out.iterdir())


def test_new_labels_that_look_like_numbers_are_text_as_in_the_log(
    unblur: Unblur, events: Path, fitted: Path, tmp_path: Path
) -> None:
    new, out = tmp_path / "new.csv", tmp_path / "new"
    new.write_text("who,what,timestamp\n17,4,100\n17,5,101\n")
    assert unblur("update", fitted, "--log", events, "--add", new, *COLUMNS, "--out", out).code == 0
    assert {"4", "5"} <= set(package.load(out).items.to_list())


def test_the_page_on_updates_runs_as_it_is_printed(
    unblur: Unblur, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name, users in (("log", range(60)), ("monday", range(50, 70))):
        rows = [(f"u{user}", f"i{item}") for user in users for item in random.choice(40, 5, replace=False)]
        pl.DataFrame(rows, schema=["user", "item"], orient="row").write_csv(f"{name}.csv")
    Path("users.txt").write_text("u7\n")
    commands, program = PAGE.read_text(encoding="utf-8").split("```")[1:4:2]
    for line in commands.splitlines()[1:]:
        assert unblur(*line.split()[1:]).code == 0, line
    names: dict[str, object] = {}
    exec(program.removeprefix("python"), names)
    assert package.load("smaller-model").item_counts.sum() == 59 * 5
    model = names["model"]
    assert isinstance(model, package.Recommender)
    assert np.array_equal(model.item_counts, names["change"].after.item_degrees)  # type: ignore[attr-defined]


def test_what_cannot_be_updated_says_what_to_do(
    unblur: Unblur, events: Path, fitted: Path, users: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new"
    assert "Something must change" in unblur("update", fitted, "--log", events, *COLUMNS, "--out", out).err
    users.write_text("user-03\nnobody\n")
    words = ("--log", events, "--forget", users, *COLUMNS, "--out", out)
    assert "must be in the log; 1 are not: 'nobody'" in unblur("update", fitted, *words).err
    users.write_text("user-03\n")
    spectral = tmp_path / "bspm"
    unblur("fit", events, "--set", "model.low_pass.rank=8", *COLUMNS, "--out", spectral)
    result = unblur("update", spectral, *words)
    assert result.code == 2
    assert "low-pass filter rest on all users" in result.err.replace("\n", " ")
    assert "The last fit took" in result.err.replace("\n", " ")
    assert not out.exists()
    result = unblur("fit", events, "--updatable", *COLUMNS, "--out", out)
    assert (result.code, out.exists()) == (2, False)
    assert "Leave --updatable out" in result.err.replace("\n", " ")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_list_without_users_forgets_nobody(
    unblur: Unblur, events: Path, fitted: Path, new: Path, tmp_path: Path, content: str
) -> None:
    """A daily job has days without requests."""
    nobody, out, without = (tmp_path / name for name in ("nobody.txt", "out", "without"))
    nobody.write_text(content)
    words = ("update", fitted, "--log", events, "--add", new, *COLUMNS)
    result = unblur(*words, "--forget", nobody, "--out", out)
    assert result.code == 0, result.err
    assert "0 users with 0 interactions forgotten" in result.out
    assert unblur(*words, "--out", without).code == 0
    provenance = [artifact.read_manifest(model)["provenance"]["train"] for model in (out, without)]
    assert provenance[0] == provenance[1]
