"""BSPM, the blurring-sharpening process model: training-free, linear in the history row.

Choi, Hong, Park and Cho, *Blurring-Sharpening Process Models for Collaborative Filtering*, SIGIR 2023,
arXiv 2211.09324. Symbols: R̃ → `Normalized.matrix`, P = R̃ᵀR̃, V → `Spectrum.right`, T → `Flow.duration`,
K → `Flow.steps`, β → `LowPass.weight`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.models.spectral import polynomial
from unblur.models.spectral.flow import Flow
from unblur.models.spectral.normalization import inverse_root, normalize
from unblur.models.spectral.operator import Operator, check_device, dense, sparse_tensor
from unblur.models.spectral.ordering import Ordering, columns_taken
from unblur.models.spectral.polynomial import Polynomial
from unblur.models.spectral.propagation import Propagation
from unblur.models.spectral.response import degree, response
from unblur.models.spectral.spectrum import truncated_svd
from unblur.parallel.threads import in_threads
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG
from unblur.recommender import Recommender, Tensors
from unblur.spec import spec

_TOLERANCE = 3e-5
_CORRECTED = 10.0
_DECODER_TOLERANCE = 1e-6
_RELATIVE_COST = 7.0
_COLUMNS = 32


@spec
class LowPass:
    """The ideal low-pass filter ``M = D_I^-½ V Vᵀ D_I^½``, as a process ``dx/dt = xM − x``."""

    rank: PositiveInt = 256
    """How many singular vectors pass: `factor_dim` in the authors' code."""
    weight: float = 0.3
    """How much the low-pass term counts beside the blur: β, `idl_beta`."""
    flow: Flow = Flow()
    """How the process runs: `solver_idl`, T_idl, K_idl. One Euler step of length 1 is the filter itself."""


