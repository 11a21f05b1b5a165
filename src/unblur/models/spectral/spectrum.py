"""The leading singular vectors of a large sparse matrix, each with a residual that is checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from unblur.errors import DataError
from unblur.models.spectral.operator import Dense, Operator, on_cpu
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, generator

_DENSE_BELOW = 2500
"""Smaller side up to which all is decomposed densely: seconds, and no convergence to watch."""
_TINY = 1e-6
"""Numbers below this are 0 next to values of at most 1: some rounding errors of float32."""
_BLOCK_WIDTH = 16
"""Columns that the Krylov space first grows by: few vectors in all, and a value repeated up to 16 times is found."""
_ACCEPTED_RESIDUAL = 1e-5
"""The residual that is good enough where rounding errors let it fall no further (float32)."""
_FILTERED_TOLERANCE_FACTOR = 0.4
"""The factor of the tolerance behind a filter, which understates residuals near 0."""
_SMALL_REMAINDER = 0.1
"""The remaining fraction of a vector below which it counts as rounding errors and is made orthogonal once more."""
_EDGE_RANK_FACTOR = 1.2
"""The filter's edge is put at the estimated (1.2·rank)-th eigenvalue: the estimate errs by a few per cent, and an edge above
the rank-th eigenvalue would hide wanted vectors."""
_MAX_VECTORS_PER_RANK = 6
"""Vectors of the Krylov space, as a multiple of the rank, after which an attempt with the filter is given up."""
_GIVE_UP_BELOW_EDGE = 2.9
"""As `_MAX_VECTORS_PER_RANK`, while some wanted Ritz values still lie below the edge. With a correct edge all lie above it at
the first check (2.6·rank, in `_lanczos`), so at 2.9·rank the edge must be wrong."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The `rank` largest singular triplets ``A v = σ u`` of a matrix, largest first."""

    left: NDArray[np.float32]
    """(n_users, rank) the vectors u."""
    values: NDArray[np.float64]
    """(rank,) the singular values σ, descending."""
    right: NDArray[np.float32]
    """(n_items, rank) the vectors v. Where σ is 0, u and v are 0."""


def truncated_svd(
    matrix: sparse.csr_array,
    rank: int,
    *,
    rng: RNG | None = None,
    tolerance: float = 2e-6,
    device: str = "cpu",
    progress: Progress = silent,
) -> Spectrum:
    """Return the leading singular triplets, by block Lanczos with full reorthogonalisation on the smaller side.

    The Krylov space of ``A Aᵀ`` (or ``Aᵀ A``) grows by a block of columns at a time until each of the `rank` Ritz
    vectors has a residual ``‖A v − σ u‖`` of at most `tolerance` (Golub and Van Loan, Matrix Computations, 10.3.6).
    A randomised SVD with a few power iterations is not enough here: the last of the `rank` values lie in a dense
    part of the spectrum. A block finds at most as many copies of a repeated value as it has columns (disconnected
    parts of the data repeat the value 1), so the complement is probed at the end, and a wider block is used if
    it holds a larger value. Small matrices are decomposed densely.

    The default `tolerance` is about what float32 reaches. The result is the same for the same `rng` on the same machine.
    Raises `DataError` if `rank` exceeds the smaller side of the matrix.
    """
    n_users, n_items = matrix.shape
    smaller = min(n_users, n_items)
    DataError.unless(
        rank <= smaller,
        f"The rank of the low-pass filter must not exceed the smaller side of the {n_users:,} × {n_items:,} matrix; "
        f"saw {rank:,}. Use at most {smaller:,}.",
    )
    transposed = n_users > n_items
    wide = sparse.csr_array(matrix.T.tocsr()) if transposed else matrix
    wide.sort_indices()  # in place, of `matrix` itself unless transposed: its values stay the same
    operator = Operator(wide, device)
    random = generator(rng)
    small = smaller <= max(_DENSE_BELOW, 2 * rank)
    basis = (
        _dense_basis(operator, rank) if small else _leading_basis(operator, rank, tolerance, random, progress)
    )
    u, values, v = _ritz_triplets(operator, basis)
    left, right = (v, u) if transposed else (u, v)
    return Spectrum(on_cpu(left), on_cpu(values), on_cpu(right))


