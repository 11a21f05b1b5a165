"""The size of the house: the counts that the rebuild is held to, read from the source alone.

    python -m tests.size [FOLDER]

FOLDER is the package's, `src/unblur` of this working copy unless told otherwise, so that an older commit in a worktree
can be counted by the same rules.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Edges: TypeAlias = Mapping[str, set[str]]

MANY_PARAMETERS = 9
HANDED_ON = 3
"""A function only hands on if its body is one call with at least this many of its own parameters."""
PUBLIC_DOORS = {
    "read",
    "from_pairs",
    "from_frame",
    "describe",
    "recommend",
    "fit",
    "run",
    "compare",
    "synthesize",
    "audit",
    "run_hyper",
}
SPEC_NAMES = {"spec", "model", "base", "fitted", "recommender", "synthesizer", "downstream", "inner"}
"""Names of parameters, fields and values that hold a spec or a fitted thing."""
PLACE = re.compile(r"unblur(?:\.\w+)+:\w+")
"""The form "module:Class", which names a class."""


class Package:
    """The parsed source of a package."""

    def __init__(self, folder: Path) -> None:
        """Parse every Python file below `folder`."""
        self.texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))}
        self.trees = {path: ast.parse(text) for path, text in self.texts.items()}
        self.names = {path: self._dotted(folder, path) for path in self.trees}
        self.modules = set(self.names.values())

    @staticmethod
    def _dotted(folder: Path, path: Path) -> str:
        parts = path.relative_to(folder).with_suffix("").parts
        return ".".join(["unblur", *(part for part in parts if part != "__init__")])

    def inside(self, part: str) -> Iterator[tuple[Path, ast.Module]]:
        """The files of the top-level module or folder `part`."""
        for path, tree in self.trees.items():
            if (self.names[path] + ".").startswith(f"unblur.{part}."):
                yield path, tree

    def functions(self, *, without: str = "") -> Iterator[tuple[str, Function]]:
        """Every function and its module, without those below `without`."""
        for path, tree in self.trees.items():
            if without and (self.names[path] + ".").startswith(f"unblur.{without}."):
                continue
            for node in ast.walk(tree):
                if isinstance(node, Function):
                    yield self.names[path], node

    # ------------------------------------------------------------------------------------------- imports

    def imported(self, node: ast.stmt) -> set[str]:
        """The modules of the package that an import statement loads."""
        if isinstance(node, ast.Import):
            return {alias.name for alias in node.names} & self.modules
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names} & self.modules
            rest = any(f"{node.module}.{alias.name}" not in self.modules for alias in node.names)
            return whole | ({node.module} & self.modules if rest else set())
        return set()

    def edges(self) -> Edges:
        """Module → the modules that it imports when it runs, those named by "module:Class" strings included.

        Imports for type checkers alone do not count, nor does the registry's table of places.
        """
        edges: dict[str, set[str]] = defaultdict(set)
        for path, tree in self.trees.items():
            module, skipped = self.names[path], _type_checking(tree)
            for node in ast.walk(tree):
                if isinstance(node, ast.Import | ast.ImportFrom) and node not in skipped:
                    edges[module] |= self.imported(node) - {module}
                text = node.value if isinstance(node, ast.Constant) else None
                if isinstance(text, str) and PLACE.fullmatch(text) and module != "unblur.registry":
                    edges[module] |= {text.partition(":")[0]} & self.modules - {module}
        return edges


def _type_checking(tree: ast.Module) -> set[ast.AST]:
    """Every node under ``if TYPE_CHECKING``."""
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If) and _is_type_checking(node.test))
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def statements(package: Package) -> int:
    """Statements that are no string expression."""
    return sum(
        isinstance(node, ast.stmt) and not _is_text(node)
        for tree in package.trees.values()
        for node in ast.walk(tree)
    )


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def circles(edges: Edges) -> list[list[str]]:
    """Groups of modules that import each other, by Tarjan's algorithm (SIAM J. Comput., 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(edges.get(module, ())):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = [stack.pop()]
            while group[-1] != module:
                group.append(stack.pop())
            if len(group) > 1:
                groups.append(sorted(group))

    for module in sorted(edges):
        if module not in index:
            visit(module)
    return groups


