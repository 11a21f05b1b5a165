"""MultiVAE++, from rows to latents and back: its settings, its network, and how it is trained (paper, section 3)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from unblur.data.interactions import Interactions
from unblur.data.splits import Split, hold_out_last
from unblur.errors import DataError, SpecError
from unblur.evaluation.metrics import per_user
from unblur.fitted import StoppingData
from unblur.models.variational import Encoding, negative_log_likelihoods
from unblur.privacy.clipping import Uses
from unblur.randomness import streams, torch_generator
from unblur.ranking import top_k
from unblur.spec import spec
from unblur.training.loop import Moment
from unblur.training.networks import Weights, frozen, xavier_normal
from unblur.training.rows import RowBatch, SparseRows
from unblur.training.settings import Dropout, Optimizer, Share, check_metric, check_stopping, rising

DENSE_FROM = 0.02
"""From which density on the first layer takes a batch as a dense matrix: then one product beats gathering."""
AT_ONCE = 1024
"""How many users are encoded or judged together."""


@spec
class UserStopping:
    """When training of the autoencoder ends early, judged on users who are not trained on."""

    metric: str = "capped_recall@10"
    """A ranking metric with a value for each user, at a cut-off; higher must be better."""
    every: PositiveInt = 1
    """Epochs between evaluations."""
    patience: PositiveInt = 20
    """Training ends when so many epochs have passed without a better value."""
    users: Share = 0.1
    """Which part of the users is set aside when no validation is given."""
    held_out: Share = 0.2
    """Which part of each such user's items must be found again, rounded up; the rest is their history."""

    def __post_init__(self) -> None:
        check_stopping(self.metric, self.every, self.patience)


@spec
class VariationalAutoencoder:
    """MultiVAE++ (Lilienthal et al., section 3; Liang et al., WWW 2018). Names in quotes are those of the authors' options."""

    hidden: PositiveInt = 600
    """Width of the one hidden layer on each side: `VAE-hidden-layer-neurons`."""
    latent: PositiveInt = 200
    """Width of the latent: `MLP-latent-neurons`."""
    dropout: Dropout = 0.5
    """On the L2-normalised row."""
    kl_weight: NonNegativeFloat = 0.2
    """Where β, the weight of the KL divergence, ends."""
    kl_batches: NonNegativeInt = 20_000
    """In how many batches β would rise to 1; it stops at `kl_weight`. 0: it begins there."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """How weights follow their gradients: `VAE-lr`."""
    epochs: PositiveInt = 500
    """The most passes over the users."""
    batch_size: PositiveInt = 500
    """Users a batch: `VAE-batch-size`."""
    stopping: UserStopping | None = UserStopping()
    """When training ends early; `None` trains all epochs on all users."""
    prior: Literal["codes", "standard"] = "codes"
    """Where latents come from when there is no diffusion. ``codes``: a normal distribution with mean and covariance
    of the users' codes (ex-post density estimation; Ghosh et al., ICLR 2020, arXiv 1903.12436). ``standard``, the
    paper's: N(0, I), which codes are far from where β is small."""


