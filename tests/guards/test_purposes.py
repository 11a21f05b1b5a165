"""The purposes of random streams are words that stand in the source, spelled as ever: a stream follows from its purpose, so
that another spelling would move published figures."""

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
"""Constants. A new one may be added; none may be spelled otherwise."""
PATTERNS = {
    "point {}": "the number of a trial",
    "sample {}": "the fixed name of an arm",
    "<attack.name>": "the fixed name of an attack; tests/audit/test_attacks.py holds ours",
}
"""Purposes with something put in, and what that is: a whole number, or one of some fixed names."""


def purposes(tree: ast.AST) -> Iterator[str]:
    """The purposes that calls of `streams` name, with {} where something is put in; ``<…>`` for anything else."""
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


def test_purposes_are_those_of_ever() -> None:
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for purpose in purposes(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(purpose, path.relative_to(PACKAGE).as_posix())
    known = PURPOSES | PATTERNS.keys()
    strange = {purpose: where for purpose, where in found.items() if purpose not in known}
    assert not strange, f"Spelled otherwise, or no constant, or new (then add it here): {strange}"
    gone = known - found.keys()
    assert not gone, f"No stream has these purposes any more; was one renamed? {gone}"


def test_what_is_no_constant_is_found() -> None:
    text = 'streams(rng, "a", f"point {number}", name, *(f"{kind} {at}" for at in range(3)), *names)'
    assert list(purposes(ast.parse(text))) == ["a", "point {}", "<name>", "{} {}", "<*names>"]
