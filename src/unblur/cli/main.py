"""The commands of `unblur`. An error of the user's becomes one line and an exit code, without a traceback.

Exit codes: 0 done; 1 done, but a published number is not reproduced (`run --check`), an audit's gate is not passed, a
copied data set is damaged, or a model of a comparison failed; 2 refused, with the reason; 130 interrupted; 141 stdout was closed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

import unblur
from unblur.cli import terminal
from unblur.cli.asking import explain, info, recommend, score, similar
from unblur.cli.datasets import app as datasets
from unblur.cli.demo import demo
from unblur.cli.describe import describe
from unblur.cli.models import evaluate, fit
from unblur.cli.recipes import recipes, run, translate
from unblur.cli.serving import export, mcp, serve
from unblur.cli.synthetic import audit, synthesize
from unblur.cli.tune import compare, tune
from unblur.cli.updating import update
from unblur.errors import (
    LONGEST,
    OutdatedWarning,
    UnblurError,
    needing_torch,
    out_of_memory,
    reason_of,
    warn_outdated,
)

REFUSED = 2
"""The exit code of a refusal, as shells use it for wrong usage."""
INTERRUPTED = 130
"""128 plus the number of SIGINT, as in shells."""
_SCARCE = (
    "too many open files",
    "toomanyopenfiles",
    "resource temporarily unavailable",
    "can't start new thread",
)
"""What is said where the system has no more files or threads to give."""
UNREAD = 141
"""128 plus the number of SIGPIPE: stdout was closed while there was something to print, after results were written."""


_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""The class above it, which typer does not export: of all errors in the words of a command."""


class _Commands(TyperGroup):
    """The group of all commands, which turns errors into a line and an exit code."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _exit_codes():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _exit_codes():
            try:
                with needing_torch("This command"):
                    result = super().invoke(ctx)
            finally:
                terminal.print_document()
            sys.stdout.flush()  # a full disk behind it shows now, not after the exit code is settled
            return result


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn what is raised inside into a line and an exit code, unless --debug wants the traceback."""
    if terminal.style.debug:
        yield
        return
    try:
        yield
        return
    except UnblurError as problem:
        terminal.error(str(problem))
    except _UsageError as problem:
        # Empty for a command without words, which has printed its help.
        if text := problem.format_message():
            place = problem.ctx.command_path if problem.ctx else "unblur"
            terminal.error(f"{text.rstrip('.')}. Try `{place} --help`.")
    except UnicodeEncodeError as problem:
        text = problem.object[max(problem.start - LONGEST // 2, 0) : problem.start + LONGEST // 2]
        terminal.error(f"Names and labels must be Unicode; {text!r} is not. Write it in UTF-8.")
    except BrokenPipeError:
        terminal.silence()
        raise typer.Exit(UNREAD) from None
    except OSError as problem:
        terminal.silence()
        place = f" ({problem.filename})" if problem.filename else ""
        terminal.error(
            f"The system must allow what is done; it says: {reason_of(problem)}{place}. Mend that first."
        )
    except (KeyboardInterrupt, typer.Abort):
        terminal.failure(
            "interrupted; no output is left half written, and the same command resumes from what was kept: trials of a "
            "search, and the folder of --checkpoints"
        )
        raise typer.Exit(INTERRUPTED) from None
    # Libraries have many types for what the system refuses, and Rust a panic.
    except BaseException as problem:
        reason = next(iter(str(problem).splitlines()), "it ran out")
        if out_of_memory(problem):
            terminal.error(f"The machine must have enough memory for this; {reason}. Take a smaller model.")
        elif any(words in reason.lower() for words in _SCARCE):
            terminal.error(f"The system must allow what is done; it says: {reason}. Mend that first.")
        else:
            raise
    raise typer.Exit(REFUSED)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        print(f"unblur {unblur.__version__}", flush=True)
        raise typer.Exit


@app.callback()
def unblur_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON document, not as tables and lines.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Diffusion-style recommenders: data in, published numbers out.

    Start with [bold]unblur demo[/bold]. Results go to stdout; progress, notes and errors go to stderr. The options of this page
    may stand anywhere in a command.
    """


for command in (
    demo,
    recipes,
    run,
    describe,
    fit,
    update,
    evaluate,
    recommend,
    similar,
    explain,
    score,
    info,
    serve,
    export,
    mcp,
    tune,
    compare,
    synthesize,
    audit,
):
    app.command()(command)
app.add_typer(datasets, name="datasets")
app.command(context_settings={"ignore_unknown_options": True})(translate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Options of every command may be anywhere in it."""
    # Waiting OpenMP threads should not spin: on a busy machine that makes the work several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not os.environ.get("COLUMNS", "").strip("0 "):
        os.environ.pop("COLUMNS", None)  # nothing would be printed into a width of 0
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the command was started with it closed
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for the process
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for letters that its encoding lacks
    words = list(sys.argv[1:] if arguments is None else arguments)
    first = [word for word in words if word in _ANYWHERE]
    words = [*first, *(word for word in words if word not in _ANYWHERE)]
    terminal.style = terminal.Style("--json" in first, "--quiet" in first, "--debug" in first)
    try:
        with _sigterm_interrupts(), _outdated_as_notes():
            app(args=_options_today(words), prog_name="unblur")
    except SystemExit as problem:
        return problem.code if isinstance(problem.code, int) else int(problem.code is not None)
    return 0


_ANYWHERE = ("--debug", "--json", "--quiet")
"""Options of every command, which may be anywhere in the line."""
_RENAMED_OPTIONS = {
    "synthesize": {"--keep-out": "--holdout", "--keep-synthesizer": "--save-synthesizer"},
}
"""Command → old option → new option."""


def _options_today(words: Sequence[str]) -> list[str]:
    """The words with options of earlier versions under the names of today."""
    command = next((word for word in words if not word.startswith("-")), "")
    today = []
    for word in words:
        option, equals, value = word.partition("=")
        renamed = _RENAMED_OPTIONS.get(command, {}).get(option, option)
        if renamed != option:
            warn_outdated(f"{option} is called {renamed} now")
        today.append(renamed + equals + value)
    return today


@contextmanager
def _outdated_as_notes() -> Iterator[None]:
    """Print each `OutdatedWarning` as a note, once, and leave other warnings as they are."""
    texts: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", OutdatedWarning)
        show = warnings.showwarning

        def show_as_note(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, OutdatedWarning):
                show(message, category, *rest, **more)
            elif str(message) not in texts:
                texts.add(str(message))
                terminal.note(f"note: {message}")

        warnings.showwarning = show_as_note
        yield


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Treat SIGTERM as an interrupt, so that the processes that a command started end as well."""
    # Python allows signal handlers in the main thread alone.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    earlier_handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier_handler)
