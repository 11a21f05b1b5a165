"""The parts of `python -m benchmarks.gpu`, each of pieces that are kept when they are done, and the roof of the card."""

import json
import math
import os
import platform
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import HERE
from benchmarks.measuring import Row
from unblur.data.catalogue.generation import generated
from unblur.data.output import OutputFile
from unblur.data.splits import hold_out_last
from unblur.experiment.ranking import LISTS
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.running import KeptArms
from unblur.experiment.task import Clock, Prepared
from unblur.models.neural.mult_vae import MultVAE
from unblur.models.neural.row_mlp import RowMLP
from unblur.models.spectral.operator import Dense, Operator
from unblur.models.spectral.polynomial_filter import PolynomialFilter
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.randomness import streams
from unblur.spec import replace_field, spec_to_dict
from unblur.synthesis.utility.task import UtilityTask
from unblur.training.loop import Moment, Training
from unblur.training.settings import Optimizer, Stopping

FLOAT_BYTES = 4
ENTRY_BYTES = 8
"""Of a stored entry of a sparse matrix: a float32 and an int32."""
PASSES = {"adam": 7, "adamw": 7, "rmsprop": 5, "sgd": 3}
"""Reads and writes of the weights' size in an update: of weights, gradients and moments."""
VALIDATION_USERS, VALIDATION_SHARE = 4096, 0.1
"""So little is held out of train to stop a Mult-VAE by, a tenth of the items of 4,096 users, that it need not be trained again."""
MULT_VAE = MultVAE(
    dims=(4000, 500),
    dropout=0.5,
    kl_weight=0.2,
    kl_batches=6_000,
    optimizer=Optimizer(name="rmsprop", learning_rate=6e-5),
    epochs=500,
    batch_size=512,
    precision="bfloat16",
    stopping=Stopping(metric="ndcg@20", every=10, patience=50),
)
"""A latent of 500, a layer of eight times that width on each side, RMSprop: in the ranges that tuned studies end in.

The weight of the KL divergence rises as in the recipe mult-vae/gowalla: with the paper's 200,000 batches it is still 0.05
when training ends, and NDCG@20 on the held-out part of Gowalla's train is 0.0934 in place of 0.1018."""
CHECKPOINT_SECONDS = 20.0
"""For the 4 GB of a checkpoint of it, at 200 MB a second."""
SMALL: Mapping[str, Mapping[str, Any]] = {
    "bspm": {"low_pass.rank": 8},
    "diffrec": {"epochs": 3, "batch_size": 64, "denoiser.dims": (8,), "schedule.steps": 5},
    "l-diffrec": {
        "epochs": 3,
        "batch_size": 64,
        "denoiser.dims": (8,),
        "schedule.steps": 5,
        "autoencoder.encoder_dims": (8,),
    },
    "sdrm": {"vae.epochs": 2, "diffusion.epochs": 2, "diffusion.steps": 5, "diffusion.batch_size": 50},
    "mult-vae": {"epochs": 3, "batch_size": 64, "dims": (32, 8)},
}
"""The settings of a trial, by kind."""


class OutOfTime(Exception):
    """The seconds of a part are over; what was done is kept."""


@dataclass(frozen=True)
class Roof:
    """What the card reaches at most, measured."""

    flops: Mapping[str, float]
    """Operations a second in a product of two large matrices, by precision."""
    bandwidth: float
    """Bytes a second, read and written, in a copy."""


