"""Hyper-parameters out of range, and the shipped recipes of these families."""

from __future__ import annotations

from typing import Any

import pytest

from unblur.errors import SpecError
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.registry import recommender_spec
from unblur.spec import spec_from_dict

FAMILIES = {
    *("als", "ease", "item-knn", "lightgcn", "mult-dae", "mult-vae", "pure-svd", "recency-ease", "rp3beta"),
    *("sansa", "slim", "sparse-ease", "user-knn"),
}


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("item-knn", {"neighbours": 0}),
        ("item-knn", {"shrinkage": -1.0}),
        ("item-knn", {"neighbours_of": "user"}),
        ("item-knn", {"norm": "max"}),
        ("user-knn", {"weighting": "idf"}),
        ("rp3beta", {"normalize": "both"}),
        ("ease", {"dropout": 1.0}),
        ("user-knn", {"neighbours": 1.5}),
        ("user-knn", {"shrinkage": float("inf")}),
        ("rp3beta", {"alpha": 0.0}),
        ("rp3beta", {"beta": -0.1}),
        ("ease", {"ridge": 0.0}),
        ("sparse-ease", {"ridge": 0.0}),
        ("sparse-ease", {"neighbours": -1}),
        ("sansa", {"density": 0.0}),
        ("sansa", {"density": 1.5}),
        ("sansa", {"ridge": -1.0}),
        ("slim", {"l1": -1.0}),
        ("slim", {"l2": 0.0}),
        ("slim", {"tolerance": 0.0}),
        ("pure-svd", {"rank": 0}),
        ("pure-svd", {"scaling": "1"}),
        ("als", {"ridge": 0.0}),
        ("als", {"alpha": -1.0}),
        ("als", {"rank": 0}),
        ("mult-vae", {"dims": []}),
        ("mult-vae", {"dropout": 1.0}),
        ("mult-vae", {"kl_weight": -0.1}),
        ("mult-vae", {"kl_batches": 0}),
        ("mult-vae", {"stopping": {"metric": "ndcg"}}),
        ("mult-dae", {"activation": "step"}),
        ("lightgcn", {"layers": 0}),
        ("lightgcn", {"embedding_size": 0}),
        ("lightgcn", {"users": "none"}),
        ("lightgcn", {"loss": "hinge"}),
        ("lightgcn", {"temperature": 0.0}),
        ("lightgcn", {"negatives": 0}),
        ("recency", {"half_life": 0.0}),
        ("recency", {"unit": "weeks"}),
    ],
)
def test_values_out_of_range_are_refused(kind: str, bad: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(bad))):
        spec_from_dict(recommender_spec(kind), bad)


@pytest.mark.parametrize("kind", sorted(FAMILIES - {"recency-ease"}))
def test_the_space_that_a_search_tries_is_valid(kind: str) -> None:
    cls = recommender_spec(kind)
    for name, values in getattr(cls, "search_space", {}).items():
        assert {getattr(spec_from_dict(cls, {name: value}), name) for value in values} == set(values)


@pytest.mark.parametrize("name", [name for name in shipped() if name.split("/")[0] in FAMILIES])
def test_recipes_say_where_their_numbers_come_from(name: str) -> None:
    recipe = load_recipe(name)
    family = "recency" if recipe.model.kind == "recency" else name.split("/")[0]
    assert recipe.model.kind == family
    assert recipe.name == name
    assert all(number.source for number in recipe.expected.values())
