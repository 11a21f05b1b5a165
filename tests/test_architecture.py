"""Rules for every file of the source tree, future ones included."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import size

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "src" / "unblur"

EMPTY_NAMES = {"utils", "util", "base", "core", "common", "helpers", "helper", "managers", "manager", "misc"}

FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
FORBIDDEN_NAMES = {
    *("eval", "exec"),
    *("torch.load", "torch.save", "joblib.load", "joblib.dump", "pandas.read_pickle"),
    *("torch.manual_seed", "torch.seed", "torch.random.manual_seed", "torch.set_rng_state"),
    *("torch.cuda.manual_seed", "torch.cuda.manual_seed_all"),
    *("numpy.random.seed", "numpy.random.set_state", "random.seed"),
}

TERMINAL = {"print", "sys.argv", "sys.stdin", "sys.stdout", "sys.stderr"}

DATA_SET_NAME = re.compile(
    r"gowalla|yelp|amazon|movielens|last\.?fm|douban|(?<![a-z])ml[-_ ]?(?:100k|1m|10m|20m|25m|32m)",
    re.IGNORECASE,
)
MAY_NAME_DATA_SETS = {"data", "compat"}

# An absolute path into a folder that belongs to one person or one machine.
MACHINE_PATH = re.compile(r"(?<![\w./:~-])/(?:home|root|Users|mnt|opt|work|workspace|scratch)/")
TEXT_SUFFIXES = {"", ".py", ".toml", ".md", ".cff", ".txt", ".yml", ".yaml", ".json", ".html"}

LOADED_LATE = ("torch", "pandas", "polars", "pyarrow", "sklearn", "matplotlib", "optuna", "typer", "rich")
IMPORT_SECONDS = 0.5


class Module(NamedTuple):
    """A Python file of the package."""

    path: Path
    """Its path inside the package, such as ``spectral/bspm.py``."""
    text: str
    tree: ast.Module

    @property
    def top(self) -> str:
        """The module or sub-package of `unblur` that the file belongs to."""
        return self.path.parts[0].removesuffix(".py")

    def at(self, node: ast.AST, what: str) -> str:
        """A line of a report: the file, the line number and the fault."""
        return f"src/unblur/{self.path.as_posix()}:{getattr(node, 'lineno', 1)}: {what}"


@cache
def modules() -> tuple[Module, ...]:
    """Every Python file of the package."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    return tuple(
        Module(path.relative_to(PACKAGE), text, ast.parse(text, filename=str(path)))
        for path, text in texts.items()
    )


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Imported name → full name, for all imports of the file: ``np`` → ``numpy``."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def imported_modules(node: ast.AST) -> list[str]:
    """The dotted names that an import statement may load; nothing for any other node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    """The full name of ``a.b.c`` with the file's aliases undone; `None` if it is no chain of names."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def within(name: str, forbidden: set[str]) -> bool:
    """Return whether a dotted name is one of `forbidden` or inside one."""
    return any(name == one or name.startswith(f"{one}.") for one in forbidden)


def forbidden_names(module: Module) -> Iterator[str]:
    names = imported_names(module.tree)
    for node in ast.walk(module.tree):
        for name in imported_modules(node):
            if within(name, FORBIDDEN_MODULES | FORBIDDEN_NAMES):
                yield module.at(node, f"imports {name}")
        if isinstance(node, ast.Attribute | ast.Name) and dotted(node, names) in FORBIDDEN_NAMES:
            yield module.at(node, f"uses {dotted(node, names)}")
        if (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and ast.unparse(node.value) != "False"
        ):
            yield module.at(node.value, "allows pickle")


def data_set_names(module: Module) -> Iterator[str]:
    if module.top in MAY_NAME_DATA_SETS:
        return
    for number, line in enumerate(module.text.splitlines(), start=1):
        for found in DATA_SET_NAME.finditer(line):
            yield f"src/unblur/{module.path.as_posix()}:{number}: names a data set, {found.group()!r}"


def terminal_use(module: Module) -> Iterator[str]:
    if module.top == "cli":
        return
    names = imported_names(module.tree)
    for node in ast.walk(module.tree):
        for name in imported_modules(node):
            if within(name, {"typer", "rich", "click"}):
                yield module.at(node, f"imports {name}")
        if isinstance(node, ast.Attribute | ast.Name) and dotted(node, names) in TERMINAL:
            yield module.at(node, f"uses {dotted(node, names)}")


