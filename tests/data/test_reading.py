"""Every format and option of `read`, on small files whose content is known."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from unblur import Interactions
from unblur.data.files import read, read_column, read_lines, read_split_folder, unread_columns, write
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, VocabularyMismatch
from unblur.experiment.recipe.schema import Recipe

PAIRS = {(1, 10), (1, 20), (2, 10)}


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pairs(data: Interactions) -> set[tuple[Any, Any]]:
    return set(data.to_frame().select("user", "item").rows())


def weights(data: Interactions) -> dict[tuple[Any, Any], float]:
    return {
        (user, item): weight for user, item, weight in data.to_frame().select("user", "item", "weight").rows()
    }


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.csv", "user,item\n1,10\n1,20\n2,10\n", {}),
        ("a.csv", "userId,movieId\n1,10\n1,20\n2,10\n", {}),
        ("a.csv", "User ID;ISBN\n1;10\n1;20\n2;10\n", {}),
        ("a.csv", "extra,item_id,user_id\nx,10,1\ny,20,1\nz,10,2\n", {}),
        ("a.csv", "1,10\n1,20\n2,10\n", {}),
        ("a.csv", "1,10\n1,20\n2,10", {}),
        ("a.csv", "1,10\r\n1,20\r\n2,10\r\n", {}),
        ("a.csv", "\ufeffuser,item\n1,10\n1,20\n2,10\n", {}),
        ("a.csv", "\n\nuser,item\n\n1,10\n1,20\n\n2,10\n\n\n", {}),
        ("a.csv", "user, item\n1, 10\n1, 20\n2, 10\n", {}),
        ("a.csv", '"user","item"\n"1","10"\n"1","20"\n"2","10"\n', {}),
        ("a.tsv", "user\titem\n1\t10\n1\t20\n2\t10\n", {}),
        ("a.txt", "1|10\n1|20\n2|10\n", {}),
        ("noending", "1\t10\n1\t20\n2\t10\n", {}),
        ("a.csv", "1~10\n1~20\n2~10\n", {"delimiter": "~"}),
        ("a.csv", "1 -> 10\n1 -> 20\n2 -> 10\n", {"delimiter": " -> "}),
        ("a.csv", "who,what\n1,10\n1,20\n2,10\n", {"user": "who", "item": "what"}),
        ("a.csv", "who,what\n1,10\n1,20\n2,10\n", {"user": 0, "item": 1}),
        ("a.csv", "10,x,1\n20,y,1\n10,z,2\n", {"user": 2, "item": 0}),
        ("a.csv", "a,b\n1,10\n1,20\n2,10\n", {"header": True, "user": 0, "item": 1}),
        ("a.dat", "1::10\n1::20\n2::10\n", {}),
        ("a.txt", "1 10 20\n2 10\n", {}),
        ("a.txt", "1 10 20 \n2 10\n3\n\n", {}),
        ("a.txt", "1 10\n1 20\n2 10\n", {}),
        ("a.txt", "1 10\n2 10\n1 20\n", {"format": "adjacency"}),
        ("train", "1 10 20\n2 10\n", {}),
        ("a.inter", "user_id:token\titem_id:token\n1\t10\n1\t20\n2\t10\n", {}),
        ("a.txt", "user_id:token\titem_id:token\n1\t10\n1\t20\n2\t10\n", {}),
        ("a.csv", "user,item,rating\n1,10,1\n1,20,1\n2,10,1\n", {}),
        ("a.csv", "1,10,5,7\n1,20,3,8\n2,10,1,9\n", {"rating": "ignore", "timestamp": "ignore"}),
    ],
)
def test_pairs_from_text(name: str, content: str, options: dict[str, Any], tmp_path: Path) -> None:
    data = read(written(tmp_path, name, content), **options)
    assert pairs(data) == PAIRS
    assert data.timestamps is None
    assert set(data.matrix.data) == {1.0}


MOVIELENS = [(196, 242, 3, 881250949), (186, 302, 3, 891717742), (196, 51, 4, 881250950)]


@pytest.mark.parametrize(
    ("name", "delimiter", "header"),
    [
        ("u.data", "\t", ""),
        ("ratings.dat", "::", ""),
        ("ratings.csv", ",", "userId,movieId,rating,timestamp\n"),
        ("ml.inter", "\t", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"),
    ],
)
def test_movielens_files(name: str, delimiter: str, header: str, tmp_path: Path) -> None:
    lines = "".join(delimiter.join(map(str, row)) + "\n" for row in MOVIELENS)
    path = written(tmp_path, name, header + lines)
    rated = read(path, rating="rating")
    assert weights(rated) == {(196, 242): 3.0, (186, 302): 3.0, (196, 51): 4.0}
    assert dict(rated.to_frame().select("item", "timestamp").rows()) == {
        242: 881250949,
        302: 891717742,
        51: 881250950,
    }
    assert weights(read(path, min_rating=4)) == {(196, 51): 1.0}
    assert pairs(read(path, rating="ignore")) == {(196, 242), (186, 302), (196, 51)}
    with pytest.raises(DataError, match="What a rating means must be said"):
        read(path)


def test_the_four_movielens_files_hold_the_same(tmp_path: Path) -> None:
    data = Interactions.from_pairs(
        *zip(*((user, item) for user, item, _, _ in MOVIELENS), strict=True),
        weights=[rating for _, _, rating, _ in MOVIELENS],
        timestamps=[time for *_, time in MOVIELENS],
    )
    path = written(tmp_path, "u.data", "".join("\t".join(map(str, row)) + "\n" for row in MOVIELENS))
    assert read(path, rating="rating").fingerprint() == data.fingerprint()


def test_parquet_columns_of_all_types(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(["b", "a", "a"]).cast(pl.Categorical),
            "item_id": pl.Series([3, 1, 2], dtype=pl.UInt16),
            "weight": pl.Series([0.5, 1, 2], dtype=pl.Float64),
            "time": pl.Series([dt.datetime(2020, 1, 1, 0, 0, second, 999_000) for second in (0, 1, 2)]),
            "comment": ["x", None, "y"],
        }
    )
    frame.write_parquet(tmp_path / "log[1]*.parquet")
    data = read(tmp_path / "log[1]*.parquet")
    assert weights(data) == {("b", 3): 0.5, ("a", 1): 1.0, ("a", 2): 2.0}
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [1577836801, 1577836802, 1577836800]


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (pl.Series([5, 7], dtype=pl.Int32), [5, 7]),
        (pl.Series([5.9, -7.1]), [5, -8]),
        (pl.Series([dt.date(1970, 1, 2), dt.date(1969, 12, 31)]), [86400, -86400]),
        (
            pl.Series([dt.datetime(1970, 1, 1, 0, 0, 3), dt.datetime(1970, 1, 1)]).dt.cast_time_unit("ns"),
            [3, 0],
        ),
        (pl.Series(["12", "13"]), [12, 13]),
        (pl.Series(["12.5", "13"]), [12, 13]),
        (pl.Series(["1970-01-01T00:00:03Z", "1970-01-01T00:01:00Z"]), [3, 60]),
        (pl.Series(["1970-01-01 00:00:03", "1970-01-01 00:01:00"]), [3, 60]),
        (pl.Series(["1970-01-03", "1970-01-02"]), [172800, 86400]),
    ],
)
def test_times_become_whole_seconds(times: pl.Series, seconds: list[int], tmp_path: Path) -> None:
    pl.DataFrame({"user": [1, 2], "item": [1, 2], "timestamp": times}).write_parquet(tmp_path / "a.parquet")
    data = read(tmp_path / "a.parquet")
    assert data.timestamps is not None
    assert data.timestamps.tolist() == seconds
    assert read(tmp_path / "a.parquet", timestamp="ignore").timestamps is None


@pytest.mark.parametrize(
    ("labels", "option", "expected"),
    [
        (["1", "2"], "auto", [1, 2]),
        (["1", "2"], "str", ["1", "2"]),
        (["01", "2"], "auto", ["01", "2"]),
        (["01", "2"], "int", [1, 2]),
        (["+1", "2"], "auto", ["+1", "2"]),
        (["1", "b"], "auto", ["1", "b"]),
        ([" 1", "2 "], "auto", [1, 2]),
        ([" a", "b "], "auto", [" a", "b "]),
        (["0", "10"], "auto", [0, 10]),
        (["9223372036854775807", "1"], "auto", [1, 9223372036854775807]),
    ],
)
def test_labels_of_text(labels: list[str], option: Any, expected: list[Any], tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "user,item\n" + "".join(f"{label},5\n" for label in labels))
    assert read(path, labels=option).users.to_list() == sorted(expected)


def test_parquet_strings_stay_strings(tmp_path: Path) -> None:
    pl.DataFrame({"user": ["1", "2"], "item": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    data = read(tmp_path / "a.parquet")
    assert (data.users.kind, data.items.kind) == ("str", "int")
    assert read(tmp_path / "a.parquet", labels="int").users.kind == "int"
    assert read(tmp_path / "a.parquet", labels="str").items.to_list() == ["1", "2"]


def test_a_matrix_of_ratings_and_of_ones(tmp_path: Path) -> None:
    ratings = sparse.csr_array(np.array([[5.0, 0, 3], [0, 0, 0], [1, 0, 0]]))
    sparse.save_npz(tmp_path / "ratings.npz", ratings)
    data = read(tmp_path / "ratings.npz")
    assert data.matrix.shape == (3, 3)
    assert weights(data) == {(0, 0): 5.0, (0, 2): 3.0, (2, 0): 1.0}
    assert weights(read(tmp_path / "ratings.npz", min_rating=3)) == {(0, 0): 1.0, (0, 2): 1.0}
    assert weights(read(tmp_path / "ratings.npz", rating="ignore")) == dict.fromkeys(weights(data), 1.0)
    for form in ("csc", "coo"):
        sparse.save_npz(tmp_path / f"{form}.npz", ratings.asformat(form))
        assert read(tmp_path / f"{form}.npz").fingerprint() == data.fingerprint()
    sparse.save_npz(tmp_path / "old.npz", sparse.csr_matrix(ratings.astype(np.int64)))
    assert read(tmp_path / "old.npz").fingerprint() == data.fingerprint()


def test_duplicates_and_vocabularies_are_those_of_from_pairs(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "user,item,weight,timestamp\n1,10,2,5\n1,10,3,4\n1,30,1,9\n")
    with pytest.raises(DataError, match=r"must occur once.*\(1, 10\)"):
        read(path)
    assert weights(read(path, duplicates="sum"))[1, 10] == 5
    assert weights(read(path, duplicates="first"))[1, 10] == 3
    assert weights(read(path, duplicates="last"))[1, 10] == 2
    with pytest.raises(VocabularyMismatch, match="30"):
        read(path, duplicates="last", item_vocabulary=Vocabulary([10, 20]))
    known = read(path, duplicates="last", item_vocabulary=Vocabulary([10, 20]), unknown_items="ignore")
    assert known.items.to_list() == [10, 20]
    assert pairs(known) == {(1, 10)}


def test_interactions_read_is_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "who,what\nanna,x\nben,y\n")
    assert pairs(Interactions.read(path, user="who", item="what")) == {("anna", "x"), ("ben", "y")}


def test_progress_is_reported(tmp_path: Path) -> None:
    stages: list[str] = []
    read(written(tmp_path, "a.csv", "user,item\n1,2\n"), progress=lambda event: stages.append(event.stage))
    guesses = "read as delimited text (commas, header); users from 'user', items from 'item'"
    assert set(stages) == {"read a.csv", "index", guesses}


def test_a_folder_of_parts(tmp_path: Path) -> None:
    write(Interactions.from_pairs([1, 2], [3, 4]), tmp_path / "train.parquet")
    write(Interactions.from_pairs([1], [4]), tmp_path / "test.csv")
    write(Interactions.from_pairs([2], [3]), tmp_path / "validation.inter")
    (tmp_path / "README.md").write_text("read me")
    parts = read_split_folder(tmp_path)
    assert {name: pairs(part) for name, part in parts.items()} == {
        "train": {(1, 3), (2, 4)},
        "valid": {(2, 3)},
        "test": {(1, 4)},
    }
    write(Interactions.from_pairs([1], [4]), tmp_path / "test.parquet")
    with pytest.raises(DataError, match="one file for test"):
        read_split_folder(tmp_path)


def test_a_folder_without_train(tmp_path: Path) -> None:
    written(tmp_path, "test.csv", "1,2\n")
    with pytest.raises(DataError, match=r"must hold a train file.*'test.csv'"):
        read_split_folder(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        read_split_folder(tmp_path / "test.csv")
    with pytest.raises(DataError, match="must be there"):
        read_split_folder(tmp_path / "nowhere")


OCTOBER = 1569888000
"""2019-10-01 00:00 UTC, in seconds since 1970."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2019-10-01", OCTOBER),
        ("2019-10-01 00:00:00 UTC", OCTOBER),
        ("2019-10-01T00:00Z", OCTOBER),
        ("2019-10-01T00:00:00.999", OCTOBER),
        ("2019-10-01T02:00:00+02:00", OCTOBER),
        ("2019-09-30 18:30:00 -0530", OCTOBER),
        ("2019-10-01T02:00:00.5+02", OCTOBER),
        ("20191001", OCTOBER),
        ("20191001T000000Z", OCTOBER),
        ("1969-12-31 23:59:59.5", -1),
        ("1569888000", OCTOBER),
        ("1569888000123", OCTOBER * 1000 + 123),
        ("1569888000123456", OCTOBER * 10**6 + 123456),
        ("20191301", 20191301),
        ("18991231", 18991231),
    ],
)
def test_times_in_text(text: str, seconds: int, tmp_path: Path) -> None:
    data = read(written(tmp_path, "a.csv", f"user,item,time\n1,2,{text}\n"))
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [seconds]


