"""Recipes: a TOML file that names data, split, model and protocol, and carries the numbers that must come
out."""

from __future__ import annotations

from unblur.recipe.library import load_recipe as load_recipe
from unblur.recipe.library import shipped as shipped
from unblur.recipe.parts import Data as Data
from unblur.recipe.parts import Protocol as Protocol
from unblur.recipe.parts import Published as Published
from unblur.recipe.parts import Verified as Verified
from unblur.recipe.schema import Recipe as Recipe
from unblur.recipe.settings import parse_setting as parse_setting
from unblur.recipe.settings import parse_settings as parse_settings