@dataclass(frozen=True)
class Setting:
    """Where a part runs, and until when."""

    device: str
    small: bool
    checkpoints: Path
    deadline: float
    """By `time.perf_counter`."""
    roof: Roof
    finish: bool = False
    """Whether a Mult-VAE that is out of time is measured as it is, and no checkpoint is written."""

    def watch(self, event: ProgressEvent) -> None:
        """Raise `OutOfTime` after the deadline; every training stops so between two checkpoints."""
        if time.perf_counter() > self.deadline:
            raise OutOfTime

    def run(self, piece: str, progress: Progress | None = None) -> Run:
        """A run with the checkpoints of one piece."""
        return Run(self.device, progress or self.watch, self.checkpoints / piece.replace("/", "-"))

    def prepared(self, name: str) -> Prepared[Any, Any]:
        """A recipe with its data; a trial has generated data and a small model."""
        recipe = load_recipe(name)
        if not self.small:
            return recipe.task.prepare(recipe)
        recipe = recipe.with_model(shrunk(recipe.model))
        if isinstance(recipe.task, UtilityTask) and isinstance(recipe.task.downstream, RowMLP):
            # With a decay of weights its steps are those of a GPU, by autograd, and no kernel is compiled.
            optimizer = replace(recipe.task.downstream.optimizer, weight_decay=1e-6)
            downstream = replace(recipe.task.downstream, epochs=1, dims=(8,), optimizer=optimizer)
            recipe = replace(recipe, task=replace(recipe.task, downstream=downstream))
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        file = self.checkpoints / "generated.parquet"
        generated(300, 200, 4000, rng=0).to_frame().write_parquet(file)
        return recipe.task.prepare(recipe, file)


def shrunk(spec: Any) -> Any:
    """The spec of a trial."""
    for path, value in SMALL[spec.kind].items():
        spec = replace_field(spec, path, value)
    if getattr(spec, "stopping", None) is not None:
        spec = replace(spec, stopping=replace(spec.stopping, every=1, patience=2))
    return spec


def seconds(work: Callable[[], object], device: str, repeats: int = 3) -> float:
    """The best time of some runs after a first one, the device's work included."""
    times = []
    for _ in range(repeats + 1):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def measured_roof(device: str, small: bool = False) -> Roof:
    """Products of 8,192 × 8,192 matrices, and a copy of 1 GiB."""
    size, n_floats = (256, 2**18) if small else (8192, 2**28)
    generator, flops = torch.Generator(device).manual_seed(0), {}
    for precision in (torch.float32, torch.bfloat16):
        left, right = (
            torch.randn(size, size, device=device, generator=generator).to(precision) for _ in range(2)
        )
        name = str(precision).removeprefix("torch.")
        flops[name] = 2 * size**3 / seconds(partial(torch.mm, left, right), device)
    source = torch.randn(n_floats, device=device, generator=generator)
    target = torch.empty_like(source)
    return Roof(flops, 2 * FLOAT_BYTES * n_floats / seconds(partial(target.copy_, source), device))


def peak_memory(device: str) -> str:
    """The most memory of the device since it was last reset, in words."""
    return (
        f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if device.startswith("cuda") else "not on a GPU"
    )


