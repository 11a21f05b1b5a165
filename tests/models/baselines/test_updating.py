"""Users forgotten and events added: an updated model is that of a fit to the log after the change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import sparse

from unblur.data.changes import Change
from unblur.data.interactions import Interactions
from unblur.errors import CapabilityError, DataError
from unblur.models.linear import neighbours
from unblur.models.linear.ease import EASE, Statistics
from unblur.models.linear.neighbours import ItemKNN, RP3Beta
from unblur.models.linear.recency import Recency
from unblur.models.spectral.bspm import BSPM
from unblur.recommender import Recommender, RecommenderSpec

SPECS: Mapping[str, RecommenderSpec[Any]] = {
    "knn": ItemKNN(neighbours=3),
    "knn-wide": ItemKNN(neighbours=100, shrinkage=5.0),
    "knn-history": ItemKNN(neighbours=4, neighbours_of="history"),
    "knn-divided": ItemKNN(neighbours=3, normalize=True),
    "knn-gram": ItemKNN(neighbours=3, norm="gram"),
    "knn-rare-users": ItemKNN(neighbours=3, weighting="tf-idf"),
    "rp3beta": RP3Beta(neighbours=3, alpha=0.7),
    "rp3beta-target": RP3Beta(neighbours=3, neighbours_of="target", normalize="target"),
    # Transitions of probability 1 are counts: nearly all strengths are ties, and each change of a count moves their order.
    "counts": RP3Beta(neighbours=3, alpha=1e-9, beta=0.0),
    "rp3beta-divided": RP3Beta(neighbours=3, normalize="source"),
    "ease": EASE(ridge=5.0),
    "edlae": EASE(ridge=5.0, dropout=0.3),
    "recency": Recency(inner=ItemKNN(neighbours=3)),
    "weighted-knn": ItemKNN(neighbours=3, shrinkage=2.0, weights="use"),
    "weighted-rp3beta": RP3Beta(neighbours=3, alpha=0.7, normalize="source", weights="use"),
    "weighted-ease": EASE(ridge=5.0, weights="use"),
    "weighted-recency": Recency(inner=ItemKNN(neighbours=3, weights="use")),
}


def generated(seed: int, users: range, n_items: int, share: float = 0.15) -> Interactions:
    """A log of these users in a random order of rows, with weights and times."""
    random = np.random.default_rng(seed)
    rows, items = np.nonzero(random.random((len(users), n_items)) < share)
    order = random.permutation(len(rows))
    return Interactions.from_pairs(
        rows[order] + users.start,
        items[order],
        weights=random.uniform(0.1, 5, len(rows)),
        timestamps=random.integers(0, 50, len(rows)),
    )


def assert_same(model: Recommender, expected: Recommender) -> None:
    """Check every array, to the bytes."""
    assert model.items == expected.items
    assert np.array_equal(model.item_counts, expected.item_counts)
    arrays, others = dict(model.tensors()), expected.tensors()
    assert arrays.pop("gram", None) is None or isinstance(model.spec, EASE)
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        other = others[name]
        pairs = (
            [(getattr(array, part), getattr(other, part)) for part in ("indptr", "indices", "data")]
            if sparse.issparse(array)
            else [(array, other)]
        )
        assert all(one.dtype == two.dtype and np.array_equal(one, two) for one, two in pairs), name


@pytest.fixture(autouse=True)
def never_all_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small log is touched by most changes: the lists are found one by one all the same."""
    monkeypatch.setattr(neighbours, "_MOST_TOUCHED", np.inf)


CHANGES = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from(["forget", "add", "both"])), min_size=1, max_size=4
)


@pytest.mark.parametrize("name", SPECS)
@given(seed=st.integers(0, 10_000), changes=CHANGES)
@settings(max_examples=8)
def test_any_sequence_of_changes_gives_the_model_of_the_log_that_results(
    name: str, seed: int, changes: list[tuple[int, str]]
) -> None:
    spec, log = SPECS[name], generated(seed, range(40), 25)
    model = spec.fit(log).keeping_statistics(log)
    for number, what in changes:
        random = np.random.default_rng(number)
        gone = random.choice(log.users.labels, 2, replace=False).tolist() if what != "add" else []
        # Some users and items are new, some old; a few pairs are in the log already.
        new = generated(number, range(30, 45), 28, 0.1)
        new = new.take_users(~np.isin(new.users.labels, gone))
        duplicates = random.choice(["first", "last", "sum"])
        change = Change.of(log, add=new if what != "forget" else None, forget=gone, duplicates=duplicates)
        model, log = model.updated(change), change.after
    assert_same(model, spec.fit(log))


