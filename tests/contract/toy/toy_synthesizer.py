"""A synthesizer of another distribution: users with one item each, drawn by popularity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.fitted import StoppingData, learned
from unblur.progress import Run
from unblur.randomness import RNG
from unblur.spec import spec
from unblur.synthesis.synthesizer import Blocks, Rows, Synthesizer, SynthesizerSpec


@spec
class OneItem(SynthesizerSpec["OneItemSynthesizer"]):
    kind: ClassVar[str] = "one-item"
    fitted: ClassVar[str] = "toy_synthesizer:OneItemSynthesizer"

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> OneItemSynthesizer:
        shares = train.item_degrees / train.n_interactions
        return OneItemSynthesizer(self, train.items, train.n_users, shares=shares)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class OneItemSynthesizer(Synthesizer):
    shares: NDArray[np.float64] = learned("items", dtype="float64")

    def _rows(self, blocks: Blocks) -> Rows:
        for block in blocks:
            items = block.random.choice(len(self.items), size=block.size, p=self.shares)
            cells = (np.ones(block.size, dtype=np.float32), (np.arange(block.size), items))
            yield sparse.csr_array(cells, shape=(block.size, len(self.items)))
