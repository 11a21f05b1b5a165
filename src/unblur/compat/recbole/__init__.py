"""RecBole's entry points for DiffRec and LDiffRec, its configuration and its tuning files.

``run_recbole(model="DiffRec", dataset="ml-100k")`` does here what it does there: the same protocol, names and
defaults, on this library's models. Nothing of RecBole is needed or used. `docs/reference/recbole-options.md` lists the options.
"""

from __future__ import annotations

from unblur.compat.recbole.configuration import Configuration, configure
from unblur.compat.recbole.running import (
    Loaded,
    load_data_and_model,
    objective_function,
    run,
    run_recbole,
    run_recboles,
)
from unblur.compat.recbole.tuning import HyperTuning, read_params, run_hyper, space_of_params

__all__ = [
    "Configuration",
    "HyperTuning",
    "Loaded",
    "configure",
    "load_data_and_model",
    "objective_function",
    "read_params",
    "run",
    "run_hyper",
    "run_recbole",
    "run_recboles",
    "space_of_params",
]
