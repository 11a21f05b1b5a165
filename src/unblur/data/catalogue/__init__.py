"""Public data sets by name: their origin, licence and content, and how to read them.

`load` reads a local copy in any format and refuses a wrong or damaged one; `fetch` gets one from its origin.
`demo_interactions` is the embedded default, and `generated` makes sets of any size for measurements.
"""

from __future__ import annotations

from unblur.data.catalogue.copies import PartCheck, fetch, load, locate, verify
from unblur.data.catalogue.generation import demo_interactions, generated
from unblur.data.catalogue.listing import DATASETS, Content, Dataset, Download, NamedReading, dataset

__all__ = [
    "DATASETS",
    "Content",
    "Dataset",
    "Download",
    "NamedReading",
    "PartCheck",
    "dataset",
    "demo_interactions",
    "fetch",
    "generated",
    "load",
    "locate",
    "verify",
]
