"""The fitted synthesizer of SDRM and MultiVAE++: latents from a chain or from a prior, decoded in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unblur.data.vocabulary import Vocabulary
from unblur.errors import SpecError
from unblur.fitted import Tensors
from unblur.privacy.accountant import Accounting, Stage
from unblur.randomness import RNG, streams, torch_generator
from unblur.synthesis.discretization import Scores, discretized
from unblur.synthesis.latent_noise import LatentDenoiser
from unblur.synthesis.latent_sampling import LatentSampler, lengths
from unblur.synthesis.multi_vae import MultiVAE
from unblur.synthesis.multi_vae_network import MultiVAENetwork
from unblur.synthesis.sdrm import SDRM
from unblur.synthesis.settings import Discretization
from unblur.synthesis.synthesizer import Block, Blocks, RealCounts, Rows, Synthesizer
from unblur.training.devices import check_device
from unblur.training.learner import load_weights


class LatentSynthesizer(Synthesizer):
    """Draws latents, through the reverse chain or (without a denoiser) from the prior, and decodes them.

    It holds weights and the numbers of users by their number of items, no user. Items that nobody in train
    had are never sampled.
    """

    spec: MultiVAE | SDRM

    def __init__(
        self,
        spec: MultiVAE | SDRM,
        items: Vocabulary,
        n_real_users: int,
        counts: RealCounts,
        taken: NDArray[np.bool_],
        vae: MultiVAENetwork,
        denoiser: LatentDenoiser | None,
        accounting: Accounting | None,
        device: str,
    ) -> None:
        super().__init__(spec, items, n_real_users, device=device)
        self.counts, self.taken, self.vae, self.denoiser = counts, taken, vae, denoiser
        self.accounting = accounting

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
    def plain(self) -> LatentSynthesizer:
        """The autoencoder of this synthesizer alone, sampled from its prior: what diffusion must beat."""
        spec = MultiVAE(
            vae=self.spec.vae,
            discretization=self.spec.discretization,
            privacy=self.spec.privacy,
            precision=self.spec.precision,
        )
        return self._with(spec, denoiser=None)

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
    ) -> LatentSynthesizer:
        """The same networks sampled in another way; nothing is trained again."""
        spec = self.spec
        if sampling is not None:
            if not isinstance(spec, SDRM):
                raise SpecError(
                    f"`sampling` is a setting of a reverse chain, and this synthesizer has none; saw {sampling!r}. "
                    "Leave it out."
                )
            spec = replace(spec, sampling=sampling)
        if discretization is not None:
            spec = replace(spec, discretization=discretization)
        return self._with(spec, denoiser=self.denoiser)

    def sample_scores(self, n_users: int | None = None, *, rng: RNG | None = None) -> Iterator[Scores]:
        """The decoder's logits of the users that `sample` gives for the same `rng`, (block, n_items) float32 at
        a time; −∞ for items that are never sampled."""
        wanted = self.n_real_users if n_users is None else n_users
        seed = int(streams(rng, "sampling")["sampling"].integers(0, 2**62))
        return (scores for _, scores in self._scored(Blocks(wanted, seed)))

    def latents(self, block: Block) -> Tensor:
        """The latents of a block of users, (size, latent)."""
        generator = torch_generator(block.random, self.device)
        if self._sampler is None:
            return self.vae.prior(block.size, generator)
        assert isinstance(self.spec, SDRM)
        steps = self.spec.diffusion.steps
        drawn = self._sampler.sample(lengths(self.spec.sampling, block.size, steps, block.random), generator)
        assert self.denoiser is not None  # or there would be no sampler
        return self.denoiser.restored(drawn)

    def tensors(self) -> Tensors:
        """Weights (`vae.…`, `denoiser.…`), `users_with`, `taken`, `n_real_users`, and `privacy` where it is
        accounted: noise multiplier, deviation of the counts, number of users."""
        made: dict[str, NDArray[Any]] = {}
        for name, network in (("vae", self.vae), ("denoiser", self.denoiser)):
            for key, value in ({} if network is None else network.state_dict()).items():
                made[f"{name}.{key}"] = value.detach().cpu().numpy()
        made["users_with"], made["taken"] = self.counts.users_with, self.taken
        made["n_real_users"] = np.array([self.n_real_users], dtype=np.int64)
        if self.accounting is not None:
            known = self.accounting
            made["privacy"] = np.array(
                [known.noise, known.counts_deviation, known.stages[0].n_users], dtype=np.float64
            )
        return made

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

    def _with(self, spec: MultiVAE | SDRM, *, denoiser: LatentDenoiser | None) -> Self:
        return type(self)(
            spec,
            self.items,
            self.n_real_users,
            self.counts,
            self.taken,
            self.vae,
            denoiser,
            self.accounting,
            self.device,
        )


def restored(spec: MultiVAE | SDRM, items: Vocabulary, tensors: Tensors, device: str) -> LatentSynthesizer:
    """The synthesizer from its saved parts."""
    on = check_device(device)
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    counts = RealCounts(arrays["users_with"].astype(np.float64), len(items))
    with torch.device("meta"):
        vae = MultiVAENetwork(len(items), spec.vae)
        denoiser = LatentDenoiser(spec.vae.latent, spec.diffusion) if isinstance(spec, SDRM) else None
    for name, network in (("vae.", vae), ("denoiser.", denoiser)):
        if network is not None:
            load_weights(
                network,
                {
                    key.removeprefix(name): torch.from_numpy(array).to(on)
                    for key, array in arrays.items()
                    if key.startswith(name)
                },
            )
    accounting = None
    if spec.privacy is not None:
        noise, deviation, n_users = (float(value) for value in arrays["privacy"])
        stages = [Stage("the autoencoder", int(n_users), spec.vae.batch_size, spec.vae.epochs)]
        if isinstance(spec, SDRM):
            stages.append(
                Stage("the diffusion", int(n_users), spec.diffusion.batch_size, spec.diffusion.epochs)
            )
        accounting = Accounting(spec.privacy, tuple(stages), noise, deviation)
    taken = arrays["taken"].astype(bool)
    if taken.shape != (len(items),):
        raise ValueError(f"taken has shape {taken.shape} instead of {(len(items),)}")
    n_real = int(arrays["n_real_users"][0])
    return LatentSynthesizer(spec, items, n_real, counts, taken, vae, denoiser, accounting, str(on))
