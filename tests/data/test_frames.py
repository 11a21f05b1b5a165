"""Interactions from data frames, and what is said of frames, labels and other things where interactions are expected."""

import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.splits import Random
from unblur.errors import DataError
from unblur.evaluation.protocol import RankingProtocol
from unblur.models.popularity import Popularity

COLUMNS: dict[str, Any] = {"who": ["b", "a", "a"], "item": [3, 1, 2], "stars": [5.0, 4.0, 1.0]}
MOMENTS = [dt.datetime(1970, 1, 1, 0, 0, second) for second in (9, 7, 8)]
KINDS: dict[str, Callable[[Any], Any]] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": lambda columns: pl.DataFrame(columns).to_arrow(),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_frame_gives_the_same_as_its_columns(kind: Callable[[Any], Any]) -> None:
    data = Interactions.from_frame(
        kind({**COLUMNS, "at": MOMENTS}), user="who", weight="stars", timestamp="at"
    )
    expected = Interactions.from_pairs(
        *list(COLUMNS.values())[:2], weights=COLUMNS["stars"], timestamps=[9, 7, 8]
    )
    assert (data.fingerprint(), data.order_digest()) == (expected.fingerprint(), expected.order_digest())
    liked = Interactions.from_frame(kind(COLUMNS), user=0, item=1, weight=2, min_rating=4)
    assert liked.to_frame().rows() == [("a", 1, 1), ("b", 3, 1)]


def test_integers_of_pandas_with_gaps() -> None:
    frame = pd.DataFrame({"user": [1, None, 2], "item": ["x", "y", None]})
    assert Interactions.from_frame(frame, on_null="drop").to_frame().rows() == [(1, "x", 1)]
    with pytest.raises(DataError, match=r"users must have no nulls; the first without one is row 1"):
        Interactions.from_frame(frame)


def test_bad_frames_are_refused() -> None:
    frame = pd.DataFrame({"user": [1], "item": [2], "rating": [3]})
    with pytest.raises(DataError, match='`weight="rating"` to take it as weights'):
        Interactions.from_frame(frame)
    with pytest.raises(DataError, match=r"the frame must have the column 'uid'"):
        Interactions.from_frame(frame, user="uid")
    with pytest.raises(DataError, match=r"has no rows"):
        Interactions.from_frame(frame[:0])
    with pytest.raises(DataError, match=r"saw LazyFrame. Collect"):
        Interactions.from_frame(pl.LazyFrame({"user": [1]}))
    with pytest.raises(DataError, match=r"of one type"):
        Interactions.from_frame(pd.DataFrame({"user": [1, "a"], "item": [2, 3]}))
    with pytest.raises(DataError, match=r"a name of its own.*'item' 2 times. Rename one"):
        Interactions.from_frame(pd.DataFrame([[1, 2, 3]], columns=["user", "item", "item"]))


@pytest.mark.parametrize(
    "times",
    [
        MOMENTS,
        np.array(MOMENTS, dtype="datetime64[s]"),
        np.array([f"1970-01-01T00:00:0{second}.5" for second in (9, 7, 8)], dtype="datetime64[ms]"),
        pl.Series(MOMENTS),
        pd.Series(MOMENTS),
        pd.Series(MOMENTS).dt.tz_localize("UTC"),
        [9, 7, 8],
    ],
    ids=["datetimes", "seconds", "milliseconds", "polars", "pandas", "pandas with a zone", "numbers"],
)
def test_pairs_take_datetimes(times: Any) -> None:
    data = Interactions.from_pairs(COLUMNS["who"], COLUMNS["item"], timestamps=times)
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [7, 8, 9]


def test_pairs_take_dates() -> None:
    data = Interactions.from_pairs([1, 2], [3, 4], timestamps=[dt.date(1970, 1, 2), dt.date(1969, 12, 31)])
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [86_400, -86_400]


