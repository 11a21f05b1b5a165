"""`unblur describe`: what a log holds."""

from __future__ import annotations

from typing import Any

from unblur.cli import terminal
from unblur.cli.options import DataPath, reads_data
from unblur.cli.terminal import ProgressDisplay, print_lines, print_table
from unblur.document.blocks import Table
from unblur.document.text import shell_line


@reads_data
def describe(data: DataPath, *, reading: dict[str, Any]) -> None:
    """Describe a log: users, items, repeats, times, what is doubtful, and the command to go on with.

    Nothing must be said about ratings, repeats or gaps: they are counted.
    """
    from unblur.data import description

    said = {path.removeprefix("data.read."): value for path, value in reading.items()}
    with ProgressDisplay() as progress:
        described = description.describe(data, progress=progress, **said)
    print_table(Table(("of the log", ""), described.rows(), left=1, words_last=1), **described.facts)
    terminal.note(*(f"doubtful: {doubt}" for doubt in described.doubts))
    words = ["unblur", "fit", str(data)]
    for name, value in {**said, **described.options}.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", f"{value:g}" if isinstance(value, float) else str(value)]
    command = shell_line(*words, "--out", "model")
    print_lines(f"go on with: {command}", command=command)
