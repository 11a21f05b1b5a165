"""`python -m benchmarks.gpu`: what this library does on a GPU, measured once, with evidence to keep.

Run it in the repository's root with `PYTHONPATH=src`; it needs Python 3.11 to 3.13, torch 2.6 or newer with CUDA, and the
other dependencies of the base install but typer, rich, PyYAML and optuna; pytest and hypothesis for the part `tests` alone.

    python -m benchmarks.gpu --data data --collect $UNBLUR_DATA     # where the public data sets are: 9 MB of Parquet, into the folder data
    python -m benchmarks.gpu --data data --out evidence             # on the GPU: all parts, each at most four minutes
    python -m benchmarks.gpu --device cpu --small --out trial       # a trial of the same code in a minute, without data

A part that is out of time stops, says "resumable", and goes on from its checkpoints when the same command is run again; a part that is
complete is left as it is (another `--out` starts anew). Each part writes one JSON file to `--out`; put these files, without the
checkpoints (gigabytes), into docs/results/gpu and run `python -m benchmarks.page`. Exit codes: 0 all parts are complete, 1 one is not,
2 something is missing.

- tests: the tests that are marked `gpu`: every kind fits and scores there, is saved there and loaded on a CPU, figures to 1e-4.
- bspm: bspm/gowalla and bspm/yelp2018, against the CPU and against the same polynomial by dense products.
- diffrec: DiffRec and L-DiffRec on MovieLens 1M, to their early stop.
- sdrm: SDRM on MovieLens 100K, its users measured by MLP and by SVD.
- multvae-gowalla, multvae-yelp: a wide Mult-VAE, stopped by NDCG@20 on a part of train, measured once on test.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent
EVIDENCE = HERE / "docs" / "results" / "gpu"
"""Where the JSON files that the page is made from lie."""
DATA: Mapping[str, tuple[str, ...]] = {
    "tests": (),
    "bspm": ("gowalla", "yelp2018"),
    "diffrec": ("ml-1m_clean",),
    "sdrm": ("sdrm_ml-100k",),
    "multvae-gowalla": ("gowalla",),
    "multvae-yelp": ("yelp2018",),
}
"""Each part, and the data sets that it reads: folders of Parquet files in `--data`."""
FILES = ("train", "valid", "test")
"""The files of a data set, as far as it has them."""
MODULES = (
    *("numpy", "scipy", "torch", "pydantic", "polars", "pyarrow", "safetensors", "sklearn", "threadpoolctl"),
    *("typing_extensions", "jinja2", "unblur"),
)
FOR_TESTS = ("pytest", "hypothesis")
PART_SECONDS = 240.0
"""Four minutes, so that all six parts take less than half an hour on an H100."""


def missing(parts: Sequence[str], data: Path | None, small: bool) -> Iterator[str]:
    """Yield what the parts need and is not there, one sentence each; nothing is imported."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield f"Python must be 3.11 to 3.13; this is {sys.version.split()[0]}."
    for name in (*MODULES, *(FOR_TESTS if "tests" in parts else ())):
        if find_spec(name) is None:
            where = "set PYTHONPATH to the folder src" if name == "unblur" else "install it"
            yield f"The module {name} is missing; {where}."
    if find_spec("torch") is not None and tuple(map(int, version("torch").split(".")[:2])) < (2, 6):
        yield f"torch must be 2.6 or newer; this is {version('torch')}."
    if small:
        return
    for name in dict.fromkeys(name for part in parts for name in DATA[part]):
        if data is None or not (data / name / "train.parquet").is_file():
            yield f"The data set {name} is missing: {data or '--data FOLDER'} must hold {name}/train.parquet and its other files."


def collect(source: Path, target: Path) -> None:
    """Copy the Parquet files that the parts read, and print their sizes."""
    total = 0
    for name in dict.fromkeys(name for names in DATA.values() for name in names):
        for file in (source / name / f"{part}.parquet" for part in FILES):
            if file.is_file():
                (target / name).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target / name / file.name)
                total += file.stat().st_size
                print(f"{name}/{file.name}: {file.stat().st_size:,} bytes")
    print(f"{total:,} bytes in {target}")
    if not total:
        sys.exit(
            f"{source} must hold folders such as gowalla with train.parquet; it has none of {', '.join(FILES)}."
        )


