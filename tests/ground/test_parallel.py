"""Work in threads: in order, every part once, torch's settings restored at the end, nothing left running."""

import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from unblur.parallel.threads import in_threads, libraries_at_rest


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order() -> None:
    assert list(in_threads(lambda n: n * n, range(100))) == [n * n for n in range(100)]


@pytest.mark.parametrize("parts", [0, 1])
def test_a_single_task_runs_in_the_calling_thread(parts: int) -> None:
    places = list(in_threads(lambda _: (threading.get_ident(), torch.get_num_threads()), range(parts)))
    assert places == [(threading.get_ident(), 2)] * parts


def test_torch_has_one_thread_inside_and_its_own_number_afterwards() -> None:
    barrier = threading.Barrier(2, timeout=30)

    def work(_: int) -> tuple[int, int]:
        barrier.wait()  # passes only when two are running
        return threading.get_ident(), torch.get_num_threads()

    idents_and_threads = list(in_threads(work, range(4)))
    assert {threads for _, threads in idents_and_threads} == {1}
    assert threading.get_ident() not in {ident for ident, _ in idents_and_threads}
    assert torch.get_num_threads() == 2


def test_work_within_work_starts_no_more_threads() -> None:
    def outer(n: int) -> list[int]:
        return list(in_threads(lambda m: threading.get_ident() + m * 0 + n * 0, range(3)))

    for idents in in_threads(outer, range(4)):
        assert len(set(idents)) == 1


def test_an_error_reaches_the_caller_and_ends_the_rest() -> None:
    done = []

    def work(n: int) -> int:
        if n == 3:
            raise ValueError("three")
        done.append(n)
        return n

    with pytest.raises(ValueError, match="three"):
        list(in_threads(work, range(1000)))
    assert len(done) < 100
    assert torch.get_num_threads() == 2


def test_a_caller_may_stop_early() -> None:
    done = []
    with closing(in_threads(lambda n: done.append(n) or n, range(1000))) as results:
        assert next(results) == 0
    assert len(done) < 100
    assert torch.get_num_threads() == 2


def test_two_callers_at_a_time() -> None:
    """Torch's number of threads is restored when the last of them is done."""
    results: list[list[int]] = []

    def caller() -> None:
        results.append(list(in_threads(lambda n: n, range(50))))

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert results == [list(range(50))] * 4
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("own_limit", [False, True], ids=["as it is", "with a limit of the program's own"])
def test_the_last_to_leave_restores_what_the_first_found(own_limit: bool) -> None:
    """BLAS has one number for the process, torch one for each thread: all as they were, whoever leaves first."""
    seen: dict[str, tuple[int, set[int]]] = {}
    first_is_in, second_is_in, first_has_left, second_has_left = (threading.Event() for _ in range(4))

    def blas() -> set[int]:
        return {part["num_threads"] for part in threadpool_info() if part["user_api"] == "blas"}

    def first() -> None:
        torch.set_num_threads(2)
        with libraries_at_rest():
            first_is_in.set()
            assert second_is_in.wait(60)
            seen["first, inside"] = torch.get_num_threads(), blas()
        first_has_left.set()
        assert second_has_left.wait(60)  # and lives on, as a thread of a pool does
        seen["first, after"] = torch.get_num_threads(), blas()

    def second() -> None:
        torch.set_num_threads(2)
        assert first_is_in.wait(60)
        with libraries_at_rest():
            second_is_in.set()
            assert first_has_left.wait(60)
            seen["second, inside"] = torch.get_num_threads(), blas()
        seen["second, after"] = torch.get_num_threads(), blas()
        second_has_left.set()

    with threadpool_limits(2) if own_limit else nullcontext():
        given = blas()
        threads = [threading.Thread(target=work) for work in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == {
        f"{name}, {when}": value
        for name in ("first", "second")
        for when, value in (("inside", (1, {1})), ("after", (2, given)))
    }
