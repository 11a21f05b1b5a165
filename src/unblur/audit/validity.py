"""Checks that every synthetic set must pass in full, whatever it is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.audit.conclusions import Conclusion, Finding, Gate
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidityCheck:
    """One check: how many of how many hold."""

    name: str
    meaning: str
    right: int
    total: int

    @property
    def passed(self) -> bool:
        """Whether all hold; 99.9 % is a failure."""
        return self.right == self.total

    @property
    def share(self) -> float:
        """right / total; 1 of nothing."""
        return self.right / self.total if self.total else 1.0


def validity(
    synthetic: Interactions,
    train: Interactions,
    *,
    items: Vocabulary | None = None,
    empty_users: bool = False,
) -> tuple[ValidityCheck, ...]:
    """The checks of a synthetic set against the real one it was made from.

    items: the items there are, those of train if `None`. empty_users: whether users without items are allowed.
    Raises `DataError` where either set is empty.
    """
    for name, part in (("train", train), ("synthetic", synthetic)):
        if not part.n_interactions:
            raise DataError(
                f"Validity is checked on interactions; {name} has none. ValidityCheck what was read or sampled."
            )
    known = (train.items if items is None else items).positions_or_missing(synthetic.items)
    matrix, degrees = synthetic.matrix, synthetic.user_degrees
    checks = [
        _check("items exist", "every item is in the real catalogue", known[matrix.indices] >= 0),
        _check("no pair twice", "no user has an item twice", _first_time(synthetic)),
        _check("weights are 1", "every interaction is there or not, with weight 1", matrix.data == 1),
    ]
    if not empty_users:
        checks.append(_check("no empty user", "every user has at least one item", degrees > 0))
    return tuple(checks)


def validity_conclusions(checks: Sequence[ValidityCheck]) -> Iterator[Conclusion]:
    """A finding for each check that does not hold in full; `valid`."""
    broken = [check for check in checks if not check.passed]
    for check in broken:
        yield Finding(
            "fault",
            f"The set is not valid: “{check.name}” ({check.meaning}) holds for {check.right:,} of {check.total:,}.",
        )
    named = ", ".join(f"{check.name} ({check.right:,} of {check.total:,})" for check in broken)
    reason = f"not in full: {named}" if broken else f"all {len(checks)} checks hold in full"
    yield Gate("valid", not broken, reason)


def _check(name: str, meaning: str, holds: NDArray[Any]) -> ValidityCheck:
    return ValidityCheck(name=name, meaning=meaning, right=int(np.count_nonzero(holds)), total=len(holds))


def _first_time(data: Interactions) -> NDArray[np.bool_]:
    keys = np.sort(data.rows().astype(np.int64) * data.n_items + data.matrix.indices)
    return np.concatenate(([True], keys[1:] != keys[:-1])) if len(keys) else np.ones(0, dtype=bool)
