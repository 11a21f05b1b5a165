"""Polynomials of the item-item operator, in a form that is stable and cheap to apply to blocks of columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from unblur.models.spectral.operator import Operator

Response = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Polynomial:
    """``p(λ) = constant + λ·c(λ)`` with c in Newton's form on points of [0, upper].

    The form is written in ``scale·λ`` with ``scale = 4/upper``, that is on an interval of length 4, where products of
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
        """The values of p."""
        inner = np.zeros_like(eigenvalues)
        for node, coefficient in zip(self.nodes[::-1], self.coefficients[::-1], strict=True):
            inner = inner * (self.scale * eigenvalues - node) + coefficient
        return self.constant + eigenvalues * inner

    @property
    def products(self) -> int:
        """How many sparse products one application takes."""
        return max(0, 2 * len(self.coefficients))

    def apply(self, operator: Operator, block: torch.Tensor) -> torch.Tensor:
        """``p(P)`` times a block (n_items, columns), a new block."""
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
    """The polynomial with `size` Newton coefficients that interpolates `response` on [0, upper].

    The points are the squares of those of Chebyshev, which with the constant met at 0 spread the error evenly; they come in
    Leja's order, in which Newton's form is stable (Reichel, BIT 30, 1990). It is exact when the response is a polynomial of degree `size` or less.
    """
    constant, scale = float(response(np.zeros(1))[0]), 4 / upper
    nodes = _leja(4 * np.cos(np.pi * (2 * np.arange(size) + 1) / (4 * size + 2)) ** 2)
    coefficients = (response(nodes / scale) - constant) * scale / nodes
    for j in range(1, size):
        coefficients[j:] = (coefficients[j:] - coefficients[j - 1]) / (nodes[j:] - nodes[j - 1])
    return Polynomial(constant, scale, nodes, coefficients)


def fit_within(response: Response, size: int, upper: float, tolerance: float) -> Polynomial:
    """The polynomial of the fewest coefficients, `size` at most, that is within `tolerance` on [0, upper].

    With `size` coefficients where none is, which is exact when the response is a polynomial of degree `size` or less.
    """
    for fewer in range(size):
        candidate = fit(response, fewer, upper)
        if error(candidate, response, upper) <= tolerance:
            return candidate
    return fit(response, size, upper)


def error(polynomial: Polynomial, response: Response, upper: float) -> float:
    """The largest error on [0, upper], on a fine grid."""
    grid = upper * 0.5 * (1 - np.cos(np.pi * np.linspace(0, 1, 801)))
    return float(np.abs(polynomial(grid) - response(grid)).max())


def largest(response: Response) -> float:
    """The largest absolute value on [0, 1], on a grid."""
    return float(np.abs(response(np.linspace(0, 1, 201))).max())


def _leja(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points reordered so that each next one is as far as can be from those before it, by product of distances."""
    if not len(points):
        return points
    with np.errstate(divide="ignore"):
        distances = np.log(np.abs(points[:, None] - points[None, :]))  # −∞ to itself: never chosen twice
    order, products = [0], distances[0]
    while len(order) < len(points):
        order.append(int(np.argmax(products)))
        products = products + distances[order[-1]]
    ordered: NDArray[np.float64] = points[np.array(order)]
    return ordered
