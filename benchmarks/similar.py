"""How much the similar items of two items overlap. `python -m benchmarks.similar RECIPE…`, or `make similar`."""

import sys

import numpy as np

from unblur.experiment.ranking import prepare
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.progress import Run
from unblur.recommender import Recommender

PAIRS, NEIGHBOURS, LIMIT = 200, 10, 0.1
"""Of so many random pairs of items, the mean Jaccard index of so many neighbours must be at most the limit: lists that
are the same for every item have 1, and those of a model that tells items apart some thousandths."""


def overlap(model: Recommender) -> float:
    """Return the mean Jaccard index of the neighbours of random pairs of items."""
    random, labels = np.random.default_rng(0), model.items.to_list()
    values = []
    for _ in range(PAIRS):
        one, other = (
            set(model.similar_items(labels[item], NEIGHBOURS).labels())
            for item in random.choice(len(labels), 2, replace=False)
        )
        values.append(len(one & other) / len(one | other))
    return float(np.mean(values))


def main() -> None:
    """Fit each recipe, those on ml-1m if none is named, and print its overlap; exit with 1 if one is above the limit."""
    failed = False
    for name in sys.argv[1:] or [
        name for name in shipped() if name.endswith("/ml-1m") and "sdrm" not in name
    ]:
        recipe = load_recipe(name)
        value = overlap(prepare(recipe).fit(recipe.seed, Run()))
        failed |= value > LIMIT
        print(f"{name:24} {value:.3f}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
