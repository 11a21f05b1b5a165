"""Weighted matrix factorisation by alternating least squares, trained by the library `implicit`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat
from scipy import sparse
from scipy.linalg import solve_triangular

from unblur.data.interactions import Interactions
from unblur.errors import CapabilityError, DataError, SpecError
from unblur.models.linear.factors import products
from unblur.models.linear.item_weights import SCORED_TOGETHER
from unblur.parallel.threads import libraries_at_rest
from unblur.progress import ProgressEvent, Run
from unblur.randomness import RNG, streams
from unblur.recommender import Recommender, StoppingData, WeighingSpec, WeightUse, learned
from unblur.spec import Dimension, Rounds, Width, choices, spec

NUMBERS_TOGETHER = 1 << 22
"""The most numbers in the items' vectors, or in the systems, of users that are solved for together: 32 megabytes."""


@spec(earlier={"weights": "binary"})
class ALS(WeighingSpec["LeastSquares"]):
    """Collaborative filtering for implicit feedback (Hu, Koren and Volinsky, ICDM 2008).

    Minimises ``Σ_ui c_ui (p_ui − x_uᵀy_i)² + λ(Σ‖x_u‖² + Σ‖y_i‖²)`` (equation 3) with preference p_ui = 1 where u took i and
    0 elsewhere, and confidence c_ui = 1 + α·r_ui, where r_ui is the weight of the interaction, 0 if there is none. Item
    vectors come from `implicit` (the extra ``als``); a history's vector is solved for exactly (equation 4), so a user who
    was in train is treated as any other.
    """

    kind: ClassVar[str] = "als"
    zero_without_signal: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.als:LeastSquares"
    rank: Width = 64
    """Width of the vectors: f."""
    alpha: NonNegativeFloat = 10.0
    """The weight of a taken item above that of one that was not: α."""
    ridge: PositiveFloat = 1.0
    """The penalty on the vectors: λ."""
    iterations: Rounds = 15
    """The number of times that users and items are solved for in turn."""
    exact: bool = False
    """Solve each train system exactly, rather than by three steps of conjugate gradients from the last solution."""
    weights: WeightUse = "use"
    """r_ui in the confidence: the weights of the interactions, or 1 each."""

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(
            rank=(32, 64, 128, 256),
            alpha=(0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0),
            ridge=(0.1, 1.0, 10.0, 30.0, 100.0),
        )

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> LeastSquares:
        """Train on the CPU. Raises `CapabilityError` without `implicit`, `DataError` without interactions."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the library's own imports
                from implicit.cpu.als import AlternatingLeastSquares
        except ImportError as problem:
            raise CapabilityError(
                f"Alternating least squares needs the extra `als`; {problem}. "
                "Install it with `pip install 'unblur[als]'`, or use another model, such as pure-svd or ease."
            ) from None
        if not train.n_interactions:
            raise DataError("There must be interactions to train on; saw none. Check what was read.")
        seed = int(streams(rng, "initial factors")["initial factors"].integers(0, 2**31))
        confidence = sparse.csr_matrix(self.with_weights(train).matrix, dtype=np.float64, copy=True)
        confidence.data = (1 + self.alpha * confidence.data).astype(np.float32)
        run.progress(ProgressEvent("alternate least squares", 0, self.iterations))
        with warnings.catch_warnings(), libraries_at_rest():
            warnings.simplefilter(
                "ignore", RuntimeWarning
            )  # it asks to limit the threads of BLAS, as done here
            model = AlternatingLeastSquares(
                factors=self.rank,
                regularization=self.ridge,
                alpha=1.0,
                iterations=self.iterations,
                use_cg=not self.exact,
                random_state=seed,
            )
            model.fit(
                confidence,
                show_progress=False,
                callback=lambda done, *_: run.progress(
                    ProgressEvent("alternate least squares", done + 1, self.iterations)
                ),
            )
        factors = np.asarray(model.item_factors, dtype=np.float32)
        return LeastSquares(self, train.items, train.item_degrees, device=run.device, factors=factors)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LeastSquares(Recommender["ALS"]):
    """Scores are products of items' vectors with that of a history, solved for by least squares."""

    batch: ClassVar[int] = SCORED_TOGETHER
    factors: NDArray[np.float32] = learned("items", "rank")
    """The items' vectors y."""

    @cached_property
    def _cholesky(self) -> NDArray[np.float64]:
        """L, lower triangular, of ``YᵀY + λI = L·Lᵀ``."""
        factors = self.factors.astype(np.float64)
        return np.asarray(
            np.linalg.cholesky(factors.T @ factors + self.spec.ridge * np.eye(self.spec.rank)),
            dtype=np.float64,
        )

    @cached_property
    def _whitened(self) -> NDArray[np.float64]:
        """``Z = Y·L⁻ᵀ`` (n_items, rank)."""
        return np.ascontiguousarray(solve_triangular(self._cholesky, self.factors.T, lower=True).T)

    def users(self, rows: sparse.csr_array) -> NDArray[np.float64]:
        """Return the vectors (n_rows, rank) of rows: ``(YᵀY + α·Y_xᵀR Y_x + λI)⁻¹ Y_xᵀ(1 + α·r)`` (equation 4), R = diag r.

        With L and Z, and t = (1 + α·r)/(1 + α), that is ``(1 + α)·L⁻ᵀ (I + α·Z_xᵀR Z_x)⁻¹ Z_xᵀt``, and
        ``(1 + α)·L⁻ᵀ Z_xᵀ (I + α·R Z_xZ_xᵀ)⁻¹ t`` just as well (the push-through identity): the smaller system is solved.
        Rows of the same length are solved for together.
        """
        alpha, rank = self.spec.alpha, self.spec.rank
        vectors = np.zeros((rows.shape[0], rank))
        lengths = np.diff(rows.indptr)
        try:
            with libraries_at_rest():  # the systems are small
                for length in np.unique(lengths[lengths > 0]).tolist():
                    alike = np.flatnonzero(lengths == length)
                    step = max(1, NUMBERS_TOGETHER // (max(length, rank) * rank))
                    for start in range(0, len(alike), step):
                        part = alike[start : start + step]
                        entries = rows.indptr[part, None] + np.arange(length)
                        taken = self._whitened[rows.indices[entries]]
                        flipped, r = taken.transpose(0, 2, 1), rows.data[entries, None].astype(np.float64)
                        targets = (1 + alpha * r) / (1 + alpha)
                        if length < rank:
                            solution = flipped @ np.linalg.solve(
                                np.eye(length) + alpha * r * (taken @ flipped), targets
                            )
                        else:
                            solution = np.linalg.solve(
                                np.eye(rank) + alpha * (flipped @ (r * taken)),
                                (flipped * targets.transpose(0, 2, 1)).sum(axis=2, keepdims=True),
                            )
                        vectors[part] = solution[:, :, 0]
                return (1 + alpha) * np.asarray(
                    solve_triangular(self._cholesky, vectors.T, lower=True, trans="T")
                ).T
        except np.linalg.LinAlgError:
            raise SpecError(
                f"The ridge must be large enough to determine a user's vector; {self.spec.ridge} is lost next to the "
                "items' vectors. Raise it, or lower the rank."
            ) from None

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        return products(self.users(self.spec.with_weights(histories).matrix), self.factors)
