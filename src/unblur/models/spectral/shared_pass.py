"""Hundreds of settings of a spectral filter for about the price of one.

Every member of a family scores a weighted row x with ``x·p(P) + x·M_r·q(P)``. Written in Chebyshev polynomials of
``2P − 1`` all settings are combinations of the same few vectors: ``x·T_j`` and, for each range of singular vectors,
``x·M_range·T_j``. One pass over the rows makes these vectors; a setting is then a handful of coefficients.
`unblur.models.shared_features` ranks by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.models.shared_features import (
    ANCHORS,
    SharedPasses,
    best_items,
    combined,
    exclude_histories,
    rank_batches,
    rank_settings,
)
from unblur.models.spectral.operator import (
    Dense,
    Operator,
    Weighting,
    degree_power,
    dense,
    normalize,
    on_cpu,
    on_device,
    ordering,
    reorder_columns,
)
from unblur.models.spectral.spectrum import truncated_svd
from unblur.progress import Progress, Run, silent
from unblur.randomness import RNG
from unblur.ranking import tie_ranks

if TYPE_CHECKING:
    from unblur.models.spectral.polynomial_filter import FilterSpec

_FIT_ERROR = 3e-5
"""As in one model (`polynomial_filter._TOLERANCE`): below what changes a list."""


@dataclass(frozen=True, eq=False)
class SharedPass:
    """The vectors that settings of one R̃ share, prepared for one train set."""

    specs: tuple[FilterSpec, ...]
    train: Interactions
    item_order: NDArray[np.int32]
    """(n_items,) the order of items in which products are fast; all tensors below have their items in it."""
    operator: Operator
    right: Dense
    """(n_items, largest rank) V, scaled by D_I^-b: a row times this is its code."""
    decoders: Dense
    """(combinations, n_items, largest rank): combinations of ``T_j(2P − 1)·D_I^b·V``, from which every q is combined."""
    ranks: tuple[int, ...]
    """All ranks of the settings and the ends of their bands, ascending: they bound the ranges of singular vectors."""
    coefficients: Dense
    """(settings, features): each setting as a combination of the shared vectors."""
    n_p_terms: int
    """The number of Chebyshev polynomials for p."""

    def rankings(
        self,
        histories: Interactions,
        *,
        k: int,
        settings: Sequence[int] | None = None,
        progress: Progress = silent,
    ) -> Iterator[tuple[slice, NDArray[np.int32]]]:
        """Yield the best items under each setting, batch by batch: the rows, and item positions (settings, rows, k).

        Each row must have a history; its items are left out. `settings` are indices into `specs`, all if None. Up to eight
        settings of the same weights (`FilterSpec.weighting`) are ranked exactly; the lists of more are exact but for items
        that none of eight settings far apart has among its best 100 (about 1 position in 400).
        """
        settings = range(len(self.specs)) if settings is None else settings
        indices: dict[Weighting, list[int]] = {}
        for index, setting in enumerate(settings):
            indices.setdefault(self.specs[setting].weighting, []).append(index)
        groups = [
            (own, self._ranker(weighting, self.coefficients[[settings[index] for index in own]], k))
            for weighting, own in indices.items()
        ]

        def rank(batch: Interactions) -> NDArray[np.int32]:
            positions = np.empty((len(settings), batch.n_users, k), dtype=np.int32)
            for own, rank_own in groups:
                positions[own] = rank_own(batch)
            return np.where(positions >= 0, self.item_order[positions], -1)

        return rank_batches(rank, histories, progress, parallel=self.operator.device == "cpu")

    def _ranker(
        self, weighting: Weighting, table: Dense, k: int
    ) -> Callable[[Interactions], NDArray[np.int32]]:
        """Return a function from rows to positions in the fast order under settings of one weighting, (settings, rows, k)."""
        counts, weights = self.train.item_degrees, None
        ties = tie_ranks(counts)[self.item_order]

        def start_rows(batch: Interactions) -> sparse.csr_array:
            rows = weighting.rows(self.specs[0].with_weights(batch), counts)
            return reorder_columns(rows, self.item_order)

        if weighting.score is not None:
            weights = dense(
                degree_power(counts, weighting.score)[self.item_order, None], self.operator.device
            )
        if len(table) <= ANCHORS:
            decoders = [self._combined_decoder(setting) for setting in table]

            def rank(batch: Interactions) -> NDArray[np.int32]:
                scores = self._scores(table, decoders, start_rows(batch), weights)
                return best_items(on_cpu(scores), k, ties)

            return rank

        def rank_on_shortlist(batch: Interactions) -> NDArray[np.int32]:
            start = start_rows(batch)
            return rank_settings(table, self._features(start, weights), start, k, ties, self.operator.device)

        return rank_on_shortlist

    def _combined_decoder(self, setting: Dense) -> Dense:
        """The decoder of one setting, (n_items, rank): codes times it are low-pass terms; rank 0 without a filter."""
        weights = on_cpu(setting[self.n_p_terms :]).reshape(len(self.ranks), len(self.decoders))
        own_ranks = [rank for rank, own_weights in zip(self.ranks, weights, strict=True) if own_weights.any()]
        shape = len(self.train.items), max(own_ranks, default=0)
        combined = dense(np.zeros(shape, dtype=np.float32), self.operator.device)
        for own_weights, start, stop in zip(weights.tolist(), (0, *self.ranks), self.ranks, strict=False):
            if stop <= combined.shape[1]:
                for factor, decoder in zip(own_weights, self.decoders, strict=True):
                    combined[:, start:stop] += factor * decoder[:, start:stop]
        return combined

    def _code_and_vectors(self, start: sparse.csr_array, n_features: int) -> tuple[Dense, Dense]:
        """The codes of some rows, (rank, rows), and the vectors ``T_j(2P − 1)`` times them, (features, n_items, rows).

        Features behind the vectors are left to the caller to fill: side by side, none is copied.
        """
        xp, x = self.operator.xp, on_device(start, self.operator.device)
        vectors = xp.empty((n_features, *start.shape[::-1]), dtype=xp.float32, device=self.operator.device)
        vectors[0] = (x.toarray() if xp is np else x.to_dense()).T
        _chebyshev(self.operator, vectors[: self.n_p_terms])
        return (x @ self.right).T, vectors

    def _scores(
        self, table: Dense, decoders: Sequence[Dense], start: sparse.csr_array, weights: Dense | None
    ) -> Dense:
        """Scores of some rows under a few settings, (settings, n_items, rows), −inf for the items of the rows."""
        code, vectors = self._code_and_vectors(start, self.n_p_terms)
        scores = combined(table[:, : self.n_p_terms], vectors)
        for index, decoder in enumerate(decoders):
            scores[index] += decoder @ code[: decoder.shape[1]]
        if weights is not None:
            scores *= weights
        return exclude_histories(scores, start)

    def _features(self, start: sparse.csr_array, weights: Dense | None) -> Dense:
        """The shared vectors of some rows, (features, n_items, rows), in the order of the columns of `coefficients`:

        first the polynomials of p, then for each range of singular vectors one feature for each decoder.
        """
        code, features = self._code_and_vectors(start, self.coefficients.shape[1])
        # Ranges of singular vectors are rows of the code: contiguous, each is one dense block for the product.
        code, feature = self.operator.contiguous(code), self.n_p_terms
        for first, stop in zip((0, *self.ranks), self.ranks, strict=False):
            for decoder in self.decoders:
                self.operator.xp.matmul(decoder[:, first:stop], code[first:stop], out=features[feature])
                feature += 1
        if weights is not None:
            features *= weights
        return features


def share(
    specs: Sequence[FilterSpec],
    train: Interactions,
    *,
    rng: RNG | None = None,
    run: Run = Run(),
) -> SharedPasses:
    """Prepare the shared vectors of `specs`, all of one kind, on `train`, with one decomposition for each R̃, at the largest rank."""
    indices: dict[tuple[float, float, bool], list[int]] = {}
    for index, spec in enumerate(specs):
        indices.setdefault((spec.degrees.user, spec.degrees.item, spec.uses_weights), []).append(index)
    return SharedPasses(
        [(own, _shared([specs[index] for index in own], train, rng, run)) for own in indices.values()]
    )


def _shared(specs: Sequence[FilterSpec], train: Interactions, rng: RNG | None, run: Run) -> SharedPass:
    """Prepare the shared vectors of settings of one R̃."""
    specs, device, exponent = tuple(specs), run.device, specs[0].low_pass_exponent
    train = specs[0].with_weights(train)
    normalized = normalize(train, specs[0].degrees)
    users, items = ordering(normalized, device)
    operator = Operator(reorder_columns(sparse.csr_array(normalized[users]), items), device)
    # A filter has no more singular vectors than the smaller side of the matrix, as in one model.
    all_bands = [spec.band_weights(min(spec.rank, *normalized.shape)) for spec in specs]
    # The weight of a singular vector is that of its range: a range ends where a filter does, or one of its bands.
    ends = [{len(bands), *(np.flatnonzero(np.diff(bands)) + 1).tolist()} for bands in all_bands]
    ranks = tuple(sorted(set().union(*ends) - {0}))
    n_p_terms, n_q_terms = _sizes(specs)
    n_items, largest_rank = train.n_items, ranks[-1] if ranks else 0
    decoders = dense(np.empty((n_q_terms if ranks else 0, n_items, largest_rank), dtype=np.float32), device)
    right = dense(np.empty((n_items, largest_rank), dtype=np.float32), device)
    if ranks:
        vectors = truncated_svd(normalized, largest_rank, rng=rng, device=device, progress=run.progress).right
        right = dense((vectors * degree_power(train.item_degrees, -exponent)[:, None])[items], device)
        decoders[0] = dense((vectors * degree_power(train.item_degrees, exponent)[:, None])[items], device)
        for start in range(0, largest_rank, operator.block_width):
            columns = slice(start, start + operator.block_width)
            block = operator.contiguous(decoders[:, :, columns])
            _chebyshev(operator, block)
            decoders[:, :, columns] = block
    # Most q of a family differ little: a few orthonormal combinations of the polynomials stand for all of them.
    q_series = np.array([_series(spec, 1, n_q_terms) for spec in specs])
    combinations = _combinations(q_series)
    if ranks:
        decoders = combined(operator.array(combinations), decoders)
    coefficients = []
    for spec, bands, q_weights in zip(specs, all_bands, q_series @ combinations.T, strict=True):
        # A filter of rank r passes the ranges up to r, each with the weight of its band, and none beyond.
        by_range = [q_weights * (bands[rank - 1] if rank <= len(bands) else 0.0) for rank in ranks]
        coefficients.append(np.concatenate([_series(spec, 0, n_p_terms), *by_range]))
    coefficient_table = dense(np.array(coefficients, dtype=np.float32), device)
    return SharedPass(specs, train, items, operator, right, decoders, ranks, coefficient_table, n_p_terms)


def _chebyshev(operator: Operator, vectors: Dense) -> None:
    """Fill ``vectors[j] = T_j(2P − 1)·vectors[0]`` for j ≥ 1 in place; `vectors` is (terms, n_items, columns).

    By ``T_1(y) = y`` and ``T_j(y) = 2y·T_{j−1}(y) − T_{j−2}(y)`` with ``y = 2P − 1``.
    """
    for j in range(1, len(vectors)):
        product = operator.backward @ (operator.forward @ vectors[j - 1])
        product *= 2 if j == 1 else 4
        product -= vectors[0] if j == 1 else vectors[j - 2] + 2 * vectors[j - 1]
        vectors[j] = product


def _sizes(specs: Sequence[FilterSpec], largest: int = 32) -> tuple[int, int]:
    """Return the numbers of Chebyshev polynomials for p and for q with which each setting errs by 3e-5 of its largest value.

    More than `largest` are never taken, which bounds memory; a setting of a higher degree may then err by more.
    """
    sizes = []
    grid = 0.5 * (1 - np.cos(np.pi * np.linspace(0, 1, 401)))
    for part in (0, 1):
        size = 1
        for spec in specs:
            exact = spec.response(grid)[part]
            tolerance = _FIT_ERROR * float(np.abs(exact).max())
            for candidate in range(size, min(largest, spec.degree + 1) + 1):
                size = candidate
                if (
                    np.abs(chebyshev.chebval(2 * grid - 1, _series(spec, part, candidate)) - exact).max()
                    <= tolerance
                ):
                    break
        sizes.append(size)
    return sizes[0], sizes[1]


def _series(spec: FilterSpec, part: int, size: int) -> NDArray[np.float64]:
    """Return the Chebyshev coefficients on [0, 1] of p (`part` 0) or q (`part` 1) of a setting."""
    points = np.cos(np.pi * (np.arange(size) + 0.5) / size)
    return np.asarray(chebyshev.chebfit(points, spec.response((points + 1) / 2)[part], size - 1))


def _combinations(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return orthonormal rows, (combinations, terms), from which each series, (settings, terms), is combined to 3e-5."""
    scaled = series / np.maximum(np.abs(series).sum(axis=1, keepdims=True), 1e-30)
    rows: NDArray[np.float64] = np.linalg.svd(scaled, full_matrices=False)[2]
    for size in range(1, len(rows)):
        leading = rows[:size]
        if np.abs(scaled - scaled @ leading.T @ leading).sum(axis=1).max() <= _FIT_ERROR:
            return leading
    return rows
