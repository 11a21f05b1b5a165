"""What a found guess is worth: attack, naive baseline and control, and the risk that is left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy import stats

from unblur.audit.attacks.rates import Share, Unmeasured
from unblur.evaluation.significance import holm


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """How often guesses were right: about members, about outsiders, and without the synthetic set.

    Only what is right about members more often than about outsiders comes from their having been in training;
    the rest is what the synthetic set says about people in general.
    """

    attack: Share
    """Right guesses about members."""
    control: Share | Unmeasured
    """Right guesses about outsiders, made in the same way."""
    baseline: Share
    """Right guesses about members, made without looking at individual synthetic users."""

    @property
    def excess(self) -> tuple[float, float, float] | Unmeasured:
        """(value, low, high): the right guesses about members beyond those about outsiders, as a share of what could
        still go wrong, (attack − control) / (1 − control), and not below −1; the interval by the square-and-add rule of
        Newcombe (1998).
        """
        if isinstance(self.control, Unmeasured):
            return self.control
        one, other = self.attack, self.control
        room = max(1e-12, 1 - other.value)
        gap = one.value - other.value
        down = math.hypot(one.value - one.low, other.high - other.value)
        up = math.hypot(one.high - one.value, other.value - other.low)
        value, low, high = (max(-1.0, min(1.0, each / room)) for each in (gap, gap - down, gap + up))
        return value, low, high

    @property
    def attack_is_weak(self) -> bool:
        """Whether the attack is no better than the naive baseline, so that nothing follows from its failing."""
        return self.attack.value <= self.baseline.value


def excess_of(guess: Guesses | Unmeasured) -> tuple[float, float, float] | Unmeasured:
    """The excess of guesses, or why there is none."""
    return guess if isinstance(guess, Unmeasured) else guess.excess


def beyond_chance(guesses: Mapping[str, Guesses | Unmeasured]) -> set[str]:
    """Those with an excess that so many tries would not have by chance: one-sided at 5 % in all, by Holm (1979)."""
    found = {name: excess_of(guess) for name, guess in guesses.items()}
    doubts = {name: _doubt(excess) for name, excess in found.items() if not isinstance(excess, Unmeasured)}
    if not doubts:
        return set()
    return {name for name, doubt in zip(doubts, holm(list(doubts.values())), strict=True) if doubt < 0.05}


def _doubt(excess: tuple[float, float, float]) -> float:
    """The one-sided p-value of "there is none", from the lower half of the interval."""
    value, low, _ = excess
    if value <= 0 or value == low:
        return 1.0 if value <= 0 else 0.0
    return float(stats.norm.sf(value / (value - low) * stats.norm.ppf(0.975)))
