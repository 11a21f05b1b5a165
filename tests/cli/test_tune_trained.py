"""`unblur tune` for models that are trained by epochs."""

import json
from pathlib import Path

import polars as pl
import pytest

import unblur as package
from tests.cli.conftest import Unblur
from unblur import experiment
from unblur.data.catalogue.generation import demo_interactions
from unblur.data.interactions import Interactions
from unblur.data.splits import LeaveLast
from unblur.experiment.recipe.library import load_recipe

SMALL = (
    *("--set", "model.epochs=2", "--set", "model.denoiser.dims=[8]"),
    *("--set", "protocol.resamples=0", "--set", "split.part=all"),
)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    path = tmp_path / "films.csv"
    demo_interactions(n_users=60, n_items=60, rng=4).to_frame().select("user", "item").write_csv(path)
    return path


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "hyper.test"
    path.write_text("learning_rate choice [1e-2,1e-3]\nnoice_scale choice [0.1]\nsteps choice [1,2]\n")
    return path


def test_a_tuning_file_from_trials_to_a_recipe_that_can_be_repeated(
    unblur: Unblur, films: Path, params: Path, tmp_path: Path
) -> None:
    out, words = tmp_path / "out", ("tune", "diffrec/ml-100k", "--data", films, *SMALL, "--trials", "3")
    result = unblur(*words, "--params-file", params, "--out", out)
    assert result.code == 2
    assert "Did you mean 'noise_scale'?" in result.err
    assert not out.exists()
    result = unblur(*words, "--params-file", params, "--ignore-unknown", "--out", out)
    assert result.code == 0, result.err
    trials = pl.read_parquet(out / "trials.parquet")
    assert trials.height == 3
    assert {"learning_rate", "steps", "mrr@10", "chosen"} <= set(trials.columns)
    assert [path.name for path in (tmp_path / "out-trials").iterdir()] == ["trials.log"]
    notes = " ".join(json.loads((out / "report.json").read_text())["notes"])
    assert "noice_scale" in notes
    assert "judged by mrr@10 on the validation part of the split" in notes
    tuned = load_recipe(out / "recipe.toml")
    assert tuned.name == "diffrec/ml-100k-tuned"
    assert package.load(out / "model").spec == tuned.model
    repeated = unblur("run", out / "recipe.toml", "--data", films, "--out", tmp_path / "again")
    assert repeated.code == 0, repeated.err
    reports = [json.loads((place / "report.json").read_text()) for place in (out, tmp_path / "again")]
    values = [{entry["name"]: entry["value"] for entry in report["measurements"]} for report in reports]
    assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_parts_are_put_in_time_order_except_under_the_paper_protocol(
    unblur: Unblur, log: Interactions, tmp_path: Path
) -> None:
    late = LeaveLast(n=3).apply(log)
    middle = LeaveLast(n=2).apply(late.train)
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, part in {"train": middle.train, "test": middle.held_out, "valid": late.held_out}.items():
        part.to_frame().drop("weight").write_parquet(folder / f"{name}.parquet")
    small = (*SMALL[:4], "--set", "protocol.resamples=0", "--set", "model.stopping.every=1")
    words = ("tune", "diffrec/ml-1m", "--data", folder, *small, "--trials", "1")
    seen_metrics = []
    for name, options in (("ordered", ()), ("named", ("--set", "protocol.kind=paper"))):
        result = unblur(*words, *options, "--out", tmp_path / name)
        assert result.code == 0, result.err
        report = json.loads((tmp_path / name / "report.json").read_text())
        seen_metrics.append((report["protocol"], " ".join(report["notes"])))
    assert [protocol for protocol, _ in seen_metrics] == ["strict", "paper"]
    assert "the validation part of the split" in seen_metrics[1][1]
    assert "in the order of time" in seen_metrics[0][1]
    assert "in the order of time" not in seen_metrics[1][1]
    named = experiment.prepare(load_recipe("diffrec/ml-1m"), data=folder).split.validation
    assert named is not None
    assert named.n_interactions == late.held_out.n_interactions


def test_an_interrupted_search_is_resumed_by_the_same_command(
    unblur: Unblur, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("tune", "diffrec/ml-100k", "--data", films, *SMALL, "--trials", "2", "--out", tmp_path / "out")

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "measure", interrupted)
        assert unblur(*words).code == 130
    before = (tmp_path / "out-trials" / "trials.log").read_bytes()
    assert before.count(b"values") >= 2
    assert not (tmp_path / "out").exists()
    assert unblur(*words).code == 0
    resumed = (tmp_path / "out-trials" / "trials.log").read_bytes()
    assert resumed.startswith(before)
    assert resumed.count(b"values") == before.count(b"values")
    result = unblur(*words[:-2], "--seed", "9", "--out", tmp_path / "out", "--overwrite")
    assert result.code == 2
    assert "these differ: 'seed'" in result.err


def test_without_out_trials_are_kept_in_the_working_folder(
    unblur: Unblur, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    result = unblur(
        "tune", "l-diffrec/ml-1m", "--data", films, *SMALL[:4], "--trials", "1", "--sampler", "bayes"
    )
    assert result.code == 0, result.err
    assert [path.name for path in empty.iterdir()] == ["tune-l-diffrec-ml-1m-trials"]
    assert "trials are kept in tune-l-diffrec-ml-1m-trials" in result.err + result.out


def test_trials_in_a_storage_with_a_pruner(unblur: Unblur, films: Path, tmp_path: Path) -> None:
    """Without --out only the database is written; the same command resumes the search, and the report names ended trials."""
    storage = f"sqlite:///{tmp_path / 'trials.db'}"
    words = (
        "tune",
        "l-diffrec/ml-1m",
        "--data",
        films,
        *SMALL[:4],
        "--storage",
        storage,
        "--pruner",
        "median",
    )
    assert unblur(*words, "--trials", "1").code == 0
    out = tmp_path / "out"
    result = unblur(*words, "--trials", "6", "--out", out)
    assert result.code == 0, result.err
    assert f"trials are kept in {storage}" in (result.err + result.out).replace("\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films.csv", "out", "trials.db"]
    table = pl.read_parquet(out / "trials.parquet")
    assert table["trial"].sort().to_list() == list(range(6))
    assert table["pruned"].dtype == pl.Boolean
    other = unblur(*words, "--trials", "6", "--seed", "9")
    assert other.code == 2
    assert "these differ: 'seed'" in other.err
