from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import unblur
import unblur.models.diffusion.shortened as shortened_module
import unblur.models.diffusion.shortening as shortening_module
from tests.models.diffusion.generated import communities
from tests.models.diffusion.trainable import ITEMS, LATENT, same_bytes
from unblur.errors import SpecError
from unblur.models.diffusion.denoiser import ACTIVATIONS
from unblur.models.diffusion.diffrec import DiffRec
from unblur.models.diffusion.item_diffusion import DiffRecRecommender
from unblur.models.diffusion.latent_diffrec import LatentDiffRec
from unblur.models.diffusion.sampling import denoise, reverse_chain
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import Denoiser, Objective, Sampling
from unblur.models.diffusion.shortened import MARGIN
from unblur.models.diffusion.shortening import _averages, _corrected, _gain_and_shift
from unblur.recommender import Recommender
from unblur.spec import replace_field
from unblur.training.rows import SparseRows

EVERYBODY = communities(600, seed=0)
DATA, OTHERS = EVERYBODY.take_users(range(300)), EVERYBODY.take_users(range(300, 600))
UNLIKE = communities(300, seed=9)  # users whose items go together in another way
LONG = Schedule(name="linear-var", steps=40, scale=0.005, lowest=0.005, highest=0.01)
SLOW = Schedule(name="linear", steps=30, scale=0.1, lowest=0.001, highest=0.02)
BASE = replace(ITEMS, schedule=LONG, epochs=30, stopping=None)
KINDS: dict[str, DiffRec] = {
    "linear-var": BASE,
    "linear": replace(BASE, schedule=SLOW),
    "cosine": replace(BASE, schedule=Schedule(name="cosine", steps=25)),
    "binomial": replace(BASE, schedule=Schedule(name="binomial", steps=60)),
    "no noise": replace(BASE, schedule=Schedule(steps=20, scale=0.0)),
    "guesses noise": replace(BASE, objective=Objective(predicts="eps")),
    "deep": replace(BASE, denoiser=Denoiser(dims=(8, 12, 16))),
    "straight": replace(BASE, denoiser=Denoiser(dims=(8, 12), layout="straight", activation="gelu")),
    "loose": replace(BASE, sampling=Sampling(tolerance=1e-3)),
    "looser": replace(BASE, sampling=Sampling(tolerance=1e-2)),
    "loose and deep": replace(BASE, denoiser=Denoiser(dims=(8, 12, 16)), sampling=Sampling(tolerance=1e-3)),
}
LATENT_LONG = replace(
    LATENT, schedule=replace(LONG, highest=0.02), sampling=Sampling(tolerance=1e-3), epochs=30, stopping=None
)


@cache
def trained(name: str) -> DiffRecRecommender:
    return KINDS[name].fit(DATA, rng=0)


def step_by_step(model: DiffRecRecommender, rows: SparseRows) -> np.ndarray:
    chain = reverse_chain(model.spec.schedule, predicts=model.spec.objective.predicts)
    return denoise(model.network, chain, rows.all().dense()).numpy()


def changed(model: Recommender, sampling: Sampling) -> Recommender:
    spec = replace(model.spec, sampling=sampling)
    made: Recommender = spec.restore(model.items, model.item_counts, model.tensors(), "cpu")
    return made


@pytest.mark.parametrize("name", KINDS)
def test_scores_are_those_of_asking_at_every_step(name: str) -> None:
    model = trained(name)
    for data, times in ((DATA, 1), (OTHERS, 1), (UNLIKE, 10)):  # trained on; new; and out of the ordinary
        whole = step_by_step(model, SparseRows.of(data.matrix))
        tolerance = max(model.spec.sampling.tolerance, 1e-5 * float(np.abs(whole).max()))
        filled = data.user_degrees > 0
        assert np.abs(model.score(data) - whole)[filled].max() <= times * tolerance


@pytest.mark.parametrize("name", ["loose", "looser", "loose and deep"])
def test_long_chains_ask_less_often(name: str) -> None:
    model = trained(name)
    shortening = model.inference.shortening
    assert shortening is not None
    assert len(shortening) <= 24
    assert 0 < shortening.error <= MARGIN * model.spec.sampling.tolerance


