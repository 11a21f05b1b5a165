"""Public data sets by name: where they come from, their licence, how to read them, and what their content is.

`load` reads a local copy in any format and refuses a wrong or damaged one; `fetch` gets one from its origin.
`demo_interactions` is the embedded default, and `generated` makes sets of any size for measurements.
"""

from __future__ import annotations

from unblur.datasets.catalogue import DATASETS as DATASETS
from unblur.datasets.catalogue import dataset as dataset
from unblur.datasets.copies import Check as Check
from unblur.datasets.copies import load as load
from unblur.datasets.copies import locate as locate
from unblur.datasets.copies import verify as verify
from unblur.datasets.demonstration import demo_interactions as demo_interactions
from unblur.datasets.download import fetch as fetch
from unblur.datasets.generation import generated as generated
from unblur.datasets.records import Content as Content
from unblur.datasets.records import Dataset as Dataset
from unblur.datasets.records import Download as Download
from unblur.datasets.records import Reading as Reading

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
