"""Recommenders, by family."""

from __future__ import annotations