def _leading_basis(
    operator: Operator, rank: int, tolerance: float, random: np.random.Generator, progress: Progress
) -> Dense:
    """Return an orthonormal basis (n, rank) of the leading left singular vectors.

    With the filter first, then with a lower edge, then unfiltered, then with wider blocks until nothing is missed.
    """
    edge = _edge(operator, int(_EDGE_RANK_FACTOR * rank), random)
    # A value is found as often as a block has columns: the last, of `rank` columns, misses nothing.
    unfiltered: list[tuple[int, _Filter | None]] = [
        (block, None) for block in (_BLOCK_WIDTH, 64, 256, max(1024, rank))
    ]
    # An edge that is too high hides leading vectors; one fifth lower may still show them, and is cheaper than no filter.
    attempts = (
        [(_BLOCK_WIDTH, _Filter(edge)), (_BLOCK_WIDTH, _Filter(0.8 * edge)), *unfiltered]
        if edge > _TINY
        else unfiltered
    )
    for block, band in attempts[:-1]:
        basis = _lanczos(operator, rank, block, tolerance, random, progress, band)
        if basis is not None and not _misses_eigenvalue(operator, basis, random):
            return basis
    basis = _lanczos(operator, rank, attempts[-1][0], tolerance, random, progress)
    assert basis is not None
    return basis


def _residual(operator: Operator, basis: Dense) -> float:
    """Return the largest ``‖(I − B Bᵀ)·A Aᵀu‖/σ`` of the columns u of a basis B, which need not be Ritz vectors."""
    xp, worst = operator.xp, 0.0
    for start in range(0, basis.shape[1], operator.block_width):
        image = operator.backward @ operator.contiguous(basis[:, start : start + operator.block_width])
        sigma = xp.clip(xp.linalg.vector_norm(image, axis=0), _TINY, None)
        outside = operator.forward @ image
        outside -= basis @ (basis.T @ outside)
        worst = max(worst, float((xp.linalg.vector_norm(outside, axis=0) / sigma).max()))
    return worst


def _gram(operator: Operator, block: Dense) -> Dense:
    """Return ``A Aᵀ`` times a block of columns."""
    return operator.forward @ (operator.backward @ block)


