"""Arrays and CSR matrices in one safetensors file, and the record of how to put them together again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.errors import ArtifactError, some

Arrays: TypeAlias = Mapping[str, "NDArray[Any] | sparse.csr_array"]
"""Dense arrays of any shape, and CSR matrices, by name."""

_NUMBERS = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
}


def write_tensors(tensors: Arrays, file: Path) -> dict[str, Any]:
    """Write all `tensors` to a new file and say, in plain values for a manifest, what each is made of.

    A CSR matrix becomes ``name.indptr``, ``name.indices`` and ``name.data``. Contiguous arrays, C or Fortran,
    are written from where they lie. Raises `ArtifactError` for what is not made of plain numbers.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays: dict[str, NDArray[Any]] = {}
    layouts: dict[str, Any] = {}
    for name, tensor in tensors.items():
        layouts[name], parts = _parts(name, tensor)
        for key, array in parts.items():
            if array.dtype.name not in _NUMBERS:
                raise ArtifactError(f"Tensors must be plain numbers; {name!r} is {array.dtype}. Convert it.")
            if key in arrays:
                raise ArtifactError(f"Tensors must have different names; two are {key!r}. Rename one.")
            arrays[key] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
        layouts[name]["stored"] = {key: _facts(arrays[key]) for key in parts}
    try:
        file.touch()
        mode = file.stat().st_mode
        save_file(arrays, file)
        file.chmod(mode)  # as any new file here: what writes it lets nobody else read it
    except SafetensorError as problem:
        raise OSError(str(problem)) from problem
    return layouts


def read_tensors(layouts: Mapping[str, Mapping[str, Any]], file: Path) -> Arrays:
    """The tensors that `write_tensors` wrote, in their own memory order, writable.

    Raises `ValueError` when the file is damaged, or its arrays are not of the recorded types and shapes.
    """
    from safetensors import SafetensorError, safe_open

    expected = {key: facts for layout in layouts.values() for key, facts in layout["stored"].items()}
    try:
        with safe_open(file, framework="np") as opened:
            stored = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as problem:
        raise ValueError(f"{file.name}: {problem}") from None
    seen = {key: _facts(array) for key, array in stored.items()}
    if wrong := sorted(key for key in seen.keys() | expected.keys() if seen.get(key) != expected.get(key)):
        listed = some(f"{key} is {seen.get(key)} instead of {expected.get(key)}" for key in wrong)
        raise ValueError(f"tensors are not of the recorded type and shape: {listed}")
    return {name: _assembled(name, layout, stored) for name, layout in layouts.items()}


def _parts(
    name: str, tensor: NDArray[Any] | sparse.csr_array
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    if sparse.issparse(tensor):
        if tensor.format != "csr":
            raise ArtifactError(f"Sparse tensors must be CSR; {name!r} is {tensor.format}. Convert it.")
        layout = {"layout": "csr", "shape": [int(size) for size in tensor.shape]}
        return layout, {f"{name}.{part}": getattr(tensor, part) for part in ("indptr", "indices", "data")}
    dense = np.asarray(tensor)
    turned = dense.flags.f_contiguous and not dense.flags.c_contiguous
    layout = {"layout": "dense", "order": "F" if turned else "C", "shape": list(dense.shape)}
    return layout, {name: dense.T if turned else dense}


def _assembled(
    name: str, layout: Mapping[str, Any], stored: Mapping[str, NDArray[Any]]
) -> NDArray[Any] | sparse.csr_array:
    if layout["layout"] == "csr":
        parts = (stored[f"{name}.data"], stored[f"{name}.indices"], stored[f"{name}.indptr"])
        matrix = sparse.csr_array(parts, shape=tuple(layout["shape"]))
        matrix.check_format(full_check=True)
        return matrix
    dense = stored[name].T if layout["order"] == "F" else stored[name]
    if list(dense.shape) != layout["shape"]:
        raise ValueError(f"{name} has shape {dense.shape} instead of {layout['shape']}")
    return dense


def _facts(array: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": array.dtype.name, "shape": list(array.shape)}
