"""`unblur similar`, `explain`, `score` and `info`, conditions on items, and the options of every command."""

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from tests.cli.conftest import COLUMNS, Unblur
from unblur.data.interactions import Interactions
from unblur.models.linear.neighbours import ItemKNN


@pytest.fixture
def model(unblur: Unblur, events: Path, tmp_path: Path) -> Path:
    """An item-kNN with titles, categories and stock."""
    labels = pl.read_csv(events)["what"].unique().sort()
    number = pl.int_range(len(labels), eager=True)
    pl.DataFrame(
        {
            "sku": labels,
            "title": "Item no. " + number.cast(pl.String),
            "category": pl.Series(["odd" if n % 2 else "even" for n in number]),
            "stock": number,
        }
    ).write_parquet(tmp_path / "items.parquet")
    words = ("--model", "item-knn", "--items", tmp_path / "items.parquet", "--out", tmp_path / "model")
    result = unblur("fit", events, *COLUMNS, *words)
    assert result.code == 0, result.err
    return tmp_path / "model"


def document(unblur: Unblur, *words: str | Path) -> dict[str, object]:
    result = unblur(*words, "--json", "--quiet")
    assert result.code == 0, result.err
    assert result.err == ""
    values: dict[str, object] = json.loads(result.out)
    return values


def rows(values: dict[str, object]) -> list[dict[str, str]]:
    tables = values["tables"]
    assert isinstance(tables, list)
    return list(tables[0]["rows"])


def listed(values: dict[str, object], key: str) -> list[dict[str, Any]]:
    entries = values[key]
    assert isinstance(entries, list)
    return entries


def test_recommend_by_a_condition_and_a_limit(
    unblur: Unblur, model: Path, events: Path, tmp_path: Path
) -> None:
    words = ("recommend", model, "--histories", events, *COLUMNS, "--k", "6", "--out", tmp_path / "lists.csv")
    result = unblur(*words, "--where", 'category == "odd" and stock > 9', "--at-most", "1:category")
    assert result.code == 0, result.err
    lists = pl.read_csv(tmp_path / "lists.csv")
    assert lists.columns == ["user", "rank", "item", "title", "score", "fallback", "filled"]
    numbers = lists["title"].drop_nulls().str.strip_prefix("Item no. ").cast(int)
    assert (numbers > 9).all()
    assert (numbers % 2 == 1).all()
    assert lists["rank"].max() == 1
    assert lists["user"].n_unique() == 50
    for option, value, message in (
        ("--where", "stok > 1", "Did you mean 'stock'?"),
        ("--where", "stock >", "was expected at 'the end'"),
        ("--at-most", "1:colour", "'colour' is none of them"),
        ("--at-most", "many", "such as 2:category"),
        ("--diversity", "2", "Invalid value for '--diversity'"),  # the rest of it is typer's, by version
    ):
        refused = unblur(*words, option, value, "--overwrite")
        assert refused.code == 2
        assert message in " ".join(refused.err.split()), refused.err


def test_similar_items_of_several(unblur: Unblur, model: Path, tmp_path: Path) -> None:
    entries = listed(document(unblur, "similar", model, "item-03", "item-05", "--k", "2"), "lists")
    assert [entry["similar_to"] for entry in entries] == ["item-03", "item-03", "item-05", "item-05"]
    assert all(entry["title"].startswith("Item no. ") for entry in entries)
    (tmp_path / "some.txt").write_text("item-01\nitem-03\nunknown\n")
    words = (
        "similar",
        model,
        "item-03",
        "--candidates",
        tmp_path / "some.txt",
        "--out",
        tmp_path / "s.jsonl",
    )
    assert unblur(*words).out.startswith("items similar to 1, written to ")
    assert [json.loads(line)["item"] for line in (tmp_path / "s.jsonl").read_text().splitlines()] == [
        "item-01"
    ]
    assert "'item-99'" in unblur("similar", model, "item-99").err


