"""Interactions: canonical, read-only, and the same in every view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from tests.data.events import Events, contents, events, interactions
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, VocabularyMismatch

dense = arrays(
    np.float32, st.tuples(st.integers(0, 6), st.integers(0, 6)), elements=st.sampled_from([0, 0, 1, 2.5])
)


def assert_canonical(data: Interactions) -> None:
    matrix = data.matrix
    assert matrix.dtype == np.float32
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
    assert (matrix.data > 0).all()
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        assert (np.diff(matrix.indices[start:stop]) > 0).all()
    for part in (
        matrix.data,
        matrix.indices,
        matrix.indptr,
        data.timestamps,
        data.user_degrees,
        data.item_degrees,
    ):
        assert part is None or not part.flags.writeable


@given(dense, st.sampled_from(["csr", "csc", "coo", "lil", "spmatrix", "array", "float64"]))
def test_a_matrix_in_any_form_becomes_the_canonical_one(values: np.ndarray[Any, Any], form: str) -> None:
    forms: dict[str, Callable[[Any], Any]] = {
        "csr": sparse.csr_array,
        "csc": sparse.csc_array,
        "coo": sparse.coo_array,
        "lil": sparse.lil_array,
        "spmatrix": sparse.csr_matrix,
        "array": np.asarray,
        "float64": lambda dense: sparse.csr_array(dense.astype(np.float64)),
    }
    data = Interactions.from_matrix(forms[form](values))
    assert_canonical(data)
    assert np.array_equal(data.matrix.toarray(), values)
    assert data.n_interactions == np.count_nonzero(values)
    assert (data.users, data.items) == (Vocabulary.range(values.shape[0]), Vocabulary.range(values.shape[1]))
    assert np.array_equal(data.user_degrees, (values > 0).sum(1))
    assert np.array_equal(data.item_degrees, (values > 0).sum(0))


@given(dense, st.randoms(use_true_random=False))
def test_unsorted_rows_are_sorted_and_stored_zeros_dropped_with_their_times(
    values: np.ndarray[Any, Any], random: Any
) -> None:
    places = [(row, column) for row in range(values.shape[0]) for column in range(values.shape[1])]
    random.shuffle(places)
    places.sort(key=lambda place: place[0])  # by row; the columns of a row stay shuffled
    columns = np.array([column for _, column in places], dtype=np.int32)
    data = np.array([values[place] for place in places], dtype=np.float32)
    times = columns.astype(np.int64) * 10
    indptr = np.arange(values.shape[0] + 1) * values.shape[1]
    interactions = Interactions(
        sparse.csr_array((data, columns, indptr), shape=values.shape),
        Vocabulary.range(values.shape[0]),
        Vocabulary.range(values.shape[1]),
        times,
    )
    assert_canonical(interactions)
    assert np.array_equal(interactions.matrix.toarray(), values)
    assert interactions.timestamps is not None
    assert np.array_equal(interactions.timestamps, interactions.matrix.indices * 10)


def test_a_matrix_is_copied_and_cannot_be_changed_afterwards() -> None:
    source = sparse.csr_array(np.eye(3, dtype=np.float32))
    data = Interactions.from_matrix(source)
    source.data[:] = 7
    assert (data.matrix.data == 1).all()
    for part in (data.matrix.data, data.matrix.indices, data.matrix.indptr):
        with pytest.raises(ValueError, match="read-only"):
            part[0] = 5
    with pytest.raises(FrozenInstanceError):
        data.users = Vocabulary.range(3)  # type: ignore[misc]


def test_a_matrix_may_be_labelled() -> None:
    data = Interactions.from_matrix(np.eye(2), users=["u", "v"], items=Vocabulary([30, 20]))
    assert contents(data) == {("u", 30): (1.0, None), ("v", 20): (1.0, None)}


def repeated() -> sparse.csr_array:
    return sparse.csr_array((np.ones(2), np.array([1, 1]), np.array([0, 2])), shape=(1, 2))


@pytest.mark.parametrize(
    ("build", "facts"),
    [
        (
            lambda: Interactions.from_matrix(repeated()),
            ["must occur once", "some occur twice", "sum_duplicates"],
        ),
        (
            lambda: Interactions.from_matrix(np.array([[1, -2]])),
            ["positive finite", "saw -2.0", "min_rating"],
        ),
        (lambda: Interactions.from_matrix(np.array([[1, np.nan]])), ["positive finite", "saw nan"]),
        (lambda: Interactions.from_matrix(np.array([[1, np.inf]])), ["positive finite", "saw inf"]),
        (lambda: Interactions.from_matrix(np.array([[1, 1e300]])), ["positive finite", "saw inf"]),
        (
            lambda: Interactions.from_matrix(np.ones(3)),
            ["users × items", r"shape \(3,\)", "one row per user"],
        ),
        (
            lambda: Interactions.from_matrix(np.eye(2), users=["u"]),
            [r"\(2, 2\) for 1 users and 2 items", "Pass"],
        ),
        (
            lambda: Interactions(
                sparse.csr_array(np.eye(2)), Vocabulary.range(2), Vocabulary.range(2), np.arange(3)
            ),
            ["one timestamp for each of the 2 pairs", "saw 3", "Align"],
        ),
    ],
)
def test_bad_matrices_are_refused(build: Any, facts: list[str]) -> None:
    with pytest.raises(DataError) as error:
        build()
    for fact in facts:
        assert error.match(fact)


# -------------------------------------------------------------------------------- fingerprints


@given(events(least=1), st.randoms(use_true_random=False))
def test_a_fingerprint_depends_on_the_content_alone(log: Events, random: Any) -> None:
    once = log.first_of_each_pair()
    order = list(range(len(once)))
    random.shuffle(order)
    one = Interactions.from_pairs(**once.columns())
    other = Interactions.from_pairs(**once.ordered(order).columns())
    rebuilt = Interactions(one.matrix.copy(), one.users, Vocabulary(one.items.to_list()), one.timestamps)
    assert one.fingerprint() == other.fingerprint() == rebuilt.fingerprint()
    assert one.fingerprint().startswith("sha256:")


def test_a_fingerprint_stays_the_same_from_version_to_version() -> None:
    data = Interactions.from_pairs(["b", "a", "a"], [3, 1, 3], weights=[2, 1, 0.5], timestamps=[5, 6, 7])
    assert data.fingerprint() == "sha256:30d67d4cd470b2d913c1c9052ed197050f85bd2bd2c62dc0724a2eff184d475b"


@given(interactions(times=True), st.data())
def test_any_change_of_the_content_changes_the_fingerprint(data: Interactions, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, data.n_interactions - 1))
    matrix, times = data.matrix, data.timestamps
    assert times is not None
    marked = np.arange(data.n_interactions) == at
    heavier = sparse.csr_array((matrix.data + marked, matrix.indices, matrix.indptr), shape=matrix.shape)
    wider = sparse.csr_array(
        (matrix.data, matrix.indices, matrix.indptr), shape=(data.n_users, data.n_items + 1)
    )
    users = [f"{label}" for label in data.users.to_list()]
    users[int(data.rows()[at])] += "'"
    more_items = [*(f"{label}" for label in data.items.to_list()), "one more"]
    variants = [
        data,
        Interactions(heavier, data.users, data.items, times),
        Interactions(matrix, data.users, data.items, times + marked),
        Interactions(matrix, data.users, data.items, None),
        Interactions(matrix, Vocabulary(users), data.items, times),
        Interactions(wider, data.users, Vocabulary(more_items), times),
        data.keep(~marked),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)


def test_users_and_items_have_different_fingerprints() -> None:
    one = Interactions.from_matrix(np.ones((1, 1)), users=["a"], items=["b"])
    other = Interactions.from_matrix(np.ones((1, 1)), users=["b"], items=["a"])
    numbered = Interactions.from_matrix(np.ones((1, 1)))
    spelled = Interactions.from_matrix(np.ones((1, 1)), users=["0"], items=["0"])
    assert len({data.fingerprint() for data in (one, other, numbered, spelled)}) == 4


# -------------------------------------------------------------------------------- views


@given(interactions(), st.data())
def test_rows_are_taken_by_position_mask_slice_and_label(data: Interactions, draw: st.DataObject) -> None:
    rows = draw.draw(st.lists(st.integers(0, data.n_users - 1)))
    subset = data.take_users(rows)
    assert_canonical(subset)
    assert np.array_equal(
        subset.matrix.toarray(), data.matrix.toarray()[rows].reshape(len(rows), data.n_items)
    )
    assert subset.users.to_list() == [data.users.to_list()[row] for row in rows]
    assert subset.items is data.items
    if data.timestamps is not None:
        assert subset.timestamps is not None
        expected = [data.timestamps[slice(*data.matrix.indptr[row : row + 2])] for row in rows]
        assert np.array_equal(subset.timestamps, np.concatenate([*expected, np.array([], dtype=np.int64)]))
    by_label = data.select_users([data.users.to_list()[row] for row in rows])
    assert by_label.fingerprint() == subset.fingerprint()
    distinct = sorted(set(rows))
    mask = np.isin(np.arange(data.n_users), distinct)
    assert data.take_users(mask).fingerprint() == data.take_users(distinct).fingerprint()


@given(interactions())
def test_slices_count_from_either_end(data: Interactions) -> None:
    for rows in (slice(None), slice(1, None), slice(None, None, -1), slice(-2, None), slice(5, 2)):
        assert np.array_equal(data.take_users(rows).matrix.toarray(), data.matrix.toarray()[rows])


@pytest.mark.parametrize("rows", [[3], [-1], [-2, 0], [0.5], [True], [False, False, False, True], ["a"]])
def test_rows_out_of_range_are_refused(rows: Any) -> None:
    data = Interactions.from_matrix(np.eye(3))
    with pytest.raises(
        DataError, match=r"whole numbers from 0 to 2, a slice, or one bool a row; saw .*select_users"
    ):
        data.take_users(rows)


def test_an_unknown_user_is_named() -> None:
    data = Interactions.from_matrix(np.eye(2), users=["anna", "ben"])
    with pytest.raises(VocabularyMismatch, match=r"must be known; 1 are not: 'ana'.*such as 'anna', 'ben'"):
        data.select_users(["anna", "ana"])


@given(interactions(), st.data())
def test_a_mask_divides_the_pairs_in_two(data: Interactions, draw: st.DataObject) -> None:
    mask = np.array(
        draw.draw(st.lists(st.booleans(), min_size=data.n_interactions, max_size=data.n_interactions))
    )
    inside, outside = data.keep(mask), data.keep(~mask)
    assert_canonical(inside)
    assert contents(inside) | contents(outside) == contents(data)
    assert not contents(inside).keys() & contents(outside).keys()
    assert (inside.users, inside.items) == (data.users, data.items)
    assert data.without(inside).fingerprint() == outside.fingerprint()
    assert inside.without(inside).n_interactions == 0
    assert not inside.contains(outside.rows(), outside.matrix.indices).any()
    assert data.contains(outside.rows(), outside.matrix.indices).all()


@pytest.mark.parametrize("mask", [np.array([1, 0, 1]), np.array([True]), np.ones((3, 1), dtype=bool)])
def test_a_mask_must_have_one_bool_a_pair(mask: Any) -> None:
    with pytest.raises(DataError, match="one bool a pair, 3; saw"):
        Interactions.from_matrix(np.eye(3)).keep(mask)


@given(interactions())
def test_contains_agrees_with_the_matrix_in_every_cell(data: Interactions) -> None:
    rows, columns = (part.ravel() for part in np.indices(data.matrix.shape))
    assert np.array_equal(data.contains(rows, columns), data.matrix.toarray().ravel() > 0)
    assert data.contains(np.array([]), np.array([])).shape == (0,)


def test_only_interactions_of_the_same_users_and_items_are_subtracted() -> None:
    data = Interactions.from_matrix(np.eye(2))
    with pytest.raises(VocabularyMismatch, match=r"same users and items.*they differ.*\.onto\("):
        data.without(Interactions.from_matrix(np.eye(2), items=["a", "b"]))


@given(interactions(), st.randoms(use_true_random=False))
def test_other_vocabularies_and_back(data: Interactions, random: Any) -> None:
    users, items = data.users.to_list(), data.items.to_list()
    random.shuffle(users)
    random.shuffle(items)
    reordered = data.onto(users=Vocabulary(users), items=Vocabulary(items))
    assert_canonical(reordered)
    assert contents(reordered) == contents(data)
    assert (reordered.users.to_list(), reordered.items.to_list()) == (users, items)
    assert reordered.onto(users=data.users, items=data.items).fingerprint() == data.fingerprint()
    assert data.onto() is data
    assert data.onto(users=data.users, items=data.items) is data


@given(interactions(), st.data())
def test_a_smaller_vocabulary_leaves_pairs_out_or_refuses_them(
    data: Interactions, draw: st.DataObject
) -> None:
    users = draw.draw(st.sets(st.sampled_from(data.users.to_list())))
    items = draw.draw(st.sets(st.sampled_from(data.items.to_list())))
    to_users = Vocabulary(sorted(users)) if users else data.users.take([])
    to_items = Vocabulary(sorted(items)) if items else data.items.take([])
    smaller = data.onto(users=to_users, items=to_items, unknown="ignore")
    inside = {pair: value for pair, value in contents(data).items() if pair[0] in users and pair[1] in items}
    assert contents(smaller) == inside
    assert (smaller.users, smaller.items) == (to_users, to_items)
    if len(inside) == data.n_interactions:
        assert data.onto(users=to_users, items=to_items).fingerprint() == smaller.fingerprint()
    else:
        with pytest.raises(
            VocabularyMismatch, match=r"must be in the given vocabulary.*are not: .*unknown=\"ignore\""
        ):
            data.onto(users=to_users, items=to_items)


@given(interactions())
def test_a_table_holds_all_of_the_interactions(data: Interactions) -> None:
    frame = data.to_frame()
    rebuilt = Interactions.from_pairs(
        frame["user"],
        frame["item"],
        weights=frame["weight"],
        timestamps=frame["timestamp"] if data.timestamps is not None else None,
        user_vocabulary=data.users,
        item_vocabulary=data.items,
    )
    assert rebuilt.fingerprint() == data.fingerprint()


@given(interactions())
def test_binarized_keeps_the_pairs_and_their_times(data: Interactions) -> None:
    binary = data.binarized()
    assert (binary.matrix.data == 1).all()
    assert {pair: time for pair, (_, time) in contents(binary).items()} == {
        pair: time for pair, (_, time) in contents(data).items()
    }
    assert binary.binarized() is binary


def test_facts() -> None:
    data = Interactions.from_matrix(np.array([[1, 1, 0, 0], [0, 2, 0, 0]]))
    assert (data.n_users, data.n_items, data.n_interactions, data.density) == (2, 4, 3, 3 / 8)
    assert data.rows().tolist() == [0, 0, 1]
    assert repr(data) == "Interactions(2 users × 4 items, 3 pairs)"