def reset_memory(device: str) -> None:
    """Begin to watch the memory of the device anew."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def figures_of(prepared: Prepared[Any, Any], arm: str, model: Any, seed: int, run: Run) -> dict[str, float]:
    """The measured means of an arm."""
    result = prepared.measure(arm, model, seed, run, Clock())
    return {entry.name: entry.value for entry in result.measurements}


def known(recipe: Recipe, name: str) -> str:
    """What the recipe says was measured on a CPU."""
    number = recipe.verified.get(name)
    return "" if number is None else f"{number.value:.4f} on a CPU"


# ------------------------------------------------------------------------------------------------------ pieces


def marked_tests(setting: Setting) -> list[Row]:
    """Run the tests that are marked `gpu`, in a process of its own, from the files that have some."""
    files = sorted(
        str(file.relative_to(HERE))
        for file in (HERE / "tests").rglob("test_*.py")
        if "mark.gpu" in file.read_text()
    )
    setting.checkpoints.mkdir(parents=True, exist_ok=True)
    report = setting.checkpoints / "junit.xml"
    options = ["-q", "-m", "gpu", f"--junitxml={report}", "-W", "default", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=--import-mode=importlib", *options]
    if setting.small:
        files = files[:1]
    left = max(1.0, setting.deadline - time.perf_counter())
    try:
        done = subprocess.run(
            [*command, *files], cwd=HERE, check=False, capture_output=True, text=True, timeout=left
        )
    except subprocess.TimeoutExpired:
        raise OutOfTime from None
    if not report.is_file():
        raise RuntimeError(f"pytest ended without a report:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    suite = next(ElementTree.parse(report).iter("testsuite"))
    total, failed, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "skipped"))
    failed += int(suite.get("errors", 0))
    if failed:
        print(done.stdout[-8000:], flush=True)
    rows: list[Row] = [
        (
            "tests marked gpu: passed, failed, skipped",
            "none failed",
            f"{total - failed - skipped}, {failed}, {skipped}",
        )
    ]
    for case in suite.iter("testcase"):
        problem = next(
            (case.find(name) for name in ("failure", "error") if case.find(name) is not None), None
        )
        if problem is not None:
            rows.append(
                (
                    f"{case.get('name')}",
                    "passes",
                    (problem.get("message") or "")[:200].replace("\n", " ").replace("|", "/"),
                )
            )
    return rows


@dataclass(frozen=True)
class DenseOperator:
    """As `unblur.models.spectral.operator.Operator`, with dense matrices."""

    forward: Dense

    @property
    def backward(self) -> Dense:
        """The transposed matrix, a view."""
        return self.forward.T


def bspm(name: str, setting: Setting) -> list[Row]:
    """Fit, rank and measure on the device and on the CPU; then the polynomial alone, by sparse and by dense products."""
    device, prepared = setting.device, setting.prepared(name)
    seed, times, figures = prepared.recipe.seed, {}, {}
    reset_memory(device)
    for place in ("cpu", device):
        run, clock = Run(place, setting.watch), Clock()
        if place != "cpu":  # what CUDA sets up at its first products is not the model's
            prepared.fit(seed, run).recommend(prepared.split.histories.take_users(slice(0, 512)), k=20)
        synchronize(device)
        with clock("fit"):
            model = prepared.fit(seed, run)
            synchronize(device)
        with clock("rank"):
            ranking = prepared.recipe.protocol.rank(model, prepared.split)
        evaluation = prepared.recipe.protocol.measure(ranking, prepared.split, rng=0)
        figures[place] = {entry.name: entry.value for entry in evaluation.measurements}
        times[place] = clock.seconds
    memory, users = peak_memory(device), len(ranking.users)
    gap = max(abs(value - figures["cpu"][metric]) for metric, value in figures[device].items())
    rows: list[Row] = [
        (f"{name}: {metric}", f"{figures['cpu'][metric]:.4f} on the CPU of this machine", f"{value:.4f}")
        for metric, value in figures[device].items()
    ]
    rows.append((f"{name}: largest difference of a figure to the CPU's", "≤ 1e-4", f"{gap:.1e}"))
    for stage, work in (("fit", "seconds to fit"), ("rank", "users a second, ranked")):
        shown = [
            times[place][stage] if stage == "fit" else users / times[place][stage]
            for place in (device, "cpu")
        ]
        rows.append((f"{name}: {work}", f"{shown[1]:,.1f} on the CPU of this machine", f"{shown[0]:,.1f}"))
    rows.append((f"{name}: peak memory of the device", "", memory))
    return rows + polynomial_rows(name, model, setting)


def polynomial_rows(name: str, model: PolynomialFilter, setting: Setting) -> list[Row]:
    """Compare sparse and dense products for one block of users, and both with the roof."""
    device, polynomial = setting.device, model.plan.polynomial
    operator = Operator(model.normalized, device)
    n_users, n_items = model.normalized.shape
    width = operator.block_width
    block = operator.array(np.random.default_rng(0).random((n_items, width)))
    by_dense_matrix = DenseOperator(operator.array(model.normalized.toarray()))
    apply: Callable[..., Dense] = polynomial.apply
    by_sparse, by_dense = apply(operator, block), apply(by_dense_matrix, block)
    error = float(abs(by_sparse - by_dense).max() / abs(by_dense).max())
    sparse_time, dense_time = (
        seconds(partial(apply, way, block), device) for way in (operator, by_dense_matrix)
    )
    products = 2 * len(polynomial.coefficients)
    traffic = products * (ENTRY_BYTES * model.normalized.nnz + FLOAT_BYTES * width * (n_users + n_items))
    operations = products * 2 * n_users * n_items * width
    return [
        (
            f"{name}: polynomial of {width} users, sparse against dense products",
            "faster",
            f"{dense_time / sparse_time:.1f} times ({1e3 * sparse_time:.2f} ms, {1e3 * dense_time:.2f} ms)",
        ),
        (
            f"{name}: largest difference between the two, as a fraction of the largest value",
            "≤ 1e-4",
            f"{error:.1e}",
        ),
        (
            f"{name}: sparse products, share of the bandwidth roof (least traffic)",
            "",
            share(traffic / sparse_time, setting.roof.bandwidth, "GB/s", 1e9),
        ),
        (
            f"{name}: dense products, share of the float32 roof",
            "",
            share(operations / dense_time, setting.roof.flops["float32"], "TFLOP/s", 1e12),
        ),
    ]


def share(rate: float, roof: float, unit: str, scale: float) -> str:
    """A rate and its share of the roof, in words."""
    return f"{rate / roof:.0%} ({rate / scale:,.1f} of {roof / scale:,.1f} {unit})"


def training_rows(name: str, training: Training[Any], setting: Setting, plain: list[float]) -> list[Row]:
    """Rows on the speed of a training whose epochs without an evaluation took `plain` seconds."""
    learner, plan = training.learner, training.plan
    rows = torch.arange(min(plan.batch_size, learner.n_rows), device=training.device)
    generator = torch.Generator(training.device).manual_seed(0)
    with FlopCounterMode(display=False) as counter:
        with torch.autocast(training.device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
            loss = learner.loss(rows, Moment(1, 0), generator)
        loss.backward()
    batches = math.ceil(learner.n_rows / plan.batch_size)
    traffic = sum(
        FLOAT_BYTES * PASSES[settings.name] * sum(parameter.numel() for parameter in module.parameters())
        for module, settings in learner.groups
    )
    epoch = float(np.median(plain)) if plain else math.nan
    return [
        (f"{name}: seconds an epoch of {learner.n_rows:,} users, {batches} batches", "", f"{epoch:.3f}"),
        (
            f"{name}: products of training, share of the {plan.precision} roof",
            "",
            share(
                counter.get_total_flops() * batches / epoch,
                setting.roof.flops[plan.precision],
                "TFLOP/s",
                1e12,
            ),
        ),
        (
            f"{name}: updates of weights, share of the bandwidth roof",
            "",
            share(traffic * batches / epoch, setting.roof.bandwidth, "GB/s", 1e9),
        ),
    ]


def diffrec(name: str, setting: Setting) -> list[Row]:
    """Train to the early stop, measure on test, and see what an epoch takes."""
    prepared = setting.prepared(name)
    recipe, split, run = prepared.recipe, prepared.split, setting.run(name)
    reset_memory(setting.device)
    rng = streams(recipe.seed, "fit")["fit"]
    training = recipe.model.training(split.train, rng=rng, run=run, validation=split.validation)
    for _ in training.epochs():
        pass
    every, best = recipe.model.stopping.every, training.best
    assert best is not None
    plain = [report.seconds for report in training.history[1:] if report.epoch % every or every == 1]
    figures = figures_of(prepared, LISTS, training.fitted(), recipe.seed, Run(setting.device))
    total = sum(report.seconds for report in training.history)
    return [
        *((f"{name}: {metric}", known(recipe, metric), f"{value:.4f}") for metric, value in figures.items()),
        (
            f"{name}: epochs to the early stop, the best, seconds",
            "",
            f"{training.epoch}, {best.epoch}, {total:.1f}",
        ),
        *training_rows(name, training, setting, plain),
        (f"{name}: peak memory of the device", "", peak_memory(setting.device)),
    ]


ARMS = ("full", "no-synthetic")
"""The arms that say what the synthetic users of SDRM are worth."""


def sdrm(name: str, setting: Setting) -> list[Row]:
    """Train, sample, and measure what the downstream recommender learns with and without the synthetic users."""
    prepared, clock = setting.prepared(name), Clock()
    recipe, run = prepared.recipe, setting.run(name)
    reset_memory(setting.device)
    with clock("fit"):
        model = prepared.fit(recipe.seed, run)
    kept, rows = KeptArms(run, {**prepared.identity, "device": setting.device}), []
    for arm in ARMS:
        start = time.perf_counter()
        result = kept.kept_or_new(
            arm, prepared, partial(prepared.measure, arm, model, recipe.seed, run, clock)
        )
        metric = "capped_recall@10"
        value = float(result.values[metric].mean())
        rows.append(
            (
                f"{name}: {arm} {metric}, and its seconds",
                known(recipe, f"{arm} {metric}"),
                f"{value:.4f}, {time.perf_counter() - start:.1f}",
            )
        )
    brief = replace_field(replace_field(recipe.model, "vae.epochs", 2), "diffusion.epochs", 2)
    with FlopCounterMode(display=False) as counter:
        prepared.with_model(brief).fit(recipe.seed, Run(setting.device))
    taken = seconds(
        partial(prepared.with_model(brief).fit, recipe.seed, Run(setting.device)), setting.device, repeats=1
    )
    rate = share(counter.get_total_flops() / taken, setting.roof.flops[brief.precision], "TFLOP/s", 1e12)
    return [
        *rows,
        (f"{name}: seconds of both trainings", "", f"{clock.seconds['fit']:.1f}"),
        (f"{name}: products of two epochs of each training, share of the {brief.precision} roof", "", rate),
        (f"{name}: peak memory of the device", "", peak_memory(setting.device)),
    ]


def mult_vae(name: str, expected: str, setting: Setting) -> list[Row]:
    """Train until NDCG@20 on a part of train no longer rises, and measure once on test.

    A checkpoint has three copies of the weights, gigabytes: it is written when the time is over, and at the end.
    """
    prepared = setting.prepared(name).with_model(shrunk(MULT_VAE) if setting.small else MULT_VAE)
    recipe, split = prepared.recipe, prepared.split
    spec, random = recipe.model, streams(recipe.seed, "validation users")["validation users"]
    chosen = np.zeros(split.train.n_users, dtype=bool)
    chosen[random.permutation(split.train.n_users)[:VALIDATION_USERS]] = True
    counts = np.where(chosen, np.round(VALIDATION_SHARE * split.train.user_degrees), 0)
    own = hold_out_last(split.train, counts, "random", random, "a tenth of the items of some users")
    reset_memory(setting.device)
    rng = streams(recipe.seed, "fit")["fit"]
    training = spec.training(own.train, rng=rng, run=setting.run(name, silent), validation=own.held_out)
    assert training.checkpoints is not None
    training.checkpoints = replace(training.checkpoints, every=spec.epochs)
    slowest, state = 0.0, "to the early stop"
    for report in training.epochs():
        if report.validation is not None:
            print(f"  {name}: epoch {report.epoch}, {report.loss:.2f}, {report.validation:.4f}", flush=True)
        slowest = max(slowest, report.seconds)  # those that are evaluated
        left = (
            setting.deadline - time.perf_counter() - slowest - (0 if setting.finish else CHECKPOINT_SECONDS)
        )
        if training.ended or left > 0:
            continue
        if not setting.finish:
            training.checkpoint()
            raise OutOfTime
        if training.best is not None:
            state = "to the end of its time"
            break
    best, every = training.best, spec.stopping.every
    assert best is not None
    plain = [report.seconds for report in training.history[1:] if report.epoch % every or every == 1]
    figures = figures_of(prepared, LISTS, training.fitted(), recipe.seed, Run(setting.device))
    curve = ", ".join(
        f"{report.epoch}: {report.validation:.4f}"
        for report in training.history
        if report.validation is not None
    )
    return [
        (f"{name}, wide: settings", "", changed_settings(spec)),
        *(
            (f"{name}, wide: {metric}", value, f"{figures[metric]:.4f}")
            for metric, value in zip(("recall@20", "ndcg@20"), expected.split("/"), strict=True)
        ),
        (
            f"{name}, wide: epochs {state}, the best, seconds",
            "",
            f"{training.epoch}, {best.epoch}, {sum(report.seconds for report in training.history):.1f}",
        ),
        (f"{name}, wide: NDCG@20 on the held-out part of train, by epoch", "", curve),
        *training_rows(f"{name}, wide", training, setting, plain),
        (f"{name}, wide: peak memory of the device", "", peak_memory(setting.device)),
    ]


def changed_settings(spec: MultVAE) -> str:
    """Return the settings that are not the defaults of the kind, in words."""
    default = spec_to_dict(MultVAE())
    changed = {name: value for name, value in spec_to_dict(spec).items() if value != default[name]}
    return ", ".join(f"{name} {value}" for name, value in changed.items())


Piece = Callable[[Setting], list[Row]]
PIECES: Mapping[str, Mapping[str, Piece]] = {
    "tests": {"tests marked gpu": marked_tests},
    "bspm": {name: partial(bspm, name) for name in ("bspm/gowalla", "bspm/yelp2018")},
    "diffrec": {name: partial(diffrec, name) for name in ("diffrec/ml-1m", "l-diffrec/ml-1m")},
    "sdrm": {name: partial(sdrm, name) for name in ("sdrm/ml-100k-svd", "sdrm/ml-100k-mlp")},
    "multvae-gowalla": {"mult-vae/gowalla": partial(mult_vae, "mult-vae/gowalla", ".1873/.1539")},
    "multvae-yelp": {"mult-vae/yelp2018": partial(mult_vae, "mult-vae/yelp2018", ".0731/.0602")},
}
"""The pieces of each part, by name."""


def run_part(part: str, setting: Setting) -> dict[str, Any]:
    """Run the pieces of a part that are not kept from before, until its time is over; return its evidence, plain values."""
    file, start = setting.checkpoints / "pieces.json", time.perf_counter()
    kept: dict[str, list[Row]] = json.loads(file.read_text()) if file.is_file() else {}
    for name, piece in PIECES[part].items():
        if name in kept:
            continue
        try:
            setting.watch(ProgressEvent(name, 0, None))
            kept[name] = piece(setting)
        except OutOfTime:
            break
        file.parent.mkdir(parents=True, exist_ok=True)
        with OutputFile(file, overwrite=True).written() as stream:  # a kill half-way would cost all pieces
            stream.write(json.dumps(kept).encode())
    return {
        "part": part,
        "complete": kept.keys() == PIECES[part].keys(),
        "device": setting.device,
        "small": setting.small,
        "card": torch.cuda.get_device_name() if setting.device.startswith("cuda") else "a CPU",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "seconds": time.perf_counter() - start,
        "roof": {
            **{f"{name} FLOP/s": rate for name, rate in setting.roof.flops.items()},
            "bytes/s": setting.roof.bandwidth,
        },
        "rows": [list(row) for rows in kept.values() for row in rows],
    }
