"""SDRM and MultiVAE++, the autoencoder it is built on (Lilienthal et al., IEEE Access 2024, arXiv 2311.03488)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.data.interactions import Interactions, check_train
from unblur.errors import DataError, SpecError
from unblur.fitted import COUNTS, StoppingData, is_finite, learned, weights
from unblur.parallel.devices import check_device
from unblur.privacy.accountant import Accounting, NoisySums, Privacy, Stage, noisy_counts, planned
from unblur.progress import Run, of_part
from unblur.randomness import RNG, streams, torch_generator
from unblur.ranking import NOT_FINITE
from unblur.spec import Dimension, choices, rate, replace_field, spec, spec_to_dict, whole
from unblur.synthesis.autoencoder import (
    AutoencoderJudge,
    AutoencoderLearner,
    MultiVAENetwork,
    VariationalAutoencoder,
    codes,
    stopping_split,
)
from unblur.synthesis.discretization import Discretization, Scores, discretized
from unblur.synthesis.latent_diffusion import (
    CodesLearner,
    LatentDenoiser,
    LatentDiffusion,
    LatentSampler,
    step_counts,
)
from unblur.synthesis.synthesizer import (
    Blocks,
    CountedSynthesizer,
    RealCounts,
    Rows,
    SynthesizerSpec,
    UserBlock,
)
from unblur.training.loop import Learner, Training
from unblur.training.networks import Weights, frozen
from unblur.training.private import UserLosses, train_privately
from unblur.training.run import checkpoints_of, identity_of, seed_of
from unblur.training.settings import Plan, Precision, Stopping

N = TypeVar("N", bound=nn.Module)
CHECKPOINT_EPOCHS = 25
"""Epochs between checkpoints (chosen by hand), because an epoch may take less time than writing one."""


class TrainedOnRows(SynthesizerSpec["LatentSynthesizer"]):
    """A spec with an autoencoder of rows, `vae`, and optionally a `diffusion` on its latents."""

    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.synthesis.sdrm:LatentSynthesizer"
    vae: VariationalAutoencoder
    discretization: Discretization
    precision: Precision
    privacy: Privacy | None

    def __post_init__(self) -> None:
        """Raises `SpecError` if private training would read users outside the accounted batches."""
        if self.privacy is None:
            return
        SpecError.unless(
            self.vae.stopping is None,
            "With `privacy` the autoencoder trains a fixed number of epochs, because early stopping reads users that are "
            "not accounted for; saw `vae.stopping` too. Set `vae.stopping` to nothing and choose `vae.epochs`.",
        )
        SpecError.unless(
            self.vae.prior == "standard",
            "With `privacy` latents come from N(0, I), because mean and covariance of the codes are not accounted for; "
            f'saw `vae.prior` = "{self.vae.prior}". Set it to "standard".',
        )
        SpecError.unless(
            self.chain is None or not self.chain.standardized,
            "With `privacy` means and deviations of the codes must not be released, because they are not accounted for; "
            "saw `diffusion.standardized` too. Set it to false.",
        )
        SpecError.unless(
            self.chain is None or self.chain.objective != "sdrm",
            'With `privacy` the loss of a user must not depend on other users; that of `objective` "sdrm" is divided by '
            'the variance of the batch. Set `diffusion.objective` to "velocity" or "noise".',
        )

    @property
    def chain(self) -> LatentDiffusion | None:
        """The diffusion on latents, if there is one."""
        return None

    @property
    def private(self) -> bool:
        """Return whether training is differentially private."""
        return self.privacy is not None

    def plans(self) -> Mapping[str, Plan]:
        """The training of the autoencoder, and that of the diffusion, if there is one."""
        vae, chain, users = self.vae, self.chain, self.vae.stopping
        # The authors count epochs without a better value; the loop counts the best epoch as well.
        stopping = (
            None
            if users is None
            else Stopping(metric=users.metric, every=users.every, patience=users.patience + 1)
        )
        plans = {"autoencoder": Plan(vae.epochs, vae.batch_size, self.precision, stopping)}
        if chain is not None:
            plans["diffusion"] = Plan(chain.epochs, chain.batch_size, self.precision, decay=chain.decay)
        return plans

    @property
    def batch_sizes(self) -> Mapping[str, int]:
        """Users per batch of each training, by the path of the field."""
        names = {"autoencoder": "vae.batch_size", "diffusion": "diffusion.batch_size"}
        return {names[name]: plan.batch_size for name, plan in self.plans().items()}

    @property
    def stops_by_users(self) -> bool:
        """True if the autoencoder stops early."""
        return self.stops

    def within(self, train: Interactions, *, all_teach: bool = False) -> tuple[Self, tuple[str, ...]]:
        """Return the spec with batches cut to the number of training users, and a note on each cut."""
        most = train.n_users if self.private else int((train.user_degrees > 0).sum())
        if self.vae.stopping is not None and not all_teach:
            most = max(1, int((1 - self.vae.stopping.users) * most))
        large = {path: size for path, size in self.batch_sizes.items() if size > most}
        model = self
        for path in large:
            model = replace_field(model, path, most)
        notes = (
            f"model.{path} is {most:,}, not {size:,}: there are no more training users"
            for path, size in large.items()
        )
        return model, tuple(notes)

    def stages(self, n_users: int) -> tuple[Stage, ...]:
        """The trainings as stages of the privacy accountant."""
        return tuple(
            Stage(f"the {name}", n_users, plan.batch_size, plan.epochs) for name, plan in self.plans().items()
        )

    def space(self) -> tuple[Dimension, ...]:
        """The autoencoder's part of the SDRM authors' search space (Lilienthal et al. 2024, section 5).

        Their hidden layer is never narrower than the latent; here its width is free.
        """
        return (
            whole("vae.latent", 20, 1000, 10),
            whole("vae.hidden", 20, 1000, 10),
            rate("vae.optimizer.learning_rate", 1e-4, 1e-2),
            whole("vae.batch_size", 30, 1000, 10),
        )

    def plain(self) -> VAESampler:
        """The spec of the autoencoder alone."""
        return VAESampler(
            vae=self.vae,
            discretization=self.discretization,
            privacy=self.privacy,
            precision=self.precision,
        )

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> LatentSynthesizer:
        """Train the autoencoder; then, if there is a diffusion, encode all users once and train it on the frozen codes.

        - `validation`: users for early stopping of the autoencoder: their interactions, or a `Split` whose `histories`
          and `held_out` are used as they are. Without it `vae.stopping` sets some users of `train` aside, who are in
          neither training.
        - Private training keeps no checkpoints.

        Raises `DataError` for data that cannot be learned from (fewer users than a batch, a density of 0 or 1),
        `DivergedTraining` if a loss is not finite, and `CapabilityError` if the extra for `privacy` is not installed.
        """
        device = torch.device(check_device(run.device, self.precision))
        check_train(train)
        stopping, seed = self.vae.stopping, seed_of(rng, run.inside("autoencoder"))
        split = None if stopping is None else stopping_split(train, stopping, validation, seed)
        part = train if split is None else split.train
        self._check_users(part)
        # Privacy noise is drawn from the caller's generator: what follows from a published seed would be no secret.
        secret = streams(seed if self.privacy is None else rng, "privacy")["privacy"]
        accounting = None if self.privacy is None else planned(self.privacy, self.stages(part.n_users))
        trainer = _Trainer(self, run, accounting, secret, identity_of(self, train, validation, seed))
        learner = AutoencoderLearner(self.vae, part, seed, device)
        judge = None if split is None or stopping is None else AutoencoderJudge(split, stopping, device)
        vae = trainer.trained("autoencoder", learner, learner.losses, seed, judge)
        denoiser: Weights = {}
        if self.chain is not None or self.vae.prior == "codes":
            clean = codes(vae, learner.rows)
            if accounting is None:  # private batches are drawn from all users, including those without items
                clean = clean[learner.filled]
            vae.fit_prior(clean)
            if self.chain is not None:
                chain_seed = int(streams(seed, "diffusion")["diffusion"].integers(0, 2**62))
                denoising = CodesLearner(self.chain, clean, chain_seed)
                denoiser = trainer.trained("diffusion", denoising, denoising.losses, chain_seed).state_dict()
        users_with, taken = RealCounts.of(part).users_with, part.item_degrees > 0
        privacy, seeded = None, None
        if accounting is not None:
            deviation = accounting.counts_deviation
            users_with = noisy_counts(
                users_with, part.n_items, n_users=part.n_users, deviation=deviation, random=secret
            )
            # Which items nobody had is not accounted for, so a private synthesizer may sample all.
            taken = np.ones(part.n_items, dtype=bool)
            privacy = np.array([accounting.noise, deviation, part.n_users], dtype=np.float64)
            seeded = np.array([rng is not None])
        return LatentSynthesizer(
            self,
            train.items,
            train.n_users,
            device=run.device,
            vae_weights=vae.state_dict(),
            denoiser_weights=denoiser,
            users_with=users_with,
            taken=taken,
            privacy=privacy,
            seeded=seeded,
        )

    def _check_users(self, part: Interactions) -> None:
        """Raise `DataError` unless there are enough users to train on for the batches and for the privacy budget."""
        # The number of users is public in private training, that of users with interactions is not.
        filled = part.n_users if self.private else int((part.user_degrees > 0).sum())
        if self.privacy is not None:
            # With a larger one, publishing a random user's data would do.
            DataError.unless(
                self.privacy.delta * part.n_users < 1,
                f"`privacy.delta` must be below one over the number of users, {part.n_users:,}; saw {self.privacy.delta:g}. "
                "Lower it, to a tenth of that or less.",
            )
        large = {name: size for name, size in self.batch_sizes.items() if size > filled}
        DataError.unless(
            not large,
            "A batch must not be larger than the number of users with interactions; "
            f"{' and '.join(f'`{name}` is {size:,}' for name, size in large.items())}, and there are {filled:,} users to "
            f"train on. Lower {' and '.join(f'`{name}`' for name in large)}.",
        )


@dataclass(frozen=True, eq=False)
class _Trainer:
    """Trains the networks of a synthesizer, one after the other; privately where privacy is accounted for."""

    spec: TrainedOnRows
    run: Run
    accounting: Accounting | None
    secret: np.random.Generator
    """Draws the noise of private training."""
    identity: Mapping[str, Any]
    """What a checkpoint belongs to."""

    def trained(
        self,
        name: str,
        learner: Learner[N],
        losses: UserLosses,
        seed: int,
        judge: Callable[[N], float] | None = None,
    ) -> N:
        """The network after the training `name` of the spec's `plans`."""
        plan, run, accounting = self.spec.plans()[name], self.run, self.accounting
        if accounting is not None:
            (stage,) = (stage for stage in accounting.stages if stage.name == f"the {name}")
            ((_, optimizer),) = learner.groups
            train_privately(
                learner.module,
                losses,
                stage,
                optimizer,
                sums=NoisySums(accounting.noise, accounting.privacy.clip_norm, self.secret),
                decay=plan.decay == "linear",
                seed=seed,
                progress=run.progress,
            )
            return learner.fitted(learner.module.state_dict())
        inside = run.inside(name).watched(of_part(run.progress, f"the {name}"))
        checkpoints = checkpoints_of(self.spec, self.identity, inside, every=CHECKPOINT_EPOCHS)
        return Training(learner, plan, seed=seed, run=inside, judge=judge, checkpoints=checkpoints).finished()


