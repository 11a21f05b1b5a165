"""The item-item operator ``P = R̃ᵀR̃``: normalisation, an order in which products are fast, products, polynomials.

`Polynomial.apply` multiplies blocks of dense columns, on a CPU or a GPU; `Propagation` multiplies sparse history rows on a
CPU, with all intermediate blocks in an order that suits the cache.

Dense arrays are NumPy's on a CPU and torch's on a GPU. What both are named alike is written once, with the namespace `xp` of
either; only the sparse product differs. On a CPU torch's products take as long as SciPy's, and its dense ones longer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.errors import needing_torch
from unblur.models.linear.neighbours import transposed
from unblur.parallel.devices import check_device
from unblur.parallel.threads import in_threads, n_threads
from unblur.spec import spec

Dense: TypeAlias = Any
"""A dense array: NumPy's on a CPU, torch's on a GPU."""


def namespace(device: str) -> Any:
    """Return the module of the functions of dense arrays on a device: NumPy, or torch for a GPU."""
    if device == "cpu":
        return np
    with needing_torch("A GPU"):
        import torch
    return torch


def dense(array: NDArray[Any], device: str) -> Dense:
    """Return a NumPy array as one on a device, in C order."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return namespace(device).asarray(np.ascontiguousarray(array), device=device)