@pytest.mark.parametrize("name", ["no noise", "guesses noise"])
def test_chains_of_another_form_are_left_whole(name: str) -> None:
    model = trained(name)
    assert model.inference.shorter is None
    assert not any(part.startswith("shortened") for part in model.tensors())


def test_short_capped_noisy_and_normalised_chains_are_left_whole() -> None:
    for path, value in (
        ("schedule.steps", 5),
        ("sampling.inference_steps", 20),
        ("sampling.noise", True),
        ("sampling.start_steps", 3),
        ("sampling.tolerance", 0.0),
        ("denoiser.normalize", True),
    ):
        assert replace(replace_field(BASE, path, value), epochs=1).fit(DATA, rng=0).inference.shorter is None


def test_a_wider_tolerance_asks_less_often_and_a_narrower_one_more() -> None:
    loose, looser = trained("loose").inference.shortening, trained("looser").inference.shortening
    assert loose is not None
    assert looser is not None
    assert len(looser) < len(loose)
    assert looser.error > loose.error


def test_without_tolerance_the_whole_chain_is_run() -> None:
    model = trained("loose")
    exact = changed(model, Sampling(tolerance=0.0))
    assert isinstance(exact, DiffRecRecommender)
    assert exact.inference.shortening is None
    never = replace(BASE, sampling=Sampling(tolerance=0.0)).fit(DATA, rng=0)
    assert np.array_equal(exact.score(DATA), never.score(DATA))
    np.testing.assert_allclose(
        exact.score(DATA), step_by_step(model, SparseRows.of(DATA.matrix)), rtol=0, atol=1e-5
    )
    assert not np.array_equal(exact.score(DATA), model.score(DATA))


def test_a_chain_stands_for_no_other() -> None:
    model = trained("loose")
    for path, value in (("schedule.highest", 0.02), ("sampling.tolerance", 1e-9)):
        spec = replace_field(model.spec, path, value)
        again = spec.restore(model.items, model.item_counts, model.tensors(), "cpu")
        assert again.inference.shortening is None
    capped = changed(model, Sampling(inference_steps=7))
    assert isinstance(capped, DiffRecRecommender)
    assert capped.inference.shortening is None
    assert len(capped.inference.chain) == 7


@pytest.mark.parametrize("spec", [KINDS["loose"], LATENT_LONG])
def test_it_is_saved_and_loaded_bit_by_bit(spec: DiffRec | LatentDiffRec, tmp_path: Path) -> None:
    model = spec.fit(DATA, rng=3)
    assert model.inference.shorter is not None
    assert same_bytes(model, spec.fit(DATA, rng=3))
    model.save(tmp_path / "model")
    again = unblur.load(tmp_path / "model")
    assert same_bytes(model, again)
    assert np.array_equal(model.score(OTHERS), again.score(OTHERS))


def test_latent_scores_are_those_of_asking_at_every_step() -> None:
    model = LATENT_LONG.fit(DATA, rng=0)
    latent = model.autoencoder.encode(SparseRows.of(OTHERS.matrix).all()).mean
    whole = model.autoencoder.decode(
        denoise(model.network, reverse_chain(LATENT_LONG.schedule), latent)
    ).numpy()
    filled = OTHERS.user_degrees > 0
    assert np.abs(model.score(OTHERS) - whole)[filled].max() <= 1e-3
    assert model.inference.shortening is not None


def test_a_row_scores_the_same_in_any_batch() -> None:
    model = trained("loose")
    scores = model.score(DATA)
    for rows in ([0], [7, 3], list(range(100, 290))):
        np.testing.assert_allclose(
            model.score(DATA.take_users(rows)), scores[rows], rtol=1e-4, atol=1e-5 * np.abs(scores).max()
        )


