"""Differential privacy: cut gradients against one row at a time, the accountant against opacus' own."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from tests.synthesis.small import PRIVATE
from unblur.data.interactions import Interactions
from unblur.errors import CapabilityError, DataError, SpecError
from unblur.privacy.accountant import Privacy, Release, Stage, accountant, planned, spent
from unblur.privacy.clipping import Uses, clipped_gradients
from unblur.privacy.noise import NoisySums, noisy_counts
from unblur.registry import synthesizer_spec
from unblur.spec import spec_from_dict
from unblur.synthesis.autoencoder_training import AutoencoderLearner
from unblur.synthesis.latent_noise import LatentDenoiser, LatentLoss
from unblur.synthesis.multi_vae import MultiVAE
from unblur.synthesis.sdrm import SDRM
from unblur.synthesis.settings import LatentDiffusion, UserStopping, VariationalAutoencoder
from unblur.synthesis.synthesizer import RealCounts
from unblur.training.learner import Moment
from unblur.training.private import train_privately
from unblur.training.settings import Optimizer


@pytest.fixture
def opacus() -> Any:
    """The accountant's class, imported without its warnings."""
    try:
        return accountant()
    except CapabilityError:
        pytest.skip("needs opacus; install the extra `privacy`")


def one_by_one(
    parameters: list[torch.nn.Parameter], losses: torch.Tensor, clip_norm: float
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The sum of cut gradients, and their norms, by as many backward passes as there are rows."""
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    norms = []
    for loss in losses:
        own = torch.autograd.grad(loss, parameters, retain_graph=True)
        norm = torch.sqrt(sum((each.square().sum() for each in own), torch.zeros(())))
        norms.append(norm)
        for total, each in zip(sums, own, strict=True):
            total += each * min(1.0, clip_norm / max(1e-12, float(norm)))
    return sums, torch.stack(norms)


def check(parameters: list[torch.nn.Parameter], losses: torch.Tensor, uses: Uses) -> None:
    norms = uses.squared_norms(losses).sqrt()
    clip_norm = float(norms.median())
    wanted, lengths = one_by_one(parameters, losses, clip_norm)
    np.testing.assert_allclose(norms.detach(), lengths, rtol=1e-4)
    for ours, theirs in zip(clipped_gradients(parameters, losses, uses, clip_norm), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1.0, float(theirs.abs().max())))


@pytest.mark.parametrize("dense_from", [0.0, 2.0])
def test_cut_gradients_of_the_autoencoder(
    log: Interactions, dense_from: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unblur.synthesis.multi_vae_network.DENSE_FROM", dense_from)
    learner = AutoencoderLearner(VariationalAutoencoder(hidden=9, latent=4), log, 1, torch.device("cpu"))
    uses = Uses()
    losses = learner.each(torch.arange(51), Moment(1, 500), torch.Generator().manual_seed(1), uses)
    check(list(learner.network.parameters()), losses, uses)


@pytest.mark.parametrize("tied", [False, True])
def test_cut_gradients_of_the_denoiser(tied: bool) -> None:
    settings = LatentDiffusion(steps=5, hidden_layers=3, tied_hidden_layers=tied, objective="noise")
    network = LatentDenoiser(6, settings, torch.Generator().manual_seed(0))
    uses = Uses()
    clean = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    losses = LatentLoss(settings).each(network, clean, torch.Generator().manual_seed(2), uses)
    check(list(network.parameters()), losses, uses)


@pytest.mark.filterwarnings("ignore:Optimal order")
def test_what_is_spent_is_what_opacus_counts_step_by_step(opacus: Any) -> None:
    theirs = opacus()
    theirs.step(noise_multiplier=6.0, sample_rate=1.0)
    for _ in range(40):
        theirs.step(noise_multiplier=1.1, sample_rate=0.05)
    for _ in range(30):
        theirs.step(noise_multiplier=1.1, sample_rate=0.1)
    ours = spent([Release(6.0, 1.0, 1), Release(1.1, 0.05, 40), Release(1.1, 0.1, 30)], 1e-4)
    assert ours == pytest.approx(theirs.get_epsilon(1e-4), rel=1e-9)


@pytest.mark.usefixtures("opacus")
@pytest.mark.parametrize("epsilon", [0.5, 8.0])
def test_the_least_noise_that_keeps_the_budget(epsilon: float) -> None:
    stages = [Stage("one", 1000, 100, 5), Stage("two", 1000, 250, 3)]
    plan = planned(Privacy(epsilon=epsilon, delta=1e-4), stages)
    assert [stage.updates for stage in stages] == [50, 12]
    assert 0.97 * epsilon < plan.spent <= epsilon
    assert spent(plan.releases[:1], 1e-4) <= 0.1 * epsilon
    less = [Release(plan.noise * 0.98, stage.rate, stage.updates) for stage in stages]
    assert spent([plan.releases[0], *less], 1e-4) > epsilon
    assert spent(plan.releases, 1e-4) > spent(plan.releases[1:], 1e-4)


@pytest.mark.usefixtures("opacus")
def test_a_budget_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(SpecError, match=r"privacy budget must be one that some noise keeps.*Raise `epsilon`"):
        planned(Privacy(epsilon=1e-9, delta=1e-9), [Stage("one", 100, 50, 5)])


def test_batches_are_poisson_samples_and_noise_has_the_planned_deviation() -> None:
    module = torch.nn.Linear(50, 40, bias=False)
    module.weight.data.zero_()
    sizes: list[int] = []
    stage = Stage("one", 400, 40, 100)

    def each(rows: torch.Tensor, moment: Moment, generator: torch.Generator, uses: Uses) -> torch.Tensor:
        sizes.append(len(rows))
        taken = torch.zeros(len(rows), 50)
        made = module(taken)
        uses.layer("only", taken, made)
        return made.sum(1)

    train_privately(
        module,
        each,
        stage,
        Optimizer(name="sgd", learning_rate=1.0),
        sums=NoisySums(2.0, 3.0, np.random.default_rng(1)),
        decay=False,
        seed=1,
        progress=lambda event: None,
    )
    assert np.mean(sizes) == pytest.approx(40, abs=1)
    assert np.std(sizes) == pytest.approx(np.sqrt(400 * 0.1 * 0.9), rel=0.1)
    # 1,000 steps of noise N(0, 6²)/40 and no gradient: a random walk of deviation 0.15·√1000.
    assert float(module.weight.detach().std()) == pytest.approx(0.15 * np.sqrt(1000), rel=0.06)


def test_batches_and_noise_do_not_hang_on_32_bits() -> None:
    """torch heeds 32 bits of a seed on a CPU: whoever tried them all would know the noise."""

    def trained(seed: int, secret: int) -> torch.Tensor:
        module = torch.nn.Linear(5, 4, bias=False)
        module.weight.data.zero_()
        train_privately(
            module,
            lambda rows, moment, generator, uses: nothing(module, rows, uses),
            Stage("one", 40, 4, 2),
            Optimizer(name="sgd", learning_rate=1.0),
            sums=NoisySums(1.0, 1.0, np.random.default_rng(secret)),
            decay=False,
            seed=seed,
            progress=lambda event: None,
        )
        return module.weight.detach().clone()

    assert torch.equal(trained(1, 7), trained(2, 7))  # this loss needs no chance of its own
    assert not torch.equal(trained(1, 7), trained(1, 7 + 2**32))


def nothing(module: torch.nn.Module, rows: torch.Tensor, uses: Uses) -> torch.Tensor:
    taken = torch.zeros(len(rows), 5)
    made = module(taken)
    uses.layer("only", taken, made)
    return made.sum(1)


@pytest.mark.usefixtures("opacus")
def test_a_private_fit_without_a_seed_is_new_each_time_and_with_one_the_same(log: Interactions) -> None:
    spec = spec_from_dict(synthesizer_spec("multi-vae"), {name: PRIVATE[name] for name in ("vae", "privacy")})
    made = [spec.fit(log, rng=rng).tensors() for rng in (5, 5, 5 + 2**32, None, None)]
    same = [all(np.array_equal(made[0][name], other[name]) for name in made[0]) for other in made]
    assert same == [True, True, False, False, False]
    weights = next(name for name, value in made[0].items() if value.ndim == 2)
    assert not np.array_equal(made[3][weights], made[4][weights])


def noisy(
    exact: RealCounts, n_users: int, deviation: float, rng: int | np.random.Generator = 0
) -> RealCounts:
    users_with = noisy_counts(
        exact.users_with,
        exact.n_items,
        n_users=n_users,
        deviation=deviation,
        random=np.random.default_rng(rng),
    )
    return RealCounts(users_with, exact.n_items)


def test_counts_of_users_get_noise() -> None:
    exact = RealCounts(np.bincount([3, 3, 4, 20, 7, 7, 7], minlength=31).astype(float), 50)
    made = noisy(exact, 7, 1e-9)
    assert made.users_with.sum() == pytest.approx(7)
    assert made.density == pytest.approx(exact.density, rel=0.15)
    loud = noisy(exact, 7, 50.0)
    assert (loud.users_with >= 0).all()
    assert loud.users_with.sum() == pytest.approx(7)
    assert noisy(RealCounts(np.zeros(3), 9), 4, 1e-9, rng=1).users_with.sum() > 0


@pytest.mark.parametrize("deviation", [20.0, 40.0])
def test_noise_does_not_make_users_with_more_items_than_anybody_has(deviation: float) -> None:
    """Real users have 1 to 40 of 5,000 items; cut at 0 alone, noise in empty bins made hundreds of items a user of it."""
    random = np.random.default_rng(3)
    real = np.clip(random.geometric(0.1, 8_000), 1, 40)
    exact = RealCounts(np.bincount(real).astype(float), 5_000)
    means = [noisy(exact, 8_000, deviation, random).density * 5_000 for _ in range(20)]
    assert np.median(means) == pytest.approx(real.mean(), rel=0.1)


@pytest.mark.usefixtures("opacus")
def test_a_private_synthesizer_says_what_it_rests_on(log: Interactions) -> None:
    made = spec_from_dict(synthesizer_spec("sdrm"), PRIVATE).fit(log, rng=1)
    notes = " ".join(made.notes)
    assert "at δ = 0.001 for one user added or removed" in notes
    assert "the autoencoder: 12 batches" in notes
    assert "the diffusion: 12 batches" in notes
    assert "Poisson" in notes
    assert "are never sampled" not in notes  # which items nobody had is about the users
    assert made.accounting.spent <= 8
    assert not np.array_equal(made.tensors()["users_with"], RealCounts.of(log).users_with)
    assert any("No differential privacy" in note for note in plain(log).notes)


def plain(log: Interactions) -> Any:
    vae = VariationalAutoencoder(hidden=4, latent=2, epochs=1, batch_size=10, stopping=None)
    return MultiVAE(vae=vae).fit(log, rng=1)


def test_settings_that_would_void_the_accounting_are_refused() -> None:
    budget = Privacy(epsilon=1.0, delta=1e-5)
    with pytest.raises(SpecError, match=r"fixed number of epochs.*saw `vae\.stopping` too"):
        SDRM(privacy=budget, vae=VariationalAutoencoder(stopping=UserStopping()))
    alone = VariationalAutoencoder(stopping=None, prior="standard")
    with pytest.raises(SpecError, match=r'a loss of his or her own; that of `objective` "sdrm"'):
        SDRM(privacy=budget, vae=alone, diffusion=LatentDiffusion(objective="sdrm", standardized=False))
    with pytest.raises(SpecError, match=r"saw `diffusion\.standardized` too\. Set it to false"):
        SDRM(privacy=budget, vae=alone)
    with pytest.raises(SpecError, match=r'`vae\.prior` = "codes"\. Set it to "standard"'):
        MultiVAE(privacy=budget, vae=VariationalAutoencoder(stopping=None))
    with pytest.raises(SpecError, match=r"epsilon of Privacy"):
        Privacy(epsilon=0.0, delta=1e-5)


def test_privacy_needs_its_extra(log: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(CapabilityError, match=r"needs opacus, .*`pip install 'unblur\[privacy\]'`"):
        spec_from_dict(synthesizer_spec("sdrm"), PRIVATE).fit(log, rng=1)


def test_fewer_users_than_a_batch_are_refused_here_too(log: Interactions) -> None:
    settings = {**PRIVATE, "vae": {**PRIVATE["vae"], "batch_size": 300}}
    with pytest.raises(DataError, match=r"`vae\.batch_size` is 300"):
        spec_from_dict(synthesizer_spec("sdrm"), settings).fit(log, rng=1)