def test_explanations_name_the_items_of_the_history(
    unblur: Unblur, model: Path, events: Path, tmp_path: Path
) -> None:
    words = ("explain", model, "--histories", events, *COLUMNS, "--users", "user-01")
    entries = listed(document(unblur, *words, "item-07", "--k", "99"), "reasons")
    had = pl.read_csv(events).filter(pl.col("who") == "user-01")["what"].to_list()
    assert sorted(entry["because_of"] for entry in entries) == sorted(had)
    assert sum(entry["share"] for entry in entries) == pytest.approx(entries[0]["score"], abs=1e-6)
    first = listed(document(unblur, *words), "reasons")
    question = ("recommend", model, "--histories", events, *COLUMNS, "--users", "user-01")
    lists = listed(document(unblur, *question), "lists")
    assert first[0]["item"] == lists[0]["item"]
    assert f"{lists[0]['title']} ({lists[0]['item']})" in unblur(*words).out
    assert "has 50. Name one: --users" in unblur("explain", model, "--histories", events, *COLUMNS).err
    (tmp_path / "new.csv").write_text("who,what\nnew,gone\n")
    refused = unblur("explain", model, "--histories", tmp_path / "new.csv", *COLUMNS)
    assert "an item that the model knows" in refused.err
    items = pl.read_parquet(tmp_path / "items.parquet")["sku"]
    (tmp_path / "all.csv").write_text("who,what\n" + "".join(f"all,{item}\n" for item in items))
    nothing = unblur("explain", model, "--histories", tmp_path / "all.csv", *COLUMNS)
    assert nothing.code == 0
    assert "nothing is left to recommend" in nothing.err


def test_given_pairs_are_scored_and_ordered(
    unblur: Unblur, model: Path, events: Path, tmp_path: Path
) -> None:
    """The scores are those of the model, items of the history among them; what is unknown is counted."""
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(
        "who,what\nuser-01,item-05\nuser-01,item-02\nuser-01,item-09\nuser-02,new\nuser-03,item-01\n"
    )
    out = tmp_path / "scored.parquet"
    result = unblur("score", model, pairs, "--histories", events, *COLUMNS, "--out", out)
    assert result.code == 0, result.err
    assert "1 of 5 pairs in" in result.err
    scored = pl.read_parquet(out)  # of the 50 users of the log those with a pair, and no other
    assert sorted(scored.select("user", "item").rows()) == [
        ("user-01", "item-02"),
        ("user-01", "item-05"),
        ("user-01", "item-09"),
        ("user-03", "item-01"),
    ]
    own = scored.filter(user="user-01")["score"]
    assert own.is_sorted(descending=True)
    import unblur as package
    from unblur.data.interactions import Interactions

    log = Interactions.read(events, user="who", item="what")
    loaded = package.load(model)
    expected = loaded.score(log.select_users(["user-01"]))[
        0, loaded.items.positions(["item-02", "item-05", "item-09"])
    ]
    assert sorted(own.to_list()) == sorted(expected.tolist())
    pairs.write_text("who,what\nuser-01,new\n")
    assert "Some pair must be of a user" in unblur("score", model, pairs, "--histories", events, *COLUMNS).err


def test_info_says_what_a_model_is(unblur: Unblur, model: Path) -> None:
    words = " ".join(unblur("info", model).out.split())
    for fact in (
        *("kind item-knn", "items 29, str labels", "side of the items yes", "fitted to 50 users, 29 items"),
        *("fingerprint of the data sha256:", "neighbours = 100", "needs histories over its items"),
    ):
        assert fact in words
    manifest: Any = document(unblur, "info", model)["model"]
    assert manifest["kind"] == "item-knn"
    assert manifest["items"]["size"] == 29
    assert manifest["provenance"]["n_users"] == 50
    assert manifest["spec"]["neighbours"] == 100
    assert unblur("info", model.parent).code == 2


