"""Texts and files of interactions, damaged."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from tests.fuzz.changes import LOG, SIDE, Random, mutated, pick
from unblur.compat.recbole.configuration import configure, recipe_of
from unblur.compat.recbole.tuning import read_params, space_of_params
from unblur.compat.translation import translate
from unblur.data.files import read, read_column
from unblur.data.formats.weights import event_weights_of
from unblur.data.intervals import Intervals
from unblur.data.side import read_side, side_of
from unblur.data.vocabulary import Vocabulary
from unblur.errors import UnblurError
from unblur.experiment.comparison import line_up
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.models.diffusion.diffrec import DiffRec
from unblur.ranking.conditions import holds

HYPER = "learning_rate choice [1e-3,1e-4]\ndims_dnn choice ['[300]','[200,600]']\nsteps quniform 2,6,2\nnoise_max uniform 0.01,0.02\n"
YAML = "model: DiffRec\ndataset: ml-100k\nlearning_rate: 1e-3\ndims_dnn: [300]\neval_args: {split: {RS: [0.8, 0.1, 0.1]}, order: RO}\ntopk: [10]\n"
COMMAND = "python main.py --cuda --dataset=yelp_clean --lr=1e-5 --batch_size=400 --dims=[1000] --emb_size=10 --steps=5 --noise_scale=0.005"


def a_recipe(random: Random) -> str:
    """A recipe of the package, its search among it."""
    return load_recipe(pick(random, shipped())).to_toml()


def table_of(text: str) -> pl.DataFrame:
    """The table of a CSV text. Nothing of polars is called at import: it would start threads, and no process could be forked then."""
    return pl.read_csv(io.StringIO(text))


def items() -> Vocabulary:
    """The items of the log."""
    return Vocabulary(table_of(SIDE)["item"])


def typed(read_text: Callable[[str], object]) -> Callable[[Path], object]:
    """Read the text of a file as a shell hands it over, bytes that are no UTF-8 among it."""
    return lambda file: read_text(file.read_text(encoding="utf-8", errors="surrogateescape"))


READERS: Mapping[str, tuple[Callable[[Random], str], Callable[[Path], object]]] = {
    "recipe.toml": (a_recipe, load_recipe),
    "compared.toml": (a_recipe, lambda file: line_up([str(file), "popularity"])),
    "hyper.test": (lambda _: HYPER, lambda file: space_of_params(DiffRec(), read_params(file))),
    "options.yaml": (
        lambda _: YAML,
        lambda file: recipe_of(configure(config_file_list=[file]), own_file=False),
    ),
    "command": (lambda _: COMMAND, typed(translate)),
    "condition": (
        lambda _: "title == 'No. 3' or (price > 2.5 and not item in ('i01', 'i02'))",
        typed(lambda text: holds(text, table_of(SIDE)[:, 1:], items())),
    ),
    "intervals": (lambda _: "[1,2);[4,5]", typed(Intervals.parse)),
    "event weights": (lambda _: "view=1,cart=0.5,buy=3", typed(event_weights_of)),
}
"""Texts, and what reads them."""


def texts(random: Random, folder: Path) -> str:
    """Change some characters of a text: it must be refused, or be read."""
    name = pick(random, [*READERS])
    text, read_text = READERS[name]
    file = folder / name
    file.write_bytes(mutated(random, text(random).encode()))
    try:
        read_text(file)
    except UnblurError:
        return "refused"
    return "read"


# --------------------------------------------------------------------------------------------------------- files


def recbole(column: str) -> str:
    """A column's name in a file of RecBole's, with its type."""
    token = {"user": "user_id", "item": "item_id", "event": "event", "title": "title"}.get(column)
    return f"{column}:float" if token is None else f"{token}:token"


TABLES: Mapping[str, tuple[Callable[[], pl.DataFrame], Callable[[Path], object]]] = {
    "log": (lambda: table_of(LOG), read),
    "events": (
        lambda: table_of(LOG).with_columns(
            (pl.col("timestamp") % 3).replace_strict({0: "view", 1: "buy", 2: "?"}).alias("event"),
            pl.from_epoch("timestamp").dt.to_string("%Y-%m-%dT%H:%M:%S"),
        ),
        lambda file: read(file, event_weights="view=1,buy=3"),
    ),
    "ratings": (
        lambda: table_of(LOG).with_columns(rating=pl.col("timestamp") % 9 / 2),
        lambda file: read(file, min_rating=3, on_null="drop", duplicates="last"),
    ),
    "baskets": (lambda: table_of(LOG).group_by("user", maintain_order=True).agg("item", "timestamp"), read),
    "items": (lambda: table_of(SIDE), lambda file: side_of(read_side(file), items())),
    "labels": (lambda: table_of(SIDE).select("item"), read_column),
}
"""Tables, and what reads their files."""
NESTING = (".parquet", ".arrow", ".jsonl")
"""Formats of lists in a column."""
FORMS: Mapping[str, Callable[[pl.DataFrame, io.BytesIO], object]] = {
    ".csv": lambda table, stream: table.write_csv(stream),
    ".tsv": lambda table, stream: table.write_csv(stream, separator="\t"),
    ".inter": lambda table, stream: table.rename(recbole).write_csv(stream, separator="\t"),
    ".parquet": lambda table, stream: table.write_parquet(stream),
    ".arrow": lambda table, stream: table.write_ipc(stream),
    ".jsonl": lambda table, stream: table.write_ndjson(stream),
}
MATRIX = sparse.csr_array(np.tri(60, 25, dtype=np.float32))
PAIRS: Mapping[str, Callable[[io.BytesIO], object]] = {
    ".npz": lambda stream: sparse.save_npz(stream, MATRIX),
    ".npy": lambda stream: np.save(stream, np.stack(MATRIX.nonzero(), axis=1)),
    ".txt": lambda stream: stream.write(
        b"".join(b"%d 1 2 3\n%d 4\n" % (user, 90 - user) for user in range(40))
    ),
}
"""Formats that hold pairs of numbers."""


def inputs(random: Random, folder: Path) -> str:
    """Change some bytes of a file, one of two parts of a log at times, or compressed: it must be refused, or be read."""
    read_file: Callable[[Path], object] = read
    form, stream = pick(random, [*FORMS, *PAIRS]), io.BytesIO()
    if form in PAIRS:
        PAIRS[form](stream)
    else:
        table, read_file = TABLES[
            pick(random, [name for name in TABLES if form in NESTING or name != "baskets"])
        ]
        FORMS[form](table(), stream)
    content = mutated(random, stream.getvalue())
    if form not in (".parquet", ".arrow", ".npz", ".npy") and random.random() < 0.1:
        form, content = f"{form}.gz", gzip.compress(content, 1)
    file = folder / f"a{form}"
    file.write_bytes(mutated(random, content) if random.random() < 0.1 else content)
    if read_file is read and random.random() < 0.1:
        (folder / f"b{form}").write_bytes(file.read_bytes() if form.endswith(".gz") else stream.getvalue())
        file = folder
    try:
        read_file(file)
    except UnblurError:
        return "refused"
    return "read"
