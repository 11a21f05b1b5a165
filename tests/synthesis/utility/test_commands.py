"""`unblur run`, `tune` and `synthesize` with synthesizers, from files to folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from tests.synthesis.utility.rated import MODEL, QUICK, write_parts, write_recipe
from unblur.cli.main import main
from unblur.data import files as sources
from unblur.data.interactions import Interactions
from unblur.experiment.recipe.library import load_recipe
from unblur.models.linear.factors import TruncatedSVD
from unblur.progress import Run
from unblur.randomness import streams
from unblur.synthesis.discretization import Discretization
from unblur.synthesis.synthesizer import load_synthesizer
from unblur.synthesis.utility.task import PreparedUsers, UtilityTask, utility_task

ARMS = ("full", "multi-resolution", "plain-vae", "no-synthetic", "ease")


def figures(folder: Path) -> dict[str, float]:
    values = json.loads((folder / "report.json").read_text())
    return {entry["name"]: entry["value"] for entry in values["measurements"]}


def test_a_run_measures_every_arm_and_keeps_the_synthesizer(tmp_path: Path) -> None:
    parts, recipe, out = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml"), tmp_path / "out"
    words = ["run", recipe, "--data", parts, "--seeds", "2", "--out", out]
    assert main([*map(str, words)]) == 0
    values = figures(out)
    assert [name for name in values if name.endswith(" ndcg@5")] == [f"{arm} ndcg@5" for arm in ARMS]
    gap = values["full capped_recall@5"] - values["ease capped_recall@5"]
    assert values["full − ease capped_recall@5"] == pytest.approx(gap)
    assert values["ease capped_recall@5 deviation over runs"] == 0
    report = json.loads((out / "report.json").read_text())
    assert set(report["provenance"]["data"]) == {
        name + reading for name in ("train", "test", "valid") for reading in ("", " (observed)")
    }
    assert report["provenance"]["spec"]["downstream"]["kind"] == "truncated-svd"
    assert any("batch_size is 90, not 500" in note for note in report["notes"])
    synthesizer = load_synthesizer(out / "synthesizer")
    assert synthesizer.n_real_users == 90
    assert isinstance(load_recipe(out / "recipe.toml").task, UtilityTask)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["d", "out", "r.toml"]


def test_the_same_run_twice_gives_the_same_figures_and_replace_gives_others(tmp_path: Path) -> None:
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml")
    runs: list[dict[str, float]] = []
    for name, options in {"a": [], "b": [], "c": ["--set", "utility.mode=replace"]}.items():
        words = ["run", recipe, "--data", parts, "--out", tmp_path / name, *options]
        assert main([*map(str, words)]) == 0
        runs.append(figures(tmp_path / name))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert runs[0]["no-synthetic ndcg@5"] == runs[2]["no-synthetic ndcg@5"]


def test_the_zero_threshold_applies_under_the_papers_protocol(tmp_path: Path) -> None:
    """The departure overrides the synthesizer's own rule for every arm, and not under the strict protocol."""
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml")
    known = load_recipe(recipe)
    samples: dict[tuple[bool, str, str], Interactions] = {}
    for on, kind in ((False, "paper"), (True, "paper"), (True, "strict")):
        variant = known.changed({"utility.departures.zero_threshold": on, "protocol.kind": kind})
        prepared = utility_task(variant, "").prepare(variant, parts)
        synthesizer: Any = prepared.fit(1, Run())
        for arm in ("full", "plain-vae"):
            samples[on, kind, arm] = prepared.sample(synthesizer, arm, 1)
            rule = Discretization(rule="zero-threshold")
            other = synthesizer.plain if arm == "plain-vae" else synthesizer
            expected = other.with_settings(discretization=rule).sample(
                samples[on, kind, arm].n_users, rng=streams(1, f"sample {arm}")[f"sample {arm}"]
            )
            is_equal = samples[on, kind, arm].fingerprint() == expected.fingerprint()
            assert is_equal == (on and kind == "paper")


