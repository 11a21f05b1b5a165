"""How specs of an autoencoder, with a diffusion on its latents or without, are fitted and restored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.progress import Progress, silent
from unblur.randomness import RNG
from unblur.recommender import Tensors

if TYPE_CHECKING:
    from unblur.data.splits.sets import Split
    from unblur.synthesis.latent_synthesizer import LatentSynthesizer


class TrainedOnRows:
    """A spec with an autoencoder of rows, `vae`, and perhaps a `diffusion`."""

    def fit(
        self: Any,
        train: Interactions,
        *,
        rng: RNG | None = None,
        device: str = "cpu",
        progress: Progress = silent,
        validation: Interactions | Split | None = None,
        checkpoints: str | Path | None = None,
    ) -> LatentSynthesizer:
        """Train the autoencoder; then, where there is a diffusion, encode everybody once, and train it on the codes.

        - `validation`: users to stop the autoencoder by, where a protocol gives some: their interactions, or a
          `Split` whose `histories` and `held_out` are used as they are. Without it `vae.stopping` sets some
          users of `train` aside, whom neither stage is trained on.
        - `checkpoints`: a folder to keep the state of the trainings in. Called again with the same spec, data
          and seed, an interrupted run goes on from there and ends in the same bytes. Private training keeps
          none.

        Raises `DataError` for data that cannot be learned from: fewer users than a batch, a density of 0 or 1;
        `DivergedTraining` when a loss is not finite; `CapabilityError` when `privacy` lacks its extra.
        """
        from unblur.synthesis.fitting import fit_latent

        return fit_latent(
            self,
            train,
            rng=rng,
            device=device,
            progress=progress,
            validation=validation,
            checkpoints=checkpoints,
        )

    def restore(self: Any, items: Vocabulary, tensors: Tensors, device: str) -> LatentSynthesizer:
        """The fitted synthesizer from its saved parts."""
        from unblur.synthesis.latent_synthesizer import restored

        return restored(self, items, tensors, device)
