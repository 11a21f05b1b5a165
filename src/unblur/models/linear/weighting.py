"""User weighting: how much a user counts for when items are compared, and an item when users are.

It is one slot of a linear item model: what is compared are rows of a matrix, such as the items of the transposed train
matrix, and the weight of an entry follows from how rare its column is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

EntryWeighting: TypeAlias = Literal["none", "degree", "tf-idf", "bm25"]
"""The words for it; `EntryWeights` has the formulas."""

SATURATION, LENGTH_SHARE = 1.2, 0.75
"""k₁ and b of BM25: usual values, within the ranges that Robertson and Zaragoza recommend (section 3.5)."""


@dataclass(frozen=True, eq=False)
class EntryWeights:
    """The weights of a matrix's entries x, learned from all its rows; they hold for other rows over the same columns.

    - ``none``: x.
    - ``degree``: ``x / √d``, where d of the n rows have the entry's column, as in the normalised adjacency matrix of graphs.
    - ``tf-idf``: ``x · log(n / (1 + d))``, (Salton and Buckley, IPM 24(5), 1988).
    - ``bm25``: ``x (k₁ + 1) / (x + k₁ (1 − b + b l / l̄)) · log(n / (1 + d))``, where l is the row's sum and l̄ the mean of all
      rows' sums (Robertson and Zaragoza, *The Probabilistic Relevance Framework*, 2009, section 3.4).
    """

    weighting: EntryWeighting
    rarity: NDArray[np.float64]
    """(n_columns,) log(n / (1 + d)), or 1 / √d."""
    mean_sum: float
    """l̄."""

    @classmethod
    def of(cls, weighting: EntryWeighting, rows: sparse.csr_array) -> Self:
        """Learn the weights of the entries of `rows`, none of which is a stored 0."""
        degrees = np.bincount(rows.indices, minlength=rows.shape[1])
        n_rows = max(1, rows.shape[0])  # without rows, or entries, there is nothing to weigh
        if weighting == "degree":
            rarity = np.maximum(degrees, 1) ** -0.5  # a column that is new in other rows weighs most
        else:
            rarity = np.log(n_rows / (1.0 + degrees))
        return cls(weighting, rarity, float(rows.sum()) / n_rows or 1.0)

    def apply(self, rows: sparse.csr_array) -> sparse.csr_array:
        """Return the weighted rows, float32; entries of weight 0 are left out."""
        if self.weighting == "none":
            return rows
        values = rows.data.astype(np.float64)
        if self.weighting == "bm25":
            lengths = np.asarray(rows.sum(axis=1), dtype=np.float64).ravel() / self.mean_sum
            limits = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * lengths)
            values *= (SATURATION + 1) / (values + np.repeat(limits, np.diff(rows.indptr)))
        values *= self.rarity[rows.indices]
        weighted = sparse.csr_array(
            (values.astype(np.float32), rows.indices, rows.indptr), shape=rows.shape, copy=True
        )
        weighted.eliminate_zeros()
        return weighted
