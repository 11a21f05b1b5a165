"""Faster steps for two networks, behind one function: `faster`.

The row network (`RowMLP`) and the pair network (`NeuMF`) spend nearly all of a training on weights that a batch hardly
touches: Adam reads and writes all of them, with both of their moments, in each step. The steps here give the same
weights as autograd and `torch.optim.Adam`, but for rounding, and read far less memory:

- **Row network** (`row_training`): the gradient of its first layer is the same for all items that no row of the batch
  has, plus a part of their own for the few others. So the moments that items share are kept once, and an item's
  own ones decay without being written. A step is 6 to 11 times faster with the kernels, 3 to 5 times without.
- **Pair network** (`pair_training`): a batch has some hundreds of users and items. The rows of all others move by
  their remaining moments, which has a closed form, and are not read until they are drawn again. A step
  is 4 to 6 times faster (docs/results/sdrm.md has the measurements).
- **Kernels** (`kernels`): the several passes of torch, compiled by numba (`unblur[fast]`) to one
  pass over a row while it is in the processor. Without numba the row network has a path by torch with the same few passes,
  and the pair network is trained by autograd.
- **Adam** (`adam`): the step of `torch.optim.Adam` in place, without denormal moments, which are some hundred times slower.

Only plain Adam on the CPU is done here: no weight decay, no clipping. In all other cases, and if this folder is deleted,
the learners of `row_mlp` and `neumf` train themselves, to the same figures but for rounding. The rest of the library
imports only `faster` from here, by way of `unblur.models.neural.acceleration`.

The tests compare weights after some epochs with those of autograd and torch's Adam, each kernel with its formula, and
the bytes for different numbers of threads with each other.
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
from unblur.parallel.threads import libraries_at_rest

if TYPE_CHECKING:
    from unblur.models.neural.neumf import PairLearner
    from unblur.models.neural.row_mlp import RowLearner

L = TypeVar("L", "PairLearner", "RowLearner")


def compiled() -> ModuleType | None:
    """Return the module of kernels, or `None` if numba is not installed."""
    try:
        return import_module("unblur.models.neural.fast.kernels")
    except ImportError:
        return None


@contextmanager
def faster(learner: L) -> Iterator[L]:
    """Give a learner that trains the same network and takes faster steps itself, or `learner` if that is not possible.

    Inside the context torch and BLAS are limited to one thread if there are compiled kernels: those of rows use the
    processor's cores themselves, and the products of pairs are too small for several threads.
    """
    (_, settings), *_ = learner.groups
    stepper: Any = learner
    either: Any = learner  # its kind tells which of the two it is, which the type checker cannot follow
    with ExitStack() as context:
        if plain_adam(settings, next(learner.module.parameters()).device):
            kernels = compiled()
            threads = 1 if kernels is None else context.enter_context(libraries_at_rest())
            if learner.spec.kind == "row-mlp":
                stepper = RowStepper(either, kernels, threads)
            elif kernels is not None:
                stepper = PairStepper(either, kernels)
        yield cast("L", stepper)
