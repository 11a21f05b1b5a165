"""The item-item operator ``P = R̃ᵀR̃``: normalisation, an order in which products are fast, products, polynomials.

`Polynomial.apply` multiplies blocks of dense columns, which suits a GPU; `Propagation` multiplies sparse history rows on a
CPU, with all intermediate blocks in an order that suits the cache.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.models.linear.neighbours import transposed
from unblur.parallel.devices import check_device


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
        """Return the weighted 0/1 rows, (n_users, n_items), that a filter starts from."""
        rows = histories.binarized()
        if self.user == self.item == 0:
            return rows.matrix
        degrees = rows.user_degrees
        data = degree_power(item_counts, -self.item)[rows.matrix.indices] * np.repeat(
            degree_power(degrees, -self.user), degrees
        )
        return sparse.csr_array((data, rows.matrix.indices, rows.matrix.indptr), shape=rows.matrix.shape)


def normalize(train: Interactions) -> sparse.csr_array:
    """Return ``R̃ = D_U^-½ R D_I^-½`` of the 0/1 matrix R, (n_users, n_items) float32, with singular values in [0, 1].

    BSPM, section 3.1. An empty row or column stays empty.
    """
    return Weighting(user=0.5, item=0.5).rows(train, train.item_degrees)


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
    generator = torch.Generator().manual_seed(0)
    block = torch.randn((matrix.shape[1], _DIRECTIONS), generator=generator)
    for _ in range(_SWEEPS):
        block = torch.linalg.qr(operator.backward @ (operator.forward @ block)).Q
    # Rows of length 1, so that activity does not decide about clusters; empty ones stay 0.
    items, users = (
        (rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)).numpy()
        for rows in (block, operator.forward @ block)
    )
    return items, users


@dataclass(frozen=True, eq=False)
class Operator:
    """The factor A of the item-item operator ``P = AᵀA``, which is never formed: A and Aᵀ, each as a CSR matrix.

    Both are for products with blocks of dense columns, so that P times a block is two of them.
    On a CPU torch hands these products to MKL, which is fastest with blocks of about 32 columns that are contiguous
    in memory; a block is (rows, columns) float32 in C order.
    """

    matrix: sparse.csr_array
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_device(self.device)

    @cached_property
    def forward(self) -> torch.Tensor:
        """A, (n_users, n_items)."""
        return sparse_tensor(self.matrix, self.device)

    @cached_property
    def backward(self) -> torch.Tensor:
        """Aᵀ, (n_items, n_users)."""
        return sparse_tensor(transposed(self.matrix), self.device)

    @property
    def block_width(self) -> int:
        """The number of columns with which products are fastest on a CPU; that on a GPU was chosen by hand."""
        return 32 if self.device == "cpu" else 512


def sparse_tensor(matrix: sparse.csr_array, device: str = "cpu") -> torch.Tensor:
    """Return a SciPy CSR matrix as a torch CSR tensor; on a CPU the arrays are shared, not copied."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.sparse_csr_tensor(
            torch.from_numpy(np.asarray(matrix.indptr)),
            torch.from_numpy(np.asarray(matrix.indices)),
            torch.from_numpy(np.asarray(matrix.data)),
            size=matrix.shape,
            check_invariants=False,
        ).to(device)


