"""LightGCN: embeddings smoothed along the graph of users and items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat
from scipy import sparse
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from unblur.data.interactions import Interactions
from unblur.models.linear.factors import Factors
from unblur.models.linear.neighbours import inverse
from unblur.models.spectral.operator import normalize
from unblur.randomness import streams, torch_generator
from unblur.recommender import learned
from unblur.spec import Count, Depth, Dimension, Rounds, Width, choices, spec
from unblur.training.loop import Moment
from unblur.training.networks import Weights
from unblur.training.rows import RowBatch, SparseRows
from unblur.training.run import TrainedByEpochs
from unblur.training.settings import Optimizer, Stopping


@spec(renamed={"width": "embedding_size", "deviation": "init_std"})
class LightGCN(TrainedByEpochs["GraphFactors"]):
    """LightGCN (He et al., SIGIR 2020, arXiv 2002.02126), trained by BPR (Rendle et al., UAI 2009) or by a softmax.

    Embeddings of users and items begin as parameters e⁰ and are smoothed K times, ``e_u^(k+1) = Σ_i e_i^k /
    √(d_u d_i)`` and likewise for items (equation 3); a final embedding is the mean over the K + 1 layers (equation 4), and
    a score the product of a user's and an item's.

    **A user is a history row**, so scores fold the row in: the user's layers k ≥ 1 follow from those of the items by
    equation 3, and its own e⁰, which a new user does not have, is left out:
    ``e_x = Σ_{i∈x} q_i`` with ``q_i = (e_i^0 + … + e_i^(K−1)) / ((K + 1)·√d_i)``. The factor 1/√|x|, which a row's scores share,
    is left out too, and so scores are linear in the row.

    **loss = "softmax"** (Wu et al., On the Effectiveness of Sampled Softmax Loss for Item Recommendation, ACM TOIS
    42(4), 2024, arXiv 2201.02327) learns from whole users in place of pairs:
    ``Σ_{i∈u} (log Σ_{j∈N} exp(s_uj) − s_ui)`` over a batch's users, by its interactions, with ``s = cos(e_u, e_i) / τ`` and items
    N drawn evenly, the same for a batch. Unlike theirs the positive item is not added to the sum, so with as many
    negatives as there are items this is the multinomial likelihood. Final embeddings of items then have length 1, and
    so scores rank as the cosine does.
    """

    kind: ClassVar[str] = "lightgcn"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.neural.lightgcn:GraphFactors"
    learner: ClassVar[str] = "unblur.models.neural.lightgcn:GraphLearner"
    embedding_size: Width = 64
    """Width of the embeddings."""
    layers: Depth = 3
    """The number of times that embeddings are smoothed: K."""
    users: Literal["embedded", "from-items"] = "embedded"
    """In training, users have embeddings e⁰ of their own (the paper), or none, as when they are scored."""
    loss: Literal["bpr", "softmax"] = "bpr"
    """BPR, or the sampled softmax of cosines, which needs far fewer passes; best with `users` "from-items"."""
    temperature: PositiveFloat = 0.1
    """The divisor of cosines in the softmax: τ. Without effect on BPR."""
    negatives: Count = 4096
    """The number of items drawn for the softmax, all if there are no more. Without effect on BPR."""
    init_std: PositiveFloat = 0.1
    """The standard deviation that embeddings begin with."""
    ridge: NonNegativeFloat = 1e-4
    """The L2 penalty on the e⁰ that a batch uses: λ."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """The optimizer of the embeddings."""
    decay: Literal["none", "linear"] = "none"
    """``linear``: the learning rate falls to 0 over `epochs`, which then should be few."""
    epochs: Rounds = 1000
    """The most passes over the interactions."""
    batch_size: Count = 2048
    """Interactions a batch, users a batch with the softmax; each costs a whole propagation."""
    precision: Literal["float32"] = "float32"
    """The precision of products in training."""
    stopping: Stopping | None = Stopping()
    """The rule by which training ends early; `None` trains all epochs on all of train."""

    @property
    def decays(self) -> Literal["none", "linear"]:
        """The field `decay`."""
        return self.decay

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(
            optimizer__learning_rate=(3e-3, 1e-3, 5e-4),
            ridge=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
            layers=(1, 2, 3, 4),
            embedding_size=(32, 64, 128),
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GraphFactors(Factors):
    """`Factors` whose two tables always differ."""

    outward: NDArray[np.float32] = learned("items", "width")
    """The items' final embeddings; `inward` are q."""


ROWS_TOGETHER = 128
"""The number of rows with logits in memory at a time; with some thousand columns they stay in a cache."""


