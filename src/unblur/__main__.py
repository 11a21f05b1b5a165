"""``python -m unblur``: the command line."""

from __future__ import annotations

import sys

from unblur.cli.start import start

if __name__ == "__main__":
    sys.exit(start())
