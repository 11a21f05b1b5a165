"""Diffusion on latents: settings, network, objectives and the reverse chain (paper, section 4).

The paper is Lilienthal et al., IEEE Access 12, 2024, arXiv 2311.03488.

Notation (paper → here): β_t, α_t, ᾱ_t → `latent_schedule`; the network ε_θ(x_t, t) → `LatentDenoiser`; x_0 → `clean`;
ρ = ε̂ − x_0 → `residual`. Steps run from 1 to T; step 0 is never drawn.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from unblur.errors import SpecError, UnblurError
from unblur.models.diffusion.denoiser import step_embedding
from unblur.models.diffusion.schedule import NoiseSchedule, Schedule, noise_schedule
from unblur.privacy.clipping import Uses
from unblur.randomness import streams, torch_generator
from unblur.spec import Count, Rounds, spec
from unblur.training.loop import Moment
from unblur.training.networks import Weights, dropped, frozen
from unblur.training.settings import Dropout, Optimizer, Precision

ROUNDED = 128
"""The sampler evaluates the network on a multiple of so many rows, because each new shape of a matrix product costs its
set-up (100 products with 200 × 200 weights took a quarter longer, on one thread, with 900 … 999 rows than with 1,000 each)."""


@spec(renamed={"lowest": "beta_min", "highest": "beta_max"})
class LatentDiffusion:
    """Diffusion on the latents of the frozen autoencoder (paper, section 4)."""

    steps: Annotated[int, Field(ge=2, le=1000)] = 50
    """T: `SDRM-timesteps`. The layer that embeds a step has T × T weights."""
    beta_min: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """β at step 0, which is never drawn; β runs evenly over T + 1 points."""
    beta_max: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """β at step T; the paper's is 0.02."""
    hidden_layers: Annotated[int, Field(ge=0, le=100)] = 2
    """Layers between the first and the last, as wide as the latent: `MLP-hidden-layers`."""
    standardized: bool = True
    """Scale each coordinate of the codes to mean 0 and deviation 1 before the diffusion, and back after it (Rombach et
    al., CVPR 2022, section 4.3.2, scale all latents by one factor). Without it, as in the paper, a chain that begins in
    N(0, I) must reach codes that lie elsewhere."""
    output: Literal["identity", "tanh"] = "identity"
    """The activation after the last layer. The paper's is tanh, which keeps outputs within (−1, 1), so that larger
    noise cannot be predicted."""
    dropout: Dropout = 0.0
    """Dropout on the input of the first layer; the paper's is 0.5."""
    objective: Literal["velocity", "noise", "sdrm"] = "velocity"
    """The target of training. ``velocity``: √ᾱ_t·ε − √(1 − ᾱ_t)·x_0 (Salimans and Ho, ICLR 2022, arXiv 2202.00512,
    appendix D), which for standardised codes is close to 0 where the input says nothing about it; ``noise``: ε (Ho et
    al., NeurIPS 2020); ``sdrm``: the authors' score matching, which never regresses on the noise."""
    perturbation: PositiveFloat = 0.1
    """μ, the factor of the noise that is added to the clean latent for the difference of scores; for ``sdrm``."""
    noise_variance_diminisher: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the noise, in training and in sampling: `SDRM-noise-variance-diminisher`."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """The optimizer of the denoiser; its learning rate is `SDRM-lr`."""
    decay: Literal["linear", "none"] = "linear"
    """Let the learning rate fall linearly from epoch to epoch, to 0 after the last."""
    epochs: Rounds = 200
    """Passes over the latents: `SDRM-epochs`."""
    batch_size: Count = 256
    """Users per batch: `SDRM-batch-size`."""
    noise_without_root: bool = False
    """A departure of the authors' code: noise enters as (1 − ᾱ_t)·ε, not as √(1 − ᾱ_t)·ε, so that noisy latents are
    less noisy than the sampler assumes."""
    tied_hidden_layers: bool = False
    """A departure of the authors' code: the hidden layers are one layer, applied `hidden_layers` times."""
    sampling_dropout: bool = False
    """A departure of the authors' code: dropout stays on in sampling."""

    def __post_init__(self) -> None:
        SpecError.unless(
            self.beta_min < self.beta_max,
            f"`beta_min` must be below `beta_max`; saw {self.beta_min} and {self.beta_max}. Move them apart.",
        )
        SpecError.unless(
            not (self.objective == "velocity" and self.noise_without_root),
            "The velocity is defined only if the squares of the factors of signal and noise sum to 1; saw "
            '`noise_without_root`, with which they do not. Set `objective` to "noise" or "sdrm", or switch it off.',
        )


