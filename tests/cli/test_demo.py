"""`unblur demo`: a table of models and readable recommendations."""

from pathlib import Path

from tests.cli.conftest import Unblur
from unblur.cli.demo import RECIPES
from unblur.experiment.recipe.library import load_recipe, shipped


def test_all_recipes_of_the_demonstration_are_run_on_one_split() -> None:
    assert set(RECIPES) == {name for name in shipped() if name.endswith("/demo")}
    recipes = [load_recipe(name) for name in RECIPES]
    splits = [(recipe.data, recipe.seed, recipe.task.facts()["split"]) for recipe in recipes]
    assert splits == splits[:1] * len(splits)


def test_demo(unblur: Unblur) -> None:
    result = unblur("demo")
    assert result.code == 0, result.err
    kinds = ("popularity", "item-knn", "user-knn", "rp3beta", "pure-svd", "ease", "gf-cf", "bspm")
    places = [result.out.index(f"{kind}/demo") for kind in kinds]
    assert places == sorted(places)
    for column in ("recall@20", "ndcg@20", "coverage@20", "fit s"):
        assert column in result.out
    assert "bspm/demo recommends" in result.out
    assert "%" in result.out
    assert "unblur fit DATA" in result.out


def test_demo_writes_a_page(unblur: Unblur, tmp_path: Path) -> None:
    result = unblur("demo", "--out", tmp_path / "demo")
    assert result.code == 0, result.err
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert page.count('<svg viewBox="0 0 440') >= 6
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "3,000 users" in page
    assert "mean popularity@20" in (tmp_path / "demo" / "leaderboard.md").read_text(encoding="utf-8")
    assert unblur("demo", "--out", tmp_path / "demo").code == 2
