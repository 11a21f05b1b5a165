"""MultiVAE++ as a synthesizer: latents from a normal distribution, decoded. What SDRM must beat."""

from __future__ import annotations

from typing import ClassVar

from unblur.privacy.accountant import Privacy
from unblur.space import Dimension, rate, whole
from unblur.spec import spec
from unblur.synthesis.settings import Discretization, VariationalAutoencoder
from unblur.synthesis.trained import TrainedOnRows
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
        check_private(self.privacy, self.vae)

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise: that of `autoencoder_space`."""
        return autoencoder_space()


def autoencoder_space() -> tuple[Dimension, ...]:
    """The part of the SDRM authors' search that is of the autoencoder (Lilienthal et al. 2024, section 5).

    Their hidden layer is never narrower than the latent; here it is free.
    """
    return (
        whole("vae.latent", 20, 1000, 10),
        whole("vae.hidden", 20, 1000, 10),
        rate("vae.optimizer.learning_rate", 1e-4, 1e-2),
        whole("vae.batch_size", 30, 1000, 10),
    )


def check_private(privacy: Privacy | None, vae: VariationalAutoencoder) -> None:
    """Raise `SpecError` where training would look at users outside the accounted batches."""
    from unblur.errors import SpecError

    if privacy is not None and vae.stopping is not None:
        raise SpecError(
            "With `privacy` the autoencoder trains a fixed number of epochs, because whom it stops by is not "
            "accounted for; saw `vae.stopping` too. Set `vae.stopping` to nothing and choose `vae.epochs`."
        )
    if privacy is not None and vae.prior != "standard":
        raise SpecError(
            "With `privacy` latents come from N(0, I), because mean and covariance of the codes are not accounted for; "
            f'saw `vae.prior` = "{vae.prior}". Set it to "standard".'
        )