def test_every_result_is_one_document_if_asked_for(
    unblur: Unblur, events: Path, parts: Path, tmp_path: Path
) -> None:
    words = ("fit", events, *COLUMNS, "--model", "popularity", "--out", tmp_path / "p")
    fitted = document(unblur, *words)
    assert (fitted["kind"], fitted["users"], fitted["out"]) == ("popularity", 50, str(tmp_path / "p"))
    assert unblur("fit", parts, "--model", "ease", "--out", tmp_path / "e").code == 0
    report = document(unblur, "evaluate", tmp_path / "e", "--data", parts, "--unknown-items", "ignore")[
        "report"
    ]
    assert isinstance(report, dict)
    assert report["measurements"]
    assert document(unblur, "recipes", "bspm/gowalla")["recipe"]
    assert len(rows(document(unblur, "recipes"))) > 20
    question = ("recommend", tmp_path / "p", "--histories", events, *COLUMNS)
    lists = listed(document(unblur, *question), "lists")
    assert unblur(*question, "--out", tmp_path / "lists.jsonl").code == 0
    assert lists == [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text().splitlines()]
    assert len({entry["user"] for entry in lists}) == 50  # all of them, where a terminal gets a glance
    described = document(unblur, "describe", events, *COLUMNS)
    assert described["users"] == 50
    assert str(described["command"]).startswith("unblur fit ")
    compared = ("compare", "popularity", "ease", "--data", events, *COLUMNS, "--trials", "2")
    compared += ("--out", tmp_path / "c")
    (popularity, ease) = listed(document(unblur, *compared, "--dry-run"), "plan")
    assert (popularity["settings"], ease["settings"], ease["fits"]) == (0, 2, 1)
    assert ease["seconds"] >= ease["fit_seconds"] > 0
    comparison = document(unblur, *compared)["comparison"]
    assert comparison == json.loads((tmp_path / "c" / "report.json").read_text())
    audited = unblur("audit", events, events, *COLUMNS, "--out", tmp_path / "a", "--json", "--quiet")
    assert json.loads(audited.out)["audit"] == json.loads((tmp_path / "a" / "report.json").read_text())
    refused = unblur("fit", events, "--model", "eese", "--out", tmp_path / "x", "--json")
    assert refused.code == 2
    assert refused.out == ""
    assert "Did you mean" in refused.err
    # Refused after a note on what was read: no result, no document.
    refused = unblur(
        "recommend", tmp_path / "p", "--histories", events, *COLUMNS, "--at-most", "1:no", "--json"
    )
    assert (refused.code, refused.out) == (2, "")
    assert "read as" in refused.err
    lines = unblur("recommend", tmp_path / "p", "--histories", events, *COLUMNS, "--out", "-", "--json").out
    assert lines.startswith("user,rank,item,score")
    assert len({line.partition(",")[0] for line in lines.splitlines()}) == 51


def test_quiet_keeps_notes_to_itself(unblur: Unblur, model: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("user,item\nanna,item-03\nanna,gone\n")
    words = ("recommend", model, "--histories", new)
    assert "were ignored" in unblur(*words).err
    assert "--unknown-items ignore" in unblur(*words, "--unknown-items", "raise").err
    new.write_text("user,item\nanna,item-03\n")  # known, though not all that the model knows
    assert unblur(*words, "--unknown-items", "raise").code == 0
    new.write_text("user,item\nanna,item-03\nanna,gone\n")
    assert unblur("--quiet", *words).err == ""
    assert "were ignored" in str(document(unblur, *words)["notes"])


LOG = "customer;sku;stars\nann;a;5\nann;b;4\nbob;a;5\nbob;c;5\ncleo;b;5\ncleo;c;1\n"


def choice(folder: Path, name: str) -> Path:
    """A file of items (a alone), or of pairs (a for cleo), under a header of its own."""
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(b"item\na\n"))
    elif name.endswith(".parquet"):
        pl.DataFrame({"anything": ["a", "unknown"]}).write_parquet(path)
    elif name.endswith(".feather"):
        pl.DataFrame({"item": ["a"], "user": ["cleo"]}).write_ipc(path)
    else:
        path.write_text(
            {
                "plain.txt": "a\n",
                "item.csv": "item\na\n",
                "kept.csv": "sku\na\nx\n",
                "some.jsonl": '{"item": "a"}\n',
            }.get(name)
            or {"pairs.csv": "user,item\ncleo,a\n", "own.csv": "customer;sku;stars\ncleo;a;1\n"}[name]
        )
    return path


