"""Every metric that ranx and ir-measures have too, to 1e-9, on a thousand random cases."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from numpy.typing import NDArray
from scipy import sparse

from unblur.evaluation.metrics import per_user

# ranx has loops compiled at first use; the compiler's warnings are about ranx's code.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

IR_MEASURES_NAMES = {
    "recall": "R",
    "precision": "P",
    "hit_rate": "Success",
    "ndcg": "nDCG",
    "mrr": "RR",
    "map": "AP",
}
"""Our names, which are those of ranx too, and the names of ir-measures."""


class Case(NamedTuple):
    """Lists and held-out items, every user with at least one relevant item."""

    positions: NDArray[np.int32]
    held_out: sparse.csr_array
    cutoffs: tuple[int, ...]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n_items = draw(st.integers(1, 25))
    n_places = draw(st.integers(1, 12))
    n_users = draw(st.integers(1, 5))
    item = st.integers(0, n_items - 1)
    positions = np.full((n_users, n_places), -1, dtype=np.int32)
    relevance = np.zeros((n_users, n_items), dtype=np.float32)
    for user in range(n_users):
        items = draw(st.lists(item, max_size=n_places, unique=True))
        positions[user, : len(items)] = items
        relevance[user, draw(st.lists(item, min_size=1, max_size=n_items, unique=True))] = 1.0
    cutoffs = draw(st.lists(st.integers(1, n_places), min_size=1, max_size=3, unique=True))
    return Case(positions, sparse.csr_array(relevance), tuple(cutoffs))


def as_dicts(case: Case) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """The case in the form of the two oracles: relevance judgements, and lists scored in falling order."""
    relevance: dict[str, dict[str, int]] = {}
    lists: dict[str, dict[str, float]] = {}
    n_places = case.positions.shape[1]
    for user, places in enumerate(case.positions.tolist()):
        start, stop = case.held_out.indptr[user : user + 2]
        relevance[f"u{user}"] = {f"i{item}": 1 for item in case.held_out.indices[start:stop].tolist()}
        scored = {f"i{item}": float(n_places - place) for place, item in enumerate(places) if item >= 0}
        if scored:
            lists[f"u{user}"] = scored
    return relevance, lists


def from_ranx(case: Case) -> dict[str, list[float]]:
    import ranx  # type: ignore[import-untyped]

    relevance, lists = as_dicts(case)
    names = [f"{metric}@{k}" for metric in IR_MEASURES_NAMES for k in case.cutoffs]
    if not lists:
        return {name: [0.0] * len(relevance) for name in names}
    qrels = ranx.Qrels(relevance)
    values: Any = ranx.evaluate(qrels, ranx.Run(lists), names, return_mean=False, make_comparable=True)
    order = [int(key[1:]) for key in qrels.keys()]  # noqa: SIM118
    return {
        name: [float(values[name][order.index(user)]) for user in range(len(relevance))] for name in names
    }


def from_ir_measures(case: Case) -> dict[str, list[float]]:
    import ir_measures

    relevance, lists = as_dicts(case)
    measures = {
        getattr(ir_measures, theirs) @ k: f"{ours}@{k}"
        for ours, theirs in IR_MEASURES_NAMES.items()
        for k in case.cutoffs
    }
    values = {name: [0.0] * len(relevance) for name in measures.values()}
    for value in ir_measures.iter_calc(list(measures), relevance, lists):
        values[measures[value.measure]][int(value.query_id[1:])] = float(value.value)
    return values


@settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_metrics_equal_ranx_and_ir_measures(case: Case) -> None:
    ours = per_user(case.positions, case.held_out, IR_MEASURES_NAMES, case.cutoffs)
    for oracle in (from_ranx, from_ir_measures):
        theirs = oracle(case)
        assert set(theirs) == set(ours.names)
        for name, values in theirs.items():
            np.testing.assert_allclose(
                ours[name], values, rtol=0, atol=1e-9, err_msg=f"{oracle.__name__} {name}"
            )
