"""Neural matrix factorisation (He et al., WWW 2017), with users folded in from their histories."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import PositiveInt

from unblur.data.interactions import Interactions
from unblur.fitted import StoppingData
from unblur.randomness import RNG
from unblur.recommender import RecommenderSpec
from unblur.registry import resolve
from unblur.run import Run
from unblur.space import Dimension, choices
from unblur.spec import spec
from unblur.training.settings import Dropout, Optimizer

if TYPE_CHECKING:
    from unblur.models.neural.pair_network import NeuMFRecommender


@spec
class NeuMF(RecommenderSpec["NeuMFRecommender"]):
    """A product of user and item factors beside a network of both, and one number out of the two.

    It learns a vector for each train user. A history row is scored by a vector that is fitted to it with the
    items' side fixed (fold-in); `remember_users` uses the learned one where a history is a train row.
    """

    kind: ClassVar[str] = "neumf"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.neural.pair_network:NeuMFRecommender"
    factors: PositiveInt = 8
    """Width of the product, and of the network's last layer."""
    layers: PositiveInt = 3
    """Layers of the network; its user and item vectors are 2^(layers − 1) times as wide as `factors`."""
    dropout: Dropout = 0.5
    """On what each of these layers takes."""
    negatives: PositiveInt = 1
    """Items that the user does not have, drawn evenly for each one that he or she has, anew each epoch."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """How weights follow their gradients."""
    epochs: PositiveInt = 20
    """Passes over the interactions."""
    batch_size: PositiveInt = 256
    """Interactions a batch, each with its negatives."""
    fold_in_steps: PositiveInt = 60
    """Steps of Adam that fit a vector to a history."""
    fold_in_rate: float = 0.05
    """Their learning rate."""
    remember_users: bool = False
    """Keep the vectors of train users, found by the content of their rows. The paper's protocol scores users who
    were trained on; no name is kept, but the model then holds its users."""

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(
            optimizer__learning_rate=(3e-3, 1e-3, 3e-4),
            factors=(8, 16, 32, 64),
            dropout=(0.0, 0.2, 0.5),
            negatives=(1, 4),
        )

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> NeuMFRecommender:
        """Train all epochs."""
        fitted: NeuMFRecommender = resolve("unblur.models.neural.pair_network:fit_neumf")(
            self, train, rng, run
        )
        return fitted
