"""The variational autoencoder around latent diffusion: an encoder for each cluster of items (paper, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from unblur.errors import SpecError
from unblur.models.diffusion.settings import Autoencoder
from unblur.models.variational import Encoding
from unblur.training.networks import ACTIVATIONS, Activate, xavier_normal
from unblur.training.rows import RowBatch


class ClusteredAutoencoder(nn.Module):
    """One encoder a cluster; one linear decoder for all items, or one decoder a cluster.

    Each encoder sees its cluster's items only and fills its part of the latent, as wide as the cluster's
    share of the items. Weights begin Xavier-normal, biases at 0. `clusters` (n_items,) int64 says which
    cluster an item is in.
    """

    clusters: Tensor
    places: Tensor

    def __init__(
        self, clusters: NDArray[np.int64], settings: Autoencoder, generator: torch.Generator | None = None
    ) -> None:
        """Without a generator the weights are left to be loaded."""
        super().__init__()
        self.settings = settings
        self.activation = ACTIVATIONS[settings.activation]
        self.sizes: list[int] = np.bincount(clusters).tolist()
        self.shares = latent_shares(self.sizes, settings.encoder_dims[-1])
        places = np.empty(len(clusters), dtype=np.int64)
        for number, size in enumerate(self.sizes):
            places[clusters == number] = np.arange(size)
        self.register_buffer("clusters", torch.tensor(clusters, dtype=torch.int64), persistent=False)
        self.register_buffer("places", torch.tensor(places), persistent=False)
        encoder = settings.encoder_dims[:-1]
        self.encoders = nn.ModuleList(
            [
                _Encoder((size, *encoder, 2 * share))
                for size, share in zip(self.sizes, self.shares, strict=True)
            ]
        )
        if settings.decoder_dims:
            widths = [
                (share, *settings.decoder_dims, size)
                for size, share in zip(self.sizes, self.shares, strict=True)
            ]
        else:
            widths = [(settings.encoder_dims[-1], len(clusters))]
        self.decoders = nn.ModuleList([_Decoder(each) for each in widths])
        if generator is not None:
            xavier_normal(self.parameters(), generator)

    @property
    def latent_width(self) -> int:
        """Of the latent of a row."""
        return sum(self.shares)

    def encode(self, batch: RowBatch) -> Encoding:
        """Where sparse rows (n, n_items) lie; the first layers cost what the stored entries cost."""
        parts = [
            encoder(self._of_cluster(batch, number), self.activation).chunk(2, dim=1)
            for number, encoder in enumerate(self.encoders)
        ]
        return Encoding(torch.cat([part[0] for part in parts], 1), torch.cat([part[1] for part in parts], 1))

    def decode(self, latent: Tensor) -> Tensor:
        """Logits of all items, (n, n_items), from latents (n, latent)."""
        if not self.settings.decoder_dims:
            whole: Tensor = self.decoders[0](latent, self.activation)
            return whole
        parts = latent.split(self.shares, dim=1)
        logits = [decoder(part, self.activation) for decoder, part in zip(self.decoders, parts, strict=True)]
        starts = torch.tensor([0, *(part.shape[1] for part in logits[:-1])], device=latent.device).cumsum(0)
        return torch.cat(logits, 1)[:, starts[self.clusters] + self.places]

    def _of_cluster(self, batch: RowBatch, number: int) -> RowBatch:
        """The part of the rows in one cluster's items."""
        if len(self.encoders) == 1:
            return batch
        inside = self.clusters[batch.columns] == number
        return batch.kept(inside, self.places[batch.columns[inside]], self.sizes[number])


class _Encoder(nn.Module):
    """From sparse rows of the cluster's items to 2·share numbers; the activation follows every layer."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(widths[0], widths[1]))
        self.bias = nn.Parameter(torch.empty(widths[1]))
        self.weights = nn.ParameterList(
            [torch.empty(after, before) for before, after in pairwise(widths[1:])]
        )
        self.biases = nn.ParameterList([torch.empty(after) for after in widths[2:]])

    def forward(self, batch: RowBatch, activation: Activate) -> Tensor:
        h: Tensor = activation(batch.times(self.table) + self.bias)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = activation(functional.linear(h, weight, bias))
        return h


class _Decoder(nn.Module):
    """From a latent (or a part of it) to logits; the activation stands between layers."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.empty(after, before) for before, after in pairwise(widths)])
        self.biases = nn.ParameterList([torch.empty(after) for after in widths[1:]])

    def forward(self, latent: Tensor, activation: Activate) -> Tensor:
        h = latent
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = functional.linear(activation(h) if number else h, weight, bias)
        return h


def latent_shares(sizes: Sequence[int], width: int) -> list[int]:
    """How much of a latent each cluster gets: its share of the items, rounded down, at least 1; the last the
    rest.

    Raises `SpecError` when there are more clusters than numbers in the latent.
    """
    if len(sizes) > width:
        raise SpecError(
            f"Each cluster needs a part of the latent; there are {len(sizes)} clusters and a latent of "
            f"{width}. Raise the last of `autoencoder.encoder_dims`, or lower `clusters.count`."
        )
    total = sum(sizes)
    shares = [max(1, size * width // total) for size in sizes[:-1]]
    while sum(shares) > width - 1:
        shares[shares.index(max(shares))] -= 1
    return [*shares, width - sum(shares)]
