"""A spec and a judge for tests of the search: the value of a setting is a formula, so that a trial takes no time."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from unblur.errors import SpecError
from unblur.spec import Choice, Dimension, Range, Spec, spec
from unblur.tuning.engine import Judgement, SearchRequest, Watch
from unblur.tuning.results import Study


@spec
class Inner:
    """An optional part of a spec."""

    rank: int = 8


@spec
class Curve(Spec):
    """A spec to search, whose best setting is width 3, rate 0.01, dims [4, 2]."""

    kind: ClassVar[str] = "curve"
    stochastic: ClassVar[bool] = True
    width: int = 7
    rate: float = 0.5
    dims: tuple[int, ...] = (9,)
    inner: Inner | None = None

    def __post_init__(self) -> None:
        if self.width == 13:
            raise SpecError("width must not be 13; saw 13. Take another.")


WIDTH = Dimension("width", Choice((1, 2, 3, 4, 13)), ("width",))
DIMS = Dimension("dims", Choice(([4], [4, 2])), ("dims",))
RATE = Dimension("rate", Range(math.log(1e-4), math.log(1e-1), logarithmic=True), ("rate",))
STEPS = Dimension("width", Range(10, 30, 5), ("width",), round)
GRID = (WIDTH, DIMS)
ENDLESS = (RATE, DIMS)


def worth(setting: Curve) -> float:
    """The value of a setting, 1 for the best."""
    distance = abs(setting.width - 3) + abs(math.log(setting.rate / 0.01)) + (setting.dims != (4, 2))
    return 1 / (1 + distance)


@dataclass
class Curves:
    """Judges settings over some epochs, in which they approach their value, and records what it fits."""

    epochs: int = 1
    identity: Mapping[str, Any] = field(default_factory=dict)
    shares: bool = False
    before: Callable[[Curve], None] = lambda setting: None
    """Called before each fit, to wait, fail or be interrupted."""
    fitted: list[Curve] = field(default_factory=list)
    passes: int = 0
    metric: str = "recall@5"
    n_users: int = 50
    how: str = "a formula"

    def __call__(self, setting: Curve, training: int, watch: Watch) -> Judgement:
        self.before(setting)
        self.fitted.append(setting)
        value = worth(setting) + 0.001 * training
        for epoch in range(1, self.epochs + 1):
            if watch(epoch, value * epoch / self.epochs) and epoch < self.epochs:
                return Judgement(None, epoch)
        return Judgement(value, self.epochs)

    def together(self, settings: Sequence[Curve]) -> Sequence[float]:
        """The values of all settings, from one pass."""
        self.passes += 1
        for setting in settings:
            self.before(setting)
        self.fitted.extend(settings)
        return [worth(setting) for setting in settings]


def search(*arguments: Any, **more: Any) -> Study[Any]:
    """Run the search that has these fields."""
    return SearchRequest(*arguments, **more).run()
