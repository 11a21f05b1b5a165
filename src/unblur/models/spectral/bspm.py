"""BSPM, the blurring-sharpening process model: training-free, linear in the start row.

Choi, Hong, Park and Cho, *Blurring-Sharpening Process Models for Collaborative Filtering*, SIGIR 2023,
arXiv 2211.09324. Symbols: R̃ → `normalize`, P = R̃ᵀR̃, V → `Spectrum.right`, T → `Flow.duration`,
K → `Flow.steps`, β → `LowPass.weight`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from unblur.models.spectral.flow import Flow, follow
from unblur.models.spectral.operator import Weighting
from unblur.models.spectral.polynomial_filter import Bands, FilterSpec
from unblur.spec import Dimension, Width, choices, spec


@spec(earlier={"rank": 256, "weight": 0.3}, added={"bands": [1.0]})
class LowPass:
    """The ideal low-pass filter ``M = D_I^-½ V Vᵀ D_I^½``, as a process ``dx/dt = xM − x``."""

    rank: Width = 448
    """The number of singular vectors that pass: `factor_dim` in the authors' code. With fewer users or items than that, all
    of them, with a note."""
    weight: Annotated[float, Field(ge=-1e6, le=1e6)] = 0.2
    """The weight of the low-pass term next to the blur: β, `idl_beta`. Far above 1 float32 would lose the blur."""
    flow: Flow = Flow()
    """Duration and solver: `solver_idl`, T_idl, K_idl. One Euler step of length 1 is the filter itself."""
    bands: Bands = (1.0,)
    """f: factors of the filter by bands of singular vectors of equal width. The authors' one band passes all alike."""


@spec(
    earlier={"low_pass": {}, "sharpen": {}},
    added={"degrees": {"user": 0.5, "item": 0.5, "score": 0.0}, "weights": "binary"},
)
class BSPM(FilterSpec):
    """A blurring-sharpening process model. GF-CF is `sharpen=None`; LGCN-IDE is `history="normalized"` and blurs only.

    The defaults are the paper's best settings with an early merge. Those of the authors' program sharpen by one Euler step of length 1,
    which takes away all that a user's group of items has in common (its eigenvalue is 1, and 1 − 1 = 0).
    """

    kind: ClassVar[str] = "bspm"

    blur: Flow = Flow()
    """The heat equation ``dx/dt = xP − x``: `solver_blr`, T_b, K_b. One Euler step of length 1 is xP."""
    low_pass: LowPass | None = LowPass()
    """The ideal low-pass filter next to the blur; `None` leaves it out."""
    sharpen: Flow | None = Flow(duration=2.5, solver="rk4")
    """The sharpening process ``dx/dt = −xP``: `solver_shr`, T_s, K_s; `None` turns it off (`sharpening_off`)."""
    merge: Literal["early", "late"] = "early"
    """Add the low-pass term before sharpening (BSPM-EM, `final_sharpening=True`) or after it (BSPM-LM)."""
    output: Literal["last", "mean"] = "last"
    """The last state, or the mean of all blurred and all sharpened states (`t_point_combination`)."""
    history: Literal["counts", "normalized"] = "counts"
    """The 0/1 history row as it is, or divided by the roots of the degrees of its items and of itself (LGCN-IDE)."""

    def space(self) -> tuple[Dimension, ...]:
        """The default search space, without dimensions of a part that is left out or that make no difference."""
        return (
            *(
                choices(
                    sharpen__solver=("euler", "rk4"),
                    sharpen__duration=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0),
                    sharpen__steps=(1, 2),
                )
                if self.sharpen
                else ()
            ),
            *(
                choices(low_pass__rank=(64, 128, 256, 384, 512), low_pass__weight=(0.1, 0.2, 0.3, 0.4))
                if self.low_pass
                else ()
            ),
            *(choices(merge=("early", "late")) if self.sharpen and self.low_pass else ()),
            # A path of one state has the last for its mean.
            *(choices(output=("last", "mean")) if self.sharpen or self.blur.steps > 1 else ()),
        )

    @property
    def low_pass_exponent(self) -> float:
        """That of R̃."""
        return self.degrees.item

    @property
    def bands(self) -> Bands:
        """The weights of the singular vectors."""
        return self.low_pass.bands if self.low_pass else (1.0,)

    @property
    def rank(self) -> int:
        """The rank of the low-pass filter."""
        return self.low_pass.rank if self.low_pass else 0

    @property
    def degree(self) -> int:
        """The degree of p."""
        return self.blur.degree + (self.sharpen.degree if self.sharpen else 0)

    @property
    def weighting(self) -> Weighting:
        """The weights of the rows that the processes start from (`history`), and of the scores."""
        user, item = (0.0, 0.0) if self.history == "counts" else (self.degrees.user, self.degrees.item)
        return Weighting(user=user, item=item, score=self.degrees.score or None)

    def response(self, eigenvalues: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the values of p and q at `eigenvalues` of P (BSPM, equations 8 to 12)."""
        ones = np.ones_like(eigenvalues)
        blurred = list(follow(eigenvalues - 1, ones, self.blur))
        identity_part, projected_part = self._low_pass_parts()
        states = blurred
        early = self.merge == "early" and self.sharpen is not None
        q = np.zeros_like(ones)
        if self.sharpen is not None:
            # Sharpening is linear, so its states are factors of the state it starts from, and of the low-pass term in it.
            sharpened = list(follow(-eigenvalues, ones, self.sharpen))
            merged = blurred[-1] + (identity_part if early else 0.0)
            states = (
                [*blurred, *(state * merged for state in sharpened)]
                if self.output == "mean"
                else [sharpened[-1] * merged]
            )
            if early:
                # A mean is over all states, but the low-pass term is in the sharpened ones alone.
                factors = sharpened if self.output == "mean" else sharpened[-1:]
                q = projected_part * np.sum(factors, axis=0) / len(states)
        elif self.output == "last":
            states = blurred[-1:]
        p = np.mean(states, axis=0)
        if not early:
            p, q = p + identity_part, q + projected_part
        return p, q

    def _low_pass_parts(self) -> tuple[float, float]:
        """Return (β·a, β·b) such that the weighted low-pass flow is ``x·(βa + βb·M)``.

        M is a projection: outside its eigenvalue 0 gives a, inside its eigenvalue 1 gives a + b.
        """
        if self.low_pass is None:
            return 0.0, 0.0
        *_, factors = follow(np.array([-1.0, 0.0]), np.ones(2), self.low_pass.flow)
        outside, inside = (self.low_pass.weight * factor for factor in factors.tolist())
        return outside, inside - outside
