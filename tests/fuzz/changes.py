"""What all trials share: a log, and what is changed in bytes, settings and arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

Random = np.random.Generator

LOG = "user,item,timestamp\n" + "".join(
    f"u{user:02},i{item:02},{user * 7919 % 500 + item}\n"
    for user in range(60)
    for item in range(25)
    if (user * 31 + item * item) % 5 < 2
)
"""600 interactions of 48 users and 25 items."""
SIDE = "item,title,price\n" + "".join(f"i{item:02},No. {item},{item / 4}\n" for item in range(25))
"""A table of these items."""


class Lost(Exception):
    """Something was lost, or damaged without a word."""


def pick(random: Random, values: Sequence[Any]) -> Any:
    """One of some values."""
    return values[random.integers(len(values))]


PIECES = (b"", b"\0", b'"', b"\n", b"[", b"{", b"=", b",", b"-1", b"9" * 30, b"[" * 5000, b"nan", b"\xff")
"""Bytes that mean something to one of the formats, or to none."""


def mutated(random: Random, content: bytes) -> bytes:
    """Some bytes cut, repeated, or replaced by a piece."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 4)):
        start = int(random.integers(0, len(changed) + 1))
        stop = start + int(random.integers(0, 9))
        changed[start:stop] = pick(random, [*PIECES, bytes(changed[start:stop]) * 3])
    return bytes(changed)


SETTINGS: tuple[Any, ...] = (
    *(10**9, 10**12, 10**30, 0, 1, -1, 1e300, -1e300, 1e-300),
    *("x", None, True, [], [0], [10**12], {}, {"kind": "ease"}),
)
"""Values for any setting."""
CHANGES: tuple[Callable[[Any], Any], ...] = (
    lambda array: array.toarray() if sparse.issparse(array) else sparse.csr_array(np.atleast_2d(array)),
    *(
        lambda array, dtype=dtype: array.astype(dtype)
        for dtype in ("float64", "float32", "int64", "int8", "uint64", "bool")
    ),
    *(
        lambda array, factor=factor: array * factor
        for factor in (0, -1, 2**40, np.float32(1e38), np.float32(np.nan))
    ),
    lambda array: array[:0],
    lambda array: array[1:],
    lambda array: array[::-1].copy(),
    lambda array: array.T.tocsr() if sparse.issparse(array) else np.ascontiguousarray(array.T),
    lambda array: array + array,
    lambda array: array.max() if array.size else array,
)
"""Other arrays of an array."""
LABELS: tuple[Any, ...] = (None, -1, 1.5, "x", [1], {"a": 1}, b"x", True, 2**63 - 1, float("nan"))
"""Values for a column of a table."""


def leaves(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each place of nested tables: a table and a name in it."""
    for key, value in tree.items():
        yield tree, key
        if isinstance(value, dict):
            yield from leaves(value)
