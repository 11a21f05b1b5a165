"""Files of an earlier version are read with the same bits, resumed, or refused by name; they are never ignored.

Tensors have the same bytes anywhere. Scores and samples are compared with a tolerance, since another processor may add in
another order; `tests.guards.paired` compares their bits between two versions on one machine.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import unblur
from tests.guards.driver import Inputs, Package, digest, write_recipe
from tests.guards.keep import (
    BEFORE,
    CHECKPOINTS,
    MARK,
    MODELS,
    SEARCH,
    STUDY,
    SYNTHESIZERS,
    compare_words,
    sample_of,
    scores_of,
    study_words,
)
from tests.guards.settings import UTILITY
from unblur.cli.main import main
from unblur.errors import ArtifactError
from unblur.progress import ProgressEvent

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PACKAGE = Package(Path(unblur.__file__).resolve().parent.parent)
DIGESTS: Mapping[str, str] = json.loads((BEFORE / "digests.json").read_text(encoding="utf-8"))
pytestmark = pytest.mark.filterwarnings("ignore::unblur.errors.OutdatedWarning")
ALIKE = 0.95
"""The share of a sample's cells that must be equal: a score at the threshold may fall on the other side on another machine."""


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs(PACKAGE)


@pytest.fixture(scope="module")
def arrays() -> Iterator[Mapping[str, Any]]:
    with np.load(BEFORE / "scores.npz", allow_pickle=False) as stored:
        yield dict(stored)


def slug(name: str) -> str:
    return name.replace(" ", "-")


def assert_close(values: Any, expected: Any, tolerance: float) -> None:
    np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def assert_alike(values: Any, expected: Any) -> None:
    assert values.shape == expected.shape
    assert np.mean(values == expected) >= ALIKE


# ------------------------------------------------------------------------------------ saved models


def test_one_of_each_kind_is_kept() -> None:
    assert set(PACKAGE.kinds("RECOMMENDERS", "recommenders")) <= {kind for kind, _ in MODELS.values()}
    assert set(PACKAGE.kinds("SYNTHESIZERS", "synthesizers")) <= {kind for kind, _ in SYNTHESIZERS.values()}


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_loads_with_the_same_bits(name: str, inputs: Inputs, arrays: Mapping[str, Any]) -> None:
    model = unblur.load(BEFORE / "models" / slug(name))
    assert digest(PACKAGE.tensors(model)) == DIGESTS[f"models/{name}"]
    assert_close(scores_of(model, inputs), arrays[f"models/{name}"], 1e-2 if "tolerance" in name else 1e-5)
    assert model.spec.kind == MODELS[name][0]


@pytest.mark.parametrize("name", SYNTHESIZERS)
def test_a_saved_synthesizer_loads_with_the_same_bits(name: str, arrays: Mapping[str, Any]) -> None:
    fitted = PACKAGE("load_synthesizer")(BEFORE / "synthesizers" / slug(name))
    assert digest(PACKAGE.tensors(fitted)) == DIGESTS[f"synthesizers/{name}"]
    assert_alike(sample_of(fitted), arrays[f"synthesizers/{name}"])


# ------------------------------------------------------------------------------- folders and results


@pytest.mark.parametrize("name", ["ease-paper", "diffrec-paper", "utility", "study", "search"])
def test_the_folder_of_a_run_loads(name: str, inputs: Inputs) -> None:
    folder = BEFORE / "runs" / name
    stored = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    report = PACKAGE("Report", near="report").from_dict(stored)
    values = {
        entry["name"]: (entry["value"], entry["low"], entry["high"]) for entry in stored["measurements"]
    }
    assert {entry.name: (entry.value, entry.low, entry.high) for entry in report.measurements} == values
    recipe = PACKAGE("load_recipe")(folder / "recipe.toml")
    assert recipe.name in (stored["recipe"], f"{stored['recipe']}-tuned")
    if name == "utility":
        assert PACKAGE("load_synthesizer")(folder / "synthesizer").sample(3, rng=1).n_users == 3
    else:
        ranking = unblur.load(folder / "model").recommend(inputs.newcomers, k=5, unknown_items="ignore")
        assert (ranking.positions >= 0).all()


COMPARISONS = sorted(
    set((REPOSITORY / "docs" / "results").glob("*.json"))
    - {REPOSITORY / "docs" / "results" / "benchmarks.json"}
)


