"""LightGCN: embeddings smoothed along the graph of users and items."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from unblur.models.linear.factors import Factors
from unblur.space import Dimension, choices
from unblur.spec import spec
from unblur.training.settings import Optimizer, Stopping
from unblur.training.trained import TrainedByEpochs


@spec
class LightGCN(TrainedByEpochs[Factors]):
    """LightGCN (He et al., SIGIR 2020, arXiv 2002.02126), trained by BPR (Rendle et al., UAI 2009) or by a softmax.

    Embeddings of users and items begin as parameters e⁰ and are smoothed K times, ``e_u^(k+1) = Σ_i e_i^k /
    √(d_u d_i)`` and likewise for items (equation 3); a final embedding is the mean over the K + 1 layers (equation 4), and
    a score the product of a user's and an item's.

    **A user is a history row**, so scores fold the row in: the user's layers k ≥ 1 follow from those of the items by
    equation 3, and its own e⁰, which nobody knows for a new user, is left out:
    ``e_x = Σ_{i∈x} q_i`` with ``q_i = (e_i^0 + … + e_i^(K−1)) / ((K + 1)·√d_i)``. The factor 1/√|x|, which a row's scores share,
    is left out too, and so scores are linear in the row.

    **loss = "softmax"** (Wu et al., On the Effectiveness of Sampled Softmax Loss for Item Recommendation, ACM TOIS
    42(4), 2024, arXiv 2201.02327) learns from whole users in place of pairs:
    ``Σ_{i∈u} (log Σ_{j∈N} exp(s_uj) − s_ui)`` over a batch's users, by its interactions, with ``s = cos(e_u, e_i) / τ`` and items
    N drawn evenly, the same for a batch. Unlike theirs the positive item is not added to the sum, so with as many
    negatives as there are items this is the multinomial likelihood. Final embeddings of items then have length 1, and
    so scores rank as the cosine does.
    """

    kind: ClassVar[str] = "lightgcn"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.linear.factors:Factors"
    learner: ClassVar[str] = "unblur.models.neural.graph_embeddings:GraphLearner"
    width: PositiveInt = 64
    """Width of the embeddings."""
    layers: PositiveInt = 3
    """How often embeddings are smoothed: K."""
    users: Literal["embedded", "from-items"] = "embedded"
    """Whether users have embeddings e⁰ of their own in training (the paper), or none, as when they are scored."""
    loss: Literal["bpr", "softmax"] = "bpr"
    """BPR, or the sampled softmax of cosines, which needs far fewer passes; best with `users` "from-items"."""
    temperature: PositiveFloat = 0.1
    """What the softmax divides cosines by: τ. Without effect on BPR."""
    negatives: PositiveInt = 4096
    """Over how many drawn items the softmax runs, over all where there are no more. Without effect on BPR."""
    deviation: PositiveFloat = 0.1
    """The standard deviation that embeddings begin with."""
    ridge: NonNegativeFloat = 1e-4
    """The L2 penalty on the e⁰ that a batch uses: λ."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """How embeddings follow their gradients."""
    decay: Literal["none", "linear"] = "none"
    """``linear``: the learning rate falls to 0 over `epochs`, which then should be few."""
    epochs: PositiveInt = 1000
    """The most passes over the interactions."""
    batch_size: PositiveInt = 2048
    """Interactions a batch, users a batch with the softmax; each costs a whole propagation."""
    precision: Literal["float32"] = "float32"
    """What products of training are computed in."""
    stopping: Stopping | None = Stopping()
    """When training ends early; `None` trains all epochs on all of train."""

    @property
    def decays(self) -> Literal["none", "linear"]:
        """As `decay` says."""
        return self.decay

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(
            optimizer__learning_rate=(3e-3, 1e-3, 5e-4),
            ridge=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
            layers=(1, 2, 3, 4),
            width=(32, 64, 128),
        )
