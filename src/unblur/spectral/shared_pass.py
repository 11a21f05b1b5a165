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

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy import sparse

from unblur.errors import SpecError
from unblur.interactions import Interactions
from unblur.parallel import in_threads
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG
from unblur.ranking import top_k
from unblur.spectral.bspm import BSPM, start_rows
from unblur.spectral.normalization import normalize
from unblur.spectral.operator import Operator, dense, sparse_tensor
from unblur.spectral.ordering import Ordering
from unblur.spectral.response import degree, response
from unblur.spectral.spectrum import truncated_svd

_BATCH = 32
_ANCHORS = 8
_DEPTH = 100
_FIT_ERROR = 1e-5


@dataclass(frozen=True, eq=False)
class SharedPass:
    """The vectors that a list of settings share, prepared for one train set."""

    specs: tuple[BSPM, ...]
    train: Interactions
    operator: Operator
    right: torch.Tensor
    """(n_items, largest rank) V, scaled by D_I^-½: a row times this is its code."""
    decoders: torch.Tensor
    """(powers, n_items, largest rank): ``T_j(2P − 1)·D_I^½·V``."""
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
                scores = self._scores(table, decoders, histories.take_users(rows), room)
                return rows, np.stack([top_k(one.cpu().numpy().T, k)[0] for one in scores])
        else:
            anchors = table[_far_apart(table, _ANCHORS)]
            depth = min(max(_DEPTH, 2 * k), len(self.train.items))

            def ranked(rows: slice) -> tuple[slice, NDArray[np.int32]]:
                batch = histories.take_users(rows)
                features = self._features(batch, room)
                return rows, _ranked(table, features, _shortlist(features, batch, anchors, depth), k)

        n_users = histories.n_users
        batches = [slice(start, min(start + _BATCH, n_users)) for start in range(0, n_users, _BATCH)]
        beside = self.operator.device == "cpu"
        with closing(in_threads(ranked, batches) if beside else (ranked(rows) for rows in batches)) as made:
            for rows, positions in made:
                yield rows, positions
                progress(ProgressEvent("score all settings", rows.stop, n_users))

    def _decoder(self, setting: torch.Tensor) -> torch.Tensor:
        """(n_items, rank): what a code of that setting is multiplied with; rank 0 without a low-pass filter."""
        low = setting[self.powers :].view(len(self.ranks), len(self.decoders))
        used = [end for end, part in zip(self.ranks, low, strict=True) if bool(part.any())]
        made = torch.empty((len(self.train.items), max(used, default=0)), device=setting.device)
        for part, start, stop in zip(low, (0, *self.ranks), self.ranks, strict=False):
            if stop <= made.shape[1]:
                made[:, start:stop] = torch.tensordot(part, self.decoders[:, :, start:stop], dims=1)
        return made

    def _scores(
        self,
        table: torch.Tensor,
        decoders: Sequence[torch.Tensor],
        batch: Interactions,
        room: threading.local,
    ) -> torch.Tensor:
        """(settings, n_items, rows): the scores of some rows under a few settings, −inf for what they have."""
        x = sparse_tensor(start_rows(self.specs[0], batch, self.train.item_degrees), self.operator.device)
        code = (x @ self.right).T
        vectors = _within(room, (self.powers, *x.shape[::-1]), self.operator.device)
        vectors[0] = x.to_dense().T
        _chebyshev(self.operator, vectors)
        scores = torch.tensordot(table[:, : self.powers], vectors, dims=1)
        for one, decoder in zip(scores, decoders, strict=True):
            one.addmm_(decoder, code[: decoder.shape[1]])
        return _without(scores, batch)

    def _features(self, batch: Interactions, room: threading.local) -> torch.Tensor:
        """(features, n_items, rows): the shared vectors of some rows."""
        x = sparse_tensor(start_rows(self.specs[0], batch, self.train.item_degrees), self.operator.device)
        code = (x @ self.right).T.contiguous()
        shape = (self.coefficients.shape[1], len(self.train.items), batch.n_users)
        features = _within(room, shape, self.operator.device)
        features[0] = x.to_dense().T
        _chebyshev(self.operator, features[: self.powers])
        place = self.powers
        for start, stop in zip((0, *self.ranks), self.ranks, strict=False):
            for decoder in self.decoders:
                torch.mm(decoder[:, start:stop], code[start:stop], out=features[place])
                place += 1
        return features


