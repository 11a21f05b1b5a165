"""Vocabularies: distinct labels in an order, looked up exactly."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, strategies as st

from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, VocabularyMismatch

integers = st.lists(st.integers(0, 2**63 - 1), unique=True, max_size=20)
strings = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), unique=True, max_size=20)


def digest(vocabulary: Vocabulary) -> str:
    digest = hashlib.sha256()
    vocabulary.update_digest(digest)
    return digest.hexdigest()


@given(integers | strings)
def test_labels_keep_their_order_and_are_found_there(labels: list[Any]) -> None:
    vocabulary = Vocabulary(labels)
    assert len(vocabulary) == len(labels)
    assert vocabulary.to_list() == labels
    assert vocabulary.positions(labels).tolist() == list(range(len(labels)))
    assert vocabulary.positions(labels[::-1]).tolist() == list(range(len(labels)))[::-1]
    assert vocabulary.take(vocabulary.positions(labels)) == vocabulary


@given(integers | strings, st.data())
def test_an_unknown_label_is_missing(labels: list[Any], data: st.DataObject) -> None:
    known = data.draw(st.sets(st.sampled_from(labels))) if labels else set()
    vocabulary = Vocabulary([label for label in labels if label in known])
    expected = [vocabulary.to_list().index(label) if label in known else -1 for label in labels]
    assert vocabulary.positions_or_missing(labels).tolist() == expected
    if len(known) < len(labels):
        with pytest.raises(VocabularyMismatch, match="All labels must be known"):
            vocabulary.positions(labels)


@pytest.mark.parametrize(
    "labels",
    [
        ["b", "a"],
        ("b", "a"),
        np.array(["b", "a"]),
        np.array(["b", "a"], dtype=object),
        np.array([b"b", b"a"]),
        pl.Series(["b", "a"]),
        pl.Series(["b", "a"], dtype=pl.Categorical),
        (label for label in "ba"),
        {"b": 1, "a": 2},
    ],
)
def test_strings_come_in_many_forms(labels: Any) -> None:
    vocabulary = Vocabulary(labels)
    assert (vocabulary.kind, vocabulary.to_list()) == ("str", ["b", "a"])
    assert vocabulary.labels.tolist() == ["b", "a"]


@pytest.mark.parametrize(
    "labels",
    [
        [7, 2],
        np.array([7, 2], dtype=np.uint8),
        np.array([7, 2]),
        pl.Series([7, 2], dtype=pl.Int16),
        iter([7, 2]),
    ],
)
def test_integers_come_in_many_forms(labels: Any) -> None:
    vocabulary = Vocabulary(labels)
    assert (vocabulary.kind, vocabulary.to_list()) == ("int", [7, 2])
    assert vocabulary.labels.dtype == np.int64


@pytest.mark.parametrize(
    "labels", [[], np.array([]), np.array([], dtype=np.int32), pl.Series([], dtype=pl.Float64)]
)
def test_an_empty_vocabulary_has_integers(labels: Any) -> None:
    vocabulary = Vocabulary(labels)
    assert (len(vocabulary), vocabulary.kind, vocabulary.to_list()) == (0, "int", [])
    assert vocabulary == Vocabulary.range(0)
    assert vocabulary.positions_or_missing([3, 4]).tolist() == [-1, -1]


def test_a_range_is_its_labels() -> None:
    vocabulary = Vocabulary.range(4)
    assert vocabulary.is_range
    assert vocabulary.kind == "int"
    assert vocabulary == Vocabulary([0, 1, 2, 3])
    assert Vocabulary([0, 1, 2, 3]) == vocabulary
    assert digest(vocabulary) == digest(Vocabulary([0, 1, 2, 3]))
    assert vocabulary.positions_or_missing([3, 4, 0]).tolist() == [3, -1, 0]
    assert vocabulary.take([2, 0]).to_list() == [2, 0]
    assert not Vocabulary([1, 0]).is_range
    assert not Vocabulary(["0", "1"]).is_range


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a", "b"], ["b", "a"]),
        (["a", "b"], ["a"]),
        (["1", "2"], [1, 2]),
        ([0, 1], [0, 2]),
        ([1, 0], [0, 1]),
        (["ab", "c"], ["a", "bc"]),
    ],
)
def test_other_labels_or_another_order_are_another_vocabulary(one: list[Any], other: list[Any]) -> None:
    assert Vocabulary(one) != Vocabulary(other)
    assert digest(Vocabulary(one)) != digest(Vocabulary(other))


@given(integers | strings)
def test_equal_vocabularies_have_equal_hashes_and_digests(labels: list[Any]) -> None:
    one, other = Vocabulary(labels), Vocabulary(pl.Series(labels, dtype=None if labels else pl.Int64))
    assert one == other
    assert hash(one) == hash(other)
    assert digest(one) == digest(other)


def test_long_string_vocabularies_have_the_digest_of_a_single_piece() -> None:
    labels = [f"label {n}" for n in range(70_000)]
    hashed = hashlib.sha256(f"str {len(labels)} ".encode())
    hashed.update(np.array([len(label) for label in labels], dtype="<i8").tobytes())
    hashed.update("".join(labels).encode())
    assert digest(Vocabulary(labels)) == hashed.hexdigest()


def test_a_vocabulary_equals_no_other_object() -> None:
    assert Vocabulary([1, 2]) != [1, 2]
    assert "2 int labels: 1, 2" in repr(Vocabulary([1, 2]))


def test_rows_taken_twice_keep_their_labels_but_cannot_be_looked_up() -> None:
    vocabulary = Vocabulary(["a", "b"]).take([0, 0, 1])
    assert vocabulary.to_list() == ["a", "a", "b"]
    with pytest.raises(VocabularyMismatch, match=r"distinct to be looked up.*same label.*Look them up in"):
        vocabulary.positions(["a"])


@pytest.mark.parametrize(
    ("labels", "facts"),
    [
        (["a", "b", "a"], ["must be distinct", "'a'", "Remove"]),
        (["a", None], ["no nulls", "1 of 2", "row 1", "Drop those rows"]),
        ([3, -4], ["0 … 2", "saw -4 in row 1", "Correct the ids"]),
        (
            np.array([1, 2**63], dtype=np.uint64),
            ["0 … 2", "saw 9223372036854775808 in row 1", "pass them as strings"],
        ),
        ([1, 2**70], ["below 2", "1180591620717411303424", "Convert them to strings"]),
        ([1.0, 2.0], ["integers or strings", "Float64", "1.0", "had nulls"]),
        ([1.0, float("nan")], ["integers or strings", "Float64"]),
        ([True, False], ["integers or strings", "Boolean"]),
        ([1, "a"], ["all integers or all strings", "Convert"]),
        (np.array([1, "a"], dtype=object), ["integers or strings", "Convert"]),
        ("abc", ["a sequence of labels", "'abc'", "Put it in a list"]),
    ],
)
def test_bad_labels_are_refused(labels: Any, facts: list[str]) -> None:
    with pytest.raises(DataError) as error:
        Vocabulary(labels)
    for fact in facts:
        assert error.match(fact)


def test_unknown_labels_are_named_up_to_five() -> None:
    with pytest.raises(
        VocabularyMismatch, match=r"must be known; 7 are not: 10, 11, 12, 13, 14 and 2 more.*3 int labels"
    ):
        Vocabulary([1, 2, 3]).positions([*range(10, 17), 10])


@pytest.mark.parametrize(("known", "lookups"), [(["a"], [1]), ([1], ["1"])])
def test_the_other_kind_of_label_is_refused_not_converted(known: list[Any], lookups: list[Any]) -> None:
    with pytest.raises(VocabularyMismatch, match=r"of one type.*were asked for.*Convert them"):
        Vocabulary(known).positions_or_missing(lookups)
