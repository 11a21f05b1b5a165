"""The forms that users write do not change: fields of specs and recipes, options of commands."""

from tests.guards import schemas


def test_fields_and_options_are_those_that_were_frozen() -> None:
    lines = schemas.changes(schemas.kept(), schemas.found())
    assert not lines, (
        "Fields or options changed. Where that is meant, say so in CHANGELOG, let what was written before load, and run "
        "`python -m tests.guards.schemas`.\n" + "\n".join(lines)
    )


def test_a_change_is_found() -> None:
    before = {"model a": {"rank.default": 3, "rank.type": "integer"}, "model b": {"type": "object"}}
    after = {"model a": {"rank.default": 4, "rank.type": "integer"}, "model c": {"bound": None}}
    assert schemas.changes(before, after) == [
        "model a: rank.default: 3 → 4",
        'model b: type: "object" → nothing',
        "model c: bound: nothing → null",
    ]
