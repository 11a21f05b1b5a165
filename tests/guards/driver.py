"""Digests of all that must keep its bits, by one version of the package: `python -m tests.guards.driver SOURCES [WORD…]`.

SOURCES is the folder that holds the package, in front of everything else on the path. Prints one JSON object: section →
entry → digest. With WORDs only entries that have one of them in "section/entry" are computed. Everything runs on data that
are generated here. All access to the package goes through `Package`, so that versions with another layout are compared.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.guards import settings

SEARCH_POINTS = 20

OLD_NAMES: Mapping[str, Mapping[str, str]] = {
    "objective": {
        "prediction": "predicts",
        "timestep_sampler": "step_choice",
        "uniform_probability": "uniform_share",
    },
    "schedule": {"noise_min": "lowest", "noise_max": "highest"},
    "diffusion": {"beta_min": "lowest", "beta_max": "highest"},
    "stopping": {"hold_out": "carve"},
    "clusters": {"embedding_size": "width"},
    "lightgcn": {"embedding_size": "width", "init_std": "deviation"},
    "row-mlp": {"embedding_size": "embedding"},
    "flipped-users": {"fraction": "exchanged"},
    "privacy": {"counts_fraction": "counts_share"},
    "utility": {
        "metrics": "compared",
        "report_users": "reported",
        "search_users": "searching",
        "stopping_users": "stopping",
    },
}
"""By table or kind: the name of a field → its name in versions before the rename."""
OLD_KINDS: Mapping[str, str] = {"vae-sampler": "multi-vae"}
"""Kind → its name in these versions."""


class Package:
    """One version of the package, whose functions and classes are found by name in any module."""

    def __init__(self, sources: Path) -> None:
        self.folder = sources / "unblur"

    @cached_property
    def _homes(self) -> Mapping[str, list[str]]:
        """Name → the modules that define it at their top level."""
        homes: dict[str, list[str]] = {}
        for path in sorted(self.folder.rglob("*.py")):
            parts = path.relative_to(self.folder.parent).with_suffix("").parts
            module = ".".join(part for part in parts if part != "__init__")
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names: list[str] = []
                if isinstance(node, ast.ClassDef | ast.FunctionDef):
                    names = [node.name]
                elif isinstance(node, ast.Assign):
                    names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    names = [node.target.id]
                for name in names:
                    homes.setdefault(name, []).append(module)
        return homes

    def __call__(self, *names: str, near: str = "") -> Any:
        """The first of the names that is defined; of several modules, the first with `near` in its path."""
        for name in names:
            homes = self._homes.get(name)
            if homes:
                home = next((home for home in homes if near in home), homes[0])
                return getattr(import_module(home), name)
        raise LookupError(f"nothing is called {' or '.join(names)}")

    # ------------------------------------------------------------------------ what changes with versions

    def kinds(self, *names: str) -> list[str]:
        """The kinds that a table of the registry has, or that a function of it gives, by today's names."""
        table = self(*names, near="registry")
        today = {old: kind for kind, old in OLD_KINDS.items()}
        return sorted(today.get(kind, kind) for kind in (table() if callable(table) else table))

    @cached_property
    def has_old_names(self) -> bool:
        """True for versions before the rename."""
        return not self.has("TimestepSampler", "")

    def spelled(self, values: Mapping[str, Any], table: str = "") -> dict[str, Any]:
        """Settings under the names of this version; `table` is their section, or the kind."""
        if not self.has_old_names:
            return dict(values)
        names = OLD_NAMES.get(str(values.get("kind", table)), {})
        return {
            names.get(name, name): self.spelled(value, name)
            if isinstance(value, Mapping)
            else OLD_KINDS.get(value, value)
            if name == "kind"
            else value
            for name, value in values.items()
        }

    def today(self, path: str, kind: str) -> str:
        """The dotted path of a hyper-parameter under its current names."""
        above, _, name = path.rpartition(".")
        names = OLD_NAMES.get(above.rpartition(".")[2] or kind, {}) if self.has_old_names else {}
        olds = {old: new for new, old in names.items()}.get(name, name)
        return f"{above}.{olds}" if above else olds

    def model_spec(self, kind: str, values: Mapping[str, Any]) -> Any:
        spec = self("recommender_spec", near="registry")(kind)
        return self("spec_from_dict")(spec, self.spelled(values, kind))

    def synthesizer_spec(self, kind: str, values: Mapping[str, Any]) -> Any:
        own = OLD_KINDS.get(kind, kind) if self.has_old_names else kind
        spec = self("synthesizer_spec", near="registry")(own)
        return self("spec_from_dict")(spec, self.spelled(values, kind))

    def split(self, values: Mapping[str, Any], parts: Mapping[str, Any], rng: int) -> Any:
        table = self("SPLITTINGS", "SPLITS")
        settings = {name: value for name, value in values.items() if name != "kind"}
        return self("spec_from_dict")(table[values["kind"]], settings).apply(parts, rng)

    def has(self, name: str, near: str) -> bool:
        """Return whether a module with `near` in its path defines the name."""
        return any(near in home for home in self._homes.get(name, ()))

    def space(self, spec: Any) -> Any:
        """The dimensions of the kind's search, or an empty tuple."""
        if self.has("Points", "tuning"):
            return tuple(self("space_of", near="points")(spec))
        if not getattr(type(spec), "search_space", {}) and spec.kind not in self("SPACES"):
            return ()
        return self("dimensions_of")(spec)

    def dimension(self, dimension: Any, kind: str) -> Any:
        """The name, values and paths of a dimension as plain values."""
        plain = dimension.to_dict()
        name, *paths = (self.today(path, kind) for path in (plain["name"], *plain["paths"]))
        return {**plain, "name": name, "paths": paths}

    def points(self, sampler: str, space: Any, seed: int) -> list[Any]:
        """The first points that a search of the space tries; values come back as a search would see them.

        Where a point follows from the results of others, of later versions the seed that it is drawn by.
        """
        size = self("size_of")(space)
        number = SEARCH_POINTS if size is None or sampler == "bayes" else min(SEARCH_POINTS, size)
        if self.has("Points", "tuning"):
            points = self("Points", near="tuning")(tuple(space), sampler, seed)
            return [points.at(at) or points.seed_at(at) for at in range(number)]
        tried: list[Any] = []
        for at in range(number):
            finished = [(point, float(np.sin(3.0 * place))) for place, point in enumerate(tried)]
            tried.append(self("propose", near="sampling")(sampler, space, at, seed, finished))
        return tried

    def tensors(self, fitted: Any) -> Mapping[str, Any]:
        tensors = fitted.tensors
        return dict(tensors() if callable(tensors) else tensors)

    def command(self, *words: str | Path) -> int:
        """Run a command line in this process without showing its output."""
        main = self("main", near="cli.main")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as problem:
            code = main([str(word) for word in words])
        if code:
            raise RuntimeError(problem.getvalue().strip()[-300:])
        return int(code)


