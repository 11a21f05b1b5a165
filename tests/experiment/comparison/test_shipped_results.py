"""The pages of docs/results and the table of the README follow from their figures and the recipes."""

import json
from pathlib import Path

import pytest

from benchmarks import results
from unblur.data.catalogue import DATASETS
from unblur.errors import DataError
from unblur.experiment.comparison.lineup import line_up
from unblur.experiment.recipe.library import shipped
from unblur.experiment.recipe.schema import parse_settings


@pytest.mark.parametrize("place", [place for place, _ in results.texts()], ids=lambda place: place.name)
def test_generated_pages_are_up_to_date(place: Path) -> None:
    """`python -m benchmarks.results --pages` writes them anew."""
    assert place.read_text() == dict(results.texts())[place]


def test_every_page_has_its_figures() -> None:
    pages, _ = results.description()
    described = {f"{part.name}.json" for page in pages for part in page.parts}
    assert {file.name for file in results.RESULTS.glob("*.json")} <= described | {"benchmarks.json"}
    expected = {
        file.stem for file in results.RESULTS.glob("*.md") if "Made by `make results`" in file.read_text()
    }
    assert expected <= {page.file for page in pages}


def test_figures_belong_to_the_described_comparisons() -> None:
    pages, _ = results.description()
    for part in (part for page in pages for part in page.parts):
        figures = results.figures_of(part)
        if figures is None:
            continue
        assert set(results.computed_names(figures)) <= set(part.models)
        budget = {"trials": part.trials, "seconds": float(part.seconds)}
        assert all(dict(result.budget) == budget for result in figures.results)
        assert part.protocol in ("", figures.protocol)


def test_every_description_is_a_valid_comparison() -> None:
    pages, tables = results.description()
    for part in (part for page in pages for part in page.parts):
        assert len(line_up(part.models, recipe=part.recipe).entries) == len(part.models)
        words = part.words("out")
        spaces = [words[place + 1] for place, word in enumerate(words) if word == "--space"]
        assert parse_settings(spaces) == part.spaces
        assert set(part.published) <= set(shipped())
    assert all(set(table["recipes"]) <= set(shipped()) for table in tables.values())


YARDSTICK = """
[[yardstick]]
data = "gowalla"
train = "{train}"
measures = ["recall@20", "ndcg@20"]
rows = [
  {{ model = "low", values = [0.0, 0.0], source = "us" }},
  {{ model = "high", values = [0.0, 1.0], source = "them" }},
]
"""


def test_published_figures_name_the_recipes_that_are_above_both() -> None:
    train = DATASETS["gowalla"].readings[0].parts["train"].fingerprint
    (yardstick,) = results.yardsticks(YARDSTICK.format(train=train))
    high, low = results.yardstick_table(yardstick).splitlines()[-2:]
    assert high == "| high | .0000 / 1.0000 | them | none |"
    assert low.startswith("| low | .0000 / .0000 | us | `chebycf/gowalla`")
    assert "`item-knn/gowalla`" in low
    assert "yelp2018" not in low


def test_runs_of_another_protocol_or_split_do_not_stand_next_to_published_figures() -> None:
    text = "\n".join(map(results.yardstick_table, results.yardsticks()))
    assert "`diffrec/ml-1m`" in text
    assert "`t-diffrec/ml-1m`" not in text  # it runs by the strict protocol


def test_published_figures_of_another_split_are_refused() -> None:
    train = DATASETS["yelp2018"].readings[0].parts["train"].fingerprint
    with pytest.raises(DataError, match=r"must be of the split that is measured.*Give the fingerprint"):
        results.yardsticks(YARDSTICK.format(train=train))


def test_a_part_is_computed_by_the_command_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    part = results.Part("small", "Small", "", "ease/demo", ("popularity", "ease"), trials=2)
    assert results.compute(part, tmp_path / "runs")
    figures = results.figures_of(part)
    assert figures is not None
    assert figures["ease"].search["trials"] == 2
    page = results.Page("small", "Small", "About.", (part,))
    assert figures.verdict() in results.page_text(page)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("models/*")}
    assert results.compute(part, tmp_path / "runs")
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_blocks_are_replaced_between_their_marks() -> None:
    text = "a\n<!-- results: x -->\nold\n<!-- end of results -->\nb\n<!-- results: y -->\n<!-- end of results -->\n"
    page = results.with_blocks(text, {"x": "new", "y": "1\\2"})
    assert page == (
        "a\n<!-- results: x -->\nnew\n<!-- end of results -->\nb\n<!-- results: y -->\n1\\2\n<!-- end of results -->\n"
    )
    with pytest.raises(ValueError, match="once"):
        results.with_blocks(text, {"z": "new"})


def test_figures_keep_six_digits(tmp_path: Path) -> None:
    report = {"models": [{"name": "m", "curve": [[1.0, 2.0]], "value": 0.123456789}], "popularity": [[0, 1]]}
    results.keep(report, tmp_path / "m.json")
    stored = json.loads((tmp_path / "m.json").read_text())
    assert stored["models"][0]["value"] == 0.123457
    assert stored["models"][0]["curve"] == stored["popularity"] == []
