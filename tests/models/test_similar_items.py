"""Similar items are those of the item, not the popular ones: the short form of `make similar`."""

import pytest

from benchmarks.similar import LIMIT, overlap
from unblur.data.catalogue import demo_interactions
from unblur.models.linear.ease import EASE
from unblur.models.neural.mult_vae import MultDAE
from unblur.recommender import RecommenderSpec


@pytest.mark.parametrize("spec", [EASE(), MultDAE(epochs=20, stopping=None)], ids=["ease", "mult-dae"])
def test_two_items_have_few_neighbours_in_common(spec: RecommenderSpec) -> None:
    assert overlap(spec.fit(demo_interactions(400, 800), rng=0)) <= LIMIT
