"""The points of a search as optuna has them: parameters with distributions, drawn by a sampler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from unblur.space import Choice, Dimension, Range
from unblur.tuning.points import Points

Distributions: TypeAlias = Mapping[str, CategoricalDistribution | FloatDistribution]

NUMBER = "unblur number"
"""The attribute of a trial that has a number of its own: one that is made again for a lost trial has that one's."""


def distributions_of(points: Points) -> dict[str, CategoricalDistribution | FloatDistribution]:
    """The dimensions of a search by name, widened by the values that the given spec has.

    Optuna refuses a trial outside the space that its study began with, so these are in it from the beginning.
    """
    distributions: dict[str, CategoricalDistribution | FloatDistribution] = {}
    for dimension in points.space:
        values, name = dimension.values, dimension.name
        given = [] if points.first is None else [points.first[name]]
        if isinstance(values, Choice):
            # Optuna takes no lists; as JSON everything is told apart, and can be read by its other tools.
            texts = dict.fromkeys(json.dumps(value) for value in (*values.values, *given))
            distributions[name] = CategoricalDistribution(tuple(texts))
        else:
            ends = sorted([values.at(0), values.at(1), *(float(value) for value in given)])
            logarithmic = values.logarithmic and ends[0] > 0
            distributions[name] = FloatDistribution(ends[0], ends[-1], log=logarithmic)
    return distributions


def to_parameter(value: Any, distribution: BaseDistribution) -> Any:
    """A value of a point as a parameter."""
    if isinstance(distribution, FloatDistribution):
        # Computed from its logarithm, the end of a range may lie a rounding error outside of it.
        return min(max(float(value), distribution.low), distribution.high)
    return json.dumps(value)


def from_parameter(parameter: Any, dimension: Dimension) -> Any:
    """A parameter as a value of a point."""
    values = dimension.values
    return values.snapped(parameter) if isinstance(values, Range) else json.loads(parameter)


def numbered(study: optuna.Study) -> list[tuple[int, FrozenTrial]]:
    """The trials of a study, each with its number in the search: its place among those that have none of their own."""
    fresh, pairs = 0, []
    for trial in study.get_trials(deepcopy=False):
        pairs.append((trial.user_attrs.get(NUMBER, fresh), trial))
        fresh += NUMBER not in trial.user_attrs
    return pairs


class NumberedSampler(BaseSampler):
    """Gives each trial the point of its number, or what a fresh Parzen estimator, seeded by its number, proposes."""

    number: int
    """That of the trial under way."""
    point: dict[str, Any] | None
    """Its point; `None` where the estimator proposes it."""
    _estimator: TPESampler

    def __init__(self, points: Points) -> None:
        self._points = points

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Look up the point of the trial that begins."""
        self.number = next(number for number, other in numbered(study) if other.number == trial.number)
        self.point = self._points.at(self.number)
        if self.point is None:
            self._estimator = TPESampler(seed=self._points.seed_at(self.number))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters that the estimator draws together."""
        return {} if self.point is not None else self._estimator.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw them."""
        return {} if self.point is not None else self._estimator.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one that is not among them."""
        if self.point is not None:
            return to_parameter(self.point[param_name], param_distribution)
        return self._estimator.sample_independent(study, trial, param_name, param_distribution)
