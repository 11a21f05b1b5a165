"""What a search of synthesizers tries: the space of the SDRM authors' search, with the published setting first.

One training says little of a setting: on a hundred users two trainings of the same one differ by more than most settings
do. So a setting is judged by the mean over several, and successive halving goes over these: what does badly in its first
training gets no second one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from unblur.errors import SpecError
from unblur.progress import Progress, ProgressEvent, silent
from unblur.spec import spec_to_dict
from unblur.tuning.journal import Journal, Trial
from unblur.tuning.pruning import Verdict, check_pruner, verdict_after
from unblur.tuning.sampling import check_sampler, propose_beside, trials_beside
from unblur.tuning.space import Choice, Dimension, Range, point_of
from unblur.tuning.study import Study
from unblur.tuning.trials import inside

Attempt: TypeAlias = Callable[[int, dict[str, Any], Verdict], Trial]
"""Fits and judges one point: (the trial's number, the point, what may end it early) → the finished trial."""
FIRST_TRAININGS = 1
"""Trainings at the first halving; the next come after three times as many each."""


def _whole(value: float) -> int:
    return round(value)


def _steps(path: str, low: int, high: int, step: int) -> Dimension:
    return Dimension(path, Range(low, high, step), (path,), _whole)


def _rate(path: str, low: float, high: float) -> Dimension:
    return Dimension(path, Range(math.log(low), math.log(high), logarithmic=True), (path,))


_AUTOENCODER: tuple[Dimension, ...] = (
    _steps("vae.latent", 20, 1000, 10),
    _steps("vae.hidden", 20, 1000, 10),
    _rate("vae.optimizer.learning_rate", 1e-4, 1e-2),
    _steps("vae.batch_size", 30, 1000, 10),
)
_DIFFUSION: tuple[Dimension, ...] = (
    _steps("diffusion.epochs", 5, 501, 5),
    _rate("diffusion.optimizer.learning_rate", 1e-6, 1e-4),
    _steps("diffusion.hidden_layers", 0, 5, 1),
    _steps("diffusion.steps", 3, 200, 1),
    Dimension(
        "diffusion.noise_variance_diminisher",
        Choice((1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.01)),
        ("diffusion.noise_variance_diminisher",),
    ),
    _steps("diffusion.batch_size", 30, 1000, 10),
)
_OWN_DIFFUSION: tuple[Dimension, ...] = (
    _steps("diffusion.epochs", 20, 500, 20),
    _rate("diffusion.optimizer.learning_rate", 1e-4, 1e-2),
    _steps("diffusion.hidden_layers", 0, 5, 1),
    _steps("diffusion.steps", 10, 200, 1),
    _rate("diffusion.highest", 0.02, 0.3),
    _steps("diffusion.batch_size", 30, 1000, 10),
)
"""Of chains that guess the noise or the velocity, which learn a hundred times faster than by the authors' objective."""
SYNTHESIZER_SPACES: Mapping[str, Sequence[Dimension]] = {
    "sdrm": (*_DIFFUSION, *_AUTOENCODER),
    "multi-vae": _AUTOENCODER,
}
"""The search space of each kind of synthesizer that has one (Lilienthal et al. 2024, section 5). Their hidden layer
is never narrower than the latent and their steps come in fives; both are free here."""


def synthesizer_dimensions(base: Any) -> tuple[Dimension, ...]:
    """The search space of a synthesizer's spec. Raises `SpecError` for a kind that has none."""
    if base.kind not in SYNTHESIZER_SPACES:
        raise SpecError(
            f"A search needs a space; there is one for {', '.join(SYNTHESIZER_SPACES)}, and none for {base.kind}. "
            "Run it as it is."
        )
    space = SYNTHESIZER_SPACES[base.kind]
    if base.kind == "sdrm" and base.diffusion.objective != "sdrm":
        space = (*_OWN_DIFFUSION, *_AUTOENCODER)
    tree = spec_to_dict(base)
    return tuple(entry for entry in space if inside(tree, entry.name))


def explore(
    base: Any,
    space: Sequence[Dimension],
    attempt: Attempt,
    *,
    trials: int,
    metric: str,
    sampler: str,
    seed: int,
    facts: Mapping[str, Any],
    n_users: int,
    how: str,
    pruner: str = "none",
    folder: str | Path | None = None,
    progress: Progress = silent,
) -> Study:
    """Up to `trials` points of a space, no more than there are, `base` itself first, each fitted and judged by `attempt`.

    - `facts`: plain values of the data and of how is judged, in which a study that is gone on with must agree.
    - `n_users`, `how`: on how many users settings are judged, and who they are, for reports.
    - `pruner`: which settings get no further training; see `tuning.PRUNERS`.
    - `folder`: keeps each trial as it ends; the same call goes on after the last finished one (see `study`).

    Raises `SpecError` for fewer trials than 1, a sampler or a pruner that there is not, `ArtifactError` for a folder of
    another study.
    """
    if trials < 1:
        raise SpecError(f"A study needs at least 1 trial; saw {trials}. Raise it.")
    kind, rule = check_sampler(sampler, space), check_pruner(pruner)
    first = point_of(base, space)
    trials = trials_beside(first, kind, space, trials)
    identity = {
        "schema": 1,
        "model": {"kind": base.kind, **spec_to_dict(base)},
        "space": [dimension.to_dict() for dimension in space],
        "metric": metric,
        "sampler": kind,
        "seed": seed,
        **facts,
        **({} if rule == "none" else {"pruner": rule}),
    }
    journal = None if folder is None else Journal(Path(folder))
    done = ([] if journal is None else journal.open(identity))[:trials]
    while len(done) < trials:
        values = [trial.value for trial in done if trial.value is not None]
        progress(
            ProgressEvent("trials", len(done), trials, {f"best {metric}": max(values)} if values else {})
        )
        earlier = [(trial.point, _worth(trial)) for trial in done]
        point = propose_beside(first, kind, space, len(done), seed, earlier)
        trial = attempt(len(done), point, verdict_after(rule, done, FIRST_TRAININGS))
        if journal is not None:
            journal.add(trial)
        done.append(trial)
    progress(ProgressEvent("trials", trials, trials))
    return Study(metric, base, tuple(space), tuple(done), n_users, how)


def _worth(trial: Trial) -> float | None:
    """The mean over all its trainings, or over those that it had; `None` where it could not be fitted."""
    return next(reversed(list(trial.validations.values())), None) if trial.pruned else trial.value
