"""The benchmarks: our path and the textbook path, with the same outputs, in one run. `make bench` runs them.

This file makes the folder a regular package: a dependency installs a package of the same name, which would be imported instead.
"""
