"""The accountant against opacus' own, step by step."""

from __future__ import annotations

from typing import Any

import pytest

from unblur.errors import SpecError
from unblur.privacy.accountant import Privacy, Release, Stage, planned, spent


@pytest.mark.filterwarnings("ignore:Optimal order")
def test_the_spent_budget_equals_opacus_step_by_step(opacus: Any) -> None:
    theirs = opacus()
    theirs.step(noise_multiplier=6.0, sample_rate=1.0)
    for _ in range(40):
        theirs.step(noise_multiplier=1.1, sample_rate=0.05)
    for _ in range(30):
        theirs.step(noise_multiplier=1.1, sample_rate=0.1)
    ours = spent([Release(6.0, 1.0, 1), Release(1.1, 0.05, 40), Release(1.1, 0.1, 30)], 1e-4)
    assert ours == pytest.approx(theirs.get_epsilon(1e-4), rel=1e-9)


@pytest.mark.usefixtures("opacus")
@pytest.mark.parametrize("epsilon", [0.5, 8.0])
def test_the_least_noise_that_keeps_the_budget(epsilon: float) -> None:
    stages = [Stage("one", 1000, 100, 5), Stage("two", 1000, 250, 3)]
    plan = planned(Privacy(epsilon=epsilon, delta=1e-4), stages)
    assert [stage.updates for stage in stages] == [50, 12]
    assert 0.97 * epsilon < plan.spent <= epsilon
    assert spent(plan.releases[:1], 1e-4) <= 0.1 * epsilon
    less = [Release(plan.noise * 0.98, stage.rate, stage.updates) for stage in stages]
    assert spent([plan.releases[0], *less], 1e-4) > epsilon
    assert spent(plan.releases, 1e-4) > spent(plan.releases[1:], 1e-4)


@pytest.mark.usefixtures("opacus")
def test_a_budget_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(SpecError, match=r"privacy budget must be one that some noise keeps.*Raise `epsilon`"):
        planned(Privacy(epsilon=1e-9, delta=1e-9), [Stage("one", 100, 50, 5)])
