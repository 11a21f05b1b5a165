"""Polynomials of the item-item operator next to an ideal low-pass filter: the spec of any, and what is fitted of it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.errors import DataError
from unblur.fitted import PERMUTATION, SHARES, SPECTRUM, UNIT
from unblur.models.spectral.operator import (
    DegreePowers,
    Dense,
    Operator,
    Polynomial,
    Propagation,
    Weighting,
    degree_power,
    dense,
    fit_within,
    largest_value,
    namespace,
    normalize,
    on_cpu,
    on_device,
    ordering,
    reorder_columns,
)
from unblur.models.spectral.spectrum import truncated_svd
from unblur.parallel.devices import check_device
from unblur.parallel.threads import in_threads
from unblur.progress import Progress, ProgressEvent, Run
from unblur.recommender import RNG, Recommender, StoppingData, WeighingSpec, WeightUse, learned
from unblur.registry import resolve
from unblur.spec import SharedSearch, spec

_TOLERANCE = 3e-5
"""The polynomial may miss the response by so much of its largest value: below what changes a list, and near what float32
products of a few steps leave."""
_DECODER_TOLERANCE = 1e-6
"""As `_TOLERANCE`, for q, as close as float32 carries: the decoder is computed once, so a higher degree costs no user time."""
_MAX_CORRECTION = 10.0
"""A correction of the leading eigenvectors may be at most so many times the largest response: float32 carries seven digits,
and with one digit lost the error stays below `_TOLERANCE`."""
_RELATIVE_COST = 12.0
"""The number of multiplications of a dense product that take the time of one of a sparse product, on the processors it was
measured on; a wrong value costs time and changes no score."""
_COLUMNS = 16
"""Users scored together by a thread: with 30,000 train users 16 take a tenth less time than 32, whose blocks outgrow the cache."""


Bands: TypeAlias = Annotated[
    tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...], Field(min_length=1, max_length=1000)
]
"""The weights of bands of singular vectors, all of the same width, the largest singular values first."""


@spec
class FilterSpec(WeighingSpec["PolynomialFilter"]):
    """A model that is two polynomials p and q of ``P = R̃ᵀR̃`` and a low-pass term ``M = D_I^-b V diag(f) Vᵀ D_I^b``.

    A row x of weighted interactions becomes ``x·p(P) + x·M·q(P)``, and a score is multiplied by the weight of its item.
    """

    zero_without_signal: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.spectral.polynomial_filter:PolynomialFilter"

    degrees: DegreePowers = DegreePowers()
    """The powers of degrees in R̃ and in the scores."""
    weights: WeightUse = "binary"
    """The entries of R, and of the row x: 0/1, or the weights of the interactions. Degrees stay numbers of interactions, and R̃
    is divided by its largest singular value."""

    @property
    @abstractmethod
    def low_pass_exponent(self) -> float:
        """b, the power of the item degree on both sides of the low-pass term."""

    @property
    @abstractmethod
    def bands(self) -> Bands:
        """f, the weights of the singular vectors by bands of equal width; one band is the projection."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """The number of columns of V, the leading right singular vectors of R̃; 0 without a low-pass filter."""

    @property
    @abstractmethod
    def degree(self) -> int:
        """The degree of p, which that of q does not exceed."""

    @property
    @abstractmethod
    def weighting(self) -> Weighting:
        """The weights of interactions before the filter and of items after it."""

    @abstractmethod
    def response(self, eigenvalues: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the values of p and q at `eigenvalues` of P."""

    def band_weights(self, n_vectors: int) -> NDArray[np.float32]:
        """f of the first singular vectors, (n_vectors,): there are fewer than `rank` if the data have no more."""
        bands = np.array(self.bands, dtype=np.float32)
        return bands[np.arange(n_vectors) * len(bands) // max(1, self.rank)]

    def shared(self) -> SharedSearch:
        """Score all settings in one pass: they are combinations of the same Krylov vectors and low-pass terms."""
        return cast("SharedSearch", resolve("unblur.models.spectral.shared_pass:share"))

    @property
    def refit_reason(self) -> str | None:
        """The low-pass filter. Without one a model is the normalised rows, and a fit costs no more than to read them."""
        return "the singular vectors of its low-pass filter rest on all users at once" if self.rank else None

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> PolynomialFilter:
        """Decompose the normalised train matrix; nothing is trained.

        `rng` draws the start block of the decomposition (used only with a low-pass filter). Raises `DataError` if
        train is empty, `CapabilityError` if the device is unavailable.
        """
        DataError.unless(
            train.n_interactions,
            "Train must have at least one interaction; it is empty. Check the filters it went through.",
        )
        train = self.with_weights(train)
        normalized = normalize(train, self.degrees)
        users, items = ordering(normalized, run.device)
        ordered = sparse.csr_array(normalized[users])
        vectors = np.zeros((train.n_items, 0), dtype=np.float32)
        values, decoder = np.zeros(0), vectors
        if self.rank:
            rank = min(self.rank, *normalized.shape)
            spectrum = truncated_svd(normalized, rank, rng=rng, device=run.device, progress=run.progress)
            vectors, values = spectrum.right, spectrum.values
            weighted = vectors * self.band_weights(rank)
            start = dense(
                (weighted * degree_power(train.item_degrees, self.low_pass_exponent)[:, None])[items],
                run.device,
            )
            operator = Operator(reorder_columns(ordered, items), run.device)
            decoder = np.empty_like(vectors)
            decoder[items] = on_cpu(self._filter_columns(operator, start, run.progress))
        return PolynomialFilter(
            self,
            train.items,
            train.item_degrees,
            device=run.device,
            normalized=ordered,
            item_order=items,
            right=vectors,
            singular_values=values,
            decoder=decoder,
        )

    def _filter_columns(self, operator: Operator, start: Dense, progress: Progress) -> Dense:
        """Return ``q(P)`` times the columns of `start`, (n_items, rank)."""

        def q(eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
            return self.response(eigenvalues)[1]

        tolerance = _DECODER_TOLERANCE * largest_value(q)
        polynomial = fit_within(q, self.degree, 1.0, tolerance)
        filtered = operator.xp.empty_like(start)
        for first in range(0, start.shape[1], operator.block_width):
            columns = slice(first, first + operator.block_width)
            filtered[:, columns] = polynomial.apply(operator, operator.contiguous(start[:, columns]))
            progress(
                ProgressEvent(
                    "filter the low-pass vectors", min(columns.stop, start.shape[1]), start.shape[1]
                )
            )
        return filtered


@dataclass(frozen=True, eq=False)
class _Plan:
    """A low-degree polynomial of P, and one thin product for the low-pass term and the polynomial's correction."""

    polynomial: Polynomial
    encode: Dense
    """(n_items, r): a row times this is its code."""
    decode: Dense
    """(r, n_items): a code times this is added to the scores."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PolynomialFilter(Recommender["FilterSpec"]):
    """Scores ``x·p(P) + x·M·q(P)``, linear in the weighted row x (`FilterSpec.weighting`), each times its item's weight."""

    batch = 256
    in_threads = True

    normalized: sparse.csr_array = learned("train users", "items", sparse=True, values=SHARES)
    """R̃, its users in the order in which products are fast."""
    item_order: NDArray[np.int32] = learned("items", dtype="int32", values=PERMUTATION)
    """The order of items in which products are fast."""
    right: NDArray[np.float32] = learned("items", "rank of the filter", values=UNIT)
    """V, the right singular vectors of the low-pass filter; of width 0 without a filter."""
    singular_values: NDArray[np.float64] = learned("rank of the filter", dtype="float64", values=SPECTRUM)
    decoder: NDArray[np.float32] = learned("items", "rank of the filter")
    """``q(P)·D_I^b·V·diag(f)``, with b the `low_pass_exponent` of the spec."""

    def __post_init__(self) -> None:
        """Raise `CapabilityError` if the device is unavailable."""
        super().__post_init__()
        check_device(self.device)

    @property
    def notes(self) -> tuple[str, ...]:
        """The rank of the low-pass filter, if the data have fewer users or items than the spec asks for."""
        rank = len(self.singular_values)
        if rank == self.spec.rank:
            return ()
        return (
            f"the low-pass filter has rank {rank:,}, the smaller side of the train matrix, not {self.spec.rank:,}",
        )

    @property
    def linear(self) -> bool:  # type: ignore[override]  # a class variable of the others
        """True if scores are linear in the row: it is not divided by the root of its own degree."""
        return self.spec.weighting.user == 0

    @cached_property
    def plan(self) -> _Plan:
        """The cheapest polynomial and thin product that stay within 3e-5 of p, as a fraction of its largest value.

        The leading k' eigenvectors, which the low-pass filter has, are treated exactly by a thin product; then the
        polynomial need only fit on ``[0, λ_k']``, and a lower degree is enough (deflation). k' and the degree are chosen by
        the cost of sparse and of dense products.
        """
        eigenvalues = self.singular_values**2  # of P, descending

        def p(points: NDArray[np.float64]) -> NDArray[np.float64]:
            return self.spec.response(points)[0]

        largest = largest_value(p)
        tolerance, rank = _TOLERANCE * largest, len(eigenvalues)
        # Without powers of degrees in it the low-pass term reads a row by the same vectors, so a correction costs nothing.
        same_vectors = self.spec.low_pass_exponent == 0
        plans = []
        # A plan costs a fit, so k' doubles: 0 (no deflation), 16, 32, … and all eigenvectors.
        for n_deflated in sorted(
            {0, rank, *(number for number in (16, 32, 64, 128, 256, 512, 1024) if number < rank)}
        ):
            upper = float(eigenvalues[n_deflated - 1]) if n_deflated else 1.0
            if upper <= 0:  # a rank above that of the matrix: no interval remains to fit on
                continue
            polynomial = fit_within(p, self.spec.degree, upper, tolerance)
            # p at the deflated eigenvalues, less what the polynomial, which was not fitted there, gives already.
            correction = p(eigenvalues[:n_deflated]) - polynomial(eigenvalues[:n_deflated])
            # A polynomial that grows too far beyond λ_k' is discarded: the rounding errors of its correction would count.
            if np.abs(correction).max(initial=0) <= _MAX_CORRECTION * largest:
                columns = np.flatnonzero(np.abs(correction) > tolerance)
                # Two products with R̃ for each coefficient (`Polynomial`); the dense product in the same unit.
                sparse_work = 2 * len(polynomial.coefficients) * self.normalized.nnz
                dense_work = 0 if same_vectors else len(columns) * len(self.items) / _RELATIVE_COST
                plans.append((sparse_work + dense_work, polynomial, columns, correction[columns]))
        _, polynomial, columns, correction = min(plans, key=lambda plan: plan[0])
        # x·M·q(P) = (x·D_I^-b V)·(q(P) D_I^b V)ᵀ and the correction x·V·diag(·)·Vᵀ as one product: of sums of decoders if
        # both begin with x·V, of both side by side otherwise.
        corrected = self.right[:, columns] * correction.astype(np.float32)
        if same_vectors:
            encode, decode = self.right, self.decoder.copy()
            decode[:, columns] += corrected
        else:
            scaled = self.right * degree_power(self.item_counts, -self.spec.low_pass_exponent)[:, None]
            encode = np.concatenate([scaled, self.right[:, columns]], axis=1)
            decode = np.concatenate([self.decoder, corrected], axis=1)
        # Codes times rows of all items take half the time of the same product the other way round where there are few codes.
        return _Plan(polynomial, dense(encode, self.device), dense(decode.T, self.device))

    @cached_property
    def _propagation(self) -> Propagation:
        return Propagation(self.plan.polynomial, self.normalized, self.item_order)

    @cached_property
    def _operator(self) -> Operator:
        return Operator(self.normalized, self.device)

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        rows = self.spec.weighting.rows(self.spec.with_weights(histories), self.item_counts)
        if namespace(self.device) is np:
            scores = self._score_in_threads(rows)
        else:
            start = on_device(rows, self.device)
            scores = self._low_pass(start)
            scores += self._apply_polynomial(start.to_dense().T).T
        if self.spec.weighting.score is not None:
            scores *= dense(degree_power(self.item_counts, self.spec.weighting.score), self.device)
        return on_cpu(scores)

    def _low_pass(self, rows: Any) -> Dense:
        """Return the low-pass term and the polynomial's correction, (n_rows, n_items), of sparse rows."""
        return (rows @ self.plan.encode) @ self.plan.decode

    def _score_in_threads(self, rows: sparse.csr_array) -> NDArray[np.float32]:
        """Return the scores (n_rows, n_items) on a CPU: sparse products of some rows in one thread, the dense one beside them.

        Both wait for memory. For one row, or a batch of a service, either takes about as long as the other.
        """
        parts = [slice(first, first + _COLUMNS) for first in range(0, rows.shape[0], _COLUMNS)]

        def term(part: slice | None) -> NDArray[np.float32]:
            return self._low_pass(rows) if part is None else self._propagation.scores(rows[part]).T

        terms = in_threads(term, [None, *parts])
        scores = next(terms)
        for part, polynomial in zip(parts, terms, strict=True):
            scores[part] += polynomial
        return scores

    def _apply_polynomial(self, start: Dense) -> Dense:
        """Return ``x·p(P)``, (n_items, n_rows), of x as a block (n_items, n_rows), by products that suit a GPU."""
        operator, width = self._operator, self._operator.block_width
        blocks = [start[:, first : first + width] for first in range(0, start.shape[1], width)]
        return operator.xp.concat(
            [self.plan.polynomial.apply(operator, operator.contiguous(block)) for block in blocks], axis=1
        )
