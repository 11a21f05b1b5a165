"""What a synthetic set is worth: against a count by hand, and against sets whose worth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.audit.sets import Groups, groups, rows
from unblur.audit.attacks.attack import samples
from unblur.audit.auditor import audit
from unblur.audit.findings import Finding, Gate, Gates
from unblur.audit.page import audit_document
from unblur.audit.worth import Worth, best_on_real, taught_recommenders, utility_conclusions, worth
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.document.html import as_html
from unblur.errors import SpecError
from unblur.evaluation.report import Measurement
from unblur.models.linear.ease import EASE
from unblur.models.linear.factors import TruncatedSVD
from unblur.models.popularity import Popularity

RECALL = "capped_recall@10"


@pytest.fixture(scope="module")
def people() -> Groups:
    return groups(400, 80)


@pytest.fixture(scope="module")
def noise(people: Groups) -> Interactions:
    """As many users and items, and nothing else in common."""
    random = np.random.default_rng(0)
    return Interactions.from_matrix(
        (random.random((400, 80)) < 0.2).astype(np.float32), items=people.train.items
    )


def measured(people: Groups, synthetic: Interactions, *specs: object, **options: object) -> dict[str, Worth]:
    given = samples(people.train, synthetic, people.holdout)
    assert given.holdout is not None
    result, unmeasured = worth(given.train, given.synthetic, given.holdout, specs, rng=3, **options)  # type: ignore[arg-type]
    assert not unmeasured
    return {entry.recommender: entry for entry in result if entry.metric == RECALL}


def test_a_copy_of_the_real_users_is_worth_what_they_are(people: Groups) -> None:
    for entry in measured(people, rows(people.train), Popularity(), TruncatedSVD(rank=8), EASE()).values():
        assert entry.synthetic.value == pytest.approx(entry.real.value, abs=1e-12)
        assert (entry.lost.value, entry.lost.low, entry.lost.high) == pytest.approx((0, 0, 0), abs=1e-12)
        assert entry.share == pytest.approx(1)
        assert entry.real.low is not None
        assert entry.real.high is not None
        assert entry.real.low < entry.real.value < entry.real.high


def test_noise_is_worth_less_and_harms_beside_the_real_users(people: Groups, noise: Interactions) -> None:
    result = measured(people, noise, TruncatedSVD(rank=8))["truncated-svd"]
    assert result.lost.high is not None
    assert result.lost.high < 0
    assert result.lost.value == pytest.approx(result.synthetic.value - result.real.value)
    assert result.gained.value == pytest.approx(result.both.value - result.real.value)
    assert result.share < 0.8


def test_popularity_against_a_count_by_hand(people: Groups, noise: Interactions) -> None:
    """Of all users whose every item but a fifth is shown, the items with most synthetic users that were not shown."""
    seen: list[Interactions] = []

    class Watched(Popularity):
        kind = "watched"

        def fit(self, train: Interactions, **options: object):  # type: ignore[no-untyped-def]
            model = super().fit(train, **options)  # type: ignore[arg-type]
            recommend = model.recommend

            def watched(histories: Interactions, **more: object):  # type: ignore[no-untyped-def]
                seen.append(histories)
                return recommend(histories, **more)  # type: ignore[arg-type]

            object.__setattr__(model, "recommend", watched)
            return model

    result = measured(people, noise, Watched())["watched"]
    shown = seen[1].matrix.toarray() > 0
    whole = people.holdout.onto(items=seen[1].items)
    whole = whole.take_users(whole.user_degrees > 1)
    hidden = (whole.matrix.toarray() > 0) & ~shown
    np.testing.assert_array_equal(hidden.sum(1), np.ceil(whole.user_degrees * 0.2 - 1e-9))
    counts = noise.onto(items=seen[1].items).item_degrees
    recalls = []
    for history, wanted in zip(shown, hidden, strict=True):
        order = [at for at in np.argsort(-counts, kind="stable") if not history[at]][:10]
        recalls.append(wanted[order].sum() / min(10, wanted.sum()))
    assert result.synthetic.value == pytest.approx(np.mean(recalls))
    assert result.real.n_users == len(recalls)


def test_who_is_tested_and_how_many(people: Groups, noise: Interactions) -> None:
    assert measured(people, noise, Popularity(), users=50)["popularity"].real.n_users == 50
    single = Interactions.from_pairs([9000, 9001], [0, 1], item_vocabulary=people.train.items)
    assert not measured(people._replace(holdout=single), noise, Popularity())


def test_the_audit_carries_it_into_findings_gates_and_file(people: Groups, noise: Interactions) -> None:
    specs = taught_recommenders(people.train, noise)
    assert [spec.kind for spec in specs] == ["popularity", "truncated-svd", "ease"]
    result = audit(people.train, noise, people.holdout, recommenders=specs, gates=Gates(min_utility=0.9))
    best = best_on_real(result.utility)
    assert best is not None
    assert best.real.value == max(entry.real.value for entry in result.utility if entry.metric == RECALL)
    gate = next(gate for gate in result.gates if gate.name == "min_utility")
    assert not gate.passed
    assert f"reaches {best.share:.0%} of its {best.metric} on real ones" in gate.reason
    assert any(
        f"Trained on the synthetic users, a recommender ({best.recommender})" in each.text
        for each in result.findings
    )
    written = json.loads(result.to_json())["utility"]
    assert len(written) == 6
    assert written[0]["share"] == pytest.approx(result.utility[0].share)
    again = audit(
        people.train, rows(people.train), people.holdout, recommenders=specs, gates=Gates(min_utility=0.9)
    )
    assert next(gate for gate in again.gates if gate.name == "min_utility").passed


def test_without_a_holdout_it_is_not_measured_and_its_gate_fails(people: Groups, noise: Interactions) -> None:
    specs = taught_recommenders(people.train, noise)
    result = audit(
        people.train, noise, recommenders=specs, gates=Gates(max_auc=None, max_excess=None, min_utility=0.5)
    )
    assert result.utility == ()
    gate = next(gate for gate in result.gates if gate.name == "min_utility")
    assert (gate.passed, "was not measured" in gate.reason) == (False, True)
    with pytest.raises(SpecError, match="min_utility"):
        Gates(min_utility=1.5)


def test_what_cannot_be_measured_is_said_and_stops_nothing(people: Groups, noise: Interactions) -> None:
    """A holdout of single items, synthetic users without any known item, and tests in which nobody finds anything."""
    single = Interactions.from_pairs(np.arange(9000, 9030), np.arange(30), item_vocabulary=people.train.items)
    result = audit(
        people.train, noise, single, recommenders=taught_recommenders, gates=Gates(min_utility=0.5)
    )
    assert result.utility == ()
    assert any("no user of the holdout has two items" in note for note in result.notes)
    assert not next(gate for gate in result.gates if gate.name == "min_utility").passed
    users = np.repeat(np.arange(15), 4)
    items = np.where(users < 13, np.tile([0, 1, 2, 3], 15) + users, 9000 + users)
    strange = Interactions.from_pairs(users, items, duplicates="first")
    kinds = {
        entry.recommender
        for entry in audit(people.train, strange, people.holdout, recommenders=taught_recommenders).utility
    }
    assert kinds == {"popularity", "truncated-svd", "ease"}
    nothing = Measurement(name="x", value=0.0, low=0.0, high=0.0, n_users=3)
    blank = Worth(
        recommender="ease",
        metric=RECALL,
        **dict.fromkeys(("real", "synthetic", "both", "lost", "gained"), nothing),  # type: ignore[arg-type]
    )
    conclusions = list(utility_conclusions([blank], Gates(min_utility=0.5)))
    gate = next(each for each in conclusions if isinstance(each, Gate))
    assert (gate.passed, "cannot be measured" in gate.reason) == (False, True)
    assert any(
        isinstance(each, Finding) and each.kind == "unmeasured" and "Utility cannot be measured" in each.text
        for each in conclusions
    )


def test_two_recommenders_of_a_kind_are_told_apart(people: Groups, noise: Interactions) -> None:
    result = audit(people.train, noise, people.holdout, recommenders=(EASE(ridge=10), EASE(ridge=1000)))
    assert [entry.recommender for entry in result.utility] == ["ease", "ease", "ease 2", "ease 2"]
    text = as_html(audit_document(result))
    for entry in result.utility:
        assert f"{entry.real.value:.4f} ({entry.real.low:.4f} … {entry.real.high:.4f})" in text


def test_large_catalogues_and_tiny_sets_are_taught_what_they_can_be(people: Groups) -> None:
    tiny = Interactions.from_pairs([0, 0], [0, 1], item_vocabulary=people.train.items)
    assert [spec.kind for spec in taught_recommenders(people.train, tiny)] == ["popularity", "ease"]
    wide = Interactions.from_pairs(
        list(range(30)), [int(at) for at in range(0, 6000, 200)], item_vocabulary=Vocabulary.range(6000)
    )
    assert [spec.kind for spec in taught_recommenders(wide, wide)] == ["popularity", "truncated-svd"]
