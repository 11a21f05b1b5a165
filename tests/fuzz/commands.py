"""Commands under force: killed at each of their file-system events, or with damaged files before them."""

from __future__ import annotations

import dataclasses
import faulthandler
import io
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fuzz.changes import LOG, SIDE, Lost, Random, mutated, pick
from unblur.cli.main import main as command

SECONDS = 120
"""The longest that a command may take: the longest takes two on an idle machine."""
FILES = {
    "log.csv": LOG,
    "new.csv": "user,item,timestamp\nu05,i02,600\nu05,i03,601\nu60,i01,602\n",
    "forget.txt": "u01\nu02\n",
    "items.csv": SIDE,
    "mine.txt": "mine",
    "recipe.toml": """title = "ours"
[model]
kind = "ease"
[split]
kind = "random"
[protocol]
kind = "paper"
cutoffs = [3]
metrics = ["recall"]
resamples = 0
""",
}
MODEL = "fit log.csv --model ease --updatable --items items.csv --out model"
"""What is there before the commands."""
TRAINED = "fit log.csv --model mult-vae --set model.dims=[4]"
COMMANDS: Mapping[str, tuple[str, str]] = {
    "fit": (
        "fit log.csv --model ease --set model.ridge=10 --out out",
        "fit log.csv --model ease --set model.ridge=20 --out out --overwrite",
    ),
    "fit trained": (
        f"{TRAINED} --set model.epochs=2 --checkpoints out.two --out out",
        f"{TRAINED} --set model.epochs=3 --checkpoints out.three --out out --overwrite",
    ),
    "update": (
        "update model --log log.csv --add new.csv --out out --receipt out.json",
        "update model --log log.csv --forget forget.txt --out out --receipt out.json --overwrite",
    ),
    "run": (
        "run recipe.toml --data log.csv --set model.ridge=10 --out out",
        "run recipe.toml --data log.csv --set model.ridge=20 --out out --overwrite",
    ),
    "tune": (
        "tune recipe.toml --data log.csv --trials 2 --out out",
        "tune recipe.toml --data log.csv --trials 3 --out out --overwrite",
    ),
    "compare": (
        "compare popularity ease --data log.csv --trials 1 --out out",
        "compare popularity ease --data log.csv --trials 2 --out out",
    ),
    "synthesize": (
        "synthesize log.csv --model independent-items --save-synthesizer --set seed=1 --out out",
        "synthesize log.csv --model independent-items --save-synthesizer --set seed=2 --out out --overwrite",
    ),
    "audit": (
        "audit log.csv log.csv --seed 1 --out out",
        "audit log.csv log.csv --seed 2 --out out --overwrite",
    ),
    "export": ("export model --web out --keep 3", "export model --web out --keep 4 --overwrite"),
    "evaluate": (
        "evaluate model --data new.csv --histories log.csv --out out.json",
        "evaluate model --data new.csv --histories log.csv --set protocol.cutoffs=[3] --out out.json --overwrite",
    ),
    "recommend": (
        "recommend model --histories log.csv --k 2 --out out.csv",
        "recommend model --histories log.csv --k 3 --out out.csv --overwrite",
    ),
    "score": (
        "score model new.csv --histories log.csv --out out.jsonl",
        "score model log.csv --histories log.csv --out out.jsonl --overwrite",
    ),
}
"""Two commands that write to the same place, one after the other."""
GROWING = {
    *(("compare", "out"), ("tune", "out-trials")),
    *(("fit trained", "out.two"), ("fit trained", "out.three")),
}
"""Outputs that are written in place, file by file, from which a second call goes on."""
FINDS_FAULT = "audit"
"""What ends with 1 if it finds fault."""

# ------------------------------------------------------------------------------------------------ their processes

EVENTS = {
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink"),
    *("os.chmod", "os.truncate", "os.utime"),
}
SERVER = multiprocessing.get_context("forkserver")
IMPORTED = (
    *("unblur.experiment.comparison.running", "unblur.synthesis.synthesizing", "unblur.audit.page"),
    *("unblur.experiment.updating", "unblur.serving.export", "unblur.models.neural.mult_vae"),
    *("unblur.tuning.store", "optuna.storages.journal", "sqlalchemy.orm", "pyarrow.parquet"),
)
"""What commands import late, imported once for all of their processes."""
SERVER.set_forkserver_preload([__name__, *IMPORTED])


