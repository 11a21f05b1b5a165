"""The errors: one family, and messages that help."""

from __future__ import annotations

import pickle

import pytest

from unblur import errors
from unblur.errors import Argument, DataError, VocabularyMismatch, about, nearest, some


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        ("DataError", ValueError),
        ("VocabularyMismatch", ValueError),
        ("SpecError", ValueError),
        ("RecipeError", ValueError),
        ("ArtifactError", RuntimeError),
        ("CapabilityError", RuntimeError),
    ],
)
def test_each_error_is_one_of_ours_and_of_its_builtin_kind(error: str, builtin: type[Exception]) -> None:
    kind = getattr(errors, error)
    assert issubclass(kind, errors.UnblurError)
    assert issubclass(kind, builtin)


def test_a_vocabulary_mismatch_is_a_data_error() -> None:
    assert issubclass(errors.VocabularyMismatch, errors.DataError)


def test_the_nearest_name_is_suggested_only_if_one_is_near() -> None:
    assert nearest("sharpenn", ["blur", "sharpen"]) == " Did you mean 'sharpen'?"
    assert nearest("xyz", ["blur", "sharpen"]) == ""
    assert nearest("blur", []) == ""


def test_a_long_list_is_cut_and_the_rest_counted() -> None:
    assert some([]) == ""
    assert some(["a", 1]) == "'a', 1"
    assert some(range(5)) == "0, 1, 2, 3, 4"
    assert some(range(1_234)) == "0, 1, 2, 3, 4 and 1,229 more"
    assert some((n for n in range(3)), most=2) == "0, 1 and 1 more"


def test_an_error_keeps_its_arguments_apart_from_its_text() -> None:
    problem = DataError(
        "Pass ", Argument("rating", "a`b"), ", or lower ", Argument("min_rating"), ": `min_rating`."
    )
    assert str(problem) == 'Pass `rating="a`b"`, or lower `min_rating`: `min_rating`.'
    assert (
        problem.worded(lambda argument: f"<{argument.name}>")
        == "Pass <rating>, or lower <min_rating>: `min_rating`."
    )
    assert str(DataError("plain")) == "plain"
    assert str(Argument("header", False)) == "`header=False`"
    assert str(Argument("user", 0)) == "`user=0`"


def test_the_subject_of_an_error_stands_before_it_and_its_arguments_stay() -> None:
    with pytest.raises(VocabularyMismatch) as raised, about("log.csv"):
        raise VocabularyMismatch("Pass ", Argument("unknown_items", "ignore"), ".")
    assert str(raised.value) == 'log.csv: Pass `unknown_items="ignore"`.'
    assert raised.value.worded(lambda argument: argument.name) == "log.csv: Pass unknown_items."
    assert raised.value.__cause__ is None


def test_an_error_crosses_to_another_process_whole() -> None:
    problem = pickle.loads(pickle.dumps(DataError("Lower ", Argument("min_rating"), ".")))
    assert str(problem) == "Lower `min_rating`."
