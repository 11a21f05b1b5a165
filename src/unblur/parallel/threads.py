"""Run tasks in threads, with BLAS and torch limited to one thread each. torch is not imported for that."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Part = TypeVar("Part")
ResultT = TypeVar("ResultT")

_AHEAD = 4
"""Parts in hand for each thread: enough that none waits for the one that takes the results, few enough for memory."""


class _Thread(threading.local):
    """What is so in this thread: whether it works for `in_threads`, and whether its torch is limited to one thread."""

    inside = False
    at_rest = False


_lock = threading.Lock()
_thread = _Thread()
_resting: list[tuple[int, ExitStack]] = []
"""One entry for each context now entered: the number of threads before the first, and what restores BLAS's."""


def n_threads() -> int:
    """Return the number of threads that libraries may use: torch's if it is loaded, BLAS's otherwise."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    return max((int(library.num_threads) for library in _blas().lib_controllers), default=1)


def in_threads(work: Callable[[Part], ResultT], parts: Sequence[Part]) -> Generator[ResultT, None, None]:
    """Yield ``work(part)`` for each part, in order, in as many threads as libraries may use (`n_threads`).

    Each part is processed by one thread, and torch and BLAS use no others inside it, so results are the same for any
    number of threads. The work should spend its time outside the interpreter (NumPy, SciPy, torch). A single part runs
    in the caller's thread, with all threads of the libraries, and so do nested calls. If a part raises, or the caller
    closes the iterator (`contextlib.closing`), the parts not yet begun are dropped.
    """
    if len(parts) < 2 or _thread.inside:
        yield from map(work, parts)
        return
    with libraries_at_rest() as threads, ThreadPoolExecutor(threads, initializer=_one_thread) as pool:
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
def libraries_at_rest() -> Iterator[int]:
    """Limit torch and BLAS to one thread for each operation, and give the number that they had, restored at the end.

    For work with threads of its own, since theirs go on spinning for a while after each operation and take the processor;
    and for small products, which several threads do not make faster.
    """
    with _lock:
        if _resting:
            threads, limit = _resting[0]
        else:
            threads, limit = n_threads(), ExitStack()
            limit.enter_context(_limited_blas(1))
        _resting.append((threads, limit))
    # BLAS has one number for the process, torch one for each thread. That of a thread which uses torch first in here
    # was never its own, so `threads` is what is restored.
    outermost = not _thread.at_rest
    if outermost:
        _set_torch_threads(1)
        _thread.at_rest = True
    try:
        yield threads
    finally:
        if outermost:
            _set_torch_threads(threads)
            _thread.at_rest = False
        with _lock:
            _resting.pop()
            if not _resting:
                limit.close()


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Limit BLAS, and torch if it is loaded, to a number of threads; what they had before is restored at the end."""
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    with _limited_blas(threads):
        if torch is not None:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)


def _blas() -> ThreadpoolController:
    """The BLAS libraries that are loaded. Looking for them takes 2 ms, so it is done again only after new imports."""
    return _blas_after(len(sys.modules))


@lru_cache(maxsize=1)
def _blas_after(n_modules: int) -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def _limited_blas(threads: int) -> Iterator[None]:
    """Limit BLAS to a number of threads. Another thread than the one that came in may leave, and restore what was before.

    Since 3.8 threadpoolctl ignores limits, and their end, in all threads but the one that set a limit first, so the claim of
    another to OpenBLAS is ended here.
    """

    def claim() -> None:
        for library in _blas().lib_controllers:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)

    claim()
    with _blas().limit(limits=threads):
        try:
            yield
        finally:
            claim()


def _set_torch_threads(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.get_num_threads()  # the first time in a thread it takes the process's number, also after a thread has set one
        torch.set_num_threads(threads)


def _one_thread() -> None:
    _set_torch_threads(1)
    _thread.inside = _thread.at_rest = True
