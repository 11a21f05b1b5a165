"""Synthetic users: one run of the paper's protocol, sampling, a large sample on disk, and a large audit.

`python -m benchmarks synthesis` measures all at full size, each in a process of its own. A quick look:
`python -m benchmarks.synthesis --users 20000 --audited 5000 [PART …]`, with the parts

- `protocol`: sdrm/ml-100k-svd, all stages and all arms, one seed (target: 40 s; the authors' code, synthetic arms
  only: 222 s). Needs the data.
- `chains`: sampling 843 users by a chain of 83 steps, each its own number of them, and all of them (target: 0.5 s; the
  authors' code: 16 s). Time does not depend on what the networks have learned.
- `stream`: a million users on a generated catalogue of 20,000 items, to Parquet (target: 2 GB).
- `row-mlp`: a step of training of the downstream MLP at the sizes of MovieLens 1M and Digital Music, by autograd and
  torch's Adam, and as the library does it, with numba and without. The three take turns.
- `pair-neumf`: the same of NeuMF, on one thread, with as many pairs as synthetic users give it by equal density (MovieLens
  1M) and by scores above 0 (Digital Music).
- `audited`: an audit of 100,000 × 100,000 users and 20,000 kept out, 20,000 items (target: 2 GB).
"""

import argparse
import os
import tempfile
import time
import timeit
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.measuring import Row, measured, print_head, print_rows

Step = Callable[[Any], object]
"""Trains on the rows at the given positions."""
USERS, AUDITED, ITEMS = 1_000_000, 100_000, 20_000
"""The number of users that are sampled, of users audited on each side, and of items."""


def one_run(folder: str, recipe: str) -> dict[str, Any]:
    """A recipe with one seed, from its files to the measurements of all arms."""
    os.environ["UNBLUR_DATA"] = folder
    from unblur.experiment.recipe.library import load_recipe
    from unblur.experiment.running import measure
    from unblur.synthesis.utility.task import utility_task

    start = time.perf_counter()
    known = load_recipe(recipe)
    outcome = measure(utility_task(known, "Name one of a synthesizer.").prepare(known))
    seconds = time.perf_counter() - start
    clock = outcome.report.to_dict()
    arms = {name: float(arm.values["capped_recall@10"].mean()) for name, arm in outcome.runs[0].items()}
    note = next((str(text) for text in clock.get("notes", ()) if str(text).startswith("seconds a run")), "")
    return {"seconds": seconds, "arms": arms, "note": note}


