"""The search of a recipe: one engine and one section of settings, whoever asks for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from unblur.errors import RecipeError
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.task import ArmT, ModelT, Prepared
from unblur.run import Run
from unblur.space import Dimension
from unblur.tuning.engine import search
from unblur.tuning.points import fits, space_of
from unblur.tuning.results import Study
from unblur.tuning.settings import Database, Search


def chooses(recipe: Recipe) -> bool:
    """Whether a run of the recipe chooses hyper-parameters: under the strict protocol, if there is anything to choose."""
    strict = recipe.protocol.kind == "strict" and recipe.task.chosen_anew
    return strict and recipe.search.trials > 1 and bool(space_of(recipe.model))


def settled(prepared: Prepared[ModelT, ArmT], run: Run) -> tuple[Prepared[ModelT, ArmT], tuple[str, ...]]:
    """The same with the hyper-parameters that the protocol measures, and notes on where they come from."""
    recipe = prepared.recipe
    if recipe.protocol.kind != "strict" or not recipe.task.chosen_anew:
        return prepared, ()
    if not chooses(recipe):
        why = "search.trials is 1" if space_of(recipe.model) else f"{recipe.model.kind} has none to search"
        return prepared, (
            f"the hyper-parameters are the recipe's, since {why}; interactions held out of train chose the epoch at most",
        )
    kept = run.inside("search").checkpoints
    found = searched(prepared, run, store=kept)
    said = "hyper-parameters were chosen on interactions held out of train; fit_seconds includes the search"
    return prepared.with_model(found.spec), (*found.notes(), *prepared.after_choice, said)


def searched(
    prepared: Prepared[Any, Any],
    run: Run,
    settings: Search | None = None,
    *,
    space: Sequence[Dimension] | None = None,
    seed: int | None = None,
    store: Path | Database | None = None,
    given: bool = True,
) -> Study[Any]:
    """Search the space of the recipe's model, or another, as the recipe's section ``search`` says, or `settings`.

    If `given`, trial 0 is the model as the recipe has it, provided that it can be fitted to these data. `seed` is the
    recipe's if left out.
    """
    recipe = prepared.recipe
    settings, seed = settings or recipe.search, recipe.seed if seed is None else seed
    judge = prepared.judge(settings, seed, run)
    space = space_for(prepared) if space is None else space
    return search(
        recipe.model,
        space,
        judge,
        settings,
        seed=seed,
        store=store,
        given=given and fits(recipe.model, space, largest_rank(prepared)),
        progress=run.progress,
    )


def space_for(
    prepared: Prepared[Any, Any],
    changes: Mapping[str, Sequence[Any]] | None = None,
    fixed: Collection[str] = (),
) -> tuple[Dimension, ...]:
    """What is searched of the recipe's model on these data, without the `fixed` paths.

    Raises `RecipeError` where all of a space is fixed.
    """
    whole = space_of(prepared.recipe.model, changes, largest_rank=largest_rank(prepared))
    return free(whole, fixed)


def free(space: Sequence[Dimension], fixed: Collection[str]) -> tuple[Dimension, ...]:
    """The dimensions that are not fixed. Raises `RecipeError` where none is left of some."""
    left = tuple(dimension for dimension in space if dimension.name not in fixed)
    if space and not left:
        raise RecipeError(
            "A search needs a setting that is free; --set gives all that there are: "
            f"{', '.join(dimension.name for dimension in space)}. Leave one out."
        )
    return left


def largest_rank(prepared: Prepared[Any, Any]) -> int:
    """The smaller side of the matrix that is learned from."""
    return min(prepared.learned_from.n_users, prepared.learned_from.n_items)
