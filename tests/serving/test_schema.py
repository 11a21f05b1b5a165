"""Requests that are drawn from the service's own OpenAPI schema: none is a fault, and all answers are as the schema says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.serving.conftest import serving

DRAWN = 20
"""Requests of each address: seconds in all."""
LOCAL = {"Host": "localhost"}
"""Without a token the service answers to this name alone."""


def test_drawn_requests_are_answered_as_the_schema_says(saved: Path) -> None:
    # A service of its own: each of these calls starts and ends it.
    app = serving(saved).app
    statuses = set()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=LOCAL)
    operations = [each.ok() for each in schema.get_all_operations()]
    assert {
        "/v1/recommend",
        "/v1/similar",
        "/v1/explain",
        "/v1/score",
        "/v1/items",
        "/v2/models/{name}/infer",
    } <= {operation.path for operation in operations}
    for operation in operations:

        @settings(
            max_examples=DRAWN, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
        )
        @given(operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            # What the schema admits may still be refused: limits are options, and conditions are parsed.
            response = case.call_and_validate(headers=LOCAL, excluded_checks=[positive_data_acceptance])
            statuses.add(response.status_code)

        ask()
    assert 200 in statuses
    assert 503 not in statuses
