"""Hundreds of settings of a spectral filter for about the price of one.

Every member of a family scores a weighted row x with ``x·p(P) + x·M_r·q(P)``. Written in Chebyshev polynomials of
``2P − 1`` all settings are combinations of the same few vectors: ``x·T_j`` and, for each range of singular vectors,
``x·M_range·T_j``. One pass over the rows makes these vectors; a setting is then a handful of coefficients.

Ranking all items under every setting would cost more than the vectors themselves, so each row first gets a shortlist:
the best items under a few settings that lie far apart. All settings are ranked on the shortlist; a few that matter can be
ranked exactly by a second pass over these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
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
from unblur.parallel.threads import in_threads
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.randomness import RNG
from unblur.ranking import tie_ranks, top_k

if TYPE_CHECKING:
    from unblur.models.spectral.polynomial_filter import FilterSpec

_BATCH = 32
"""Users in a batch: the columns of a block at which sparse products are fastest (see `Operator`)."""
_ANCHORS = 8
"""Settings whose best items make the shortlist that all settings choose from; up to so many are ranked in full."""
_DEPTH = 100
"""Items that each anchor puts on the shortlist, at least; what is chosen at the end is judged again exactly."""
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

        def rank_batch(rows: slice) -> tuple[slice, NDArray[np.int32]]:
            batch = histories.take_users(rows)
            positions = np.empty((len(settings), batch.n_users, k), dtype=np.int32)
            for own, rank in groups:
                positions[own] = rank(batch)
            return rows, np.where(positions >= 0, self.item_order[positions], -1)

        n_users = histories.n_users
        batches = [slice(start, min(start + _BATCH, n_users)) for start in range(0, n_users, _BATCH)]
        parallel = self.operator.device == "cpu"
        with closing(
            in_threads(rank_batch, batches) if parallel else (rank_batch(rows) for rows in batches)
        ) as results:
            for rows, positions in results:
                yield rows, positions
                progress(ProgressEvent("score all settings", rows.stop, n_users))

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
        if len(table) <= _ANCHORS:
            decoders = [self._combined_decoder(setting) for setting in table]

            def rank(batch: Interactions) -> NDArray[np.int32]:
                scores = self._scores(table, decoders, start_rows(batch), weights)
                return np.stack([top_k(setting_scores.T, k, ties)[0] for setting_scores in on_cpu(scores)])

            return rank
        anchors = table[_spread_settings(table, _ANCHORS)]
        depth = min(max(_DEPTH, 2 * k), len(self.train.items))

        def rank_on_shortlist(batch: Interactions) -> NDArray[np.int32]:
            start = start_rows(batch)
            features, scores = self._features(start, anchors, weights)
            shortlist = _shortlist(on_cpu(_exclude_histories(scores, start)), depth, ties)
            return _rank_shortlist(self.operator, table, features, shortlist, k)

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

    def _code_and_vectors(self, start: sparse.csr_array) -> tuple[Dense, Dense]:
        """The codes of some rows, (rank, rows), and the vectors ``T_j(2P − 1)`` times them, (terms, n_items, rows)."""
        xp, x = self.operator.xp, on_device(start, self.operator.device)
        vectors = xp.empty(
            (self.n_p_terms, *start.shape[::-1]), dtype=xp.float32, device=self.operator.device
        )
        vectors[0] = (x.toarray() if xp is np else x.to_dense()).T
        _chebyshev(self.operator, vectors)
        return (x @ self.right).T, vectors

    def _scores(
        self, table: Dense, decoders: Sequence[Dense], start: sparse.csr_array, weights: Dense | None
    ) -> Dense:
        """Scores of some rows under a few settings, (settings, n_items, rows), −inf for the items of the rows."""
        code, vectors = self._code_and_vectors(start)
        scores = _combined(table[:, : self.n_p_terms], vectors)
        for index, decoder in enumerate(decoders):
            scores[index] += decoder @ code[: decoder.shape[1]]
        if weights is not None:
            scores *= weights
        return _exclude_histories(scores, start)

    def _features(
        self, start: sparse.csr_array, anchors: Dense, weights: Dense | None
    ) -> tuple[Dense, Dense]:
        """The shared vectors of some rows, (features, n_items, rows), and their scores under the anchors.

        The scores are (anchors, n_items, rows). Features come in the order of the columns of `coefficients`: first the
        polynomials of p, then for each range of singular vectors one feature for each decoder.
        """
        code, vectors = self._code_and_vectors(start)
        # Ranges of singular vectors are rows of the code: contiguous, each is one dense block for the product.
        code = self.operator.contiguous(code)
        low_pass = [
            (decoder[:, first:stop] @ code[first:stop])[None]
            for first, stop in zip((0, *self.ranks), self.ranks, strict=False)
            for decoder in self.decoders
        ]
        features = self.operator.xp.concat([vectors, *low_pass], axis=0)
        if weights is not None:
            features *= weights
        # A setting's scores are its coefficients times the features, for all items and rows in one product.
        return features, _combined(anchors, features)


def _combined(table: Dense, vectors: Dense) -> Dense:
    """Combine vectors (terms, n_items, rows) by a table (settings, terms), to (settings, n_items, rows)."""
    return (table @ vectors.reshape(len(vectors), -1)).reshape(len(table), *vectors.shape[1:])


@dataclass(frozen=True, eq=False)
class SharedPasses:
    """Passes over settings of different R̃ (`FilterSpec.degrees` and `.weights`), each with a decomposition of its own."""

    passes: Sequence[tuple[Sequence[int], SharedPass]]
    """Each with the indices of its settings."""

    def rankings(
        self,
        histories: Interactions,
        *,
        k: int,
        settings: Sequence[int] | None = None,
        progress: Progress = silent,
    ) -> Iterator[tuple[slice, NDArray[np.int32]]]:
        """Yield the best items under each setting, as `SharedPass.rankings` does; settings of one R̃ have a shortlist of their own."""
        n_settings = sum(len(own) for own, _ in self.passes)
        settings = range(n_settings) if settings is None else settings
        indices: list[list[int]] = []
        parts: list[Iterator[tuple[slice, NDArray[np.int32]]]] = []
        for own, shared in self.passes:
            chosen = [index for index, setting in enumerate(settings) if setting in own]
            if chosen:
                report = silent if parts else progress  # all passes go over the same batches
                own_settings = [own.index(settings[index]) for index in chosen]
                parts.append(shared.rankings(histories, k=k, settings=own_settings, progress=report))
                indices.append(chosen)
        for batch in zip(*parts, strict=True):
            rows, first = batch[0]
            positions = np.empty((len(settings), *first.shape[1:]), dtype=np.int32)
            for chosen, (_, own_positions) in zip(indices, batch, strict=True):
                positions[chosen] = own_positions
            yield rows, positions


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
        decoders = _combined(operator.array(combinations), decoders)
    coefficients = []
    for spec, bands, q_weights in zip(specs, all_bands, q_series @ combinations.T, strict=True):
        # A filter of rank r passes the ranges up to r, each with the weight of its band, and none beyond.
        by_range = [q_weights * (bands[rank - 1] if rank <= len(bands) else 0.0) for rank in ranks]
        coefficients.append(np.concatenate([_series(spec, 0, n_p_terms), *by_range]))
    coefficient_table = dense(np.array(coefficients, dtype=np.float32), device)
    return SharedPass(specs, train, items, operator, right, decoders, ranks, coefficient_table, n_p_terms)


def _shortlist(scores: NDArray[np.float32], depth: int, ties: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the best items under any anchor, (rows, anchors × depth), from scores (anchors, n_items, rows).

    −1 stands for a repeated or a missing item; sorting the items brings repeats together, and once more the −1 to the front,
    where they change no score.
    """
    items = np.sort(
        np.concatenate([top_k(anchor_scores.T, depth, ties)[0] for anchor_scores in scores], axis=1), axis=1
    )
    items[:, 1:][items[:, 1:] == items[:, :-1]] = -1
    return np.sort(items, axis=1).astype(np.int64)


