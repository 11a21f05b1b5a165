"""Faults under force: `make fuzz SEED=0 MINUTES=10`, which takes turns through these trials, in a scratch folder.

- damaged: a saved model or synthesizer with some bytes changed. It must be refused.
- hostile: one with other settings, arrays or items, and the right hashes. It must be refused, or be of use.
- texts: a recipe with some characters changed. It must be refused, or be a recipe.
- inputs: a file of interactions with some bytes changed. It must be refused, or be read.
- caches: a folder of a study or of a comparison with a file changed. The same command must refuse it, or end.
- kills: a command that is killed at one of its file-system events. What was there before, or the new output, must be
  there whole, nothing else may have changed, and the same command must end afterwards.

Whatever is raised that is not an error of ours, too little memory or time among it, is foreign. The end prints how many trials
there were, what was lost and what was foreign, and the peak memory; the exit code is 1 if anything was lost or foreign.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

import unblur
from tests.guards.keep import BEFORE
from unblur.cli.main import main as command
from unblur.data.files import read
from unblur.data.interactions import Interactions
from unblur.data.output import MANIFEST, sealed, unsealed
from unblur.errors import UnblurError
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.saving import container
from unblur.saving.models import MODEL, SYNTHESIZER
from unblur.synthesis.synthesizer import Synthesizer, load_synthesizer

Random = np.random.Generator
MEMORY = 12 << 30
"""Bytes of address space for all trials: the libraries alone map five gigabytes."""
SECONDS = 120
"""The longest that a command may take: the longest takes two on an idle machine."""
FORMATS = {"models": MODEL, "synthesizers": SYNTHESIZER}
OWN = {"format", "format_version", "created", "versions", "tensors", "files", "sha256"}
"""Entries of a manifest that are the container's."""
SAVED = sorted(f"{path.parent.name}/{path.name}" for form in FORMATS for path in (BEFORE / form).iterdir())
LOG = "user,item,timestamp\n" + "".join(
    f"u{user:02},i{item:02},{user * 7919 % 500 + item}\n"
    for user in range(60)
    for item in range(25)
    if (user * 31 + item * item) % 5 < 2
)
"""600 interactions of 60 users and 25 items."""


class Lost(Exception):
    """Something was lost, or damaged without a word."""


def pick(random: Random, values: Sequence[Any]) -> Any:
    """One of some values."""
    return values[random.integers(len(values))]


PIECES = (b"", b"\0", b'"', b"\n", b"[", b"{", b"=", b",", b"-1", b"9" * 30, b"[" * 5000, b"nan", b"\xff")
"""Bytes that mean something to one of the formats, or to none."""


