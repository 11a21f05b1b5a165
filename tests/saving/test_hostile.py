"""Saved things whose hashes are right and whose contents would do harm: they are refused when they are loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from scipy import sparse

import unblur
from tests.data.test_side import nested
from tests.fuzz.saved import use
from tests.guards.keep import BEFORE
from tests.guards.schemas import kept
from unblur.cli.main import main
from unblur.data.interactions import Interactions
from unblur.data.output import MANIFEST, OutputFolder, sealed, sha256_of, unsealed
from unblur.data.vocabulary import Vocabulary
from unblur.errors import ArtifactError, CapabilityError, DataError, SpecError, UnblurError
from unblur.experiment.saved import kept_reading
from unblur.models.popularity import Popularity
from unblur.saving import container, models as artifact
from unblur.saving.models import MODEL, SYNTHESIZER
from unblur.serving.answers import Served
from unblur.serving.export import WEB, export
from unblur.serving.limits import ServiceLimits
from unblur.synthesis.synthesizer import load_synthesizer

pytestmark = pytest.mark.filterwarnings("ignore::unblur.errors.OutdatedWarning")
FORMATS = {"models": MODEL, "synthesizers": SYNTHESIZER}
LOADS: dict[str, Callable[[Path], object]] = {"models": unblur.load, "synthesizers": load_synthesizer}
OWN = {"format", "format_version", "created", "versions", "tensors", "files", "sha256"}


def rewritten(
    name: str,
    folder: Path,
    *,
    tensors: dict[str, Any] | None = None,
    table: pl.DataFrame | None = None,
    **contents: Any,
) -> Path:
    """A copy of a saved thing, ``models/ease``, with other parts and the right hashes."""
    form = FORMATS[name.split("/")[0]]
    saved = container.read_container(BEFORE / name, form)
    kept_contents = {key: value for key, value in saved.manifest.items() if key not in OWN}
    container.write_container(
        folder,
        form,
        {**kept_contents, **contents},
        {**saved.tensors, **(tensors or {})},
        {"items": saved.tables["items"] if table is None else table},
    )
    return folder


@pytest.mark.parametrize(
    ("name", "array", "change"),
    [
        # A sparse matrix where all numbers are expected, and the reverse.
        ("models/als", "factors", sparse.csr_array),
        ("models/truncated-svd", "vectors", sparse.csr_array),
        ("models/bspm", "right", sparse.csr_array),
        ("models/bspm", "normalized", lambda matrix: matrix.toarray()),
        ("models/user-knn", "rows", lambda matrix: matrix.toarray()),
        # Numbers of another type, in weights that nothing declares.
        ("models/row-mlp", "embedding", lambda array: array.astype(np.float64)),
        ("models/mult-vae", "", lambda array: array.astype(np.float64)),
        ("synthesizers/sdrm", "vae.bias_in", lambda array: array.astype(np.int32)),
        ("models/user-knn", "rows", lambda matrix: matrix.astype(np.int8)),
        ("models/bspm", "normalized", lambda matrix: matrix.astype(np.float64)),
        ("models/item-knn", "weights", lambda matrix: matrix.astype(bool)),
        # Positions outside.
        ("models/bspm", "item_order", lambda order: order + 1),
        ("models/bspm", "item_order", np.zeros_like),
        ("models/l-diffrec", "clusters", lambda clusters: clusters + 10**12),
        ("models/l-diffrec", "clusters", lambda clusters: clusters - 1),
        ("models/neumf-that-remembers", "keys", lambda keys: keys[::-1].copy()),
        ("models/neumf-that-remembers", "vectors", lambda vectors: vectors[:, 1:].copy()),
        # Counts that nothing can be drawn from.
        ("synthesizers/independent-items", "item_counts", np.zeros_like),
        ("synthesizers/cooccurrence-walk", "item_counts", lambda counts: -counts),
        ("synthesizers/cooccurrence-walk", "users_with", np.zeros_like),
        ("synthesizers/flipped-users", "rows", lambda rows: rows[:0]),
        ("synthesizers/flipped-users", "n_real_users", np.zeros_like),
        ("synthesizers/flipped-users", "n_real_users", lambda number: np.array(number[0])),
        ("models/diffrec", "seed", lambda seed: -1 - seed),
        ("synthesizers/flipped-users", "n_real_users", lambda number: number.astype(bool)),
        ("synthesizers/flipped-users", "n_real_users", lambda number: number + 2**40),
        ("synthesizers/sdrm", "taken", np.zeros_like),
        # What no normalised matrix has.
        ("models/bspm", "normalized", lambda matrix: matrix * np.float32(1e20)),
        ("models/bspm", "right", lambda vectors: vectors * np.float32(1e20)),
        ("models/bspm", "singular_values", lambda values: values[::-1].copy()),
        # An account of privacy that no training has.
        ("synthesizers/sdrm-private", "privacy", np.zeros_like),
        ("synthesizers/sdrm-private", "privacy", lambda account: account * [1, 1, 0.01]),
        ("synthesizers/sdrm-private", "privacy", lambda account: account * 1e300),
        # Numbers that are none.
        ("models/ease", "weights", lambda weights: np.where(weights == weights.max(), np.nan, weights)),
        ("models/item-knn", "weights", lambda weights: weights * np.float32(np.inf)),
    ],
)
def test_arrays_that_would_fail_at_the_first_score_are_refused(
    tmp_path: Path, name: str, array: str, change: Callable[[Any], Any]
) -> None:
    tensors = container.read_container(BEFORE / name, FORMATS[name.split("/")[0]]).tensors
    array = array or next(iter(tensors))
    folder = rewritten(name, tmp_path / "hostile", tensors={array: change(tensors[array])})
    with pytest.raises(ArtifactError, match="the parts do not fit together"):
        LOADS[name.split("/")[0]](folder)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("models/bspm", "blur.steps", 10**9),
        ("models/bspm", "blur.duration", 1e300),
        ("models/diffrec", "schedule.steps", 10**12),
        ("models/diffrec", "denoiser.dims", [10**12]),
        ("models/l-diffrec", "autoencoder.encoder_dims", [10**12]),
        ("models/neumf", "fold_in_steps", 10**12),
        ("models/neumf", "layers", 60),
        ("synthesizers/sdrm", "vae.latent", 10**12),
        ("synthesizers/sdrm", "diffusion.hidden_layers", 10**12),
    ],
)
def test_settings_that_would_allocate_or_loop_without_end_are_refused(
    tmp_path: Path, name: str, path: str, value: Any
) -> None:
    form = FORMATS[name.split("/")[0]]
    spec = container.read_manifest(BEFORE / name, form)["spec"]
    *above, last = path.split(".")
    table = spec
    for part in above:
        table = table[part]
    table[last] = value
    folder = rewritten(name, tmp_path / "hostile", spec=spec)
    with pytest.raises(ArtifactError, match=r"must be known to this version .* less than or equal to"):
        LOADS[name.split("/")[0]](folder)


def test_the_largest_network_that_a_spec_allows_takes_no_memory_until_its_weights_are_there(
    tmp_path: Path,
) -> None:
    """65,536 × 65,536 weights would be 17 GB."""
    spec = container.read_manifest(BEFORE / "models" / "l-diffrec", MODEL)["spec"]
    spec["autoencoder"]["encoder_dims"] = [65_536, 65_536, 65_536]
    folder = rewritten("models/l-diffrec", tmp_path / "hostile", spec=spec)
    with pytest.raises(ArtifactError, match="size mismatch"):
        unblur.load(folder)


def test_vectors_next_to_which_the_ridge_is_lost_are_an_error_of_ours(tmp_path: Path) -> None:
    factors = container.read_container(BEFORE / "models" / "als", MODEL).tensors["factors"]
    factors = np.full_like(factors, 2.0**40)
    model = unblur.load(rewritten("models/als", tmp_path / "hostile", tensors={"factors": factors}))
    with pytest.raises(SpecError, match="ridge must be large enough"):
        model.score(Interactions.from_matrix(np.eye(31), items=model.items))


@pytest.mark.parametrize(
    ("name", "array", "number"),
    [
        ("models/ease", "weights", 1e38),
        ("models/ease", "weights", -1e38),
        ("models/diffrec", "embedding_weight", 1e38),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scores_that_are_not_finite_are_an_error_of_ours(
    tmp_path: Path, name: str, array: str, number: float
) -> None:
    """Any weight alone is one that a fit may give; their sums are not."""
    weights = np.full_like(container.read_container(BEFORE / name, MODEL).tensors[array], number)
    model = unblur.load(rewritten(name, tmp_path / "hostile", tensors={array: weights}))
    histories = Interactions.from_matrix(np.ones((1, 31)), items=model.items)
    with pytest.raises(DataError, match="Scores must be finite"):
        model.score(histories)
    with pytest.raises(DataError, match="Scores must be finite"):
        model.explain(histories, model.items.to_list()[0])


def test_samples_of_scores_that_are_not_finite_are_an_error_of_ours(tmp_path: Path) -> None:
    name = "synthesizers/multi-vae"
    tensors = container.read_container(BEFORE / name, SYNTHESIZER).tensors
    numbers = {"vae.decoder_weight": 0, "vae.decoder_bias": 1, "vae.item_out": 3e38}
    hostile = {key: np.full_like(tensors[key], number) for key, number in numbers.items()}
    synthesizer = load_synthesizer(rewritten(name, tmp_path / "hostile", tensors=hostile))
    with pytest.raises(DataError, match="Scores must be finite"):
        synthesizer.sample(3, rng=1)


def test_a_lightgcn_without_its_second_table_is_refused(tmp_path: Path) -> None:
    """PureSVD has one for both; that of a LightGCN would give other scores without a word."""
    saved = container.read_container(BEFORE / "models" / "lightgcn", MODEL)
    contents = {key: value for key, value in saved.manifest.items() if key not in OWN}
    container.write_container(
        tmp_path / "hostile", MODEL, contents, {"inward": saved.tensors["inward"]}, saved.tables
    )
    with pytest.raises(ArtifactError, match="KeyError: 'outward'"):
        unblur.load(tmp_path / "hostile")


def test_weights_in_another_memory_order_are_those_weights(tmp_path: Path) -> None:
    cells = container.read_container(BEFORE / "models" / "row-mlp", MODEL).tensors["cells"]
    folder = rewritten("models/row-mlp", tmp_path / "hostile", tensors={"cells": np.asfortranarray(cells)})
    histories = Interactions.from_matrix(np.eye(31), items=unblur.load(folder).items)
    expected = unblur.load(BEFORE / "models" / "row-mlp").score(histories)
    np.testing.assert_array_equal(unblur.load(folder).score(histories), expected)


@pytest.mark.parametrize(
    "above",
    [
        ["spec", "ridge"],
        ["files", "items.parquet", "bytes"],
        ["items", "size"],
        ["provenance"],
        ["provenance", "read"],
        ["provenance", "fit_seconds"],
    ],
)
def test_what_a_manifest_says_raises_nothing_that_is_not_ours(tmp_path: Path, above: list[str]) -> None:
    """`unblur info` reads the manifest alone."""
    folder = rewritten("models/ease", tmp_path / "hostile", provenance={})
    for value in (10**4000, -1, None, "x", [], {"n_users": "many"}):
        manifest = unsealed((folder / MANIFEST).read_bytes())
        table = manifest
        for name in above[:-1]:
            table = table[name]
        table[above[-1]] = value
        (folder / MANIFEST).write_bytes(sealed(manifest))
        with contextlib.suppress(ArtifactError):
            artifact.described(folder, artifact.read_manifest(folder))
            kept_reading(folder, {})


def test_a_manifest_may_say_more_than_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of its own, under names of ours as well."""
    folder = rewritten(
        "models/ease", tmp_path / "model", provenance={"fit_seconds": 12, "read": "x"}, title="x", notes=1
    )
    assert unblur.load(folder).spec.kind == "ease"
    assert main(["info", str(folder)]) == 0
    assert main(["info", str(folder), "--json"]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_a_table_of_any_number_of_settings_is_refused_in_a_few_words(tmp_path: Path) -> None:
    unknown = {f"setting-{number}": 1 for number in range(5_000)}
    folder = rewritten("models/ease", tmp_path / "hostile", spec=unknown)
    with pytest.raises(ArtifactError, match="setting-0 is not a hyper-parameter of EASE") as refusal:
        unblur.load(folder)
    assert len(str(refusal.value)) < 5_000


TIMES = {"split time: fields.after.anyOf.0"}
"""A point in time is compared with times; nothing is allocated for it, and nothing loops."""


def test_every_whole_number_of_a_spec_has_an_upper_bound() -> None:
    unbounded = {
        f"{title}: {path.removesuffix('.type')}"
        for title, form in kept().items()
        if not title.startswith(("command", "recipe"))
        for path, value in form.items()
        if path.endswith(".type") and value == "integer"
        if not {path.removesuffix("type") + bound for bound in ("maximum", "exclusiveMaximum")} & {*form}
    }
    assert unbounded == TIMES


def table_of(n: int, **columns: Any) -> pl.DataFrame:
    """A table of items with `n` rows, all alike."""
    return pl.select(**{name: pl.repeat(value, n) for name, value in columns.items()})


@pytest.mark.parametrize("size", [31, 1_000_000])
def test_a_million_rows_in_a_few_bytes_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    items = table_of(1_000_000, label="a", count=1)
    said = {**container.read_manifest(BEFORE / "models" / "popularity", MODEL)["items"], "size": size}
    folder = rewritten("models/popularity", tmp_path / "hostile", table=items, items=said)
    most = min(size, 16 * (folder / "items.parquet").stat().st_size)
    lengths: list[int] = []
    read = pl.read_parquet

    def watched(*arguments: Any, **keywords: Any) -> pl.DataFrame:
        table = read(*arguments, **keywords)
        lengths.append(len(table))
        return table

    monkeypatch.setattr(pl, "read_parquet", watched)
    with pytest.raises(ArtifactError, match=rf"items\.parquet has more than {most:,} rows"):
        unblur.load(folder)
    assert lengths == [most + 1]
    assert most < 200_000


def test_types_of_hundreds_of_levels_do_not_end_the_process(tmp_path: Path) -> None:
    folder = rewritten("models/popularity", tmp_path / "hostile")
    pq.write_table(nested(500), folder / "items.parquet", store_schema=False)
    manifest = unsealed((folder / MANIFEST).read_bytes())
    manifest["files"]["items.parquet"] = {
        "bytes": (folder / "items.parquet").stat().st_size,
        "sha256": sha256_of(folder / "items.parquet"),
    }
    (folder / MANIFEST).write_bytes(sealed(manifest))
    with pytest.raises(ArtifactError, match="schema too deeply nested"):
        unblur.load(folder)


@pytest.mark.parametrize("part", [pl.repeat(1, 20_000_000).implode(), pl.lit("a" * 80_000_000)])
def test_millions_of_equal_parts_of_a_row_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: pl.Expr
) -> None:
    items = pl.select(label=pl.lit("a"), count=1, x=part)
    folder = rewritten("models/popularity", tmp_path / "hostile", table=items)
    assert (folder / "items.parquet").stat().st_size < 30_000
    monkeypatch.setattr(pl, "read_parquet", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ArtifactError, match=r"bytes unpack to [0-9,]+"):
        unblur.load(folder)


