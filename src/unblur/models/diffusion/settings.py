"""The hyper-parameters of the trained diffusion models, part by part; light to import, since nothing here computes.

Names in quotes are those of the authors' command line and of RecBole.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from unblur.errors import SpecError
from unblur.spec import Count, CountOrZero, Depth, Rounds, Steps, Width, Widths, WidthsOrNone, spec
from unblur.training.settings import Activation, Dropout, Optimizer

GONE = "shortened."
"""The prefix of arrays that saved models of earlier versions may hold, and that are no longer read."""


@spec
class Denoiser:
    """The network that predicts the clean row (or the noise) from a noisy row and its step (paper, section 3.1)."""

    dims: Widths = (300,)
    """Hidden widths: `dims`, `dims_dnn`."""
    layout: Literal["hourglass", "straight"] = "hourglass"
    """The reading of (200, 600). ``hourglass``, the authors': n → 600 → 200 → 600 → n; ``straight``, RecBole's:
    n → 200 → 600 → n. With one width both are n → d → n."""
    activation: Activation = "tanh"
    """After every layer but the last: `act`, `mlp_act_func`."""
    dropout: Dropout = 0.5
    """On the noisy row, before the first layer."""
    normalize: bool = False
    """Divide the noisy row by its L2 norm first: `norm`. Then reverse steps cannot be folded."""
    embedding_size: Width = 10
    """Width of the sinusoidal step embedding: `emb_size`, `embedding_size`."""


@spec(
    renamed={
        "predicts": "prediction",
        "step_choice": "timestep_sampler",
        "uniform_share": "uniform_probability",
    }
)
class Objective:
    """The objective of the denoiser (paper, section 3.2)."""

    prediction: Literal["x0", "eps"] = "x0"
    """The network's output, the clean row or the noise: `mean_type`."""
    reweight: bool = True
    """Weight a step's error by the change of the signal-to-noise ratio there: `reweight`."""
    timestep_sampler: Literal["importance", "uniform"] = "importance"
    """The distribution of steps: in proportion to √E[loss²] of each step (Nichol and Dhariwal, ICML 2021), or
    uniform."""
    history: Steps = 10
    """The number of recent losses of each step for that estimate: `history_num_per_term`."""
    uniform_probability: Annotated[float, Field(gt=0, le=1)] = 0.001
    """The weight of the uniform distribution that is mixed in, so that every step stays possible."""


@spec(dropped={"tolerance": 0.0})
class Sampling:
    """The inference of scores from a history (paper, section 3.3)."""

    start_steps: CountOrZero = 0
    """T′, `sampling_steps`: 0 starts from the row itself, k from the row after k noise steps."""
    noise: bool = False
    """Add the posterior's noise at each reverse step: `sampling_noise`. The noise depends on the model's seed
    and the history alone, so that scores stay repeatable."""
    inference_steps: Steps | None = None
    """Cap on network evaluations, which are spread evenly over all T steps, with outputs extrapolated in between;
    `None` evaluates the network at every step, as in the paper."""


@spec
class TimeWeights:
    """Weights by order in time (T-DiffRec; paper, section 3.5): `time-aware`."""

    oldest: PositiveFloat = 0.1
    """Weight of a user's first interaction: `w_min`."""
    newest: PositiveFloat = 1.0
    """Weight of a user's last interaction: `w_max`."""

    def __post_init__(self) -> None:
        SpecError.unless(
            self.oldest <= self.newest,
            f"`oldest` (w_min) must not be above `newest` (w_max); saw {self.oldest} and {self.newest}. "
            "Swap them.",
        )


@spec
class Autoencoder:
    """The variational autoencoder of the latent models, one encoder a cluster of items (paper, section 3.4)."""

    encoder_dims: Widths = (300,)
    """`in_dims`: widths from the row inwards; the last is that of the latent, divided among the clusters."""
    decoder_dims: WidthsOrNone = ()
    """`out_dims`: hidden widths from the latent outwards. Empty: one linear layer from the whole latent to
    all items; otherwise one network a cluster, from that cluster's part of the latent."""
    activation: Activation = "tanh"
    """`act_func`, `ae_act_func`. It also follows the encoder's last layer, as in the authors' code."""
    dropout: Dropout = 0.1
    """On the row, before the encoders."""
    sample_latent: bool = True
    """Draw the latent from the encoder's distribution in training, instead of taking its mean: `reparam`."""
    diffusion_weight: NonNegativeFloat = 0.03
    """λ, `lamda`: the initial weight of the diffusion loss next to the autoencoder's."""
    least_diffusion_weight: NonNegativeFloat = 0.005
    """`anneal_cap`: the final λ."""
    diffusion_decay: CountOrZero = 1000
    """`anneal_steps`: the number of epochs or batches in which λ would fall to 0; it stops at its final value. 0: it
    stays."""
    decay_unit: Literal["epochs", "batches"] = "batches"
    """The unit of `diffusion_decay`: epochs in the authors' code (500), batches in RecBole (1000)."""
    kl_weight: NonNegativeFloat = 0.3
    """`vae_anneal_cap`: the final weight of the KL divergence."""
    kl_batches: CountOrZero = 200
    """`vae_anneal_steps`: the number of batches in which that weight would rise to 1; it stops at `kl_weight`."""
    optimizer: Optimizer = Optimizer(learning_rate=5e-4)
    """For the autoencoder (`lr1`, `wd1`); the denoiser has its own (`lr2`, `wd2`)."""


@spec(renamed={"deviation": "init_std"})
class GraphEmbeddings:
    """The training of the LightGCN whose item embeddings are clustered (`unblur.models.neural.lightgcn`)."""

    layers: Depth = 3
    """Propagations through the graph of users and items."""
    epochs: Rounds = 20
    """Passes over the interactions."""
    batch_size: Count = 8192
    """Interactions a batch."""
    learning_rate: PositiveFloat = 0.01
    """The learning rate of Adam."""
    ridge: NonNegativeFloat = 1e-4
    """The L2 penalty on the embeddings that a batch uses."""
    init_std: PositiveFloat = 0.1
    """The standard deviation that embeddings begin with."""


@spec(renamed={"width": "embedding_size"})
class ItemClusters:
    """The groups of items, each with its own encoder."""

    count: Count = 1
    """`n_cate`: the number of clusters."""
    embeddings: Literal["spectral", "lightgcn", "given"] = "spectral"
    """The input of k-means: singular vectors of the train matrix, embeddings of a LightGCN trained on it, or
    `item_embeddings` of `fit`."""
    embedding_size: Width = 64
    """Width of the embeddings that are made here."""
    lightgcn: GraphEmbeddings = GraphEmbeddings()
    """The training of those of a LightGCN."""