def test_eight_digits_are_dates_if_all_are(tmp_path: Path) -> None:
    for other, first in ((20200229, OCTOBER), (20200230, 20191001)):
        pl.DataFrame({"user": [1, 2], "item": [1, 2], "time": [20191001, other]}).write_parquet(
            tmp_path / "a.parquet"
        )
        times = read(tmp_path / "a.parquet").timestamps
        assert times is not None
        assert times[0] == first


@pytest.mark.parametrize(
    ("text", "time_format"),
    [
        ("01/10/2019", "%d/%m/%Y"),
        ("10/01/2019", "%m/%d/%Y"),
        ("1.10.19 02:00 +0200", "%d.%m.%y %H:%M %z"),
        ("Oct 1 2019 12:00 AM", "%b %d %Y %I:%M %p"),
        ("01102019", "%d%m%Y"),
    ],
)
def test_times_in_a_given_format(text: str, time_format: str, tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", f"user,item,time\n1,2,{text}\n")
    data = read(path, time_format=time_format)
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [OCTOBER]
    parts = Recipe.from_dict({"model": {"kind": "ease"}, "data": {"read": {"time_format": time_format}}})
    assert read(path, **parts.data.read.options()).fingerprint() == data.fingerprint()


def test_quotes_that_are_letters_and_quoted_line_ends_are_read(tmp_path: Path) -> None:
    inches = read(written(tmp_path, "a.csv", 'user,item,text\na,x,5" disk\nb,y,great"\n'))
    assert inches.items.to_list() == ["x", "y"]
    text = 'user,item,text\na,x,"5 ""stars"" \nand more"\n"b","y","great"\n'
    assert read(written(tmp_path, "a.csv", text)).items.to_list() == ["x", "y"]
    quoted = read(written(tmp_path, "a.csv", '\ufeff"user","item"\n"a","x\ny"\n"b",""\n'), labels="str")
    assert quoted.items.to_list() == ["", "x\ny"]


@pytest.mark.parametrize(
    ("options", "unread"),
    [
        ({"min_rating": 4}, ("rating", "note")),
        ({"ratings": "[4,5]"}, ("rating", "note")),
        ({"rating": "rating"}, ("note",)),
    ],
)
def test_columns_that_only_select_are_not_read(
    options: dict[str, Any], unread: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "log.csv"
    file.write_text("user,item,rating,note\na,x,5,one\nb,y,4,two\n")
    assert unread_columns(file, **options) == unread


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ('item\n"Bread, white"\ntea\n', ["item", "Bread, white", "tea"]),
        ('"Bread, white"\n"6"" nails"\n', ["Bread, white", '6" nails']),
        ('"Heroes" live\n', ['"Heroes" live']),
        ('ann,"Bread, white"\n', None),
        ('"ann","tea"\n', None),
    ],
)
def test_a_quoted_comma_makes_no_second_column(text: str, labels: list[str] | None, tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text(text)
    column = read_column(file)
    assert (None if column is None else column.to_list()) == labels


@pytest.mark.parametrize(
    ("name", "write_file", "message"),
    [
        ("items.txt", lambda path: path.write_text('a\n"b\nc"\nd\n'), "quote that opens a label"),
        ("items.txt", lambda path: path.write_bytes(b"a\0b\n"), "no zero bytes"),
        ("items.txt", lambda path: path.write_bytes(b"caf\xe9\n"), "0xe9 in line 1"),
        ("items.parquet", lambda path: pl.DataFrame({"item": [["a"]]}).write_parquet(path), "saw List"),
        (
            "items.parquet",
            lambda path: pl.DataFrame({"item": [b"\xff"]}).write_parquet(path),
            "text in UTF-8",
        ),
        ("items.parquet", lambda path: pl.DataFrame({"item": [1.5]}).write_parquet(path), "no whole number"),
        ("items.parquet", lambda path: pl.DataFrame({"item": []}).write_parquet(path), "must have one"),
        ("items.txt", lambda path: path.write_text("\n \n"), "must have one"),
    ],
)
def test_bad_lists_of_labels(
    name: str, write_file: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    write_file(tmp_path / name)
    with pytest.raises(DataError, match=message):
        read_column(tmp_path / name)


def test_a_label_may_have_a_separator_of_unicode(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("a\u2028b\nc\x0bd\n")
    assert read_lines(tmp_path / "items.txt").to_list() == ["a\u2028b", "c\x0bd"]