@pytest.mark.parametrize(
    "items",
    [
        pl.DataFrame({"label": [[1]] * 31, "count": [1] * 31}),
        pl.DataFrame({"label": [{"a": 1}] * 31, "count": [1] * 31}),
        pl.DataFrame({"label": [b"a"] * 31, "count": [1] * 31}),
        pl.DataFrame({"label": [None] * 31, "count": [1] * 31}),
        pl.DataFrame({"label": [f"item-{n:02}" for n in range(31)], "count": ["1"] * 31}),
        pl.DataFrame({"label": [f"item-{n:02}" for n in range(31)], "count": [-1] * 31}),
        pl.DataFrame({"label": [f"item-{n:02}" for n in range(31)], "count": [None, *[1] * 30]}),
        pl.DataFrame({"label": [f"item-{n:02}" for n in range(31)], "count": [2**31, *[1] * 30]}),
        pl.DataFrame({"label": [f"item-{n:02}" for n in range(31)], "count": [[1]] * 31}),
        pl.DataFrame(
            {
                "label": [f"item-{n:02}" for n in range(31)],
                "count": pl.Series([[1]] * 31, dtype=pl.Array(pl.Int64, 1)),
            }
        ),
    ],
)
def test_a_table_of_items_with_other_columns_is_refused(tmp_path: Path, items: pl.DataFrame) -> None:
    folder = rewritten("models/popularity", tmp_path / "hostile", table=items)
    with pytest.raises(ArtifactError, match="the parts do not fit together"):
        unblur.load(folder)


