"""Trained networks that are no diffusion models."""

from __future__ import annotations