def dense(array: Any, device: str) -> torch.Tensor:
    """Return a NumPy array as a torch tensor on `device`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)


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

    def apply(self, operator: Operator, block: torch.Tensor) -> torch.Tensor:
        """Return ``p(P)`` times a block (n_items, columns), as a new block."""
        if not len(self.coefficients):
            return block * self.constant
        start = operator.forward @ block
        inner = start * float(self.coefficients[-1])
        for node, coefficient in zip(self.nodes[-2::-1], self.coefficients[-2::-1], strict=True):
            image = operator.backward @ inner
            inner = torch.addmm(inner, operator.forward, image, beta=-float(node), alpha=self.scale)
            inner.add_(start, alpha=float(coefficient))
        result = operator.backward @ inner
        return result if self.constant == 0 else result.add_(block, alpha=self.constant)


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


_MAX_SCRATCH = 64_000_000
"""Floats (256 MB) up to which a thread keeps its room for the next block; more is given back."""
_SLICE_USERS = 16_384
"""Users in a slice: what a block of 32 columns says about them fits a processor's second cache."""
_MIN_SLICES = 4
"""Slices from which products go slice by slice: with fewer, the blocks of all users still fit a cache."""
_USERS_PER_ITEM = 2
"""Users per item from which slices are faster; measured, see "Cost against size" in docs/results/benchmarks.md."""
_scratch = threading.local()
_MATRIX: tuple[Any, Any] = (torch.mm, torch.addmm)
_VECTOR: tuple[Any, Any] = (torch.mv, torch.addmv)


