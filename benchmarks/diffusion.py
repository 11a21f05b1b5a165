"""Trained diffusion: our path against the textbook path, on generated data of public data sets' shapes.

- `early_stop`: 24 epochs and 4 evaluations of T = 40 steps on 5,949 × 2,810 (target: 5 times faster).
- `folding`: 40 reverse steps for all those users (of ML-1M clean itself, if `UNBLUR_DATA` has it): folded, step by
  step, and one step alone.
- `timestep_sampler`: drawing steps and remembering losses, in arrays and in a loop over the batch.
- `memory`: training on 54,574 × 34,395 in batches of 400, in a process of its own (target: 3 GB).
- `latency`: one new user there, alone and 64 at a time (targets: 40 ms and 4 ms).
- `many_evaluations`: 97 epochs on 943 × 1,682 with an evaluation after each (target: 17 s).

The textbook path is what published code does: dense rows, a Python loop over the rows of a batch for the
history of losses, reverse steps in the space of items, and metrics in nested Python loops.
"""

import math
import os
import sys
import time
import timeit
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.measuring import measured
from unblur.data.catalogue.copies import load
from unblur.data.catalogue.generation import generated
from unblur.data.interactions import Interactions
from unblur.data.splits import Random, Split
from unblur.models.diffusion.diffrec import DiffRec
from unblur.models.diffusion.objective import TimestepSampler
from unblur.models.diffusion.sampling import denoise, reverse_chain
from unblur.models.diffusion.schedule import Schedule, noise_schedule
from unblur.models.diffusion.settings import Denoiser, Objective, Sampling
from unblur.training.rows import SparseRows
from unblur.training.settings import Optimizer, Stopping

MEDIUM = DiffRec(
    schedule=Schedule(name="linear-var", steps=40, scale=0.005, noise_min=0.005, noise_max=0.01),
    denoiser=Denoiser(dims=(200, 600)),
    stopping=Stopping(every=5, patience=20),
)
LARGE = DiffRec(
    schedule=Schedule(name="linear-var", steps=5, scale=0.01, noise_min=0.001, noise_max=0.01),
    denoiser=Denoiser(dims=(1000,)),
    optimizer=Optimizer(learning_rate=1e-5),
)
SMALL = DiffRec(
    optimizer=Optimizer(name="adam"),
    batch_size=2048,
    epochs=97,
    stopping=Stopping(metric="mrr@10", every=1, patience=1000),
)


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """The best time of some runs."""
    return min(timeit.repeat(work, number=1, repeat=repeats))


