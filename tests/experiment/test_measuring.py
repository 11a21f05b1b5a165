"""Running recipes from Python: seeds, strict protocol, provenance, and the demonstration."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from unblur import experiment
from unblur.data.interactions import Interactions
from unblur.data.splits import Random, Split
from unblur.errors import RecipeError
from unblur.experiment import provenance
from unblur.experiment.ranking import PreparedSplit, RankingTask
from unblur.experiment.reading import merged_moments
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.parts import Data, KCore, Protocol, Published, Verified
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.running import measure
from unblur.fitted import learned
from unblur.models.linear.ease import EASE
from unblur.models.popularity import Popularity
from unblur.progress import ProgressEvent
from unblur.randomness import RNG, generator
from unblur.recommender import Recommender, RecommenderSpec
from unblur.spec import spec
from unblur.tuning.engine import SearchRequest

PROTOCOL = Protocol(cutoffs=(3, 5), metrics=("recall", "coverage"), resamples=200)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Noise(Recommender):
    """Gives every user the same random scores."""

    row: np.ndarray = learned("items")

    def _score(self, histories: Interactions) -> np.ndarray:
        return np.repeat(self.row[None, :], histories.n_users, axis=0)


@spec
class NoiseSpec(RecommenderSpec[Noise]):
    kind: ClassVar[str] = "noise"
    stochastic: ClassVar[bool] = True

    def learn(self, train: Interactions, *, rng: RNG | None, run: Any, validation: Any) -> Noise:
        row = generator(rng).random(train.n_items).astype(np.float32)
        return Noise(spec=self, items=train.items, item_counts=train.item_degrees, row=row)


def prepared(log: Interactions, model: Any, **sections: Any) -> PreparedSplit:
    split = Random(fraction=0.3).apply(log, rng=0)
    recipe = Recipe(name="ours/log", seed=7, task=RankingTask(model=model, protocol=PROTOCOL), **sections)
    return with_split(recipe, split, {"all": log.fingerprint()}, ("a note",), 0.5)


def with_split(
    recipe: Recipe,
    split: Split,
    fingerprints: Mapping[str, str] = {},
    notes: tuple[str, ...] = (),
    seconds: float = 0.0,
) -> PreparedSplit:
    return PreparedSplit(
        recipe=recipe, split=split, fingerprints=fingerprints, notes=notes, read_seconds=seconds
    )


def test_several_seeds_give_mean_deviation_and_interval(log: Interactions) -> None:
    ready = prepared(log, NoiseSpec())
    outcome = measure(ready, seeds=4)
    report = outcome.report
    assert report.provenance.seeds == (7, 8, 9, 10)
    for name in ("recall@3", "recall@5", "coverage@5"):
        values = [evaluation[name].value for evaluation in outcome.evaluations]
        assert report[name].value == pytest.approx(np.mean(values), abs=1e-12)
        assert report[f"{name} deviation over seeds"].value == pytest.approx(
            np.std(values, ddof=1), abs=1e-12
        )
    assert len({evaluation["recall@5"].value for evaluation in outcome.evaluations}) > 1
    recall = report["recall@5"]
    assert recall.low is not None
    assert recall.high is not None
    assert recall.low < recall.value < recall.high
    assert report["coverage@5"].low is None
    one_seed = measure(ready, seeds=1)
    assert (
        one_seed.evaluations[0]["recall@5"]
        == outcome.evaluations[0]["recall@5"]
        == one_seed.report["recall@5"]
    )
    assert np.array_equal(outcome.model.tensors()["row"], one_seed.model.tensors()["row"])


def test_a_deterministic_model_runs_once_and_says_so(log: Interactions) -> None:
    outcome = measure(prepared(log, EASE()), seeds=5)
    assert len(outcome.evaluations) == 1
    assert outcome.report.provenance.seeds == (7,)
    assert "ease is deterministic, so one seed was run instead of 5" in outcome.report.notes


def test_runs_repeat(log: Interactions) -> None:
    ready = prepared(log, NoiseSpec())
    assert measure(ready).report.measurements == measure(ready).report.measurements


def test_published_and_verified_numbers_stand_in_the_report(log: Interactions) -> None:
    expected = {
        "recall@3": Published(value=0.5, within=1.0, source="paper"),
        "recall@5": Published(value=9, within=0, source="paper"),
    }
    verified = {"recall@3": Verified(value=0.25, source="version 0")}
    report = measure(prepared(log, Popularity(), expected=expected, verified=verified)).report
    assert report["recall@3"].reproduced is True
    assert [entry.name for entry in report.missed()] == ["recall@5"]
    assert report["coverage@3"].expected is None
    assert "recall@3 measured before: 0.25 (version 0)" in report.notes
    assert report.timings.read_seconds == 0.5


def test_strict_protocol_sees_train_only(log: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = prepared(log, EASE())
    ready = with_split(ready.recipe.changed({"protocol.kind": "strict"}), ready.split)

    def run(request: SearchRequest[Any]) -> Any:
        splits = cast("Any", request.judge)._splits
        samples = [split.train.n_interactions + split.held_out.n_interactions for split in splits]
        assert samples == [ready.split.train.n_interactions]
        return SimpleNamespace(spec=EASE(ridge=3.0), notes=lambda: ("a search",))

    monkeypatch.setattr(SearchRequest, "run", run)
    outcome = measure(ready)
    assert outcome.recipe.model == outcome.model.spec == EASE(ridge=3.0)
    assert outcome.report.provenance.spec["ridge"] == 3.0
    assert outcome.report.protocol == "strict"
    assert "a search" in outcome.report.notes


def test_seeds_must_be_positive(log: Interactions) -> None:
    with pytest.raises(RecipeError, match="at least 1 seed"):
        measure(prepared(log, Popularity()), seeds=0)


def test_progress_is_reported(log: Interactions) -> None:
    events: list[ProgressEvent] = []
    measure(prepared(log, EASE()), progress=events.append)
    assert {"score users"} <= {event.stage for event in events}


def test_demonstration_recipes_share_one_split_and_beat_popularity() -> None:
    recipes = [load_recipe(name) for name in shipped() if name.endswith("/demo")]
    assert len(recipes) >= 4
    assert len({(repr(recipe.data), repr(recipe.task.split), recipe.seed) for recipe in recipes}) == 1
    ready = experiment.prepare(load_recipe("gf-cf/demo"))
    assert list(ready.fingerprints) == ["all"]
    names = ("gf-cf/demo", "popularity/demo")
    good, simple = (measure(with_split(load_recipe(name), ready.split)).report["recall@20"] for name in names)
    assert good.low is not None
    assert simple.high is not None
    assert good.low > simple.high


def test_k_core_comes_before_the_split() -> None:
    recipe = Recipe(
        name="x",
        data=Data(name="demo", k_core=KCore(users=20, items=30)),
        task=RankingTask(model=Popularity(), split=Random()),
    )
    ready = experiment.prepare(recipe)
    complete = experiment.prepare(load_recipe("popularity/demo"))
    assert ready.split.train.n_users < complete.split.train.n_users
    total = ready.split.train.user_degrees + ready.split.held_out.user_degrees
    assert total.min() >= 20


def test_reading_options_need_files() -> None:
    recipe = load_recipe("popularity/demo").changed({"data.read.user": "who"})
    with pytest.raises(RecipeError, match="there are none"):
        experiment.prepare(recipe)


def test_the_machine_names_nobody() -> None:
    import getpass
    import platform

    facts = provenance.machine()
    assert set(facts) <= {"cpu", "cores", "memory_gb", "system", "device"}
    assert platform.node() not in str(facts.values()) or not platform.node()
    assert getpass.getuser() not in str(list(facts.values())).lower().split()
    assert provenance.peak_rss_mb() > 10


def test_moments_that_float32_shares_of_the_span_cannot_tell_apart_become_one() -> None:
    # The span of MovieLens 100K, 18.6 million seconds: float32 has 16.8 million values between a half and 1.
    moments = np.array([874_724_710, *range(893_286_600, 893_286_639)])
    data = Interactions.from_pairs([0] * len(moments), range(len(moments)), timestamps=moments)
    shares = ((moments - moments[0]) / (moments[-1] - moments[0])).astype(np.float32)
    merged = merged_moments(data).timestamps
    assert merged is not None
    assert len(np.unique(shares)) < len(moments)
    assert np.array_equal(merged[1:] == merged[:-1], shares[1:] == shares[:-1])
    assert np.isin(merged, moments).all()
    bare = Interactions.from_matrix(data.matrix)
    assert merged_moments(bare) is bare
