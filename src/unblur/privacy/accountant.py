"""The noise that a privacy budget requires: several releases about the same users, composed in one accountant.

The accountant is that of Rényi differential privacy for Poisson-sampled Gaussian noise (Mironov, Talwar and
Zhang, arXiv 1908.10530), as opacus has it. It holds for batches in which each user is with the same probability,
independently (Poisson sampling), and for neighbouring data that differ in one user, added or removed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from unblur.errors import CapabilityError, SpecError
from unblur.privacy.clipping import Uses, clipped_gradients
from unblur.spec import spec


@dataclass(frozen=True, eq=False)
class NoisySums:
    """Sums of gradients over Poisson samples of users: each gradient clipped to a norm, the sum with Gaussian noise."""

    noise: float
    """σ: the standard deviation of the noise over `clip_norm`, the most that one user can change."""
    clip_norm: float
    secret: np.random.Generator
    """The generator of samples and noise. Whoever can predict it undoes the privacy."""

    def sample(self, stage: Stage) -> NDArray[np.intp]:
        """Draw the users of one batch, by position: each is in it with probability `stage.rate`, independently."""
        return np.flatnonzero(self.secret.random(stage.n_users) < stage.rate)

    def gradients(
        self, parameters: Sequence[nn.Parameter], losses: Tensor | None, uses: Uses
    ) -> list[Tensor]:
        """Return the noisy sum of the clipped gradients of losses, (n,); noise alone if nobody was sampled."""
        sums = (
            [torch.zeros_like(parameter) for parameter in parameters]
            if losses is None
            else clipped_gradients(parameters, losses, uses, self.clip_norm)
        )
        return [
            # NumPy draws, since torch's generators on a CPU use only 32 bits of a seed, which can be tried one by one.
            total.add(
                torch.from_numpy(self.secret.standard_normal(tuple(total.shape), dtype=np.float32)).to(
                    total.device
                ),
                alpha=self.noise * self.clip_norm,
            )
            for total in sums
        ]


def noisy_counts(
    users_with: NDArray[np.float64],
    n_items: int,
    *,
    n_users: int,
    deviation: float,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the numbers of users with 0, 1, … `n_items` items, with Gaussian noise in bins that widen with the number.

    `users_with` are the exact numbers. One user is in one bin, so the most that one can change is 1. Counts below
    √(2·ln n_bins) deviations, which the largest of as many noises is likely to reach (the universal threshold of Donoho
    and Johnstone, Biometrika 81, 1994), become 0: with a threshold of 0, the many empty bins of users with more items
    than anybody has would add up. The rest is scaled to the number of users, which is public, and spread evenly over
    the numbers of a bin.
    """
    # Each bin is a quarter wider than the last, chosen by hand: wide bins have less noise for each user in them, narrow ones
    # more detail.
    edges = [0, 1]
    while edges[-1] <= n_items:
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.25)))
    exact = np.zeros(edges[-1])
    exact[: len(users_with)] = users_with
    noisy = np.add.reduceat(exact, edges[:-1])
    noisy += random.normal(0, deviation, len(noisy))
    noisy[noisy < math.sqrt(2 * math.log(len(noisy))) * deviation] = 0
    counts = np.zeros(n_items + 1)
    for (start, stop), count in zip(pairwise(edges), noisy, strict=True):
        numbers = slice(start, min(stop, n_items + 1))
        counts[numbers] = count / max(1, numbers.stop - start)
    # So few users that no count reaches the threshold: then up to 1 % of the items, at least one, are assumed.
    if not counts.sum():
        counts[1 : 2 + n_items // 100] = 1.0
    return np.asarray(counts * (n_users / counts.sum()), dtype=np.float64)


FURTHER_ORDERS = (96, 128, 192, 256, 384, 512, 768, 1024)
"""Rényi orders beyond opacus' own, which alone cannot tell costs below some 0.1 from each other."""
MOST_NOISE = 1e4
"""A budget that needs a noise multiplier above this is refused: a release with it would be noise alone."""


@spec(renamed={"counts_share": "counts_fraction"})
class Privacy:
    """Differential privacy by DP-SGD (Abadi et al., CCS 2016), needs the extra `privacy`.

    It protects one user with all of his or her interactions: the log-probability of any result changes by at most
    ``epsilon`` (but for a probability of ``delta``) with one user added or removed.
    """

    epsilon: PositiveFloat
    """ε of all that is released: autoencoder, diffusion and the counts that discretisation needs, composed."""
    delta: Annotated[float, Field(gt=0, lt=1)]
    """δ; it must be below one over the number of users, and should be well below it."""
    clip_norm: PositiveFloat = 1.0
    """The L2 norm that each user's gradient is clipped to."""
    counts_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The fraction of ε that the noisy counts of items per user may cost by themselves."""
    public_items: bool = False
    """Whether the item labels are from a public list, and not from the users' data. If not, no ε is stated: a label may be
    that of one user alone, and it is in the sample."""


@dataclass(frozen=True)
class Release:
    """A number of Gaussian releases, each about a Poisson sample of the users."""

    noise: float
    """σ: the standard deviation of the noise over the most that one user can change."""
    rate: float
    """The probability that a user is in the sample; 1 if all are."""
    times: int


@dataclass(frozen=True)
class Stage:
    """A training by DP-SGD, before its noise is known."""

    name: str
    n_users: int
    batch_size: int
    epochs: int

    @property
    def rate(self) -> float:
        """The probability that a user is in a batch."""
        return self.batch_size / self.n_users

    @property
    def updates(self) -> int:
        """The number of batches that are drawn."""
        return self.epochs * math.ceil(self.n_users / self.batch_size)


@dataclass(frozen=True)
class Accounting:
    """A budget, its releases, and their noise."""

    privacy: Privacy
    stages: tuple[Stage, ...]
    noise: float
    """σ of DP-SGD, the same in all stages."""
    counts_deviation: float
    """The standard deviation of the noise on each count of users by their number of items."""

    @property
    def releases(self) -> tuple[Release, ...]:
        """All that was released about the users."""
        trained = (Release(self.noise, stage.rate, stage.updates) for stage in self.stages)
        return (Release(self.counts_deviation, 1.0, 1), *trained)

    @property
    def spent(self) -> float:
        """ε at the budget's δ."""
        return spent(self.releases, self.privacy.delta)

    def notes(self, broken: Sequence[str] = ()) -> tuple[str, ...]:
        """ε and its assumptions in words, or that there is no guarantee, with the conditions that are broken."""
        if broken:
            reasons = "; ".join(broken)
            noise = f"multiplier {self.noise:.4g}, gradients of users cut to norm {self.privacy.clip_norm:g}"
            return (
                f"No guarantee of differential privacy, because {reasons}. Noise was added in training ({noise}).",
            )
        named = "; ".join(
            f"{stage.name}: {stage.updates:,} batches, each user in a batch with probability {stage.rate:.4g}"
            for stage in self.stages
        )
        guaranteed = (
            f"Differential privacy: ε = {self.spent:.3g} at δ = {self.privacy.delta:g} for one user added or removed "
            f"with everything that he or she did, for all that was learned together ({named}; noise multiplier "
            f"{self.noise:.4g}, gradients of users cut to norm {self.privacy.clip_norm:g}; counts of users by "
            f"number of items with noise of deviation {self.counts_deviation:.4g})."
        )
        assumed = (
            "This ε is an upper bound of the Rényi accountant for Poisson-sampled Gaussian noise. It assumes "
            "that the number of users, the item vocabulary and all settings are public and were not chosen by "
            "these data, that no second model of them was published, and that noise is drawn from a generator "
            "that nobody can predict: NumPy's is no cryptographic one, and a known seed voids the guarantee. "
            "Floating-point effects are not accounted for."
        )
        return (guaranteed, assumed)


def accountant() -> type[Any]:
    """Return the accountant's class. Raises `CapabilityError` if opacus is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from opacus.accountants import RDPAccountant
    except ImportError:
        raise CapabilityError(
            "Differential privacy needs opacus, which is not installed. "
            "Install it with `pip install 'unblur[privacy]'`."
        ) from None
    return cast("type[Any]", RDPAccountant)


def spent(releases: Sequence[Release], delta: float) -> float:
    """Return ε of all releases together at δ."""
    account = accountant()()
    account.history = [(release.noise, release.rate, release.times) for release in releases]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about orders above the largest tried, which might give a smaller ε
        return float(account.get_epsilon(delta, alphas=[*account.DEFAULT_ALPHAS, *FURTHER_ORDERS]))


def planned(privacy: Privacy, stages: Sequence[Stage]) -> Accounting:
    """Return the accounting with the least noise that keeps the budget, to one part in a thousand.

    Raises `SpecError` for a budget that no noise keeps, and `CapabilityError` without opacus.
    """
    counts = gaussian_deviation(privacy.epsilon * privacy.counts_fraction, privacy.delta)
    plan = partial(Accounting, privacy, tuple(stages), counts_deviation=counts)
    # The noise is doubled until the budget is kept, and then bisected by its logarithm, from above: the result keeps it.
    low, high = 0.05, 1.0
    while plan(high).spent > privacy.epsilon:
        low, high = high, high * 2
        if high > MOST_NOISE:
            raise SpecError(
                f"A privacy budget must be one that some noise keeps; a cost of {privacy.epsilon:g} needs more than "
                f"{MOST_NOISE:g} times what one user can change. Raise `epsilon` or `delta`, or train fewer epochs."
            )
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if plan(middle).spent > privacy.epsilon else (low, middle)
    return plan(high)


def gaussian_deviation(epsilon: float, delta: float) -> float:
    """Return σ of one Gaussian release that costs at most ε at δ.

    ε = 1/(2σ²) + √(2·ln(1/δ))/σ (Bun and Steinke, TCC 2016, proposition 1.3), solved for σ.
    """
    tail = 2 * math.log(1 / delta)
    return 1 / (math.sqrt(tail + 2 * epsilon) - math.sqrt(tail))
