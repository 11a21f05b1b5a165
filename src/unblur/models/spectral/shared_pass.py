"""Hundreds of settings of a spectral filter for about the price of one.

Every member of a family scores a weighted row x with ``x·p(P) + x·M_r·q(P)``. Written in Chebyshev polynomials of
``2P − 1`` all settings are combinations of the same few vectors: ``x·T_j`` and, for each range of singular vectors,
``x·M_range·T_j``. One pass over the rows makes these vectors; a setting is then a handful of coefficients.

Ranking all items under every setting would cost more than the vectors themselves, so each row first gets a shortlist:
the best items under a few settings that lie far apart. All settings are ranked on the shortlist; a few that matter can be
ranked exactly by a second pass over these alone.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.models.spectral.operator import (
    Operator,
    Weighting,
    degree_power,
    dense,
    normalize,
    ordering,
    reorder_columns,
    sparse_tensor,
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
    """The vectors that a list of settings share, prepared for one train set."""

    specs: tuple[FilterSpec, ...]
    train: Interactions
    item_order: NDArray[np.int32]
    """(n_items,) the order of items in which products are fast; all tensors below have their items in it."""
    operator: Operator
    right: torch.Tensor
    """(n_items, largest rank) V, scaled by D_I^-b: a row times this is its code."""
    decoders: torch.Tensor
    """(combinations, n_items, largest rank): combinations of ``T_j(2P − 1)·D_I^b·V``, from which every q is combined."""
    ranks: tuple[int, ...]
    """All ranks of the settings, ascending: they bound the ranges of singular vectors."""
    coefficients: torch.Tensor
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
        scratch = threading.local()  # each thread reuses its large array for its next batch
        groups = [
            (own, self._ranker(weighting, self.coefficients[[settings[index] for index in own]], k, scratch))
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
        self, weighting: Weighting, table: torch.Tensor, k: int, scratch: threading.local
    ) -> Callable[[Interactions], NDArray[np.int32]]:
        """Return a function from rows to positions in the fast order under settings of one weighting, (settings, rows, k)."""
        counts, weights = self.train.item_degrees, None
        ties = tie_ranks(counts)[self.item_order]

        def start_rows(batch: Interactions) -> sparse.csr_array:
            return reorder_columns(weighting.rows(batch, counts), self.item_order)

        if weighting.score is not None:
            weights = dense(
                degree_power(counts, weighting.score)[self.item_order, None], self.operator.device
            )
        if len(table) <= _ANCHORS:
            decoders = [self._combined_decoder(setting) for setting in table]

            def rank(batch: Interactions) -> NDArray[np.int32]:
                scores = self._scores(table, decoders, start_rows(batch), weights, scratch)
                return np.stack(
                    [top_k(setting_scores.cpu().numpy().T, k, ties)[0] for setting_scores in scores]
                )

            return rank
        anchors = table[_spread_settings(table, _ANCHORS)]
        depth = min(max(_DEPTH, 2 * k), len(self.train.items))

        def rank_on_shortlist(batch: Interactions) -> NDArray[np.int32]:
            start = start_rows(batch)
            features, scores = self._features(start, anchors, weights, scratch)
            shortlist = _shortlist(_exclude_histories(scores, start), depth, ties)
            return _rank_shortlist(table, features, shortlist, k)

        return rank_on_shortlist

    def _combined_decoder(self, setting: torch.Tensor) -> torch.Tensor:
        """The decoder of one setting, (n_items, rank): codes times it are low-pass terms; rank 0 without a filter."""
        weights = setting[self.n_p_terms :].view(len(self.ranks), len(self.decoders))
        own_ranks = [
            rank for rank, own_weights in zip(self.ranks, weights, strict=True) if bool(own_weights.any())
        ]
        combined = torch.zeros((len(self.train.items), max(own_ranks, default=0)), device=setting.device)
        for own_weights, start, stop in zip(weights.tolist(), (0, *self.ranks), self.ranks, strict=False):
            if stop <= combined.shape[1]:
                for factor, decoder in zip(own_weights, self.decoders, strict=True):
                    combined[:, start:stop].add_(decoder[:, start:stop], alpha=factor)
        return combined

    def _code_and_vectors(
        self, start: sparse.csr_array, sizes: tuple[int, int], scratch: threading.local
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The codes of some rows, (rank, rows), and blocks for vectors and for scores, (size, n_items, rows) each.

        The first `n_p_terms` vectors are filled with ``T_j(2P − 1)`` times the rows; the others are uninitialised.
        """
        x = sparse_tensor(start, self.operator.device)
        vectors, scores = _scratch_tensor(scratch, (sum(sizes), *x.shape[::-1]), x.device).split(list(sizes))
        vectors[0] = x.to_dense().T
        _chebyshev(self.operator, vectors[: self.n_p_terms])
        return (x @ self.right).T, vectors, scores

    def _scores(
        self,
        table: torch.Tensor,
        decoders: Sequence[torch.Tensor],
        start: sparse.csr_array,
        weights: torch.Tensor | None,
        scratch: threading.local,
    ) -> torch.Tensor:
        """Scores of some rows under a few settings, (settings, n_items, rows), −inf for the items of the rows."""
        code, vectors, scores = self._code_and_vectors(start, (self.n_p_terms, len(table)), scratch)
        torch.mm(table[:, : self.n_p_terms], vectors.flatten(1), out=scores.view(len(table), -1))
        for setting_scores, decoder in zip(scores, decoders, strict=True):
            setting_scores.addmm_(decoder, code[: decoder.shape[1]])
        if weights is not None:
            scores.mul_(weights)
        return _exclude_histories(scores, start)

    def _features(
        self,
        start: sparse.csr_array,
        anchors: torch.Tensor,
        weights: torch.Tensor | None,
        scratch: threading.local,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The shared vectors of some rows, (features, n_items, rows), and their scores under the anchors.

        The scores are (anchors, n_items, rows). Features come in the order of the columns of `coefficients`: first the
        polynomials of p, then for each range of singular vectors one feature for each decoder.
        """
        # Vectors and scores lie in one block of memory, so that a thread allocates once.
        sizes = self.coefficients.shape[1], len(anchors)
        code, features, scores = self._code_and_vectors(start, sizes, scratch)
        # Ranges of singular vectors are rows of the code: contiguous, each is one dense block for the product.
        code, column = code.contiguous(), self.n_p_terms
        for first, stop in zip((0, *self.ranks), self.ranks, strict=False):
            for decoder in self.decoders:
                torch.mm(decoder[:, first:stop], code[first:stop], out=features[column])
                column += 1
        if weights is not None:
            features.mul_(weights)
        # A setting's scores are its coefficients times the features, for all items and rows in one product.
        torch.mm(anchors, features.flatten(1), out=scores.view(len(anchors), -1))
        return features, scores


def share(
    specs: Sequence[FilterSpec],
    train: Interactions,
    *,
    rng: RNG | None = None,
    run: Run = Run(),
) -> SharedPass:
    """Prepare the shared vectors of `specs`, all of one kind, on `train`, with one decomposition at the largest rank."""
    specs, device, exponent = tuple(specs), run.device, specs[0].low_pass_exponent
    train = train.binarized()
    normalized = normalize(train)
    users, items = ordering(normalized, device)
    operator = Operator(reorder_columns(sparse.csr_array(normalized[users]), items), device)
    # A filter has no more singular vectors than the smaller side of the matrix, as in one model.
    own_ranks = [min(spec.rank, *normalized.shape) for spec in specs]
    ranks = tuple(sorted(set(own_ranks) - {0}))
    n_p_terms, n_q_terms = _sizes(specs)
    n_items, largest_rank = train.n_items, ranks[-1] if ranks else 0
    decoders = torch.empty((n_q_terms if ranks else 0, n_items, largest_rank), device=device)
    right = torch.empty((n_items, largest_rank), device=device)
    if ranks:
        vectors = truncated_svd(normalized, largest_rank, rng=rng, device=device, progress=run.progress).right
        right = dense((vectors * degree_power(train.item_degrees, -exponent)[:, None])[items], device)
        decoders[0] = dense((vectors * degree_power(train.item_degrees, exponent)[:, None])[items], device)
        for start in range(0, largest_rank, operator.block_width):
            columns = slice(start, start + operator.block_width)
            block = decoders[:, :, columns].contiguous()
            _chebyshev(operator, block)
            decoders[:, :, columns] = block
    # Most q of a family differ little: a few orthonormal combinations of the polynomials stand for all of them.
    q_series = np.array([_series(spec, 1, n_q_terms) for spec in specs])
    combinations = _combinations(q_series)
    if ranks:
        decoders = torch.tensordot(dense(combinations.astype(np.float32), device), decoders, dims=1)
    coefficients = []
    for spec, own_rank, q_weights in zip(specs, own_ranks, q_series @ combinations.T, strict=True):
        # A filter of rank r passes the ranges up to r, each with the same weights, and none beyond.
        by_range = [np.where(rank <= own_rank, q_weights, 0.0) for rank in ranks]
        coefficients.append(np.concatenate([_series(spec, 0, n_p_terms), *by_range]))
    coefficient_table = dense(np.array(coefficients, dtype=np.float32), device)
    return SharedPass(specs, train, items, operator, right, decoders, ranks, coefficient_table, n_p_terms)


def _shortlist(scores: torch.Tensor, depth: int, ties: NDArray[np.int64]) -> torch.Tensor:
    """Return the best items under any anchor, (rows, anchors × depth), from scores (anchors, n_items, rows).

    −1 stands for a repeated or a missing item; sorting the items brings repeats together, and once more the −1 to the front,
    where they change no score. Among equal scores `torch.topk` chooses by nothing documented, so the order is part of the
    lists to the bit.
    """
    items = np.sort(
        np.concatenate(
            [top_k(anchor_scores.cpu().numpy().T, depth, ties)[0] for anchor_scores in scores], axis=1
        ),
        axis=1,
    )
    items[:, 1:][items[:, 1:] == items[:, :-1]] = -1
    return torch.from_numpy(np.sort(items, axis=1)).long().to(scores.device)


def _scratch_tensor(scratch: threading.local, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return an uninitialised tensor of that shape, in the memory of the thread's last one if that is large enough."""
    size, memory = math.prod(shape), getattr(scratch, "memory", None)
    if memory is None or len(memory) < size:
        memory = scratch.memory = torch.empty(size, device=device)
    return cast("torch.Tensor", memory[:size].view(shape))


def _exclude_histories(scores: torch.Tensor, start: sparse.csr_array) -> torch.Tensor:
    """Set scores (settings, n_items, rows) of the items of the histories to −inf, in place, and return them."""
    users = np.repeat(np.arange(start.shape[0]), np.diff(start.indptr))
    items, rows = (torch.from_numpy(part).long() for part in (start.indices, users))
    scores[:, items, rows] = -torch.inf
    return scores


def _rank_shortlist(
    table: torch.Tensor, features: torch.Tensor, shortlist: torch.Tensor, k: int
) -> NDArray[np.int32]:
    """Return the best items of the shortlist under each setting of the table, (settings, rows, k); ties in any order."""
    # A catalogue of fewer items than k may give a narrower shortlist; the list's end is then −1, as in `top_k`.
    shortlist = torch.nn.functional.pad(shortlist, (0, max(0, k - shortlist.shape[1])), value=-1)
    rows = torch.arange(len(shortlist), device=features.device)[:, None]
    scores = torch.tensordot(table, features[:, shortlist.clamp_min(0), rows], dims=1)
    scores.masked_fill_(shortlist < 0, -torch.inf)
    best = scores.topk(k, dim=2)
    positions = shortlist.expand(len(scores), -1, -1).gather(2, best.indices)
    return np.asarray(positions.masked_fill(best.values == -torch.inf, -1).int().cpu().numpy())


def _chebyshev(operator: Operator, vectors: torch.Tensor) -> None:
    """Fill ``vectors[j] = T_j(2P − 1)·vectors[0]`` for j ≥ 1 in place; `vectors` is (terms, n_items, columns).

    By ``T_1(y) = y`` and ``T_j(y) = 2y·T_{j−1}(y) − T_{j−2}(y)`` with ``y = 2P − 1``.
    """
    for j in range(1, len(vectors)):
        half = operator.forward @ vectors[j - 1]
        if j == 1:
            vectors[1] = vectors[0]
        else:
            torch.add(vectors[j - 2], vectors[j - 1], alpha=2, out=vectors[j])
        torch.addmm(vectors[j], operator.backward, half, beta=-1, alpha=2 if j == 1 else 4, out=vectors[j])


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


def _spread_settings(points: torch.Tensor, number: int) -> list[int]:
    """Return the indices of up to `number` settings, each as far as possible from those before it.

    A setting and its multiples rank alike, so only directions count.
    """
    points = points / points.norm(dim=1, keepdim=True).clamp_min(1e-30)
    settings = [int((points - points.mean(dim=0)).norm(dim=1).argmin())]
    distance = (points - points[settings[0]]).norm(dim=1)
    while len(settings) < number and float(distance.max()) > 0:
        settings.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[settings[-1]]).norm(dim=1))
    return settings
