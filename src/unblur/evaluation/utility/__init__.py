"""What synthetic users are worth: recommenders trained with them, measured on real users."""

from __future__ import annotations

from unblur.evaluation.utility.arms import Measured as Measured
from unblur.evaluation.utility.arms import measure_arm as measure_arm
from unblur.evaluation.utility.arms import training_rows as training_rows
from unblur.evaluation.utility.runs import UtilityRun as UtilityRun
from unblur.evaluation.utility.runs import measurements_of as measurements_of
from unblur.evaluation.utility.settings import Departures as Departures
from unblur.evaluation.utility.settings import Utility as Utility
from unblur.evaluation.utility.users import Rated as Rated
from unblur.evaluation.utility.users import UserGroups as UserGroups
from unblur.evaluation.utility.users import grouped as grouped
from unblur.evaluation.utility.users import stacked as stacked
from unblur.evaluation.utility.worth import Worth as Worth
from unblur.evaluation.utility.worth import best_taught as best_taught
from unblur.evaluation.utility.worth import worth as worth
