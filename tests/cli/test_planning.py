"""`--dry-run`: what would be done, with time and memory, and nothing written."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import COLUMNS, Unblur
from unblur.data.interactions import Interactions
from unblur.experiment import estimate as estimates


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("fit", "LOG", "--model", "ease", "--out", "m"), ("ease 1 fit", "the model would be in m")),
        (
            ("compare", "popularity", "ease", "--data", "LOG", "--out", "m", "--trials", "3"),
            ("popularity 1 fit", "ease 3 settings in one pass, then 1 fit", "s for all models"),
        ),
        (
            (
                *("tune", "item-knn/gowalla", "--data", "LOG", "--out", "m", "--trials", "3"),
                *("--set", "search.validation.how=both", "--set", "search.validation.draws=2"),
            ),
            ("item-knn 3 settings of 4 fits, then 1 fit", "the best setting would be fitted"),
        ),
    ],
)
def test_nothing_is_written(
    words: tuple[str, ...],
    lines: tuple[str, ...],
    unblur: Unblur,
    events: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(events.parent)
    before = sorted(events.parent.iterdir())
    frame = events.read_text().replace("who,what", "user,item", 1)
    events.write_text(frame)
    result = unblur(*(str(events) if word == "LOG" else word for word in words), "--dry-run")
    assert result.code == 0, result.err
    for line in (*lines, "nothing was written"):
        assert line in " ".join(result.out.split()), result.out
    assert sorted(events.parent.iterdir()) == before


def test_a_line_through_two_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit of 1 s and 1 ms a user, 10 MB and 1 kB a user: 4,000 users take 5 s and 14 MB."""
    now, users = [0.0], []

    def work(train: Interactions) -> int:
        users.append(train.n_users)
        now[0] += 1 + train.n_users / 1000
        np.zeros(10_000_000 + 1000 * train.n_users, dtype=np.uint8)
        return 0

    monkeypatch.setattr(estimates.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(estimates, "rss_mb", lambda: 500.0)
    train = Interactions.from_pairs(np.arange(4000), np.zeros(4000, dtype=np.int64))
    cost = estimates.estimate(work, train)
    assert users == [500, 500, 1000]
    assert cost.seconds == pytest.approx(5)
    assert cost.memory_gb == pytest.approx(0.514, rel=0.01)


def test_what_is_kept_is_not_counted_again(unblur: Unblur, events: Path) -> None:
    """Results of a comparison, trials of a search; seeds and spaces count."""
    words = ("--data", events, *COLUMNS, "--out", events.parent / "c", "--space", "ease.ridge=[1,2,3,4]")

    def planned(*options: object) -> str:
        result = unblur("compare", "ease", "als", *words, *options, "--dry-run")
        assert result.code == 0, result.err
        return " ".join(result.out.split())

    few = ("--trials", "3", "--set", "protocol.resamples=0")
    assert "ease 3 settings in one pass, then 1 fit" in planned(*few)
    assert "als 1 fit" in planned(*few[2:])
    assert "als 2 fits" in planned(*few[2:], "--seeds", "2")
    assert unblur("compare", "ease", *words, *few).code == 0
    kept = {path: path.stat().st_mtime_ns for path in (events.parent / "c").rglob("*")}
    assert "ease none: its results are kept" in planned(*few)
    # ridge has five values, the one as given among them, and dropout is searched as well.
    assert "ease 7 settings in one pass (3 more are kept), then 1 fit" in planned("--trials", "10", *few[2:])
    assert kept == {path: path.stat().st_mtime_ns for path in (events.parent / "c").rglob("*")}
    result = unblur("compare", "ease", *words, *few, "--hold-out", "block", "--dry-run")
    assert (result.code, "same comparison" in result.err) == (2, True)


def test_settings_are_counted_in_words(unblur: Unblur, events: Path) -> None:
    events.write_text(events.read_text().replace("who,what", "user,item", 1))

    def tuned(trials: int, *options: str) -> str:
        out = events.parent / "tuned"
        result = unblur("tune", "ease/demo", "--data", events, "--out", out, "--trials", trials, *options)
        assert result.code == 0, result.err
        return " ".join(result.out.split())

    assert "ease 1 setting in one pass, then 1 fit" in tuned(1, "--dry-run")
    tuned(1)
    overwriting = ("--overwrite", "--dry-run")
    assert "ease 1 setting in one pass (1 more is kept), then 1 fit" in tuned(2, *overwriting)
    assert "ease no setting left (1 is kept), then 1 fit" in tuned(1, *overwriting)


def test_what_would_be_refused_is_said(unblur: Unblur, events: Path) -> None:
    words = (
        *("fit", events, *COLUMNS),
        *("--timestamp", "ignore", "--out", "m", "--dry-run"),
    )
    result = unblur(*words, "--model", "recency")
    assert result.code == 1
    assert "recency would fail" in result.err
