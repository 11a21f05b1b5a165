"""What the specs of synthesizers with an autoencoder of rows have in common: `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.fitted import StoppingData, Tensors
from unblur.privacy.accountant import Privacy
from unblur.randomness import RNG
from unblur.run import Run
from unblur.synthesis.settings import VariationalAutoencoder
from unblur.synthesis.synthesizer import SynthesizerSpec
from unblur.training.settings import Plan, Precision, Stopping

if TYPE_CHECKING:
    from unblur.synthesis.latent_synthesizer import LatentSynthesizer


class TrainedOnRows(SynthesizerSpec["LatentSynthesizer"]):
    """A spec with an autoencoder of rows, `vae`, and perhaps a `diffusion`."""

    vae: VariationalAutoencoder
    precision: Precision
    privacy: Privacy | None

    def plans(self) -> Mapping[str, Plan]:
        """The training of the autoencoder."""
        stopping = self.vae.stopping
        return {
            "autoencoder": Plan(
                epochs=self.vae.epochs,
                batch_size=self.vae.batch_size,
                precision=self.precision,
                stopping=None
                if stopping is None
                # The loop counts the epoch that was best as well.
                else Stopping(metric=stopping.metric, every=stopping.every, patience=stopping.patience + 1),
            )
        }

    @property
    def private(self) -> bool:
        """Whether there is a budget of privacy."""
        return self.privacy is not None

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> LatentSynthesizer:
        """Train the autoencoder; then, where there is a diffusion, encode everybody once, and train it on the codes.

        - `validation`: users to stop the autoencoder by: their interactions, or a `Split` whose `histories` and
          `held_out` are used as they are. Without it `vae.stopping` sets some users of `train` aside, whom neither stage
          is trained on.
        - Private training keeps no checkpoints.

        Raises `DataError` for data that cannot be learned from: fewer users than a batch, a density of 0 or 1;
        `DivergedTraining` when a loss is not finite; `CapabilityError` when `privacy` lacks its extra.
        """
        from unblur.synthesis.fitting import fit_latent

        return fit_latent(
            self,  # type: ignore[arg-type]  # one of the two that there are
            train,
            rng=rng,
            run=run,
            validation=validation,
        )

    def restore(self: Any, items: Vocabulary, tensors: Tensors, device: str) -> LatentSynthesizer:
        """The fitted synthesizer from its saved parts."""
        from unblur.synthesis.latent_synthesizer import restored

        return restored(self, items, tensors, device)