@pytest.mark.parametrize("file", COMPARISONS, ids=lambda file: file.stem)
def test_shipped_results_load(file: Path) -> None:
    stored = json.loads(file.read_text(encoding="utf-8"))
    comparison = PACKAGE("Comparison", near="summary").from_dict(stored)
    by_seed = {entry["name"]: entry["by_seed"] for entry in stored["models"]}
    assert {
        result.name: {name: list(each) for name, each in result.by_seed.items()}
        for result in comparison.results
    } == by_seed
    assert by_seed


# ------------------------------------------------------------------------------------------- resuming

LEFT = {"sdrm": 3}
"""Remaining epochs, if there is more than one: the diffusion begins after the autoencoder."""


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_resumed_or_refused(
    name: str, inputs: Inputs, arrays: Mapping[str, Any], tmp_path: Path
) -> None:
    kind, values = CHECKPOINTS[name]
    folder = shutil.copytree(BEFORE / "checkpoints" / name, tmp_path / name)
    spec = (PACKAGE.synthesizer_spec if kind == "sdrm" else PACKAGE.model_spec)(kind, values)
    events: list[ProgressEvent] = []
    try:
        fitted = spec.fit(inputs.log, rng=1, checkpoints=folder, progress=events.append)
    except ArtifactError as problem:
        assert str(folder) in str(problem)  # noqa: PT017 - either way is right
        return
    assert sum(event.kind == "epoch" for event in events) == LEFT.get(name, 1)
    if kind == "sdrm":
        assert_alike(sample_of(fitted), arrays[f"checkpoints/{name}"])
    else:
        assert_close(scores_of(fitted, inputs), arrays[f"checkpoints/{name}"], 1e-3)


@pytest.fixture
def places(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data and recipes that the earlier version had."""
    monkeypatch.setenv("COLUMNS", "1000")
    inputs.write_parts(tmp_path / "parts")
    inputs.write_rated(tmp_path / "rated")
    for name, recipe in {"study": STUDY, "search": SEARCH, "utility": UTILITY}.items():
        write_recipe(tmp_path / f"{name}.toml", recipe)
    return tmp_path


def refused(words: list[Any], place: Path | str, capsys: pytest.CaptureFixture[str]) -> bool:
    """Return whether the command refuses to resume; its error must name the folder."""
    capsys.readouterr()
    if main([str(word) for word in words]) == 0:
        return False
    problem = capsys.readouterr().err.replace("\n", "")
    assert str(place) in problem
    return True


def test_measured_arms_are_reused_or_refused(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(BEFORE / "checkpoints" / "utility", places / "kept")
    words = [
        "run",
        places / "utility.toml",
        "--data",
        places / "rated",
        "--out",
        places / "out",
        "--checkpoints",
        copy,
    ]
    if not refused(words, copy, capsys):
        report = json.loads((places / "out" / "report.json").read_text(encoding="utf-8"))
        values = {entry["name"]: entry["value"] for entry in report["measurements"]}
        assert values["full capped_recall@5"] == MARK


def test_a_study_in_a_folder_is_resumed_or_refused(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(BEFORE / "studies" / "folder-trials", places / "out-trials")
    words = study_words(places / "study.toml", places / "parts", places / "out")
    if not refused(words, copy, capsys):
        assert MARK in pl.read_parquet(places / "out" / "trials.parquet")["recall@10"].to_list()


def test_a_study_in_a_database_is_resumed_or_refused(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(places / "trials.db") as database:
        database.executescript((BEFORE / "studies" / "shared.sql").read_text(encoding="utf-8"))
    storage = f"sqlite:///{places / 'trials.db'}"
    words = study_words(places / "study.toml", places / "parts", places / "out", "--storage", storage)
    if not refused(words, storage, capsys):
        assert MARK in pl.read_parquet(places / "out" / "trials.parquet")["recall@10"].to_list()


def test_a_comparison_is_resumed_or_refused(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(BEFORE / "comparison", places / "compared")
    before = {file.relative_to(copy): file.read_bytes() for file in copy.glob("models/*.json")}
    trials = {file.relative_to(copy): file.read_bytes() for file in copy.glob("trials/*/*")}
    if not refused(compare_words(places / "study.toml", places / "parts", copy), copy, capsys):
        assert {file.relative_to(copy): file.read_bytes() for file in copy.glob("models/*.json")} == before
        assert {file.relative_to(copy): file.read_bytes() for file in copy.glob("trials/*/*")} == trials