class MultiVAENetwork(nn.Module):
    """L2-normalised row → tanh layer → (μ, log σ²), and latent → tanh layer → logits (Liang et al., WWW 2018).

    Weights lie with one row an item at both ends, so that a sparse history gathers the rows of its items. They begin
    Xavier-normal, biases at 0. `prior_mean`, (latent,), and `prior_factor`, (latent, latent), are those of the codes where
    latents are drawn by them.
    """

    prior_mean: Tensor | None
    prior_factor: Tensor | None

    def __init__(
        self, n_items: int, settings: VariationalAutoencoder, generator: torch.Generator | None = None
    ) -> None:
        """Without a generator the weights are left to be loaded."""
        super().__init__()
        hidden, latent = settings.hidden, settings.latent
        self.dropout = settings.dropout
        self.item_in = nn.Parameter(torch.empty(n_items, hidden))
        self.bias_in = nn.Parameter(torch.empty(hidden))
        self.code_weight = nn.Parameter(torch.empty(2 * latent, hidden))
        self.code_bias = nn.Parameter(torch.empty(2 * latent))
        self.decoder_weight = nn.Parameter(torch.empty(hidden, latent))
        self.decoder_bias = nn.Parameter(torch.empty(hidden))
        self.item_out = nn.Parameter(torch.empty(n_items, hidden))
        self.bias_out = nn.Parameter(torch.empty(n_items))
        of_codes = settings.prior == "codes"
        self.register_buffer("prior_mean", torch.zeros(latent) if of_codes else None)
        self.register_buffer("prior_factor", torch.eye(latent) if of_codes else None)
        if generator is not None:
            xavier_normal(self.parameters(), generator)

    @property
    def latent(self) -> int:
        """Width of the latent."""
        return len(self.code_bias) // 2

    def encode(
        self, batch: RowBatch, generator: torch.Generator | None = None, uses: Uses | None = None
    ) -> Encoding:
        """Where rows (n, n_items) lie in the latent; dropout needs the generator."""
        rows = normalized(batch)
        if generator is not None:
            rows = rows.thinned(self.dropout, generator)
        if len(rows.columns) > DENSE_FROM * rows.n_rows * rows.n_columns:
            first = torch.addmm(self.bias_in, rows.dense(), self.item_in)
        else:
            first = rows.times(self.item_in) + self.bias_in
        if uses is not None:
            squares = rows.weights.new_zeros(rows.n_rows).index_add(0, rows.owners, rows.weights.square())
            uses.first_layer(first, squares)
        h = torch.tanh(first)
        code = functional.linear(h, self.code_weight, self.code_bias)
        if uses is not None:
            uses.layer("code", h, code)
        return Encoding(*code.float().chunk(2, dim=1))

    @torch.no_grad()
    def fit_prior(self, codes: Tensor) -> None:
        """Take mean and covariance Σ of these codes (n, latent), where the settings say that latents are drawn by
        them: the factor F has FᵀF = Σ, from the eigenvectors of Σ, which need not have full rank."""
        if self.prior_mean is None or self.prior_factor is None:
            return
        each = codes.double()
        mean = each.mean(0)
        covariance = torch.cov(each.T, correction=0).view(len(mean), len(mean))
        values, vectors = torch.linalg.eigh(covariance)
        self.prior_mean.copy_(mean)
        self.prior_factor.copy_((vectors * values.clamp_min(0).sqrt()).T)

    def prior(self, n: int, generator: torch.Generator) -> Tensor:
        """Latents of n users who never were, (n, latent)."""
        drawn = torch.empty(n, self.latent, device=self.code_bias.device).normal_(generator=generator)
        if self.prior_mean is None or self.prior_factor is None:
            return drawn
        return torch.addmm(self.prior_mean, drawn, self.prior_factor)

    def decode(self, latent: Tensor, uses: Uses | None = None) -> Tensor:
        """Logits of all items, (n, n_items), from latents (n, latent)."""
        between = functional.linear(latent, self.decoder_weight, self.decoder_bias)
        h = torch.tanh(between)
        logits = functional.linear(h, self.item_out, self.bias_out)
        if uses is not None:
            uses.layer("decoder", latent, between)
            uses.layer("out", h, logits)
        return logits


def normalized(batch: RowBatch) -> RowBatch:
    """The rows divided by their L2 norms; a row without entries stays as it is."""
    squares = torch.zeros(batch.n_rows, device=batch.weights.device).index_add(
        0, batch.owners, batch.weights.square()
    )
    norms = squares.sqrt().clamp_min(1e-12)
    weights = batch.weights / norms[batch.owners]
    return RowBatch(batch.owners, batch.columns, weights, batch.offsets, batch.n_rows, batch.n_columns)


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
    train: Interactions, stopping: UserStopping, validation: StoppingData | None, seed: int
) -> Split:
    """The users to train on, and those to stop by: given ones, or some taken out of `train`."""
    if isinstance(validation, Split):
        return Split(train, validation.histories, validation.held_out, "given validation")
    chance = streams(seed, "carve")["carve"]
    if validation is None:
        able = train.user_degrees > 1
        size = max(1, round(stopping.users * int(able.sum())))
        DataError.unless(
            able.any() and size < train.n_users,
            "Users to stop a training by need two items or more, one to find again by the others, and others must be left "
            f"to train on; of {train.n_users:,} users {int(able.sum()):,} have as many. Give more users, with more items, "
            "or a `vae.stopping` of none.",
        )
        order = chance.permutation(train.n_users)
        chosen = np.isin(np.arange(train.n_users), order[able[order]][:size])
        users, part, method = train.take_users(chosen), train.take_users(~chosen), "users taken out of train"
    else:
        users, part, method = validation.onto(items=train.items), train, "given validation users"
    # Rounded up, so that all with two items or more give one; a third of 3 is 1, however it is rounded.
    wanted = np.ceil(users.user_degrees * stopping.held_out - 1e-9)
    held = hold_out_last(users, chance.random(users.n_interactions), wanted)
    return Split(part, users.keep(~held), users.keep(held), method)


class AutoencoderJudge:
    """How well an autoencoder finds again what was held out from users it was not trained on."""

    def __init__(self, split: Split, stopping: UserStopping, device: torch.device) -> None:
        self.metric, self.cutoff = check_metric(stopping.metric)
        SpecError.unless(
            self.cutoff <= split.histories.n_items,
            f"The cut-off of `stopping.metric` must not exceed the {split.histories.n_items:,} items; "
            f"saw {stopping.metric!r}. Lower it.",
        )
        chosen = np.flatnonzero((split.held_out.user_degrees > 0) & (split.histories.user_degrees > 0))
        DataError.unless(
            len(chosen),
            "Users to stop by must have a history and something to find again; none of "
            f"{split.histories.n_users:,} has both. Give others, or train without `stopping`.",
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
