"""Pages of runs and searches: self-contained, escaped, complete."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unblur.document.html import as_html
from unblur.evaluation.report import Expected, Measurement, Provenance, Report
from unblur.experiment.page import (
    best_trials,
    concentration,
    filter_response,
    importance,
    run_page,
    study_sections,
)
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.running import run
from unblur.models.linear.ease import EASE
from unblur.models.spectral.bspm import BSPM
from unblur.models.spectral.flow import Flow
from unblur.spec import Choice, Dimension, Range
from unblur.tuning.results import Study, Trial


class Words(HTMLParser):
    """The text of a page and the addresses that it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.loaded: list[str] = []

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.loaded += [value for name, value in attrs if name in ("src", "href") and value]
        assert tag != "script"


def read(page: str) -> Words:
    words = Words()
    words.feed(page)
    assert words.loaded == []
    assert "url(" not in page
    assert "@import" not in page
    return words


REPORT = Report(
    recipe="bspm/<b>own</b>",
    protocol="paper",
    measurements=(
        Measurement(
            name="recall@10",
            value=0.2,
            low=0.19,
            high=0.21,
            n_users=500,
            expected=Expected(value=0.3, within=0.01, source="table 3"),
        ),
        Measurement(name="recall@20", value=0.3, low=0.29, high=0.31, n_users=500),
        Measurement(name="coverage@20", value=0.8, n_users=500),
    ),
    provenance=Provenance(spec={"kind": "bspm"}, seeds=(1,)),
    notes=("31 users had nothing held out",),
)


def test_a_report_as_a_page() -> None:
    document = run_page(
        REPORT,
        concentration={"train": ((0.0, 0.0), (1.0, 1.0))},
        response=filter_response(BSPM()),
        training=[(1.0, 0.5, None), (2.0, 0.4, 0.1), (3.0, 0.3, 0.2)],
    )
    page = as_html(document)
    text = " ".join(read(page).text)
    for word in (
        "0.3000",
        "−0.1000",
        "table 3",
        "500 users",
        "eigenvalue",
        "epoch",
        "31 users had nothing held out",
    ):
        assert word in text or word.replace("−", "-") in text
    assert "<b>own</b>" not in page
    assert "&lt;b&gt;own" in page
    assert page.count("<figure>") == 6  # intervals, cut-offs, popularity, filter, loss, metric
    assert re.search(r'<td class="bad figure">\s*no', page)


def test_without_curves_there_is_still_a_page() -> None:
    text = read(as_html(run_page(REPORT))).text
    assert any("recall@10" in part for part in text)


def test_a_run_writes_its_page(tmp_path: Path) -> None:
    run(load_recipe("bspm/demo"), out=tmp_path / "made")
    text = " ".join(read((tmp_path / "made" / "report.html").read_text(encoding="utf-8")).text)
    assert "bspm/demo" in text
    assert "3,000 users" in text
    assert "factor" in text
    assert "share of the catalogue" in text


def study_of(n: int = 24, *, failed: int = 2) -> Study[EASE]:
    rng = np.random.default_rng(0)
    ridge = rng.choice([10.0, 100.0, 1000.0], n)
    rate = np.exp(rng.uniform(-9, -2, n))
    metric = 0.1 + 0.05 * (ridge == 100.0) + 0.001 * rng.random(n)
    trials = tuple(
        Trial(
            number,
            {"ridge": float(ridge[number]), "rate": float(rate[number])},
            None if number < failed else float(metric[number]),
            problem="no memory" * (number < failed),
        )
        for number in range(n)
    )
    space = (
        Dimension("ridge", Choice((10.0, 100.0, 1000.0)), ("ridge",)),
        Dimension("rate", Range(-9, -2, logarithmic=True), ("rate",)),
    )
    return Study("recall@20", EASE(), space, trials, 500, "a part of train")


def test_plots_of_a_search() -> None:
    sections = study_sections(study_of())
    page = as_html(run_page(REPORT, study=study_of()))
    text = " ".join(read(page).text)
    assert [section.title for section in sections] == ["Search", "Slices"]
    assert "22 trials" in text
    assert "2 more failed" in text
    assert "ridge" in text
    assert "rate" in text


def test_the_best_trials_stand_first_and_failed_ones_not_at_all() -> None:
    table = best_trials(study_of())
    assert table.columns == ("trial", "ridge", "rate", "recall@20", "seconds")
    reached = [float(str(row[3])) for row in table.rows]
    assert len(reached) == 10
    assert reached == sorted(reached, reverse=True)
    assert not {"0", "1"} & {row[0] for row in table.rows}


def test_importance_is_the_adjusted_correlation_ratio() -> None:
    values = ["a", "a", "b", "b"]
    metric = np.array([0.0, 1.0, 2.0, 3.0])
    residuals = metric - np.array(
        [0.5, 0.5, 2.5, 2.5]
    )  # residuals of a regression on the two values; importance is its adjusted R²
    assert importance(values, metric) == pytest.approx(
        1 - (residuals @ residuals / 2) / np.var(metric, ddof=1)
    )
    assert importance(["a", "b", "c", "d"], metric) == 0.0  # groups of one explain everything, and so nothing
    assert importance(values, np.ones(4)) == 0.0
    trials = study_of(failed=0).trials
    scores = np.array([trial.value for trial in trials], dtype=np.float64)
    assert importance([trial.point["ridge"] for trial in trials], scores) > 0.9
    assert importance([trial.point["rate"] for trial in trials], scores) < 0.6


def test_unrelated_values_have_no_importance_even_in_few_trials() -> None:
    random = np.random.default_rng(1)
    importances = [importance(random.random(12).tolist(), random.random(12)) for _ in range(400)]
    assert np.mean(importances) < 0.15  # without the adjustment, four groups of three explain 3/11 by chance
    assert np.median(importances) < 0.05


def test_concentration_adds_up() -> None:
    counts = np.array([1, 5, 2, 2])
    curve = concentration(counts, counts, points=100)
    assert curve[0] == (0.0, 0.0)
    assert curve[-1] == (1.0, 1.0)
    assert (0.25, 0.5) in curve


def test_the_filter_is_that_of_the_model() -> None:
    """On one decomposed matrix the scores of a fitted BSPM are the response applied to its spectrum."""
    spec = BSPM(low_pass=None, sharpen=Flow())
    lines = filter_response(spec)
    assert set(lines) == {"outside the low-pass"}
    factor = dict(lines["outside the low-pass"])
    # Euler, one step each: blur x → xP, sharpen y → y − yP, so λ(1 − λ).
    assert factor[0.5] == pytest.approx(0.25)
    assert factor[1.0] == pytest.approx(0.0)
    assert filter_response(EASE()) == {}
