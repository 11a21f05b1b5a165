"""The catalogue, and finding, reading and checking local copies."""

import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from unblur import Interactions
from unblur.data import catalogue as datasets
from unblur.data.catalogue.listing import DATASETS, Content, Dataset, NamedReading
from unblur.data.files import write
from unblur.errors import CapabilityError, DataError

TRAIN = Interactions.from_pairs([0, 0, 1, 2], [0, 1, 1, 3], timestamps=[4, 5, 6, 7])
TEST = Interactions.from_pairs([1], [2], timestamps=[9])


def over(data: Interactions, *, timed: bool) -> Interactions:
    """The same pairs over users 0 to 2 and items 0 to 3, as numbered data sets are read."""
    from unblur.data.vocabulary import Vocabulary

    numbered = data.onto(users=Vocabulary.range(3), items=Vocabulary.range(4))
    return numbered if timed else Interactions(numbered.matrix, numbered.users, numbered.items)


def contents(*, timed: bool) -> dict[str, Content]:
    return {
        name: Content(data.n_interactions, over(data, timed=timed).fingerprint())
        for name, data in (("train", TRAIN), ("test", TEST))
    }


SMALL = Dataset(
    name="small",
    title="Small",
    n_users=3,
    n_items=4,
    numbered=(True, True),
    readings=(
        NamedReading(
            name="timed", meaning="", options={"labels": "int"}, timed=True, parts=contents(timed=True)
        ),
        NamedReading(
            name="pairs",
            meaning="",
            options={"labels": "int", "timestamp": "ignore"},
            parts=contents(timed=False),
        ),
    ),
    file_names={"train": ("train_list",), "test": ("test_list",)},
    by_hand="Ask for it.",
    licence="none",
    citation="none",
)


@pytest.fixture(autouse=True)
def _no_data_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNBLUR_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def copy(folder: Path, ending: str = "parquet", *, timed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (("train", TRAIN), ("test", TEST)):
        shown = data if timed else Interactions(data.matrix, data.users, data.items)
        write(shown, folder / f"{name}.{ending}", format="adjacency" if ending == "txt" else None)
    return folder


# ------------------------------------------------------------------------------------------- the catalogue


@pytest.mark.parametrize("known", DATASETS.values(), ids=list(DATASETS))
def test_every_entry_of_the_catalogue_is_complete(known: Dataset) -> None:
    assert known.title
    assert known.licence
    assert known.citation
    assert known.by_hand.endswith(".")
    assert len({reading.name for reading in known.readings}) == len(known.readings)
    for reading in known.readings:
        assert tuple(reading.parts) == known.parts
        for content in reading.parts.values():
            if content.fingerprint is not None:
                assert re.fullmatch("sha256:[0-9a-f]{64}", content.fingerprint)
                assert content.n_interactions is not None
    for download in known.downloads:
        assert download.address.startswith("https://")
        assert "/" not in download.save_as
        assert all("/" not in name for name in download.members.values())
    assert not (known.downloads and known.generated)
    assert known.n_users is not None or not any(known.numbered)


def test_the_data_sets_of_the_papers_are_known() -> None:
    papers = {
        *("gowalla", "yelp2018", "amazon-book", "amazon-book-kgat", "amazon-book-10529", "ml-100k", "ml-1m"),
        *(f"{name}_{kind}" for name in ("ml-1m", "yelp", "amazon-book") for kind in ("clean", "noisy")),
        *("sdrm_ml-100k", "sdrm_ml-1m", "sdrm_alb", "sdrm_adm"),
    }
    assert papers <= set(DATASETS)


def test_records_are_frozen() -> None:
    known = datasets.dataset("gowalla")
    with pytest.raises(FrozenInstanceError):
        known.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        DATASETS["other"] = known  # type: ignore[index]
    with pytest.raises(TypeError):
        known.readings[0].options["labels"] = "str"  # type: ignore[index]


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match="Did you mean 'gowalla'"):
        datasets.dataset("gowala")
    with pytest.raises(DataError, match=r"timed, pairs.*Did you mean 'pairs'"):
        SMALL.reading("pair")
    assert SMALL.reading().name == "timed"
    assert datasets.dataset(SMALL) is SMALL


# ------------------------------------------------------------------------------------------------- finding


def test_the_environment_comes_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_cache = copy(tmp_path / "cache" / "unblur" / "small")
    assert datasets.locate(SMALL)["train"] == in_cache / "train.parquet"
    monkeypatch.setenv("UNBLUR_DATA", str(tmp_path / "data"))
    assert datasets.locate(SMALL)["train"] == in_cache / "train.parquet"
    in_data = copy(tmp_path / "data" / "small")
    assert datasets.locate(SMALL) == {name: in_data / f"{name}.parquet" for name in ("train", "test")}
    elsewhere = copy(tmp_path / "elsewhere", "csv")
    assert datasets.locate(SMALL, elsewhere)["test"] == elsewhere / "test.csv"


def test_the_error_for_missing_data_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        CapabilityError, match=r"\$UNBLUR_DATA \(not set\).*unblur datasets fetch gowalla.*--data PATH"
    ):
        datasets.locate("gowalla")
    monkeypatch.setenv("UNBLUR_DATA", str(tmp_path / "data"))
    with pytest.raises(CapabilityError, match=r"Ask for it; set UNBLUR_DATA.*train, test"):
        datasets.load(SMALL)


