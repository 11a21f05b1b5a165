"""Autoencoders with a multinomial likelihood: Mult-DAE and Mult-VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.fitted import Tensors
from unblur.spec import spec
from unblur.training.settings import Activation, Dropout, Optimizer, Stopping
from unblur.training.trained import TrainedByEpochs

if TYPE_CHECKING:
    import torch

    from unblur.models.neural.multinomial import MultinomialLearner, MultinomialRecommender

Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


@spec
class MultDAE(TrainedByEpochs["MultinomialRecommender"]):
    """Mult-DAE (Liang, Krishnan, Hoffman and Jebara, WWW 2018, arXiv 1802.05814, section 2.3).

    A history, L2-normalised and thinned by dropout, is encoded and decoded; the output is the logits of a
    multinomial over items, trained by its log-likelihood (equation 2).
    """

    kind: ClassVar[str] = "mult-dae"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.neural.multinomial:MultinomialRecommender"
    dims: Widths = (200,)
    """Widths from the row inwards; the last is that of the latent, and the decoder mirrors the encoder: n → 200 → n."""
    activation: Activation = "tanh"
    """Between layers."""
    dropout: Dropout = 0.5
    """On the normalised row."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """How weights follow their gradients."""
    epochs: PositiveInt = 200
    """The most passes over the rows."""
    batch_size: PositiveInt = 500
    """Rows a batch."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What matrix products of training are computed in; weights and losses are float32 in any case."""
    stopping: Stopping | None = Stopping(metric="ndcg@20", every=2)
    """When training ends early (the paper: by NDCG@100); `None` trains all epochs on all of train."""

    def learner(
        self, train: Interactions, item_counts: NDArray[np.int64], seed: int, device: torch.device
    ) -> MultinomialLearner:
        """The network and the rows it learns from."""
        from unblur.models.neural.multinomial import MultinomialLearner

        return MultinomialLearner(self, train, item_counts, 0.0, 1, seed, device)

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> MultinomialRecommender:
        """The fitted recommender from its saved parts."""
        from unblur.models.neural.multinomial import restored

        return restored(self, items, item_counts, tensors, device)


@spec
class MultVAE(TrainedByEpochs["MultinomialRecommender"]):
    """Mult-VAE^PR (Liang, Krishnan, Hoffman and Jebara, WWW 2018, arXiv 1802.05814, section 2).

    A history, L2-normalised and thinned by dropout, is encoded as a Gaussian (μ, σ²); a draw from it is decoded to
    the logits of a multinomial over items. Trained on log-likelihood − β·KL (equation 7), where β rises from 0
    (section 2.2.2). Scores are the logits at μ.
    """

    kind: ClassVar[str] = "mult-vae"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.neural.multinomial:MultinomialRecommender"
    dims: Widths = (600, 200)
    """Widths from the row inwards; the last is that of the latent, and the decoder mirrors the encoder: n → 600 → 200 →
    600 → n."""
    activation: Activation = "tanh"
    """Between layers."""
    dropout: Dropout = 0.5
    """On the normalised row."""
    kl_weight: NonNegativeFloat = 0.2
    """Where the weight of the KL divergence ends: the largest β."""
    kl_batches: PositiveInt = 200_000
    """In how many batches that weight would rise to 1; it stops at `kl_weight`."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """How weights follow their gradients."""
    epochs: PositiveInt = 200
    """The most passes over the rows."""
    batch_size: PositiveInt = 500
    """Rows a batch."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What matrix products of training are computed in; weights and losses are float32 in any case."""
    stopping: Stopping | None = Stopping(metric="ndcg@20", every=2)
    """When training ends early (the paper: by NDCG@100); `None` trains all epochs on all of train."""

    def learner(
        self, train: Interactions, item_counts: NDArray[np.int64], seed: int, device: torch.device
    ) -> MultinomialLearner:
        """The network and the rows it learns from."""
        from unblur.models.neural.multinomial import MultinomialLearner

        return MultinomialLearner(self, train, item_counts, self.kl_weight, self.kl_batches, seed, device)

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> MultinomialRecommender:
        """The fitted recommender from its saved parts."""
        from unblur.models.neural.multinomial import restored

        return restored(self, items, item_counts, tensors, device)
