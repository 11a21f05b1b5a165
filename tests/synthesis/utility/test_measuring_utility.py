"""Arms and runs: against counts by hand and against scipy's intervals."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.synthesis.utility.rated import N_ITEMS, ByItem, rated
from unblur.data.interactions import Interactions
from unblur.data.splits import Split
from unblur.errors import DataError
from unblur.evaluation.metrics import PerUser
from unblur.evaluation.protocol import RankingProtocol
from unblur.recommender import Recommender
from unblur.synthesis.utility.protocol import (
    Departures,
    UserGroups,
    Utility,
    grouped,
    measure_arm,
    measurements_of,
    training_rows,
)

OBSERVED = Departures(dislikes_are_positives=True, dislikes_are_held_out=True)
PROTOCOL = RankingProtocol(cutoffs=(3, 5), metrics=("capped_recall", "ndcg"))


@pytest.fixture(scope="module")
def groups() -> UserGroups:
    return grouped(rated(40, seed=2), rated(30, seed=1), Utility(), OBSERVED)


def test_training_rows_of_each_mode(groups: UserGroups) -> None:
    sample = rated(12, seed=5).liked
    real, histories = groups.learned.observed.matrix.toarray(), groups.histories.observed.matrix.toarray()
    synthetic = sample.matrix.toarray()
    for mode, options, expected in (
        ("augment", {}, [real, histories, synthetic]),
        ("replace", {}, [synthetic, histories]),
        ("augment", {"augment_is_replace": True}, [synthetic, histories]),
    ):
        departures = Departures(dislikes_are_positives=True, **options)
        rows = training_rows(groups, sample, Utility(mode=mode), departures)  # type: ignore[arg-type]
        np.testing.assert_array_equal(rows.matrix.toarray(), np.vstack(expected))
    without_sample = training_rows(groups, None, Utility(mode="replace"), Departures())
    liked = [groups.learned.liked.matrix.toarray(), groups.histories.liked.matrix.toarray()]
    np.testing.assert_array_equal(without_sample.matrix.toarray(), np.vstack(liked))


def test_dislikes_of_training_users_can_be_left_out(groups: UserGroups) -> None:
    departures = Departures(dislikes_are_positives=True, learned_dislikes_are_negatives=True)
    rows = training_rows(groups, None, Utility(), departures)
    parts = [groups.learned.liked.matrix.toarray(), groups.histories.observed.matrix.toarray()]
    np.testing.assert_array_equal(rows.matrix.toarray(), np.vstack(parts))


class _Patient(ByItem):
    """Stops early, so it gets a validation split."""

    stops = True

    def learn(self, train: Interactions, *, validation: Split | None = None, **_: Any) -> Recommender:
        self.validation = validation
        return super().learn(train)


@pytest.mark.parametrize("paper", [True, False])
def test_a_recommender_stops_by_held_out_items_of_the_stopping_users(paper: bool) -> None:
    departures = replace(OBSERVED, reported_users_stop=True) if paper else Departures()
    groups = grouped(rated(40, seed=2), rated(30, seed=1), Utility(), departures)
    spec = _Patient(np.zeros(N_ITEMS, dtype=np.float32))
    rows = training_rows(groups, None, Utility(), departures)
    measure_arm(spec, rows, groups, PROTOCOL, departures)  # type: ignore[arg-type]
    stopping_split = spec.validation
    assert stopping_split is not None
    if not paper:
        assert stopping_split is groups.stopping
        assert not set(stopping_split.histories.users.to_list()) & set(groups.learned.liked.users.to_list())
        return
    histories, held_out = stopping_split.histories.matrix.toarray(), stopping_split.held_out.matrix.toarray()
    np.testing.assert_array_equal(histories, groups.histories.observed.matrix.toarray())
    np.testing.assert_array_equal(held_out, groups.held_out.matrix.toarray())
    spec.stops = False
    measure_arm(spec, rows, groups, PROTOCOL, departures)  # type: ignore[arg-type]
    assert spec.validation is None


def test_dislikes_can_count_as_relevant(groups: UserGroups) -> None:
    """The same as with every rating taken for a like."""
    scores = np.random.default_rng(4).random(N_ITEMS).astype(np.float32)
    departures = replace(OBSERVED, dislikes_are_relevant=True)
    rows = training_rows(groups, None, Utility(), departures)
    arm = measure_arm(ByItem(scores), rows, groups, PROTOCOL, departures)  # type: ignore[arg-type]
    all_liked = replace(groups, held_out=groups.held_out_observed)
    expected = measure_arm(ByItem(scores), rows, all_liked, PROTOCOL, OBSERVED)  # type: ignore[arg-type]
    np.testing.assert_array_equal(arm.values.values, expected.values.values)
    assert len(arm.values.values) > len(
        measure_arm(ByItem(scores), rows, groups, PROTOCOL, OBSERVED).values.values  # type: ignore[arg-type]
    ) or not np.array_equal(groups.held_out.user_degrees, groups.held_out_observed.user_degrees)


@pytest.mark.parametrize("longer", [False, True])
def test_recall_and_ndcg_are_those_counted_by_hand(groups: UserGroups, longer: bool) -> None:
    scores = np.random.default_rng(3).random(N_ITEMS).astype(np.float32)
    departures = Departures(
        dislikes_are_positives=True, dislikes_are_held_out=True, ideal_counts_dislikes=longer
    )
    spec, rows = ByItem(scores), training_rows(groups, None, Utility(), departures)
    arm = measure_arm(spec, rows, groups, PROTOCOL, departures)  # type: ignore[arg-type]
    assert spec.seen == [rows]
    is_known = groups.histories.observed.matrix.toarray() > 0
    liked = groups.held_out.matrix.toarray() > 0
    is_held_out = groups.held_out_observed.matrix.toarray() > 0
    expected = []
    for user in np.flatnonzero(liked.any(axis=1)):
        order = [item for item in np.argsort(-scores, kind="stable") if not is_known[user, item]]
        row = [sum(liked[user, item] for item in order[:k]) / min(k, liked[user].sum()) for k in (3, 5)]
        for k in (3, 5):
            gain = sum(1 / math.log2(rank + 2) for rank, item in enumerate(order[:k]) if liked[user, item])
            most = min(k, (is_held_out if longer else liked)[user].sum())
            row.append(gain / sum(1 / math.log2(rank + 2) for rank in range(most)))
        expected.append(row)
    assert arm.values.names == ("capped_recall@3", "capped_recall@5", "ndcg@3", "ndcg@5")
    np.testing.assert_allclose(arm.values.values, expected, atol=1e-12)


def tables(*values: float, spread: float = 0.0) -> list[dict[str, PerUser]]:
    """Runs in which arm a is constant and arm b is larger by an amount of each user's own."""
    random, runs = np.random.default_rng(0), []
    by_user = random.random((50, 1)) * spread
    for value in values:
        low = np.full((50, 1), value)
        runs.append({"a": PerUser(("recall@5",), low), "b": PerUser(("recall@5",), low + by_user + 0.1)})
    return runs


