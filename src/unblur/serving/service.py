"""The HTTP service: its addresses, and the model behind them, which can be replaced while it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints

from fastapi import APIRouter, FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request as HttpRequest
from starlette.types import Receive, Scope, Send

import unblur
from unblur.errors import ArtifactError
from unblur.saving.models import read_manifest
from unblur.serving.answers import Served
from unblur.serving.entrance import Entrance, Metrics, Tokens, error_body
from unblur.serving.inference import inference_routes
from unblur.serving.limits import Refused
from unblur.serving.messages import (
    Answer,
    Explain,
    Explained,
    Find,
    Found,
    Information,
    Recommend,
    Recommended,
    Request,
    Score,
    ScoredUsers,
    Similar,
    Similars,
)
from unblur.serving.page import CONTENT_SECURITY_POLICY, PAGE, page_file
from unblur.serving.scoring import Scoring

log = logging.getLogger("unblur.serving")


class ErrorDetail(BaseModel):
    """A code for programs, and a message for people."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """What every refusal says."""

    error: ErrorDetail


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "The body is not JSON in UTF-8."},
    401: {"model": ErrorAnswer, "description": "No token of this service."},
    413: {"model": ErrorAnswer, "description": "The body is too large."},
    421: {"model": ErrorAnswer, "description": "Asked by another name than localhost, without a token."},
    422: {"model": ErrorAnswer, "description": "Not of the schema, or more than a request may ask."},
    429: {"model": ErrorAnswer, "description": "More requests than a token has."},
    503: {"model": ErrorAnswer, "description": "At capacity; Retry-After says when to come again."},
}


class BodyRoute(APIRoute):
    """A POST whose body is all that it asks: pydantic checks it while it reads it, and the answer goes out as it is.

    FastAPI declares the route, for the schema. Its own way from the bytes to the function, through the dependencies and files that
    a route might have, takes longer than the lists of a fast model.
    """

    @cached_property
    def _message(self) -> type[BaseModel]:
        message: type[BaseModel] = get_type_hints(self.endpoint)["request"]
        return message

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["method"] != "POST" or self.methods != {"POST"}:
            await super().handle(scope, receive, send)  # a GET, or a refusal that names the method
            return
        http = HttpRequest(scope, receive)
        # A page of another site may make a browser send it a text without being asked whether it may, JSON it may not.
        kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
        Refused.unless(
            kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")),
            422,
            "invalid",
            "The body must be JSON, and said to be: send the header Content-Type: application/json.",
        )
        try:
            request = self._message.model_validate_json(await http.body())
        except ValidationError as problem:
            raise RequestValidationError(
                [{**error, "loc": ("body", *error["loc"])} for error in problem.errors()]
            ) from None
        except ClientDisconnect:
            raise Refused(400, "invalid", "The body ended before its end.") from None
        response = await self.endpoint(request)
        await response(scope, receive, send)


class Service:
    """A served model with its queue and metrics. `app` is the ASGI application."""

    def __init__(
        self,
        path: Path,
        served: Served,
        *,
        tokens: Sequence[str] = (),
        watch: bool = False,
        threads: int | None = None,
        access_log: bool = False,
    ) -> None:
        self.path, self.limits, self.watch, self.threads = path, served.limits, watch, threads
        self.served = served
        self.scoring: Scoring | None = None
        self.metrics = Metrics(lambda: self.scoring.rows if self.scoring else 0)
        self.app = Entrance(
            self._application(),
            self.limits,
            Tokens(tokens, self.limits.rate),
            needs_loopback_name=not tokens,
            full=lambda: self.scoring is not None and self.scoring.full,
            metrics=self.metrics,
            access_log=access_log,
        )

    # --------------------------------------------------------------------------------------------- answering

    async def answer(self, request: Request) -> Answer:
        """Answer a request, with the model of this moment."""
        Refused.unless(self.scoring, 503, "starting", "The service is starting. Come again.", retry=True)
        answer = await cast("Scoring", self.scoring).answer(request)
        self._count(answer)
        return answer

    def _count(self, answer: Answer) -> None:
        unknown: list[Any] = [*cast("Any", answer).get("unknown", ())]
        for user in cast("Any", answer).get("users", ()):
            unknown += user["ignored"]
            if user["items"] and "filled" in user["items"][0]:
                self.metrics.recommended.inc(len(user["items"]))
                self.metrics.filled.inc(sum(item["filled"] for item in user["items"]))
        self.metrics.unknown.inc(len(unknown))

    # ---------------------------------------------------------------------------------------------- swapping

    async def swap(self) -> None:
        """Take the model that is in the folder now; if it cannot be loaded, the present one goes on answering."""
        try:
            served = await asyncio.to_thread(Served.load, self.path, self.limits)
        except Exception as problem:  # noqa: BLE001 - such as too little memory for two models at once
            self.metrics.swaps.labels("refused").inc()
            log.error("the model in %s is refused, the present one goes on: %s", self.path, problem)
            return
        self.served = served
        if self.scoring:
            self.scoring.served = served
        self.metrics.swaps.labels("taken").inc()
        log.info("serving %s", served.digest)

    async def _watch(self) -> None:
        """Swap whenever the model in the folder is another one."""
        refused = ""
        while True:
            await asyncio.sleep(1.0)
            # It may be between an old folder and the new one; what is damaged is said once.
            try:
                digest = f"sha256:{read_manifest(self.path)['sha256']}"
            except (ArtifactError, OSError):
                continue
            if digest not in (self.served.digest, refused):
                await self.swap()
                refused = digest

    @asynccontextmanager
    async def _life(self, _app: FastAPI) -> AsyncIterator[None]:
        self.scoring = Scoring(self.served, self.metrics.batch.observe, self.threads)
        tasks = [asyncio.create_task(self._watch())] if self.watch else []
        yield
        for task in tasks:
            task.cancel()
        self.scoring.end()

    # --------------------------------------------------------------------------------------------- addresses

    def _application(self) -> FastAPI:
        app = FastAPI(
            title="unblur",
            version=unblur.__version__,
            summary="Recommendations of one model.",
            lifespan=self._life,
            docs_url=None,  # both pages load scripts from elsewhere
            redoc_url=None,
            responses=REFUSALS,
        )
        self._add_model_routes(app)
        app.include_router(inference_routes(self.answer, lambda: self.served, lambda: self.ready))
        app.include_router(self._other_routes())
        app.add_exception_handler(Exception, _answer_failure)
        app.add_exception_handler(Refused, _answer_refusal)
        app.add_exception_handler(RequestValidationError, _answer_invalid)
        app.add_exception_handler(HTTPException, _answer_http_error)
        return app

    @property
    def ready(self) -> bool:
        """True once the model has answered a first request, as it does when it is loaded."""
        return self.scoring is not None

    def _add_model_routes(self, app: FastAPI) -> None:
        # To the application itself: FastAPI looks for the routes of an included router twice in each request.
        routes = app.router
        routes.route_class = BodyRoute

        @routes.post("/v1/recommend", response_model=Recommended, tags=["model"])
        async def recommend(request: Recommend) -> Response:
            """The best items for each user."""
            return _json(await self.answer(request))

        @routes.post("/v1/similar", response_model=Similars, tags=["model"])
        async def similar(request: Similar) -> Response:
            """The items closest to each of some items."""
            return _json(await self.answer(request))

        @routes.post("/v1/explain", response_model=Explained, tags=["model"])
        async def explain(request: Explain) -> Response:
            """What each item of a history adds to the score of an item."""
            return _json(await self.answer(request))

        @routes.post("/v1/score", response_model=ScoredUsers, tags=["model"])
        async def score(request: Score) -> Response:
            """The scores of given items."""
            return _json(await self.answer(request))

        @routes.get("/v1/items", response_model=Found, tags=["model"])
        async def items(search: str = "", limit: Annotated[int, Query(ge=1)] = 20) -> Response:
            """Items with a text in their title, the most popular first."""
            return _json(await self.answer(Find(search=search, limit=limit)))

        @routes.get("/v1/model", response_model=Information, tags=["model"])
        async def model() -> Response:
            """What the model is, and the limits of a request."""
            return _json(self.served.information())

    def _other_routes(self) -> APIRouter:
        routes = APIRouter(include_in_schema=False)

        @routes.get("/healthz")
        async def healthz() -> Response:
            return PlainTextResponse("ok")

        @routes.get("/readyz")
        async def readyz() -> Response:
            return PlainTextResponse("ready" if self.ready else "starting", 200 if self.ready else 503)

        @routes.get("/metrics")
        async def metrics() -> Response:
            return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

        for name, media_type in PAGE.items():
            address = "/" if name == "page.html" else f"/{name}"
            routes.add_api_route(address, _page(page_file(name), media_type), methods=["GET"])
        return routes


def _page(content: bytes, media_type: str) -> Any:
    """An endpoint with one file of the page."""

    async def page() -> Response:
        return Response(
            content,
            media_type=media_type,
            headers={
                "content-security-policy": f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'none'",
                "cache-control": "no-cache",
            },
        )

    return page


def _json(answer: Any) -> Response:
    return Response(to_json(answer), media_type="application/json")


# ------------------------------------------------------------------------------------------------------ errors


async def _answer_refusal(request: HttpRequest, problem: Exception) -> Response:
    refusal = cast("Refused", problem)
    headers = {"retry-after": "1"} if refusal.retry else {}
    return Response(error_body(refusal, request.url.path), refusal.status, headers, "application/json")


async def _answer_failure(request: HttpRequest, problem: Exception) -> Response:
    failed = Refused(500, "failed", "The request failed; the log has more about its X-Request-Id.")
    return await _answer_refusal(request, failed)


async def _answer_invalid(request: HttpRequest, problem: Exception) -> Response:
    """The places that are wrong, without what is there."""
    errors = cast("RequestValidationError", problem).errors()
    places = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in errors[:3])
    # What is no JSON at all is told from what asks for the wrong things, as the schema says.
    if errors[0]["type"] == "json_invalid":
        # A byte order mark or UTF-16 looks like JSON in an editor, and the parser names a place alone.
        refusal = Refused(
            400, "invalid", f"The body must be JSON in UTF-8, without a byte order mark. {places}"
        )
    else:
        refusal = Refused(422, "invalid", places)
    return await _answer_refusal(request, refusal)


async def _answer_http_error(request: HttpRequest, problem: Exception) -> Response:
    if isinstance(problem.__cause__, Refused):  # of a body that grew too large while it was read
        return await _answer_refusal(request, problem.__cause__)
    error = cast("HTTPException", problem)
    code = {400: "invalid", 404: "not_found", 405: "method"}.get(error.status_code, "refused")
    answer = await _answer_refusal(request, Refused(error.status_code, code, str(error.detail)))
    answer.headers.update(error.headers or {})
    return answer
