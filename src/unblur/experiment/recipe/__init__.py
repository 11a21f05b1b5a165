"""Recipes: a TOML file that names data, split, model and protocol, and carries the numbers that must come
out."""

from __future__ import annotations

from unblur.experiment.recipe.library import load_recipe as load_recipe
from unblur.experiment.recipe.library import shipped as shipped
from unblur.experiment.recipe.parts import Data as Data
from unblur.experiment.recipe.parts import Protocol as Protocol
from unblur.experiment.recipe.parts import Published as Published
from unblur.experiment.recipe.parts import Verified as Verified
from unblur.experiment.recipe.schema import Recipe as Recipe
from unblur.experiment.recipe.settings import parse_setting as parse_setting
from unblur.experiment.recipe.settings import parse_settings as parse_settings
