"""What the arms of a synthesizer's run came to, kept as each is measured: a downstream training can take an hour."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from unblur.data.files.writing import replacing
from unblur.errors import ArtifactError
from unblur.evaluation.metrics import PerUser
from unblur.spec import spec_to_dict
from unblur.synthesis.utility.arms import Measured
from unblur.synthesis.utility.rated_users import PreparedUsers


class KeptArms:
    """The measured arms of one seed, in ``CHECKPOINTS/seed-N/arms-….json``; the name says whose they are."""

    def __init__(self, file: Path | None) -> None:
        """Without a file nothing is kept. Raises `ArtifactError` for one that is damaged."""
        self.file = file
        self._known: dict[str, Any] = {}
        if file is None or not file.is_file():
            return
        try:
            self._known = json.loads(file.read_text(encoding="utf-8"))["arms"]
            for found in self._known.values():
                _measured(found)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise ArtifactError(
                f"What earlier calls measured must be readable; {file} is damaged ({problem}). Delete it to measure anew."
            ) from problem

    @classmethod
    def of(cls, checkpoints: str | Path | None, prepared: PreparedUsers, seed: int, device: str) -> KeptArms:
        """Those of a run with these settings and data, and this seed."""
        if checkpoints is None:
            return cls(None)
        recipe = prepared.recipe
        identity = {
            "model": {"kind": recipe.model.kind, **spec_to_dict(recipe.model)},
            "downstream": {"kind": recipe.downstream.kind, **spec_to_dict(recipe.downstream)},
            "utility": spec_to_dict(recipe.utility),
            "protocol": spec_to_dict(recipe.protocol),
            "data": prepared.fingerprints,
            "seed": seed,
            "device": device,
        }
        name = sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        return cls(Path(checkpoints) / f"seed-{seed}" / f"arms-{name}.json")

    def measured(self, arm: str, measure: Callable[[], Measured]) -> Measured:
        """What was kept of an arm, or what `measure` gives now, which then is kept."""
        if arm in self._known:
            return _measured(self._known[arm])
        found = measure()
        self._known[arm] = {
            "names": list(found.values.names),
            "values": found.values.values.tolist(),
            "notes": list(found.notes),
        }
        self._write()
        return found

    def _write(self) -> None:
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.file) as stream:
                stream.write(json.dumps({"schema": 1, "arms": self._known}).encode())
        except OSError as problem:
            raise ArtifactError(
                f"What was measured must be kept; {self.file}: {problem.strerror or problem}. What was kept before is "
                "whole. Make room, or give another folder."
            ) from problem


def _measured(kept: Mapping[str, Any]) -> Measured:
    values = np.array(kept["values"], dtype=np.float64).reshape(-1, len(kept["names"]))
    return Measured(PerUser(tuple(kept["names"]), values), tuple(kept["notes"]))
