"""Differential privacy: the accountant, clipping, noisy sums."""

from __future__ import annotations
