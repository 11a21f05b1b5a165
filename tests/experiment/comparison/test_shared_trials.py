"""BSPM settings tried together come to what they come to one by one."""

from pathlib import Path

import pytest

from unblur.data.catalogue.demonstration import demo_interactions
from unblur.data.splits import Random
from unblur.errors import SpecError
from unblur.models.spectral.bspm import BSPM
from unblur.training.stopping import Judge
from unblur.tuning import study
from unblur.tuning.space import dimensions_of, set_point


def test_tried_together_as_one_by_one(tmp_path: Path) -> None:
    split = Random(fraction=0.2).apply(demo_interactions(n_users=150, n_items=80, rng=3), rng=1)
    judged = (split, "a random fifth")
    space = dimensions_of(BSPM(), train=split.train)
    assert all(
        rank <= 80
        for dimension in space
        if dimension.name == "low_pass.rank"
        for rank in dimension.all() or ()
    )
    found = study(
        BSPM(), split, space, trials=12, metric="recall@10", seed=3, judged=judged, folder=tmp_path / "kept"
    )
    assert [trial.number for trial in found.trials] == list(range(12))
    assert len(list((tmp_path / "kept").glob("trial-*.json"))) == 12
    judge = Judge.of(split, "recall@10")
    best = found.trials[found.chosen]
    for trial in (best, *found.trials[:3]):
        alone = judge(set_point(BSPM(), space, trial.point).fit(split.train, rng=0))
        assert trial.value == pytest.approx(alone, abs=1e-3)
    more = study(
        BSPM(), split, space, trials=14, metric="recall@10", seed=3, judged=judged, folder=tmp_path / "kept"
    )
    assert more.trials[:12] == found.trials
    assert len(more.trials) == 14


def test_settings_that_cannot_be_fitted_are_kept_as_failed() -> None:
    split = Random(fraction=0.2).apply(demo_interactions(n_users=150, n_items=80, rng=3), rng=1)
    space = dimensions_of(BSPM(), {"low_pass.rank": (500,)})
    found = study(BSPM(), split, space, trials=2, metric="recall@10", judged=(split, "a fifth"))
    assert all(trial.value is None for trial in found.trials)
    assert "rank" in found.trials[0].problem
    with pytest.raises(SpecError, match="rank"):
        _ = found.spec