def test_an_interrupted_run_resumes_after_the_last_measured_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, recipe, checkpoints = (
        write_parts(tmp_path / "d"),
        write_recipe(tmp_path / "r.toml"),
        tmp_path / "kept",
    )
    words = ["run", recipe, "--data", parts, "--seeds", "2"]
    assert main([*map(str, words), "--out", str(tmp_path / "whole")]) == 0
    fits: list[str] = []
    learn = TruncatedSVD.learn

    def fit(self: TruncatedSVD, train: Any, **options: Any) -> Any:
        fits.append(self.kind)
        if len(fits) == 6:  # the second arm of the second seed
            raise KeyboardInterrupt
        return learn(self, train, **options)

    monkeypatch.setattr(TruncatedSVD, "learn", fit)
    command = [*map(str, words), "--checkpoints", str(checkpoints), "--out", str(tmp_path / "again")]
    assert main(command) == 130
    assert not (tmp_path / "again").exists()
    assert main(command) == 0
    assert len(fits) == 6 + 3  # that arm and the two after it; earlier ones were kept
    assert figures(tmp_path / "again") == figures(tmp_path / "whole")
    (file,) = (checkpoints / "seed-1").glob("arms-*.json")
    file.write_text("{")
    assert main([*command, "--overwrite"]) == 2


