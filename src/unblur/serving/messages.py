"""What is asked of a served model, and what it answers: the schemas of the HTTP service and of the tools for agents."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints
from typing_extensions import TypedDict

Text: TypeAlias = Annotated[str, StringConstraints(strict=True, min_length=0)]
"""A text. Any constraint makes pydantic refuse half a surrogate pair, which JSON takes in and cannot give back."""
Label: TypeAlias = StrictInt | Text
"""An item or user as in the data the model was fitted to: a whole number or a text."""
K: TypeAlias = Annotated[int, Field(ge=1, strict=True)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Event(_Message):
    """An item of a history, and when it was taken."""

    item: Label
    time: StrictInt | None = Field(default=None, ge=-(2**63), lt=2**63)
    """In the unit of the model's training data; without it, a history is in the order of its list."""


History: TypeAlias = Annotated[
    list[Label | Event], Field(description="Items, or items with times; the latest is the last.")
]


class User(_Message):
    """A user is a history; the id comes back with the answer."""

    id: Label | None = None
    history: History = []
    exclude: list[Label] = Field(default=[], description="Items to leave out, as those of the history are.")


class Recommend(_Message):
    """Recommend the best items to users by their histories."""

    users: list[User] = Field(min_length=1)
    k: K = 10
    candidates: list[Label] | None = Field(default=None, description="Items to choose from; all if null.")
    where: Text | None = Field(
        default=None,
        description='A condition over the columns of the items, such as category == "books" and stock > 0.',
    )
    explain: bool = Field(
        default=False, description="Also say which items of the history a score comes from."
    )


class Similar(_Message):
    """Find the items that are closest to each of some items."""

    items: list[Label] = Field(min_length=1)
    k: K = 10


class Explain(_Message):
    """Say what each item of a history adds to the score of an item."""

    history: History = Field(min_length=1)
    item: Label


class Score(_Message):
    """Score given items for users, to re-rank candidates of another system."""

    users: list[User] = Field(min_length=1)
    items: list[Label] = Field(min_length=1)


class Find(_Message):
    """Find items by a part of their title, or of their label without titles; the most popular first."""

    search: str = ""
    limit: K = 20


Request: TypeAlias = Recommend | Similar | Explain | Score | Find


class Item(TypedDict):
    """An item and its title, which is its label if it has none."""

    item: Label
    title: str


class Reason(Item):
    """An item of the history, and what it adds to a score."""

    share: float


class Scored(Item):
    """An item with its score."""

    score: float


class Recommendation(Scored):
    """An item of a list; `filled` if the history says nothing about it, and it is there because it is popular."""

    filled: bool
    because: NotRequired[list[Reason]]


class UserList(TypedDict):
    """The list of a user, best first, and the items of the history that the model does not know."""

    id: Label | None
    items: list[Recommendation]
    ignored: list[Label]


class Recommended(TypedDict):
    """Lists in the order of the users, and the model that made them."""

    model: str
    users: list[UserList]


class ItemNeighbours(Item):
    """The items closest to one item."""

    similar: list[Scored]


class Similars(TypedDict):
    """The closest items of each item, in the order of the items, and the items that the model does not know."""

    model: str
    items: list[ItemNeighbours]
    unknown: list[Label]


class Explained(Scored):
    """A score and its parts, the largest first; `exact` if they add up to it."""

    model: str
    exact: bool
    because: list[Reason]
    ignored: list[Label]


class UserScores(TypedDict):
    """The scores of a user, in the order of the items."""

    id: Label | None
    items: list[Scored]
    ignored: list[Label]


class ScoredUsers(TypedDict):
    """The scores of each user, in the order of the users, and the asked items that the model does not know."""

    model: str
    users: list[UserScores]
    unknown: list[Label]


class FoundItem(Item):
    """An item, and the number of training users that have it."""

    count: int


class Found(TypedDict):
    """Items, the most popular first."""

    items: list[FoundItem]


Answer: TypeAlias = Recommended | Similars | Explained | ScoredUsers | Found


class Information(TypedDict):
    """What a served model is."""

    model: str
    name: str
    kind: str
    items: int
    labels: str
    columns: list[str]
    created: str
    unblur: str
    needs_timestamps: bool
    similar: bool
    exact: bool
    limits: dict[str, float | None]
