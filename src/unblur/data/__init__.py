"""Interactions: their values, files, splits and public data sets."""

from __future__ import annotations
