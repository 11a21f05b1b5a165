"""The limits of a service, and its refusals."""

from __future__ import annotations

from dataclasses import dataclass


class Refused(Exception):
    """A request that is not answered: the HTTP status, a code for programs, and a message for people."""

    def __init__(self, status: int, code: str, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry = retry
        """Whether the same request may be answered a second later (``Retry-After``)."""

    @classmethod
    def unless(cls, holds: object, status: int, code: str, message: str, *, retry: bool = False) -> None:
        """Raise this refusal unless the condition holds."""
        if not holds:
            raise cls(status, code, message, retry=retry)


BUSY = (503, "busy", "The service is at its capacity. Come again in a second.")
"""The refusal while the queue is full: before a body is parsed, and after, since the queue may have filled meanwhile."""


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """The most that a request may ask, and that may be in hand: the options of `unblur serve`."""

    body: int = 2**20
    """Bytes of a request's body: a MiB holds a history of 5,000 events ten times over."""
    history: int = 5_000
    """Items of a history, and items that are excluded or chosen from: more than all but robots have."""
    k: int = 1_000
    """Items of a list, and items to score: far more than anybody looks at."""
    batch: int = 256
    """Users of a request, and of what is scored at once; models score about so many rows at their best speed."""
    reasons: int = 1_000
    """Items of histories that reasons are asked for in one request: each is scored like a user."""
    queue: int = 24
    """Users in hand, who wait or are scored. Once there are as many, and a request waits, whoever comes is told to come again.
    Sixteen connections that ask for one user each, and are answered in time, never see it full. A longer queue answers hardly
    more requests under overload, and all of them later."""
    seconds: float = 5.0
    """The time that a request may take."""
    rate: float | None = None
    """Requests a second of one token, a second's worth of which may come at once; `None` is no limit."""

    def check(self, what: str, seen: int, most: int) -> None:
        """Refuse (422) more of something than a request may have."""
        Refused.unless(
            seen <= most, 422, "too_many", f"A request may have {most:,} {what}; saw {seen:,}. Ask in parts."
        )
