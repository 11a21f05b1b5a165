"""Who takes part in a comparison, and what they share: data, split, protocol and search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from unblur.data.formats.opening import is_file
from unblur.data.splits import Files
from unblur.errors import RecipeError, nearest
from unblur.experiment.ranking import RankingTask, ranking_task
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.parts import Protocol
from unblur.experiment.recipe.schema import Recipe
from unblur.ranking import BY_SCORE, Selection
from unblur.recommender import RecommenderSpec
from unblur.registry import RECOMMENDERS, recommender_spec
from unblur.spec import path_today, spec_from_dict, spec_to_dict
from unblur.tuning.settings import Search

VARIANTS = {"gf-cf": ("bspm", {"sharpen": None, "low_pass": {"rank": 256, "weight": 0.3}})}
"""Models that are another kind without some of its parts, at their own paper's values."""
OWN_PROTOCOL = Protocol(cutoffs=(10, 20), metrics=("recall", "ndcg"))
"""The protocol for the caller's own data if no recipe gives one: recall and NDCG, as in the papers of the shipped recipes."""
Spaces: TypeAlias = Mapping[str, Mapping[str, Sequence[Any]]]
"""Values to try, by kind of model and dotted path."""


@dataclass(frozen=True)
class Entry:
    """A model of a comparison."""

    name: str
    """Its name in tables: that of the recipe, or the kind."""
    model: RecommenderSpec
    """The spec before a search."""
    selection: Selection = BY_SCORE
    """The re-ranking of its lists."""


@dataclass(frozen=True)
class Lineup:
    """The models of a comparison, and what they share: the recipe whose data, split and protocol are used, and the search."""

    ground: Recipe
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()
    selections: tuple[Selection, ...] = ()
    """Re-rankings of the lists of each model, which are rows of the comparison as well."""
    data: str | Path | None = None
    """The caller's own data, in place of the recipe's."""
    search: Search | None = None
    """The search for settings, the same for each model; trial 0 of each is its setting as given. Its metric also orders the
    models. By default the protocol decides: under the strict one the recipe's section ``search`` is used, under the paper's
    nothing is searched. A search of one trial keeps settings as given."""
    spaces: Spaces = field(default_factory=dict)
    """Values to try, by kind and path, in place of the specs' own."""
    seeds: int = 1
    """The number of seeds that a stochastic model is fitted with."""

    def rows(self, entry: Entry) -> tuple[Entry, ...]:
        """A model, and the same model with its lists re-ranked; without similar items there is no diversity."""
        re_ranked = [
            replace(entry, name=f"{entry.name}, {_in_words(selection)}", selection=selection)
            for selection in self.selections
            if selection.diversity == 1 or entry.model.personal
        ]
        return (entry, *re_ranked)


def _in_words(selection: Selection) -> str:
    """What a re-ranking differs in, such as ``diversity 0.9``."""
    values, defaults = spec_to_dict(selection), spec_to_dict(BY_SCORE)
    return ", ".join(f"{name} {value}" for name, value in values.items() if value != defaults[name])


