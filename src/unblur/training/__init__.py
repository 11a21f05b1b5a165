"""Training of any network, epoch by epoch."""

from __future__ import annotations
