"""The one thread that scores: it answers all requests that wait with one product, while the next ones gather."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from unblur.parallel.threads import limited, n_threads
from unblur.serving.answers import Served
from unblur.serving.limits import BUSY, Refused
from unblur.serving.messages import Answer, Request


@dataclass(eq=False)
class _Waiting:
    request: Request
    rows: int
    """Users that it scores."""
    answer: asyncio.Future[Answer]


@dataclass(eq=False)
class Scoring:
    """A bounded queue and the thread that empties it; `served` may be replaced at any time.

    There is no waiting for a batch to fill: requests that come while one is scored are the next. Then an idle service answers at
    once, and a busy one in the largest products.
    """

    served: Served
    observe: Callable[[int], None]
    """Called with the number of users of each batch."""
    threads: int | None = None
    """Threads of BLAS and torch; if `None` as many as they have."""
    rows: int = 0
    """Users in hand: those that wait, and those that are scored. The event loop alone counts them."""
    _queue: deque[_Waiting] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="unblur-scoring", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """True if whoever comes now is refused."""
        return self.rows >= self.served.limits.queue

    async def answer(self, request: Request) -> Answer:
        """Wait for the answer to a request.

        Raises `Refused` for one that asks too much, or that comes while the queue is full.
        """
        rows = self.served.rows(request)
        Refused.unless(not self.full and not self._ended, *BUSY, retry=True)
        waiting = _Waiting(request, rows, self._loop.create_future())
        self.rows += rows
        with self._changed:
            self._queue.append(waiting)
            self._changed.notify()
        try:
            return await waiting.answer
        finally:
            self.rows -= rows

    def end(self) -> None:
        """Answer what waits, and end the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        # Here and not where the service starts: torch's number is one of each thread.
        with limited(self.threads or n_threads()):
            while batch := self._next_batch():
                self._answer(batch)

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        self.observe(sum(waiting.rows for waiting in batch))
        answers: Sequence[Answer | Exception]
        try:
            answers = self.served.answer([waiting.request for waiting in batch])
        except Exception as problem:  # noqa: BLE001 - each of the requests gets it
            answers = [problem] * len(batch)
        self._loop.call_soon_threadsafe(_settle, batch, answers)

    def _next_batch(self) -> list[_Waiting]:
        """The oldest requests of about `ServiceLimits.batch` users, once there are any; none at the end."""
        batch: list[_Waiting] = []
        rows = 0
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ended)
            while self._queue and (not batch or rows + self._queue[0].rows <= self.served.limits.batch):
                waiting = self._queue.popleft()
                if not waiting.answer.done():  # else it took too long
                    batch.append(waiting)
                    rows += waiting.rows
        return batch


def _settle(batch: Sequence[_Waiting], answers: Sequence[Answer | Exception]) -> None:
    for waiting, answer in zip(batch, answers, strict=True):
        if waiting.answer.done():
            continue
        if isinstance(answer, Exception):
            waiting.answer.set_exception(answer)
        else:
            waiting.answer.set_result(answer)
