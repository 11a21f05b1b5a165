"""MultiVAE++ as a synthesizer: latents from a normal distribution, decoded. What SDRM must beat."""

from __future__ import annotations

from typing import ClassVar

from unblur.errors import SpecError
from unblur.privacy.accountant import Privacy
from unblur.spec import spec
from unblur.synthesis.settings import Discretization, VariationalAutoencoder
from unblur.synthesis.trained import TrainedOnRows, check_private
from unblur.training.settings import Precision


@spec
class MultiVAE(TrainedOnRows):
    """A variational autoencoder of rows (Liang et al., WWW 2018, arXiv 1802.05814), sampled from a prior.

    A synthetic user is what the decoder makes of a draw from it: `vae.prior` says which.
    """

    kind: ClassVar[str] = "multi-vae"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.synthesis.latent_synthesizer:LatentSynthesizer"
    vae: VariationalAutoencoder = VariationalAutoencoder()
    """The autoencoder, and how it is trained."""
    discretization: Discretization = Discretization()
    """How scores become items."""
    privacy: Privacy | None = None
    """Train with differential privacy, and account for it."""
    precision: Precision = "float32"
    """What matrix products of training are computed in; weights and losses are float32 in any case."""

    def __post_init__(self) -> None:
        check_private(self)

    def plain(self) -> MultiVAE:
        """Itself: it has no diffusion."""
        return self

    def resampled(self, sampling: str) -> MultiVAE:
        """Raise `SpecError`: it has no reverse chain."""
        raise SpecError(
            f"`sampling` is a setting of a reverse chain, and this synthesizer has none; saw {sampling!r}. "
            "Leave it out."
        )
