"""`unblur fit`, `evaluate` and `recommend` on a CSV file."""

import json
from pathlib import Path

import polars as pl
import pytest

import unblur as package
from tests.cli.conftest import COLUMNS, Unblur
from unblur.models.linear.ease import EASE
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.saving import models as artifact

TIMES = ("--timestamp", "ignore")


@pytest.fixture
def model(unblur: Unblur, events: Path, tmp_path: Path) -> Path:
    out = tmp_path / "model"
    result = unblur("fit", events, "--model", "ease", "--set", "model.ridge=10", *COLUMNS, "--out", out)
    assert result.code == 0, result.err
    return out


def test_fit_saves_a_model(unblur: Unblur, model: Path) -> None:
    assert package.load(model).spec == EASE(ridge=10)
    origin = artifact.read_manifest(model)["provenance"]
    assert origin["train"].startswith("sha256:")
    assert origin["n_users"] == 50


def test_fit_takes_bspm_and_recipes(unblur: Unblur, events: Path, tmp_path: Path) -> None:
    settings = ("--set", "model.low_pass.rank=8")
    result = unblur("fit", events, *settings, *COLUMNS, "--out", tmp_path / "first")
    assert result.code == 0, result.err
    assert "bspm fitted to 50 users" in result.out
    assert package.load(tmp_path / "first").spec == BSPM(low_pass=LowPass(rank=8))
    assert (
        unblur(
            "fit", events, "--model", "bspm/gowalla", *settings, *COLUMNS, "--out", tmp_path / "second"
        ).code
        == 0
    )
    assert package.load(tmp_path / "second").spec.low_pass == LowPass(rank=8, weight=0.2)


def test_fit_takes_the_train_file_of_a_folder(unblur: Unblur, parts: Path, tmp_path: Path) -> None:
    result = unblur("fit", parts, "--model", "popularity", "--out", tmp_path / "model")
    assert result.code == 0, result.err
    assert "'test' not used" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "eese"), "Did you mean 'ease'?"),
        (("--model", "bspm/gowala"), "Did you mean 'bspm/gowalla'?"),
        (("--user", "whom", "--item", "what"), "'whom'"),
        (("--user", "7", "--item", "what"), "7"),
        (("--min-rating", "3", *COLUMNS), "rating"),
        (("--format", "excel", *COLUMNS), "[data] read.format of Data"),
        (("--duplicates", "drop", *COLUMNS), "[data] read.duplicates of Data"),
        (("--set", "split.kind=random", *COLUMNS), "split.kind has no effect here"),
        (("--set", "model.rnk=8", *COLUMNS), "rnk is not a hyper-parameter"),
    ],
)
def test_fit_refuses(
    unblur: Unblur, events: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    result = unblur("fit", events, *words, "--out", tmp_path / "model")
    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "model").exists()


def test_fit_does_not_touch_an_existing_folder(
    unblur: Unblur, events: Path, model: Path, tmp_path: Path
) -> None:
    before = (model / "manifest.json").read_bytes()
    result = unblur("fit", events, "--model", "popularity", *COLUMNS, "--out", model)
    assert result.code == 2
    assert "must be new or empty" in result.err
    assert (model / "manifest.json").read_bytes() == before
    assert unblur("fit", events, "--model", "popularity", *COLUMNS, "--out", model, "--overwrite").code == 0
    assert package.load(model).spec.kind == "popularity"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    assert (
        unblur("fit", events, *COLUMNS, "--model", "ease", "--out", tmp_path / "mine", "--overwrite").code
        == 2
    )
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


# -------------------------------------------------------------------------------------------------- recommend


