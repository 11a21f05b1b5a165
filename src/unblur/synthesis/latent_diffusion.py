"""Diffusion on latents: its settings, its network, what that is trained for, and the reverse chain (paper, section 4).

Notation (paper → here): β_t, α_t, ᾱ_t → `latent_schedule`; the network ε_θ(x_t, t) → `LatentDenoiser`; x_0 → `clean`;
ρ = ε̂ − x_0 → `residual`. Steps run from 1 to T; step 0 is never drawn.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from unblur.errors import SpecError, UnblurError
from unblur.models.diffusion.denoiser import step_embedding
from unblur.models.diffusion.schedule import NoiseSchedule, Schedule, noise_schedule
from unblur.privacy.clipping import Uses
from unblur.randomness import streams, torch_generator
from unblur.spec import spec
from unblur.training.loop import Moment
from unblur.training.networks import Weights, dropped, frozen
from unblur.training.settings import Dropout, Optimizer, Precision

ROUNDED = 128
"""The network is asked about a multiple of so many rows: each new shape of a matrix product costs its set-up."""


@spec
class LatentDiffusion:
    """Diffusion on the latents of the frozen autoencoder (paper, section 4)."""

    steps: Annotated[int, Field(ge=2)] = 50
    """T: `SDRM-timesteps`."""
    lowest: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """β at step 0, which is never drawn; β runs evenly over T + 1 points."""
    highest: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """β at step T; the paper's is 0.02."""
    hidden_layers: NonNegativeInt = 2
    """Layers between the first and the last, as wide as the latent: `MLP-hidden-layers`."""
    standardized: bool = True
    """Whether each place of the codes is brought to mean 0 and deviation 1 before the diffusion, and back after it
    (as latents are in Rombach et al., CVPR 2022, section 4.3.2, there by one factor). Without it, the paper's way, a
    chain that begins in N(0, I) has to find codes that lie elsewhere."""
    output: Literal["identity", "tanh"] = "identity"
    """What follows the last layer. The paper's is tanh, which keeps answers within (−1, 1): noise beyond it
    cannot be predicted."""
    dropout: Dropout = 0.0
    """On what the first layer takes; the paper's is 0.5."""
    objective: Literal["velocity", "noise", "sdrm"] = "velocity"
    """What the network is trained to give. ``velocity``: √ᾱ_t·ε − √(1 − ᾱ_t)·x_0 (Salimans and Ho, ICLR 2022,
    arXiv 2202.00512, appendix D), which for standardised codes is small where nothing is known yet; ``noise``: ε
    (Ho et al., NeurIPS 2020); ``sdrm``: what the authors' score matching asks for, which is never the noise."""
    perturbation: PositiveFloat = 0.1
    """μ, how far the clean latent is moved to measure a score; for ``sdrm``."""
    noise_variance_diminisher: Annotated[float, Field(gt=0, le=1)] = 1.0
    """What noise is multiplied by, in training and in sampling: `SDRM-noise-variance-diminisher`."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """How weights follow their gradients: `SDRM-lr`."""
    decay: Literal["linear", "none"] = "linear"
    """Whether the learning rate falls from epoch to epoch, to 0 after the last."""
    epochs: PositiveInt = 200
    """Passes over the latents: `SDRM-epochs`."""
    batch_size: PositiveInt = 256
    """Users a batch: `SDRM-batch-size`."""
    noise_without_root: bool = False
    """A departure of the authors' code: noise enters as (1 − ᾱ_t)·ε, not as √(1 − ᾱ_t)·ε, so noisy latents
    are cleaner than the sampler takes them to be."""
    tied_hidden_layers: bool = False
    """A departure of the authors' code: the hidden layers are one layer, applied `hidden_layers` times."""
    sampling_dropout: bool = False
    """A departure of the authors' code: dropout stays on in sampling."""

    def __post_init__(self) -> None:
        SpecError.unless(
            self.lowest < self.highest,
            f"`lowest` must be below `highest`; saw {self.lowest} and {self.highest}. Move them apart.",
        )
        SpecError.unless(
            not (self.objective == "velocity" and self.noise_without_root),
            "The velocity is defined where signal and noise have squares that add to 1; saw `noise_without_root`, "
            'whose have not. Set `objective` to "noise" or "sdrm", or leave the departure out.',
        )


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


