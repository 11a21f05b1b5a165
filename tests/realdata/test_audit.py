"""Audits of real users in place of a synthetic set: they learned nothing of each other, however often their rows are equal."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from unblur.audit.attacks.attack import samples
from unblur.audit.attacks.copies import Copying
from unblur.audit.auditor import run_attacks
from unblur.audit.findings import Finding, Gate, Gates
from unblur.data import files as sources
from unblur.data.interactions import Interactions

pytestmark = pytest.mark.realdata


@pytest.mark.parametrize("name", ["sdrm_alb", "sdrm_adm"])
@pytest.mark.parametrize("with_holdout", [True, False])
def test_random_thirds_of_real_users_copy_nobody(name: str, with_holdout: bool) -> None:
    """Item frequencies expect no equal rows of 7 to 10 items; in sdrm_alb nearly half of them are equal to somebody's."""
    folder = Path(os.environ["UNBLUR_DATA"]) / name
    if not folder.is_dir():
        pytest.skip(f"needs {name}, which is not under UNBLUR_DATA")
    parts = sources.read_split_folder(folder, min_rating=1).values()
    whole = Interactions.from_pairs(
        np.concatenate([part.users.labels[part.rows()] for part in parts]),
        np.concatenate([part.items.labels[part.matrix.indices] for part in parts]),
    )
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(whole.n_users)
        train, synthetic, holdout = (whole.take_users(part) for part in np.array_split(order, 3))
        given = samples(train, synthetic, holdout if with_holdout else None)
        results = run_attacks(given, [Copying()], users=500, rng=seed)
        conclusions = list(results.conclusions(Gates()))
        assert not [entry for entry in conclusions if isinstance(entry, Finding) and entry.kind == "leak"]
        assert all(entry.passed for entry in conclusions if isinstance(entry, Gate))
        assert results.copies.exact.hits > 0