def called(words: str, folder: Path, last: int, copies: Path | None, seen: Any, peak: Any) -> None:
    """Run a command in a folder and leave with its code.

    Before each of its file-system events, copy the folder to `copies`; at event number `last` this process is killed.
    """
    lock = threading.Lock()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in EVENTS or (
            event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if writes and isinstance(arguments[0], str | Path) and (folder / arguments[0]).is_relative_to(folder):
            with lock:
                seen.value += 1
                if copies is not None:
                    shutil.copytree(folder, copies / str(seen.value))
                if seen.value == last:
                    os.kill(os.getpid(), signal.SIGKILL)

    os.chdir(folder)
    stuck = (folder.parent / "traceback").open("w", encoding="utf-8")
    faulthandler.dump_traceback_later(0.9 * SECONDS, file=stuck)
    sys.stdout = sys.stderr = io.StringIO()
    sys.addaudithook(watch)
    try:
        code = command(words.split())
    except BaseException:  # noqa: BLE001 - told to the caller by the code
        stuck.write(traceback.format_exc())
        stuck.flush()
        code = FOREIGN
    peak.value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os._exit(code)


FOREIGN = 99
"""The exit code of a process in which something foreign was raised."""
PEAKS: list[int] = []
"""The largest resident memory of each process, in KiB."""


def call(words: str, folder: Path, *, last: int = 0, copies: Path | None = None) -> tuple[int, int]:
    """Run a command in a folder, in a process of its own, and return its code and how many events it came to.

    Raises `RuntimeError` with the traceback if it raised something foreign, and `TimeoutError` if it did not end.
    """
    seen, peak = SERVER.Value("q", 0), SERVER.Value("q", 0)
    process = SERVER.Process(target=called, args=(words, folder, last, copies, seen, peak))
    process.start()
    process.join(SECONDS)
    said = folder.parent / "traceback"
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"unblur {words} did not end in {SECONDS} s: {said.read_text(encoding='utf-8')}")
    PEAKS.append(peak.value)
    if process.exitcode == FOREIGN:
        raise RuntimeError(said.read_text(encoding="utf-8"))
    return process.exitcode, seen.value


# ----------------------------------------------------------------------------------------------- what they leave

Contents = dict[str, bytes]
"""The content of each file, by its path in a folder; folders end with a slash."""


