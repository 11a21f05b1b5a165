"""Saved models: the same after loading, self-describing, and refused if this version cannot read them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import unblur
from unblur.data.interactions import Interactions
from unblur.data.output import sealed
from unblur.data.vocabulary import Vocabulary
from unblur.errors import ArtifactError
from unblur.models.linear.ease import EASE
from unblur.models.popularity import Popularity
from unblur.recommender import Recommender, load
from unblur.saving import container, models as artifact
from unblur.saving.models import read_manifest, save


@pytest.fixture
def model(log: Interactions) -> Recommender:
    return EASE(ridge=12.5).fit(log)


@pytest.fixture
def saved(model: Recommender, tmp_path: Path) -> Path:
    save(model, tmp_path / "model", provenance={"train": "sha256:0", "seed": 7, "recipe": {"name": "mine"}})
    return tmp_path / "model"


def reseal(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest and seal it again, as if it had been written that way."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["sha256"]
    change(manifest)
    (folder / "manifest.json").write_bytes(sealed(manifest))


def test_a_loaded_model_is_the_model(model: Recommender, saved: Path, log: Interactions) -> None:
    loaded = load(saved)
    assert type(loaded) is type(model)
    assert loaded.spec == EASE(ridge=12.5)
    assert loaded.items == model.items
    assert loaded.items.to_list() == log.items.to_list()
    assert np.array_equal(loaded.item_counts, log.item_degrees)
    assert loaded.score(log).tobytes() == model.score(log).tobytes()
    assert unblur.load is load


def test_a_loaded_model_can_be_saved_again(saved: Path) -> None:
    load(saved).save(saved.parent / "again")
    for name in ("tensors.safetensors", "items.parquet"):
        assert (saved.parent / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_the_manifest_says_what_it_is(saved: Path, log: Interactions) -> None:
    manifest = read_manifest(saved)
    assert manifest["format"] == "unblur-model"
    assert manifest["format_version"] == 1
    assert manifest["kind"] == "ease"
    assert manifest["spec"] == {"ridge": 12.5, "dropout": 0.0, "weights": "binary"}
    assert (manifest["items"]["kind"], manifest["items"]["size"]) == ("str", 31)
    assert manifest["provenance"] == {"train": "sha256:0", "seed": 7, "recipe": {"name": "mine"}}
    assert manifest["versions"]["unblur"] == unblur.__version__
    assert manifest["tensors"]["weights"]["shape"] == [31, 31]
    assert sorted(file.name for file in saved.iterdir()) == sorted([*manifest["files"], "manifest.json"])
    for name, facts in manifest["files"].items():
        assert (saved / name).stat().st_size == facts["bytes"]
    table = pl.read_parquet(saved / "items.parquet")
    assert table["label"].to_list() == log.items.to_list()
    assert table["count"].to_list() == log.item_degrees.tolist()


@pytest.mark.parametrize(
    "items",
    [
        Vocabulary.range(3),
        Vocabulary([7, 2**62, 0]),
        Vocabulary(["", "ä\n東", "x"]),
        Vocabulary(["0", "1", "2"]),
    ],
)
def test_labels_of_every_kind_come_back(tmp_path: Path, items: Vocabulary) -> None:
    data = Interactions.from_matrix(np.tri(3), items=items)
    Popularity().fit(data).save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.items == items
    assert loaded.items.kind == items.kind
    assert (
        loaded.recommend(data, k=2).to_frame().equals(Popularity().fit(data).recommend(data, k=2).to_frame())
    )


def test_the_items_of_two_models_can_be_compared_by_their_manifests(saved: Path, log: Interactions) -> None:
    Popularity().fit(log).save(saved.parent / "other")
    reordered = log.onto(items=log.items.take(np.arange(31)[::-1]))
    Popularity().fit(reordered).save(saved.parent / "turned")
    first, same, other = (
        read_manifest(saved.parent / name)["items"] for name in ("model", "other", "turned")
    )
    assert first == same
    assert first["fingerprint"] != other["fingerprint"]


def test_another_interpreter_loads_it(saved: Path, model: Recommender) -> None:
    code = "import sys, unblur; print(unblur.load(sys.argv[1]).similar_items('item-03', 3).labels())"
    run = subprocess.run([sys.executable, "-c", code, saved], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(model.similar_items("item-03", 3).labels())


def test_saving_leaves_an_existing_folder_alone(model: Recommender, saved: Path, log: Interactions) -> None:
    with pytest.raises(ArtifactError, match=r"must be new or empty; .*model exists .*`overwrite=True`"):
        model.save(saved)
    assert read_manifest(saved)["provenance"]["seed"] == 7
    Popularity().fit(log).save(saved, overwrite=True)
    assert load(saved).spec == Popularity()


def test_provenance_must_be_plain(model: Recommender, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"finite numbers, strings, lists and tables; .*int64.*Convert"):
        save(model, tmp_path / "model", provenance={"seed": np.int64(3)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (
            {"kind": "easy"},
            ["must be known to this version", "'easy'", "Did you mean 'ease'", "saved by unblur"],
        ),
        ({"kind": "os:system"}, ["must be known", "'os:system'", "load it with that version"]),
        ({"kind": ["ease"]}, ["must be known to this version"]),
        ({"spec": {"rigde": 1.0}}, ["rigde is not a hyper-parameter of EASE", "Did you mean 'ridge'"]),
        ({"spec": {"ridge": "much"}}, ["ridge of EASE", "'much'", "load it with that version"]),
        ({"spec": {"ridge": -1}}, ["ridge of EASE", "greater than 0"]),
        ({"spec": 3}, ["must be known to this version"]),
        ({"spec": None}, ["must be known to this version"]),
        (
            {"items": {"kind": "int", "size": 31}},
            ["parts do not fit together", "items.parquet", "31 str labels"],
        ),
        ({"items": {}}, ["parts do not fit together"]),
        (
            {"format_version": 2},
            ["reads model format 1 and older", "format 2", "pip install --upgrade unblur"],
        ),
        (
            {"format": "unblur-synthesizer"},
            ["must be 'unblur-model'", "'unblur-synthesizer'", "Check the path"],
        ),
    ],
)
def test_a_manifest_that_this_version_cannot_read_is_refused(
    saved: Path, change: dict[str, Any], facts: list[str]
) -> None:
    reseal(saved, lambda manifest: manifest.update(change))
    with pytest.raises(ArtifactError) as error:
        load(saved)
    for fact in facts:
        assert error.match(fact)


@pytest.mark.parametrize("key", ["kind", "spec", "items", "versions", "tensors", "files", "format_version"])
def test_a_manifest_without_one_of_its_entries_is_refused(saved: Path, key: str) -> None:
    reseal(saved, lambda manifest: manifest.pop(key))
    if key == "versions":  # nothing depends on them
        load(saved)
        reseal(saved, lambda manifest: manifest.update(kind="easy"))
    with pytest.raises(ArtifactError):
        load(saved)


@pytest.mark.parametrize(
    ("tensors", "tables", "facts"),
    [
        ({}, {}, ["parts do not fit together", "weights"]),
        ({"weights": np.zeros((31, 31))}, {"items": None}, ["parts do not fit together", "items"]),
        (
            {"weights": np.zeros((31, 31))},
            {"items": pl.DataFrame({"label": ["a", "a"], "count": [1, 1]})},
            ["parts do not fit together", "must be distinct"],
        ),
        (
            {"weights": np.zeros((31, 31))},
            {"items": pl.DataFrame({"label": [f"item-{n:02}" for n in range(31)]})},
            ["parts do not fit together", "count"],
        ),
    ],
)
def test_parts_that_are_no_model_are_refused(
    saved: Path, tensors: dict[str, Any], tables: dict[str, Any], facts: list[str]
) -> None:
    manifest = read_manifest(saved)
    contents = {key: manifest[key] for key in ("kind", "spec", "items", "provenance")}
    merged = {"items": pl.read_parquet(saved / "items.parquet"), **tables}
    present_tables = {name: table for name, table in merged.items() if table is not None}
    container.write_container(saved.parent / "made up", artifact.MODEL, contents, tensors, present_tables)
    with pytest.raises(ArtifactError) as error:
        load(saved.parent / "made up")
    for fact in facts:
        assert error.match(fact)


@pytest.mark.parametrize("place", ["manifest.json", "tensors.safetensors", "items.parquet"])
def test_a_damaged_model_is_refused(saved: Path, place: str) -> None:
    content = (saved / place).read_bytes()
    for damaged in (
        content[:-1],
        content + b"\0",
        content[:100] + bytes([content[100] ^ 4]) + content[101:],
        b"",
    ):
        (saved / place).write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"A saved model must be whole and as it was written|format"):
            load(saved)
    (saved / place).unlink()
    with pytest.raises(ArtifactError, match=r"are missing|has no manifest"):
        load(saved)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"A saved model must be a folder .*nowhere does not exist\. Check the path"
    ):
        unblur.load(tmp_path / "nowhere")


def test_a_model_of_one_item_and_of_none(tmp_path: Path) -> None:
    for n in (1, 0):
        data = Interactions.from_matrix(np.ones((2, n)))
        Popularity().fit(data).save(tmp_path / f"model-{n}")
        assert load(tmp_path / f"model-{n}").score(data).shape == (2, n)
