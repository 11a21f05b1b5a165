"""The hyper-parameters of synthesizers, piece by piece; light to import, since nothing here computes.

Names in quotes are those of the SDRM authors' command line.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from unblur.errors import SpecError
from unblur.spec import spec
from unblur.training.settings import Dropout, Optimizer, Precision as Precision, Share, check_stopping


@spec
class UserStopping:
    """When training of the autoencoder ends early, judged on users who are not trained on."""

    metric: str = "capped_recall@10"
    """A ranking metric with a value for each user, at a cut-off; higher must be better."""
    every: PositiveInt = 1
    """Epochs between evaluations."""
    patience: PositiveInt = 20
    """Training ends when so many epochs have passed without a better value."""
    users: Share = 0.1
    """Which part of the users is set aside when no validation is given."""
    held_out: Share = 0.2
    """Which part of each such user's items must be found again, rounded up; the rest is their history."""

    def __post_init__(self) -> None:
        check_stopping(self.metric, self.every, self.patience)


@spec
class VariationalAutoencoder:
    """MultiVAE++: from rows to latents and back (paper, section 3; Liang et al., WWW 2018)."""

    hidden: PositiveInt = 600
    """Width of the one hidden layer on each side: `VAE-hidden-layer-neurons`."""
    latent: PositiveInt = 200
    """Width of the latent: `MLP-latent-neurons`."""
    dropout: Dropout = 0.5
    """On the L2-normalised row."""
    kl_weight: NonNegativeFloat = 0.2
    """Where β, the weight of the KL divergence, ends."""
    kl_batches: NonNegativeInt = 20_000
    """In how many batches β would rise to 1; it stops at `kl_weight`. 0: it begins there."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """How weights follow their gradients: `VAE-lr`."""
    epochs: PositiveInt = 500
    """The most passes over the users."""
    batch_size: PositiveInt = 500
    """Users a batch: `VAE-batch-size`."""
    stopping: UserStopping | None = UserStopping()
    """When training ends early; `None` trains all epochs on all users."""
    prior: Literal["codes", "standard"] = "codes"
    """Where latents come from when there is no diffusion. ``codes``: a normal distribution with mean and covariance
    of the users' codes (ex-post density estimation; Ghosh et al., ICLR 2020, arXiv 1903.12436). ``standard``, the
    paper's: N(0, I), which codes are far from where β is small."""


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
        if self.lowest >= self.highest:
            raise SpecError(
                f"`lowest` must be below `highest`; saw {self.lowest} and {self.highest}. Move them apart."
            )
        if self.objective == "velocity" and self.noise_without_root:
            raise SpecError(
                "The velocity is defined where signal and noise have squares that add to 1; saw `noise_without_root`, "
                'whose have not. Set `objective` to "noise" or "sdrm", or leave the departure out.'
            )


@spec
class Discretization:
    """How scores of a synthetic user become items that he or she has."""

    rule: Literal["multinomial", "user-counts", "equal-sparsity", "zero-threshold", "raw"] = "multinomial"
    """``multinomial`` (ours): each user gets the number of items of some real user, drawn by chance, and that many
    items drawn without replacement by the softmax of the scores, which is what a decoder with a multinomial
    likelihood says of them (by the k largest of scores with Gumbel noise; Kool et al., ICML 2019, arXiv 1903.06059).
    ``user-counts`` (ours): as many, but the best ones, which leaves the long tail out. ``equal-sparsity``: the best
    scores, as many as give the density of the real data. ``zero-threshold``: items with a score above 0. ``raw``: as ``zero-threshold``, with the scores as weights;
    `sample_scores` gives those below 0 too, which interactions have no place for."""
    per: Literal["sample", "user"] = "sample"
    """Of what ``equal-sparsity`` takes the quantile: of the scores of all users, or of each user's own, which
    gives every user the same number of items."""
