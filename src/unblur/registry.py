"""The classes that recipes and saved things name by a kind; a file can never name an import path.

Other distributions add kinds through the entry-point groups ``unblur.models``, ``unblur.synthesizers`` and
``unblur.attacks``: an entry's name is the kind, its object the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib import import_module, metadata
from typing import Any

from unblur.errors import CapabilityError, SpecError, nearest, needing_torch, warn_outdated


def resolve(place: str) -> Any:
    """Import the object at ``module:name``. Raises `CapabilityError` if it needs torch, and there is none."""
    module, _, name = place.partition(":")
    with needing_torch(name):
        return getattr(import_module(module), name)


def lazily(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package whose names are imported when they are first used.

    `places`: the module of each name.
    """

    def attribute(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return resolve(f"{places[name]}:{name}")

    return attribute


class Registry(Mapping[str, str]):
    """Kind → ``module:Class``, ours first, then those of installed distributions."""

    def __init__(
        self, noun: str, ours: Mapping[str, str], group: str = "", renamed: Mapping[str, str] | None = None
    ) -> None:
        """`noun` is what messages call an entry; `group` names the entry points that add to `ours`.

        `renamed`: old kind → new kind, for what earlier versions wrote.
        """
        self.noun, self.ours, self.group, self.renamed = noun, ours, group, dict(renamed or {})

    @cached_property
    def _places(self) -> dict[str, str]:
        others = metadata.entry_points(group=self.group) if self.group else ()
        return {**{entry.name: entry.value for entry in others}, **self.ours}

    def __getitem__(self, kind: str) -> str:
        return self._places[self.renamed.get(kind, kind)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def load(self, kind: str) -> type[Any]:
        """The class of a kind; a kind of earlier versions is an `OutdatedWarning`.

        Raises `SpecError`, with the nearest name, for an unknown kind, and `CapabilityError` if the distribution
        that adds it cannot be imported.
        """
        if kind not in self:
            raise SpecError(
                f"The kind of a {self.noun} must be one of {', '.join(sorted(self))}; saw {kind!r}."
                f"{nearest(kind, self)}"
            )
        if kind in self.renamed:
            warn_outdated(f"the {self.noun} {kind} is called {self.renamed[kind]} now")
        try:
            loaded: type[Any] = resolve(self[kind])
        except (ImportError, AttributeError) as problem:
            if kind in self.ours:
                raise
            raise CapabilityError(
                f"The kind {kind!r} is added by another distribution, whose {self[kind]} must be importable; {problem}. "
                "Repair that distribution, or remove it."
            ) from problem
        return loaded

    def refresh(self) -> None:
        """Read the entry points of installed distributions again."""
        self.__dict__.pop("_places", None)


RECOMMENDERS = Registry(
    "model",
    {
        "als": "unblur.models.als:ALS",
        "blend": "unblur.models.blend:Blend",
        "bspm": "unblur.models.spectral.bspm:BSPM",
        "chebycf": "unblur.models.spectral.chebycf:ChebyCF",
        "diffrec": "unblur.models.diffusion.diffrec:DiffRec",
        "ease": "unblur.models.linear.ease:EASE",
        "item-knn": "unblur.models.linear.neighbours:ItemKNN",
        "l-diffrec": "unblur.models.diffusion.diffrec:LatentDiffRec",
        "lightgcn": "unblur.models.neural.lightgcn:LightGCN",
        "low-pass": "unblur.models.spectral.low_pass:IdealLowPass",
        "mult-dae": "unblur.models.neural.mult_vae:MultDAE",
        "mult-vae": "unblur.models.neural.mult_vae:MultVAE",
        "neumf": "unblur.models.neural.neumf:NeuMF",
        "popularity": "unblur.models.popularity:Popularity",
        "pure-svd": "unblur.models.linear.factors:PureSVD",
        "recency": "unblur.models.linear.recency:Recency",
        "row-mlp": "unblur.models.neural.row_mlp:RowMLP",
        "rp3beta": "unblur.models.linear.neighbours:RP3Beta",
        "sansa": "unblur.models.linear.sansa:SANSA",
        "slim": "unblur.models.linear.ease:SLIM",
        "sparse-ease": "unblur.models.linear.ease:SparseEASE",
        "truncated-svd": "unblur.models.linear.factors:TruncatedSVD",
        "user-knn": "unblur.models.linear.neighbours:UserKNN",
    },
    "unblur.models",
)
"""The specs of recommenders."""

SYNTHESIZERS = Registry(
    "synthesizer",
    {
        "cooccurrence-walk": "unblur.synthesis.samplers:CooccurrenceWalk",
        "diffrec-sampler": "unblur.synthesis.samplers:DiffRecSampler",
        "flipped-users": "unblur.synthesis.samplers:FlippedUsers",
        "independent-items": "unblur.synthesis.samplers:IndependentItems",
        "sdrm": "unblur.synthesis.sdrm:SDRM",
        "vae-sampler": "unblur.synthesis.sdrm:VAESampler",
    },
    "unblur.synthesizers",
    renamed={"multi-vae": "vae-sampler"},
)
"""The specs of synthesizers."""

TASKS = Registry(
    "task",
    {
        "ranking": "unblur.experiment.ranking:RankingTask",
        "utility": "unblur.synthesis.utility.task:UtilityTask",
    },
)
"""The tasks that a recipe can have; the first is assumed for an unknown kind."""


ATTACKS = Registry(
    "attack",
    {
        "membership": "unblur.audit.attacks.membership:MembershipInference",
        "singling-out": "unblur.audit.attacks.guesses:SinglingOut",
        "item-inference": "unblur.audit.attacks.guesses:ItemInference",
        "copies": "unblur.audit.attacks.copies:Copying",
    },
    "unblur.attacks",
)
"""The attacks of an audit, in the order in which they are run."""


def kind_today(kind: str) -> str:
    """Return what is called today what an earlier version may have called `kind`."""
    return SYNTHESIZERS.renamed.get(kind, kind)


def first_kind(kind: str) -> str:
    """Return what a kind was called at first (see `unblur.spec.first_names`)."""
    return next((name for name, today in SYNTHESIZERS.renamed.items() if today == kind), kind)


def recommender_spec(kind: str) -> type[Any]:
    """Return the spec class of a kind. Raises as `Registry.load`."""
    return RECOMMENDERS.load(kind)


def synthesizer_spec(kind: str) -> type[Any]:
    """Return the spec class of a kind of synthesizer. Raises as `Registry.load`."""
    return SYNTHESIZERS.load(kind)
