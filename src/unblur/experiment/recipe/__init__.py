"""Recipes: TOML files that name data, split, model and protocol, with the numbers that they must reproduce."""
