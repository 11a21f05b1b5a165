"""The errors: one family, and messages that help."""

from __future__ import annotations

import pytest

from unblur import errors
from unblur.errors import nearest, some


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


def test_the_nearest_name_is_offered_only_where_one_is_near() -> None:
    assert nearest("sharpenn", ["blur", "sharpen"]) == " Did you mean 'sharpen'?"
    assert nearest("xyz", ["blur", "sharpen"]) == ""
    assert nearest("blur", []) == ""


def test_a_long_list_is_cut_and_the_rest_counted() -> None:
    assert some([]) == ""
    assert some(["a", 1]) == "'a', 1"
    assert some(range(5)) == "0, 1, 2, 3, 4"
    assert some(range(1_234)) == "0, 1, 2, 3, 4 and 1,229 more"
    assert some((n for n in range(3)), most=2) == "0, 1 and 1 more"
