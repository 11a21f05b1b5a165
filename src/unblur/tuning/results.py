"""The result of a search: its trials, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

import polars as pl

from unblur.errors import SpecError
from unblur.spec import Dimension, Point
from unblur.tuning.points import SpecT, set_point

RUNNERS_UP = 3
"""Number of next best trials that the notes list: enough to see whether the choice was close."""


@dataclass(frozen=True)
class Trial:
    """One setting and its result."""

    number: int
    """From 0."""
    point: Point
    """The value of each dimension by name, as plain values."""
    value: float | None
    """The metric on validation data; `None` for a setting that failed or was ended early."""
    epoch: int | None = None
    """The best epoch, for a model that is trained by epochs."""
    seconds: float = 0.0
    problem: str = ""
    """Why the setting failed; empty if it did not."""
    validations: Mapping[str, float] = field(default_factory=dict)
    """The metric after each evaluated epoch, or the mean after each training if a trial has several. Numbers of epochs
    are text, as JSON has them."""
    pruned: bool = False
    """True if it was ended early, so that it has no value."""


@dataclass(frozen=True, eq=False)
class Study(Generic[SpecT]):
    """The trials of a search and the setting that it chose."""

    metric: str
    """The metric that was maximised."""
    base: SpecT
    """The spec that the points were set in."""
    space: tuple[Dimension, ...]
    trials: tuple[Trial, ...]
    n_users: int
    """The number of users that each setting was judged on."""
    how: str
    """The validation data, in words."""
    remarks: tuple[str, ...] = ()
    """The reason for an early end, and what the points depend on, if that is more than the seed."""

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """The trials that have a value, the best first; of equal ones the earlier first."""
        valued = [(-trial.value, trial.number, trial) for trial in self.trials if trial.value is not None]
        return tuple(trial for *_, trial in sorted(valued, key=lambda entry: entry[:2]))

    @property
    def best(self) -> Trial:
        """The chosen trial. Raises `SpecError` if every trial failed."""
        if not self.ranked:
            reasons = "; ".join(dict.fromkeys(trial.problem for trial in self.trials if trial.problem))
            raise SpecError(
                f"At least one setting must be possible to fit; all failed. Change the space. Reasons: {reasons}"
            )
        return self.ranked[0]

    @property
    def chosen(self) -> int:
        """The number of the chosen trial."""
        return self.best.number

    @property
    def spec(self) -> SpecT:
        """The chosen setting."""
        return set_point(self.base, self.space, self.best.point)

    def to_frame(self) -> pl.DataFrame:
        """One row a trial, the best first: its point, the metric, the best epoch, seconds, and how it ended."""
        columns = {
            "trial": [trial.number for trial in self.trials],
            **{d.name: _column([trial.point[d.name] for trial in self.trials]) for d in self.space},
            self.metric: [trial.value for trial in self.trials],
            "best_epoch": [trial.epoch for trial in self.trials],
            "seconds": [trial.seconds for trial in self.trials],
            "pruned": [trial.pruned for trial in self.trials],
            "problem": [trial.problem for trial in self.trials],
            "chosen": [trial.number == self.chosen for trial in self.trials],
        }
        schema = {self.metric: pl.Float64, "best_epoch": pl.Int64, "problem": pl.String}
        table = pl.DataFrame(columns, schema_overrides=schema, strict=False)
        return table.sort(self.metric, descending=True, nulls_last=True, maintain_order=True)

    def notes(self) -> tuple[str, ...]:
        """Notes for the report about the search."""
        pruned = sum(trial.pruned for trial in self.trials)
        failed = len(self.trials) - len(self.ranked) - pruned
        notes = [
            f"{len(self.trials)} settings were fitted and judged by {self.metric} on {self.how} ({self.n_users:,} users)",
            f"the setting with the best {self.metric} was chosen; its test came after",
        ]
        following = self.ranked[1 : RUNNERS_UP + 1]
        if following:
            values = ", ".join(f"{trial.value:.4f} (trial {trial.number})" for trial in following)
            notes.append(f"the chosen trial {self.chosen} has {self.best.value:.4f}, the next best {values}")
        if pruned:
            notes.append(
                f"{pruned} of the settings were ended early: others were better at that point, or time was up"
            )
        if failed:
            notes.append(f"{failed} of the settings could not be fitted")
        return (*notes, *self.remarks)


def _column(values: list[Any]) -> list[Any]:
    """Values of points for a table: numbers as they are, anything else as text."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return values if numbers else [str(value) for value in values]
