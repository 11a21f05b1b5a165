"""RecBole's entry points for DiffRec and LDiffRec, its configuration and its tuning files.

``run_recbole(model="DiffRec", dataset="ml-100k")`` does here what it does there: the same protocol, names and
defaults, on this library's models. Nothing of RecBole is needed or used. `docs/recbole.md` lists the options.
"""

from __future__ import annotations

from unblur.compat.recbole.configuration import Configuration as Configuration
from unblur.compat.recbole.configuration import configure as configure
from unblur.compat.recbole.hyper_tuning import HyperTuning as HyperTuning
from unblur.compat.recbole.hyper_tuning import run_hyper as run_hyper
from unblur.compat.recbole.params_file import read_params as read_params
from unblur.compat.recbole.params_file import space_of_params as space_of_params
from unblur.compat.recbole.running import Loaded as Loaded
from unblur.compat.recbole.running import load_data_and_model as load_data_and_model
from unblur.compat.recbole.running import objective_function as objective_function
from unblur.compat.recbole.running import run_recbole as run_recbole
