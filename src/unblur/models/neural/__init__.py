"""Trained networks that are no diffusion models."""