@pytest.mark.parametrize("name", SPECS)
def test_an_item_that_comes_while_another_goes_moves_those_between(name: str) -> None:
    # User 0 alone has item 0, the first; as many items are known when another has come at the end.
    base = generated(1, range(1, 40), 20)
    log = Interactions.from_pairs(
        np.concatenate([base.users.take(base.rows()).labels, [0, 0]]),
        np.concatenate([base.matrix.indices + 1, [0, 3]]),
        timestamps=np.arange(base.n_interactions + 2),
    )
    spec, new = SPECS[name], Interactions.from_pairs([50, 50], [30, 7], timestamps=[1, 2])
    first = Change.of(log, forget=[5])
    second = Change.of(first.after, add=new, forget=[0])
    assert second.before.n_items == second.after.n_items
    assert second.before.items != second.after.items
    model = spec.fit(log).keeping_statistics(log).updated(first).updated(second)
    assert_same(model, spec.fit(second.after))


@pytest.mark.parametrize("name", SPECS)
def test_lists_that_a_change_does_not_reach_are_not_found_again(name: str) -> None:
    # Two groups of users without an item in common: a change of the one leaves the lists of the other.
    one, two = generated(1, range(20), 12, 0.4), generated(2, range(20, 40), 12, 0.4)
    log = Interactions.from_pairs(
        np.concatenate([part.users.take(part.rows()).labels for part in (one, two)]),
        np.concatenate([part.matrix.indices + 12 * number for number, part in enumerate((one, two))]),
        timestamps=np.concatenate([one.timestamps, two.timestamps]),  # type: ignore[list-item]
    )
    change = Change.of(log, forget=[3])
    assert set(change.items.tolist()) == set(log.select_users([3]).matrix.indices.tolist())
    assert_same(SPECS[name].fit(log).updated(change), SPECS[name].fit(change.after))


def test_most_of_a_log_is_fitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_MOST_TOUCHED", 0.25)
    log, spec = generated(1, range(40), 25), ItemKNN(neighbours=3)
    change = Change.of(log, forget=log.users.labels[:20].tolist())
    assert_same(spec.fit(log).updated(change), spec.fit(change.after))


def test_scores_without_a_low_pass_filter_are_those_of_a_refit() -> None:
    log, spec = generated(1, range(40), 25), BSPM(low_pass=None)
    change = Change.of(log, add=generated(2, range(35, 45), 25), forget=[3])
    scores, expected = (
        model.score(change.after) for model in (spec.fit(log).updated(change), spec.fit(change.after))
    )
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


# ------------------------------------------------------------------------------- what is refused


def test_another_log_is_refused() -> None:
    log = generated(1, range(40), 25)
    model = ItemKNN().fit(log)
    with pytest.raises(DataError, match="the one that the model was fitted to"):
        model.updated(Change.of(Change.of(log, forget=[3]).after, forget=[4]))
    with pytest.raises(DataError, match="the one that the model was fitted to"):
        model.keeping_statistics(generated(2, range(40), 25))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (ItemKNN(weighting="bm25"), "mean number of users"),
        (ItemKNN(normalize=True, neighbours_of="history"), "across all lists"),
        (RP3Beta(normalize="source", neighbours_of="target"), "across all lists"),
        (BSPM(), "low-pass filter"),
    ],
)
def test_settings_under_which_everything_changes_say_what_a_refit_costs(
    spec: RecommenderSpec[Any], reason: str
) -> None:
    log = generated(1, range(40), 25)
    change = Change.of(log, forget=[3])
    with pytest.raises(CapabilityError, match=f"{reason}.*one fit over {change.after.n_interactions}"):
        spec.fit(log, rng=0).updated(change)


# ------------------------------------------------------------------------------- statistics


def test_kept_statistics_are_whole_numbers_equal_to_those_of_the_rest() -> None:
    log = generated(1, range(40), 25)
    change = Change.of(log, add=generated(2, range(35, 45), 30), forget=[3, 4])
    gram = EASE().fit(log).keeping_statistics(log).updated(change).gram
    assert gram is not None
    expected = Statistics.of(change.after.binarized().matrix).gram
    assert np.array_equal(gram, expected)
    assert gram.flags.f_contiguous
