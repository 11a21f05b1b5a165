"""Faults under force: `make fuzz SEED=0 MINUTES=10`, which takes turns through these trials, in a scratch folder.

- damaged: a saved model or synthesizer with some bytes changed. It must be refused.
- hostile: one with other settings, arrays or items, and the right hashes. It must be refused, or be of use.
- texts: a recipe, a configuration, a command line, a condition … with some characters changed. It must be refused, or be read.
- inputs: a file of interactions or of items with some bytes changed. It must be refused, or be read.
- kills: a command that is killed at one of its file-system events, each event once. What was there before, or the new output,
  must be there whole, nothing else may have changed, and the same command must end afterwards, with the same output.
- caches: what commands have written, a log or a recipe with some bytes changed. The next command must refuse it, or end.

The first four are tried in this process and the others, which are processes of their own, beside it: two processors are busy.
Whatever is raised that is not an error of ours, too little memory or time among it, is foreign. The end prints how many trials
there were, what was lost and what was foreign, and the peak memory; the exit code is 1 if anything was lost or foreign.
"""

from __future__ import annotations

import dataclasses
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.fuzz.changes import Lost, Random
from tests.fuzz.commands import COMMANDS, PEAKS, SECONDS, Caches, Killed
from tests.fuzz.files import inputs, texts
from tests.fuzz.saved import damaged, hostile

MEMORY = 12 << 30
"""Bytes of address space for all trials: the libraries alone map five gigabytes."""
Trial = Callable[[Random, Path], str]


@dataclasses.dataclass
class Turns:
    """Trials that take turns, those first that had least time, and what came of them."""

    trials: Mapping[str, Trial]
    seed: int
    until: float
    scratch: Path
    outcomes: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    faults: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)

    def take(self) -> None:
        """Try until the time is over; kills whose events were all tried come last, until all are."""
        spent, counts = dict.fromkeys(self.trials, 0.0), dict.fromkeys(self.trials, 0)
        while (begun := time.monotonic()) < self.until:
            kind = min(spent, key=lambda kind: (getattr(self.trials[kind], "is_done", False), spent[kind]))
            self.outcomes[kind, self.outcome(kind, counts[kind])] += 1
            counts[kind] += 1
            spent[kind] += time.monotonic() - begun

    def outcome(self, kind: str, number: int) -> str:
        """What came of one trial of a kind."""
        folder = self.scratch / "trial"
        folder.mkdir(parents=True)
        try:
            return self.trials[kind](np.random.default_rng([self.seed, *kind.encode(), number]), folder)
        except KeyboardInterrupt:
            raise
        except BaseException as problem:  # noqa: BLE001 - polars' panics are no `Exception`
            lost = isinstance(problem, Lost)
            about = str(problem) if lost else traceback.format_exc()[-1500:]
            self.faults.setdefault((kind, str(problem)), f"{kind} {number}: {about}")
            return "LOST" if lost else f"FOREIGN {type(problem).__name__}"
        finally:
            shutil.rmtree(folder)

    def lines(self) -> Iterator[str]:
        """A line for each kind of trial."""
        for kind, trial in self.trials.items():
            of_kind = {what: n for (about, what), n in sorted(self.outcomes.items()) if about == kind}
            words = [f"{what} {n:,}" for what, n in of_kind.items()]
            if isinstance(trial, Killed):
                words.insert(0, f"{trial.n_tried} of {trial.n_events} events")
            yield f"{kind:20} {sum(of_kind.values()):7,}  {', '.join(words)}"


def slow(*_: object) -> None:
    """Raise `TimeoutError`."""
    raise TimeoutError(f"it did not end in {SECONDS} s")


def in_time(trial: Trial) -> Trial:
    """The trial, which raises `TimeoutError` if it takes too long; for the main thread, which alone hears alarms."""

    def limited(random: Random, folder: Path) -> str:
        signal.alarm(SECONDS)
        try:
            return trial(random, folder)
        finally:
            signal.alarm(0)

    return limited


def fuzz(seed: int, minutes: float) -> int:
    """Take turns through all trials; print what came of them."""
    until = time.monotonic() + 60 * minutes
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, slow)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="unblur-fuzz-") as name, ThreadPoolExecutor(1) as beside:
        scratch = Path(name).resolve()
        kills = {kind: Killed(kind, scratch / "states") for kind in COMMANDS}
        events = {f"kills: {kind}": killed for kind, killed in kills.items()}
        here = {trial.__name__: in_time(trial) for trial in (damaged, hostile, texts, inputs)}
        both = (
            Turns(here, seed, until, scratch / "here"),
            Turns({"caches": Caches(kills), **events}, seed, until, scratch / "beside"),
        )
        working = beside.submit(both[1].take)
        try:
            both[0].take()
        finally:
            both[1].until = 0  # an interrupt ends the other one as well
        working.result()
    outcomes = both[0].outcomes + both[1].outcomes
    n_lost, n_foreign = (
        sum(n for (_, what), n in outcomes.items() if what.startswith(word)) for word in ("LOST", "FOREIGN")
    )
    n_tried, n_events = (
        sum(each) for each in zip(*((k.n_tried, k.n_events) for k in kills.values()), strict=True)
    )
    peak = max([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, *PEAKS]) / 1024
    summary = (
        f"seed {seed}: {outcomes.total():,} trials, kills at {n_tried} of {n_events} events, {n_lost} lost, {n_foreign} foreign, "
        f"peak memory {peak:,.0f} MiB"
    )
    sys.stdout.write("\n".join([*(line for turns in both for line in turns.lines()), summary]) + "\n")
    sys.stdout.write("".join(f"{fault}\n" for turns in both for fault in turns.faults.values()))
    return int(bool(n_lost or n_foreign))
