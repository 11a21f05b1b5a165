"""What each HTTP request passes: who may ask, how often and how much; its id, its line in the log, its place in the metrics."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import math
import random
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unblur.serving.limits import BUSY, Refused, ServiceLimits

log = logging.getLogger("unblur.serving")

PUBLIC = {"/", "/page.css", "/page.js", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
"""Paths that need no token: they tell nothing of the model, and probes and browsers have none."""
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds in seconds, about 2.5 times apart, from the fastest answers to the time that a request may take."""
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Bounds of the users of a batch, twice apart up to the largest batch."""


class Metrics:
    """What `/metrics` tells."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        # Else each has a second line, of when it was first counted.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.requests = Counter("unblur_requests", "Requests.", ("route", "status"), registry=self.registry)
        self.seconds = Histogram(
            "unblur_request_seconds", "Time to answer.", ("route",), buckets=_BUCKETS, registry=self.registry
        )
        self.batch = Histogram(
            "unblur_batch_users", "Users scored at once.", buckets=_SIZES, registry=self.registry
        )
        self.queue = Gauge("unblur_queue_users", "Users who wait or are scored.", registry=self.registry)
        self.queue.set_function(waiting)
        self.recommended = Counter("unblur_recommended_items", "Items in lists.", registry=self.registry)
        self.filled = Counter(
            "unblur_filled_items",
            "Items in lists that are there for popularity alone.",
            registry=self.registry,
        )
        self.unknown = Counter(
            "unblur_unknown_items", "Items in requests that the model does not know.", registry=self.registry
        )
        self.swaps = Counter(
            "unblur_model_swaps", "New models, taken or refused.", ("outcome",), registry=self.registry
        )


class Tokens:
    """Bearer tokens, compared in constant time, each with its rate."""

    def __init__(self, tokens: Sequence[str], rate: float | None) -> None:
        self._digests = [_digest(token) for token in tokens]
        self._rate = rate
        self._left = dict.fromkeys([*self._digests, b""], (math.inf, 0.0))

    def admit(self, authorization: str, now: float) -> None:
        """Refuse a request without one of the tokens (401), or that comes too soon (429)."""
        scheme, _, word = authorization.partition(" ")
        digest = _digest(word.strip())
        # Each is compared, whichever it is, so that time does not tell how near a guess came.
        matches = [hmac.compare_digest(digest, each) for each in self._digests]
        if not self._digests:
            digest = b""
        Refused.unless(
            not self._digests or (scheme.lower() == "bearer" and any(matches)),
            401,
            "unauthorized",
            "A request needs the header Authorization: Bearer TOKEN with a token of this service.",
        )
        if self._rate is not None:
            self._take(digest, self._rate, now)

    def _take(self, digest: bytes, rate: float, now: float) -> None:
        """Take one of the requests that a token has left; they grow with time, to those of a second."""
        left, before = self._left[digest]
        left = min(max(rate, 1.0), left + (now - before) * rate)
        Refused.unless(
            left >= 1, 429, "rate", f"A token has {rate:g} requests a second. Come slower.", retry=True
        )
        self._left[digest] = left - 1, now


def _digest(token: str) -> bytes:
    """A hash of a token, so that lengths are equal and none is kept."""
    return hashlib.sha256(token.encode()).digest()


@dataclass(eq=False)
class Entrance:
    """The outermost layer of the service."""

    app: ASGIApp
    limits: ServiceLimits
    tokens: Tokens
    needs_loopback_name: bool
    """Refuse other names in the header Host: a page from elsewhere, whose name was pointed at this machine, may not ask."""
    full: Callable[[], bool]
    metrics: Metrics
    access_log: bool = field(default=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an HTTP request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        # No secret: a number from the system costs a system call, after which this thread waits for the one that scores.
        request_id = f"{random.getrandbits(64):016x}"
        status = 500
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._admit(scope, headers, start)
            async with asyncio.timeout(self.limits.seconds):
                await self.app(scope, self._bounded(headers, receive), send_marked)
        except Refused as refusal:
            await refuse(refusal, scope["path"], send_marked)
        except TimeoutError:
            if not started:
                late = f"A request may take {self.limits.seconds:g} s; this one did. Come again."
                await refuse(Refused(503, "late", late, retry=True), scope["path"], send_marked)
        except Exception as problem:  # noqa: BLE001 - it has its answer, and the log must not say what was asked
            log.error(
                "request %s failed: %s\n%s",
                request_id,
                type(problem).__name__,
                "".join(traceback.format_tb(problem.__traceback__)),
            )
        seconds = time.perf_counter() - start
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.requests.labels(route, status).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        if self.access_log:
            log.info("%s %s %s %d %.1f ms", request_id, scope["method"], route, status, 1e3 * seconds)

    def _admit(self, scope: Scope, headers: Headers, now: float) -> None:
        """Refuse what can be refused before the body is read."""
        if self.needs_loopback_name:
            name = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
            Refused.unless(
                name.strip("[]") in _LOOPBACK or headers.get("host", "").strip("[]") in _LOOPBACK,
                421,
                "host",
                "Without a token the service answers to localhost alone. Ask it by that name, or start it with a token.",
            )
        if scope["path"] not in PUBLIC:
            self.tokens.admit(headers.get("authorization", ""), now)
        if scope["method"] == "POST":
            # Before the body is parsed: under overload, time goes to requests that are answered.
            Refused.unless(not self.full(), *BUSY, retry=True)
        length = headers.get("content-length", "0")
        self._check_length(int(length) if length.isdigit() else 0)

    def _check_length(self, length: int) -> None:
        Refused.unless(
            length <= self.limits.body,
            413,
            "too_large",
            f"A body may have {self.limits.body:,} bytes. Ask in parts.",
        )

    def _bounded(self, headers: Headers, receive: Receive) -> Receive:
        """Receive a body, and refuse it once it is too large; one that says its length is stopped there by the server."""
        if "content-length" in headers:
            return receive
        length = 0

        async def receive_bounded() -> Message:
            nonlocal length
            message = await receive()
            length += len(message.get("body", b""))
            self._check_length(length)
            return message

        return receive_bounded


def error_body(refusal: Refused, path: str) -> bytes:
    """The JSON of a refusal; below /v2 it is a text, as the Open Inference Protocol has it."""
    error = refusal.message if path.startswith("/v2") else {"code": refusal.code, "message": refusal.message}
    return json.dumps({"error": error}).encode()


async def refuse(refusal: Refused, path: str, send: Send) -> None:
    """Send a refusal."""
    body = error_body(refusal, path)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.retry:
        headers.append((b"retry-after", b"1"))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status == 413:
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
