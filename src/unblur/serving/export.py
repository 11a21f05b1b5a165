"""The page as static files: what the model says of each item alone, cut to its largest parts, added up in the browser."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.output import FolderKind, OutputFolder
from unblur.errors import CapabilityError
from unblur.progress import Progress, ProgressEvent, silent
from unblur.ranking import top_k
from unblur.serving.answers import Served
from unblur.serving.page import CONTENT_SECURITY_POLICY, PAGE, page_file

WEB = FolderKind("unblur-web")
"""The folder of a page of static files."""
NEIGHBOURS = 10
"""Similar items of each, as many as the page shows."""
_WEIGHTS, _LEAST = 1_000_000, 200
"""Weights of a page of 11 MB: all of a catalogue of a thousand items. With fewer than 200 of each item a list of ten is hardly
the model's."""
_SAMPLED, _LENGTH, _TOP = 300, 10, 10
"""Histories that the overlap is measured on, their items, and the items of the lists that are compared: the mean of so many
lists moves by a hundredth at most."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    weights: int
    """The item-item weights."""
    bytes: int
    """The size of the page's data."""
    overlap: float
    """The mean share of the model's ten best items that the page's ten have, on sampled histories."""


def export(
    served: Served,
    place: OutputFolder,
    *,
    keep: int | None = None,
    progress: Progress = silent,
) -> Exported:
    """Write the page with its data to a new folder; the page asks no server, so a history stays in the browser.

    `keep` is the number of weights of each item; if `None`, a million in all, but at least 200 of each. If scores add up (`Recommender.linear`) and all weights are kept, lists are the
    model's; otherwise a list is an approximation. Raises `CapabilityError` for a kind that is not `personal`.
    """
    CapabilityError.unless(
        served.model.spec.personal,
        f"A page of static files adds up what items say of each other; {served.model.spec.kind} looks at no history. "
        "Export another model, such as item-knn.",
    )
    weights = item_weights(served, keep or max(_LEAST, _WEIGHTS // len(served.labels)), progress)
    data = f"window.unblurModel = {json.dumps(_data(served, weights), ensure_ascii=False)};\n".encode()
    policy = f'<meta http-equiv="content-security-policy" content="{CONTENT_SECURITY_POLICY}">'
    page = (
        page_file("page.html")
        .decode()
        .replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}')
        .replace('<script src="page.js"', '<script src="model.js" defer></script>\n<script src="page.js"')
    )
    with place.written() as folder:
        (folder / "index.html").write_text(page, encoding="utf-8")
        (folder / "model.js").write_bytes(data)
        for name in PAGE.keys() - {"page.html"}:
            (folder / name).write_bytes(page_file(name))
    return Exported(weights.nnz, len(data), overlap(served, weights, _sampled(served)))


def item_weights(served: Served, keep: int, progress: Progress = silent) -> sparse.csr_array:
    """Return (n_items, n_items) the scores of a history of one item each, the `keep` largest of each row, by absolute value."""
    model, n_items = served.model, len(served.labels)
    rows = []
    for start in range(0, n_items, model.batch):
        alone = served.histories_at([[item] for item in range(start, min(start + model.batch, n_items))])
        scores = model.score(alone)
        if keep < n_items:
            smallest = np.argpartition(np.abs(scores), n_items - keep, axis=1)[:, : n_items - keep]
            np.put_along_axis(scores, smallest, 0, axis=1)
        rows.append(sparse.csr_array(scores))
        progress(ProgressEvent("score items", min(start + model.batch, n_items), n_items))
    return sparse.csr_array(sparse.vstack(rows, format="csr"))


def overlap(served: Served, weights: sparse.csr_array, histories: Sequence[Sequence[int]]) -> float:
    """Return the mean share of the model's ten best items that are among the page's ten, for histories of item positions."""
    rows = served.histories_at(histories)
    k = min(_TOP, len(served.labels) - max(map(len, histories)))
    best = served.model.recommend(rows, k=k).positions
    scores = np.asarray((rows.matrix @ weights).toarray(), dtype=np.float32)
    scores[rows.rows(), rows.matrix.indices] = -np.inf
    ours, _ = top_k(scores, k, served.model.tie_ranks)
    return float(np.mean([len({*one} & {*other}) / k for one, other in zip(best, ours, strict=True)]))


def _sampled(served: Served) -> list[list[int]]:
    """Histories of distinct items, drawn by how many users they have: no user's own is known here."""
    random = np.random.default_rng(0)
    counts = served.model.item_counts
    counts = counts if counts.any() else np.ones_like(counts)
    length = min(_LENGTH, max(1, int((counts > 0).sum()) // 2))
    return [
        sorted(random.choice(len(counts), length, replace=False, p=counts / counts.sum()).tolist())
        for _ in range(_SAMPLED)
    ]


def _data(served: Served, weights: sparse.csr_array) -> dict[str, object]:
    """The model as the page reads it: texts as JSON, numbers in base64."""
    n_items = len(served.labels)
    width = min(NEIGHBOURS, n_items - 1)
    near = served.model.similar_items(served.labels, width).positions
    return {
        "model": {**served.information(), "columns": []},  # the page alone has no conditions
        "labels": served.labels,
        "titles": served.titles,
        "counts": served.model.item_counts.tolist(),
        "width": width,
        "near": _base64(near, "<u4"),
        "ends": _base64(weights.indptr, "<u4"),
        "targets": _base64(weights.indices, "<u4"),
        "weights": _base64(weights.data, "<f4"),
    }


def _base64(numbers: NDArray[np.generic], kind: str) -> str:
    return base64.b64encode(numbers.astype(kind).tobytes()).decode()