def inner_imports(package: Package) -> list[str]:
    """Imports of the package inside functions, outside the command line."""
    return [
        f"{module}:{node.lineno}"
        for module, function in package.functions(without="cli")
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and package.imported(node)
    ]


def untyped_specs(package: Package) -> list[str]:
    """Parameters, fields and values that hold a spec or a fitted thing and are annotated `Any`."""
    places = []
    for path, tree in package.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.arg):
                name, annotation = node.arg, node.annotation
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name, annotation = node.target.id, node.annotation
            else:
                continue
            words = set(re.findall(r"\w+", ast.unparse(annotation))) if annotation else set()
            if name in SPEC_NAMES and words & {"Any", "object"} and not words & {"Mapping", "dict"}:
                places.append(f"{package.names[path]}:{node.lineno}")
    return places


def parameters(function: Function) -> list[str]:
    """The names of all parameters, `self` included."""
    arguments = function.args
    named = [entry.arg for entry in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return named


def crowded(package: Package) -> list[str]:
    """Functions with nine or more parameters, but for commands and public doors."""
    return [
        f"{module}.{function.name}"
        for module, function in package.functions(without="cli")
        if len(parameters(function)) >= MANY_PARAMETERS and function.name not in PUBLIC_DOORS
    ]


def handing_on(package: Package) -> list[str]:
    """Functions whose body is one call to which three or more of their own parameters are passed by name."""
    places = []
    for module, function in package.functions():
        body = [node for node in function.body if not _is_text(node) and not isinstance(node, ast.ImportFrom)]
        call = getattr(body[0], "value", None) if len(body) == 1 else None
        if not isinstance(body[0] if body else None, ast.Return | ast.Expr) or not isinstance(call, ast.Call):
            continue
        names = {entry.arg for entry in (*function.args.args, *function.args.kwonlyargs)}
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        if sum(isinstance(value, ast.Name) and value.id in names for value in values) >= HANDED_ON:
            places.append(f"{module}.{function.name}")
    return places


def twice_named(package: Package) -> list[str]:
    """Public types (top-level classes, aliases, type variables) whose name stands in two modules."""
    places: dict[str, set[str]] = defaultdict(set)
    for path, tree in package.trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                places[node.name].add(package.names[path])
            elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith("TypeAlias"):
                places[ast.unparse(node.target)].add(package.names[path])
            elif isinstance(node, ast.Assign) and ast.unparse(node.value).startswith(
                ("TypeVar(", "ParamSpec(")
            ):
                places[ast.unparse(node.targets[0])].add(package.names[path])
    return sorted(
        f"{name}: {', '.join(sorted(where))}"
        for name, where in places.items()
        if len(where) > 1 and not name.startswith("_")
    )


def main() -> None:
    """Print each count, and with ``--list`` what was counted."""
    words = [word for word in sys.argv[1:] if word != "--list"]
    folder = Path(words[0]) if words else Path(__file__).resolve().parent.parent / "src" / "unblur"
    package = Package(folder)
    lists = {
        "import circles": [" ⇄ ".join(group) for group in circles(package.edges())],
        "imports of our own inside functions, outside cli": inner_imports(package),
        "Any for a spec, model or fitted thing": untyped_specs(package),
        "functions with nine or more parameters": crowded(package),
        "functions that only hand on": handing_on(package),
        "public type names that occur twice": twice_named(package),
    }
    lines = sum(text.count("\n") for text in package.texts.values())
    print(f"{statements(package):7,}  statements")
    print(f"{lines:7,}  lines")
    print(f"{len(package.texts):7,}  files")
    for title, entries in lists.items():
        print(f"{len(entries):7,}  {title}")
        if "--list" in sys.argv:
            print("".join(f"           {entry}\n" for entry in entries), end="")


if __name__ == "__main__":
    main()
