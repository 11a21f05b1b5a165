"""Running a recipe: data, fit, evaluation, report, and the folder that keeps them. Names are loaded when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unblur.registry import lazily

if TYPE_CHECKING:
    from unblur.experiment.folder import check_place as check_place, write_folder as write_folder
    from unblur.experiment.ranking import prepare as prepare
    from unblur.experiment.reading import (
        Histories as Histories,
        items_in as items_in,
        limits_of as limits_of,
        read_histories as read_histories,
        read_parts as read_parts,
        read_train as read_train,
    )
    from unblur.experiment.running import (
        Outcome as Outcome,
        measure as measure,
        outcome_of as outcome_of,
        run as run,
    )
    from unblur.experiment.saved import (
        evaluate_saved as evaluate_saved,
        fit as fit,
        kept_reading as kept_reading,
    )
    from unblur.experiment.updating import UpdatedModel as UpdatedModel, update_saved as update_saved

_HOMES = {
    "Histories": "unblur.experiment.reading",
    "Outcome": "unblur.experiment.running",
    "UpdatedModel": "unblur.experiment.updating",
    "check_place": "unblur.experiment.folder",
    "evaluate_saved": "unblur.experiment.saved",
    "fit": "unblur.experiment.saved",
    "items_in": "unblur.experiment.reading",
    "kept_reading": "unblur.experiment.saved",
    "limits_of": "unblur.experiment.reading",
    "measure": "unblur.experiment.running",
    "outcome_of": "unblur.experiment.running",
    "prepare": "unblur.experiment.ranking",
    "read_histories": "unblur.experiment.reading",
    "read_parts": "unblur.experiment.reading",
    "read_train": "unblur.experiment.reading",
    "run": "unblur.experiment.running",
    "update_saved": "unblur.experiment.updating",
    "write_folder": "unblur.experiment.folder",
}
__all__ = [*_HOMES]
__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
