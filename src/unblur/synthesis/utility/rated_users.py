"""From a synthesizer's recipe to its groups of users."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unblur.data.interactions import Interactions
from unblur.data.splits.sets import joined_items
from unblur.errors import RecipeError, some
from unblur.experiment.preparation import read_parts
from unblur.experiment.recipe.parts import Data
from unblur.experiment.recipe.schema import Recipe
from unblur.progress import Progress, silent
from unblur.randomness import streams
from unblur.spec import replace_field
from unblur.synthesis.utility.settings import Departures, Utility
from unblur.synthesis.utility.users import Rated, UserGroups, grouped, stacked

_MODEL_DEPARTURES = ("noise_without_root", "tied_hidden_layers", "sampling_dropout")


@dataclass(frozen=True, eq=False)
class PreparedUsers:
    """A synthesizer's recipe with its data read and its users grouped."""

    recipe: Recipe
    """As it will run: under the strict protocol without the departures of the authors' code."""
    departures: Departures
    """What is in force."""
    groups: UserGroups
    fingerprints: Mapping[str, str]
    """``sha256:…`` of each part of the data, in each reading."""
    notes: tuple[str, ...]
    read_seconds: float


def prepare_users(
    recipe: Recipe,
    *,
    data: str | Path | None = None,
    judged: Literal["reported", "searching"] = "reported",
    progress: Progress = silent,
) -> PreparedUsers:
    """Read the data of a synthesizer's recipe, or those at `data`, and put their users into groups.

    The caller's own data come in one file, whose users are divided, or in parts that share no user. Raises
    `RecipeError` for parts that are not there or share users, `DataError` where nothing can be read.
    """
    start = time.perf_counter()
    utility = recipe.utility
    if utility is None:
        raise RecipeError(
            f"Only a synthesizer has a utility; {recipe.model.kind} is a recommender. Run its recipe as it is."
        )
    departures, notes = Departures(), []
    if recipe.protocol.kind == "paper":
        departures = utility.departures
    else:
        recipe = replace(recipe, model=without_departures(recipe.model))
        notes.append(
            "none of the departures of the authors' code is in force: likes only, groups of their own"
        )
    if data is not None:
        notes.append(
            "the data are the caller's own: no fingerprint was checked, and no published number applies"
        )
        recipe = recipe.without_numbers()
    both = departures.dislikes_are_positives or departures.dislikes_are_held_out
    liked = read_parts(recipe.data, data, progress=progress)
    observed = liked
    if both and utility.observed is not None:
        observed = read_parts(_observed(recipe.data, utility.observed, data), data, progress=progress)
    fingerprints = {name: part.fingerprint() for name, part in liked.items()}
    if observed is not liked:
        fingerprints |= {
            f"{name} ({utility.observed})": part.fingerprint() for name, part in observed.items()
        }
    learnable, reported = _two_sets(_rated(liked, observed), utility)
    if departures.in_force():
        notes.append(f"departures of the authors' code in force: {', '.join(departures.in_force())}")
    groups = grouped(learnable, reported, utility, departures, judged=judged)
    model, remarks = within_users(recipe.model, groups.learned.liked, all_teach=True)
    notes.extend(remarks)
    return PreparedUsers(
        replace(recipe, model=model),
        departures,
        groups,
        fingerprints,
        (*notes, *groups.notes),
        time.perf_counter() - start,
    )


def within_users(model: Any, train: Interactions, *, all_teach: bool = False) -> tuple[Any, tuple[str, ...]]:
    """The spec with no batch larger than all users who teach, as the authors' loader has it, and a note on each that was.

    Where a training stops by some of the users (`VariationalAutoencoder.stopping`) these do not teach, unless
    `all_teach` since it is given others.
    """
    most = int((train.user_degrees > 0).sum())
    stopping = getattr(getattr(model, "vae", None), "stopping", None)
    if stopping is not None and not all_teach:
        most = max(1, int((1 - stopping.users) * most))
    notes = []
    for part in ("vae", "diffusion"):
        asked = getattr(getattr(model, part, None), "batch_size", 0)
        if asked > most:
            model = replace_field(model, f"{part}.batch_size", most)
            notes.append(
                f"model.{part}.batch_size is {most:,}, not {asked:,}: no more users are learned from"
            )
    return model, tuple(notes)


def without_departures(model: Any) -> Any:
    """The spec of a synthesizer as the paper describes it."""
    diffusion = getattr(model, "diffusion", None)
    for name in _MODEL_DEPARTURES:
        if hasattr(diffusion, name):
            model = replace_field(model, f"diffusion.{name}", False)
    return model


def _observed(data: Data, reading: str, own: str | Path | None) -> Data:
    """The same data with ratings of any height."""
    if own is None:
        return replace(data, reading=reading)
    return replace(data, read=replace(data.read, min_rating=None, rating="ignore"))


def _rated(liked: Mapping[str, Interactions], observed: Mapping[str, Interactions]) -> dict[str, Rated]:
    """Each part over one item vocabulary, with the users of its observed pairs."""
    items = joined_items(*observed.values())
    made = {}
    for name, part in observed.items():
        whole = part.onto(items=items).binarized()
        likes = liked[name].binarized().onto(users=whole.users, items=items)
        made[name] = Rated(_plain(likes), _plain(whole))
    return made


def _plain(part: Interactions) -> Interactions:
    return part if part.timestamps is None else Interactions(part.matrix, part.users, part.items)


def _two_sets(parts: Mapping[str, Rated], utility: Utility) -> tuple[Rated, Rated]:
    """Users that may be learned from, and users to report on, each labelled 0, 1, 2, …."""
    if len(parts) == 1:
        whole = next(iter(parts.values()))
        order = streams(utility.hold_out_seed, "own users")["own users"].permutation(whole.liked.n_users)
        size = max(1, round(utility.reported * len(order)))
        return _below([whole.take(np.sort(order[size:]))]), _below([whole.take(np.sort(order[:size]))])
    for name in (*utility.learn, utility.report):
        if name not in parts:
            raise RecipeError(
                f"The data must have the parts {', '.join((*utility.learn, utility.report))}; there is "
                f"{some(sorted(parts))}. Name others in utility.learn and utility.report, or give one file."
            )
    used = [parts[name].liked for name in (*utility.learn, utility.report)]
    for place, one in enumerate(used):
        for other in used[place + 1 :]:
            if (
                one.users.kind == other.users.kind
                and (one.users.positions_or_missing(other.users) >= 0).any()
            ):
                raise RecipeError(
                    "Utility is measured on users that nobody learned from; the parts of these data share users. "
                    "Give all interactions in one file: its users are divided."
                )
    return _below([parts[name] for name in utility.learn]), _below([parts[utility.report]])


def _below(parts: list[Rated]) -> Rated:
    return Rated(stacked([part.liked for part in parts]), stacked([part.observed for part in parts]))
