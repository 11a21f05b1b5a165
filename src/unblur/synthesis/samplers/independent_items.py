"""Users whose items know nothing of each other, with the popularity that items really have."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions, check_train
from unblur.data.vocabulary import Vocabulary
from unblur.fitted import StoppingData, Tensors
from unblur.randomness import RNG
from unblur.run import Run
from unblur.spec import spec
from unblur.synthesis.discretization import above, best
from unblur.synthesis.synthesizer import Blocks, RealCounts, Rows, Synthesizer, SynthesizerSpec


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
            self, train.items, train.n_users, train.item_degrees, RealCounts.of(train), run.device
        )

    def restore(self, items: Vocabulary, tensors: Tensors, device: str) -> IndependentItemsSynthesizer:
        """The fitted synthesizer from its saved parts."""
        counts = RealCounts(np.asarray(tensors["users_with"]), len(items))
        return IndependentItemsSynthesizer(
            self,
            items,
            int(np.asarray(tensors["n_real_users"])[0]),
            np.asarray(tensors["item_counts"]),
            counts,
            device,
        )


class IndependentItemsSynthesizer(Synthesizer["IndependentItems"]):
    """Holds how many users each item had, and how many users had how many items."""

    def __init__(
        self,
        spec: IndependentItems,
        items: Vocabulary,
        n_real_users: int,
        item_counts: NDArray[np.int64],
        counts: RealCounts,
        device: str,
    ) -> None:
        super().__init__(spec, items, n_real_users, device=device)
        self.item_counts, self.counts = item_counts, counts

    def _rows(self, blocks: Blocks) -> Rows:
        for block in blocks:
            if self.spec.counts == "real":
                sizes = self.counts.drawn(block.size, block.random)
                yield popular_rows(self.item_counts, sizes, block.random)
            else:
                shape = (block.size, len(self.items))
                margin = (self.item_counts / self.n_real_users).astype(np.float32)
                yield above(margin - block.random.random(shape, dtype=np.float32), 0.0)

    def tensors(self) -> Tensors:
        """`item_counts` (n_items,), `users_with`, `n_real_users`."""
        return {
            "item_counts": self.item_counts,
            "users_with": self.counts.users_with,
            "n_real_users": np.array([self.n_real_users], dtype=np.int64),
        }


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
