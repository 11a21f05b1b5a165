"""The paired bit test: `python -m tests.guards.paired BASE_WORKTREE [WORD…]`.

Runs one driver with the package of another working copy and with that of this one, one thread each, and compares the
digests of all that must keep its bits. WORDs pick entries, such as a kind, or "synthesizers/sdrm". Prints a table, and every
entry that differs; the exit status is 1 where one differs that `EXPECTED` does not explain.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent.parent.parent

EXPECTED: Mapping[str, str] = {
    "searches/* bayes: points": "drawn by optuna from the results of others; here the seeds of the draws are listed",
    "splits/hold-outs *": "validation data are drawn in experiment/validation now, by the specs `Random` and `Block`",
    "strict/*": "one rule of choice: the best mean on validation data",
    "models/l-diffrec lightgcn: *": "embeddings by the one LightGCN that there is",
}
"""Pattern of "section/entry" → the reason why it may differ from the version of the published figures."""

Digests = Mapping[str, Mapping[str, str]]


class Difference(NamedTuple):
    """An entry that differs between the two versions."""

    name: str
    base: str
    here: str

    @property
    def reason(self) -> str | None:
        """The reason why it was expected; `None` if it was not."""
        return next((why for pattern, why in EXPECTED.items() if fnmatchcase(self.name, pattern)), None)


def start(sources: Path, words: list[str]) -> subprocess.Popen[str]:
    """Start the driver on the package in a folder, in a process of its own."""
    one = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1"
    )
    return subprocess.Popen(
        [sys.executable, "-m", "tests.guards.driver", str(sources), *words],
        cwd=HERE,
        env={**os.environ, **one, "PYTHONPATH": str(sources), "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )


def digests(process: subprocess.Popen[str]) -> Digests:
    """The digests that a driver printed. Exits if it failed."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the driver failed: {' '.join(map(str, process.args))}")  # type: ignore[arg-type]
    result: Digests = json.loads(output)
    return result


def main() -> None:
    """Compare, print, and exit with 1 on a difference that was not expected."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    other, words = Path(sys.argv[1]).resolve(), sys.argv[2:]
    base, ours = (digests(each) for each in [start(root / "src", words) for root in (other, HERE)])
    unexpected = 0
    explained: list[str] = []
    print(f"{'section':14} {'entries':>8} {'equal':>8}  different")
    for section in ours:
        one, two = base.get(section, {}), ours[section]
        names = list(dict.fromkeys([*one, *two]))
        different = [
            Difference(f"{section}/{name}", one.get(name, "is not there"), two.get(name, "is not there"))
            for name in names
            if one.get(name) != two.get(name)
        ]
        broken = [name for name in names if one.get(name) == two.get(name) and " " in one[name]]
        print(f"{section:14} {len(names):8} {len(names) - len(different):8}  {len(different)}")
        explained.extend(
            f"  {each.name}\n      {each.reason or f'base {each.base}, here {each.here}'}"
            for each in different
        )
        explained.extend(f"  {section}/{name}\n      fails in both: {one[name]}" for name in broken)
        unexpected += sum(each.reason is None for each in different)
    print("\n".join(explained))
    sys.exit(bool(unexpected))


if __name__ == "__main__":
    main()
