"""Differential privacy: the accountant, clipping, noisy sums."""
