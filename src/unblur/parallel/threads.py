"""Run tasks in threads, with torch and BLAS limited to one thread each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

Part = TypeVar("Part")
ResultT = TypeVar("ResultT")

_AHEAD = 4
"""Parts in hand for each thread: enough that none waits for the one that takes the results, few enough for memory."""
_lock, _blas = threading.Lock(), threading.Lock()
_thread = threading.local()
_resting: list[int] = []  # one entry for each context now entered: torch's number of threads before the first


def in_threads(work: Callable[[Part], ResultT], parts: Sequence[Part]) -> Generator[ResultT, None, None]:
    """Yield ``work(part)`` for each part, in order, in as many threads as torch has.

    Each part is processed by one thread, and torch uses no others inside it, so results are the same for any number
    of threads. The work should spend its time outside the interpreter (torch, SciPy). A single part runs in the
    caller's thread, with all of torch's threads, and so do nested calls. If a part raises, or the caller closes the
    iterator (`contextlib.closing`), the parts not yet begun are dropped.
    """
    if len(parts) < 2 or getattr(_thread, "inside", False):
        yield from map(work, parts)
        return
    with torch_at_rest() as threads, ThreadPoolExecutor(threads, initializer=_one_thread) as pool:
        waiting = iter(parts)
        running: deque[Future[ResultT]] = deque()
        try:
            for part in waiting:
                running.append(pool.submit(work, part))
                if len(running) >= _AHEAD * threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


@contextmanager
def torch_at_rest() -> Iterator[int]:
    """Limit torch to one thread for each operation, and give the number that it had, which is restored at the end.

    For work with threads of its own: torch's go on spinning for a while after each operation, and take the processor.
    """
    import torch

    with _lock:
        _resting.append(_resting[0] if _resting else torch.get_num_threads())
        threads = _resting[0]
        torch.set_num_threads(1)
    try:
        yield threads
    finally:
        with _lock:
            _resting.pop()
            if not _resting:
                torch.set_num_threads(threads)


@contextmanager
def blas_at_rest() -> Iterator[None]:
    """Limit the BLAS libraries that are loaded to one thread each, which suits small products.

    Their threads belong to the whole process, so the first caller limits and restores them; others change nothing.
    """
    if not _blas.acquire(blocking=False):
        yield
        return
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        _blas.release()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    _thread.inside = True
