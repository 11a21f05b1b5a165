"""The figures of `unblur serve`, over HTTP on loopback: `python -m benchmarks.serving MODEL`, or `make live MODEL=…`.

Client and server share this machine; each line has the client's share of the processor time.
"""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

HISTORY = 50
"""Items of a user's history, as in the table of targets."""
K = 10
SWAPS = 20
REFUSED_WITHIN = 50.0
"""Milliseconds for half of the refusals under overload: client and server share the processors, so the slowest tell of those."""


@dataclass
class Load:
    """What clients saw: the seconds of answers by status, in the order of time."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """Requests without an answer, and refusals without Retry-After."""
    wall: float = 0.0
    client: float = 0.0
    """Processor seconds of the client,"""
    server: float = 0.0
    """and of the server."""

    def percentile(self, part: float, status: int = 200) -> float:
        """The time within which this part of the answers of a status came, in milliseconds."""
        return 1e3 * float(np.percentile(self.seconds.get(status, [np.nan]), part))

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.seconds.get(200, ())) / self.wall

    def __str__(self) -> str:
        """The figures in a line."""
        others = {status: len(times) for status, times in self.seconds.items() if status != 200}
        share = self.client / max(self.client + self.server, 1e-9)
        return (
            f"{self.rate:,.0f} answers/s, p50 {self.percentile(50):.1f} ms, p99 {self.percentile(99):.1f} ms"
            + (f", others {others}" if others else "")
            + (
                f", refused in p50 {self.percentile(50, 503):.1f} ms, p99 {self.percentile(99, 503):.1f} ms"
                if 503 in others
                else ""
            )
            + (f", {len(self.failures)} failed ({self.failures[0]})" if self.failures else "")
            + f"; client {share:.0%} of {self.client + self.server:.1f} processor seconds in {self.wall:.1f} s"
        )


@dataclass
class Server:
    """A running `unblur serve`."""

    process: subprocess.Popen[bytes]
    port: int
    seconds_to_ready: float

    def used(self) -> float:
        """Its processor seconds so far."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str) -> str:
        """The text of a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def swaps(self, outcome: str) -> float:
        """The swaps so far with this outcome, ``taken`` or ``refused``."""
        name = f'unblur_model_swaps_total{{outcome="{outcome}"}} '
        return sum(
            float(line.removeprefix(name))
            for line in self.get("/metrics").splitlines()
            if line.startswith(name)
        )

    def swap(self, outcome: str) -> None:
        """Ask for a swap by SIGHUP and wait for its outcome."""
        before, end = self.swaps(outcome), time.monotonic() + 60
        self.process.send_signal(signal.SIGHUP)
        while self.swaps(outcome) == before:
            if time.monotonic() > end:
                raise RuntimeError(f"no swap was {outcome} within a minute")
            time.sleep(0.02)

    def memory(self) -> float:
        """Its resident megabytes."""
        words = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(words[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def served(model: Path, *options: str) -> Iterator[Server]:
    """Start `unblur serve` on a free port, and end it by SIGTERM, by which it must end well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = time.perf_counter()
    with tempfile.TemporaryFile(
        "w+"
    ) as log:  # a pipe that nobody reads would stop the server once it is full
        process = subprocess.Popen(
            [sys.executable, "-m", "unblur", "serve", str(model), "--port", str(port), *options], stderr=log
        )
        try:
            while not _is_ready(port):
                if process.poll() is not None or time.perf_counter() - start > 120:
                    raise RuntimeError(f"unblur serve did not start: {_text(log)}")
                time.sleep(0.01)
            yield Server(process, port, time.perf_counter() - start)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
            if process.returncode:
                raise RuntimeError(f"unblur serve ended with {process.returncode}: {_text(log)}")


