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
    """Users in hand: those that wait, also past their time, and those that are scored. The event loop alone counts them."""
    _queue: deque[_Waiting] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _idle: bool = False
    """Whether the thread waits for a request, which it has not yet taken when the next one may come."""
    _ended: bool = False

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="unblur-scoring", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """True if whoever comes now is refused: enough users are in hand, and somebody waits already.

        One request may have more users than the queue. While it is scored, the next one waits.
        """
        return self.rows >= self.served.limits.queue and len(self._queue) > self._idle

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
        return await waiting.answer

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
        in_time = [waiting for waiting in batch if not waiting.answer.done()]
        answers: Sequence[Answer | Exception] = []
        if in_time:
            self.observe(sum(waiting.rows for waiting in in_time))
            try:
                answers = self.served.answer([waiting.request for waiting in in_time])
            except Exception as problem:  # noqa: BLE001 - each of the requests gets it
                answers = [problem] * len(in_time)
        # Those that took too long as well: they count until they have left the queue, which a stuck model would fill without end.
        rows = sum(waiting.rows for waiting in batch)
        self._loop.call_soon_threadsafe(self._settle, rows, in_time, answers)

    def _settle(self, rows: int, in_time: Sequence[_Waiting], answers: Sequence[Answer | Exception]) -> None:
        """Let go of the users of a batch, and hand out its answers; in the event loop."""
        self.rows -= rows
        for waiting, answer in zip(in_time, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)

    def _next_batch(self) -> list[_Waiting]:
        """The oldest requests of about `ServiceLimits.batch` users, once there are any; none at the end."""
        batch: list[_Waiting] = []
        rows = 0
        with self._changed:
            self._idle = True
            self._changed.wait_for(lambda: self._queue or self._ended)
            while self._queue and (not batch or rows + self._queue[0].rows <= self.served.limits.batch):
                batch.append(self._queue.popleft())
                rows += batch[-1].rows
            self._idle = False
        return batch
