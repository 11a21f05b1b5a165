"""The leading singular vectors of a large sparse matrix, each with a residual that is checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch.nn.functional import pad

from unblur.errors import DataError
from unblur.models.spectral.operator import Operator
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, generator, torch_generator

_DENSE_BELOW = 2500
"""Smaller side up to which all is decomposed densely: seconds, and no convergence to watch."""
_TINY = 1e-6
"""What counts as nothing next to values of at most 1: some rounding errors of float32."""
_BLOCK = 16
"""Columns that the Krylov space first grows by: few vectors in all, and a value repeated up to 16 times is found."""
_ACCEPTED = 1e-5
"""The residual that is good enough where rounding errors let it fall no further (float32)."""
_BEHIND_FILTER = 0.4
"""How much smaller a residual must look behind a filter, which understates what lies near 0."""
_LITTLE = 0.1
"""What is left of a vector, as a share, below which it counts as rounding errors and is made orthogonal once more."""
_BEYOND = 1.2
"""The filter's edge is put at the eigenvalue of so many times the rank: an estimate of a few per cent must not hide any."""
_MOST = 6
"""Vectors, as a multiple of the rank, after which the way by the filter is given up for the plain one."""
_HOPELESS = 2.9
"""The same where some wanted values still hide inside the filter's band: a right edge shows all of them after 2.6 times
the rank (`_lanczos` looks first then), so that soon after it the edge is known to be wrong."""


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
    """The leading singular vectors by block Lanczos with full reorthogonalisation on the smaller side.

    The Krylov space of ``A Aᵀ`` (or ``Aᵀ A``) grows by a block of columns at a time until each of the `rank` Ritz
    vectors has a residual ``‖A v − σ u‖`` of at most `tolerance` (Golub and Van Loan, Matrix Computations, 10.3.6).
    A randomised SVD with a few power iterations is not enough here: the tail of the wanted values lies in a dense
    part of the spectrum. A block finds at most as many copies of a repeated value as it has columns (disconnected
    parts of the data repeat the value 1), so the complement is probed at the end, and a wider block is used when
    something was missed. Small matrices are decomposed densely.

    The result is the same for the same `rng` on the same machine. Raises `DataError` when `rank` exceeds the
    smaller side of the matrix.
    """
    n_users, n_items = matrix.shape
    smaller = min(n_users, n_items)
    DataError.unless(
        rank <= smaller,
        f"The rank of the low-pass filter must not exceed the smaller side of the {n_users:,} × {n_items:,} matrix; "
        f"saw {rank:,}. Use at most {smaller:,}.",
    )
    turned = n_users > n_items
    wide = sparse.csr_array(matrix.T.tocsr()) if turned else matrix
    wide.sort_indices()
    operator = Operator(wide, device)
    random = generator(rng)
    small = smaller <= max(_DENSE_BELOW, 2 * rank)
    basis = _dense(wide, rank, device) if small else _leading(operator, rank, tolerance, random, progress)
    near, values, far = _rotated(operator, basis)
    left, right = (far, near) if turned else (near, far)
    return Spectrum(left.cpu().numpy(), values.cpu().numpy(), right.cpu().numpy())


def _leading(
    operator: Operator, rank: int, tolerance: float, random: np.random.Generator, progress: Progress
) -> torch.Tensor:
    """An orthonormal basis (n, rank) of the leading left singular vectors.

    By way of the filter first; where its edge was put too high, without; then with wider blocks until nothing is missed.
    """
    edge = _edge(operator, int(_BEYOND * rank), torch_generator(random))
    plain: list[tuple[int, _Filter | None]] = [(block, None) for block in (_BLOCK, 64, 256, max(1024, rank))]
    attempts = [(_BLOCK, _Filter(edge)), (_BLOCK, _Filter(0.8 * edge)), *plain] if edge > _TINY else plain
    for block, band in attempts[:-1]:
        basis = _lanczos(operator, rank, block, tolerance, random, progress, band)
        if basis is not None and not _missed(operator, basis, random):
            return basis
    basis = _lanczos(operator, rank, attempts[-1][0], tolerance, random, progress)  # misses nothing
    assert basis is not None
    return basis


def _residual(operator: Operator, basis: torch.Tensor) -> float:
    """The largest ``‖A Aᵀu − u·(uᵀA Aᵀu)‖/σ`` of the columns u of a basis, all parts within it taken out."""
    worst = 0.0
    for vectors in basis.split(operator.block, dim=1):
        image = operator.backward @ vectors.contiguous()
        sigma = image.norm(dim=0).clamp_min(_TINY)
        outside = operator.forward @ image
        outside -= basis @ (basis.T @ outside)
        worst = max(worst, float((outside.norm(dim=0) / sigma).max()))
    return worst


def _gram(operator: Operator, block: torch.Tensor) -> torch.Tensor:
    """``A Aᵀ`` times a block of columns."""
    return torch.mm(operator.forward, torch.mm(operator.backward, block))


