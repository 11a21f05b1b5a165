"""Neighbours and least squares on Gowalla next to implicit, which a user would take instead: `python -m benchmarks.implicit`.

All are warm, with the same matrix, k and number of threads; the median of five, by the clock, so the machine must be quiet. Needs the
extra `als`.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.measuring import print_head, print_rows
from unblur.experiment.ranking import prepare
from unblur.experiment.recipe.library import load_recipe
from unblur.models.als import ALS
from unblur.models.linear.neighbours import ItemKNN
from unblur.parallel.threads import n_threads

ROUNDS, NEIGHBOURS, RANK, K = 5, 100, 128, 20
ITERATIONS = 2
"""Of a training whose lists are timed, not judged."""


def median(work: Callable[[], object]) -> float:
    """Return the median of the seconds of several rounds, after one that is not counted."""
    seconds = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    """Print a table; each row has ours and implicit's, one after the other."""
    train = prepare(load_recipe("item-knn/gowalla")).split.train
    n_users, threads = train.n_users, n_threads()
    matrix = sparse.csr_matrix(train.binarized().matrix, copy=True)  # implicit writes to its arrays
    neighbours, cosine = ItemKNN(neighbours=NEIGHBOURS), CosineRecommender(K=NEIGHBOURS, num_threads=threads)
    ours = median(lambda: neighbours.fit(train))
    theirs = median(lambda: cosine.fit(matrix, show_progress=False))
    print_head()
    print_rows(
        [(f"item-knn, {NEIGHBOURS} neighbours: fit", "≤ 1 s", f"{ours:.2f} s; implicit {theirs:.2f} s")]
    )
    squares = ALS(rank=RANK, iterations=ITERATIONS).fit(train, rng=0)
    factors = AlternatingLeastSquares(factors=RANK, iterations=ITERATIONS, num_threads=threads)
    fitted = neighbours.fit(train)
    with threadpool_limits(1):  # implicit has threads of its own, and is slow if BLAS has some as well
        factors.fit(matrix, show_progress=False)
    users = np.arange(n_users)
    for name, target, model, other in (
        ("item-knn", 15_000, fitted, cosine),
        (f"als, rank {RANK}", 6_500, squares, factors),
    ):
        ours = n_users / median(lambda model=model: model.recommend(train, k=K))
        with threadpool_limits(1):
            theirs = n_users / median(lambda other=other: other.recommend(users, matrix, N=K))
        figure = f"{ours:,.0f} users/s; implicit {theirs:,.0f}"
        print_rows([(f"{name}: lists of {K} for all users", f"≥ {target:,} users/s", figure)])


if __name__ == "__main__":
    main()
