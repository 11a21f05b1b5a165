"""`--dry-run`: what would be done, with time and memory, and nothing written."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import COLUMNS, Unblur
from unblur.data.interactions import Interactions
from unblur.experiment import estimate as estimates
from unblur.progress import Run


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("fit", "LOG", "--model", "ease", "--out", "m"), ("ease 1", "the model would be in m")),
        (
            ("compare", "popularity", "ease", "--data", "LOG", "--out", "m", "--trials", "3"),
            ("popularity 4", "ease 4", "at most 3 settings of each model would be tried"),
        ),
        (
            (
                "tune",
                "ease/gowalla",
                "--data",
                "LOG",
                "--out",
                "m",
                "--trials",
                "3",
                "--set",
                "search.validation.draws=1",
            ),
            ("ease 4", "3 settings would be tried"),
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

    class Model:
        def tensors(self) -> dict[str, object]:
            return {}

    class Spec:
        def fit_in(self, run: Run, train: Interactions, *, rng: int) -> Model:
            users.append(train.n_users)
            now[0] += 1 + train.n_users / 1000
            self.held = np.zeros(10_000_000 + 1000 * train.n_users, dtype=np.uint8)
            del self.held
            return Model()

        def plans(self) -> dict[str, object]:
            return {}

    monkeypatch.setattr(estimates.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(estimates, "rss_mb", lambda: 500.0)
    train = Interactions.from_pairs(np.arange(4000), np.zeros(4000, dtype=np.int64))
    cost = estimates.estimate(Spec(), train, Run())  # type: ignore[arg-type]
    assert users == [500, 500, 1000, 1000]
    assert cost.n_users == (500, 1000)
    assert cost.seconds == pytest.approx(5)
    assert cost.memory_gb == pytest.approx(0.514, rel=0.01)


def test_what_would_be_refused_is_said(unblur: Unblur, events: Path) -> None:
    words = (
        "fit",
        events,
        *COLUMNS,
        "--timestamp",
        "ignore",
        "--out",
        "m",
        "--dry-run",
    )
    result = unblur(*words, "--model", "recency")
    assert result.code == 1
    assert "recency would fail" in result.err