def share(
    specs: Sequence[BSPM],
    train: Interactions,
    *,
    rng: RNG | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> SharedPass:
    """Prepare the shared vectors of `specs` on `train`: one decomposition at the largest rank.

    All settings must start from the same kind of row (`history`). Raises `SpecError` otherwise.
    """
    specs = tuple(specs)
    if len({spec.history for spec in specs}) != 1:
        raise SpecError(
            "All settings of one search must have the same `history`; saw both. Search them one by one."
        )
    train = train.binarized()
    normalized = normalize(train)
    users = Ordering.of(normalized.matrix, device).users
    operator = Operator(
        sparse.csr_array(normalized.matrix[users]), device
    )  # P is the same in any order of users
    ranks = tuple(sorted({spec.low_pass.rank for spec in specs if spec.low_pass is not None}))
    powers, low_powers = _sizes(specs)
    n_items, rank = train.n_items, ranks[-1] if ranks else 0
    decoders = torch.empty((low_powers if ranks else 0, n_items, rank), device=device)
    right = torch.empty((n_items, rank), device=device)
    if ranks:
        vectors = truncated_svd(normalized.matrix, rank, rng=rng, device=device, progress=progress).right
        right = dense(vectors * normalized.item_inverse_root[:, None], device)
        decoders[0] = dense(vectors * normalized.item_root[:, None], device)
        for start in range(0, rank, operator.block):
            columns = slice(start, start + operator.block)
            part = decoders[:, :, columns].contiguous()
            _chebyshev(operator, part)
            decoders[:, :, columns] = part
    rows = [_coefficients(spec, powers, low_powers, ranks) for spec in specs]
    table = torch.from_numpy(np.array(rows, dtype=np.float32)).to(device)
    return SharedPass(specs, train, operator, right, decoders, ranks, table, powers)


def _shortlist(
    features: torch.Tensor, batch: Interactions, anchors: torch.Tensor, depth: int
) -> torch.Tensor:
    """(rows, anchors × depth) item positions; −1 marks a repeat or a missing item."""
    scores = _without(torch.tensordot(anchors, features, dims=1), batch)
    found = np.sort(np.concatenate([top_k(one.cpu().numpy().T, depth)[0] for one in scores], axis=1), axis=1)
    found[:, 1:][found[:, 1:] == found[:, :-1]] = -1
    return torch.from_numpy(np.sort(found, axis=1)).long().to(features.device)


def _within(room: threading.local, shape: tuple[int, ...], device: str) -> torch.Tensor:
    """An array of that shape, in the memory of the thread's last one where that is large enough."""
    size, held = math.prod(shape), getattr(room, "held", None)
    if held is None or len(held) < size:
        held = room.held = torch.empty(size, device=device)
    made: torch.Tensor = held[:size].view(shape)
    return made


def _without(scores: torch.Tensor, batch: Interactions) -> torch.Tensor:
    """Scores (settings, n_items, rows) with −inf, in place, for the items of the histories."""
    items, rows = (torch.from_numpy(part).long() for part in (batch.matrix.indices, batch.rows()))
    scores[:, items, rows] = -torch.inf
    return scores


def _ranked(
    table: torch.Tensor, features: torch.Tensor, shortlist: torch.Tensor, k: int
) -> NDArray[np.int32]:
    """(settings, rows, k) the best positions of the shortlist under each setting of the table."""
    rows = torch.arange(len(shortlist), device=features.device)[:, None]
    reached = features[:, shortlist.clamp_min(0), rows]
    scores = torch.tensordot(table, reached, dims=1)
    scores.masked_fill_(shortlist < 0, -torch.inf)
    best = scores.topk(k, dim=2)
    positions = shortlist.expand(len(scores), -1, -1).gather(2, best.indices)
    found: NDArray[np.int32] = positions.masked_fill(best.values == -torch.inf, -1).int().cpu().numpy()
    return found


def _chebyshev(operator: Operator, vectors: torch.Tensor) -> None:
    """Fill ``vectors[j] = T_j(2P − 1)·vectors[0]`` for j ≥ 1 in place, vectors being (powers, n_items, columns)."""
    for j in range(1, len(vectors)):
        twice = 2.0 if j > 1 else 1.0
        half = operator.forward @ vectors[j - 1]
        torch.addmm(vectors[j - 1], operator.backward, half, beta=-twice, alpha=2 * twice, out=vectors[j])
        if j > 1:
            vectors[j].sub_(vectors[j - 2])


def _sizes(specs: Sequence[BSPM], most: int = 32) -> tuple[int, int]:
    """How many Chebyshev polynomials stand for p, and for q, so that all settings are met to 1e-5 of their largest value."""
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


def _coefficients(spec: BSPM, powers: int, low_powers: int, ranks: tuple[int, ...]) -> NDArray[np.float64]:
    low = _series(spec, 1, low_powers)
    rank = spec.low_pass.rank if spec.low_pass else 0
    ranges = [low if end <= rank else np.zeros(low_powers) for end in ranks]
    return np.concatenate([_series(spec, 0, powers), *ranges])


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
