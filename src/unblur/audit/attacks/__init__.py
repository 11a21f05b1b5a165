"""What a synthetic set gives away about the people it was made from, by attacking it.

Every attack stands beside a naive baseline and a control group of users who were not in training. Distances are
secondary: far from train is not the same as telling nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unblur.audit.attacks.copies import Copies as Copies
from unblur.audit.attacks.copies import Distances as Distances
from unblur.audit.attacks.copies import copies as copies
from unblur.audit.attacks.guesses import Guesses as Guesses
from unblur.audit.attacks.guesses import beyond_chance as beyond_chance
from unblur.audit.attacks.guesses import excess_of as excess_of
from unblur.audit.attacks.item_inference import item_inference as item_inference
from unblur.audit.attacks.membership import ATTACKERS as ATTACKERS
from unblur.audit.attacks.membership import Membership as Membership
from unblur.audit.attacks.membership import membership as membership
from unblur.audit.attacks.rates import FEWEST_USERS as FEWEST_USERS
from unblur.audit.attacks.rates import Area as Area
from unblur.audit.attacks.rates import Catch as Catch
from unblur.audit.attacks.rates import Share as Share
from unblur.audit.attacks.rates import Unmeasured as Unmeasured
from unblur.audit.attacks.samples import Samples as Samples
from unblur.audit.attacks.samples import samples as samples
from unblur.audit.attacks.singling_out import KNOWN_ITEMS as KNOWN_ITEMS
from unblur.audit.attacks.singling_out import singling_out as singling_out
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """What all attacks found."""

    membership: tuple[Membership, ...]
    """One entry an attacker."""
    guesses: Mapping[str, Guesses | Unmeasured]
    """Singling out by several numbers of items, and inference of a held-out item, by what it is called."""
    copies: Copies
    distances: Distances


def attacked(
    given: Samples, *, users: int | None = 10_000, rng: RNG | None = None, progress: Progress = silent
) -> Privacy:
    """Run every attack, on at most `users` random users of each set (`None`: on all, which takes in proportion)."""
    chance = streams(rng, "membership", "copies", "item", *(f"singling out by {k}" for k in KNOWN_ITEMS))
    told = membership(given, users=users, rng=chance["membership"], progress=progress)
    found, distances = copies(given, users=users, rng=chance["copies"], progress=progress)
    guesses: dict[str, Guesses | Unmeasured] = {}
    for at, k in enumerate(KNOWN_ITEMS):
        guesses[f"singling out by {k} items"] = singling_out(given, k, rng=chance[f"singling out by {k}"])
        progress(ProgressEvent("attack: singling out", at + 1, len(KNOWN_ITEMS)))
    some = 2_000 if users is None else min(2_000, users)
    guesses["inference of a held-out item"] = item_inference(given, users=some, rng=chance["item"])
    progress(ProgressEvent("attack: held-out item", 1, 1))
    return Privacy(membership=told, guesses=MappingProxyType(guesses), copies=found, distances=distances)