def chains(n_users: int, n_items: int, times: int) -> dict[str, Any]:
    """Seconds to sample `n_users` with the networks of sdrm/ml-100k-svd, the median of some times."""
    from unblur.data.catalogue.generation import generated
    from unblur.experiment.recipe.library import load_recipe

    spec: Any = load_recipe("sdrm/ml-100k-svd").model
    vae = replace(spec.vae, epochs=1, stopping=None, batch_size=min(spec.vae.batch_size, n_users))
    diffusion = replace(spec.diffusion, epochs=1, batch_size=min(spec.diffusion.batch_size, n_users))
    train = generated(n_users, n_items, n_users * n_items * 57 // 1000, rng=0)
    synthesizer = replace(spec, vae=vae, diffusion=diffusion).fit(train, rng=0)
    figures = {}
    for sampling in ("multi-resolution", "full"):
        source = synthesizer.with_settings(sampling=sampling)
        samples = (partial(source.sample, n_users, rng=turn) for turn in range(times))
        seconds = [timeit.timeit(sample, number=1) for sample in samples]
        figures[sampling] = {"first": seconds[0], "median": float(np.median(seconds))}
    return {"users": n_users, "steps": spec.diffusion.steps, **figures}


def row_steps(n_users: int, n_items: int, n_pairs: int, turns: int, steps: int) -> dict[str, Any]:
    """Milliseconds a step of the recipes' MLP, batches of 16 generated users: the median of all turns."""
    import torch

    from unblur.data.catalogue.generation import generated
    from unblur.experiment.recipe.library import load_recipe
    from unblur.models.neural.fast import compiled
    from unblur.models.neural.fast.row_training import RowStepper
    from unblur.models.neural.row_mlp import RowLearner
    from unblur.parallel.threads import libraries_at_rest
    from unblur.training.loop import Moment

    recipe: Any = load_recipe("sdrm/adm-mlp")
    spec = recipe.task.downstream
    train = generated(n_users, n_items, n_pairs, rng=0)
    cpu, generator = torch.device("cpu"), torch.Generator().manual_seed(0)
    book = RowLearner(spec, train, 0, cpu)
    optimizer = spec.optimizer
    adam = torch.optim.Adam(book.module.parameters(), lr=optimizer.learning_rate, eps=optimizer.epsilon)

    def ours(kernels: ModuleType | None) -> Callable[[torch.Tensor], object]:
        stepper = RowStepper(RowLearner(spec, train, 0, cpu), kernels, torch.get_num_threads())
        return partial(stepper.loss, moment=Moment(1, 0), generator=generator)

    ways = {"textbook": _by_autograd(book, adam, generator), "torch": ours(None)}
    kernels = compiled()
    if kernels is not None:
        ways["one pass"] = ours(kernels)
    return _in_turns(
        {
            name: (step, libraries_at_rest if name == "one pass" else nullcontext)
            for name, step in ways.items()
        },
        turns,
        lambda: torch.randint(0, n_users, (steps, spec.batch_size), generator=generator),
    )


def pair_steps(n_users: int, n_items: int, n_pairs: int, turns: int, steps: int) -> dict[str, Any]:
    """Milliseconds a step of the recipes' NeuMF, batches of 256 pairs and their negatives: the median of all turns."""
    import torch

    from unblur.data.catalogue.generation import generated
    from unblur.experiment.recipe.library import load_recipe
    from unblur.models.neural.fast import compiled
    from unblur.models.neural.fast.pair_training import PairStepper
    from unblur.models.neural.neumf import PairLearner
    from unblur.parallel.threads import libraries_at_rest
    from unblur.training.loop import Moment

    torch.set_num_threads(1)
    recipe: Any = load_recipe("sdrm/adm-neumf")
    spec = recipe.task.downstream
    train = generated(n_users, n_items, n_pairs, rng=0)
    book, generator = PairLearner(spec, train, 0, torch.device("cpu")), torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(book.module.parameters(), lr=spec.optimizer.learning_rate)

    ways: dict[str, tuple[Step, Callable[[], Any]]] = {
        "textbook": (_by_autograd(book, adam, generator), nullcontext)
    }
    kernels = compiled()
    if kernels is not None:
        ours = PairStepper(PairLearner(spec, train, 0, torch.device("cpu")), kernels)
        step = partial(ours.loss, moment=Moment(1, 0), generator=generator)
        ways["rows needed"] = (step, libraries_at_rest)
    return _in_turns(
        ways, turns, lambda: torch.randint(0, book.n_rows, (steps, spec.batch_size), generator=generator)
    )


def _by_autograd(learner: Any, optimizer: Any, generator: Any) -> Step:
    """A step by autograd and the optimizer."""
    from unblur.training.loop import Moment

    def step(rows: Any) -> None:
        optimizer.zero_grad()
        learner.loss(rows, Moment(1, 0), generator).backward()
        optimizer.step()

    return step


def _in_turns(
    methods: dict[str, tuple[Step, Callable[[], Any]]], turns: int, batches: Callable[[], Any]
) -> dict[str, float]:
    """Milliseconds a step of each method, the median of all turns; each method has a context that it runs in."""
    milliseconds: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(turns + 1):  # the first is not counted
        for name, (step, context) in methods.items():
            with context():
                for rows in batches():
                    start = time.perf_counter()
                    step(rows)
                    if turn:
                        milliseconds[name].append(1e3 * (time.perf_counter() - start))
    return {name: float(np.median(times)) for name, times in milliseconds.items()}


def stream(n_users: int, n_items: int) -> dict[str, Any]:
    """Fit SDRM to a generated set and write `n_users` synthetic users to Parquet."""
    from unblur.data.catalogue.generation import generated
    from unblur.synthesis.autoencoder import VariationalAutoencoder
    from unblur.synthesis.latent_diffusion import LatentDiffusion
    from unblur.synthesis.sdrm import SDRM
    from unblur.synthesis.synthesizing import write_batches

    train = generated(20_000, n_items, 1_000_000, rng=0)
    spec = SDRM(
        vae=VariationalAutoencoder(hidden=200, latent=64, epochs=2, stopping=None),
        diffusion=LatentDiffusion(steps=50, hidden_layers=2, epochs=5),
        sampling="multi-resolution",
        precision="bfloat16",
    )
    start = time.perf_counter()
    synthesizer = spec.fit(train, rng=0)
    fitted = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.parquet"
        n_pairs = write_batches(synthesizer.sample_batches(n_users, rng=0), path)
        seconds = time.perf_counter() - fitted
        size = path.stat().st_size
    return {
        "users": n_users,
        "items": n_items,
        "pairs": n_pairs,
        "fit_seconds": fitted - start,
        "seconds": seconds,
        "users_per_second": n_users / seconds,
        "file_gb": size / 1e9,
    }


def audited(n_users: int, n_items: int) -> dict[str, Any]:
    """An audit of `n_users` on either side and a fifth as many kept out; generated, 50 items a user."""
    from unblur.audit.auditor import audit
    from unblur.audit.worth import taught_recommenders
    from unblur.data.catalogue.generation import generated

    n_holdout = max(1, n_users // 5)
    log = generated(2 * n_users + n_holdout, n_items, 50 * (2 * n_users + n_holdout), rng=0)
    places = np.arange(log.n_users)
    train, synthetic = log.take_users(places[:n_users]), log.take_users(places[n_users : 2 * n_users])
    holdout = log.take_users(places[2 * n_users :])
    del log
    start = time.perf_counter()
    report = audit(train, synthetic, holdout, recommenders=taught_recommenders)
    return {
        "users": n_users,
        "holdout": n_holdout,
        "items": n_items,
        "seconds": time.perf_counter() - start,
        "parts": dict(report.seconds),
    }


def _protocol(data: str) -> tuple[list[Row], dict[str, Any]]:
    measurement = measured("synthesis", "one_run", folder=data, recipe="sdrm/ml-100k-svd")
    figure = f"{measurement['seconds']:.1f} s, {measurement['peak_rss_gb']:.2f} GB ({measurement['note'].removeprefix('seconds a run: ')})"
    return [("sdrm/ml-100k-svd, one run, all five arms", "≤ 40 s (authors' code 222 s)", figure)], measurement


def _chains(times: int) -> tuple[list[Row], dict[str, Any]]:
    measurement = measured("synthesis", "chains", n_users=843, n_items=1008, times=times)
    rows = []
    for name, target in (("multi-resolution", "≤ 0.5 s (authors' code 16 s)"), ("full", "")):
        median, first = measurement[name]["median"], measurement[name]["first"]
        label = f"SDRM, {name}: {measurement['users']} users sampled, {measurement['steps']} steps"
        rows.append((label, target, f"{median:.2f} s (median of {times}; the first {first:.2f} s)"))
    return rows, measurement


def _stream(n_users: int) -> tuple[list[Row], dict[str, Any]]:
    measurement = measured("synthesis", "stream", n_users=n_users, n_items=ITEMS)
    figure = (
        f"{measurement['peak_rss_gb']:.2f} GB, {measurement['seconds']:.0f} s, {measurement['users_per_second']:,.0f} users a second, "
        f"{measurement['pairs']:,} pairs, {measurement['file_gb']:.2f} GB of Parquet"
    )
    return [
        (f"SDRM: {n_users:,} users × {ITEMS:,} items, streamed to Parquet", "≤ 2 GB", figure)
    ], measurement


def _row_mlp(turns: int) -> tuple[list[Row], dict[str, Any]]:
    def in_words(figures: dict[str, float]) -> str:
        once = f"{figures['one pass']:.1f} ms" if "one pass" in figures else "no numba"
        return f"{once}; {figures['torch']:.1f} ms by torch alone; {figures['textbook']:.1f} ms by autograd and Adam"

    sizes = {"MovieLens 1M": (6034, 3125, 575_000), "Digital Music": (10_621, 8582, 106_000)}
    return _steps("MLP, a step of 16 rows", "row_steps", sizes, in_words, turns=turns, steps=20)


def _pair_neumf(turns: int) -> tuple[list[Row], dict[str, Any]]:
    def in_words(figures: dict[str, float]) -> str:
        ours = f"{figures['rows needed']:.2f} ms" if "rows needed" in figures else "no numba"
        return f"{ours}; {figures['textbook']:.2f} ms by autograd and Adam"

    sizes = {"MovieLens 1M": (11_000, 3125, 1_050_000), "Digital Music": (20_200, 8582, 39_000_000)}
    label = "NeuMF, a step of 256 pairs, one thread,"
    return _steps(label, "pair_steps", sizes, in_words, turns=turns, steps=200)


def _steps(
    label: str,
    function: str,
    sizes: dict[str, tuple[int, int, int]],
    in_words: Callable[[dict[str, float]], str],
    **sizes_of_run: int,
) -> tuple[list[Row], dict[str, Any]]:
    """A row for each size: users, items and pairs."""
    rows: list[Row] = []
    measurements = {}
    for name, (n_users, n_items, n_pairs) in sizes.items():
        measurements[name] = measured(
            "synthesis", function, n_users=n_users, n_items=n_items, n_pairs=n_pairs, **sizes_of_run
        )
        rows.append((f"{label} at the size of {name}", "", in_words(measurements[name])))
    return rows, measurements


def _audited(n_users: int) -> tuple[list[Row], dict[str, Any]]:
    measurement = measured("synthesis", "audited", n_users=n_users, n_items=ITEMS)
    label = f"audit: {n_users:,} × {n_users:,} users, {measurement['holdout']:,} kept out, {ITEMS:,} items"
    return [
        (label, "≤ 2 GB", f"{measurement['peak_rss_gb']:.2f} GB, {measurement['seconds']:.0f} s")
    ], measurement


def synthesis(
    data: str, parts: list[str] | None = None, users: int = USERS, audit_users: int = AUDITED
) -> tuple[list[Row], dict[str, Any]]:
    """Measure all parts, or those named; the first is left out without data."""
    sections: dict[str, Callable[[], tuple[list[Row], dict[str, Any]]]] = {
        "protocol": partial(_protocol, data),
        "chains": partial(_chains, 7),
        "row-mlp": partial(_row_mlp, 5),
        "pair-neumf": partial(_pair_neumf, 5),
        "stream": partial(_stream, users),
        "audited": partial(_audited, audit_users),
    }
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    for name in parts or sections:
        if name == "protocol" and not data:
            continue
        section, figures[name] = sections[name]()
        rows += section
    return rows, figures


def main() -> None:
    """Measure the parts that are named at the given sizes, and print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthesis", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--users", type=int, default=USERS, help="how many users are sampled")
    parser.add_argument(
        "--audited", type=int, default=AUDITED, help="how many users are audited on each side"
    )
    arguments = parser.parse_args()
    print_head()
    for name in arguments.parts or ("protocol", "chains", "row-mlp", "pair-neumf", "stream", "audited"):
        rows, _ = synthesis(os.environ.get("UNBLUR_DATA", ""), [name], arguments.users, arguments.audited)
        print_rows(rows)


if __name__ == "__main__":
    main()
