"""Autoencoders with a multinomial likelihood: Mult-DAE and Mult-VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from unblur.space import Dimension, choices
from unblur.spec import spec
from unblur.training.settings import Activation, Dropout, Optimizer, Stopping, rising
from unblur.training.trained import TrainedByEpochs

if TYPE_CHECKING:
    from unblur.models.neural.multinomial import MultinomialRecommender as MultinomialRecommender

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
    learner: ClassVar[str] = "unblur.models.neural.multinomial:MultinomialLearner"
    variational: ClassVar[bool] = False
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

    def divergence_weight(self, update: int) -> float:
        """0: there is no variance."""
        return 0.0

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return _space()


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
    learner: ClassVar[str] = "unblur.models.neural.multinomial:MultinomialLearner"
    variational: ClassVar[bool] = True
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

    def divergence_weight(self, update: int) -> float:
        """β after so many batches."""
        return rising(self.kl_weight, self.kl_batches, update)

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return (*_space(), *choices(kl_weight=(0.0, 0.1, 0.2, 0.5, 1.0)))


def _space() -> tuple[Dimension, ...]:
    return choices(
        optimizer__learning_rate=(3e-3, 1e-3, 3e-4),
        optimizer__weight_decay=(0.0, 1e-5, 1e-4, 1e-3),
        dims=((200,), (600, 200)),
        dropout=(0.2, 0.5, 0.7),
    )
