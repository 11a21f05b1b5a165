"""SDRM: synthetic users from latent diffusion (Lilienthal et al., IEEE Access 2024, arXiv 2311.03488)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from unblur.errors import SpecError
from unblur.interactions import Interactions
from unblur.progress import Progress, silent
from unblur.randomness import RNG
from unblur.recommender import Tensors
from unblur.spec import spec
from unblur.synthesis.multi_vae import check_private
from unblur.synthesis.settings import (
    Discretization,
    LatentDiffusion,
    Precision,
    Privacy,
    VariationalAutoencoder,
)
from unblur.vocabulary import Vocabulary

if TYPE_CHECKING:
    from unblur.splitting import Split
    from unblur.synthesis.latent_synthesizer import LatentSynthesizer


@spec
class SDRM:
    """Score-based diffusion on the latents of a variational autoencoder, decoded to rows of items.

    Defaults are ours, chosen for samples that are like the data: codes are standardised, the network guesses the velocity,
    and users have as many items as real ones. The paper's settings are those of the recipes `sdrm/…`.
    Departures of the authors' code from their paper are settings, off by default:
    `diffusion.noise_without_root`, `diffusion.tied_hidden_layers` and `diffusion.sampling_dropout`. All three
    are on under the paper's protocol.
    """

    kind: ClassVar[str] = "sdrm"
    stochastic: ClassVar[bool] = True
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
        check_private(self.privacy, self.vae)
        if self.privacy is not None and self.diffusion.standardized:
            raise SpecError(
                "With `privacy` nothing of the codes may be released but what is accounted for, and their means and "
                "deviations are not; saw `diffusion.standardized` too. Set it to false."
            )
        if self.privacy is not None and self.diffusion.objective == "sdrm":
            raise SpecError(
                'With `privacy` each user must have a loss of his or her own; that of `objective` "sdrm" is '
                'divided by the variance of a batch. Set `diffusion.objective` to "velocity" or "noise".'
            )

    def fit(
        self,
        train: Interactions,
        *,
        rng: RNG | None = None,
        device: str = "cpu",
        progress: Progress = silent,
        validation: Interactions | Split | None = None,
        checkpoints: str | Path | None = None,
    ) -> LatentSynthesizer:
        """Train the autoencoder, encode everybody once, and train the diffusion on the codes.

        - `validation`: users to stop the autoencoder by, where a protocol gives some: their interactions, or a
          `Split` whose `histories` and `held_out` are used as they are. Without it `vae.stopping` sets some
          users of `train` aside, whom neither stage is trained on.
        - `checkpoints`: a folder to keep the state of both trainings in. Called again with the same spec, data
          and seed, an interrupted run goes on from there and ends in the same bytes. Private training keeps
          none.

        Raises `DataError` for data that cannot be learned from: fewer users than a batch, a density of 0 or 1;
        `DivergedTraining` when a loss is not finite; `CapabilityError` when `privacy` lacks its extra.
        """
        from unblur.synthesis.fitting import fit_latent

        return fit_latent(
            self,
            self.diffusion,
            train,
            rng=rng,
            device=device,
            progress=progress,
            validation=validation,
            checkpoints=checkpoints,
        )

    def restore(self, items: Vocabulary, tensors: Tensors, device: str) -> LatentSynthesizer:
        """The fitted synthesizer from its saved parts."""
        from unblur.synthesis.latent_synthesizer import restored

        return restored(self, items, tensors, device)
