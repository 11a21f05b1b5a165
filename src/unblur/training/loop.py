"""The training loop: a generator of epoch reports, which the caller may stop at any time.

What is trained is a `Learner`; how long and in which batches is the `Plan`. All chance of an epoch comes from
the seed and the epoch's number, so a run that was interrupted and resumed from a checkpoint ends in the same
bytes as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from unblur.errors import CapabilityError, UnblurError
from unblur.progress import ProgressEvent, Run
from unblur.training.checkpoints import Checkpoint, CheckpointFolder
from unblur.training.learner import Learner, Moment
from unblur.training.settings import Optimizer, Plan, Precision


def make_optimizer(parameters: Iterable[nn.Parameter], settings: Optimizer) -> torch.optim.Optimizer:
    """The optimizer that the settings name; each updates all its parameters in one fused pass."""
    trained, rate, decay = list(parameters), settings.learning_rate, settings.weight_decay
    if settings.name == "adamw":
        return torch.optim.AdamW(trained, lr=rate, weight_decay=decay, eps=settings.epsilon, fused=True)
    if settings.name == "adam":
        return torch.optim.Adam(trained, lr=rate, weight_decay=decay, eps=settings.epsilon, fused=True)
    return torch.optim.SGD(trained, lr=rate, weight_decay=decay, fused=True)


def clip(module: nn.Module, settings: Optimizer) -> None:
    """Scale the module's gradient down to the norm that the settings allow."""
    if settings.clip_norm is not None:
        nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)


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
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": numbered, "param_groups": groups})


Trained = TypeVar("Trained")
EVENT_SECONDS = 1.0
"""How far apart, at least, the progress events within an epoch are."""


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


class Scalars:
    """Writes figures of each epoch as TensorBoard event files."""

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as problem:
            raise CapabilityError(
                f"Writing for TensorBoard needs the extra `tensorboard`; {problem}. "
                "Install it with `pip install 'unblur[tensorboard]'`, or leave `tensorboard` out."
            ) from None
        self._writer = SummaryWriter(str(folder))

    def add(self, epoch: int, figures: Mapping[str, float | None]) -> None:
        """One point a figure; figures that are `None` have none."""
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        """Close the file; a figure that is added afterwards begins another."""
        self._writer.close()


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
        self._scalars = None if run.events is None else Scalars(run.events)
        self.history: list[EpochReport] = []
        self._optimizers = [
            make_optimizer(module.parameters(), settings) for module, settings in learner.groups
        ]
        self._best: dict[str, Tensor] | None = None
        self._lent = False  # whether the best weights are in use elsewhere, and must not be written over
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
        if self._best is None:
            return self.learner.fitted(_copied(self.learner.module))
        self._lent = True
        return self.learner.fitted(self._best)

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
                if self._scalars is not None:
                    self._scalars.add(report.epoch, {"loss": report.loss, "validation": report.validation})
                self.progress(self._event(report))
                yield report
        finally:
            if self._scalars is not None:
                self._scalars.close()

    def finished(self) -> Trained:
        """Train to the end; then what is `fitted`."""
        for _ in self.epochs():
            pass
        return self.fitted()

    @property
    def ended(self) -> bool:
        """Whether the plan or its stopping rule wants no further epoch."""
        return self.epoch >= self.plan.epochs or self._stopped()

    def _stopped(self) -> bool:
        stopping, best = self.plan.stopping, self.best
        if stopping is None or self.judge is None or best is None:
            return False
        return self.epoch + 1 - best.epoch >= stopping.patience

    def _epoch(self, epoch: int) -> EpochReport:
        start = time.perf_counter()
        loss = self._train(epoch)
        validation: float | None = None
        stopping = self.plan.stopping
        if self.judge is None or stopping is None:
            return EpochReport(epoch, loss, None, True, time.perf_counter() - start)
        before = max(
            (report.validation for report in self.history if report.validation is not None), default=-math.inf
        )
        if epoch % stopping.every == 0:
            validation = self.judge(self.learner.fitted(self.learner.module.state_dict()))
            if validation > before:
                self._best = _copied(self.learner.module, into=None if self._lent else self._best)
                self._lent = False
        improved = validation is not None and validation > before
        return EpochReport(epoch, loss, validation, improved, time.perf_counter() - start)

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
                moment = Moment(epoch, (epoch - 1) * len(batches) + place)
                loss = learner.loss(rows, moment, generator)
            losses[place] = loss.detach()
            if self._optimizers:
                loss.backward()
            for (module, settings), optimizer in zip(learner.groups, self._optimizers, strict=True):
                clip(module, settings)
                optimizer.step()
            if time.perf_counter() - told > EVENT_SECONDS:
                told = time.perf_counter()
                _check_finite(losses[: place + 1], len(batches), epoch, self.checkpoints)
                stage, values = f"train, epoch {epoch}", {"loss": float(losses[place])}
                self.progress(ProgressEvent(stage, place + 1, len(batches), values, kind="batch"))
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
        tensors = {f"module.{name}": tensor for name, tensor in self.learner.module.state_dict().items()}
        if self._best is not None:
            tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        for place, optimizer in enumerate(self._optimizers):
            tensors |= {
                f"optimizer.{place}.{name}": tensor for name, tensor in optimizer_state(optimizer).items()
            }
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        record = {"history": [asdict(report) for report in self.history]}
        folder.write(Checkpoint(self.epoch, record, arrays))

    def _resume(self) -> None:
        found = None if self.checkpoints is None else self.checkpoints.latest()
        if found is None:
            return
        tensors = {name: torch.from_numpy(array).to(self.device) for name, array in found.tensors.items()}
        self.learner.module.load_state_dict(_below(tensors, "module."))
        self._best = _below(tensors, "best.") or None
        for place, optimizer in enumerate(self._optimizers):
            restore_optimizer(optimizer, _below(tensors, f"optimizer.{place}."))
        self.history = [EpochReport(**report) for report in found.record["history"]]


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


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _copied(module: nn.Module, into: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """A copy of the weights, in memory that is reused where there is some."""
    state = module.state_dict()
    if into is None:
        return {name: tensor.detach().clone() for name, tensor in state.items()}
    for name, tensor in state.items():
        into[name].copy_(tensor)
    return into
