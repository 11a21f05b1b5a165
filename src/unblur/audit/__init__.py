"""Audits of synthetic sets: what they give away, how like the real one they are, and what they are worth."""
