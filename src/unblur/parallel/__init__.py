"""Work in threads and in processes."""

from __future__ import annotations
