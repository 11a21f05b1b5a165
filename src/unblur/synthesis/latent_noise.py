"""Noise on latents, the network that is asked about it, and what it is trained for (paper, section 4).

Notation (paper → here): β_t, α_t, ᾱ_t → `LatentSchedule`; the network ε_θ(x_t, t) → `LatentDenoiser`; x_0 → `clean`;
ρ = ε̂ − x_0 → `residual`. Steps run from 1 to T; step 0 is never drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from unblur.models.diffusion.denoiser import step_embedding
from unblur.models.diffusion.schedule import NoiseSchedule, Schedule, noise_schedule
from unblur.privacy.clipping import Uses
from unblur.synthesis.settings import LatentDiffusion
from unblur.training.networks import dropped


def latent_schedule(settings: LatentDiffusion) -> NoiseSchedule:
    """β evenly from `lowest` to `highest` over the T + 1 points 0 … T."""
    return noise_schedule(
        Schedule(
            name="linear",
            steps=settings.steps + 1,
            scale=1.0,
            lowest=settings.lowest,
            highest=settings.highest,
            fixed_first=False,
        )
    )


@dataclass(frozen=True, eq=False)
class NoiseLevels:
    """``x_t = signal[t]·x_0 + level[t]·ε``, where ε is normal noise times the diminisher; (T + 1,) float32."""

    signal: Tensor
    level: Tensor

    @classmethod
    def of(cls, settings: LatentDiffusion, device: torch.device | str = "cpu") -> NoiseLevels:
        """Levels are √(1 − ᾱ_t), or 1 − ᾱ_t with `noise_without_root`."""
        made = latent_schedule(settings)
        level = 1 - made.alpha_bar if settings.noise_without_root else made.noise
        signal, noise = (
            torch.tensor(each, dtype=torch.float32, device=device) for each in (made.signal, level)
        )
        return cls(signal, noise)


class LatentDenoiser(nn.Module):
    """Linear(latent + T → latent), PReLU, `hidden_layers` × (Linear, PReLU), Linear, tanh.

    The first layer acts on the latent beside a linear map of the sinusoidal step embedding of width T; its
    weights are `first_weight` for the latent and `step_weight` for the step. Weights and biases begin uniform
    within ±1/√fan_in, slopes at 1/4. With `tied_hidden_layers` there is one hidden layer, applied several
    times. `center` and `spread`, (latent,), are means and deviations of the codes where these are standardised.
    """

    center: Tensor | None
    spread: Tensor | None

    def __init__(
        self, latent: int, settings: LatentDiffusion, generator: torch.Generator | None = None
    ) -> None:
        """Without a generator the weights are left to be loaded."""
        super().__init__()
        self.settings = settings
        self._table: Tensor | None = None
        steps, depth = settings.steps, settings.hidden_layers
        kept = min(depth, 1) if settings.tied_hidden_layers else depth
        self.order = [0] * depth if settings.tied_hidden_layers else list(range(depth))
        self.embedding_weight = nn.Parameter(torch.empty(steps, steps))
        self.embedding_bias = nn.Parameter(torch.empty(steps))
        self.first_weight = nn.Parameter(torch.empty(latent, latent))
        self.step_weight = nn.Parameter(torch.empty(latent, steps))
        self.first_bias = nn.Parameter(torch.empty(latent))
        self.first_slope = nn.Parameter(torch.empty(1))
        self.hidden_weights = nn.ParameterList([torch.empty(latent, latent) for _ in range(kept)])
        self.hidden_biases = nn.ParameterList([torch.empty(latent) for _ in range(kept)])
        self.hidden_slopes = nn.ParameterList([torch.empty(1) for _ in range(kept)])
        self.last_weight = nn.Parameter(torch.empty(latent, latent))
        self.last_bias = nn.Parameter(torch.empty(latent))
        self.register_buffer("center", torch.zeros(latent) if settings.standardized else None)
        self.register_buffer("spread", torch.ones(latent) if settings.standardized else None)
        if generator is not None:
            self._initialize(generator)

    @torch.no_grad()
    def _initialize(self, generator: torch.Generator) -> None:
        steps, width = self.settings.steps, len(self.last_bias)
        bounds: list[tuple[Tensor, int]] = [(self.embedding_weight, steps), (self.embedding_bias, steps)]
        bounds += [(each, width + steps) for each in (self.first_weight, self.step_weight, self.first_bias)]
        inner = (*self.hidden_weights, *self.hidden_biases, self.last_weight, self.last_bias)
        for parameter, fan_in in (*bounds, *((each, width) for each in inner)):
            parameter.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)
        for slope in (self.first_slope, *self.hidden_slopes):
            slope.fill_(0.25)

    @property
    def latent(self) -> int:
        """Width of the latent."""
        return len(self.last_bias)

    @torch.no_grad()
    def fit_scale(self, codes: Tensor) -> None:
        """Take mean and deviation of these codes (n, latent), where the settings say that codes are standardised.

        A place without deviation keeps its mean and is not divided.
        """
        if self.center is None or self.spread is None:
            return
        deviation, mean = torch.std_mean(codes.double(), 0, correction=0)
        self.center.copy_(mean)
        self.spread.copy_(torch.where(deviation > 1e-6, deviation, 1))

    def standardized(self, codes: Tensor) -> Tensor:
        """Codes, (n, latent), as the chain has them."""
        if self.center is None or self.spread is None:
            return codes
        return (codes - self.center) / self.spread

    def restored(self, latents: Tensor) -> Tensor:
        """What ended the chain, (n, latent), as codes; the inverse of `standardized`."""
        if self.center is None or self.spread is None:
            return latents
        return torch.addcmul(self.center, latents, self.spread)

    def embedded(self) -> Tensor:
        """The sinusoids of the steps 0 … T, (T + 1, T); computed once for each device."""
        if self._table is None or self._table.device != self.last_bias.device:
            steps = torch.arange(self.settings.steps + 1, device=self.last_bias.device)
            self._table = step_embedding(steps, self.settings.steps)
        return self._table

    def step_inputs(self) -> Tensor:
        """What each of the steps 0 … T adds to the first layer, its bias included: (T + 1, latent)."""
        mapped = functional.linear(self.embedded(), self.embedding_weight, self.embedding_bias)
        return functional.linear(mapped, self.step_weight, self.first_bias)

    def forward(
        self, noisy: Tensor, steps: Tensor, generator: torch.Generator | None = None, uses: Uses | None = None
    ) -> Tensor:
        """The answer before tanh, (n, latent), for latents (n, latent) at steps (n,); dropout needs the
        generator."""
        x, scale = dropped(noisy, self.settings.dropout, generator)
        if uses is None:
            first = functional.linear(x, self.first_weight)
            beside = functional.embedding(steps, self.step_inputs()).to(first.dtype)
            first = torch.add(beside, first, alpha=scale)
        else:
            rows = self.embedded()[steps]
            mapped = functional.linear(rows, self.embedding_weight, self.embedding_bias)
            both = torch.cat((x * scale, mapped), 1)
            first = functional.linear(
                both, torch.cat((self.first_weight, self.step_weight), 1), self.first_bias
            )
            uses.layer("embedding", rows, mapped)
            uses.layer("first", both, first)
        h = sloped(first, self.first_slope)
        if uses is not None:
            uses.slope("first", first, h)
        for number in self.order:
            taken = h
            z = functional.linear(h, self.hidden_weights[number], self.hidden_biases[number])
            h = sloped(z, self.hidden_slopes[number])
            if uses is not None:
                uses.layer(f"hidden {number}", taken, z)
                uses.slope(f"hidden {number}", z, h)
        answer = functional.linear(h, self.last_weight, self.last_bias)
        if uses is not None:
            uses.layer("last", h, answer)
        return answer

    def bounded(self, answer: Tensor) -> Tensor:
        """What stands behind the last layer: tanh, in float32."""
        return torch.tanh(answer.float()) if self.settings.output == "tanh" else answer.float()


class _Sloped(torch.autograd.Function):
    """PReLU with one slope; its gradient is a dot product, not a tensor of the input's size."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return functional.leaky_relu(x, float(slope))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        (asked,) = gradients
        by_x = torch.ops.aten.leaky_relu_backward(asked, x, float(slope), False)
        by_slope = (x.clamp_max(0) * asked).sum(dtype=torch.float32)
        return by_x, by_slope.view_as(slope)


