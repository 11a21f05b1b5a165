"""From a spec and interactions to a fitted latent synthesizer: two trainings, the second on frozen codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from unblur.data.interactions import Interactions, check_train
from unblur.errors import DataError
from unblur.fitted import StoppingData
from unblur.privacy.accountant import planned
from unblur.privacy.clipping import Uses
from unblur.privacy.noise import NoisySums, noisy_counts
from unblur.progress import of_part
from unblur.randomness import RNG, streams, torch_generator
from unblur.run import Run
from unblur.synthesis.autoencoder_training import AutoencoderJudge, AutoencoderLearner, codes, stopping_split
from unblur.synthesis.latent_noise import LatentDenoiser, LatentLoss
from unblur.synthesis.latent_synthesizer import LatentSynthesizer
from unblur.synthesis.settings import LatentDiffusion
from unblur.synthesis.synthesizer import RealCounts
from unblur.training.learner import Learner, Moment, Weights
from unblur.training.loop import Training, check_device
from unblur.training.networks import frozen
from unblur.training.private import train_privately
from unblur.training.run import checkpoints_of, identity_of, seed_of

if TYPE_CHECKING:
    from unblur.synthesis.multi_vae import MultiVAE
    from unblur.synthesis.sdrm import SDRM

N = TypeVar("N", bound=nn.Module)
N_co = TypeVar("N_co", bound=nn.Module, covariant=True)
CHECKPOINT_EPOCHS = 25
"""Epochs between checkpoints; an epoch of either training may take less time than one does."""


class EachLearner(Learner[N_co], Protocol[N_co]):
    """What can also be trained privately."""

    def each(
        self, rows: Tensor, moment: Moment, generator: torch.Generator, uses: Uses | None = None
    ) -> Tensor:
        """The loss of each of some users, (n,)."""
        ...


def fit_latent(
    spec: MultiVAE | SDRM, train: Interactions, rng: RNG | None, run: Run, validation: StoppingData | None
) -> LatentSynthesizer:
    """Fit an autoencoder and, where there are settings for one, a diffusion on its codes; see `TrainedOnRows.learn`."""
    on = check_device(run.device, spec.precision)
    check_train(train)
    stopping, seed = spec.vae.stopping, seed_of(rng, run.inside("autoencoder"))
    split = None if stopping is None else stopping_split(train, stopping, validation, seed)
    part = train if split is None else split.train
    check_batches(part, spec)
    secret = streams(seed if spec.privacy is None else rng, "privacy")["privacy"]
    accounting = None if spec.privacy is None else planned(spec.privacy, spec.stages(part.n_users))
    identity = identity_of(spec, train, validation, seed)

    def trained(
        name: str, learner: EachLearner[N], seed: int, judge: Callable[[N], float] | None = None
    ) -> N:
        """The network after the training of that name."""
        plan = spec.plans()[name]
        if accounting is not None:
            (stage,) = (stage for stage in accounting.stages if stage.name == f"the {name}")
            ((_, optimizer),) = learner.groups
            train_privately(
                learner.module,
                learner.each,
                stage,
                optimizer,
                sums=NoisySums(accounting.noise, accounting.privacy.clip_norm, secret),
                decay=plan.decay == "linear",
                seed=seed,
                progress=run.progress,
            )
            return learner.fitted(learner.module.state_dict())
        inside = run.inside(name).watched(of_part(run.progress, f"the {name}"))
        checkpoints = checkpoints_of(spec, identity, inside, every=CHECKPOINT_EPOCHS)
        return Training(learner, plan, seed=seed, run=inside, judge=judge, checkpoints=checkpoints).finished()

    learner = AutoencoderLearner(spec.vae, part, seed, on)
    judge = None if split is None or stopping is None else AutoencoderJudge(split, stopping, on)
    vae = trained("autoencoder", learner, seed, judge)
    denoiser: Weights = {}
    if spec.chain is not None or spec.vae.prior == "codes":
        clean = codes(vae, learner.rows)
        if accounting is None:  # private batches are drawn from all users, those without items among them
            clean = clean[learner.filled]
        vae.fit_prior(clean)
        if spec.chain is not None:
            own = int(streams(seed, "diffusion")["diffusion"].integers(0, 2**62))
            denoiser = trained("diffusion", CodesLearner(spec.chain, clean, own), own).state_dict()
    users_with, taken = RealCounts.of(part).users_with, part.item_degrees > 0
    privacy = None
    if accounting is not None:
        deviation = accounting.counts_deviation
        users_with = noisy_counts(
            users_with, part.n_items, n_users=part.n_users, deviation=deviation, random=secret
        )
        taken = np.ones(part.n_items, dtype=bool)
        privacy = np.array([accounting.noise, deviation, part.n_users], dtype=np.float64)
    return LatentSynthesizer(
        spec,
        train.items,
        train.n_users,
        device=run.device,
        vae_weights=vae.state_dict(),
        denoiser_weights=denoiser,
        users_with=users_with,
        taken=taken,
        privacy=privacy,
    )


class CodesLearner:
    """Trains the denoiser on the codes of users."""

    def __init__(self, settings: LatentDiffusion, clean: Tensor, seed: int) -> None:
        self.settings = settings
        chance = torch_generator(streams(seed, "denoiser weights")["denoiser weights"])
        self.network = LatentDenoiser(clean.shape[1], settings, chance).to(clean.device)
        self.network.fit_scale(clean)
        self.clean = self.network.standardized(clean)
        self.module: nn.Module = self.network
        self.groups, self.n_rows = [(self.module, settings.optimizer)], len(clean)
        self._loss = LatentLoss(settings, clean.device)

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some users' codes."""
        return self._loss(self.network, self.clean[rows], generator)

    def each(
        self, rows: Tensor, moment: Moment, generator: torch.Generator, uses: Uses | None = None
    ) -> Tensor:
        """The loss of each of some users, (n,), which none of the others touches."""
        return self._loss.each(self.network, self.clean[rows], generator, uses)

    def fitted(self, weights: Weights) -> LatentDenoiser:
        """The network with these weights, not to be trained further."""
        return frozen(lambda: LatentDenoiser(self.clean.shape[1], self.settings), weights)


def check_batches(train: Interactions, spec: MultiVAE | SDRM) -> None:
    """Raise `DataError` where a batch asks for more users than there are."""
    filled = int((train.user_degrees > 0).sum())
    sizes = {"vae.batch_size": spec.vae.batch_size}
    if spec.chain is not None:
        sizes["diffusion.batch_size"] = spec.chain.batch_size
    large = {name: size for name, size in sizes.items() if size > filled}
    if large:
        raise DataError(
            "There must be at least as many users with interactions as a batch takes; "
            f"{' and '.join(f'`{name}` is {size:,}' for name, size in large.items())}, and {filled:,} users are there to "
            f"train on. Lower {' and '.join(f'`{name}`' for name in large)}."
        )
