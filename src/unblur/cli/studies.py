"""`unblur tune` for models whose every setting costs a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unblur.cli import terminal
from unblur.cli.progress import ProgressDisplay
from unblur.cli.run import keep
from unblur.cli.tables import print_report, print_trials
from unblur.errors import RecipeError

if TYPE_CHECKING:
    from unblur.experiment.ranking import PreparedSplit
    from unblur.experiment.recipe.schema import Recipe
    from unblur.tuning.space import Dimension


@dataclass(frozen=True)
class Asked:
    """What the command line says of the search."""

    trials: int
    metric: str | None
    sampler: str
    seed: int | None
    params_file: Path | None
    ignore_unknown: bool
    as_named: bool = False
    """Whether given files keep their roles, in place of the order of time."""
    seconds: float | None = None
    pruner: str = "none"
    storage: str | None = None
    trainings: int = 1
    """Of how many trainings a setting of a synthesizer is the mean."""
    fixed: frozenset[str] = frozenset()
    """Paths of the model's settings that were given, which are not searched."""

    def searched(self, space: Sequence[Dimension]) -> tuple[Dimension, ...]:
        """The dimensions that are not fixed. Raises `RecipeError` where none is left."""
        left = tuple(entry for entry in space if entry.name not in self.fixed)
        if not left:
            raise RecipeError(
                "A search needs a setting that is free; --set gives all that there are: "
                f"{', '.join(entry.name for entry in space)}. Leave one out."
            )
        return left


def tune_trained(
    base: Recipe,
    asked: Asked,
    *,
    notes: Sequence[str],
    data: Path | None,
    out: Path | None,
    device: str,
    overwrite: bool,
) -> None:
    """A study of the recipe's model, kept on disk trial by trial; then one fit and one test of the winner."""
    from unblur import experiment, tuning
    from unblur.tuning.storage import shown_url

    space, remarks = _space(base, asked)
    for remark in remarks:
        terminal.note(f"note: {remark}")
    place = trials_folder(base, out) if asked.storage is None else None
    with ProgressDisplay() as progress:
        prepared = _prepared(base, data, progress, as_named=asked.as_named)
        model = prepared.recipe.model
        found = tuning.study(
            model,
            prepared.split,
            space,
            trials=asked.trials,
            metric=asked.metric or (model.stopping.metric if model.stopping else tuning.first_metric(base)),
            sampler=asked.sampler,
            seed=base.seed if asked.seed is None else asked.seed,
            folder=place,
            storage=asked.storage,
            name=base.name,
            seconds=asked.seconds,
            pruner=asked.pruner,
            device=device,
            progress=progress,
        )
        outcome = experiment.measure(
            prepared,
            chosen=found.spec,
            notes=(*notes, *remarks, *found.notes()),
            device=device,
            progress=progress,
        )
    print_trials(found.to_frame(), found.n_users)
    print_report(outcome.report)
    terminal.note(f"trials are kept in {shown_url(asked.storage) if asked.storage else place}")
    if out is not None:
        named = replace(outcome, recipe=_named(outcome.recipe))
        keep(named, out, trials=found.to_frame(), overwrite=overwrite)


def _space(base: Recipe, asked: Asked) -> tuple[tuple[Dimension, ...], tuple[str, ...]]:
    """What is searched: the lines of a tuning file, else the search space of the model's kind."""
    from unblur.tuning.space import dimensions_of

    if asked.params_file is None:
        return asked.searched(dimensions_of(base.model)), ()
    from unblur.compat.recbole.hyper_tuning import read_params, space_of_params

    return space_of_params(base.model, read_params(asked.params_file), ignore_unknown=asked.ignore_unknown)


def trials_folder(base: Recipe, out: Path | None) -> Path:
    """Where trials are kept: beside the output, else in the working folder under the recipe's name."""
    return (
        Path(f"tune-{base.name.replace('/', '-')}-trials")
        if out is None
        else out.absolute().with_name(f"{out.absolute().name}-trials")
    )


def _prepared(
    base: Recipe, data: Path | None, progress: ProgressDisplay, *, as_named: bool = False
) -> PreparedSplit:
    """The data split without a look ahead: given parts in the order of time (as named where that is asked for), any
    other split as it is."""
    from unblur import experiment
    from unblur.data.splits.specs import Files

    expects_nothing = base.without_numbers()
    if base.task.facts()["split"]["kind"] == Files.kind and not as_named:
        expects_nothing = expects_nothing.with_protocol(replace(base.protocol, kind="strict"))
    return experiment.prepare(expects_nothing, data=data, progress=progress)


def _named(recipe: Recipe) -> Recipe:
    """The recipe as that of a winner. No kind of its split or protocol changes: running it does not search."""
    return replace(
        recipe,
        name=f"{recipe.name}-tuned",
        title=f"{recipe.title}, hyper-parameters chosen on validation data".lstrip(", "),
    )
