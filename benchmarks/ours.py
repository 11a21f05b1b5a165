"""The time and memory of this library for the work of the textbook path, and for work that the textbook path cannot do."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unblur import Interactions
from unblur.data.catalogue.generation import generated
from unblur.data.splits import Files, Random, Split
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.searching import RankingJudge
from unblur.experiment.task import Clock
from unblur.experiment.validation import HoldOuts
from unblur.models.spectral.operator import normalize
from unblur.models.spectral.spectrum import truncated_svd
from unblur.progress import Run
from unblur.tuning.points import Points, set_point, space_of


def _split(folder: str, name: str) -> Split:
    place = Path(folder) / name
    return Files().apply({part: Interactions.read(place / f"{part}.parquet") for part in ("train", "test")})


def run(folder: str, name: str, model: str = "bspm", users: int | None = None) -> dict[str, Any]:
    """From Parquet to metrics, all users or the first of them, by the shipped recipe of a model."""
    clock = Clock()
    with clock("read_seconds"):
        recipe = load_recipe(f"{model}/{name}")
        split = _split(folder, name)
    with clock("fit_seconds"):
        fitted = recipe.model.fit(split.train, rng=recipe.seed)
    if users is not None:
        chosen = slice(0, users)
        split = replace(
            split, histories=split.histories.take_users(chosen), held_out=split.held_out.take_users(chosen)
        )
    with clock("score_seconds"):
        ranking = recipe.protocol.rank(fitted, split)
    with clock("evaluate_seconds"):
        evaluation = recipe.protocol.measure(ranking, split, rng=0)
    users = int((split.held_out.user_degrees > 0).sum())
    return {
        **clock.seconds,
        "recall@20": evaluation["recall@20"].value,
        "ndcg@20": evaluation["ndcg@20"].value,
        "users": users,
        "users_per_second": users / clock.seconds["score_seconds"],
    }


def golden(folder: str, golden_file: str) -> dict[str, Any]:
    """The overlap of the best 20 items of 200 users with a reference run, and the largest residuals."""
    split = _split(folder, "gowalla")
    recipe = load_recipe("bspm/gowalla")
    model = recipe.model.fit(split.train, rng=recipe.seed)
    reference = np.load(golden_file, allow_pickle=False)
    ranking = model.recommend(split.histories.take_users(reference["users"]), k=20)
    pairs = zip(ranking.positions, reference["items"][:, :20], strict=True)
    overlap = np.mean([len(set(ours) & set(theirs)) / 20 for ours, theirs in pairs])
    matrix = normalize(split.train)
    spectrum = truncated_svd(matrix, 448, rng=0)
    repeated = truncated_svd(matrix, 448, rng=0)
    matrix64, left, right = (
        matrix.astype(np.float64),
        spectrum.left.astype(float),
        spectrum.right.astype(float),
    )
    residual = np.linalg.norm(matrix64 @ right - left * spectrum.values, axis=0).max()
    transposed_residual = np.linalg.norm(matrix64.T @ left - right * spectrum.values, axis=0).max()
    return {
        "same_items": float(overlap),
        "residual": float(residual),
        "transposed_residual": float(transposed_residual),
        "deterministic": bool((spectrum.right == repeated.right).all()),
    }


def one_user(folder: str, items: int = 50, times: int = 50) -> dict[str, Any]:
    """Milliseconds to recommend for one new user, the model loaded: median and worst of several."""
    split = _split(folder, "gowalla")
    recipe = load_recipe("bspm/gowalla")
    model = recipe.model.fit(split.train, rng=recipe.seed)
    random = np.random.default_rng(0)
    milliseconds = []
    for _ in range(times + 5):
        history = Interactions.from_pairs(
            np.zeros(items, int),
            random.choice(split.train.n_items, items, replace=False),
            item_vocabulary=split.train.items,
        )
        start = time.perf_counter()
        model.recommend(history, k=20)
        milliseconds.append(1000 * (time.perf_counter() - start))
    return {"median_ms": float(np.median(milliseconds[5:])), "worst_ms": float(np.max(milliseconds[5:]))}


def shape(
    n_users: int, n_items: int, n_interactions: int, recipe: str, users: int | None = None, warm_up: int = 0
) -> dict[str, Any]:
    """A recipe's model on generated data of a shape: seconds to fit, and to rank `users` of the users (or all).

    What a model prepares at its first ranking is part of that, unless `warm_up` users are ranked before: then it counts
    as `first_seconds`, with them.
    """
    data = generated(n_users, n_items, n_interactions, rng=0)
    model = load_recipe(recipe).model
    clock = Clock()
    processor = [time.process_time()]
    with clock("fit_seconds"):
        fitted = model.fit(data, rng=0)
    processor.append(time.process_time())
    with clock("first_seconds"):
        if warm_up:
            fitted.recommend(data.take_users(slice(0, warm_up)), k=20)
    histories = data if users is None else data.take_users(slice(warm_up, warm_up + users))
    processor.append(time.process_time())
    with clock("score_seconds"):
        fitted.recommend(histories, k=20)
    processor.append(time.process_time())
    return {
        **clock.seconds,
        "users": histories.n_users,
        "fit_processor_seconds": processor[1] - processor[0],
        "processor_ms_per_user": 1000 * (processor[3] - processor[2]) / histories.n_users,
        "ms_per_user": 1000 * clock.seconds["score_seconds"] / histories.n_users,
    }


def searched(
    folder: str, name: str, recipe: str, spaces: dict[str, list[Any]], settings: int = 500, users: int = 2000
) -> dict[str, Any]:
    """One evaluation against a search over many settings, on the same train part and the same users; seconds are the processor's.

    Both begin with the train part alone, so that both include a decomposition or a Gram matrix; `search` adds the second pass over eight finalists.
    """
    train = Interactions.read(Path(folder) / name / "train.parquet")
    base = load_recipe(recipe).model
    split = Random(fraction=0.2).apply(train, rng=0)
    judge = RankingJudge("recall@20", HoldOuts((split,), "a random fifth"), users, 0, Run(), shares=True)
    points = Points(space_of(base, spaces), "random", seed=0)
    specs = [
        set_point(base, points.space, points.at(number) or {}) for number in range(points.count(settings))
    ]
    marks = [time.process_time()]
    judge(base, 0, lambda epoch, value: False)
    marks.append(time.process_time())
    judge.together(specs)
    marks.append(time.process_time())
    one, many = np.diff(marks).tolist()
    return {
        "settings": len(specs),
        "users": users,
        "one_evaluation_seconds": one,
        "search_seconds": many,
        "ratio": many / one,
    }
