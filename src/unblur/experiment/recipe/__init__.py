"""Recipes: a TOML file that names data, split, model and protocol, and carries the numbers that must come
out."""
