"""The container: everything is read back to the bit, or refused; nothing is ever half written."""

from __future__ import annotations

import json
import os
import shutil
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy import sparse

from unblur.data import output
from unblur.data.output import sealed, sha256_of
from unblur.errors import ArtifactError
from unblur.saving import container
from unblur.saving.container import Container, Format, read_container, read_manifest, write_container

THING = Format("unblur-thing", version=3)

TENSORS: dict[str, Any] = {
    "dense": np.arange(12, dtype=np.float32).reshape(3, 4),
    "sparse": sparse.csr_array(np.diag([1.0, 0.0, 2.0]).astype(np.float32)),
}
TABLES = {"items": pl.DataFrame({"label": ["ä", "b"], "count": [1, 2]})}


def write(path: Path, *, overwrite: bool = False, **contents: Any) -> None:
    write_container(path, THING, contents, TENSORS, TABLES, overwrite=overwrite)


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def reseal(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest and seal it again, as if it had been written that way."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["sha256"]
    change(manifest)
    (folder / "manifest.json").write_bytes(sealed(manifest))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    write(tmp_path / "thing", note="first")
    return tmp_path / "thing"


# -------------------------------------------------------------------------------- round trips


def round_trip(folder: Path, tensors: Mapping[str, Any]) -> Container:
    shutil.rmtree(folder, ignore_errors=True)
    write_container(folder, THING, {}, tensors, {})
    return read_container(folder, THING)


DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", ">f4", ">i8"),
]
shapes = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(st.data())
def test_any_array_comes_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    array: NDArray[Any] = data.draw(arrays(dtype, shapes))
    form = data.draw(st.sampled_from(["C", "F", "strided", "reversed", "read-only"]))
    if form == "F":
        array = np.asfortranarray(array) if array.ndim else array
    elif form == "strided" and array.ndim:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif form == "reversed" and array.ndim:
        array = array[::-1]
    elif form == "read-only":
        array.flags.writeable = False
    folder = tmp_path_factory.getbasetemp() / "arrays"
    loaded = round_trip(folder, {"x": array}).tensors["x"]
    assert isinstance(loaded, np.ndarray)
    assert loaded.shape == array.shape
    assert loaded.dtype == array.dtype.newbyteorder("=")
    assert loaded.tobytes() == array.astype(loaded.dtype).tobytes()
    assert loaded.flags.writeable
    if array.flags.c_contiguous or array.flags.f_contiguous:
        assert loaded.flags.c_contiguous == array.flags.c_contiguous
        assert loaded.flags.f_contiguous == array.flags.f_contiguous


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=5),
        elements=st.sampled_from([0, 1, 2.5]),
    ),
    st.sampled_from([np.int32, np.int64]),
)
def test_any_sparse_matrix_comes_back(
    tmp_path_factory: pytest.TempPathFactory, dense: NDArray[np.float32], index: type[np.integer[Any]]
) -> None:
    matrix = sparse.csr_array(dense)
    parts = (matrix.data, matrix.indices.astype(index), matrix.indptr.astype(index))
    matrix = sparse.csr_array(parts, shape=dense.shape)
    loaded = round_trip(tmp_path_factory.getbasetemp() / "sparse", {"m": matrix}).tensors["m"]
    assert isinstance(loaded, sparse.csr_array)
    assert loaded.shape == matrix.shape
    for part in ("data", "indices", "indptr"):
        assert getattr(loaded, part).dtype == getattr(matrix, part).dtype
        assert np.array_equal(getattr(loaded, part), getattr(matrix, part))


def test_the_folder_holds_tensors_tables_and_manifest(saved: Path) -> None:
    assert listing(saved) == ["items.parquet", "manifest.json", "tensors.safetensors"]
    assert listing(saved.parent) == ["thing"]
    loaded = read_container(saved, THING)
    assert np.array_equal(np.asarray(loaded.tensors["dense"]), TENSORS["dense"])
    assert loaded.tables["items"].equals(TABLES["items"])
    assert loaded.manifest["note"] == "first"
    assert loaded.manifest == read_manifest(saved, THING)
    assert loaded.manifest["format"] == "unblur-thing"
    assert loaded.manifest["format_version"] == 3
    assert set(loaded.manifest["versions"]) == {"unblur", "python", "numpy", "scipy", "torch", "polars"}
    assert set(loaded.manifest["files"]) == {"items.parquet", "tensors.safetensors"}