def seconds_in_turn(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The best time of some runs of each, taken in turn, so that a change of the machine's speed affects all."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work))
    return {name: min(each) for name, each in times.items()}


def remember_one_by_one(
    history: np.ndarray, counts: np.ndarray, steps: np.ndarray, losses: torch.Tensor
) -> None:
    """Put the losses of a batch into the last ten of their timesteps, in a Python loop over the batch."""
    for step, loss in zip(steps, losses, strict=True):
        if counts[step] == 10:
            history[step, :-1] = history[step, 1:]
            history[step, -1] = loss
        else:
            history[step, counts[step]] = loss
            counts[step] += 1


class Textbook:
    """DiffRec as published code trains and evaluates it."""

    def __init__(self, spec: DiffRec, split: Split) -> None:
        self.spec, self.split, self.schedule = spec, split, noise_schedule(spec.schedule)
        n, (low, high) = split.train.n_items, spec.denoiser.dims
        widths = [n + 10, high, low, high, n]
        self.embedding = nn.Linear(10, 10)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(widths)])
        parameters = [*self.embedding.parameters(), *self.layers.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=spec.optimizer.learning_rate)
        self.losses, self.seen = np.zeros((self.schedule.steps, 10)), np.zeros(self.schedule.steps, dtype=int)

    def network(self, x: torch.Tensor, steps: torch.Tensor, training: bool) -> torch.Tensor:
        """Row and embedding, concatenated, through the layers."""
        rates = torch.exp(-math.log(10000) * torch.arange(5) / 5)
        angles = steps[:, None].float() * rates
        embedded = self.embedding(torch.cat((torch.cos(angles), torch.sin(angles)), 1))
        h = torch.cat((functional.dropout(x, 0.5, training), embedded), 1)
        for layer in self.layers[:-1]:
            h = torch.tanh(layer(h))
        output: torch.Tensor = self.layers[-1](h)
        return output

    def epoch(self) -> None:
        """One pass over dense rows."""
        rows = torch.from_numpy(self.split.train.matrix.toarray())
        ratio = self.schedule.signal_to_noise
        for batch in torch.randperm(len(rows)).split(self.spec.batch_size):
            x0 = rows[batch]
            chances = np.full(self.schedule.steps, 1 / self.schedule.steps)
            if (self.seen == 10).all():
                size = np.sqrt((self.losses**2).mean(1))
                chances = size / size.sum() * 0.999 + 0.001 / len(size)
            steps = torch.multinomial(torch.from_numpy(chances), len(x0), replacement=True)
            t = steps.numpy()
            signal, noise = (
                torch.from_numpy(a[t, None]).float() for a in (self.schedule.signal, self.schedule.noise)
            )
            answer = self.network(signal * x0 + noise * torch.randn_like(x0), steps, True)
            weight = np.where(t == 0, 1.0, ratio[t - 1] - ratio[t])
            losses = ((answer - x0) ** 2).mean(1) * torch.from_numpy(weight).float()
            remember_one_by_one(self.losses, self.seen, t, losses.detach())
            self.optimizer.zero_grad()
            (losses / torch.from_numpy(chances[t] * len(chances)).float()).mean().backward()
            self.optimizer.step()

    @torch.no_grad()
    def evaluate(self) -> float:
        """Recall@20 over all users, batch by batch; published code does so for two sets each time."""
        hits: list[float] = []
        for start in range(0, self.split.train.n_users, self.spec.batch_size):
            part = slice(start, start + self.spec.batch_size)
            x = torch.from_numpy(self.split.train.matrix[part].toarray())
            history = x > 0
            for step in range(self.schedule.steps - 1, -1, -1):
                guess = self.network(x, torch.full((len(x),), step), False)
                x = guess * self.schedule.posterior_clean[step] + x * self.schedule.posterior_noisy[step]
            x[history] = -torch.inf
            best = x.float().topk(20).indices.tolist()
            held_out = self.split.held_out.matrix[part]
            for row, items in enumerate(best):
                relevant = held_out[[row]].indices.tolist()
                n_hits = 0
                for item in items:
                    if item in relevant:
                        n_hits += 1
                if relevant:
                    hits.append(n_hits / len(relevant))
        return float(np.mean(hits))


def medium() -> Split:
    """Data of the shape of a public 1M set of ratings of at least 4, a tenth held out."""
    return Random(fraction=0.12).apply(generated(5949, 2810, 460_000, rng=0), rng=0)


def early_stop(precision: Literal["float32", "bfloat16"] = "float32", epochs: int = 24) -> dict[str, float]:
    """Seconds to the early stop; the textbook's from one epoch and one evaluation, after a warm-up."""
    split = medium()
    run = replace(MEDIUM, epochs=epochs, precision=precision).training(
        split.train, rng=0, validation=split.held_out
    )
    ours = seconds(lambda: list(run.epochs()))
    textbook = Textbook(MEDIUM, split)
    textbook.epoch()
    epoch, evaluation = seconds(textbook.epoch), seconds(textbook.evaluate)
    theirs = epochs * epoch + epochs // 5 * 2 * evaluation  # validation and test
    return {
        "ours": ours,
        "textbook": theirs,
        "times faster": theirs / ours,
        "textbook epoch": epoch,
        "textbook evaluation": 2 * evaluation,
    }


def early_stop_bfloat16() -> dict[str, float]:
    """The same with products of training in bfloat16; the textbook stays in float32."""
    return early_stop("bfloat16")


