"""The noise schedule, and the closed forms that follow from it.

Steps are counted from 0, the least noisy, to T − 1. Notation (paper → here; Wang et al., SIGIR 2023, section
3.1, and Ho et al., NeurIPS 2020): β_t → `betas`, ᾱ_t → `alpha_bar`, √ᾱ_t → `signal`, √(1 − ᾱ_t) → `noise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat

from unblur.errors import SpecError
from unblur.spec import Steps, spec

Floats: TypeAlias = NDArray[np.float64]

MOST_BETA = 0.999
"""The cap on β if it follows from ᾱ, so that some signal survives every step."""
FIRST_BETA = 1e-5
"""β of the first step under `fixed_first`."""


@spec(renamed={"lowest": "noise_min", "highest": "noise_max"})
class Schedule:
    """The number of noise steps, and the noise of each."""

    name: Literal["linear", "linear-var", "cosine", "binomial"] = "linear"
    """The rule for β or ᾱ (the authors' option `noise_schedule`); the function `noise_schedule` below states each."""
    steps: Steps = 5
    """T, `steps`: the number of diffusion steps."""
    scale: NonNegativeFloat = 0.001
    """s, `noise_scale`: multiplies `noise_min` and `noise_max`. 0 means no noise: the denoiser is applied T
    times."""
    noise_min: NonNegativeFloat = 0.0005
    """α_min: where ``linear`` (β) and ``linear-var`` (the variance 1 − ᾱ) begin, times
    `scale`."""
    noise_max: PositiveFloat = 0.005
    """α_max: where they end, times `scale`."""
    fixed_first: bool = True
    """β of the first step is 1e-5 under any rule: `beta_fixed`. The authors have it on, off for latent models."""

    def __post_init__(self) -> None:
        if self.noiseless or self.name not in ("linear", "linear-var"):
            return
        constant = self.name == "linear" and self.noise_min == self.noise_max
        SpecError.unless(
            self.noise_min < self.noise_max or constant,
            f"`noise_min` must be below `noise_max`, or equal to it for constant β under linear; saw {self.noise_min} "
            f"and {self.noise_max}. Swap them, or move them apart.",
        )
        noise_schedule(self)  # raises if a β leaves (0, 1]

    @property
    def noiseless(self) -> bool:
        """True if no noise is added at all (`scale` is 0)."""
        return self.scale == 0


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """``x_t = signal[t]·x_0 + noise[t]·ε`` for the steps t = 0 … T − 1; float64 and read-only."""

    betas: Floats
    """β_t, (T,), each in (0, 1]: the variance that step t adds."""

    def __post_init__(self) -> None:
        betas = np.asarray(self.betas, dtype=np.float64)
        # 1 − β < 1, not β > 0: a β that rounding swallows would leave 1 − ᾱ at 0, and the posterior 0/0.
        if betas.ndim != 1 or not len(betas) or not bool(((1 - betas < 1) & (betas <= 1)).all()):
            seen = f"{betas.min():.3g} to {betas.max():.3g}" if betas.size else "none"
            raise SpecError(
                f"Each β must lie in (0, 1]; saw {seen}. Lower `scale` or `noise_max`, and keep `noise_min` "
                "above 0."
            )
        object.__setattr__(self, "betas", _frozen(betas))

    @classmethod
    def from_alpha_bar(cls, alpha_bar: Floats) -> NoiseSchedule:
        """Return the schedule with these ᾱ_t, (T,); each β is capped at 0.999."""
        values = np.asarray(alpha_bar, dtype=np.float64)
        before = np.concatenate(([1.0], values[:-1]))
        return cls(np.minimum(1 - values / before, MOST_BETA))

    @property
    def steps(self) -> int:
        """T."""
        return len(self.betas)

    @cached_property
    def alpha_bar(self) -> Floats:
        """ᾱ_t = Π_{s ≤ t} (1 − β_s), (T,): the fraction of the variance that is still signal."""
        return _frozen(np.cumprod(1 - self.betas))

    @cached_property
    def alpha_bar_before(self) -> Floats:
        """ᾱ_{t−1}, (T,), 1 at the first step."""
        return _frozen(np.concatenate(([1.0], self.alpha_bar[:-1])))

    @cached_property
    def signal(self) -> Floats:
        """√ᾱ_t, (T,)."""
        return _frozen(np.sqrt(self.alpha_bar))

    @cached_property
    def noise(self) -> Floats:
        """√(1 − ᾱ_t), (T,)."""
        return _frozen(np.sqrt(1 - self.alpha_bar))

    @cached_property
    def signal_to_noise(self) -> Floats:
        """SNR(t) = ᾱ_t / (1 − ᾱ_t), (T,)."""
        return _frozen(self.alpha_bar / (1 - self.alpha_bar))

    @cached_property
    def posterior_clean(self) -> Floats:
        """The weight of x_0 in the mean of q(x_{t−1} | x_t, x_0), (T,): √ᾱ_{t−1}·β_t / (1 − ᾱ_t); 1 at the first."""
        return _frozen(np.sqrt(self.alpha_bar_before) * self.betas / (1 - self.alpha_bar))

    @cached_property
    def posterior_noisy(self) -> Floats:
        """The weight of x_t in that mean, (T,): √(1 − β_t)·(1 − ᾱ_{t−1}) / (1 − ᾱ_t); 0 at the first."""
        return _frozen(np.sqrt(1 - self.betas) * (1 - self.alpha_bar_before) / (1 - self.alpha_bar))

    @cached_property
    def posterior_variance(self) -> Floats:
        """The variance of q(x_{t−1} | x_t, x_0), (T,): β_t·(1 − ᾱ_{t−1}) / (1 − ᾱ_t); 0 at the first."""
        return _frozen(self.betas * (1 - self.alpha_bar_before) / (1 - self.alpha_bar))


def noise_schedule(settings: Schedule) -> NoiseSchedule:
    """Return the schedule that the settings describe; t = 0 … T − 1.

    - ``linear``: β_t from `scale`·`noise_min` to `scale`·`noise_max`, evenly.
    - ``linear-var``: the variances 1 − ᾱ_t run so; β follows, capped at 0.999.
    - ``cosine``: ᾱ(u) = cos²((u + 0.008)/1.008 · π/2), β_t = 1 − ᾱ((t + 1)/T) / ᾱ(t/T), capped at 0.999
      (Nichol and Dhariwal, ICML 2021).
    - ``binomial``: β_t = 1/(T − t + 1), that is 1/(T + 1) … 1/2, as in the authors' code (Sohl-Dickstein et
      al., ICML 2015, count t from 1, and end with no signal at all).

    Raises `SpecError` when a β leaves (0, 1], or when `scale` is 0 and there is no noise to schedule.
    """
    steps, bounds = settings.steps, (settings.scale * settings.noise_min, settings.scale * settings.noise_max)
    SpecError.unless(
        not settings.noiseless,
        "A noise schedule needs a `scale` above 0; saw 0. Without noise there is no schedule.",
    )
    if settings.name == "linear":
        schedule = NoiseSchedule(np.linspace(*bounds, steps))
    elif settings.name == "linear-var":
        schedule = NoiseSchedule.from_alpha_bar(1 - np.linspace(*bounds, steps))
    elif settings.name == "cosine":
        signal_variance = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        schedule = NoiseSchedule(np.minimum(1 - signal_variance[1:] / signal_variance[:-1], MOST_BETA))
    else:
        schedule = NoiseSchedule(1 / (steps - np.arange(steps) + 1))
    if not settings.fixed_first:
        return schedule
    return NoiseSchedule(np.concatenate(([FIRST_BETA], schedule.betas[1:])))


def _frozen(values: NDArray[np.floating[Any]]) -> Floats:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array
