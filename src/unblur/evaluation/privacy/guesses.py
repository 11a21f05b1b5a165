"""What a found guess is worth: attack, naive baseline and control, and the risk that is left."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unblur.evaluation.privacy.rates import Share, Unmeasured


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
        still go wrong, (attack − control) / (1 − control); the interval by the square-and-add rule of Newcombe (1998).
        """
        if isinstance(self.control, Unmeasured):
            return self.control
        one, other = self.attack, self.control
        room = max(1e-12, 1 - other.value)
        gap = one.value - other.value
        down = math.hypot(one.value - one.low, other.high - other.value)
        up = math.hypot(one.high - one.value, other.value - other.low)
        return gap / room, max(-1.0, (gap - down) / room), min(1.0, (gap + up) / room)

    @property
    def attack_is_weak(self) -> bool:
        """Whether the attack is no better than the naive baseline, so that nothing follows from its failing."""
        return self.attack.value <= self.baseline.value


def excess_of(guess: Guesses | Unmeasured) -> tuple[float, float, float] | Unmeasured:
    """The excess of guesses, or why there is none."""
    return guess if isinstance(guess, Unmeasured) else guess.excess
