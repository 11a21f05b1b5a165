"""What an earlier version wrote, for later ones to read: `python -m tests.guards.keep BASE_WORKTREE`.

Fits one of each kind to generated data with the package of BASE_WORKTREE and writes, below `tests/guards/before/`, saved
models and synthesizers, folders of `unblur run`, `tune` and `compare`, checkpoints and studies, with what came of them in
``digests.json`` and ``scores.npz``. `python -m tests.guards.keep --add NAME` adds one of `MODELS`, of a kind that is new. Results that a resumed study or comparison must not compute again are marked with
values that no computation gives (`MARK`), so that a test sees whether they were read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.guards import settings
from tests.guards.driver import OLD_KINDS, Inputs, Package, digest, write_recipe

BEFORE = Path(__file__).resolve().parent / "before"
MARK = 0.9375
"""A metric on validation data that none of these small runs reaches."""

MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{kind: (kind, next(iter(variants.values()))) for kind, variants in settings.MODELS.items()},
    "diffrec in time": ("diffrec", settings.MODELS["diffrec"]["in-time"]),
    "bspm without low-pass": ("bspm", settings.MODELS["bspm"]["no-low-pass"]),
    "lightgcn from items": ("lightgcn", settings.MODELS["lightgcn"]["softmax"]),
    "neumf that remembers": ("neumf", settings.MODELS["neumf"]["remembering"]),
    "diffrec with tolerance": (
        "diffrec",
        {**settings.MODELS["diffrec"]["small"], "sampling": {"tolerance": 0.01}},
    ),
}
"""Kind and settings of each saved model, by the name of its folder."""
SYNTHESIZERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{
        OLD_KINDS.get(kind, kind): (kind, next(iter(variants.values())))
        for kind, variants in settings.SYNTHESIZERS.items()
    },
    "sdrm private": ("sdrm", settings.SYNTHESIZERS["sdrm"]["private"]),
}
CHECKPOINTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "diffrec": ("diffrec", {**settings.MODELS["diffrec"]["small"], "stopping": None}),
    "l-diffrec": ("l-diffrec", {**settings.MODELS["l-diffrec"]["small"], "stopping": None}),
    "lightgcn": ("lightgcn", {**settings.MODELS["lightgcn"]["bpr"], "stopping": None}),
    "mult-vae": ("mult-vae", settings.MODELS["mult-vae"]["shallow"]),
    "mult-dae": ("mult-dae", settings.MODELS["mult-dae"]["deep"]),
    "sdrm": ("sdrm", settings.SYNTHESIZERS["sdrm"]["full"]),
}
"""Trainings that were interrupted after their last epoch but one."""
STUDY: Mapping[str, Any] = {
    "name": "small/study",
    "model": {
        "kind": "mult-dae",
        "epochs": 2,
        "batch_size": 16,
        "stopping": {"every": 1, "metric": "recall@10"},
    },
    "split": {"kind": "files", "validation": "valid"},
    "protocol": {"kind": "paper", "cutoffs": [10], "metrics": ["recall"], "resamples": 0},
}
SEARCH: Mapping[str, Any] = {**STUDY, "name": "small/search", "model": {"kind": "ease"}}
COMPARED = ("popularity", "ease", "mult-dae")
TRIALS = 3


def study_words(recipe: Path, data: Path, out: Path, *more: str) -> list[str | Path]:
    """The command of the kept studies."""
    space = ["--set", "model.dims=[6]", "--set", "model.optimizer.weight_decay=0.0"]
    return ["tune", recipe, "--data", data, "--trials", str(TRIALS), *space, "--out", out, *more]


def compare_words(recipe: Path, data: Path, out: Path) -> list[str | Path]:
    """The command of the kept comparison."""
    short = ["--space", "mult-dae.dims=[[6],[8]]", "--space", "mult-dae.dropout=[0.5]"]
    words = ["compare", *COMPARED, "--recipe", recipe, "--data", data, "--trials", "2", *short, "--out", out]
    return [*words, "--metric", "recall@10"]


def write(package: Package, target: Path) -> None:
    """Write everything with this package."""
    inputs = Inputs(package)
    digests: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for name in MODELS:
        write_model(name, package, inputs, target, digests, arrays)
    for name, (kind, values) in SYNTHESIZERS.items():
        fitted = package.synthesizer_spec(kind, values).fit(inputs.log, rng=1)
        fitted.save(target / "synthesizers" / _slug(name))
        digests[f"synthesizers/{name}"] = digest(package.tensors(fitted))
        arrays[f"synthesizers/{name}"] = sample_of(fitted)
    for name, (kind, values) in CHECKPOINTS.items():
        folder = target / "checkpoints" / name
        if kind == "sdrm":
            fitted = package.synthesizer_spec(kind, values).fit(inputs.log, rng=1, checkpoints=folder)
            arrays[f"checkpoints/{name}"] = sample_of(fitted)
        else:
            model = package.model_spec(kind, values).fit(inputs.log, rng=1, checkpoints=folder)
            arrays[f"checkpoints/{name}"] = scores_of(model, inputs)
        shutil.rmtree(sorted(folder.rglob("epoch-*"))[-1])
    with tempfile.TemporaryDirectory() as scratch:
        _folders(package, inputs, Path(scratch), target)
    _write_results(target, digests, arrays)


def write_model(
    name: str,
    package: Package,
    inputs: Inputs,
    target: Path,
    digests: dict[str, Any],
    arrays: dict[str, Any],
) -> None:
    """Write one model, and put what came of it into `digests` and `arrays`."""
    kind, values = MODELS[name]
    model = package.model_spec(kind, values).fit(inputs.log, rng=1)
    model.save(target / "models" / _slug(name))
    digests[f"models/{name}"] = digest(package.tensors(model))
    arrays[f"models/{name}"] = scores_of(model, inputs)


def add_model(name: str) -> None:
    """Write one model with the package of this tree to those that are there."""
    package = Package(BEFORE.parent.parent.parent / "src")
    digests = json.loads((BEFORE / "digests.json").read_text(encoding="utf-8"))
    with np.load(BEFORE / "scores.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    write_model(name, package, Inputs(package), BEFORE, digests, arrays)
    _write_results(BEFORE, digests, arrays)


def _write_results(target: Path, digests: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    (target / "digests.json").write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(target / "scores.npz", **arrays)


def scores_of(model: Any, inputs: Inputs) -> Any:
    """Scores of some users of train and of newcomers: float32 (n_users, 31)."""
    return np.concatenate([model.score(inputs.log.take_users([0, 7, 33])), model.score(inputs.newcomers)])


def sample_of(fitted: Any) -> Any:
    """Twenty synthetic users: uint8 (20, 31)."""
    return fitted.sample(20, rng=3).matrix.toarray().astype(np.uint8)


def _folders(package: Package, inputs: Inputs, scratch: Path, target: Path) -> None:
    """The folders that commands write."""
    parts, rated = inputs.write_parts(scratch / "parts"), inputs.write_rated(scratch / "rated")
    for name in ("ease-paper", "diffrec-paper"):
        recipe = write_recipe(
            scratch / f"{name}.toml", package.spelled({"seed": 4, **settings.RECIPES[name]})
        )
        package.command("run", recipe, "--data", parts, "--out", target / "runs" / name)
    utility = write_recipe(scratch / "utility.toml", package.spelled(settings.UTILITY))
    stored = target / "checkpoints" / "utility"
    package.command(
        "run", utility, "--data", rated, "--out", target / "runs" / "utility", "--checkpoints", stored
    )
    for arms in stored.rglob("arms-*.json"):
        report = json.loads(arms.read_text(encoding="utf-8"))
        first = report["arms"][next(iter(report["arms"]))]
        first["values"] = [[MARK] * len(row) for row in first["values"]]
        arms.write_text(json.dumps(report), encoding="utf-8")

    study = write_recipe(scratch / "study.toml", STUDY)
    package.command(*study_words(study, parts, target / "studies" / "folder"))
    trial = target / "studies" / "folder-trials" / "trial-00001.json"
    trial.write_text(json.dumps({**json.loads(trial.read_text()), "value": MARK}, indent=1) + "\n")
    search = write_recipe(scratch / "search.toml", SEARCH)
    package.command("tune", search, "--data", parts, "--trials", "4", "--out", target / "runs" / "search")
    shutil.move(target / "studies" / "folder", target / "runs" / "study")
    database = scratch / "trials.db"
    package.command(*study_words(study, parts, scratch / "shared", "--storage", f"sqlite:///{database}"))
    with sqlite3.connect(database) as opened:
        dump = "\n".join(opened.iterdump()) + "\n"
    (target / "studies" / "shared.sql").write_text(_marked(dump), encoding="utf-8")

    package.command(*compare_words(study, parts, target / "comparison"))
    for result in (target / "comparison" / "models").glob("popularity*.json"):
        report = json.loads(result.read_text(encoding="utf-8"))
        result.write_text(json.dumps(_timed(report), indent=1) + "\n", encoding="utf-8")
    for page in [*target.rglob("*.html"), *(target / "comparison").glob("report.*")]:
        page.unlink()  # pages are not read again
    for stage in ("autoencoder", "diffusion"):  # the tests look at the arms
        shutil.rmtree(stored / "seed-0" / stage)


def _marked(dump: str) -> str:
    """The database's text with the value of trial 1 marked, in the record that the package reads."""
    pattern = re.compile(r'("number": 1, .*?"value": )([0-9.e-]+)')
    marked, count = pattern.subn(rf"\g<1>{MARK}", dump, count=1)
    if not count:
        raise ValueError("the database has no record of trial 1")
    return marked


def _timed(report: Mapping[str, Any]) -> dict[str, Any]:
    """A result with costs that no computation gives."""
    costs = {
        name: MARK * 1000 if isinstance(value, float) else value for name, value in report["costs"].items()
    }
    return {**report, "costs": costs}


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def main() -> None:
    """Write with another version's package, in a process of its own, to an empty folder."""
    if sys.argv[1] == "--add":
        add_model(sys.argv[2])
        return
    if sys.argv[1] == "--with":
        sources = Path(sys.argv[2])
        import torch

        torch.set_num_threads(1)
        write(Package(sources), BEFORE)
        return
    sources = Path(sys.argv[1]).resolve() / "src"
    shutil.rmtree(BEFORE, ignore_errors=True)
    BEFORE.mkdir()
    subprocess.run(
        [sys.executable, "-m", "tests.guards.keep", "--with", str(sources)],
        cwd=BEFORE.parent.parent.parent,
        env={**os.environ, "PYTHONPATH": str(sources), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    size = sum(file.stat().st_size for file in BEFORE.rglob("*") if file.is_file())
    print(f"{size / 1024:.0f} KiB in {BEFORE}")


if __name__ == "__main__":
    main()
