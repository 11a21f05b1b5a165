"""The command line as a whole: start-up, help, errors, exit codes."""

import subprocess
import sys
import time

import pytest

import unblur as package
from tests.cli.conftest import Unblur

VERBS = ("demo", "recipes", "run", "fit", "evaluate", "recommend", "translate")
HELP_SECONDS = 0.5

LOADED = """
import sys
from unblur.cli.main import main
main(["--help"])
print([name for name in ("numpy", "torch", "polars", "pydantic", "scipy") if name in sys.modules],
file=sys.stderr)
"""


def test_help_names_every_verb(unblur: Unblur) -> None:
    ran = unblur("--help")
    assert ran.code == 0
    assert all(verb in ran.out for verb in VERBS)
    assert unblur("-h").code == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(unblur: Unblur, verb: str) -> None:
    ran = unblur(verb, "--help")
    assert ran.code == 0
    assert "Usage: unblur" in ran.out


def test_version(unblur: Unblur) -> None:
    assert unblur("--version").out == f"unblur {package.__version__}\n"


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        run = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
        assert run.stderr.strip() == "[]", f"--help loads {run.stderr}"
    assert min(seconds) <= HELP_SECONDS, f"--help takes {min(seconds):.2f} s, the best of 5"


def test_python_dash_m() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "unblur", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("unblur ")


def test_an_error_is_one_line_and_code_2(unblur: Unblur) -> None:
    ran = unblur("run", "bspm/gowala")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("error: A recipe must be a shipped name")
    assert "Did you mean 'bspm/gowalla'?" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("words", [("--debug", "run", "nothing/there"), ("run", "nothing/there", "--debug")])
def test_debug_shows_the_traceback(unblur: Unblur, words: tuple[str, ...]) -> None:
    with pytest.raises(package.errors.RecipeError):
        unblur(*words)


def test_wrong_usage_is_code_2(unblur: Unblur) -> None:
    assert unblur("run").code == 2
    assert unblur("run", "bspm/demo", "--seds", "3").code == 2
    assert unblur("fly").code == 2


def test_running_out_of_memory_is_told(unblur: Unblur, monkeypatch: pytest.MonkeyPatch) -> None:
    from unblur import experiment

    def run(*given: object, **more: object) -> None:
        raise MemoryError("Unable to allocate 33.6 GiB")

    monkeypatch.setattr(experiment, "run", run)
    ran = unblur("run", "bspm/demo")
    assert ran.code == 2
    assert "33.6 GiB" in ran.err