def line_up(
    words: Sequence[str],
    *,
    recipe: str | None = None,
    data: str | Path | None = None,
    protocol: Literal["paper", "strict"] | None = None,
    settings: Mapping[str, Any] | None = None,
    search: Search | None = None,
    spaces: Spaces | None = None,
    seeds: int = 1,
) -> Lineup:
    """The line-up of the models that `words` name: recipes (shipped or files) and kinds, each once.

    Data, split and protocol are those of `recipe`, else of the first recipe among the words; `data` may be the
    caller's own. `settings` (dotted paths, see `Recipe.changed`) change these, not the models. The other arguments are
    fields of the line-up. Raises `RecipeError` for a word that is neither recipe nor kind, for a repeated word, for an
    empty line-up, for less than a seed and, without `recipe`, for recipes with different data.
    """
    RecipeError.unless(seeds >= 1, f"There must be at least 1 seed; saw {seeds}. Leave it out to run once.")
    models = [_read(word) for word in words]
    recipes = [entry for entry in models if isinstance(entry, Recipe)]
    if recipe is not None:
        ground = load_recipe(recipe)
    elif recipes:
        ground = recipes[0]
        if data is None:
            # A recipe from a file is given by its path, not by its name.
            word_of_ground = next(word for word, entry in zip(words, models, strict=True) if entry is ground)
            _check_same_data(ground, recipes, word_of_ground)
    elif data is not None:
        placeholder = recommender_spec("popularity")()
        ground = Recipe(name="comparison", task=RankingTask(model=placeholder, protocol=OWN_PROTOCOL))
    else:
        raise RecipeError(
            "A comparison needs data; there are none. Give --data PATH, --recipe RECIPE, or a recipe as a model."
        )
    for path in settings or {}:
        RecipeError.unless(
            path.partition(".")[0] != "model",
            f"Settings of a comparison must be of data, split, protocol or search; saw {path}. Write a recipe file for a model "
            "with other settings.",
        )
    ground = ground.changed(dict(settings or {})).without_numbers()
    if protocol is not None:
        ground = ground.with_protocol(replace(ground.protocol, kind=protocol))
    entries = tuple(
        Entry(entry.name, _task(entry).model) if isinstance(entry, Recipe) else entry for entry in models
    )
    names = [entry.name for entry in entries]
    repeated = sorted({name for name in names if names.count(name) > 1})
    RecipeError.unless(
        entries, "A comparison needs at least one model; none is named. Name recipes or kinds of models."
    )
    RecipeError.unless(
        not repeated,
        f"Each model must be named once; named repeatedly: {', '.join(repeated)}. Leave the repetitions out.",
    )
    ground_data = (ground.data, _task(ground).split)
    others = [entry.name for entry in recipes if (entry.data, _task(entry).split) != ground_data]
    note = f"only the settings of {', '.join(others)} were used; data and split are those of {ground.name}"
    return Lineup(
        ground,
        entries,
        (note,) if others and data is None else (),
        data=data,
        search=search,
        spaces=spaces_today(spaces or {}),
        seeds=seeds,
    )


def _read(word: str) -> Recipe | Entry:
    if word in RECOMMENDERS or word in VARIANTS:
        kind, values = VARIANTS.get(word, (word, {}))
        return Entry(word, spec_from_dict(recommender_spec(kind), values))
    if word in shipped() or word.endswith(".toml") or is_file(word):
        return load_recipe(word)
    names = (*RECOMMENDERS, *VARIANTS, *shipped())
    raise RecipeError(
        f"A model must be a recipe or one of the kinds {', '.join((*RECOMMENDERS, *VARIANTS))}; saw {word!r}.{nearest(word, names)}"
    )


def _task(recipe: Recipe) -> RankingTask:
    return ranking_task(recipe, "Compare recommenders.")


def _check_same_data(ground: Recipe, recipes: Sequence[Recipe], word_of_ground: str) -> None:
    """Raise `RecipeError` if recipes do not have the same data and split; `ground` was given as `word_of_ground`."""
    for other in recipes:
        alike = (other.data.name, other.data.k_core) == (ground.data.name, ground.data.k_core)
        split_by_files = isinstance(_task(other).split, Files) and isinstance(_task(ground).split, Files)
        RecipeError.unless(
            alike and (split_by_files or _task(other).split == _task(ground).split),
            f"Models must be compared on the same data and split; those of {other.name} differ from those of "
            f"{ground.name}. Give the recipe whose data and split to use for all: --recipe {word_of_ground}.",
        )


def spaces_today(spaces: Spaces) -> dict[str, dict[str, list[Any]]]:
    """Values to try with the names of today; those of kinds that nobody knows stay."""
    return {
        kind: {
            path_today(recommender_spec(kind), path) if kind in RECOMMENDERS else path: list(values)
            for path, values in space.items()
        }
        for kind, space in spaces.items()
    }
