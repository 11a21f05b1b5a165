"""The training loop: a generator of epoch reports, which the caller may stop at any time.

What is trained is a `Learner`; how long and in which batches is the `Plan`. All chance of an epoch comes from
the seed and the epoch's number, so a run that was interrupted and resumed from a checkpoint ends in the same
bytes as one that was not.
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
from unblur.progress import ProgressEvent, Run
from unblur.training.checkpoints import CheckpointFolder
from unblur.training.networks import Weights, below
from unblur.training.settings import Optimizer, Plan, Precision

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def make_optimizer(parameters: Iterable[nn.Parameter], settings: Optimizer) -> torch.optim.Optimizer:
    """The optimizer that the settings name; each updates all its parameters in one fused pass."""
    kinds: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw": partial(torch.optim.AdamW, eps=settings.epsilon),
        "adam": partial(torch.optim.Adam, eps=settings.epsilon),
        "sgd": torch.optim.SGD,
    }
    return kinds[settings.name](
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimizer remembers, as ``<parameter number>.<name>``."""
    state: Mapping[int, Mapping[str, Tensor | None]] = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": tensor
        for number, kept in state.items()
        for name, tensor in kept.items()
        if tensor is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_state` gave."""
    numbered: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        number, _, name = key.partition(".")
        numbered.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": numbered})


Trained = TypeVar("Trained")
Fitted_co = TypeVar("Fitted_co", covariant=True)
EVENT_SECONDS = 1.0
"""How far apart, at least, the progress events within an epoch are."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a batch is trained on."""

    epoch: int
    """From 1."""
    update: int
    """How many batches came before, in all epochs."""


class Learner(Protocol[Fitted_co]):
    """What can be trained."""

    @property
    def module(self) -> nn.Module:
        """Every parameter and every buffer that changes in training."""

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """Parts of `module`, and how the parameters of each are optimised; none where `loss` takes the step itself."""

    @property
    def n_rows(self) -> int:
        """How many rows there are to train on."""

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some rows, int64 positions; all its chance comes from the generator."""

    def fitted(self, weights: Weights) -> Fitted_co:
        """What `weights`, those of `module` at some time, make; they must not be changed."""


class DivergedTraining(UnblurError, ArithmeticError):
    """A loss that is no longer a finite number."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one epoch came to."""

    epoch: int
    """From 1."""
    loss: float
    """The mean over the rows trained on."""
    validation: float | None
    """The metric on what was set aside, in the epochs that are evaluated."""
    best: bool
    """Whether this is the best epoch so far; without evaluation every epoch is."""
    seconds: float
    """How long the epoch took, evaluation included."""


def event_writer(folder: Path) -> SummaryWriter:
    """Writes TensorBoard's event files. Raises `CapabilityError` where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as problem:
        raise CapabilityError(
            f"Writing for TensorBoard needs the extra `tensorboard`; {problem}. "
            "Install it with `pip install 'unblur[tensorboard]'`, or leave `tensorboard` out."
        ) from None
    return SummaryWriter(str(folder))


class Training(Generic[Trained]):
    """A run of training: iterate over `epochs`, then ask for what is `fitted`.

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
        """`judge` measures what is fitted, higher is better; `checkpoints` is resumed from where it holds some."""
        self.learner, self.plan, self.seed = learner, plan, seed
        self.device = check_device(run.device, plan.precision)
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
        """What the weights of the best epoch make: the last one's where nothing was evaluated."""
        return self.learner.fitted(_copied(self.learner.module) if self._best is None else self._best)

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
                    self._write(self.checkpoints)
                for name, value in (("loss", report.loss), ("validation", report.validation)):
                    if self._events is not None and value is not None:
                        self._events.add_scalar(name, value, report.epoch)
                self.progress(self._event(report))
                yield report
        finally:
            if self._events is not None:
                self._events.close()

    def finished(self) -> Trained:
        """Train to the end; then what is `fitted`."""
        for _ in self.epochs():
            pass
        return self.fitted()

    @property
    def ended(self) -> bool:
        """Whether the plan or its stopping rule wants no further epoch."""
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
                self._best = None  # not in memory next to its successor, unless somebody holds it
                self._best = _copied(self.learner.module)
        return EpochReport(epoch, loss, validation, best, time.perf_counter() - start)

    def _train(self, epoch: int) -> float:
        """One pass over all rows in random order; the mean loss."""
        learner, size = self.learner, self.plan.batch_size
        order, generator = epoch_chance(self.seed, epoch, learner.n_rows, self.device)
        batches = order.split(size)
        losses = torch.empty(len(batches), device=self.device)
        told = time.perf_counter()
        learner.module.train()
        if self.plan.decay == "linear":
            for (_, settings), optimizer in zip(learner.groups, self._optimizers, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * (1 - (epoch - 1) / self.plan.epochs)
        for place, rows in enumerate(batches):
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bfloat16"):
                loss = learner.loss(rows, Moment(epoch, (epoch - 1) * len(batches) + place), generator)
            losses[place] = loss.detach()
            if self._optimizers:
                loss.backward()
            for (module, settings), optimizer in zip(learner.groups, self._optimizers, strict=True):
                if settings.clip_norm is not None:
                    nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)
                optimizer.step()
            if time.perf_counter() - told > EVENT_SECONDS:
                told = time.perf_counter()
                _check_finite(losses[: place + 1], len(batches), epoch, self.checkpoints)
                values = {"loss": float(losses[place])}
                self.progress(
                    ProgressEvent(f"train, epoch {epoch}", place + 1, len(batches), values, kind="batch")
                )
        learner.module.eval()
        _check_finite(losses, len(batches), epoch, self.checkpoints)
        sizes = torch.tensor([len(rows) for rows in batches], dtype=torch.float64)
        return float((losses.double().cpu() * sizes).sum() / sizes.sum())

    def _event(self, report: EpochReport) -> ProgressEvent:
        """An epoch's loss, metric, and the seconds left if every epoch of the plan is needed."""
        values, metric = {"loss": report.loss}, ""
        if report.validation is not None and self.plan.stopping is not None:
            metric = "" if self.plan.judged_by else self.plan.stopping.metric
            values[self.plan.judged_by or metric] = report.validation
        recent = [past.seconds for past in self.history[-10:]]
        values["seconds_left"] = sum(recent) / len(recent) * (self.plan.epochs - report.epoch)
        return ProgressEvent("train", report.epoch, self.plan.epochs, values, kind="epoch", metric=metric)

    def _write(self, folder: CheckpointFolder) -> None:
        parts: dict[str, Mapping[str, Tensor]] = {"module.": self.learner.module.state_dict()}
        parts["best."] = self._best or {}
        for place, optimizer in enumerate(self._optimizers):
            parts[f"optimizer.{place}."] = optimizer_state(optimizer)
        arrays = {
            prefix + name: tensor.detach().cpu().numpy()
            for prefix, tensors in parts.items()
            for name, tensor in tensors.items()
        }
        folder.write(self.epoch, {"history": [asdict(report) for report in self.history]}, arrays)

    def _resume(self) -> None:
        latest = None if self.checkpoints is None else self.checkpoints.latest()
        if latest is None:
            return
        record, arrays = latest
        tensors = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
        self.learner.module.load_state_dict(below("module.", tensors))
        self._best = below("best.", tensors) or None
        for place, optimizer in enumerate(self._optimizers):
            restore_optimizer(optimizer, below(f"optimizer.{place}.", tensors))
        self.history = [EpochReport(**report) for report in record["history"]]


def check_device(device: str, precision: Precision = "float32") -> torch.device:
    """The device by name. Raises `CapabilityError` for one that is not here, or that lacks bfloat16 where it
    is wanted."""
    try:
        wanted = torch.device(device)
    except RuntimeError as problem:
        raise CapabilityError(
            f'The device must be one that torch knows, such as "cpu" or "cuda"; {problem}.'
        ) from None
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise CapabilityError(f'Device {device!r} needs a GPU that torch can use; there is none. Use "cpu".')
    if wanted.type == "cuda" and precision == "bfloat16" and not torch.cuda.is_bf16_supported():
        raise CapabilityError(
            f'Precision "bfloat16" needs a GPU that has it; {device!r} has not. Use "float32".'
        )
    return wanted


def epoch_chance(seed: int, epoch: int, n_rows: int, device: torch.device) -> tuple[Tensor, torch.Generator]:
    """The order of the rows in an epoch, int64, and the generator of all its other chance, both on the
    device."""
    words = np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint64)
    shuffle = torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
    order = torch.randperm(n_rows, generator=shuffle).to(device)
    return order, torch.Generator(device=device).manual_seed(int(words[1] >> np.uint64(1)))


def _check_finite(losses: Tensor, batches: int, epoch: int, checkpoints: CheckpointFolder | None) -> None:
    bad = (~torch.isfinite(losses)).nonzero()
    if not len(bad):
        return
    place = int(bad[0])
    kept = f" Checkpoints of earlier epochs are in {checkpoints.path}." if checkpoints is not None else ""
    raise DivergedTraining(
        f"The loss of every batch must be finite; that of batch {place + 1} of {batches} in epoch {epoch} is "
        f"{float(losses[place])}. Lower the learning rate, or set `optimizer.clip_norm`.{kept}"
    )


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
