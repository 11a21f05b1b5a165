"""Saving a fitted thing to a folder, and loading it back, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from unblur.data.output import MANIFEST, OutputFolder
from unblur.data.vocabulary import Vocabulary
from unblur.errors import ArtifactError, SpecError
from unblur.fitted import Fitted, FittedSpec
from unblur.registry import RECOMMENDERS, SYNTHESIZERS, resolve
from unblur.saving import container
from unblur.saving.container import (
    Format,
    fitting_together,
    read_container,
    refuse,
    write_container,
    writer,
)
from unblur.spec import spec_from_dict, spec_to_dict

F = TypeVar("F", bound=Fitted)

MODEL = Format("unblur-model", version=1)
"""The format of a saved recommender on disk."""
SYNTHESIZER = Format("unblur-synthesizer", version=1)
"""The format of a saved synthesizer on disk."""

_KINDS = {form.noun: (form, known) for form, known in ((MODEL, RECOMMENDERS), (SYNTHESIZER, SYNTHESIZERS))}
"""The format on disk and the registry of kinds, by the noun of the fitted thing."""


def save(
    fitted: Fitted,
    path: str | Path | OutputFolder,
    *,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a fitted thing to a new folder: `manifest.json`, `tensors.safetensors`, `items.parquet`. Return its manifest.

    - `overwrite`: replace an earlier one there, once the new one is complete on the disk.
    - `provenance`: further plain values to save (fingerprint of the data, seed, recipe); `read_manifest` returns them.

    Raises `ArtifactError` if something is in the way or the folder cannot be written; nothing is left behind then.
    """
    contents = {
        "kind": fitted.spec.kind,
        "spec": spec_to_dict(fitted.spec),
        "items": _described(fitted.items),
        **fitted.facts(),
        "provenance": dict(provenance or {}),
    }
    items = pl.DataFrame({"label": fitted.items.series, **fitted.columns()})
    form, _ = _KINDS[fitted.noun]
    tables = {"items": items, **fitted.saved_tables()}
    return write_container(path, form, contents, fitted.tensors(), tables, overwrite=overwrite)


def load_as(cls: type[F], path: str | Path, *, device: str = "cpu") -> F:
    """Read a `cls`, such as `Recommender`, that `save` wrote; it gives the same bits on the same machine.

    Raises `ArtifactError` as `load_with_manifest`.
    """
    return load_with_manifest(cls, path, device=device)[0]


def load_with_manifest(cls: type[F], path: str | Path, *, device: str = "cpu") -> tuple[F, Mapping[str, Any]]:
    """Read as `load_as`, and return the manifest as well: of a folder that is replaced, `read_manifest` may give the next one.

    Everything is verified before anything is built, and no file is executed. Raises `ArtifactError` for a folder that
    is damaged, incomplete, of a newer format, or of a kind or with settings that are unknown to this version.
    """
    form, _ = _KINDS[cls.noun]
    saved = read_container(path, form)
    spec = _spec_of(saved.manifest, path, form)
    with fitting_together(path, form):
        columns = saved.tables["items"].to_dict()
        items = Vocabulary(columns.pop("label"))
        if _described(items) != saved.manifest["items"]:
            raise ValueError(f"items.parquet holds {items!r} instead of {saved.manifest['items']}")
        arrays = {name: np.array(column.to_numpy()) for name, column in columns.items()}
        loaded: F = resolve(spec.fitted).from_tensors(spec, items, arrays, saved.tensors, device)
        loaded = loaded.with_saved_tables(
            {name: table for name, table in saved.tables.items() if name != "items"}
        )
    return loaded, _with_origin(saved.manifest, path, form)


def _spec_of(manifest: Mapping[str, Any], path: str | Path, form: Format) -> FittedSpec:
    _, known = _KINDS[form.noun]
    try:
        loaded: FittedSpec = spec_from_dict(known.load(manifest["kind"]), manifest["spec"])
    except (KeyError, SpecError, TypeError, AttributeError) as problem:
        raise ArtifactError(
            f"Kind and settings of a saved {form.noun} must be known to this version of unblur; in {path}: "
            f"{problem} It was saved by unblur {writer(manifest)}; load it with that version."
        ) from None
    return loaded


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Return the manifest of a saved model: kind, spec, versions, items, provenance, and the sha256 of its files.

    It is checked itself; the other files are not read. Raises `ArtifactError` as `load_as` does.
    """
    return _with_origin(container.read_manifest(path, MODEL), path, MODEL)


def _with_origin(manifest: Mapping[str, Any], path: str | Path, form: Format) -> dict[str, Any]:
    """The manifest with a `provenance`, which is empty if it has none. Of entries that are read, those of another type are left out."""
    origin = manifest.get("provenance", {})
    if not isinstance(origin, dict):
        refuse(path, form, f"{MANIFEST} says of its data what no fit writes")
    read = {"read": dict, "fit_seconds": float | int}
    fitting = {name: value for name, value in origin.items() if isinstance(value, read.get(name, object))}
    return {**manifest, "provenance": fitting}


def described(path: str | Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return what a saved model is, from which data and when, and what it needs, as names and values in words.

    `manifest` is what `read_manifest` says of it. Raises `ArtifactError` as `load_as` does; no array is read.
    """
    spec = _spec_of(manifest, path, MODEL)
    with fitting_together(path, MODEL):
        origin, n_bytes = manifest["provenance"], sum(entry["bytes"] for entry in manifest["files"].values())
        known = {name: origin[name] for name in ("n_users", "n_items", "n_interactions") if name in origin}
        needs = ["times of each interaction"] if spec.needs_timestamps else []
        return {
            "kind": str(manifest["kind"]),
            "settings": ", ".join(f"{name} = {value}" for name, value in manifest["spec"].items()),
            "items": f"{manifest['items']['size']:,}, {manifest['items']['kind']} labels",
            "side of the items": "yes" if "side.parquet" in manifest["files"] else "no",
            "fitted to": ", ".join(f"{value:,} {name.removeprefix('n_')}" for name, value in known.items())
            or "unknown",
            "fingerprint of the data": str(origin.get("train", "unknown")),
            "recipe and seed": f"{origin.get('recipe', 'none')}, {origin.get('seed', 'none')}",
            "saved": f"{manifest['created']}, by unblur {writer(manifest)}",
            "size on disk": f"{n_bytes / 1e6:,.1f} MB",
            "needs": ", ".join(["histories over its items", *needs]),
        }


def _described(items: Vocabulary) -> dict[str, Any]:
    digest = hashlib.sha256()
    items.update_digest(digest)
    return {"kind": items.kind, "size": len(items), "fingerprint": f"sha256:{digest.hexdigest()}"}
