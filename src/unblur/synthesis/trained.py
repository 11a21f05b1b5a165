"""Specs of synthesizers with an autoencoder of rows: how they are fitted, and what privacy asks of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from unblur.data.interactions import Interactions
from unblur.errors import SpecError
from unblur.fitted import StoppingData
from unblur.privacy.accountant import Privacy, Stage
from unblur.randomness import RNG
from unblur.registry import resolve
from unblur.run import Run
from unblur.space import Dimension, rate, whole
from unblur.synthesis.settings import LatentDiffusion, VariationalAutoencoder
from unblur.synthesis.synthesizer import SynthesizerSpec
from unblur.training.settings import Plan, Precision, Stopping

if TYPE_CHECKING:
    from unblur.synthesis.latent_synthesizer import LatentSynthesizer


class TrainedOnRows(SynthesizerSpec["LatentSynthesizer"]):
    """A spec with an autoencoder of rows, `vae`, and perhaps a `diffusion`."""

    vae: VariationalAutoencoder
    precision: Precision
    privacy: Privacy | None

    @property
    def chain(self) -> LatentDiffusion | None:
        """The diffusion on latents, if there is one."""
        return None

    @property
    def resolution(self) -> str:
        """How many reverse steps a user gets; see `SDRM.sampling`."""
        return "full"

    def plans(self) -> Mapping[str, Plan]:
        """The training of the autoencoder, and of the diffusion, if there is one."""
        vae, chain = self.vae, self.chain
        stopping = None
        if vae.stopping is not None:
            # The loop counts the epoch that was best as well.
            patience = vae.stopping.patience + 1
            stopping = Stopping(metric=vae.stopping.metric, every=vae.stopping.every, patience=patience)
        plans = {"autoencoder": Plan(vae.epochs, vae.batch_size, self.precision, stopping)}
        if chain is not None:
            plans["diffusion"] = Plan(chain.epochs, chain.batch_size, self.precision, decay=chain.decay)
        return plans

    def stages(self, n_users: int) -> tuple[Stage, ...]:
        """The trainings as the accountant of privacy sees them."""
        return tuple(
            Stage(f"the {name}", n_users, plan.batch_size, plan.epochs) for name, plan in self.plans().items()
        )

    def space(self) -> tuple[Dimension, ...]:
        """The part of the SDRM authors' search that is of the autoencoder (Lilienthal et al. 2024, section 5).

        Their hidden layer is never narrower than the latent; here it is free.
        """
        return (
            whole("vae.latent", 20, 1000, 10),
            whole("vae.hidden", 20, 1000, 10),
            rate("vae.optimizer.learning_rate", 1e-4, 1e-2),
            whole("vae.batch_size", 30, 1000, 10),
        )

    @property
    def private(self) -> bool:
        """Whether there is a budget of privacy."""
        return self.privacy is not None

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> LatentSynthesizer:
        """Train the autoencoder; then, where there is a diffusion, encode everybody once, and train it on the codes.

        - `validation`: users to stop the autoencoder by: their interactions, or a `Split` whose `histories` and
          `held_out` are used as they are. Without it `vae.stopping` sets some users of `train` aside, whom neither stage
          is trained on.
        - Private training keeps no checkpoints.

        Raises `DataError` for data that cannot be learned from: fewer users than a batch, a density of 0 or 1;
        `DivergedTraining` when a loss is not finite; `CapabilityError` when `privacy` lacks its extra.
        """
        fitted: LatentSynthesizer = resolve("unblur.synthesis.fitting:fit_latent")(
            self, train, rng, run, validation
        )
        return fitted


def check_private(spec: TrainedOnRows) -> None:
    """Raise `SpecError` where a private training would look at users outside the accounted batches."""
    if spec.privacy is None:
        return
    if spec.vae.stopping is not None:
        raise SpecError(
            "With `privacy` the autoencoder trains a fixed number of epochs, because whom it stops by is not "
            "accounted for; saw `vae.stopping` too. Set `vae.stopping` to nothing and choose `vae.epochs`."
        )
    if spec.vae.prior != "standard":
        raise SpecError(
            "With `privacy` latents come from N(0, I), because mean and covariance of the codes are not accounted for; "
            f'saw `vae.prior` = "{spec.vae.prior}". Set it to "standard".'
        )
    if spec.chain is not None and spec.chain.standardized:
        raise SpecError(
            "With `privacy` nothing of the codes may be released but what is accounted for, and their means and "
            "deviations are not; saw `diffusion.standardized` too. Set it to false."
        )
    if spec.chain is not None and spec.chain.objective == "sdrm":
        raise SpecError(
            'With `privacy` each user must have a loss of his or her own; that of `objective` "sdrm" is '
            'divided by the variance of a batch. Set `diffusion.objective` to "velocity" or "noise".'
        )
