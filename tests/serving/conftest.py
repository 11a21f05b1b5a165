"""A model of 30 items that is served in this process, and one that is served by a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import Server, served
from unblur.data.interactions import Interactions
from unblur.models.linear.neighbours import ItemKNN
from unblur.recommender import Recommender
from unblur.serving.answers import Served
from unblur.serving.limits import ServiceLimits

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from starlette.testclient import TestClient

from unblur.serving.service import Service

Client = Callable[..., TestClient]


@pytest.fixture(scope="session")
def knn(log: Interactions) -> Recommender:
    return ItemKNN(neighbours=20).fit(log)


@pytest.fixture(scope="session")
def saved(knn: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the saved model."""
    path = tmp_path_factory.mktemp("served") / "knn"
    knn.save(path)
    return path


def serving(path: Path, limits: ServiceLimits = ServiceLimits(), **options: Any) -> TestClient:  # noqa: B008 - frozen
    """A client of a service in this process; it runs within a `with`."""
    service = Service(path, Served.load(path, limits), **options)
    http = TestClient(service.app, base_url="http://localhost")
    http.service = service  # type: ignore[attr-defined]
    return http


@pytest.fixture(scope="session")
def http(saved: Path) -> Iterator[TestClient]:
    """A client of the service with its defaults."""
    with serving(saved) as opened:
        yield opened


@pytest.fixture
def client(saved: Path) -> Iterator[Client]:
    """Start a service in this process, with limits and options."""
    with ExitStack() as stack:
        yield lambda path=saved, **options: stack.enter_context(serving(path, **options))


@pytest.fixture(scope="session")
def folder(knn: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model that tests replace and damage, and put right again."""
    path = tmp_path_factory.mktemp("live") / "model"
    knn.save(path)
    return path


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Server]:
    """A process that serves the model of `folder`."""
    with served(folder, "--queue", "4", "--access-log") as running:
        yield running
