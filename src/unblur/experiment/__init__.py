"""Running a recipe: data, fit, evaluation, report, and the folder that keeps them."""

from __future__ import annotations

from unblur.experiment.folder import check_place as check_place, write_folder as write_folder
from unblur.experiment.ranking import prepare as prepare
from unblur.experiment.reading import (
    Histories as Histories,
    limits_of as limits_of,
    read_histories as read_histories,
    read_parts as read_parts,
)
from unblur.experiment.running import (
    Outcome as Outcome,
    measure as measure,
    outcome_of as outcome_of,
    run as run,
)
from unblur.experiment.saved import evaluate_saved as evaluate_saved, fit as fit
