"""Synthesizers with differential privacy: their noise, what they release, and their notes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.synthesis.small import PRIVATE
from unblur.data.interactions import Interactions
from unblur.errors import CapabilityError, DataError, SpecError
from unblur.privacy.accountant import Privacy
from unblur.registry import synthesizer_spec
from unblur.spec import spec_from_dict
from unblur.synthesis.autoencoder import UserStopping, VariationalAutoencoder
from unblur.synthesis.latent_diffusion import LatentDiffusion
from unblur.synthesis.sdrm import SDRM, VAESampler
from unblur.synthesis.synthesizer import RealCounts, load_synthesizer


@pytest.mark.usefixtures("opacus")
def test_a_private_fit_without_a_seed_is_new_each_time_and_with_one_the_same(log: Interactions) -> None:
    spec = spec_from_dict(
        synthesizer_spec("vae-sampler"), {name: PRIVATE[name] for name in ("vae", "privacy")}
    )
    tensors = [spec.fit(log, rng=rng).tensors() for rng in (5, 5, 5 + 2**32, None, None)]
    equal = [all(np.array_equal(tensors[0][name], other[name]) for name in tensors[0]) for other in tensors]
    assert equal == [True, True, False, False, False]
    weights = next(name for name, value in tensors[0].items() if value.ndim == 2)
    assert not np.array_equal(tensors[3][weights], tensors[4][weights])


PUBLIC: dict[str, Any] = {**PRIVATE, "privacy": {**PRIVATE["privacy"], "public_items": True}}


@pytest.mark.usefixtures("opacus")
def test_a_private_synthesizer_states_its_assumptions(log: Interactions) -> None:
    synthesizer = spec_from_dict(synthesizer_spec("sdrm"), PUBLIC).fit(log)
    notes = " ".join(synthesizer.notes)
    assert "ε = " in notes
    assert "at δ = 0.001 for one user added or removed" in notes
    assert "the autoencoder: 12 batches" in notes
    assert "the diffusion: 12 batches" in notes
    assert "Poisson" in notes
    assert (
        "are never sampled" not in notes
    )  # which items have no users would reveal something about the users
    assert synthesizer.accounting.spent <= 8
    assert not np.array_equal(synthesizer.tensors()["users_with"], RealCounts.of(log).users_with)
    assert any("No differential privacy" in note for note in plain(log).notes)


@pytest.mark.usefixtures("opacus")
@pytest.mark.parametrize(
    ("settings", "rng", "reasons"),
    [
        (PUBLIC, 1, ["the noise follows from a seed"]),
        (PRIVATE, None, ["the item labels are those of the data"]),
        (PRIVATE, 1, ["the item labels are those of the data", "the noise follows from a seed"]),
    ],
)
def test_a_broken_condition_leaves_no_guarantee(
    log: Interactions, tmp_path: Path, settings: dict[str, Any], rng: int | None, reasons: list[str]
) -> None:
    fitted = spec_from_dict(synthesizer_spec("sdrm"), settings).fit(log, rng=rng)
    fitted.save(tmp_path / "saved")
    for synthesizer in (fitted, fitted.plain, load_synthesizer(tmp_path / "saved")):
        (note,) = synthesizer.notes
        assert note.startswith("No guarantee of differential privacy, because ")
        assert "ε" not in note
        assert [reason in note for reason in reasons] == [True] * len(reasons)
        assert len(synthesizer.broken_conditions) == len(reasons)


@pytest.mark.usefixtures("opacus")
def test_a_delta_that_lets_one_user_out_is_refused(log: Interactions) -> None:
    for delta, refused in ((1 / log.n_users, True), (0.99 / log.n_users, False)):
        settings = {**PRIVATE, "privacy": {"epsilon": 8.0, "delta": delta}}
        spec = spec_from_dict(synthesizer_spec("sdrm"), settings)
        if refused:
            with pytest.raises(
                DataError, match=r"`privacy\.delta` must be below one over the number of users"
            ):
                spec.fit(log, rng=1)
        else:
            spec.fit(log, rng=1)


def plain(log: Interactions) -> Any:
    vae = VariationalAutoencoder(hidden=4, latent=2, epochs=1, batch_size=10, stopping=None)
    return VAESampler(vae=vae).fit(log, rng=1)


def test_settings_that_would_void_the_accounting_are_refused() -> None:
    budget = Privacy(epsilon=1.0, delta=1e-5)
    with pytest.raises(SpecError, match=r"fixed number of epochs.*saw `vae\.stopping` too"):
        SDRM(privacy=budget, vae=VariationalAutoencoder(stopping=UserStopping()))
    autoencoder = VariationalAutoencoder(stopping=None, prior="standard")
    with pytest.raises(
        SpecError, match=r'the loss of a user must not depend on other users; that of `objective` "sdrm"'
    ):
        SDRM(privacy=budget, vae=autoencoder, diffusion=LatentDiffusion(objective="sdrm", standardized=False))
    with pytest.raises(SpecError, match=r"saw `diffusion\.standardized` too\. Set it to false"):
        SDRM(privacy=budget, vae=autoencoder)
    with pytest.raises(SpecError, match=r'`vae\.prior` = "codes"\. Set it to "standard"'):
        VAESampler(privacy=budget, vae=VariationalAutoencoder(stopping=None))
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
