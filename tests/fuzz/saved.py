"""Saved models and synthesizers, damaged or made to do harm."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

import unblur
from tests.fuzz.changes import CHANGES, LABELS, SETTINGS, Lost, Random, leaves, mutated, pick
from tests.guards.driver import Inputs, Package
from tests.guards.keep import BEFORE
from unblur.data.changes import Change
from unblur.data.interactions import Interactions
from unblur.data.output import MANIFEST, sealed, unsealed
from unblur.errors import UnblurError
from unblur.recommender import Recommender
from unblur.saving import container
from unblur.saving.models import MODEL, SYNTHESIZER
from unblur.synthesis.synthesizer import load_synthesizer

FORMATS = {"models": MODEL, "synthesizers": SYNTHESIZER}
OWN = {"format", "format_version", "created", "versions", "tensors", "files", "sha256"}
"""Entries of a manifest that are the container's."""
SAVED = sorted(f"{path.parent.name}/{path.name}" for form in FORMATS for path in (BEFORE / form).iterdir())


def load(name: str, folder: Path) -> Any:
    """Load a saved thing as what it says it is."""
    return unblur.load(folder) if name.startswith("models") else load_synthesizer(folder)


def damaged(random: Random, folder: Path) -> str:
    """Change some bytes of a saved thing: it must be refused."""
    name = pick(random, SAVED)
    copy = shutil.copytree(BEFORE / name, folder / "saved")
    file = pick(random, sorted(copy.iterdir()))
    content = file.read_bytes()
    file.write_bytes(mutated(random, content))
    if file.read_bytes() == content:
        return "unchanged"
    try:
        load(name, copy)
    except UnblurError:
        return "refused"
    raise Lost(f"a change of {name}/{file.name} was not noticed")


def hostile(random: Random, folder: Path) -> str:
    """Write a saved thing again with something else in it, and the right hashes: it must be refused, or be of use."""
    name = pick(random, SAVED)
    form = FORMATS[name.split("/")[0]]
    saved = container.read_container(BEFORE / name, form)
    contents = {key: value for key, value in saved.manifest.items() if key not in OWN}
    tensors, tables, what = dict(saved.tensors), dict(saved.tables), random.integers(4)
    if what == 0:
        table, key = pick(random, [*leaves(contents["spec"]), (contents, "kind")])
        table[key] = pick(random, SETTINGS)
    elif what == 1 and tensors:
        key = pick(random, sorted(tensors))
        try:
            with np.errstate(all="ignore"):
                tensors[key] = pick(random, CHANGES)(tensors[key])
        except (OverflowError, TypeError, ValueError):  # no such array
            return "unchanged"
    elif what == 2:
        tables["items"] = other_table(random, tables["items"])
    try:
        container.write_container(folder / "saved", form, contents, tensors, tables)
        if what == 3:
            manifest = folder / "saved" / MANIFEST
            values = unsealed(manifest.read_bytes())
            table, key = pick(random, [*leaves(values)])
            table[key] = pick(random, SETTINGS)
            manifest.write_bytes(sealed(values))
        fitted = load(name, folder / "saved")
    except UnblurError:
        return "refused"
    return use(fitted)


def other_table(random: Random, table: pl.DataFrame) -> pl.DataFrame:
    """The table with other rows, or with another column."""
    column = pick(random, table.columns)
    changes = (
        table.head(3),
        pl.concat([table, table]),
        table.drop(column),
        table.reverse(),
        table.rename({column: "y"}),
        table.with_columns(pl.lit(pick(random, LABELS)).alias(column)),
    )
    return pick(random, changes)  # type: ignore[no-any-return]


USES: tuple[Callable[[Any, Interactions], Any], ...] = (
    lambda model, log: model.score(log),
    lambda model, log: model.recommend(log, k=1).positions,
    lambda model, log: model.recommend(log, k=len(log.items), exclude=None, candidates=log).positions,
    lambda model, log: model.similar_items(log.items.series, 1).positions,
    lambda model, log: model.explain(log.take_users([0]), log.items.to_list()[0]).shares,
    lambda model, _: model.updated(change()).item_counts,
)
"""What is asked of a model, and the numbers that come of it."""


@cache
def change() -> Change:
    """A change of the log that all kept models were fitted to."""
    log = Inputs(Package(Path(unblur.__file__).parent.parent)).log
    return Change.of(log, add=log.take_users([3]), forget=log.users.to_list()[:2])


def use(fitted: Any) -> str:
    """Ask a model for some histories, with times, or sample some users: what comes of it is finite, or it is refused."""
    if not isinstance(fitted, Recommender):
        try:
            check_finite(fitted.sample(3, rng=1).matrix.data)
        except UnblurError:
            return "refused when used"
        return "of use"
    n = len(fitted.items)
    matrix = sparse.csr_array(np.tri(3, n, n // 2, dtype=np.float32))
    log = dataclasses.replace(
        Interactions.from_matrix(matrix, items=fitted.items), timestamps=np.arange(matrix.nnz)
    )
    n_refused = 0
    for ask in USES:
        try:
            check_finite(ask(fitted, log))
        except UnblurError:
            n_refused += 1
    return "of use" if n_refused < len(USES) else "refused when used"


def check_finite(numbers: Any) -> None:
    """Raise `ArithmeticError` for NaN and infinity."""
    if not np.isfinite(numbers).all():
        raise ArithmeticError("what came of it is not finite")