def bare_except(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield module.at(node, "catches everything with a bare except")


def empty_name(module: Module) -> Iterator[str]:
    for part in module.path.with_suffix("").parts:
        if part.strip("_").lower() in EMPTY_NAMES:
            yield module.at(module.tree, f"{part!r} says nothing; use a noun of the field")


def bare_constants(module: Module) -> Iterator[str]:
    """Numbers with a name in capitals and no reason: no docstring below, no comment above or in the line."""
    lines = module.text.splitlines()
    for node, after in pairwise([*module.tree.body, None]):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not holds_numbers_alone(node.value):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [each.id for each in ast.walk(ast.Tuple(targets)) if isinstance(each, ast.Name)]
        comment = lines[node.lineno - 2].startswith("#") or any(
            "#" in line for line in lines[node.lineno - 1 : node.end_lineno]
        )
        docstring = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if all(name.isupper() for name in names) and not comment and not docstring:
            yield module.at(node, f"{', '.join(names)} has no reason; say why it is this number")


def holds_numbers_alone(value: ast.expr | None) -> bool:
    """Return whether an expression consists of numbers: ``1e-5``, ``-1``, ``2**20``, ``(1, 2)``."""
    parts = [] if value is None else [part for part in ast.walk(value) if isinstance(part, ast.expr)]
    made_of = ast.Constant | ast.UnaryOp | ast.BinOp | ast.Tuple
    numbers = [part.value for part in parts if isinstance(part, ast.Constant)]
    return (
        bool(numbers)
        and all(isinstance(part, made_of) for part in parts)
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
    )


RULES: dict[str, Callable[[Module], Iterator[str]]] = {
    "no pickle, no eval, no global seed": forbidden_names,
    "data sets are named in data, compat and recipes only": data_set_names,
    "only cli reads arguments and prints": terminal_use,
    "no bare except": bare_except,
    "names say something": empty_name,
    "numeric constants have their reason": bare_constants,
}


EXEMPT: dict[str, set[str]] = {
    "data sets are named in data, compat and recipes only": MAY_NAME_DATA_SETS,
    "only cli reads arguments and prints": {"cli"},
}
"""Parts of the package that are exempt from a rule."""


@pytest.mark.parametrize("rule", RULES)
def test_source_tree(rule: str) -> None:
    breaches = [breach for module in modules() for breach in RULES[rule](module)]
    assert not breaches, f"{rule}:\n" + "\n".join(breaches)


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_looks_at_the_package(rule: str) -> None:
    """Most modules are looked at, and an exemption is one that is needed: a part that is renamed would slip out of both."""
    tops = Counter(module.top for module in modules())
    exempt = EXEMPT.get(rule, set())
    assert sum(tops[top] for top in exempt) < sum(tops.values()) / 2
    for top in exempt:
        moved = [each._replace(path=Path("elsewhere.py")) for each in modules() if each.top == top]
        assert any(True for module in moved for _ in RULES[rule](module)), f"{top} needs no exemption"


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (forbidden_names, "artifact.py", "import pickle"),
        (forbidden_names, "artifact.py", "from joblib import load"),
        (forbidden_names, "artifact.py", "import torch as t\nt.load('model.pt')"),
        (
            forbidden_names,
            "artifact.py",
            "def f():\n    from torch import save as keep\n    keep({}, path)",
        ),
        (forbidden_names, "artifact.py", "import numpy as np\nnp.load('a.npy', allow_pickle=flag)"),
        (forbidden_names, "recipe.py", "value = eval(text)"),
        (forbidden_names, "randomness.py", "import numpy as np\nnp.random.seed(1)"),
        (forbidden_names, "randomness.py", "import torch\nreseed = torch.manual_seed"),
        (data_set_names, "spectral/bspm.py", "# left out on Amazon-book"),
        (data_set_names, "evaluation/protocol.py", "if name == 'ml-1m': pass"),
        (terminal_use, "experiment.py", "print('done')"),
        (terminal_use, "experiment.py", "import sys\nsys.stderr.write('done')"),
        (terminal_use, "experiment.py", "from rich.progress import Progress"),
        (bare_except, "sources.py", "try:\n    pass\nexcept:\n    pass"),
        (empty_name, "evaluation/utils.py", ""),
        (empty_name, "core/flow.py", ""),
        (bare_constants, "spectral/flow.py", "import os\n\n_HOPELESS = 2.9"),
        (bare_constants, "spectral/flow.py", '"""Flow."""\n_FEWEST, _MOST = 2, 2**20\n_NAME = ""'),
    ],
)
def test_a_breach_is_found(rule: Callable[[Module], Iterator[str]], path: str, text: str) -> None:
    assert list(rule(Module(Path(path), text, ast.parse(text))))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (
            forbidden_names,
            "diffusion/training.py",
            "network.eval()\nmade.manual_seed(3)",
        ),
        (forbidden_names, "sources.py", "import numpy as np\nnp.load(path, allow_pickle=False)"),
        (data_set_names, "data/catalogue/listing.py", "NAMES = ('gowalla',)"),
        (data_set_names, "spectral/flow.py", "html_20m = 'ml'"),
        (terminal_use, "cli/main.py", "print('done')"),
        (empty_name, "baselines/popularity.py", ""),
        (
            bare_constants,
            "flow.py",
            '_MOST = 9\n"""As many as fit in a cache line."""\nNAME = "a"\nON = True',
        ),
        (bare_constants, "flow.py", "# As many as fit in a cache line.\n_MOST = 9\n_ALSO = 2  # halves it"),
    ],
)
def test_what_is_allowed_passes(rule: Callable[[Module], Iterator[str]], path: str, text: str) -> None:
    assert not list(rule(Module(Path(path), text, ast.parse(text))))


