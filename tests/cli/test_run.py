"""`unblur run` on own data: what it writes, and what it refuses."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import unblur as package
from tests.cli.conftest import Unblur
from unblur.evaluation.report import Report
from unblur.experiment.recipe.library import load_recipe
from unblur.saving import models as artifact

RECIPE = """
schema = 1
name = "ours/log"
seed = 3
[data.read]
user = "who"
item = "what"
[split]
kind = "leave-last"
n = 2
[model]
kind = "ease"
ridge = 10
[protocol]
cutoffs = [3, 5]
metrics = ["recall", "ndcg", "coverage"]
resamples = 50
"""


def test_a_recipe_on_an_own_file(unblur: Unblur, recipe: Path, events: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "first"
    result = unblur("run", recipe, "--data", events, "--out", out)
    assert result.code == 0, result.err
    assert "ours/log · protocol: paper" in result.out
    assert "recall@3" in result.out
    assert f"written to {out}" in result.out
    files = {"manifest.json", "recipe.toml", "report.json", "report.md", "report.html", "model"}
    assert {path.name for path in out.iterdir()} == files
    report = Report.from_dict(json.loads((out / "report.json").read_text()))
    assert [entry.name for entry in report.measurements] == [
        *("recall@3", "recall@5", "ndcg@3", "ndcg@5", "coverage@3", "coverage@5")
    ]
    assert report.provenance.seeds == (3,)
    assert report.provenance.spec["kind"] == "ease"
    assert set(report.provenance.data) == {"all"}
    assert {"python", "unblur", "numpy", "scipy", "torch"} <= set(report.provenance.versions)
    assert report.provenance.machine["cores"] >= 1
    assert report.timings.peak_rss_mb > 10
    assert any("caller's own" in note for note in report.notes)
    assert artifact.read_manifest(out / "model")["provenance"]["recipe"] == "ours/log"
    assert package.load(out / "model").spec == load_recipe(out / "recipe.toml").model
    assert list(out.parent.iterdir()) == [out]


def test_figures_are_shown_even_if_the_folder_cannot_be_written(
    unblur: Unblur, recipe: Path, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifact, "save", full)
    result = unblur("run", recipe, "--data", events, "--out", tmp_path / "runs" / "first")
    assert result.code == 2
    assert "recall@3" in result.out
    assert "No space left on device" in result.err
    assert "written to" not in result.out
    assert not list((tmp_path / "runs").iterdir())


def test_no_written_file_names_the_machine_or_its_paths(
    unblur: Unblur, recipe: Path, events: Path, tmp_path: Path
) -> None:
    import platform

    out = tmp_path / "out"
    assert unblur("run", recipe, "--data", events, "--out", out).code == 0
    for path in out.rglob("*"):
        if path.suffix in (".toml", ".json", ".md"):
            text = path.read_text()
            assert str(tmp_path) not in text
            assert platform.node() not in text or not platform.node()


def test_the_resolved_recipe_gives_the_same_numbers(
    unblur: Unblur, recipe: Path, events: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    settings = ("--set", "model.ridge=2.5", "--set", "split.kind=random", "--set", "split.fraction=0.3")
    assert unblur("run", recipe, "--data", events, *settings, "--out", first).code == 0
    assert unblur("run", first / "recipe.toml", "--data", events, "--out", second).code == 0
    reports = [json.loads((out / "report.json").read_text()) for out in (first, second)]
    assert reports[0]["measurements"] == reports[1]["measurements"]
    assert reports[0]["provenance"]["spec"]["ridge"] == 2.5
    assert "set: model.ridge = 2.5" in reports[0]["notes"]


def test_a_folder_with_parts(unblur: Unblur, parts: Path) -> None:
    result = unblur("run", "popularity/gowalla", "--data", parts)
    assert result.code == 0, result.err
    assert "given files" in result.out


def test_published_numbers_are_left_out_on_other_data(unblur: Unblur, parts: Path) -> None:
    result = unblur(
        "run",
        "bspm/gowalla",
        "--data",
        parts,
        "--set",
        "model.low_pass.rank=8",
        "--set",
        "protocol.cutoffs=[5]",
    )
    assert result.code == 0, result.err
    assert "published" not in result.out.splitlines()[2]
    assert "no published number applies" in result.out


def test_a_single_file_in_place_of_parts_is_split_and_noted(unblur: Unblur, events: Path) -> None:
    columns = ("--set", "data.read.user=who", "--set", "data.read.item=what")
    result = unblur("run", "popularity/gowalla", "--data", events, *columns)
    assert result.code == 0, result.err
    assert "the latest 20% of its interactions were held out (split.kind=random" in result.out
    assert "by time, after" in result.out
    # One moment for all is no order, and what the user sets stands.
    for options in (("--set", "data.read.timestamp=ignore"), ("--set", "split.kind=random")):
        result = unblur("run", "popularity/gowalla", "--data", events, *columns, *options)
        assert result.code == 0, result.err
        assert "split: random, per user, 20%" in " ".join(result.out.split())
    # What is said about the held-out file means nothing if there is none.
    result = unblur("run", "popularity/gowalla", "--data", events, *columns, "--set", "split.repeats=keep")
    assert result.code == 2
    assert "'split.repeats' must go with a split by files" in " ".join(result.err.split())


def write(path: Path, expected: str) -> Path:
    path.write_text(RECIPE + f'\n[expected]\n"recall@5" = {{ {expected}, source = "us" }}\n')
    return path


def test_check_needs_something_to_check(unblur: Unblur, recipe: Path, events: Path) -> None:
    assert "runs on other data" in unblur("run", recipe, "--data", events, "--check").err
    result = unblur("run", "popularity/demo", "--check")
    assert result.code == 2
    assert "popularity/demo expects none. Leave" in result.err
    sample = unblur("run", "bspm/amazon-book", "--set", "data.name=amazon-book-10529", "--check")
    assert "bspm/amazon-book expects none with these values of --set. Leave" in sample.err


@pytest.mark.parametrize(
    ("expected", "code"), [("value = 0.5, within = 0.5", 0), ("value = 2, within = 0.1", 1)]
)
def test_check_exits_with_1_when_a_number_is_missed(
    unblur: Unblur, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: str, code: int
) -> None:
    from unblur.data import catalogue as datasets, files as sources

    path = write(tmp_path / "expecting.toml", expected)
    path.write_text(
        path.read_text().replace('[data.read]\nuser = "who"\nitem = "what"', '[data]\nname = "demo"')
    )
    data = sources.read(events, user="who", item="what")
    monkeypatch.setattr(datasets, "load", lambda name, **options: {"all": data})
    result = unblur("run", path, "--check")
    assert result.code == code, result.err
    assert ("not reproduced: recall@5" in result.err) == bool(code)
    assert "published: us" in result.out
    assert unblur("run", path).code == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.rigde=3", "rigde is not a hyper-parameter of EASE. Did you mean 'ridge'?"),
        ("model.ridge=high", "[model] ridge of EASE: input should be a valid number; saw 'high'"),
        ("ridge=3", "Did you mean 'model.ridge'?"),
        ("model.ridge", "must have the form path=value"),
        ("protocol.metrics=[recal]", "metrics"),
        ('protocol.metrics=["recal"]', "Did you mean 'recall'?"),
        ("split.kind=leave-lst", "Did you mean 'leave-last'?"),
        ("data.read.user=nobody", "nobody"),
    ],
)
def test_bad_settings_are_refused_by_name(
    unblur: Unblur, recipe: Path, events: Path, tmp_path: Path, setting: str, message: str
) -> None:
    out = tmp_path / "out"
    result = unblur("run", recipe, "--data", events, "--set", setting, "--out", out)
    assert result.code == 2
    assert message in result.err
    assert not out.exists()


def test_an_unknown_key_in_a_recipe_is_refused(unblur: Unblur, recipe: Path, events: Path) -> None:
    recipe.write_text(RECIPE.replace("ridge = 10", "rigde = 10"))
    result = unblur("run", recipe, "--data", events)
    assert result.code == 2
    assert "ours: [model] rigde is not a hyper-parameter of EASE. Did you mean 'ridge'?" in result.err


def test_missing_data_are_refused(unblur: Unblur, recipe: Path, tmp_path: Path) -> None:
    assert unblur("run", recipe, "--data", tmp_path / "none.csv").code == 2
    result = unblur("run", recipe)
    assert result.code == 2
    assert "--data PATH" in result.err


# ------------------------------------------------------------------------------------------------ the folder


def test_a_folder_that_exists_is_kept(unblur: Unblur, recipe: Path, events: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years")
    for options in ((), ("--overwrite",)):
        result = unblur("run", recipe, "--data", events, "--out", out, *options)
        assert result.code == 2
        assert (out / "thesis.txt").read_text() == "years"
    assert "holds something else" in result.err
    assert unblur("run", recipe, "--data", events, "--out", events).code == 2


def test_an_earlier_run_is_replaced_only_with_overwrite(
    unblur: Unblur, recipe: Path, events: Path, tmp_path: Path
) -> None:
    out = tmp_path / "place" / "out"
    assert unblur("run", recipe, "--data", events, "--out", out).code == 0
    before = (out / "report.json").read_bytes()
    result = unblur("run", recipe, "--data", events, "--out", out)
    assert result.code == 2
    assert "must be new or empty" in result.err
    assert (out / "report.json").read_bytes() == before
    assert unblur("run", recipe, "--data", events, "--set", "seed=9", "--out", out, "--overwrite").code == 0
    assert json.loads((out / "report.json").read_text())["provenance"]["seeds"] == [9]
    assert list(out.parent.iterdir()) == [out]


def test_an_empty_folder_is_used(unblur: Unblur, recipe: Path, events: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert unblur("run", recipe, "--data", events, "--out", out).code == 0
    assert (out / "model" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("problem", "code", "message"),
    [
        (KeyboardInterrupt, 130, "interrupted; no output is left half written"),
        (OSError, 2, "disk full. Nothing was left"),
    ],
)
def test_a_failed_write_leaves_the_earlier_run(
    unblur: Unblur,
    recipe: Path,
    events: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: type[BaseException],
    code: int,
    message: str,
) -> None:
    out = tmp_path / "place" / "out"
    assert unblur("run", recipe, "--data", events, "--out", out).code == 0
    before = (out / "report.json").read_bytes()

    def save(*args: object, **kwargs: object) -> None:
        raise problem("disk full")

    monkeypatch.setattr(artifact, "save", save)
    arguments = ("run", recipe, "--data", events, "--out", out, "--overwrite")
    result = unblur(*arguments)
    assert (result.code, message in result.err) == (code, True)
    assert (out / "report.json").read_bytes() == before
    assert list(out.parent.iterdir()) == [out]


INTERRUPTED = """
import sys, time
from pathlib import Path
from unblur import EASE
from unblur.cli.main import main

fit = EASE.learn
def slow(spec, train, **options):
    model = fit(spec, train, **options)
    Path(sys.argv[1]).touch()
    time.sleep(120)
    return model
EASE.learn = slow
sys.exit(main(sys.argv[2:]))
"""


def test_an_interrupt_in_the_middle_leaves_nothing(recipe: Path, events: Path, tmp_path: Path) -> None:
    place, ready = tmp_path / "place", tmp_path / "ready"
    place.mkdir()
    words = [
        sys.executable,
        "-c",
        INTERRUPTED,
        ready,
        "run",
        recipe,
        "--data",
        events,
        "--out",
        place / "out",
    ]
    running = subprocess.Popen([str(word) for word in words], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if ready.exists():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(0.1)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130
    *earlier, last = (
        errors.splitlines()
    )  # a note on what was guessed, and on a busy machine lines of progress
    assert earlier[0].startswith("note: read as delimited text")
    assert last.startswith("interrupted; no output is left half written")
    assert "Traceback" not in errors
    assert not list(place.iterdir())