def sloped(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU: x where it is positive, slope·x elsewhere (He et al., ICCV 2015); `slope` is (1,)."""
    made: Tensor = _Sloped.apply(x, slope)  # type: ignore[no-untyped-call]
    return made


class LatentLoss:
    """What the denoiser is trained for, on the latents of a batch."""

    def __init__(self, settings: LatentDiffusion, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.levels = NoiseLevels.of(settings, device)

    def drawn(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Steps (n,), uniform in 1 … T, noise (n, latent) times the diminisher, and the noisy latents."""
        settings = self.settings
        steps = torch.randint(1, settings.steps + 1, (len(clean),), generator=generator, device=clean.device)
        noise = torch.empty_like(clean).normal_(generator=generator)
        if settings.noise_variance_diminisher != 1:
            noise.mul_(settings.noise_variance_diminisher)
        noisy = (clean * self.levels.signal[steps, None]).addcmul_(noise, self.levels.level[steps, None])
        return steps, noise, noisy

    def __call__(self, network: LatentDenoiser, clean: Tensor, generator: torch.Generator) -> Tensor:
        """The mean loss of clean latents (n, latent)."""
        if self.settings.objective != "sdrm":
            return self.each(network, clean, generator).mean()
        steps, noise, noisy = self.drawn(clean, generator)
        moved = clean.add(noise, alpha=self.settings.perturbation)
        asked = torch.cat((clean, moved, noisy))
        answers = network.bounded(network(asked, steps.repeat(3), generator))
        return score_matching(answers, clean, self.settings.perturbation)

    def each(
        self, network: LatentDenoiser, clean: Tensor, generator: torch.Generator, uses: Uses | None = None
    ) -> Tensor:
        """The loss of each row by itself, (n,): the mean squared error of the guessed noise, or velocity."""
        steps, noise, noisy = self.drawn(clean, generator)
        guess = network.bounded(network(noisy, steps, generator, uses))
        if self.settings.objective == "velocity":
            signal, level = self.levels.signal[steps, None], self.levels.level[steps, None]
            noise = signal * noise - level * clean
        return (guess - noise).square().mean(1)


class _ScoreMatching(torch.autograd.Function):
    """The authors' loss, with its gradient written down: few passes over the three answers."""

    @staticmethod
    def forward(ctx: Any, answers: Tensor, clean: Tensor, perturbation: float) -> Tensor:
        score, moved, guess = answers.chunk(3)
        scale = 1 / perturbation**2
        residual = guess - clean
        first = torch.sub(moved, score).mul_(scale).sub_(residual)
        second = residual - score
        size = residual.numel()
        spread, center = torch.var_mean(residual)
        spread = spread + 1e-8
        errors = (first.view(-1).dot(first.view(-1)) + second.view(-1).dot(second.view(-1))) / size
        ctx.save_for_backward(first, second, residual, spread, center, errors)
        ctx.scale = scale
        return errors / 2 / spread

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        first, second, residual, spread, center, errors = ctx.saved_tensors
        size, width = residual.numel(), len(residual)
        made = residual.new_empty(3 * width, residual.shape[1])
        by_score, by_moved, by_guess = made.chunk(3)
        factor = float(gradients[0] / spread) / size
        pull = float(gradients[0] * errors / spread.square()) / (size - 1)
        torch.mul(first, ctx.scale * factor, out=by_moved)
        torch.add(by_moved, second, alpha=factor, out=by_score).neg_()
        torch.sub(second, first, out=by_guess).mul_(factor).sub_(residual, alpha=pull).add_(
            float(center) * pull
        )
        return made, None, None


def score_matching(answers: Tensor, clean: Tensor, perturbation: float) -> Tensor:
    """½·(mse((s′ − s)/μ², ρ) + mse(ρ, s)) / (var(ρ) + 1e-8) with ρ = ε̂ − x_0.

    `answers` (3n, width) are s = net(x_0, t), s′ = net(x_0 + μ·ε, t) and ε̂ = net(x_t, t), one below the
    other; `clean` (n, width) is x_0, `perturbation` μ. Means and variance are over all n·width numbers.
    """
    made: Tensor = _ScoreMatching.apply(answers, clean, perturbation)  # type: ignore[no-untyped-call]
    return made
