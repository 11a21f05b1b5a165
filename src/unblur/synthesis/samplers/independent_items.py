"""Users whose items know nothing of each other, with the popularity that items really have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions, check_train
from unblur.fitted import StoppingData, learned
from unblur.randomness import RNG
from unblur.run import Run
from unblur.spec import spec
from unblur.synthesis.discretization import above, best
from unblur.synthesis.synthesizer import Blocks, CountedSynthesizer, RealCounts, Rows, SynthesizerSpec


@spec
class IndependentItems(SynthesizerSpec["IndependentItemsSynthesizer"]):
    """Each synthetic user takes items by their popularity alone."""

    kind: ClassVar[str] = "independent-items"
    fitted: ClassVar[str] = "unblur.synthesis.samplers.independent_items:IndependentItemsSynthesizer"
    counts: Literal["real", "free"] = "real"
    """``real``: a user has as many items as some real user, drawn in proportion to popularity without putting
    back. ``free``: each item is taken with its real frequency, whatever else is."""

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> IndependentItemsSynthesizer:
        """Count; `rng` and `run.progress` are not needed."""
        check_train(train)
        return IndependentItemsSynthesizer(
            self,
            train.items,
            train.n_users,
            device=run.device,
            item_counts=train.item_degrees,
            users_with=RealCounts.of(train).users_with,
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class IndependentItemsSynthesizer(CountedSynthesizer["IndependentItems"]):
    """Holds how many users each item had, and how many users had how many items."""

    item_counts: NDArray[np.int64] = learned("items", dtype="int64")

    def _rows(self, blocks: Blocks) -> Rows:
        for block in blocks:
            if self.spec.counts == "real":
                sizes = self.counts.drawn(block.size, block.random)
                yield popular_rows(self.item_counts, sizes, block.random)
            else:
                shape = (block.size, len(self.items))
                margin = (self.item_counts / self.n_real_users).astype(np.float32)
                yield above(margin - block.random.random(shape, dtype=np.float32), 0.0)


def popular_rows(
    item_counts: NDArray[np.int64], sizes: NDArray[np.int64], random: np.random.Generator
) -> sparse.csr_array:
    """`sizes` (n,) different items for each row, drawn one after the other in proportion to `item_counts`.

    By exponential races: the smallest of E_i/w_i come first (Efraimidis and Spirakis, 2006). Items that nobody
    had are never drawn.
    """
    with np.errstate(divide="ignore"):
        logs = np.log(item_counts, dtype=np.float32)
    race = random.standard_exponential((len(sizes), len(item_counts)), dtype=np.float32)
    return best(logs - np.log(np.maximum(race, np.finfo(np.float32).tiny)), sizes)
