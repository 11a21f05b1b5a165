"""Comparison of models on the same data, with the same protocol and budget, with intervals, tests and costs.

For example::

    lineup = line_up(["popularity", "item-knn", "ease"], recipe="ease/demo", search=Search(trials=10))
    comparison = compare(lineup, out="comparison/")
    print(comparison.verdict())
"""

from __future__ import annotations

from unblur.experiment.comparison.lineup import line_up as line_up
from unblur.experiment.comparison.results import Comparison as Comparison, winner as winner
from unblur.experiment.comparison.running import compare as compare, workloads as workloads
from unblur.tuning.settings import Search as Search