def mutated(random: Random, content: bytes) -> bytes:
    """Some bytes cut, repeated, or replaced by a piece."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 4)):
        start = int(random.integers(0, len(changed) + 1))
        stop = start + int(random.integers(0, 9))
        piece = pick(random, [*PIECES, bytes(changed[start:stop]) * 3])
        changed[start:stop] = piece
    return bytes(changed)


def load(name: str, folder: Path) -> Any:
    """Load a saved thing as what it says it is."""
    return unblur.load(folder) if name.startswith("models") else load_synthesizer(folder)


def use(fitted: Any) -> None:
    """Score some histories, with times, recommend, compare and explain; or sample some users. Whatever comes of it is finite."""
    if isinstance(fitted, Synthesizer):
        check_finite(fitted.sample(3, rng=1).matrix.data)
        return
    n = len(fitted.items)
    matrix = sparse.csr_array(np.tri(3, n, n // 2, dtype=np.float32))
    histories = dataclasses.replace(
        Interactions.from_matrix(matrix, items=fitted.items), timestamps=np.arange(matrix.nnz)
    )
    check_finite(fitted.score(histories))
    fitted.recommend(histories, k=1)
    if fitted.spec.personal:
        fitted.similar_items(fitted.items.to_list()[0], 1)
        check_finite(fitted.explain(histories.take_users([0]), fitted.items.to_list()[0]).shares)


def check_finite(numbers: Any) -> None:
    """Raise `ArithmeticError` for NaN and infinity."""
    if not np.isfinite(numbers).all():
        raise ArithmeticError("what came of it is not finite")


# -------------------------------------------------------------------------------------------------- saved things


def damaged(random: Random, folder: Path) -> str:
    """Change some bytes of a saved thing: it must be refused."""
    name = pick(random, SAVED)
    copy = shutil.copytree(BEFORE / name, folder / "saved")
    file = pick(random, sorted(copy.iterdir()))
    content = file.read_bytes()
    file.write_bytes(mutated(random, content))
    if file.read_bytes() == content:
        return "unchanged"
    try:
        load(name, copy)
    except UnblurError:
        return "refused"
    raise Lost(f"a change of {name}/{file.name} was not noticed")


SETTINGS: tuple[Any, ...] = (
    10**9,
    10**12,
    10**30,
    0,
    1,
    -1,
    1e300,
    -1e300,
    1e-300,
    "x",
    None,
    True,
    [],
    [0],
    [10**12],
    {},
    {"kind": "ease"},
)
CHANGES: tuple[Callable[[Any], Any], ...] = (
    lambda array: array.toarray() if sparse.issparse(array) else sparse.csr_array(np.atleast_2d(array)),
    *(
        lambda array, dtype=dtype: array.astype(dtype)
        for dtype in ("float64", "float32", "int64", "int8", "uint64", "bool")
    ),
    *(
        lambda array, factor=factor: array * factor
        for factor in (0, -1, 2**40, np.float32(1e38), np.float32(np.nan))
    ),
    lambda array: array[:0],
    lambda array: array[1:],
    lambda array: array[::-1].copy(),
    lambda array: array.T.tocsr() if sparse.issparse(array) else np.ascontiguousarray(array.T),
    lambda array: array + array,
    lambda array: array.max() if array.size else array,
)


def hostile(random: Random, folder: Path) -> str:
    """Write a saved thing again with something else in it, and the right hashes: it must be refused, or be of use."""
    name = pick(random, SAVED)
    form = FORMATS[name.split("/")[0]]
    saved = container.read_container(BEFORE / name, form)
    contents = {key: value for key, value in saved.manifest.items() if key not in OWN}
    tensors, tables, what = dict(saved.tensors), dict(saved.tables), random.integers(4)
    if what == 0:
        table, key = pick(random, [*leaves(contents["spec"]), (contents, "kind")])
        table[key] = pick(random, SETTINGS)
    elif what == 1 and tensors:
        key = pick(random, sorted(tensors))
        try:
            with np.errstate(all="ignore"):
                tensors[key] = pick(random, CHANGES)(tensors[key])
        except (OverflowError, TypeError, ValueError):  # no such array
            return "unchanged"
    elif what == 2:
        items = tables["items"]
        column = pick(random, items.columns)
        other = pick(random, [None, -1, 1.5, "x", [1], {"a": 1}, b"x", True, 2**63 - 1, float("nan")])
        changes = (
            items.head(3),
            pl.concat([items, items]),
            items.drop(column),
            items.reverse(),
            items.rename({column: "y"}),
            items.with_columns(pl.lit(other).alias(column)),
        )
        tables["items"] = pick(random, changes)
    try:
        container.write_container(folder / "saved", form, contents, tensors, tables)
        if what == 3:
            manifest = folder / "saved" / MANIFEST
            values = unsealed(manifest.read_bytes())
            table, key = pick(random, [*leaves(values)])
            table[key] = pick(random, SETTINGS)
            manifest.write_bytes(sealed(values))
        fitted = load(name, folder / "saved")
    except UnblurError:
        return "refused"
    try:
        use(fitted)
    except UnblurError:
        return "refused when used"
    return "of use"


def leaves(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each place of nested tables: a table and a name in it."""
    for key, value in tree.items():
        yield tree, key
        if isinstance(value, dict):
            yield from leaves(value)


# --------------------------------------------------------------------------------------------------------- texts