@dataclass(frozen=True)
class _Filter:
    """``f(A Aᵀ)`` with f the Chebyshev polynomial T₂ moved onto ``[0, edge]``, which magnifies what lies above the edge.

    The eigenvectors stay the same, so the Krylov space of f holds those of the largest eigenvalues, with fewer vectors
    to keep orthogonal: 1,440 instead of 2,432 at rank 448 (docs/explanation/bspm.md). A higher degree is too much for float32: f(1)
    would drown f near the edge.
    """

    edge: float

    def apply(self, operator: Operator, block: Dense) -> Dense:
        """Return f times a block of columns, by ``T₂(y) = 2y·y − 1`` with ``y = 2λ/edge − 1``."""
        once = _gram(operator, block)
        once *= 2 / self.edge
        once -= block
        twice = _gram(operator, once)
        twice *= 4 / self.edge
        twice -= 2 * once
        twice -= block
        return twice

    def eigenvalues(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Invert f above the edge: the eigenvalues of ``A Aᵀ`` that f takes to `values`, and its slope there.

        Values of at most 1 belong to the band below the edge, where f has no inverse: they give the edge, and slope 0.
        """
        x = np.sqrt((np.maximum(values, 1.0) + 1) / 2)
        return (x + 1) * self.edge / 2, np.where(values > 1, 8 * x / self.edge, 0.0)


def _edge(
    operator: Operator, number: int, random: np.random.Generator, probes: int = 8, steps: int = 80
) -> float:
    """Estimate the `number`-th largest eigenvalue of ``A Aᵀ``, by stochastic Lanczos quadrature.

    Each of a few random vectors is expanded by `steps` steps of Lanczos; the squared first components of the
    eigenvectors of the tridiagonal matrices estimate how many eigenvalues lie near each of theirs (Golub and Meurant,
    Matrices, Moments and Quadrature, 2010, section 11.6). An estimate is enough: an edge that turns out wrong costs time
    alone (see `_leading_basis`). The numbers of probes and steps were chosen by hand.
    """
    xp, n = operator.xp, operator.matrix.shape[0]
    vector = operator.normal(random, n, probes)
    vector, previous = vector / xp.linalg.vector_norm(vector, axis=0), xp.zeros_like(vector)
    tridiagonal = np.zeros((probes, steps, steps))
    beta = xp.zeros_like(vector[0])
    # The three-term recurrence, for all vectors at once and without reorthogonalisation: rounding repeats some
    # eigenvalues of the tridiagonal matrix, but their weights still sum up to the right count.
    for step in range(steps):
        image = _gram(operator, vector) - beta * previous
        alpha = xp.sum(image * vector, axis=0)
        image -= alpha * vector
        beta = xp.clip(xp.linalg.vector_norm(image, axis=0), _TINY, None)
        tridiagonal[:, step, step] = on_cpu(alpha)
        if step + 1 < steps:
            tridiagonal[:, step, step + 1] = tridiagonal[:, step + 1, step] = on_cpu(beta)
        vector, previous = image / beta, vector
    values, eigenvectors = (part[..., ::-1] for part in np.linalg.eigh(tridiagonal))
    # A point stands for `weight` eigenvalues around it; at the point itself half of them are passed.
    weights = n * np.square(eigenvectors[:, 0, :])
    above = np.cumsum(weights, axis=1) - weights / 2
    # The vectors' points differ, so their counts are averaged on one grid, from the largest possible eigenvalue, 1, down
    # to 0; np.interp wants ascending points, hence the signs.
    grid = np.linspace(1, 0, 2001)
    counts = np.mean(
        [np.interp(-grid, -points, count, left=0) for points, count in zip(values, above, strict=True)],
        axis=0,
    )
    return float(grid[min(int(np.searchsorted(counts, number)), len(grid) - 1)])


def _lanczos(
    operator: Operator,
    rank: int,
    block: int,
    tolerance: float,
    random: np.random.Generator,
    progress: Progress,
    band: _Filter | None = None,
) -> Dense | None:
    """Return an orthonormal basis (n, rank) of the leading eigenvectors of ``A Aᵀ``, from the Krylov space of a block.

    With a filter the space is that of f(A Aᵀ). The result is None if its edge is too high, so that it hides some of them.
    """
    n = operator.matrix.shape[0]
    # With the filter about 3.2 times the rank is enough (see `_Filter`); the arrays grow if it is not.
    space = _KrylovSpace(operator, band, random, block, capacity=min(n, 4 * rank + 4 * block))
    if band is not None:
        tolerance *= _FILTERED_TOLERANCE_FACTOR
    # A check costs n_vectors³ operations. When the first comes was chosen by hand; one too many costs time alone.
    next_check, previous_residual = int((2.5 if band is None else 2.6) * rank) + block, np.inf
    while True:
        space.grow()
        n_vectors = space.n_vectors
        if n_vectors < next_check and n_vectors < n:
            continue
        values, coordinates, outside = space.ritz(rank)
        slope = np.ones(1)
        if band is not None:
            most = _MAX_VECTORS_PER_RANK if (values > 1).all() else _GIVE_UP_BELOW_EDGE
            if n_vectors > min(n - block, most * rank + block):
                return None
            values, slope = band.eigenvalues(values)
        # ‖A Aᵀu − λu‖ is ‖f(A Aᵀ)u − f(λ)u‖ over the slope of f, to first order; over σ it is that of the triplet.
        # An eigenvalue errs by about _TINY, and σ is its root; `_residual` has σ as a norm, which itself errs by that.
        sigma = np.sqrt(np.maximum(values, _TINY))
        with np.errstate(divide="ignore", invalid="ignore"):  # a slope of 0, below the edge
            residual = float((outside / slope / sigma).max())
        progress(ProgressEvent("find singular vectors", n_vectors, None, {"residual": residual}))
        # Rounding errors end the descent sometimes: a residual that no longer halves is good enough below 1e-5.
        stalled = residual <= _ACCEPTED_RESIDUAL and residual > 0.5 * previous_residual
        if residual <= tolerance or stalled or n_vectors == n:
            ritz_vectors = (operator.array(coordinates.T) @ space.vectors).T
            # The estimate behind a filter is one of first order: the residuals themselves decide.
            if band is None or _residual(operator, ritz_vectors) <= _ACCEPTED_RESIDUAL:
                return ritz_vectors
        # The nearer the residuals are, the fewer vectors are missing: look again after a quarter, an eighth or a
        # twentieth more of them. Chosen by hand; the triplets are within the tolerance either way.
        more = 1.25 if residual > 3e-3 else 1.12 if residual > 1e-4 else 1.05
        previous_residual, next_check = residual, int(more * n_vectors)


class _KrylovSpace:
    """The Krylov space of ``A Aᵀ``, or of f(A Aᵀ) with a filter, from random columns: a basis that grows by blocks."""

    def __init__(
        self,
        operator: Operator,
        band: _Filter | None,
        random: np.random.Generator,
        block: int,
        capacity: int,
    ) -> None:
        """Begin with `block` columns and room for `capacity` vectors."""
        self._operator, self._band, self._random = operator, band, random
        n = operator.matrix.shape[0]
        # Each vector is a row: products with all of them then read memory in order.
        self._basis = operator.xp.empty((capacity, n), dtype=operator.xp.float32, device=operator.device)
        # Small, and always in the memory of the CPU, where its eigenvectors are computed in float64.
        self._projected = np.zeros((capacity, capacity))
        self._newest, self._remainder = _qr(operator, operator.normal(random, n, block))
        self._width = block
        self.n_vectors = 0

    @property
    def vectors(self) -> Dense:
        """The basis, (n_vectors, n)."""
        return self._basis[: self.n_vectors]

    def grow(self) -> None:
        """Let the newest block join the basis, and make the next one of its image."""
        operator, xp = self._operator, self._operator.xp
        n = operator.matrix.shape[0]
        newest = self._newest[:, : n - self.n_vectors]  # no more columns than the whole space has
        self._width = newest.shape[1]
        self._make_room(self._width)
        # 1. The newest block joins the basis.
        self._basis[self.n_vectors : self.n_vectors + self._width] = newest.T
        self.n_vectors += self._width
        # 2. Its image, of which only what lies outside the basis is new.
        newest = operator.contiguous(newest)
        image = _gram(operator, newest) if self._band is None else self._band.apply(operator, newest)
        image = operator.contiguous(image.T)
        norms = xp.linalg.vector_norm(image, axis=1)
        # 3. In exact arithmetic the image has parts only along this block and the one before (the three-term
        # recurrence). With the last three blocks subtracted, which is cheap, one pass over all vectors makes the rest
        # orthogonal to rounding; a pass reads the whole basis, which is what costs. Where it still removes more than half,
        # rounding errors count, and a second one is needed ("twice is enough": Parlett, The Symmetric Eigenvalue Problem,
        # section 6.9).
        before_pass = self._subtract_projections(image, max(0, self.n_vectors - 3 * self._width))
        after_pass = self._subtract_projections(image, 0)
        if float((after_pass / xp.clip(before_pass, _TINY, None)).min()) < 0.5:
            self._subtract_projections(image, 0)
        # 4. The rest as orthonormal columns is the next block.
        self._newest, self._remainder = _orthonormal_columns(
            operator, image.T, self.vectors, norms, self._random
        )

    def ritz(self, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the `rank` largest Ritz values, ascending, their vectors' coordinates in the basis, and the norms of their
        images' parts outside the space.

        The eigenvectors of the operator within the space are those of the projected matrix (Rayleigh-Ritz).
        """
        # Below its diagonal blocks nothing was written: a block is projected on itself and those before it.
        symmetric = np.triu(self._projected[: self.n_vectors, : self.n_vectors])
        symmetric += np.triu(symmetric, 1).T
        values, coordinates = np.linalg.eigh(symmetric)
        # The image of a Ritz vector outside the space: the remainder times the vector's coordinates in
        # the newest block (Golub and Van Loan, 10.3.6).
        last_block = on_cpu(self._remainder).astype(np.float64) @ coordinates[-self._width :, -rank:]
        return values[-rank:], coordinates[:, -rank:], np.linalg.norm(last_block, axis=0)

    def _make_room(self, width: int) -> None:
        """Enlarge the arrays by half if `width` more vectors do not fit."""
        capacity, n = self._basis.shape
        if self.n_vectors + width > capacity:
            extra = min(n - capacity, capacity // 2 + width)
            xp = self._operator.xp
            self._basis = xp.concat((self._basis, xp.empty_like(self._basis[:extra])), axis=0)
            self._projected = np.pad(self._projected, (0, extra))

    def _subtract_projections(self, image: Dense, first: int) -> Dense:
        """Subtract the parts along the vectors from number `first` on in place, and return the norms of the rest, (width,).

        `image`, (width, n), is that of the newest vectors. The coefficients are added to the matrix of the operator in the
        basis.
        """
        vectors = self._basis[first : self.n_vectors]
        weights = vectors @ image.T
        image -= weights.T @ vectors
        self._projected[first : self.n_vectors, self.n_vectors - len(image) : self.n_vectors] += on_cpu(
            weights
        )
        return self._operator.xp.linalg.vector_norm(image, axis=1)


def _orthonormal_columns(
    operator: Operator, image: Dense, vectors: Dense, norms: Dense, random: np.random.Generator
) -> tuple[Dense, Dense]:
    """Return orthonormal columns that span the remainder of an image, and its coefficients in that basis, up to signs.

    `image` is (n, width), orthogonal to `vectors`, (n_vectors, n); `norms` are those before it was made so.

    Where little remains (the Krylov space is exhausted: data of many small parts, or of few distinct values), some
    columns would be rounding errors. Those are drawn at random instead, and all made orthogonal to `vectors` once more,
    which may flip columns without their coefficients: callers use the norms of the coefficients only.
    """
    xp = operator.xp
    columns, remainder = _qr(operator, image)
    if float(xp.abs(xp.linalg.diagonal(remainder)).min()) < _SMALL_REMAINDER * float(norms.max()):
        # QR cannot tell which direction has vanished; the singular values of the remainder do.
        rotation, singular_values, right = xp.linalg.svd(remainder)
        columns, remainder = columns @ rotation, singular_values[:, None] * right
        vanished = singular_values <= _TINY
        columns[:, vanished] = operator.normal(random, len(image), int(vanished.sum()))
        for _ in range(2):
            columns, _ = _qr(operator, columns - vectors.T @ (vectors @ columns))
    return columns, remainder


def _qr(operator: Operator, block: Dense) -> tuple[Dense, Dense]:
    """Return Q, orthonormal columns, and R with ``QR = block``."""
    if operator.xp is np:  # SciPy's is in float32, with a third of the time of NumPy's
        columns, remainder = linalg.qr(block, mode="economic", check_finite=False)
    else:
        columns, remainder = operator.xp.linalg.qr(block)
    return columns, remainder


def _misses_eigenvalue(
    operator: Operator, basis: Dense, random: np.random.Generator, steps: int = 24
) -> bool:
    """Return whether the complement of the basis holds an eigenvalue clearly above the basis' smallest.

    By power iteration in the complement, on four random vectors; their number and that of `steps` were chosen by hand.
    """
    xp = operator.xp
    # Columns ascend by eigenvalue, so the first has the smallest.
    smallest = float(_squares(operator, basis[:, :1])[0])
    vector = operator.normal(random, len(basis), 4)
    for step in range(steps):
        for _ in range(2):  # once is not enough where little remains
            before = xp.linalg.vector_norm(vector, axis=0)
            vector = vector - basis @ (basis.T @ vector)
            after = xp.linalg.vector_norm(vector, axis=0)
            vector = vector / xp.clip(after, 1e-30, None)
            if bool((after > _SMALL_REMAINDER * before).all()):
                break
        if step < steps - 1:
            vector = _gram(operator, vector)
    largest = float(_squares(operator, vector).max())
    # Clearly: by more than a thousandth, chosen by hand, since power iteration has not fully converged.
    return largest > smallest * (1 + 1e-3) + _TINY


def _squares(operator: Operator, block: Dense) -> NDArray[np.float64]:
    """Return ``‖Aᵀu‖²`` for each column u of a block."""
    image = on_cpu(operator.backward @ operator.contiguous(block)).astype(np.float64)
    return np.asarray(np.square(image).sum(axis=0))


def _dense_basis(operator: Operator, rank: int) -> Dense:
    """Return the leading eigenvectors of a small ``A Aᵀ``, (n, rank), from the dense matrix in float64."""
    matrix = operator.matrix.astype(np.float64)
    return operator.array(np.linalg.eigh((matrix @ matrix.T).toarray()).eigenvectors[:, -rank:])


def _ritz_triplets(operator: Operator, basis: Dense) -> tuple[Dense, Dense, Dense]:
    """Return u, σ and v from a basis of the leading left space, by a Rayleigh-Ritz step, largest first.

    A triplet's sign is arbitrary: it is chosen so that the largest component of u is positive.
    """
    xp, width = operator.xp, operator.block_width
    blocks = [basis[:, start : start + width] for start in range(0, basis.shape[1], width)]
    wide = xp.concat([operator.backward @ operator.contiguous(block) for block in blocks], axis=1)
    wide = xp.asarray(wide, dtype=xp.float64)
    values, rotation = xp.linalg.eigh(wide.T @ wide)
    values, rotation = xp.sqrt(xp.clip(xp.flip(values, (0,)), 0, None)), xp.flip(rotation, (1,))
    positive = values > _TINY
    inverse = xp.where(positive, 1 / xp.clip(values, _TINY, None), 0.0)
    u = basis @ xp.asarray(rotation * positive, dtype=xp.float32)
    v = xp.asarray(wide @ (rotation * inverse), dtype=xp.float32)
    largest = u[xp.argmax(xp.abs(u), axis=0), xp.arange(u.shape[1])]
    signs = xp.asarray(xp.where(largest < 0, -1.0, 1.0), dtype=xp.float32)
    return u * signs, xp.where(positive, values, 0.0), v * signs
