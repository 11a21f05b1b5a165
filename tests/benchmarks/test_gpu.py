"""The script for a GPU, tried on a CPU with small models, and the evidence that it leaves."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, gpu_parts
from unblur.errors import ArtifactError

WITHOUT = ("typer", "rich", "yaml", "optuna")
"""Dependencies of the base install that a machine with a GPU need not have."""
TRIAL = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {WITHOUT}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from benchmarks import gpu
sys.exit(gpu.main(sys.argv[1:]))
"""


def trial(*words: str) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, on a machine without what it does not need."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(gpu.HERE), str(gpu.HERE / "src")))}
    command = [sys.executable, "-c", TRIAL, "--device", "cpu", "--small", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def evidence(folder: Path, part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{part}.json").read_text())
    return found


def test_all_parts_run_on_a_cpu_and_leave_one_flat_file_each(tmp_path: Path) -> None:
    done = trial("--out", str(tmp_path / "out"), "--checkpoints", str(tmp_path / "kept"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {f"{part}.json" for part in gpu.DATA}
    for part in gpu.DATA:
        found = evidence(tmp_path / "out", part)
        assert found["complete"]
        assert found["small"]
        assert all(rate > 0 for rate in found["roof"].values())
        assert found["rows"]
    # Without a GPU each test is skipped, and counted as such.
    ((_, _, counts),) = evidence(tmp_path / "out", "tests")["rows"]
    passed, failed, skipped = map(int, counts.split(", "))
    assert (passed, failed) == (0, 0)
    assert skipped > 0
    shares = [row for row in evidence(tmp_path / "out", "bspm")["rows"] if "roof" in row[0]]
    assert len(shares) == 4


def run(*words: str) -> int:
    return gpu.main(["--device", "cpu", "--small", *words])


def test_a_part_that_is_out_of_time_is_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--part", "multvae-yelp", "--out", str(tmp_path))
    # A checkpoint is written as soon as there may be no time for a further epoch: after the first.
    assert run(*words, "--seconds", "15") == 1
    assert "resumable" in capsys.readouterr().out
    assert not evidence(tmp_path, "multvae-yelp")["complete"]
    assert "| multvae-yelp | the rest | | not run |" in gpu.evidence_lines(tmp_path)
    assert [entry.name for entry in tmp_path.rglob("epoch-*")] == ["epoch-00001"]
    assert run(*words) == 0
    resumed = evidence(tmp_path, "multvae-yelp")
    assert resumed["complete"]
    # What is complete is kept, and is neither trained nor measured again.
    assert run(*words, "--seconds", "0") == 0
    assert evidence(tmp_path, "multvae-yelp") == resumed
    whole = tmp_path / "whole"
    assert run("--part", "multvae-yelp", "--out", str(whole)) == 0
    assert resumed["rows"][:2] == evidence(whole, "multvae-yelp")["rows"][:2]


def test_pieces_that_are_measured_outlive_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    roof = gpu_parts.Roof({"float32": 1.0, "bfloat16": 1.0}, 1.0)
    setting = gpu_parts.Setting("cpu", True, tmp_path, time.perf_counter() + 60, roof, finish=True)
    row = ("piece", "", "1", "")
    monkeypatch.setitem(gpu_parts.PIECES, "two", {"first": lambda _: [row]})
    gpu_parts.run_part("two", setting)
    monkeypatch.setitem(gpu_parts.PIECES, "two", {"first": None, "second": lambda _: [row]})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="No space left"):
        gpu_parts.run_part("two", setting)
    assert json.loads((tmp_path / "pieces.json").read_text()) == {"first": [list(row)]}


def test_a_training_that_is_out_of_time_is_measured_where_no_call_follows(tmp_path: Path) -> None:
    roof = gpu_parts.Roof({"float32": 1.0, "bfloat16": 1.0}, 1.0)
    setting = gpu_parts.Setting("cpu", True, tmp_path, time.perf_counter(), roof, finish=True)
    rows = gpu_parts.mult_vae("mult-vae/gowalla", ".1873/.1539", setting)
    assert [row[2][:4] for row in rows if "epochs to the end of its time" in row[0]] == ["1, 1"]
    assert not list(tmp_path.rglob("epoch-*"))


def test_what_is_missing_is_said_before_anything_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = gpu.find_spec
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name in ("polars", "pytest") else known(name))
    monkeypatch.setattr(gpu, "version", lambda name: "2.5.1+cu124")
    (tmp_path / "gowalla").mkdir()
    (tmp_path / "gowalla" / "train.parquet").touch()
    assert gpu.main(["--part", "tests", "bspm", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    for part in (
        "module polars is missing",
        "module pytest is missing",
        "torch must be 2.6 or newer; this is 2.5.1",
    ):
        assert part in said
    assert f"yelp2018 is missing: {tmp_path} must hold yelp2018/train.parquet" in said
    assert "gowalla is missing" not in said
    # Only the part `tests` needs pytest.
    assert not any("pytest" in line for line in gpu.missing(["bspm"], tmp_path, small=True))


def test_data_are_collected_into_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("gowalla", "ml-1m_clean", "something else"):
        (tmp_path / "from" / name).mkdir(parents=True)
        for file in ("train.parquet", "test.parquet", "item_emb.parquet"):
            (tmp_path / "from" / name / file).write_bytes(b"12345")
    assert gpu.main(["--data", str(tmp_path / "to"), "--collect", str(tmp_path / "from")]) == 0
    collected = sorted(
        str(file.relative_to(tmp_path / "to")) for file in (tmp_path / "to").rglob("*.parquet")
    )
    assert collected == [
        *("gowalla/test.parquet", "gowalla/train.parquet"),
        *("ml-1m_clean/test.parquet", "ml-1m_clean/train.parquet"),
    ]
    assert f"20 bytes in {tmp_path / 'to'}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="must hold folders such as gowalla"):
        gpu.main(["--data", str(tmp_path / "to"), "--collect", str(tmp_path / "nowhere")])


@pytest.mark.parametrize("there", [(), ("bspm", "sdrm")])
def test_the_page_says_what_was_not_run(there: Sequence[str], tmp_path: Path) -> None:
    for part in there:
        rows = [["what", "target", f"figure of {part}"]]
        values = {"card": "a card", "torch": "2.6", "complete": True, "rows": rows}
        (tmp_path / f"{part}.json").write_text(json.dumps(values))
    lines = gpu.evidence_lines(tmp_path)
    for part in gpu.DATA:
        assert (f"| {part} | | | not run |" in lines) == (part not in there)
        assert (f"| {part} | what | target | figure of {part} |" in lines) == (part in there)
    assert any("a card (torch 2.6)" in line if there else "was not run" in line for line in lines)
