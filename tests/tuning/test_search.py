"""The search: hold-outs, spaces, the choice of the simplest of the best, and that it sees train alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from unblur import experiment
from unblur.cli.main import app
from unblur.data.catalogue.demonstration import demo_interactions
from unblur.data.interactions import Interactions
from unblur.data.splits import Random
from unblur.errors import DataError, SpecError
from unblur.experiment.recipe.library import load_recipe
from unblur.models.linear.ease import EASE
from unblur.models.popularity import Popularity
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.models.spectral.flow import Flow
from unblur.tuning import search
from unblur.tuning.hold_outs import dispersion, hold_outs
from unblur.tuning.trials import departures, settings_of, space_of

SPACE = {"low_pass.rank": (8, 16), "low_pass.weight": (0.1, 0.3), "sharpen.duration": (1.0, 2.0)}


@pytest.fixture(scope="module")
def train() -> Interactions:
    return demo_interactions(n_users=500, n_items=300, rng=1)


def test_hold_outs_do_not_depend_on_which_others_are_asked_for(train: Interactions) -> None:
    both = hold_outs(train, kinds=("random", "block"), draws=2, fraction=0.2, rng=3)
    blocks = hold_outs(train, kinds=("block",), draws=1, fraction=0.2, rng=3)
    assert [one.name for one in both] == ["random 0", "random 1", "block 0", "block 1"]
    assert blocks[0].split.held_out.fingerprint() == both[2].split.held_out.fingerprint()
    assert both[0].split.held_out.fingerprint() != both[1].split.held_out.fingerprint()
    with pytest.raises(DataError, match="at least one hold-out"):
        hold_outs(train, kinds=(), draws=1, fraction=0.2, rng=0)


def test_dispersion_is_one_for_independent_draws_and_larger_for_uneven_ones(train: Interactions) -> None:
    random = np.random.default_rng(0)
    coin = random.random(train.n_interactions) < 0.3
    assert 0.9 <= dispersion(train.keep(~coin), train.keep(coin)) <= 1.1
    late = train.matrix.indices > np.median(train.matrix.indices)
    uneven = random.random(train.n_interactions) < np.where(late, 0.5, 0.1)
    assert dispersion(train.keep(~uneven), train.keep(uneven)) > 2
    assert dispersion(train, train.keep(np.zeros(train.n_interactions, bool))) == 0.0


def test_settings_are_drawn_without_repeats_or_all_taken() -> None:
    space = space_of(BSPM(), SPACE)
    drawn = settings_of(BSPM(), space, 50, rng=0)
    assert len(set(drawn)) == 50
    only = {path: SPACE.get(path, values[:1]) for path, values in space.items()}
    assert len(set(settings_of(BSPM(), only, 100))) == 8
    assert {spec.low_pass.rank for spec in drawn if spec.low_pass} <= {8, 16}


def test_a_part_that_is_left_out_is_not_searched() -> None:
    assert not any(path.startswith("sharpen") for path in space_of(BSPM(sharpen=None)))
    assert not any(path.startswith("low_pass") for path in space_of(BSPM(low_pass=None)))


def test_spaces_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SpecError, match=r"Did you mean 'low_pass\.weight'"):
        space_of(BSPM(), {"low_pass.wieght": (1.0,)})
    with pytest.raises(SpecError, match="has none"):
        space_of(BSPM(), {"merge": ()})
    with pytest.raises(SpecError, match="nothing to tune"):
        space_of(Popularity())


def test_departures_count_what_differs_from_the_defaults() -> None:
    space = space_of(BSPM())
    assert departures(BSPM(), space) == 0
    assert departures(BSPM(merge="late", low_pass=LowPass(rank=64)), space) == 2


def test_the_search_is_deterministic_and_chooses_the_simplest_of_the_best(train: Interactions) -> None:
    first = search(BSPM(), train, space=SPACE, trials=12, users=300, draws=1, rng=5)
    second = search(BSPM(), train, space=SPACE, trials=12, users=300, draws=1, rng=5)
    assert first.spec == second.spec
    assert np.array_equal(first.values, second.values)
    best = int(np.argmax(first.means))
    assert first.means[best] - first.means[first.chosen] <= first.errors[first.chosen] + 1e-12
    assert departures(first.spec, first.space) <= departures(first.specs[best], first.space)
    frame = first.to_frame()
    assert len(frame) == 12
    assert frame["chosen"].sum() == 1
    assert frame["recall@20"].is_sorted(descending=True)


def test_equal_settings_fall_to_the_one_nearest_to_the_defaults(train: Interactions) -> None:
    """Without sharpening early and late merge are the same thing, so the default one is chosen."""
    found = search(
        BSPM(sharpen=None, low_pass=LowPass(rank=16)),
        train,
        space={
            "merge": ("late", "early"),
            "low_pass.rank": (16,),
            "low_pass.weight": (0.3,),
            "output": ("last",),
        },
        users=200,
        draws=1,
        rng=0,
    )
    assert found.spec.merge == "early"


def test_models_without_a_shared_pass_are_fitted_one_by_one(train: Interactions) -> None:
    found = search(EASE(), train, trials=3, users=200, draws=1, kinds=("random",), rng=0)
    assert len(found.specs) == 3
    assert found.values.shape == (3, 1)
    split = hold_outs(train, kinds=("random",), draws=1, fraction=0.2, rng=0)[0].split
    assert split.held_out.n_interactions


def test_ranks_that_the_matrix_does_not_have_are_not_tried() -> None:
    small = demo_interactions(n_users=50, n_items=60, rng=2)
    found = search(BSPM(), small, trials=10, users=50, draws=1, rng=0)
    assert {spec.low_pass.rank for spec in found.specs} == {50}


def test_the_strict_protocol_chooses_on_train_alone(train: Interactions, tmp_path: Path) -> None:
    recipe = load_recipe("bspm/demo").changed(
        {"protocol.kind": "strict", "data.name": "", "split.kind": "files"}
    )
    split = Random(fraction=0.2).apply(train, rng=0)
    other = split.held_out.keep(np.random.default_rng(1).random(split.held_out.n_interactions) < 0.5)
    chosen = []
    for held in (split.held_out, other):
        folder = tmp_path / f"{held.n_interactions}"
        folder.mkdir()
        split.train.to_frame().write_parquet(folder / "train.parquet")
        held.to_frame().write_parquet(folder / "test.parquet")
        prepared = experiment.prepare(recipe, data=folder)
        outcome = experiment.measure(prepared)
        assert outcome.report.protocol == "strict"
        assert any("hold-outs of train" in note for note in outcome.report.notes)
        chosen.append(outcome.recipe.model)
    assert chosen[0] == chosen[1]  # what was held out for the test made no difference


def test_tune_writes_trials_a_recipe_that_runs_the_report_and_the_model(tmp_path: Path) -> None:
    log, out = tmp_path / "log.csv", tmp_path / "tuned"
    demo_interactions(n_users=300, n_items=200, rng=4).to_frame().select("user", "item").write_csv(log)
    asked = ["tune", "gf-cf/demo", "--data", str(log), "--trials", "6", "--draws", "1", "--users", "150"]
    ended = CliRunner().invoke(app, [*asked, "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    assert {entry.name for entry in out.iterdir()} == {
        "model", "recipe.toml", "report.json", "report.md", "report.html", "trials.parquet",
    }  # fmt: skip
    assert pl.read_parquet(out / "trials.parquet")["chosen"].sum() == 1
    again = CliRunner().invoke(
        app, ["run", str(out / "recipe.toml"), "--data", str(log), "--out", str(tmp_path / "again")]
    )
    assert again.exit_code == 0, again.output
    reports = [json.loads((folder / "report.json").read_text()) for folder in (out, tmp_path / "again")]
    values = [{entry["name"]: entry["value"] for entry in report["measurements"]} for report in reports]
    assert values[0] == pytest.approx(values[1], abs=1e-9)
    refused = CliRunner().invoke(app, [*asked, "--out", str(out)])
    assert refused.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bspm/demo", "--hold-out", "blocks"], "--hold-out must be"),
        (["popularity/demo"], "nothing to tune"),
        (["bspm/demo", "--metric", "recal@20"], "recall"),
        (["bspm/demo", "--metric", "recall"], "cut-off"),
    ],
)
def test_a_search_that_cannot_be_carried_out_is_refused(arguments: list[str], said: str) -> None:
    ended = CliRunner().invoke(app, ["tune", *arguments])
    assert ended.exit_code == 2
    assert said in " ".join(ended.output.split())


def test_flows_of_the_default_space_are_valid() -> None:
    for spec in settings_of(BSPM(sharpen=Flow()), space_of(BSPM()), 300, rng=1):
        assert isinstance(spec, BSPM)