def texts(random: Random, folder: Path) -> str:
    """Change some characters of a recipe: it must be refused, or be a recipe."""
    file = folder / "recipe.toml"
    text = load_recipe(pick(random, shipped())).to_toml()
    file.write_bytes(mutated(random, text.encode()))
    try:
        load_recipe(file)
    except UnblurError:
        return "refused"
    return "read"


def inputs(random: Random, folder: Path) -> str:
    """Change some bytes of a file of interactions: it must be refused, or be read."""
    name = pick(random, ["log.csv", "log.parquet", "log.jsonl", "log.tsv"])
    file, frame = folder / name, pl.read_csv(io.StringIO(LOG))
    if name == "log.parquet":
        frame.write_parquet(file)
    elif name == "log.jsonl":
        frame.write_ndjson(file)
    else:
        frame.write_csv(file, separator="\t" if name == "log.tsv" else ",")
    file.write_bytes(mutated(random, file.read_bytes()))
    try:
        read(file)
    except UnblurError:
        return "refused"
    return "read"


# ------------------------------------------------------------------------------------------------------ commands

RECIPE = """title = "ours"
[model]
kind = "ease"
[split]
kind = "random"
[protocol]
kind = "paper"
cutoffs = [3]
metrics = ["recall"]
resamples = 0
"""
COMMANDS: Mapping[str, tuple[str, str]] = {
    "models": (
        "fit log.csv --model ease --set model.ridge=10 --out out",
        "fit log.csv --model ease --set model.ridge=20 --out out --overwrite",
    ),
    "synthesizers": (
        "synthesize log.csv --model independent-items --save-synthesizer --set seed=1 --out out",
        "synthesize log.csv --model independent-items --save-synthesizer --set seed=2 --out out --overwrite",
    ),
    "studies": (
        "tune recipe.toml --data log.csv --trials 2 --out out",
        "tune recipe.toml --data log.csv --trials 3 --out out --overwrite",
    ),
    "comparisons": (
        "compare popularity ease --data log.csv --trials 1 --out out",
        "compare popularity ease --data log.csv --trials 2 --out out",
    ),
    "folders": (
        "run recipe.toml --data log.csv --set model.ridge=10 --out out",
        "run recipe.toml --data log.csv --set model.ridge=20 --out out --overwrite",
    ),
    "audit": (
        "audit log.csv log.csv --seed 1 --out out",
        "audit log.csv log.csv --seed 2 --out out --overwrite",
    ),
    "recommend": (
        "recommend model --histories log.csv --k 2 --out out.csv",
        "recommend model --histories log.csv --k 3 --out out.csv --overwrite",
    ),
}
"""Two commands that write to the same place, one after the other."""
GROWS = "comparisons"
"""What is written in place, file by file."""
EVENTS = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
    "os.utime",
}
SERVER = multiprocessing.get_context("forkserver")
IMPORTED = (
    *("unblur.experiment.comparison.running", "unblur.synthesis.synthesizing", "unblur.audit.page"),
    *("unblur.tuning.store", "optuna.storages.journal", "sqlalchemy.orm", "pyarrow.parquet"),
)
"""What commands import late, imported once for all of their processes."""


