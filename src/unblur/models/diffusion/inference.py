"""Reverse diffusion of whole batches, folded where that is exact, with noise that belongs to the rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.folding import FoldedChain, foldable
from unblur.models.diffusion.row_noise import Keys, row_normals
from unblur.models.diffusion.sampling import ReverseChain, denoise, noised, reverse_chain
from unblur.models.diffusion.schedule import Schedule, noise_schedule
from unblur.models.diffusion.settings import Objective, Sampling
from unblur.models.diffusion.shortened import ShortenedChain, ShortenedRun
from unblur.models.diffusion.shortening import CHECK_ROWS, FIT_ROWS, Scores, shortenable, shortened
from unblur.parallel.threads import in_threads
from unblur.training.rows import RowBatch, SparseRows

MOST_ROWS = 1024
"""How many histories are scored together; bounds the memory between."""
FEWEST_ROWS = 16
"""Fewer are filled up: matrix products of a handful of rows take other routes and differ in the last bits."""
MOST_ITEMS_FILLED = 8192
"""With more items than this nothing is filled up; it would cost a lone user more time than the last bits are
worth."""


@dataclass(frozen=True, eq=False)
class Inference:
    """A trained network with the way its chain is run (paper, section 3.3)."""

    network: DenoisingNetwork
    schedule: Schedule
    objective: Objective
    sampling: Sampling
    shorter: ShortenedChain | None = None
    """A chain to take in place of the whole one, where it stands for that one within the tolerance."""

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

    @cached_property
    def _shortened(self) -> ShortenedRun | None:
        """The shortened chain that is taken, with its network."""
        if self.shortening is None or self.folded is None:
            return None
        return ShortenedRun(self.folded, self.shortening)

    @cached_property
    def shortening(self) -> ShortenedChain | None:
        """The shortened chain that is taken, if one is."""
        found = self.shorter
        if found is None or self.folded is None or self.sampling.inference_steps is not None:
            return None
        return found if found.suits(self.chain, self.sampling.tolerance) else None

    @torch.no_grad()
    def calibrated(self, start: Callable[[], Tensor], scores: Scores) -> Inference:
        """The same with a shortened chain, where one keeps within the tolerance.

        `start` gives z of the start, (n, first hidden width), of a sample of rows; it is asked only where a
        chain can be shortened. `scores` makes scores of last hidden values.
        """
        folded = None if self.noisy or self.sampling.inference_steps else self.folded
        tolerance = self.sampling.tolerance
        if folded is None or not shortenable(folded.chain, tolerance):
            return self
        return replace(self, shorter=shortened(folded, start(), scores, tolerance=tolerance))

    def sparse(self, batch: RowBatch, keys: Keys | None = None) -> Tensor:
        """The clean rows, (n, width), behind sparse ones; `keys` are those of `row_keys`, needed where
        `noisy`."""
        folded = self.folded
        if folded is None or self.noisy:
            return self.dense(batch.dense(), keys)
        start = batch.dense() if self.chain.start_weight else None
        return folded.rows(self._hidden(folded, batch.times(self.network.item_in)), start)

    def dense(self, start: Tensor, keys: Keys | None = None) -> Tensor:
        """The clean rows, (n, width), behind dense ones."""
        noise = None if keys is None or not self.noisy else self._noise(keys)
        if noise is not None and self.sampling.start_steps:
            start = noised(start, noise_schedule(self.schedule), self.sampling.start_steps, noise(0))
        folded = self.folded
        if folded is not None:
            return folded.rows(self._hidden(folded, start @ self.network.item_in), start)
        later = noise if noise is not None and self.sampling.noise else None
        return denoise(
            self.network, self.chain, start, None if later is None else lambda place: later(place + 1)
        )

    def _hidden(self, folded: FoldedChain, first: Tensor) -> Tensor:
        return (folded if self._shortened is None else self._shortened).hidden(first)

    def _noise(self, keys: Keys) -> Callable[[int], Tensor]:
        width, device = self.network.width, self.network.item_in.device
        return lambda draw: torch.from_numpy(row_normals(keys, draw, width)).to(device)


def calibration_rows(rows: SparseRows, filled: Tensor) -> RowBatch:
    """The sample of training rows that chains are shortened with: spread evenly over the `filled` positions."""
    count = min(len(filled), FIT_ROWS + CHECK_ROWS)
    places = torch.arange(count, device=filled.device) * len(filled) // max(1, count)
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(filled.device)
    return rows.take(filled[places[shuffled]])


def scored(
    matrix: sparse.csr_array,
    keys: Keys | None,
    score: Callable[[RowBatch, Keys | None], Tensor],
    device: torch.device,
) -> NDArray[np.float32]:
    """What `score` makes of all rows, in blocks, on a CPU one thread for each: (n_rows, n_items) float32 in the
    memory of the CPU."""
    rows, made = SparseRows.of(matrix, device), np.empty(matrix.shape, dtype=np.float32)
    fewest = FEWEST_ROWS if matrix.shape[1] <= MOST_ITEMS_FILLED else 1
    target = torch.from_numpy(made)

    @torch.no_grad()
    def block(start: int) -> None:
        stop = min(start + MOST_ROWS, len(rows))
        places = np.minimum(np.arange(start, max(stop, start + fewest)), stop - 1)
        part = score(
            rows.take(torch.as_tensor(places, device=device)), None if keys is None else keys[places]
        )
        target[start:stop] = part[: stop - start]

    starts = range(0, len(rows), MOST_ROWS)
    each = in_threads(block, starts) if device.type == "cpu" else (block(start) for start in starts)
    with closing(each):
        deque(each, maxlen=0)
    return made
