"""Interactions: their values, files, splits and public data sets."""
