"""The value of a setting of a recommender equals that of an evaluation, alone and in a shared pass."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.tuning.searched import search
from unblur.data.catalogue.generation import demo_interactions
from unblur.data.interactions import Interactions
from unblur.data.splits import Random, Split
from unblur.errors import DataError, SpecError
from unblur.evaluation.protocol import RankingProtocol
from unblur.experiment.searching import RankingJudge, metric_of
from unblur.experiment.validation import HoldOuts
from unblur.models.linear.ease import EASE
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.models.spectral.chebycf import ChebyCF
from unblur.models.spectral.flow import Flow
from unblur.progress import Run
from unblur.spec import replace_field
from unblur.tuning.points import set_point, space_of
from unblur.tuning.settings import Search


@pytest.fixture(scope="module")
def split() -> Split:
    return Random(fraction=0.2).apply(demo_interactions(n_users=300, n_items=200, rng=1), rng=0)


def judge_of(
    *splits: Split, metric: str = "recall@10", users: int | None = None, seed: int = 0, shares: bool = False
) -> RankingJudge:
    return RankingJudge(metric, HoldOuts(splits, "held out"), users, seed, Run(), shares=shares)


def unwatched(epoch: int, value: float) -> bool:
    return False


@pytest.mark.parametrize("base", [BSPM(low_pass=LowPass(rank=8)), EASE()])
@pytest.mark.parametrize("metric", ["recall@10", "ndcg@5"])
def test_values_are_those_of_an_evaluation(split: Split, base: Any, metric: str) -> None:
    path, values = ("ridge", (50.0, 500.0)) if isinstance(base, EASE) else ("sharpen.duration", (1.0, 2.0))
    specs = [replace_field(base, path, value) for value in values]
    judge = judge_of(split, metric=metric)
    name, _, cutoff = metric.partition("@")
    protocol = RankingProtocol(metrics=(name,), cutoffs=(int(cutoff),), resamples=0)
    expected = [protocol.evaluate(spec.fit(split.train, rng=0), split)[metric].value for spec in specs]
    assert [judge(spec, 0, unwatched).value for spec in specs] == pytest.approx(expected, abs=1e-3)
    if base.shared() is not None:
        assert judge.together(specs) == pytest.approx(expected, abs=1e-3)


def test_the_value_of_a_setting_is_the_mean_over_hold_outs(split: Split) -> None:
    other = Random(fraction=0.2).apply(split.train, rng=1)
    one, two = (judge_of(each)(EASE(), 0, unwatched).value for each in (split, other))
    assert one is not None
    assert two is not None
    assert judge_of(split, other)(EASE(), 0, unwatched).value == pytest.approx((one + two) / 2)
    assert judge_of(split, other).n_users == judge_of(split).n_users + judge_of(other).n_users


def test_some_users_are_a_sample_of_the_seed(split: Split) -> None:
    one, same, other = (judge_of(split, users=40, seed=seed) for seed in (1, 1, 2))
    assert one.n_users == 40
    values = [judge(EASE(), 0, unwatched).value for judge in (one, same, other)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize(
    "base",
    [BSPM(), BSPM(sharpen=None), BSPM(low_pass=None), BSPM(history="normalized"), ChebyCF(rank=8)],
)
def test_a_shared_pass_gives_the_values_of_settings_judged_alone(split: Split, base: BSPM | ChebyCF) -> None:
    """For every combination of filters; of twelve settings the best eight are exact."""
    space = space_of(base, {"low_pass.rank": (4, 8)} if isinstance(base, BSPM) else {}, largest_rank=200)
    judge = judge_of(split, shares=True)
    study = search(base, space, judge, Search(trials=12), seed=3, include_base=False)
    for trial in (study.best, *study.trials[:3]):
        own_value = judge(set_point(base, space, trial.point), 0, unwatched).value
        assert trial.value == pytest.approx(own_value, abs=1e-3 if trial is study.best else 5e-3)


def test_settings_of_different_histories_are_searched_together(split: Split) -> None:
    changes = {"low_pass.rank": (4,), "history": ("counts", "normalized")}
    study = search(
        BSPM(), space_of(BSPM(), changes), judge_of(split, shares=True), Search(trials=4), include_base=False
    )
    assert {trial.point["history"] for trial in study.trials} == {"counts", "normalized"}
    assert not any(trial.problem for trial in study.trials)


def test_judges_without_enough_items_or_users_are_refused(split: Split) -> None:
    with pytest.raises(DataError, match=r"must be at most the number of items, 200; saw recall@201"):
        judge_of(split, metric="recall@201")
    one = Interactions.from_matrix(np.ones((1, 10)))
    with pytest.raises(DataError, match="at least 2 users"):
        judge_of(Random(fraction=0.2).apply(one, rng=0), metric="recall@5")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("recal@20", "Did you mean 'recall'"),
        ("recall@0", "metric at a cut-off"),
        ("coverage@20", "coverage does not measure that"),
        ("mean_popularity@5", r"another metric, such as recall@5"),
    ],
)
def test_metrics_to_choose_by(metric: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        metric_of(RankingProtocol(), metric)


def test_every_point_of_the_default_space_is_a_setting() -> None:
    """The corners of BSPM's space, whose parts depend on each other."""
    space = space_of(BSPM(sharpen=Flow()))
    ends = [(values[0], values[-1]) for values in (dimension.all() or () for dimension in space)]
    names = [dimension.name for dimension in space]
    for corner in product(*ends):
        set_point(BSPM(sharpen=Flow()), space, dict(zip(names, corner, strict=True)))
