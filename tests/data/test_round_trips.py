"""Interactions written in any format are read back with the same content."""

import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from unblur import Interactions
from unblur.data.files import read, write, write_parquet
from unblur.errors import ArtifactError, DataError

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

numbers = st.one_of(st.integers(0, 30), st.integers(0, 2**63 - 1))
words = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=8)
plain_words = st.text(string.ascii_letters + string.digits + "._-é", min_size=1, max_size=8)


UNITS = st.sampled_from([(-(2**62), 10**7), (10**8, 10**11 - 1), (10**11, 10**14 - 1), (10**17, 2**62)])
"""Times that can be of one unit, and are not eight digits of a date."""


@st.composite
def interactions(draw: st.DrawFn, labels: Any, extras: bool = True) -> Interactions:
    """A few interactions; with `extras` sometimes weights and times."""
    pairs = draw(st.lists(st.tuples(labels, labels), min_size=1, max_size=30, unique=True))
    n = len(pairs)
    columns: dict[str, Any] = {}
    if extras and draw(st.booleans()):
        weight = st.floats(2.0**-20, 2.0**20, width=32)
        columns["weights"] = np.array(draw(st.lists(weight, min_size=n, max_size=n)), dtype=np.float32)
    if extras and draw(st.booleans()):
        columns["timestamps"] = draw(st.lists(st.integers(*draw(UNITS)), min_size=n, max_size=n))
    return Interactions.from_pairs([user for user, _ in pairs], [item for _, item in pairs], **columns)


def same(one: Interactions, other: Interactions) -> bool:
    return one.fingerprint() == other.fingerprint()


@quick
@given(data=st.one_of(interactions(numbers), interactions(words)))
def test_parquet(data: Interactions, tmp_path: Path) -> None:
    write(data, tmp_path / "log.parquet")
    labels = {} if data.users.kind == "int" else {"labels": "str"}
    assert same(read(tmp_path / "log.parquet", **labels), data)


@quick
@given(data=interactions(numbers), ending=st.sampled_from(["csv", "tsv", "inter"]))
def test_text_with_integer_labels(data: Interactions, ending: str, tmp_path: Path) -> None:
    write(data, tmp_path / f"log.{ending}")
    assert same(read(tmp_path / f"log.{ending}"), data)


@quick
@given(data=interactions(words), ending=st.sampled_from(["csv", "tsv"]))
def test_text_with_any_strings(data: Interactions, ending: str, tmp_path: Path) -> None:
    write(data, tmp_path / f"log.{ending}")
    assert same(read(tmp_path / f"log.{ending}", labels="str"), data)


@quick
@given(
    data=st.one_of(interactions(plain_words), interactions(numbers)),
    delimiter=st.sampled_from(["::", "||", "→", ";", "|", "\t"]),
)
def test_any_delimiter(data: Interactions, delimiter: str, tmp_path: Path) -> None:
    labels = "auto" if data.users.kind == "int" else "str"
    write(data, tmp_path / "log.csv", delimiter=delimiter)
    assert same(read(tmp_path / "log.csv", delimiter=delimiter, labels=labels), data)
    if delimiter not in ("||", "→"):
        assert same(read(tmp_path / "log.csv", labels=labels), data)


@quick
@given(data=interactions(plain_words))
def test_recbole_with_strings(data: Interactions, tmp_path: Path) -> None:
    write(data, tmp_path / "log.inter")
    assert same(read(tmp_path / "log.inter", labels="str"), data)


@quick
@given(data=interactions(numbers, extras=False))
def test_pairs_only(data: Interactions, tmp_path: Path) -> None:
    write(data, tmp_path / "log.npy")
    assert same(read(tmp_path / "log.npy"), data)
    write(data, tmp_path / "log.txt")
    assert same(read(tmp_path / "log.txt", format="adjacency"), data)


@quick
@given(
    cells=st.dictionaries(
        st.tuples(st.integers(0, 5), st.integers(0, 5)), st.floats(0.5, 5, width=32), min_size=1
    ),
    ones=st.booleans(),
)
def test_matrix_keeps_empty_rows_and_columns(
    cells: dict[tuple[int, int], float], ones: bool, tmp_path: Path
) -> None:
    dense = np.zeros((6, 6), dtype=np.float32)
    for cell, weight in cells.items():
        dense[cell] = 1.0 if ones else weight
    data = Interactions.from_matrix(dense)
    write(data, tmp_path / "log.npz")
    assert same(read(tmp_path / "log.npz"), data)


@quick
@given(data=interactions(numbers, extras=False))
def test_the_fingerprint_does_not_depend_on_the_format(data: Interactions, tmp_path: Path) -> None:
    names = ["a.parquet", "a.csv", "a.tsv", "a.inter", "a.npy"]
    for name in names:
        write(data, tmp_path / name)
    assert {read(tmp_path / name).fingerprint() for name in names} == {data.fingerprint()}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.npy", {"weights": [2.0]}, "holds pairs only"),
        ("a.txt", {"timestamps": [5]}, "holds pairs only"),
        ("a.npz", {"timestamps": [5]}, "neither labels nor times"),
        ("a.docx", {}, "tells none"),
    ],
)
def test_content_that_a_format_cannot_hold_is_refused(
    name: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    data = Interactions.from_pairs([0], [0], **options)
    with pytest.raises(DataError, match=message):
        write(data, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "label"),
    [("a.txt", "two words"), ("a.inter", "tab\there"), ("a.txt", ""), ("a.npy", "word"), ("a.npz", "word")],
)
def test_labels_that_a_format_would_break_are_refused(name: str, label: str, tmp_path: Path) -> None:
    data = Interactions.from_pairs([label], ["item"])
    with pytest.raises(DataError, match=r"(?i)labels"):
        write(data, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Interactions.from_pairs([1, 2], [3, 4])
    write(data, tmp_path / "log.parquet")
    before = (tmp_path / "log.parquet").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unblur.data.output.os.fsync", full)
    with pytest.raises(ArtifactError, match=r"written whole; .*No space left on device"):
        write_parquet(data.to_frame(), tmp_path / "log.parquet")
    assert (tmp_path / "log.parquet").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["log.parquet"]


def test_writing_needs_a_place(tmp_path: Path) -> None:
    data = Interactions.from_pairs([1], [2])
    with pytest.raises(ArtifactError, match="must exist"):
        write(data, tmp_path / "nowhere" / "log.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ArtifactError, match="must not be a folder"):
        write(data, tmp_path / "folder.csv")
