"""The benchmarks: our path and the textbook path, with the same outputs, in one run. `make bench` runs them.

It makes the folder a regular package: a dependency installs a package of the same name, which would win.
"""
