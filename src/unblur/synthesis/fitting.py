"""From a spec and interactions to a fitted latent synthesizer: two trainings, the second on frozen codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unblur.data.interactions import Interactions, check_train
from unblur.data.splits.sets import Split
from unblur.errors import DataError
from unblur.fitted import StoppingData
from unblur.privacy.accountant import Accounting, Privacy, Stage, planned
from unblur.privacy.noise import NoisySums, noisy_counts
from unblur.progress import Progress, of_part
from unblur.randomness import RNG, streams, torch_generator
from unblur.run import Run
from unblur.spec import spec_to_dict
from unblur.synthesis.autoencoder_training import AutoencoderJudge, AutoencoderLearner, codes, stopping_split
from unblur.synthesis.latent_noise import LatentDenoiser, LatentLoss
from unblur.synthesis.latent_synthesizer import LatentSynthesizer
from unblur.synthesis.multi_vae import MultiVAE
from unblur.synthesis.multi_vae_network import MultiVAENetwork
from unblur.synthesis.sdrm import SDRM
from unblur.synthesis.settings import LatentDiffusion, VariationalAutoencoder
from unblur.synthesis.synthesizer import RealCounts
from unblur.training.checkpoints import CheckpointFolder, recorded_seed
from unblur.training.devices import check_device
from unblur.training.learner import Moment, Weights, load_weights
from unblur.training.loop import Training
from unblur.training.private import train_privately
from unblur.training.settings import Optimizer, Plan, Precision

AUTOENCODER, DIFFUSION = "the autoencoder", "the diffusion"


def fit_latent(
    spec: MultiVAE | SDRM,
    train: Interactions,
    *,
    rng: RNG | None,
    run: Run,
    validation: StoppingData | None,
) -> LatentSynthesizer:
    """Fit an autoencoder and, where there are settings for one, a diffusion on its codes; see `TrainedOnRows.learn`."""
    device, progress, folder = run.device, run.progress, run.checkpoints
    diffusion = spec.diffusion if isinstance(spec, SDRM) else None
    on = check_device(device, spec.precision)
    check_train(train)
    stopping = spec.vae.stopping
    known = recorded_seed(folder / "autoencoder") if rng is None and folder is not None else None
    seed = int(streams(rng, "training")["training"].integers(0, 2**62)) if known is None else known
    identity = {
        "kind": spec.kind,
        "spec": spec_to_dict(spec),
        "train": train.fingerprint(),
        "validation": _fingerprints(validation),
        "seed": seed,
    }
    split = None if stopping is None else stopping_split(train, stopping, validation, seed)
    part = train if split is None else split.train
    check_batches(part, spec.vae, diffusion)
    learner = AutoencoderLearner(spec.vae, part, seed, on)
    accounting: Accounting | None = None
    secret = streams(seed if spec.privacy is None else rng, "privacy")["privacy"]
    if spec.privacy is not None:
        accounting = _private_plan(spec.privacy, spec.vae, diffusion, part.n_users)
        vae = _private_autoencoder(spec.vae, learner, accounting, seed, secret, progress)
    else:
        training = Training(
            learner,
            spec.plans()["autoencoder"],
            seed=seed,
            device=device,
            judge=None if split is None or stopping is None else AutoencoderJudge(split, stopping, on),
            checkpoints=None if folder is None else CheckpointFolder(folder / "autoencoder", identity),
            checkpoint_every=25,
            progress=of_part(progress, AUTOENCODER),
        )
        for _ in training.epochs():
            pass
        vae = training.fitted()
    denoiser = None
    if diffusion is not None or spec.vae.prior == "codes":
        trained = codes(vae, learner.rows)
        trained = trained if accounting is not None else trained[learner.filled]
        vae.fit_prior(trained)
    if diffusion is not None:
        checked = None if folder is None else CheckpointFolder(folder / "diffusion", identity)
        chance = (seed, secret)
        denoiser = _denoiser(
            diffusion, trained, accounting, spec.precision, chance, device, checked, progress
        )
    counts = RealCounts.of(part)
    if accounting is not None:
        noisy = noisy_counts(
            counts.users_with,
            part.n_items,
            n_users=part.n_users,
            deviation=accounting.counts_deviation,
            random=secret,
        )
        counts = RealCounts(noisy, part.n_items)
    taken = part.item_degrees > 0 if accounting is None else np.ones(part.n_items, dtype=bool)
    return LatentSynthesizer(
        spec, train.items, train.n_users, counts, taken, vae, denoiser, accounting, device
    )


class CodesLearner:
    """Trains the denoiser on the codes of users."""

    def __init__(self, settings: LatentDiffusion, clean: Tensor, seed: int) -> None:
        self.settings = settings
        chance = torch_generator(streams(seed, "denoiser weights")["denoiser weights"])
        self.network = LatentDenoiser(clean.shape[1], settings, chance).to(clean.device)
        self.network.fit_scale(clean)
        self.clean = self.network.standardized(clean)
        self._loss = LatentLoss(settings, clean.device)

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.network

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """One optimizer for all."""
        return [(self.network, self.settings.optimizer)]

    @property
    def n_rows(self) -> int:
        """Users with a code."""
        return len(self.clean)

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some users' codes."""
        return self._loss(self.network, self.clean[rows], generator)

    def fitted(self, weights: Weights) -> LatentDenoiser:
        """The network with these weights, not to be trained further."""
        return frozen_denoiser(self.clean.shape[1], self.settings, weights)