def test_recommend_writes_lists_with_the_callers_labels(
    unblur: Unblur, model: Path, events: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lists.parquet"
    result = unblur("recommend", model, "--histories", events, *COLUMNS, "--k", "4", "--out", out)
    assert result.code == 0, result.err
    lists = pl.read_parquet(out)
    assert lists["user"].n_unique() == 50
    assert lists["rank"].max() == 4
    had = pl.read_csv(events).select(pl.col("who").alias("user"), pl.col("what").alias("item"))
    assert lists.join(had, on=["user", "item"]).is_empty()


def test_recommend_prints_a_few(unblur: Unblur, model: Path, events: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "candidates.txt"
    chosen.write_text("item-01\nitem-02\n\nitem-03\n")
    words = ("--users", "user-03, user-01", "--candidates", chosen, "--k", "2")
    result = unblur("recommend", model, "--histories", events, *COLUMNS, *words)
    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.splitlines() if line.strip().startswith("user-")]
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
    assert {row[1] for row in rows} <= {"item-01", "item-02", "item-03", "–"}


def test_recommend_for_a_new_user(unblur: Unblur, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("user,item\nnewcomer,item-07\nnewcomer,item-unheard-of\n")
    result = unblur("recommend", model, "--histories", path, "--k", "3", "--unknown-items", "raise")
    assert result.code == 2
    assert "item-unheard-of" in result.err
    result = unblur("recommend", model, "--histories", path, "--k", "3")
    assert result.code == 0, result.err
    assert "newcomer" in result.out
    assert "1 history interactions with items that the model never saw were ignored" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--k", "0"), "k must be"),
        (("--unknown-items", "drop"), "--unknown-items must be one of raise, ignore; saw 'drop'"),
        (("--filler", "random"), "--filler must be one of popular, none; saw 'random'"),
        (("--candidates", "/nonexistent"), "holds no 'nonexistent'"),
    ],
)
def test_recommend_refuses(
    unblur: Unblur, model: Path, events: Path, words: tuple[str, ...], message: str
) -> None:
    result = unblur("recommend", model, "--histories", events, *COLUMNS, *words)
    assert result.code == 2
    assert message in result.err


def test_recommend_with_integer_labels(unblur: Unblur, tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    pairs = [(user, item) for user in range(6) for item in range(7) if (user + item) % 3]
    path.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in pairs))
    assert unblur("fit", path, "--model", "popularity", "--out", tmp_path / "m").code == 0
    words = ("recommend", tmp_path / "m", "--histories", path, "--k", "1")
    result = unblur(*words, "--users", "4")
    assert result.code == 0, result.err
    assert "--users must be whole numbers" in unblur(*words, "--users", "anna").err


def test_a_damaged_model_is_refused(unblur: Unblur, model: Path, events: Path) -> None:
    (model / "tensors.safetensors").unlink()
    result = unblur("recommend", model, "--histories", events, *COLUMNS)
    assert result.code == 2
    assert "tensors.safetensors" in result.err


# --------------------------------------------------------------------------------------------------- evaluate


def test_evaluate_on_parts(unblur: Unblur, parts: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "report.json"
    assert unblur("fit", parts, "--model", "ease", "--out", model).code == 0
    settings = ("--set", "protocol.cutoffs=[3, 5]", "--set", 'protocol.metrics=["recall","mrr"]')
    result = unblur("evaluate", model, "--data", parts, *settings, "--unknown-items", "ignore", "--out", out)
    assert result.code == 0, result.err
    report = json.loads(out.read_text())
    names = [entry["name"] for entry in report["measurements"]]
    assert names[:6] == ["recall@3", "recall@5", "mrr@3", "mrr@5", "coverage@3", "coverage@5"]
    assert "novelty@3" in names
    assert sum(name.startswith("recall@3 of users with") for name in names) == 3
    assert report["recipe"] == "ease/own"
    assert report["provenance"]["spec"]["ridge"] == 500


def test_evaluate_holds_out_of_other_data(unblur: Unblur, model: Path, events: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    pl.read_csv(events).filter(pl.col("who") < "user-30").write_csv(other)
    words = ("evaluate", model, "--data", other, *COLUMNS, "--set", "protocol.cutoffs=[5]")
    result = unblur(*words, "--hold-out", "0.3")
    assert result.code == 0, result.err
    assert "it was not checked" in result.out
    assert "the latest 30% of its interactions were held out" in result.out
    assert "a random 30%" in unblur(*words, *TIMES, "--hold-out", "0.3").out
    result = unblur(*words)
    assert result.code == 2
    assert "--hold-out 0.2" in result.err


def test_evaluate_refuses_to_hold_out_of_the_training_data(unblur: Unblur, model: Path, events: Path) -> None:
    result = unblur("evaluate", model, "--data", events, *COLUMNS, "--hold-out", "0.2")
    assert result.code == 2
    assert "the model was fitted to all of these" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "model.ridge=1"), "model.ridge has no effect here"),
        (("--set", "protocol.kind=strict"), "A saved model must be measured as it is"),
        (
            ("--hold-out", "0.5", "--user", "user", "--item", "item"),
            "Parts that are given are measured as they are; saw 'train', 'test'",
        ),
        (("--new-users", "drop"), "--new-users must be one of leave-out, popular"),
    ],
)
def test_evaluate_refuses(
    unblur: Unblur, model: Path, parts: Path, words: tuple[str, ...], message: str
) -> None:
    result = unblur("evaluate", model, "--data", parts, *words)
    assert result.code == 2
    assert message in result.err


