"""`python -m benchmarks.false_alarms`: how often an audit says "leak" of a set that learned nothing about anybody.

Three disjoint random groups of real users stand for train, the synthetic set and the holdout. MovieLens 1M (likes) is read from
`$UNBLUR_DATA` and left out by name where it is not there; generated users are always audited. Exits with 1 if leaks are said in
more than `MOST` of the audits.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unblur.audit.attacks.attack import Attack, samples
from unblur.audit.attacks.copies import Copying
from unblur.audit.auditor import run_attacks
from unblur.audit.findings import Finding, Gate, Gates
from unblur.data.catalogue.generation import generated
from unblur.data.interactions import Interactions

USERS = 400
"""The number of users of each group."""
AUDITS = 300
"""The number of audits of each data set: 5 % of them is then known to ±2.5 points."""
MOST = 0.065
"""The largest acceptable share of audits that say "leak": 5 %, and a standard error."""


def alarms(
    draw: Callable[[int], Interactions],
    audits: int,
    *,
    holdout: bool = True,
    attacks: Sequence[Attack] | None = None,
) -> Counter[str]:
    """The number of audits with a leak (``leak``), and with each leak, exposure and failed gate, by id and name.

    `draw` gives three times `USERS` users for the number of an audit. Utility and fidelity have no tests of leaks.
    """
    counts: Counter[str] = Counter()
    for index in range(audits):
        users = draw(index)
        train, synthetic, kept = (users.take_users(slice(at * USERS, (at + 1) * USERS)) for at in range(3))
        sets = samples(train, synthetic, kept if holdout else None)
        results = run_attacks(sets, attacks, rng=index)
        conclusions = list(results.conclusions(Gates()))
        findings = [entry for entry in conclusions if isinstance(entry, Finding)]
        counts["leak"] += any(finding.kind == "leak" for finding in findings)
        counts.update(f"{finding.kind} {finding.id}" for finding in findings if finding.fails)
        counts.update(
            f"gate {entry.name}" for entry in conclusions if isinstance(entry, Gate) and not entry.passed
        )
    return counts


def real_users(liked: Interactions) -> Callable[[int], Interactions]:
    """Random users of a data set, in random order."""
    return lambda index: liked.take_users(
        np.random.default_rng([index, liked.n_users]).permutation(liked.n_users)[: 3 * USERS]
    )


def generated_users(index: int) -> Interactions:
    """Users of a generated data set of 300 items, 20 a user."""
    return generated(3 * USERS, 300, 3 * USERS * 20, rng=index)


def main() -> int:
    """Print the shares of false alarms; 1 if one is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audits", type=int, default=AUDITS, help="audits of each data set")
    audits = parser.parse_args().audits
    sources: dict[str, Callable[[int], Interactions]] = {"generated users": generated_users}
    ratings = Path(os.environ.get("UNBLUR_DATA", "")) / "ml-1m" / "ratings.parquet"
    if ratings.is_file():
        sources["MovieLens 1M"] = real_users(Interactions.read(ratings, min_rating=4, timestamp="ignore"))
    else:
        print("MovieLens 1M is left out: set UNBLUR_DATA to the folder of public data sets")
    largest = 0.0
    for name, draw in sources.items():
        for holdout in (True, False):
            # Without a holdout there is no test of anything but copies.
            counts = alarms(draw, audits, holdout=holdout, attacks=None if holdout else [Copying()])
            share = counts.pop("leak") / audits
            largest = max(largest, share)
            details = ", ".join(f"{what} {count / audits:.1%}" for what, count in sorted(counts.items()))
            groups = "three disjoint sets" if holdout else "two disjoint sets, no holdout"
            print(
                f"{name}, {groups} of {USERS}: a leak is said in {share:.1%} of {audits} audits ({details})",
                flush=True,
            )
    return int(largest > MOST)


if __name__ == "__main__":
    sys.exit(main())
