"""A published cell of SDRM's utility table, on the real data: the quickest one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unblur import experiment
from unblur.recipe import load_recipe

pytestmark = [pytest.mark.realdata]


def test_recall_on_a_published_cell_is_reproduced() -> None:
    recipe = load_recipe("sdrm/alb-svd")
    if not (Path(os.environ["UNBLUR_DATA"]) / recipe.data.name).is_dir():
        pytest.skip(f"needs {recipe.data.name}, which is not under UNBLUR_DATA")
    report = experiment.run(recipe)
    assert not report.missed()
    assert report["full capped_recall@10"].n_users == 136
    assert report["ease capped_recall@10"].value > report["no-synthetic capped_recall@10"].value
