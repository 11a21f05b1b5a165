"""MultiVAE++, from rows to latents and back: settings, network and training (paper, section 3)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat
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
from unblur.ranking import tie_ranks, top_k
from unblur.spec import Count, CountOrZero, Rounds, Width, spec
from unblur.training.loop import Moment
from unblur.training.networks import Weights, frozen, xavier_normal
from unblur.training.rows import RowBatch, SparseRows
from unblur.training.settings import Dropout, Optimizer, Share, check_metric, check_stopping, rising

DENSE_FROM = 0.02
"""The first layer takes a batch of at least this density as a dense matrix. Both ways compute the same sums; which one is
faster depends on machine and sizes, and the bound was chosen by hand."""
AT_ONCE = 1024
"""Users encoded or judged together, which bounds the memory for their scores to (1,024, n_items)."""


@spec
class UserStopping:
    """Early stopping of the autoencoder, by users who are not trained on."""

    metric: str = "capped_recall@10"
    """A ranking metric with a value per user, at a cut-off; higher must be better."""
    every: Count = 1
    """Epochs between evaluations."""
    patience: Count = 20
    """Training ends after so many epochs without a better value."""
    users: Share = 0.1
    """The share of the users that is set aside if no validation is given."""
    held_out: Share = 0.2
    """The share of each such user's items that is held out, rounded up; the rest is the history."""

    def __post_init__(self) -> None:
        check_stopping(self.metric, self.every, self.patience)


