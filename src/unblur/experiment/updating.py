"""A saved model after a change of its log, and the receipt of what was forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from unblur.data.changes import Change
from unblur.data.files import read_lines
from unblur.data.interactions import Interactions
from unblur.data.output import OutputFolder
from unblur.data.vocabulary import Vocabulary
from unblur.errors import ArtifactError, CapabilityError, DataError
from unblur.experiment.provenance import sizes_of
from unblur.experiment.reading import read_train
from unblur.experiment.recipe.parts import Data
from unblur.experiment.task import Clock
from unblur.progress import Progress, silent
from unblur.recommender import Recommender, RecommenderSpec
from unblur.saving import models as artifact
from unblur.saving.container import versions


@dataclass(frozen=True, eq=False)
class UpdatedModel:
    """A model that took a change of its log and was saved."""

    model: Recommender
    change: Change
    seconds: Mapping[str, float]
    """The seconds of each stage: ``load`` (the model), ``read`` (the logs), ``update``, ``save``."""
    receipt: Mapping[str, Any]
    """Plain values: what was asked, the hashes of the models, and what shows that the forgotten users are gone."""


def update_saved(
    path: str | Path,
    data: Data,
    log: str | Path,
    *,
    add: str | Path | None = None,
    forget: str | Path | None = None,
    out: str | Path,
    overwrite: bool = False,
    progress: Progress = silent,
) -> UpdatedModel:
    """Update the model saved at `path`, which was fitted to `log`, and save it to `out`.

    `add` is a file of new events, `forget` a text file with one user a line. Raises as `Change.of` and `Recommender.updated` do.
    """
    DataError.unless(
        add is not None or forget is not None,
        "Something must change: give new events (--add FILE), users to forget (--forget FILE), or both; saw neither.",
    )
    place = OutputFolder(out, artifact.MODEL, overwrite=overwrite, inputs=(log, add, forget)).checked()
    clock = Clock()
    with clock("load"):
        before, origin = artifact.load_with_manifest(Recommender, path)  # type: ignore[type-abstract]
    with clock("read"):
        train, _ = read_train(data, log, progress)
        new = None if add is None else _read_like(train, data, add, progress)
        users = [] if forget is None else _users(Path(forget), train.users)
    with clock("update"):
        change = Change.of(train, add=new, forget=users, duplicates=data.read.duplicates or "last")
        try:
            model = before.updated(change, progress=progress)
        except CapabilityError as problem:
            seconds = origin["provenance"].get("fit_seconds")
            took = "" if seconds is None else f" The last fit took {seconds:,.1f} s."
            raise CapabilityError(f"{problem}{took}") from None
    provenance = {**origin["provenance"], **sizes_of(change.after)}
    with clock("save"):
        manifest = artifact.save(model, place, provenance=provenance)
    receipt = _receipt(change, origin, manifest, model)
    return UpdatedModel(model, change, dict(clock.seconds), receipt)


def _read_like(train: Interactions, data: Data, path: str | Path, progress: Progress) -> Interactions:
    """Read new events; labels that look like integers are text if those of the log are."""
    new, _ = read_train(data, path, progress)
    alike = (new.users.kind, new.items.kind) == (train.users.kind, train.items.kind)
    if alike or data.read.labels is not None:
        return new
    return read_train(replace(data, read=replace(data.read, labels="str")), path, progress)[0]


def _users(path: Path, users: Vocabulary) -> list[Any]:
    """The users of a text file, one a line, as labels of the log's type; none if it has no lines."""
    words = read_lines(path).to_list()
    if users.kind == "str":
        return words
    wrong = [word for word in words if not (word.isascii() and word.isdigit())]
    DataError.unless(
        not wrong,
        f"Users to forget must be whole numbers, like those of the log; saw {wrong[0][:80]!r}. Correct {path}."
        if wrong
        else "",
    )
    return [int(word) for word in words]


def _receipt(
    change: Change, before: Mapping[str, Any], after: Mapping[str, Any], model: Recommender
) -> dict[str, Any]:
    """The receipt of a change. Raises `ArtifactError` if a check fails, which would be a fault of this library."""
    removed = change.before.select_users(change.forgotten.series)
    rows_left = (change.after.users.positions_or_missing(change.forgotten) >= 0).sum()
    checks = {
        "rows of forgotten users in the log after": int(rows_left),
        "the model's users of each item are those of the log after": bool(
            np.array_equal(model.item_counts, change.after.item_degrees)
        ),
        "the model's items are those of the log after": model.items == change.after.items,
    }
    ArtifactError.unless(
        list(checks.values()) == [0, True, True],
        f"Nothing of a forgotten user must be left in a model; the checks say {checks}. Refit the model, and report this.",
    )
    return {
        "format": "unblur-receipt",
        "format_version": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "asked": {
            "forget": change.forgotten.to_list(),
            "add": {
                "users": len(change.users) - len(change.forgotten),
                "interactions": change.after.n_interactions
                - change.before.n_interactions
                + removed.n_interactions,
            },
        },
        "model": {
            "kind": model.spec.kind,
            "before": f"sha256:{before['sha256']}",
            "after": f"sha256:{after['sha256']}",
            "fitted to the log before": before["provenance"].get("train") == change.before.fingerprint(),
        },
        "log": {"before": sizes_of(change.before), "after": sizes_of(change.after)},
        "removed": {
            "users": len(change.forgotten),
            "interactions": removed.n_interactions,
            "items that nobody else had": change.before.n_items - int((change.moved >= 0).sum()),
        },
        "method": "all that the users' rows took part in was computed again from the log without them"
        if "gram" not in model.tensors() or cast("RecommenderSpec", model.spec).uses_weights
        else "the users' rows were subtracted from sums of whole numbers, which leaves nothing, and the model solved again",
        "checks": checks,
    }
