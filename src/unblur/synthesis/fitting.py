"""From a spec and interactions to a fitted latent synthesizer: two trainings, the second on frozen codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from unblur.data.interactions import Interactions, check_train
from unblur.data.splits import Split, hold_out_last
from unblur.errors import DataError, SpecError
from unblur.evaluation.metrics import per_user
from unblur.fitted import StoppingData
from unblur.models.variational import negative_log_likelihoods
from unblur.privacy.accountant import NoisySums, noisy_counts, planned
from unblur.privacy.clipping import Uses
from unblur.progress import Run, of_part
from unblur.randomness import RNG, streams, torch_generator
from unblur.ranking import top_k
from unblur.synthesis.latent_noise import LatentDenoiser, LatentLoss
from unblur.synthesis.latent_synthesizer import LatentSynthesizer
from unblur.synthesis.multi_vae_network import MultiVAENetwork
from unblur.synthesis.settings import LatentDiffusion, UserStopping, VariationalAutoencoder
from unblur.synthesis.synthesizer import RealCounts
from unblur.training.learner import Learner, Moment, Weights
from unblur.training.loop import Training, check_device
from unblur.training.networks import frozen
from unblur.training.private import train_privately
from unblur.training.rows import SparseRows
from unblur.training.run import checkpoints_of, identity_of, seed_of
from unblur.training.settings import check_metric, rising

if TYPE_CHECKING:
    from unblur.synthesis.sdrm import SDRM, MultiVAE


AT_ONCE = 1024
"""How many users are encoded or judged together."""


class AutoencoderLearner:
    """Trains the autoencoder on all users who have anything."""

    def __init__(
        self, settings: VariationalAutoencoder, train: Interactions, seed: int, device: torch.device
    ) -> None:
        self.settings, self.n_items = settings, train.n_items
        self.rows = SparseRows.of(train.binarized().matrix, device)
        self.filled = torch.as_tensor(np.flatnonzero(train.user_degrees), device=device)
        chance = torch_generator(streams(seed, "initial weights")["initial weights"])
        self.network = MultiVAENetwork(train.n_items, settings, chance).to(device)
        self.module: nn.Module = self.network
        self.groups, self.n_rows = [(self.module, settings.optimizer)], len(self.filled)

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean of `each` over some users with items."""
        return self.each(self.filled[rows], moment, generator).mean()

    def each(
        self, rows: Tensor, moment: Moment, generator: torch.Generator, uses: Uses | None = None
    ) -> Tensor:
        """The loss of each of some users, (n,): negative log-likelihood + β·KL."""
        batch = self.rows.take(rows)
        encoding = self.network.encode(batch, generator, uses)
        logits = self.network.decode(encoding.drawn(generator), uses)
        weight = rising(self.settings.kl_weight, self.settings.kl_batches, moment.update)
        return negative_log_likelihoods(logits, batch) + weight * encoding.divergences()

    def fitted(self, weights: Weights) -> MultiVAENetwork:
        """The network with these weights, not to be trained further."""
        return frozen(lambda: MultiVAENetwork(self.n_items, self.settings), weights)


@torch.no_grad()
def codes(network: MultiVAENetwork, rows: SparseRows) -> Tensor:
    """μ of every row, (n_rows, latent): what the frozen encoder makes of it, computed once."""
    places = torch.arange(len(rows), device=rows.starts.device).split(AT_ONCE)
    return torch.cat([network.encode(rows.take(each)).mean for each in places])


def stopping_split(
    train: Interactions, stopping: UserStopping, validation: Interactions | Split | None, seed: int
) -> Split:
    """Whom to train on, and what to find again of whom: of given users, or of some taken out of train."""
    chance = streams(seed, "carve")["carve"]
    if validation is None:
        able = train.user_degrees > 1
        size = max(1, round(stopping.users * int(able.sum())))
        if not able.any() or size == train.n_users:
            raise DataError(
                "Users to stop a training by need two items or more, one to find again by the others, and others must be left "
                f"to train on; of {train.n_users:,} users {int(able.sum()):,} have as many. Give more users, with more items, "
                "or a `vae.stopping` of none."
            )
        order = chance.permutation(train.n_users)
        chosen = np.zeros(train.n_users, dtype=bool)
        chosen[order[able[order]][:size]] = True
        inner = _some_hidden(train.take_users(chosen), stopping, chance)
        split = Split(train.take_users(~chosen), inner.histories, inner.held_out, "users taken out of train")
    elif isinstance(validation, Split):
        split = Split(train, validation.histories, validation.held_out, "given validation")
    else:
        inner = _some_hidden(validation.onto(items=train.items), stopping, chance)
        split = Split(train, inner.histories, inner.held_out, "given validation users")
    return split


def _some_hidden(users: Interactions, stopping: UserStopping, chance: np.random.Generator) -> Split:
    """Hold out a share of each user's items, rounded up so that all with two items or more give one."""
    wanted = np.ceil(
        users.user_degrees * stopping.held_out - 1e-9
    )  # a third of 3 is 1, however it is rounded
    held = hold_out_last(users, chance.random(users.n_interactions), wanted)
    return Split.of_mask(users, held, f"random, per user, {stopping.held_out:.0%}")


class AutoencoderJudge:
    """How well an autoencoder finds again what was held out from users it was not trained on."""

    def __init__(self, split: Split, stopping: UserStopping, device: torch.device) -> None:
        self.metric, self.cutoff = check_metric(stopping.metric)
        if self.cutoff > split.histories.n_items:
            raise SpecError(
                f"The cut-off of `stopping.metric` must not exceed the {split.histories.n_items:,} items; "
                f"saw {stopping.metric!r}. Lower it."
            )
        chosen = np.flatnonzero((split.held_out.user_degrees > 0) & (split.histories.user_degrees > 0))
        if not len(chosen):
            raise DataError(
                "Users to stop by must have a history and something to find again; none of "
                f"{split.histories.n_users:,} has both. Give others, or train without `stopping`."
            )
        self.histories = split.histories.take_users(chosen).binarized()
        self.held_out = split.held_out.take_users(chosen)
        self.rows = SparseRows.of(self.histories.matrix, device)

    @torch.no_grad()
    def __call__(self, network: MultiVAENetwork) -> float:
        """The mean of the metric over the users; items of the history are left out."""
        found = []
        for places in torch.arange(len(self.rows), device=self.rows.starts.device).split(AT_ONCE):
            batch = self.rows.take(places)
            scores = network.decode(network.encode(batch).mean).float()
            scores[batch.owners, batch.columns] = -torch.inf
            found.append(top_k(scores.cpu().numpy(), self.cutoff)[0])
        values = per_user(np.concatenate(found), self.held_out.matrix, [self.metric], [self.cutoff])
        return float(values.values.mean())


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