def test_a_model_whose_items_nobody_had_is_exported_like_any_other(tmp_path: Path) -> None:
    items = container.read_container(BEFORE / "models" / "ease", MODEL).tables["items"]
    folder = rewritten("models/ease", tmp_path / "hostile", table=items.with_columns(count=pl.lit(0)))
    assert export(Served.load(folder, ServiceLimits()), OutputFolder(tmp_path / "web", WEB)).overlap == 1


def test_a_model_without_items_is_not_asked(tmp_path: Path) -> None:
    nothing = Interactions.from_matrix(np.zeros((1, 0)), items=Vocabulary([]))
    Popularity().fit(nothing).save(tmp_path / "model")
    assert len(unblur.load(tmp_path / "model").items) == 0
    with pytest.raises(ArtifactError, match="A model to ask must have items"):
        Served.load(tmp_path / "model", ServiceLimits())


@pytest.mark.parametrize(
    ("raised", "error", "words"),
    [
        (pl.exceptions.PanicException("index out of bounds"), ArtifactError, "PanicException"),
        (pl.exceptions.ColumnNotFoundError("label"), ArtifactError, "ColumnNotFoundError"),
        (MemoryError(), CapabilityError, "must have enough memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            CapabilityError,
            "enough memory",
        ),
    ],
)
def test_what_a_library_raises_over_a_table_becomes_our_own_error(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, error: type[Exception], words: str
) -> None:
    def read(stream: io.IOBase, **keywords: Any) -> pl.DataFrame:
        raise raised

    monkeypatch.setattr(pl, "read_parquet", read)
    with pytest.raises(error, match=words):
        unblur.load(BEFORE / "models" / "popularity")


