"""What is compared: models by recipe or by kind, on the data and under the protocol of one recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from unblur.data.splits import Files
from unblur.errors import RecipeError, nearest
from unblur.experiment.ranking import RankingTask, ranking_task
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.parts import Protocol
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.toml import described
from unblur.recommender import RecommenderSpec
from unblur.registry import RECOMMENDERS, recommender_spec


@dataclass(frozen=True)
class Entry:
    """A model that takes part."""

    name: str
    """What tables call it: the recipe's name, or the kind."""
    model: RecommenderSpec
    """The spec to begin with."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values that say what it is, whatever it is called."""
        return described(self.model)


@dataclass(frozen=True)
class Lineup:
    """Models, and the recipe whose data, split and protocol serve all of them."""

    ground: Recipe
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def line_up(
    words: Sequence[str],
    *,
    recipe: str | None = None,
    own_data: bool = False,
    protocol: Literal["paper", "strict"] | None = None,
    settings: dict[str, Any] | None = None,
) -> Lineup:
    """The models that `words` name: recipes (shipped or files) and kinds, each once.

    Data, split and protocol are those of `recipe`, else of the first recipe among the words; the data may be the
    caller's own. `settings` (dotted paths, see `Recipe.changed`) change that ground, not the models. Raises
    `RecipeError` for a word that is neither, for one given twice, for too few models, and, where no `recipe` is
    named, for recipes of different data.
    """
    found = [_read(word) for word in words]
    named = [entry for entry in found if isinstance(entry, Recipe)]
    notes: list[str] = []
    if recipe is not None:
        ground = load_recipe(recipe)
    elif named:
        ground = named[0]
        _check_alike(ground, named, own_data)
    elif own_data:
        task = RankingTask(model=recommender_spec("popularity")(), protocol=_PROTOCOL)
        ground = Recipe(name="comparison", task=task)
    else:
        raise RecipeError(
            "Models are compared on data; none are named. Give --data PATH, --recipe RECIPE, or a recipe as a model."
        )
    for path in settings or {}:
        if path.partition(".")[0] == "model":
            raise RecipeError(
                f"Settings change data, split and protocol of a comparison; saw {path}. Write a recipe file for a "
                "model with other settings."
            )
    ground = ground.changed(settings or {}).without_numbers()
    if protocol is not None:
        ground = ground.with_protocol(replace(ground.protocol, kind=protocol))
    entries = tuple(
        Entry(entry.name, _task(entry).model) if isinstance(entry, Recipe) else entry for entry in found
    )
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not entries:
        raise RecipeError(
            f"There must be at least one model, and each must be named once; twice: {', '.join(twice) or 'none'}."
        )
    on = (ground.data, _task(ground).split)
    foreign = [one.name for one in named if (one.data, _task(one).split) != on]
    if foreign and not own_data:
        notes.append(
            f"only the settings were taken of {', '.join(foreign)}; data and split are those of {ground.name}"
        )
    return Lineup(ground, entries, tuple(notes))


VARIANTS = {"gf-cf": ("bspm", {"sharpen": None})}
"""Models that are another kind with some of it left out."""
_PROTOCOL = Protocol(cutoffs=(10, 20), metrics=("recall", "ndcg"))
"""What is measured where no recipe says it."""


def _read(word: str) -> Recipe | Entry:
    if word in RECOMMENDERS:
        return Entry(word, recommender_spec(word)())
    if word in VARIANTS:
        kind, values = VARIANTS[word]
        return Entry(word, recommender_spec(kind)(**values))
    if word in shipped() or word.endswith(".toml") or Path(word).is_file():
        return load_recipe(word)
    known = (*RECOMMENDERS, *VARIANTS, *shipped())
    raise RecipeError(
        f"A model must be a recipe or one of the kinds {', '.join((*RECOMMENDERS, *VARIANTS))}; saw {word!r}.{nearest(word, known)}"
    )


def _task(recipe: Recipe) -> RankingTask:
    return ranking_task(recipe, "Comparisons are of recommenders.")


def _check_alike(ground: Recipe, named: Sequence[Recipe], own_data: bool) -> None:
    """Raise where recipes are not of the same data, unless the data are the caller's."""
    if own_data:
        return
    for other in named:
        alike = (other.data.name, other.data.k_core) == (ground.data.name, ground.data.k_core)
        given = isinstance(_task(other).split, Files) and isinstance(_task(ground).split, Files)
        if not alike or not (given or _task(other).split == _task(ground).split):
            raise RecipeError(
                f"Models are compared on the same data and items; {other.name} is of other data or another split than "
                f"{ground.name}. Say whose data all are to use: --recipe {ground.name}."
            )
