"""Recipes of trained models: the validation file, parts in time order, every shipped recipe on generated data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unblur import experiment
from unblur.data.interactions import Interactions
from unblur.data.splits import Files, LeaveLast, together
from unblur.errors import DataError, RecipeError
from unblur.experiment.ranking import prepare
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.parts import Protocol
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.running import measure
from unblur.models.diffusion.diffrec import DiffRec
from unblur.models.popularity import Popularity

FAMILIES = ("diffrec", "l-diffrec", "t-diffrec", "lt-diffrec")
RECIPES = [
    name
    for name in shipped()
    if name.partition("/")[0] in FAMILIES and isinstance(load_recipe(name).task.split, Files)
]
TINY: Mapping[str, Any] = {
    "model.epochs": 2,
    "model.batch_size": 64,
    "model.denoiser.dims": [12, 8],
    "model.schedule.steps": 3,
    "model.stopping.every": 1,
    "protocol.cutoffs": [5],
    "model.stopping.metric": "recall@5",
    "protocol.resamples": 0,
}


def tiny(name: str) -> Recipe:
    """The shipped recipe with a network that trains in a moment."""
    known = load_recipe(name)
    changes = {"model.autoencoder.encoder_dims": [8]} if known.model.kind == "l-diffrec" else {}
    return known.changed({**TINY, **changes})


def parts_in_time(timed: bool = True) -> dict[str, Interactions]:
    """Each user's items in time order: the first for train, the next for test, the last for valid, as in the
    authors' files."""
    random = np.random.default_rng(5)
    has_item = random.random((60, 30)) < 0.5
    users, items = np.nonzero(has_item)
    log = Interactions.from_pairs(users, items, timestamps=random.permutation(len(users)))
    late = LeaveLast(n=3).apply(log)
    middle = LeaveLast(n=2).apply(late.train)
    parts = {"train": middle.train, "test": middle.held_out, "valid": late.held_out}
    if timed:
        return parts
    return {name: Interactions(part.matrix, part.users, part.items) for name, part in parts.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("parts")
    for name, part in parts_in_time().items():
        part.to_frame().drop("weight").write_parquet(place / f"{name}.parquet")
    return place


def test_recipes_of_all_data_sets_are_shipped() -> None:
    sets = {
        "diffrec": {"ml-1m", "ml-1m-noisy", "yelp", "yelp-noisy", "amazon-book", "amazon-book-noisy"},
        "l-diffrec": {"ml-1m", "ml-1m-noisy", "yelp", "amazon-book"},
        "t-diffrec": {"ml-1m", "yelp", "amazon-book"},
        "lt-diffrec": {"ml-1m", "yelp", "amazon-book"},
    }
    assert {f"{family}/{data}" for family, names in sets.items() for data in names} <= set(RECIPES)
    for name in RECIPES:
        recipe = load_recipe(name)
        assert (recipe.model.time_weights is not None) == name.startswith(("t-", "lt-"))
        assert recipe.protocol.averaging == "all-users"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs_on_data_of_its_parts(name: str, folder: Path) -> None:
    report = experiment.run(tiny(name), data=folder)
    assert report["recall@5"].n_users == 60
    assert 0 < report["recall@5"].value < 1
    notes = " ".join(report.notes)
    assert ("the validation part decided when training stopped" in notes) == (report.protocol == "paper")


def test_the_paper_s_protocol_stops_by_the_validation_part_and_leaves_it_out_of_lists(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_parts: list[Interactions | None] = []
    fit = DiffRec.learn

    def recording(
        self: DiffRec, train: Interactions, *, validation: Interactions | None = None, **kwargs: Any
    ) -> Any:
        given_parts.append(validation)
        assert train.n_interactions == parts["train"].n_interactions
        return fit(self, train, validation=validation, **kwargs)

    monkeypatch.setattr(DiffRec, "learn", recording)
    parts = parts_in_time()
    ready = prepare(tiny("diffrec/ml-1m"), data=folder)
    outcome = measure(ready, seeds=2)
    assert [part is ready.split.validation for part in given_parts] == [True, True]
    assert given_parts[0] is not None
    assert given_parts[0].n_interactions == parts["valid"].n_interactions
    assert ready.split.histories is ready.split.train
    for evaluation in outcome.evaluations:
        positions = evaluation.ranking.positions
        rows = np.repeat(np.arange(len(positions)), positions.shape[1])
        for part in (ready.split.train, given_parts[0]):
            assert not part.contains(rows, positions.ravel()).any()


def test_a_model_that_does_not_stop_by_a_metric_is_not_given_validation(folder: Path) -> None:
    for change in ({"model.kind": "popularity"}, {"model.stopping": "off"}):
        outcome = measure(prepare(tiny("diffrec/ml-1m").changed(change), data=folder))
        assert not any("decided when training stopped" in note for note in outcome.report.notes)


def test_the_strict_protocol_puts_the_parts_in_the_order_of_time(folder: Path) -> None:
    parts = parts_in_time()
    ready = prepare(tiny("diffrec/ml-1m").changed({"protocol.kind": "strict"}), data=folder)
    split = ready.split
    assert split.held_out.fingerprint() == parts["valid"].onto(users=split.train.users).fingerprint()
    assert split.train.n_interactions == parts["train"].n_interactions + parts["test"].n_interactions
    assert split.train is split.histories
    assert split.validation is None
    assert split.train.timestamps is not None
    assert split.held_out.timestamps is not None
    for user in range(split.train.n_users):
        known, late = (part.take_users([user]).timestamps for part in (split.train, split.held_out))
        assert known is not None
        assert late is not None
        assert known.max() < late.min()
    assert "train and test are learned from, valid is held out, which is later for 100%" in split.notes[0]
    stopping = ready.recipe.model.stopping
    assert stopping.hold_out == "last"
    share = parts["test"].n_interactions / split.train.n_interactions
    assert stopping.fraction == pytest.approx(share, abs=1e-3)
    report = measure(replace(ready, recipe=ready.recipe.changed({"search.trials": 1}))).report
    assert report.protocol == "strict"
    assert any(
        "the hyper-parameters are the recipe's, since search.trials is 1" in note for note in report.notes
    )
    assert not any("decided when training stopped" in note for note in report.notes)


def test_parts_in_time_order_stay_so() -> None:
    parts = parts_in_time()
    renamed = {"train": parts["train"], "valid": parts["test"], "test": parts["valid"]}
    one = Files(validation="valid").in_order(renamed)
    other = Files(validation="valid").in_order(parts)
    assert one.train.fingerprint() == other.train.fingerprint()
    assert one.held_out.fingerprint() == other.held_out.fingerprint()
    assert "train and valid are learned from, test is held out" in one.notes[0]


def test_order_needs_times_and_a_validation_part() -> None:
    with pytest.raises(RecipeError, match="all parts need timestamps; some have none"):
        Files(validation="valid").in_order(parts_in_time(timed=False))
    with pytest.raises(RecipeError, match="none is named"):
        Files().in_order(parts_in_time())
    with pytest.raises(RecipeError, match="Did you mean 'valid'"):
        Files(validation="vaild").apply(parts_in_time(), 0)
    with pytest.raises(RecipeError, match="needs a validation part"):
        Files(histories="train-and-validation").apply(parts_in_time(), 0)


def test_histories_may_hold_validation() -> None:
    parts = parts_in_time()
    split = Files(validation="valid", histories="train-and-validation").apply(parts, 0)
    assert split.train.n_interactions == parts["train"].n_interactions
    assert split.histories.fingerprint() == together(split.train, parts["valid"]).fingerprint()
    assert split.histories.timestamps is not None
    assert split.excluded == "history"
    protocol = Protocol(cutoffs=(5,), resamples=0)
    ranking = protocol.rank(Popularity().fit(split.train), split, exclude=split.excluded)
    rows = np.repeat(np.arange(60), 5)
    assert not split.histories.contains(rows, ranking.positions.ravel()).any()


def test_parts_may_not_overlap_nor_have_strangers() -> None:
    parts = parts_in_time()
    with pytest.raises(DataError, match="Train and validation interactions must not overlap"):
        Files(validation="valid").apply({**parts, "valid": parts["train"]})
    with pytest.raises(DataError, match="Validation and held-out interactions must not overlap"):
        Files(validation="valid").apply({**parts, "valid": parts["test"]})
    stranger = Interactions.from_pairs([99], [3])
    with pytest.raises(DataError, match="Some users of the part 'valid' must be in train"):
        Files(validation="valid").apply({**parts, "valid": stranger})


def test_a_missing_validation_part_is_noted(folder: Path, tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.parquet").write_bytes((folder / f"{name}.parquet").read_bytes())
    ready = prepare(tiny("diffrec/ml-1m"), data=tmp_path)
    assert ready.split.validation is None
    assert any("there is no part 'valid'" in note for note in ready.notes)
    one_file = prepare(tiny("diffrec/ml-1m"), data=folder / "train.parquet")
    assert one_file.split.validation is None


def test_a_saved_model_is_measured_without_the_validation_items(folder: Path, tmp_path: Path) -> None:
    recipe = tiny("diffrec/ml-1m")
    experiment.fit(recipe, folder, out=tmp_path / "model")
    report = experiment.evaluate_saved(tmp_path / "model", recipe, folder)
    ready = prepare(recipe, data=folder)
    import unblur

    ranking = recipe.protocol.rank(unblur.load(tmp_path / "model"), ready.split, exclude=ready.split.excluded)
    measured = recipe.protocol.measure(ranking, ready.split)
    assert report["recall@5"].value == pytest.approx(measured["recall@5"].value, abs=1e-12)