@spec
class VariationalAutoencoder:
    """MultiVAE++ (Lilienthal et al., section 3; Liang et al., WWW 2018). Names in quotes are those of the authors' options."""

    hidden: Width = 600
    """Width of the one hidden layer on each side: `VAE-hidden-layer-neurons`."""
    latent: Width = 200
    """Width of the latent: `MLP-latent-neurons`."""
    dropout: Dropout = 0.5
    """Dropout on the L2-normalised row."""
    kl_weight: NonNegativeFloat = 0.2
    """The final value of β, the weight of the KL divergence."""
    kl_batches: CountOrZero = 20_000
    """The number of batches in which β would rise to 1; it stops at `kl_weight`. 0: it begins there."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """The optimizer of the autoencoder; its learning rate is `VAE-lr`."""
    epochs: Rounds = 500
    """The largest number of passes over the users."""
    batch_size: Count = 500
    """Users per batch: `VAE-batch-size`."""
    stopping: UserStopping | None = UserStopping()
    """Early stopping; `None` trains all epochs on all users."""
    prior: Literal["codes", "standard"] = "codes"
    """The distribution of latents without diffusion. ``codes``: a normal distribution with mean and covariance of the
    users' codes (ex-post density estimation; Ghosh et al., ICLR 2020, arXiv 1903.12436). ``standard``, the paper's:
    N(0, I), which is far from the codes if β is small."""


class MultiVAENetwork(nn.Module):
    """L2-normalised row → tanh layer → (μ, log σ²), and latent → tanh layer → logits (Liang et al., WWW 2018).

    Weights have one row per item at both ends, so that a sparse history gathers the rows of its items. They are initialized
    Xavier-normal, biases with 0. `prior_mean`, (latent,), and `prior_factor`, (latent, latent), are those of the codes, if
    latents are drawn from that distribution.
    """

    prior_mean: Tensor | None
    prior_factor: Tensor | None

    def __init__(
        self, n_items: int, settings: VariationalAutoencoder, generator: torch.Generator | None = None
    ) -> None:
        """Without a generator the weights stay uninitialized, to be loaded."""
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
        by_codes = settings.prior == "codes"
        self.register_buffer("prior_mean", torch.zeros(latent) if by_codes else None)
        self.register_buffer("prior_factor", torch.eye(latent) if by_codes else None)
        if generator is not None:
            xavier_normal(self.parameters(), generator)

    @property
    def latent(self) -> int:
        """Width of the latent."""
        return len(self.code_bias) // 2

    def encode(
        self, batch: RowBatch, generator: torch.Generator | None = None, uses: Uses | None = None
    ) -> Encoding:
        """Encode rows (n, n_items) as (μ, log σ²); dropout needs the generator."""
        rows = normalized(batch)
        if generator is not None:
            rows = rows.thinned(self.dropout, generator)
        if len(rows.columns) > DENSE_FROM * rows.n_rows * rows.n_columns:
            first = torch.addmm(self.bias_in, rows.dense(), self.item_in)
        else:
            first = rows.times(self.item_in) + self.bias_in
        if uses is not None:
            # The gradient norm of a user at the first layer needs only the squared norm of the row.
            squares = rows.weights.new_zeros(rows.n_rows).index_add(0, rows.owners, rows.weights.square())
            uses.first_layer(first, squares)
        h = torch.tanh(first)
        code = functional.linear(h, self.code_weight, self.code_bias)
        if uses is not None:
            uses.layer("code", h, code)
        return Encoding(*code.float().chunk(2, dim=1))

    @torch.no_grad()
    def fit_prior(self, codes: Tensor) -> None:
        """Set the prior to mean and covariance Σ of these codes (n, latent); nothing if `prior` is ``standard``.

        The factor F has FᵀF = Σ. It is from the eigenvectors of Σ and not from Cholesky, because Σ may be singular.
        """
        if self.prior_mean is None or self.prior_factor is None:
            return
        doubles = codes.double()
        mean = doubles.mean(0)
        covariance = torch.cov(doubles.T, correction=0).view(len(mean), len(mean))
        # Rounding makes zero eigenvalues slightly negative, hence the clamp.
        values, vectors = torch.linalg.eigh(covariance)
        self.prior_mean.copy_(mean)
        self.prior_factor.copy_((vectors * values.clamp_min(0).sqrt()).T)

    def prior(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw the latents of n users, (n, latent), from the prior."""
        noise = torch.empty(n, self.latent, device=self.code_bias.device).normal_(generator=generator)
        if self.prior_mean is None or self.prior_factor is None:
            return noise
        return torch.addmm(self.prior_mean, noise, self.prior_factor)

    def decode(self, latent: Tensor, uses: Uses | None = None) -> Tensor:
        """Logits of all items, (n, n_items), from latents (n, latent)."""
        hidden = functional.linear(latent, self.decoder_weight, self.decoder_bias)
        h = torch.tanh(hidden)
        logits = functional.linear(h, self.item_out, self.bias_out)
        if uses is not None:
            uses.layer("decoder", latent, hidden)
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
    """Train the autoencoder on all users with interactions."""

    def __init__(
        self, settings: VariationalAutoencoder, train: Interactions, seed: int, device: torch.device
    ) -> None:
        self.settings, self.n_items = settings, train.n_items
        self.rows = SparseRows.of(train.binarized().matrix, device)
        self.filled = torch.as_tensor(np.flatnonzero(train.user_degrees), device=device)
        generator = torch_generator(streams(seed, "initial weights")["initial weights"])
        self.network = MultiVAENetwork(train.n_items, settings, generator).to(device)
        self.module: nn.Module = self.network
        self.groups, self.n_rows = [(self.module, settings.optimizer)], len(self.filled)

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean of `losses` over a batch of the users with items."""
        return self.losses(self.filled[rows], moment, generator).mean()

    def losses(
        self, rows: Tensor, moment: Moment, generator: torch.Generator, uses: Uses | None = None
    ) -> Tensor:
        """The loss of each user of a batch, (n,): negative log-likelihood + β·KL."""
        batch = self.rows.take(rows)
        encoding = self.network.encode(batch, generator, uses)
        logits = self.network.decode(encoding.sample(generator), uses)
        weight = rising(self.settings.kl_weight, self.settings.kl_batches, moment.update)
        return negative_log_likelihoods(logits, batch) + weight * encoding.divergences()

    def fitted(self, weights: Weights) -> MultiVAENetwork:
        """A frozen network with these weights."""
        return frozen(lambda: MultiVAENetwork(self.n_items, self.settings), weights)


@torch.no_grad()
def codes(network: MultiVAENetwork, rows: SparseRows) -> Tensor:
    """μ of every row, (n_rows, latent), by the frozen encoder."""
    blocks = torch.arange(len(rows), device=rows.starts.device).split(AT_ONCE)
    return torch.cat([network.encode(rows.take(block)).mean for block in blocks])


def stopping_split(
    train: Interactions, stopping: UserStopping, validation: StoppingData | None, seed: int
) -> Split:
    """The training users, and the users to stop by: `validation`, or users taken out of `train`."""
    if isinstance(validation, Split):
        return Split(train, validation.histories, validation.held_out, "given validation")
    random = streams(seed, "carve")["carve"]
    if validation is None:
        eligible = train.user_degrees > 1
        size = max(1, round(stopping.users * int(eligible.sum())))
        DataError.unless(
            eligible.any() and size < train.n_users,
            "Users to stop a training by need at least two items, and other users must remain to train on; "
            f"{int(eligible.sum()):,} of {train.n_users:,} users have two. Give more users, with more items, or a "
            "`vae.stopping` of none.",
        )
        order = random.permutation(train.n_users)
        chosen = np.isin(np.arange(train.n_users), order[eligible[order]][:size])
        users, part, method = train.take_users(chosen), train.take_users(~chosen), "users taken out of train"
    else:
        users, part, method = validation.onto(items=train.items), train, "given validation users"
    # Rounded up, so that every user with two items or more gives at least one. Without the 1e-9 a product such as
    # 100 · 0.07 = 7.000000000000001 would be rounded to 8.
    n_held_out = np.ceil(users.user_degrees * stopping.held_out - 1e-9)
    shown = hold_out_last(users, n_held_out, "random", random, method)
    return Split(part, shown.histories, shown.held_out, method)


class AutoencoderJudge:
    """The ranking quality of an autoencoder on items held out of users it was not trained on."""

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
            "Users to stop by must have a history and held-out items; none of "
            f"{split.histories.n_users:,} has both. Give other users, or train without `stopping`.",
        )
        self.histories = split.histories.take_users(chosen).binarized()
        self.held_out = split.held_out.take_users(chosen)
        self.rows = SparseRows.of(self.histories.matrix, device)
        self.ties = tie_ranks(split.train.item_degrees)

    @torch.no_grad()
    def __call__(self, network: MultiVAENetwork) -> float:
        """The mean of the metric over the users; items of the history are excluded."""
        top_items = []
        for block in torch.arange(len(self.rows), device=self.rows.starts.device).split(AT_ONCE):
            batch = self.rows.take(block)
            scores = network.decode(network.encode(batch).mean).float()
            scores[batch.owners, batch.columns] = -torch.inf
            top_items.append(top_k(scores.cpu().numpy(), self.cutoff, self.ties)[0])
        values = per_user(np.concatenate(top_items), self.held_out.matrix, [self.metric], [self.cutoff])
        return float(values.values.mean())
