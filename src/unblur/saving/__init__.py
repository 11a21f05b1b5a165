"""Fitted things on disk: one container, verified when it is read."""

from __future__ import annotations
