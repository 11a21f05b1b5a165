"""A comparison from line-up to leaderboard: equal budgets, nothing chosen on test, nothing computed twice or lost."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from unblur import load
from unblur.cli.main import main
from unblur.data.catalogue.generation import demo_interactions
from unblur.data.splits import Random
from unblur.document.html import as_html
from unblur.document.markdown import as_markdown
from unblur.errors import ArtifactError, DataError, RecipeError, SpecError, VocabularyMismatch
from unblur.experiment.comparison import running as running_module
from unblur.experiment.comparison.page import comparison_document
from unblur.experiment.comparison.results import Comparison, summarise
from unblur.experiment.comparison.running import compare, line_up
from unblur.experiment.ranking import prepare
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.searching import metric_of, run_search
from unblur.experiment.validation import hold_outs
from unblur.progress import ProgressEvent, Run
from unblur.registry import RECOMMENDERS, recommender_spec
from unblur.spec import spec_from_dict, spec_to_dict
from unblur.tuning.points import space_of
from unblur.tuning.settings import Search, Validation

MODELS = ("popularity", "item-knn", "ease")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("log") / "log.parquet"
    demo_interactions(n_users=120, n_items=60, rng=3).to_frame().write_parquet(place)
    return place


def run(log: Path, *models: str, out: Path | None = None, trials: int = 3, **more: Any) -> Comparison:
    settings = {"protocol.cutoffs": [5, 10]} | more.pop("settings", {})
    lineup = line_up(models or MODELS, own_data=True, settings=settings, protocol=more.pop("protocol", None))
    search = Search(trials=max(trials, 1), sampler=more.pop("sampler", "random"))
    return compare(lineup, data=log, search=search, out=out, **more)


@pytest.fixture(scope="module")
def found(log: Path) -> Comparison:
    return run(log)


def markdown(found: Comparison) -> str:
    return as_markdown(comparison_document(found))


def page(found: Comparison) -> str:
    return as_html(comparison_document(found))


def test_the_numbers_are_those_of_a_plain_evaluation(found: Comparison, log: Path) -> None:
    """Fit the chosen spec by hand, evaluate by the protocol: the same value of each user."""
    lineup = line_up(MODELS, own_data=True, settings={"protocol.cutoffs": [5, 10]})
    prepared = prepare(lineup.ground, data=log)
    for result in found.results:
        plain = dict(result.chosen)
        kind = recommender_spec(str(plain.pop("kind")))
        model = spec_from_dict(kind, plain).fit(prepared.split.train)
        evaluation = prepared.recipe.protocol.evaluate(model, prepared.split)
        np.testing.assert_allclose(result.values["recall@5"], evaluation.per_user["recall@5"])
        assert found.figures[result.name]["ndcg@10"].value == pytest.approx(evaluation["ndcg@10"].value)
        assert result.curve[4][1] == pytest.approx(evaluation["recall@5"].value)
    means = [found.figures[result.name]["recall@5"].value for result in found.results]
    assert means == sorted(means, reverse=True)
    assert found.verdict().startswith(found.results[0].name)


def test_each_model_has_the_same_budget(found: Comparison) -> None:
    assert {result.name: result.search.get("trials", 0) for result in found.results} == {
        "popularity": 0,
        "item-knn": 3,
        "ease": 3,
    }


def test_nothing_is_chosen_on_test(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the held-out items of half the users gone, the same trials come out."""
    whole = run(log, out=tmp_path / "one", trials=4)

    def fewer(*given: Any, **more: Any) -> Any:
        prepared = prepare(*given, **more)
        held = prepared.split.held_out
        kept = held.keep(held.rows() < held.n_users // 2)
        return replace(prepared, split=replace(prepared.split, held_out=kept))

    monkeypatch.setattr(running_module, "prepare", fewer)
    half = run(log, out=tmp_path / "two", trials=4)
    for name in MODELS:
        assert whole[name].chosen == half[name].chosen
        assert whole[name].search.get("value") == half[name].search.get("value")
    assert whole.size["counted"] > half.size["counted"]


def test_a_second_call_computes_only_what_is_missing(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(log, out=tmp_path / "kept")
    files = sorted((tmp_path / "kept" / "models").iterdir())
    before = [file.stat().st_mtime_ns for file in files]
    measured: list[str] = []
    measure = running_module.measure

    def counted(prepared: Any, **more: Any) -> Any:
        measured.append(prepared.recipe.name)
        return measure(prepared, **more)

    monkeypatch.setattr(running_module, "measure", counted)
    again = run(log, out=tmp_path / "kept")
    assert measured == []
    assert again.figures == first.figures
    assert again.differences == first.differences
    assert markdown(again).partition("## Notes")[0] == markdown(first).partition("## Notes")[0]
    more = run(log, *MODELS, "pure-svd", out=tmp_path / "kept")
    assert measured == ["pure-svd"]
    assert len(more.results) == 4
    assert [file.stat().st_mtime_ns for file in files] == before


def test_a_larger_budget_adds_to_what_is_there(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trials, then five in the same folder: the same as five at once, and the two are not tried again."""
    run(log, out=tmp_path / "kept", trials=2)
    before = {file: file.read_bytes() for file in (tmp_path / "kept").rglob("trials.log")}
    assert before
    measured: list[str] = []
    measure = running_module.measure

    def counted(prepared: Any, **more: Any) -> Any:
        measured.append(prepared.recipe.name)
        return measure(prepared, **more)

    monkeypatch.setattr(running_module, "measure", counted)
    more = run(log, out=tmp_path / "kept", trials=5)
    assert all(file.read_bytes().startswith(content) for file, content in before.items())
    in_the_end = list(measured)
    whole = run(log, out=tmp_path / "at-once", trials=5)
    assert whole.figures == more.figures
    assert [result.chosen for result in more.results] == [result.chosen for result in whole.results]
    assert {result.name: result.search.get("trials", 0) for result in more.results} == {
        "popularity": 0,
        "item-knn": 5,
        "ease": 5,
    }
    assert "popularity" not in in_the_end  # its choice is the same: it was neither fitted nor tested again
    less = run(log, out=tmp_path / "kept", trials=2)
    assert {result.search.get("trials", 0) for result in less.results} == {0, 2}


def test_the_first_setting_is_the_model_as_given(log: Path) -> None:
    prepared = prepare(
        line_up(MODELS, own_data=True, settings={"protocol.cutoffs": [5, 10]}).ground, data=log
    )
    for kind, path in (("ease", "ridge"), ("item-knn", "neighbours")):
        spec = recommender_spec(kind)()
        trial = run_search(prepared.with_model(spec), Run(), Search(trials=2)).trials[0]
        assert trial.point[path] == getattr(spec, path)


def test_a_filter_too_wide_for_the_data_is_not_tried_as_given(log: Path) -> None:
    """60 items and a default rank above that: the ranks that fit are searched."""
    found = run(log, "bspm", trials=3)
    assert found["bspm"].search["failed"] == 0


def test_figures_on_disk_make_the_same_tables(found: Comparison) -> None:
    again = Comparison.from_dict(json.loads(found.to_json()))
    assert markdown(again) == markdown(found)
    assert again.verdict() == found.verdict()
    with pytest.raises(ArtifactError, match="this version"):
        Comparison.from_dict({**json.loads(found.to_json()), "schema": 1})
    with pytest.raises(ArtifactError, match="this version"):
        Comparison.from_dict({"schema": 2})


def test_results_that_tell_of_energy_still_load(found: Comparison) -> None:
    plain = json.loads(found.to_json())
    for model in plain["models"]:
        model["costs"]["joules"] = 12.5
    assert Comparison.from_dict(plain).figures == found.figures


def test_a_damaged_result_is_computed_again(log: Path, tmp_path: Path) -> None:
    first = run(log, out=tmp_path / "kept", trials=0)
    table = next((tmp_path / "kept" / "models").glob("ease-*.parquet"))
    table.write_bytes(table.read_bytes()[:-7])
    assert run(log, out=tmp_path / "kept", trials=0).figures == first.figures


def test_one_failed_model_does_not_lose_the_others(tmp_path: Path) -> None:
    """A time-aware model on data without time, and one that breaks down."""
    place = tmp_path / "log.parquet"
    demo_interactions(n_users=80, n_items=60, rng=3).to_frame().select("user", "item").write_parquet(place)
    found = run(place, "popularity", "recency", "ease", out=tmp_path / "kept")
    assert [result.name for result in found.results] == ["ease", "popularity"]
    assert "timestamps" in found.failures["recency"]
    assert "recency" in markdown(found)
    assert "recency" in page(found)


def test_whatever_a_model_raises_the_others_go_on(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, train: Any, **more: Any) -> Any:
        raise ZeroDivisionError("in the middle")

    monkeypatch.setattr(recommender_spec("item-knn"), "learn", broken)
    found = run(log, trials=0)
    assert found.failures == {"item-knn": "ZeroDivisionError: in the middle"}
    with pytest.raises(RecipeError, match="all failed"):
        run(log, "item-knn", trials=0)


def test_what_an_observer_raises_ends_the_work(log: Path) -> None:
    class Enough(Exception):
        pass

    def observer(event: ProgressEvent, /) -> None:
        if event.stage == "trials" and event.done == 1:
            raise Enough

    with pytest.raises(Enough):
        run(log, progress=observer)


def test_the_folder_of_another_comparison_is_refused(log: Path, tmp_path: Path) -> None:
    run(log, "popularity", out=tmp_path / "kept", trials=0)
    with pytest.raises(ArtifactError, match="search"):
        run(log, "popularity", out=tmp_path / "kept", trials=0, sampler="exhaustive")
    with pytest.raises(ArtifactError, match="protocol"):
        run(log, "popularity", out=tmp_path / "kept", trials=0, settings={"protocol.cutoffs": [7]})
    other = tmp_path / "other.parquet"
    demo_interactions(n_users=90, n_items=60, rng=4).to_frame().write_parquet(other)
    with pytest.raises(ArtifactError, match="data"):
        run(other, "popularity", out=tmp_path / "kept", trials=0)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "letter.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="something else"):
        run(log, "popularity", out=tmp_path / "else", trials=0)


def test_a_metric_that_is_not_computed_is_refused() -> None:
    protocol = line_up(["ease/demo"]).ground.protocol
    assert metric_of(protocol, None) == "recall@20"
    with pytest.raises(RecipeError, match="recall@50 is not"):
        metric_of(protocol, "recall@50", measured=True)
    with pytest.raises(RecipeError, match="coverage@20"):
        metric_of(protocol, "coverage@20", measured=True)
    with pytest.raises(SpecError, match="coverage does not measure that"):
        metric_of(protocol, "coverage@20")


def test_models_of_other_data_are_refused() -> None:
    with pytest.raises(RecipeError, match="same data"):
        line_up(["ease/demo", "ease/gowalla"])
    assert [entry.name for entry in line_up(["ease/demo", "bspm/gowalla"], recipe="ease/demo").entries] == [
        "ease/demo",
        "bspm/gowalla",
    ]
    with pytest.raises(RecipeError, match="eese"):
        line_up(["eese"], own_data=True)
    with pytest.raises(RecipeError, match="named repeatedly: ease"):
        line_up(["ease", "ease"], own_data=True)
    with pytest.raises(RecipeError, match="--data"):
        line_up(["ease"])
    with pytest.raises(RecipeError, match="model"):
        line_up(["ease"], own_data=True, settings={"model.ridge": 3.0})


def test_the_advice_for_recipes_of_other_data_has_the_word_that_was_given(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(load_recipe("ease/demo").to_toml())
    with pytest.raises(RecipeError, match=re.escape(f"--recipe {file}.")):
        line_up(["ease", str(file), "ease/gowalla"])


def test_a_difference_needs_two_models_of_the_comparison(found: Comparison) -> None:
    for names in (("ease", "eese"), ("ease", "ease")):
        with pytest.raises(DataError):
            found.between(*names)


def test_a_line_up_needs_a_model() -> None:
    with pytest.raises(RecipeError, match="at least one model; none"):
        line_up([], own_data=True)


def test_models_over_other_items_are_not_put_side_by_side(found: Comparison) -> None:
    data = demo_interactions(n_users=120, n_items=60, rng=3)
    split = Random(fraction=0.2).apply(data, rng=1)
    protocol = line_up(MODELS, own_data=True).ground.protocol
    with pytest.raises(VocabularyMismatch, match="same items"):
        summarise([replace(found.results[0], items="sha256:0")], split, found.metric, protocol=protocol)
    fewer = replace(
        found.results[1],
        users=found.results[1].users.take(np.arange(3)),
        values=replace(found.results[1].values, values=found.results[1].values.values[:3].copy()),
    )
    with pytest.raises(VocabularyMismatch, match="users"):
        summarise([found.results[0], fewer], split, found.metric, protocol=protocol)


@pytest.mark.parametrize("kind", sorted(set(RECOMMENDERS) - {"popularity"}))
def test_every_kind_has_something_to_search(kind: str) -> None:
    split = Random(fraction=0.2).apply(demo_interactions(n_users=80, n_items=60, rng=3), rng=1)
    space = space_of(recommender_spec(kind)(), largest_rank=min(split.train.matrix.shape))
    assert space
    for dimension in space:
        values = dimension.all()
        assert values is not None
        assert len(values) > 1 or dimension.name.endswith("rank")
    assert space_of(recommender_spec("popularity")()) == ()


def test_an_empty_range_is_refused(log: Path) -> None:
    with pytest.raises(SpecError, match="values to try"):
        space_of(recommender_spec("ease")(), {"ridge": ()})
    found = run(log, "popularity", "ease", spaces={"ease": {"ridge": ()}})
    assert "values to try" in found.failures["ease"]


def test_a_filter_without_sharpening_has_no_idle_dimensions() -> None:
    lineup = line_up(["gf-cf"], own_data=True)
    names = [dimension.name for dimension in space_of(lineup.entries[0].model)]
    assert names == ["low_pass.rank", "low_pass.weight"]


def test_a_budget_of_seconds_ends_the_search(log: Path) -> None:
    lineup = line_up(["ease", "item-knn"], own_data=True, settings={"protocol.cutoffs": [5]})
    found = compare(lineup, data=log, search=Search(seconds=1e-9))
    assert {result.search["trials"] for result in found.results} == {1}


def test_a_pruner_changes_the_trials_and_not_those_without_one(log: Path, tmp_path: Path) -> None:
    """Its trials are kept apart; a model that is not trained by epochs comes out the same."""
    plain = run(log, "ease", "mult-vae", out=tmp_path / "out", trials=2)
    kept = {file: file.read_bytes() for file in (tmp_path / "out" / "trials").rglob("*.log")}
    lineup = line_up(["ease", "mult-vae"], own_data=True, settings={"protocol.cutoffs": [5, 10]})
    search = Search(trials=2, pruner="halving")
    found = compare(lineup, data=log, search=search, out=tmp_path / "out")
    assert all(file.read_bytes() == content for file, content in kept.items())
    assert "pruner halving" in found.budget
    assert "pruner" not in plain.budget
    chosen, before = ({each.name: each.chosen for each in one.results} for one in (found, plain))
    assert chosen["ease"] == before["ease"]
    folders = {path.name for path in (tmp_path / "out" / "trials").iterdir()}
    assert sum(name.endswith("-halving") for name in folders) == 2
    again = compare(lineup, data=log, search=search, out=tmp_path / "out")
    assert [each.chosen for each in again.results] == [each.chosen for each in found.results]


def test_strict_judges_by_the_last_in_time(log: Path) -> None:
    lineup = line_up(["ease"], own_data=True, protocol="strict")
    prepared = prepare(lineup.ground, data=log)
    held = hold_outs(prepared.split, Validation(), True, 0)
    split = held.splits[0]
    assert "last" in held.how
    assert split.train.timestamps is not None
    assert split.held_out.timestamps is not None
    for row in range(split.train.n_users):
        kept = split.train.timestamps[split.train.matrix.indptr[row] : split.train.matrix.indptr[row + 1]]
        held = split.held_out.timestamps[
            split.held_out.matrix.indptr[row] : split.held_out.matrix.indptr[row + 1]
        ]
        if len(held):
            assert kept.max() <= held.min()


def test_seeds_spread(log: Path) -> None:
    found = run(log, "mult-dae", "ease", trials=0, seeds=2, settings={"protocol.cutoffs": [5]})
    spread = found["mult-dae"].by_seed["recall@5"]
    assert len(spread) == 2
    assert spread[0] != spread[1]
    assert found["mult-dae"].values["recall@5"].mean() == pytest.approx(np.mean(spread))
    assert found["ease"].seeds == found["mult-dae"].seeds[:1]
    assert "± seeds" in markdown(found)
    assert "The training of mult-dae" in page(found)


def test_the_training_of_a_result_is_that_of_the_first_seed(log: Path) -> None:
    one, two = (run(log, "mult-dae", trials=0, seeds=seeds)["mult-dae"] for seeds in (1, 2))
    assert one.training
    assert one.training == two.training


def test_groups_partition_users(found: Comparison) -> None:
    users = [models["ease"] for label, models in found.groups.items() if label.startswith("users")]
    assert sum(figure.n_users for figure in users) == found.size["counted"]
    weighted = sum(figure.value * figure.n_users for figure in users) / found.size["counted"]
    assert weighted == pytest.approx(found.figures["ease"]["recall@5"].value)


def test_forms(found: Comparison, tmp_path: Path) -> None:
    plain = json.loads(found.to_json())
    assert [model["name"] for model in plain["models"]] == [result.name for result in found.results]
    assert len(plain["differences"]) == 3
    assert "| ease |" in markdown(found)
    html = page(found)
    assert html.count('<svg viewBox="0 0 440') >= 6
    assert "95 %" in html


def test_the_command(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", *MODELS, "--data", str(log), "--trials", "2", "--out", str(tmp_path / "made")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "is first with recall@10" in shown
    for name in ("leaderboard.md", "report.json", "report.html", "comparison.json"):
        assert (tmp_path / "made" / name).is_file()
    best = json.loads((tmp_path / "made" / "report.json").read_text())["models"][0]
    named = ["--model", str(tmp_path / "made" / "winner.toml"), "--out", str(tmp_path / "model")]
    assert main(["fit", str(log), *named]) == 0
    spec = load(tmp_path / "model").spec
    assert {"kind": spec.kind, **spec_to_dict(spec)} == best["chosen"]
    capsys.readouterr()
    assert len(list((tmp_path / "made" / "models").glob("*.parquet"))) == 3
    frame = pl.read_parquet(next((tmp_path / "made" / "models").glob("ease-*.parquet")))
    assert frame["recall@10"].mean() == pytest.approx(
        next(
            model["figures"]["recall@10"]["value"]
            for model in json.loads((tmp_path / "made" / "report.json").read_text())["models"]
            if model["name"] == "ease"
        )
    )
    assert main([*words[:-4], "--trials", "3", "--out", str(tmp_path / "made")]) == 0
    report = json.loads((tmp_path / "made" / "report.json").read_text())
    assert {model["search"].get("trials", 0) for model in report["models"]} == {0, 3}
    assert main([*words, "--space", "ease.ridge=[3.0, 9.0]"]) == 2
    assert "spaces" in capsys.readouterr().err
    for wrong in ("eese.ridge=[3.0]", "ease=[3.0]", "ease.ridge=3.0"):
        assert main([*words, "--space", wrong]) == 2
        assert "KIND.PATH" in capsys.readouterr().err
    assert main([*words, "--protocol", "fair"]) == 2


@pytest.mark.parametrize(
    "options",
    [["--sampler", "bayes"], ["--pruner", "median"], ["--set", "search.trials=50"]],
    ids=lambda o: o[-1],
)
def test_options_of_a_search_that_does_not_start_are_refused(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert main(["compare", "popularity", "--data", str(log), "--out", str(tmp_path / "out"), *options]) == 2
    assert "only --trials or --seconds start a search" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
