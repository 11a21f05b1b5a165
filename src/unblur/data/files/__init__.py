"""Interactions from files, and back: Parquet, delimited text, adjacency lists, RecBole atomic files,
matrices.

`read` takes one file, `read_split_folder` a folder with one file a part, `write` and `write_parquet` replace
a file as a whole or not at all. Nothing that could run code is ever opened: no pickles, and NumPy files only
without them.
"""

from __future__ import annotations

from unblur.data.files.reading import read as read
from unblur.data.files.reading import read_split_folder as read_split_folder
from unblur.data.files.reading import split_files as split_files
from unblur.data.files.writing import replacing as replacing
from unblur.data.files.writing import write as write
from unblur.data.files.writing import write_parquet as write_parquet
