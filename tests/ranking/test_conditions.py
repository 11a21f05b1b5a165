"""Conditions over columns of items, against the same in Python, and what is refused."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, strategies as st

from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.ranking.conditions import holds

ITEMS = Vocabulary(["a", "b", "c", "d"])
SIDE = pl.DataFrame(
    {
        "category": ["books", "toys", None, "books"],
        "stock": [3, 0, 2, None],
        "sale": [True, False, None, False],
        "day": [date(2024, 1, 1), date(2024, 6, 1), None, date(2025, 1, 1)],
        "a b": ["x_", "y%", "xx", ""],
        "^.*$": [1, 2, 3, 4],
        "tags": [["x"], [], [], []],
    }
)


@pytest.mark.parametrize(
    ("condition", "labels"),
    [
        ('category == "books" and stock > 0', "a"),
        ("category = 'books' or category is null", "acd"),
        ("NOT (stock >= 1)", "b"),
        ("stock in (0, 2)", "bc"),
        ("stock not in [0]", "ac"),
        ('category like "b%"', "ad"),
        ('category not like "_oys"', "ad"),
        ("stock between 1 and 3.5", "ac"),
        ("stock not between 1 and 2", "ab"),
        ("sale", "a"),
        ("not sale", "bd"),
        ("not not sale == true", "a"),
        ('day >= "2024-06-01"', "bd"),
        ('day < "2024-06-01T02:00:00+03:00"', "a"),
        ('`a b` like "x_"', "ac"),
        ('"x_" = `a b`', "a"),
        ("`^.*$` > 2", "cd"),
        ('item in ("a", "d", "nobody")', "ad"),
        ("stock <> 3 and stock != 0", "c"),
        ("category is not null and stock is null", "d"),
        ("1 < 2 or stock = 7", "abcd"),
        ("1 > 2", ""),
        ("stock > -1e2", "abc"),
        ("`a b` = 'it''s' or item = 'b'", "b"),
        ("sale or stock = 0 and category = 'toys'", "ab"),
    ],
)
def test_a_condition_holds_for(condition: str, labels: str) -> None:
    assert "".join(ITEMS.labels[holds(condition, SIDE, ITEMS)]) == labels


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("category = 3", "category is a text and 3 a number"),
        ('stock > "a"', "stock is a number and 'a' a text"),
        ('day > "soon"', "day a time"),
        ("tags = 1", "tags is a value of another type"),
        ("stock like 'a%'", "of one type"),
        ("categry = 'x'", "'categry' is none of them. Did you mean 'category'?"),
        ('__import__("os").system("ls")', "was expected at '.system"),
        ("stock + 1 > 2", "was expected at ' + 1 > 2'"),
        ("stock > 1; drop", "was expected at '; drop'"),
        ("category ==", "was expected at 'the end'"),
        ("stock", "a comparison, in, like, between or is"),
        ("stock in ()", "a column or a constant"),
        ("(sale", ") was expected at 'the end'"),
        ("sale sale", "and, or, or its end"),
        ("category = 'open", "was expected"),
        ("", "1 to 10,000 letters"),
        ("sale or " * 2000 + "sale", "1 to 10,000 letters"),
        ("(" * 60 + "sale" + ")" * 60, "at most 50 levels"),
    ],
)
def test_anything_else_is_refused(condition: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        holds(condition, SIDE, ITEMS)


@given(st.text(max_size=40))
def test_any_text_is_a_condition_or_an_error_of_ours(text: str) -> None:
    with suppress(DataError):
        assert holds(text, SIDE, ITEMS).shape == (4,)


@given(
    st.lists(
        st.sampled_from(
            ["and", "or", "not", "sale", "stock", "=", "<", "3", "'x'", "(", ")", "is", "null", "in", ","]
        )
    )
)
def test_any_order_of_words_is_a_condition_or_an_error_of_ours(words: list[str]) -> None:
    try:
        held = holds(" ".join(words), SIDE, ITEMS)
    except DataError:
        return
    assert held.dtype == np.bool_
