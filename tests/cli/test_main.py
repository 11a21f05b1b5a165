"""The command line as a whole: start-up, help, errors, exit codes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import unblur as package
from tests.cli.conftest import Unblur
from tests.synthesis.utility.rated import MODEL, write_parts, write_recipe
from unblur.cli.options import reads_data
from unblur.cli.start import start
from unblur.experiment.recipe.parts import Reading

VERBS = ("demo", "recipes", "run", "fit", "evaluate", "recommend", "translate")
HELP_SECONDS = 0.5

LOADED = """
import sys
from unblur.cli.main import main
main(["--help"])
print([name for name in ("numpy", "torch", "polars", "pydantic", "scipy") if name in sys.modules],
file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("unblur recom", ["recommend"]),
        ("unblur run bspm/d", ["bspm/demo"]),
        ("unblur recipes ease/go", ["ease/gowalla"]),
        ("unblur tune ease/go", ["ease/gowalla"]),
        ("unblur compare ease/demo user-knn/d", ["user-knn/demo"]),
        ("unblur compare ease --recipe bspm/d", ["bspm/demo"]),
        ("unblur fit log.csv --model sparse", ["sparse-ease", "sparse-ease/gowalla", "sparse-ease/yelp2018"]),
        ("unblur synthesize log.csv --model sdrm/alb-sv", ["sdrm/alb-svd"]),
    ],
)
def test_a_shell_completes_commands_recipes_and_kinds(
    unblur: Unblur, monkeypatch: pytest.MonkeyPatch, line: str, names: list[str]
) -> None:
    monkeypatch.setenv("_UNBLUR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    assert unblur().out.split() == names


def test_help_names_every_verb(unblur: Unblur) -> None:
    result = unblur("--help")
    assert result.code == 0
    assert all(verb in result.out for verb in VERBS)
    assert unblur("-h").code == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(unblur: Unblur, verb: str) -> None:
    result = unblur(verb, "--help")
    assert result.code == 0
    assert "Usage: unblur" in result.out
    assert not re.search(r"\b([A-Z][a-z]+){2,}\b", result.out.replace("RecBole", "")), "a class's name"


def test_version(unblur: Unblur) -> None:
    assert unblur("--version").out == f"unblur {package.__version__}\n"


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    """Measured in processor time, since wall time depends on the load of the machine."""
    seconds = []
    for _ in range(5):
        before = os.times()
        run = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
        after = os.times()
        seconds.append(
            after.children_user - before.children_user + after.children_system - before.children_system
        )
        assert run.stderr.strip() == "[]", f"--help loads {run.stderr}"
    assert min(seconds) <= HELP_SECONDS, f"--help takes {min(seconds):.2f} s, the best of 5"


def test_python_dash_m() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "unblur", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("unblur ")


def test_an_interrupt_while_it_loads_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "unblur.cli.main")

    class Interrupted:
        def find_spec(self, name: str, *rest: object) -> None:
            if name == "unblur.cli.main":
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    assert start() == 130


def test_an_error_is_one_line_and_code_2(unblur: Unblur) -> None:
    result = unblur("run", "bspm/gowala")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert result.err.startswith("error: A recipe must be a shipped name")
    assert "Did you mean 'bspm/gowalla'?" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("words", [("--debug", "run", "nothing/there"), ("run", "nothing/there", "--debug")])
def test_debug_shows_the_traceback(unblur: Unblur, words: tuple[str, ...]) -> None:
    with pytest.raises(package.errors.RecipeError):
        unblur(*words)


def test_wrong_usage_is_code_2(unblur: Unblur) -> None:
    assert unblur("run").code == 2
    assert unblur("run", "bspm/demo", "--seds", "3").code == 2
    assert unblur("fly").code == 2


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (MemoryError("Unable to allocate 33.6 GiB"), "enough memory for this; Unable to allocate 33.6 GiB"),
        (
            ImportError("libtorch.so: failed to map segment from shared object"),
            "enough memory for this; libtorch",
        ),
        (RuntimeError("can't start new thread"), "it says: can't start new thread"),
        (
            pl.exceptions.PanicException('Os { code: 24, kind: TooManyOpenFiles, message: "…" }'),
            "it says: Os { code: 24",
        ),
        (OSError(24, "Too many open files"), "it says: Too many open files"),
    ],
)
def test_what_the_machine_has_not_is_an_error(
    unblur: Unblur, monkeypatch: pytest.MonkeyPatch, problem: BaseException, said: str
) -> None:
    from unblur import experiment

    def outcome_of(*args: object, **kwargs: object) -> None:
        raise problem

    monkeypatch.setattr(experiment, "outcome_of", outcome_of)
    result = unblur("run", "bspm/demo")
    assert result.code == 2
    assert said in result.err