def noise_levels(settings: LatentDiffusion, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The factors of ``x_t = signal[t]·x_0 + level[t]·ε``, each (T + 1,) float32; ε is noise times the diminisher.

    Levels are √(1 − ᾱ_t), or 1 − ᾱ_t with `noise_without_root`.
    """
    schedule = latent_schedule(settings)
    level = 1 - schedule.alpha_bar if settings.noise_without_root else schedule.noise
    signal, noise = (
        torch.tensor(each, dtype=torch.float32, device=device) for each in (schedule.signal, level)
    )
    return signal, noise


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
        """Draw the weights in the order of the authors' layers, each within ±1/√fan_in."""
        steps, width = self.settings.steps, len(self.last_bias)
        inner = (*self.hidden_weights, *self.hidden_biases, self.last_weight, self.last_bias)
        layers: tuple[tuple[int, tuple[Tensor, ...]], ...] = (
            (steps, (self.embedding_weight, self.embedding_bias)),
            (width + steps, (self.first_weight, self.step_weight, self.first_bias)),
            (width, inner),
        )
        for fan_in, parameters in layers:
            for parameter in parameters:
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
        return codes if self.center is None or self.spread is None else (codes - self.center) / self.spread

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


class CodesLearner:
    """Trains the denoiser on the codes of users."""

    def __init__(self, settings: LatentDiffusion, codes: Tensor, seed: int) -> None:
        self.settings = settings
        weights = torch_generator(streams(seed, "denoiser weights")["denoiser weights"])
        self.network = LatentDenoiser(codes.shape[1], settings, weights).to(codes.device)
        self.network.fit_scale(codes)
        self.clean = self.network.standardized(codes)
        self.module: nn.Module = self.network
        self.groups, self.n_rows = [(self.module, settings.optimizer)], len(codes)
        self.signal, self.level = noise_levels(settings, codes.device)

    def drawn(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Steps (n,), uniform in 1 … T, noise (n, latent) times the diminisher, and the noisy latents."""
        settings = self.settings
        steps = torch.randint(1, settings.steps + 1, (len(clean),), generator=generator, device=clean.device)
        noise = torch.empty_like(clean).normal_(generator=generator)
        if settings.noise_variance_diminisher != 1:
            noise.mul_(settings.noise_variance_diminisher)
        noisy = (clean * self.signal[steps, None]).addcmul_(noise, self.level[steps, None])
        return steps, noise, noisy

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some users' codes."""
        if self.settings.objective != "sdrm":
            return self.each(rows, moment, generator).mean()
        clean = self.clean[rows]
        steps, noise, noisy = self.drawn(clean, generator)
        moved = clean.add(noise, alpha=self.settings.perturbation)
        answers = self.network(torch.cat((clean, moved, noisy)), steps.repeat(3), generator)
        return score_matching(self.network.bounded(answers), clean, self.settings.perturbation)

    def each(
        self, rows: Tensor, moment: Moment, generator: torch.Generator, uses: Uses | None = None
    ) -> Tensor:
        """The loss of each of some users, (n,), which none of the others touches: the mean squared error of the guessed
        noise, or velocity."""
        clean = self.clean[rows]
        steps, noise, noisy = self.drawn(clean, generator)
        guess = self.network.bounded(self.network(noisy, steps, generator, uses))
        if self.settings.objective == "velocity":
            noise = self.signal[steps, None] * noise - self.level[steps, None] * clean
        return (guess - noise).square().mean(1)

    def fitted(self, weights: Weights) -> LatentDenoiser:
        """The network with these weights, not to be trained further."""
        return frozen(lambda: LatentDenoiser(self.clean.shape[1], self.settings), weights)


class DivergedSampling(UnblurError, ArithmeticError):
    """Latents that are no longer finite numbers."""


def lengths(resolution: str, n: int, steps: int, random: np.random.Generator) -> NDArray[np.int64]:
    """How many steps each of `n` rows gets: all T (``full``), or evenly drawn from 1 … T − 1
    (``multi-resolution``)."""
    return np.full(n, steps, dtype=np.int64) if resolution == "full" else random.integers(1, steps, n)


class LatentSampler:
    """A trained denoiser, ready to be asked at every step: what depends on the step alone is computed once."""

    @torch.no_grad()
    def __init__(self, network: LatentDenoiser, precision: Precision = "float32") -> None:
        settings = self.settings = network.settings
        self.latent, self.device = network.latent, network.last_bias.device
        self._kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._bounded = network.bounded
        self._steps = network.step_inputs().to(self._kind)
        self._first = self._turned(network.first_weight)
        self._first_raised = self._turned(network.first_weight / (1 - settings.dropout))
        self._first_slope = float(network.first_slope)
        self._hidden = [
            (
                self._turned(network.hidden_weights[number]),
                network.hidden_biases[number].to(self._kind),
                float(network.hidden_slopes[number]),
            )
            for number in network.order
        ]
        self._last, self._last_bias = self._turned(network.last_weight), network.last_bias.to(self._kind)
        self._signal, self._level = noise_levels(settings)
        schedule = latent_schedule(settings)
        alpha = 1 - schedule.betas
        self._answer = (1 - alpha) / schedule.noise  # what ε̂ counts for: (1 − α_t)/√(1 − ᾱ_t)
        self._shrink = 1 / np.sqrt(alpha)
        self._deviation = np.sqrt(schedule.betas) * settings.noise_variance_diminisher

    def _turned(self, weight: Tensor) -> Tensor:
        """A layer's weights with one row an input, in memory too: products with them need no rearranging."""
        return weight.to(self._kind).T.contiguous()

    def answer(self, rows: Tensor, step: int, generator: torch.Generator | None = None) -> Tensor:
        """ε̂ for rows (n, latent) at one step, (n, latent) float32."""
        x, scale = dropped(rows.to(self._kind), self.settings.dropout, generator)
        first = torch.addmm(self._steps[step], x, self._first if scale == 1 else self._first_raised)
        h = functional.leaky_relu(first, self._first_slope)
        for weight, bias, slope in self._hidden:
            h = functional.leaky_relu(torch.addmm(bias, h, weight), slope)
        guess: Tensor = self._bounded(torch.addmm(self._last_bias, h, self._last))
        if self.settings.objective != "velocity":
            return guess
        return guess.mul_(float(self._signal[step])).add_(rows, alpha=float(self._level[step]))

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
        finite = torch.isfinite(rows).all(1)
        DivergedSampling.unless(
            finite.all(),
            f"Latents must stay finite; {int((~finite).sum()):,} of {len(rows):,} did "
            "not. The denoiser did not fit: lower its learning rate, or train it longer.",
        )
        return rows[torch.as_tensor(np.argsort(order), device=self.device)]