def called(words: str, folder: Path, last: int, seen: Any, peak: Any) -> None:
    """Run a command in a folder and leave with its code; at its file-system event number `last` this process is killed."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in EVENTS or (
            event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if writes and isinstance(arguments[0], str | Path) and (folder / arguments[0]).is_relative_to(folder):
            seen.value += 1
            if seen.value == last:
                os.kill(os.getpid(), signal.SIGKILL)

    os.chdir(folder)
    sys.stdout = sys.stderr = io.StringIO()
    sys.addaudithook(watch)
    try:
        code = command(words.split())
    except BaseException:  # noqa: BLE001 - told to the caller by the code
        (folder.parent / "traceback").write_text(traceback.format_exc(), encoding="utf-8")
        code = FOREIGN
    peak.value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os._exit(code)


FOREIGN = 99
"""The exit code of a process in which something foreign was raised."""
PEAKS: list[int] = []
"""The largest resident memory of each process, in KiB."""


def call(words: str, folder: Path, last: int = 0) -> tuple[int, int]:
    """Run a command in a folder, in a process of its own, and return its code and how many events it came to.

    Raises `RuntimeError` with the traceback if it raised something foreign, and `TimeoutError` if it did not end.
    """
    seen, peak = SERVER.Value("q", 0), SERVER.Value("q", 0)
    process = SERVER.Process(target=called, args=(words, folder, last, seen, peak))
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"unblur {words} did not end in {SECONDS} s")
    PEAKS.append(peak.value)
    if process.exitcode == FOREIGN:
        raise RuntimeError((folder.parent / "traceback").read_text(encoding="utf-8"))
    return process.exitcode, seen.value


def snapshot(place: Path) -> dict[str, str]:
    """The checksum of each file at a place and below, hidden ones left out."""
    files = [place] if place.is_file() else sorted(place.rglob("*"))
    return {
        str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(place).parts)
    }


@dataclasses.dataclass
class Killed:
    """Kills of the second of two commands, each at another event."""

    kind: str
    scratch: Path
    n_events: int = 0
    pending: list[int] = dataclasses.field(default_factory=list)

    def prepare(self) -> None:
        """Write the first output, and see what the second is, and how many events it takes."""
        first, self.second = COMMANDS[self.kind]
        self.place = "out.csv" if self.kind == "recommend" else "out"
        self.start = self.scratch / self.kind
        shutil.rmtree(self.start, ignore_errors=True)
        self.start.mkdir(parents=True)
        for name, text in (("log.csv", LOG), ("recipe.toml", RECIPE), ("mine.txt", "mine")):
            (self.start / name).write_text(text, encoding="utf-8")
        if self.kind == "recommend":
            self.end(COMMANDS["models"][0].replace("--out out", "--out model"), self.start)
        self.end(first, self.start)
        self.before, self.mine = snapshot(self.start / self.place), self.others(self.start)
        after = shutil.copytree(self.start, self.scratch / f"{self.kind} after", dirs_exist_ok=True)
        n_events = self.end(self.second, after)
        names = snapshot(after / self.place)
        # Manifests, reports and tables of trials hold times.
        self.names, self.after = (
            {*names},
            {
                name: digest
                for name, digest in names.items()
                if not name.endswith((".json", ".html", ".md", "trials.parquet"))
            },
        )
        self.n_events = n_events

    def end(self, words: str, folder: Path) -> int:
        """Run a command, and return how many events it took. Raises `Lost` if it is refused; an audit may find fault."""
        code, n_events = call(words, folder)
        if code not in ((0, 1) if self.kind == "audit" else (0,)):
            raise Lost(f"unblur {words} ends with {code}")
        return n_events

    def others(self, folder: Path) -> dict[str, str]:
        """The files next to the output."""
        return {name: digest for name, digest in snapshot(folder).items() if not name.startswith("out")}

    def whole(self, now: Mapping[str, str]) -> bool:
        """Whether the earlier output is there, or the later one, whole."""
        later = {*now} == self.names and self.after.items() <= now.items()
        return later or now == self.before or (self.kind == GROWS and {*self.before} <= {*now})

    def __call__(self, random: Random, folder: Path) -> str:
        """Kill the second command; look at what is there; call it again, and look again."""
        if not self.n_events:
            self.prepare()
        if not self.pending:
            self.pending = [int(event) for event in 1 + random.permutation(self.n_events)]
        last, there = self.pending.pop(), shutil.copytree(self.start, folder / "there")
        code, _ = call(self.second, there, last)
        what = f"unblur {self.second} was killed at event {last} of {self.n_events}"
        now, hidden = snapshot(there / self.place), sorted(there.glob(".out*"))
        if not self.whole(now) and not (not now and self.before in [snapshot(path) for path in hidden]):
            raise Lost(f"{what}: {self.place} holds {sorted(now)}")
        for path in hidden:
            os.utime(path, (0, 0))  # what is a second old may belong to a command at work
        self.end(self.second, there)
        left = [path.name for path in there.glob(".*")]
        if not self.whole(snapshot(there / self.place)) or left:
            raise Lost(f"{what}; called again, it leaves {left}")
        if self.others(there) != self.mine:
            raise Lost(f"{what}: other files changed")
        for log in self.start.rglob("trials.log"):
            if not (there / log.relative_to(self.start)).read_bytes().startswith(log.read_bytes()):
                raise Lost(f"{what}: earlier trials changed")
        return "killed" if code == -signal.SIGKILL else "ended before"


@dataclasses.dataclass
class Damaged:
    """Damage to what a command has written, which the same command reads again."""

    command: Killed

    def __call__(self, random: Random, folder: Path) -> str:
        """Change some bytes of a file: the command must end, or refuse it."""
        if not self.command.n_events:
            self.command.prepare()
        there = shutil.copytree(self.command.start, folder / "there")
        file = pick(random, [path for path in sorted(there.rglob("*")) if path.is_file()])
        file.write_bytes(mutated(random, file.read_bytes()))
        code, _ = call(self.command.second, there)
        return {0: "ended", 1: "ended", 2: "refused"}.get(code) or f"FOREIGN exit code {code}"


# -------------------------------------------------------------------------------------------------------- trials


def slow(*_: object) -> None:
    """Raise `TimeoutError`."""
    raise TimeoutError(f"it did not end in {SECONDS} s")


def fuzz(seed: int, minutes: float) -> int:
    """Take turns through all trials, those first that had least time; print what came of them."""
    started = time.monotonic()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, slow)
    warnings.simplefilter("ignore")
    SERVER.set_forkserver_preload(["tests.fuzz", *IMPORTED])
    outcomes: Counter[tuple[str, str]] = Counter()
    faults: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory(prefix="unblur-fuzz-") as name:
        scratch = Path(name).resolve()
        kills = {kind: Killed(kind, scratch / "commands") for kind in COMMANDS}
        events = {f"kills: {kind}": trial for kind, trial in kills.items()}
        kinds: dict[str, Callable[[Random, Path], str]] = {
            **{trial.__name__: trial for trial in (damaged, hostile, texts, inputs)},
            **{f"caches: {kind}": Damaged(kills[kind]) for kind in ("studies", GROWS)},
            **events,
        }
        spent = dict.fromkeys(kinds, 0.0)
        counts = dict.fromkeys(kinds, 0)
        while time.monotonic() - started < 60 * minutes:
            begun, kind, folder = time.monotonic(), min(spent, key=spent.__getitem__), scratch / "trial"
            folder.mkdir()
            signal.alarm(2 * SECONDS)
            try:
                outcome = kinds[kind](np.random.default_rng([seed, *kind.encode(), counts[kind]]), folder)
            except KeyboardInterrupt:
                raise
            except BaseException as problem:  # noqa: BLE001 - polars' panics are no `Exception`
                lost = isinstance(problem, Lost)
                outcome = "LOST" if lost else f"FOREIGN {type(problem).__name__}"
                about = str(problem) if lost else traceback.format_exc()[-1500:]
                faults.setdefault((kind, str(problem)), f"{kind} {counts[kind]}: {about}")
            signal.alarm(0)
            shutil.rmtree(folder)
            outcomes[kind, outcome] += 1
            # A kill takes two calls of a command, and there are some hundreds of events.
            spent[kind] += (time.monotonic() - begun) / (2 if kind in events else 1)
            counts[kind] += 1
    lines = []
    for kind in kinds:
        of_kind = {what: n for (about, what), n in sorted(outcomes.items()) if about == kind}
        lines.append(
            f"{kind:20} {sum(of_kind.values()):7,}  {', '.join(f'{what} {n:,}' for what, n in of_kind.items())}"
        )
    n_lost, n_foreign = (
        sum(n for (_, what), n in outcomes.items() if what.startswith(word)) for word in ("LOST", "FOREIGN")
    )
    peak = max([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, *PEAKS]) / 1024
    lines.append(
        f"seed {seed}: {outcomes.total():,} trials, {n_lost} lost, {n_foreign} foreign, peak memory {peak:,.0f} MiB"
    )
    sys.stdout.write("\n".join([*lines, *faults.values()]) + "\n")
    return int(bool(n_lost or n_foreign))