def test_strict_runs_turn_the_departures_off(tmp_path: Path) -> None:
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml")
    words = ["run", recipe, "--data", parts, "--out", tmp_path / "out", "--set", "protocol.kind=strict"]
    assert main([*map(str, words)]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["provenance"]["spec"]["diffusion"]["noise_without_root"] is False
    assert any(
        "81 learned from, 9 stopped by (a group of its own), 20 reported" in note for note in report["notes"]
    )
    assert set(report["provenance"]["data"]) == {"train", "test", "valid"}


def test_seeds_of_a_synthesizer_in_parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are the same, and this process samples and measures nothing again."""
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml")
    words = ["run", recipe, "--data", parts, "--seeds", "2", "--out"]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main([*map(str, (*words, tmp_path / "one"))]) == 0
        monkeypatch.setattr(PreparedUsers, "sample", lambda *args: pytest.fail("sampled again"))
        assert main([*map(str, (*words, tmp_path / "beside", "--workers", "2"))]) == 0
    finally:
        torch.set_num_threads(before)
    assert figures(tmp_path / "beside") == figures(tmp_path / "one")


@pytest.mark.parametrize("kind", ["vae-sampler", "independent-items"])
def test_other_synthesizers_and_one_file(tmp_path: Path, kind: str) -> None:
    vae = {"vae": MODEL["vae"]} if kind == "vae-sampler" else {}
    recipe = write_recipe(tmp_path / "r.toml", {"model": {"kind": kind, **vae}})
    parts = write_parts(tmp_path / "d")
    words = ["run", recipe, "--data", parts / "train.parquet", "--out", tmp_path / "out"]
    assert main([*map(str, words)]) == 0
    arm = "plain-vae" if kind == "vae-sampler" else "synthetic"
    assert next(iter(figures(tmp_path / "out"))) == f"{arm} capped_recall@1"


def test_parts_that_share_users_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml")
    (parts / "valid.parquet").write_bytes((parts / "test.parquet").read_bytes())
    assert main(["run", str(recipe), "--data", str(parts), "--out", str(tmp_path / "out")]) == 2
    assert "share users" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def trials_of(out: Path) -> list[dict[str, Any]]:
    """The rows of the table of trials, by number."""
    return list(pl.read_parquet(out / "trials.parquet").sort("trial").iter_rows(named=True))


def test_a_search_begins_with_the_recipe_and_can_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small: dict[str, Any] = {**MODEL, "diffusion": {**MODEL["diffusion"], "epochs": 5, "batch_size": 30}}
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml", {"model": small})
    words = ["tune", recipe, "--data", parts, "--sampler", "random", "--out", tmp_path / "one", "--trials"]
    assert main([*map(str, words), "1"]) == 0
    (first,) = trials_of(tmp_path / "one")
    assert first["vae.hidden"] == 8
    assert first["diffusion.epochs"] == 5
    assert 0 <= first["capped_recall@5"] <= 1
    assert "users who neither stop a training nor are reported on" in " ".join(
        capsys.readouterr().out.split()
    )
    assert load_recipe(tmp_path / "one" / "recipe.toml").name == "sdrm/quick-tuned"
    table = pl.read_parquet(tmp_path / "one" / "trials.parquet")
    assert table["capped_recall@5"].to_list() == [first["capped_recall@5"]]
    assert "History: 1 trials." in (tmp_path / "one" / "report.html").read_text()
    assert (
        main([*map(str, words), "2", "--overwrite"]) == 0
    )  # the run's folder is replaced, and the search is resumed
    assert pl.read_parquet(tmp_path / "one" / "trials.parquet")["trial"].sort().to_list() == [0, 1]


def test_settings_that_are_given_are_not_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml")
    fixed = {"vae.hidden": 9, "diffusion.epochs": 1, "diffusion.steps": 3}
    words = [
        "tune",
        recipe,
        "--data",
        parts,
        "--sampler",
        "random",
        "--out",
        tmp_path / "one",
        "--trials",
        "2",
    ]
    words += [word for path, value in fixed.items() for word in ("--set", f"model.{path}={value}")]
    assert main([*map(str, words)]) == 0
    trials = trials_of(tmp_path / "one")
    assert len(trials) == 2
    assert not any(set(fixed) & set(trial) for trial in trials)
    chosen = load_recipe(tmp_path / "one" / "recipe.toml")
    assert (chosen.model.vae.hidden, chosen.model.diffusion.epochs, chosen.model.diffusion.steps) == (9, 1, 3)
    assert json.loads((tmp_path / "one" / "report.json").read_text())["recipe"] == chosen.name
    every = [
        word
        for name in trials[0]
        if name.startswith(("vae.", "diffusion."))
        for word in ("--set", f"model.{name}={trials[0][name]:.15g}")
    ]
    capsys.readouterr()
    assert main([*map(str, (*words, "--overwrite", *every))]) == 2
    assert "A search needs at least one free setting" in " ".join(capsys.readouterr().err.split())


def test_trials_of_another_protocol_are_not_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml")
    words = ["tune", recipe, "--data", parts, "--sampler", "random", "--trials", "1", "--out", tmp_path / "a"]
    words += ["--set", "utility.observed=off", "--set"]
    assert main([*map(str, words), "protocol.kind=strict"]) == 0
    assert main([*map(str, words), "protocol.kind=paper", "--overwrite"]) == 2
    assert "protocol" in capsys.readouterr().err


def test_a_small_space_is_searched_completely_from_the_given_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []

    def value(prepared: Any, *_: object) -> float:
        diffusion = prepared.recipe.model.diffusion
        tried.append((diffusion.hidden_layers, diffusion.noise_variance_diminisher))
        return float(diffusion.hidden_layers)

    monkeypatch.setattr(PreparedUsers, "value", value)
    model = {**MODEL, "diffusion": {**MODEL["diffusion"], "noise_variance_diminisher": 0.25}}
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml", {"model": model})
    words = ["tune", recipe, "--data", parts, "--trials", "200"]
    for path, value in {
        "vae": "{latent = 4, hidden = 8, batch_size = 30, optimizer = {learning_rate = 0.01}, epochs = 3, "
        "stopping = {metric = 'capped_recall@5'}}",
        **{f"diffusion.{name}": value for name, value in {"epochs": 2, "steps": 4, "batch_size": 30}.items()},
        "diffusion.optimizer.learning_rate": 1e-5,
    }.items():
        words += ["--set", f"model.{path}={value}"]
    for sampler in ("random", "exhaustive"):
        options = ["--set", "model.diffusion.noise_variance_diminisher=0.25", "--sampler", sampler]
        tried.clear()
        assert main([*map(str, words), *options, "--out", str(tmp_path / sampler)]) == 0
        assert sorted(tried) == [(layers, 0.25) for layers in range(6)]
        assert tried[0][0] == 1  # the recipe's own
    pytest.importorskip("optuna")
    words[words.index("200")] = "14"
    tried.clear()
    assert main([*map(str, words), "--out", str(tmp_path / "bayes")]) == 0
    assert tried[0] == (1, 0.25)  # not a choice of the space, so later trials do not have it
    assert len(tried) == 14
    assert 0.25 not in {diminisher for _, diminisher in tried[1:]}


def test_a_search_samples_as_the_recipe_says(tmp_path: Path) -> None:
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml")
    values = {}
    for sampling in ("full", "multi-resolution"):
        known = load_recipe(str(recipe)).changed({"model.sampling": sampling})
        prepared = utility_task(known, "").prepare(known, parts).searching()
        values[sampling] = prepared.value("capped_recall@5", 1, Run())
    assert values["full"] != values["multi-resolution"]


def test_a_setting_that_runs_out_of_memory_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[Exception] = [
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 8 bytes"
        ),
        MemoryError(),
    ]

    def value(*_: object) -> float:
        if problems:
            raise problems.pop()
        return 0.5

    monkeypatch.setattr(PreparedUsers, "value", value)
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml")
    words = ["tune", recipe, "--data", parts, "--sampler", "random", "--trials", "3", "--out", tmp_path / "a"]
    assert main([*map(str, words)]) == 0
    trials = trials_of(tmp_path / "a")
    assert [trial["capped_recall@5"] for trial in trials] == [None, None, 0.5]
    assert all(trial["problem"] for trial in trials[:2])


def test_a_comparison_of_unmeasured_metrics_is_left_out_and_noted(tmp_path: Path) -> None:
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml")
    words = [
        "run",
        recipe,
        "--data",
        parts,
        "--out",
        tmp_path / "a",
        "--set",
        'utility.metrics=["recall@7"]',
    ]
    assert main([*map(str, words)]) == 0
    notes = json.loads((tmp_path / "a" / "report.json").read_text())["notes"]
    assert any(note.startswith("not compared,") and "recall@7" in note for note in notes)


def test_a_setting_is_the_mean_of_its_trainings_and_a_bad_one_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Successive halving over trainings: the first setting has all of its own, a worse one ends after its first."""
    small: dict[str, Any] = {**MODEL, "diffusion": {**MODEL["diffusion"], "epochs": 5, "batch_size": 30}}
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml", {"model": small})
    values_by_width = {8: [0.2, 0.4, 0.3]}

    def value(prepared: Any, metric: str, seed: int, run: object) -> float:
        return values_by_width.get(prepared.recipe.model.vae.hidden, [0.1, 0.9, 0.9])[seed - 7]

    monkeypatch.setattr(PreparedUsers, "value", value)
    words = ["tune", recipe, "--data", parts, "--sampler", "random", "--out", tmp_path / "one", "--seed", "7"]
    words += ["--trainings", "3", "--pruner", "halving", "--trials"]
    assert main([*map(str, words), "3"]) == 0
    trials = trials_of(tmp_path / "one")
    assert trials[0]["capped_recall@5"] == pytest.approx(0.3)
    for other in trials[1:]:
        assert (other["pruned"], other["capped_recall@5"]) == (True, None)
    words[words.index("--out") + 1] = tmp_path / "two"
    assert main([*map(str, words), "2"]) == 0
    assert main([*map(str, words), "3", "--overwrite"]) == 0  # resumed: the same third setting
    points = [[{**trial, "seconds": 0} for trial in trials_of(tmp_path / name)] for name in ("one", "two")]
    assert points[0] == points[1]


@pytest.mark.parametrize(
    ("recipe", "words", "message"),
    [
        ("sdrm/alb-svd", ["--pruner", "halving"], "with --trainings 1 there is only one"),
        (
            "sdrm/alb-svd",
            ["--pruner", "median", "--trainings", "9"],
            "must be halving, which ends settings between trainings; saw median",
        ),
        ("sdrm/alb-svd", ["--trainings", "2", "--pruner", "halves"], "pruner of Search"),
        ("sdrm/alb-svd", ["--hold-out", "block"], "the users that utility.search_users sets apart"),
        ("sdrm/alb-svd", ["--draws", "3"], "the users that utility.search_users sets apart"),
        (
            "sdrm/alb-svd",
            ["--metric", "recall@20"],
            "The metric to choose by must be measured; recall@20 is not",
        ),
        ("sdrm/alb-svd", ["--set", "utility.metrics=[]"], "metrics of Utility"),
        ("sdrm/alb-svd", ["--set", "utility.learn=[]"], "learn of Utility"),
    ],
)
def test_searches_that_make_no_sense_are_refused(
    recipe: str, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_parts(tmp_path / "d")
    out = tmp_path / "out"
    assert main(["tune", recipe, "--data", str(data), "--out", str(out), *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


@pytest.fixture
def data(log: Interactions, tmp_path: Path) -> Path:
    sources.write(log, tmp_path / "own.parquet")
    return tmp_path / "own.parquet"


SETTINGS = [
    word
    for path, value in {
        "model.vae.hidden": 8,
        "model.vae.latent": 4,
        "model.vae.epochs": 2,
        "model.vae.batch_size": 20,
        "model.diffusion.epochs": 2,
        "model.diffusion.steps": 4,
        "model.diffusion.batch_size": 20,
        "seed": 3,
    }.items()
    for word in ("--set", f"{path}={value}")
]


def test_synthesizing_own_data_writes_a_sample_and_its_card(
    data: Path, tmp_path: Path, log: Interactions
) -> None:
    words = ["synthesize", data, "--out", tmp_path / "a", "--users", 1500, "--save-synthesizer", *SETTINGS]
    assert main([*map(str, words)]) == 0
    sample = sources.read(tmp_path / "a" / "synthetic.parquet")
    assert sample.users.labels.max() < 1500
    assert set(sample.items.to_list()) <= set(log.items.to_list())
    card = (tmp_path / "a" / "card.md").read_text()
    read = sources.read(data)
    for fact in (
        "1,500 synthetic users, ",
        f"{read.n_users} real users",
        read.fingerprint(),
        "seed: 3",
        "latent = 4",
        "No differential privacy",
        "Must not be used",
    ):
        assert fact in card
    assert load_synthesizer(tmp_path / "a" / "synthesizer").spec.vae.latent == 4
    command = [*words[:3], tmp_path / "b", *words[4:6], *SETTINGS]
    assert main([*map(str, command)]) == 0
    is_equal = (tmp_path / "a" / "synthetic.parquet").read_bytes()
    assert (tmp_path / "b" / "synthetic.parquet").read_bytes() == is_equal
    assert not (tmp_path / "b" / "synthesizer").exists()


@pytest.fixture
def listed(tmp_path: Path, log: Interactions) -> Path:
    """A public list of items: those of the log, and two that nobody has."""
    path = tmp_path / "items.txt"
    path.write_text("\n".join(map(str, [*log.items.to_list(), 990, 991])) + "\n\n")
    return path


def test_a_private_sample_says_what_it_costs(data: Path, tmp_path: Path, listed: Path) -> None:
    pytest.importorskip("opacus")
    words = [
        "synthesize",
        data,
        "--out",
        tmp_path / "a",
        "--privacy-epsilon",
        "4",
        *SETTINGS,
        "--items",
        listed,
    ]
    assert main([*map(str, words)]) == 0
    card = (tmp_path / "a" / "card.md").read_text()
    assert "epsilon = 4.0" in card
    assert "Differential privacy: ε = " in card
    assert "No guarantee" not in card
    assert 'objective = "velocity"' in card
    assert "standardized = false" in card
    assert "No differential privacy" not in card
    assert "seed: 3" not in card
    assert sources.read(data).fingerprint() not in card
    command = [*words[:3], tmp_path / "b", *words[4:]]
    assert main([*map(str, command)]) == 0
    is_equal = (tmp_path / "a" / "synthetic.parquet").read_bytes()
    assert (tmp_path / "b" / "synthetic.parquet").read_bytes() != is_equal  # its noise cannot be repeated


def test_without_a_public_list_of_items_no_budget_is_stated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One user has an item that only he has: its label is in the sample, however much noise there is."""
    pytest.importorskip("opacus")
    random = np.random.default_rng(0)
    pairs = [f"{user},{item}" for user in range(300) for item in random.choice(60, 8, replace=False)]
    (tmp_path / "log.csv").write_text("user,item\n" + "\n".join([*pairs, "300,777"]))
    (tmp_path / "items.txt").write_text("\n".join(map(str, range(60))))
    words = ["synthesize", str(tmp_path / "log.csv"), "--privacy-epsilon", "1", *SETTINGS]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr()
    card = (tmp_path / "a" / "card.md").read_text()
    assert 777 in sources.read(tmp_path / "a" / "synthetic.parquet").items.to_list()
    for text in (card, printed.out, printed.err):
        assert "ε" not in text
        assert "epsilon = 1.0" not in text
    assert "No guarantee of differential privacy, because the item labels are those of the data" in card
    assert main([*words, "--out", str(tmp_path / "b"), "--items", str(tmp_path / "items.txt")]) == 0
    card = (tmp_path / "b" / "card.md").read_text()
    assert "Differential privacy: ε = " in card
    assert "301 real users, 60 items" in card
    assert set(sources.read(tmp_path / "b" / "synthetic.parquet").items.to_list()) <= set(range(60))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "ease"], "must be one of"),
        (["--model", "sdrn"], "Did you mean 'sdrm'"),
        (["--set", "utility.mode=replace"], "has no effect here"),
        (["--privacy-delta", "0.1"], "needs --privacy-epsilon"),
        (["--privacy-delta", "0.1", "--privacy-epsilon", "1"], "must be below one over the number of users"),
        (
            ["--items", str(Path(__file__))],
            "A public list of items is for training with differential privacy",
        ),
        (["--model", "flipped-users", "--privacy-epsilon", "1"], "Differential privacy is available for"),
        (["--set", "data.name=ml-1m"], "data.name is for public data sets"),
        (["--holdout", "1.5"], "must lie between 0 and 1"),
        (["--holdout", "0.001"], "At least one user must be kept out and one remain"),
        (["--model", "sdrm/ml-100k-sdv"], "ml-100k-svd"),
    ],
)
def test_bad_input_leaves_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["synthesize", str(data), "--out", str(tmp_path / "a"), *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["own.parquet"]


def test_batches_are_no_larger_than_the_training_users(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tenth of the users stops the training and is not trained on."""
    pairs = zip(SETTINGS[::2], SETTINGS[1::2], strict=True)
    words = [word for pair in pairs if "batch_size" not in pair[1] for word in pair]
    assert main(["synthesize", str(data), "--out", str(tmp_path / "a"), *words]) == 0
    errors = " ".join(capsys.readouterr().err.split())
    most = int(0.9 * sources.read(data).n_users)
    assert f"model.vae.batch_size is {most}, not 500" in errors
    assert f"model.diffusion.batch_size is {most}, not 256" in errors
    assert f"batch_size = {most}" in (tmp_path / "a" / "card.md").read_text()


def test_kept_out_users_are_written_for_an_audit(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a"
    assert main(["synthesize", str(data), "--out", str(place), "--holdout", "0.4", *SETTINGS]) == 0
    full = sources.read(data)
    train, holdout = (sources.read(place / "real" / f"{name}.parquet") for name in ("train", "kept"))
    assert holdout.n_users == round(0.4 * full.n_users)
    assert sorted(train.users.to_list() + holdout.users.to_list()) == sorted(full.users.to_list())
    assert train.n_interactions + holdout.n_interactions == full.n_interactions
    card = (place / "card.md").read_text()
    assert f"{holdout.n_users} more users were kept out at random" in card
    assert f"{train.n_users} real users" in card
    assert "source: `own.parquet`" in card
    command = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("audit it:"))
    assert main([*command.split()[3:], "--no-utility"]) in (0, 1)
    assert f"made from {train.n_users}, {holdout.n_users} kept out" in capsys.readouterr().out


def test_how_the_data_were_read_is_in_the_card(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        f"u{user},i{item},{random.integers(1, 6)}"
        for user in range(80)
        for item in range(12)
        if random.random() < 0.6
    ]
    file = tmp_path / "rated.csv"
    file.write_text("user,item,rating\n" + "\n".join(rows))
    words = ["synthesize", file, "--min-rating", "3", "--model", "independent-items", "--out", tmp_path / "a"]
    assert main([*map(str, words)]) == 0
    card = (tmp_path / "a" / "card.md").read_text()
    assert "[data]\nread = { min_rating = 3.0 }" in card
    assert "source: `rated.csv`" in card


@pytest.mark.parametrize("place", ["own.parquet/a", "empty"])
def test_an_unwritable_folder_is_refused_before_anything_is_computed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "empty").mkdir()
    words = ["synthesize", data, "--model", "independent-items", "--out", tmp_path / place]
    code = main([*map(str, words)])
    if place == "empty":  # an empty folder may be used
        assert code == 0
        return
    assert code == 2
    assert "in a folder that can be written to" in " ".join(capsys.readouterr().err.split())


def test_only_the_folder_of_a_sample_is_replaced(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("kept")
    words = ["synthesize", data, "--model", "independent-items", "--out", tmp_path / "a", "--overwrite"]
    assert main([*map(str, words)]) == 2
    assert (tmp_path / "a" / "mine").read_text() == "kept"
    (tmp_path / "a" / "mine").unlink()
    (tmp_path / "a" / "card.md").write_text("# Synthetic users: old")
    assert main([*map(str, words)]) == 0
    assert (tmp_path / "a" / "card.md").read_text().startswith("# Synthetic users")


def test_no_real_user_and_no_file_of_others_is_lost_with_a_sample_that_is_replaced(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a"
    words = ["synthesize", data, "--model", "independent-items", "--out", place, "--overwrite"]
    assert main([*map(str, words), "--holdout", "0.4"]) == 0
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    inside = ["synthesize", place / "real" / "train.parquet", *words[2:], "--holdout", "0.4"]
    for options, message in (
        (words, "the real users in real/, since none are kept out this time"),
        (inside, "An output must not replace an input; "),
    ):
        assert main([*map(str, options)]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    (place / "audit").mkdir()
    assert main([*map(str, words), "--holdout", "0.4"]) == 2
    assert "something else: 'audit'" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    (place / "audit").rmdir()
    assert main([*map(str, words), "--holdout", "0.3"]) == 0


def test_the_settings_of_a_card_make_the_same_sample(data: Path, tmp_path: Path) -> None:
    """Parts that are off are written as off, and users that were left out are noted."""
    options = ["--set", "model.vae.stopping=off", "--set", "data.k_core.users=2", *SETTINGS]
    assert main(["synthesize", str(data), "--out", str(tmp_path / "a"), *options]) == 0
    card = (tmp_path / "a" / "card.md").read_text()
    table = card.split("```toml\n")[1].split("```")[0]
    assert 'stopping = "off"' in table
    assert "k_core" in table
    (tmp_path / "again.toml").write_text(f'name = "own/again"\nseed = 3\n{table}')
    recipe = load_recipe(str(tmp_path / "again.toml"))
    assert recipe.model.vae.stopping is None
    words = ["synthesize", data, "--recipe", tmp_path / "again.toml", "--set", "data.k_core.users=2"]
    assert main([*map(str, words), "--out", str(tmp_path / "b")]) == 0
    samples = [(tmp_path / name / "synthetic.parquet").read_bytes() for name in ("a", "b")]
    assert samples[0] == samples[1]


def test_under_differential_privacy_users_are_not_filtered_by_others(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], listed: Path
) -> None:
    pytest.importorskip("opacus")
    words = ["synthesize", str(data), "--out", str(tmp_path / "a"), *SETTINGS, "--privacy-epsilon", "8"]
    words += ["--items", str(listed)]
    assert main([*words, "--set", "data.k_core.users=2"]) == 2
    assert "as a k-core does; saw data.k_core" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "a").exists()
    assert main(words) == 0
    table = (tmp_path / "a" / "card.md").read_text().split("```toml\n")[1].split("```")[0]
    (tmp_path / "private.toml").write_text(f'name = "own/private"\n{table}')
    assert load_recipe(str(tmp_path / "private.toml")).model.privacy.epsilon == 8


def test_users_with_two_items_stop_a_training(tmp_path: Path) -> None:
    pairs = [f"{user},{item}" for user in range(60) for item in (user % 7, 7 + user % 5)]
    (tmp_path / "two.csv").write_text("user,item\n" + "\n".join(pairs))
    small = ["--set", "model.vae.stopping.metric=capped_recall@3", *SETTINGS]
    assert main(["synthesize", str(tmp_path / "two.csv"), "--out", str(tmp_path / "a"), *small]) == 0
    assert (tmp_path / "a" / "synthetic.parquet").is_file()


def test_a_synthesizer_is_not_fitted_as_a_recommender(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path / "r.toml")
    assert main(["fit", str(data), "--model", str(recipe), "--out", str(tmp_path / "a")]) == 2
    assert "sdrm is a synthesizer, which samples users" in " ".join(capsys.readouterr().err.split())


def test_a_split_cannot_be_made_for_a_synthesizer() -> None:
    from unblur import experiment
    from unblur.errors import RecipeError
    from unblur.experiment.recipe.schema import Recipe

    with pytest.raises(RecipeError, match="must be a recommender"):
        experiment.prepare(Recipe.from_dict(QUICK))
