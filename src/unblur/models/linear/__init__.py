"""Linear item models."""
