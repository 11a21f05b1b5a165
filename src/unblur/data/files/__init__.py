"""Interactions from files, and back: Parquet, delimited text, adjacency lists, RecBole atomic files,
matrices.

`read` takes one file, `read_split_folder` a folder with one file a part, `write` and `write_parquet` replace
a file as a whole or not at all. Nothing that could run code is ever opened: no pickles, and NumPy files only
without them.
"""

from __future__ import annotations

from unblur.data.files.reading import read, read_split_folder, split_files
from unblur.data.files.writing import replacing, replacing_folder, write, write_parquet

__all__ = [
    "read",
    "read_split_folder",
    "replacing",
    "replacing_folder",
    "split_files",
    "write",
    "write_parquet",
]
