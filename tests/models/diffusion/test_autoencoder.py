from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import sparse

from unblur.errors import SpecError
from unblur.models.diffusion.diffrec import ClusteredAutoencoder, diffusion_weight, latent_shares
from unblur.models.diffusion.settings import Autoencoder
from unblur.models.variational import negative_log_likelihood
from unblur.training.loop import Moment
from unblur.training.rows import SparseRows
from unblur.training.settings import rising

CLUSTERS = np.array([0, 1, 0, 2, 1, 0, 0, 2, 1, 0])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weighted_rows() -> sparse.csr_array:
    random = np.random.default_rng(0)
    return sparse.csr_array(((random.random((7, 10)) < 0.4) * random.random((7, 10))).astype(np.float32))


@pytest.mark.parametrize("clusters", [np.zeros(10, dtype=np.int64), CLUSTERS])
@pytest.mark.parametrize("encoder_dims", [(8,), (6, 9)])
def test_encoders_are_dense_layers_on_their_own_items(
    clusters: np.ndarray, encoder_dims: tuple[int, ...]
) -> None:
    matrix = weighted_rows()
    autoencoder = ClusteredAutoencoder(clusters, Autoencoder(encoder_dims=encoder_dims), generator())
    encoding = autoencoder.encode(SparseRows.of(matrix).all())
    means, logs = [], []
    for number, encoder in enumerate(autoencoder.encoders):
        h = torch.from_numpy(matrix.toarray()[:, clusters == number])
        h = torch.tanh(h @ encoder.table + encoder.bias)
        for weight, bias in zip(encoder.weights, encoder.biases, strict=True):
            h = torch.tanh(h @ weight.T + bias)
        means.append(h[:, : autoencoder.shares[number]])
        logs.append(h[:, autoencoder.shares[number] :])
    torch.testing.assert_close(encoding.mean, torch.cat(means, 1))
    torch.testing.assert_close(encoding.log_variance, torch.cat(logs, 1))
    assert encoding.mean.shape == (7, encoder_dims[-1])
    assert autoencoder.latent_width == encoder_dims[-1]


def test_one_decoder_for_all_items_is_linear() -> None:
    autoencoder = ClusteredAutoencoder(CLUSTERS, Autoencoder(encoder_dims=(8,)), generator())
    z = torch.randn(3, 8, generator=generator(1))
    torch.testing.assert_close(
        autoencoder.decode(z), z @ autoencoder.decoders[0].weights[0].T + autoencoder.decoders[0].biases[0]
    )


def test_decoders_of_clusters_put_items_where_they_belong() -> None:
    autoencoder = ClusteredAutoencoder(
        CLUSTERS, Autoencoder(encoder_dims=(8,), decoder_dims=(5,)), generator()
    )
    z = torch.randn(3, 8, generator=generator(1))
    logits = autoencoder.decode(z)
    for number, part in enumerate(z.split(autoencoder.shares, 1)):
        decoder = autoencoder.decoders[number]
        h = torch.tanh(part @ decoder.weights[0].T + decoder.biases[0])
        torch.testing.assert_close(
            logits[:, number == CLUSTERS], h @ decoder.weights[1].T + decoder.biases[1]
        )


def test_weights_begin_xavier_normal_and_biases_at_zero() -> None:
    autoencoder = ClusteredAutoencoder(
        np.zeros(500, dtype=np.int64), Autoencoder(encoder_dims=(300,)), generator()
    )
    assert float(autoencoder.encoders[0].table.detach().std()) == pytest.approx(math.sqrt(2 / 1100), rel=0.02)
    assert not autoencoder.encoders[0].bias.detach().any()
    assert not autoencoder.decoders[0].biases[0].detach().any()


@pytest.mark.parametrize(
    ("sizes", "width", "shares"),
    [
        ([10], 7, [7]),
        ([6, 4], 10, [6, 4]),
        ([97, 1, 2], 10, [8, 1, 1]),
        ([1, 1, 98], 10, [1, 1, 8]),
        ([5, 5], 3, [1, 2]),
    ],
)
def test_latent_numbers_are_divided_by_cluster_size(sizes: list[int], width: int, shares: list[int]) -> None:
    result = latent_shares(sizes, width)
    assert sum(result) == width
    assert min(result) >= 1
    assert result == shares


def test_more_clusters_than_latent_numbers_are_refused() -> None:
    with pytest.raises(SpecError, match="encoder_dims"):
        latent_shares([1, 1, 1], 2)


def test_likelihood_is_that_of_a_multinomial() -> None:
    matrix = weighted_rows()
    logits = torch.randn(7, 10, generator=generator())
    expected = -(torch.from_numpy(matrix.toarray()) * torch.log_softmax(logits, 1)).sum(1).mean()
    torch.testing.assert_close(negative_log_likelihood(logits, SparseRows.of(matrix).all()), expected)


def test_divergence_and_draws_are_those_of_a_normal() -> None:
    autoencoder = ClusteredAutoencoder(CLUSTERS, Autoencoder(encoder_dims=(8,)), generator())
    encoding = autoencoder.encode(SparseRows.of(weighted_rows()).all())
    normal = torch.distributions.Normal(encoding.mean, torch.exp(encoding.log_variance / 2))
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0, 1)).sum(1).mean()
    torch.testing.assert_close(encoding.divergences().mean(), expected)
    draws = torch.stack([encoding.sample(generator(seed)) for seed in range(4000)])
    torch.testing.assert_close(draws.mean(0), encoding.mean, atol=0.1, rtol=0)
    torch.testing.assert_close(draws.var(0), encoding.log_variance.exp(), atol=0, rtol=0.2)


def test_rows_after_dropout_keep_their_mean() -> None:
    batch = SparseRows.of(sparse.csr_array(np.ones((200, 100), dtype=np.float32))).all()
    thinned = batch.thinned(0.1, generator())
    assert float(thinned.dense().mean()) == pytest.approx(1, abs=0.01)
    assert thinned.weights.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert batch.thinned(0.0, generator()) is batch


def test_weights_of_the_loss_follow_their_schedules() -> None:
    settings = Autoencoder(
        diffusion_weight=0.03,
        least_diffusion_weight=0.005,
        diffusion_decay=1000,
        kl_weight=0.3,
        kl_batches=200,
    )
    assert diffusion_weight(settings, Moment(1, 0)) == 0.03
    assert diffusion_weight(settings, Moment(9, 500)) == pytest.approx(0.015)
    assert diffusion_weight(settings, Moment(9, 5000)) == 0.005
    by_epoch = Autoencoder(diffusion_weight=0.03, diffusion_decay=500, decay_unit="epochs")
    assert diffusion_weight(by_epoch, Moment(251, 9999)) == pytest.approx(0.015)
    assert diffusion_weight(Autoencoder(diffusion_decay=0), Moment(99, 9999)) == 0.03
    ends = settings.kl_weight, settings.kl_batches
    assert [rising(*ends, n) for n in (0, 30, 60, 999)] == pytest.approx([0, 0.15, 0.3, 0.3])
    assert rising(0.3, 0, 0) == 0.3
