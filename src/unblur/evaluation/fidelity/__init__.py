"""How like the real users the synthetic ones are, beside how like each other two real samples are."""

from __future__ import annotations

from unblur.evaluation.fidelity.comparison import Curves as Curves
from unblur.evaluation.fidelity.comparison import Fidelity as Fidelity
from unblur.evaluation.fidelity.comparison import Likeness as Likeness
from unblur.evaluation.fidelity.comparison import fidelity as fidelity
from unblur.evaluation.fidelity.statistics import STATISTICS as STATISTICS
from unblur.evaluation.fidelity.validity import Check as Check
from unblur.evaluation.fidelity.validity import validity as validity
