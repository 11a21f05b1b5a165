"""The contract of synthesizers, run over every kind in the registry."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from tests.synthesis.small import SPECS
from unblur.data.interactions import Interactions
from unblur.errors import ArtifactError, CapabilityError, DataError, SpecError
from unblur.privacy.accountant import accountant
from unblur.progress import ProgressEvent
from unblur.recommender import load
from unblur.registry import SYNTHESIZERS, synthesizer_spec
from unblur.spec import spec_from_dict, spec_to_dict
from unblur.synthesis import synthesizer as contract
from unblur.synthesis.sdrm import LatentSynthesizer
from unblur.synthesis.synthesizer import Synthesizer, load_synthesizer


@pytest.fixture(scope="module", params=SPECS)
def fitted(request: pytest.FixtureRequest, log: Interactions) -> Synthesizer:
    return made(request.param, log)


def made(name: str, train: Interactions, rng: int = 1, device: str = "cpu") -> Synthesizer:
    kind, settings = SPECS[name]
    if "privacy" in settings:
        try:
            accountant()
        except CapabilityError:
            pytest.skip("needs opacus; install the extra `privacy`")
    fit: Synthesizer = spec_from_dict(synthesizer_spec(kind), settings).fit(train, rng=rng, device=device)
    return fit


def same(one: Interactions, other: Interactions) -> bool:
    return one.fingerprint() == other.fingerprint()


def flat(tensors: Mapping[str, Any]) -> dict[str, bytes]:
    parts: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if sparse.issparse(tensor):
            parts |= {f"{name}.{part}": getattr(tensor, part) for part in ("indptr", "indices", "data")}
        else:
            parts[name] = tensor
    return {name: np.ascontiguousarray(array).tobytes() for name, array in parts.items()}


def test_every_kind_is_tested() -> None:
    assert {kind for kind, _ in SPECS.values()} == set(SYNTHESIZERS)
    for kind in SYNTHESIZERS:
        assert synthesizer_spec(kind).kind == kind
    with pytest.raises(SpecError, match=r"kind of a synthesizer must be one of .*; saw 'sdmr'.*'sdrm'"):
        synthesizer_spec("sdmr")


def test_the_spec_is_plain_data(fitted: Synthesizer) -> None:
    assert spec_from_dict(type(fitted.spec), spec_to_dict(fitted.spec)) == fitted.spec


@pytest.mark.parametrize("name", SPECS)
def test_seeds_give_the_same_bytes_and_train_stays_as_it_was(name: str, log: Interactions) -> None:
    before = Interactions(log.matrix.copy(), log.users, log.items, log.timestamps).fingerprint()
    one, other = made(name, log), made(name, log)
    assert flat(one.tensors()) == flat(other.tensors())
    assert same(one.sample(40, rng=3), other.sample(40, rng=3))
    assert not same(one.sample(40, rng=3), one.sample(40, rng=4))
    assert Interactions(log.matrix, log.users, log.items, log.timestamps).fingerprint() == before


def test_a_sample_is_interactions_over_the_real_items(fitted: Synthesizer, log: Interactions) -> None:
    sample = fitted.sample(60, rng=0)
    assert sample.items == log.items
    assert sample.users.to_list() == list(range(60))
    assert sample.timestamps is None
    assert 0 < sample.n_interactions < 60 * 31
    assert fitted.sample(rng=0).n_users == fitted.n_real_users == log.n_users
    if fitted.spec.kind != "sdrm" or fitted.spec.privacy is None:
        assert sample.item_degrees[30] == 0  # no real user has it, so no synthetic user gets it


@pytest.mark.parametrize("batch_size", [1, 7, 16, 33, 40, 1000])
def test_the_batch_size_changes_nothing(
    fitted: Synthesizer, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "BLOCK", 16)
    one_batch = fitted.sample(40, rng=5)
    parts = list(fitted.sample_batches(40, rng=5, batch_size=batch_size))
    assert [part.n_users for part in parts[:-1]] == [batch_size] * (len(parts) - 1)
    assert [label for part in parts for label in part.users.to_list()] == list(range(40))
    assert np.array_equal(
        np.concatenate([part.matrix.toarray() for part in parts]), one_batch.matrix.toarray()
    )
    assert same(fitted.sample(40, rng=5, batch_size=batch_size), one_batch)


def test_batches_are_sampled_lazily(fitted: Synthesizer) -> None:
    batches = fitted.sample_batches(10**9, rng=1, batch_size=64)
    assert next(batches).n_users == 64
    assert next(batches).users.to_list() == list(range(64, 128))


def test_a_saved_synthesizer_samples_the_same(
    fitted: Synthesizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("must not be read by something that can run code")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, forbidden)
    fitted.save(tmp_path / "synthesizer")
    loaded = load_synthesizer(tmp_path / "synthesizer")
    assert type(loaded) is type(fitted)
    assert loaded.spec == fitted.spec
    assert loaded.items == fitted.items
    assert loaded.notes == fitted.notes
    assert flat(loaded.tensors()) == flat(fitted.tensors())
    assert same(loaded.sample(50, rng=2), fitted.sample(50, rng=2))
    with pytest.raises(ArtifactError, match="format of a model must be 'unblur-model'"):
        load(tmp_path / "synthesizer")


def test_no_global_random_state_is_used(fitted: Synthesizer) -> None:
    numpy_state = str(np.random.get_state())  # noqa: NPY002 - the state that must not change
    torch_state = torch.get_rng_state().tolist()
    fitted.sample(5)
    fitted.sample(5, rng=np.random.default_rng(1))
    assert torch.get_rng_state().tolist() == torch_state
    assert str(np.random.get_state()) == numpy_state  # noqa: NPY002


def test_progress_only_moves_forward(fitted: Synthesizer, log: Interactions) -> None:
    fits: list[ProgressEvent] = []
    samples: list[ProgressEvent] = []
    fitted.spec.fit(log, rng=1, progress=fits.append)
    fitted.sample(40, rng=1, batch_size=15, progress=samples.append)
    assert [event.done for event in samples] == [15, 30, 40]
    for label in {event.label for event in fits}:
        of_label = [event for event in fits if event.label == label]
        assert [event.done for event in of_label] == sorted(event.done for event in of_label)
        assert len({event.total for event in of_label}) == 1


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "3"])
def test_a_size_is_a_whole_number_from_one(fitted: Synthesizer, size: Any) -> None:
    with pytest.raises(DataError, match=r"`n_users` must be a whole number from 1; saw"):
        fitted.sample(size, rng=1)
    with pytest.raises(DataError, match=r"`batch_size` must be a whole number from 1; saw"):
        fitted.sample(5, rng=1, batch_size=size)


def test_density_0_and_1_are_refused(fitted: Synthesizer, log: Interactions) -> None:
    empty = log.keep(np.zeros(log.n_interactions, dtype=bool))
    full = Interactions.from_matrix(np.ones((51, 31)), users=log.users, items=log.items)
    for data, density in ((empty, 0), (full, 1)):
        with pytest.raises(
            DataError, match=rf"density .* strictly between 0 and 1; .* has density {density}\."
        ):
            fitted.spec.fit(data, rng=1)


@pytest.mark.gpu
@pytest.mark.parametrize("name", SPECS)
def test_a_gpu_fits_and_samples_and_what_it_saved_loads_on_a_cpu(
    name: str, log: Interactions, tmp_path: Path
) -> None:
    on_gpu = made(name, log, device="cuda")
    assert on_gpu.sample(40, rng=3).n_users == 40
    on_gpu.save(tmp_path / "gpu")
    moved = load_synthesizer(tmp_path / "gpu")
    assert flat(moved.tensors()) == flat(on_gpu.tensors())
    assert moved.sample(40, rng=3).n_users == 40
    # The generators of a GPU give other numbers for the same seed, so the networks are compared, not their samples.
    if isinstance(on_gpu, LatentSynthesizer) and isinstance(moved, LatentSynthesizer):
        latents = torch.randn(40, on_gpu.vae.latent, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(
            on_gpu.vae.decode(latents.cuda()).cpu(), moved.vae.decode(latents), rtol=0, atol=1e-4
        )
