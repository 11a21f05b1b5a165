"""The purposes of random streams are constants in the source and keep their spelling: a stream follows from its purpose,
so that another spelling would change published figures."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent.parent / "src" / "unblur"

PURPOSES = {
    # models
    *("training", "carve", "initial weights", "initial factors", "start vector"),
    *("clusters", "initial autoencoder", "embeddings", "k-means", "pairs"),
    # synthesizers
    *("privacy", "diffusion", "denoiser weights", "sampling", "sample", "kept out"),
    *("groups", "stopping", "searching", "own users", "downstream"),
    # runs, searches, measuring
    *("fit", "split", "users", "validation", "points"),
    *("bootstrap", "signs", "differences", "intervals"),
    # audits
    *("fidelity", "utility", "halves", "resamples", "claims", "baseline"),
    *("members", "outsiders", "hidden of members", "hidden of outsiders", "synthetic", "train", "holdout"),
    # generated data
    *("items", "choices", "times", "degrees", "labels"),
}
"""Constant purposes. New ones may be added; none may be respelled."""
PATTERNS = {
    "part {}": "the number of a part of a blend",
    "point {}": "the number of a trial",
    "sample {}": "the fixed name of an arm",
    "<attack.name>": "the fixed name of an attack; tests/audit/test_attacks.py holds ours",
}
"""Purposes with a placeholder, and its values: an integer, or one of some fixed names."""


def purposes(tree: ast.AST) -> Iterator[str]:
    """The purposes in calls of `streams`, with {} for a placeholder and ``<…>`` for any other expression."""
    for node in ast.walk(tree):
        name = node.func if isinstance(node, ast.Call) else None
        if isinstance(name, ast.Name | ast.Attribute) and ast.unparse(name).rpartition(".")[2] == "streams":
            assert isinstance(node, ast.Call)
            yield from (_spelled(argument) for argument in node.args[1:])


def _spelled(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        return "".join(str(part) for part in parts)
    if isinstance(node, ast.Starred) and isinstance(node.value, ast.GeneratorExp):
        return _spelled(node.value.elt)
    return f"<{ast.unparse(node)}>"


def test_purposes_keep_their_spelling() -> None:
    in_source: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for purpose in purposes(ast.parse(path.read_text(encoding="utf-8"))):
            in_source.setdefault(purpose, path.relative_to(PACKAGE).as_posix())
    known = PURPOSES | PATTERNS.keys()
    strange = {purpose: where for purpose, where in in_source.items() if purpose not in known}
    assert not strange, f"Spelled otherwise, or no constant, or new (then add it here): {strange}"
    missing = known - in_source.keys()
    assert not missing, f"No stream has these purposes any more; was one renamed? {missing}"


def test_a_purpose_that_is_no_constant_is_found() -> None:
    text = 'streams(rng, "a", f"point {number}", name, *(f"{kind} {at}" for at in range(3)), *names)'
    assert list(purposes(ast.parse(text))) == ["a", "point {}", "<name>", "{} {}", "<*names>"]
