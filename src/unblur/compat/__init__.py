"""The papers' own command lines, translated to recipes."""

from __future__ import annotations

from unblur.compat.translation import SYSTEMS as SYSTEMS
from unblur.compat.translation import Translation as Translation
from unblur.compat.translation import translate as translate
