"""Progress on stderr: nothing for quick stages, sparse lines without a terminal, bars on one."""

import io
from typing import Any

import pytest

from unblur.cli import terminal as module
from unblur.cli.terminal import ProgressDisplay
from unblur.progress import ProgressEvent


class Clock:
    """A clock that the test advances."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(module, "time", fake)
    return fake


def follow(clock: Clock, seconds: float) -> None:
    with ProgressDisplay() as display:
        for done in range(101):
            clock.now = done / 100 * seconds
            display(ProgressEvent("score users", done * 10, 1000, {"loss": 0.5} if done else {}))


def test_quick_stages_print_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    follow(clock, 1.9)
    assert capsys.readouterr() == ("", "")


def test_long_stages_print_a_line_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    follow(clock, 60.0)
    out, err = capsys.readouterr()
    assert not out
    lines = err.splitlines()
    assert lines[0] == "score users: 40 of 1,000, 2 s, loss 0.5"
    assert lines[-1] == "score users: 1,000 of 1,000, 60 s, loss 0.5"
    assert 4 <= len(lines) <= 6


def test_stages_without_a_known_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay() as display:
        for second in range(0, 40, 10):
            clock.now = float(second)
            display(ProgressEvent("train", second))
    assert capsys.readouterr().err.splitlines() == ["train: 10, 10 s", "train: 30, 30 s"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("seconds", "left"), [(1.0, False), (9.0, True)])
def test_bars_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, seconds: float, left: bool
) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    follow(clock, seconds)
    last: Any = screen.getvalue().rpartition("\r")[2]
    assert ("1000/1000" in last) == left


def test_the_batches_of_all_epochs_share_a_bar(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with ProgressDisplay() as display:
        for epoch in (1, 2, 3):
            clock.now += 9.0
            display(ProgressEvent(f"train, epoch {epoch}", 70, 80, kind="batch"))
            display(ProgressEvent("train", epoch, 9, {"loss": 0.5}, kind="epoch"))
        clock.now += 9.0
    last: Any = screen.getvalue().rpartition("\r")[2]
    assert "3/9" in last
    assert [f"train, epoch {epoch}" in last for epoch in (1, 2, 3)] == [False, False, True]