def contents(folder: Path, *, hidden: bool) -> Contents:
    """What is in a folder; with what has a hidden name, or is in a hidden folder, if `hidden`."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return {
        name + "/" * path.is_dir(): b"" if path.is_dir() else path.read_bytes()
        for name, path in paths.items()
        if hidden or not re.search(r"(^|/)\.", name)
    }


def timeless(files: Contents) -> Contents:
    """The same without what the clock and chance put into it: hidden names, numbers in texts, journals and plots of seconds."""

    def of(name: str, content: bytes) -> bytes:
        if name.endswith((".json", ".md")):
            return re.sub(rb"[0-9a-f]{8,}|[-+.]?\d[-+.\de]*", b"", content)
        return (
            b""
            if name.endswith(("trials.log", "trials.parquet"))
            else content[-9:]
            if name.endswith(".html")
            else content
        )

    return {re.sub(r"\.[0-9a-f]{8}\.", ".", name): of(name, content) for name, content in files.items()}


def within(files: Contents, output: str) -> Contents:
    """Of some files those of one output, a file or a folder."""
    return {name: content for name, content in files.items() if name.split("/")[0] == output}


def others(files: Contents) -> Contents:
    """The files that are none of an output."""
    return {name: content for name, content in files.items() if not name.startswith("out")}


@dataclasses.dataclass
class Step:
    """A command that has been called, with what there was before and after it."""

    kind: str
    words: str
    start: Path
    before: Contents
    after: Contents
    n_events: int

    @property
    def outputs(self) -> set[str]:
        """The names of what this and an earlier command write."""
        return {name.split("/")[0] for name in {**self.before, **self.after} if name.startswith("out")}

    def is_after(self, now: Contents, output: str) -> bool:
        """Whether an output is as after the command; of one that grows, whether all of its files are there."""
        there, after = timeless(within(now, output)), timeless(within(self.after, output))
        return {*there} == {*after} if (self.kind, output) in GROWING else there == after

    def is_whole(self, now: Contents, output: str, hidden: list[Contents]) -> bool:
        """Whether an output is as before or as after the command, whole."""
        there, before = within(now, output), within(self.before, output)
        if there == before or self.is_after(now, output):
            return True
        if (self.kind, output) in GROWING:
            return {*before} <= {*there}
        # Between two renames there is a moment without a folder; the next command puts the earlier one back.
        inside = {name.partition("/")[2]: content for name, content in before.items() if name != f"{output}/"}
        return not there and inside in hidden

    def check(self, there: Path, event: int) -> None:
        """Look at what the command left that was killed at an event; call it again, and look again. Raises `Lost`."""
        what = f"unblur {self.words} was killed at event {event} of {self.n_events}"
        now, hidden = contents(there, hidden=False), sorted(there.glob(".out*"))
        earlier = [contents(path, hidden=True) for path in hidden]
        for output in self.outputs:
            if not self.is_whole(now, output, earlier):
                raise Lost(f"{what}: {output} holds {sorted(within(now, output))}")
        for path in hidden:
            os.utime(path, (0, 0))  # what is a second old may belong to a command at work
        # Without --overwrite it is refused if it had come so far that an output has its name.
        is_there = any(within(now, output) and self.is_after(now, output) for output in self.outputs)
        end(self.words, there, also=(2,) if is_there and "--overwrite" not in self.words else ())
        now, left = contents(there, hidden=False), [path.name for path in there.glob(".*")]
        other = [output for output in self.outputs if not self.is_after(now, output)]
        if left or (other and not is_there):
            raise Lost(f"{what}; called again, it has other {other}, and leaves {left}")
        if others(now) != others(self.before):
            raise Lost(f"{what}: other files changed")
        for log in (name for name in self.before if name.endswith("trials.log")):
            if not now[log].startswith(self.before[log]):
                raise Lost(f"{what}: earlier trials changed")


def end(words: str, folder: Path, *, also: tuple[int, ...] = (), copies: Path | None = None) -> int:
    """Run a command, and return how many events it took. Raises `Lost` if it is refused, unless that code will do `also`."""
    code, n_events = call(words, folder, copies=copies)
    if code not in (0, *also, *((1,) if words.startswith(FINDS_FAULT) else ())):
        raise Lost(f"unblur {words} ends with {code}")
    return n_events


@dataclasses.dataclass
class Killed:
    """Kills of the two commands of a kind, at each event of both.

    What a kill leaves are files: those that there are the moment before the event. So one run, which copies them before each
    event, gives what a kill at any of them would leave; states that are alike are tried once. Some processes are killed in
    earnest once all of these are tried.
    """

    kind: str
    scratch: Path
    steps: list[Step] = dataclasses.field(default_factory=list)
    states: list[tuple[Step, list[int], Path]] = dataclasses.field(default_factory=list)
    """What is still to be tried: the numbers of the events at which the folder is in a state, and its copy."""
    n_tried: int = 0

    def prepare(self, random: Random) -> None:
        """Run both commands, and keep the states in between."""
        start = self.scratch / "start"
        if not start.exists():
            start.mkdir(parents=True)
            for name, text in FILES.items():
                (start / name).write_text(text, encoding="utf-8")
            end(MODEL, start)
        steps, states = [], []
        for number, words in enumerate(COMMANDS[self.kind]):
            place = self.scratch / self.kind / str(number)
            shutil.rmtree(place, ignore_errors=True)
            after = shutil.copytree(start, place / "after")
            n_events = end(words, after, copies=place)
            before, then = (contents(folder, hidden=False) for folder in (start, after))
            steps.append(Step(self.kind, words, start, before, then, n_events))
            alike: dict[frozenset[tuple[str, bytes]], list[int]] = {}
            for event in range(1, n_events + 1):
                state = timeless(contents(place / str(event), hidden=True))
                alike.setdefault(frozenset(state.items()), []).append(event)
            states += [(steps[-1], events, place / str(events[0])) for events in alike.values()]
            start = after
        self.steps = steps
        self.states = [states[at] for at in random.permutation(len(states))]

    @property
    def n_events(self) -> int:
        """The events of both commands, once they are known."""
        return sum(step.n_events for step in self.steps)

    @property
    def is_done(self) -> bool:
        """Whether all events were tried."""
        return bool(self.steps) and not self.states

    def __call__(self, random: Random, folder: Path) -> str:
        """Go on from one of the states, or kill a command in earnest."""
        if not self.steps:
            self.prepare(random)
        if self.states:
            step, events, state = self.states.pop()
            self.n_tried += len(events)
            step.check(state.rename(folder / "there"), events[0])
            return "states"
        step = pick(random, self.steps)
        event, there = int(random.integers(step.n_events)) + 1, shutil.copytree(step.start, folder / "there")
        code, _ = call(step.words, there, last=event)
        step.check(there, event)
        return "killed" if code == -signal.SIGKILL else "ended before"


@dataclasses.dataclass
class Caches:
    """Damage to the files before a command that writes over what an earlier one has written."""

    commands: Mapping[str, Killed]

    def __call__(self, random: Random, folder: Path) -> str:
        """Change some bytes of a file: the command must end, or refuse it."""
        killed = self.commands[pick(random, [*self.commands])]
        if not killed.steps:
            killed.prepare(random)
        step = killed.steps[1]
        there = shutil.copytree(step.start, folder / "there")
        file = there / pick(random, [name for name in step.before if not name.endswith("/")])
        file.write_bytes(mutated(random, file.read_bytes()))
        code, _ = call(step.words, there)
        return {0: "ended", 1: "ended", 2: "refused"}.get(code) or f"FOREIGN exit code {code}"
