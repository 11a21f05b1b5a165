"""The search: settings tried on hold-outs of train, the simplest of the best chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.errors import RecipeError, SpecError, nearest
from unblur.evaluation.metrics import LIST_METRICS, parse_metric
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams
from unblur.tuning.hold_outs import HoldOut, HoldOutKind, dispersion, hold_outs
from unblur.tuning.trials import Space, Trials, departures, settings_of, space_of, value_at

if TYPE_CHECKING:
    import polars as pl

    from unblur.experiment.recipe.schema import Recipe

_FINALISTS = 8
_NOT_QUALITY = (*LIST_METRICS, "mean_popularity")


@dataclass(frozen=True, eq=False)
class Search:
    """What a search tried and chose."""

    metric: str
    """What was maximised, such as ``recall@20``."""
    specs: tuple[Any, ...]
    """The settings that were tried."""
    space: Space
    """The values that each path was given."""
    hold_outs: tuple[str, ...]
    """The names of the hold-outs."""
    values: NDArray[np.float64]
    """(settings, hold-outs) the mean of the metric over users."""
    errors: NDArray[np.float64]
    """(settings,) the standard error, over users, of the difference from the best setting."""
    finalists: tuple[int, ...]
    """The settings that were ranked exactly and chosen from."""
    chosen: int
    """The simplest finalist within one standard error of the best one."""
    dispersions: Mapping[str, float]
    """How unevenly each hold-out takes items (`dispersion`)."""
    n_users: int
    """On how many users each setting was measured, over all hold-outs."""

    @property
    def spec(self) -> Any:
        """The chosen setting."""
        return self.specs[self.chosen]

    @property
    def means(self) -> NDArray[np.float64]:
        """(settings,) the mean over hold-outs."""
        return np.asarray(self.values.mean(axis=1))

    def to_frame(self) -> pl.DataFrame:
        """One row a setting, the best first: the searched values, the metric on each hold-out, and what became of it."""
        import polars as pl

        columns: dict[str, Any] = {"trial": np.arange(len(self.specs))}
        for path in self.space:
            columns[path] = [value_at(spec, path) for spec in self.specs]
        columns[self.metric] = self.means
        for place, name in enumerate(self.hold_outs):
            columns[f"{self.metric} on {name}"] = self.values[:, place]
        columns["standard_error_to_best"] = self.errors
        columns["departures"] = [departures(spec, self.space) for spec in self.specs]
        numbers = np.arange(len(self.specs))
        columns["finalist"] = np.isin(numbers, self.finalists)
        columns["chosen"] = numbers == self.chosen
        return pl.DataFrame(columns).sort(self.metric, descending=True, maintain_order=True)

    def notes(self) -> tuple[str, ...]:
        """What a reader of the chosen setting must know."""
        spread = ", ".join(f"{name} {value:.2f}" for name, value in self.dispersions.items())
        return (
            f"{len(self.specs)} settings were tried on {len(self.hold_outs)} hold-outs of train ({self.n_users:,} users in all)",
            f"the simplest setting within one standard error of the best {self.metric} was chosen",
            f"item dispersion of the hold-outs (1 for independent draws): {spread}",
        )


def search(
    base: Any,
    train: Interactions,
    *,
    trials: int = 200,
    metric: str = "recall@20",
    kinds: Sequence[HoldOutKind] = ("random", "block"),
    draws: int = 2,
    fraction: float = 0.2,
    users: int = 2000,
    space: Mapping[str, Sequence[Any]] | None = None,
    rng: RNG | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Search:
    """Choose hyper-parameters of `base`'s kind on interactions held out of `train`.

    - `trials`: how many settings are drawn from the search space of the spec (`space` replaces values of paths).
    - `kinds`, `draws`, `fraction`: the hold-outs. One random hold-out can mislead, because test items need not be a
      random choice of a user's items; so the mean over both kinds and several draws decides.
    - `users`: on how many users of each hold-out the settings are measured.

    All settings are measured first, from one shared pass where the family allows; the simplest eight within one
    standard error of the best are then ranked exactly, and the simplest of those within one standard error is
    chosen. Simple means few departures from the spec's defaults: fewer parameters are chosen by chance.
    """
    check_quality(metric)
    random = streams(rng, "settings", "hold-outs", "users")
    searched = space_of(base, _within_rank(space_of(base, space), train))
    specs = settings_of(base, searched, trials, rng=random["settings"])
    held = hold_outs(train, kinds=kinds, draws=draws, fraction=fraction, rng=random["hold-outs"])
    tables, runs = [], []
    for place, one in enumerate(held):
        progress(ProgressEvent(f"hold-out {one.name}", place, len(held)))
        runs.append(
            Trials(
                specs, one.split, metric, users=users, rng=random["users"], device=device, progress=progress
            )
        )
        tables.append(runs[-1].values())
    simple = np.array([departures(spec, searched) for spec in specs])
    close, _ = _within_one_error(tables)
    means = np.mean([table.mean(axis=1) for table in tables], axis=0)
    finalists = sorted(close, key=lambda at: (simple[at], -means[at]))[: _FINALISTS - 1]
    finalists = sorted({*finalists, int(np.argmax(means))})
    exact = [
        table[finalists] if run.shared is None else run.values(finalists)
        for run, table in zip(runs, tables, strict=True)
    ]
    for table, better in zip(tables, exact, strict=True):
        table[finalists] = better
    near, _ = _within_one_error(exact)
    chosen = min(
        near, key=lambda at: (simple[finalists[at]], -float(np.mean([table[at].mean() for table in exact])))
    )
    return Search(
        metric=metric,
        specs=tuple(specs),
        space=searched,
        hold_outs=tuple(one.name for one in held),
        values=np.stack([table.mean(axis=1) for table in tables], axis=1),
        errors=_within_one_error(tables)[1],
        finalists=tuple(finalists),
        chosen=finalists[chosen],
        dispersions=_dispersions(held),
        n_users=sum(table.shape[1] for table in tables),
    )


def first_metric(recipe: Recipe, asked: str | None = None) -> str:
    """The metric to choose by: the one asked for, else the first that the recipe measures."""
    names = [name for name in recipe.protocol.names if name.partition("@")[0] not in _NOT_QUALITY]
    if asked is None:
        return names[0] if names else "recall@20"
    if asked.partition("@")[2] == "":
        raise RecipeError(
            f"A metric must have a cut-off, such as recall@20; saw {asked!r}.{nearest(asked, names)}"
        )
    return asked


def check_quality(metric: str) -> None:
    """Raise `SpecError` for a metric that is unknown, or that says nothing about a user's list being right."""
    name, cutoff = parse_metric(metric)
    if name in _NOT_QUALITY:
        raise SpecError(
            f"Settings are chosen by how good each user's list is; {name} does not say that. "
            f"Choose by another metric, such as recall@{cutoff}."
        )


def _within_rank(space: Space, train: Interactions) -> dict[str, tuple[Any, ...]]:
    """The space without ranks that the matrix does not have."""
    smaller = min(train.n_users, train.n_items)
    return {
        path: tuple(value for value in values if value <= smaller) or (min(values[0], smaller),)
        if path.rpartition(".")[2] == "rank"
        else values
        for path, values in space.items()
    }


def _within_one_error(tables: Sequence[NDArray[np.float64]]) -> tuple[list[int], NDArray[np.float64]]:
    """The settings within one standard error of the best, and each one's standard error of the difference.

    The best has the highest mean over hold-outs; the error of a mean over hold-outs combines those of each.
    """
    means = np.mean([table.mean(axis=1) for table in tables], axis=0)
    best = int(np.argmax(means))
    variances = [np.var(table - table[best], axis=1, ddof=1) / table.shape[1] for table in tables]
    errors = np.sqrt(np.sum(variances, axis=0)) / len(tables)
    return [int(at) for at in np.flatnonzero(means[best] - means <= errors)], errors


def _dispersions(held: Sequence[HoldOut]) -> dict[str, float]:
    return {one.name: dispersion(one.split.train, one.split.held_out) for one in held}