# ---------------------------------------------------------------------------------- every array of every kind

KEPT = sorted(f"{path.parent.name}/{path.name}" for form in FORMATS for path in (BEFORE / form).iterdir())
FIRST = re.compile(r"^(?!.*\.[1-9]\d*$)")
"""An array's name unless it is that of a later layer."""
DIFFERENT = {
    (manifest["kind"], *filter(FIRST.search, sorted(manifest["tensors"]))): name
    for name in reversed(KEPT)
    for manifest in [container.read_manifest(BEFORE / name, FORMATS[name.split("/")[0]])]
}.values()
"""Those whose kinds, or arrays, differ."""
FORMS: Mapping[str, Callable[[Any], Any]] = {
    "another layout": lambda array: (
        array.toarray() if sparse.issparse(array) else sparse.eye_array(2, format="csr", dtype=array.dtype)
    ),
    "wider numbers": lambda array: array.astype(np.float64 if array.dtype != np.float64 else np.float32),
    "bytes": lambda array: array.astype(np.int8),
    "one more dimension": lambda array: (
        array[None] if isinstance(array, np.ndarray) else array.toarray()[None]
    ),
    "a single number": lambda array: np.zeros((), dtype=array.dtype),
}
NUMBERS: Mapping[str, Callable[[Any], Any]] = {
    "below 0": lambda array: (array.astype(np.float64) * -1).astype(array.dtype),
    "as large as can be": lambda array: filled(array, 1e38, np.iinfo(np.int32).max),
    "next to nothing": lambda array: filled(array, 1e-45, 1),
    "none": lambda array: array[:0],
    "backwards": lambda array: array[::-1],
}


