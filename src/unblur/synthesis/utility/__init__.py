"""What synthetic users are worth: recommenders trained with them, measured on real users."""

from __future__ import annotations

from unblur.synthesis.utility.arms import Measured as Measured
from unblur.synthesis.utility.arms import measure_arm as measure_arm
from unblur.synthesis.utility.arms import training_rows as training_rows
from unblur.synthesis.utility.runs import UtilityRun as UtilityRun
from unblur.synthesis.utility.runs import measurements_of as measurements_of
from unblur.synthesis.utility.settings import Departures as Departures
from unblur.synthesis.utility.settings import Utility as Utility
from unblur.synthesis.utility.users import Rated as Rated
from unblur.synthesis.utility.users import UserGroups as UserGroups
from unblur.synthesis.utility.users import grouped as grouped
from unblur.synthesis.utility.users import stacked as stacked
