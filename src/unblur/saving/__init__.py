"""Fitted things on disk: one container, verified when it is read."""
