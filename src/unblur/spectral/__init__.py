"""Training-free models: filters of the item-item operator."""

from __future__ import annotations

from unblur.spectral.bspm import BSPM as BSPM
from unblur.spectral.bspm import LowPass as LowPass
from unblur.spectral.flow import Flow as Flow
