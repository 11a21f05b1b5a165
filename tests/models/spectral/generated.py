"""Small random data and settings, drawn by hypothesis."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.models.spectral import textbook
from unblur.data.interactions import Interactions
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.models.spectral.flow import Flow
from unblur.models.spectral.operator import DegreePowers


class Case(NamedTuple):
    """A train matrix, other rows to score, and settings."""

    train: textbook.Matrix
    rows: textbook.Matrix
    spec: BSPM


def matrix(n_users: int, n_items: int, density: float, seed: int) -> textbook.Matrix:
    """A random 0/1 matrix with at least one interaction."""
    values = (np.random.default_rng(seed).random((n_users, n_items)) < density).astype(float)
    values[0, 0] = 1
    return values


def interactions(dense: textbook.Matrix) -> Interactions:
    return Interactions.from_matrix(dense)


def distinct_ranks(train: textbook.Matrix, degrees: DegreePowers = textbook.PAPER) -> list[int]:
    """The ranks at which the leading singular vectors are unique, because no tie is cut, and the full rank."""
    values = np.linalg.svd(textbook.normalized(train, degrees), compute_uv=False)
    ends = np.flatnonzero(values[:-1] - values[1:] > 0.01) + 1
    return [*ends.tolist(), len(values)]


def flows(durations: tuple[float, ...] = (0.25, 0.5, 1.0, 1.2, 2.0, 2.5)) -> st.SearchStrategy[Flow]:
    return st.builds(
        Flow,
        duration=st.sampled_from(durations),
        steps=st.integers(1, 4),
        solver=st.sampled_from(["euler", "rk4"]),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Every combination of options, on matrices some of which have an empty user and an empty item."""
    n_users, n_items = draw(st.integers(3, 30)), draw(st.integers(3, 30))
    density = draw(st.sampled_from([0.1, 0.3, 0.5]))
    train = matrix(n_users, n_items, density, draw(st.integers(0, 99)))
    if draw(st.booleans()):
        train[-1], train[:, -1] = 0, 0
    rows = matrix(4, n_items, 0.3, draw(st.integers(0, 99)))
    rows[rows.sum(axis=1) == 0, -1] = 1
    degrees = draw(st.sampled_from([textbook.PAPER, DegreePowers(user=0.4, item=0.3, score=-0.2)]))
    low_pass = st.builds(
        LowPass,
        rank=st.sampled_from(distinct_ranks(train, degrees)),
        weight=st.sampled_from([0.1, 0.3, 1.0, -0.2]),
        bands=st.sampled_from([(1.0,), (0.6,)]),  # more might cut a tie
        flow=flows(),
    )
    spec = st.builds(
        BSPM,
        degrees=st.just(degrees),
        blur=flows(),
        low_pass=st.none() | low_pass,
        sharpen=st.none() | flows(),
        merge=st.sampled_from(["early", "late"]),
        output=st.sampled_from(["last", "mean"]),
        history=st.sampled_from(["counts", "normalized"]),
    )
    return Case(train, rows, draw(spec))
