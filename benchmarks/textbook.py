"""BSPM and ChebyCF by the book, to measure against: dense rows, one batch of users after another.

Batches of 100 users as dense float32 rows; SciPy's truncated SVD; the metrics from a full sort of each row's best 20 in NumPy.
BSPM: ``torchdiffeq.odeint`` over the three vector fields of the paper; two sparse products through SciPy for each evaluation of
a field; the low-pass products in float64. ChebyCF: two sparse products through SciPy for each degree, by the recurrence of
Chebyshev's polynomials, and the low-pass filter as two dense products in float32.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torchdiffeq import odeint

from unblur.experiment.task import Clock

SETTINGS: dict[str, dict[str, Any]] = {
    "gowalla": {"rank": 448, "weight": 0.2, "duration": 2.5, "solver": "rk4", "mean": False},
    "yelp2018": {"rank": 384, "weight": 0.3, "duration": 1.2, "solver": "euler", "mean": True},
}


CHEBYCF: dict[str, Any] = {"rank": 512, "weight": 0.2, "exponent": 0.4, "flatness": 1.5, "degree": 8}
"""The first settings that the authors publish for Gowalla."""


def run(folder: str, name: str, model: str = "bspm", users: int | None = None) -> dict[str, Any]:
    """From Parquet to metrics; `users` limits the rows that are scored (the seconds are then for these)."""
    clock = Clock()
    with clock("read_seconds"):
        train, test = (_matrix(Path(folder) / name / f"{part}.parquet") for part in ("train", "test"))
        shape = max(train.shape[0], test.shape[0]), max(train.shape[1], test.shape[1])
        train.resize(shape)
        test.resize(shape)
    settings = SETTINGS[name] if model == "bspm" else CHEBYCF
    with clock("fit_seconds"):
        user_degrees, item_degrees = np.asarray(train.sum(1)).ravel(), np.asarray(train.sum(0)).ravel()
        with np.errstate(divide="ignore"):
            by_user = np.where(user_degrees > 0, user_degrees**-0.5, 0)
            by_item = np.where(item_degrees > 0, item_degrees**-0.5, 0)
        normal = sparse.csr_matrix(sparse.diags(by_user) @ train @ sparse.diags(by_item)).astype(np.float32)
        _, _, right = svds(normal.astype(np.float64), k=settings["rank"], rng=np.random.default_rng(0))
    with clock("score_seconds"):
        transposed, root = sparse.csr_matrix(normal.T), item_degrees**0.5

        def times_p(rows: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(np.asarray((transposed @ (normal @ rows.numpy().T)).T, dtype=np.float32))

        score = (_bspm if model == "bspm" else _chebycf)(settings, times_p, right, by_item, root)
        ranked = []
        for first in range(0, users or shape[0], 100):
            history = train[first : min(first + 100, users or shape[0])]
            scores = score(torch.from_numpy(history.toarray().astype(np.float32)))
            scores[history.nonzero()] = -np.inf
            ranked.append(torch.topk(scores, 20).indices.numpy())
    with clock("evaluate_seconds"):
        recall, ndcg = _metrics(np.concatenate(ranked), test)
    return {**clock.seconds, "recall@20": recall, "ndcg@20": ndcg, "users": users or shape[0]}


Rows = Callable[[torch.Tensor], torch.Tensor]


def _bspm(settings: dict[str, Any], times_p: Rows, right: Any, by_item: Any, root: Any) -> Rows:
    """From dense rows to scores, with the low-pass term before sharpening."""

    def low_pass(rows: torch.Tensor) -> torch.Tensor:
        code = (rows.numpy().astype(np.float64) * by_item) @ right.T
        return torch.from_numpy(((code @ right) * root).astype(np.float32))

    def score(rows: torch.Tensor) -> torch.Tensor:
        moments = torch.tensor([0.0, 1.0])
        blurred = odeint(lambda t, x: times_p(x) - x, rows, moments, method="euler")[1:]
        low_passed = odeint(lambda t, x: low_pass(x) - x, rows, moments, method="euler")[-1]
        begin = blurred[-1] + settings["weight"] * low_passed
        moments = torch.tensor([0.0, settings["duration"]])
        sharpened = odeint(lambda t, x: -times_p(x), begin, moments, method=settings["solver"])[1:]
        return torch.cat([blurred, sharpened]).mean(0) if settings["mean"] else sharpened[-1]

    return score


def _chebycf(settings: dict[str, Any], times_p: Rows, right: Any, by_item: Any, root: Any) -> Rows:
    """From dense rows to scores, by the sampling of the authors' program."""
    size, degrees = settings["degree"] + 1, np.square(root).astype(np.float32)
    points = np.cos(np.pi * np.arange(size - 1, -1, -1) / (size - 1)).round(3)
    samples = (0.5 - 0.5 * np.sign(points) * np.abs(points) ** settings["flatness"]).round(3)
    nodes = np.cos(np.pi * (size - 0.5 - np.arange(size)) / size)
    coefficients = 2 / size * np.cos(np.outer(np.arange(size), np.arccos(nodes))) @ samples
    coefficients[0] /= 2
    vectors = torch.from_numpy(np.ascontiguousarray(right, dtype=np.float32))
    before = torch.from_numpy(np.where(degrees > 0, np.maximum(degrees, 1) ** -settings["exponent"], 0))
    after = torch.from_numpy(degrees ** settings["exponent"])

    def score(rows: torch.Tensor) -> torch.Tensor:
        previous = rows * before
        low_passed = (previous @ vectors.T) @ vectors
        state = previous - 2 * times_p(previous)
        scores = coefficients[0] * previous + coefficients[1] * state
        for coefficient in coefficients[2:]:
            # T_m(y) = 2y·T_{m−1}(y) − T_{m−2}(y), with y = 1 − 2P.
            previous, state = state, 2 * (state - 2 * times_p(state)) - previous
            scores += float(coefficient) * state
        return (scores + settings["weight"] * low_passed) * after

    return score


def _matrix(path: Path) -> sparse.csr_matrix:
    frame = pl.read_parquet(path)
    return sparse.csr_matrix(
        (np.ones(len(frame), np.float32), (frame["user"].to_numpy(), frame["item"].to_numpy()))
    )


def _metrics(ranked: np.ndarray, test: sparse.csr_matrix) -> tuple[float, float]:
    recalls, gains = [], []
    discount = 1 / np.log2(np.arange(2, 22))
    for row, items in enumerate(ranked):
        relevant = test.indices[test.indptr[row] : test.indptr[row + 1]]
        if not len(relevant):
            continue
        hits = np.isin(items, relevant)
        recalls.append(hits.sum() / len(relevant))
        gains.append((hits * discount).sum() / discount[: len(relevant)].sum())
    return float(np.mean(recalls)), float(np.mean(gains))
