"""Specs within specs, as models that hold other models have them: tables with a kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, cast

from pydantic import BeforeValidator, PlainSerializer

from unblur.recommender import Recommender, RecommenderSpec
from unblur.registry import recommender_spec
from unblur.spec import Spec, spec_from_dict, spec_to_dict


def table_of(value: Any) -> Any:
    """Return a spec as a table with its kind, and a table unchanged."""
    return {"kind": value.kind, **spec_to_dict(value)} if isinstance(value, Spec) else value


def spec_of(table: Mapping[str, Any]) -> RecommenderSpec[Recommender]:
    """Return the spec that a table with its kind describes. Raises `SpecError` as reading any spec does."""
    values = dict(table)
    kind = str(values.pop("kind", None))
    return cast("RecommenderSpec[Recommender]", spec_from_dict(recommender_spec(kind), values))


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) if isinstance(value, Mapping) else value for name, value in table.items()}


PLAIN = PlainSerializer(_plain)
"""The annotation of a field that holds a read-only mapping, which pydantic cannot write by itself."""
InnerTable: TypeAlias = Annotated[Mapping[str, Any], BeforeValidator(table_of), PLAIN]
"""A field that takes a spec, or its table with its kind."""