def _text(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def _is_ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


# ------------------------------------------------------------------------------------------------------ client


def request(path: str, body: object) -> bytes:
    """The bytes of a POST."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return f"{head}\r\n\r\n".encode() + content


def recommendations(labels: Sequence[object], n: int, seed: int = 0) -> list[bytes]:
    """Requests of one user each, with histories drawn at random."""
    random = np.random.default_rng(seed)
    size = min(HISTORY, len(labels) // 2)
    return [
        request(
            "/v1/recommend",
            {
                "users": [
                    {
                        "id": f"user-{number}",
                        "history": [labels[i] for i in random.choice(len(labels), size, replace=False)],
                    }
                ],
                "k": K,
            },
        )
        for number in range(n)
    ]


class Connection:
    """One kept connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None

    async def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self.reader is not None:
            self.reader = None
            self.writer.close()
            with suppress(OSError):
                await self.writer.wait_closed()

    async def ask(self, message: bytes, load: Load) -> None:
        """Send a request and wait for its answer."""
        start = time.perf_counter()
        try:
            if self.reader is None:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.writer.write(message)
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
            await self.reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as problem:
            load.failures.append(repr(problem))
            await self.close()
            return
        status = int(head[9:12])
        load.seconds.setdefault(status, []).append(time.perf_counter() - start)
        if status >= 500 and not (status == 503 and b"retry-after" in head):
            load.failures.append(f"status {status}")


def closed_loop(server: Server, messages: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Ask over so many connections, each its next request when the last one is answered."""
    load = Load()

    async def run() -> None:
        end = time.perf_counter() + seconds
        numbers = iter(range(10**9))

        async def ask_on() -> None:
            connection = Connection(server.port)
            while time.perf_counter() < end:
                await connection.ask(messages[next(numbers) % len(messages)], load)
            await connection.close()

        await asyncio.gather(*(ask_on() for _ in range(connections)))

    return _timed(server, load, run)


def swapped_under_load(
    server: Server, messages: Sequence[bytes], n_swaps: int, prepare: Callable[[], object] = lambda: None
) -> Load:
    """Ask over four connections while the model is swapped so many times; `prepare` is called before each."""
    load = Load()

    async def run() -> None:
        connections = [Connection(server.port) for _ in range(4)]
        numbers = iter(range(10**9))

        def swap() -> None:
            for _ in range(n_swaps):
                prepare()
                server.swap("taken")

        swapping = asyncio.create_task(asyncio.to_thread(swap))

        async def ask_on(connection: Connection) -> None:
            while not swapping.done():
                await connection.ask(messages[next(numbers) % len(messages)], load)
            await connection.close()

        await asyncio.gather(swapping, *map(ask_on, connections))

    return _timed(server, load, run)


def open_loop(server: Server, messages: Sequence[bytes], rate: float, seconds: float) -> Load:
    """Ask at a rate, whether or not earlier requests are answered, over kept connections."""
    load = Load()

    async def run() -> None:
        free: list[Connection] = []
        tasks: set[asyncio.Task[None]] = set()
        start = time.perf_counter()

        async def ask(message: bytes) -> None:
            connection = free.pop() if free else Connection(server.port)
            await connection.ask(message, load)
            free.append(connection)

        for number in range(int(rate * seconds)):
            wait = start + number / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.add(task := asyncio.create_task(ask(messages[number % len(messages)])))
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        for connection in free:
            await connection.close()

    return _timed(server, load, run)


def _timed(server: Server, load: Load, run: Callable[[], Coroutine[Any, Any, None]]) -> Load:
    used, own, start = server.used(), _own_seconds(), time.perf_counter()
    asyncio.run(run())
    load.wall = time.perf_counter() - start
    load.client, load.server = _own_seconds() - own, server.used() - used
    return load


def _own_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure one saved model: latency, throughput, twice the capacity for a minute, and twenty swaps under load.

    Ends with 1 if a request failed, or a refusal took longer than it may.
    """
    model = Path(sys.argv[1])
    labels = pl.read_parquet(model / "items.parquet")["label"].to_list()
    messages = recommendations(labels, 500)
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    with served(model) as server:
        print(f"ready after {server.seconds_to_ready:.1f} s, {server.memory():,.0f} MB")
        print(f"one connection: {closed_loop(server, messages, 1, 20)}")
        busy = closed_loop(server, messages, 16, 20)
        print(f"sixteen connections: {busy}")
        print(f"half the capacity: {open_loop(server, messages, busy.rate / 2, 20)}")
        twice = open_loop(server, messages, 2 * busy.rate, 60)
        print(f"twice the capacity: {twice}")
        print(f"{server.memory():,.0f} MB after that")
        swaps = swapped_under_load(server, messages, SWAPS)
        print(f"{SWAPS} swaps of the model: {swaps}")
    if busy.failures or twice.failures or swaps.failures or twice.percentile(50, 503) > REFUSED_WITHIN:
        raise SystemExit(
            f"a request failed, or half of the refusals took more than {REFUSED_WITHIN} milliseconds"
        )


if __name__ == "__main__":
    main()