def test_an_incomplete_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNBLUR_DATA", str(tmp_path))
    (copy(tmp_path / "small") / "test.parquet").unlink()
    with pytest.raises(DataError, match=r"lacks 'test' and holds 'train.parquet'. Ask for it"):
        datasets.locate(SMALL)


def test_own_data_need_no_name(tmp_path: Path) -> None:
    folder = copy(tmp_path / "own")
    assert set(datasets.locate(None, folder)) == {"train", "test"}
    assert datasets.locate("no such name", folder / "train.parquet") == {"all": folder / "train.parquet"}
    with pytest.raises(DataError, match="neither was"):
        datasets.locate(None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file of a known format, but nothing"):
        datasets.locate("gowalla", tmp_path / "empty")
    (tmp_path / "empty" / "part-0.csv").write_text("user,item\n1,2\n")
    assert datasets.locate(None, tmp_path / "empty") == {"all": tmp_path / "empty"}


# ------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "inter"])
def test_any_format_is_recognised(ending: str, tmp_path: Path) -> None:
    parts = datasets.load(SMALL, copy(tmp_path, ending))
    assert parts["train"].fingerprint() == over(TRAIN, timed=True).fingerprint()
    assert parts["train"].users == parts["test"].users
    assert parts["train"].items == parts["test"].items
    assert datasets.load(SMALL, tmp_path, reading="pairs")["test"].timestamps is None


@pytest.mark.parametrize("ending", ["txt", "npy"])
def test_formats_without_times_have_the_other_reading(ending: str, tmp_path: Path) -> None:
    copy(tmp_path, ending, timed=False)
    assert datasets.load(SMALL, tmp_path, reading="pairs")["train"].n_interactions == 4
    with pytest.raises(DataError, match=r"needs times.*or the reading 'pairs'"):
        datasets.load(SMALL, tmp_path)


def test_the_authors_file_names(tmp_path: Path) -> None:
    copy(tmp_path, "npy", timed=False)
    for part in ("train", "test"):
        (tmp_path / f"{part}.npy").rename(tmp_path / f"{part}_list.npy")
    assert set(datasets.load(SMALL, tmp_path, reading="pairs")) == {"train", "test"}


def test_a_damaged_copy_is_refused(tmp_path: Path) -> None:
    copy(tmp_path, "csv")
    (tmp_path / "train.csv").write_text((tmp_path / "train.csv").read_text().replace("2,3,7", "2,2,7"))
    with pytest.raises(
        DataError, match=r"The part train of small.*must be 4 interactions, sha256:.*holds 4, sha256:"
    ):
        datasets.load(SMALL, tmp_path)
    checks = {(check.part, check.reading): check.holds for check in datasets.verify(SMALL, tmp_path)}
    assert checks == {
        ("train", "timed"): False,
        ("train", "pairs"): False,
        ("test", "timed"): True,
        ("test", "pairs"): True,
    }
    (tmp_path / "train.csv").write_text("user,item,timestamp\n0,0,1\n5,0,1\n")
    with pytest.raises(DataError, match=r"no good copy of small, part train.*5"):
        datasets.load(SMALL, tmp_path)


def test_wrong_times_are_found(tmp_path: Path) -> None:
    copy(tmp_path, "csv")
    (tmp_path / "train.csv").write_text((tmp_path / "train.csv").read_text().replace("2,3,7", "2,3,8"))
    checks = {(check.part, check.reading): check.holds for check in datasets.verify(SMALL, tmp_path)}
    assert checks["train", "timed"] is False
    assert checks["train", "pairs"] is True


def test_other_data_in_place_of_a_known_set(tmp_path: Path) -> None:
    write(Interactions.from_pairs(["anna"], ["tea"]), tmp_path / "train.csv")
    write(Interactions.from_pairs(["anna"], ["milk"]), tmp_path / "test.csv")
    parts = datasets.load(SMALL, tmp_path, verify=False)
    assert parts["train"].items.to_list() == ["tea"]
    assert datasets.load(SMALL, tmp_path / "train.csv", verify=False, user=1, item=0)[
        "all"
    ].users.to_list() == ["tea"]
    with pytest.raises(DataError, match="verify=False"):
        datasets.load(SMALL, tmp_path, min_rating=3)
    with pytest.raises(DataError, match="stands for 'all'"):
        datasets.load(SMALL, tmp_path / "train.csv")


def test_content_without_a_fingerprint(tmp_path: Path) -> None:
    copy(tmp_path)
    counts = {"train": Content(4), "test": Content()}
    unknown = replace(SMALL, readings=(replace(SMALL.reading("pairs"), parts=counts),))
    assert set(datasets.load(unknown, tmp_path)) == {"train", "test"}
    assert [check.holds for check in datasets.verify(unknown, tmp_path)] == [None, None]
    wrong = replace(unknown, readings=(replace(unknown.readings[0], parts={**counts, "train": Content(5)}),))
    with pytest.raises(DataError, match=r"must be 5 interactions; .* holds 4"):
        datasets.load(wrong, tmp_path)
    assert [check.holds for check in datasets.verify(wrong, tmp_path)] == [False, None]
