"""The Open Inference Protocol, version 2, by which KServe and its kin ask a model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeAlias, cast

import numpy as np
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, StrictInt
from starlette.responses import JSONResponse

import unblur
from unblur.serving.answers import Served
from unblur.serving.limits import Refused
from unblur.serving.messages import Answer, Label, Recommend, Recommended, Request, Text, User

LOWEST = float(np.finfo(np.float32).min)
"""The score of a place that no item is left for: JSON has no −∞."""

Side: TypeAlias = Annotated[int, Field(ge=0)]


class Parameters(BaseModel):
    """Parameters of a request."""

    k: Annotated[StrictInt, Field(ge=1)] = 10
    """Items of each list."""


class InputTensor(BaseModel):
    """Histories: texts [n, m], a user a row, filled up with empty texts; as a list of rows, or of all of them."""

    name: Literal["history"]
    shape: Annotated[list[Side], Field(min_length=2, max_length=2)]
    datatype: Literal["BYTES"]
    data: list[Text] | list[list[Text]]


class InferenceRequest(BaseModel):
    """An inference request with the one input that a recommender has."""

    id: Text | None = None
    parameters: Parameters = Parameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1)]


class Tensor(BaseModel):
    """A tensor's name, type and shape; −1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class OutputTensor(Tensor):
    """A tensor, flattened."""

    data: list[str] | list[float]


class InferenceAnswer(BaseModel):
    """`items` [n, k], filled up with empty texts, and `scores` [n, k]."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class ServerMetadata(BaseModel):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(BaseModel):
    """What the model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class InferenceError(BaseModel):
    """What a refusal says."""

    error: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": InferenceError} for status in (400, 401, 404, 413, 421, 422, 429, 503)
}


def inference_routes(
    answer: Callable[[Request], Awaitable[Answer]], served: Callable[[], Served], ready: Callable[[], bool]
) -> APIRouter:
    """The addresses of the protocol, in front of a service's queue."""
    routes = APIRouter(tags=["open inference protocol"], responses=REFUSALS)

    def named(name: str) -> Served:
        model = served()
        Refused.unless(name == model.name, 404, "not_found", f"The model is called {model.name!r}.")
        return model

    def status(key: str, holds: bool, **more: str) -> JSONResponse:
        return JSONResponse({**more, key: holds}, 200 if holds else 503)

    @routes.get("/v2", response_model=ServerMetadata)
    async def server() -> ServerMetadata:
        """What the server is."""
        return ServerMetadata(name="unblur", version=unblur.__version__, extensions=[])

    @routes.get("/v2/health/live")
    async def live() -> Response:
        """Whether the server runs."""
        return status("live", True)

    @routes.get("/v2/health/ready")
    async def server_ready() -> Response:
        """Whether the model answers."""
        return status("ready", ready())

    @routes.get("/v2/models/{name}", response_model=ModelMetadata)
    async def metadata(name: str) -> ModelMetadata:
        """What the model takes and gives."""
        model = named(name)
        return ModelMetadata(
            name=name,
            versions=[model.digest],
            platform="unblur",
            inputs=[Tensor(name="history", datatype="BYTES", shape=[-1, -1])],
            outputs=[
                Tensor(name="items", datatype="BYTES", shape=[-1, -1]),
                Tensor(name="scores", datatype="FP32", shape=[-1, -1]),
            ],
        )

    @routes.get("/v2/models/{name}/ready")
    async def model_ready(name: str) -> Response:
        """Whether the model answers."""
        return status("ready", ready(), name=named(name).name)

    @routes.post("/v2/models/{name}/infer", response_model=InferenceAnswer, response_model_exclude_none=True)
    async def infer(name: str, request: InferenceRequest) -> InferenceAnswer:
        """The best items for each history."""
        model = named(name)
        model.limits.check("users", request.inputs[0].shape[0], model.limits.batch)
        histories = _histories(request.inputs[0], model.model.items.kind)
        k = request.parameters.k
        lists = cast("Recommended", await answer(Recommend(users=histories, k=k)))
        items: list[str] = []
        scores: list[float] = []
        for user in lists["users"]:
            padding = k - len(user["items"])
            items += [str(item["item"]) for item in user["items"]] + [""] * padding
            scores += [item["score"] for item in user["items"]] + [LOWEST] * padding
        shape = [len(histories), k]
        return InferenceAnswer(
            model_name=name,
            model_version=lists["model"],
            id=request.id,
            outputs=[
                OutputTensor(name="items", datatype="BYTES", shape=shape, data=items),
                OutputTensor(name="scores", datatype="FP32", shape=shape, data=scores),
            ],
        )

    return routes


def _histories(tensor: InputTensor, kind: str) -> list[User]:
    """The users of an input; texts are read as numbers if the model's labels are numbers."""
    n_users, width = tensor.shape
    rows = [row for row in tensor.data if isinstance(row, list)]
    texts = [text for row in rows for text in row] or cast("list[str]", tensor.data)
    Refused.unless(
        n_users >= 1 and len(texts) == n_users * width and all(len(row) == width for row in rows),
        422,
        "invalid",
        f"The data of an input must have its shape; saw {len(texts):,} texts for {n_users:,} × {width:,}.",
    )
    return [
        User(history=[_label(text, kind) for text in texts[start : start + width] if text])
        for start in range(0, n_users * max(width, 1), max(width, 1))
    ]


def _label(text: str, kind: str) -> Label:
    # A number of more digits is no label, and takes time to read.
    return int(text) if kind == "int" and text.isascii() and text.isdigit() and len(text) < 20 else text
