"""Tables of items: how they are read, and how they are brought into the order of a model's items."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unblur.data.side import read_side, side_of, title_column
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError

TABLE = pl.DataFrame({"sku": ["007", "a", "b"], "name": ["Seven", None, "B"], "price": [1.5, 2.0, 3.0]})


@pytest.mark.parametrize("name", ["items.parquet", "items.csv", "items.tsv", "items.jsonl"])
def test_every_format_gives_the_same_table(tmp_path: Path, name: str) -> None:
    write = {
        ".parquet": TABLE.write_parquet,
        ".csv": TABLE.write_csv,
        ".tsv": lambda path: TABLE.write_csv(path, separator="\t"),
        ".jsonl": TABLE.write_ndjson,
    }[Path(name).suffix]
    write(tmp_path / name)
    assert read_side(tmp_path / name).equals(TABLE)


def test_a_compressed_table_is_read_and_a_damaged_one_refused(tmp_path: Path) -> None:
    packed = gzip.compress(TABLE.write_csv(separator="\t").encode())
    (tmp_path / "items.tsv.gz").write_bytes(packed)
    assert read_side(tmp_path / "items.tsv.gz").equals(TABLE)
    for damaged in (packed[:-8] + bytes(8), packed[:-20], packed[:12] + b"x" * 40):
        (tmp_path / "items.csv.gz").write_bytes(damaged)
        with pytest.raises(DataError, match="must be whole"):
            read_side(tmp_path / "items.csv.gz")


def test_rows_come_in_the_order_of_the_items() -> None:
    side, notes = side_of(TABLE, Vocabulary(["b", "c", "007"]))
    assert side.rows() == [("B", 3.0), (None, None), ("Seven", 1.5)]
    assert notes == ("1 of 3 items have no row in the table of items",)
    assert title_column(side) == "name"
    integers = TABLE.with_columns(sku=pl.Series(["7", "08", "9"]))
    assert side_of(integers, Vocabulary([7, 8, 9]))[0]["price"].to_list() == [1.5, None, 3.0]
    numbers = TABLE.with_columns(sku=pl.Series([7, 8, 9]))
    assert side_of(numbers, Vocabulary(["9", "8"]))[0]["price"].to_list() == [3.0, 2.0]


def test_columns_of_other_types_are_left_out_with_a_note() -> None:
    table = TABLE.with_columns(
        tags=pl.Series([["x"], [], None]),
        kind=pl.Series(["u", "v", "u"], dtype=pl.Categorical),
        cost=pl.Series(["1.10", "2", None]).cast(pl.Decimal(10, 2)),
    )
    side, notes = side_of(table, Vocabulary(["a", "b"]))
    assert side.schema == {"name": pl.String, "price": pl.Float64, "kind": pl.String, "cost": pl.Float64}
    assert notes == (
        "columns of items that are not numbers, text, truth values or times are left out: 'tags'",
    )


def test_labels_that_occur_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must have one row .* these have more: 'a'"):
        side_of(pl.concat([TABLE, TABLE[1:2]]), Vocabulary(["a"]))
    with pytest.raises(DataError, match="labels, integers or text; x is Float64"):
        side_of(pl.DataFrame({"x": [1.5], "y": [1]}), Vocabulary(["a"]))
    (tmp_path / "one.csv").write_text("sku\na\n")
    with pytest.raises(DataError, match="something in others"):
        read_side(tmp_path / "one.csv")
    (tmp_path / "no.parquet").write_text("sku,name\na,b\n")
    with pytest.raises(DataError, match=r"must be in that format; .*no\.parquet"):
        read_side(tmp_path / "no.parquet")


def nested(levels: int) -> pa.Table:
    """A table of items with a column of lists in lists."""
    kind = pa.int64()
    for _ in range(levels):
        kind = pa.list_(kind)
    return pa.table({"item": ["a"], "x": pa.array([None], kind)})


def test_types_of_hundreds_of_levels_do_not_end_the_process(tmp_path: Path) -> None:
    pq.write_table(nested(30), tmp_path / "few.parquet", store_schema=False)
    assert read_side(tmp_path / "few.parquet").columns == ["item", "x"]
    pq.write_table(nested(500), tmp_path / "items.parquet", store_schema=False)
    with pytest.raises(DataError, match="schema too deeply nested"):
        read_side(tmp_path / "items.parquet")
    (tmp_path / "few.jsonl").write_text('{"item": "a", "x": ' + '{"y":' * 90 + "1" + "}" * 91)
    assert read_side(tmp_path / "few.jsonl").columns == ["item", "x"]
    (tmp_path / "items.jsonl").write_text('{"item": "a", "x": ' + '{"y":' * 1000 + "1" + "}" * 1001)
    with pytest.raises(DataError, match="a line has more than 100 levels"):
        read_side(tmp_path / "items.jsonl")


def test_millions_of_equal_parts_of_a_row_are_not_read(tmp_path: Path) -> None:
    pl.select(item=pl.lit("a"), x=pl.lit("a" * 80_000_000)).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match="bytes unpack to 80,"):
        read_side(tmp_path / "items.parquet")


def test_brackets_in_texts_of_short_lines_are_no_levels(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"item": "a", "title": "' + "[" * 900 + '"}\n')
    assert read_side(tmp_path / "items.jsonl")["title"].to_list() == ["[" * 900]


def test_dates_of_two_readings_stay_text(tmp_path: Path) -> None:
    """01/02/2020 is 1 February or 2 January; dates of ISO 8601 have one reading."""
    (tmp_path / "items.csv").write_text(
        "sku,slash,dot,day,moment,sold\n007,01/02/2020,01.02.2020,2020-02-01,2020-02-01T01:00+01:00,true\n"
        "b,02/02/2020,02.02.2020,,,false\n"
    )
    row = read_side(tmp_path / "items.csv").row(0)
    assert row == ("007", "01/02/2020", "01.02.2020", dt.date(2020, 2, 1), dt.datetime(2020, 2, 1), True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'sku,name\na,x\nb,"y\nc,z\n', "quote that opens a field"),
        (b"sku,name\na,x\0\n", "neither text"),
        (b"\x80\x04sku,name\na,x\n", "pickle"),
        (b"sku,name,name\na,x,y\n", "different names"),
        (b"sku,name\na,caf\xe9\n", "0xe9 in line 2"),
    ],
)
def test_a_table_of_items_is_read_as_a_log_is(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_side(tmp_path / "items.csv")
    (tmp_path / "items.csv.gz").write_bytes(gzip.compress(b"sku,name\na,x\n"))
    assert read_side(tmp_path / "items.csv.gz").rows() == [("a", "x")]


def test_a_field_that_begins_in_a_late_line_is_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The beginning of a log tells its columns; a table of items is read whole, and every line has a say."""
    rows = [
        {"item": f"i{n}", "title": f"The title of {n}"} | ({"genre": "late"} if n >= 15_000 else {})
        for n in range(20_000)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = pl.DataFrame(
        {
            "item": [row["item"] for row in rows],
            "title": [row["title"] for row in rows],
            "genre": [row.get("genre") for row in rows],
        }
    )
    assert read_side(tmp_path / "items.jsonl").equals(expected)
    monkeypatch.setattr("unblur.data.formats.text._BLOCK_BYTES", 1 << 16)  # the same in many blocks
    assert read_side(tmp_path / "items.jsonl").equals(expected)


@pytest.mark.parametrize("name", ["items.jsonl", "items.csv", "items.tsv", "items.csv.gz"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("at", [0, 1, 30])
def test_long_descriptions_are_read(name: str, quote: str, at: int, tmp_path: Path) -> None:
    lines = ["x" * 3_000_000 if row == at else "short" for row in range(40)]
    mark = "\t" if ".tsv" in name else ","
    if name == "items.jsonl":
        text = "".join(json.dumps({"item": f"i{n}", "about": line}) + "\n" for n, line in enumerate(lines))
    else:
        text = f"item{mark}about\n" + "".join(
            f"i{n}{mark}{quote}{line}{quote}\n" for n, line in enumerate(lines)
        )
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    assert read_side(tmp_path / name)["about"].to_list() == lines


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("n_before", [0, 3])
def test_a_line_of_a_table_beyond_any_description_is_refused(
    quote: str, n_before: int, tmp_path: Path
) -> None:
    rows = "i,x\n" * n_before + f"a,{quote}{'x' * 40_000_000}{quote}\n"
    (tmp_path / "items.csv").write_text("item,about\n" + rows)
    with pytest.raises(DataError, match=r"shorter than 16,777,216 bytes; .* has a longer one") as refused:
        read_side(tmp_path / "items.csv")
    assert "adjacency" not in str(refused.value)
