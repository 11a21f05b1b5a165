"""Kinds that another distribution adds fit, save, load, tune and compare like ours."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import unblur
from unblur.cli.main import main
from unblur.data.files import write
from unblur.data.interactions import Interactions
from unblur.errors import CapabilityError, SpecError
from unblur.registry import RECOMMENDERS, SYNTHESIZERS, recommender_spec, synthesizer_spec
from unblur.synthesis.synthesizer import load_synthesizer

TOY = Path(__file__).parent / "toy"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the toy distribution on the path, as an installer does."""
    shutil.copytree(TOY, tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    for known in (RECOMMENDERS, SYNTHESIZERS):
        known.refresh()
    yield
    monkeypatch.undo()
    for name in ("toy_model", "toy_synthesizer"):
        sys.modules.pop(name, None)
    for known in (RECOMMENDERS, SYNTHESIZERS):
        known.refresh()


def test_the_file_of_a_model_is_short() -> None:
    assert len((TOY / "toy_model.py").read_text(encoding="utf-8").splitlines()) <= 40


def test_a_model_is_fitted_saved_and_loaded(log: Interactions, tmp_path: Path) -> None:
    model = recommender_spec("together")(power=0.5).fit(log)
    model.save(tmp_path / "model")
    loaded = unblur.load(tmp_path / "model")
    assert np.array_equal(loaded.score(log), model.score(log))
    assert loaded.spec == model.spec


def test_a_synthesizer_is_fitted_saved_and_loaded(log: Interactions, tmp_path: Path) -> None:
    synthesizer = synthesizer_spec("one-item")().fit(log)
    synthesizer.save(tmp_path / "synthesizer")
    loaded = load_synthesizer(tmp_path / "synthesizer")
    first, second = synthesizer.sample(100, rng=3), loaded.sample(100, rng=3)
    assert first.fingerprint() == second.fingerprint()
    assert (first.user_degrees == 1).all()


def test_a_recipe_and_a_comparison_name_it(log: Interactions, tmp_path: Path) -> None:
    data, out = tmp_path / "log.parquet", tmp_path / "comparison"
    write(log, data)
    recipe = tmp_path / "toy.toml"
    recipe.write_text('[model]\nkind = "together"\n[split]\nkind = "random"\n', encoding="utf-8")
    words = [str(recipe), "--data", str(data)]
    assert main(["tune", *words, "--trials", "3", "--out", str(tmp_path / "tuned")]) == 0
    report = json.loads((tmp_path / "tuned" / "report.json").read_text(encoding="utf-8"))
    assert report["provenance"]["spec"]["kind"] == "together"
    assert main(["compare", "together", "ease", "--data", str(data), "--trials", "2", "--out", str(out)]) == 0
    models = json.loads((out / "report.json").read_text(encoding="utf-8"))["models"]
    assert {entry["chosen"]["kind"] for entry in models} == {"together", "ease"}


def test_a_kind_that_cannot_be_imported_is_a_missing_capability() -> None:
    with pytest.raises(CapabilityError, match=r"toy_that_is_not_there:Broken.*Repair that distribution"):
        recommender_spec("broken")


def test_a_misspelt_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="Did you mean 'together'"):
        recommender_spec("togethr")