WEEK = "who,what\nann,p\nann,r\nbob,r\nbob,new\nbob,newer\nzoe,q\n"
"""After a log in which ann has p and q, and bob q: ann takes p again, two items are new to the model, and so is zoe."""


def test_evaluate_on_a_real_next_week(unblur: Unblur, tmp_path: Path) -> None:
    log, week = tmp_path / "log.csv", tmp_path / "week.csv"
    log.write_text("who,what\nann,p\nann,q\nbob,q\ncat,q\ncat,r\ncat,p\n")
    week.write_text(WEEK)
    assert unblur("fit", log, *COLUMNS, "--model", "popularity", "--out", tmp_path / "m").code == 0

    def evaluated(*options: str, k: int = 1) -> tuple[dict[str, tuple[float, int]], str]:
        out = tmp_path / "report.json"
        words = ("--set", f"protocol.cutoffs=[{k}]", "--set", 'protocol.metrics=["recall"]', "--out", out)
        result = unblur(
            *("evaluate", tmp_path / "m", "--data", week, "--histories", log, *words, "--overwrite", *options)
        )
        assert result.code == 0, result.err
        report = json.loads(out.read_text())
        figures = {entry["name"]: (entry["value"], entry["n_users"]) for entry in report["measurements"]}
        return figures, "; ".join(report["notes"])

    # ann gets r, the only item that she has not, and bob p, which has more users than r.
    figures, notes = evaluated()
    assert figures["recall@1"] == (0.5, 2)
    assert figures["coverage@1"][0] == 2 / 3
    assert "1 users of the part 'test' have no history in train and were left out" in notes
    assert (
        "2 of 4 interactions of the held-out items are with items unknown to the model and were left out"
        in notes
    )
    assert (
        "1 of 5 held-out interactions are with items that their user has in train and were left out" in notes
    )
    # With a repurchase ann's held-out items are p and r, and both lists begin with q, which has most users.
    figures, notes = evaluated("--keep-seen")
    assert figures["recall@1"] == (0.0, 2)
    assert "1 of 5 held-out interactions are with items that their user has in train and count" in notes
    figures, _ = evaluated("--keep-seen", k=3)
    assert figures["recall@3"] == (1.0, 2)
    # zoe is given popular items: q, which she takes.
    figures, notes = evaluated("--new-users", "popular")
    assert figures["recall@1"] == (2 / 3, 3)
    assert "1 users without a history were given popular items" in notes
    result = unblur(
        "evaluate", tmp_path / "m", "--data", week, "--histories", log, "--unknown-items", "raise"
    )
    assert result.code == 2
    assert "new" in result.err
    result = unblur("evaluate", tmp_path / "m", "--data", log, "--hold-out", "0.3", "--keep-seen")
    assert "--hold-out takes a part of one log" in result.err


