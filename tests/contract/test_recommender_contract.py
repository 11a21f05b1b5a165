"""The contract of recommenders, run over every kind in the registry, future ones included."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse

import unblur
from unblur.data.changes import Change
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import CapabilityError, DataError, VocabularyMismatch
from unblur.models.neural import neumf, row_mlp
from unblur.progress import ProgressEvent
from unblur.ranking import Selection
from unblur.recommender import Recommender, Scorer
from unblur.registry import RECOMMENDERS, recommender_spec
from unblur.spec import replace_field, spec_from_dict, spec_to_dict

TRAINED: Mapping[str, Any] = {
    "epochs": 2,
    "batch_size": 32,
    "denoiser": {"dims": [8]},
    "schedule": {"steps": 3, "scale": 0.1},
    "stopping": {"every": 1, "patience": 2, "metric": "recall@10"},
}
LATENT: Mapping[str, Any] = {
    **TRAINED,
    "autoencoder": {"encoder_dims": [8]},
    "clusters": {"count": 2, "embedding_size": 4},
}
IN_TIME: Mapping[str, Any] = {"time_weights": {"oldest": 0.2, "newest": 1.0}}

SMALL: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "blend": {
        "default": {},
        "of-three": {
            "parts": {
                "low-pass": {"kind": "low-pass", "rank": 8},
                "items": {"kind": "item-knn", "neighbours": 5},
                "vae": {"kind": "mult-vae", "dims": [6], "epochs": 2, "batch_size": 16},
            },
            "weights": {"items": 0.5, "vae": 0.2},
        },
        "linear": {
            "parts": {"a": {"kind": "ease"}, "b": {"kind": "low-pass", "rank": 8}},
            "weights": {"b": -0.3},
        },
    },
    "bspm": {
        "small": {"low_pass": {"rank": 8}},
        "late": {"low_pass": {"rank": 8}, "merge": "late", "output": "mean"},
        "blur": {"low_pass": None, "sharpen": None},
        "normalized": {"low_pass": {"rank": 8}, "history": "normalized"},
    },
    "low-pass": {"small": {"rank": 8, "degrees": {"user": 0.4, "item": 0.4, "score": -0.15}}},
    "chebycf": {
        "small": {"rank": 8, "degree": 5},
        "clean": {"rank": 8, "sampling": "gauss", "flatness": 10.0, "exponent": 0.0, "degree": 3},
    },
    "diffrec": {"small": TRAINED, "in-time": {**TRAINED, **IN_TIME}},
    "l-diffrec": {"small": LATENT, "in-time": {**LATENT, **IN_TIME}},
    "pure-svd": {"small": {"rank": 8}},
}
"""Settings with which a kind can be fitted to 51 users × 31 items; other kinds have their defaults."""

K = 10


def small_specs() -> dict[str, tuple[str, Mapping[str, Any]]]:
    """The kind and settings of each tested spec, by a name for it."""
    return {
        f"{kind}-{variant}": (kind, settings)
        for kind in sorted(RECOMMENDERS)
        for variant, settings in SMALL.get(kind, {"default": {}}).items()
    }


@dataclass(frozen=True)
class Fitted:
    """A kind, its spec, and its model fitted to the shared log."""

    kind: str
    spec: Any
    train: Interactions
    model: Recommender


@pytest.fixture(scope="module", params=small_specs())
def fitted(request: pytest.FixtureRequest, log: Interactions) -> Fitted:
    kind, settings = small_specs()[request.param]
    if kind == "als":
        pytest.importorskip("implicit", reason="needs implicit; install the extra `als`")
    spec = spec_from_dict(recommender_spec(kind), settings)
    return Fitted(kind, spec, log, spec.fit(log, rng=1))


def fingerprint_now(data: Interactions) -> str:
    """The fingerprint of the arrays as they are now, not the cached one."""
    return Interactions(data.matrix, data.users, data.items, data.timestamps).fingerprint()


def flat(tensors: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Dense arrays by name; a CSR matrix as its three arrays."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in tensors.items():
        if sparse.issparse(tensor):
            arrays |= {f"{name}.{part}": getattr(tensor, part) for part in ("indptr", "indices", "data")}
        else:
            arrays[name] = tensor
    return arrays


def assert_same_tensors(one: Recommender, other: Recommender) -> None:
    first, second = flat(one.tensors()), flat(other.tensors())
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        assert np.array_equal(array, second[name]), name


def assert_close(scores: NDArray[np.float32], expected: NDArray[Any], tolerance: float) -> None:
    """Check that scores differ by at most `tolerance` times the largest."""
    np.testing.assert_allclose(
        scores, expected, rtol=0, atol=tolerance * max(1e-30, np.abs(expected).max(initial=0))
    )


def without_chance(fitted: Fitted) -> bool:
    """Return whether another `rng` gives the same scores, as for models that are computed, not trained."""
    other = fitted.spec.fit(fitted.train, rng=2).score(fitted.train)
    return np.allclose(fitted.model.score(fitted.train), other, rtol=1e-3, atol=1e-5)


def newcomers(items: Vocabulary, *rows: list[int]) -> Interactions:
    """New users with the given item positions each, and times."""
    users = [f"new-{row}" for row, places in enumerate(rows) for _ in places]
    return Interactions.from_pairs(
        np.array(users, dtype=str),
        items.take([place for places in rows for place in places]).series,
        timestamps=np.arange(len(users)),
        user_vocabulary=Vocabulary([f"new-{row}" for row in range(len(rows))]),
        item_vocabulary=items,
    )


# -------------------------------------------------------------------------------- fitting


def test_the_spec_is_plain_data(fitted: Fitted) -> None:
    assert recommender_spec(fitted.kind).kind == fitted.kind == fitted.model.spec.kind
    assert fitted.model.spec == fitted.spec
    assert spec_from_dict(recommender_spec(fitted.kind), spec_to_dict(fitted.spec)) == fitted.spec


def test_fitting_leaves_train_as_it_was(fitted: Fitted, log: Interactions) -> None:
    before = fingerprint_now(log)
    model = fitted.spec.fit(log, rng=3)
    assert fingerprint_now(log) == before
    model.score(log)
    model.recommend(log, k=3)
    assert fingerprint_now(log) == before


def test_the_same_rng_gives_the_same_tensors(fitted: Fitted) -> None:
    assert_same_tensors(fitted.model, fitted.spec.fit(fitted.train, rng=1))


def test_a_fitted_model_knows_its_items_and_their_counts(fitted: Fitted) -> None:
    assert fitted.model.items == fitted.train.items
    assert np.array_equal(fitted.model.item_counts, fitted.train.item_degrees)
    assert isinstance(fitted.model, Scorer)


def test_the_order_of_train_users_does_not_matter(fitted: Fitted) -> None:
    if not without_chance(fitted):
        pytest.skip("trained with chance: another order of users is another draw")
    order = np.random.default_rng(0).permutation(fitted.train.n_users)
    model = fitted.spec.fit(fitted.train.take_users(order), rng=1)
    assert_close(model.score(fitted.train), fitted.model.score(fitted.train), 1e-4)


def weighted(log: Interactions) -> Interactions:
    """The same pairs with random weights from 1 to 5, and times."""
    matrix = log.matrix
    weights = np.random.default_rng(5).integers(1, 6, matrix.nnz).astype(np.float32)
    return replace(log, matrix=sparse.csr_array((weights, matrix.indices, matrix.indptr), shape=matrix.shape))


def test_weights_count_or_the_kind_says_that_they_do_not(fitted: Fitted) -> None:
    spec, log, train = fitted.spec, fitted.train, weighted(fitted.train)
    of_log = fitted.model.score(log)
    binary = use = spec
    if spec.weights_setting:
        binary, use = (replace_field(spec, spec.weights_setting, value) for value in ("binary", "use"))
    assert not binary.uses_weights
    assert np.array_equal(binary.fit(train, rng=1).score(train), of_log)
    assert "do not count" in binary.notes_on(train)[0]
    assert not binary.notes_on(log)
    if not spec.weights_setting:
        assert "no setting of it uses them" in binary.notes_on(train)[0]
        return
    assert use.uses_weights
    assert len(use.notes_on(train)) < len(binary.notes_on(train))
    model = use.fit(train, rng=1)
    largest = np.abs(of_log).max()
    assert np.isfinite(model.score(train)).all()
    assert np.abs(model.score(log) - of_log).max() > 1e-3 * largest  # those of train
    assert np.abs(model.score(train) - model.score(log)).max() > 1e-3 * largest  # those of histories
    assert np.array_equal(use.fit(log, rng=1).score(log), of_log)  # there are none but 1
    if use.refit_reason is None:
        change = Change.of(train, forget=["user-03"])
        assert_close(model.updated(change).score(train), use.fit(change.after, rng=1).score(train), 1e-6)


# -------------------------------------------------------------------------------- scoring


def test_scores_are_float32_and_finite_for_everybody(fitted: Fitted) -> None:
    cold, twins = 30, [7, 21]
    everybody = newcomers(fitted.train.items, [cold], twins, [*range(31)], [], [0], [cold, 0])
    for rows in (fitted.train, everybody, fitted.train.take_users([]), fitted.train.take_users([3, 3])):
        scores = fitted.model.score(rows)
        assert scores.dtype == np.float32
        assert scores.shape == (rows.n_users, 31)
        assert np.isfinite(scores).all()


def without_twin(positions: NDArray[np.int32]) -> NDArray[np.int32]:
    """Lists in which item-21 is called item-07: the two have the same users, and rounding may put either first."""
    return np.where(positions == 21, 7, positions)


def test_a_row_is_scored_as_it_would_be_alone(fitted: Fitted) -> None:
    scores = fitted.model.score(fitted.train)
    together = fitted.model.recommend(fitted.train, k=K)
    for row in range(fitted.train.n_users):
        own_row = fitted.train.take_users([row])
        assert_close(fitted.model.score(own_row)[0], scores[row], 1e-6)
        alone = fitted.model.recommend(own_row, k=K)
        assert np.array_equal(without_twin(alone.positions[0]), without_twin(together.positions[row]))


@pytest.mark.parametrize("batch_size", [1, 7, 50, 51, 1024])
def test_the_batch_size_changes_nothing(fitted: Fitted, batch_size: int) -> None:
    one_batch = fitted.model.recommend(fitted.train, k=K, exclude=None)
    parts = fitted.model.recommend(fitted.train, k=K, exclude=None, batch_size=batch_size)
    assert np.array_equal(without_twin(one_batch.positions), without_twin(parts.positions))
    np.testing.assert_allclose(one_batch.scores, parts.scores, rtol=1e-5, atol=1e-6)


def test_permuted_users_get_permuted_scores(fitted: Fitted) -> None:
    order = np.random.default_rng(0).permutation(fitted.train.n_users)
    scores = fitted.model.score(fitted.train.take_users(order))
    assert_close(scores, fitted.model.score(fitted.train)[order], 1e-6)


def test_permuted_items_get_permuted_scores(fitted: Fitted) -> None:
    if not without_chance(fitted):
        pytest.skip("trained with chance: another order of items is another draw")
    order = np.random.default_rng(0).permutation(fitted.train.n_items)
    reordered = fitted.train.onto(items=fitted.train.items.take(order))
    scores = fitted.spec.fit(reordered, rng=1).score(reordered)
    assert_close(scores, fitted.model.score(fitted.train)[:, order], 1e-5)


@pytest.mark.parametrize("kind", ["item-knn", "rp3beta", "slim", "sparse-ease", "user-knn"])
def test_few_neighbours_are_chosen_without_labels(kind: str, log: Interactions) -> None:
    spec = spec_from_dict(recommender_spec(kind), {"neighbours": 3})
    order = np.random.default_rng(0).permutation(log.n_items)
    moved = log.onto(items=log.items.take(order))
    assert_close(spec.fit(moved, rng=1).score(moved), spec.fit(log, rng=1).score(log)[:, order], 1e-5)


def test_twin_items_are_alike(fitted: Fitted) -> None:
    if not without_chance(fitted):
        pytest.skip("trained with chance: twins start from different draws")
    outsiders = fitted.train.take_users(fitted.train.matrix[:, [7]].toarray().ravel() == 0)
    scores = fitted.model.score(outsiders)
    assert_close(scores[:, 7], scores[:, 21], 1e-4)


def test_the_array_of_scores_belongs_to_the_caller(fitted: Fitted) -> None:
    before = fitted.model.score(fitted.train)
    fitted.model.score(fitted.train)[:] = -1
    for array in flat(fitted.model.tensors()).values():
        assert not np.shares_memory(array, fitted.model.score(fitted.train))
    assert np.array_equal(fitted.model.score(fitted.train), before)


def test_a_user_without_history_gets_item_popularity(fitted: Fitted) -> None:
    counts = fitted.train.item_degrees
    scores = fitted.model.score(newcomers(fitted.train.items, [1, 2], [], [3]))
    np.testing.assert_array_equal(scores[1], (counts / counts.max()).astype(np.float32))
    ranking = fitted.model.recommend(newcomers(fitted.train.items, [1, 2], []), k=5)
    assert ranking.fallback.tolist() == [False, True]
    assert ranking.positions[1].tolist() == np.argsort(-counts, kind="stable")[:5].tolist()
    assert any("1 users without a history" in note for note in ranking.notes)


def test_times_are_required_only_by_models_that_use_them(fitted: Fitted) -> None:
    timeless = Interactions(fitted.train.matrix, fitted.train.users, fitted.train.items)
    if fitted.model.needs_timestamps:
        with pytest.raises(
            DataError, match=r"histories must carry timestamps; these have none\. Read the data"
        ):
            fitted.model.score(timeless)
    else:
        assert np.array_equal(fitted.model.score(timeless), fitted.model.score(fitted.train))


def test_histories_over_other_items_are_refused_or_counted(fitted: Fitted) -> None:
    items = Vocabulary([*fitted.train.items.to_list(), "never seen"])
    rows = newcomers(items, [0, 31], [31], [4])
    for ask in (fitted.model.score, lambda rows: fitted.model.recommend(rows, k=3)):
        with pytest.raises(
            VocabularyMismatch, match=r"model's 31 items; these are over 32; 1 .*'never seen'"
        ):
            ask(rows)
    ranking = fitted.model.recommend(rows, k=3, unknown_items="ignore")
    known = fitted.model.recommend(newcomers(fitted.train.items, [0], [], [4]), k=3)
    assert np.array_equal(ranking.positions, known.positions)
    assert ranking.fallback.tolist() == [False, True, False]
    assert ranking.notes[0].startswith("2 history interactions with items that the model never saw")


# -------------------------------------------------------------------------------- ranking


def sorted_in_full(fitted: Fitted, hidden: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    """The lists for the training users without hidden items: by score, then count in train, then position.

    Scores that are those of items without signal are equal.
    """
    scores = fitted.model.score(fitted.train)
    scores[np.abs(scores) <= (fitted.model.signal_threshold or 0)] = 0
    masked = np.where(hidden, -np.inf, scores)
    counts = np.broadcast_to(fitted.train.item_degrees, masked.shape)
    order = np.lexsort((-counts, -masked), axis=1)[:, :k]
    return np.where(np.take_along_axis(masked, order, 1) > -np.inf, order, -1)


def test_a_ranking_is_the_sorted_scores_with_ties_by_count_and_position(fitted: Fitted) -> None:
    hidden = fitted.train.matrix.toarray() > 0
    ranking = fitted.model.recommend(fitted.train, k=31)
    assert np.array_equal(ranking.positions, sorted_in_full(fitted, hidden, 31))
    assert ranking.positions.dtype == np.int32
    assert ranking.scores.dtype == np.float32
    assert ranking.users == fitted.train.users
    real = ranking.positions >= 0
    assert not hidden[np.nonzero(real)[0], ranking.positions[real]].any()
    assert (ranking.scores[~real] == -np.inf).all()
    assert ranking.to_frame().height == real.sum() == fitted.train.n_users * 31 - fitted.train.n_interactions


def test_other_interactions_are_left_out(fitted: Fitted) -> None:
    hidden = np.random.default_rng(0).random((fitted.train.n_users, 31)) < 0.5
    exclude = Interactions.from_matrix(hidden, users=fitted.train.users, items=fitted.train.items)
    ranking = fitted.model.recommend(fitted.train, k=K, exclude=exclude, batch_size=8)
    assert np.array_equal(ranking.positions, sorted_in_full(fitted, hidden, K))


def test_candidates_alone_are_ranked(fitted: Fitted) -> None:
    chosen = np.array([2, 3, 5, 7, 11, 13, 21, 30])
    hidden = (fitted.train.matrix.toarray() > 0) | ~np.isin(np.arange(31), chosen)
    ranking = fitted.model.recommend(
        fitted.train, k=8, candidates=fitted.train.items.take(chosen[::-1]).series
    )
    assert np.array_equal(ranking.positions, sorted_in_full(fitted, hidden, 8))


@pytest.mark.parametrize("k", [0, -1, 1.5, None])
def test_k_is_a_whole_number_from_one(fitted: Fitted, k: Any) -> None:
    with pytest.raises(DataError, match=rf"k must be a whole number from 1, .*; saw {k}"):
        fitted.model.recommend(fitted.train, k=k)


def test_an_item_that_nobody_had_is_filled(fitted: Fitted) -> None:
    """A kind whose scores say that there is no signal says so of an item without any; others get it flagged by its count."""
    log = fitted.train
    wider = log.onto(items=Vocabulary([*log.items.to_list(), "new"]))
    model = fitted.spec.fit(wider, rng=1)
    ranking = model.recommend(wider, k=40)
    assert ranking.filled is not None
    real = ranking.positions >= 0
    assert ranking.filled[ranking.positions == 31].all()
    if fitted.spec.zero_without_signal:
        assert np.abs(model.score(wider)[:, 31]).max() <= model.signal_threshold
    left_out = model.recommend(wider, k=40, selection=Selection(filler="none"))
    assert not (left_out.positions == 31).any()
    assert left_out.filled is not None
    assert not left_out.filled.any()
    # The rank of 64 is more than there are items, so that pure-svd gives histories back and has nothing else to say.
    assert (ranking.filled & real).sum() < real.sum() or fitted.kind == "pure-svd"


def test_similar_items_do_not_include_the_item(fitted: Fitted) -> None:
    if not fitted.spec.personal:
        with pytest.raises(CapabilityError, match="looks at no history"):
            fitted.model.similar_items("item-03", 3)
        return
    for item in fitted.train.items.to_list():
        ranking = fitted.model.similar_items(item, 30)
        assert ranking.positions.shape == (1, 30)
        assert (ranking.positions >= 0).all()
        assert item not in ranking.labels()
        assert (np.diff(ranking.scores[0]) <= 0).all()


def test_an_explanation_is_in_order_and_adds_up_if_the_model_is_linear(fitted: Fitted) -> None:
    for row in (0, 17, 33):
        history = fitted.train.take_users([row])
        scores = fitted.model.score(history)[0]
        for item in (0, 7, 30):
            label = fitted.train.items.to_list()[item]
            explanation = fitted.model.explain(history, label)
            assert explanation.score == pytest.approx(float(scores[item]), abs=1e-6)
            assert (
                sorted(explanation.history.to_list()) == history.items.take(history.matrix.indices).to_list()
            )
            assert (np.diff(explanation.shares) <= 0).all()
            assert np.isfinite(explanation.shares).all()
            assert explanation.exact == fitted.model.exact
            if explanation.exact:
                largest = max(1e-6, float(np.abs(scores).max()), float(np.abs(explanation.shares).max()))
                assert explanation.shares.sum() == pytest.approx(explanation.score, abs=1e-5 * largest)


# -------------------------------------------------------------------------------- saving


def forbidden(*args: object, **kwargs: object) -> None:
    raise AssertionError("a saved model must not be read by something that can run code")


def test_a_saved_model_scores_the_same_to_the_bit(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, forbidden)
    rows = newcomers(fitted.train.items, [3, 5], [], [30], [7, 21, 0, 1])
    fitted.model.save(tmp_path / "model")
    loaded = unblur.load(tmp_path / "model")
    assert type(loaded) is type(fitted.model)
    assert loaded.spec == fitted.spec
    assert loaded.items == fitted.model.items
    assert_same_tensors(loaded, fitted.model)
    for histories in (fitted.train, rows):
        assert loaded.score(histories).tobytes() == fitted.model.score(histories).tobytes()
        one, other = loaded.recommend(histories, k=K), fitted.model.recommend(histories, k=K)
        assert one.to_frame().equals(other.to_frame())


# -------------------------------------------------------------------------------- chance, and the observer


@contextmanager
def no_global_random_state() -> Iterator[None]:
    def states() -> tuple[str, Any, list[int]]:
        numpy_state = str(np.random.get_state())  # noqa: NPY002 - the state that must not change
        return numpy_state, random.getstate(), torch.get_rng_state().tolist()

    before = states()
    yield
    assert states() == before


def test_a_model_and_its_spec_can_be_copied_and_pickled(fitted: Fitted) -> None:
    for copied in (copy.deepcopy(fitted.model), pickle.loads(pickle.dumps(fitted.model))):
        assert copied.spec == fitted.spec
        assert copied.score(fitted.train).tobytes() == fitted.model.score(fitted.train).tobytes()


def test_no_global_random_state_is_used(fitted: Fitted, tmp_path: Path) -> None:
    with no_global_random_state():
        for rng in (1, np.random.default_rng(1), None):
            model = fitted.spec.fit(fitted.train, rng=rng)
        model.score(fitted.train)
        model.recommend(fitted.train, k=3)
        if fitted.spec.personal:
            model.similar_items("item-03", 3)
        model.explain(fitted.train.take_users([0]), "item-03")
        model.save(tmp_path / "model")
        unblur.load(tmp_path / "model")


def observed(act: Callable[[Callable[[ProgressEvent], None]], object]) -> list[ProgressEvent]:
    events: list[ProgressEvent] = []
    act(events.append)
    return events


def test_progress_only_moves_forward(fitted: Fitted) -> None:
    runs = {
        "fit": observed(lambda watch: fitted.spec.fit(fitted.train, rng=1, progress=watch)),
        "recommend": observed(
            lambda watch: fitted.model.recommend(fitted.train, k=3, batch_size=10, progress=watch)
        ),
    }
    assert [event.done for event in runs["recommend"]] == [10, 20, 30, 40, 50, 51]
    for events in runs.values():
        stages = list(dict.fromkeys(event.label for event in events))
        for stage in stages:
            of_stage = [event for event in events if event.label == stage]
            counts = [event.done for event in of_stage]
            assert counts == sorted(counts), stage
            assert all(event.total is None or 0 <= event.done <= event.total for event in of_stage), stage
            assert len({event.total for event in of_stage}) == 1, f"{stage} changes its mind about the total"


def test_an_interrupt_ends_the_work(fitted: Fitted) -> None:
    def interrupt(event: ProgressEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted.model.recommend(fitted.train, k=3, progress=interrupt)
    if observed(lambda watch: fitted.spec.fit(fitted.train, rng=1, progress=watch)):
        with pytest.raises(KeyboardInterrupt):
            fitted.spec.fit(fitted.train, rng=1, progress=interrupt)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_scores(fitted: Fitted, tmp_path: Path) -> None:
    on_gpu = fitted.spec.fit(fitted.train, rng=1, device="cuda")
    scores = on_gpu.score(fitted.train)
    on_gpu.save(tmp_path / "gpu")
    assert_close(unblur.load(tmp_path / "gpu").score(fitted.train), scores, 1e-4)
    fitted.model.save(tmp_path / "cpu")
    expected = fitted.model.score(fitted.train)
    assert_close(unblur.load(tmp_path / "cpu", device="cuda").score(fitted.train), expected, 1e-4)
    if not fitted.spec.stochastic:  # the generators of a GPU give other numbers for the same seed
        assert_close(scores, expected, 1e-4)
    ranking, same = (
        on_gpu.recommend(fitted.train, k=K),
        unblur.load(tmp_path / "gpu").recommend(fitted.train, k=K),
    )
    np.testing.assert_allclose(ranking.scores, same.scores, rtol=0, atol=1e-4 * np.abs(scores).max())


# -------------------------------------------------------------------------------- a log that changes


def test_a_change_of_the_log_gives_the_model_of_a_refit_or_says_what_that_costs(fitted: Fitted) -> None:
    new = newcomers(fitted.train.items, [30, 2, 5], [7])
    change = Change.of(fitted.train, add=new, forget=["user-03", "user-40"])
    if fitted.spec.refit_reason is not None:
        with pytest.raises(
            CapabilityError, match=r"must be refitted .* (one fit|epochs) over \d+ interactions"
        ):
            fitted.model.updated(change)
        return
    updated, refitted = fitted.model.updated(change), fitted.spec.fit(change.after, rng=1)
    assert np.array_equal(updated.item_counts, refitted.item_counts)
    assert_close(updated.score(change.after), refitted.score(change.after), 1e-6)


# -------------------------------------------------------------------------------- a known answer

GROUP, TAKERS = 6, 9
"""Two groups of users; each member takes all items of its group and none of the other's, like the two colours
of a checkerboard: even items belong to even users."""


def checkerboard() -> Interactions:
    users, items = np.indices((2 * TAKERS, 2 * GROUP))
    return Interactions.from_matrix((users + items) % 2 == 0)


def popularity_on_the_board(group_items: NDArray[np.bool_], history: NDArray[np.bool_]) -> NDArray[Any]:
    return np.ones(group_items.shape)


def ease_on_the_board(group_items: NDArray[np.bool_], history: NDArray[np.bool_]) -> NDArray[Any]:
    """Within a group XᵀX = nJ for n takers of m items, so (nJ + λI)⁻¹ = (I − n/(λ + nm)·J)/λ: each weight is
    n/(λ + nm − n), those of an item to itself and to the other group are 0."""
    n, m, ridge = TAKERS, GROUP, 500.0
    return np.asarray(group_items * (history.sum() - history) * n / (ridge + n * m - n))


def blur_on_the_board(group_items: NDArray[np.bool_], history: NDArray[np.bool_]) -> NDArray[Any]:
    """Within a group R̃ᵀR̃ = J/m, so a whole Euler step of the heat equation spreads the history evenly."""
    return np.asarray(group_items * history.sum() / GROUP)


KNOWN: list[tuple[str, dict[str, Any], Callable[[NDArray[np.bool_], NDArray[np.bool_]], NDArray[Any]]]] = [
    ("popularity", {}, popularity_on_the_board),
    ("ease", {}, ease_on_the_board),
    ("bspm", {"low_pass": None, "sharpen": None}, blur_on_the_board),
]


@pytest.mark.parametrize(("kind", "settings", "answer"), KNOWN, ids=[kind for kind, _, _ in KNOWN])
def test_the_checkerboard_has_a_known_answer(kind: str, settings: dict[str, Any], answer: Any) -> None:
    train = checkerboard()
    model = spec_from_dict(recommender_spec(kind), settings).fit(train, rng=1)
    rows = np.zeros((3, 2 * GROUP), dtype=bool)
    rows[0, [0, 4]] = rows[1, [3]] = rows[2, 1::2] = True
    histories = Interactions.from_matrix(rows)
    colours = np.arange(2 * GROUP) % 2
    expected = np.stack([answer(colours == colour, row) for colour, row in zip([0, 1, 1], rows, strict=True)])
    np.testing.assert_allclose(model.score(histories), expected, rtol=1e-4, atol=1e-6)
    if kind != "popularity":
        ranking = model.recommend(histories.take_users([0, 1]), k=4)
        assert sorted(ranking.positions[0].tolist()) == [2, 6, 8, 10]
        assert set(ranking.positions[1].tolist()) < {1, 5, 7, 9, 11}


WITHHELD_SIDE = 20
"""Users and items of the board whose diagonal is withheld: even, so that both colours have as many."""
PASSES: Mapping[str, Any] = {"stopping": None, "batch_size": 20}
"""Nothing is held out to stop by: of ten rows a colour, none can be spared."""
LEARNS_THE_BOARD: Mapping[str, Mapping[str, Any]] = {
    "diffrec": {**PASSES, "epochs": 60, "denoiser": {"dims": [8]}, "optimizer": {"learning_rate": 0.01}},
    "l-diffrec": {
        **PASSES,
        "epochs": 80,
        "schedule": {"steps": 5, "scale": 0.01},
        "denoiser": {"dims": [50]},
        "objective": {"reweight": False},
        "clusters": {"count": 1},
        "autoencoder": {
            "encoder_dims": [8],
            "sample_latent": False,
            "kl_weight": 0.0,
            "optimizer": {"learning_rate": 0.01},
        },
        "optimizer": {"learning_rate": 0.01},
    },
    "lightgcn": {**PASSES, "epochs": 20},
    "low-pass": {"rank": 2},
    "mult-dae": {**PASSES, "epochs": 30},
    "mult-vae": {**PASSES, "epochs": 30},
    "neumf": {"epochs": 40, "batch_size": 32, "factors": 4},
    # With as many factors as items a history is projected onto itself, and no other item scores.
    "pure-svd": {"rank": 8},
    "row-mlp": {"epochs": 30, "dims": [32], "patience": None},
    "truncated-svd": {"rank": 8},
}
"""Settings with which a kind can learn from twenty users; any other kind learns it as it is by default."""


@pytest.mark.parametrize("kind", sorted(RECOMMENDERS))
def test_the_item_withheld_from_a_checkerboard_comes_first(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each user has all items of his or her colour but one, which alone is missing; nobody has one of the other colour."""
    for module in (neumf, row_mlp):  # to compile the fast kernels takes longer than all else here
        monkeypatch.setattr(module, "faster", nullcontext)
    users, items = np.indices((WITHHELD_SIDE, WITHHELD_SIDE))
    taken = Interactions.from_matrix(((users + items) % 2 == 0) & (users != items))
    board = Interactions(taken.matrix, taken.users, taken.items, np.arange(taken.n_interactions))
    spec = spec_from_dict(recommender_spec(kind), LEARNS_THE_BOARD.get(kind, {}))
    first = spec.fit(board, rng=1).recommend(board, k=1).positions[:, 0]
    withheld = first == np.arange(WITHHELD_SIDE)
    assert withheld.all() == spec.personal, (
        f"{withheld.sum()} of {WITHHELD_SIDE} users get the item withheld from them"
    )
