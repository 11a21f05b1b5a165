"""How good recommended lists are: every metric at every cut-off, from one table of hits.

Notation of every docstring below: ``relevant`` is what was held out from a user; ``hits@k`` is how many of
the first k places of the user's list hold a relevant item; ranks start at 1. Two denominators that elsewhere
go by one name have two names here: `recall` and `map` divide by |relevant|; `capped_recall` and `capped_map`
divide by min(k, |relevant|), the most that k places can hold. A user with nothing held out scores 0
throughout this file; whether such users count is for the protocol to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.errors import DataError, SpecError, nearest, some

# ---------------------------------------------------------------------------------------------- judged lists


@dataclass(frozen=True, eq=False)
class JudgedLists:
    """Recommended lists with each place judged against what was held out (see `judge`).

    The running sums along the places are made once, when the first metric asks, and serve every cut-off.
    """

    positions: NDArray[np.integer[Any]]
    """Item positions, (n_users, n_places), best first; -1 is an empty place."""
    hit: NDArray[np.bool_]
    """Whether the item at a place was held out, (n_users, n_places)."""
    relevant: NDArray[np.int64]
    """How many items were held out, (n_users,)."""
    popularity: NDArray[np.int64] | None = None
    """How many training users each item has, (n_items,); only `mean_popularity` needs it."""

    @cached_property
    def hits(self) -> NDArray[np.int64]:
        """hits@k at column k - 1, (n_users, n_places)."""
        return np.cumsum(self.hit, axis=1, dtype=np.int64)

    @cached_property
    def gain(self) -> NDArray[np.float64]:
        """DCG@k at column k - 1, (n_users, n_places)."""
        return np.cumsum(self.hit * discount(self.hit.shape[1]), axis=1)

    @cached_property
    def precision_at_hits(self) -> NDArray[np.float64]:
        """The sum of precision@r over the ranks r <= k of hits, at column k - 1, (n_users, n_places)."""
        precision = self.hits / np.arange(1, self.hit.shape[1] + 1)
        return np.cumsum(np.where(self.hit, precision, 0.0), axis=1)

    def most(self, k: int) -> NDArray[np.int64]:
        """min(k, |relevant|): the most hits that k places can hold, (n_users,)."""
        return np.minimum(self.relevant, k)


def discount(places: int) -> NDArray[np.float64]:
    """1 / log2(1 + rank) for the ranks 1 ... places."""
    return 1.0 / np.log2(np.arange(2, places + 2))


def judge(
    positions: NDArray[np.integer[Any]],
    held_out: sparse.csr_array,
    *,
    popularity: NDArray[np.integer[Any]] | None = None,
) -> JudgedLists:
    """Look every recommended item up among the user's held-out ones.

    positions: item positions, (n_users, n_places), best first, -1 for an empty place, no item twice in a row.
    held_out: (n_users, n_items); an item is relevant to a user where the entry is not zero.
    popularity: the number of training users of every item, (n_items,).

    One sorted search of all places in all held-out pairs; nothing of the size users x items is made. Raises
    `DataError` where shapes disagree, a position is outside the catalogue, or a list names an item twice.
    """
    n_users, n_items = held_out.shape
    DataError.unless(
        positions.ndim == 2
        and len(positions) == n_users
        and np.issubdtype(positions.dtype, np.signedinteger),
        f"`positions` must be signed whole numbers with one row for each of the {n_users:,} users; "
        f"saw {positions.dtype} of shape {positions.shape}.",
    )
    lowest, highest = positions.min(initial=0), positions.max(initial=-1)
    DataError.unless(
        lowest >= -1 and highest < n_items,
        f"`positions` must lie between 0 and {n_items - 1:,}, with -1 for an empty place; "
        f"saw {lowest} to {highest}. Were the lists made with another catalogue?",
    )
    ordered = np.sort(positions, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise DataError(
            f"A list must not name an item twice; {int(twice.sum()):,} lists do, "
            f"the first in row {int(twice.argmax())}. Drop the repeats before measuring."
        )
    if popularity is not None and popularity.shape != (n_items,):
        raise DataError(
            f"`popularity` must have one count for each of {n_items:,} items; saw shape {popularity.shape}."
        )
    relevance = held_out.copy()  # with sorted columns, without duplicates and stored zeros
    relevance.sum_duplicates()
    relevance.eliminate_zeros()
    relevant = np.diff(relevance.indptr).astype(np.int64)
    row = np.arange(n_users, dtype=np.int64) * n_items
    pairs = np.repeat(row, relevant) + relevance.indices
    places = positions + row[:, None]
    index = np.searchsorted(pairs, places)
    # A last pair that no place equals keeps the search of an empty table in bounds.
    hit = (np.append(pairs, -1)[index] == places) & (positions >= 0)
    return JudgedLists(positions, hit, relevant, None if popularity is None else popularity.astype(np.int64))


# --------------------------------------------------------------------------------------------------- metrics

USERS_AT_ONCE = 1 << 14
"""How many users are measured together: bounds the memory of the tables between; no value depends on it."""

UserMetric: TypeAlias = Callable[[JudgedLists, int], NDArray[np.float64]]
"""A metric with a value for each user: (judged lists, k) -> float64 (n_users,)."""
ListMetric: TypeAlias = Callable[[NDArray[np.int64]], float]
"""A metric of all lists together: (in how many lists each item is, int64 (n_items,)) -> a number."""


def recall(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """hits@k / |relevant| (Manning et al., Introduction to Information Retrieval, 2008, section 8.3).

    The recall of LightGCN, BSPM, DiffRec, RecBole, ranx and trec_eval. It cannot reach 1 where |relevant| >
    k.
    """
    return _ratio(lists.hits[:, k - 1], lists.relevant)


def capped_recall(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """hits@k / min(k, |relevant|) (Liang et al., Variational Autoencoders for Collaborative Filtering, 2018).

    The recall of MultVAE, SDRM and LensKit.
    """
    return _ratio(lists.hits[:, k - 1], lists.most(k))


def precision(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """hits@k / k (Manning et al. 2008, section 8.4). Empty places count as misses."""
    return np.divide(lists.hits[:, k - 1], k)


def hit_rate(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """1 if hits@k > 0, else 0 (Deshpande & Karypis, Item-Based Top-N Recommendation, 2004)."""
    return np.where(lists.hits[:, k - 1] > 0, 1.0, 0.0)


def ndcg(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """DCG@k / ideal DCG@k with binary gains (Järvelin & Kekäläinen, Cumulated gain-based evaluation, 2002).

    DCG@k is the sum of 1 / log2(1 + rank) over the hits of the first k places; the ideal list has its hits
    at the ranks 1 ... min(k, |relevant|).
    """
    ideal = np.concatenate(([0.0], np.cumsum(discount(k))))
    return _ratio(lists.gain[:, k - 1], ideal[lists.most(k)])


def mrr(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """1 / rank of the first hit if that is <= k, else 0 (Kantor & Voorhees, The TREC-5 Confusion Track)."""
    return np.where(lists.hits[:, k - 1] > 0, 1.0 / (lists.hit[:, :k].argmax(axis=1) + 1), 0.0)


def average_precision(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """The sum of precision@r over the ranks r <= k of hits, / |relevant| (trec_eval's map_cut, ranx's map@k).

    Its mean over users is `map` (Harman, Evaluation Issues in Information Retrieval, 1992).
    """
    return _ratio(lists.precision_at_hits[:, k - 1], lists.relevant)


def capped_average_precision(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """The sum of precision@r over the ranks r <= k of hits, / min(k, |relevant|) (RecBole's MAP).

    Its mean over users is `capped_map`.
    """
    return _ratio(lists.precision_at_hits[:, k - 1], lists.most(k))


def mean_popularity(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """The mean, over the filled places among the first k, of how many training users the item there has.

    The average recommendation popularity of Yin et al., Challenging the Long Tail Recommendation, 2012. An
    empty list scores 0.
    """
    if lists.popularity is None:
        raise DataError(
            "mean_popularity needs every item's number of training users; none was given. Pass `popularity`."
        )
    return _mean_over_places(lists.popularity, lists.positions[:, :k])


def coverage(exposure: NDArray[np.int64]) -> float:
    """The share of the catalogue that is in at least one list (Ge et al., Beyond Accuracy, 2010)."""
    return int(np.count_nonzero(exposure)) / len(exposure)


def gini(exposure: NDArray[np.int64]) -> float:
    """The Gini coefficient of item exposure over the whole catalogue.

    Half the relative mean absolute difference, sum_ij |x_i - x_j| / (2 n sum_i x_i), from the sorted
    exposures (Fleder & Hosanagar, Blockbuster Culture's Next Rise or Fall, 2009). 0 where every item is in
    as many lists, or where nothing was recommended; (n - 1) / n where one item has every place. Whole
    numbers until the one division.
    """
    n, total = len(exposure), int(exposure.sum())
    if total == 0:
        return 0.0
    weighted = int(np.dot(np.arange(1, n + 1), np.sort(exposure)))
    return (2 * weighted - (n + 1) * total) / (n * total)


USER_METRICS: Mapping[str, UserMetric] = MappingProxyType(
    {
        "recall": recall,
        "capped_recall": capped_recall,
        "precision": precision,
        "hit_rate": hit_rate,
        "ndcg": ndcg,
        "mrr": mrr,
        "map": average_precision,
        "capped_map": capped_average_precision,
        "mean_popularity": mean_popularity,
    }
)
"""The metrics with a value for each user, by name."""

LIST_METRICS: Mapping[str, ListMetric] = MappingProxyType({"coverage": coverage, "gini": gini})
"""The metrics of all lists together, by name."""


# --------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True, eq=False)
class PerUser:
    """A table of values, one row a user and one column a measurement; read-only."""

    names: tuple[str, ...]
    """The columns: ``recall@20``."""
    values: NDArray[np.float64]
    """(n_users, n_names)."""

    def __post_init__(self) -> None:
        self.values.flags.writeable = False

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """One measurement's values, (n_users,)."""
        if name not in self.names:
            hint = nearest(name, self.names)
            raise DataError(
                f"Only what was measured can be read; saw {name!r}.{hint} Measured: {some(self.names)}."
            )
        return self.values[:, self.names.index(name)]


def metric_at(metric: str, k: int) -> str:
    """The name of a measurement: ``metric_at("recall", 20)`` is ``recall@20``."""
    return f"{metric}@{k}"


def parse_metric(name: str) -> tuple[str, int]:
    """The metric and the cut-off of a measurement's name: ``recall@20`` is ``("recall", 20)``.

    Raises `SpecError` for an unknown metric or for what is not a positive whole number after the ``@``.
    """
    metric, _, cutoff = name.partition("@")
    check_metric(metric)
    SpecError.unless(
        cutoff.isascii() and cutoff.isdigit() and int(cutoff) > 0,
        f"A measurement is a metric at a cut-off, such as {metric}@20; saw {name!r}. Write it so.",
    )
    return metric, int(cutoff)


def check_metric(metric: str) -> None:
    """Raise `SpecError`, with the nearest known name, for a metric that does not exist."""
    known = (*USER_METRICS, *LIST_METRICS)
    if metric not in known:
        hint = nearest(metric, known) or f" Known: {', '.join(known)}."
        raise SpecError(f"A metric must be one of those that exist; saw {metric!r}.{hint}")


def per_user(
    positions: NDArray[np.integer[Any]],
    held_out: sparse.csr_array,
    metrics: Iterable[str],
    cutoffs: Iterable[int],
    *,
    popularity: NDArray[np.integer[Any]] | None = None,
) -> PerUser:
    """Every metric of `USER_METRICS` that `metrics` names, at every cut-off, for every user.

    Arguments as for `judge`; the columns come metric by metric, cut-off by cut-off. A user's values depend
    on that user's row alone. Raises `SpecError` for a metric that is unknown or has no value for a single
    user, `DataError` for a cut-off longer than the lists.
    """
    wanted = [(metric, k) for metric in metrics for k in cutoffs]
    for metric, k in wanted:
        check_metric(metric)
        SpecError.unless(
            metric not in LIST_METRICS,
            f"{metric} is a figure of all lists together and has no value for a user; use `exposure`.",
        )
        _check_cutoff(k, positions)
    values = np.empty((len(positions), len(wanted)), dtype=np.float64, order="F")
    for start in range(0, len(positions), USERS_AT_ONCE):
        rows = slice(start, start + USERS_AT_ONCE)
        lists = judge(positions[rows], held_out[rows], popularity=popularity)
        for column, (metric, k) in enumerate(wanted):
            values[rows, column] = USER_METRICS[metric](lists, k)
    return PerUser(names=tuple(metric_at(metric, k) for metric, k in wanted), values=values)


def exposure(positions: NDArray[np.integer[Any]], n_items: int, k: int) -> NDArray[np.int64]:
    """In how many of the lists, cut at k, each item of the catalogue is: int64, (n_items,)."""
    _check_cutoff(k, positions)
    places = positions[:, :k]
    return np.bincount(places[places >= 0], minlength=n_items).astype(np.int64)


# ------------------------------------------------------------------------------------------ beyond accuracy

HEAD = 0.2
"""The share of the catalogue, most popular first, that is called head; the rest is tail."""
_ROWS = 256
"""How many lists `diversity` adds up at a time: bounds the memory of sums as wide as there are train users."""
MEANINGS = {
    "coverage": "share of the catalogue that is in somebody's list (Ge et al., RecSys 2010)",
    "gini": "Gini coefficient of how often each item is in a list: 0 all alike, 1 one item (Fleder and Hosanagar, 2009)",
    "mean_popularity": "mean number of training users of the recommended items (Yin et al., VLDB 2012)",
    "popularity_lift": "that mean over the same mean of the user's history: 1 is no bias towards popular items beyond the "
    "user's own (after Abdollahpouri et al., RMSE 2019)",
    "novelty": "mean self-information of the recommended items, −log2(training users of the item / all), in bits (Zhou et "
    "al., PNAS 2010)",
    "diversity": "mean of 1 − cosine of the training users of two items, over all pairs in a list (Ziegler et al., WWW "
    "2005)",
}
"""Each measure in a line."""


def popularity_lift(
    positions: NDArray[np.int32], histories: Interactions, degrees: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n_users,) mean train degree of the list over that of the history; NaN for an empty history or list."""
    listed = _mean_over_places(degrees, positions)
    owned = (histories.binarized().matrix @ degrees.astype(np.float64)) / np.maximum(
        histories.user_degrees, 1
    )
    known = (owned > 0) & (positions >= 0).any(axis=1)
    return np.asarray(np.divide(listed, owned, out=np.full(len(positions), np.nan), where=known))


def novelty(positions: NDArray[np.int32], degrees: NDArray[np.int64], n_users: int) -> NDArray[np.float64]:
    """(n_users,) mean of −log2(d_i / n) over the list; an item without train users counts as one with half a user."""
    return _mean_over_places(-np.log2(np.maximum(degrees, 0.5) / n_users), positions)


def diversity(positions: NDArray[np.int32], train: Interactions) -> NDArray[np.float64]:
    """(n_users,) mean of 1 − cos(i, j) over pairs of a list, of the items' columns in the 0/1 train matrix.

    The cosines of all pairs of a list add up to (‖Σ ĉ_i‖² − Σ ‖ĉ_i‖²) / 2 with unit columns ĉ, so no pair is looked
    at. 0 for a list of fewer than two items.
    """
    matrix = train.binarized().matrix.astype(np.float64)
    norms = np.sqrt(train.item_degrees.astype(np.float64))
    units = sparse.csr_array((matrix @ sparse.diags_array(1 / np.maximum(norms, 1))).T)
    owned = (norms > 0).astype(np.float64)
    filled = positions >= 0
    sizes = filled.sum(axis=1)
    squares, own = np.zeros(len(positions)), np.where(filled, owned[positions], 0.0).sum(axis=1)
    for start in range(0, len(positions), _ROWS):
        rows = slice(start, start + _ROWS)
        place, column = np.nonzero(filled[rows])
        items = positions[rows][place, column]
        shape = (len(positions[rows]), train.n_items)
        summed = sparse.csr_array((np.ones(len(items)), (place, items)), shape=shape) @ units
        squares[rows] = np.bincount(
            np.repeat(np.arange(shape[0]), np.diff(summed.indptr)), weights=summed.data**2, minlength=shape[0]
        )
    pairs = sizes * (sizes - 1) / 2
    alike = np.divide((squares - own) / 2, pairs, out=np.zeros(len(sizes)), where=pairs > 0)
    return np.where(pairs > 0, 1.0 - alike, 0.0)


def head_of(degrees: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n_items,) whether an item is among the `HEAD` most popular; equal ones by position."""
    order = np.argsort(-degrees, kind="stable")
    head = np.zeros(len(degrees), dtype=bool)
    head[order[: max(1, round(HEAD * len(degrees)))]] = True
    return head


def recall_within(
    positions: NDArray[np.int32], held_out: Interactions, items: NDArray[np.bool_], k: int
) -> NDArray[np.float64]:
    """(n_users,) recall@k of the held-out items among `items`; NaN for users with none of them held out."""
    relevant = held_out.keep(items[held_out.matrix.indices])
    values = per_user(positions, relevant.matrix, ["recall"], [k])[f"recall@{k}"].copy()
    values[relevant.user_degrees == 0] = np.nan
    return values


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """part / whole, 0 where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0))


def _mean_over_places(values: NDArray[Any], positions: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """(n_users,) the mean value of the items at the filled places of each list, 0 for an empty list."""
    filled = positions >= 0
    return _ratio(np.where(filled, values[positions], 0).sum(axis=1), filled.sum(axis=1))


def _check_cutoff(k: int, positions: NDArray[np.integer[Any]]) -> None:
    DataError.unless(
        1 <= k <= positions.shape[1],
        f"A cut-off must lie between 1 and the length of the lists, {positions.shape[1]}; saw {k}. "
        "Recommend longer lists or take a smaller cut-off.",
    )
