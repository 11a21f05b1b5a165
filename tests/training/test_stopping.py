"""Early stopping: what is held out of train, and how epochs are judged on it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.diffusion.generated import communities, without_times
from tests.models.diffusion.trainable import DATA, ITEMS
from unblur.data.interactions import Interactions
from unblur.data.splits import Random
from unblur.errors import DataError, SpecError, VocabularyMismatch
from unblur.models.popularity import Popularity
from unblur.training.settings import Stopping, check_metric
from unblur.training.stopping import Judge, hold_out


def test_the_last_in_time_are_held_out_of_each_user() -> None:
    data = communities()
    split = hold_out(data, Stopping(hold_out="last", fraction=0.3), 0)
    assert split.train.n_interactions + split.held_out.n_interactions == data.n_interactions
    for row in range(data.n_users):
        train_times, held_out_times = (
            part.timestamps[part.matrix.indptr[row] : part.matrix.indptr[row + 1]]  # type: ignore[index]
            for part in (split.train, split.held_out)
        )
        assert len(held_out_times) == min(
            round(0.3 * (len(train_times) + len(held_out_times))), len(train_times) + len(held_out_times) - 1
        )
        assert not len(held_out_times) or train_times.max() <= held_out_times.min()


def test_a_random_hold_out_depends_on_the_seed_alone() -> None:
    data = communities()
    one, two, three = (hold_out(data, Stopping(fraction=0.3), seed) for seed in (4, 4, 5))
    assert one.held_out.fingerprint() == two.held_out.fingerprint() != three.held_out.fingerprint()
    assert (one.train.user_degrees[data.user_degrees > 0] >= 1).all()


def test_short_histories_give_up_one_item_each() -> None:
    """A tenth of three items is none; all who have two or more give one up."""
    short = Interactions.from_pairs([0, 0, 1, 1, 1, 2], [0, 1, 0, 1, 2, 2])
    split = hold_out(short, Stopping(fraction=0.1), 0)
    assert split.held_out.user_degrees.tolist() == [1, 1, 0]
    assert split.train.user_degrees.tolist() == [1, 2, 1]


def test_nothing_to_hold_out_is_an_error() -> None:
    single = Interactions.from_pairs([0, 1, 2], [0, 1, 0])
    with pytest.raises(DataError, match="Some user must have two interactions"):
        hold_out(single, Stopping(fraction=0.5), 0)
    with pytest.raises(DataError, match="timestamps"):
        hold_out(without_times(communities()), Stopping(hold_out="last"), 0)


def test_given_validation_must_fit_train() -> None:
    split = Random(fraction=0.2).apply(DATA, rng=0)
    with pytest.raises(DataError, match="overlap"):
        ITEMS.training(split.train, rng=0, validation=split.train)
    with pytest.raises(VocabularyMismatch):
        ITEMS.training(split.train, rng=0, validation=Interactions.from_pairs([999], [1]))


def test_judging_counts_users_with_something_set_aside() -> None:
    data = communities()
    split = Random(fraction=0.2).apply(data, rng=0)
    model = Popularity().fit(split.train)
    judge = Judge(split, "recall@10")
    assert judge.histories.n_users == int((split.held_out.user_degrees > 0).sum())
    lists = model.recommend(split.train, k=10).positions
    shares = [
        np.isin(split.held_out.matrix[[row]].indices, lists[row]).mean()
        for row in np.flatnonzero(split.held_out.user_degrees)
    ]
    assert judge(model) == pytest.approx(np.mean(shares))


@pytest.mark.parametrize("name", ["recal@20", "recall", "recall@0", "coverage@10", "mean_popularity@10"])
def test_metrics_that_cannot_stop_training_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match=name.split("@")[0]):
        check_metric(name)


def test_the_cut_off_must_not_exceed_the_items() -> None:
    split = Random(fraction=0.3).apply(communities(n_items=12, groups=2), rng=0)
    with pytest.raises(SpecError, match="12 items"):
        Judge(split, "recall@20")