def filled(array: Any, number: float, whole: int) -> Any:
    """An array with one number everywhere: a float, or a whole one."""
    values = array.data if sparse.issparse(array) else array
    values = np.full_like(values, number if values.dtype.kind == "f" else whole)
    return (
        sparse.csr_array((values, array.indices, array.indptr), array.shape)
        if sparse.issparse(array)
        else values
    )


@pytest.fixture
def loaded_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Mapping[str, Any]], Any]:
    """Load a saved thing with other arrays, as if they had been written so."""

    def load(name: str, arrays: Mapping[str, Any]) -> Any:
        saved = container.read_container(BEFORE / name, FORMATS[name.split("/")[0]])
        hostile = dataclasses.replace(saved, tensors={**saved.tensors, **arrays})
        monkeypatch.setattr(artifact, "read_container", lambda *_: hostile)
        return LOADS[name.split("/")[0]](Path(name))

    return load


def some_arrays(name: str) -> dict[str, Any]:
    """The arrays of a saved thing, without those of later layers."""
    tensors = container.read_container(BEFORE / name, FORMATS[name.split("/")[0]]).tensors
    return {key: array for key, array in tensors.items() if FIRST.search(key)}


@pytest.mark.parametrize("name", KEPT)
def test_arrays_of_another_form_are_refused_by_every_kind(
    name: str, loaded_with: Callable[[str, Mapping[str, Any]], Any]
) -> None:
    for key, array in some_arrays(name).items():
        for form, change in FORMS.items():
            if form == "another layout" and key.rpartition(".")[2] == "weights":
                continue  # of items to items, which may be either
            changed = {key: change(array)}
            with pytest.raises(ArtifactError, match="the parts do not fit together"):
                loaded_with(name, changed)


@pytest.mark.parametrize("name", DIFFERENT)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_arrays_with_other_numbers_raise_nothing_that_is_not_ours(
    name: str, loaded_with: Callable[[str, Mapping[str, Any]], Any]
) -> None:
    for key, array in some_arrays(name).items():
        for numbers, change in NUMBERS.items():
            try:
                use(loaded_with(name, {key: change(array)}))
            except UnblurError:
                pass
            except Exception as problem:
                raise AssertionError(f"{key}, {numbers}") from problem
