"""Where a run keeps the state of its trainings, so that an interrupted one goes on."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from unblur.errors import RecipeError


def kept_in(checkpoints: str | Path | None, model: Any, seed: int) -> dict[str, Path]:
    """What `fit` of a model is given to keep its state in ``CHECKPOINTS/seed-N``; nothing without a folder.

    Raises `RecipeError` for a model that is not trained epoch by epoch.
    """
    if checkpoints is None:
        return {}
    if "checkpoints" not in signature(model.fit).parameters:
        raise RecipeError(
            f"Checkpoints keep the state of a training by epochs; {model.kind} has none. Leave --checkpoints out."
        )
    return {"checkpoints": Path(checkpoints) / f"seed-{seed}"}
