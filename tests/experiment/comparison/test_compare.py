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
from unblur.evaluation.metrics import diversity
from unblur.experiment.comparison import running as running_module
from unblur.experiment.comparison.lineup import line_up
from unblur.experiment.comparison.page import comparison_document
from unblur.experiment.comparison.results import Comparison, summarise
from unblur.experiment.comparison.running import compare
from unblur.experiment.ranking import prepare
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.searching import metric_of, search_of
from unblur.experiment.validation import hold_outs
from unblur.models.linear.ease import EASE
from unblur.progress import ProgressEvent, Run
from unblur.ranking import Selection
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


def run(log: Path, *models: str, out: Path | None = None, trials: int = 3, **options: Any) -> Comparison:
    settings = {"protocol.cutoffs": [5, 10]} | options.pop("settings", {})
    search = Search(trials=max(trials, 1), sampler=options.pop("sampler", "random"))
    asked = {name: options.pop(name) for name in ("protocol", "seeds", "spaces") if name in options}
    lineup = line_up(models or MODELS, data=log, settings=settings, search=search, **asked)
    return compare(lineup, out=out, **options)


@pytest.fixture(scope="module")
def comparison(log: Path) -> Comparison:
    return run(log)


def markdown(comparison: Comparison) -> str:
    return as_markdown(comparison_document(comparison))


def page(comparison: Comparison) -> str:
    return as_html(comparison_document(comparison))


def test_the_numbers_are_those_of_a_plain_evaluation(comparison: Comparison, log: Path) -> None:
    """Fit the chosen spec by hand, evaluate by the protocol: the same value of each user."""
    lineup = line_up(MODELS, data=log, settings={"protocol.cutoffs": [5, 10]})
    prepared = prepare(lineup.ground, data=log)
    for result in comparison.results:
        plain = dict(result.chosen)
        kind = recommender_spec(str(plain.pop("kind")))
        model = spec_from_dict(kind, plain).fit(prepared.split.train)
        evaluation = prepared.recipe.protocol.evaluate(model, prepared.split)
        np.testing.assert_allclose(result.values["recall@5"], evaluation.per_user["recall@5"])
        assert comparison.figures[result.name]["ndcg@10"].value == pytest.approx(evaluation["ndcg@10"].value)
        assert result.curve[4][1] == pytest.approx(evaluation["recall@5"].value)
    means = [comparison.figures[result.name]["recall@5"].value for result in comparison.results]
    assert means == sorted(means, reverse=True)
    assert comparison.verdict().startswith(comparison.results[0].name)


def test_each_model_has_the_same_budget(comparison: Comparison) -> None:
    assert {result.name: result.search.get("trials", 0) for result in comparison.results} == {
        "popularity": 0,
        "item-knn": 3,
        "ease": 3,
    }