def evidence_lines(folder: Path = EVIDENCE) -> list[str]:
    """Return the section of the page of benchmarks, from the JSON files in a folder; a part without one was not run."""
    found = {
        part: json.loads(file.read_text()) for part in DATA if (file := folder / f"{part}.json").is_file()
    }
    cards = dict.fromkeys(f"{one['card']} (torch {one['torch']})" for one in found.values())
    lines = [
        "## On a GPU",
        "",
        f"By `python -m benchmarks.gpu`, on {' and '.join(cards)}."
        if cards
        else "`python -m benchmarks.gpu` was not run.",
        "A share is of what the card reached in the same run, in products of dense matrices or in copies of memory.",
        "",
        "| part | what | target | measured |",
        "|---|---|---|---|",
    ]
    for part in DATA:
        rows = found[part]["rows"] if part in found else []
        lines += [f"| {part} | {' | '.join(row)} |" for row in rows]
        if part not in found:
            lines.append(f"| {part} | | | not run |")
        elif not found[part]["complete"]:
            lines.append(f"| {part} | the rest | | not run |")
    return lines


def main(words: Sequence[str] | None = None) -> int:
    """Run the parts, write their JSON files, and return 0 if all are complete, 1 if one is not, 2 if something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--part", nargs="+", choices=list(DATA), default=list(DATA), help="the parts to run; all by default"
    )
    parser.add_argument(
        "--data", type=Path, help="the folder with the data sets, each a folder of Parquet files"
    )
    parser.add_argument(
        "--collect",
        type=Path,
        metavar="FOLDER",
        help="copy the data sets of all parts from this folder to that of --data, and stop",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("gpu"), help="the folder for the JSON files; gpu by default"
    )
    parser.add_argument(
        "--checkpoints", type=Path, help="the folder to resume from; OUT/checkpoints by default"
    )
    parser.add_argument("--device", default="cuda", help="cuda by default; cpu tries the code")
    parser.add_argument("--small", action="store_true", help="small models on generated data")
    parser.add_argument(
        "--seconds",
        type=float,
        default=PART_SECONDS,
        help=f"of each part, before it stops and is resumable; {PART_SECONDS:g} by default",
    )
    parser.add_argument(
        "--finish",
        action="store_true",
        help="measure what a Mult-VAE has reached when its time is over, as there will be no other call",
    )
    asked = parser.parse_args(words)
    if asked.collect is not None:
        if asked.data is None:
            parser.error("--collect copies to the folder that --data names; give it")
        collect(asked.collect, asked.data)
        return 0
    problems = list(missing(asked.part, asked.data, asked.small))
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 2
    if asked.data is not None:
        os.environ["UNBLUR_DATA"] = str(asked.data.resolve())
    import torch

    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        print("torch sees no GPU; try the code with --device cpu --small.", file=sys.stderr)
        return 2
    from benchmarks.gpu_parts import Setting, measured_roof, run_part
    from unblur.data.output import OutputFile

    asked.out.mkdir(parents=True, exist_ok=True)
    checkpoints = asked.checkpoints or asked.out / "checkpoints"
    complete = True
    for part in asked.part:
        start, file = time.perf_counter(), asked.out / f"{part}.json"
        kept = json.loads(file.read_text()) if file.is_file() else {"complete": False}
        if kept["complete"] and kept["small"] == asked.small:
            print(f"{part}: complete before; {file} is left as it is", flush=True)
            continue
        roof = measured_roof(asked.device, asked.small)
        setting = Setting(
            asked.device, asked.small, checkpoints / part, start + asked.seconds, roof, asked.finish
        )
        found: dict[str, Any] = run_part(part, setting)
        complete = complete and found["complete"]
        with OutputFile(file, overwrite=True).written() as stream:
            stream.write((json.dumps(found, indent=1) + "\n").encode())
        state = "complete" if found["complete"] else "resumable: run the same command again"
        print(f"{part}: {state}, {time.perf_counter() - start:.1f} s", flush=True)
        for row in found["rows"]:
            print(f"  {' | '.join(row)}", flush=True)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