@spec
class BSPM:
    """A blurring-sharpening process model. GF-CF is `sharpen=None`; LGCN-IDE is `history="normalized"` and blurs only."""

    kind: ClassVar[str] = "bspm"
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "sharpen.solver": ("euler", "rk4"),
        "sharpen.duration": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0),
        "sharpen.steps": (1, 2),
        "low_pass.rank": (64, 128, 256, 384, 512),
        "low_pass.weight": (0.1, 0.2, 0.3, 0.4),
        "merge": ("early", "late"),
        "output": ("last", "mean"),
    }
    """What a search tries unless told otherwise."""

    blur: Flow = Flow()
    """The heat equation ``dx/dt = xP − x``: `solver_blr`, T_b, K_b. One Euler step of length 1 is xP."""
    low_pass: LowPass | None = LowPass()
    """The ideal low-pass filter beside the blur; `None` leaves it out."""
    sharpen: Flow | None = Flow()
    """The sharpening process ``dx/dt = −xP``: `solver_shr`, T_s, K_s; `None` turns it off (`sharpening_off`)."""
    merge: Literal["early", "late"] = "early"
    """Whether the low-pass term is added before sharpening (BSPM-EM, `final_sharpening=True`) or after it (BSPM-LM)."""
    output: Literal["last", "mean"] = "last"
    """The last state, or the mean of all blurred and all sharpened states (`t_point_combination`)."""
    history: Literal["counts", "normalized"] = "counts"
    """The 0/1 history row as it is, or divided by the roots of the degrees of its items and of itself (LGCN-IDE)."""

    def fit(
        self, train: Interactions, *, rng: RNG | None = None, device: str = "cpu", progress: Progress = silent
    ) -> BSPMRecommender:
        """Decompose the normalised train matrix; nothing is trained.

        `rng` gives the start block of the decomposition (used only with a low-pass filter). Raises `DataError` when
        the rank exceeds the smaller side of the matrix or train is empty, `CapabilityError` when there is no such
        device.
        """
        check_device(device)
        if not train.n_interactions:
            raise DataError(
                "Train must have at least one interaction; it is empty. Check the filters it went through."
            )
        train = train.binarized()
        normalized = normalize(train)
        ordering = Ordering.of(normalized.matrix, device)
        ordered = sparse.csr_array(normalized.matrix[ordering.users])
        vectors = np.zeros((train.n_items, 0), dtype=np.float32)
        values, decoder = np.zeros(0), vectors
        if self.low_pass is not None:
            spectrum = truncated_svd(
                normalized.matrix, self.low_pass.rank, rng=rng, device=device, progress=progress
            )
            vectors, values = spectrum.right, spectrum.values
            start = dense((vectors * normalized.item_root[:, None])[ordering.items], device)
            operator = Operator(columns_taken(ordered, ordering.items), device)
            decoder = np.empty_like(vectors)
            decoder[ordering.items] = self._sharpened(operator, start, progress).cpu().numpy()
        return BSPMRecommender(
            self, train.items, train.item_degrees, ordered, ordering.items, vectors, values, decoder, device
        )

    def _sharpened(self, operator: Operator, start: torch.Tensor, progress: Progress) -> torch.Tensor:
        """``q(P)`` times the columns of `start`."""

        def exact(at: NDArray[np.float64]) -> NDArray[np.float64]:
            return response(self, at)[1]

        tolerance = _DECODER_TOLERANCE * polynomial.largest(exact)
        sharpen = polynomial.fit_within(exact, self.sharpen.degree if self.sharpen else 0, 1.0, tolerance)
        made = torch.empty_like(start)
        for first in range(0, start.shape[1], operator.block):
            columns = slice(first, first + operator.block)
            made[:, columns] = sharpen.apply(operator, start[:, columns].contiguous())
            done = min(columns.stop, start.shape[1])
            progress(ProgressEvent("sharpen the low-pass filter", done, start.shape[1]))
        return made

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> BSPMRecommender:
        """The fitted recommender from its saved parts."""
        return BSPMRecommender(
            self,
            items,
            item_counts,
            cast(sparse.csr_array, tensors["normalized"]),
            cast("NDArray[np.int32]", tensors["item_order"]),
            cast("NDArray[np.float32]", tensors["right"]),
            cast("NDArray[np.float64]", tensors["singular_values"]),
            cast("NDArray[np.float32]", tensors["decoder"]),
            device,
        )


@dataclass(frozen=True, eq=False)
class _Plan:
    """How a row is scored: a low-degree polynomial, and one thin product for the low-pass and what is left of it."""

    polynomial: Polynomial
    encode: torch.Tensor
    """(n_items, r): a row times this is its code."""
    decode: torch.Tensor
    """(n_items, r): this times a code is added to the scores."""