def test_nothing_is_chosen_on_test(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the held-out items of half the users gone, the same trials come out."""
    full = run(log, out=tmp_path / "one", trials=4)

    def fewer(*args: Any, **kwargs: Any) -> Any:
        prepared = prepare(*args, **kwargs)
        held_out = prepared.split.held_out
        first_half = held_out.keep(held_out.rows() < held_out.n_users // 2)
        return replace(prepared, split=replace(prepared.split, held_out=first_half))

    monkeypatch.setattr(running_module, "prepare", fewer)
    half = run(log, out=tmp_path / "two", trials=4)
    for name in MODELS:
        assert full[name].chosen == half[name].chosen
        assert full[name].search.get("value") == half[name].search.get("value")
    assert full.size["counted"] > half.size["counted"]


def measured_kinds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which the kind of each model is added when it is measured from now on."""
    measured: list[str] = []
    measure = running_module.measure

    def counting(prepared: Any, **kwargs: Any) -> Any:
        measured.append(prepared.recipe.model.kind)
        return measure(prepared, **kwargs)

    monkeypatch.setattr(running_module, "measure", counting)
    return measured


def test_a_second_call_computes_only_what_is_missing(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(log, out=tmp_path / "kept")
    files = sorted((tmp_path / "kept" / "models").iterdir())
    before = [file.stat().st_mtime_ns for file in files]
    measured = measured_kinds(monkeypatch)
    repeated = run(log, out=tmp_path / "kept")
    assert measured == []
    assert repeated.figures == first.figures
    assert repeated.differences == first.differences
    assert markdown(repeated).partition("## Notes")[0] == markdown(first).partition("## Notes")[0]
    extended = run(log, *MODELS, "pure-svd", out=tmp_path / "kept")
    assert measured == ["pure-svd"]
    assert len(extended.results) == 4
    assert [file.stat().st_mtime_ns for file in files] == before


def test_a_larger_budget_adds_to_what_is_there(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trials, then five in the same folder: the same as five at once, and the first two are not repeated."""
    run(log, out=tmp_path / "kept", trials=2)
    before = {file: file.read_bytes() for file in (tmp_path / "kept").rglob("trials.log")}
    assert before
    measured = measured_kinds(monkeypatch)
    extended = run(log, out=tmp_path / "kept", trials=5)
    assert all(file.read_bytes().startswith(content) for file, content in before.items())
    in_the_end = list(measured)
    at_once = run(log, out=tmp_path / "at-once", trials=5)
    assert at_once.figures == extended.figures
    assert [result.chosen for result in extended.results] == [result.chosen for result in at_once.results]
    assert {result.name: result.search.get("trials", 0) for result in extended.results} == {
        "popularity": 0,
        "item-knn": 5,
        "ease": 5,
    }
    assert (
        "popularity" not in in_the_end
    )  # its chosen setting is unchanged, so it was neither fitted nor tested again
    less = run(log, out=tmp_path / "kept", trials=2)
    assert {result.search.get("trials", 0) for result in less.results} == {0, 2}


def test_the_first_setting_is_the_model_as_given(log: Path) -> None:
    prepared = prepare(line_up(MODELS, data=log, settings={"protocol.cutoffs": [5, 10]}).ground, data=log)
    for kind, path in (("ease", "ridge"), ("item-knn", "neighbours")):
        spec = recommender_spec(kind)()
        trial = search_of(prepared.with_model(spec), Run(), Search(trials=2)).run().trials[0]
        assert trial.point[path] == getattr(spec, path)


def test_a_filter_too_wide_for_the_data_is_not_tried_as_given(log: Path) -> None:
    """With 60 items and a higher default rank, the ranks that fit are searched."""
    comparison = run(log, "bspm", trials=3)
    assert comparison["bspm"].search["failed"] == 0


def test_figures_on_disk_make_the_same_tables(comparison: Comparison) -> None:
    again = Comparison.from_dict(json.loads(comparison.to_json()))
    assert markdown(again) == markdown(comparison)
    assert again.verdict() == comparison.verdict()
    with pytest.raises(ArtifactError, match="this version"):
        Comparison.from_dict({**json.loads(comparison.to_json()), "schema": 1})
    with pytest.raises(ArtifactError, match="this version"):
        Comparison.from_dict({"schema": 2})


def test_results_with_the_energy_of_earlier_versions_load(comparison: Comparison) -> None:
    plain = json.loads(comparison.to_json())
    for model in plain["models"]:
        model["costs"]["joules"] = 12.5
    assert Comparison.from_dict(plain).figures == comparison.figures


def test_a_damaged_result_is_computed_again(log: Path, tmp_path: Path) -> None:
    first = run(log, out=tmp_path / "kept", trials=0)
    table = next((tmp_path / "kept" / "models").glob("ease-*.parquet"))
    table.write_bytes(table.read_bytes()[:-7])
    assert run(log, out=tmp_path / "kept", trials=0).figures == first.figures


def test_a_result_that_was_changed_is_computed_again(log: Path, tmp_path: Path) -> None:
    first = run(log, "popularity", out=tmp_path / "kept", trials=0)
    file = next((tmp_path / "kept" / "models").glob("*.json"))
    whole = file.read_text()
    changed = whole.replace('"fit_seconds": ', '"fit_seconds": 99', 1)
    assert changed != whole
    for text, seconds in ((changed, (0, 99)), (changed[: changed.rindex(",")] + "}", (99, 1e9))):
        file.write_text(text)  # the second is as an earlier version wrote it, without a checksum
        again = run(log, "popularity", out=tmp_path / "kept", trials=0)
        assert again.figures == first.figures
        assert seconds[0] <= again.results[0].costs.fit_seconds < seconds[1]
    file.write_text('{"table": ' + "[" * 5000 + "]" * 5000 + "}")
    assert run(log, "popularity", out=tmp_path / "kept", trials=0).figures == first.figures
    identity = tmp_path / "kept" / "comparison.json"
    identity.write_text(identity.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ArtifactError, match="changed after it was written"):
        run(log, "popularity", out=tmp_path / "kept", trials=0)


def test_one_failed_model_does_not_lose_the_others(tmp_path: Path) -> None:
    """A time-aware model on data without times fails, and the others succeed."""
    place = tmp_path / "log.parquet"
    demo_interactions(n_users=80, n_items=60, rng=3).to_frame().select("user", "item").write_parquet(place)
    comparison = run(place, "popularity", "recency", "ease", out=tmp_path / "kept")
    assert [result.name for result in comparison.results] == ["ease", "popularity"]
    assert "timestamps" in comparison.failures["recency"]
    assert "recency" in markdown(comparison)
    assert "recency" in page(comparison)


def test_any_error_of_a_model_leaves_the_others_running(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, train: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("in the middle")

    monkeypatch.setattr(recommender_spec("item-knn"), "learn", broken)
    comparison = run(log, trials=0)
    assert comparison.failures == {"item-knn": "ZeroDivisionError: in the middle"}
    with pytest.raises(RecipeError, match="all failed"):
        run(log, "item-knn", trials=0)


def test_an_error_of_an_observer_ends_the_comparison(log: Path) -> None:
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
        line_up(["eese"], data="log.csv")
    with pytest.raises(RecipeError, match="named repeatedly: ease"):
        line_up(["ease", "ease"], data="log.csv")
    with pytest.raises(RecipeError, match="--data"):
        line_up(["ease"])
    with pytest.raises(RecipeError, match="model"):
        line_up(["ease"], data="log.csv", settings={"model.ridge": 3.0})


def test_the_advice_for_recipes_of_other_data_names_the_given_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(load_recipe("ease/demo").to_toml())
    with pytest.raises(RecipeError, match=re.escape(f"--recipe {file}.")):
        line_up(["ease", str(file), "ease/gowalla"])


def test_a_difference_needs_two_models_of_the_comparison(comparison: Comparison) -> None:
    for names in (("ease", "eese"), ("ease", "ease")):
        with pytest.raises(DataError):
            comparison.between(*names)


def test_a_line_up_needs_a_model() -> None:
    with pytest.raises(RecipeError, match="at least one model; none"):
        line_up([], data="log.csv")


def test_models_over_other_items_are_not_compared(comparison: Comparison) -> None:
    data = demo_interactions(n_users=120, n_items=60, rng=3)
    split = Random(fraction=0.2).apply(data, rng=1)
    protocol = line_up(MODELS, data="log.csv").ground.protocol
    with pytest.raises(VocabularyMismatch, match="same items"):
        summarise(
            [replace(comparison.results[0], items="sha256:0")], split, comparison.metric, protocol=protocol
        )
    fewer = replace(
        comparison.results[1],
        users=comparison.results[1].users.take(np.arange(3)),
        values=replace(comparison.results[1].values, values=comparison.results[1].values.values[:3].copy()),
    )
    with pytest.raises(VocabularyMismatch, match="users"):
        summarise([comparison.results[0], fewer], split, comparison.metric, protocol=protocol)


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
    comparison = run(log, "popularity", "ease", spaces={"ease": {"ridge": ()}})
    assert "values to try" in comparison.failures["ease"]


def test_a_filter_without_sharpening_has_no_idle_dimensions() -> None:
    lineup = line_up(["gf-cf"], data="log.csv")
    names = [dimension.name for dimension in space_of(lineup.entries[0].model)]
    assert names == ["low_pass.rank", "low_pass.weight"]


def test_a_budget_of_seconds_ends_the_search(log: Path) -> None:
    search = Search(seconds=1e-9)
    comparison = compare(
        line_up(["pure-svd", "item-knn"], data=log, settings={"protocol.cutoffs": [5]}, search=search)
    )
    assert {result.search["trials"] for result in comparison.results} == {1}


def test_a_pruner_changes_the_trials_and_not_those_without_one(log: Path, tmp_path: Path) -> None:
    """Its trials are kept apart; a model that is not trained by epochs has the same result."""
    plain = run(log, "ease", "mult-vae", out=tmp_path / "out", trials=2)
    before_bytes = {file: file.read_bytes() for file in (tmp_path / "out" / "trials").rglob("*.log")}
    search = Search(trials=2, pruner="halving")
    lineup = line_up(["ease", "mult-vae"], data=log, settings={"protocol.cutoffs": [5, 10]}, search=search)
    comparison = compare(lineup, out=tmp_path / "out")
    assert all(file.read_bytes() == content for file, content in before_bytes.items())
    assert "pruner halving" in comparison.budget
    assert "pruner" not in plain.budget
    chosen, before = ({each.name: each.chosen for each in runs.results} for runs in (comparison, plain))
    assert chosen["ease"] == before["ease"]
    folders = {path.name for path in (tmp_path / "out" / "trials").iterdir()}
    assert sum(name.endswith("-halving") for name in folders) == 2
    repeated = compare(lineup, out=tmp_path / "out")
    assert [each.chosen for each in repeated.results] == [each.chosen for each in comparison.results]


def test_strict_judges_by_the_last_in_time(log: Path) -> None:
    lineup = line_up(["ease"], data=log, protocol="strict")
    prepared = prepare(lineup.ground, data=log)
    held = hold_outs(prepared.split, Validation(), True, 0)
    split = held.splits[0]
    assert "last" in held.how
    assert split.train.timestamps is not None
    assert split.held_out.timestamps is not None
    for row in range(split.train.n_users):
        train_times = split.train.timestamps[
            split.train.matrix.indptr[row] : split.train.matrix.indptr[row + 1]
        ]
        held = split.held_out.timestamps[
            split.held_out.matrix.indptr[row] : split.held_out.matrix.indptr[row + 1]
        ]
        if len(held):
            assert train_times.max() <= held.min()


def test_seeds_spread(log: Path) -> None:
    comparison = run(log, "mult-dae", "ease", trials=0, seeds=2, settings={"protocol.cutoffs": [5]})
    spread = comparison["mult-dae"].by_seed["recall@5"]
    assert len(spread) == 2
    assert spread[0] != spread[1]
    assert comparison["mult-dae"].values["recall@5"].mean() == pytest.approx(np.mean(spread))
    assert comparison["ease"].seeds == comparison["mult-dae"].seeds[:1]
    assert "± seeds" in markdown(comparison)
    assert "The training of mult-dae" in page(comparison)


def test_the_training_of_a_result_is_that_of_the_first_seed(log: Path) -> None:
    one, two = (run(log, "mult-dae", trials=0, seeds=seeds)["mult-dae"] for seeds in (1, 2))
    assert one.training
    assert one.training == two.training


def test_groups_partition_users(comparison: Comparison) -> None:
    users = [models["ease"] for label, models in comparison.groups.items() if label.startswith("users")]
    assert sum(figure.n_users for figure in users) == comparison.size["counted"]
    weighted = sum(figure.value * figure.n_users for figure in users) / comparison.size["counted"]
    assert weighted == pytest.approx(comparison.figures["ease"]["recall@5"].value)


def test_json_markdown_and_page(comparison: Comparison, tmp_path: Path) -> None:
    plain = json.loads(comparison.to_json())
    assert [model["name"] for model in plain["models"]] == [result.name for result in comparison.results]
    assert len(plain["differences"]) == 3
    assert "| ease |" in markdown(comparison)
    html = page(comparison)
    assert html.count('<svg viewBox="0 0 440') >= 6
    assert "95 %" in html


def test_the_command(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", *MODELS, "--data", str(log), "--trials", "2", "--out", str(tmp_path / "made")]
    assert main(words) == 0
    output = capsys.readouterr().out
    assert "is first with recall@10" in output
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
    for bad in ("eese.ridge=[3.0]", "ease=[3.0]", "ease.ridge=3.0"):
        assert main([*words, "--space", bad]) == 2
        assert "KIND.PATH" in capsys.readouterr().err
    assert main([*words, "--protocol", "fair"]) == 2


def test_re_ranked_lists_are_rows(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[str] = []
    learn = EASE.learn
    monkeypatch.setattr(EASE, "learn", lambda *args, **more: fits.append("ease") or learn(*args, **more))
    selections = (Selection(diversity=0.5), Selection(popularity=0.2))
    lineup = replace(line_up(["popularity", "ease"], data=log), selections=selections)
    comparison = compare(lineup, out=tmp_path / "out")
    names = {
        "popularity",
        "popularity, popularity 0.2",
        "ease",
        "ease, diversity 0.5",
        "ease, popularity 0.2",
    }
    assert {result.name for result in comparison.results} == names
    assert any("popularity: no similar items" in note for note in comparison.notes)
    assert fits == ["ease"]  # one model has all three lists
    # The figures are those of the same lists, asked for by hand.
    split = prepare(lineup.ground, data=log).split
    model = EASE().fit(split.train)
    for name, selection in (("ease, diversity 0.5", selections[0]), ("ease, popularity 0.2", selections[1])):
        ranking = lineup.ground.protocol.rank(model, split, selection=selection)
        evaluation = lineup.ground.protocol.measure(ranking, split)
        figures = comparison.figures[name]
        assert figures["recall@10"].value == pytest.approx(evaluation["recall@10"].value)
        assert figures["diversity@10"].value == pytest.approx(
            diversity(ranking.positions[:, :10], split.train).mean()
        )
    plain = comparison.figures["ease"]
    assert comparison.figures["ease, diversity 0.5"]["diversity@10"].value > plain["diversity@10"].value
    assert comparison.figures["ease, popularity 0.2"]["novelty@10"].value > plain["novelty@10"].value
    # A folder of a comparison without them is gone on with, and what is there is read again.
    assert len(compare(lineup, out=tmp_path / "out").results) == 5
    assert fits == ["ease"] * 2
    words = ["compare", "ease", "--data", str(log), "--out", str(tmp_path / "out"), "--diversity", "0.5"]
    assert main([*words, "--popularity", "0.2"]) == 0
    assert fits == ["ease"] * 2
    assert main([*words, "--popularity", "0.3"]) == 0
    assert fits == ["ease"] * 3
    assert "| ease, popularity 0.3 |" in (tmp_path / "out" / "leaderboard.md").read_text()


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