# ------------------------------------------------------------------------------------------------ digests


def digest(value: Any) -> str:
    """A digest of plain values, arrays and interactions: types, shapes and bytes."""
    state = hashlib.sha256()
    for piece in _pieces(value):
        state.update(len(piece).to_bytes(8, "little") + piece)
    return state.hexdigest()[:16]


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        yield b"{"
        for name in sorted(value):
            yield str(name).encode()
            yield from _pieces(value[name])
    elif isinstance(value, list | tuple):
        yield b"["
        for part in value:
            yield from _pieces(part)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif hasattr(value, "indptr"):
        yield f"csr {value.shape}".encode()
        for part in (value.indptr.astype(np.int64), value.indices.astype(np.int64), value.data):
            yield from _pieces(part)
    elif hasattr(value, "matrix"):
        yield b"interactions"
        yield from _pieces([value.matrix, value.users.to_list(), value.items.to_list(), value.timestamps])
    elif hasattr(value, "detach"):
        yield from _pieces(value.detach().cpu().float().numpy())
    elif isinstance(value, np.generic):
        yield from _pieces(value.item())
    else:
        yield f"{type(value).__name__} {value!r}".encode()


# ------------------------------------------------------------------------------------------- data


class Inputs:
    """Generated data, as the tests share them: 50 users and 30 items with times, and a user and an item without interactions."""

    def __init__(self, package: Package) -> None:
        self.package = package

    @cached_property
    def log(self) -> Any:
        random = np.random.default_rng(20)
        taste = random.normal(size=(50, 4)) @ random.normal(size=(4, 30)) + random.normal(size=(50, 30))
        has_item = taste + np.linspace(1.5, -1.5, 30) > 1.2
        has_item[np.arange(50), random.integers(0, 30, 50)] = True
        has_item[:, 21] = has_item[:, 7]
        rows, columns = np.nonzero(has_item)
        shuffled = random.permutation(len(rows))
        vocabulary = self.package("Vocabulary")
        return self.package("Interactions").from_pairs(
            np.array([f"user-{row:02}" for row in rows[shuffled]]),
            np.array([f"item-{column:02}" for column in columns[shuffled]]),
            timestamps=random.integers(0, 1_000_000, len(rows)),
            user_vocabulary=vocabulary([f"user-{row:02}" for row in range(51)]),
            item_vocabulary=vocabulary([f"item-{column:02}" for column in range(31)]),
        )

    @cached_property
    def timeless(self) -> Any:
        return self.package("Interactions")(self.log.matrix, self.log.users, self.log.items)

    @cached_property
    def newcomers(self) -> Any:
        """New users with one item, two, half of the items, and none."""
        rows = [[3], [7, 21], [*range(0, 31, 2)], [], [30, 0]]
        users = [f"new-{row}" for row, places in enumerate(rows) for _ in places]
        places = [place for row in rows for place in row]
        return self.package("Interactions").from_pairs(
            np.array(users, dtype=str),
            np.array([f"item-{place:02}" for place in places]),
            timestamps=np.arange(len(users)) * 1000,
            user_vocabulary=self.package("Vocabulary")([f"new-{row}" for row in range(len(rows))]),
            item_vocabulary=self.log.items,
        )

    @cached_property
    def parts(self) -> Mapping[str, Any]:
        """The log in three parts, divided without the package."""
        role = np.random.default_rng(5).random(self.log.n_interactions)
        first = np.concatenate([[True], np.diff(self.log.rows()) != 0])
        held_out, valid = (role < 0.2) & ~first, (role >= 0.2) & (role < 0.35) & ~first
        return {
            "train": self.log.keep(~held_out & ~valid),
            "valid": self.log.keep(valid),
            "test": self.log.keep(held_out),
        }

    @cached_property
    def ratings(self) -> NDArray[np.int64]:
        """(110 users, 24 items): 1 liked, 0 observed and not liked, −1 not observed; two tastes."""
        random = np.random.default_rng(0)
        taste = np.where(np.arange(110)[:, None] % 2 == np.arange(24) % 2, 0.6, 0.15)
        observed = random.random((110, 24)) < taste
        observed[:, 0] = observed[:, 5] = True
        liked = random.random(observed.shape) < 0.7
        liked[:, 0] = True
        return np.where(observed, np.where(liked, 1, 0), -1)

    def write_parts(self, folder: Path) -> Path:
        """A folder of train, valid and test file."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in self.parts.items():
            part.to_frame().select("user", "item", "timestamp").write_parquet(folder / f"{name}.parquet")
        return folder

    def write_rated(self, folder: Path) -> Path:
        """A folder of train, test and valid file with ratings, whose users are consecutive blocks."""
        import polars as pl

        folder.mkdir(parents=True, exist_ok=True)
        start = 0
        for name, size in {"train": 70, "test": 20, "valid": 20}.items():
            rows, columns = np.nonzero(self.ratings[start : start + size] >= 0)
            frame = {"user": rows + start, "item": columns, "rating": self.ratings[rows + start, columns]}
            pl.DataFrame(frame).write_parquet(folder / f"{name}.parquet")
            start += size
        return folder


def write_recipe(path: Path, values: Mapping[str, Any]) -> Path:
    """A recipe as TOML: values first, then tables."""

    def plain(value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{name} = {plain(below)}" for name, below in value.items()) + "}"
        return json.dumps(value)

    lines = [f"{name} = {plain(value)}" for name, value in values.items() if not isinstance(value, Mapping)]
    for name, table in values.items():
        if isinstance(table, Mapping):
            lines += [f"[{name}]"]
            lines += [f"{key} = {plain(value)}" for key, value in table.items() if value is not None]
            lines += [f'{key} = "off"' for key, value in table.items() if value is None]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# ----------------------------------------------------------------------------------------- what is compared

Entries = Iterator[tuple[str, Any]]


def models(package: Package, inputs: Inputs, wanted: Callable[[str], bool]) -> Entries:
    """Every kind of recommender: tensors, scores of known, new and empty histories, and lists."""
    for kind in package.kinds("RECOMMENDERS", "recommenders"):
        for name, values in settings.MODELS.get(kind, {"default": {}}).items():
            if wanted(f"models/{kind} {name}"):
                yield from _model(package, inputs, f"{kind} {name}", kind, values, inputs.log)
        if kind != "recency" and wanted(f"models/{kind} without times"):
            values = next(iter(settings.MODELS.get(kind, {"default": {}}).values()))
            yield from _model(package, inputs, f"{kind} without times", kind, values, inputs.timeless)
    trained = ("diffrec", "l-diffrec", "lightgcn", "mult-vae", "row-mlp")
    for kind in trained:
        if wanted(f"models/{kind} given validation"):
            values = next(iter(settings.MODELS[kind].values()))
            given = {"train": inputs.parts["train"], "validation": inputs.parts["valid"]}
            yield from _model(package, inputs, f"{kind} given validation", kind, values, **given)


def _model(
    package: Package, inputs: Inputs, name: str, kind: str, values: Mapping[str, Any], train: Any, **more: Any
) -> Entries:
    with _caught(name) as problems:
        model = package.model_spec(kind, values).fit(train, rng=1, **more)
        empty = inputs.log.take_users([50, 50])
        yield f"{name}: tensors", package.tensors(model)
        yield f"{name}: scores of train", model.score(train)
        yield f"{name}: scores of newcomers", model.score(inputs.newcomers)
        yield f"{name}: scores of empty histories", model.score(empty)
        yield f"{name}: lists", model.recommend(train, k=10).positions
        yield f"{name}: lists of newcomers", model.recommend(inputs.newcomers, k=31, exclude=None).positions
        yield f"{name}: similar items", model.similar_items("item-07", 8).positions
    yield from problems


def synthesizers(package: Package, inputs: Inputs, wanted: Callable[[str], bool]) -> Entries:
    """Every kind of synthesizer: tensors and samples."""
    for kind in package.kinds("SYNTHESIZERS", "synthesizers"):
        for name, values in settings.SYNTHESIZERS.get(kind, {"default": {}}).items():
            if not wanted(f"synthesizers/{kind} {name}"):
                continue
            with _caught(f"{kind} {name}") as problems:
                fitted = package.synthesizer_spec(kind, values).fit(inputs.log, rng=1)
                yield f"{kind} {name}: tensors", package.tensors(fitted)
                yield f"{kind} {name}: as many users", fitted.sample(rng=2)
                yield f"{kind} {name}: 20 users", fitted.sample(20, rng=3)
            yield from problems


def splits(package: Package, inputs: Inputs, wanted: Callable[[str], bool]) -> Entries:
    """Every split and every kind of hold-out."""

    def parts_of(split: Any) -> list[Any]:
        return [split.train, split.histories, split.held_out, split.validation, split.excluded]

    for name, values in settings.SPLITS.items():
        with _caught(name) as problems:
            parts = inputs.parts if values["kind"] == "files" else {"all": inputs.log}
            yield f"{name}: parts", parts_of(package.split(values, parts, 3))
        yield from problems
    with _caught("in order of time") as problems:
        files = package("spec_from_dict")(package("SPLITTINGS", "SPLITS")["files"], {"validation": "valid"})
        yield "in order of time: parts", parts_of(files.in_order(inputs.parts))
    yield from problems
    for kind in ("random", "block"):
        with _caught(f"hold-outs {kind}") as problems:
            held = package("hold_outs")(inputs.log, kinds=[kind], draws=3, fraction=0.2, rng=4)
            yield f"hold-outs {kind}: parts", [parts_of(each.split) for each in held]
        yield from problems
    for how in ("random", "last"):
        with _caught(f"carved {how}") as problems:
            values = package.spelled({"hold_out": how, "fraction": 0.25}, "stopping")
            stopping = package("Stopping", near="training")(**values)
            hold_out = package("carve", "hold_out", near="stopping")
            yield f"carved {how}: parts", parts_of(hold_out(inputs.log, stopping, 6))
        yield from problems
    with _caught("k-core") as problems:
        yield "k-core: data", package("k_core")(inputs.log, users=4, items=5)
    yield from problems
    for name, departures in {"plain": {}, "departures": settings.DEPARTURES}.items():
        for judged in ("reported", "searching"):
            with _caught(f"groups {name} {judged}") as problems:
                groups = _groups(package, inputs, departures, judged)
                parts = [groups.learned.liked, groups.learned.observed, *parts_of(groups.stopping)]
                parts += [
                    groups.histories.liked,
                    groups.held_out,
                    groups.held_out_observed,
                    groups.judged_stop,
                ]
                yield f"groups {name} {judged}: parts", parts
            yield from problems


def _groups(package: Package, inputs: Inputs, departures: Mapping[str, bool], judged: str) -> Any:
    """The training, stopping and reported users of a utility protocol, of generated rated users."""
    interactions, rated = package("Interactions"), package("Rated")

    def users(rows: slice) -> Any:
        table = inputs.ratings[rows]
        return rated(*(interactions.from_matrix((table >= least).astype(np.float32)) for least in (1, 0)))

    return package("grouped")(
        users(slice(0, 90)), users(slice(90, 110)), package("Utility")(), package("Departures")(**departures),
        judged=judged,
    )  # fmt: skip


def spaces(package: Package, inputs: Inputs, wanted: Callable[[str], bool]) -> Entries:
    """The search space of each kind."""
    for kind in package.kinds("RECOMMENDERS", "recommenders"):
        with _caught(kind) as problems:
            space = package.space(package.model_spec(kind, {}))
            yield f"{kind}: dimensions", [package.dimension(dimension, kind) for dimension in space]
        yield from problems


def searches(package: Package, inputs: Inputs, wanted: Callable[[str], bool]) -> Entries:
    """The first points of each search, and the settings that a strict run tries."""
    for kind in package.kinds("RECOMMENDERS", "recommenders"):
        spec = package.model_spec(kind, {})
        for sampler in ("random", "exhaustive", "bayes"):
            if not wanted(f"searches/{kind} {sampler}"):
                continue
            with _caught(f"{kind} {sampler}") as problems:
                space = package.space(spec)
                points = package.points(sampler, space, 7) if space else []
                yield (
                    f"{kind} {sampler}: points",
                    [
                        {package.today(name, kind): value for name, value in point.items()}
                        if isinstance(point, Mapping)
                        else point
                        for point in points
                    ],
                )
            yield from problems


def data(package: Package, inputs: Inputs, wanted: Callable[[str], bool]) -> Entries:
    """Generated data sets."""
    yield "generated", package("generated")(300, 200, 3000, rng=1)
    yield "demo", package("demo_interactions")(n_users=80, n_items=70)
    yield "demo of another seed", package("demo_interactions")(n_users=40, n_items=60, rng=2)
    yield "log", inputs.log


def doubt(package: Package, inputs: Inputs, wanted: Callable[[str], bool]) -> Entries:
    """Intervals, tests and metrics."""
    values = np.random.default_rng(3).random((60, 3))
    positions = np.argsort(np.random.default_rng(4).random((51, 31)), axis=1)[:, :20].astype(np.int32)
    cases: Mapping[str, Callable[[], Any]] = {
        "bootstrap": lambda: package("bootstrap_interval")(values, resamples=200, rng=1),
        "holm": lambda: package("holm")([0.01, 0.5, 0.02]),
        "sign flips": lambda: package("sign_flip_tests")(values - 0.5, permutations=500, rng=2),
        "differences": lambda: [
            [pair.mean, pair.low, pair.high, pair.p_value, pair.adjusted]
            for pair in package("differences")(values, permutations=500, resamples=100, rng=2)
        ],
        **{
            metric: lambda metric=metric: (
                package("per_user")(  # type: ignore[misc]
                    positions, inputs.log.matrix, [metric], [1, 5, 20], popularity=inputs.log.item_degrees
                ).values
            )
            for metric in package("USER_METRICS")
        },
        **{
            metric: lambda metric=metric: package("LIST_METRICS")[metric](  # type: ignore[misc]
                package("exposure")(positions, 31, 10)
            )
            for metric in package("LIST_METRICS")
        },
        "popularity lift": lambda: package("popularity_lift")(positions, inputs.log, inputs.log.item_degrees),
        "novelty": lambda: package("novelty")(positions, inputs.log.item_degrees, 51),
        "diversity": lambda: package("diversity")(positions, inputs.log),
    }
    for name, case in cases.items():
        with _caught(name) as problems:
            yield name, case()
        yield from problems


def runs(package: Package, inputs: Inputs, wanted: Callable[[str], bool]) -> Entries:
    """What `unblur run` reports under the paper protocol."""
    yield from _reports(package, inputs, wanted, "runs", lambda name: "strict" not in name)


def strict(package: Package, inputs: Inputs, wanted: Callable[[str], bool]) -> Entries:
    """What `unblur run` reports under the strict protocol, and the setting that it chose."""
    yield from _reports(package, inputs, wanted, "strict", lambda name: "strict" in name)


def _reports(
    package: Package,
    inputs: Inputs,
    wanted: Callable[[str], bool],
    section: str,
    own: Callable[[str], bool],
) -> Entries:
    cases: dict[str, tuple[Mapping[str, Any], str]] = {}
    for name, recipe in settings.RECIPES.items():
        if own(name):
            cases[name] = ({"seed": 4, "data": {}, **recipe}, "parts")
    if own("utility"):
        cases["utility"] = (settings.UTILITY, "rated")
        departing = {**settings.UTILITY["utility"], "departures": settings.DEPARTURES}
        cases["utility with departures"] = ({**settings.UTILITY, "utility": departing}, "rated")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        inputs.write_parts(folder / "parts")
        inputs.write_rated(folder / "rated")
        for name, (recipe, where) in cases.items():
            if not wanted(f"{section}/{name}"):
                continue
            with _caught(name) as problems:
                file, out = (
                    write_recipe(folder / f"{name}.toml".replace(" ", "-"), package.spelled(recipe)),
                    folder / name,
                )
                package.command("run", file, "--data", folder / where, "--out", out, "--seeds", "2")
                report = json.loads((out / "report.json").read_text(encoding="utf-8"))
                for entry in report["measurements"]:
                    yield (
                        f"{name}: {entry['name']}",
                        [entry.get(key) for key in ("value", "low", "high", "spread")],
                    )
            yield from problems


@contextlib.contextmanager
def _caught(name: str) -> Iterator[list[tuple[str, Any]]]:
    """Record an error of the block as an entry, so that a failure of one version is a difference and the rest runs."""
    problems: list[tuple[str, Any]] = []
    try:
        yield problems
    except GeneratorExit:
        raise
    except Exception as problem:  # noqa: BLE001 - whatever it is, the table says so
        problems.append((name, f"{type(problem).__name__}: {problem}"))


SECTIONS: Mapping[str, Callable[[Package, Inputs, Callable[[str], bool]], Entries]] = {
    "data": data,
    "splits": splits,
    "doubt": doubt,
    "models": models,
    "synthesizers": synthesizers,
    "spaces": spaces,
    "searches": searches,
    "runs": runs,
    "strict": strict,
}


def main() -> None:
    """Print the digests of the package in the folder of the first argument."""
    sources, words = Path(sys.argv[1]).resolve(), sys.argv[2:]
    import unblur

    home = Path(unblur.__file__).resolve().parent
    if home != sources / "unblur":
        raise SystemExit(f"the package comes from {home}, not from {sources}")
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(ImportError):
        import_module(
            "unblur.experiment"
        )  # some modules of older versions cannot be the first to be imported
    package = Package(sources)
    inputs = Inputs(package)

    def wanted(name: str) -> bool:
        return not words or any(word in name or name in word for word in words)

    digests: dict[str, dict[str, str]] = {}
    for section, entries in SECTIONS.items():
        digests[section] = {}
        for entry, value in entries(package, inputs, wanted):
            if wanted(f"{section}/{entry}"):
                digests[section][entry] = value if isinstance(value, str) else digest(value)
    json.dump(digests, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