@dataclass(frozen=True, eq=False)
class Propagation:
    """``x·p(P)`` for history rows x, ``P = AᵀA``, on a CPU.

    With p written as ``constant + λ·c(λ)``, ``x·p(P) = constant·x + ((x·Aᵀ)·c(AAᵀ))·A``. The first product is of two
    sparse matrices and nearly free; the last gives the items in their own order; between the two, users and items
    come in the order that makes the products fastest.

    If users are many, and at least twice as many as items (`by_slices`), a block of all of them no longer fits a cache and
    each stored entry would wait for main memory. Then ``x·p(P)`` is computed on the side of the items, and P is applied
    one slice of users after the other, ``z += (y·Aₛᵀ)·Aₛ`` for each slice s so that z = y·P, and no block of all users
    exists.
    """

    matrix: sparse.csr_array
    """A, (n_users, n_items): users in the fast order, items in their own."""
    item_order: NDArray[np.int32]
    """(n_items,) the fast order of the items, in which the intermediate blocks are."""

    @cached_property
    def by_item(self) -> sparse.csr_array:
        """Aᵀ, (n_items, n_users)."""
        return transposed(self.matrix)

    @cached_property
    def by_item_tensor(self) -> torch.Tensor:
        """Aᵀ as a tensor."""
        return sparse_tensor(self.by_item)

    @cached_property
    def ordered(self) -> Operator:
        """A with its items in the fast order."""
        return Operator(reorder_columns(self.matrix, self.item_order))

    @cached_property
    def slices(self) -> list[Operator]:
        """A in slices of users, with its items in the fast order."""
        ordered = reorder_columns(self.matrix, self.item_order)
        return [
            Operator(sparse.csr_array(ordered[start : start + _SLICE_USERS]))
            for start in range(0, ordered.shape[0], _SLICE_USERS)
        ]

    @property
    def by_slices(self) -> bool:
        """True if users are so many more than items that slices of users are faster."""
        n_users, n_items = self.matrix.shape
        return n_users > (_MIN_SLICES - 1) * _SLICE_USERS and n_users >= _USERS_PER_ITEM * n_items

    def add(self, polynomial: Polynomial, rows: sparse.csr_array, scores: torch.Tensor) -> None:
        """Add ``rows·p(P)`` to `scores`, (n_items, n_rows), in place."""
        width = rows.shape[0]
        # 1. constant·x is sparse.
        if polynomial.constant:
            users = np.repeat(np.arange(width), np.diff(rows.indptr))
            scores.numpy()[rows.indices, users] += np.float32(polynomial.constant) * rows.data
        if not len(polynomial.coefficients):
            return
        if self.by_slices:
            self._add_by_slices(polynomial, rows, scores)
            return
        # 2. start = A·xᵀ, (n_users, n_rows), as a product of two sparse matrices that fills a dense block.
        n_users, n_items = self.matrix.shape
        start, state, image = _blocks(width, n_users, n_users, n_items)
        products = (rows @ self.by_item).tocoo()
        start.zero_()
        flat_index = products.col.astype(np.int64) * width + products.row
        start.view(-1)[torch.from_numpy(flat_index)] = torch.from_numpy(products.data)
        times, plus_times = _MATRIX if width > 1 else _VECTOR
        if width == 1:  # as a vector, a single column is multiplied in half the time
            start, state, image, scores = (block[:, 0] for block in (start, state, image, scores))
        # 3. state = c(AAᵀ)·start by Horner's scheme in Newton's form: from the highest coefficient down,
        # state ← (scale·AAᵀ − node)·state + coefficient·start.
        forward, backward, scale = self.ordered.forward, self.ordered.backward, polynomial.scale
        *lower, highest = polynomial.coefficients.tolist()
        steps = list(zip(polynomial.nodes.tolist(), lower, strict=False))[::-1]
        if not steps:
            plus_times(scores, self.by_item_tensor, start, alpha=highest, out=scores)
            return
        # The scheme begins with state = highest·start. That product is left out: the first step is
        # (coefficient − node·highest)·start + scale·highest·AAᵀ·start.
        node, coefficient = steps[0]
        times(backward, start, out=image)
        plus_times(start, forward, image, beta=coefficient - node * highest, alpha=scale * highest, out=state)
        for node, coefficient in steps[1:]:
            times(backward, state, out=image)
            state.mul_(-node).add_(start, alpha=coefficient)
            plus_times(state, forward, image, alpha=scale, out=state)
        # 4. scores += Aᵀ·state, with the items in their own order.
        plus_times(scores, self.by_item_tensor, state, out=scores)

    def _add_by_slices(self, polynomial: Polynomial, rows: sparse.csr_array, scores: torch.Tensor) -> None:
        """Add ``(rows·c(P))·P``, with Newton's form of c in P instead of AAᵀ; `add` has added the constant's part."""
        n_items, width = scores.shape
        start, state, next_state, image = _blocks(
            width, n_items, n_items, n_items, min(_SLICE_USERS, self.matrix.shape[0])
        )
        start.zero_()
        users = np.repeat(np.arange(width), np.diff(rows.indptr))
        start.numpy()[self._inner_index[rows.indices], users] = rows.data
        times, plus_times = _MATRIX if width > 1 else _VECTOR
        if width == 1:
            start, state, next_state, image = (block[:, 0] for block in (start, state, next_state, image))

        def add_product(block: torch.Tensor, scale: float, out: torch.Tensor) -> None:
            for part in self.slices:
                of_users = image[: part.matrix.shape[0]]
                times(part.forward, block, out=of_users)
                plus_times(out, part.backward, of_users, alpha=scale, out=out)

        torch.mul(start, float(polynomial.coefficients[-1]), out=state)
        for node, coefficient in zip(polynomial.nodes[-2::-1], polynomial.coefficients[-2::-1], strict=True):
            torch.mul(state, -float(node), out=next_state).add_(start, alpha=float(coefficient))
            add_product(state, polynomial.scale, next_state)
            state, next_state = next_state, state
        next_state.zero_()
        add_product(state, 1.0, next_state)
        scores.index_add_(0, torch.from_numpy(self.item_order), next_state.view(n_items, width))

    @cached_property
    def _inner_index(self) -> NDArray[np.int64]:
        """(n_items,) the index of each item in the fast order."""
        return np.argsort(self.item_order)


def _blocks(width: int, *sizes: int) -> tuple[torch.Tensor, ...]:
    """Return uninitialised blocks of (size, width) each, in the thread's last scratch memory if it fits.

    Large blocks take time to allocate, so a thread keeps its own; memory more than four times too large is given back.
    """
    floats = sum(sizes) * width
    scratch = getattr(_scratch, "block", None)
    if scratch is None or len(scratch) < floats or len(scratch) > 4 * floats:
        scratch = torch.empty(floats)
        _scratch.block = scratch if floats <= _MAX_SCRATCH else None
    ends = np.cumsum([0, *(size * width for size in sizes)])
    return tuple(
        scratch[start:stop].view(size, width)
        for start, stop, size in zip(ends[:-1], ends[1:], sizes, strict=True)
    )