@spec
class VAESampler(TrainedOnRows):
    """A variational autoencoder of rows (Liang et al., WWW 2018, arXiv 1802.05814), sampled from the prior `vae.prior`.

    A synthetic user is decoded from a latent drawn from that prior.
    """

    kind: ClassVar[str] = "vae-sampler"
    arms: ClassVar[tuple[str, ...]] = ("plain-vae",)
    vae: VariationalAutoencoder = VariationalAutoencoder()
    """The autoencoder, and how it is trained."""
    discretization: Discretization = Discretization()
    """The rule that turns scores into items."""
    privacy: Privacy | None = None
    """Train with differential privacy, and account for it."""
    precision: Precision = "float32"
    """The type of matrix products in training; weights and losses are float32 in any case."""


@spec
class SDRM(TrainedOnRows):
    """Score-based diffusion on the latents of a variational autoencoder, decoded to rows of items.

    Defaults are ours, chosen for samples that are like the data: codes are standardised, the network predicts the
    velocity, and users have as many items as real ones, drawn by the decoder's probabilities. The paper's settings are
    in the recipes.

    Departures of the authors' code from their paper are settings, off by default:
    `diffusion.noise_without_root`, `diffusion.tied_hidden_layers` and `diffusion.sampling_dropout`. All three
    are on under the paper's protocol.
    """

    kind: ClassVar[str] = "sdrm"
    arms: ClassVar[tuple[str, ...]] = ("full", "multi-resolution", "plain-vae")
    vae: VariationalAutoencoder = VariationalAutoencoder()
    """The autoencoder between rows and latents; trained first, then frozen."""
    diffusion: LatentDiffusion = LatentDiffusion()
    """The diffusion on the latents."""
    sampling: Literal["full", "multi-resolution"] = "full"
    """``full``, F-SDRM: all T reverse steps for every user; ``multi-resolution``, M-SDRM: a number of steps per user,
    drawn uniformly from 1 … T − 1."""
    discretization: Discretization = Discretization()
    """The rule that turns scores into items."""
    privacy: Privacy | None = None
    """Train autoencoder and diffusion with differential privacy, and account for both."""
    precision: Precision = "float32"
    """The type of matrix products in training and in the reverse steps."""

    @property
    def chain(self) -> LatentDiffusion:
        """The diffusion on latents."""
        return self.diffusion

    @property
    def arm(self) -> str:
        """The arm that `sampling` names."""
        return self.sampling

    def without_departures(self) -> SDRM:
        """The spec without the departures of the authors' code."""
        diffusion = replace(
            self.diffusion, noise_without_root=False, tied_hidden_layers=False, sampling_dropout=False
        )
        return replace(self, diffusion=diffusion)

    def space(self) -> tuple[Dimension, ...]:
        """The default search space: the authors' (Lilienthal et al. 2024, section 5).

        Chains that predict the noise or the velocity have a space of their own, since they learn a hundred times faster
        than by the authors' objective. The authors' numbers of steps are multiples of five; here they are free.
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
                rate("diffusion.beta_max", 0.02, 0.3),
                whole("diffusion.batch_size", 30, 1000, 10),
            )
        return (*chain, *super().space())


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LatentSynthesizer(CountedSynthesizer["TrainedOnRows"]):
    """Samples latents, through the reverse chain or (without a denoiser) from the prior, and decodes them.

    It holds weights and the distribution of the number of items per user, but no user. Items that no training user had
    are never sampled.
    """

    built: ClassVar[tuple[str, ...]] = ("vae", "denoiser")
    vae_weights: Weights = weights("vae.")
    denoiser_weights: Weights = weights("denoiser.")
    """Empty without diffusion."""
    taken: NDArray[np.bool_] = learned("items", dtype="bool", values=COUNTS)
    """Items that some training user had; all of them under a privacy budget."""
    privacy: NDArray[np.float64] | None = learned(3, dtype="float64", default=None)
    """Noise multiplier, deviation of the counts, number of users, if privacy is accounted for."""
    seeded: NDArray[np.bool_] | None = learned(1, dtype="bool", default=None)
    """Whether the noise follows from a seed, if privacy is accounted for; `None` in files of earlier versions."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for arrays of the wrong shape, or privacy without its budget."""
        super().__post_init__()
        if (self.spec.privacy is None) != (self.privacy is None):
            raise ValueError("an accounting of privacy without a budget, or a budget without an accounting")
        if self.privacy is not None:
            least = (
                0,
                0,
                max(self.spec.batch_sizes.values()) - 1,
            )  # no batch is larger than the number of users
            if not ((self.privacy > least) & (self.privacy < np.iinfo(np.int32).max)).all():
                raise ValueError(f"an accounting of privacy with {self.privacy.tolist()}")

    @cached_property
    def vae(self) -> MultiVAENetwork:
        """The autoencoder."""
        return frozen(lambda: MultiVAENetwork(len(self.items), self.spec.vae), self.vae_weights)

    @cached_property
    def denoiser(self) -> LatentDenoiser | None:
        """The network of the chain, if there is one."""
        chain = self.spec.chain
        return (
            None
            if chain is None
            else frozen(lambda: LatentDenoiser(self.spec.vae.latent, chain), self.denoiser_weights)
        )

    @cached_property
    def accounting(self) -> Accounting | None:
        """The account of the privacy budget, if there was one."""
        if self.privacy is None or self.spec.privacy is None:
            return None
        noise, deviation, n_users = (float(value) for value in self.privacy)
        return Accounting(self.spec.privacy, self.spec.stages(int(n_users)), noise, deviation)

    @property
    def broken_conditions(self) -> tuple[str, ...]:
        """The conditions of the guarantee that are known not to hold, in words."""
        privacy = self.spec.privacy
        broken = {
            "the item labels are those of the data, where one may be that of a single user (a public list mends it: `unblur "
            "synthesize --items FILE`)": privacy is not None and not privacy.public_items,
            "the noise follows from a seed, and whoever knows the seed can take it away": self.seeded
            is not None
            and bool(self.seeded[0]),
        }
        return tuple(condition for condition, holds in broken.items() if holds)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on privacy, and on items that are never sampled."""
        private = (
            ("No differential privacy: run an audit to measure how much a sample reveals.",)
            if self.accounting is None
            else self.accounting.notes(self.broken_conditions)
        )
        if self.taken.all():
            return private
        missing = f"{int((~self.taken).sum()):,} of {len(self.items):,} items"
        return (*private, f"{missing} occur in no training row and are never sampled")

    @property
    def plain(self) -> Self:
        """The autoencoder of this synthesizer alone, sampled from its prior: the baseline of diffusion."""
        return replace(self, spec=self.spec.plain(), denoiser_weights={})

    def arm(self, name: str, discretization: Discretization | None = None) -> LatentSynthesizer:
        """See `Synthesizer.arm`: ``full`` and ``multi-resolution`` use the chain, ``plain-vae`` the prior."""
        if name == "plain-vae":
            return self.plain.with_settings(discretization=discretization)
        return self.with_settings(sampling=name, discretization=discretization)

    def with_settings(
        self, *, sampling: str | None = None, discretization: Discretization | None = None
    ) -> Self:
        """A copy with other sampling settings (see `SDRM.sampling`); nothing is trained again.

        Raises `SpecError` for `sampling` without a reverse chain.
        """
        SpecError.unless(
            sampling is None or self.spec.chain is not None,
            f"`sampling` sets the reverse chain, and this synthesizer has none; saw {sampling!r}. Leave it out.",
        )
        spec = self.spec if sampling is None else replace_field(self.spec, "sampling", sampling)
        if discretization is not None:
            spec = replace_field(spec, "discretization", spec_to_dict(discretization))
        return replace(self, spec=spec)

    def sample_scores(self, n_users: int | None = None, *, rng: RNG | None = None) -> Iterator[Scores]:
        """Yield the decoder's logits, (block, n_items) float32, of the users that `sample` draws for the same `rng`;
        −∞ for items that are never sampled."""
        return (scores for _, scores in self._scored(self._blocks(n_users, rng)))

    def latents(self, block: UserBlock) -> Tensor:
        """The latents of a block of users, (size, latent)."""
        generator = torch_generator(block.random, self.device)
        if self._sampler is None or self.denoiser is None:
            return self.vae.prior(block.size, generator)
        counts = step_counts(self.spec.arm, block.size, self._sampler.settings.steps, block.random)
        return self.denoiser.restored(self._sampler.sample(counts, generator))

    def _rows(self, blocks: Blocks) -> Rows:
        return discretized(self._scored(blocks), self.spec.discretization, self.counts, blocks.n_users)

    def _scored(self, blocks: Blocks) -> Iterator[tuple[UserBlock, Scores]]:
        for block in blocks:
            with torch.no_grad():
                logits = self.vae.decode(self.latents(block)).cpu().numpy()
            DataError.unless(is_finite(logits), NOT_FINITE)
            logits[:, ~self.taken] = -np.inf
            yield block, logits

    @cached_property
    def _sampler(self) -> LatentSampler | None:
        return None if self.denoiser is None else LatentSampler(self.denoiser, self.spec.precision)