class BSPMRecommender(Recommender):
    """Scores ``x·p(P) + x·M·q(P)``, linear in the history row x."""

    batch = 256
    in_threads = True

    def __init__(
        self,
        spec: BSPM,
        items: Vocabulary,
        item_counts: NDArray[np.int64],
        normalized: sparse.csr_array,
        item_order: NDArray[np.int32],
        right: NDArray[np.float32],
        singular_values: NDArray[np.float64],
        decoder: NDArray[np.float32],
        device: str = "cpu",
    ) -> None:
        super().__init__(spec, items, item_counts, device)
        check_device(device)
        self.normalized = normalized
        self.item_order = item_order
        self.right = right
        self.singular_values = singular_values
        self.decoder = decoder
        self.linear = spec.history == "counts"  # type: ignore[misc]

    def tensors(self) -> Tensors:
        """`normalized` R̃ (CSR, its users in no order of their own), `right` V, `singular_values`, `decoder`
        ``q(P)·D_I^½·V``, and `item_order`, the order of items in which products are fast."""
        return {
            "normalized": self.normalized,
            "item_order": self.item_order,
            "right": self.right,
            "singular_values": self.singular_values,
            "decoder": self.decoder,
        }

    @cached_property
    def plan(self) -> _Plan:
        """The cheapest way to score that stays within 3e-5 of the exact polynomial, as a share of its largest value.

        The top k' eigenvectors, known from the low-pass filter, are treated exactly by a thin product; then the
        polynomial need only fit on ``[0, λ_k']``, and a lower degree does (deflation). k' and the degree are chosen by
        the cost of a sparse and of a dense operation.
        """
        eigenvalues = self.singular_values**2

        def exact(at: NDArray[np.float64]) -> NDArray[np.float64]:
            return response(self.spec, at)[0]

        largest = polynomial.largest(exact)
        tolerance, known = _TOLERANCE * largest, len(eigenvalues)
        plans = []
        for kept in sorted({0, known, *(rank for rank in (16, 32, 64, 128, 256, 512, 1024) if rank < known)}):
            upper = float(eigenvalues[kept - 1]) if kept else 1.0
            if upper <= 0:
                continue
            fitted = polynomial.fit_within(exact, degree(self.spec), upper, tolerance)
            rest = exact(eigenvalues[:kept]) - fitted(eigenvalues[:kept])
            corrected = np.flatnonzero(np.abs(rest) > tolerance)
            if np.abs(rest).max(initial=0) > _CORRECTED * largest:
                continue  # it grows beyond λ_k' until the rounding errors of its correction count
            work = fitted.products * self.normalized.nnz + len(corrected) * len(self.items) / _RELATIVE_COST
            plans.append((work, fitted, corrected, rest[corrected]))
        _, fitted, corrected, rest = min(plans, key=lambda plan: plan[0])
        scaled = self.right * inverse_root(self.item_counts)[:, None]
        vectors = self.right[:, corrected]
        return _Plan(
            fitted,
            dense(np.concatenate([scaled, vectors], axis=1), self.device),
            dense(np.concatenate([self.decoder, vectors * rest.astype(np.float32)], axis=1), self.device),
        )

    @cached_property
    def _propagation(self) -> Propagation:
        return Propagation(self.normalized, self.item_order)

    @cached_property
    def _operator(self) -> Operator:
        return Operator(self.normalized, self.device)

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        rows = start_rows(self.spec, histories, self.item_counts)
        code = (sparse_tensor(rows, self.device) @ self.plan.encode).T
        scores = self.plan.decode @ code
        if self.device == "cpu":
            parts = [slice(start, start + _COLUMNS) for start in range(0, rows.shape[0], _COLUMNS)]

            def add(part: slice) -> None:
                self._propagation.add(self.plan.polynomial, rows[part], scores[:, part])

            deque(in_threads(add, parts), maxlen=0)
        else:
            scores += self._filtered(rows)
        return cast("NDArray[np.float32]", scores.cpu().numpy().T)

    def _filtered(self, rows: sparse.csr_array) -> torch.Tensor:
        """``x·p(P)``, (n_items, n_rows), by products with dense blocks: what suits a GPU."""
        made = torch.zeros((len(self.items), rows.shape[0]), device=self.device)
        users = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        places = torch.from_numpy(rows.indices).long().to(self.device), dense(users, self.device)
        made[places] = dense(rows.data, self.device)
        for start in range(0, rows.shape[0], self._operator.block):
            columns = slice(start, start + self._operator.block)
            made[:, columns] = self.plan.polynomial.apply(self._operator, made[:, columns].contiguous())
        return made


def start_rows(spec: BSPM, histories: Interactions, item_counts: NDArray[np.int64]) -> sparse.csr_array:
    """The rows (n_users, n_items) that the processes start from: 0/1, or divided by the roots of the degrees."""
    rows = histories.binarized()
    if spec.history == "counts":
        return rows.matrix
    degrees = rows.user_degrees
    data = inverse_root(item_counts)[rows.matrix.indices] * np.repeat(inverse_root(degrees), degrees)
    return sparse.csr_array((data, rows.matrix.indices, rows.matrix.indptr), shape=rows.matrix.shape)