def children(process: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in listing.stdout.split()]


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_terminated_ends_its_workers(tmp_path: Path, signal_number: signal.Signals) -> None:
    """If only the parent gets the signal, long before the workers are done."""
    endless = {**MODEL, "vae": {**MODEL["vae"], "epochs": 10**6, "stopping": "off"}}
    parts, recipe = write_parts(tmp_path / "d"), write_recipe(tmp_path / "r.toml", {"model": endless})
    words = [
        "run",
        recipe,
        "--data",
        parts,
        "--seeds",
        "2",
        "--workers",
        "2",
        "--checkpoints",
        tmp_path / "kept",
    ]
    command = [sys.executable, "-m", "unblur", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        try:
            until = time.monotonic() + 120
            while len(list((tmp_path / "kept").glob("seed-*/autoencoder/*/manifest.json"))) < 2:
                assert run.poll() is None, run.stderr.read() if run.stderr else ""
                assert time.monotonic() < until, "no worker has kept anything"
                time.sleep(0.2)
            workers = children(run.pid)
            assert len(workers) >= 2
            run.send_signal(signal_number)
            _, errors = run.communicate(timeout=60)
            assert run.returncode == 130
            assert "interrupted" in errors
            until = time.monotonic() + 20
            while any(map(runs, workers)) and time.monotonic() < until:
                time.sleep(0.1)
            assert not any(map(runs, workers))
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("user,item,stars\n1,2,3\n1,3,1\n", (), "Pass --min-rating to keep those"),
        (
            "user,item,stars\n1,2,3\n1,3,1\n",
            (),
            "--rating stars to take it as weights, or --rating ignore to",
        ),
        ("1,2,3\n1,3,1\n", (), "or --timestamp 2, if it is a time"),
        ("user,item\n1,2\n1,2\n", (), 'Pass --duplicates sum, "first" or "last"'),
        ("who,what\nanna,tea\n", (), "Pass --header or --no-header."),
        ("abc\ndef\n", (), "Pass its --delimiter."),
        ("user,user_id,item\n1,1,2\n", (), "Name the one that is meant with --user."),
        ("user,item\nanna,2\n", ("--labels", "int"), "under --labels int; saw 'anna' in row 0"),
        ("user,item\n1,2\n", ("--min-rating", "3"), "--min-rating needs a column of ratings"),
        ("user,item,rating\n1,2,2\n", ("--min-rating", "3"), "Lower --min-rating."),
        ("user,item,timestamp\n1,2,soon\n", (), "or pass --timestamp ignore."),
        ("user,min_rating\n1,2\n", (), "none of its columns ('user', 'min_rating')"),
    ],
)
def test_errors_of_reading_name_options(
    unblur: Unblur, tmp_path: Path, content: str, options: tuple[str, ...], expected: str
) -> None:
    file = tmp_path / "log.csv"
    file.write_text(content)
    result = unblur("synthesize", file, *options, "--out", tmp_path / "out")
    assert result.code == 2
    assert expected in " ".join(result.err.split())
    assert "`" not in result.err


def test_every_way_to_read_of_a_recipe_has_an_option() -> None:
    @reads_data
    def command(name: str, reading: Mapping[str, Any]) -> None: ...

    assert [*signature(command).parameters][1:] == [field.name for field in fields(Reading)]


def test_the_error_about_ratings_names_options(unblur: Unblur, tmp_path: Path) -> None:
    file = tmp_path / "rated.csv"
    file.write_text(
        "user,item,rating\n" + "\n".join(f"{user},{user % 3},{1 + user % 5}" for user in range(30))
    )
    result = unblur("synthesize", file, "--out", tmp_path / "out")
    assert result.code == 2
    assert "--min-rating" in result.err
    assert "`min_rating`" not in result.err
