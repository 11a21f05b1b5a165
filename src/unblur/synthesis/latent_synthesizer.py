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
from torch.nn import functional

from unblur.errors import UnblurError
from unblur.fitted import learned, weights
from unblur.privacy.accountant import Accounting
from unblur.randomness import RNG, streams, torch_generator
from unblur.synthesis.discretization import Scores, discretized
from unblur.synthesis.latent_noise import LatentDenoiser, NoiseLevels, latent_schedule
from unblur.synthesis.multi_vae_network import MultiVAENetwork
from unblur.synthesis.settings import Discretization
from unblur.synthesis.synthesizer import Blocks, CountedSynthesizer, Rows, UserBlock
from unblur.training.learner import Weights
from unblur.training.networks import dropped, frozen
from unblur.training.settings import Precision

if TYPE_CHECKING:
    from unblur.synthesis.sdrm import SDRM as SDRM, MultiVAE as MultiVAE


ROUNDED = 128
"""The network is asked about a multiple of so many rows: each new shape of a matrix product costs its set-up."""


class DivergedSampling(UnblurError, ArithmeticError):
    """Latents that are no longer finite numbers."""


def lengths(resolution: str, n: int, steps: int, random: np.random.Generator) -> NDArray[np.int64]:
    """How many steps each of `n` rows gets: all T (``full``), or evenly drawn from 1 … T − 1
    (``multi-resolution``)."""
    if resolution == "full":
        return np.full(n, steps, dtype=np.int64)
    return random.integers(1, steps, n)


class LatentSampler:
    """A trained denoiser, ready to be asked at every step: what depends on the step alone is computed once."""

    @torch.no_grad()
    def __init__(self, network: LatentDenoiser, precision: Precision = "float32") -> None:
        self.settings = network.settings
        self.latent = network.latent
        self.device = network.last_bias.device
        kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._kind = kind
        self._bounded = network.bounded
        self._steps = network.step_inputs().to(kind)
        self._first = _turned(network.first_weight, kind)
        self._first_raised = _turned(network.first_weight / (1 - self.settings.dropout), kind)
        self._slopes = [float(network.first_slope)]
        self._layers = []
        for number in network.order:
            weight, bias = network.hidden_weights[number], network.hidden_biases[number]
            self._layers.append((_turned(weight, kind), bias.to(kind)))
            self._slopes.append(float(network.hidden_slopes[number]))
        self._layers.append((_turned(network.last_weight, kind), network.last_bias.to(kind)))
        self._levels = NoiseLevels.of(self.settings)
        made = latent_schedule(self.settings)
        alpha = 1 - made.betas
        self._answer = (1 - alpha) / made.noise  # what ε̂ counts for: (1 − α_t)/√(1 − ᾱ_t)
        self._shrink = 1 / np.sqrt(alpha)
        self._deviation = np.sqrt(made.betas) * self.settings.noise_variance_diminisher

    def answer(self, rows: Tensor, step: int, generator: torch.Generator | None = None) -> Tensor:
        """ε̂ for rows (n, latent) at one step, (n, latent) float32."""
        x, scale = dropped(rows.to(self._kind), self.settings.dropout, generator)
        h = torch.addmm(self._steps[step], x, self._first if scale == 1 else self._first_raised)
        h = functional.leaky_relu(h, self._slopes[0])
        for place, (weight, bias) in enumerate(self._layers, start=1):
            h = torch.addmm(bias, h, weight)
            if place < len(self._slopes):
                h = functional.leaky_relu(h, self._slopes[place])
        guess: Tensor = self._bounded(h)
        if self.settings.objective != "velocity":
            return guess
        return guess.mul_(float(self._levels.signal[step])).add_(rows, alpha=float(self._levels.level[step]))

    @torch.no_grad()
    def sample(self, counts: NDArray[np.int64], generator: torch.Generator) -> Tensor:
        """Latents, (n, latent), each from N(0, I) through its own number of steps: `counts` (n,), 1 … T.

        A row with k steps takes those from k down to 1, x ← (x − ε̂·(1 − α_t)/√(1 − ᾱ_t))/√α_t + √β_t·z, z
        scaled by the diminisher, and no z at step 1. Raises `DivergedSampling` when one is not finite.
        """
        order = np.argsort(-counts, kind="stable")
        under_way = np.searchsorted(-counts[order], -np.arange(self.settings.steps + 1), side="right")
        rows = torch.empty(len(counts), self.latent, device=self.device).normal_(generator=generator)
        buffer = torch.empty_like(rows)
        chance = generator if self.settings.sampling_dropout else None
        for step in range(int(counts.max()), 0, -1):
            n = int(under_way[step])
            active = rows[:n]
            guess = self.answer(rows[: -(-n // ROUNDED) * ROUNDED], step, chance)[:n]
            active.sub_(guess, alpha=float(self._answer[step]))
            active.mul_(float(self._shrink[step]))
            if step > 1:
                z = buffer[: len(active)].normal_(generator=generator)
                active.add_(z, alpha=float(self._deviation[step]))
        if not bool(torch.isfinite(rows).all()):
            raise DivergedSampling(
                f"Latents must stay finite; {int((~torch.isfinite(rows)).any(1).sum()):,} of {len(rows):,} did "
                "not. The denoiser did not fit: lower its learning rate, or train it longer."
            )
        made = torch.empty_like(rows)
        made[torch.as_tensor(order, device=self.device)] = rows
        return made


def _turned(weight: Tensor, kind: torch.dtype) -> Tensor:
    """A layer's weights with one row an input, in memory too: products with them need no rearranging."""
    return weight.to(kind).T.contiguous()


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

    def latents(self, block: UserBlock) -> Tensor:
        """The latents of a block of users, (size, latent)."""
        generator = torch_generator(block.random, self.device)
        if self._sampler is None or self.denoiser is None:
            return self.vae.prior(block.size, generator)
        counts = lengths(self.spec.resolution, block.size, self._sampler.settings.steps, block.random)
        return self.denoiser.restored(self._sampler.sample(counts, generator))

    def _rows(self, blocks: Blocks) -> Rows:
        return discretized(self._scored(blocks), self.spec.discretization, self.counts, blocks.n_users)

    def _scored(self, blocks: Blocks) -> Iterator[tuple[UserBlock, Scores]]:
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