@dataclass(frozen=True)
class _Filter:
    """``f(A Aᵀ)`` with f the Chebyshev polynomial of degree two on ``[0, edge]``: what lies above the edge stands out.

    The eigenvectors stay, so the Krylov space of f finds those of the largest eigenvalues, with fewer vectors to keep
    orthogonal. Two is as far as float32 goes: f of 1 is not yet so large that it drowns f near the edge.
    """

    edge: float

    def apply(self, operator: Operator, block: torch.Tensor) -> torch.Tensor:
        """f times a block of columns."""
        once = _gram(operator, block).mul_(2 / self.edge).sub_(block)
        return _gram(operator, once).mul_(4 / self.edge).sub_(once, alpha=2).sub_(block)

    def eigenvalues(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The eigenvalues of ``A Aᵀ`` that f takes to `values`, and the slope of f there (0 inside the band)."""
        x = ((values.clamp_min(1.0) + 1) / 2).sqrt()
        return (x + 1) * self.edge / 2, torch.where(values > 1, 8 * x / self.edge, 0.0)


def _edge(
    operator: Operator, wanted: int, chance: torch.Generator, probes: int = 8, steps: int = 80
) -> float:
    """About the `wanted`-th largest eigenvalue of ``A Aᵀ``, by stochastic Lanczos quadrature.

    Each of a few random vectors is expanded by `steps` steps of Lanczos; the squared first components of the
    eigenvectors of the tridiagonal matrices say how many eigenvalues lie where (Golub and Meurant, Matrices, Moments and
    Quadrature, 2010, section 11.6). The counts between the points are interpolated, and averaged over the vectors.
    """
    n = operator.matrix.shape[0]
    vector = torch.randn((n, probes), generator=chance).to(operator.device)
    vector, previous = vector / vector.norm(dim=0), torch.zeros_like(vector)
    tridiagonal = torch.zeros((probes, steps, steps), dtype=torch.float64)
    beta = torch.zeros(probes, device=operator.device)
    for step in range(steps):
        image = _gram(operator, vector) - beta * previous
        alpha = (image * vector).sum(dim=0)
        image -= alpha * vector
        beta = image.norm(dim=0).clamp_min(_TINY)
        tridiagonal[:, step, step] = alpha.double().cpu()
        if step + 1 < steps:
            tridiagonal[:, step, step + 1] = tridiagonal[:, step + 1, step] = beta.double().cpu()
        vector, previous = image / beta, vector
    values, vectors = (part.flip(-1).numpy() for part in torch.linalg.eigh(tridiagonal))
    weights = n * np.square(vectors[:, 0, :])
    above = np.cumsum(weights, axis=1) - weights / 2
    grid = np.linspace(1, 0, 2001)
    counts = np.mean(
        [np.interp(-grid, -at, count, left=0) for at, count in zip(values, above, strict=True)], axis=0
    )
    return float(grid[min(int(np.searchsorted(counts, wanted)), len(grid) - 1)])


def _lanczos(
    operator: Operator,
    rank: int,
    block: int,
    tolerance: float,
    random: np.random.Generator,
    progress: Progress,
    band: _Filter | None = None,
) -> torch.Tensor | None:
    """An orthonormal basis (n, rank) of the leading eigenvectors of ``A Aᵀ``, by way of a filter where one is given.

    None when the filter hides some of them: its edge is too high.
    """
    n = operator.matrix.shape[0]
    chance, device = torch_generator(random), operator.device
    capacity = min(n, 4 * rank + 4 * block)
    basis = torch.empty(
        (capacity, n), device=device
    )  # a vector is a row: the products with all of them are faster
    projected = torch.zeros((capacity, capacity), dtype=torch.float64, device=device)
    active = torch.linalg.qr(torch.randn((n, block), generator=chance).to(device)).Q
    if band is not None:
        tolerance *= _BEHIND_FILTER
    size, check, before = 0, int((2.5 if band is None else 2.6) * rank) + block, np.inf
    while True:
        width = active.shape[1]
        if size + width > capacity:
            more = min(n - capacity, capacity // 2 + width)
            basis, projected = pad(basis, (0, 0, 0, more)), pad(projected, (0, more, 0, more))
            capacity += more
        basis[size : size + width] = active.T
        size += width
        known = basis[:size]
        active = active.contiguous()
        image = (_gram(operator, active) if band is None else band.apply(operator, active)).T.contiguous()
        norms = image.norm(dim=1)
        # The large parts lie along the last two blocks. With these taken out, one pass over all makes the rest
        # orthogonal to rounding (a pass reads the whole basis, which is what costs), two where little is left.
        before_all = _removed(image, basis, max(0, size - 3 * width), size, projected)
        after_all = _removed(image, basis, 0, size, projected)
        if float((after_all / before_all.clamp_min(_TINY)).min()) < 0.5:
            _removed(image, basis, 0, size, projected)
        active, remainder = _orthonormal(image.T, known, norms, chance)
        if size >= check or size == n:
            symmetric = torch.triu(projected[:size, :size])
            symmetric += torch.triu(symmetric, 1).T
            values, vectors = torch.linalg.eigh(symmetric)
            last = remainder.double() @ vectors[-width:, -rank:]
            wanted, slope = values[-rank:], torch.ones(1, dtype=values.dtype, device=device)
            if band is not None:
                hidden = not bool((wanted > 1).all())
                if size > min(n - block, (_HOPELESS if hidden else _MOST) * rank + block):
                    return None
                wanted, slope = band.eigenvalues(wanted)
            sigma = wanted.clamp_min(_TINY**2).sqrt().clamp_min(_TINY**0.5)
            worst = float((last.norm(dim=0) / slope / sigma).max())
            progress(ProgressEvent("find singular vectors", size, None, {"residual": worst}))
            stalled = worst <= _ACCEPTED and worst > 0.5 * before
            if worst <= tolerance or stalled or size == n:
                found = torch.mm(vectors[:, -rank:].T.float(), known).T
                if band is None or _residual(operator, found) <= _ACCEPTED:
                    return found
            before, check = worst, int((1.25 if worst > 3e-3 else 1.12 if worst > 1e-4 else 1.05) * size)
        active = active[:, : n - size]


def _removed(
    image: torch.Tensor, basis: torch.Tensor, first: int, size: int, projected: torch.Tensor
) -> torch.Tensor:
    """Take the parts along ``basis[first:size]`` out of `image` in place, add them to `projected`; the norms left.

    `image` is the image of the last rows of ``basis[:size]``, (width, n).
    """
    known = basis[first:size]
    weights = known @ image.T
    image.addmm_(weights.T, known, alpha=-1)
    projected[first:size, size - len(image) : size] += weights.double()
    return cast("torch.Tensor", image.norm(dim=1))


def _orthonormal(
    image: torch.Tensor, known: torch.Tensor, norms: torch.Tensor, chance: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal columns that span what is left of an image, of `norms` before; and it in their terms.

    `image` is (n, width), `known` the vectors found before, (size, n).

    Where little is left (the Krylov space is exhausted: data of many small parts, or of few distinct values), some
    would be rounding errors. What is nothing is then drawn afresh, and all is made orthogonal to `known` once more.
    """
    made, remainder = torch.linalg.qr(image)
    if float(remainder.diagonal().abs().min()) < _LITTLE * float(norms.max()):
        rotation, sizes, turned = torch.linalg.svd(remainder)
        made, remainder = made @ rotation, sizes[:, None] * turned
        nothing = sizes <= _TINY
        fresh = torch.randn((len(image), int(nothing.sum())), generator=chance)
        made[:, nothing] = fresh.to(image.device)
        for _ in range(2):
            made = torch.linalg.qr(made - known.T @ (known @ made)).Q
    return made, remainder


def _missed(operator: Operator, basis: torch.Tensor, random: np.random.Generator, steps: int = 24) -> bool:
    """Whether the complement of the basis holds an eigenvalue clearly above the smallest one found."""
    smallest = float((operator.backward @ basis[:, :1]).double().square().sum())
    vector = torch.randn((len(basis), 4), generator=torch_generator(random)).to(basis.device)
    for step in range(steps):
        for _ in range(2):  # once is not enough where little is left
            before = vector.norm(dim=0)
            vector = vector - basis @ (basis.T @ vector)
            left = vector.norm(dim=0)
            vector = vector / left.clamp_min(1e-30)
            if bool((left > _LITTLE * before).all()):
                break
        if step < steps - 1:
            vector = _gram(operator, vector)
    largest = float((operator.backward @ vector).double().square().sum(dim=0).max())
    return largest > smallest * (1 + 1e-3) + _TINY


def _dense(wide: sparse.csr_array, rank: int, device: str) -> torch.Tensor:
    """The leading eigenvectors of a small ``A Aᵀ``, found densely in float64."""
    matrix = wide.astype(np.float64)
    vectors = torch.linalg.eigh(torch.from_numpy((matrix @ matrix.T).toarray())).eigenvectors
    return cast("torch.Tensor", vectors[:, -rank:].float().to(device))


def _rotated(operator: Operator, basis: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """u, σ and v from a basis of the leading left space, by a Rayleigh-Ritz step, signs fixed, largest first."""
    blocks = basis.split(operator.block, dim=1)
    wide = torch.cat([operator.backward @ block.contiguous() for block in blocks], 1).double()
    values, rotation = torch.linalg.eigh(wide.T @ wide)
    values, rotation = values.flip(0).clamp_min(0).sqrt(), rotation.flip(1)
    kept = values > _TINY
    inverse = torch.where(kept, 1 / values.clamp_min(_TINY), 0.0)
    near = basis @ (rotation * kept).float()
    far = (wide @ (rotation * inverse)).float()
    signs = torch.where(near.gather(0, near.abs().argmax(dim=0)[None, :]) < 0, -1.0, 1.0)
    return near * signs, torch.where(kept, values, 0.0), far * signs
