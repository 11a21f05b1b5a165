"""Training-free models: filters of the item-item operator."""

from __future__ import annotations

from unblur.models.spectral.bspm import BSPM as BSPM, LowPass as LowPass
from unblur.models.spectral.chebycf import ChebyCF as ChebyCF
from unblur.models.spectral.flow import Flow as Flow
from unblur.models.spectral.low_pass import IdealLowPass as IdealLowPass
from unblur.models.spectral.operator import DegreePowers as DegreePowers
