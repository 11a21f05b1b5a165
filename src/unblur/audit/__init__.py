"""What a synthetic set gives away, how like the real one it is, and what it is worth."""

from __future__ import annotations
