"""Run a service until the process is told to end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from unblur.data.formats.opening import open_data
from unblur.errors import DataError
from unblur.serving.service import Service

TOKEN_VARIABLE = "UNBLUR_TOKEN"
"""The variable of the environment that holds a token, or several, if no file is given."""
_KEEP_ALIVE = 620
"""Seconds that an idle connection is kept: longer than clients and proxies keep theirs (nginx 60, Go's client 90, Google's load
balancer 600), so that it is they who close it. A server that closes first meets the next request half-way, and it fails."""
_SHORTEST = 16
"""Letters of a token at least: `openssl rand -hex 16` gives twice as many, and a word that can be guessed has fewer."""


def read_tokens(file: Path | None) -> list[str]:
    """Return the tokens of a file, one a line, or of the environment without one; none if there is neither.

    Raises `DataError` for a token that is too short, or not of printable letters.
    """
    text = os.environ.get(TOKEN_VARIABLE, "")
    if file is not None:
        with open_data(file) as stream:
            text = stream.read().decode("utf-8", errors="replace")
    tokens = text.split()
    place = TOKEN_VARIABLE if file is None else str(file)
    DataError.unless(
        all(len(token) >= _SHORTEST and token.isascii() and token.isprintable() for token in tokens),
        f"A token must have {_SHORTEST} ASCII letters or more, one token a line; {place} has another. "
        "Make one with `openssl rand -hex 32`.",
    )
    DataError.unless(
        tokens or file is None, f"A token file must hold a token; {place} is empty. Write one into it."
    )
    return tokens


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine alone."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def listen(host: str, port: int, *, has_token: bool) -> socket.socket:
    """Return a socket that listens at an address, which must be this machine's own unless there is a token.

    Raises `DataError` for another address without one, and for one that cannot be had.
    """
    DataError.unless(
        has_token or is_loopback(host),
        f"Without a token the service must be on this machine alone; saw --host {host}. Give --token-file, or set "
        f"{TOKEN_VARIABLE}.",
    )
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError, TypeError, UnicodeError) as problem:  # the last two for what is no name
        raise DataError(
            f"The address must be free, and one of this machine; {host}:{port} is not ({problem}). Give another --port."
        ) from None


def serve(service: Service, listening: socket.socket, *, started: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, then answer what has been asked, and return.

    SIGHUP takes the model that is in the folder now.
    """
    config = uvicorn.Config(
        service.app,
        log_config=None,
        access_log=False,  # its lines have addresses and queries
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(service.limits.seconds) + 1,
    )
    server = uvicorn.Server(config)

    async def run() -> None:
        swaps: set[asyncio.Task[None]] = set()  # a task that nothing holds may be collected before it ends

        def swap() -> None:
            swaps.add(task := asyncio.create_task(service.swap()))
            task.add_done_callback(swaps.discard)

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, swap)
        started()
        await server.serve(sockets=[listening])

    # What is loaded by now stays. A full collection of garbage would look through all of it, for 80 ms in which nobody is
    # answered, and there is one every few seconds under load.
    gc.collect()
    gc.freeze()
    # uvicorn raises the signal again once it has ended, which is an interrupt in a command.
    with (
        suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        runner.run(run())
