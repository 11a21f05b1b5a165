"""SDRM's utility on the real data: the quickest published cell, and the figures of the authors' code without
synthetic users."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unblur import experiment
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.recipe.schema import Recipe
from unblur.models.linear.ease import EASE
from unblur.synthesis.utility.protocol import measure_arm, training_rows
from unblur.synthesis.utility.task import utility_task

pytestmark = [pytest.mark.realdata]


def recipe_of(name: str) -> Recipe:
    recipe = load_recipe(name)
    if not (Path(os.environ["UNBLUR_DATA"]) / recipe.data.name).is_dir():
        pytest.skip(f"needs {recipe.data.name}, which is not under UNBLUR_DATA")
    return recipe


def test_recall_on_a_published_cell_is_reproduced() -> None:
    report = experiment.run(recipe_of("sdrm/alb-svd"))
    assert not report.missed()
    assert report["full capped_recall@10"].n_users == 136
    assert report["ease capped_recall@10"].value > report["no-synthetic capped_recall@10"].value


@pytest.mark.parametrize(
    ("data", "svd", "ease"),
    [("ml-100k", 0.3716, (200.0, 0.3997)), ("alb", 0.3113, (400.0, 0.3748)), ("adm", 0.0624, None)],
)
def test_without_synthetic_users_figures_are_those_of_the_authors_code(
    data: str, svd: float, ease: tuple[float, float] | None
) -> None:
    """So the paper's protocol here draws held-out items and reads low ratings as that code does."""
    recipe = recipe_of(f"sdrm/{data}-svd")
    task = utility_task(recipe, "")
    prepared = task.prepare(recipe)
    rows = training_rows(prepared.groups, None, task.utility, task.departures)
    options = (prepared.groups, recipe.protocol, task.departures)
    expected = [(task.downstream, svd)]
    if ease is not None:
        expected.append((EASE(ridge=ease[0]), ease[1]))
    for spec, figure in expected:
        recall = measure_arm(spec, rows, *options, rng=1).values["capped_recall@10"].mean()
        assert recall == pytest.approx(figure, abs=5e-5), spec
