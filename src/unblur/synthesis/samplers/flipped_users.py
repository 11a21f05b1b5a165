"""Real users, drawn with replacement, with some items exchanged: what a naive publisher might call synthetic."""

from __future__ import annotations

from typing import Annotated, ClassVar, cast

import numpy as np
from pydantic import Field
from scipy import sparse

from unblur.data.interactions import Interactions, check_train
from unblur.data.vocabulary import Vocabulary
from unblur.fitted import StoppingData, Tensors
from unblur.randomness import RNG
from unblur.run import Run
from unblur.spec import spec
from unblur.synthesis.samplers.independent_items import popular_rows
from unblur.synthesis.synthesizer import Blocks, Rows, Synthesizer, SynthesizerSpec

_ROUNDS = 32
"""How often items are drawn for all users together."""


@spec
class FlippedUsers(SynthesizerSpec["FlippedUsersSynthesizer"]):
    """A real user's row in which random items were exchanged for ones drawn by popularity.

    It keeps the number of items, the density and most of what goes together, and gives real users away: a
    control that an audit must find.
    """

    kind: ClassVar[str] = "flipped-users"
    fitted: ClassVar[str] = "unblur.synthesis.samplers.flipped_users:FlippedUsersSynthesizer"
    exchanged: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The chance that an item is exchanged. 0 publishes real users."""

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> FlippedUsersSynthesizer:
        """Keep the rows; `rng` and `run.progress` are not needed."""
        check_train(train)
        return FlippedUsersSynthesizer(self, train.items, train.binarized().matrix, run.device)

    def restore(self, items: Vocabulary, tensors: Tensors, device: str) -> FlippedUsersSynthesizer:
        """The fitted synthesizer from its saved parts."""
        return FlippedUsersSynthesizer(self, items, cast(sparse.csr_array, tensors["rows"]), device)


class FlippedUsersSynthesizer(Synthesizer["FlippedUsers"]):
    """Holds the rows of all real users, without their names."""

    def __init__(self, spec: FlippedUsers, items: Vocabulary, rows: sparse.csr_array, device: str) -> None:
        super().__init__(spec, items, int(rows.shape[0]), device=device)
        self.rows = rows
        self._popularity = np.bincount(rows.indices, minlength=len(items))

    @property
    def notes(self) -> tuple[str, ...]:
        """That real rows are in it."""
        return ("This synthesizer holds the rows of real users, and its samples are near copies of them.",)

    def _rows(self, blocks: Blocks) -> Rows:
        n_items = len(self.items)
        for block in blocks:
            chosen = self.rows[block.random.integers(0, self.rows.shape[0], block.size)]
            owners = np.repeat(np.arange(block.size), np.diff(chosen.indptr))
            lost = block.random.random(chosen.nnz) < self.spec.exchanged
            taken = np.zeros((block.size, n_items), dtype=bool)
            taken[owners[~lost], chosen.indices[~lost]] = True
            waiting = owners[lost]
            for _ in range(_ROUNDS):
                if not len(waiting):
                    break
                # An item of a random pair is one by popularity; one that the user has already is drawn again.
                drawn = self.rows.indices[block.random.integers(0, self.rows.nnz, len(waiting))]
                keys, first = np.unique(waiting * n_items + drawn, return_index=True)
                fresh = ~taken.ravel()[keys]
                taken.ravel()[keys[fresh]] = True
                again = np.ones(len(waiting), dtype=bool)
                again[first[fresh]] = False
                waiting = waiting[again]
            # Who has nearly everything would wait long. What such drawing comes to is one draw without replacement.
            users, missing = np.unique(waiting, return_counts=True)
            for user, size in zip(users, missing, strict=True):
                free = np.where(taken[user], 0, self._popularity)
                taken[user] |= popular_rows(free, np.array([size]), block.random).toarray()[0] > 0
            yield sparse.csr_array(taken, dtype=np.float32)

    def tensors(self) -> Tensors:
        """`rows`: the real users × items matrix; `n_real_users`."""
        return {"rows": self.rows, "n_real_users": np.array([self.n_real_users], dtype=np.int64)}
