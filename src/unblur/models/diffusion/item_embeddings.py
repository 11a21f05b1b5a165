"""Item embeddings made from the train interactions alone: spectral ones, and those of a LightGCN."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from unblur.data.interactions import Interactions
from unblur.models.diffusion.settings import LightGCN
from unblur.models.spectral.normalization import normalize
from unblur.models.spectral.spectrum import truncated_svd
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams, torch_generator
from unblur.training.rows import RowBatch, SparseRows


def spectral_embeddings(train: Interactions, width: int, *, rng: RNG | None = None) -> NDArray[np.float32]:
    """V·Σ of the normalised train matrix, (n_items, at most `width`): its leading right singular vectors,
    scaled."""
    rank = min(width, train.n_users, train.n_items)
    spectrum = truncated_svd(normalize(train).matrix, rank, rng=rng)
    made: NDArray[np.float32] = spectrum.right * spectrum.values.astype(np.float32)
    return made


def lightgcn_embeddings(
    train: Interactions,
    width: int,
    settings: LightGCN,
    *,
    rng: RNG | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """The item embeddings of a LightGCN (He et al., SIGIR 2020) trained on `train`, (n_items, `width`).

    Embeddings of users and items, averaged over `layers` + 1 propagations through the normalised graph, are
    trained so that an item a user has scores above a random one (BPR; Rendle et al., UAI 2009). Negatives
    that happen to be the user's own are drawn again, once.
    """
    chance = streams(rng, "initial", "pairs")
    graph = interaction_graph(train)
    start = (
        torch.randn(graph.n_rows, width, generator=torch_generator(chance["initial"])) * settings.deviation
    )
    start.requires_grad_()
    optimizer = torch.optim.Adam([start], lr=settings.learning_rate, fused=True)
    users, items, random = (
        train.rows().astype(np.int64),
        train.matrix.indices.astype(np.int64),
        chance["pairs"],
    )
    for epoch in range(settings.epochs):
        total = 0.0
        for pairs in np.array_split(
            random.permutation(len(users)), max(1, len(users) // settings.batch_size)
        ):
            negatives = random.integers(0, train.n_items, len(pairs))
            own = train.contains(users[pairs], negatives)
            negatives[own] = random.integers(0, train.n_items, int(own.sum()))
            final = propagated(graph, start, settings.layers)
            who = torch.from_numpy(users[pairs])
            liked, other = (torch.from_numpy(n) + train.n_users for n in (items[pairs], negatives))
            loss = pairwise_loss(final, start, who, liked, other, settings.ridge)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(pairs)
        values = {"loss": total / len(users)}
        progress(
            ProgressEvent("train", epoch + 1, settings.epochs, values, kind="epoch", part="item embeddings")
        )
    with torch.no_grad():
        made: NDArray[np.float32] = propagated(graph, start, settings.layers)[train.n_users :].numpy()
    return made


def interaction_graph(train: Interactions, device: torch.device | str = "cpu") -> RowBatch:
    """The normalised graph of users and items, symmetric, users first."""
    weights = normalize(train).matrix
    both = sparse.csr_array(sparse.block_array([[None, weights], [weights.T, None]], format="csr"))
    return SparseRows.of(both, device).all()


def pairwise_loss(
    final: Tensor, start: Tensor, users: Tensor, liked: Tensor, other: Tensor, ridge: float
) -> Tensor:
    """Bayesian personalised ranking (Rendle et al., UAI 2009): ``−log σ(e_u·e_liked − e_u·e_other)``, mean over
    pairs, and the ridge on the embeddings that the pairs begin with. The three are positions in the graph."""
    margin = (final[users] * (final[liked] - final[other])).sum(1)
    used = start[torch.cat((users, liked, other))]
    return functional.softplus(-margin).mean() + ridge * used.square().sum() / (2 * len(users))


class _Symmetric(torch.autograd.Function):
    """The product of a symmetric sparse matrix and a table; its gradient is the same product."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, table: Tensor, graph: RowBatch) -> Tensor:
        ctx.graph = graph  # type: ignore[attr-defined]
        return graph.times(table)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        graph: RowBatch = ctx.graph  # type: ignore[attr-defined]
        return graph.times(gradients[0].contiguous()), None


def layers_of(graph: RowBatch, start: Tensor, layers: int) -> list[Tensor]:
    """The embeddings after 0 … `layers` propagations (He et al., equation 7)."""
    made = [start]
    for _ in range(layers):
        made.append(_Symmetric.apply(made[-1], graph))  # type: ignore[no-untyped-call]
    return made


def propagated(graph: RowBatch, start: Tensor, layers: int) -> Tensor:
    """Their mean (He et al., equation 8)."""
    total = torch.zeros_like(start)
    for layer in layers_of(graph, start, layers):
        total = total + layer
    return total / (layers + 1)
