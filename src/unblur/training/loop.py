"""The training loop: a generator of epoch reports, which the caller may stop at any time.

A `Learner` is trained by a `Plan`. All random numbers of an epoch follow from the seed and the epoch's number, so
a run that was interrupted and resumed from a checkpoint ends in the same bytes as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from unblur.errors import CapabilityError, UnblurError
from unblur.parallel.devices import check_device
from unblur.progress import ProgressEvent, Run
from unblur.training.checkpoints import CheckpointFolder
from unblur.training.networks import Weights, below
from unblur.training.settings import Optimizer, Plan

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def make_optimizer(parameters: Iterable[nn.Parameter], settings: Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer that the settings name; it updates all its parameters in one fused pass where torch can."""
    kinds: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw": partial(torch.optim.AdamW, eps=settings.epsilon, fused=True),
        "adam": partial(torch.optim.Adam, eps=settings.epsilon, fused=True),
        "rmsprop": partial(torch.optim.RMSprop, eps=settings.epsilon),
        "sgd": partial(torch.optim.SGD, fused=True),
    }
    return kinds[settings.name](parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of the optimizer, by ``<parameter number>.<name>``."""
    state: Mapping[int, Mapping[str, Tensor | None]] = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": tensor
        for number, tensors in state.items()
        for name, tensor in tensors.items()
        if tensor is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Restore a state that `optimizer_state` returned."""
    numbered: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        number, _, name = key.partition(".")
        numbered.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": numbered})


Trained = TypeVar("Trained")
Fitted_co = TypeVar("Fitted_co", covariant=True)
EVENT_SECONDS = 1.0
"""The least time between progress events within an epoch."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The epoch and update of a batch."""

    epoch: int
    """From 1."""
    update: int
    """The number of batches before this one, in all epochs."""


class Learner(Protocol[Fitted_co]):
    """A network with its data and loss, as the training loop uses it."""

    @property
    def module(self) -> nn.Module:
        """Every parameter and every buffer that changes in training."""

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """Parts of `module`, each with its optimizer; none if `loss` takes the step itself."""

    @property
    def n_rows(self) -> int:
        """The number of rows to train on."""

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """Return the mean loss of some rows, int64 positions; all its random numbers come from the generator."""

    def fitted(self, weights: Weights) -> Fitted_co:
        """Return the fitted thing with `weights`, those of `module` at some time, which must not be changed."""


class DivergedTraining(UnblurError, ArithmeticError):
    """A loss that is no longer a finite number."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """The result of one epoch."""

    epoch: int
    """From 1."""
    loss: float
    """The mean over the rows trained on."""
    validation: float | None
    """The metric on validation data, in the epochs that are evaluated."""
    best: bool
    """True if this is the best epoch so far; without evaluation every epoch is."""
    seconds: float
    """The duration of the epoch, evaluation included."""


def event_writer(folder: Path) -> SummaryWriter:
    """Return a writer of TensorBoard's event files. Raises `CapabilityError` if it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as problem:
        raise CapabilityError(
            f"Writing for TensorBoard needs the extra `tensorboard`; {problem}. "
            "Install it with `pip install 'unblur[tensorboard]'`, or leave `tensorboard` out."
        ) from None
    return SummaryWriter(str(folder))


class Training(Generic[Trained]):
    """A run of training: iterate over `epochs`, then call `fitted`.

    ::

        for report in training.epochs():
            if report.loss < enough:
                break
        model = training.fitted()
    """

    def __init__(
        self,
        learner: Learner[Trained],
        plan: Plan,
        *,
        seed: int,
        run: Run = Run(),
        judge: Callable[[Trained], float] | None = None,
        checkpoints: CheckpointFolder | None = None,
    ) -> None:
        """`judge` measures a fitted thing, higher is better; the run resumes from the last of `checkpoints`, if any."""
        self.learner, self.plan, self.seed = learner, plan, seed
        self.device = torch.device(check_device(run.device, plan.precision))
        self.judge, self.checkpoints, self.progress = judge, checkpoints, run.progress
        self._events = None if run.events is None else event_writer(run.events)
        self.history: list[EpochReport] = []
        self._optimizers = [
            make_optimizer(module.parameters(), settings) for module, settings in learner.groups
        ]
        self._best: dict[str, Tensor] | None = None
        self._resume()

    @property
    def epoch(self) -> int:
        """The last finished epoch, 0 before the first."""
        return self.history[-1].epoch if self.history else 0

    @property
    def best(self) -> EpochReport | None:
        """The report of the best epoch so far."""
        return next((report for report in reversed(self.history) if report.best), None)

    def fitted(self) -> Trained:
        """Return the fitted thing with the weights of the best epoch, the last one if none was evaluated."""
        return self.learner.fitted(_copy_weights(self.learner.module) if self._best is None else self._best)

    def epochs(self) -> Iterator[EpochReport]:
        """Train epoch by epoch until the plan's end or its stopping rule; each report comes after its
        checkpoint.

        Raises `DivergedTraining` when a loss is not finite; the checkpoints then are those of earlier epochs,
        and `fitted` still gives the best evaluated one.
        """
        try:
            while not self.ended:
                report = self._epoch(self.epoch + 1)
                self.history.append(report)
                if self.checkpoints is not None and (
                    report.epoch % self.checkpoints.every == 0 or self.ended
                ):
                    self.checkpoint()
                for name, value in (("loss", report.loss), ("validation", report.validation)):
                    if self._events is not None and value is not None:
                        self._events.add_scalar(name, value, report.epoch)
                self.progress(self._event(report))
                yield report
        finally:
            if self._events is not None:
                self._events.close()

    def finished(self) -> Trained:
        """Train to the end, and return what is `fitted`."""
        for _ in self.epochs():
            pass
        return self.fitted()

    @property
    def ended(self) -> bool:
        """True if the plan or its stopping rule has ended the training."""
        stopping, best = self.plan.stopping, self.best
        stopped = (
            stopping is not None
            and self.judge is not None
            and best is not None
            and self.epoch + 1 - best.epoch >= stopping.patience
        )
        return stopped or self.epoch >= self.plan.epochs

    def _epoch(self, epoch: int) -> EpochReport:
        start = time.perf_counter()
        loss, stopping = self._train(epoch), self.plan.stopping
        validation: float | None = None
        best = self.judge is None or stopping is None
        if self.judge is not None and stopping is not None and epoch % stopping.every == 0:
            validation = self.judge(self.learner.fitted(self.learner.module.state_dict()))
            earlier = (past.validation for past in self.history if past.validation is not None)
            best = validation > max(earlier, default=-math.inf)
            if best:
                self._best = None  # so that two copies are not in memory at once
                self._best = _copy_weights(self.learner.module)
        return EpochReport(epoch, loss, validation, best, time.perf_counter() - start)

    def _train(self, epoch: int) -> float:
        """Train on all rows once, in random order, and return the mean loss."""
        learner, size = self.learner, self.plan.batch_size
        order, generator = epoch_randomness(self.seed, epoch, learner.n_rows, self.device)
        batches = order.split(size)
        # Losses stay on the device: reading one would wait for the batch.
        losses = torch.empty(len(batches), device=self.device)
        last_event = time.perf_counter()
        learner.module.train()
        if self.plan.decay == "linear":
            for (_, settings), optimizer in zip(learner.groups, self._optimizers, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * (1 - (epoch - 1) / self.plan.epochs)
        for index, rows in enumerate(batches):
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bfloat16"):
                loss = learner.loss(rows, Moment(epoch, (epoch - 1) * len(batches) + index), generator)
            losses[index] = loss.detach()
            if self._optimizers:
                loss.backward()
            for (module, settings), optimizer in zip(learner.groups, self._optimizers, strict=True):
                if settings.clip_norm is not None:
                    nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)
                optimizer.step()
            if time.perf_counter() - last_event > EVENT_SECONDS:
                last_event = time.perf_counter()
                _check_finite(losses[: index + 1], len(batches), epoch, self.checkpoints)
                values = {"loss": float(losses[index])}
                self.progress(
                    ProgressEvent(f"train, epoch {epoch}", index + 1, len(batches), values, kind="batch")
                )
        learner.module.eval()
        _check_finite(losses, len(batches), epoch, self.checkpoints)
        sizes = torch.tensor([len(rows) for rows in batches], dtype=torch.float64)
        return float((losses.double().cpu() * sizes).sum() / sizes.sum())

    def _event(self, report: EpochReport) -> ProgressEvent:
        """Return an event with the epoch's loss, metric, and the seconds until the last epoch of the plan."""
        values, metric = {"loss": report.loss}, ""
        if report.validation is not None and self.plan.stopping is not None:
            metric = "" if self.plan.judged_by else self.plan.stopping.metric
            values[self.plan.judged_by or metric] = report.validation
        # Of the last ten epochs, since speed changes with what else the machine does.
        recent = [past.seconds for past in self.history[-10:]]
        values["seconds_left"] = sum(recent) / len(recent) * (self.plan.epochs - report.epoch)
        return ProgressEvent("train", report.epoch, self.plan.epochs, values, kind="epoch", metric=metric)

    def checkpoint(self) -> None:
        """Write a checkpoint of the last finished epoch, from which the run resumes; nothing without a folder for them.

        `epochs` does so by itself, every `CheckpointFolder.every` epochs and at the end.
        """
        if self.checkpoints is None:
            return
        states: dict[str, Mapping[str, Tensor]] = {"module.": self.learner.module.state_dict()}
        states["best."] = self._best or {}
        for number, optimizer in enumerate(self._optimizers):
            states[f"optimizer.{number}."] = optimizer_state(optimizer)
        arrays = {
            prefix + name: tensor.detach().cpu().numpy()
            for prefix, tensors in states.items()
            for name, tensor in tensors.items()
        }
        self.checkpoints.write(self.epoch, {"history": [asdict(report) for report in self.history]}, arrays)

    def _resume(self) -> None:
        latest = None if self.checkpoints is None else self.checkpoints.latest()
        if latest is None:
            return
        record, arrays = latest
        tensors = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
        self.learner.module.load_state_dict(below("module.", tensors))
        self._best = below("best.", tensors) or None
        for number, optimizer in enumerate(self._optimizers):
            restore_optimizer(optimizer, below(f"optimizer.{number}.", tensors))
        self.history = [EpochReport(**report) for report in record["history"]]


def epoch_randomness(
    seed: int, epoch: int, n_rows: int, device: torch.device
) -> tuple[Tensor, torch.Generator]:
    """Return the order of the rows in an epoch, int64, and the generator for all other draws, both on the device."""
    # torch takes seeds of 63 bits without a sign.
    words = np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint64)
    shuffle = torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
    order = torch.randperm(n_rows, generator=shuffle).to(device)
    return order, torch.Generator(device=device).manual_seed(int(words[1] >> np.uint64(1)))


def _check_finite(losses: Tensor, batches: int, epoch: int, checkpoints: CheckpointFolder | None) -> None:
    not_finite = (~torch.isfinite(losses)).nonzero()
    if not len(not_finite):
        return
    first = int(not_finite[0])
    hint = f" Checkpoints of earlier epochs are in {checkpoints.path}." if checkpoints is not None else ""
    raise DivergedTraining(
        f"The loss of every batch must be finite; that of batch {first + 1} of {batches} in epoch {epoch} is "
        f"{float(losses[first])}. Lower the learning rate, or set `optimizer.clip_norm`.{hint}"
    )


def _copy_weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
