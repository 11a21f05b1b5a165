"""RecBole's running example on MovieLens 100K, and what it holds out there."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unblur.compat.recbole.configuration import configure
from unblur.compat.recbole.running import prepared_for, run_recbole
from unblur.data.interactions import Interactions
from unblur.experiment.recipe.library import load_recipe

pytestmark = pytest.mark.realdata


def needs_ml_100k() -> None:
    if not (Path(os.environ["UNBLUR_DATA"]) / "ml-100k").is_dir():
        pytest.skip("needs ml-100k, which is not under UNBLUR_DATA")


@pytest.mark.slow
def test_the_running_example_gives_its_numbers(tmp_path: Path) -> None:
    """RecBole itself gives NDCG@10 .3212 and Recall@10 .2751; our split and weights are drawn differently."""
    needs_ml_100k()
    result = run_recbole(
        model="DiffRec", dataset="ml-100k", config_dict={"checkpoint_dir": str(tmp_path), "use_gpu": False}
    )
    for name, expected in load_recipe("diffrec/ml-100k").expected.items():
        assert result["test_result"][name] == pytest.approx(expected.value, abs=expected.within)
    assert result["best_valid_score"] == pytest.approx(0.42, abs=0.03)


def pairs(data: Interactions) -> set[tuple[int, int]]:
    frame = data.to_frame()
    return set(zip(frame["user"].to_list(), frame["item"].to_list(), strict=True))


@pytest.mark.parametrize(
    ("golden", "split", "n_pairs", "moved"),
    [
        ("recbole-ml-100k-ls.npz", {"LS": "valid_and_test"}, 943, (5, 4)),
        ("recbole-ml-100k-rs-to.npz", {"RS": [0.8, 0.1, 0.1]}, 9_596, (7, 5)),
    ],
)
def test_what_recbole_holds_out_in_the_order_of_time(
    golden: str, split: Mapping[str, Any], n_pairs: int, moved: tuple[int, int]
) -> None:
    """Every pair as RecBole has it; with whole seconds, which it merges here and there, all but `moved`."""
    needs_ml_100k()
    file = Path(os.environ["UNBLUR_DATA"]).parent / "golden" / golden
    if not file.is_file():
        pytest.skip(f"needs golden/{golden} beside UNBLUR_DATA")
    arrays = np.load(file, allow_pickle=False)
    expected = [
        set(zip(arrays[f"{part}_user"].tolist(), arrays[f"{part}_item"].tolist(), strict=True))
        for part in ("valid", "test")
    ]
    assert len(expected[1]) == n_pairs
    for options, n_moved in (({}, (0, 0)), ({"normalize_all": False}, moved)):
        configuration = configure(
            "DiffRec", "ml-100k", {"eval_args": {"split": split, "order": "TO"}, **options}
        )
        prepared = prepared_for(configuration)
        assert prepared.split.validation is not None
        held_out = [pairs(prepared.split.validation), pairs(prepared.split.held_out)]
        assert [len(part) for part in held_out] == [len(part) for part in expected]
        assert tuple(len(part - recbole) for part, recbole in zip(held_out, expected, strict=True)) == n_moved
        assert "order of rows" in prepared.fingerprints
        assert any("falls into a tie in time" in note for note in prepared.split.notes)
