"""Public data sets by name: where they come from, their licence, how to read them, and what their content is.

`load` reads a local copy in any format and refuses a wrong or damaged one; `fetch` gets one from its origin.
`demo_interactions` is the embedded default, and `generated` makes sets of any size for measurements.
"""

from __future__ import annotations

from unblur.data.catalogue.copies import Check as Check
from unblur.data.catalogue.copies import load as load
from unblur.data.catalogue.copies import locate as locate
from unblur.data.catalogue.copies import verify as verify
from unblur.data.catalogue.demonstration import demo_interactions as demo_interactions
from unblur.data.catalogue.download import fetch as fetch
from unblur.data.catalogue.generation import generated as generated
from unblur.data.catalogue.listing import DATASETS as DATASETS
from unblur.data.catalogue.listing import dataset as dataset
from unblur.data.catalogue.records import Content as Content
from unblur.data.catalogue.records import Dataset as Dataset
from unblur.data.catalogue.records import Download as Download
from unblur.data.catalogue.records import Reading as Reading

__all__ = [
    "DATASETS",
    "Check",
    "Content",
    "Dataset",
    "Download",
    "Reading",
    "dataset",
    "demo_interactions",
    "fetch",
    "generated",
    "load",
    "locate",
    "verify",
]
