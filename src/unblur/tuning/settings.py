"""Budget, sampler and validation data of a search: the section ``search`` of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import Field, PositiveFloat

from unblur.errors import ArtifactError
from unblur.spec import Count, Rounds, spec

SamplerName: TypeAlias = Literal["random", "exhaustive", "bayes"]
PrunerName: TypeAlias = Literal["none", "median", "halving"]
ValidationData: TypeAlias = Literal["part", "last", "random", "block", "both"]
SAMPLER_NAMES: tuple[SamplerName, ...] = get_args(SamplerName)
PRUNER_NAMES: tuple[PrunerName, ...] = get_args(PrunerName)
VALIDATION_DATA: tuple[ValidationData, ...] = get_args(ValidationData)


@spec
class Validation:
    """The interactions that settings are judged on; test data are never among them."""

    how: ValidationData | None = None
    """``part``: the validation part of the split. ``last``: the last of each user's train interactions in time.
    ``random``: random ones. ``block``: a contiguous run of them in label order. ``both``: ``random`` and ``block``.
    Left out: the split's part if it has one, else ``last`` under the strict protocol with times, else ``random``."""
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The fraction of each user's train interactions that is held out; ``part`` has its own."""
    draws: Rounds = 1
    """Number of times that interactions are held out, each time different ones; the value of a setting is the mean."""


@spec
class Search:
    """A hyper-parameter search: it chooses the trial with the best mean on validation data, of equal ones the earlier."""

    metric: str | None = None
    """The metric to maximise, such as ``recall@20``. Left out: the first that the protocol measures."""
    trials: Count = 20
    """The largest number of settings to try; a smaller space is tried whole."""
    seconds: PositiveFloat | None = None
    """End once the trials, those of earlier calls included, have taken this long. The running trial is finished, or
    ended early if there is a pruner and another trial to choose."""
    sampler: SamplerName = "random"
    """The order of settings. ``random``: at random, without repeats. ``exhaustive``: each in turn. ``bayes``: near the
    good ones, by optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011)."""
    pruner: PrunerName = "none"
    """The settings to end early. ``median``: those that are worse than half of the earlier ones were at that point.
    ``halving``: all but the best third after 4, 12, 36 … evaluations, or after 1, 3, 9 … trainings (Li et al., MLSys
    2020)."""
    trainings: Rounds = 1
    """Number of trainings, each with a seed of its own, whose mean is the value of a trial; 1 if the seed has no effect."""
    patience: Count | None = None
    """End once this many trials in a row were no better."""
    users: Annotated[Count, Field(ge=2)] | None = None
    """Number of users, drawn at random, that settings are judged on. Left out: all."""
    validation: Validation = Validation()
    """The data that settings are judged on."""


DATABASE_REQUIREMENT = (
    "A storage must be the URL of a persistent database that can be written to, such as sqlite:///trials.db"
)


@dataclass(frozen=True)
class Database:
    """A study in a database, whose trials several processes share."""

    url: str
    """Such as ``sqlite:///trials.db``."""
    name: str
    """The study's name in the database."""

    def shown(self) -> str:
        """The URL without its password. Raises `ArtifactError` unless it is the URL of a persistent database."""
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            url = make_url(self.url)
        except ArgumentError:
            url = None
        if url is None or (url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")):
            raise ArtifactError(
                f"{DATABASE_REQUIREMENT}; saw {self.url}, which is not a URL, or is in memory. Name a file, or a server."
            )
        return url.render_as_string(hide_password=True)
