"""Bad files are refused with what must hold, what was seen and what to do."""

import datetime as dt
import gzip
import io
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from scipy import sparse

from unblur.data.files import read, read_lines
from unblur.data.formats import text
from unblur.errors import DataError


def parquet(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pl.DataFrame(columns).write_parquet(stream)
    return stream.getvalue()


def arrow(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pl.DataFrame(columns).write_ipc(stream)
    return stream.getvalue()


def streamed(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pl.DataFrame(columns).write_ipc_stream(stream)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npy(array: Any, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=pickled)
    return stream.getvalue()


CSR = {"format": b"csr", "shape": np.array([2, 2]), "data": np.ones(2), "indptr": np.array([0, 1, 2])}
TYPED = b"user_id:token\titem_id:token\n"

WIDE = (
    '{"user": 1, "item": "x", "rating": 0, "time": 1}\n{"user": %s, "item": "y", "rating": %s, "time": %s}\n'
)
"""JSON lines with integers of 128 bits, which NumPy has not."""

BAD: list[tuple[str, str, bytes | str, dict[str, Any], str]] = [
    ("empty", "a.csv", b"", {}, r"must hold data.*is empty \(0 bytes\)"),
    ("empty parquet", "a.parquet", b"", {}, r"is empty \(0 bytes\)"),
    ("blank lines", "a.csv", "\n\n  \n", {}, "only blank lines"),
    ("header only", "a.csv", "user,item\n", {}, "header and no rows"),
    ("typed header only", "a.inter", TYPED, {}, "header and no rows"),
    ("wide times", "a.jsonl", WIDE % (2, 1, 2**70), {"rating": "ignore"}, "must lie within"),
    ("wide ratings", "a.jsonl", WIDE % (2, 2**70, 1), {"min_rating": 2**71}, "none is. Lower"),
    ("wide weights", "a.jsonl", WIDE % (2, 2**70, 1), {"rating": "rating"}, "Weights must be positive"),
    (
        "wide labels",
        "a.jsonl",
        WIDE % (2**70, 1, 1),
        {"rating": "ignore", "on_null": "drop"},
        "users must lie in 0",
    ),
    ("no rows", "a.parquet", parquet(user=pl.Series([], dtype=pl.Int64), item=[]), {}, "has none"),
    ("not parquet", "a.parquet", "user,item\n1,2\n", {}, "does not start as such a file does"),
    ("parquet cut", "a.parquet", parquet(user=[1], item=[2])[:-20], {}, "must be whole.*truncated"),
    ("parquet tail", "a.parquet", b"PAR1" + b"\0" * 50 + b"PAR1", {}, "must be whole"),
    (
        "gzip, cut",
        "a.csv.gz",
        gzip.compress(b"user,item\n1,2\n" * 99)[:-9],
        {},
        "compressed file must be whole",
    ),
    (
        "zstd, cut",
        "a.csv",
        pa.compress(b"user,item\n1,2\n" * 99, codec="zstd", asbytes=True)[:-9],
        {},
        "compressed file must be whole",
    ),
    (
        "gzip of parquet",
        "a.parquet.gz",
        gzip.compress(parquet(user=[1], item=[2])),
        {},
        "holds parquet. Unpack",
    ),
    ("arrow cut", "a.arrow", arrow(user=[1], item=[2])[:-20], {}, "Arrow file must be whole.*truncated"),
    ("arrow, another kind", "a.feather", "user,item\n1,2\n", {}, "does not start as such a file does"),
    ("an array of JSON", "a.json", '[{"user": 1},\n{"user": 2}]', {}, "Each line must be a JSON object"),
    (
        "JSON of a thousand levels",  # which would end the process
        "a.jsonl",
        '{"user": 1, "item": ' + '{"a":' * 1000 + "1" + "}" * 1001,
        {},
        "a line has more than 100 levels",
    ),
    (
        "a name twice",
        "a.jsonl",
        '{"user": 1, "user": 2, "item": 3}\n',
        {},
        "different names; saw 'user', 'user'",
    ),
    (
        "huge integers in JSON",
        "a.jsonl",
        f'{{"user": 1, "item": 2}}\n{{"user": {2**63}, "item": 2}}\n',
        {},
        "63 − 1; saw 9223372036854775808",
    ),
    (
        "huge times in JSON",
        "a.jsonl",
        f'{{"user": 1, "item": 2, "time": {2**65}}}\n',
        {},
        "timestamps must lie within",
    ),
    (
        "huge weights in JSON",
        "a.jsonl",
        f'{{"user": 1, "item": 2, "weight": -{2**65}}}\n',
        {},
        "Weights must be pos",
    ),
    (
        "huge integers in JSON, left out",
        "a.jsonl",
        f'{{"user": 1, "item": 2}}\n{{"user": {2**63}, "item": 2}}\n',
        {"on_null": "drop"},
        "63 − 1; saw 9223372036854775808",
    ),
    (
        "deep JSON, broken up",
        "a.jsonl",
        '{"user": 1, "item": 2}\n' * 99
        + '{"user": 1, "item": 2, "x": '
        + '{"b": [], "a":' * 99
        + "1"
        + "}" * 100
        + "\n",
        {},
        "a line has more than 100 levels",
    ),
    ("JSON of blanks, compressed", "a.jsonl.gz", gzip.compress(b"\n" * 9), {}, "must be a JSON object"),
    ("two streams", "a.arrow", streamed(user=[1], item=[2]) * 2, {}, "goes on after its end"),
    ("JSON cut", "a.jsonl", '{"user": 1, "item": 2}\n{"user": 1, "it', {}, "Each line must be a JSON object"),
    (
        "lists of two lengths",
        "a.parquet",
        parquet(user=[1], item=[[2, 3]], time=[[5]]),
        {},
        "as long as those of items",
    ),
    (
        "bytes that are no text",
        "a.parquet",
        parquet(user=[b"\xff", b"ab"], item=[2, 3]),
        {},
        "UTF-8, or UUIDs",
    ),
    ("pickle", "a.csv", b"\x80\x04\x95user,item", {}, "pickle.*never opened"),
    ("zip", "a.zip", b"PK\x03\x04 and so on", {}, "zip.*Unpack it first"),
    ("binary", "a.bin", b"\x00\x01\x02\x03", {}, "neither text nor one of the others"),
    ("utf-16", "a.csv", "user,item\n1,2\n".encode("utf-16"), {}, "UTF-16.*Save it as UTF-8"),
    ("latin-1", "a.csv", "user,item\n1,caf\xe9\n".encode("latin-1"), {}, "0xe9 in line 2.*iconv"),
    (
        "latin-1, late",
        "a.csv",
        b"user,item\n" + b"1,2222\n" * 40000 + b"1,caf\xe9\n",
        {},
        "0xe9 in line 40002.*iconv",
    ),
    ("zeros at the end", "a.csv", b"user,item\n1,2\n" + b"\0" * 500, {"format": "csv"}, "one 14 bytes from"),
    (
        "zeros in the middle",
        "a.csv",
        b"user,item,note\n" + b"1,2,x\n" * 2000 + b"1,3,\0\0\n" + b"1,2,x\n" * 2000,
        {"duplicates": "sum"},
        "must hold no zero bytes; .* has one 12,019 bytes from",
    ),
    ("zeros in lists", "a.txt", b"0 1 2\n" * 2000 + b"1 3\0\n" + b"2 1\n" * 2000, {}, "no zero bytes"),
    ("quote to the end", "a.csv", 'user,item\na,x\na,"y\nb,x\nb,z\nc,y\n', {}, "quote that opens a field"),
    ("quote at the end", "a.csv", 'user,item\na,x\na,"y', {}, "quote that opens a field"),
    (
        "quote to the next, in a column that is not read",
        "a.csv",
        'user,item,text\na,x,"5 stars\nb,y,"great"\n',
        {},
        "quote that opens a field",
    ),
    (
        "quote to the end, of megabytes",
        "a.csv",
        'user,item\na,x\na,"y\n' + "bbbbbb,xxxxxx\n" * 400_000,
        {},
        "quote that opens a field",
    ),
    ("quote open in the header", "a.csv", 'user,"item\na,x\nb,y"\nc,z\n', {}, "quote that opens a field"),
    (
        "quote to the end, compressed, semicolons",
        "a.csv.gz",
        gzip.compress(b'user;item\r\na;x\r\nb;"y\r\nc;z\r\n'),
        {},
        "quote that opens a field",
    ),
    ("a carriage return in a label", "a.csv", 'user,item\na,"x\ry"\n', {}, "with a line end"),
    ("a zero byte in a label", "a.jsonl", '{"user": 1, "item": "a\\u0000b"}\n', {}, "a zero byte.* in row 0"),
    (
        "a zero byte in Parquet",
        "a.parquet",
        parquet(user=["a", "b\0"], item=[1, 2]),
        {},
        "a zero byte.* in row 1",
    ),
    ("half a surrogate", "a.jsonl", '{"user": 1, "item": "\\ud800"}\n', {}, "a zero byte.* in row 0"),
    (
        "a byte order mark inside",
        "a.csv.gz",
        gzip.compress(b"1,2\n") + gzip.compress(b"\xef\xbb\xbf3,4\n"),
        {},
        "a byte order mark.* in row 1",
    ),
    ("a line end in a label", "a.csv", 'user,item\na,"x\ny"\n', {}, 'with a line end.*labels="str"'),
    ("a header again", "a.csv", "user,item\n1,x\n2,y\nuser,item\n3,z\n", {}, "again as row 2"),
    *(
        (f"a header again: {again}", "a.csv", f"user,item\n1,x\n{again}\n3,z\n", {}, "again as row 1")
        for again in ("USER,ITEM", '"user","item"', "user, item", "userId,movieId")
    ),
    (
        "a header again, at all",
        "a.csv",
        "user,item\n1,x\nuser,item\n3,z\n",
        {"header": False},
        "again as row 0",
    ),
    (
        "a header again, compressed",
        "a.csv.gz",
        gzip.compress(b"user,item\n1,x\n") + gzip.compress(b"user,item\n2,y\n"),
        {},
        "again as row 1",
    ),
    (
        "a header again, in Parquet",
        "a.parquet",
        parquet(user=["1", "user"], item=["x", "Item"]),
        {},
        "as row 1",
    ),
    ("a typed header again", "a.inter", TYPED + b"1\tx\n" + TYPED, {}, "again as row 1"),
    *(
        (
            f"{word!r} for a label",
            "a.csv",
            f'user,item\nb,y\na,"{word}"\n',
            {},
            "first without one is row 1.*missing value",
        )
        for word in (
            "",
            " ",
            "nan",
            "NaN",
            "null",
            "NULL",
            "None",
            "NA",
            "<NA>",
            "N/A",
            "NaT",
            "#N/A",
            "(null)",
            "undefined",
        )
    ),
    (
        "'nan' for a user",
        "a.parquet",
        parquet(user=["a", "nan"], item=[1, 2]),
        {},
        "first without one is row 1.*missing value",
    ),
    ("unknown format", "a.csv", "1,2\n", {"format": "parqet"}, "Did you mean 'parquet'"),
    ("column not there", "a.csv", "user_name,item\na,b\n", {"user": "user_nam"}, "Did you mean 'user_name'"),
    (
        "rating not there",
        "a.csv",
        "user,item\n1,2\n",
        {"rating": "ratings"},
        "must have the column 'ratings'",
    ),
    (
        "own name not there",
        "a.csv",
        "user,item\n1,2\n",
        {"rating": "rating"},
        "must have the column 'rating'",
    ),
    (
        "times not there",
        "a.csv",
        "1,2\n3,4\n",
        {"timestamp": "timestamp"},
        "must have the column 'timestamp'",
    ),
    ("position not there", "a.csv", "1,2\n", {"user": 0, "item": 2}, "0 to 1"),
    ("only one position", "a.csv", "1,2\n", {"user": 1}, "both `user` and `item`"),
    ("one column twice", "a.csv", "1,2\n", {"user": 1, "item": 1}, "one meaning"),
    ("names without header", "a.csv", "1,2\n", {"user": "a", "header": False}, "must have a header"),
    ("not a column", "a.csv", "1,2\n", {"user": True, "item": 1}, "name or its position"),
    ("no user column", "a.csv", "who,item\n1,2\n", {}, "must have a column of users.*user_id"),
    ("two user columns", "a.csv", "user,user_id,item\n1,1,2\n", {}, "all could be.*`user`"),
    ("two ratings", "a.csv", "user,item,rating,stars\n1,2,3,4\n", {}, 'leave all out with `rating="ignore"`'),
    ("many columns", "a.csv", "1,2,3,4,5\n1,2,3,4,5\n", {}, "2 to 4 columns"),
    ("unclear header", "a.csv", "who,what\nanna,tea\n", {}, "whether the first line is a header"),
    ("no delimiter", "a.csv", "abc\ndef\n", {}, "Pass its `delimiter`"),
    (
        "a long line",
        "a.csv",
        "user,item\n1,2\n3," + "x" * 9_000_000 + "\n",
        {},
        "shorter than 1,048,576 bytes",
    ),
    (
        "a long header",
        "a.csv",
        ",".join(map(str, range(10**5))) + "\n1,2\n",
        {},
        "shorter than 262,144 bytes",
    ),
    (
        "a long list of items",
        "a.dat",
        " ".join(map(str, range(10**5))) + "\n1 2\n",
        {},
        '262,144 bytes.*pass `format="adjacency"`',
    ),
    (
        "line too short",
        "a.csv",
        "user,item,time\n1,2,3\n4,5\n",
        {},
        "fields of the first.*Expected 3 columns, got 2",
    ),
    ("line too long", "a.csv", "user,item\n1,2\n4,5,6\n", {}, "Expected 2 columns, got 3"),
    ("cut off", "a.dat", "1::2::1::4\n1::3::1::4\n1::4", {}, "Expected 4 columns, got 2"),
    ("open quote", "a.csv", 'user,item\n"1,2\n3,4\n', {}, "fields of the first"),
    ("typed cut off", "a.inter", TYPED + b"1\t2\n3", {}, "Expected 2 columns, got 1"),
    ("typed badly", "a.inter", "user_id\titem_id:token\n1\t2\n", {}, "must be name:type"),
    ("adjacency token", "a.txt", "0 1 2\n1 x\n", {"format": "adjacency"}, "saw 'x' in row 2.*labels=\"str\""),
    ("adjacency float", "a.txt", "0 1 2\n1 2.5\n", {"format": "adjacency"}, "saw '2.5'"),
    ("adjacency commas", "a.txt", "0,1\n1,2\n", {"format": "adjacency"}, "separated by blanks"),
    ("adjacency negative", "a.txt", "0 1 2\n1 -3\n", {"format": "adjacency"}, r"0 … 2\*\*63"),
    ("adjacency twice", "a.txt", "0 1 2\n1 3 3 4\n", {}, r"must occur once.*\(1, 3\)"),
    ("adjacency users only", "a.txt", "0\n1\n", {"format": "adjacency"}, "has none"),
    ("adjacency or columns", "a.txt", "0 1 2\n1 2 3\n", {}, '`format="adjacency"` or `format="csv"`'),
    (
        "null user",
        "a.parquet",
        parquet(user=[1, None], item=[1, 2]),
        {},
        "no nulls; the first without one is row 1",
    ),
    ("null item", "a.csv", "user,item\n1,2\n1,\n", {}, "items must have no nulls.*row 1"),
    ("null rating", "a.csv", "user,item,rating\n1,2,\n", {"min_rating": 1}, "ratings must have no nulls"),
    ("null time", "a.csv", "user,item,timestamp\n1,2,\n", {}, 'no nulls.*timestamp="ignore"'),
    ("nan weight", "a.parquet", parquet(user=[1], item=[1], weight=[np.nan]), {}, "must be finite; saw nan"),
    ("infinite weight", "a.csv", "user,item,weight\n1,2,inf\n", {}, "must be finite; saw inf"),
    ("word for a rating", "a.csv", "user,item,rating\n1,2,good\n", {"min_rating": 1}, "saw 'good' in row 0"),
    ("negative weight", "a.csv", "user,item,weight\n1,2,-1\n", {}, "Weights must be positive"),
    ("stored zeros", "a.parquet", parquet(user=[1, 2], item=[1, 1], rating=[0, 1]), {}, "must be said"),
    (
        "zero weights",
        "a.parquet",
        parquet(user=[1, 2], item=[1, 1], rating=[0, 1]),
        {"rating": "rating"},
        "1 of 2 rows.*min_rating",
    ),
    ("a third column", "a.csv", "1,2,5\n1,3,4\n", {}, "or `timestamp=2`, if it is a time"),
    ("nobody liked", "a.csv", "user,item,rating\n1,2,1\n", {"min_rating": 4}, "Lower `min_rating`"),
    ("threshold, no ratings", "a.csv", "user,item\n1,2\n", {"min_rating": 4}, "needs a column of ratings"),
    (
        "threshold, ignored",
        "a.csv",
        "user,item,rating\n1,2,1\n",
        {"min_rating": 4, "rating": "ignore"},
        "Drop one of the two",
    ),
    *(
        (f"times {first}, {second}", "a.csv", f"user,item,time\n1,1,{first}\n2,2,{second}\n", {}, message)
        for first, second, message in (
            ("01/02/2020", "02/02/2020", "%d/%m/%Y.* is 1 February 2020 or .*%m/%d/%Y.* is 2 January 2020"),
            ("2020-02-01", "25/12/2020", "%d/%m/%Y.* is 25 December 2020 "),
            ("1.2.20 10:30", "1.2.20 10:31", r"%d\.%m\.%y.* is 1 February 2020 or .*%m\.%d\.%y"),
            ("2020/01/02", "2020/01/03", "%Y/%m/%d.* is 2 January 2020 or .*%Y/%d/%m.* is 1 February"),
            ("1577836800", "1577836800000", "one unit; .*row 0 .seconds.*row 1 .milliseconds"),
            ("1577836800000000.5", "1577836800", "one unit; .*row 1 .seconds.*row 0 .microseconds"),
        )
    ),
    (
        "time in another format",
        "a.csv",
        "user,item,time\n1,1,01/02/2020\n2,2,25/12/2020\n",
        {"time_format": "%m/%d/%Y"},
        "saw '25/12/2020' in row 1",
    ),
    ("no format", "a.csv", "user,item,time\n1,1,01/02/2020\n", {"time_format": "%"}, "saw '01/02/2020'"),
    ("format, no times", "a.csv", "user,item\n1,1\n", {"time_format": "%Y"}, "for a column of times"),
    (
        "format of typed times",
        "a.parquet",
        parquet(user=[1], item=[1], time=[1.5]),
        {"time_format": "%Y"},
        "text or integers; saw Float64",
    ),
    (
        "a unit of dates",
        "a.csv",
        "user,item,time\n1,1,2020-01-01\n",
        {"time_unit": "ms"},
        "`time_unit` is for .*numbers",
    ),
    (
        "a unit and a format",
        "a.csv",
        "user,item,time\n1,1,20200101\n",
        {"time_unit": "ms", "time_format": "%Y%m%d"},
        "`time_unit` is for .*numbers",
    ),
    ("word for a time", "a.csv", "user,item,timestamp\n1,2,soon\n", {}, "ISO 8601.*'soon'"),
    (
        "list of times",
        "a.parquet",
        parquet(user=[1], item=[1], time=[[1]]),
        {},
        "must be integers, floats or dates",
    ),
    ("infinite time", "a.parquet", parquet(user=[1], item=[1], time=[np.inf]), {}, "must be finite"),
    ("huge time", "a.parquet", parquet(user=[1], item=[1], time=[1e300]), {}, r"lie within.*1e\+300"),
    (
        "huge whole time",
        "a.parquet",
        parquet(user=[1], item=[1], time=np.array([2**63], np.uint64)),
        {},
        "lie within.*9223372036854775808",
    ),
    ("float ids", "a.parquet", parquet(user=[1.0, 2.5], item=[1, 1]), {}, "saw Float64 such as 2.5 in row 1"),
    (
        "float ids of 2**53",
        "a.parquet",
        parquet(user=[2.0**53, 1.0], item=[1, 2]),
        {},
        "no whole number below 2",
    ),
    (
        "events in lists",
        "a.parquet",
        parquet(user=[1], item=[1], event=[["view"]]),
        {"event_weights": "view=1"},
        "Events must be words; saw List",
    ),
    (
        "events in bytes",
        "a.parquet",
        parquet(user=[1], item=[1], event=[b"\xff"]),
        {"event_weights": "view=1"},
        "Events must be words; saw Binary",
    ),
    ("huge float ids", "a.parquet", parquet(user=[1e17], item=[1]), {}, "no whole number below 2"),
    (
        "dates for ids",
        "a.parquet",
        parquet(user=[dt.date(2020, 1, 1)], item=[1]),
        {},
        "integers or strings; saw Date",
    ),
    ("huge ids in text", "a.csv", f"user,item\n{2**64},2\n1,2\n", {}, "not below 2"),
    ("huge ids", "a.parquet", parquet(user=np.array([2**63], np.uint64), item=[1]), {}, r"0 … 2\*\*63"),
    ("negative ids", "a.csv", "user,item\n-1,2\n", {}, "saw -1"),
    ("words for int", "a.csv", "user,item\nanna,2\n", {"labels": "int"}, "saw 'anna' in row 0"),
    (
        "labels",
        "a.csv",
        "user,item\n1,2\n",
        {"labels": "string"},
        "must be one of auto, int, str.*Did you mean 'str'",
    ),
    ("duplicates", "a.csv", "user,item\n1,2\n1,2\n", {}, 'duplicates="sum"'),
    ("duplicates word", "a.csv", "user,item\n1,2\n", {"duplicates": "max"}, "must be"),
    ("stand-in", "a.csv", "user::item\n1::\x1f2\n", {}, "0x1f"),
    ("npz of arrays", "a.npz", npz(a=np.ones(3)), {}, "must hold a sparse matrix"),
    ("npz out of range", "a.npz", npz(indices=np.array([0, 7]), **CSR), {}, "must hold a sparse matrix"),
    ("npz negative", "a.npz", npz(indices=np.array([0, -1]), **CSR), {}, "must hold a sparse matrix"),
    (
        "npz broken pointers",
        "a.npz",
        npz(**{**CSR, "indices": np.array([0, 1]), "indptr": np.array([0, 9, 2])}),
        {},
        "must hold a sparse matrix",
    ),
    (
        "npz out of range, coo",
        "a.npz",
        npz(format=b"coo", shape=np.array([2, 2]), data=np.ones(1), row=np.array([5]), col=np.array([0])),
        {},
        "must hold a sparse matrix",
    ),
    (
        "npz of few entries and many users",
        "a.npz",
        npz(
            format=b"coo",
            shape=np.array([2 * 10**9, 2]),
            data=np.ones(1),
            row=np.array([5]),
            col=np.array([0]),
        ),
        {},
        r"its shape is \(2000000000, 2\)",
    ),
    ("npy with more", "a.npy", npy(np.ones((3, 2), dtype=int)) + b"more", {}, "goes on after its end"),
    ("npz cut", "a.npz", npz(indices=np.array([0, 1]), **CSR)[:-30], {}, "must hold a sparse matrix"),
    (
        "npz of objects",
        "a.npz",
        npz(indices=np.array([0, 1]), **{**CSR, "data": np.array([{}, {}])}),
        {},
        "sparse",
    ),
    ("npy of objects", "a.npy", npy(np.array([{}], dtype=object), pickled=True), {}, "never opened"),
    ("npy of floats", "a.npy", npy(np.ones((3, 2))), {}, r"shape \(n, 2\)"),
    ("npy cut", "a.npy", npy(np.ones((30, 2), dtype=int))[:-40], {}, r"integers of shape"),
]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_bad_input(
    name: str, content: bytes | str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message) as error:
        read(path, **options)
    assert error.value.__cause__ is None
    assert str(error.value).rstrip().endswith((".", "?")), "a message ends with what to do"


def test_the_message_names_the_file_and_the_guessed_columns(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("timestamp,movieId,userId\n5,2,1\n5,2,1\n")
    with pytest.raises(
        DataError, match="users from 'userId', items from 'movieId', timestamps from 'timestamp'"
    ):
        read(path)


def test_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no 'trian.parquet'. Did you mean 'train.parquet'\?"):
        read(tmp_path / "trian.parquet")
    with pytest.raises(DataError, match=r"Did you mean 'train.parquet'\?"):
        read(tmp_path / "train.csv")
    with pytest.raises(DataError, match="not even the folder"):
        read(tmp_path / "nowhere" / "train.parquet")


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, and it holds no file"):
        read(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match=r"is a folder, and it holds 'train.parquet'.*read_split_folder"):
        read(tmp_path)


def test_a_pipe_in_place_of_a_file() -> None:
    with pytest.raises(DataError, match="device or a pipe"):
        read("/dev/null")


quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ROWS = 300
WHOLE: dict[str, Callable[[], bytes]] = {
    "a.parquet": lambda: parquet(
        user=np.arange(ROWS) % 7, item=np.arange(ROWS), name=["x" * (i % 5) for i in range(ROWS)]
    ),
    "a.npy": lambda: npy(np.stack([np.arange(ROWS), np.arange(ROWS)], axis=1)),
    "a.npz": lambda: _matrix(),
    "a.feather": lambda: arrow(
        user=np.arange(ROWS) % 7, item=np.arange(ROWS), name=["x" * (i % 5) for i in range(ROWS)]
    ),
    "a.csv.gz": lambda: gzip.compress("".join(f"{at % 7},{at}\n" for at in range(ROWS)).encode()),
}


def _matrix() -> bytes:
    stream = io.BytesIO()
    sparse.save_npz(stream, sparse.eye_array(ROWS, format="csr"))
    return stream.getvalue()


@pytest.mark.parametrize("name", WHOLE)
@quick
@given(share=st.floats(0, 1, exclude_max=True))
@example(share=0.999)
def test_a_truncated_file_is_refused(name: str, share: float, tmp_path: Path) -> None:
    content = WHOLE[name]()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError):
        read(tmp_path / name)


@quick
@given(
    rows=st.lists(st.tuples(*[st.integers(0, 10**9)] * 4), min_size=2, max_size=20), cut=st.integers(1, 200)
)
def test_truncated_text_is_refused_or_read_to_its_end(
    rows: list[tuple[int, int, int, int]], cut: int, tmp_path: Path
) -> None:
    rows = [(at, *row[1:]) for at, row in enumerate(rows)]
    text = "user,item,weight,timestamp\n" + "".join(f"{u},{i},{w + 1},{t}\n" for u, i, w, t in rows)
    (tmp_path / "a.csv").write_text(text[:-cut] or "u")
    try:
        data = read(tmp_path / "a.csv")
    except DataError:
        return
    pairs = data.to_frame().select("user", "item").rows()
    assert pairs == [(u, i) for u, i, _, _ in rows][: len(pairs)]


@pytest.mark.parametrize("name", WHOLE)
@quick
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_changed_byte_is_refused_or_read(name: str, share: float, bit: int, tmp_path: Path) -> None:
    content = bytearray(WHOLE[name]())
    content[int(share * len(content))] ^= 1 << bit
    (tmp_path / name).write_bytes(bytes(content))
    with suppress(DataError):
        read(tmp_path / name)


@quick
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(content: bytes, tmp_path: Path) -> None:
    for name in (
        "a.csv",
        "a.txt",
        "a.inter",
        "a.npy",
        "a.npz",
        "a.parquet",
        "a.jsonl",
        "a.feather",
        "a.csv.gz",
    ):
        (tmp_path / name).write_bytes(content)
        with suppress(DataError):
            read(tmp_path / name)


def test_a_zip_with_false_content_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("format.npy", b"not an array")
    with pytest.raises(DataError, match="must hold a sparse matrix"):
        read(tmp_path / "a.npz")


SAID: list[tuple[str, str, str, dict[str, Any], str]] = [
    (
        "lines in a column that is not read",
        "a.csv",
        'user,item,text\na,x,"great\nb,y,good\nc,z,fine"\nd,w,poor\n',
        {},
        "2 lines of .*a.csv are part of quoted fields",
    ),
    (
        "a column that comes late",
        "a.jsonl",
        '{"user": 1, "item": 2}\n' * 20_000 + '{"user": 1, "item": 3, "time": 5}\n',
        {"duplicates": "last"},
        "not read: 'time', which the first lines of .*a.jsonl lack",
    ),
    *(
        (
            f"seconds and {odd}",
            "a.csv",
            f"user,item,time\n1,1,1577836800\n2,2,{odd}\n",
            {},
            f"seconds since 1970, by their size, 1 of them before 1973 or after 5138, such as {odd}$",
        )
        for odd in ("20200101", "5", "-1577836800")
    ),
    (
        "another unit than said",
        "a.csv",
        "user,item,time\n1,1,1577836800000\n2,2,1577836801\n",
        {"time_unit": "s"},
        "seconds since 1970, 1 of them before 1973 or after 5138, such as 1577836800000$",
    ),
]


@pytest.mark.parametrize(
    ("name", "content", "options", "note"), [case[1:] for case in SAID], ids=[case[0] for case in SAID]
)
def test_what_may_be_meant_otherwise_is_said(
    name: str, content: str, options: dict[str, Any], note: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    notes: list[str] = []
    read(tmp_path / name, **options, progress=lambda event: notes.append(event.stage))
    assert any(re.search(note, said) for said in notes), notes


def test_lines_may_end_as_they_did_on_old_machines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item\ra,x\rb,y\r")
    assert read(tmp_path / "a.csv").to_frame().rows() == [("a", "x", 1), ("b", "y", 1)]
    (tmp_path / "a.jsonl").write_text('\ufeff{"user": 1, "item": 2}\n')
    assert read(tmp_path / "a.jsonl").to_frame().rows() == [(1, 2, 1)]


@pytest.mark.parametrize(
    ("name", "start", "options"),
    [
        ("a.csv.gz", b"user,item\n1,2\n3,", {}),
        ("a.jsonl.gz", b'{"user": 1, "item": 2}\n{"user": 1, "item": "', {}),
        ("a.txt.gz", b"1 2 3\n2 3\n", {"format": "adjacency"}),
        ("labels.txt.gz", b"a\n", {}),
    ],
)
def test_a_line_that_does_not_end_takes_no_memory(
    name: str, start: bytes, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes that unpack to a line without end: it is refused once it is longer than any that is meant."""
    monkeypatch.setattr("unblur.data.formats.text._BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr("unblur.data.formats.text._LONGEST_LINE", 1 << 20)
    (tmp_path / name).write_bytes(gzip.compress(start) + gzip.compress(b"4" * (1 << 25)))
    taken: list[int] = []
    seen = text._refuse_zeros
    monkeypatch.setattr(
        "unblur.data.formats.text._refuse_zeros",
        lambda part, *rest: (taken.append(len(part)), seen(part, *rest)),
    )
    with pytest.raises(DataError, match="must be shorter than 1,048,576 bytes"):
        read(tmp_path / name, **options) if name.startswith("a.") else read_lines(tmp_path / name)
    assert sum(taken) < 1 << 23


def test_a_matrix_that_unpacks_to_far_more_than_it_has_is_not_unpacked(tmp_path: Path) -> None:
    arrays = {**CSR, "indices": np.array([0, 1]), "data": np.zeros(10**8, dtype=np.float64)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=r"unpacks to 800,\d+,\d+ bytes, far more than it has"):
        read(tmp_path / "a.npz")