class GraphLearner:
    """Trains the e⁰ of a LightGCN on pairs of a user and an item (BPR), or on users with all their items (softmax)."""

    def __init__(
        self,
        spec: LightGCN,
        train: Interactions,
        item_counts: NDArray[np.int64],
        seed: int,
        device: torch.device,
    ) -> None:
        """`item_counts`: of all interactions, validation data included, for users without a history."""
        self.spec, self.items, self.item_counts, self.n_users = spec, train.items, item_counts, train.n_users
        self.graph = interaction_graph(train, device)
        self._degrees = train.item_degrees
        self._users = torch.as_tensor(train.rows().astype(np.int64), device=device)
        self._items = torch.as_tensor(train.matrix.indices.astype(np.int64), device=device)
        self._pair_keys = (
            self._users * train.n_items + self._items
        )  # ascending, since the matrix is canonical
        self._row_graph = _RowGraph(train, device) if spec.loss == "softmax" else None
        chance = torch_generator(streams(seed, "initial weights")["initial weights"])
        start = (
            torch.randn(train.n_users + train.n_items, spec.embedding_size, generator=chance) * spec.init_std
        )
        users, items = start.split([train.n_users, train.n_items])
        parts = {"item_start": nn.Parameter(items.clone().to(device))}
        if spec.users == "embedded":
            parts["user_start"] = nn.Parameter(users.clone().to(device))
        self.module: nn.Module = nn.ParameterDict(parts)
        self.groups = [(self.module, spec.optimizer)]
        self.n_rows = len(self._users if self._row_graph is None else self._row_graph.filled)
        self._zero_users = torch.zeros(train.n_users, spec.embedding_size, device=device)

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """Return the mean loss: of interactions by BPR, of users by the softmax."""
        if self._row_graph is not None:
            return self._softmax(self._row_graph, rows, generator)
        return self._pairwise(rows, generator)

    def _pairwise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return the BPR loss of some interactions, each with a uniformly drawn negative."""
        users, n_items = self._users[rows], len(self.items)
        negatives = self._draw_items(len(rows), generator)
        keys = users * n_items + negatives
        indices = torch.searchsorted(self._pair_keys, keys).clamp_max(len(self._pair_keys) - 1)
        # A negative that the user has is drawn again, once; it may then be one of the user's items all the same.
        redrawn = self._draw_items(len(rows), generator)
        negatives = torch.where(self._pair_keys[indices] == keys, redrawn, negatives)
        weights = dict(self.module.named_parameters())
        start = torch.cat((weights.get("user_start", self._zero_users), weights["item_start"]))
        final = propagate(self.graph, start, self.spec.layers)
        first = self.n_users
        return pairwise_loss(
            final, start, users, self._items[rows] + first, negatives + first, self.spec.ridge
        )

    def _softmax(self, graph: _RowGraph, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return the softmax loss of some users over the same drawn items, mean over their interactions."""
        spec, user_indices = self.spec, graph.filled[rows]
        weights = dict(self.module.named_parameters())
        if "user_start" in weights:
            start = torch.cat((weights["user_start"], weights["item_start"]))
            final, items = propagate(self.graph, start, spec.layers).split([self.n_users, len(self.items)])
            users = final[user_indices]
        else:
            inner, items = graph.embeddings(weights["item_start"], spec.layers)
            users = graph.weighted.take(user_indices).times(inner)
        # Sums over layers do for their means here: cosines do not depend on length.
        users = functional.normalize(users) / spec.temperature
        items = functional.normalize(items)
        histories = graph.plain.take(user_indices)
        counts = graph.plain.lengths[user_indices]
        sampled = spec.negatives < len(items)
        candidates = items[self._draw_items(spec.negatives, generator)] if sampled else items
        # Σ_{i∈u} s_ui is the user's product with the sum of its items, and the partition counts once for each of them.
        positives = (users * histories.times(items)).sum(1)
        loss = (counts * log_partition(users, candidates) - positives).sum() / counts.sum()
        if spec.ridge:
            squares = histories.times(weights["item_start"].square().sum(1, keepdim=True)).sum()
            if "user_start" in weights:
                squares = squares + (counts * weights["user_start"][user_indices].square().sum(1)).sum()
            loss = loss + spec.ridge * squares / (2 * counts.sum())
        return loss

    @torch.no_grad()
    def fitted(self, weights: Weights) -> GraphFactors:
        """The recommender with these embeddings: `inward` are q, `outward` the items' final embeddings."""
        start = torch.cat((weights.get("user_start", self._zero_users), weights["item_start"]))
        layers = [layer[self.n_users :] for layer in propagate_layers(self.graph, start, self.spec.layers)]
        scale = inverse(self._degrees.astype(np.float64), 0.5)[:, None] / len(layers)
        inward = torch.stack(layers[:-1]).sum(0).cpu().numpy() * scale
        outward = torch.stack(layers).mean(0)
        if self.spec.loss == "softmax":
            outward = functional.normalize(outward)
        return GraphFactors(
            self.spec,
            self.items,
            self.item_counts,
            inward=inward.astype(np.float32),
            outward=outward.cpu().numpy(),
        )

    def _draw_items(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self.items), (n,), generator=generator, device=self._users.device)


