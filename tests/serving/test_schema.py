"""Requests that are drawn from the service's own OpenAPI schema: none is a fault, and all answers are as the schema says.

`make live` draws a thousand of each address with a body or a query.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.serving.conftest import serving

DRAWN = 20
"""Requests of each address in the tests: seconds in all."""
LOCAL = {"Host": "localhost"}
"""Without a token the service answers to this name alone."""


def drawn(model: Path, n_requests: int) -> tuple[set[str], Counter[int]]:
    """Send so many drawn requests to each address with a body or a query, 20 to the others; return the addresses and statuses.

    Raises what schemathesis does for a 5xx and for an answer that is not of the schema.
    """
    # A service of its own: each of these calls starts and ends it.
    app = serving(model).app
    statuses: Counter[int] = Counter()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=LOCAL)
    operations = [each.ok() for each in schema.get_all_operations()]
    for operation in operations:
        has_choices = operation.method == "post" or operation.query

        @settings(
            max_examples=n_requests if has_choices else DRAWN,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        @given(operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            # What the schema admits may still be refused: limits are options, and conditions are parsed.
            response = case.call_and_validate(headers=LOCAL, excluded_checks=[positive_data_acceptance])
            statuses[response.status_code] += 1

        ask()
    return {operation.path for operation in operations}, statuses


def test_drawn_requests_are_answered_as_the_schema_says(saved: Path) -> None:
    paths, statuses = drawn(saved, DRAWN)
    assert {
        "/v1/recommend",
        "/v1/similar",
        "/v1/explain",
        "/v1/score",
        "/v1/items",
        "/v2/models/{name}/infer",
    } <= paths
    assert statuses[200]
    assert not any(status >= 500 for status in statuses)
