"""`unblur audit`: files in, a page and figures out, an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.audit.sets import GATES, Groups, groups, rows
from unblur.cli.main import main
from unblur.data import files as sources
from unblur.data.interactions import Interactions


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train, synthetic, copies and kept-out users, in three formats."""
    folder = tmp_path_factory.mktemp("sets")
    people: Groups = groups(400)
    sources.write(people.train, folder / "real.parquet")
    sources.write(rows(people.others), folder / "made.csv")
    sources.write(rows(people.train), folder / "copied.parquet")
    (folder / "kept").mkdir()
    sources.write(people.holdout, folder / "kept" / "train.parquet")
    return folder


def test_a_page_and_figures_are_written(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "audit",
        files / "real.parquet",
        files / "made.csv",
        "--holdout",
        files / "kept",
        "--out",
        tmp_path / "out",
    ]
    assert main([*map(str, words), "--max-auc", "0.6", "--max-excess", "0.2"]) == 0
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (values["n_train"], values["n_synthetic"], values["n_holdout"]) == (400, 400, 400)
    assert values["provenance"]["versions"]["unblur"]
    assert {gate["name"]: gate["passed"] for gate in values["gates"]} == dict.fromkeys(GATES, True)
    assert {entry["recommender"] for entry in values["utility"]} == {"popularity", "truncated-svd", "ease"}
    assert "<h2>Findings</h2>" in (tmp_path / "out" / "report.html").read_text()
    assert main([*map(str, words), "--overwrite", "--no-utility", "--max-excess", "0.2"]) == 0
    assert not json.loads((tmp_path / "out" / "report.json").read_text())["utility"]
    assert "<h2>Utility</h2>" not in (tmp_path / "out" / "report.html").read_text()
    assert main([*map(str, words), "--overwrite", "--max-excess", "0.2", "--min-utility", "1"]) in (0, 1)
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "min_utility" in {gate["name"] for gate in values["gates"]}
    assert "No leak of membership" in " ".join(capsys.readouterr().out.split())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out"]


def test_copies_fail_with_exit_code_1(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["audit", files / "real.parquet", files / "copied.parquet", "--holdout", files / "kept"]
    assert main([*map(str, words), "--out", str(tmp_path / "out")]) == 1
    assert "FAILED" in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").is_file()
    assert main([*map(str, words), "--out", str(tmp_path / "out")]) == 2
    assert main([*map(str, words), "--out", str(tmp_path / "out"), "--overwrite"]) == 1


def test_without_a_holdout_only_what_can_be_measured_is_gated(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(files / "real.parquet"), str(files / "made.csv")]) == 0
    assert "max_auc" not in capsys.readouterr().out
    assert main(["audit", str(files / "real.parquet"), str(files / "made.csv"), "--max-auc", "0.55"]) == 1
    assert main(["audit", str(files / "real.parquet"), str(files / "copied.parquet")]) == 1


def test_bad_input_is_one_line(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, synthetic = str(files / "real.parquet"), str(files / "made.csv")
    named = tmp_path / "named.csv"
    named.write_text("user,item\n" + "".join(f"u{at},film {at}\n" for at in np.arange(30)))
    (tmp_path / "empty").mkdir()
    for words, message in (
        ([real, synthetic, "--holdout", real], "user labels are in train"),
        ([real, str(named)], "must have the same type in all sets"),
        ([real, str(tmp_path / "nothing.csv")], "must be there to be read"),
        ([str(tmp_path / "empty"), synthetic], "must have a train file"),
        ([real, synthetic, "--max-auc", "2"], "max_auc"),
    ):
        assert main(["audit", *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error


def test_items_that_no_real_user_has_fail_the_audit(files: Path, tmp_path: Path) -> None:
    synthetic = Interactions.read(files / "made.csv")
    frame = synthetic.to_frame().select("user", "item")
    frame = frame.with_columns(item=frame["item"].replace(0, 12345))
    frame.write_parquet(tmp_path / "made.parquet")
    words = ["audit", files / "real.parquet", tmp_path / "made.parquet", "--out", tmp_path / "out"]
    assert main([*map(str, words)]) == 1
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [check["name"] for check in values["validity"] if not check["passed"]] == ["items exist"]
    assert any("interactions with items that no real user has" in note for note in values["notes"])
