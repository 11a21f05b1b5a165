"""Hundreds of BSPM settings for about the price of one.

Every member of the family scores a row x with ``x·p(P) + x·M_r·q(P)``. Written in Chebyshev polynomials of
``2P − 1`` all settings are combinations of the same few vectors: ``x·T_j`` and, for each range of singular vectors,
``x·M_range·T_j``. One pass over the rows makes these vectors; a setting is then a handful of coefficients.

Ranking all items under every setting would cost more than the vectors themselves, so each row first gets a shortlist:
the best items under a few settings that lie far apart. All settings are ranked on the shortlist; a few that matter can be
ranked exactly by a second pass over these alone.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.errors import SpecError
from unblur.models.spectral.flow import degree, response
from unblur.models.spectral.operator import (
    Operator,
    columns_taken,
    dense,
    inverse_root,
    normalize,
    ordering,
    sparse_tensor,
    start_rows,
)
from unblur.models.spectral.spectrum import truncated_svd
from unblur.parallel.threads import in_threads
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.randomness import RNG
from unblur.ranking import top_k

if TYPE_CHECKING:
    from unblur.models.spectral.bspm import BSPM

_BATCH = 32
"""Users in a batch: the columns of a block at which sparse products are fastest (see `Operator`)."""
_ANCHORS = 8
"""Settings whose best items make the shortlist that all settings choose from; up to so many are ranked in full."""
_DEPTH = 100
"""Items that each anchor puts on the shortlist, at least; what is chosen at the end is judged again exactly."""
_FIT_ERROR = 3e-5
"""As in one model (`bspm._TOLERANCE`): below what changes a list."""


@dataclass(frozen=True, eq=False)
class SharedPass:
    """The vectors that a list of settings share, prepared for one train set."""

    specs: tuple[BSPM, ...]
    train: Interactions
    item_order: NDArray[np.int32]
    """(n_items,) the item at each place: in what follows items stand in the order that suits the cache."""
    operator: Operator
    right: torch.Tensor
    """(n_items, largest rank) V, scaled by D_I^-½: a row times this is its code."""
    decoders: torch.Tensor
    """(combinations, n_items, largest rank): combinations of ``T_j(2P − 1)·D_I^½·V`` of which every q is made."""
    ranks: tuple[int, ...]
    """The ends of the ranges of singular vectors."""
    coefficients: torch.Tensor
    """(settings, features): each setting as a combination of the shared vectors."""
    powers: int
    """How many polynomials stand for p."""

    def rankings(
        self,
        histories: Interactions,
        *,
        k: int,
        settings: Sequence[int] | None = None,
        progress: Progress = silent,
    ) -> Iterator[tuple[slice, NDArray[np.int32]]]:
        """For each batch of rows, the rows and the item positions (settings, rows, k), all settings unless some are named.

        Each row must have a history; its items are left out. Up to eight settings are ranked exactly; the lists of more are exact up to
        items that none of eight settings far apart has among its best 100 (about 1 place in 400).
        """
        table = self.coefficients if settings is None else self.coefficients[list(settings)]
        room = threading.local()  # each thread's large array, used again for its next batch
        if len(table) <= _ANCHORS:
            decoders = [self._decoder(setting) for setting in table]

            def ranked(rows: slice) -> tuple[slice, NDArray[np.int32]]:
                scores = self._scores(table, decoders, self._start(histories.take_users(rows)), room)
                return rows, self._items(np.stack([top_k(one.cpu().numpy().T, k)[0] for one in scores]))
        else:
            anchors = table[_far_apart(table, _ANCHORS)]
            depth = min(max(_DEPTH, 2 * k), len(self.train.items))

            def ranked(rows: slice) -> tuple[slice, NDArray[np.int32]]:
                start = self._start(histories.take_users(rows))
                features, scores = self._features(start, anchors, room)
                found = _ranked(table, features, _shortlist(_without(scores, start), depth), k)
                return rows, self._items(found)

        n_users = histories.n_users
        batches = [slice(start, min(start + _BATCH, n_users)) for start in range(0, n_users, _BATCH)]
        beside = self.operator.device == "cpu"
        with closing(in_threads(ranked, batches) if beside else (ranked(rows) for rows in batches)) as made:
            for rows, positions in made:
                yield rows, positions
                progress(ProgressEvent("score all settings", rows.stop, n_users))

    def _start(self, batch: Interactions) -> sparse.csr_array:
        """The rows that the processes start from, their items in order."""
        return columns_taken(
            start_rows(batch, self.train.item_degrees, self.specs[0].history), self.item_order
        )

    def _items(self, places: NDArray[np.int32]) -> NDArray[np.int32]:
        """The items at some places; −1 stays."""
        return np.where(places >= 0, self.item_order[places], -1)

    def _decoder(self, setting: torch.Tensor) -> torch.Tensor:
        """(n_items, rank): what a code of that setting is multiplied with; rank 0 without a low-pass filter."""
        low = setting[self.powers :].view(len(self.ranks), len(self.decoders))
        used = [end for end, part in zip(self.ranks, low, strict=True) if bool(part.any())]
        made = torch.zeros((len(self.train.items), max(used, default=0)), device=setting.device)
        for part, start, stop in zip(low.tolist(), (0, *self.ranks), self.ranks, strict=False):
            if stop <= made.shape[1]:
                for weight, decoder in zip(part, self.decoders, strict=True):
                    made[:, start:stop].add_(decoder[:, start:stop], alpha=weight)
        return made

    def _powers(
        self, start: sparse.csr_array, sizes: tuple[int, int], room: threading.local
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The codes of some rows, (rank, rows), and room for vectors and scores, (size, n_items, rows) each.

        The first `powers` vectors are filled: ``T_j(2P − 1)`` times the rows.
        """
        x = sparse_tensor(start, self.operator.device)
        vectors, scores = _within(room, (sum(sizes), *x.shape[::-1]), x.device).split(list(sizes))
        vectors[0] = x.to_dense().T
        _chebyshev(self.operator, vectors[: self.powers])
        return (x @ self.right).T, vectors, scores

    def _scores(
        self,
        table: torch.Tensor,
        decoders: Sequence[torch.Tensor],
        start: sparse.csr_array,
        room: threading.local,
    ) -> torch.Tensor:
        """(settings, n_items, rows): the scores of some rows under a few settings, −inf for what they have."""
        code, vectors, scores = self._powers(start, (self.powers, len(table)), room)
        torch.mm(table[:, : self.powers], vectors.flatten(1), out=scores.view(len(table), -1))
        for one, decoder in zip(scores, decoders, strict=True):
            one.addmm_(decoder, code[: decoder.shape[1]])
        return _without(scores, start)

    def _features(
        self, start: sparse.csr_array, anchors: torch.Tensor, room: threading.local
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(features, n_items, rows): the shared vectors of some rows; (anchors, n_items, rows): their scores."""
        sizes = self.coefficients.shape[1], len(anchors)
        code, features, scores = self._powers(start, sizes, room)
        code, place = code.contiguous(), self.powers
        for begin, stop in zip((0, *self.ranks), self.ranks, strict=False):
            for decoder in self.decoders:
                torch.mm(decoder[:, begin:stop], code[begin:stop], out=features[place])
                place += 1
        torch.mm(anchors, features.flatten(1), out=scores.view(len(anchors), -1))
        return features, scores


def share(
    specs: Sequence[BSPM],
    train: Interactions,
    *,
    rng: RNG | None = None,
    run: Run = Run(),
) -> SharedPass:
    """Prepare the shared vectors of `specs` on `train`: one decomposition at the largest rank.

    All settings must start from the same kind of row (`history`). Raises `SpecError` otherwise.
    """
    specs, device = tuple(specs), run.device
    SpecError.unless(
        len({spec.history for spec in specs}) == 1,
        "All settings of one search must have the same `history`; saw both. Search them one by one.",
    )
    train = train.binarized()
    normalized = normalize(train)
    users, items = ordering(normalized, device)
    operator = Operator(columns_taken(sparse.csr_array(normalized[users]), items), device)
    ranks = tuple(sorted({spec.low_pass.rank for spec in specs if spec.low_pass is not None}))
    powers, low_powers = _sizes(specs)
    n_items, rank = train.n_items, ranks[-1] if ranks else 0
    decoders = torch.empty((low_powers if ranks else 0, n_items, rank), device=device)
    right = torch.empty((n_items, rank), device=device)
    if ranks:
        vectors = truncated_svd(normalized, rank, rng=rng, device=device, progress=run.progress).right
        right = dense((vectors * inverse_root(train.item_degrees)[:, None])[items], device)
        decoders[0] = dense(
            (vectors * np.sqrt(train.item_degrees).astype(np.float32)[:, None])[items], device
        )
        for start in range(0, rank, operator.block):
            columns = slice(start, start + operator.block)
            part = decoders[:, :, columns].contiguous()
            _chebyshev(operator, part)
            decoders[:, :, columns] = part
    low = np.array([_series(spec, 1, low_powers) for spec in specs])
    combinations = _combinations(low)
    if ranks:
        decoders = torch.tensordot(dense(combinations.astype(np.float32), device), decoders, dims=1)
    rows = []
    for spec, weights in zip(specs, low @ combinations.T, strict=True):
        own_rank = spec.low_pass.rank if spec.low_pass else 0
        parts = [np.where(end <= own_rank, weights, 0.0) for end in ranks]
        rows.append(np.concatenate([_series(spec, 0, powers), *parts]))
    table = dense(np.array(rows, dtype=np.float32), device)
    return SharedPass(specs, train, items, operator, right, decoders, ranks, table, powers)


def _shortlist(scores: torch.Tensor, depth: int) -> torch.Tensor:
    """(rows, anchors × depth) places of items, by the scores (anchors, n_items, rows); −1 marks a repeat or a missing item."""
    found = np.sort(np.concatenate([top_k(one.cpu().numpy().T, depth)[0] for one in scores], axis=1), axis=1)
    found[:, 1:][found[:, 1:] == found[:, :-1]] = -1
    return torch.from_numpy(np.sort(found, axis=1)).long().to(scores.device)


def _within(room: threading.local, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """An array of that shape, in the memory of the thread's last one where that is large enough."""
    size, held = math.prod(shape), getattr(room, "held", None)
    if held is None or len(held) < size:
        held = room.held = torch.empty(size, device=device)
    return cast("torch.Tensor", held[:size].view(shape))


def _without(scores: torch.Tensor, start: sparse.csr_array) -> torch.Tensor:
    """Scores (settings, n_items, rows) with −inf, in place, for the items of the histories."""
    users = np.repeat(np.arange(start.shape[0]), np.diff(start.indptr))
    items, rows = (torch.from_numpy(part).long() for part in (start.indices, users))
    scores[:, items, rows] = -torch.inf
    return scores


def _ranked(
    table: torch.Tensor, features: torch.Tensor, shortlist: torch.Tensor, k: int
) -> NDArray[np.int32]:
    """(settings, rows, k) the best positions of the shortlist under each setting of the table."""
    rows = torch.arange(len(shortlist), device=features.device)[:, None]
    scores = torch.tensordot(table, features[:, shortlist.clamp_min(0), rows], dims=1)
    scores.masked_fill_(shortlist < 0, -torch.inf)
    best = scores.topk(k, dim=2)
    positions = shortlist.expand(len(scores), -1, -1).gather(2, best.indices)
    return np.asarray(positions.masked_fill(best.values == -torch.inf, -1).int().cpu().numpy())


def _chebyshev(operator: Operator, vectors: torch.Tensor) -> None:
    """Fill ``vectors[j] = T_j(2P − 1)·vectors[0]`` for j ≥ 1 in place, vectors being (powers, n_items, columns)."""
    for j in range(1, len(vectors)):
        half = operator.forward @ vectors[j - 1]
        if j == 1:
            vectors[1] = vectors[0]
        else:
            torch.add(vectors[j - 2], vectors[j - 1], alpha=2, out=vectors[j])
        torch.addmm(vectors[j], operator.backward, half, beta=-1, alpha=2 if j == 1 else 4, out=vectors[j])


def _sizes(specs: Sequence[BSPM], most: int = 32) -> tuple[int, int]:
    """How many Chebyshev polynomials stand for p, and for q, so that all settings are met to 3e-5 of their largest value."""
    sizes = []
    grid = 0.5 * (1 - np.cos(np.pi * np.linspace(0, 1, 401)))
    for which in (0, 1):
        needed = 1
        for spec in specs:
            exact = response(spec, grid)[which]
            tolerance = _FIT_ERROR * float(np.abs(exact).max())
            for size in range(needed, min(most, degree(spec) + 1) + 1):
                needed = size
                if (
                    np.abs(chebyshev.chebval(2 * grid - 1, _series(spec, which, size)) - exact).max()
                    <= tolerance
                ):
                    break
        sizes.append(needed)
    return sizes[0], sizes[1]


def _series(spec: BSPM, which: int, size: int) -> NDArray[np.float64]:
    """The Chebyshev coefficients on [0, 1] of p (0) or q (1) of a setting."""
    points = np.cos(np.pi * (np.arange(size) + 0.5) / size)
    return np.asarray(chebyshev.chebfit(points, response(spec, (points + 1) / 2)[which], size - 1))


def _combinations(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """(combinations, powers): orthonormal rows of which every series (settings, powers) is made, to 3e-5 of its size."""
    scaled = series / np.maximum(np.abs(series).sum(axis=1, keepdims=True), 1e-30)
    rows: NDArray[np.float64] = np.linalg.svd(scaled, full_matrices=False)[2]
    for size in range(1, len(rows)):
        kept = rows[:size]
        if np.abs(scaled - scaled @ kept.T @ kept).sum(axis=1).max() <= _FIT_ERROR:
            return kept
    return rows


def _far_apart(points: torch.Tensor, n: int) -> list[int]:
    """The positions of up to n settings, each as far as can be from those before it.

    A setting and its multiples rank alike, so only directions count.
    """
    points = points / points.norm(dim=1, keepdim=True).clamp_min(1e-30)
    chosen = [int((points - points.mean(dim=0)).norm(dim=1).argmin())]
    distance = (points - points[chosen[0]]).norm(dim=1)
    while len(chosen) < n and float(distance.max()) > 0:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=1))
    return chosen
