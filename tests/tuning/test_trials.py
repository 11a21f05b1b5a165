"""Search spaces, the settings drawn from them, and what each reaches on a hold-out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unblur.data.catalogue.demonstration import demo_interactions
from unblur.data.interactions import Interactions
from unblur.data.splits import Random
from unblur.data.splits.sets import Split
from unblur.errors import DataError, SpecError
from unblur.evaluation.protocol import RankingProtocol
from unblur.models.linear.ease import EASE
from unblur.models.popularity import Popularity
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.models.spectral.flow import Flow
from unblur.spec import replace_field
from unblur.tuning.search import search
from unblur.tuning.trials import Trials, departures, settings_of, space_of, value_at

GRID: Mapping[str, tuple[Any, ...]] = {
    "low_pass.rank": (4, 8),
    "low_pass.weight": (0.1, 0.3, 0.5),
    "merge": ("early", "late"),
}


@pytest.fixture(scope="module")
def split() -> Split:
    return Random(fraction=0.2).apply(demo_interactions(n_users=300, n_items=200, rng=1), rng=0)


# ------------------------------------------------------------------------------------------- spaces


def test_values_replace_those_of_the_spec_and_add_paths() -> None:
    space = space_of(BSPM(), {"merge": ("late",), "blur.duration": [0.5, 1.0, 0.5]})
    assert space["merge"] == ("late",)
    assert space["blur.duration"] == (0.5, 1.0)
    assert space["low_pass.rank"] == (64, 128, 256, 384, 512)


def test_parts_that_are_left_out_are_not_searched() -> None:
    space = space_of(BSPM(low_pass=None, sharpen=None), {"low_pass.rank": (4,)})
    assert set(space) == {"merge", "output"}
    part = space_of(BSPM(sharpen=None), {"sharpen": (None, {"duration": 2.0})})
    made = settings_of(BSPM(sharpen=None), {"sharpen": part["sharpen"]}, 9)
    assert made == [BSPM(sharpen=None), BSPM(sharpen=Flow(duration=2.0))]
    assert value_at(made[0], "sharpen.duration") is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "blur.durration",
            r"blur\.durration is not a hyper-parameter of BSPM\. Did you mean 'blur\.duration'\?",
        ),
        ("low_pas.rank", r"Did you mean 'low_pass\.rank'\?"),
        ("low_pass", r"low_pass is not a hyper-parameter of BSPM\. Did you mean 'low_pass\.rank'\?"),
        ("output.last", "Did you mean 'output'"),
        ("", " is not a hyper-parameter"),
    ],
)
def test_unknown_paths_are_refused_by_the_nearest_name(path: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        space_of(BSPM(), {path: (1, 2)})


def test_nothing_to_search_is_refused() -> None:
    with pytest.raises(SpecError, match=r"Popularity has no search space, so there is nothing to tune"):
        space_of(Popularity())
    with pytest.raises(SpecError, match="merge has none"):
        space_of(BSPM(), {"merge": ()})


# ------------------------------------------------------------------------------------------- settings


def test_all_settings_of_a_small_space() -> None:
    expected = [
        BSPM(low_pass=LowPass(rank=rank, weight=weight), merge=merge)
        for rank, weight, merge in product(*GRID.values())
    ]
    for n in (12, 13, 500):
        made = settings_of(BSPM(), GRID, n, rng=0)
        assert len(made) == 12
        assert set(made) == set(expected)


@given(n=st.integers(1, 11), seed=st.integers(0, 99))
def test_fewer_settings_than_there_are_never_repeat(n: int, seed: int) -> None:
    made = settings_of(BSPM(), GRID, n, rng=seed)
    assert len(set(made)) == n
    assert made == settings_of(BSPM(), GRID, n, rng=seed)
    assert set(made) <= set(settings_of(BSPM(), GRID, 12))


def test_every_setting_comes_up_as_often_as_another() -> None:
    drawn = [setting for seed in range(300) for setting in settings_of(BSPM(), GRID, 4, rng=seed)]
    counts = np.array([drawn.count(setting) for setting in settings_of(BSPM(), GRID, 12)])
    assert (np.abs(counts - 100) < 40).all()


def test_the_rest_of_the_spec_stays() -> None:
    base = BSPM(blur=Flow(duration=0.5), history="normalized", low_pass=LowPass(flow=Flow(steps=3)))
    for made in settings_of(base, GRID, 12):
        assert (made.blur, made.history, made.low_pass and made.low_pass.flow) == (
            base.blur,
            "normalized",
            Flow(steps=3),
        )


@pytest.mark.parametrize(
    ("space", "n", "message"),
    [
        (GRID, 0, "at least 1 trial; saw 0"),
        ({"merge": ("middle",)}, 5, "merge of BSPM: input should be 'early' or 'late'"),
        ({"low_pass.rank": (2.5,)}, 5, "rank"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    space: Mapping[str, tuple[Any, ...]], n: int, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        settings_of(BSPM(), space, n)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (BSPM(), 0),
        (BSPM(merge="late"), 1),
        (BSPM(low_pass=LowPass(rank=8, weight=0.2), output="mean"), 3),
        (BSPM(blur=Flow(steps=3)), 0),  # not searched, so not counted
        (BSPM(sharpen=Flow(solver="rk4", steps=2, duration=2.5)), 3),
    ],
)
def test_departures_from_the_defaults_at_searched_paths(spec: BSPM, expected: int) -> None:
    assert departures(spec, space_of(BSPM())) == expected


# ------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("base", [BSPM(low_pass=LowPass(rank=8)), EASE()])
@pytest.mark.parametrize("metric", ["recall@10", "ndcg@5"])
def test_values_are_those_of_an_evaluation(split: Split, base: Any, metric: str) -> None:
    path, values = ("ridge", (50.0, 500.0)) if isinstance(base, EASE) else ("sharpen.duration", (1.0, 2.0))
    specs = [replace_field(base, path, value) for value in values]
    trials = Trials(specs, split, metric, users=10_000, rng=0)
    name, _, cutoff = metric.partition("@")
    protocol = RankingProtocol(metrics=(name,), cutoffs=(int(cutoff),), resamples=0)
    tested = split.held_out.user_degrees > 0
    for setting, row in zip(specs, trials.values(), strict=True):
        evaluated = protocol.evaluate(setting.fit(split.train, rng=0), split)
        users = evaluated.per_user[metric]
        assert len(row) == tested.sum()
        assert row.mean() == pytest.approx(evaluated[metric].value, abs=1e-3)
        assert np.mean(row != (users[tested] if len(users) == len(tested) else users)) < 0.01


def test_some_users_are_taken_where_there_are_more(split: Split) -> None:
    one, same, other = (Trials([EASE()], split, "recall@5", users=40, rng=rng) for rng in (1, 1, 2))
    assert one.histories.n_users == one.held_out.n_users == len(set(one.histories.users.to_list())) == 40
    assert one.histories.users == same.histories.users != other.histories.users
    assert (one.held_out.user_degrees > 0).all()


def test_chosen_settings_come_in_the_order_asked_for(split: Split) -> None:
    specs = settings_of(BSPM(), GRID, 12)
    trials = Trials(specs, split, "recall@10", users=50, rng=0)
    whole = trials.values()
    assert whole.shape == (12, 50)
    np.testing.assert_allclose(trials.values([7, 2]).mean(axis=1), whole[[7, 2]].mean(axis=1), atol=5e-3)


def test_trials_that_cannot_be_compared_are_refused(split: Split) -> None:
    with pytest.raises(DataError, match=r"more places than there are items, 200; saw recall@201"):
        Trials([EASE()], split, "recall@201", users=50, rng=0)
    with pytest.raises(DataError, match="at least 2 users with something held out; saw 1"):
        Trials([EASE()], split, "recall@5", users=1, rng=0)
    with pytest.raises(SpecError, match=r"No searched rank may exceed .* 200; saw 8, 201"):
        Trials([BSPM(low_pass=LowPass(rank=rank)) for rank in (8, 201)], split, "recall@5", users=50, rng=0)
    one = Interactions.from_matrix(np.ones((1, 10)))
    with pytest.raises(DataError, match="at least 2 users"):
        Trials([EASE()], Random(fraction=0.2).apply(one, rng=0), "recall@5", users=50, rng=0)


# ------------------------------------------------------------------------------------------- searching


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("recal@20", "Did you mean 'recall'"),
        ("recall", "metric at a cut-off"),
        ("recall@0", "metric at a cut-off"),
        ("coverage@20", "coverage does not say that"),
        ("mean_popularity@5", r"another metric, such as recall@5"),
    ],
)
def test_metrics_to_choose_by(split: Split, metric: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        search(BSPM(), split.train, metric=metric)


def test_settings_from_other_rows_are_refused_and_normalized_ones_searched(split: Split) -> None:
    both = {**GRID, "history": ("counts", "normalized")}
    with pytest.raises(SpecError, match="same `history`"):
        search(BSPM(), split.train, space=both, trials=30, users=20, draws=1, rng=0)
    found = search(BSPM(history="normalized"), split.train, space=GRID, trials=5, users=20, draws=1, rng=0)
    assert {spec.history for spec in found.specs} == {"normalized"}


def test_a_search_over_filters_alone(split: Split) -> None:
    """No sharpening anywhere, and no low-pass anywhere."""
    for base in (BSPM(sharpen=None), BSPM(low_pass=None)):
        found = search(base, split.train, space={"low_pass.rank": (4, 8)}, trials=6, users=30, draws=1, rng=0)
        assert found.values.shape == (6, 2)
        assert all((spec.sharpen is None) == (base.sharpen is None) for spec in found.specs)
        assert "recall@20" in found.to_frame().columns


def test_other_models_are_fitted_once_a_setting_and_hold_out(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, fitted = EASE.fit, []

    def counted(spec: EASE, train: Interactions, **options: Any) -> Any:
        fitted.append((spec.ridge, train))
        return fit(spec, train, **options)

    monkeypatch.setattr(EASE, "fit", counted)
    found = search(EASE(), split.train, trials=4, users=50, draws=2, rng=0)
    assert len(fitted) == 4 * 4
    assert all(train is not split.train for _, train in fitted)
    assert {ridge for ridge, _ in fitted} == {spec.ridge for spec in found.specs}


def test_the_choice_is_the_simplest_within_one_standard_error(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that are made up: the best is complex, a simpler one is as good but for noise, the simplest is bad."""
    module = import_module("unblur.tuning.search")  # the name in the package is the function's
    space = {"merge": ("early", "late"), "output": ("last", "mean"), "low_pass.rank": (256,)}
    space |= {"low_pass.weight": (0.3,), "sharpen.solver": ("euler",)}
    space |= {"sharpen.duration": (1.0,), "sharpen.steps": (1,)}
    noise = np.random.default_rng(0).normal(size=(100,)) * 0.1

    class MadeUp:
        shared = None

        def __init__(self, specs: list[BSPM], split: Split, metric: str, **options: Any) -> None:
            self.specs = specs

        def values(self, settings: Any = None) -> np.ndarray:
            table = {
                ("early", "last"): np.full(100, 0.2),
                ("late", "last"): 0.5 + noise - noise.mean(),
                ("early", "mean"): np.full(100, 0.4),
                ("late", "mean"): np.full(100, 0.505),
            }
            return np.array([table[spec.merge, spec.output] for spec in self.specs])

    monkeypatch.setattr(module, "Trials", MadeUp)
    monkeypatch.setattr(module, "_within_rank", lambda space, train: dict(space))
    found = search(BSPM(), split.train, space=space, draws=1, kinds=("random",), rng=0)
    assert len(found.specs) == 4
    best = found.specs[int(np.argmax(found.means))]
    assert (best.merge, best.output) == ("late", "mean")
    assert (found.spec.merge, found.spec.output) == ("late", "last")
    noise *= 1e-3  # now the difference is clear
    found = search(BSPM(), split.train, space=space, draws=1, kinds=("random",), rng=0)
    assert (found.spec.merge, found.spec.output) == ("late", "mean")
