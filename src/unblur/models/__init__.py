"""Recommenders, by family."""
