"""Logs as people have them: compressed, in parts, as lines of JSON, with gaps, with odd labels; and what is said about them."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from unblur.data.files import read, unread_columns, write
from unblur.data.interactions import Interactions
from unblur.errors import DataError

LOG = pl.DataFrame({"user": [2, 1, 1], "item": ["x", "y", "x"], "timestamp": [30, 10, 20]})
DAY = 86_400
FIRST = 1_577_836_800
"""2020-01-01 in seconds."""


def same(data: Interactions, frame: pl.DataFrame = LOG) -> bool:
    """Whether the content and the order are those of the log."""
    expected = Interactions.from_pairs(frame["user"], frame["item"], timestamps=frame["timestamp"])
    return (data.fingerprint(), data.order_digest()) == (expected.fingerprint(), expected.order_digest())


def noted(path: Path, **options: Any) -> tuple[Interactions, list[str]]:
    """What is read, and the notes."""
    notes: list[str] = []
    return read(
        path, progress=lambda event: notes.append(event.stage) if event.kind == "note" else None, **options
    ), notes


def text(frame: pl.DataFrame = LOG, **options: Any) -> bytes:
    return frame.write_csv(**options).encode()


def ipc(write_to: Callable[[pl.DataFrame, Any], object]) -> bytes:
    stream = io.BytesIO()
    write_to(LOG, stream)
    return stream.getvalue()


CONTENT: dict[str, Callable[[], bytes]] = {
    "a.csv.gz": lambda: gzip.compress(text()),
    "two members.tsv.gz": lambda: (
        gzip.compress(text(LOG[:1], separator="\t"))
        + gzip.compress(text(LOG[1:], separator="\t", include_header=False))
    ),
    "a.csv.zst": lambda: pa.compress(text(), codec="zstd", asbytes=True),
    "gzip by another name.csv": lambda: gzip.compress(text()),
    "a.jsonl": lambda: LOG.write_ndjson().encode(),
    "a.ndjson.gz": lambda: gzip.compress(LOG.write_ndjson().encode()),
    "a.json": lambda: (
        b'\n{"item": "x", "more": {"a": [1]}, "user": 2, "timestamp": 30}\n' + LOG[1:].write_ndjson().encode()
    ),
    "a.feather": lambda: ipc(pl.DataFrame.write_ipc),
    "a.arrow": lambda: ipc(pl.DataFrame.write_ipc_stream),
}


@pytest.mark.parametrize("name", CONTENT)
def test_a_file_holds_the_log(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(CONTENT[name]())
    assert same(read(tmp_path / name))


@pytest.mark.parametrize("ending", ["jsonl", "arrow"])
def test_what_is_written_is_read(ending: str, tmp_path: Path) -> None:
    write(read(written(tmp_path / "log.csv", text())), tmp_path / f"b.{ending}")
    assert same(read(tmp_path / f"b.{ending}"))


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl", "arrow"])
def test_batches_make_no_difference(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {"user": rng.integers(0, 40, 500), "item": [f"item {at}" for at in rng.integers(0, 60, 500)]}
    ).unique(maintain_order=True)
    frame = frame.with_columns(timestamp=rng.integers(0, 9, len(frame)))
    write(Interactions.from_frame(frame), tmp_path / f"log.{ending}")
    monkeypatch.setattr("unblur.data.formats.tables.BATCH_ROWS", 64)
    monkeypatch.setattr("unblur.data.formats.text._BLOCK_BYTES", 64)
    assert same(read(tmp_path / f"log.{ending}"), frame)


def test_a_null_in_a_later_batch_is_named_by_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unblur.data.formats.tables.BATCH_ROWS", 10)
    frame = pl.DataFrame({"user": [*range(35), None], "item": ["i"] * 36, "timestamp": [5] * 33 + [None] * 3})
    frame.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"timestamps must have no nulls; the first without one is row 33"):
        read(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"users must have no nulls; the first without one is row 35"):
        read(tmp_path / "log.parquet", timestamp="ignore")
    data, notes = noted(tmp_path / "log.parquet", on_null="drop")
    assert data.n_interactions == 33
    assert "3 rows without a user, an item, a rating or a time were left out" in notes


# ------------------------------------------------------------------------------------------ folders


def test_a_folder_of_parts_is_one_log(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    written(folder / "part-00000.csv", text(LOG[:1]))
    written(folder / "part-00001.csv.gz", gzip.compress(text(LOG[1:].select("timestamp", "user", "item"))))
    written(folder / "_SUCCESS", b"")
    written(folder / ".part-00000.csv.crc", b"\0")
    assert same(read(folder))
    assert same(read(folder, parts="part-0*"))
    assert same(read(tmp_path, parts="lo*/*.csv*"))
    assert read(folder, parts="*0.csv").users.to_list() == [2]
    with pytest.raises(DataError, match=r"`parts` must fit some file in .*'\*.tsv' fits none"):
        read(folder, parts="*.tsv")
    with pytest.raises(DataError, match=r"pattern of names in a folder"):
        read(folder / "part-00000.csv", parts="*")


def test_rows_of_parts_are_named_with_their_file(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", b"user,item\n1,2\n3,4\n")
    written(tmp_path / "b.csv", b"user,item\n1,3\n-3,4\n")
    with pytest.raises(DataError, match=r"saw -3 in row 1 of b.csv"):
        read(tmp_path)
    written(tmp_path / "b.csv", b"user_id,item\n1,3\n")
    with pytest.raises(
        DataError, match=r"All files of a log must have the same columns; .*b.csv has users from 'user_id'"
    ):
        read(tmp_path)


def test_labels_of_two_types_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1], "item": [2]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"user": ["b"], "item": [2]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"users must be of one type in all rows; saw int64 and large_string"):
        read(tmp_path)


def test_names_of_folders_are_columns(tmp_path: Path) -> None:
    for day, items in (("2020-01-02", ["b"]), ("2020-01-01", ["a", "c"])):
        frame = pl.DataFrame({"user_id": ["u"] * len(items), "item_id": items})
        (tmp_path / "log" / f"date={day}").mkdir(parents=True)
        frame.write_parquet(tmp_path / "log" / f"date={day}" / "0.parquet")
    data = read(tmp_path / "log")
    assert data.to_frame().select("item", "timestamp").rows() == [
        ("a", FIRST),
        ("b", FIRST + DAY),
        ("c", FIRST),
    ]
    assert read(tmp_path / "log", timestamp="ignore").timestamps is None


def test_a_time_of_the_rows_comes_before_that_of_the_folder(tmp_path: Path) -> None:
    written(tmp_path / "log" / "date=2020-01-01" / "a.csv", text())
    assert same(read(tmp_path / "log"))
    with pytest.raises(DataError, match=r"holds no file of a known format"):
        read(tmp_path)


# ------------------------------------------------------------------------------------------ columns


def test_baskets_are_events(tmp_path: Path) -> None:
    baskets = pl.DataFrame(
        {
            "customer_id": ["a", "b", "c", "a"],
            "article_id": [[5, 3], [5], [], [4]],
            "t_dat": ["2020-01-01"] * 4,
        }
    )
    baskets.write_parquet(tmp_path / "log.parquet")
    data = read(tmp_path / "log.parquet")
    assert data.to_frame().rows() == [
        ("a", 3, 1, FIRST),
        ("a", 4, 1, FIRST),
        ("a", 5, 1, FIRST),
        ("b", 5, 1, FIRST),
    ]
    assert data.order is not None
    assert data.order.tolist() == [1, 3, 0, 2]


def test_a_basket_that_is_missing_is_a_row_without_an_item(tmp_path: Path) -> None:
    """An empty one is not: nothing was bought."""
    baskets = pl.DataFrame({"user": ["a", "b", "c"], "item": [[5, 3], None, []], "time": [[1, 2], None, []]})
    baskets.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"items must have no nulls; the first without one is event 2"):
        read(tmp_path / "log.parquet")
    data, notes = noted(tmp_path / "log.parquet", on_null="drop")
    assert data.to_frame().rows() == [("a", 3, 1, 2), ("a", 5, 1, 1)]
    assert notes[1].startswith("1 rows without a user")


@pytest.mark.parametrize("beside", [[], [9], None], ids=["empty", "longer", "missing"])
@pytest.mark.parametrize("column", ["rating", "time"])
def test_other_lists_of_a_missing_basket_say_nothing(column: str, beside: Any, tmp_path: Path) -> None:
    baskets = pl.DataFrame(
        {"user": ["a", "b", "c"], "item": [["x", "y"], None, ["x"]], column: [[1, 2], beside, [3]]}
    )
    baskets.write_parquet(tmp_path / "log.parquet")
    weights = "rating" if column == "rating" else None
    data, notes = noted(tmp_path / "log.parquet", on_null="drop", rating=weights)
    assert data.to_frame()["user", "item"].rows() == [("a", "x"), ("a", "y"), ("c", "x")]
    kept = data.matrix.data if data.timestamps is None else data.timestamps
    assert kept.tolist() == [1, 2, 3]
    assert notes[-1].startswith("1 rows without a user")
    with pytest.raises(DataError, match=r"items must have no nulls; the first without one is event 2"):
        read(tmp_path / "log.parquet", rating=weights)
    baskets[1:2].write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"Some row must have a user and an item, .*; none has"):
        read(tmp_path / "log.parquet", on_null="drop", rating=weights)


LABELS: dict[str, tuple[Any, list[Any]]] = {
    "decimals": (pl.Series([7, 5]).cast(pl.Decimal(10, 2)), [5, 7]),
    "floats that are whole": (pl.Series([7.0, 5.0]), [5, 7]),
    "bytes": (pl.Series([b"b", b"\xc3\xa4"]), ["b", "ä"]),
    "UUIDs as bytes": (
        pl.Series([UUID(int=2**127).bytes, UUID(int=255).bytes]),
        [str(UUID(int=255)), str(UUID(int=2**127))],
    ),
    "UUIDs": (pl.Series([str(UUID(int=9))] * 2), [str(UUID(int=9))]),
    "blanks": (pl.Series([" b", "b"]), [" b", "b"]),
}


@pytest.mark.parametrize(("users", "expected"), LABELS.values(), ids=LABELS)
def test_labels_of_every_type(users: pl.Series, expected: list[Any], tmp_path: Path) -> None:
    pl.DataFrame({"user": users, "item": [1, 2]}).write_parquet(tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet").users.to_list() == expected


def test_floats_of_a_column_with_gaps(tmp_path: Path) -> None:
    log = written(tmp_path / "log.csv", b"user,item\n12.0,1\n,2\n3.0,3\n")
    data, notes = noted(log, on_null="drop")
    assert data.users.to_list() == [3, 12]
    assert any("whole numbers written with a decimal point, such as '12.0'" in note for note in notes)


def test_words_for_a_missing_value_are_nulls(tmp_path: Path) -> None:
    rows = "1,5,1,3\nNULL,6,1,4\n2,\\N,1,5\n3,4,NA,6\n3,4,1,nan\n3,4,1,9\n"
    log = written(tmp_path / "log.csv", f"user,item,rating,time\n{rows}".encode())
    data, notes = noted(log, on_null="drop")
    assert data.to_frame().rows() == [(1, 5, 1, 3), (3, 4, 1, 9)]
    assert notes[-1] == "4 rows without a user, an item, a rating or a time were left out"
    with pytest.raises(DataError, match=r'ratings must have no nulls; .* row 3. .*`on_null="drop"`'):
        read(log)
    with pytest.raises(DataError, match=r"users must have no nulls; the first without one is row 1.*NULL"):
        read(log, rating="ignore", timestamp="ignore")
    assert (
        "NULL"
        in read(log, rating="ignore", timestamp="ignore", labels="str", duplicates="sum").users.to_list()
    )
    written(log, b"user,item\nNA,1\n,2\n")
    with pytest.raises(DataError, match=r"Some row must have a user and an item, .*; none has"):
        read(log, on_null="drop")


@pytest.mark.parametrize(
    ("column", "options"),
    [
        ("weight", {}),
        ("rating", {"min_rating": 2}),
        ("rating", {"min_rating": 2, "duplicates": "last"}),
        ("event", {"event_weights": "1=1,2=2,3=3,4=4"}),
    ],
)
def test_a_row_without_a_time_takes_its_weight_with_it(
    tmp_path: Path, column: str, options: dict[str, Any]
) -> None:
    log = written(
        tmp_path / "log.csv", f"user,item,{column},time\na,x,4,5\na,y,3,\nb,x,1,6\nb,z,2,7\n".encode()
    )
    expected = [("a", "x", 4, 5), ("b", "x", 1, 6), ("b", "z", 2, 7)]
    if column == "rating":  # it selects, and the weights are 1 then
        expected = [(user, item, 1, time) for user, item, rating, time in expected if rating >= 2]
    assert read(log, on_null="drop", **options).to_frame().rows() == expected


@pytest.mark.parametrize(
    ("third", "times"),
    [
        ("2020-01-01", [FIRST, FIRST]),
        ("2020-01-01 00:00:05 UTC", [FIRST + 5] * 2),
        ("20200101", [FIRST, FIRST]),
        ("1577836800", [FIRST, FIRST]),
    ],
)
def test_a_third_column_of_times(third: str, times: list[int], tmp_path: Path) -> None:
    """A date is no name of a column: there is no header, whatever labels are."""
    for user, items in (("1", "56"), ("anna", "xy")):
        lines = "".join(f"{user},{item},{third}\n" for item in items)
        data = read(written(tmp_path / "log.csv", lines.encode()))
        assert data.timestamps is not None
        assert data.timestamps.tolist() == times
        named = read(
            written(tmp_path / "named.csv", f"who,what,when\n{lines}".encode()),
            user="who",
            item="what",
            timestamp="when",
        )
        assert named.to_frame().equals(data.to_frame())


def test_batches_of_which_no_row_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rows left out say nothing of times; a log of such rows alone is refused with the reason."""
    monkeypatch.setattr("unblur.data.formats.events.BATCH_ROWS", 1)
    frame = pl.DataFrame({"user": [1, 2], "item": [5, 6], "rating": [1, 5], "time": ["7", "2020-01-01"]})
    data = Interactions.from_frame(frame, weight="rating", timestamp="time", min_rating=3)
    assert data.to_frame().rows() == [(2, 6, 1, FIRST)]
    log = written(tmp_path / "log.csv", b"user,item,rating,time\n1,5,1,7\n")
    with pytest.raises(DataError, match=r"Some row must be rated within \[3,inf\]; none is"):
        read(log, min_rating=3)
    written(log, b"user,item,time\n1,5,NA\n")
    with pytest.raises(DataError, match=r"and a time if these are read; none has"):
        read(log, on_null="drop")


