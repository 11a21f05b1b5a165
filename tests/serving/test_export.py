"""The page as static files finds the model's lists, as far as it keeps weights."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic_core import to_json

from unblur.cli.main import main
from unblur.data.catalogue import demo_interactions
from unblur.data.interactions import Interactions
from unblur.data.output import OutputFolder
from unblur.models.popularity import Popularity
from unblur.models.spectral.bspm import BSPM
from unblur.recommender import Recommender
from unblur.serving.answers import Served
from unblur.serving.export import WEB, export, item_weights, overlap
from unblur.serving.limits import ServiceLimits


def test_all_weights_of_a_linear_model_give_its_lists(
    saved: Path, knn: Recommender, log: Interactions
) -> None:
    served = Served.load(saved, ServiceLimits())
    weights = item_weights(served, len(knn.items))
    rows = log.take_users(slice(50))  # the last user has no history, and is given popular items
    np.testing.assert_allclose(rows.matrix @ weights.toarray(), knn.score(rows), rtol=1e-4, atol=1e-6)
    histories = [log.take_users([row]).matrix.indices.tolist() for row in range(40)]
    assert overlap(served, weights, [each for each in histories if each]) == 1.0
    assert (np.diff(item_weights(served, 4).indptr) <= 4).all()


def test_the_demonstration_keeps_95_percent_of_the_lists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BSPM().fit(demo_interactions(600, 1000), rng=0).save(tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), "--web", str(tmp_path / "web")]) == 0
    printed = capsys.readouterr().out
    assert float(printed.partition("%")[0].rpartition("\n")[2]) >= 95
    assert (
        main(["export", str(tmp_path / "model"), "--web", str(tmp_path / "web")]) == 2
    )  # it is there already


def test_two_thirds_of_the_weights_keep_95_percent_of_the_lists(tmp_path: Path) -> None:
    log = demo_interactions(600, 300)
    BSPM().fit(log, rng=0).save(tmp_path / "model")
    served = Served.load(tmp_path / "model", ServiceLimits())
    real = [log.take_users([row]).matrix.indices.tolist() for row in range(0, 600, 6)]  # of users, not drawn
    assert overlap(served, item_weights(served, 200), real) >= 0.95


def test_the_files_have_no_asset_of_another_host(saved: Path, tmp_path: Path) -> None:
    export(Served.load(saved, ServiceLimits()), OutputFolder(tmp_path / "web", WEB), keep=5)
    assert {file.name for file in (tmp_path / "web").iterdir()} == {
        *("index.html", "page.css", "page.js", "model.js", "manifest.json")
    }
    page = (tmp_path / "web" / "index.html").read_text()
    assert "default-src 'none'" in page
    for name in ("index.html", "page.css", "page.js"):
        assert "//" not in (tmp_path / "web" / name).read_text().replace("// ", "")
    data = (tmp_path / "web" / "model.js").read_text()
    model = json.loads(data.removeprefix("window.unblurModel = ").rstrip(";\n"))
    assert len(model["labels"]) == len(model["counts"]) == model["model"]["items"]


def test_a_model_without_histories_is_refused(log: Interactions, tmp_path: Path) -> None:
    Popularity().fit(log).save(tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), "--web", str(tmp_path / "web")]) == 2


def test_a_folder_may_have_any_name(saved: Path, tmp_path: Path) -> None:
    """A name that is not UTF-8 is in the page's data and in the answers of a service, which are."""
    model = shutil.copytree(saved, tmp_path / os.fsdecode(b"caf\xe9\x1b[2J"))
    served = Served.load(model, ServiceLimits())
    assert served.information()["name"] == r"caf\udce9\x1b[2J"
    assert to_json(served.information())
    export(served, OutputFolder(tmp_path / "web", WEB))
    assert "window.unblurModel" in (tmp_path / "web" / "model.js").read_text(encoding="utf-8")
