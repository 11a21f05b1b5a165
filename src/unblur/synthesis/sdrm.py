"""SDRM: synthetic users from latent diffusion (Lilienthal et al., IEEE Access 2024, arXiv 2311.03488)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from unblur.privacy.accountant import Privacy
from unblur.space import Dimension, choices, rate, whole
from unblur.spec import spec
from unblur.synthesis.multi_vae import MultiVAE
from unblur.synthesis.settings import (
    Discretization,
    LatentDiffusion,
    VariationalAutoencoder,
)
from unblur.synthesis.trained import TrainedOnRows, check_private
from unblur.training.settings import Precision


@spec
class SDRM(TrainedOnRows):
    """Score-based diffusion on the latents of a variational autoencoder, decoded to rows of items.

    Defaults are ours, chosen for samples that are like the data: codes are standardised, the network guesses
    the velocity, and users have as many items as real ones, drawn by the decoder's probabilities. The paper's
    settings are those of the recipes.

    Departures of the authors' code from their paper are settings, off by default:
    `diffusion.noise_without_root`, `diffusion.tied_hidden_layers` and `diffusion.sampling_dropout`. All three
    are on under the paper's protocol.
    """

    kind: ClassVar[str] = "sdrm"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.synthesis.latent_synthesizer:LatentSynthesizer"
    vae: VariationalAutoencoder = VariationalAutoencoder()
    """Between rows and latents; trained first, then frozen."""
    diffusion: LatentDiffusion = LatentDiffusion()
    """On the latents."""
    sampling: Literal["full", "multi-resolution"] = "full"
    """``full``, F-SDRM: all T reverse steps for every user; ``multi-resolution``, M-SDRM: each user gets a
    number of steps of his own, evenly drawn from 1 … T − 1."""
    discretization: Discretization = Discretization()
    """How scores become items."""
    privacy: Privacy | None = None
    """Train autoencoder and diffusion with differential privacy, and account for both."""
    precision: Precision = "float32"
    """What matrix products of training, and of the reverse steps, are computed in."""

    def __post_init__(self) -> None:
        check_private(self)

    @property
    def chain(self) -> LatentDiffusion:
        """The diffusion on latents."""
        return self.diffusion

    @property
    def resolution(self) -> str:
        """As `sampling` says."""
        return self.sampling

    def plain(self) -> MultiVAE:
        """The spec of the autoencoder alone."""
        return MultiVAE(
            vae=self.vae,
            discretization=self.discretization,
            privacy=self.privacy,
            precision=self.precision,
        )

    def resampled(self, sampling: Literal["full", "multi-resolution"]) -> SDRM:
        """With another number of reverse steps."""
        return replace(self, sampling=sampling)

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise: the authors' space (Lilienthal et al. 2024, section 5).

        Chains that guess the noise or the velocity have one of their own, since they learn a hundred times faster than by
        the authors' objective. The authors' numbers of steps come in fives; here they are free.
        """
        if self.diffusion.objective == "sdrm":
            diminishers = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.01)
            chain = (
                whole("diffusion.epochs", 5, 501, 5),
                rate("diffusion.optimizer.learning_rate", 1e-6, 1e-4),
                whole("diffusion.hidden_layers", 0, 5),
                whole("diffusion.steps", 3, 200),
                *choices(diffusion__noise_variance_diminisher=diminishers),
                whole("diffusion.batch_size", 30, 1000, 10),
            )
        else:
            chain = (
                whole("diffusion.epochs", 20, 500, 20),
                rate("diffusion.optimizer.learning_rate", 1e-4, 1e-2),
                whole("diffusion.hidden_layers", 0, 5),
                whole("diffusion.steps", 10, 200),
                rate("diffusion.highest", 0.02, 0.3),
                whole("diffusion.batch_size", 30, 1000, 10),
            )
        return (*chain, *super().space())
