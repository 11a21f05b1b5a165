"""The public data sets themselves, if available: published counts, fingerprints, other formats."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from unblur import Interactions
from unblur.data import catalogue as datasets
from unblur.data.catalogue.listing import DATASETS
from unblur.data.files import read, write
from unblur.data.splits import Files
from unblur.errors import DataError

pytestmark = pytest.mark.realdata

COUNTS = {
    "gowalla": (29_858, 40_981, {"train": 810_128, "test": 217_242}),
    "yelp2018": (31_668, 38_048, {"train": 1_237_259, "test": 324_147}),
    "amazon-book-kgat": (70_679, 24_915, {"train": 652_514, "test": 193_920}),
    "amazon-book-10529": (10_529, 91_599, {"train": 625_378, "test": 159_285}),
    "ml-1m_clean": (5_949, 2_810, {"train": 403_277, "valid": 110_722, "test": 57_532}),
    "sdrm_ml-100k": (938, 1_008, {"train": 69_273, "test": 16_330, "valid": 9_612}),
    "sdrm_ml-1m": (6_034, 3_125, {"train": 700_333, "test": 193_662, "valid": 100_343}),
    "sdrm_alb": (1_344, 729, {"train": 10_626, "test": 3_070, "valid": 1_663}),
    "sdrm_adm": (10_621, 8_582, {"train": 75_917, "test": 21_683, "valid": 10_909}),
    "ml-1m": (6_040, 3_706, {"all": 1_000_209}),
    "ml-100k": (943, 1_682, {"all": 100_000}),
}


def require(name: str) -> None:
    if not (Path(os.environ["UNBLUR_DATA"]) / name).is_dir():
        pytest.skip(f"needs {name}, which is not under UNBLUR_DATA")


@pytest.mark.parametrize("name", COUNTS)
def test_every_reading_of_every_copy(name: str) -> None:
    require(name)
    checks = datasets.verify(name)
    assert checks
    assert [check for check in checks if check.holds is not True] == []
    known = DATASETS[name]
    n_users, n_items, counts = COUNTS[name]
    assert (known.n_users, known.n_items) == (n_users, n_items)
    everything = "observed" if len(known.readings) > 1 and name != "ml-1m_clean" else None
    parts = datasets.load(name, reading=everything)
    assert {part: data.n_interactions for part, data in parts.items()} == counts
    assert len({user for data in parts.values() for user in data.users.to_list()}) == n_users
    assert len({item for data in parts.values() for item in data.items.to_list()}) == n_items


@pytest.mark.parametrize("name", ["gowalla", "yelp2018"])
def test_a_split_of_given_files(name: str) -> None:
    require(name)
    parts = datasets.load(name)
    split = Files().apply(parts)
    assert split.train.matrix.shape == (DATASETS[name].n_users, DATASETS[name].n_items)
    assert split.train is parts["train"] or split.train.fingerprint() == parts["train"].fingerprint()


def test_other_formats_of_the_same_content(tmp_path: Path) -> None:
    require("gowalla")
    parts = datasets.load("gowalla")
    for folder in ("text", "matrix", "atomic"):
        (tmp_path / folder).mkdir()
    for part, data in parts.items():
        write(data, tmp_path / "text" / f"{part}.txt")
        write(data, tmp_path / "atomic" / f"{part}.inter")
        as_published = sparse.csr_matrix(data.matrix.astype(np.float64))
        sparse.save_npz(tmp_path / "matrix" / f"{part}.npz", as_published)
    for folder in ("text", "matrix", "atomic"):
        converted = datasets.load("gowalla", tmp_path / folder)
        assert {part: data.fingerprint() for part, data in converted.items()} == {
            part: data.fingerprint() for part, data in parts.items()
        }


def test_a_damaged_copy_is_refused(tmp_path: Path) -> None:
    require("gowalla")
    parts = datasets.load("gowalla")
    frame = parts["test"].to_frame().select("user", "item")
    write(parts["train"], tmp_path / "train.parquet")
    all_but_last = frame.head(frame.height - 1)
    write(Interactions.from_pairs(all_but_last["user"], all_but_last["item"]), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"must be 217,242 interactions.*holds 217,241"):
        datasets.load("gowalla", tmp_path)
    with pytest.raises(DataError, match="part train"):
        datasets.load("yelp2018", Path(os.environ["UNBLUR_DATA"]) / "gowalla")


def test_the_original_files_of_movielens(tmp_path: Path) -> None:
    require("ml-100k")
    rated = datasets.load("ml-100k", reading="rated")["all"]
    rows = rated.to_frame().select("user", "item", "weight", "timestamp").rows()
    lines = "".join(f"{user}\t{item}\t{int(rating)}\t{time}\n" for user, item, rating, time in rows)
    (tmp_path / "u.data").write_text(lines)
    assert [check.holds for check in datasets.verify("ml-100k", tmp_path)] == [True] * 3
    (tmp_path / "u.data").rename(tmp_path / "ratings.dat")
    (tmp_path / "ratings.dat").write_text(lines.replace("\t", "::"))
    assert [check.holds for check in datasets.verify("ml-100k", tmp_path)] == [True] * 3


def test_ratings_must_be_given_a_meaning() -> None:
    require("sdrm_ml-100k")
    file = Path(os.environ["UNBLUR_DATA"]) / "sdrm_ml-100k" / "train.parquet"
    with pytest.raises(DataError, match=r"What a rating means must be said.*from 0 to 1"):
        read(file)
    assert read(file, min_rating=1).n_interactions == 39_802
    assert read(file, rating="ignore").n_interactions == 69_273


def test_low_ratings_of_movielens_without_times() -> None:
    require("ml-1m")
    file = Path(os.environ["UNBLUR_DATA"]) / "ml-1m" / "ratings.parquet"
    assert read(file, min_rating=4).timestamps is not None
    with pytest.raises(DataError, match=r'no nulls; .* row 94678.*timestamp="ignore"'):
        read(file, rating="rating")