def _exclude_histories(scores: Dense, start: sparse.csr_array) -> Dense:
    """Set scores (settings, n_items, rows) of the items of the histories to −inf, in place, and return them."""
    users = np.repeat(np.arange(start.shape[0]), np.diff(start.indptr))
    scores[:, start.indices.astype(np.int64), users] = -np.inf
    return scores


def _rank_shortlist(
    operator: Operator, table: Dense, features: Dense, shortlist: NDArray[np.int64], k: int
) -> NDArray[np.int32]:
    """Return the best items of the shortlist under each setting of the table, (settings, rows, k); ties in any order."""
    # A catalogue of fewer items than k may give a narrower shortlist; the list's end is then −1, as in `top_k`.
    shortlist = np.pad(shortlist, ((0, 0), (0, max(0, k - shortlist.shape[1]))), constant_values=-1)
    rows = np.arange(len(shortlist))[:, None]
    items, rows = (dense(part, operator.device) for part in (np.maximum(shortlist, 0), rows))
    scores = on_cpu(_combined(table, features[:, items, rows]))
    scores[:, shortlist < 0] = -np.inf
    best = np.argpartition(scores, -k, axis=2)[:, :, -k:]
    best_scores = np.take_along_axis(scores, best, axis=2)
    order = np.argsort(-best_scores, axis=2)
    best, best_scores = (np.take_along_axis(part, order, axis=2) for part in (best, best_scores))
    positions = np.take_along_axis(np.broadcast_to(shortlist, scores.shape), best, axis=2)
    return np.where(best_scores == -np.inf, -1, positions).astype(np.int32)


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


def _spread_settings(points: Dense, number: int) -> list[int]:
    """Return the indices of up to `number` settings, each as far as possible from those before it.

    A setting and its multiples rank alike, so only directions count.
    """
    directions = on_cpu(points)
    directions = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-30)
    settings = [int(np.linalg.norm(directions - directions.mean(axis=0), axis=1).argmin())]
    distance = np.linalg.norm(directions - directions[settings[0]], axis=1)
    while len(settings) < number and distance.max() > 0:
        settings.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(directions - directions[settings[-1]], axis=1))
    return settings