def repository_texts() -> Iterator[Path]:
    """The text files of the working copy, without environments, caches and results."""
    folders = (REPOSITORY / name for name in ("src", "tests", "benchmarks", "docs", ".ci"))
    for path in sorted([*REPOSITORY.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]):
        if path.name == ".git":  # a file in a worktree, with the place of the repository
            continue
        if path.is_file() and path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts:
            yield path


def test_texts_of_all_folders_are_looked_at() -> None:
    tops = {path.relative_to(REPOSITORY).parts[0] for path in repository_texts()}
    assert {"src", "tests", "benchmarks", "docs", ".ci", "README.md"} <= tops


def test_no_path_of_a_particular_machine() -> None:
    breaches = [
        f"{path.relative_to(REPOSITORY)}: {found.group()}"
        for path in repository_texts()
        for found in MACHINE_PATH.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not breaches, "\n".join(breaches)


def test_the_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def fresh_import(statement: str) -> tuple[float, list[str]]:
    """The seconds of an import in a new interpreter, and the modules of `LOADED_LATE` that it loads."""
    program = f"""
import sys, time
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
import json
print(json.dumps([seconds, [name for name in {LOADED_LATE!r} if name in sys.modules]]))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    seconds, loaded = json.loads(run.stdout)
    return seconds, loaded


def test_importing_the_package_does_nothing_and_is_quick() -> None:
    runs = [fresh_import("import unblur") for _ in range(5)]
    assert runs[0][1] == [], f"`import unblur` loads {runs[0][1]}; import them where they are first needed"
    best = min(seconds for seconds, _ in runs)
    assert best <= IMPORT_SECONDS, f"`import unblur` takes {best:.2f} s, the best of {len(runs)}"


def test_what_is_loaded_late_is_seen_when_it_is_loaded() -> None:
    assert fresh_import("import torch, polars")[1] == ["torch", "polars"]


@pytest.mark.parametrize(
    "statement",
    ["from unblur import Interactions, Ranking, Recommender, Split, Vocabulary", "import unblur.cli.main"],
)
def test_torch_waits_until_it_is_needed(statement: str) -> None:
    _, loaded = fresh_import(statement)
    assert "torch" not in loaded


# ------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize(
    ("count", "most"),
    [
        (size.inner_imports, 5),
        (size.untyped_specs, 0),
        (size.crowded, 0),
        (size.handing_on, 3),
        (size.twice_named, 0),
    ],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_the_layout_keeps_its_counts(count: Callable[[size.Package], list[str]], most: int) -> None:
    """`make size` prints and explains the counts."""
    counted = count(size.Package(PACKAGE))
    assert len(counted) <= most, "\n".join(counted)


# ------------------------------------------------------------------------------------------------ circles


def test_modules_do_not_import_each_other_in_circles() -> None:
    edges = size.Package(PACKAGE).edges()
    assert sum(map(len, edges.values())) > 500, "the imports of the package are not seen any more"
    groups = size.circles(edges)
    assert not groups, "\n".join(" ⇄ ".join(group) for group in groups)


def test_a_circle_is_found_through_a_class_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "spec.py").write_text('learner = "unblur.learner:Learner"\n')
    (tmp_path / "learner.py").write_text("from unblur.spec import learner\n")
    (tmp_path / "other.py").write_text("import unblur.spec\n")
    assert size.circles(size.Package(tmp_path).edges()) == [["unblur.learner", "unblur.spec"]]


# ------------------------------------------------------------------------------------- what nothing names

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
WORD = re.compile(r"[A-Za-z_]\w*")
CODE = re.compile(r"`[^`]+`|```.*?```", re.DOTALL)
"""Code in a document."""
CALLED_BY_ANOTHER = re.compile(r"validator|serializer|overload|\.command\b|\.callback\b|\broutes\.|\.tool\b")
"""Decorators that hand a function to a library that calls it."""
PLAIN_BASES = {"ABC", "Generic", "NamedTuple", "Protocol", "TypedDict"}
"""Bases from elsewhere that call no method by its name."""


def words(node: ast.AST) -> Counter[str]:
    """The uses of each name in some code; short strings count, since some name classes."""
    docstrings = {id(each.value) for each in ast.walk(node) if isinstance(each, ast.Expr)}
    used: Counter[str] = Counter()
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            used[each.id] += isinstance(each.ctx, ast.Load)
        elif isinstance(each, ast.Attribute):
            used[each.attr] += 1
        elif isinstance(each, ast.ImportFrom):
            used.update(
                alias.name for alias in each.names if alias.asname != alias.name
            )  # `import a as a` only makes a name public
        elif isinstance(each, ast.Constant) and isinstance(each.value, str) and id(each) not in docstrings:
            used.update(WORD.findall(each.value) if len(each.value) < 200 else ())
    return used


def definitions(module: Module, classes: set[str]) -> Iterator[Definition]:
    """The functions and classes of a module that some code must name; `classes` are those of the whole package.

    Python calls names such as ``__len__``, a decorator may hand a function on, and a method may be called by the library
    whose class it overrides.
    """
    for node in ast.walk(module.tree):
        inner = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases}
            if bases - classes - PLAIN_BASES:
                inner = []
        for each in inner:
            if not isinstance(each, Definition) or each.name.startswith("__"):
                continue
            if not any(CALLED_BY_ANOTHER.search(ast.unparse(mark)) for mark in each.decorator_list):
                yield each


def unnamed(package: Iterable[Module], elsewhere: Counter[str]) -> Iterator[str]:
    """The functions and classes that neither the rest of the package nor anything `elsewhere` names."""
    classes = {
        each.name for module in package for each in ast.walk(module.tree) if isinstance(each, ast.ClassDef)
    }
    used = Counter(elsewhere)
    for module in package:
        used.update(words(module.tree))
    for module in package:
        for each in definitions(module, classes):
            if used[each.name] <= words(each)[each.name]:
                yield module.at(each, f"nothing names {each.name}")


def named_elsewhere() -> Counter[str]:
    """The names in tests, benchmarks and documents."""
    used: Counter[str] = Counter()
    for path in repository_texts():
        top = path.relative_to(REPOSITORY).parts[0]
        text = path.read_text(encoding="utf-8") if path.suffix in (".py", ".md") else ""
        if path.suffix == ".py" and top != "src":
            used.update(words(ast.parse(text)))
        elif top != "CHANGELOG.md":
            used.update(word for code in CODE.findall(text) for word in WORD.findall(code))
    return used


def test_everything_that_is_defined_is_named_somewhere() -> None:
    lines = list(unnamed(modules(), named_elsewhere()))
    assert not lines, "\n".join(lines)


def test_what_nothing_names_is_found() -> None:
    text = """
from elsewhere import Library
class Used(Library):
    def overridden(self): ...
class Own:
    def lost(self): return self.lost()
    def __len__(self): return 0
    @validator("a")
    def checked(self): ...
def orphan(): ...
value = Used() and Own()
"""
    module = Module(Path("a.py"), text, ast.parse(text))
    assert [line.rpartition(" ")[2] for line in unnamed([module], Counter())] == ["orphan", "lost"]
    assert not list(unnamed([module], Counter({"orphan": 1, "lost": 1})))
