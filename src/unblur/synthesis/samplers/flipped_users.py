"""Real users, drawn with replacement, with some items exchanged: what a naive publisher might call synthetic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from unblur.data.interactions import Interactions, check_train
from unblur.fitted import StoppingData, learned
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
        return FlippedUsersSynthesizer(
            self, train.items, train.n_users, device=run.device, rows=train.binarized().matrix
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FlippedUsersSynthesizer(Synthesizer["FlippedUsers"]):
    """Holds the rows of all real users, without their names."""

    rows: sparse.csr_array = learned("users", "items")

    @cached_property
    def _popularity(self) -> NDArray[np.intp]:
        return np.bincount(self.rows.indices, minlength=len(self.items))

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