@pytest.mark.parametrize("gap", ["", " ", "NA", "\\N"])
@pytest.mark.parametrize("third", ["2024-01-0{}", "{}"])
def test_a_first_row_without_its_last_value_is_not_lost(third: str, gap: str, tmp_path: Path) -> None:
    """The date or number below a gap is no proof that the gap is a name."""
    rows = f"alice,apple,{gap}\nbob,pear,{third.format(1)}\ncat,fig,{third.format(2)}\n"
    log = written(tmp_path / "log.csv", rows.encode())
    with pytest.raises(DataError, match=r"clear whether the first line is a header.*'alice'.*`header=False`"):
        read(log, user=0, item=1)
    data = read(log, user=0, item=1, header=False, rating="ignore", timestamp="ignore")
    assert data.to_frame()["user", "item"].rows() == [("alice", "apple"), ("bob", "pear"), ("cat", "fig")]
    # An index of pandas has no name; the other columns have, and one of numbers below them.
    written(log, f",who,what,when\n0,anna,tea,{third.format(1)}\n".encode())
    assert read(log, user=1, item=2).to_frame()["user", "item"].rows() == [("anna", "tea")]


@pytest.mark.parametrize(
    ("unit", "times"),
    [(None, [FIRST * 1000 + 1, FIRST * 1000 + 999]), ("ms", [FIRST] * 2), ("us", [FIRST // 1000] * 2)],
)
def test_the_unit_of_times(unit: Any, times: list[int], tmp_path: Path) -> None:
    log = written(tmp_path / "log.csv", f"user,item,time\n1,5,{FIRST}001\n1,6,{FIRST}999\n".encode())
    data, notes = noted(log, time_unit=unit)
    assert data.timestamps is not None
    assert data.timestamps.tolist() == times
    assert ("timestamps are milliseconds since 1970, by their size" in notes[0]) == (unit is None)
    with pytest.raises(DataError, match=r"`time_unit` must be one of s, ms, us, ns"):
        read(log, time_unit="minutes")  # type: ignore[arg-type]


HEADERS = {
    "Online Retail": (
        "InvoiceNo,StockCode,Quantity,InvoiceDate,CustomerID",
        "1,85123A,6,2010-12-01 08:26:00,17850",
    ),
    "eCommerce events": (
        "event_time,event_type,product_id,price,user_id",
        "2019-10-01 00:00:00 UTC,view,44,35.79,541",
    ),
    "fashion": ("t_dat,customer_id,article_id,price", "2018-09-20,0f,0663713001,0.05"),
    "retail": ("timestamp,visitorid,event,itemid,transactionid", "1433221332117,257597,view,355908,"),
}


@pytest.mark.parametrize(("header", "row"), HEADERS.values(), ids=HEADERS)
def test_headers_of_public_logs(header: str, row: str, tmp_path: Path) -> None:
    data = read(written(tmp_path / "log.csv", f"{header}\n{row}\n".encode()))
    assert (data.n_interactions, data.timestamps is None) == (1, False)


def test_one_note_says_what_was_guessed(tmp_path: Path) -> None:
    log = written(tmp_path / "log.csv", b"uid;item;price;ts\na;1;3;2020-01-01\n")
    _, notes = noted(log)
    assert notes == [
        (
            "read as delimited text (semicolons, header); users from 'uid', items from 'item', timestamps from 'ts'; timestamps are "
            "dates, which become seconds since 1970; not read: 'price'"
        )
    ]
    assert not noted(log, format="csv", user="uid", item="item", timestamp="ignore")[1]
    written(log, b"user,item\n a,1\nb,2\n")
    assert noted(log)[1][1:] == ["1 users have blanks around them, such as ' a', and are taken as they are"]


EVENTS = """user_id,product_id,event_type
ann,a,view
ann,a,buy
ann,b, view
bob,a,cart
bob,c,remove
bob,b,look
"""


@pytest.mark.parametrize(
    "given", ["view=1, cart=3,buy=5e0,remove=0", {"view": 1, "cart": 3, "buy": 5.0, "remove": 0}]
)
def test_events_in_words_have_weights(given: Any, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(EVENTS)
    data, notes = noted(path, event_weights=given, duplicates="sum")
    assert data.to_frame().rows() == [("ann", "a", 6.0), ("ann", "b", 1.0), ("bob", "a", 3.0)]
    assert "events from 'event_type'" in notes[0]
    assert notes[1:] == ["1 rows of events without a weight ('look') were left out"]
    frame = pl.read_csv(path)
    same_of_frame = Interactions.from_frame(frame, event_weights=given, duplicates="sum", weight="event_type")
    assert same_of_frame.fingerprint() == data.fingerprint()
    assert unread_columns(path) == ("event_type",)
    assert unread_columns(path, event_weights="view=1") == ()


def test_events_are_words_of_any_type(tmp_path: Path) -> None:
    """Codes that are integers, a file without header, and a gap."""
    coded = pl.DataFrame({"user": [1, 1, 2], "item": [1, 2, 2], "rating": [9, 1, 1], "action": [1, 2, None]})
    coded.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"events must have no nulls; the first without one is row 2"):
        read(tmp_path / "log.parquet", event_weights="1=1,2=4")
    data = read(tmp_path / "log.parquet", event_weights="1=1,2=4", on_null="drop")
    assert data.to_frame().rows() == [(1, 1, 1.0), (1, 2, 4.0)]
    (tmp_path / "log.csv").write_text("1,1,buy\n1,2,view\n")
    data = read(tmp_path / "log.csv", event_weights="view=1,buy=2")
    assert data.to_frame().rows() == [(1, 1, 2.0), (1, 2, 1.0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"event_weights": "view"}, r"must give each word its weight once"),
        ({"event_weights": "view=1,view=2"}, r"must give each word its weight once"),
        ({"event_weights": "view=-1"}, r"must give each word its weight once"),
        ({"event_weights": {"view": float("inf")}}, r"must give each word its weight once"),
        ({"event_weights": "view=0"}, r"must give some word a weight above 0"),
        (
            {"event_weights": "see=1"},
            r"the words are 'view', 'buy', 'cart', 'remove', 'look', and `event_weights` has 'see'",
        ),
        ({"event_weights": "view=1", "min_rating": 4}, r"must not both choose rows"),
        ({"event_weights": "view=1", "rating": "ignore"}, r"needs events in words to go by"),
        ({"event_weights": "view=1", "rating": "what"}, r"named as `rating`"),
    ],
)
def test_weights_of_events_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(EVENTS)
    with pytest.raises(DataError, match=message):
        read(path, **options)


def test_a_log_without_events_in_words(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(text())
    message = "needs a column of events in words; none of 'user', 'item', 'timestamp' has"
    with pytest.raises(DataError, match=message):
        read(tmp_path / "log.csv", event_weights="view=1")
