"""Without torch training-free kinds are fitted, saved, loaded, scored, ranked and evaluated; the others say what they need."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unblur.data.catalogue.generation import generated
from unblur.data.interactions import Interactions
from unblur.registry import RECOMMENDERS, recommender_spec

TRAINED = {"diffrec", "l-diffrec", "lightgcn", "mult-dae", "mult-vae", "neumf", "row-mlp"}
PROGRAM = """
import json, sys
from importlib.abc import MetaPathFinder
from pathlib import Path

import numpy as np


class NoTorch(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NoTorch())
import unblur
from tests.contract.test_without_torch import data, spec_of
from unblur.errors import CapabilityError
from unblur.experiment import run
from unblur.experiment.recipe.schema import Recipe
from unblur.registry import RECOMMENDERS

folder, refused, scores = Path(sys.argv[1]), {}, {}
train = data()
train.to_frame().write_parquet(folder / "log.parquet")
for kind in RECOMMENDERS:
    try:
        model = spec_of(kind).fit(train, rng=0)
    except CapabilityError as problem:
        refused[kind] = str(problem)
        continue
    model.save(folder / kind)
    loaded = unblur.load(folder / kind)
    assert np.array_equal(loaded.recommend(train, k=5).positions, model.recommend(train, k=5).positions)
    scores[kind] = loaded.score(train)
np.savez(folder / "scores.npz", **scores)
tables = {"name": "own", "split": {"kind": "random"}, "model": {"kind": "ease"}, "protocol": {"cutoffs": [5]}}
report = run(Recipe.from_dict(tables), data=folder / "log.parquet")
try:
    unblur.BSPM().fit(train, rng=0, device="cuda")
except CapabilityError as problem:
    refused["cuda"] = str(problem)
try:
    unblur.DiffRec
except CapabilityError as problem:
    refused["DiffRec"] = str(problem)
from unblur.cli.main import main
listed = main(["recipes"])
refusing = main(["synthesize", str(folder / "log.parquet"), "--out", str(folder / "synthetic.parquet")])
print()
print(json.dumps({"listed": listed, "refusing": refusing, "refused": refused, "metrics": len(report.measurements)}))
"""


def data() -> Interactions:
    """A generated log with times."""
    log = generated(60, 50, 600, rng=0)
    return Interactions(log.matrix, log.users, log.items, np.arange(log.n_interactions, dtype=np.int64))


def spec_of(kind: str) -> Any:
    """The spec of a kind, small enough for the log."""
    spec = recommender_spec(kind)
    return spec(rank=8) if "rank" in spec.__dataclass_fields__ else spec()


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("without-torch")
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    process = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert process.returncode == 0, process.stderr
    with np.load(folder / "scores.npz") as scores:
        facts = json.loads(process.stdout.splitlines()[-1])
        return {**facts, "said": " ".join(process.stderr.split())}, dict(scores)


def test_what_is_trained_or_on_a_gpu_says_how_to_install_torch(outcome: Any) -> None:
    facts, _ = outcome
    assert set(facts["refused"]) == TRAINED | {"cuda", "DiffRec"}
    for message in facts["refused"].values():
        assert "needs torch, which is not installed. Install it with `pip install 'unblur[train]'`" in message


def test_commands_list_all_recipes_and_refuse_what_needs_torch(outcome: Any) -> None:
    facts, _ = outcome
    assert (facts["listed"], facts["refusing"]) == (0, 2)
    assert "This command needs torch" in facts["said"]


def test_a_recipe_runs(outcome: Any) -> None:
    facts, _ = outcome
    assert facts["metrics"] > 0


@pytest.mark.parametrize("kind", sorted(set(RECOMMENDERS) - TRAINED))
def test_scores_are_those_with_torch(kind: str, outcome: Any) -> None:
    _, scores = outcome
    expected = spec_of(kind).fit(data(), rng=0).score(data())
    np.testing.assert_allclose(scores[kind], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
