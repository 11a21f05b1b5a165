"""Evaluation: metrics of recommended lists, their doubt, the protocol that takes them, and the report."""

from __future__ import annotations

from unblur.evaluation.protocol import Evaluation as Evaluation
from unblur.evaluation.protocol import RankingProtocol as RankingProtocol
from unblur.evaluation.report import Expected as Expected
from unblur.evaluation.report import Measurement as Measurement
from unblur.evaluation.report import Provenance as Provenance
from unblur.evaluation.report import Report as Report
from unblur.evaluation.report import Timings as Timings