def latent_schedule(settings: LatentDiffusion) -> NoiseSchedule:
    """β evenly from `beta_min` to `beta_max` over the T + 1 points 0 … T."""
    return noise_schedule(
        Schedule(
            name="linear",
            steps=settings.steps + 1,
            scale=1.0,
            noise_min=settings.beta_min,
            noise_max=settings.beta_max,
            fixed_first=False,
        )
    )


def noise_levels(settings: LatentDiffusion, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The factors of ``x_t = signal[t]·x_0 + level[t]·ε``, each (T + 1,) float32; ε is noise times the diminisher.

    Levels are √(1 − ᾱ_t), or 1 − ᾱ_t with `noise_without_root`.
    """
    schedule = latent_schedule(settings)
    levels = 1 - schedule.alpha_bar if settings.noise_without_root else schedule.noise
    signal, level = (
        torch.tensor(factors, dtype=torch.float32, device=device) for factors in (schedule.signal, levels)
    )
    return signal, level


class LatentDenoiser(nn.Module):
    """Linear(latent + T → latent), PReLU, `hidden_layers` × (Linear, PReLU), Linear; then `bounded`, which is tanh or nothing.

    The first layer acts on the latent and on a linear map of the sinusoidal step embedding of width T; its weights are
    `first_weight` for the latent and `step_weight` for the step. Weights and biases are initialized uniformly within
    ±1/√fan_in, slopes at 1/4. With `tied_hidden_layers` there is one hidden layer, applied several times. `center` and
    `spread`, (latent,), are means and deviations of the codes, if these are standardised.
    """

    center: Tensor | None
    spread: Tensor | None

    def __init__(
        self, latent: int, settings: LatentDiffusion, generator: torch.Generator | None = None
    ) -> None:
        """Without a generator the weights stay uninitialized, to be loaded."""
        super().__init__()
        self.settings = settings
        self._table: Tensor | None = None
        steps, depth = settings.steps, settings.hidden_layers
        n_hidden = min(depth, 1) if settings.tied_hidden_layers else depth
        self.order = [0] * depth if settings.tied_hidden_layers else list(range(depth))
        self.embedding_weight = nn.Parameter(torch.empty(steps, steps))
        self.embedding_bias = nn.Parameter(torch.empty(steps))
        self.first_weight = nn.Parameter(torch.empty(latent, latent))
        self.step_weight = nn.Parameter(torch.empty(latent, steps))
        self.first_bias = nn.Parameter(torch.empty(latent))
        self.first_slope = nn.Parameter(torch.empty(1))
        self.hidden_weights = nn.ParameterList([torch.empty(latent, latent) for _ in range(n_hidden)])
        self.hidden_biases = nn.ParameterList([torch.empty(latent) for _ in range(n_hidden)])
        self.hidden_slopes = nn.ParameterList([torch.empty(1) for _ in range(n_hidden)])
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
        # The first layer is one Linear(latent + T → latent) in the authors' code; here its two blocks share that fan-in.
        layers: tuple[tuple[int, tuple[Tensor, ...]], ...] = (
            (steps, (self.embedding_weight, self.embedding_bias)),
            (width + steps, (self.first_weight, self.step_weight, self.first_bias)),
            (width, inner),
        )
        for fan_in, parameters in layers:
            for parameter in parameters:
                parameter.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)
        for slope in (self.first_slope, *self.hidden_slopes):
            slope.fill_(0.25)  # He et al., ICCV 2015, section 2.1; also what torch's PReLU begins with

    @property
    def width(self) -> int:
        """Width of the latent."""
        return len(self.last_bias)

    @torch.no_grad()
    def fit_scale(self, codes: Tensor) -> None:
        """Set `center` and `spread` to mean and deviation of these codes (n, latent); nothing without `standardized`.

        A coordinate without deviation is centred and not divided.
        """
        if self.center is None or self.spread is None:
            return
        deviation, mean = torch.std_mean(codes.double(), 0, correction=0)
        self.center.copy_(mean)
        # A deviation below 1e-6 (chosen by hand) is rounding of float32, which division would blow up.
        self.spread.copy_(torch.where(deviation > 1e-6, deviation, 1))

    def standardized(self, codes: Tensor) -> Tensor:
        """Codes, (n, latent), in the scale of the chain."""
        return codes if self.center is None or self.spread is None else (codes - self.center) / self.spread

    def restored(self, latents: Tensor) -> Tensor:
        """Latents of the chain, (n, latent), in the scale of the codes; the inverse of `standardized`."""
        if self.center is None or self.spread is None:
            return latents
        return torch.addcmul(self.center, latents, self.spread)

    def step_embeddings(self) -> Tensor:
        """The sinusoids of the steps 0 … T, (T + 1, T); computed once per device."""
        if self._table is None or self._table.device != self.last_bias.device:
            steps = torch.arange(self.settings.steps + 1, device=self.last_bias.device)
            self._table = step_embedding(steps, self.settings.steps)
        return self._table

    def step_inputs(self) -> Tensor:
        """The contribution of each of the steps 0 … T to the first layer, bias included: (T + 1, latent)."""
        embeddings = functional.linear(self.step_embeddings(), self.embedding_weight, self.embedding_bias)
        return functional.linear(embeddings, self.step_weight, self.first_bias)

    def forward(
        self, noisy: Tensor, steps: Tensor, generator: torch.Generator | None = None, uses: Uses | None = None
    ) -> Tensor:
        """The output of the last layer, (n, latent), before `bounded`, for latents (n, latent) at steps (n,).

        Dropout needs the generator. `uses` records inputs and outputs of the layers for the gradients of single users.
        """
        x, scale = dropped(noisy, self.settings.dropout, generator)
        if uses is None:
            # There are only T + 1 different steps: their contributions are computed once and gathered per row. The scale
            # of dropout is the `alpha` of the sum, which saves a pass over the latents.
            first = functional.linear(x, self.first_weight)
            step_terms = functional.embedding(steps, self.step_inputs()).to(first.dtype)
            first = torch.add(step_terms, first, alpha=scale)
        else:
            # A user's gradient follows from the inputs of each layer, so every row passes through the embedding itself.
            rows = self.step_embeddings()[steps]
            embeddings = functional.linear(rows, self.embedding_weight, self.embedding_bias)
            inputs = torch.cat((x * scale, embeddings), 1)
            first = functional.linear(
                inputs, torch.cat((self.first_weight, self.step_weight), 1), self.first_bias
            )
            uses.layer("embedding", rows, embeddings)
            uses.layer("first", inputs, first)
        h = sloped(first, self.first_slope)
        if uses is not None:
            uses.slope("first", first, h)
        for layer in self.order:
            inputs = h
            z = functional.linear(h, self.hidden_weights[layer], self.hidden_biases[layer])
            h = sloped(z, self.hidden_slopes[layer])
            if uses is not None:
                uses.layer(f"hidden {layer}", inputs, z)
                uses.slope(f"hidden {layer}", z, h)
        output = functional.linear(h, self.last_weight, self.last_bias)
        if uses is not None:
            uses.layer("last", h, output)
        return output

    def bounded(self, output: Tensor) -> Tensor:
        """The output after the last activation (tanh or none), float32."""
        return torch.tanh(output.float()) if self.settings.output == "tanh" else output.float()


class _Sloped(torch.autograd.Function):
    """PReLU with one slope, whose gradient is a dot product, not a tensor of the input's size.

    Forward and backward take a fifth to a third of the time of `functional.prelu` (550 to 1,000 rows, one thread).
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return functional.leaky_relu(x, float(slope))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        (by_output,) = gradients
        by_x = torch.ops.aten.leaky_relu_backward(by_output, x, float(slope), False)
        # ∂PReLU/∂slope = min(x, 0); summed in float32, because bfloat16 loses small terms of a long sum.
        by_slope = (x.clamp_max(0) * by_output).sum(dtype=torch.float32)
        return by_x, by_slope.view_as(slope)


def sloped(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU: x where it is positive, slope·x elsewhere (He et al., ICCV 2015); `slope` is (1,)."""
    activations: Tensor = _Sloped.apply(x, slope)  # type: ignore[no-untyped-call]
    return activations


class _ScoreMatching(torch.autograd.Function):
    """The loss of `score_matching` with a hand-written gradient.

    With a = (s′ − s)/μ² − ρ, b = ρ − s, N numbers, E = (‖a‖² + ‖b‖²)/N and V = var(ρ) + 1e-8, the loss is E/(2V). The
    gradient reuses a and b and writes into one buffer: 5.1 ms for both directions at 550 × 830 on one thread, where
    autograd takes 6.2 ms (no gain at 256 × 200).
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, clean: Tensor, perturbation: float) -> Tensor:
        score, moved_score, estimate = outputs.chunk(3)
        scale = 1 / perturbation**2
        # ρ = ε̂ − x_0
        residual = estimate - clean
        # a = (s′ − s)/μ² − ρ
        difference_error = torch.sub(moved_score, score).mul_(scale).sub_(residual)
        # b = ρ − s
        score_error = residual - score
        size = residual.numel()
        # V − 1e-8: over all N numbers and unbiased, as torch's `var` is by default.
        variance, mean = torch.var_mean(residual)
        variance = variance + 1e-8
        # E = (‖a‖² + ‖b‖²)/N; dot products of flat views, which make no tensor of squares.
        error = (
            difference_error.view(-1).dot(difference_error.view(-1))
            + score_error.view(-1).dot(score_error.view(-1))
        ) / size
        ctx.save_for_backward(difference_error, score_error, residual, variance, mean, error)
        ctx.scale = scale
        return error / 2 / variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        difference_error, score_error, residual, variance, mean, error = ctx.saved_tensors
        size, n_rows = residual.numel(), len(residual)
        # Views of one buffer, in the order of `outputs`: the gradient needs no concatenation.
        by_outputs = residual.new_empty(3 * n_rows, residual.shape[1])
        by_score, by_moved_score, by_estimate = by_outputs.chunk(3)
        # g/(N·V), the factor of a and b in all three: ∂E/∂a = 2a/N and ∂E/∂b = 2b/N, halved by the loss.
        error_factor = float(gradients[0] / variance) / size
        # g·E/(V²·(N − 1)), from the quotient: ∂(1/V)/∂ρ = −V⁻²·∂V/∂ρ, where ∂V/∂ρ = 2·(ρ − mean)/(N − 1).
        variance_factor = float(gradients[0] * error / variance.square()) / (size - 1)
        # ∂L/∂s′ = g/(N·V)·a/μ²: s′ is in a alone.
        torch.mul(difference_error, ctx.scale * error_factor, out=by_moved_score)
        # ∂L/∂s = −g/(N·V)·(a/μ² + b): s is in a with −1/μ² and in b with −1, and the first term is there already.
        torch.add(by_moved_score, score_error, alpha=error_factor, out=by_score).neg_()
        # ∂L/∂ε̂ = g/(N·V)·(b − a) − g·E/(V²·(N − 1))·(ρ − mean): ρ is in b, in a with −1, and in V.
        torch.sub(score_error, difference_error, out=by_estimate).mul_(error_factor).sub_(
            residual, alpha=variance_factor
        ).add_(float(mean) * variance_factor)
        # Neither the latents nor μ are trained.
        return by_outputs, None, None


def score_matching(outputs: Tensor, clean: Tensor, perturbation: float) -> Tensor:
    """½·(mse((s′ − s)/μ², ρ) + mse(ρ, s)) / (var(ρ) + 1e-8) with ρ = ε̂ − x_0: the authors' loss.

    `outputs` (3n, width) are s = net(x_0, t), s′ = net(x_0 + μ·ε, t) and ε̂ = net(x_t, t), one below the other; `clean`
    (n, width) is x_0, `perturbation` μ. Means and variance are over all n·width numbers.
    """
    loss: Tensor = _ScoreMatching.apply(outputs, clean, perturbation)  # type: ignore[no-untyped-call]
    return loss


class CodesLearner:
    """Train the denoiser on the codes of users."""

    def __init__(self, settings: LatentDiffusion, codes: Tensor, seed: int) -> None:
        self.settings = settings
        weights = torch_generator(streams(seed, "denoiser weights")["denoiser weights"])
        self.network = LatentDenoiser(codes.shape[1], settings, weights).to(codes.device)
        self.network.fit_scale(codes)
        self.clean = self.network.standardized(codes)
        self.module: nn.Module = self.network  # the name under which the training loop knows the network
        self.groups, self.n_rows = [(self.module, settings.optimizer)], len(codes)
        self.signal, self.level = noise_levels(settings, codes.device)

    def draw(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw steps (n,), uniform in 1 … T, noise (n, latent) times the diminisher, and the noisy latents x_t."""
        settings = self.settings
        steps = torch.randint(1, settings.steps + 1, (len(clean),), generator=generator, device=clean.device)
        noise = torch.empty_like(clean).normal_(generator=generator)
        if settings.noise_variance_diminisher != 1:
            noise.mul_(settings.noise_variance_diminisher)
        noisy = (clean * self.signal[steps, None]).addcmul_(noise, self.level[steps, None])
        return steps, noise, noisy

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The loss of a batch of users: the mean of `losses`, or score matching.

        `moment` belongs to the protocol of learners; no loss of this one depends on it.
        """
        if self.settings.objective != "sdrm":
            return self.losses(rows, moment, generator).mean()
        clean = self.clean[rows]
        steps, noise, noisy = self.draw(clean, generator)
        moved = clean.add(noise, alpha=self.settings.perturbation)
        # One pass for the three evaluations of a user, which share step and noise; dropout draws anew for each.
        outputs = self.network(torch.cat((clean, moved, noisy)), steps.repeat(3), generator)
        return score_matching(self.network.bounded(outputs), clean, self.settings.perturbation)

    def losses(
        self, rows: Tensor, moment: Moment, generator: torch.Generator, uses: Uses | None = None
    ) -> Tensor:
        """The loss of each user of a batch, (n,), independent of the other users: the mean squared error of the
        predicted noise or velocity."""
        clean = self.clean[rows]
        steps, noise, noisy = self.draw(clean, generator)
        prediction = self.network.bounded(self.network(noisy, steps, generator, uses))
        target = (
            self.signal[steps, None] * noise - self.level[steps, None] * clean
            if self.settings.objective == "velocity"
            else noise
        )
        return (prediction - target).square().mean(1)

    def fitted(self, weights: Weights) -> LatentDenoiser:
        """A frozen network with these weights."""
        return frozen(lambda: LatentDenoiser(self.clean.shape[1], self.settings), weights)


class DivergedSampling(UnblurError, ArithmeticError):
    """Sampled latents are not finite."""


def step_counts(resolution: str, n: int, steps: int, random: np.random.Generator) -> NDArray[np.int64]:
    """The number of reverse steps of each of `n` rows: T (``full``), or drawn uniformly from 1 … T − 1
    (``multi-resolution``)."""
    return np.full(n, steps, dtype=np.int64) if resolution == "full" else random.integers(1, steps, n)


class LatentSampler:
    """The reverse chain of a trained denoiser; terms that depend on the step alone are computed once."""

    @torch.no_grad()
    def __init__(self, network: LatentDenoiser, precision: Precision = "float32") -> None:
        settings = self.settings = network.settings
        self.width, self.device = network.width, network.last_bias.device
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._bounded = network.bounded
        self._steps = network.step_inputs().to(self._dtype)
        self._first = self._transposed(network.first_weight)
        # With `sampling_dropout` the scale 1/(1 − p) of inverted dropout is in the weights already.
        self._first_scaled = self._transposed(network.first_weight / (1 - settings.dropout))
        self._first_slope = float(network.first_slope)
        self._hidden = [
            (
                self._transposed(network.hidden_weights[layer]),
                network.hidden_biases[layer].to(self._dtype),
                float(network.hidden_slopes[layer]),
            )
            for layer in network.order
        ]
        self._last, self._last_bias = self._transposed(network.last_weight), network.last_bias.to(self._dtype)
        self._signal, self._level = noise_levels(settings)
        schedule = latent_schedule(settings)
        alpha = 1 - schedule.betas  # and 1 − α_t below, not β_t: it differs in the last bits
        self._noise_factor = (1 - alpha) / schedule.noise  # of ε̂: (1 − α_t)/√(1 − ᾱ_t)
        self._scale = 1 / np.sqrt(alpha)
        self._deviation = np.sqrt(schedule.betas) * settings.noise_variance_diminisher

    def _transposed(self, weight: Tensor) -> Tensor:
        """A layer's weights with one row per input, contiguous, so that products need no copy of them."""
        return weight.to(self._dtype).T.contiguous()

    def predict_noise(self, rows: Tensor, step: int, generator: torch.Generator | None = None) -> Tensor:
        """ε̂ for rows (n, latent) at one step, (n, latent) float32."""
        x, scale = dropped(rows.to(self._dtype), self.settings.dropout, generator)
        first = torch.addmm(self._steps[step], x, self._first if scale == 1 else self._first_scaled)
        h = functional.leaky_relu(first, self._first_slope)
        for weight, bias, slope in self._hidden:
            h = functional.leaky_relu(torch.addmm(bias, h, weight), slope)
        prediction: Tensor = self._bounded(torch.addmm(self._last_bias, h, self._last))
        if self.settings.objective != "velocity":
            return prediction
        # ε̂ = √ᾱ_t·v̂ + √(1 − ᾱ_t)·x_t: x_t and v are x_0 and ε turned by one angle (Salimans and Ho, appendix D).
        return prediction.mul_(float(self._signal[step])).add_(rows, alpha=float(self._level[step]))

    @torch.no_grad()
    def sample(self, counts: NDArray[np.int64], generator: torch.Generator) -> Tensor:
        """Sample latents, (n, latent), each from N(0, I) through its own number of steps: `counts` (n,), 1 … T.

        A row with k steps takes those from k down to 1, x ← (x − ε̂·(1 − α_t)/√(1 − ᾱ_t))/√α_t + √β_t·z, z scaled by the
        diminisher, and no z at step 1. Raises `DivergedSampling` if a latent is not finite.
        """
        # Rows with most steps first, so that those active at a step are a prefix: a view, never a gathered copy.
        order = np.argsort(-counts, kind="stable")
        n_active = np.searchsorted(-counts[order], -np.arange(self.settings.steps + 1), side="right")
        rows = torch.empty(len(counts), self.width, device=self.device).normal_(generator=generator)
        buffer = torch.empty_like(rows)
        dropout_generator = generator if self.settings.sampling_dropout else None
        for step in range(int(counts.max()), 0, -1):
            n = int(n_active[step])
            active = rows[:n]
            noise = self.predict_noise(rows[: -(-n // ROUNDED) * ROUNDED], step, dropout_generator)[:n]
            active.sub_(noise, alpha=float(self._noise_factor[step]))
            active.mul_(float(self._scale[step]))
            if step > 1:
                z = buffer[: len(active)].normal_(generator=generator)
                active.add_(z, alpha=float(self._deviation[step]))
        finite = torch.isfinite(rows).all(1)
        DivergedSampling.unless(
            finite.all(),
            f"Latents must stay finite; {int((~finite).sum()):,} of {len(rows):,} are not. "
            "The denoiser did not converge: lower its learning rate, or train it longer.",
        )
        return rows[torch.as_tensor(np.argsort(order), device=self.device)]
