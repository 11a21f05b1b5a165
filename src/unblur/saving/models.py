"""Saving a fitted recommender or synthesizer to a folder, and loading it back, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unblur.data.vocabulary import Vocabulary
from unblur.errors import ArtifactError, SpecError
from unblur.recommender import Recommender
from unblur.registry import recommender_spec, synthesizer_spec
from unblur.saving import container
from unblur.saving.container import Format, read_container, refuse, write_container, writer
from unblur.spec import spec_from_dict, spec_to_dict
from unblur.synthesis.synthesizer import Synthesizer

MODEL = Format("unblur-model", version=1)
"""What a saved recommender is, on disk."""
SYNTHESIZER = Format("unblur-synthesizer", version=1)
"""What a saved synthesizer is, on disk."""


def save(
    recommender: Recommender,
    path: str | Path,
    *,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted recommender to a new folder: `manifest.json`, `tensors.safetensors`, `items.parquet`.

    - `overwrite`: replace an earlier model there, once the new one is complete on the disk.
    - `provenance`: plain values worth keeping beside it (fingerprint of the data, seed, recipe);
      `read_manifest` hands them back.

    Raises `ArtifactError` when something is in the way or the folder cannot be written; nothing is left
    behind then.
    """
    import polars as pl

    contents = {
        "kind": recommender.spec.kind,
        "spec": spec_to_dict(recommender.spec),
        "items": _described(recommender.items),
        "provenance": dict(provenance or {}),
    }
    items = pl.DataFrame({"label": recommender.items.series, "count": recommender.item_counts})
    write_container(path, MODEL, contents, recommender.tensors(), {"items": items}, overwrite=overwrite)


def check_new(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise the `ArtifactError` that `save` would raise for what is in the way."""
    container.check_new(path, MODEL, ("items",), overwrite=overwrite)


def load(path: str | Path, *, device: str = "cpu") -> Recommender:
    """Read a recommender that `save` wrote; it gives the same scores, bit for bit, on the same machine.

    Everything is verified before anything is built, and no file is executed. Raises `ArtifactError` for a
    folder that is damaged, incomplete, of a newer format, or of a kind or with settings that this version
    does not know.
    """
    saved = read_container(path, MODEL)
    try:
        spec = spec_from_dict(recommender_spec(saved.manifest["kind"]), saved.manifest["spec"])
    except (KeyError, SpecError, TypeError) as problem:
        raise ArtifactError(
            f"Kind and settings of a saved model must be known to this version of unblur; in {path}: "
            f"{problem} It was saved by unblur {writer(saved.manifest)}; load it with that version."
        ) from None
    try:
        columns = saved.tables["items"].to_dict()
        items, counts = Vocabulary(columns["label"]), columns["count"].to_numpy().astype(np.int64, copy=True)
        if _described(items) != saved.manifest["items"]:
            raise ValueError(f"items.parquet holds {items!r} instead of {saved.manifest['items']}")
        restored: Recommender = spec.restore(items, counts, saved.tensors, device)
    except (KeyError, IndexError, TypeError, ValueError) as problem:
        refuse(path, MODEL, f"the parts do not fit together ({type(problem).__name__}: {problem})")
    return restored


def save_synthesizer(
    synthesizer: Synthesizer,
    path: str | Path,
    *,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted synthesizer to a new folder: the files of `save`, but without how often items were taken.

    Its `notes` go into the manifest. Raises `ArtifactError` as `save` does.
    """
    import polars as pl

    contents = {
        "kind": synthesizer.spec.kind,
        "spec": spec_to_dict(synthesizer.spec),
        "items": _described(synthesizer.items),
        "notes": list(synthesizer.notes),
        "provenance": dict(provenance or {}),
    }
    items = pl.DataFrame({"label": synthesizer.items.series})
    write_container(path, SYNTHESIZER, contents, synthesizer.tensors(), {"items": items}, overwrite=overwrite)


def load_synthesizer(path: str | Path, *, device: str = "cpu") -> Synthesizer:
    """Read a synthesizer that `save_synthesizer` wrote; for the same `rng` it samples the same users.

    Verified, and refused with `ArtifactError`, as `load` does.
    """
    saved = read_container(path, SYNTHESIZER)
    try:
        spec = spec_from_dict(synthesizer_spec(saved.manifest["kind"]), saved.manifest["spec"])
    except (KeyError, SpecError, TypeError) as problem:
        raise ArtifactError(
            f"Kind and settings of a saved synthesizer must be known to this version of unblur; in {path}: "
            f"{problem} It was saved by unblur {writer(saved.manifest)}; load it with that version."
        ) from None
    try:
        items = Vocabulary(saved.tables["items"]["label"])
        if _described(items) != saved.manifest["items"]:
            raise ValueError(f"items.parquet holds {items!r} instead of {saved.manifest['items']}")
        restored: Synthesizer = spec.restore(items, saved.tensors, device)
    except (KeyError, IndexError, TypeError, ValueError) as problem:
        refuse(path, SYNTHESIZER, f"the parts do not fit together ({type(problem).__name__}: {problem})")
    return restored


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a saved model: kind, spec, versions, items, provenance, and the sha256 of its files.

    Checked in itself, without reading the other files. Raises `ArtifactError` as `load` does.
    """
    return container.read_manifest(path, MODEL)


def _described(items: Vocabulary) -> dict[str, Any]:
    digest = hashlib.sha256()
    items.update_digest(digest)
    return {"kind": items.kind, "size": len(items), "fingerprint": f"sha256:{digest.hexdigest()}"}
