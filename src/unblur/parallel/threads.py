"""Pieces of work beside each other: one thread for each, and the threads of torch and BLAS at rest meanwhile."""

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
_place = threading.local()
_resting: list[int] = []  # how many threads torch had when the first of those now inside came in


def in_threads(work: Callable[[Part], ResultT], parts: Sequence[Part]) -> Generator[ResultT, None, None]:
    """``work(part)`` for each part, in order, as many at a time as torch has threads.

    Each part is worked on by one thread, and torch uses no others inside it, so what comes out is the same for any
    number of threads. The work should spend its time outside the interpreter (torch, SciPy). One part alone is done
    where it is, with all of torch's threads, and so is work within work. When a part raises, or the caller closes the
    iterator (`contextlib.closing`), the parts not yet begun are dropped.
    """
    if len(parts) < 2 or getattr(_place, "inside", False):
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
    """Torch's operations use one thread each inside; gives how many they had, and gives them back in the end.

    For work whose own threads share the processor with torch's, which go on spinning for a while after each operation.
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
    """BLAS libraries, as far as they are loaded, use one thread each inside, which suits products that are small.

    Their threads belong to the whole process, so whoever comes in first limits them, and gives them back.
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
    _place.inside = True
