"""Public names in documents can be imported, or stand in CHANGELOG as old → new."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

from unblur.registry import ATTACKS, RECOMMENDERS, SYNTHESIZERS

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
NAME = re.compile(r"(?<![\w./-])unblur(?:\.[A-Za-z_]\w*)+")
IMPORT = re.compile(r"^ *from (unblur[\w.]*) import ([^\n(]+|\([^)]*\))", re.MULTILINE)

NO_MODULES = {registry.group for registry in (RECOMMENDERS, SYNTHESIZERS, ATTACKS)} | {"unblur.service"}
"""Dotted names that are none of Python's: groups of entry points, and a unit of systemd."""

ONCE_TOLD = (
    *("unblur.BSPM", "unblur.DiffRec", "unblur.Interactions", "unblur.LowPass", "unblur.load"),
    *(
        "unblur.artifact.load_synthesizer",
        "unblur.spectral.response",
        "unblur.splitting",
        "unblur.tuning.SPACES",
    ),
    *(f"unblur.baselines.{name}" for name in ("ALS", "EASE", "ItemKNN", "LightGCN", "MultDAE", "MultVAE")),
    *(f"unblur.baselines.{name}" for name in ("Popularity", "PureSVD", "Recency", "RP3Beta", "SLIM")),
    *("unblur.baselines.SparseEASE", "unblur.baselines.UserKNN"),
    *("unblur.comparison.Budget", "unblur.comparison.compare", "unblur.comparison.line_up"),
    *("unblur.compat.recbole.load_data_and_model", "unblur.compat.recbole.run_recbole"),
    *(f"unblur.diffusion.{name}" for name in ("schedule", "objective", "denoiser", "sampling", "folding")),
    *(f"unblur.diffusion.{name}" for name in ("autoencoder", "item_clusters", "item_embeddings")),
    *("unblur.evaluation.audit.audit", "unblur.experiment.auditing.taught_recommenders"),
    "unblur.pages.audit_page",
)
"""The public names in README and docs before the modules moved."""


def resolved(name: str) -> object:
    """The object of a dotted name. Raises `LookupError` if it does not exist."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            module = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        try:
            return reduce(getattr, parts[length:], module)
        except AttributeError:
            raise LookupError(name) from None
    raise LookupError(name)


def told(text: str) -> Iterator[str]:
    """The dotted names in a document, those that it imports included."""
    yield from NAME.findall(text)
    for module, names in IMPORT.findall(text):
        yield from (f"{module}.{name}" for name in re.findall(r"\w+", re.sub(r"#.*| as \w+", "", names)))


def moved() -> Mapping[str, str]:
    """Old name → new name, by the rows of CHANGELOG's tables that have as many old names as new ones."""
    rows: dict[str, str] = {}
    for line in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").splitlines():
        cells = line.strip().strip("|").split("|")
        if line.lstrip().startswith("|") and len(cells) == 2:
            old, new = (NAME.findall(cell) for cell in cells)
            if len(old) == len(new):
                rows.update(zip(old, new, strict=True))
    return rows


def replaced(name: str) -> str:
    """The new name by the row of the longest part of an old one; the name itself if there is no row."""
    rows = moved()
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        if ".".join(parts[:length]) in rows:
            return ".".join([rows[".".join(parts[:length])], *parts[length:]])
    return name


@pytest.mark.parametrize("name", ONCE_TOLD)
def test_every_earlier_name_in_documents_exists_or_is_replaced(name: str) -> None:
    try:
        resolved(name)
    except LookupError:
        new = replaced(name)
        assert new != name, f"{name} is gone; add it to CHANGELOG's table of what moved"
        resolved(new)


def test_names_in_documents_can_be_imported() -> None:
    wrong = []
    for path in DOCUMENTS:
        for name in dict.fromkeys(told(path.read_text(encoding="utf-8"))):
            if name in NO_MODULES:
                continue
            try:
                resolved(name)
            except LookupError:
                wrong.append(f"{path.relative_to(REPOSITORY)}: {name}")
    assert not wrong, "\n".join(wrong)


def test_names_are_found_in_text_and_imports() -> None:
    text = "See `unblur.tuning.SPACES`.\n    from unblur.a import (\n  b,\n c as d)\nfrom unblur import load\nsrc/unblur/x.py"
    assert list(told(text)) == ["unblur.tuning.SPACES", "unblur.a", "unblur.a.b", "unblur.a.c", "unblur.load"]
    with pytest.raises(LookupError):
        resolved("unblur.nothing.at_all")
