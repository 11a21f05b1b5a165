"""The recommenders that the SDRM paper measures synthetic data with."""

from __future__ import annotations

from unblur.synthesis.downstream.neumf import NeuMF as NeuMF
from unblur.synthesis.downstream.row_mlp import RowMLP as RowMLP
from unblur.synthesis.downstream.truncated_svd import TruncatedSVD as TruncatedSVD
