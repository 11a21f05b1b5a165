"""The folder of fast steps may be deleted: its networks are then trained by autograd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import unblur

FITTED = """
import numpy as np
from unblur.data.catalogue.generation import generated
from unblur.models.neural.acceleration import faster
from unblur.models.neural.neumf import NeuMF
from unblur.models.neural.row_mlp import RowMLP

users = generated(40, 30, 300, rng=0)
for spec in (NeuMF(factors=4, epochs=2), RowMLP(dims=(8,), epochs=2)):
    assert np.isfinite(spec.fit(users, rng=0).score(users)).all()
print(faster.__module__)
"""


def test_without_the_folder_both_networks_are_trained(tmp_path: Path) -> None:
    copy = shutil.copytree(Path(unblur.__file__).parent, tmp_path / "unblur")
    shutil.rmtree(copy / "models" / "neural" / "fast")
    process = subprocess.run(
        [sys.executable, "-c", FITTED],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == "contextlib"
