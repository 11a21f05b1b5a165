"""Names of earlier versions: each is read everywhere as its current name, with one note."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import unblur
from tests.cli.conftest import COLUMNS, Unblur
from tests.guards.keep import BEFORE
from unblur import spec
from unblur.data.interactions import Interactions
from unblur.errors import OutdatedWarning, RecipeError, SpecError
from unblur.experiment.recipe.schema import Recipe
from unblur.registry import SYNTHESIZERS, recommender_spec, synthesizer_spec
from unblur.spec import replace_field, spec_from_dict, spec_to_dict
from unblur.synthesis.synthesizer import load_synthesizer

CHANGELOG = Path(__file__).resolve().parents[2] / "CHANGELOG.md"
RENAMED: list[tuple[str, str, str, Any]] = [
    ("diffrec", "model.objective.predicts", "model.objective.prediction", "eps"),
    ("diffrec", "model.objective.step_choice", "model.objective.timestep_sampler", "uniform"),
    ("diffrec", "model.objective.uniform_share", "model.objective.uniform_probability", 0.5),
    ("diffrec", "model.schedule.lowest", "model.schedule.noise_min", 0.0001),
    ("l-diffrec", "model.schedule.highest", "model.schedule.noise_max", 0.01),
    ("mult-vae", "model.stopping.carve", "model.stopping.hold_out", "last"),
    ("l-diffrec", "model.clusters.width", "model.clusters.embedding_size", 8),
    ("l-diffrec", "model.clusters.lightgcn.deviation", "model.clusters.lightgcn.init_std", 0.2),
    ("lightgcn", "model.width", "model.embedding_size", 8),
    ("lightgcn", "model.deviation", "model.init_std", 0.2),
    ("row-mlp", "model.embedding", "model.embedding_size", 4),
    ("sdrm", "model.diffusion.lowest", "model.diffusion.beta_min", 0.001),
    ("sdrm", "model.diffusion.highest", "model.diffusion.beta_max", 0.2),
    ("flipped-users", "model.exchanged", "model.fraction", 0.5),
    ("sdrm", "utility.compared", "utility.metrics", ["recall@5"]),
    ("sdrm", "utility.reported", "utility.report_users", 0.2),
    ("sdrm", "utility.searching", "utility.search_users", 0.2),
    ("sdrm", "utility.stopping", "utility.stopping_users", 0.2),
]
"""The kind of the model, the old and the new path in a recipe, and a value that is not the default."""
PRIVATE = {"epsilon": 8.0, "delta": 1e-3, "counts_share": 0.2}
OLD = [pytest.param(*entry, id=entry[1]) for entry in RENAMED]


def written(kind: str, path: str, value: Any) -> str:
    """The TOML of a recipe with one setting."""
    lines = dict.fromkeys(("model", path.partition(".")[0]), "")
    lines["model"] = f'kind = "{kind}"\n'
    section, _, name = path.partition(".")
    lines[section] += f"{name} = {json.dumps(value)}\n"
    return "".join(f"[{section}]\n{text}" for section, text in lines.items())


@pytest.mark.parametrize(("kind", "old", "new", "value"), OLD)
def test_a_recipe_with_an_old_name_is_that_with_the_new_one(
    kind: str, old: str, new: str, value: Any
) -> None:
    today = Recipe.from_toml(written(kind, new, value), name="a/b")
    names = re.escape(f"{old.partition('.')[2]} is called {new.partition('.')[2]} now")
    with pytest.warns(OutdatedWarning, match=names) as notes:
        assert Recipe.from_toml(written(kind, old, value), name="a/b") == today
    assert len(notes) == 1
    assert f"{new.rpartition('.')[2]} = " in today.to_toml()
    default = Recipe.from_dict({"name": "a/b", "model": {"kind": kind}})
    assert default != today
    with pytest.warns(OutdatedWarning, match=names) as notes:
        assert default.changed({old: value}) == default.changed({new: value})
    assert len(notes) == 1
    with pytest.raises(RecipeError, match="both are there"):
        Recipe.from_toml(written(kind, old, value) + f"{new.partition('.')[2]} = {json.dumps(value)}\n")


@pytest.mark.parametrize(("kind", "old", "new", "value"), OLD)
def test_a_spec_is_built_by_old_paths_and_by_old_tables(kind: str, old: str, new: str, value: Any) -> None:
    task = Recipe.from_dict({"name": "a/b", "model": {"kind": kind}}).task
    (section, _, before), (_, _, today) = old.partition("."), new.partition(".")
    part = getattr(task, section)
    expected = replace_field(part, today, value)
    with pytest.warns(OutdatedWarning, match="is called"):
        assert replace_field(part, before, value) == expected
    with pytest.warns(OutdatedWarning, match="is called"):
        assert spec_from_dict(type(part), spec.first_names(type(part), spec_to_dict(expected))) == expected


def test_the_list_is_complete_and_in_the_changelog() -> None:
    text = CHANGELOG.read_text(encoding="utf-8")
    table = text[text.index("### Renamed") :].split("\n### ")[0]
    rows = [tuple(re.findall(r"`([^`]+)`", line)) for line in table.splitlines() if line.startswith("| `")]
    pairs = {(old.rpartition(".")[2], new.rpartition(".")[2]) for old, new in rows}
    tested = {(old.rpartition(".")[2], new.rpartition(".")[2]) for _, old, new, _ in RENAMED}
    tested |= {("counts_share", "counts_fraction"), *SYNTHESIZERS.renamed.items()}
    tested |= {("--keep-out", "--holdout"), ("--keep-synthesizer", "--save-synthesizer")}
    renames = {  # without the specs of other tests
        pair
        for cls, known in spec._MIGRATIONS.items()
        if cls.__module__.startswith("unblur.")
        for pair in known.renamed.items()
    }
    assert renames <= tested <= pairs


def test_a_budget_and_a_kind_of_an_earlier_version() -> None:
    tables = {"model": {"kind": "vae-sampler", "vae": {"stopping": "off", "prior": "standard"}}}
    tables["model"]["privacy"] = PRIVATE
    with pytest.warns(OutdatedWarning, match=r"privacy\.counts_share is called privacy\.counts_fraction now"):
        recipe = Recipe.from_dict(tables, name="a/b")
    assert recipe.model.private
    with pytest.warns(OutdatedWarning, match="the synthesizer multi-vae is called vae-sampler now"):
        old = Recipe.from_dict({"model": {"kind": "multi-vae"}}, name="a/b")
    assert old == Recipe.from_dict({"model": {"kind": "vae-sampler"}}, name="a/b")
    with pytest.warns(OutdatedWarning, match="multi-vae"):
        assert synthesizer_spec("multi-vae") is synthesizer_spec("vae-sampler")


@pytest.mark.parametrize(("before", "today"), [(True, "target"), (False, "no")])
def test_a_switch_of_an_earlier_version_is_a_word_of_today(before: bool, today: str) -> None:
    note = f"rp3beta: normalize = {str(before).lower()} is '{today}' now"
    expected = Recipe.from_dict({"model": {"kind": "rp3beta", "normalize": today}}, name="a/b")
    with pytest.warns(OutdatedWarning, match=note) as notes:
        assert Recipe.from_dict({"model": {"kind": "rp3beta", "normalize": before}}, name="a/b") == expected
    assert len(notes) == 1
    with pytest.warns(OutdatedWarning, match=note):
        assert replace_field(expected.model, "normalize", before) == expected.model
    first = spec.first_names(type(expected.model), spec_to_dict(expected.model))
    assert first["normalize"] is before
    with pytest.raises(SpecError, match="'no', 'source' or 'target'; saw 1"):
        spec_from_dict(recommender_spec("rp3beta"), {"normalize": 1})


def test_a_constructor_names_the_new_name() -> None:
    with pytest.raises(
        SpecError, match=r"width is not a hyper-parameter of LightGCN\. It is called 'embedding_size' now"
    ):
        recommender_spec("lightgcn")(width=3)


@pytest.mark.parametrize(
    ("folder", "note"),
    [
        ("models/lightgcn", "lightgcn: width is called embedding_size now; deviation is called init_std now"),
        ("models/row-mlp", "row-mlp: embedding is called embedding_size now"),
        ("models/diffrec-with-tolerance", "sampling.tolerance is gone, and its value 0.01 is left out"),
        ("synthesizers/multi-vae", "the synthesizer multi-vae is called vae-sampler now"),
        ("synthesizers/flipped-users", "flipped-users: exchanged is called fraction now"),
    ],
)
def test_a_saved_model_loads_with_one_note(folder: str, note: str, tmp_path: Path) -> None:
    load = unblur.load if folder.startswith("models") else load_synthesizer
    with pytest.warns(OutdatedWarning, match=re.escape(note)) as notes:
        loaded = load(BEFORE / folder)
    assert len(notes) == 1
    loaded.save(tmp_path / "again")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path / "again").spec == loaded.spec


def test_commands_print_one_note_and_take_old_paths(unblur: Unblur, events: Path, tmp_path: Path) -> None:
    short = ["--set", "model.epochs=1", "--set", "model.stopping=off"]
    for name, path in {"old": "width", "new": "embedding_size"}.items():
        result = unblur(
            "fit",
            events,
            *COLUMNS,
            "--model",
            "lightgcn",
            "--out",
            tmp_path / name,
            "--set",
            f"model.{path}=4",
            *short,
        )
        assert result.code == 0, result.err
        assert result.err.count("note: lightgcn: width is called embedding_size now") == (name == "old")
    old, new = (tmp_path / name / "tensors.safetensors" for name in ("old", "new"))
    assert old.read_bytes() == new.read_bytes()


def test_a_recipe_that_had_a_tolerance_runs_with_a_note(unblur: Unblur, events: Path, tmp_path: Path) -> None:
    for tolerance in (0.01, 0.0):
        file = tmp_path / "a.toml"
        file.write_text(
            f'[model]\nkind = "diffrec"\nepochs = 1\nstopping = "off"\nsampling = {{ tolerance = {tolerance} }}\n'
        )
        result = unblur("fit", events, *COLUMNS, "--model", file, "--out", tmp_path / str(tolerance))
        assert result.code == 0, result.err
        assert result.err.count("note: diffrec: sampling.tolerance is gone, and its value 0.01") == (
            tolerance > 0
        )


def test_a_comparison_over_a_renamed_field_is_resumed(
    unblur: Unblur, log: Interactions, events: Path, tmp_path: Path
) -> None:
    out = tmp_path / "compared"
    words = ["compare", "lightgcn", "popularity", "--data", events, *COLUMNS, "--trials", "2", "--out", out]
    words += ["--set", "split.kind=random", "--set", "protocol.cutoffs=[5]", "--metric", "recall@5"]
    few = [
        "--space",
        "lightgcn.layers=[1]",
        "--space",
        "lightgcn.epochs=[1]",
        "--space",
        "lightgcn.ridge=[0.1]",
    ]
    few += ["--space", "lightgcn.optimizer.learning_rate=[0.01]"]
    result = unblur(*words, *few, "--space", "lightgcn.width=[4,5]")
    assert result.code == 0, result.err
    assert result.err.count("note: lightgcn: width is called embedding_size now") == 1
    for file in (out / "comparison.json", *out.glob("models/lightgcn*.json")):
        # As an earlier version wrote them, without a checksum.
        text = file.read_text().replace("embedding_size", "width").replace("init_std", "deviation")
        file.write_text(
            json.dumps({name: value for name, value in json.loads(text).items() if name != "sha256"})
        )
    before = {file: file.read_bytes() for file in out.glob("models/*")}
    repeated = unblur(*words, *few, "--space", "lightgcn.embedding_size=[4,5]")
    assert repeated.code == 0, repeated.err
    assert {file: file.read_bytes() for file in out.glob("models/*")} == before
    assert "note: lightgcn: width is called embedding_size now" in repeated.err


@pytest.mark.parametrize("option", ["--keep-out=0.4", "--keep-synthesizer"])
def test_old_options_work_with_a_note(option: str, unblur: Unblur, events: Path, tmp_path: Path) -> None:
    result = unblur(
        "synthesize", events, *COLUMNS, "--recipe", "independent-items", "--out", tmp_path / "made", option
    )
    assert result.code == 0, result.err
    name = option.partition("=")[0]
    today = {"--keep-out": "--holdout", "--keep-synthesizer": "--save-synthesizer"}[name]
    assert result.err.count(f"note: {name} is called {today} now") == 1
    assert (tmp_path / "made" / ("real" if today == "--holdout" else "synthesizer")).is_dir()
    assert name not in unblur("synthesize", "--help").out
