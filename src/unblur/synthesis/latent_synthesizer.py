"""The fitted synthesizer of SDRM and MultiVAE++: latents from a chain or from a prior, decoded in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unblur.fitted import learned, weights
from unblur.privacy.accountant import Accounting
from unblur.randomness import RNG, streams, torch_generator
from unblur.synthesis.discretization import Scores, discretized
from unblur.synthesis.latent_noise import LatentDenoiser
from unblur.synthesis.latent_sampling import LatentSampler, lengths
from unblur.synthesis.multi_vae_network import MultiVAENetwork
from unblur.synthesis.settings import Discretization
from unblur.synthesis.synthesizer import Block, Blocks, CountedSynthesizer, Rows
from unblur.training.learner import Weights
from unblur.training.networks import frozen

if TYPE_CHECKING:
    from unblur.synthesis.sdrm import SDRM as SDRM
    from unblur.synthesis.sdrm import MultiVAE as MultiVAE


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LatentSynthesizer(CountedSynthesizer["MultiVAE | SDRM"]):
    """Draws latents, through the reverse chain or (without a denoiser) from the prior, and decodes them.

    It holds weights and the numbers of users by their number of items, no user. Items that nobody in train
    had are never sampled.
    """

    vae_weights: Weights = weights("vae.")
    denoiser_weights: Weights = weights("denoiser.")
    """None where there is no diffusion."""
    taken: NDArray[np.bool_] = learned("items", dtype="bool")
    """Whether anybody had the item."""
    privacy: NDArray[np.float64] | None = learned(3, dtype="float64", default=None)
    """Where privacy is accounted for: noise multiplier, deviation of the counts, number of users."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for arrays that do not fit."""
        super().__post_init__()
        if (self.spec.privacy is None) != (self.privacy is None):
            raise ValueError("an accounting of privacy without a budget, or a budget without one")
        self.vae, self.denoiser  # noqa: B018 - made here, to be checked

    @cached_property
    def vae(self) -> MultiVAENetwork:
        """The autoencoder."""
        return frozen(lambda: MultiVAENetwork(len(self.items), self.spec.vae), self.vae_weights)

    @cached_property
    def denoiser(self) -> LatentDenoiser | None:
        """The network of the chain, if there is one."""
        chain = self.spec.chain
        if chain is None:
            return None
        return frozen(lambda: LatentDenoiser(self.spec.vae.latent, chain), self.denoiser_weights)

    @cached_property
    def accounting(self) -> Accounting | None:
        """What the privacy budget was spent on, if there was one."""
        if self.privacy is None or self.spec.privacy is None:
            return None
        noise, deviation, n_users = (float(value) for value in self.privacy)
        return Accounting(self.spec.privacy, self.spec.stages(int(n_users)), noise, deviation)

    @property
    def notes(self) -> tuple[str, ...]:
        """The accounting of privacy, or that there is none; items that are never sampled."""
        missing = int((~self.taken).sum())
        noted = (
            f"{missing:,} of {len(self.items):,} items were in no row that was trained on and are never sampled",
        )
        private = (
            ("No differential privacy: how much a sample gives away is for attacks to measure.",)
            if self.accounting is None
            else self.accounting.notes()
        )
        return (*private, *(noted if missing else ()))

    @property
    def plain(self) -> Self:
        """The autoencoder of this synthesizer alone, sampled from its prior: what diffusion must beat."""
        return replace(self, spec=self.spec.plain(), denoiser_weights={})

    def arm(self, name: str, discretization: Discretization | None = None) -> LatentSynthesizer:
        """See `Synthesizer.arm`: by the chain in ``full`` or ``multi-resolution``, or as ``plain-vae``."""
        source = self.plain if name == "plain-vae" else self
        ways: Mapping[str, Literal["full", "multi-resolution"]] = {
            "full": "full",
            "multi-resolution": "multi-resolution",
        }
        return source.with_settings(sampling=ways.get(name), discretization=discretization)

    def with_settings(
        self,
        *,
        sampling: Literal["full", "multi-resolution"] | None = None,
        discretization: Discretization | None = None,
    ) -> Self:
        """The same networks sampled in another way; nothing is trained again."""
        spec = self.spec if sampling is None else self.spec.resampled(sampling)
        if discretization is not None:
            spec = replace(spec, discretization=discretization)
        return replace(self, spec=spec)

    def sample_scores(self, n_users: int | None = None, *, rng: RNG | None = None) -> Iterator[Scores]:
        """The decoder's logits of the users that `sample` gives for the same `rng`, (block, n_items) float32 at
        a time; −∞ for items that are never sampled."""
        wanted = self.n_real_users if n_users is None else n_users
        seed = int(streams(rng, "sampling")["sampling"].integers(0, 2**62))
        return (scores for _, scores in self._scored(Blocks(wanted, seed)))

    def latents(self, block: Block) -> Tensor:
        """The latents of a block of users, (size, latent)."""
        generator = torch_generator(block.random, self.device)
        if self._sampler is None or self.denoiser is None:
            return self.vae.prior(block.size, generator)
        counts = lengths(self.spec.resolution, block.size, self._sampler.settings.steps, block.random)
        return self.denoiser.restored(self._sampler.sample(counts, generator))

    def _rows(self, blocks: Blocks) -> Rows:
        return discretized(self._scored(blocks), self.spec.discretization, self.counts, blocks.n_users)

    def _scored(self, blocks: Blocks) -> Iterator[tuple[Block, Scores]]:
        hidden = torch.as_tensor(~self.taken, device=self.device)
        for block in blocks:
            with torch.no_grad():
                logits = self.vae.decode(self.latents(block))
                if not self.taken.all():
                    logits[:, hidden] = -torch.inf
            yield block, logits.cpu().numpy()

    @cached_property
    def _sampler(self) -> LatentSampler | None:
        return None if self.denoiser is None else LatentSampler(self.denoiser, self.spec.precision)
