"""A network from a row to itself: each cell's 0 or 1 is embedded, and dense layers follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from unblur.data.interactions import Interactions, check_train
from unblur.data.splits import Split
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.models.neural.acceleration import faster
from unblur.parallel.devices import check_device
from unblur.randomness import RNG, streams, torch_generator
from unblur.recommender import RecommenderSpec, Run, StoppingData
from unblur.spec import Count, Dimension, Rounds, Width, WidthsOrNone, choices, spec
from unblur.training.loop import Moment, Training
from unblur.training.networks import NetworkRecommender, Weights, dropped, frozen
from unblur.training.rows import RowBatch, SparseRows, score_in_blocks
from unblur.training.settings import Dropout, Optimizer, Plan, Share, Stopping

Initialization: TypeAlias = Literal["fan-in", "glorot"]


@spec(renamed={"embedding": "embedding_size"})
class RowMLP(RecommenderSpec["RowMLPRecommender"]):
    """The MLP of the SDRM paper: an embedding of each cell's 0 or 1, flattened, then dense layers and sigmoid.

    Trained to reconstruct its input rows (binary cross-entropy), with early stopping on the root mean squared
    error of rows that are set aside, or of the held-out items of some users.
    """

    kind: ClassVar[str] = "row-mlp"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.neural.row_mlp:RowMLPRecommender"
    embedding_size: Width = 8
    """Width of the embedding of 0 and of 1."""
    dims: WidthsOrNone = (512, 256, 256)
    """Widths of the dense layers, each followed by ReLU and dropout."""
    dropout: Dropout = 0.5
    """After these layers."""
    dropout_after: Literal["each", "last"] = "last"
    """After each of them, or after the last alone, with which the published figures were obtained."""
    initialization: Initialization = "fan-in"
    """Initial weights: within ±1/√fan_in with normal embeddings, as layers of torch; or within
    ±√(6/(fan_in + fan_out)) (Glorot and Bengio, AISTATS 2010) with embeddings within ±.05 and biases at 0, as
    layers of Keras. The second keeps more units alive, so it learns sparse data better, and takes longer."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """The optimizer of all weights."""
    epochs: Rounds = 200
    """The most passes over the rows."""
    batch_size: Count = 16
    """Rows a batch."""
    patience: Count | None = 10
    """Training ends after this many epochs without a smaller error; `None` trains all epochs."""
    keep: Literal["best", "last"] = "best"
    """The weights that are kept if training stops by an error: the best epoch's, or the last one's, with which the
    published figures were obtained."""
    validation_users: Share = 0.1
    """The fraction of rows that is set aside for that if no validation data are passed."""

    @property
    def stops(self) -> bool:
        """True if training stops by the error on rows that are set aside."""
        return self.patience is not None

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(
            optimizer__learning_rate=(1e-3, 3e-4, 1e-4),
            dropout=(0.2, 0.5),
            dims=((256,), (512, 256, 256)),
        )

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> RowMLPRecommender:
        """Train; `validation` is rows to reconstruct, or histories with their held-out items, which alone are then the
        targets of the error."""
        device = torch.device(check_device(run.device))
        check_train(train)
        seed = int(streams(rng, "training")["training"].integers(0, 2**62))
        training_rows, judge, stopping = train, None, None
        if self.patience is not None:
            if validation is None:
                set_aside = np.zeros(train.n_users, dtype=bool)
                n_set_aside = max(1, round(self.validation_users * train.n_users))
                set_aside[streams(seed, "carve")["carve"].permutation(train.n_users)[:n_set_aside]] = True
                training_rows, validation = train.take_users(~set_aside), train.take_users(set_aside)
            judge = ErrorJudge(validation, train.items, device)
            # The loop counts the epoch that was best as well.
            stopping = Stopping(every=1, patience=self.patience + 1)
        if not training_rows.n_users:
            raise DataError(
                "There must be rows to train on besides those to stop by; saw none. Pass more users."
            )
        plan = Plan(self.epochs, self.batch_size, stopping=stopping, judged_by="minus the error")
        with faster(RowLearner(self, training_rows, seed, device)) as learner:
            network = Training(learner, plan, seed=seed, run=run, judge=judge).finished()
            weights = (network if self.keep == "best" else learner.module).state_dict()
        return RowMLPRecommender(self, train.items, train.item_degrees, device=run.device, weights=weights)


EMBEDDING_BOUND = 0.05
"""The bound of initial embeddings next to Glorot and Bengio's weights: the default of Keras' embedding layers."""
AT_ONCE = 1024
"""Rows whose error is measured together: bounds the memory."""


class _Table(torch.autograd.Function):
    """(E_1 − E_0)·W_i of every cell i, (n_items, width), and Σ_i E_0·W_i, (width,), with few passes over W.

    W, (embedding, n_items, width), is most of what a small batch costs: it is read twice here, read once and written
    once in the gradient.
    """

    @staticmethod
    def forward(ctx: Any, embedding: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        difference, sums = embedding[1] - embedding[0], cells.sum(1)
        ctx.save_for_backward(embedding, cells, sums)
        return (difference @ cells.view(len(cells), -1)).view(cells.shape[1:]), embedding[0] @ sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        embedding, cells, sums = ctx.saved_tensors
        summand_gradient, constant_gradient = gradients
        difference_gradient = cells.view(len(cells), -1) @ summand_gradient.reshape(-1)
        cell_gradients = torch.empty_like(cells)
        for k, (difference, zero_embedding) in enumerate(
            zip((embedding[1] - embedding[0]), embedding[0], strict=True)
        ):
            torch.add(
                constant_gradient * zero_embedding,
                summand_gradient,
                alpha=float(difference),
                out=cell_gradients[k],
            )
        return torch.stack(
            (sums @ constant_gradient - difference_gradient, difference_gradient)
        ), cell_gradients


class RowNetwork(nn.Module):
    """Rows (n, n_items) → logits (n, n_items)."""

    def __init__(self, n_items: int, spec: RowMLP, generator: torch.Generator | None = None) -> None:
        """Initialize weights by `spec.initialization`; without a generator they are left uninitialised, to be loaded."""
        super().__init__()
        widths = (*spec.dims, n_items)
        # Of the inputs of each hidden layer but the first, and of what the last one gives.
        self.dropout = [spec.dropout if spec.dropout_after == "each" else 0.0] * (len(spec.dims) - 1)
        self.dropout.append(spec.dropout)
        self.embedding = nn.Parameter(torch.empty(2, spec.embedding_size))
        self.cells = nn.Parameter(torch.empty(spec.embedding_size, n_items, widths[0]))
        self.cell_bias = nn.Parameter(torch.empty(widths[0]))
        self.weights = nn.ParameterList([torch.empty(after, before) for before, after in pairwise(widths)])
        self.biases = nn.ParameterList([torch.empty(after) for after in widths[1:]])
        if generator is not None:
            self._initialize(spec.initialization, generator)

    @torch.no_grad()
    def _initialize(self, initialization: Initialization, generator: torch.Generator) -> None:
        cells = self.cells.flatten(0, 1)
        if initialization == "glorot":
            self.embedding.uniform_(-EMBEDDING_BOUND, EMBEDDING_BOUND, generator=generator)
            for weight in (cells, *self.weights):
                nn.init.xavier_uniform_(weight, generator=generator)
            for bias in (self.cell_bias, *self.biases):
                bias.zero_()
            return
        self.embedding.normal_(generator=generator)
        fan_ins = [weight.shape[1] for weight in self.weights]
        parameters = (cells, self.cell_bias, *self.weights, *self.biases)
        for parameter, fan_in in zip(parameters, (len(cells), len(cells), *fan_ins, *fan_ins), strict=True):
            parameter.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)

    def table(self) -> tuple[Tensor, Tensor]:
        """The first layer as a linear map of the row: each item's summand, (n_items, width), and a constant, (width,)."""
        summands, constant = _Table.apply(self.embedding, self.cells)  # type: ignore[no-untyped-call]
        return summands, constant + self.cell_bias

    def forward(
        self,
        rows: RowBatch,
        generator: torch.Generator | None = None,
        table: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Logits, (n, n_items); dropout needs the generator."""
        summands, constant = self.table() if table is None else table
        h = self.hidden(rows.times(summands) + constant, generator)
        return functional.linear(h, self.weights[-1], self.biases[-1])

    def hidden(self, first: Tensor, generator: torch.Generator | None) -> Tensor:
        """The inputs of the last layer, (n, last width), from the sums of the first one, (n, first width)."""
        h, scale = dropped(torch.relu(first), self.dropout[0], generator)
        for weight, bias, rate in zip(self.weights[:-1], self.biases[:-1], self.dropout[1:], strict=True):
            h, scale = dropped(torch.relu(torch.addmm(bias, h, weight.T, alpha=scale)), rate, generator)
        return h if scale == 1 else h * scale


class RowLearner:
    """Trains the network to reconstruct rows."""

    def __init__(self, spec: RowMLP, train: Interactions, seed: int, device: torch.device) -> None:
        self.spec, self.n_items = spec, train.n_items
        self.rows = SparseRows.of(train.binarized().matrix, device)
        generator = torch_generator(streams(seed, "initial weights")["initial weights"])
        self.module = RowNetwork(train.n_items, spec, generator).to(device)
        self.groups, self.n_rows = [(self.module, spec.optimizer)], len(self.rows)

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean binary cross-entropy of some rows' cells."""
        batch = self.rows.take(rows)
        return functional.binary_cross_entropy_with_logits(self.module(batch, generator), batch.dense())

    def fitted(self, weights: Weights) -> RowNetwork:
        """The network with these weights, which are frozen."""
        return frozen(lambda: RowNetwork(self.n_items, self.spec), weights)


class ErrorJudge:
    """Measures how well a network reconstructs the rows that a training stops by."""

    def __init__(self, validation: StoppingData, items: Vocabulary, device: torch.device) -> None:
        """`validation` is rows to reconstruct, or histories with their held-out items as targets."""
        sides = (
            (validation.histories, validation.held_out)
            if isinstance(validation, Split)
            else (validation, validation)
        )
        self.histories, self.targets = (
            SparseRows.of(rows.onto(items=items).binarized().matrix, device) for rows in sides
        )

    @torch.no_grad()
    def __call__(self, network: RowNetwork) -> float:
        """Return minus the root mean squared error of the probabilities of all cells: higher is better."""
        table, total, rows = network.table(), 0.0, self.histories
        for batch in torch.arange(len(rows), device=rows.starts.device).split(AT_ONCE):
            probabilities = torch.sigmoid(network(rows.take(batch), table=table))
            errors = probabilities - self.targets.take(batch).dense()
            total += float(errors.square().sum(dtype=torch.float64))
        return -math.sqrt(total / (len(rows) * rows.n_columns))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RowMLPRecommender(NetworkRecommender["RowMLP", RowNetwork]):
    """Scores are the logits of a history row."""

    def blank(self) -> RowNetwork:
        """The network, uninitialised."""
        return RowNetwork(len(self.items), self.spec)

    def item_vectors(self) -> NDArray[np.float32]:
        """The last layer's weights of each item's logit."""
        return np.asarray(self.network.weights[-1].cpu().numpy())

    @torch.no_grad()
    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        table = self.network.table()
        matrix = histories.binarized().matrix
        return score_in_blocks(matrix, lambda rows, _: self.network(rows, table=table), table[0].device)
