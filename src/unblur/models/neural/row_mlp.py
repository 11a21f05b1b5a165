"""A network from a row to itself: each cell's 0 or 1 is embedded, and dense layers follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from pydantic import PositiveInt

from unblur.data.interactions import Interactions
from unblur.fitted import StoppingData
from unblur.randomness import RNG
from unblur.recommender import RecommenderSpec
from unblur.registry import resolve
from unblur.run import Run
from unblur.space import Dimension, choices
from unblur.spec import spec
from unblur.training.settings import Dropout, Optimizer, Share

if TYPE_CHECKING:
    from unblur.models.neural.row_network import RowMLPRecommender

Initialization: TypeAlias = Literal["fan-in", "glorot"]


@spec
class RowMLP(RecommenderSpec["RowMLPRecommender"]):
    """The MLP of the SDRM paper: an embedding of each cell's 0 or 1, flattened, then dense layers and sigmoid.

    Trained to give back the rows it is shown (binary cross-entropy), with early stopping on the root mean
    squared error of rows that are set aside, or of what was held out from some users.
    """

    kind: ClassVar[str] = "row-mlp"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.neural.row_network:RowMLPRecommender"
    embedding: PositiveInt = 8
    """Width of the embedding of 0 and of 1."""
    dims: tuple[PositiveInt, ...] = (512, 256, 256)
    """Widths of the dense layers, each followed by ReLU and dropout."""
    dropout: Dropout = 0.5
    """After these layers."""
    dropout_after: Literal["each", "last"] = "last"
    """Whether after each of them, or after the last alone, which is how the published figures come about."""
    initialization: Initialization = "fan-in"
    """How weights begin: within ±1/√fan_in with normal embeddings, as layers of torch do; or within
    ±√(6/(fan_in + fan_out)) (Glorot and Bengio, AISTATS 2010) with embeddings within ±.05 and without biases, as
    layers of Keras do. The second keeps more units alive, so it learns sparse data better, and takes longer."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """How weights follow their gradients."""
    epochs: PositiveInt = 200
    """The most passes over the rows."""
    batch_size: PositiveInt = 16
    """Rows a batch."""
    patience: PositiveInt | None = 10
    """Training ends when so many epochs have passed without a smaller error; `None` trains all epochs."""
    keep: Literal["best", "last"] = "best"
    """Whose weights are kept where training stops by an error: the best epoch's, or the last one's, which is how the
    published figures come about."""
    validation_users: Share = 0.1
    """Which part of the rows is set aside for that, when no validation is given."""

    @property
    def stops(self) -> bool:
        """By the error on rows that are set aside."""
        return self.patience is not None

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(
            optimizer__learning_rate=(1e-3, 3e-4, 1e-4),
            dropout=(0.2, 0.5),
            dims=((256,), (512, 256, 256)),
        )

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> RowMLPRecommender:
        """Train; `validation` is rows to give back, or histories with what was held out from them, by the error against
        that alone."""
        fitted: RowMLPRecommender = resolve("unblur.models.neural.row_network:fit_row_mlp")(
            self, train, rng, run, validation
        )
        return fitted
