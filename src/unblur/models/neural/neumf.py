"""Neural matrix factorisation (He et al., WWW 2017), with users folded in from their histories."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from unblur.data.interactions import Interactions, check_train
from unblur.models.diffusion.sampling import row_keys
from unblur.models.neural.acceleration import faster
from unblur.randomness import RNG, streams, torch_generator
from unblur.recommender import RecommenderSpec, Run, StoppingData, learned
from unblur.spec import Dimension, choices, spec
from unblur.training.loop import Moment, Training, check_device
from unblur.training.networks import NetworkRecommender, Weights, least_kept
from unblur.training.settings import Dropout, Optimizer, Plan


@spec
class NeuMF(RecommenderSpec["NeuMFRecommender"]):
    """A product of user and item factors beside a network of both, and one number out of the two.

    It learns a vector for each train user. A history row is scored by a vector that is fitted to it with the
    items' side fixed (fold-in); `remember_users` uses the learned one where a history is a train row.
    """

    kind: ClassVar[str] = "neumf"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.neural.neumf:NeuMFRecommender"
    factors: PositiveInt = 8
    """Width of the product, and of the network's last layer."""
    layers: PositiveInt = 3
    """Layers of the network; its user and item vectors are 2^(layers − 1) times as wide as `factors`."""
    dropout: Dropout = 0.5
    """On what each of these layers takes."""
    negatives: PositiveInt = 1
    """Items that the user does not have, drawn evenly for each one that he or she has, anew each epoch."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """How weights follow their gradients."""
    epochs: PositiveInt = 20
    """Passes over the interactions."""
    batch_size: PositiveInt = 256
    """Interactions a batch, each with its negatives."""
    fold_in_steps: PositiveInt = 60
    """Steps of Adam that fit a vector to a history."""
    fold_in_rate: float = 0.05
    """Their learning rate."""
    remember_users: bool = False
    """Keep the vectors of train users, found by the content of their rows. The paper's protocol scores users who
    were trained on; no name is kept, but the model then holds its users."""

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
        on = check_device(run.device)
        check_train(train)
        seed = int(streams(rng, "training")["training"].integers(0, 2**62))
        with faster(PairLearner(self, train, seed, on)) as learner:
            plan = Plan(self.epochs, self.batch_size)
            weights = dict(Training(learner, plan, seed=seed, run=run).finished())
        users = weights.pop("users")
        weights["users"] = users[torch.as_tensor(train.user_degrees > 0, device=on)].mean(0, keepdim=True)
        keys, vectors = np.empty(0, dtype=np.uint64), np.empty((0, users.shape[1]), dtype=np.float32)
        if self.remember_users:
            keys, first = np.unique(row_keys(train.matrix, 0), return_index=True)
            vectors = users.cpu().numpy()[first]
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
"""How often a negative that the user has is drawn again."""
MOST_CELLS = 1 << 22
"""How many numbers a layer of the fold-in may hold: bounds how many histories are fitted together."""


class PairNetwork(nn.Module):
    """Scores of user and item: factors multiplied, and vectors through dense layers, joined by one last layer.

    A user's (an item's) row of the table holds `factors` numbers for the product, then those of the network.
    """

    def __init__(
        self, n_users: int, n_items: int, spec: NeuMF, generator: torch.Generator | None = None
    ) -> None:
        """Tables begin normal with deviation 0.01, weights Xavier-uniform, biases at 0."""
        super().__init__()
        self.factors, self.dropout = spec.factors, spec.dropout
        wide = spec.factors * 2 ** (spec.layers - 1)
        self.users = nn.Parameter(torch.empty(n_users, spec.factors + wide))
        self.items = nn.Parameter(torch.empty(n_items, spec.factors + wide))
        widths = [2 * wide // 2**depth for depth in range(spec.layers + 1)]
        self.inputs = sum(widths[:-1])  # how many numbers its layers take for a pair
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

    def forward(self, users: Tensor, items: Tensor, kept: Tensor | None = None) -> Tensor:
        """Logits (n,) of pairs of vectors, (n, width) each; `kept`, (n, inputs), is what dropout leaves of what each
        layer takes, one layer after the other."""
        k = self.factors
        h = torch.cat((users[:, k:], items[:, k:]), 1)
        masks = None if kept is None else kept.split([weight.shape[1] for weight in self.weights], 1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if masks is not None:
                h = h * masks[layer] / (1 - self.dropout)
            h = torch.relu(torch.addmm(bias, h, weight.T))
        joined = torch.cat((users[:, :k] * items[:, :k], h), 1)
        return functional.linear(joined, self.last, self.last_bias)[:, 0]


class PairLearner:
    """Trains on every interaction, with items that its user does not have beside it."""

    def __init__(self, spec: NeuMF, train: Interactions, seed: int, device: torch.device) -> None:
        self.spec, self.n_rows = spec, train.n_interactions
        chance = torch_generator(streams(seed, "initial weights")["initial weights"])
        self.module = PairNetwork(train.n_users, train.n_items, spec, chance).to(device)
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
        wanted = torch.zeros_like(logits)
        wanted[: len(rows)] = 1
        return functional.binary_cross_entropy_with_logits(logits, wanted)

    def fitted(self, weights: Weights) -> Weights:
        """The weights themselves: users are dealt with elsewhere."""
        return weights

    def batch(
        self, rows: NDArray[np.int64], generator: torch.Generator, choose: Choose | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int16]]:
        """Users (n,) and items (n,) of the interactions at these positions, and then of what was drawn beside each; and words
        (n, inputs) for dropout, of which any is as likely as any other (`unblur.training.networks.least_kept`).

        All is drawn by SFC64 (Doty-Humphrey, PractRand), in which what trains on it has no part; `choose` is a faster way to
        the same negatives.
        """
        chance = np.random.SFC64(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        users = np.tile(np.searchsorted(self.starts, rows, side="right") - 1, 1 + self.spec.negatives)
        n, beside, inputs = len(users), self.spec.negatives * len(rows), self.module.inputs
        candidates = chance.random_raw((1 + REDRAWN) * beside).reshape(1 + REDRAWN, beside)
        others = (choose or self.choose)(users[len(rows) :], candidates)
        words = chance.random_raw(-(-n * inputs // 4)).view(np.int16)[: n * inputs].reshape(n, -1)
        return users, np.concatenate((self.train.matrix.indices[rows].astype(np.int64), others)), words

    def choose(self, users: NDArray[np.int64], candidates: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The first of the candidates, (1 + REDRAWN, n), that its user, (n,), does not have, or the last one: (n,)."""
        n_items, others, waiting = self.train.n_items, np.empty_like(users), np.arange(len(users))
        for words in candidates:
            others[waiting] = ((words[waiting] >> np.uint64(32)) * np.uint64(n_items)) >> np.uint64(32)
            keys = users[waiting] * n_items + others[waiting]
            places = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
            waiting = waiting[self._pairs[places] == keys]
        return others

    @cached_property
    def _pairs(self) -> NDArray[np.int64]:
        """One number for each interaction, ascending."""
        return self.train.rows().astype(np.int64) * self.train.n_items + self.train.matrix.indices


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NeuMFRecommender(NetworkRecommender["NeuMF", PairNetwork]):
    """Holds the items' side and the mean user; a history is scored by a vector that is fitted to it."""

    keys: NDArray[np.uint64] = learned("remembered", dtype="uint64")
    """Of the rows of users that are remembered, ascending; none unless `remember_users`."""
    vectors: NDArray[np.float32] = learned("remembered", "width")
    """Their learned vectors."""

    def blank(self) -> PairNetwork:
        """The network of items, with one mean user."""
        return PairNetwork(1, len(self.items), self.spec)

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        scores = np.empty((histories.n_users, len(self.items)), dtype=np.float32)
        sides = _Sides(self.network)
        size = max(1, MOST_CELLS // max(1, sides.by_item.numel()))
        for start in range(0, histories.n_users, size):
            rows = slice(start, min(start + size, histories.n_users))
            batch = histories.take_users(rows)
            keys = row_keys(batch.matrix, 0)
            known = np.isin(keys, self.keys)
            vectors = sides.network.users.repeat(batch.n_users, 1)
            remembered = torch.from_numpy(self.vectors[np.searchsorted(self.keys, keys[known])])
            vectors[torch.as_tensor(known)] = remembered.to(vectors)
            if not known.all():
                held = torch.tensor(batch.matrix[~known].toarray() > 0, device=vectors.device)
                folded = sides.folded(held, self.spec.fold_in_steps, self.spec.fold_in_rate)
                vectors[torch.as_tensor(~known)] = folded
            with torch.no_grad():
                scores[rows] = sides.scores(vectors).cpu().numpy()
        return scores


class _Sides:
    """The network in float64, its first layer split into what the user and what the item adds."""

    def __init__(self, network: PairNetwork) -> None:
        self.network = deepcopy(network).double()
        self.by_user, by_item = self.network.weights[0].chunk(2, 1)
        self.by_item = self.network.items[:, network.factors :] @ by_item.T + self.network.biases[0]

    def scores(self, users: Tensor) -> Tensor:
        """Logits of all items, (n, n_items), for users' vectors (n, width)."""
        network, k = self.network, self.network.factors
        h = torch.relu((users[:, k:] @ self.by_user.T)[:, None, :] + self.by_item[None])
        for weight, bias in zip(network.weights[1:], network.biases[1:], strict=True):
            h = torch.relu(functional.linear(h, weight, bias))
        product = (users[:, :k] * network.last[0, :k]) @ network.items[:, :k].T
        return product + h @ network.last[0, k:] + network.last_bias

    def folded(self, held: Tensor, steps: int, rate: float) -> Tensor:
        """A vector for each history, (n, n_items) bool, by Adam from the mean user: the loss of training in
        expectation, items of the history and all others counting the same."""
        users = self.network.users.repeat(len(held), 1)
        share = held / held.sum(1, keepdim=True).clamp_min(1)
        others = ~held / (~held).sum(1, keepdim=True).clamp_min(1)
        mean, square = torch.zeros_like(users), torch.zeros_like(users)
        for step in range(1, steps + 1):
            users.requires_grad_()
            made = self.scores(users)
            loss = (functional.softplus(-made) * share + functional.softplus(made) * others).sum()
            (gradient,) = torch.autograd.grad(loss, users)
            mean.mul_(0.9).add_(gradient, alpha=0.1)
            square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            moved = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            users = users.detach() - rate * moved
        return users
