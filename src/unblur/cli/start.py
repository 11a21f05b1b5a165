"""The start of the command line, which can be interrupted as well."""

from __future__ import annotations


def start() -> int:
    """Load the commands, run the command line, and return its exit code: 130 if it is interrupted before or after a command."""
    try:
        from unblur.cli.main import main

        return main()
    except KeyboardInterrupt:
        return 130