def frozen_denoiser(latent: int, settings: LatentDiffusion, weights: Weights) -> LatentDenoiser:
    """A network of these weights, which are not copied."""
    with torch.device("meta"):
        network = LatentDenoiser(latent, settings)
    load_weights(network, weights)
    return network


def _denoiser(
    settings: LatentDiffusion,
    clean: Tensor,
    accounting: Accounting | None,
    precision: Precision,
    chance: tuple[int, np.random.Generator],
    device: str,
    checkpoints: CheckpointFolder | None,
    progress: Progress,
) -> LatentDenoiser:
    seed = int(streams(chance[0], "diffusion")["diffusion"].integers(0, 2**62))
    learner = CodesLearner(settings, clean, seed)
    if accounting is not None:
        loss, network = LatentLoss(settings, clean.device), learner.network
        train_privately(
            network,
            lambda rows, moment, generator, uses: loss.each(network, clean[rows], generator, uses),
            accounting.stages[1],
            settings.optimizer,
            sums=NoisySums(accounting.noise, accounting.privacy.clip_norm, chance[1]),
            decay=settings.decay == "linear",
            seed=seed,
            progress=progress,
        )
        return learner.fitted(network.state_dict())
    run = Training(
        learner,
        Plan(settings.epochs, settings.batch_size, precision, decay=settings.decay),
        seed=seed,
        device=device,
        checkpoints=checkpoints,
        checkpoint_every=25,
        progress=of_part(progress, DIFFUSION),
    )
    for _ in run.epochs():
        pass
    return run.fitted()


def _private_plan(
    privacy: Privacy, vae: VariationalAutoencoder, diffusion: LatentDiffusion | None, n_users: int
) -> Accounting:
    stages = [Stage(AUTOENCODER, n_users, vae.batch_size, vae.epochs)]
    if diffusion is not None:
        stages.append(Stage(DIFFUSION, n_users, diffusion.batch_size, diffusion.epochs))
    return planned(privacy, stages)


def _private_autoencoder(
    settings: VariationalAutoencoder,
    learner: AutoencoderLearner,
    accounting: Accounting,
    seed: int,
    secret: np.random.Generator,
    progress: Progress,
) -> MultiVAENetwork:
    train_privately(
        learner.network,
        learner.each,
        accounting.stages[0],
        settings.optimizer,
        sums=NoisySums(accounting.noise, accounting.privacy.clip_norm, secret),
        decay=False,
        seed=seed,
        progress=progress,
    )
    return learner.fitted(learner.network.state_dict())


def check_batches(
    train: Interactions, vae: VariationalAutoencoder, diffusion: LatentDiffusion | None
) -> None:
    """Raise `DataError` where a batch asks for more users than there are."""
    filled = int((train.user_degrees > 0).sum())
    sizes = {"vae.batch_size": vae.batch_size}
    if diffusion is not None:
        sizes["diffusion.batch_size"] = diffusion.batch_size
    large = {name: size for name, size in sizes.items() if size > filled}
    if large:
        raise DataError(
            "There must be at least as many users with interactions as a batch takes; "
            f"{' and '.join(f'`{name}` is {size:,}' for name, size in large.items())}, and {filled:,} users are there to "
            f"train on. Lower {' and '.join(f'`{name}`' for name in large)}."
        )


def _fingerprints(validation: Interactions | Split | None) -> Any:
    if validation is None or isinstance(validation, Interactions):
        return None if validation is None else validation.fingerprint()
    named: Mapping[str, str] = {
        "histories": validation.histories.fingerprint(),
        "held_out": validation.held_out.fingerprint(),
    }
    return dict(named)
