"""Saved things whose hashes are right and whose contents would do harm: they are refused when they are loaded."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse

import unblur
from tests.guards.keep import BEFORE
from tests.guards.schemas import kept
from unblur.data.interactions import Interactions
from unblur.errors import ArtifactError, CapabilityError, SpecError
from unblur.saving import container
from unblur.saving.models import MODEL, SYNTHESIZER
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
