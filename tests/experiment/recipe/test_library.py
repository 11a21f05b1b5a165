"""Finding recipes: shipped names, files, and neither."""

from pathlib import Path

import pytest

from unblur.errors import RecipeError
from unblur.experiment.recipe.library import load_recipe, shipped


def test_a_file_is_read_and_named_after_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[model]\nkind = "popularity"\n')
    assert load_recipe(path).name == "mine"
    path.write_text('name = "ours/log"\n[model]\nkind = "popularity"\n')
    assert load_recipe(str(path)).name == "ours/log"


@pytest.mark.parametrize("name", ["bspm/gowala", "bpsm/gowalla"])
def test_an_unknown_name_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(RecipeError, match="Did you mean 'bspm/gowalla'"):
        load_recipe(name)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        load_recipe(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_recipe(path)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[model]\nkind = "ease"\nridge = "high"\n')
    with pytest.raises(RecipeError, match=r"^mine: \[model\] ridge of EASE"):
        load_recipe(path)


def test_shipped_recipes_name_known_data_sets() -> None:
    from unblur.data import catalogue as datasets

    for name in shipped():
        assert load_recipe(name).data.name in datasets.DATASETS