class _RowGraph:
    """The rows of train for the softmax, and the graph from items to users and back."""

    def __init__(self, train: Interactions, device: torch.device) -> None:
        weights = normalize(train.binarized())
        self.filled = torch.as_tensor(np.flatnonzero(train.user_degrees), device=device)
        self.plain = SparseRows.of(train.binarized().matrix, device)
        self.weighted = SparseRows.of(weights, device)
        self._to_users, self._to_items = (
            self.weighted.all(),
            SparseRows.of(sparse.csr_array(weights.T), device).all(),
        )

    def embeddings(self, start: Tensor, layers: int) -> tuple[Tensor, Tensor]:
        """Return Σ_{k<K} e^k and Σ_{k≤K} e^k of the items if users have no e⁰, so that items' odd layers are zero.

        A user's final embedding is the normalised row times the first sum, so users' layers need not be kept.
        """
        inner = total = layer = start
        for k in range(2, layers + 1, 2):
            users = _Product.apply(layer, self._to_users, self._to_items)  # type: ignore[no-untyped-call]
            layer = _Product.apply(users, self._to_items, self._to_users)  # type: ignore[no-untyped-call]
            total = total + layer
            inner = total if k < layers else inner
        return inner, total


class _Product(torch.autograd.Function):
    """The product of a sparse matrix and a table; its gradient is that of the transposed matrix."""

    @staticmethod
    def forward(ctx: FunctionCtx, table: Tensor, matrix: RowBatch, transposed: RowBatch) -> Tensor:
        ctx.transposed = transposed  # type: ignore[attr-defined]
        return matrix.times(table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        transposed: RowBatch = ctx.transposed
        return transposed.times(gradients[0].contiguous()), None, None


def interaction_graph(train: Interactions, device: torch.device | str = "cpu") -> RowBatch:
    """Return the normalised graph of users and items, symmetric, users first."""
    weights = normalize(train.binarized())
    both = sparse.csr_array(sparse.block_array([[None, weights], [weights.T, None]], format="csr"))
    return SparseRows.of(both, device).all()


def pairwise_loss(
    final: Tensor, start: Tensor, users: Tensor, positives: Tensor, negatives: Tensor, ridge: float
) -> Tensor:
    """Return the loss of Bayesian personalised ranking (Rendle et al., UAI 2009), mean over pairs.

    It is ``−log σ(e_u·e_i − e_u·e_j)`` of users u, their items i and negatives j, all positions in the graph, plus
    the ridge on the initial embeddings of these.
    """
    margin = (final[users] * (final[positives] - final[negatives])).sum(1)
    parameters = start[torch.cat((users, positives, negatives))]
    return functional.softplus(-margin).mean() + ridge * parameters.square().sum() / (2 * len(users))


def propagate_layers(graph: RowBatch, start: Tensor, layers: int) -> list[Tensor]:
    """Return the embeddings after 0 … `layers` propagations (He et al., equation 7)."""
    embeddings = [start]
    for _ in range(layers):
        # The graph is symmetric, and so its own transpose.
        embeddings.append(_Product.apply(embeddings[-1], graph, graph))  # type: ignore[no-untyped-call]
    return embeddings


def propagate(graph: RowBatch, start: Tensor, layers: int) -> Tensor:
    """Return the mean of the embeddings after 0 … `layers` propagations (He et al., equation 8)."""
    return sum(propagate_layers(graph, start, layers), torch.zeros_like(start)) / (layers + 1)


class _LogPartition(torch.autograd.Function):
    """The log of sums of exponentials, with logits computed in blocks of rows, and again for the gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, columns: Tensor) -> Tensor:
        logs = torch.cat([torch.logsumexp(block @ columns.T, 1) for block in rows.split(ROWS_TOGETHER)])
        ctx.save_for_backward(rows, columns, logs)
        return logs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns, logs = ctx.saved_tensors
        row_gradients, column_gradients = torch.empty_like(rows), torch.zeros_like(columns)
        for start in range(0, len(rows), ROWS_TOGETHER):
            block = slice(start, start + ROWS_TOGETHER)
            probabilities = (
                (rows[block] @ columns.T).sub_(logs[block, None]).exp_().mul_(gradients[0][block, None])
            )
            torch.mm(probabilities, columns, out=row_gradients[block])
            column_gradients.addmm_(probabilities.T, rows[block])
        return row_gradients, column_gradients


def log_partition(rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``log Σ_j exp(rows_i·columns_j)``, (n,), of tables (n, width) and (m, width).

    Differentiable in both; memory grows with m, not with n·m.
    """
    logs: Tensor = _LogPartition.apply(rows, columns)  # type: ignore[no-untyped-call]
    return logs
