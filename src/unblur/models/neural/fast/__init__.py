"""Faster steps for two networks, behind one function: `faster`.

The row network (`RowMLP`) and the pair network (`NeuMF`) spend nearly all of a training on weights that a batch hardly
touches: Adam reads and writes all of them, with both of their moments, in each step. Here steps are taken that come to
the same as autograd and `torch.optim.Adam`, but for rounding, and look at far less memory:

- **Row network** (`row_training`): the gradient of its first layer is one row, the same for all items that no row of the
  batch has, and something more for the few that one has. So the moments that items share are kept once, and an item's
  own ones decay without being written. A step is 6 to 11 times faster with the kernels, 3 to 5 times without.
- **Pair network** (`pair_training`): a batch has some hundreds of users and items. The rows of all others move by what is
  left of their moments, which has a closed form, and nobody sees where they are until they are drawn again. A step
  is 4 to 6 times faster (docs/results/sdrm.md has the measurements).
- **Kernels** (`kernels`): what torch does in several passes, compiled by numba (`unblur[fast]`) to one
  pass over a row while it is in the processor. Without numba the row network has a path by torch with the same few passes,
  and the pair network is trained by autograd.
- **Adam** (`adam`): the step of `torch.optim.Adam` on tensors that are changed where they are, and what keeps moments from
  becoming denormal numbers, which are some hundred times slower.

Only plain Adam on the CPU is done here: no weight decay, no clipping. Everything else, and everything where this folder
has been deleted, is trained by the learners of `row_mlp` and `neumf` themselves, to the same figures but for
rounding. Nothing outside imports anything from here but `faster`, by way of `unblur.models.neural.acceleration`.

How it is known to be right: the tests compare weights after some epochs with those of autograd and torch's Adam, each
kernel with its formula, and the bytes for different numbers of threads with each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from unblur.models.neural.fast.adam import plain_adam
from unblur.models.neural.fast.pair_training import PairStepper
from unblur.models.neural.fast.row_training import RowStepper
from unblur.parallel.threads import blas_at_rest, torch_at_rest

if TYPE_CHECKING:
    from unblur.models.neural.neumf import PairLearner
    from unblur.models.neural.row_mlp import RowLearner

L = TypeVar("L", "PairLearner", "RowLearner")


def compiled() -> ModuleType | None:
    """The kernels, or `None` where numba is not installed."""
    try:
        return import_module("unblur.models.neural.fast.kernels")
    except ImportError:
        return None


@contextmanager
def faster(learner: L) -> Iterator[L]:
    """A learner that trains the same network and takes its steps itself, or the given one where that is not possible.

    Inside, threads of torch and BLAS rest where compiled kernels want the processor for themselves.
    """
    (_, settings), *_ = learner.groups
    stepper: Any = learner
    which: Any = learner  # of the two, its kind says which
    with ExitStack() as alone:
        if plain_adam(settings, next(learner.module.parameters()).device):
            kernels = compiled()
            threads = 1 if kernels is None else alone.enter_context(torch_at_rest())
            if learner.spec.kind == "row-mlp":
                stepper = RowStepper(which, kernels, threads)
            elif kernels is not None:
                # Its products are too small to share, and the rest has no use for threads.
                alone.enter_context(blas_at_rest())
                stepper = PairStepper(which, kernels)
        yield cast("L", stepper)
