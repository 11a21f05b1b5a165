"""Neural matrix factorisation (He et al., WWW 2017), with users folded in from their histories."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from unblur.data.interactions import Interactions, check_train
from unblur.fitted import ASCENDING
from unblur.models.diffusion.sampling import row_keys
from unblur.models.neural.acceleration import faster
from unblur.parallel.devices import check_device
from unblur.randomness import RNG, streams, torch_generator
from unblur.recommender import RecommenderSpec, Run, StoppingData, learned
from unblur.spec import Count, Dimension, Rounds, Steps, Width, choices, spec
from unblur.training.loop import Moment, Training
from unblur.training.networks import NetworkRecommender, Weights, least_kept
from unblur.training.settings import Dropout, Optimizer, Plan


@spec
class NeuMF(RecommenderSpec["NeuMFRecommender"]):
    """A product of user and item factors and, in parallel, a network of both; one last layer joins the two.

    It learns a vector for each train user. A history row is scored by a vector that is fitted to it with the
    items' side fixed (fold-in); `remember_users` uses the learned one if a history is a train row.
    """

    kind: ClassVar[str] = "neumf"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.neural.neumf:NeuMFRecommender"
    factors: Width = 8
    """Width of the product, and of the network's last layer."""
    layers: Annotated[int, Field(gt=0, le=16)] = 3
    """Layers of the network; its user and item vectors are 2^(layers − 1) times as wide as `factors`,
    so there are few."""
    dropout: Dropout = 0.5
    """On the inputs of each of these layers."""
    negatives: Annotated[int, Field(gt=0, le=1000)] = 1
    """Items that the user does not have, drawn evenly for each one that he or she has, anew each epoch."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """The optimizer of all weights."""
    epochs: Rounds = 20
    """Passes over the interactions."""
    batch_size: Count = 256
    """Interactions a batch, each with its negatives."""
    fold_in_steps: Steps = 60
    """Steps of Adam that fit a vector to a history."""
    fold_in_rate: float = 0.05
    """Their learning rate."""
    remember_users: bool = False
    """Keep the vectors of train users, looked up by the content of their rows. The paper's protocol scores users who
    were trained on; no name is kept, but the model then holds its users."""

    @property
    def width(self) -> int:
        """Numbers in the vector of a user or an item: those of the product, then those of the network."""
        return self.factors * (1 + (1 << self.layers - 1))

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(
            optimizer__learning_rate=(3e-3, 1e-3, 3e-4),
            factors=(8, 16, 32, 64),
            dropout=(0.0, 0.2, 0.5),
            negatives=(1, 4),
        )

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> NeuMFRecommender:
        """Train all epochs."""
        device = torch.device(check_device(run.device))
        check_train(train)
        seed = int(streams(rng, "training")["training"].integers(0, 2**62))
        with faster(PairLearner(self, train, seed, device)) as learner:
            plan = Plan(self.epochs, self.batch_size)
            weights = dict(Training(learner, plan, seed=seed, run=run).finished())
        users = weights.pop("users")
        # Fold-in starts from the mean of the users who have interactions; the others' vectors were never trained.
        weights["users"] = users[torch.as_tensor(train.user_degrees > 0, device=device)].mean(0, keepdim=True)
        keys, vectors = np.empty(0, dtype=np.uint64), np.empty((0, users.shape[1]), dtype=np.float32)
        if self.remember_users:
            keys, first_rows = np.unique(row_keys(train.matrix, 0), return_index=True)
            vectors = users.cpu().numpy()[first_rows]
        return NeuMFRecommender(
            self,
            train.items,
            train.item_degrees,
            device=run.device,
            weights=weights,
            keys=keys,
            vectors=vectors,
        )


Choose: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.uint64]], NDArray[np.int64]]
"""See `PairLearner.choose`."""
REDRAWN = 8
"""The number of times that a negative which the user has is drawn again."""
MOST_CELLS = 1 << 22
"""The most numbers in a layer of the fold-in: bounds the number of histories that are fitted together."""


class PairNetwork(nn.Module):
    """Logits of users and items: factors multiplied, and vectors through dense layers, joined by one last layer.

    A user's (an item's) row of the table holds `factors` numbers for the product, then those for the layers.
    """

    def __init__(
        self, n_users: int, n_items: int, spec: NeuMF, generator: torch.Generator | None = None
    ) -> None:
        """Tables begin normal with deviation 0.01, weights Xavier-uniform, biases at 0."""
        super().__init__()
        self.factors, self.dropout = spec.factors, spec.dropout
        self.users = nn.Parameter(torch.empty(n_users, spec.width))
        self.items = nn.Parameter(torch.empty(n_items, spec.width))
        widths = [2 * (spec.width - spec.factors) // 2**depth for depth in range(spec.layers + 1)]
        self.inputs = sum(widths[:-1])  # of all its layers together, for one pair
        self.weights = nn.ParameterList([torch.empty(after, before) for before, after in pairwise(widths)])
        self.biases = nn.ParameterList([torch.empty(after) for after in widths[1:]])
        self.last = nn.Parameter(torch.empty(1, 2 * spec.factors))
        self.last_bias = nn.Parameter(torch.empty(1))
        if generator is not None:
            with torch.no_grad():
                for table in (self.users, self.items):
                    table.normal_(0, 0.01, generator=generator)
                for weight in (*self.weights, self.last):
                    bound = math.sqrt(6 / sum(weight.shape))
                    weight.uniform_(-bound, bound, generator=generator)
                for bias in (*self.biases, self.last_bias):
                    bias.zero_()

    def forward(self, users: Tensor, items: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (n,) of pairs of vectors, (n, width) each.

        `mask`, (n, inputs), is True for the inputs that dropout keeps, of one layer after the other.
        """
        n_factors = self.factors
        h = torch.cat((users[:, n_factors:], items[:, n_factors:]), 1)
        layer_masks = None if mask is None else mask.split([weight.shape[1] for weight in self.weights], 1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer_masks is not None:
                h = h * layer_masks[layer] / (1 - self.dropout)
            h = torch.relu(torch.addmm(bias, h, weight.T))
        joined = torch.cat((users[:, :n_factors] * items[:, :n_factors], h), 1)
        return functional.linear(joined, self.last, self.last_bias)[:, 0]


class PairLearner:
    """Trains on every interaction, together with items that its user does not have."""

    def __init__(self, spec: NeuMF, train: Interactions, seed: int, device: torch.device) -> None:
        self.spec, self.n_rows = spec, train.n_interactions
        generator = torch_generator(streams(seed, "initial weights")["initial weights"])
        self.module = PairNetwork(train.n_users, train.n_items, spec, generator).to(device)
        self.groups = [(self.module, spec.optimizer)]
        self.train, self.starts = train, train.matrix.indptr.astype(np.int64)

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean binary cross-entropy of some interactions and of their negatives."""
        network, device = self.module, rows.device
        users, items, words = self.batch(rows.cpu().numpy(), generator)
        logits = network(
            functional.embedding(torch.from_numpy(users).to(device), network.users),
            functional.embedding(torch.from_numpy(items).to(device), network.items),
            (torch.from_numpy(words) >= least_kept(network.dropout)).to(device) if network.dropout else None,
        )
        targets = torch.zeros_like(logits)
        targets[: len(rows)] = 1
        return functional.binary_cross_entropy_with_logits(logits, targets)

    def fitted(self, weights: Weights) -> Weights:
        """The weights themselves; `NeuMF.learn` makes the recommender, which has no table of users."""
        return weights

    def batch(
        self, rows: NDArray[np.int64], generator: torch.Generator, choose: Choose | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int16]]:
        """Return users (n,) and items (n,) of some interactions and of their negatives, and random words for dropout.

        `rows` are positions of interactions; their negatives follow them. Words, (n, inputs), are uniform 16-bit integers
        (see `unblur.training.networks.least_kept`). All is drawn by SFC64 (Doty-Humphrey, PractRand) from a seed of the
        generator, so that autograd and kernels train on the same draws; `choose` is a faster way to the same negatives.
        """
        bits = np.random.SFC64(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        users = np.tile(np.searchsorted(self.starts, rows, side="right") - 1, 1 + self.spec.negatives)
        n_pairs, n_negatives, inputs = len(users), self.spec.negatives * len(rows), self.module.inputs
        candidates = bits.random_raw((1 + REDRAWN) * n_negatives).reshape(1 + REDRAWN, n_negatives)
        negatives = (choose or self.choose)(users[len(rows) :], candidates)
        words = (
            bits.random_raw(-(-n_pairs * inputs // 4)).view(np.int16)[: n_pairs * inputs].reshape(n_pairs, -1)
        )
        return users, np.concatenate((self.train.matrix.indices[rows].astype(np.int64), negatives)), words

    def choose(self, users: NDArray[np.int64], candidates: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return for each user, (n,), the first of the candidates, (1 + REDRAWN, n), that it does not have, or the last.

        A candidate is a random word; its high 32 bits, times the number of items, over 2³², are an item.
        """
        n_items, negatives, pending = self.train.n_items, np.empty_like(users), np.arange(len(users))
        for draw in candidates:
            negatives[pending] = ((draw[pending] >> np.uint64(32)) * np.uint64(n_items)) >> np.uint64(32)
            keys = users[pending] * n_items + negatives[pending]
            indices = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
            pending = pending[self._pairs[indices] == keys]
        return negatives

    @cached_property
    def _pairs(self) -> NDArray[np.int64]:
        """A key for each interaction, user · n_items + item, ascending."""
        return self.train.rows().astype(np.int64) * self.train.n_items + self.train.matrix.indices


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NeuMFRecommender(NetworkRecommender["NeuMF", PairNetwork]):
    """Holds the items' side and the mean user vector; a history is scored by a vector that is fitted to it."""

    keys: NDArray[np.uint64] = learned("remembered", dtype="uint64", values=ASCENDING)
    """The hashes of the rows of remembered users, ascending; none unless `remember_users`."""
    vectors: NDArray[np.float32] = learned("remembered", "width")
    """Their learned vectors."""

    def blank(self) -> PairNetwork:
        """The network with all items, and the mean user as its only one."""
        return PairNetwork(1, len(self.items), self.spec)

    def item_vectors(self) -> NDArray[np.float32]:
        """The items' learned vectors."""
        return np.asarray(self.network.items.cpu().numpy())

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        scores = np.empty((histories.n_users, len(self.items)), dtype=np.float32)
        network = _SplitNetwork(self.network)
        # A history's first layer has as many numbers as the items' sums together.
        n_together = max(1, MOST_CELLS // max(1, network.first_item_sums.numel()))
        for start in range(0, histories.n_users, n_together):
            rows = slice(start, min(start + n_together, histories.n_users))
            batch = histories.take_users(rows)
            keys = row_keys(batch.matrix, 0)
            remembered = np.isin(keys, self.keys)
            vectors = network.network.users.repeat(batch.n_users, 1)
            stored = torch.from_numpy(self.vectors[np.searchsorted(self.keys, keys[remembered])])
            vectors[torch.as_tensor(remembered)] = stored.to(vectors)
            if not remembered.all():
                dense_rows = torch.tensor(batch.matrix[~remembered].toarray() > 0, device=vectors.device)
                folded = network.fold_in(dense_rows, self.spec.fold_in_steps, self.spec.fold_in_rate)
                vectors[torch.as_tensor(~remembered)] = folded
            with torch.no_grad():
                scores[rows] = network.scores(vectors).cpu().numpy()
        return scores


class _SplitNetwork:
    """The network in float64, its first layer split into the user's and the item's part of its sums.

    The first layer acts on both vectors concatenated: ``W·[u; i] + b = W_u·u + (W_i·i + b)``. The item's part is computed
    once for all histories, and the user's once for all items.
    """

    def __init__(self, network: PairNetwork) -> None:
        # In float64: a score then does not depend, after rounding, on which histories are fitted together.
        self.network = deepcopy(network).double()
        self.first_user_weights, first_item_weights = self.network.weights[0].chunk(2, 1)
        self.first_item_sums = (
            self.network.items[:, network.factors :] @ first_item_weights.T + self.network.biases[0]
        )

    def scores(self, users: Tensor) -> Tensor:
        """Return logits of all items, (n, n_items), for users' vectors (n, width)."""
        network, k = self.network, self.network.factors
        h = torch.relu((users[:, k:] @ self.first_user_weights.T)[:, None, :] + self.first_item_sums[None])
        for weight, bias in zip(network.weights[1:], network.biases[1:], strict=True):
            h = torch.relu(functional.linear(h, weight, bias))
        # The last layer acts on the product of factors and on h, concatenated: two products, summed.
        product = (users[:, :k] * network.last[0, :k]) @ network.items[:, :k].T
        return product + h @ network.last[0, k:] + network.last_bias

    def fold_in(self, histories: Tensor, steps: int, rate: float) -> Tensor:
        """Fit a vector to each history, (n, n_items) bool, by Adam from the mean user; returns (n, width).

        The loss is that of training in expectation: the mean over the items of the history plus that over all others.
        """
        users = self.network.users.repeat(len(histories), 1)
        positive_weights = histories / histories.sum(1, keepdim=True).clamp_min(1)
        negative_weights = ~histories / (~histories).sum(1, keepdim=True).clamp_min(1)
        mean, square = torch.zeros_like(users), torch.zeros_like(users)
        for number in range(1, steps + 1):
            users.requires_grad_()
            logits = self.scores(users)
            loss = (
                functional.softplus(-logits) * positive_weights
                + functional.softplus(logits) * negative_weights
            ).sum()
            (gradient,) = torch.autograd.grad(loss, users)
            # A step of Adam with its usual constants (Kingma and Ba, algorithm 1); each history has moments of its own.
            mean.mul_(0.9).add_(gradient, alpha=0.1)
            square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            change = (mean / (1 - 0.9**number)) / ((square / (1 - 0.999**number)).sqrt() + 1e-8)
            users = users.detach() - rate * change
        return users
