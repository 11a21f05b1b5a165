"""SDRM and the autoencoder it stands on, MultiVAE++ (Lilienthal et al., IEEE Access 2024, arXiv 2311.03488)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from unblur.data.interactions import Interactions
from unblur.errors import SpecError
from unblur.fitted import StoppingData
from unblur.privacy.accountant import Privacy, Stage
from unblur.progress import Run
from unblur.randomness import RNG
from unblur.registry import resolve
from unblur.spec import Dimension, choices, rate, spec, whole
from unblur.synthesis.settings import Discretization, LatentDiffusion, VariationalAutoencoder
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