def test_other_programs_can_read_it(saved: Path) -> None:
    from safetensors.numpy import load_file

    stored = load_file(saved / "tensors.safetensors")
    assert sorted(stored) == ["dense", "sparse.data", "sparse.indices", "sparse.indptr"]
    assert np.array_equal(stored["dense"], TENSORS["dense"])
    assert pl.read_parquet(saved / "items.parquet").equals(TABLES["items"])


def test_no_tensors_and_no_tables_are_a_container_too(tmp_path: Path) -> None:
    loaded = round_trip(tmp_path / "empty", {})
    assert (loaded.tensors, loaded.tables) == ({}, {})


def test_a_moved_folder_is_as_good(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "deep" / "er" / "moved"
    moved.parent.mkdir(parents=True)
    saved.rename(moved)
    (tmp_path / "link").symlink_to(moved)
    monkeypatch.chdir(moved.parent)
    for path in (moved, tmp_path / "link", Path("moved"), Path("../er/moved/")):
        assert read_container(path, THING).manifest["note"] == "first"


def test_folders_above_are_made(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "thing")
    assert listing(tmp_path / "a" / "b") == ["thing"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_are_not_copied_on_the_way_to_the_disk(tmp_path: Path, order: Any) -> None:
    large = np.zeros((2_000, 2_000), dtype=np.float32, order=order)
    write_container(tmp_path / "warm-up", THING, {}, {"x": np.zeros(3)}, {})
    tracemalloc.start()
    try:
        write_container(tmp_path / "thing", THING, {}, {"x": large}, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < large.nbytes / 10


def test_a_container_holds_a_training_checkpoint(tmp_path: Path) -> None:
    """Weights, optimizer and generator are restored, and training resumes with the same losses."""
    form = Format("unblur-checkpoint", version=1)

    def start() -> tuple[torch.nn.Linear, torch.optim.Adam, torch.Generator]:
        network = torch.nn.Linear(3, 2)
        return network, torch.optim.Adam(network.parameters(), lr=0.1), torch.Generator().manual_seed(5)

    def train(parts: tuple[torch.nn.Linear, torch.optim.Adam, torch.Generator], steps: int) -> list[float]:
        network, optimizer, random = parts
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = network(torch.randn(8, 3, generator=random)).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    network, optimizer, random = parts = start()
    train(parts, 3)
    tensors = {f"network.{name}": value.numpy() for name, value in network.state_dict().items()}
    state = optimizer.state_dict()
    for number, values in state["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value.numpy() for name, value in values.items()}
    tensors["generator"] = random.get_state().numpy()
    write_container(tmp_path / "step-3", form, {"step": 3, "groups": state["param_groups"]}, tensors, {})
    expected = train(parts, 4)

    checkpoint = read_container(tmp_path / "step-3", form)
    resumed = start()
    restored: dict[str, Any] = {name: torch.from_numpy(array) for name, array in checkpoint.tensors.items()}
    resumed[0].load_state_dict({name: restored[f"network.{name}"] for name in ("weight", "bias")})
    moments = ("step", "exp_avg", "exp_avg_sq")
    loaded: dict[str, Any] = {"param_groups": checkpoint.manifest["groups"]}
    loaded["state"] = {n: {name: restored[f"optimizer.{n}.{name}"] for name in moments} for n in (0, 1)}
    resumed[1].load_state_dict(loaded)
    resumed[2].set_state(restored["generator"])
    assert checkpoint.manifest["step"] == 3
    assert train(resumed, 4) == expected


# -------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("contents", "tensors", "facts"),
    [
        ({}, {"x": np.array(["a"])}, ["must be plain numbers", "'x' is <U1", "Convert it"]),
        ({}, {"x": np.array([object()])}, ["must be plain numbers", "'x' is object"]),
        ({}, {"x": np.array(["2020"], dtype="datetime64[s]")}, ["must be plain numbers", "datetime64"]),
        ({}, {"x": sparse.csc_array(np.eye(2))}, ["must be CSR", "'x' is csc", "Convert it"]),
        (
            {},
            {"x": sparse.csr_array(np.eye(2)), "x.data": np.ones(2)},
            ["different names", "'x.data'", "Rename one"],
        ),
        ({"files": {}}, {}, ["must not use the manifest's own keys", "'files'", "Rename"]),
        ({"note": float("nan")}, {}, ["finite numbers, strings, lists and tables", "nan", "Convert"]),
        ({"note": object()}, {}, ["finite numbers, strings, lists and tables", "object", "Convert"]),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    tmp_path: Path, contents: dict[str, Any], tensors: dict[str, Any], facts: list[str]
) -> None:
    with pytest.raises(ArtifactError) as error:
        write_container(tmp_path / "thing", THING, contents, tensors, {})
    for fact in facts:
        assert error.match(fact)
    assert listing(tmp_path) == []


def test_nothing_is_overwritten_unless_requested(saved: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"must be new or empty; .*thing exists .*Give another path, or --overwrite"
    ):
        write(saved, note="second")
    assert read_manifest(saved, THING)["note"] == "first"
    write(saved, note="second", overwrite=True)
    assert read_manifest(saved, THING)["note"] == "second"
    assert listing(saved.parent) == ["thing"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_empty_folder_is_as_good_as_none(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thing").mkdir()
    write(tmp_path / "thing", note="first", overwrite=overwrite)
    assert read_manifest(tmp_path / "thing", THING)["note"] == "first"


def test_a_damaged_one_may_be_overwritten(saved: Path) -> None:
    (saved / "manifest.json").write_bytes((saved / "manifest.json").read_bytes()[:200])
    (saved / "tensors.safetensors").unlink()
    write(saved, note="second", overwrite=True)
    assert read_container(saved, THING).manifest["note"] == "second"


@pytest.mark.parametrize(
    ("names", "contents"),
    [
        (["train.parquet", "test.parquet"], "'test.parquet', 'train.parquet'"),
        (["items.parquet"], "'items.parquet'"),
        (["manifest.json"], "'manifest.json'"),
        (["thesis.txt"], "'thesis.txt'"),
    ],
)
def test_what_is_something_else_is_never_overwritten(tmp_path: Path, names: list[str], contents: str) -> None:
    folder = tmp_path / "thing"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("years of work", encoding="utf-8")
    with pytest.raises(
        ArtifactError,
        match=rf"Only the folder of a saved thing.*something else: {contents}\. Give another path, or",
    ):
        write(folder, overwrite=True)
    assert [(folder / name).read_text(encoding="utf-8") for name in names] == ["years of work"] * len(names)
    assert listing(tmp_path) == ["thing"]


def test_a_users_own_file_next_to_the_saved_ones_is_never_lost(saved: Path) -> None:
    (saved / "recommendations.parquet").write_text("mine", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"Only the folder .*something else: 'recommendations\.parquet'"):
        write(saved, overwrite=True)
    assert read_manifest(saved, THING)["note"] == "first"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_never_overwritten(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thing").write_text("years of work", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"is a file"):
        write(tmp_path / "thing", overwrite=overwrite)
    assert (tmp_path / "thing").read_text(encoding="utf-8") == "years of work"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(
        ArtifactError, match=r"The output must be in a folder that can be written to; .*Give another path"
    ):
        write(tmp_path / "file" / "thing")
    assert listing(tmp_path) == ["file"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(ArtifactError, match="No space left on device"):
        write(tmp_path / "thing")
    assert listing(tmp_path) == []


# -------------------------------------------------------------------------------- interruptions

STEPS: list[tuple[Any, str]] = [
    (Path, "mkdir"),
    (container, "write_tensors"),
    (pl.DataFrame, "write_parquet"),
    (Path, "write_bytes"),
    (os, "fsync"),
    (Path, "rename"),
    (shutil, "rmtree"),
]
"""Every function that touches the disk."""


def interrupted_writes(folder: Path, when: str) -> Iterator[int]:
    """Write over `folder` again and again, each time interrupted a step later, until one gets through."""
    for stop in range(1, 100):
        steps = 0

        def interrupting(step: Callable[..., Any], stop: int = stop) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                nonlocal steps
                steps += 1
                due = steps == stop
                if due and when == "before":
                    raise KeyboardInterrupt
                result = step(*args, **kwargs)
                if due:
                    raise KeyboardInterrupt
                return result

            return run

        with pytest.MonkeyPatch.context() as patched:
            for owner, name in STEPS:
                patched.setattr(owner, name, interrupting(getattr(owner, name)))
            try:
                write(folder, note="second", overwrite=True)
            except KeyboardInterrupt:
                interrupted = True
            else:
                interrupted = False
        if not interrupted:
            return
        yield stop


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_at_any_step_leaves_a_whole_one(tmp_path: Path, when: str) -> None:
    folder = tmp_path / "thing"
    write(folder, note="first")
    notes = []
    for _ in interrupted_writes(folder, when):
        notes.append(read_container(folder, THING).manifest["note"])
        shutil.rmtree(folder)
        write(folder, note="first")
    assert len(notes) >= 10
    assert notes == sorted(notes), "once the new one is in place it stays"
    assert notes[0] == "first"
    assert read_manifest(folder, THING)["note"] == "second"
    leftovers = [name for name in listing(tmp_path) if name != "thing"]
    assert all(name.startswith(".thing.") for name in leftovers)
    assert len(leftovers) <= 3, "only an interrupted removal leaves something behind"


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_of_a_first_write_leaves_all_or_nothing(tmp_path: Path, when: str) -> None:
    for stop in interrupted_writes(tmp_path / "thing", when):
        if (tmp_path / "thing").exists():
            assert read_container(tmp_path / "thing", THING).manifest["note"] == "second"
            shutil.rmtree(tmp_path / "thing")
        assert stop < 50


def test_a_power_cut_between_the_two_renames_is_explained(saved: Path) -> None:
    aside = saved.with_name(".thing.0123abcd.earlier")
    saved.rename(aside)
    with pytest.raises(
        ArtifactError, match=r"does not exist\. A save was cut off, .*is whole: rename .*0123abcd\.earlier"
    ):
        read_container(saved, THING)
    assert read_container(aside, THING).manifest["note"] == "first"


def test_one_that_is_replaced_while_it_is_read_says_try_again(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = container._verify_files

    def replaced_first(folder: Path, *more: Any) -> None:
        write_container(saved, THING, {"note": "second"}, {"other": np.ones(3)}, TABLES, overwrite=True)
        verify(folder, *more)

    monkeypatch.setattr(container, "_verify_files", replaced_first)
    with pytest.raises(ArtifactError, match=r"another process replaced .*thing meanwhile\. Try again"):
        read_container(saved, THING)
    monkeypatch.undo()
    assert read_container(saved, THING).manifest["note"] == "second"


def test_one_that_is_replaced_by_one_of_the_same_layout_is_not_read_in_parts(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checksums hold for the first; the arrays would be those of the second."""
    read = container.read_tensors

    def replaced_first(*more: Any) -> Any:
        changed = {**TENSORS, "dense": TENSORS["dense"] + 1}
        write_container(saved, THING, {"note": "second"}, changed, TABLES, overwrite=True)
        return read(*more)

    monkeypatch.setattr(container, "read_tensors", replaced_first)
    with pytest.raises(ArtifactError, match="Try again"):
        read_container(saved, THING)


def test_one_that_is_being_replaced_says_try_again(saved: Path) -> None:
    with output.locked(saved):
        aside = saved.rename(saved.with_name(".thing.0123abcd.earlier"))
        for read in (read_container, read_manifest):
            with pytest.raises(ArtifactError, match="Try again"):
                read(saved, THING)
    with pytest.raises(ArtifactError, match="A save was cut off"):
        read_container(saved, THING)
    aside.rename(saved)


def test_readers_of_one_that_is_replaced_again_and_again_see_whole_ones(saved: Path) -> None:
    problems: list[str] = []
    replacing = threading.Thread(
        target=lambda: [write(saved, note="next", overwrite=True) for _ in range(15)]
    )
    replacing.start()
    while replacing.is_alive():
        try:
            assert read_container(saved, THING).manifest["note"] in ("first", "next")
        except ArtifactError as problem:
            problems.append(str(problem))
    replacing.join()
    assert all(problem.endswith("Try again.") for problem in problems), problems


# -------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("name", ["manifest.json", "tensors.safetensors", "items.parquet"])
def test_any_changed_byte_is_found(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    for place in range(0, len(content), 1 if name == "manifest.json" else 13):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        (saved / name).write_bytes(damaged)
        with pytest.raises(ArtifactError):
            read_container(saved, THING)
    (saved / name).write_bytes(content)
    read_container(saved, THING)


@pytest.mark.parametrize("name", ["manifest.json", "tensors.safetensors", "items.parquet"])
def test_a_cut_or_lengthened_file_is_found(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    for damaged in (
        *(content[:size] for size in range(0, len(content), 11)),
        content + b"\n",
        content + content,
        b" " + content,
    ):
        (saved / name).write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"in .*, .*(manifest\.json|bytes instead of)"):
            read_container(saved, THING)


@pytest.mark.parametrize(
    ("damage", "facts"),
    [
        (
            lambda folder: (folder / "items.parquet").unlink(),
            ["files are missing: 'items.parquet'", "Copy it again"],
        ),
        (
            lambda folder: (folder / "tensors.safetensors").unlink(),
            ["files are missing: 'tensors.safetensors'"],
        ),
        (
            lambda folder: (folder / "manifest.json").unlink(),
            ["a folder with a manifest.json", "has no", "Check the"],
        ),
        (lambda folder: (folder / "more.bin").touch(), ["does not name", "'more.bin'", "move them away"]),
        (lambda folder: (folder / "more").mkdir(), ["does not name", "'more'"]),
        (
            lambda folder: shutil.rmtree(folder),
            ["a folder with a manifest.json", "does not exist", "Check the path"],
        ),
        (
            lambda folder: folder.rename(folder.with_name("aside")) and folder.touch(),
            ["a folder with a manifest.json", "is a file", "Check the path"],
        ),
        (
            lambda folder: ((folder / "manifest.json").unlink(), (folder / "manifest.json").mkdir()),
            ["manifest.json cannot be read", "Copy it again"],
        ),
        (
            lambda folder: ((folder / "items.parquet").unlink(), (folder / "items.parquet").mkdir()),
            ["items.parquet has", "bytes instead of"],
        ),
        (
            lambda folder: (folder / "manifest.json").write_text("[]"),
            ["format of a thing must be", "says 'list'"],
        ),
        (lambda folder: (folder / "manifest.json").write_text("{}"), ["must be 'unblur-thing'", "says None"]),
        (
            lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"),
            ["is not complete JSON", "save the thing"],
        ),
        (lambda folder: (folder / "manifest.json").write_text("[" * 10**5), ["is not complete JSON"]),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    saved: Path, damage: Callable[[Path], object], facts: list[str]
) -> None:
    damage(saved)
    with pytest.raises(ArtifactError) as error:
        read_container(saved, THING)
    for fact in facts:
        assert error.match(fact)


def test_hidden_files_of_the_system_do_no_harm(saved: Path) -> None:
    (saved / ".DS_Store").touch()
    read_container(saved, THING)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.parquet",
        "/etc/passwd",
        "sub/items.parquet",
        "..",
        "",
        "manifest.json",
        "a\nb.parquet",
        "x.exe",
    ],
)
def test_a_manifest_never_leads_out_of_the_folder(saved: Path, name: str) -> None:
    (saved.parent / "secret.parquet").write_bytes((saved / "items.parquet").read_bytes())

    def point(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = manifest["files"]["items.parquet"]

    reseal(saved, point)
    with pytest.raises(ArtifactError, match=r"names files that are no part of such a folder"):
        read_container(saved, THING)


def put(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the entry at `path`; a value of `...` removes it."""

    def change(manifest: dict[str, Any]) -> None:
        inner = manifest
        for key in path[:-1]:
            inner = inner[key]
        if value is ...:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (
            put("format_version", value=4),
            ["reads thing format 3 and older", "has format 4", "pip install --upgrade"],
        ),
        (
            put("format", value="unblur-model"),
            ["must be 'unblur-thing'", "says 'unblur-model'", "Check the path"],
        ),
        (put("files", value=...), ["do not fit together", "files"]),
        (put("files", value=[]), ["does not name", "'items.parquet', 'tensors.safetensors'"]),
        (put("files", "items.parquet", value={}), ["do not fit together", "bytes"]),
        (put("files", "items.parquet", "bytes", value=1), ["bytes instead of 1"]),
        (
            put("files", "items.parquet", "sha256", value="0" * 64),
            ["items.parquet was changed", "sha256 differs"],
        ),
        (put("tensors", value=...), ["do not fit together", "tensors"]),
        (put("tensors", "dense", value=...), ["tensors that are not recorded: 'dense'"]),
        (put("tensors", "dense", "shape", value=[4, 3]), ["dense has shape", r"instead of \[4, 3\]"]),
        (
            put("tensors", "dense", "stored", "dense", "shape", value=[4, 3]),
            ["recorded type and shape", r"'shape': \[3, 4\].* instead of .*\[4, 3\]"],
        ),
        (
            put("tensors", "dense", "stored", "dense", "dtype", value="int32"),
            ["float32.* instead of .*int32"],
        ),
        (put("tensors", "sparse", "shape", value=[3, 2]), ["do not fit together", "indices must be < 2"]),
        (put("tensors", "sparse", "shape", value=[2, 3]), ["do not fit together", "index pointer size"]),
        (put("tensors", "sparse", "shape", value=[3, -3]), ["do not fit together"]),
        (put("tensors", "sparse", "layout", value="dense"), ["do not fit together"]),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(saved: Path, change: Any, facts: list[str]) -> None:
    reseal(saved, change)
    with pytest.raises(ArtifactError) as error:
        read_container(saved, THING)
    for fact in facts:
        assert error.match(fact)


def test_a_manifest_of_any_size_is_not_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container.json, "loads", lambda _: pytest.fail("it was parsed"))
    with (saved / "manifest.json").open("ab") as stream:
        stream.truncate(1 << 30)  # a hole: a gigabyte that takes no room
    with pytest.raises(ArtifactError, match=r"manifest\.json has more than 4,194,304 bytes"):
        read_container(saved, THING)


def test_a_manifest_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="at most 4,194,304 bytes"):
        write(tmp_path / "thing", note="x" * 4_194_304)
    assert listing(tmp_path) == []


def test_arrays_that_the_manifest_does_not_name_are_not_read(saved: Path) -> None:
    save_file({f"x{number}": np.zeros(0, np.float32) for number in range(1_000)}, saved / container.TENSORS)
    entry = {
        "bytes": (saved / container.TENSORS).stat().st_size,
        "sha256": sha256_of(saved / container.TENSORS),
    }
    reseal(saved, put("files", container.TENSORS, value=entry))
    with pytest.raises(ArtifactError, match="tensors that are not recorded: 'x0', 'x1'"):
        read_container(saved, THING)


@pytest.mark.parametrize("indices", [[1, 0], [1, 1]])
def test_columns_of_a_row_are_ascending_and_distinct(tmp_path: Path, indices: list[int]) -> None:
    """Updates search in them, and a column that is there twice counts twice."""
    matrix = sparse.csr_array(np.ones((1, 2), dtype=np.float32))
    matrix.indices[:] = indices
    write_container(tmp_path / "thing", THING, {}, {"m": matrix}, {})
    with pytest.raises(ArtifactError, match="the columns of a row of m are not ascending and distinct"):
        read_container(tmp_path / "thing", THING)


def test_an_older_format_is_read(saved: Path) -> None:
    reseal(saved, put("format_version", value=2))
    assert read_container(saved, THING).manifest["format_version"] == 2


def test_sparse_indices_out_of_order_in_memory_are_never_followed(tmp_path: Path) -> None:
    matrix = sparse.csr_array(np.eye(3, dtype=np.float32))
    matrix.indices[1] = 10**6
    write_container(tmp_path / "thing", THING, {}, {"m": matrix}, {})
    with pytest.raises(ArtifactError, match=r"do not fit together .*indices must be < 3"):
        read_container(tmp_path / "thing", THING)


def test_reading_is_silent(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    read_container(saved, THING)
    assert capfd.readouterr() == ("", "")
