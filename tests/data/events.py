"""Random event logs for the property tests, and their expected contents, computed with dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from unblur.data.interactions import Interactions

Label = int | str
Pair = tuple[Label, Label]


@dataclass(frozen=True)
class Events:
    """Parallel columns, one entry an event."""

    users: list[Any]
    items: list[Any]
    weights: list[float] | None = None
    timestamps: list[int] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def columns(self) -> dict[str, Any]:
        """The arguments of `Interactions.from_pairs`."""
        return {
            "users": self.users,
            "items": self.items,
            "weights": self.weights,
            "timestamps": self.timestamps,
        }

    def ordered(self, order: list[int]) -> Events:
        """The same events in another order."""
        return Events(
            [self.users[at] for at in order],
            [self.items[at] for at in order],
            None if self.weights is None else [self.weights[at] for at in order],
            None if self.timestamps is None else [self.timestamps[at] for at in order],
        )

    def first_of_each_pair(self) -> Events:
        """The events without the later ones of a pair that occurs twice."""
        first: dict[Pair, int] = {}
        for at, pair in enumerate(zip(self.users, self.items, strict=True)):
            first.setdefault(pair, at)
        return self.ordered(list(first.values()))

    def with_times(self) -> Events:
        """The same events, with their positions as times if they have none."""
        return replace(self, timestamps=self.timestamps or list(range(len(self))))


def labels(kind: str) -> st.SearchStrategy[Any]:
    """Labels, so few that pairs repeat; the integers are not dense, the strings not only ASCII."""
    if kind == "int":
        return st.sampled_from([0, 1, 2, 3, 5, 8, 2**31 + 7, 2**62])
    return st.sampled_from(["", "a", "b", "ä", "Z", "10", "9", "東京", "a b"])


@st.composite
def events(draw: st.DrawFn, *, least: int = 0, most: int = 30, weights: bool = True) -> Events:
    """An event log; weights are halves, so that sums of them are exact."""
    size = draw(st.integers(least, most))

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=size, max_size=size))

    users = column(labels(draw(st.sampled_from(["int", "str"]))))
    items = column(labels(draw(st.sampled_from(["int", "str"]))))
    rated = draw(st.booleans()) and weights
    return Events(
        users,
        items,
        column(st.integers(1, 20).map(lambda halves: halves / 2)) if rated else None,
        column(st.integers(-5, 5)) if draw(st.booleans()) else None,
    )


def contents(data: Interactions) -> dict[Pair, tuple[float, int | None]]:
    """Weight and time of each pair, keyed by its labels."""
    frame = data.to_frame()
    times = frame["timestamp"].to_list() if "timestamp" in frame.columns else [None] * len(frame)
    rows = zip(
        frame["user"].to_list(), frame["item"].to_list(), frame["weight"].to_list(), times, strict=True
    )
    return {(user, item): (weight, time) for user, item, weight, time in rows}


@st.composite
def interactions(draw: st.DrawFn, *, least: int = 1, most: int = 40, times: bool = False) -> Interactions:
    """Random interactions without repeated pairs."""
    log = draw(events(least=least, most=most)).first_of_each_pair()
    return Interactions.from_pairs(**(log.with_times() if times else log).columns())
