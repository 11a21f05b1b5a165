"""`unblur tune` on own data: what it writes, and what it refuses before computing."""

import json
from pathlib import Path

import polars as pl
import pytest

import unblur as package
from tests.cli.conftest import Unblur
from unblur.data.catalogue.generation import demo_interactions
from unblur.evaluation.report import Report
from unblur.experiment.recipe.library import load_recipe
from unblur.tuning.engine import SearchRequest

FEW = ("--trials", "5", "--users", "100")
FILES = {"manifest.json", "recipe.toml", "report.json", "report.md", "report.html", "trials.parquet", "model"}


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A log in a CSV file, large enough to search on."""
    path = tmp_path / "films.csv"
    demo_interactions(n_users=150, n_items=80, rng=4).to_frame().select("user", "item").write_csv(path)
    return path


def values(out: Path) -> dict[str, float]:
    report = Report.from_dict(json.loads((out / "report.json").read_text()))
    return {entry.name: entry.value for entry in report.measurements}


@pytest.mark.parametrize("recipe", ["bspm/demo", "gf-cf/demo", "ease/demo", "lgcn-ide/gowalla"])
def test_tune_writes_a_run_that_can_be_repeated(
    unblur: Unblur, films: Path, tmp_path: Path, recipe: str
) -> None:
    out, repeated = tmp_path / "runs" / "tuned", tmp_path / "again"
    result = unblur("tune", recipe, "--data", films, *FEW, "--out", out)
    assert result.code == 0, result.err
    assert f"written to {out}" in result.out
    assert {path.name for path in out.iterdir()} == FILES
    trials = pl.read_parquet(out / "trials.parquet")
    assert trials.height == min(5, trials.height)
    assert trials["chosen"].sum() == 1
    assert trials["chosen"][0]
    assert trials["recall@20"].is_sorted(descending=True)
    report = json.loads((out / "report.json").read_text())
    assert report["protocol"] == "strict"
    notes = " ".join(report["notes"])
    how = "a contiguous 10%" if recipe.endswith("/gowalla") else "a random 10%"
    for phrase in (
        f"on {how} of each user's train",
        "its test came after",
        "of the test set, looked at after",
    ):
        assert phrase in notes
    tuned = load_recipe(out / "recipe.toml")
    assert tuned.name == f"{recipe}-tuned"
    assert tuned.search.trials == 1
    assert not tuned.expected
    assert package.load(out / "model").spec == tuned.model
    result = unblur("run", out / "recipe.toml", "--data", films, "--out", repeated)
    assert result.code == 0, result.err
    assert values(repeated) == pytest.approx(values(out), abs=1e-9)


def test_the_seed_of_the_search_changes_the_search_alone(unblur: Unblur, films: Path, tmp_path: Path) -> None:
    tables = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        result = unblur("tune", "bspm/demo", "--data", films, *FEW, "--seed", seed, "--out", tmp_path / name)
        assert result.code == 0, result.err
        tables.append(pl.read_parquet(tmp_path / name / "trials.parquet"))
        assert load_recipe(tmp_path / name / "recipe.toml").seed == load_recipe("bspm/demo").seed
    points = [table.sort("trial").drop("seconds") for table in tables]
    assert points[0].equals(points[1])
    assert not points[0].equals(points[2])


def test_hold_outs_and_metric_are_set_by_options(unblur: Unblur, films: Path, tmp_path: Path) -> None:
    options = ("--hold-out", "block", "--draws", "3", "--metric", "ndcg@5", "--set", "model.low_pass=off")
    result = unblur("tune", "bspm/demo", "--data", films, *FEW[:2], *options, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    columns = pl.read_parquet(tmp_path / "out" / "trials.parquet").columns
    assert "ndcg@5" in columns
    notes = " ".join(json.loads((tmp_path / "out" / "report.json").read_text())["notes"])
    assert "a contiguous 10% of each user's train interactions, 3 times" in notes
    assert not [name for name in columns if name.startswith("low_pass")]
    assert load_recipe(tmp_path / "out" / "recipe.toml").model.low_pass is None
    assert "set: model.low_pass = off" in json.loads((tmp_path / "out" / "report.json").read_text())["notes"]


def test_without_a_folder_the_trials_alone_are_kept(
    unblur: Unblur, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    result = unblur("tune", "bspm/demo", "--data", films, *FEW)
    assert result.code == 0, result.err
    assert "the best 5 of 5 settings on validation data (100 users)" in result.out
    assert "written to" not in result.out
    assert [path.name for path in empty.iterdir()] == ["tune-bspm-demo-trials"]


def test_a_folder_that_exists_is_refused_before_anything_is_computed(
    unblur: Unblur, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years")

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("computed before the place was checked")

    monkeypatch.setattr(SearchRequest, "run", never)
    for options in ((), ("--overwrite",)):
        result = unblur("tune", "bspm/demo", "--data", films, *FEW, "--out", out, *options)
        assert result.code == 2
        assert "Give another" in result.err
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_an_earlier_folder_is_replaced_only_with_overwrite(
    unblur: Unblur, films: Path, tmp_path: Path
) -> None:
    out = tmp_path / "place" / "out"
    assert unblur("tune", "ease/demo", "--data", films, *FEW, "--out", out).code == 0
    before = (out / "report.json").read_bytes()
    assert unblur("tune", "gf-cf/demo", "--data", films, *FEW, "--out", out).code == 2
    assert (out / "report.json").read_bytes() == before
    result = unblur("tune", "gf-cf/demo", "--data", films, *FEW, "--out", out, "--overwrite")
    assert result.code == 2  # the trials in the folder are another model's, and stay
    assert "these differ: 'model'" in result.err
    command = ("--trials", "6", *FEW[2:], "--out", out, "--overwrite")
    assert unblur("tune", "ease/demo", "--data", films, *command).code == 0
    assert pl.read_parquet(out / "trials.parquet").height == 6
    assert sorted(path.name for path in out.parent.iterdir()) == ["out", "out-trials"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("bspm/demo", "--hold-out", "blocks"),
            "validation.how of Search: input should be 'part', 'last', 'random', 'block' or 'both'",
        ),
        (("bspm/demo", "--metric", "recal@20"), "Did you mean 'recall'?"),
        (("bspm/demo", "--metric", "recall"), "must have a cut-off, such as recall@20"),
        (("bspm/demo", "--metric", "coverage@20"), "coverage does not measure that"),
        (("bspm/demo", "--metric", "recall@81"), "must be at most the number of items, 80"),
        (("popularity/demo",), "the space of popularity has none. Use: unblur run."),
        (("bspm/deno",), "Did you mean 'bspm/demo'?"),
        (("bspm/demo", "--set", "model.mege=late"), "Did you mean 'merge'?"),
    ],
)
def test_bad_searches_are_refused(
    unblur: Unblur, films: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out"
    result = unblur("tune", *words, "--data", films, *FEW, "--out", out)
    assert result.code == 2
    assert message in result.err
    assert not out.exists()
