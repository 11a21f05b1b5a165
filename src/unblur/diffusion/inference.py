"""Reverse diffusion of whole batches, folded where that is exact, with noise that belongs to the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unblur.diffusion.denoiser import DenoisingNetwork
from unblur.diffusion.folding import FoldedChain, foldable
from unblur.diffusion.row_noise import Keys, row_normals
from unblur.diffusion.rows import RowBatch
from unblur.diffusion.sampling import ReverseChain, denoise, noised, reverse_chain
from unblur.diffusion.schedule import Schedule, noise_schedule
from unblur.diffusion.settings import Objective, Sampling


@dataclass(frozen=True, eq=False)
class Inference:
    """A trained network with the way its chain is run (paper, section 3.3)."""

    network: DenoisingNetwork
    schedule: Schedule
    objective: Objective
    sampling: Sampling

    @property
    def noisy(self) -> bool:
        """Whether rows need noise: at the start, or at each step."""
        return not self.schedule.noiseless and (self.sampling.start_steps > 0 or self.sampling.noise)

    @cached_property
    def chain(self) -> ReverseChain:
        """The reverse steps that are taken."""
        return reverse_chain(
            self.schedule, predicts=self.objective.predicts, most_steps=self.sampling.inference_steps
        )

    @cached_property
    def folded(self) -> FoldedChain | None:
        """The chain in the hidden space, where it can be had."""
        if not foldable(self.network, sampling_noise=self.sampling.noise and self.noisy):
            return None
        return FoldedChain.of(self.network, self.chain)

    def sparse(self, batch: RowBatch, keys: Keys | None = None) -> Tensor:
        """The clean rows, (n, width), behind sparse ones; `keys` are those of `row_keys`, needed where
        `noisy`."""
        folded = self.folded
        if folded is None or self.noisy:
            return self.dense(batch.dense(), keys)
        start = batch.dense() if self.chain.start_weight else None
        return folded.rows(folded.hidden(batch.times(self.network.item_in)), start)

    def dense(self, start: Tensor, keys: Keys | None = None) -> Tensor:
        """The clean rows, (n, width), behind dense ones."""
        noise = None if keys is None or not self.noisy else self._noise(keys)
        if noise is not None and self.sampling.start_steps:
            start = noised(start, noise_schedule(self.schedule), self.sampling.start_steps, noise(0))
        folded = self.folded
        if folded is not None:
            return folded(start)
        later = noise if noise is not None and self.sampling.noise else None
        return denoise(
            self.network, self.chain, start, None if later is None else lambda place: later(place + 1)
        )

    def _noise(self, keys: Keys) -> Callable[[int], Tensor]:
        width, device = self.network.width, self.network.item_in.device
        return lambda draw: torch.from_numpy(row_normals(keys, draw, width)).to(device)