@pytest.mark.parametrize(
    ("name", "is_of_items"),
    [
        *(
            (name, True)
            for name in ("plain.txt", "item.csv", "kept.csv", "some.jsonl", "item.csv.gz", "column.parquet")
        ),
        *((name, False) for name in ("pairs.csv", "own.csv", "pairs.feather")),
    ],
)
def test_items_and_pairs_have_columns_of_their_own(
    name: str, is_of_items: bool, unblur: Unblur, tmp_path: Path
) -> None:
    """The model keeps names of columns that other files need not have. Of a, b and c, ann has no c, bob no b, cleo no a."""
    log, model, path = tmp_path / "log.csv", tmp_path / "model", choice(tmp_path, name)
    log.write_text(LOG)
    kept = (
        "--user",
        "customer",
        "--item",
        "sku",
        "--rating",
        "ignore",
        "--delimiter",
        ";",
        "--model",
        "item-knn",
    )
    assert unblur("fit", log, *kept, "--out", model).code == 0
    words = ("recommend", model, "--histories", log, "--out", "-")

    def lists(option: str) -> tuple[list[str | None], str]:
        result = unblur(*words, option, path)
        assert result.code == 0, result.err
        return pl.read_csv(io.StringIO(result.out)).sort("user")["item"].to_list(), result.err

    excluded, remarks = lists("--exclude")
    assert excluded == ["c", "b", None]
    assert ("1 of 2 items" in remarks) == (
        name in ("kept.csv", "column.parquet")
    )  # x and unknown, not the header
    assert lists("--candidates")[0] == [None, None, "a"]
    similar = unblur("similar", model, "b", "--candidates", path)
    assert (similar.code, " a " in similar.out) == ((0, True) if is_of_items else (2, False))


def test_pairs_may_have_a_header_where_the_log_has_none(unblur: Unblur, tmp_path: Path) -> None:
    log, model, pairs = tmp_path / "log.csv", tmp_path / "model", tmp_path / "pairs.csv"
    log.write_text("1,10\n1,11\n2,10\n2,12\n")
    assert (
        unblur(
            "fit", log, "--no-header", "--user", "0", "--item", "1", "--model", "popularity", "--out", model
        ).code
        == 0
    )
    for content in ("user,item\n1,12\n", "item;user\n12;1\n", "1,12\n"):
        pairs.write_text(content)
        result = unblur("recommend", model, "--histories", log, "--exclude", pairs, "--out", "-")
        assert pl.read_csv(io.StringIO(result.out))["item"].to_list() == [None, 11], result.err


PEAK = """
import resource, sys
from unblur.cli.main import main
print(main(sys.argv[1:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_lists_of_more_users_take_no_more_memory(tmp_path: Path) -> None:
    """A hundred items each for 80,000 more users are eight million rows: 320 MB as arrays and a table."""
    has_item = np.random.default_rng(0).random((500, 200)) < 0.1
    ItemKNN().fit(Interactions.from_matrix(sparse.csr_array(has_item.astype(np.float32)))).save(
        tmp_path / "model"
    )
    peaks = []
    for n_users in (20_000, 100_000):
        users = pl.int_range(2 * n_users, eager=True) // 2
        pl.DataFrame({"user": users, "item": pl.Series([3, 150] * n_users)}).write_parquet(
            tmp_path / "log.parquet"
        )
        words = "recommend model --histories log.parquet --k 100 --out lists.parquet --overwrite --quiet"
        ran = subprocess.run(
            [sys.executable, "-c", PEAK, *words.split()],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        code, peak = ran.stdout.split()[-2:]
        assert code == "0", ran.stderr
        assert pl.scan_parquet(tmp_path / "lists.parquet").select(pl.len()).collect().item() == 100 * n_users
        peaks.append(int(peak))
    assert peaks[1] - peaks[0] < 160, peaks
