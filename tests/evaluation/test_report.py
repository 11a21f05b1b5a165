"""The report: its form, its round trip, and bad values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from unblur.errors import ArtifactError, DataError
from unblur.evaluation.report import Expected, Measurement, Provenance, Report, Timings, with_expected

PUBLISHED = Expected(value=0.1920, within=0.0003, source="paper, table 3")


def sample() -> Report:
    return Report(
        recipe="family/data",
        protocol="paper",
        measurements=(
            Measurement(
                name="recall@20", value=0.1921, low=0.1899, high=0.1943, n_users=29858, expected=PUBLISHED
            ),
            Measurement(name="gini@20", value=0.75, n_users=29858),
            Measurement(name="mean_popularity@20", value=1234.5, low=1200.0, high=1300.25, n_users=29858),
        ),
        timings=Timings(read_seconds=1, fit_seconds=2.5, peak_rss_mb=812.3),
        provenance=Provenance(
            spec={"kind": "x", "sharpen": {"steps": np.int64(3)}, "none": None},
            data={"train": "sha256:00"},
            seeds=(2020,),
            versions={"python": "3.11"},
            machine={"cores": 2},
        ),
        notes=("31 users had nothing held out and were left out",),
    )


def test_the_form_is_that_of_schema_1() -> None:
    assert sample().to_dict() == {
        "schema": 1,
        "recipe": "family/data",
        "protocol": "paper",
        "measurements": [
            {
                "name": "recall@20",
                "value": 0.1921,
                "low": 0.1899,
                "high": 0.1943,
                "n_users": 29858,
                "expected": {"value": 0.192, "within": 0.0003, "source": "paper, table 3"},
            },
            {"name": "gini@20", "value": 0.75, "low": None, "high": None, "n_users": 29858, "expected": None},
            {
                "name": "mean_popularity@20",
                "value": 1234.5,
                "low": 1200.0,
                "high": 1300.25,
                "n_users": 29858,
                "expected": None,
            },
        ],
        "timings": {
            "read_seconds": 1.0,
            "fit_seconds": 2.5,
            "score_seconds": 0.0,
            "evaluate_seconds": 0.0,
            "peak_rss_mb": 812.3,
        },
        "provenance": {
            "spec": {"kind": "x", "sharpen": {"steps": 3}, "none": None},
            "data": {"train": "sha256:00"},
            "seeds": [2020],
            "versions": {"python": "3.11"},
            "machine": {"cores": 2},
        },
        "notes": ["31 users had nothing held out and were left out"],
    }


def test_a_report_is_read_back_from_json_unchanged() -> None:
    report = sample()
    assert Report.from_dict(json.loads(report.to_json())) == report


def test_to_dict_returns_a_copy() -> None:
    report = sample()
    report.to_dict()["provenance"]["spec"]["sharpen"]["steps"] = 9
    assert report == sample()


def test_a_measurement_is_found_by_its_name() -> None:
    assert sample()["gini@20"].value == 0.75
    with pytest.raises(DataError, match=r"saw 'recall@2'\. Did you mean 'recall@20'"):
        sample()["recall@2"]


@pytest.mark.parametrize(
    ("value", "reproduced"), [(0.1923, True), (0.1917, True), (0.19231, False), (0.19169, False)]
)
def test_missed_is_what_lies_outside_its_tolerance(value: float, reproduced: bool) -> None:
    measurement = Measurement(name="recall@20", value=value, n_users=3, expected=PUBLISHED)
    assert measurement.reproduced is reproduced
    unexpected = Measurement(name="ndcg@20", value=value, n_users=3)
    assert unexpected.reproduced is None
    report = Report(recipe="r", protocol="paper", measurements=(unexpected, measurement))
    assert report.missed() == (() if reproduced else (measurement,))


def test_expected_numbers_are_joined_with_their_measurements() -> None:
    measured = [Measurement(name=name, value=0.19, n_users=3) for name in ("recall@20", "ndcg@20")]
    compared = with_expected(measured, {"recall@20": PUBLISHED})
    assert [measurement.expected for measurement in compared] == [PUBLISHED, None]
    with pytest.raises(DataError, match=r"saw 'recal@20'\. Did you mean 'recall@20'"):
        with_expected(measured, {"recal@20": PUBLISHED})


def test_markdown_shows_published_next_to_measured() -> None:
    text = sample().to_markdown()
    assert text.startswith("# family/data\n\nProtocol: paper.\n\n| measurement | measured |")
    assert (
        "| recall@20 | 0.1921 | 0.1899 … 0.1943 | 29,858 | 0.1920 | +0.0001 | 0.0003 | yes | paper, table 3 |"
        in text
    )
    assert "| mean_popularity@20 | 1,234.5 | 1,200.0 … 1,300.2 | 29,858 |  |  |  |  |  |" in text
    assert "- 31 users had nothing held out and were left out" in text
    assert "- fit: 2.5 seconds" in text
    assert "- peak rss: 812.3 MB" in text
    assert 'spec: `{"kind": "x"' in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {10}


def test_markdown_without_published_numbers_has_no_columns_for_them() -> None:
    plain = Report(
        recipe="r", protocol="strict", measurements=(Measurement(name="gini@5", value=0.5, n_users=2),)
    )
    assert "| gini@5 | 0.5000 | – | 2 |" in plain.to_markdown()
    assert "published" not in plain.to_markdown()
    assert "##" not in plain.to_markdown()


def test_a_miss_stands_out() -> None:
    missed = Measurement(name="recall@20", value=0.3, n_users=2, expected=PUBLISHED)
    assert "**no**" in Report(recipe="r", protocol="paper", measurements=(missed,)).to_markdown()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "0.1", True])
def test_only_finite_numbers_are_measurements(value: Any) -> None:
    with pytest.raises(DataError, match="`value` of Measurement must be a finite number"):
        Measurement(name="recall@20", value=value, n_users=1)
    with pytest.raises(DataError, match="`fit_seconds` of Timings must be a finite number"):
        Timings(fit_seconds=value)


def test_numpy_numbers_become_plain_ones() -> None:
    measurement = Measurement(name="x@1", value=np.float32(0.5), n_users=np.int64(3))  # type: ignore[arg-type]
    assert type(measurement.value) is float
    assert type(measurement.n_users) is int


def test_inconsistent_measurements_and_reports_are_refused() -> None:
    with pytest.raises(DataError, match="two ends"):
        Measurement(name="x@1", value=1, low=0.5, n_users=1)
    with pytest.raises(DataError, match="end before it starts"):
        Measurement(name="x@1", value=1, low=0.5, high=0.4, n_users=1)
    with pytest.raises(DataError, match="number of users must not be negative"):
        Measurement(name="x@1", value=1, n_users=-1)
    with pytest.raises(DataError, match="tolerance must not be negative"):
        Expected(value=1, within=-0.1, source="x")
    with pytest.raises(DataError, match=r"`provenance\.spec\.rate` must have plain JSON values"):
        Provenance(spec={"rate": float("nan")})
    with pytest.raises(DataError, match=r"its own name; 'x@1' occur"):
        Report(recipe="r", protocol="paper", measurements=(Measurement(name="x@1", value=1, n_users=1),) * 2)


def broken(path: str, value: Any) -> dict[str, Any]:
    """The sample's values with one entry replaced, or dropped if the value is Ellipsis."""
    values = sample().to_dict()
    table: Any = values
    *parents, last = path.split(".")
    for step in parents:
        table = table[int(step) if step.isdigit() else step]
    if value is ...:
        del table[last]
    else:
        table[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, r"must be of schema 1; saw 2"),
        ("schema", ..., r"must be of schema 1; saw None"),
        ("recipe", ..., r"`Report` must have exactly the keys.*missing: 'recipe'"),
        ("score", 1, r"`Report` must have exactly the keys.*unknown: 'score'"),
        ("measurements", ..., r"`measurements` of a report must be a list; saw None"),
        ("notes", "x", r"`notes` of a report must be a list; saw 'x'"),
        ("measurements.0.valu", 1, r"`Measurement` must have.*Did you mean 'value'"),
        ("measurements.0.expected.within", ..., r"`Expected` must have exactly the keys.*missing: .within."),
        ("timings.total", 1, r"`Timings` must have exactly the keys"),
        ("provenance", 3, r"`Provenance` must be a table; saw 3"),
    ],
)
def test_a_damaged_report_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Report.from_dict(broken(path, value))
