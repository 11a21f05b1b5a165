"""Choosing hyper-parameters on interactions held out of train, and on nothing else."""

from __future__ import annotations

from unblur.tuning.hold_outs import HoldOut as HoldOut
from unblur.tuning.hold_outs import dispersion as dispersion
from unblur.tuning.search import Search as Search
from unblur.tuning.search import first_metric as first_metric
from unblur.tuning.search import search as search
from unblur.tuning.space import SPACES as SPACES
from unblur.tuning.space import Choice as Choice
from unblur.tuning.space import Dimension as Dimension
from unblur.tuning.space import Range as Range
from unblur.tuning.space import dimensions_of as dimensions_of
from unblur.tuning.study import Study as Study
from unblur.tuning.study import study as study
