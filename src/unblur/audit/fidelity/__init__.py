"""How like the real users the synthetic ones are, beside how like each other two real samples are."""

from __future__ import annotations

from unblur.audit.fidelity.comparison import Curves as Curves
from unblur.audit.fidelity.comparison import Fidelity as Fidelity
from unblur.audit.fidelity.comparison import Likeness as Likeness
from unblur.audit.fidelity.comparison import fidelity as fidelity
from unblur.audit.fidelity.statistics import STATISTICS as STATISTICS
from unblur.audit.fidelity.validity import Check as Check
from unblur.audit.fidelity.validity import validity as validity
