"""RecBole's running example on MovieLens 100K."""

import os
from pathlib import Path

import pytest

from unblur.compat.recbole.running import run_recbole
from unblur.experiment.recipe.library import load_recipe

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def test_the_running_example_gives_its_numbers(tmp_path: Path) -> None:
    """RecBole itself gives NDCG@10 .3212 and Recall@10 .2751; our split and weights are drawn differently."""
    if not (Path(os.environ["UNBLUR_DATA"]) / "ml-100k").is_dir():
        pytest.skip("needs ml-100k, which is not under UNBLUR_DATA")
    result = run_recbole(
        model="DiffRec", dataset="ml-100k", config_dict={"checkpoint_dir": str(tmp_path), "use_gpu": False}
    )
    for name, expected in load_recipe("diffrec/ml-100k").expected.items():
        assert result["test_result"][name] == pytest.approx(expected.value, abs=expected.within)
    assert result["best_valid_score"] == pytest.approx(0.42, abs=0.03)
