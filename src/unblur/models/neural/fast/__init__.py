"""Compiled training of MLP and NeuMF."""

from __future__ import annotations