def folding() -> dict[str, float]:
    """Seconds for scores of all users after 40 folded steps, 40 plain ones, and one; and the largest difference to the
    plain ones (target: 40 steps in twice the time of one)."""
    real = Path(os.environ.get("UNBLUR_DATA", "")) / "ml-1m_clean"
    train = load("ml-1m_clean")["train"] if real.is_dir() else medium().train
    run = replace(MEDIUM, epochs=30, stopping=None).training(train, rng=0)
    list(run.epochs())
    model = run.fitted()
    single = replace(model, spec=replace(MEDIUM, sampling=Sampling(inference_steps=1)))
    rows = SparseRows.of(train.matrix)
    chain = reverse_chain(MEDIUM.schedule)

    @torch.no_grad()
    def step_by_step() -> np.ndarray:
        blocks = torch.arange(len(rows)).split(1024)
        return torch.cat(
            [denoise(model.network, chain, rows.take(block).dense()) for block in blocks]
        ).numpy()

    plain = step_by_step()
    works: dict[str, Callable[[], object]] = {}
    for name, each in (("folded", model), ("one step", single)):
        works |= {name: partial(each.score, train), f"{name}, ranked": partial(each.recommend, train, k=20)}
    return {
        **seconds_in_turn(works, repeats=7),
        "step by step": seconds(step_by_step),
        "largest difference, folded": float(np.abs(plain - model.score(train)).max()),
    }


def timestep_sampler() -> dict[str, float]:
    """Milliseconds a batch of 400 for drawing steps and remembering their losses, T = 40: arrays, and a loop."""
    choice, generator = TimestepSampler(40, Objective()), torch.Generator().manual_seed(0)
    losses, history, counts = torch.rand(400), np.zeros((40, 10)), np.zeros(40, dtype=int)

    def arrays() -> None:
        steps, _ = choice.draw(400, generator)
        choice.remember(steps, losses)

    def loop() -> None:
        steps, _ = choice.draw(400, generator)
        remember_one_by_one(history, counts, steps, losses)

    return {"arrays": seconds(arrays, 50) * 1e3, "loop": seconds(loop, 10) * 1e3}


def large_run(precision: Literal["float32", "bfloat16"] = "float32", batches: int = 8) -> dict[str, float]:
    """Training on the large shape: seconds an epoch, from some batches."""
    data = generated(54_574, 34_395, 1_402_736, rng=0)
    run = replace(LARGE, precision=precision).training(data, rng=0)
    marks: list[float] = []
    learner = run.learner
    plain = learner.loss

    def timed(*arguments: object) -> torch.Tensor:
        marks.append(time.perf_counter())
        if len(marks) > batches:
            raise KeyboardInterrupt
        return plain(*arguments)  # type: ignore[arg-type]

    learner.loss = timed  # type: ignore[assignment, method-assign]
    with suppress(KeyboardInterrupt):
        list(islice(run.epochs(), 1))
    run.fitted().recommend(data.take_users(slice(0, 1024)), k=20)
    batch = float(np.median(np.diff(marks)))
    return {"seconds a batch": batch, "seconds an epoch": batch * learner.n_rows / 400}


def memory() -> dict[str, float]:
    """`large_run` in a process of its own, with the peak of its memory."""
    return measured("diffusion", "large_run")


def latency() -> dict[str, float]:
    """Milliseconds a new user on the large shape, T = 5: median of scoring and ranking."""
    data: Interactions = generated(54_574, 34_395, 1_402_736, rng=0)
    model = replace(LARGE, stopping=None).training(data, rng=0).fitted()
    figures = {}
    for size in (1, 64):
        rows = data.take_users(np.arange(size))
        model.recommend(rows, k=20)
        times = [seconds(partial(model.recommend, rows, k=20)) for _ in range(20)]
        figures[f"ms a user, {size} at a time"] = float(np.median(times)) / size * 1e3
    return figures


def many_evaluations() -> dict[str, float]:
    """Seconds for 97 epochs with an evaluation after each."""
    split = Random(fraction=0.11).apply(generated(943, 1682, 90_000, rng=0), rng=0)
    run = SMALL.training(split.train, rng=0, validation=split.held_out)
    return {"seconds": seconds(lambda: list(run.epochs()))}


def main() -> None:
    """Run all benchmarks, or those named on the command line."""
    works = (early_stop, early_stop_bfloat16, folding, timestep_sampler, memory, latency, many_evaluations)
    for work in works:
        if not sys.argv[1:] or work.__name__ in sys.argv[1:]:
            print(work.__name__, {name: round(value, 7) for name, value in work().items()}, flush=True)


if __name__ == "__main__":
    main()
