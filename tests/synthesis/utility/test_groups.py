"""The groups of users (training, stopping, reported), and their held-out items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.synthesis.utility.rated import rated
from unblur.data.interactions import Interactions
from unblur.errors import DataError, SpecError, VocabularyMismatch
from unblur.synthesis.utility.protocol import Departures, Rated, Utility, grouped, stacked

PAPER = Departures(reported_users_stop=True, dislikes_are_positives=True, dislikes_are_held_out=True)


def test_a_fifth_of_each_user_is_held_out_rounded_up() -> None:
    people = rated(30, seed=1)
    for departures, base in ((PAPER, people.observed), (Departures(), people.liked)):
        groups = grouped(rated(40, seed=2), people, Utility(), departures)
        held_out = groups.held_out_observed.user_degrees
        np.testing.assert_array_equal(held_out, [-(-degree // 5) for degree in base.user_degrees])
        np.testing.assert_array_equal(
            held_out + groups.histories.pairs(departures.dislikes_are_held_out).user_degrees,
            base.user_degrees,
        )
        liked = people.liked.contains(groups.held_out.rows(), groups.held_out.matrix.indices)
        assert liked.all()


def test_under_the_paper_protocol_reported_users_stop_and_all_others_train() -> None:
    teachers, people = rated(40, seed=2), rated(30, seed=1)
    groups = grouped(teachers, people, Utility(), PAPER)
    assert groups.learned.liked.fingerprint() == teachers.liked.fingerprint()
    assert groups.judged_stop
    assert not grouped(teachers, people, Utility(), PAPER, judged="searching").judged_stop
    np.testing.assert_array_equal(groups.stopping.held_out.matrix.toarray(), groups.held_out.matrix.toarray())
    np.testing.assert_array_equal(
        groups.stopping.histories.matrix.toarray(), groups.histories.liked.matrix.toarray()
    )


def test_strict_groups_share_nobody() -> None:
    teachers, people = rated(40, seed=2), rated(30, seed=1)
    utility = Utility(stopping_users=0.2, search_users=0.1)
    report = grouped(teachers, people, utility, Departures())
    search = grouped(teachers, people, utility, Departures(), judged="searching")
    assert report.stopping.histories.users == search.stopping.histories.users
    assert not report.judged_stop
    learned, stopped, searched = (
        set(users.to_list())
        for users in (
            search.learned.liked.users,
            search.stopping.histories.users,
            search.histories.liked.users,
        )
    )
    assert (len(stopped), len(searched)) == (8, 4)
    assert not learned & stopped
    assert not searched & (learned | stopped)
    assert learned | searched == set(report.learned.liked.users.to_list())
    assert learned | searched | stopped == set(range(40))
    assert report.histories.liked.n_users == 30


def test_held_out_items_depend_on_their_seed_alone() -> None:
    people, utility = rated(30, seed=1), Utility(hold_out_seed=7)
    one = grouped(rated(40, seed=2), people, utility, PAPER)
    same = grouped(rated(50, seed=3), people, utility, PAPER)
    other = grouped(rated(40, seed=2), people, Utility(hold_out_seed=8), PAPER)
    assert one.held_out.fingerprint() == same.held_out.fingerprint()
    assert one.held_out.fingerprint() != other.held_out.fingerprint()


def test_the_draw_of_the_authors_code_is_that_of_numpys_legacy_generator() -> None:
    people = rated(30, seed=1)
    utility, departures = Utility(hold_out_seed=7), replace(PAPER, legacy_generator=True)
    groups = grouped(rated(40, seed=2), people, utility, departures)
    random, matrix = np.random.RandomState(7), people.observed.matrix
    for user in range(30):
        items = matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]
        chosen = random.choice(items, size=-(-len(items) // 5), replace=False)
        held_out = groups.held_out_observed.matrix
        np.testing.assert_array_equal(
            held_out.indices[held_out.indptr[user] : held_out.indptr[user + 1]], np.sort(chosen)
        )


def test_readings_that_do_not_fit_are_refused() -> None:
    people = rated(10, seed=1)
    with pytest.raises(VocabularyMismatch, match="among the observed"):
        Rated(people.observed, people.liked)
    with pytest.raises(VocabularyMismatch, match="same items"):
        stacked([people.liked, Interactions.from_matrix(people.liked.matrix[:, :5])])
    with pytest.raises(SpecError, match="no value for a user"):
        Utility(metrics=("coverage@10",))


def test_some_users_must_be_left_for_training() -> None:
    with pytest.raises(DataError, match="remain to learn from"):
        grouped(rated(2, seed=1), rated(5, seed=2), Utility(), Departures(), judged="searching")
