"""The sparse operator against SciPy, and unavailable devices."""

import numpy as np
import pytest
import torch
from scipy import sparse

from tests.models.spectral.generated import interactions, matrix
from unblur.errors import CapabilityError
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.models.spectral.operator import Operator
from unblur.parallel.devices import check_device


def test_products_with_the_matrix_and_its_transpose() -> None:
    random = np.random.default_rng(0)
    a = sparse.csr_array(sparse.random_array((40, 30), density=0.1, rng=random, dtype=np.float32))
    operator = Operator(a)
    x, y = (random.normal(size=(n, 5)).astype(np.float32) for n in (30, 40))
    np.testing.assert_allclose(operator.forward @ x, a @ x, atol=1e-6)
    np.testing.assert_allclose(operator.backward @ y, a.T @ y, atol=1e-6)
    assert operator.block_width >= 1


@pytest.mark.parametrize("device", ["tpu", "", "cud", "mps", "cpu0", "cpu:0", "cuda:", "cuda:-1"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(CapabilityError, match='must be "cpu" or "cuda"'):
        check_device(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_an_unavailable_gpu_is_refused_before_anything_is_computed(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        CapabilityError, match=f'Device "{device}" is unavailable: torch finds 0 GPUs here. Use "cpu"'
    ):
        BSPM(low_pass=LowPass(rank=2)).fit(interactions(matrix(9, 9, 0.3, seed=0)), device=device)
    with pytest.raises(CapabilityError, match="0 GPUs"):
        Operator(sparse.csr_array(np.eye(3, dtype=np.float32)), device)


def test_a_cpu_is_always_available() -> None:
    assert check_device("cpu") == "cpu"


def test_a_gpu_number_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert check_device("cuda:0") == "cuda:0"
    with pytest.raises(CapabilityError, match="cuda:99"):
        check_device("cuda:99")
