"""The tools for agents say what the model says, by the SDK's own client."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import pytest

pytest.importorskip("mcp", reason="needs the extra `mcp`")

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from unblur.data.interactions import Interactions
from unblur.recommender import Recommender
from unblur.serving.agents import tools
from unblur.serving.answers import Served
from unblur.serving.limits import ServiceLimits


def called(served: Served, *calls: tuple[str, dict[str, Any]], **options: Any) -> list[Any]:
    async def run() -> list[Any]:
        async with Client(tools(served, **options)) as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(run())


def test_tools_answer_as_the_model_does(saved: Path, knn: Recommender) -> None:
    served = Served.load(saved, ServiceLimits())
    history = ["item-03", "item-07"]
    lists, similar, reasons, info = called(
        served,
        ("recommend", {"history": [*history, "x"], "k": 4, "explain": True}),
        ("similar", {"items": ["item-07"], "k": 3}),
        ("explain", {"history": [{"item": "item-03", "time": 5}], "item": "item-10"}),
        ("info", {}),
    )
    row = Interactions.from_pairs(["u", "u"], history, item_vocabulary=knn.items)
    (user,) = lists.structured_content["users"]
    assert [each["item"] for each in user["items"]] == knn.recommend(row, k=4).labels()
    assert user["ignored"] == ["x"]
    assert all(each["because"] for each in user["items"])
    (near,) = similar.structured_content["items"]
    assert [each["item"] for each in near["similar"]] == knn.similar_items("item-07", 3).labels()
    assert reasons.structured_content["because"][0]["item"] == "item-03"
    assert info.structured_content["kind"] == "item-knn"


def test_tools_have_schemas_and_the_limits_of_the_service(saved: Path) -> None:
    served = Served.load(saved, ServiceLimits(k=5))

    async def run() -> Any:
        async with Client(tools(served)) as client:
            return (await client.list_tools()).tools

    listed = {tool.name: tool for tool in asyncio.run(run())}
    assert set(listed) == {"recommend", "similar", "explain", "info"}
    assert all(tool.description and tool.output_schema for tool in listed.values())
    assert listed["recommend"].input_schema["properties"]["k"]["minimum"] == 1
    too_many, unknown, wrong = called(
        served,
        ("recommend", {"history": [], "k": 6}),
        ("explain", {"history": ["item-03"], "item": "nothing"}),
        ("similar", {"items": [1.5]}),
    )
    assert too_many.is_error
    assert "5 items in a list" in too_many.content[0].text
    assert unknown.is_error
    assert wrong.is_error


def test_the_command_speaks_over_stdin_and_compares_with_data(
    saved: Path, log: Interactions, tmp_path: Path
) -> None:
    from unblur.data.files import write

    write(log, tmp_path / "log.parquet")
    words = ["-m", "unblur", "mcp", str(saved), "--data", str(tmp_path / "log.parquet")]
    # The SDK would hand few variables on, not where the package is.
    command = StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ))

    async def run(errors: TextIO) -> Any:
        async with Client(stdio_client(command, errlog=errors)) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            kinds = await client.call_tool("compare", {"kinds": ["popularity", "item-knn"]})
            path = await client.call_tool("compare", {"kinds": [str(tmp_path / "log.parquet")]})
            return names, kinds, path

    with (tmp_path / "log.txt").open("w") as errors:
        names, kinds, path = asyncio.run(run(errors))
    assert "failed" not in (tmp_path / "log.txt").read_text()  # refusals name what was asked
    assert "compare" in names
    assert not kinds.is_error, kinds.content
    assert "item-knn" in kinds.content[0].text
    assert path.is_error
