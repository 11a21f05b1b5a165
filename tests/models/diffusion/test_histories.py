from __future__ import annotations

import numpy as np
import pytest

from tests.models.diffusion.generated import communities, without_times
from unblur.data.interactions import Interactions
from unblur.errors import DataError, SpecError
from unblur.models.diffusion.diffrec import row_weights
from unblur.models.diffusion.settings import TimeWeights


def test_weights_rise_evenly_in_time_order() -> None:
    data = Interactions.from_pairs(
        [0, 0, 0, 1, 2, 2], [0, 1, 2, 1, 0, 2], timestamps=[30, 10, 20, 5, 7, 7], weights=[5, 1, 2, 3, 1, 1]
    )
    weights = row_weights(data, TimeWeights(oldest=0.2, newest=0.8)).toarray()
    expected = [[0.8, 0.2, 0.5], [0, 0.8, 0], [0.2, 0, 0.8]]  # one alone is the newest; ties by row
    assert weights.tolist() == pytest.approx(np.array(expected, dtype=np.float32))


def test_weights_equal_a_loop_over_users() -> None:
    data = communities()
    weights = row_weights(data, TimeWeights(oldest=0.1, newest=1.0))
    for row in range(data.n_users):
        part = slice(data.matrix.indptr[row], data.matrix.indptr[row + 1])
        order = np.argsort(data.timestamps[part], kind="stable")  # type: ignore[index]
        expected = np.empty(len(order))
        expected[order] = np.linspace(0.1, 1.0, len(order)) if len(order) > 1 else 1.0
        assert weights.data[part] == pytest.approx(expected, rel=1e-6)


def test_without_time_weights_rows_are_zeros_and_ones() -> None:
    data = Interactions.from_pairs([0, 1], [0, 1], weights=[2.5, 4])
    assert row_weights(data, None).data.tolist() == [1, 1]


def test_timestamps_are_needed() -> None:
    with pytest.raises(DataError, match="timestamps"):
        row_weights(without_times(communities()), TimeWeights())


def test_the_oldest_must_not_weigh_more_than_the_newest() -> None:
    assert TimeWeights(oldest=1.0, newest=1.0).oldest == 1
    with pytest.raises(SpecError, match="w_min"):
        TimeWeights(oldest=0.9, newest=0.5)
