"""SDRM and MultiVAE++: networks and losses, training users, resumed runs, ways of sampling, bad input."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.synthesis.small import DIFFUSION, VAE
from unblur.data.interactions import Interactions
from unblur.data.splits import Split, Users
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, SpecError
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.models.variational import negative_log_likelihoods
from unblur.progress import ProgressEvent
from unblur.spec import spec_from_dict
from unblur.synthesis.autoencoder import AutoencoderLearner, MultiVAENetwork, VariationalAutoencoder, codes
from unblur.synthesis.discretization import Discretization
from unblur.synthesis.latent_diffusion import LatentDiffusion
from unblur.synthesis.sdrm import SDRM, LatentSynthesizer, VAESampler
from unblur.training.loop import DivergedTraining
from unblur.training.rows import SparseRows
from unblur.training.settings import rising


def sdrm(**sections: Any) -> SDRM:
    return spec_from_dict(SDRM, {"vae": VAE, "diffusion": DIFFUSION, **sections})


@pytest.fixture(scope="module")
def fitted(log: Interactions) -> LatentSynthesizer:
    return sdrm().fit(log, rng=1)


# -------------------------------------------------------------------------------- the autoencoder


@pytest.mark.parametrize("dense_from", [0.0, 2.0])
def test_the_autoencoder_is_the_one_described(
    log: Interactions, dense_from: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unblur.synthesis.autoencoder.DENSE_FROM", dense_from)
    network = MultiVAENetwork(
        31, VariationalAutoencoder(hidden=7, latent=3), torch.Generator().manual_seed(0)
    )
    batch = SparseRows.of(log.binarized().matrix).all()
    x = torch.tensor(log.binarized().matrix.toarray())
    h = torch.tanh(torch.nn.functional.normalize(x) @ network.item_in + network.bias_in)
    code = h @ network.code_weight.T + network.code_bias
    encoding = network.encode(batch)
    np.testing.assert_allclose(encoding.mean.detach(), code[:, :3].detach(), atol=1e-6)
    np.testing.assert_allclose(encoding.log_variance.detach(), code[:, 3:].detach(), atol=1e-6)
    between = torch.tanh(encoding.mean @ network.decoder_weight.T + network.decoder_bias)
    logits = between @ network.item_out.T + network.bias_out
    np.testing.assert_allclose(network.decode(encoding.mean).detach(), logits.detach(), atol=1e-6)
    normal = torch.distributions.Normal(encoding.mean, (encoding.log_variance / 2).exp())
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0, 1)).sum(1)
    np.testing.assert_allclose(encoding.divergences().detach(), kl.detach(), atol=1e-5)


def test_the_multinomial_loss_and_its_gradient(log: Interactions) -> None:
    batch = SparseRows.of(log.binarized().matrix).all()
    x = torch.tensor(log.binarized().matrix.toarray())
    logits = torch.randn(51, 31, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.rand(51, generator=torch.Generator().manual_seed(1))
    ours = negative_log_likelihoods(logits, batch)
    expected = -(torch.log_softmax(logits, 1) * x).sum(1)
    np.testing.assert_allclose(ours.detach(), expected.detach(), rtol=1e-5, atol=1e-5)
    our_gradient, their_gradient = (
        torch.autograd.grad((each * weights).sum(), logits)[0] for each in (ours, expected)
    )
    np.testing.assert_allclose(our_gradient, their_gradient, atol=1e-5)


def test_the_weight_of_the_divergence_rises_to_its_final_value() -> None:
    assert [rising(0.2, 100, update) for update in (0, 10, 20, 50)] == [0, 0.1, 0.2, 0.2]


def test_codes_are_means_without_dropout(log: Interactions) -> None:
    learner = AutoencoderLearner(VariationalAutoencoder(hidden=5, latent=3), log, 1, torch.device("cpu"))
    all_codes = codes(learner.network, learner.rows)
    assert all_codes.shape == (51, 3)
    one = learner.network.encode(learner.rows.take(torch.tensor([7]))).mean
    np.testing.assert_allclose(all_codes[7], one[0].detach(), atol=1e-6)


# -------------------------------------------------------------------------------- fitting


def test_stopping_users_are_taken_out_of_train(log: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    begin = AutoencoderLearner.__init__
    monkeypatch.setattr(
        AutoencoderLearner,
        "__init__",
        lambda self, settings, train, *args: (
            trained.append(train.n_users),
            begin(self, settings, train, *args),
        )[1],
    )
    sdrm().fit(log, rng=1)
    sdrm(vae={**VAE, "stopping": None}).fit(log, rng=1)
    split = Users(fraction=0.2).apply(log, rng=0)
    sdrm().fit(split.train, rng=1, validation=split)
    sdrm().fit(split.train, rng=1, validation=log.select_users(split.histories.users.series))
    assert trained == [41, 51, 41, 41]


def test_a_given_split_is_used_as_it_is(log: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    split = Users(fraction=0.2).apply(log, rng=0)
    held_out_parts: list[Interactions] = []
    from unblur.synthesis import autoencoder

    begin = autoencoder.AutoencoderJudge.__init__

    def recording(self: Any, stopping_split: Split, *args: Any) -> None:
        held_out_parts.append(stopping_split.held_out)
        begin(self, stopping_split, *args)

    monkeypatch.setattr(autoencoder.AutoencoderJudge, "__init__", recording)
    VAESampler(vae=sdrm().vae).fit(split.train, rng=1, validation=split)
    assert held_out_parts[0].fingerprint() == split.held_out.fingerprint()


def test_an_interrupted_run_ends_in_the_same_bytes(
    log: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = sdrm(vae={**VAE, "stopping": None, "epochs": 30}, diffusion={**DIFFUSION, "epochs": 30})
    uninterrupted = spec.fit(log, rng=4)

    class Interrupted(Exception):
        pass

    for part in ("the autoencoder", "the diffusion"):

        def stop(event: ProgressEvent, part: str = part) -> None:
            if event.kind == "epoch" and event.part == part and event.done == 27:
                raise Interrupted

        with pytest.raises(Interrupted):
            spec.fit(log, rng=4, checkpoints=tmp_path / "run", progress=stop)
    epochs: list[tuple[str, int]] = []
    resumed = spec.fit(
        log, checkpoints=tmp_path / "run", progress=lambda event: epochs.append((event.part, event.done))
    )
    assert ("the diffusion", 26) in epochs
    assert ("the diffusion", 25) not in epochs
    for name, array in uninterrupted.tensors().items():
        assert np.array_equal(np.asarray(array), np.asarray(resumed.tensors()[name])), name
    shutil.rmtree(tmp_path / "run")


def test_bfloat16_is_close(log: Interactions, fitted: LatentSynthesizer) -> None:
    rough = sdrm(precision="bfloat16").fit(log, rng=1)
    one, other = np.asarray(rough.tensors()["vae.item_in"]), np.asarray(fitted.tensors()["vae.item_in"])
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one, other, atol=0.05)


# -------------------------------------------------------------------------------- sampling


def test_the_same_networks_sample_in_other_ways(fitted: LatentSynthesizer) -> None:
    many = fitted.with_settings(sampling="multi-resolution")
    assert isinstance(many.spec, SDRM)
    assert many.spec.sampling == "multi-resolution"
    assert many.vae_weights is fitted.vae_weights
    assert not np.array_equal(
        np.concatenate(list(many.sample_scores(30, rng=1))),
        np.concatenate(list(fitted.sample_scores(30, rng=1))),
    )
    plain = fitted.plain
    with pytest.raises(SpecError, match=r"`sampling` sets the reverse chain"):
        plain.with_settings(sampling="full")
    assert plain.spec == VAESampler(vae=fitted.spec.vae)
    assert plain.sample(30, rng=1).fingerprint() != fitted.sample(30, rng=1).fingerprint()
    by_user_counts = fitted.with_settings(discretization=Discretization(rule="user-counts")).sample(
        3000, rng=1
    )
    assert by_user_counts.user_degrees.mean() == pytest.approx(fitted.counts.density * 31, rel=0.1)


def test_sample_scores_are_those_of_the_sample(fitted: LatentSynthesizer) -> None:
    scores = np.concatenate(list(fitted.sample_scores(200, rng=3)))
    zero = fitted.with_settings(discretization=Discretization(rule="zero-threshold")).sample(200, rng=3)
    raw = fitted.with_settings(discretization=Discretization(rule="raw")).sample(200, rng=3)
    assert np.array_equal(zero.matrix.toarray() > 0, scores > 0)
    np.testing.assert_allclose(raw.matrix.toarray(), np.maximum(scores, 0))
    assert (scores[:, 30] == -np.inf).all()
    sparse = Discretization(rule="equal-sparsity")
    equal = fitted.with_settings(discretization=sparse).sample(200, rng=3)
    assert equal.density == pytest.approx(fitted.counts.density, abs=1e-3)


def test_the_prior_has_the_moments_of_the_codes() -> None:
    """Codes of a lower rank have a prior too."""
    random = np.random.default_rng(0)
    for rank in (2, 4):
        codes_ = torch.tensor(random.normal(size=(60, rank)) @ random.normal(size=(rank, 4)) + 2).float()
        network = MultiVAENetwork(
            5, VariationalAutoencoder(hidden=3, latent=4), torch.Generator().manual_seed(0)
        )
        network.fit_prior(codes_)
        draws = network.prior(200_000, torch.Generator().manual_seed(1)).numpy()
        np.testing.assert_allclose(draws.mean(0), codes_.mean(0), atol=0.03)
        covariance = np.cov(codes_.numpy().T, bias=True)
        np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.02 * np.abs(covariance).max())


def test_the_standard_prior_is_the_standard_normal(log: Interactions) -> None:
    settings = VariationalAutoencoder(hidden=3, latent=4, prior="standard")
    network = MultiVAENetwork(5, settings, torch.Generator().manual_seed(0))
    network.fit_prior(torch.ones(3, 4))
    expected = torch.empty(7, 4).normal_(generator=torch.Generator().manual_seed(1))
    assert torch.equal(network.prior(7, torch.Generator().manual_seed(1)), expected)
    assert "prior_mean" not in network.state_dict()


def test_items_without_users_are_counted_in_a_note(fitted: LatentSynthesizer) -> None:
    missing = int((~fitted.taken).sum())
    assert missing >= 1
    assert any(note.startswith(f"{missing} of 31 items occur in no training row") for note in fitted.notes)


# -------------------------------------------------------------------------------- bad input


def test_fewer_users_than_a_batch_are_refused(log: Interactions) -> None:
    with pytest.raises(
        DataError, match=r"`vae\.batch_size` is 500, and there are 40 users to train on\. Lower"
    ):
        sdrm(vae={**VAE, "batch_size": 500}).fit(log, rng=1)
    with pytest.raises(DataError, match=r"`diffusion\.batch_size` is 42, and there are 40 users"):
        sdrm(diffusion={**DIFFUSION, "batch_size": 42}).fit(log, rng=1)
    with pytest.raises(DataError, match=r"is 500 and `diffusion\.batch_size` is 42, and there are 40 users"):
        sdrm(vae={**VAE, "batch_size": 500}, diffusion={**DIFFUSION, "batch_size": 42}).fit(log, rng=1)


def test_validation_without_stopping_is_refused(log: Interactions) -> None:
    with pytest.raises(DataError, match=r"`validation` serves to stop by, and this spec does not stop early"):
        sdrm(vae={**VAE, "stopping": None}).fit(log, rng=1, validation=log)


def test_users_with_a_single_item_cannot_stop_a_training(log: Interactions) -> None:
    poor = Interactions.from_pairs(np.arange(40), np.arange(40) % 5, item_vocabulary=Vocabulary.range(12))
    with pytest.raises(DataError, match=r"Users to stop a training by need at least two items"):
        sdrm(diffusion={**DIFFUSION, "batch_size": 4}).fit(poor, rng=1)


def test_users_without_a_history_cannot_stop_a_training(log: Interactions) -> None:
    split = Users(fraction=0.2).apply(log, rng=0)
    empty = split.histories.keep(np.zeros(split.histories.n_interactions, dtype=bool))
    with pytest.raises(DataError, match=r"must have a history and held-out items; none of 10 has both"):
        sdrm().fit(split.train, rng=1, validation=Split(split.train, empty, split.held_out, "given"))


def test_a_cut_off_beyond_the_items_is_refused(log: Interactions) -> None:
    stopping = {"metric": "capped_recall@50", "users": 0.2}
    with pytest.raises(SpecError, match=r"cut-off of `stopping\.metric` must not exceed the 31 items"):
        sdrm(vae={**VAE, "stopping": stopping}).fit(log, rng=1)


def test_a_loss_that_is_not_finite_ends_the_training(log: Interactions) -> None:
    wild = {
        **DIFFUSION,
        "optimizer": {"name": "sgd", "learning_rate": 1e30},
        "output": "identity",
        "epochs": 9,
    }
    with pytest.raises(DivergedTraining, match=r"loss of every batch must be finite"):
        sdrm(diffusion=wild).fit(log, rng=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"diffusion": {"beta_min": 0.02, "beta_max": 0.01}}, r"`beta_min` must be below `beta_max`"),
        (
            {"diffusion": {"noise_without_root": True}},
            r"The velocity is defined only if the squares .* sum to 1",
        ),
        ({"diffusion": {"steps": 1}}, r"steps of SDRM.*greater than or equal to 2"),
        ({"diffusion": {"noise_variance_diminisher": 0}}, r"noise_variance_diminisher"),
        ({"vae": {"stopping": {"metric": "coverage@10"}}}, r"a metric that each user has"),
        ({"vae": {"stopping": {"every": 9, "patience": 3}}}, r"`patience` counts epochs"),
        ({"vae": {"hiden": 3}}, r"hiden is not a hyper-parameter.*Did you mean 'hidden'"),
        ({"sampling": "multi"}, r"sampling of SDRM"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec_from_dict(SDRM, settings)


def test_the_departures_are_settings_and_off_by_default() -> None:
    plain = LatentDiffusion()
    assert (plain.noise_without_root, plain.tied_hidden_layers, plain.sampling_dropout) == (False,) * 3


def test_the_papers_settings_are_those_of_the_recipes() -> None:
    for name in (
        name for name in shipped() if name.startswith("sdrm/") and load_recipe(name).protocol.kind == "paper"
    ):
        model = load_recipe(name).model
        assert model.vae.prior == "standard"
        assert not model.diffusion.standardized
        assert (model.diffusion.objective, model.diffusion.output, model.diffusion.dropout) == (
            "sdrm",
            "tanh",
            0.5,
        )
        assert model.diffusion.optimizer.weight_decay == 1e-4
