"""What trains MultiVAE++, and on whom it stops early."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split, hold_out_last
from unblur.errors import DataError, SpecError
from unblur.evaluation.metrics import per_user
from unblur.models.variational import negative_log_likelihoods
from unblur.privacy.clipping import Uses
from unblur.randomness import streams, torch_generator
from unblur.ranking import top_k
from unblur.synthesis.multi_vae_network import MultiVAENetwork
from unblur.synthesis.settings import UserStopping, VariationalAutoencoder
from unblur.training.learner import Moment, Weights
from unblur.training.networks import frozen
from unblur.training.rows import SparseRows
from unblur.training.settings import check_metric, rising

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