def test_what_was_rated_low_stays_seen(unblur: Unblur, tmp_path: Path) -> None:
    """In fit, recommend and evaluate: b is what most like, and ann, who rated it low, has c held out.

    Liked are a by ann, b by four, c by two, d by dan: the list of ann begins with b unless that counts as seen.
    """
    parts, model = tmp_path / "parts", tmp_path / "model"
    parts.mkdir()
    liked = (
        "".join(f"{user},b,5,1\n" for user in ("bob", "cleo", "dan", "eve"))
        + "bob,c,4,1\ncleo,c,5,1\ndan,d,5,1\n"
    )
    train = f"user,item,rating,time\nann,a,5,1\nann,b,2,1\n{liked}"
    (parts / "train.csv").write_text(train)
    (parts / "test.csv").write_text("user,item,rating,time\nann,c,4,2\nbob,a,1,2\n")
    fitted = unblur("fit", parts, "--min-rating", "4", "--model", "popularity", "--out", model)
    assert "5 users, 4 items and 8 interactions" in fitted.out
    lists = unblur("recommend", model, "--histories", parts / "train.csv", "--users", "ann", "--out", "-").out
    assert [line.split(",")[2] for line in lists.splitlines()[1:]] == ["c", "d"]
    words = ("evaluate", model, "--set", "protocol.cutoffs=[1]")
    report = unblur(*words, "--data", parts, "--out", "-").out
    assert json.loads(report)["measurements"][0]["value"] == 1
    assert any("1 pairs of the histories that are rated low" in note for note in json.loads(report)["notes"])
    week = ("--data", parts / "test.csv", "--histories", parts / "train.csv", "--out", "-")
    # Bought again is what was liked: b stays out with --keep-seen as well.
    for options in ((), ("--keep-seen",)):
        values = json.loads(unblur(*words, *week, *options).out)["measurements"]
        assert values[0]["value"] == 1
    again = (
        "recommend",
        model,
        "--histories",
        parts / "train.csv",
        "--users",
        "ann",
        "--keep-seen",
        "--out",
        "-",
    )
    result = unblur(*again)
    assert [line.split(",")[2] for line in result.out.splitlines()[1:]] == ["c", "a", "d"]
    assert result.err.count("read as") == 1
    # Of one log, only what was rated before the held-out item: not d, which ann has the moment after.
    (tmp_path / "log.csv").write_text(train + "ann,c,4,2\nann,d,1,3\n")
    latest = ("--set", "split.kind=leave-last", "--unknown-items", "ignore")
    report = unblur(*words, "--data", tmp_path / "log.csv", *latest, "--out", "-").out
    assert any("1 pairs of the histories that are rated low" in note for note in json.loads(report)["notes"])


def test_an_unwritable_folder_is_refused_before_the_fit(
    unblur: Unblur, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "unblur.models.popularity.Popularity.learn", lambda *_, **__: pytest.fail("it was fitted")
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    words = (
        "fit",
        events,
        *COLUMNS,
        "--model",
        "popularity",
        "--overwrite",
        "--out",
    )
    assert "with nothing else in it, is ever overwritten" in " ".join(
        unblur(*words, tmp_path / "mine").err.split()
    )
    assert "in a folder that can be written to" in " ".join(
        unblur(*words, tmp_path / "mine" / "notes.txt" / "a").err.split()
    )


def test_small_logs_get_the_setting_that_works_for_them(unblur: Unblur, tmp_path: Path) -> None:
    """What a message says about stopping early is a setting that the command then takes."""
    log, words = tmp_path / "log.csv", ("--model", "mult-vae", "--set", "model.epochs=1")
    log.write_text("user,item\n" + "".join(f"{user},{item}\n" for user in range(8) for item in (user % 3, 3)))
    refused = unblur("fit", log, *words, "--out", tmp_path / "refused")
    assert "Lower it, such as to 'ndcg@2'" in refused.err
    lowered = ("--set", "model.stopping.metric=ndcg@2")
    assert unblur("fit", log, *words, *lowered, "--out", tmp_path / "lowered").code == 0
    log.write_text("user,item\n" + "".join(f"{user},{user % 30}\n" for user in range(60)))
    refused = unblur("fit", log, *words, "--out", tmp_path / "refused")
    assert "--set model.stopping=off" in refused.err
    assert unblur("fit", log, *words, "--set", "model.stopping=off", "--out", tmp_path / "off").code == 0
