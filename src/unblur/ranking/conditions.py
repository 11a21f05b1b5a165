"""Conditions on items over the columns of their side: ``category == "books" and (stock > 0 or price between 5 and 9)``.

::

    condition  = all { "or" all }
    all        = one { "and" one }
    one        = "not" one | "(" condition ")" | value [ test ]
    test       = ( "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) value
               | [ "not" ] "in" "(" value { "," value } ")"        also with [ ]
               | [ "not" ] "like" text                              % stands for any text, _ for one letter
               | [ "not" ] "between" value "and" value
               | "is" [ "not" ] "null"
    value      = column | number | 'text' | "text" | true | false

A column is a name, in backquotes if it has other signs than letters, digits, ``_`` and ``.``; ``item`` is the label. Quotes
inside a text are doubled. Times are compared with text in ISO 8601. A comparison with a missing value is unknown, as in SQL,
and an item for which the whole is unknown does not hold it. There is nothing else: no function, no arithmetic, no code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, nearest, some

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
    |(?P<text>"(?:[^"]|"")*"|'(?:[^']|'')*')|(?P<quoted>`(?:[^`]|``)+`)|(?P<word>[^\W\d][\w.]*)
    |(?P<sign>==|!=|<>|<=|>=|[=<>(),\[\]]))""",
    re.VERBOSE,
)
_MOST_LETTERS = 10_000
"""Letters of a condition: some hundreds of labels in a list; longer lists are files of candidates."""
_MOST_LEVELS = 50
"""Levels of parentheses, far below Python's limit of calls, which each takes a few of."""
_KEYWORDS = {"and", "or", "not", "in", "like", "between", "is", "null", "true", "false"}
_COMPARISONS = {"=": "eq", "==": "eq", "!=": "ne", "<>": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def holds(condition: str, side: pl.DataFrame, items: Vocabulary) -> NDArray[np.bool_]:
    """Return which items hold a condition, (n_items,).

    `side` has a row for each item. Raises `DataError` for a condition that is not of the grammar above, names a column that is
    not there, or compares values of different types.
    """
    columns = {"item": items.series} | {column.name: column for column in side.get_columns()}
    return _Parser(condition, columns).mask(len(items))


class _Token(NamedTuple):
    kind: str
    """``number``, ``text``, ``column``, ``sign`` or ``end``; a keyword is a sign."""
    value: Any
    start: int


class _Value(NamedTuple):
    """A column or a constant."""

    expression: pl.Expr
    type: str
    """``number``, ``text``, ``truth value`` or ``time``."""
    words: str
    constant: Any = None
    """The constant; `None` for a column."""


class _Parser:
    """A parser by recursive descent, which turns each rule into a polars expression."""

    def __init__(self, condition: str, columns: Mapping[str, pl.Series]) -> None:
        self.condition, self.columns = condition, columns
        self.level = 0
        DataError.unless(
            condition.strip() and len(condition) <= _MOST_LETTERS,
            f"A condition must have 1 to {_MOST_LETTERS:,} letters; saw {len(condition):,}. Shorten it, or choose items by a "
            "list of candidates.",
        )
        self.tokens = self._tokens()
        self.at = 0

    def mask(self, n_items: int) -> NDArray[np.bool_]:
        expression = self._any()
        if self._token.kind != "end":
            self._refuse("and, or, or its end")
        holds = pl.select(expression.fill_null(False).alias("holds"))["holds"]
        return np.broadcast_to(holds.to_numpy(), n_items).copy()

    def _tokens(self) -> list[_Token]:
        tokens, position = [], 0
        while self.condition[position:].strip():
            match = _TOKEN.match(self.condition, position)
            if match is None:
                self._refuse("a column, a number, a text or a comparison", position)
            kind, text, start = (
                str(match.lastgroup),
                match[match.lastgroup or 0],
                match.start(match.lastgroup or 0),
            )
            position = match.end()
            if kind == "number":
                tokens.append(_Token("number", float(text) if re.search("[.eE]", text) else int(text), start))
            elif kind == "text":
                tokens.append(_Token("text", text[1:-1].replace(text[0] * 2, text[0]), start))
            elif kind == "quoted":
                tokens.append(_Token("column", text[1:-1].replace("``", "`"), start))
            elif kind == "word" and text.lower() not in _KEYWORDS:
                tokens.append(_Token("column", text, start))
            else:
                tokens.append(_Token("sign", text.lower(), start))
        return [*tokens, _Token("end", None, len(self.condition))]

    @property
    def _token(self) -> _Token:
        return self.tokens[self.at]

    def _is(self, *signs: str) -> bool:
        return self._token.kind == "sign" and self._token.value in signs

    def _take(self, *signs: str) -> str | None:
        """The next sign if it is one of these, which is then read; else `None`."""
        if not self._is(*signs):
            return None
        self.at += 1
        return str(self.tokens[self.at - 1].value)

    def _need(self, *signs: str) -> str:
        sign = self._take(*signs)
        return sign if sign is not None else self._refuse(" or ".join(signs))

    def _refuse(self, expected: str, start: int | None = None) -> NoReturn:
        at = self._token.start if start is None else start
        raise DataError(
            f"A condition must be comparisons of columns and constants, with and, or, not, in, like, between and is null; in "
            f"{self.condition[:200]!r}, {expected} was expected at {self.condition[at : at + 20] or 'the end'!r}. Correct it."
        )

    def _any(self) -> pl.Expr:
        self.level += 1
        DataError.unless(
            self.level <= _MOST_LEVELS,
            f"A condition must have at most {_MOST_LEVELS} levels of parentheses and not; saw more. Simplify it.",
        )
        expression = self._all()
        while self._take("or"):
            expression = expression | self._all()
        self.level -= 1
        return expression

    def _all(self) -> pl.Expr:
        expression = self._one()
        while self._take("and"):
            expression = expression & self._one()
        return expression

    def _one(self) -> pl.Expr:
        negated = False
        while self._take("not"):
            negated = not negated
        if self._take("("):
            expression = self._any()
            self._need(")")
        else:
            expression = self._test(self._value())
        return ~expression if negated else expression

    def _test(self, left: _Value) -> pl.Expr:
        sign = self._take(*_COMPARISONS)
        if sign is not None:
            return self._compared(left, _COMPARISONS[sign], self._value())
        if self._take("is"):
            negated = self._take("not") is not None
            self._need("null")
            return left.expression.is_not_null() if negated else left.expression.is_null()
        negated = self._take("not") is not None
        if self._take("in"):
            closing = {"(": ")", "[": "]"}[self._need("(", "[")]
            expression = self._compared(left, "eq", self._value())
            while self._take(","):
                expression = expression | self._compared(left, "eq", self._value())
            self._need(closing)
        elif self._take("between"):
            low = self._value()
            self._need("and")
            high = self._value()
            expression = self._compared(left, "ge", low) & self._compared(left, "le", high)
        elif self._take("like"):
            pattern = self._value()
            if left.type != "text" or not isinstance(pattern.constant, str):
                self._differ(left, pattern)
            letters = {"%": ".*", "_": "."}
            regex = "".join(letters.get(letter) or re.escape(letter) for letter in pattern.constant)
            expression = left.expression.str.contains(f"(?s)^{regex}$")
        elif not negated and left.type == "truth value":
            return left.expression  # a column of truth values, or true and false themselves
        else:
            self._refuse("a comparison, in, like, between or is")
        return ~expression if negated else expression

    def _compared(self, left: _Value, comparison: str, right: _Value) -> pl.Expr:
        one, other = (self._as_time(value, to) for value, to in ((left, right), (right, left)))
        if one.type != other.type:
            self._differ(one, other)
        compared: pl.Expr = getattr(one.expression, comparison)(other.expression)
        return compared

    def _as_time(self, value: _Value, other: _Value) -> _Value:
        """A text in ISO 8601 as the time that it stands for, if it is compared with times."""
        if other.type != "time" or not isinstance(value.constant, str):
            return value
        try:
            time = datetime.fromisoformat(value.constant)
        except ValueError:
            self._differ(value, other)
        if time.tzinfo is not None:
            time = time.astimezone(UTC).replace(tzinfo=None)
        return value._replace(expression=pl.lit(time), type="time")

    def _differ(self, one: _Value, other: _Value) -> NoReturn:
        raise DataError(
            f"Values must be of one type to be compared; in {self.condition[:200]!r}, {one.words} is a {one.type} and "
            f"{other.words} a {other.type}. Correct the condition."
        )

    def _value(self) -> _Value:
        token = self._token
        if token.kind in ("number", "text"):
            self.at += 1
            return _Value(pl.lit(token.value), token.kind, repr(token.value), token.value)
        if token.kind == "column":
            self.at += 1
            return self._column(token.value)
        truth = self._take("true", "false")
        if truth is None:
            self._refuse("a column or a constant")
        return _Value(pl.lit(truth == "true"), "truth value", truth, truth == "true")

    def _column(self, name: str) -> _Value:
        if name not in self.columns:
            hint = nearest(name, self.columns) or f" There are {some(list(self.columns))}."
            raise DataError(
                f"A condition must name columns of the items' table; {name!r} is none of them.{hint} A text is in quotes."
            )
        dtype, column = (
            self.columns[name].dtype,
            pl.lit(self.columns[name]),
        )  # a name given to pl.col may be a pattern
        if dtype.is_temporal():
            return _Value(column.cast(pl.Datetime("us")), "time", name)
        kinds = {pl.String: "text", pl.Boolean: "truth value"}
        return _Value(
            column, "number" if dtype.is_numeric() else kinds.get(type(dtype), "value of another type"), name
        )
