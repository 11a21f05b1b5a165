"""Choosing hyper-parameters on interactions held out of train, and on nothing else."""

from __future__ import annotations

from unblur.tuning.hold_outs import HoldOut as HoldOut
from unblur.tuning.hold_outs import dispersion as dispersion
from unblur.tuning.search import Search as Search
from unblur.tuning.search import first_metric as first_metric
from unblur.tuning.search import search as search
