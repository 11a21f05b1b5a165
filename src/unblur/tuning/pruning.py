"""Ending a setting before its training is over, where those before it did better by then.

The rules are optuna's: the median of what earlier trials had come to after as many evaluations, and successive halving
without waiting (Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020). Evaluations are counted,
not epochs, so a rule means the same for every model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from unblur.errors import CapabilityError, SpecError, nearest

if TYPE_CHECKING:
    import optuna

    from unblur.tuning.journal import Trial

Pruner: TypeAlias = Literal["none", "median", "halving"]
PRUNERS: tuple[Pruner, ...] = ("none", "median", "halving")
Verdict: TypeAlias = Callable[[float], bool]
"""Takes what the next evaluation of a training came to, and says whether to end it."""

MEDIAN_TRIALS = 4
"""The median counts once so many trials are through."""
MEDIAN_EVALUATIONS = 3
"""The evaluation of a trial from which on the median may end it."""
FIRST_RUNG = 4
"""Evaluations at the first halving; the next come after three times as many each."""
KEPT_SHARE = 3
"""One of so many trials passes a rung."""


def check_pruner(name: str) -> Pruner:
    """The rule of that name. Raises `SpecError` where there is none, `CapabilityError` where it needs optuna."""
    for known in PRUNERS:
        if name == known:
            if known != "none":
                needed_optuna("Ending settings early")
            return known
    raise SpecError(f"A pruner must be one of {', '.join(PRUNERS)}; saw {name!r}.{nearest(name, PRUNERS)}")


def needed_optuna(what: str) -> None:
    """Raise `CapabilityError` where optuna is not installed; keep it from logging where it is."""
    try:
        import optuna
    except ImportError:
        raise CapabilityError(f"{what} needs optuna, which is not installed. Install unblur[tune].") from None
    optuna.logging.disable_default_handler()


def optuna_pruner(pruner: Pruner, first_rung: int = FIRST_RUNG) -> optuna.pruners.BasePruner:
    """Optuna's object for a rule; `first_rung` evaluations come before the first halving."""
    import optuna

    if pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=MEDIAN_TRIALS, n_warmup_steps=MEDIAN_EVALUATIONS)
    if pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first_rung, reduction_factor=KEPT_SHARE)
    return optuna.pruners.NopPruner()


def verdict_on(trial: optuna.trial.Trial) -> Verdict:
    """The verdict on a trial of optuna's, whose evaluations it counts."""
    evaluations = 0

    def says_stop(value: float) -> bool:
        nonlocal evaluations
        evaluations += 1
        trial.report(value, evaluations)
        return bool(trial.should_prune())

    return says_stop


def verdict_after(pruner: Pruner, earlier: Sequence[Trial], first_rung: int = FIRST_RUNG) -> Verdict:
    """The verdict on the trial that comes after some others: these are told to optuna again, evaluation by evaluation."""
    if pruner == "none":
        return lambda value: False
    import optuna

    study = optuna.create_study(direction="maximize", pruner=optuna_pruner(pruner, first_rung))
    for trial in earlier:
        asked = study.ask()
        told = verdict_on(asked)
        for value in trial.validations.values():
            told(value)
        if trial.value is not None:
            study.tell(asked, trial.value)
        else:
            state = optuna.trial.TrialState
            pruned = trial.pruned and trial.validations
            study.tell(asked, state=state.PRUNED if pruned else state.FAIL)
    return verdict_on(study.ask())