@pytest.mark.parametrize("kind", [pa.table, pa.record_batch], ids=["table", "batch"])
def test_a_matrix_of_pyarrow_needs_no_pandas(
    kind: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    data = Interactions.from_matrix(kind({"x": [1, 0], "y": [None, 3]}))
    assert data.to_frame().rows() == [(0, "x", 1), (1, "y", 3)]


def test_a_matrix_keeps_the_labels_of_a_frame() -> None:
    table = pd.DataFrame({"x": [1.0, None], "y": [0.0, 3.0]}, index=["anna", "ben"])
    data = Interactions.from_matrix(table)
    assert (data.users.to_list(), data.items.to_list()) == (["anna", "ben"], ["x", "y"])
    assert data.to_frame().rows() == [("anna", "x", 1), ("ben", "y", 3)]
    assert Interactions.from_matrix(table, users=[7, 8]).users.to_list() == [7, 8]
    columns = Interactions.from_matrix(pl.DataFrame({"x": [1, 0], "y": [0, 3]}))
    assert (columns.users.to_list(), columns.items.to_list()) == ([0, 1], ["x", "y"])
    arrow = Interactions.from_matrix(pa.table({"x": [1, 0], "y": [0, 3]}))
    assert arrow.to_frame().rows() == columns.to_frame().rows() == [(0, "x", 1), (1, "y", 3)]
    with pytest.raises(DataError, match=r"numbers alone.*more than once.*Leave other columns out"):
        Interactions.from_matrix(pa.table([[1], [2]], names=["x", "x"]))
    with pytest.raises(DataError, match=r"numbers alone.*'anna'. Leave other columns out.*from_frame"):
        Interactions.from_matrix(pl.DataFrame({"user": ["anna"], "x": [1]}))
    with pytest.raises(DataError, match=r"one of SciPy or NumPy, or a data frame; saw list"):
        Interactions.from_matrix([[1, 0]])


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (pd.DataFrame(COLUMNS), r"saw DataFrame. Make them of it: `Interactions.from_frame"),
        (pl.DataFrame(COLUMNS), r"saw DataFrame. Make them of it: `Interactions.from_frame"),
        (sparse.csr_array(np.eye(2)), r"from_matrix\(matrix\)"),
        (np.eye(2), r"from_matrix\(matrix\)"),
        ("anna", r"saw str. Users are given as their rows: `data.select_users"),
        (["anna"], r"data.select_users"),
        (7, r"data.select_users"),
        (Path("log.csv"), r"Interactions.read\(path\)"),
        (None, r"Interactions.read"),
    ],
    ids=["pandas", "polars", "sparse", "dense", "label", "labels", "number", "path", "nothing"],
)
def test_what_is_no_interactions_gets_the_right_call(value: Any, advice: str) -> None:
    data = Interactions.from_pairs(["a", "a", "b"], ["x", "y", "x"])
    model = Popularity().fit(data)
    for call in (
        lambda: Popularity().fit(value),
        lambda: model.score(value),
        lambda: model.recommend(value, k=1),
        lambda: next(model.recommend_batches(value, k=1)),
        lambda: model.explain(value, "x"),
        lambda: Random(fraction=0.5).apply(value, rng=0),
    ):
        with pytest.raises(DataError, match=advice):
            call()


def test_other_doors_name_the_right_call_as_well(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [1, 1, 2], "item": [2, 3, 2]})
    data = Interactions.from_frame(frame)
    with pytest.raises(
        DataError, match=r"saw DataFrame. Make interactions of a frame by `Interactions.from_frame`"
    ):
        Interactions.read(frame)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"saw list. .* read several files as a folder, with `parts`"):
        Interactions.read([tmp_path])  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"users must be one column of labels; saw DataFrame"):
        Interactions.from_pairs(frame, [1, 2, 3])
    with pytest.raises(DataError, match=r"measured on a split; saw Interactions. Make one"):
        RankingProtocol().evaluate(Popularity().fit(data), data)  # type: ignore[arg-type]


def test_a_split_in_place_of_its_part() -> None:
    data = Interactions.from_pairs(["a", "a", "b", "b"], ["x", "y", "x", "y"])
    with pytest.raises(DataError, match=r"saw Split. Take the part that is meant, such as `split.train`"):
        Popularity().fit(Random(fraction=0.5).apply(data, rng=0))  # type: ignore[arg-type]
