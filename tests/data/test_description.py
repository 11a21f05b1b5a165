"""`describe`: counts of logs that are known, and what is doubtful about them."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from unblur.cli.main import main
from unblur.data.description import Description, describe

SHOP = """CustomerID,StockCode,InvoiceDate,Quantity
17850,A,2020-01-01 08:00:00,3
17850,A,2020-01-02 08:00:00,3
17851,B,2020-01-03 08:00:00,1
,B,2020-01-03 08:00:00,1
17850,C,2020-01-05 08:00:00,3
17851,A,2020-01-06 08:00:00,2
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.csv").write_text(SHOP)
    return tmp_path / "shop.csv"


def test_the_facts_of_a_log(shop: Path) -> None:
    described = describe(shop)
    assert described.facts == {
        "rows": 5,
        "rows_without_a_value": 1,
        "users": 2,
        "items": 3,
        "times": {"first": "2020-01-01 08:00:00", "last": "2020-01-06 08:00:00"},
        "pairs": 4,
        "rows_that_repeat_a_pair": 1,
        "density": 4 / 6,
        "share_of_items_seen_once": 2 / 3,
        "share_of_users_seen_once": 0.0,
        "rows_of_users": {"median": 2.5, "mean": 2.5, "most": 3},
        "rows_of_items": {"median": 1.0, "mean": 5 / 3, "most": 3},
        "users_like_robots": 0,
        "split_by_time": {
            "train_pairs": 3,
            "held_out_pairs": 1,
            "held_out_users": 1,
            "users_without_history": 0,
            "share_of_new_items": 0.0,
        },
    }
    assert not described.doubts
    assert described.options == {"on_null": "drop", "duplicates": "last"}
    assert describe(shop, on_null="drop", duplicates="sum").options == {}


def test_the_command_goes_on(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(shop)]) == 0
    printed = capsys.readouterr()
    command = f"unblur fit {shop} --on-null drop --duplicates last --out model"
    assert f"go on with: {command}" in printed.out
    assert "users from 'CustomerID', items from 'StockCode'" in printed.err
    model = str(tmp_path / "model")
    assert main([*command.split()[1:-1], model, "--model", "popularity"]) == 0
    assert main(["recommend", model, "--histories", str(shop)]) == 0  # what was said is kept


def described(folder: Path, **columns: Any) -> Description:
    pl.DataFrame(columns).write_parquet(folder / "log.parquet")
    return describe(folder / "log.parquet")


def test_ratings_are_described_and_a_limit_is_proposed(tmp_path: Path) -> None:
    of_stars = described(tmp_path, user=[1, 1, 2, 2], item=[1, 2, 1, 2], rating=[1, 5, 3, 0])
    assert of_stars.facts["ratings"] == {"lowest": 0.0, "mean": 2.25, "highest": 5.0}
    assert of_stars.options == {"min_rating": 4.0}
    assert describe(tmp_path / "log.parquet", min_rating=3).facts["rows_selected_by_rating"] == 2


def test_robots_are_found(tmp_path: Path) -> None:
    users = np.concatenate([np.repeat(np.arange(1000), 2), np.full(500, 7)])
    items = np.concatenate([np.tile([0, 1], 1000), np.arange(500) % 90])
    of_robots = described(tmp_path, user=users, item=items)
    assert of_robots.facts["users_like_robots"] == 1
    assert any("1 users have more than 20 rows" in doubt and ": 7;" in doubt for doubt in of_robots.doubts)


@pytest.mark.parametrize(
    ("columns", "doubt"),
    [
        ({"user": range(50), "item": [*range(49), 1]}, "each row has a user of its own"),
        ({"user": [*range(49), 1], "item": range(50)}, "each row has an item of its own"),
        ({"user": [1] * 50, "item": [*range(49), 1]}, "there is one user alone"),
        ({"user": range(50), "item": [1] * 50}, "there is one item alone"),
        ({"user": range(50), "item": [5] * 30 + [*range(20)]}, "one item has 62% of all rows"),
        ({"user": [1, 2], "item": [3, 4], "time": [1, 1_577_836_800]}, None),
        (
            {"user": [1, 2], "item": [3, 4], "time": ["1970-01-01", "2020-01-01"]},
            "are before 1992 or in the future",
        ),
        (
            {"user": [1, 1, 2], "item": [3, 4, 4], "time": ["2020-01-01"] * 2 + ["2020-01-02"]},
            "67% of rows are of one moment",
        ),
        ({"user": [1, 2, 2], "item": [3, 4, 5]}, "50% of users"),
    ],
)
def test_what_is_doubtful(columns: dict[str, Any], doubt: str | None, tmp_path: Path) -> None:
    doubts = described(tmp_path, **{name: list(values) for name, values in columns.items()}).doubts
    found = [each for each in doubts if doubt is not None and doubt in each]
    assert bool(found) == (doubt is not None and doubt != "50% of users")


def test_events_in_words_are_asked_about_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, model = tmp_path / "log.csv", str(tmp_path / "model")
    log.write_text("user,item,action,ts\na,x,view,1\na,x,buy,2\nb,x,buy,3\nb,y,view,4\nc,y,view,5\n")
    assert describe(log).doubts[0].startswith("the column 'action' was not read; if it says what happened")
    assert main(["describe", str(log), "--event-weights", "view=0,buy=2"]) == 0
    printed = capsys.readouterr().out
    command = f"unblur fit {log} --event-weights view=0,buy=2 --out model"
    assert f"go on with: {command}" in printed
    assert main([*command.split()[1:-1], model, "--model", "popularity"]) == 0
    lists = tmp_path / "lists.csv"
    assert main(["recommend", model, "--histories", str(log), "--filler", "none", "--out", str(lists)]) == 0
    # Views do not count, so x is all that is known, and bought by both who are left.
    assert lists.read_text().splitlines()[1:] == ["a,,,,false,false", "b,,,,false,false"]
    (tmp_path / "new.csv").write_text("user,item\nd,z\n")
    assert (
        main(
            ["recommend", model, "--histories", str(tmp_path / "new.csv"), "--out", str(lists), "--overwrite"]
        )
        == 0
    )
    assert "d,1,x,1.0" in lists.read_text()


def test_a_pattern_alone_is_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    for name, rows in {"a.csv": "1,10\n1,11\n", "b.csv": "2,10\n", "c.txt": "3,12\n"}.items():
        (tmp_path / "logs" / name).write_text(f"user,item\n{rows}")
    for pattern in ("logs/*.csv", f"{tmp_path}/logs/*.csv"):
        assert main(["describe", "--parts", pattern]) == 0
        printed = capsys.readouterr().out
        assert "users                      2" in printed
    assert "go on with: unblur fit . --parts" in printed
    assert main(["fit", "--parts", "logs/*.csv", "--model", "popularity", "--out", "model"]) == 0
    assert "2 users, 2 items and 3 interactions" in capsys.readouterr().out
    for words, message in (
        (
            ["describe"],
            "DATA must be given, a file or a folder; it is missing. Name it, or several files by a pattern",
        ),
        (["describe", "--parts", "logs/a.csv", "logs/b.csv"], "in a shell put it in quotes"),
        (["describe", "--parts", "log/*.csv"], "--parts must fit some file in .; 'log/*.csv' fits none"),
    ):
        assert main(words) == 2
        assert message in " ".join(capsys.readouterr().err.split())
