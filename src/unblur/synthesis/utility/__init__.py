"""Utility of synthetic users: recommenders trained with them, measured on real users."""
