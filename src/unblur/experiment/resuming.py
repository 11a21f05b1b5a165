"""What `fit` of a spec is given beside its data, by what it takes."""

from __future__ import annotations

from typing import Any

from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split
from unblur.errors import RecipeError
from unblur.run import Run


def fit_options(model: Any, validation: Interactions | Split | None, run: Run) -> dict[str, Any]:
    """The keywords of `fit`, as far as it takes them."""
    options: dict[str, Any] = {"device": run.device, "progress": run.progress}
    if validation is not None and model.stops:
        options["validation"] = validation
    if run.checkpoints is not None and model.plans():
        options["checkpoints"] = run.checkpoints
    return options


def check_resumable(model: Any, run: Run) -> None:
    """Raise `RecipeError` where checkpoints are asked for and the model is not trained epoch by epoch."""
    if run.checkpoints is not None and not trained_by_epochs(model):
        raise RecipeError(
            f"Checkpoints keep the state of a training by epochs; {model.kind} has none. Leave --checkpoints out."
        )


def trained_by_epochs(model: Any) -> bool:
    """Whether the state of a training can be kept."""
    return bool(model.plans())