def test_means_best_run_and_deviation() -> None:
    by_name = {
        entry.name: entry for entry in measurements_of(tables(0.1, 0.2, 0.6), compared=("recall@5",), rng=1)
    }
    assert by_name["a recall@5"].value == pytest.approx(0.3)
    assert by_name["a recall@5 best run"].value == pytest.approx(0.6)
    assert by_name["a recall@5 deviation over runs"].value == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))
    low, high = by_name["a recall@5"].low, by_name["a recall@5"].high
    assert low is not None
    assert high is not None
    assert 0.1 <= low < 0.2
    assert 0.4 < high <= 0.6  # runs are resampled, not only users


def test_a_paired_difference_does_not_vary_with_the_common_level() -> None:
    by_name = {
        entry.name: entry for entry in measurements_of(tables(0.1, 0.9), compared=("recall@5",), rng=1)
    }
    gap = by_name["a − b recall@5"]
    assert (gap.low, gap.value, gap.high) == pytest.approx((-0.1, -0.1, -0.1))


def test_the_interval_of_one_run_is_the_bootstrap_over_users() -> None:
    from scipy.stats import bootstrap

    (run,) = tables(0.0, spread=1.0)
    by_name = {entry.name: entry for entry in measurements_of([run], compared=(), resamples=20_000, rng=1)}
    assert set(by_name) == {"a recall@5", "b recall@5"}
    oracle = bootstrap(
        (run["b"].values[:, 0],), np.mean, method="percentile", n_resamples=20_000, rng=2
    ).confidence_interval
    assert (by_name["b recall@5"].low, by_name["b recall@5"].high) == pytest.approx(tuple(oracle), abs=0.005)


def test_runs_that_differ_are_refused() -> None:
    one, other = tables(0.1, 0.2)
    with pytest.raises(DataError, match="same arms"):
        measurements_of([one, {"a": other["a"]}], compared=())
    with pytest.raises(DataError, match="at least one run"):
        measurements_of([], compared=())