def on_cpu(array: Dense) -> NDArray[Any]:
    """Return a dense array as NumPy's."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.cpu())


def on_device(matrix: sparse.csr_array, device: str) -> Any:
    """Return a CSR matrix as what can be multiplied with dense arrays on a device."""
    xp = namespace(device)
    if xp is np:
        return matrix
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        parts = (dense(part, device) for part in (matrix.indptr, matrix.indices, matrix.data))
        return xp.sparse_csr_tensor(*parts, size=matrix.shape, check_invariants=False)


def degree_power(degrees: NDArray[np.int64], exponent: float) -> NDArray[np.float32]:
    """Return ``d^exponent``, and 0 where d is 0, so that the scores of an item without users are finite."""
    return np.where(degrees > 0, np.maximum(degrees, 1) ** float(exponent), 0).astype(np.float32)


@dataclass(frozen=True)
class Weighting:
    """The powers of degrees before and after a filter."""

    user: float = 0.0
    """The entries of a row are divided by the user's degree to this power,"""
    item: float = 0.0
    """and by the item's degree to this one."""
    score: float | None = None
    """The scores of an item are multiplied by its degree to this power; `None` leaves them as they are."""

    def rows(self, histories: Interactions, item_counts: NDArray[np.int64]) -> sparse.csr_array:
        """Return the weighted rows, (n_users, n_items), that a filter starts from; degrees are numbers of interactions."""
        matrix, degrees = histories.matrix, histories.user_degrees
        if self.user == self.item == 0:
            return matrix
        powers = degree_power(item_counts, -self.item)[matrix.indices] * np.repeat(
            degree_power(degrees, -self.user), degrees
        )
        return sparse.csr_array((powers * matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)


@spec
class DegreePowers:
    """The powers of degrees in ``R̃ = D_U^-g R D_I^-h`` and in the scores ``s·D_I^e``: the papers have g = h = ½ and e = 0."""

    user: Annotated[float, Field(ge=0, le=1)] = 0.5
    """g: the interactions of a user are divided by his degree to this power."""
    item: Annotated[float, Field(ge=0, le=1)] = 0.5
    """h: those of an item by its degree to this one."""
    score: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """e: scores are multiplied by the item's degree to this power. Below 0 it holds popular items back."""


PAPERS = DegreePowers()
"""Those of GF-CF, BSPM and ChebyCF."""


def normalize(train: Interactions, powers: DegreePowers = PAPERS) -> sparse.csr_array:
    """Return ``R̃ = D_U^-g R D_I^-h`` of the matrix R, (n_users, n_items) float32, with singular values in [0, 1].

    BSPM, section 3.1, where g = h = ½ and a 0/1 matrix R bound them by 1. With other powers or weights R̃ is divided by its
    largest singular value, so that filters mean the same. An empty row or column stays empty.
    """
    normalized = Weighting(user=powers.user, item=powers.item).rows(train, train.item_degrees)
    bounded = powers.user == powers.item == PAPERS.user and bool((train.matrix.data == 1).all())
    if bounded or not normalized.nnz:
        return normalized
    scale = np.float32(1 / _largest_singular_value(normalized))
    return sparse.csr_array(
        (normalized.data * scale, normalized.indices, normalized.indptr), shape=normalized.shape
    )


_DENSE_NORM = 400
"""The smaller side up to which the largest singular value comes from the dense matrix: milliseconds."""


def _largest_singular_value(matrix: sparse.csr_array) -> float:
    if min(matrix.shape) <= _DENSE_NORM:
        return float(np.linalg.norm(matrix.toarray(), 2))
    from scipy.sparse.linalg import svds

    # All entries are positive, and so is the leading vector: ones are near it, and the same every time.
    start = np.ones(min(matrix.shape))
    return float(svds(matrix.astype(np.float64), k=1, v0=start, return_singular_vectors=False)[0])


_MIN_INTERACTIONS = 100_000
"""Interactions from which an order pays: a smaller matrix fits a processor's cache in any order."""
_DIRECTIONS = 32
"""Singular vectors to cluster along: one block of columns, the width at which sparse products are fastest."""
_SWEEPS = 2
"""Steps of subspace iteration: the order needs rough directions only, and a wrong one costs time but changes no score."""
_CLUSTERS = 64
"""Groups of items, and of users: a group's part of a block of columns then fits the first levels of the cache."""
_SAMPLE = 10_000
"""Items that the centres are found on, so that k-means takes seconds on any catalogue."""
_ROUNDS = 10
"""Rounds of k-means: the centres are only a guide to what lies near what."""


def ordering(matrix: sparse.csr_array, device: str = "cpu") -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return an order of users, (n_users,), and of items, (n_items,), that puts similar ones next to each other.

    Items are clustered by k-means on a few leading singular vectors, roughly computed; users go to the nearest
    centre; within a cluster the most active come first. Small matrices, and those on a GPU, stay as they are. The same
    matrix always gives the same order.
    """
    n_users, n_items = matrix.shape
    if matrix.nnz < _MIN_INTERACTIONS or device != "cpu" or min(matrix.shape) <= _CLUSTERS:
        return np.arange(n_users, dtype=np.int32), np.arange(n_items, dtype=np.int32)
    from scipy.cluster.vq import kmeans2, vq

    items, users = _directions(matrix)
    sample = np.random.default_rng(0).permutation(n_items)[:_SAMPLE]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        centres, _ = kmeans2(items[sample], _CLUSTERS, iter=_ROUNDS, minit="points", rng=0)
    user_clusters, item_clusters = vq(users, centres)[0], vq(items, centres)[0]
    popularity = np.bincount(matrix.indices, minlength=n_items)
    return (
        np.lexsort((-np.diff(matrix.indptr), user_clusters)).astype(np.int32),
        np.lexsort((-popularity, item_clusters)).astype(np.int32),
    )


def reorder_columns(matrix: sparse.csr_array, items: NDArray[np.int32]) -> sparse.csr_array:
    """Return ``matrix[:, items]`` for a permutation of the columns, its indices sorted."""
    # SciPy's own indexing handles any list of columns; for a permutation, renaming the indices is enough.
    positions = np.empty_like(items)
    positions[items] = np.arange(len(items), dtype=items.dtype)
    reordered = sparse.csr_array(
        (matrix.data.copy(), positions[matrix.indices], matrix.indptr), shape=matrix.shape
    )
    reordered.sort_indices()
    return reordered


def _directions(matrix: sparse.csr_array) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the rows of V (n_items, 32) and of A·V (n_users, 32), scaled to length 1, by subspace iteration.

    V spans roughly the leading right singular vectors, in a rotated basis after so few sweeps: only nearness matters.
    """
    operator = Operator(matrix)
    block = operator.normal(np.random.default_rng(0), matrix.shape[1], _DIRECTIONS)
    for _ in range(_SWEEPS):
        block = np.linalg.qr(operator.backward @ (operator.forward @ block)).Q
    # Rows of length 1, so that activity does not decide about clusters; empty ones stay 0.
    items, users = (
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        for rows in (block, operator.forward @ block)
    )
    return items, users


_THREADED_PRODUCT = 1 << 22
"""Multiplications from which a sparse product is split among threads: some milliseconds of work."""


@dataclass(frozen=True, eq=False)
class ThreadedRows:
    """A CSR matrix whose products with dense blocks are computed in threads, some rows in each."""

    matrix: sparse.csr_array

    @cached_property
    def parts(self) -> list[sparse.csr_array]:
        """Runs of rows with about as many entries each, one for each thread, in the memory of the whole."""
        indptr, data, indices = self.matrix.indptr, self.matrix.data, self.matrix.indices
        bounds = np.searchsorted(indptr, np.linspace(0, len(data), n_threads() + 1))
        bounds[0], bounds[-1] = 0, len(indptr) - 1
        runs = [slice(start, stop) for start, stop in pairwise(bounds.tolist()) if stop > start]
        return [
            sparse.csr_array(
                (
                    data[indptr[run.start] : indptr[run.stop]],
                    indices[indptr[run.start] : indptr[run.stop]],
                    indptr[run.start : run.stop + 1] - indptr[run.start],
                ),
                shape=(run.stop - run.start, self.matrix.shape[1]),
            )
            for run in runs
        ]

    def __matmul__(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """The product with a block (n_columns, width)."""
        if self.matrix.nnz * block.shape[1] < _THREADED_PRODUCT or len(self.parts) < 2:
            return np.asarray(self.matrix @ block)
        return np.concatenate(list(in_threads(lambda part: part @ block, self.parts)))


@dataclass(frozen=True, eq=False)
class Operator:
    """The factor A of the item-item operator ``P = AᵀA``, which is never formed: A and Aᵀ, each as a CSR matrix.

    Both are for products with blocks of dense columns, so that P times a block is two of them. They are fastest on a CPU with
    blocks of about 32 columns that are contiguous in memory; a block is (rows, columns) float32 in C order.
    """

    matrix: sparse.csr_array
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_device(self.device)

    @property
    def xp(self) -> Any:
        """The module of the functions of dense arrays."""
        return namespace(self.device)

    @cached_property
    def forward(self) -> Any:
        """A, (n_users, n_items)."""
        return self._factor(self.matrix)

    @cached_property
    def backward(self) -> Any:
        """Aᵀ, (n_items, n_users)."""
        return self._factor(transposed(self.matrix))

    def _factor(self, matrix: sparse.csr_array) -> Any:
        return ThreadedRows(matrix) if self.xp is np else on_device(matrix, self.device)

    @property
    def block_width(self) -> int:
        """The number of columns with which products are fastest on a CPU; that on a GPU was chosen by hand."""
        return 32 if self.device == "cpu" else 512

    def array(self, values: NDArray[Any]) -> Dense:
        """Return float32 values on the device."""
        return dense(values.astype(np.float32), self.device)

    def normal(self, random: np.random.Generator, *shape: int) -> Dense:
        """Draw from N(0, 1). NumPy draws, for a GPU too: it is little, and so the same for all devices."""
        return self.array(random.standard_normal(shape, dtype=np.float32))

    def contiguous(self, block: Dense) -> Dense:
        """Return a block in C order."""
        return np.ascontiguousarray(block) if self.xp is np else block.contiguous()


Response = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Polynomial:
    """``p(λ) = constant + λ·c(λ)`` with c in Newton's form on points of [0, upper].

    The form is written in ``scale·λ`` with ``scale = 4/upper``: on an interval of length 4 (capacity 1) products of
    distances neither grow nor vanish with the degree.

    With ``P = R̃ᵀR̃`` and ``G = R̃R̃ᵀ`` one has ``p(P) = constant + R̃ᵀ c(G) R̃``, so a p of degree d costs 2d sparse
    products, and most of the work is on the side of the users.
    """

    constant: float
    scale: float
    nodes: NDArray[np.float64]
    """The points, times `scale`, in the order of the coefficients."""
    coefficients: NDArray[np.float64]

    def __call__(self, eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values of p, by Horner's scheme."""
        inner = np.zeros_like(eigenvalues)
        for node, coefficient in zip(self.nodes[::-1], self.coefficients[::-1], strict=True):
            inner = inner * (self.scale * eigenvalues - node) + coefficient
        return self.constant + eigenvalues * inner

    def apply(self, operator: Operator, block: Dense) -> Dense:
        """Return ``p(P)`` times a block (n_items, columns), as a new block."""
        if not len(self.coefficients):
            return block * self.constant
        start = operator.forward @ block
        inner = start * float(self.coefficients[-1])
        for node, coefficient in zip(self.nodes[-2::-1], self.coefficients[-2::-1], strict=True):
            product = operator.forward @ (operator.backward @ inner)
            product *= self.scale
            inner *= -float(node)
            inner += product
            inner += float(coefficient) * start
        result = operator.backward @ inner
        if self.constant:
            result += self.constant * block
        return result


def fit(response: Response, size: int, upper: float = 1.0) -> Polynomial:
    """Return the polynomial with `size` Newton coefficients that interpolates `response` on [0, upper].

    The points are squares of Chebyshev points; together with 0, where the constant interpolates, they spread the error
    evenly. They come in Leja's order, in which Newton's form is stable (Reichel, BIT 30, 1990). The result is exact if
    the response is a polynomial of degree `size` or less.
    """
    constant, scale = float(response(np.zeros(1))[0]), 4 / upper
    nodes = _leja(4 * np.cos(np.pi * (2 * np.arange(size) + 1) / (4 * size + 2)) ** 2)
    # Divided differences of c(λ) = (p(λ) − constant)/λ, in the variable scale·λ.
    coefficients = (response(nodes / scale) - constant) * scale / nodes
    for j in range(1, size):
        coefficients[j:] = (coefficients[j:] - coefficients[j - 1]) / (nodes[j:] - nodes[j - 1])
    return Polynomial(constant, scale, nodes, coefficients)


def fit_within(response: Response, size: int, upper: float, tolerance: float) -> Polynomial:
    """Return the polynomial of the fewest coefficients, `size` at most, that is within `tolerance` on [0, upper].

    If none is, it has `size` coefficients, which is exact if the response is a polynomial of degree `size` or less.
    """
    for smaller in range(size):
        candidate = fit(response, smaller, upper)
        if error(candidate, response, upper) <= tolerance:
            return candidate
    return fit(response, size, upper)


def error(polynomial: Polynomial, response: Response, upper: float) -> float:
    """Return the largest error on [0, upper], on a grid that is denser at the ends, where polynomials vary fastest."""
    # Many times more points than a polynomial of some tens of degrees has extrema.
    grid = upper * 0.5 * (1 - np.cos(np.pi * np.linspace(0, 1, 801)))
    return float(np.abs(polynomial(grid) - response(grid)).max())


def largest_value(response: Response) -> float:
    """Return the largest absolute value on [0, 1], on a grid."""
    return float(np.abs(response(np.linspace(0, 1, 201))).max())


def _leja(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the points so that each is as far as possible from those before it, by the product of the distances."""
    if not len(points):
        return points
    with np.errstate(divide="ignore"):
        log_distances = np.log(np.abs(points[:, None] - points[None, :]))  # −∞ to itself: never chosen twice
    order, log_products = [0], log_distances[0]
    while len(order) < len(points):
        order.append(int(np.argmax(log_products)))
        log_products = log_products + log_distances[order[-1]]
    return np.take(points, order)


_TILE = 32_768
"""Rows and columns of a tile: what a block of 16 columns says about them is 2 MB, near a processor's second cache. Half as many take
about as long; four times as many lose much of the gain on large sets."""
_UNTILED = 80_000
"""The most columns of a matrix that is not cut: whole products were as fast with 78,000 columns, and slower from 89,000 on."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """A CSR matrix in tiles, for products with blocks (n_columns, width) that outgrow the caches.

    In a product with the whole matrix each stored entry reads a row of the block at some place, and waits for main memory. A
    tile reads and writes a few rows alone.
    """

    n_rows: int
    columns: list[tuple[slice, list[tuple[slice, sparse.csr_array]]]]
    """Runs of columns, each with its tiles, below one another: their rows and their entries."""

    @classmethod
    def of(cls, matrix: sparse.csr_array) -> Tiles:
        """Cut a matrix: it is copied."""
        by_column, runs = sparse.csc_array(matrix), []
        for first in range(0, matrix.shape[1], _TILE):
            run = sparse.csr_array(by_column[:, first : first + _TILE])
            rows = (slice(row, row + _TILE) for row in range(0, matrix.shape[0], _TILE))
            runs.append((slice(first, first + _TILE), [(part, sparse.csr_array(run[part])) for part in rows]))
        return cls(matrix.shape[0], runs)

    def __matmul__(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """The product with a block (n_columns, width), or a vector."""
        product = np.zeros((self.n_rows, *block.shape[1:]), dtype=np.float32)
        for columns, tiles in self.columns:
            for rows, tile in tiles:
                product[rows] += tile @ block[columns]
        return product


def tiled(matrix: sparse.csr_array) -> sparse.csr_array | Tiles:
    """Return a matrix of many columns in tiles, and any other as it is."""
    return matrix if matrix.shape[1] <= _UNTILED else Tiles.of(matrix)


@dataclass(frozen=True, eq=False)
class Propagation:
    """``x·p(P)`` for history rows x, ``P = AᵀA``, on a CPU.

    With p written as ``constant + λ·c(λ)``, ``x·p(P) = constant·x + ((x·Aᵀ)·c(AAᵀ))·A``. The first product is of two
    sparse matrices and nearly free; the last gives the items in their own order; between the two, users and items
    come in the order that makes the products fastest.

    Blocks of many users or items outgrow the caches: then products go tile by tile (`Tiles`).
    """

    polynomial: Polynomial
    """p."""
    matrix: sparse.csr_array
    """A, (n_users, n_items): users in the fast order, items in their own."""
    item_order: NDArray[np.int32]
    """(n_items,) the fast order of the items, in which the intermediate blocks are."""

    @cached_property
    def by_item(self) -> sparse.csr_array:
        """Aᵀ, (n_items, n_users)."""
        return transposed(self.matrix)

    @cached_property
    def inner(self) -> tuple[sparse.csr_array | Tiles, sparse.csr_array | Tiles]:
        """``√scale·A`` and its transpose with the items in the fast order: the scale of Newton's form costs no pass over a block."""
        ordered = reorder_columns(self.matrix, self.item_order)
        ordered.data *= np.float32(np.sqrt(self.polynomial.scale))
        return tiled(ordered), tiled(transposed(ordered))

    @cached_property
    def last(self) -> sparse.csr_array | Tiles:
        """`by_item`, for products with blocks of dense columns."""
        return tiled(self.by_item)

    def scores(self, rows: sparse.csr_array) -> NDArray[np.float32]:
        """Return ``rows·p(P)`` as (n_items, n_rows), in a fresh array."""
        width, constant = rows.shape[0], self.polynomial.constant
        users = np.repeat(np.arange(width), np.diff(rows.indptr))
        if not len(self.polynomial.coefficients):
            scores = np.zeros((rows.shape[1], width), dtype=np.float32)
        else:
            # 1. start = A·xᵀ, (n_users, n_rows), as a product of two sparse matrices that fills a dense block.
            start = np.zeros((self.matrix.shape[0], width), dtype=np.float32)
            products = (rows @ self.by_item).tocoo()
            start[products.col, products.row] = products.data
            # 2. state = c(AAᵀ)·start. 3. Aᵀ·state, with the items in their own order.
            scores = (self.last @ self._horner(_narrow(start))).reshape(-1, width)
        # 4. constant·x is sparse.
        if constant:
            scores[rows.indices, users] += np.float32(constant) * rows.data
        return scores

    def _horner(self, start: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return c(M)·start, ``M = AAᵀ``, by Horner's scheme in Newton's form.

        From the highest coefficient down, state ← (scale·M − node)·state + coefficient·start.
        """
        ordered, ordered_by_item = self.inner
        *lower, highest = self.polynomial.coefficients.astype(np.float32)
        nodes = self.polynomial.nodes.astype(np.float32)
        state: NDArray[np.float32] = start * highest
        part = np.empty_like(start)
        for node, coefficient in zip(nodes[-2::-1], lower[::-1], strict=True):
            product = ordered @ (ordered_by_item @ state)
            state *= -node
            state += product
            np.multiply(start, coefficient, out=part)
            state += part
        return state


def _narrow(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a single column as a vector, whose products take half the time, and any other block as it is."""
    return block[:, 0].copy() if block.shape[1] == 1 else block