def test_a_model_without_the_saved_chain_runs_the_whole_one() -> None:
    model = trained("loose")
    bare = {name: part for name, part in model.tensors().items() if not name.startswith("shortened")}
    again = model.spec.restore(model.items, model.item_counts, bare, "cpu")
    assert again.inference.shortening is None
    exact = changed(model, Sampling(tolerance=0.0))
    assert np.array_equal(again.score(DATA), exact.score(DATA))


def test_a_cap_on_steps_costs_accuracy_and_less_with_more_steps() -> None:
    model = trained("loose")
    whole = step_by_step(model, SparseRows.of(DATA.matrix))
    errors = [
        float(np.abs(changed(model, Sampling(inference_steps=cap)).score(DATA) - whole).max())
        for cap in (1, 5, 20, 40)
    ]
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] <= 1e-5 * float(np.abs(whole).max())


@pytest.mark.parametrize("name", ["loose", "loose and deep"])
def test_products_in_float16_keep_the_tolerance_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(name)
    scores = []
    for halves in (False, True):
        monkeypatch.setattr(shortened_module, "multiplies_halves", lambda device, halves=halves: halves)
        again = model.spec.restore(model.items, model.item_counts, model.tensors(), "cpu")
        scores.append(again.score(OTHERS))
    whole = step_by_step(model, SparseRows.of(OTHERS.matrix))
    filled = OTHERS.user_degrees > 0
    for each in scores:
        assert np.abs(each - whole)[filled].max() <= model.spec.sampling.tolerance
    assert 0 < np.abs(scores[0] - scores[1]).max() <= 0.2 * model.spec.sampling.tolerance


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "leaky_relu", "gelu", "softplus", "identity"])
def test_factors_and_shifts_are_found_again(activation: str) -> None:
    chance = torch.Generator().manual_seed(0)
    x, called = torch.randn(400, 7, generator=chance), ACTIVATIONS[activation]
    gain, shift = 1 + 0.2 * torch.randn(7, generator=chance), 0.2 * torch.randn(7, generator=chance)
    found = _gain_and_shift(called, x, called(gain * x + shift))
    for made, expected in zip(found, (gain, shift), strict=True):
        np.testing.assert_allclose(made, expected, rtol=0, atol=0.02)


def test_little_memory_is_made_do_with(monkeypatch: pytest.MonkeyPatch) -> None:
    width = len(trained("looser").network.bias_in)
    monkeypatch.setattr(shortening_module, "MOST_NUMBERS", 40 * width * 100)  # a hundred rows' worth
    fitted = Mock(wraps=shortening_module._path)
    monkeypatch.setattr(shortening_module, "_path", fitted)
    model = KINDS["looser"].fit(DATA, rng=0)
    assert len(fitted.call_args.args[1]) == 100
    assert model.inference.shortening is not None


def test_units_that_no_row_turns_on_are_left_alone() -> None:
    gain, shift = _gain_and_shift(torch.relu, -1 - torch.rand(50, 3), torch.zeros(50, 3))
    assert torch.equal(gain, torch.ones(3))
    assert torch.equal(shift, torch.zeros(3))


def test_the_mean_over_step_inputs_is_closer_than_the_answer_to_their_mean() -> None:
    network, chance = trained("loose and deep").network, torch.Generator().manual_seed(1)
    z = torch.randn(300, len(network.bias_in), generator=chance)
    inputs = 0.5 * torch.randn(9, len(network.bias_in), generator=chance)
    with torch.no_grad():
        averages = _averages(network, z, [(each, 1 / 9) for each in inputs])
        plain = network.hidden(z + inputs.mean(0))
        *_, corrected = _corrected(network, z + inputs.mean(0), averages)
    assert (corrected - averages[-1]).square().mean() < 0.2 * (plain - averages[-1]).square().mean()


def test_bad_tolerances_are_refused() -> None:
    with pytest.raises(SpecError, match="tolerance"):
        Sampling(tolerance=-1.0)


def test_empty_batches_are_scored() -> None:
    model = trained("loose")
    assert model.score(DATA.take_users([])).shape == (0, DATA.n_items)
    assert torch.is_tensor(model.network.item_in)
