"""Metrics of recommended lists: every metric at every cut-off, from one table of hits.

Notation of all docstrings below: ``relevant`` are the held-out items of a user; ``hits@k`` is the number of
relevant items among the first k of the user's list; ranks start at 1. Two denominators that share one name
elsewhere have two names here: `recall` and `map` divide by |relevant|; `capped_recall` and `capped_map`
divide by min(k, |relevant|), the largest possible number of hits. A user without held-out items has the value 0
in all of them; the protocol decides whether such users count.
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
    """Recommended lists with each item judged against the held-out ones (see `judge`).

    The running sums along the lists are computed once, for the first metric that needs them, and serve every cut-off.
    """

    positions: NDArray[np.integer[Any]]
    """Item positions, (n_users, n_slots), best first; -1 is an empty slot."""
    hit: NDArray[np.bool_]
    """True for slots whose item was held out, (n_users, n_slots)."""
    relevant: NDArray[np.int64]
    """The number of held-out items, (n_users,)."""
    popularity: NDArray[np.int64] | None = None
    """The number of training users of each item, (n_items,); only `mean_popularity` and `tail_share` need it."""

    @cached_property
    def hits(self) -> NDArray[np.int64]:
        """hits@k in column k - 1, (n_users, n_slots)."""
        return np.cumsum(self.hit, axis=1, dtype=np.int64)

    @cached_property
    def gain(self) -> NDArray[np.float64]:
        """DCG@k in column k - 1, (n_users, n_slots)."""
        return np.cumsum(self.hit * discount(self.hit.shape[1]), axis=1)

    @cached_property
    def precision_at_hits(self) -> NDArray[np.float64]:
        """The sum of precision@r over the ranks r <= k of hits, in column k - 1, (n_users, n_slots)."""
        precision = self.hits / np.arange(1, self.hit.shape[1] + 1)
        return np.cumsum(np.where(self.hit, precision, 0.0), axis=1)

    def most(self, k: int) -> NDArray[np.int64]:
        """min(k, |relevant|): the largest possible hits@k, (n_users,)."""
        return np.minimum(self.relevant, k)


def discount(k: int) -> NDArray[np.float64]:
    """1 / log2(1 + rank) for the ranks 1 ... k."""
    return 1.0 / np.log2(np.arange(2, k + 2))


def judge(
    positions: NDArray[np.integer[Any]],
    held_out: sparse.csr_array,
    *,
    popularity: NDArray[np.integer[Any]] | None = None,
) -> JudgedLists:
    """Look up every recommended item among the user's held-out ones.

    positions: item positions, (n_users, n_slots), best first, -1 for an empty slot, no item twice in a row.
    held_out: (n_users, n_items); an item is relevant to a user if the entry is not zero.
    popularity: the number of training users of every item, (n_items,).

    All lists are searched in the sorted held-out pairs at once; no array has the size users x items. Raises
    `DataError` if shapes disagree, a position is outside the catalogue, or a list has an item twice.
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
        f"`positions` must lie between 0 and {n_items - 1:,}, with -1 for an empty slot; "
        f"saw {lowest} to {highest}. Use lists over the same catalogue.",
    )
    sorted_positions = np.sort(positions, axis=1)
    has_repeat = ((sorted_positions[:, 1:] == sorted_positions[:, :-1]) & (sorted_positions[:, 1:] >= 0)).any(
        axis=1
    )
    if has_repeat.any():
        raise DataError(
            f"A list must not have an item twice; {int(has_repeat.sum()):,} lists do, "
            f"the first in row {int(has_repeat.argmax())}. Drop the repeats before measuring."
        )
    if popularity is not None and popularity.shape != (n_items,):
        raise DataError(
            f"`popularity` must have one count for each of {n_items:,} items; saw shape {popularity.shape}."
        )
    # The search needs sorted columns without duplicates; stored zeros are not relevant.
    relevance = held_out.copy()
    relevance.sum_duplicates()
    relevance.eliminate_zeros()
    relevant = np.diff(relevance.indptr).astype(np.int64)
    row = np.arange(n_users, dtype=np.int64) * n_items
    pairs = np.repeat(row, relevant) + relevance.indices
    targets = positions + row[:, None]
    index = np.searchsorted(pairs, targets)
    # A sentinel that equals no target keeps indices in bounds, also if there are no pairs.
    hit = (np.append(pairs, -1)[index] == targets) & (positions >= 0)
    return JudgedLists(positions, hit, relevant, None if popularity is None else popularity.astype(np.int64))


# --------------------------------------------------------------------------------------------------- metrics

USERS_AT_ONCE = 1 << 14
"""Number of users that are measured together: bounds the memory of intermediate tables; no value depends on it."""

TAIL = 0.1
"""The share of the items with training users that `tail_share` calls rare: RecBole's default."""

UserMetric: TypeAlias = Callable[[JudgedLists, int], NDArray[np.float64]]
"""A metric with a value for each user: (judged lists, k) -> float64 (n_users,)."""
ListMetric: TypeAlias = Callable[[NDArray[np.int64]], float]
"""A metric of all lists together: (number of lists that have each item, int64 (n_items,)) -> a number."""


def recall(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """hits@k / |relevant| (Manning et al., Introduction to Information Retrieval, 2008, section 8.3).

    The recall of LightGCN, BSPM, DiffRec, RecBole, ranx and trec_eval. It cannot reach 1 if |relevant| > k.
    """
    return _ratio(lists.hits[:, k - 1], lists.relevant)


def capped_recall(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """hits@k / min(k, |relevant|) (Liang et al., Variational Autoencoders for Collaborative Filtering, 2018).

    The recall of MultVAE, SDRM and LensKit.
    """
    return _ratio(lists.hits[:, k - 1], lists.most(k))


def precision(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """hits@k / k (Manning et al. 2008, section 8.4). Empty slots count as misses."""
    return np.divide(lists.hits[:, k - 1], k)


def hit_rate(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """1 if hits@k > 0, else 0 (Deshpande & Karypis, Item-Based Top-N Recommendation, 2004)."""
    return np.where(lists.hits[:, k - 1] > 0, 1.0, 0.0)


def ndcg(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """DCG@k / ideal DCG@k with binary gains (Järvelin & Kekäläinen, Cumulated gain-based evaluation, 2002).

    DCG@k is the sum of 1 / log2(1 + rank) over the hits at the ranks up to k; the ideal list has its hits
    at the ranks 1 ... min(k, |relevant|).
    """
    ideal = np.concatenate(([0.0], np.cumsum(discount(k))))
    return _ratio(lists.gain[:, k - 1], ideal[lists.most(k)])


def mrr(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """1 / rank of the first hit if that rank is <= k, else 0 (Kantor & Voorhees, The TREC-5 Confusion Track)."""
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
    """The mean number of training users of the first k items; empty slots do not count.

    The average recommendation popularity of Yin et al., Challenging the Long Tail Recommendation, 2012. An
    empty list has the value 0.
    """
    if lists.popularity is None:
        raise DataError(
            "mean_popularity needs every item's number of training users; there are none. Pass `popularity`."
        )
    return _mean_over_slots(lists.popularity, lists.positions[:, :k])


def tail_share(lists: JudgedLists, k: int) -> NDArray[np.float64]:
    """The share of the first k items that are among the rarest tenth of the items with training users; empty slots do not
    count.

    RecBole's TailPercentage at its default ratio. Of items with equally many users the one earlier in the catalogue is
    rarer; at least one item is rare.
    """
    if lists.popularity is None:
        raise DataError(
            "tail_share needs every item's number of training users; there are none. Pass `popularity`."
        )
    trained = np.flatnonzero(lists.popularity)
    rarest = trained[np.argsort(lists.popularity[trained], kind="stable")]
    in_tail = np.zeros(len(lists.popularity), dtype=bool)
    in_tail[rarest[: max(1, int(len(trained) * TAIL))]] = True
    return _mean_over_slots(in_tail, lists.positions[:, :k])


def coverage(exposure: NDArray[np.int64]) -> float:
    """The share of the catalogue that is in at least one list (Ge et al., Beyond Accuracy, 2010)."""
    return int(np.count_nonzero(exposure)) / len(exposure)


def gini(exposure: NDArray[np.int64]) -> float:
    """The Gini coefficient of item exposure over the whole catalogue.

    Half the relative mean absolute difference, sum_ij |x_i - x_j| / (2 n sum_i x_i), from the sorted
    exposures (Fleder & Hosanagar, Blockbuster Culture's Next Rise or Fall, 2009). 0 if every item is in the same
    number of lists, or nothing was recommended; (n - 1) / n if one item fills all lists. Computed in whole numbers
    until the final division.
    """
    n, total = len(exposure), int(exposure.sum())
    if total == 0:
        return 0.0
    weighted = int(np.dot(np.arange(1, n + 1), np.sort(exposure)))
    return (2 * weighted - (n + 1) * total) / (n * total)


def entropy_per_item(exposure: NDArray[np.int64]) -> float:
    """The entropy, in nats, of the items in all slots, over the number of distinct items among them: RecBole's
    ShannonEntropy, whose formula in its documentation leaves the division out. 0 if nothing was recommended."""
    shares = exposure[exposure > 0] / max(1, int(exposure.sum()))
    return float(-(shares * np.log(shares)).sum() / max(1, len(shares)))


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
        "tail_share": tail_share,
    }
)
"""The metrics with a value for each user, by name."""

LIST_METRICS: Mapping[str, ListMetric] = MappingProxyType(
    {"coverage": coverage, "gini": gini, "entropy_per_item": entropy_per_item}
)
"""The metrics of all lists together, by name."""


# --------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True, eq=False)
class PerUser:
    """A read-only table of values, with a row per user and a column per measurement."""

    names: tuple[str, ...]
    """The names of the columns, such as ``recall@20``."""
    values: NDArray[np.float64]
    """(n_users, n_names)."""

    def __post_init__(self) -> None:
        self.values.flags.writeable = False

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """The values of a measurement, (n_users,)."""
        if name not in self.names:
            hint = nearest(name, self.names)
            raise DataError(
                f"A column must be one of the measurements; saw {name!r}.{hint} Measured: {some(self.names)}."
            )
        return self.values[:, self.names.index(name)]


def metric_at(metric: str, k: int) -> str:
    """The name of a measurement: ``metric_at("recall", 20)`` is ``recall@20``."""
    return f"{metric}@{k}"


def parse_metric(name: str) -> tuple[str, int]:
    """The metric and the cut-off of a measurement's name: ``recall@20`` is ``("recall", 20)``.

    Raises `SpecError` for an unknown metric, and unless a positive whole number follows the ``@``.
    """
    metric, _, cutoff = name.partition("@")
    check_metric(metric)
    SpecError.unless(
        cutoff.isascii() and cutoff.isdigit() and int(cutoff) > 0,
        f"A measurement must be a metric at a cut-off, such as {metric}@20; saw {name!r}. Write it so.",
    )
    return metric, int(cutoff)


def check_metric(metric: str) -> None:
    """Raise `SpecError`, with the nearest known name, for a metric that does not exist."""
    names = (*USER_METRICS, *LIST_METRICS)
    if metric not in names:
        hint = nearest(metric, names) or f" Known: {', '.join(names)}."
        raise SpecError(f"A metric must be a known one; saw {metric!r}.{hint}")


def per_user(
    positions: NDArray[np.integer[Any]],
    held_out: sparse.csr_array,
    metrics: Iterable[str],
    cutoffs: Iterable[int],
    *,
    popularity: NDArray[np.integer[Any]] | None = None,
) -> PerUser:
    """Measure `metrics`, names in `USER_METRICS`, at every cut-off for every user.

    Arguments as for `judge`; the columns are ordered by metric, then by cut-off. A user's values depend on that
    user's row alone. Raises `SpecError` for a metric that is unknown or has no value for a single user, and
    `DataError` for a cut-off above the length of the lists.
    """
    requested = [(metric, k) for metric in metrics for k in cutoffs]
    for metric, k in requested:
        check_metric(metric)
        SpecError.unless(
            metric not in LIST_METRICS,
            f"A metric per user must have a value for a single list; {metric} is of all lists together. Use `exposure`.",
        )
        _check_cutoff(k, positions)
    values = np.empty((len(positions), len(requested)), dtype=np.float64, order="F")
    for start in range(0, len(positions), USERS_AT_ONCE):
        rows = slice(start, start + USERS_AT_ONCE)
        lists = judge(positions[rows], held_out[rows], popularity=popularity)
        for column, (metric, k) in enumerate(requested):
            values[rows, column] = USER_METRICS[metric](lists, k)
    return PerUser(names=tuple(metric_at(metric, k) for metric, k in requested), values=values)


def exposure(positions: NDArray[np.integer[Any]], n_items: int, k: int) -> NDArray[np.int64]:
    """The number of lists, cut at k, that have each item of the catalogue: int64, (n_items,)."""
    _check_cutoff(k, positions)
    slots = positions[:, :k]
    return np.bincount(slots[slots >= 0], minlength=n_items).astype(np.int64)


# ------------------------------------------------------------------------------------------ beyond accuracy

HEAD = 0.2
"""The share of the catalogue, most popular first, that is called head; the rest is tail. Chosen by hand, as for the long
tail of an audit."""
_LISTS_AT_ONCE = 256
"""Number of lists that `diversity` adds up at a time, at most: more are no faster."""
_ENTRIES_AT_ONCE = 2**24
"""Entries of their sums, 200 MB: of a million train users one list alone has up to a million."""
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
"""Definitions of the metrics beyond accuracy, in a line each, for the page of a comparison."""


def popularity_lift(
    positions: NDArray[np.int32], histories: Interactions, degrees: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The mean train degree of the list over that of the history, (n_users,); NaN for an empty history or list."""
    list_means = _mean_over_slots(degrees, positions)
    history_means = (histories.binarized().matrix @ degrees.astype(np.float64)) / np.maximum(
        histories.user_degrees, 1
    )
    has_value = (history_means > 0) & (positions >= 0).any(axis=1)
    return np.asarray(
        np.divide(list_means, history_means, out=np.full(len(positions), np.nan), where=has_value)
    )


def novelty(positions: NDArray[np.int32], degrees: NDArray[np.int64], n_users: int) -> NDArray[np.float64]:
    """The mean of −log2(d_i / n) over the list, (n_users,); d_i = 0 counts as half a user, to be finite."""
    return _mean_over_slots(-np.log2(np.maximum(degrees, 0.5) / n_users), positions)


def diversity(positions: NDArray[np.int32], train: Interactions) -> NDArray[np.float64]:
    """The mean of 1 − cos(i, j) over pairs of a list, (n_users,), of the items' columns in the 0/1 train matrix.

    The cosines of all pairs of a list add up to (‖Σ ĉ_i‖² − Σ ‖ĉ_i‖²) / 2 with unit columns ĉ, so pairs are not
    enumerated. 0 for a list of fewer than two items.
    """
    matrix = train.binarized().matrix.astype(np.float64)
    norms = np.sqrt(train.item_degrees.astype(np.float64))
    units = sparse.csr_array((matrix @ sparse.diags_array(1 / np.maximum(norms, 1))).T)
    squared_norms = (norms > 0).astype(np.float64)
    filled = positions >= 0
    sizes = filled.sum(axis=1)
    squares, self_similarity = (
        np.zeros(len(positions)),
        np.where(filled, squared_norms[positions], 0.0).sum(axis=1),
    )
    # The sums of a list have an entry for each user of its items, at most: blocks of so many are as long as lists allow.
    entries = np.cumsum(np.where(filled, train.item_degrees[positions], 0).sum(axis=1))
    start = 0
    while start < len(positions):
        room = _ENTRIES_AT_ONCE + (entries[start - 1] if start else 0)
        stop = min(max(start + 1, int(np.searchsorted(entries, room))), start + _LISTS_AT_ONCE)
        rows, start = slice(start, stop), stop
        list_index, slot_index = np.nonzero(filled[rows])
        items = positions[rows][list_index, slot_index]
        shape = (len(positions[rows]), train.n_items)
        summed = sparse.csr_array((np.ones(len(items)), (list_index, items)), shape=shape) @ units
        squares[rows] = np.bincount(
            np.repeat(np.arange(shape[0]), np.diff(summed.indptr)), weights=summed.data**2, minlength=shape[0]
        )
    pairs = sizes * (sizes - 1) / 2
    similarity = np.divide((squares - self_similarity) / 2, pairs, out=np.zeros(len(sizes)), where=pairs > 0)
    return np.where(pairs > 0, 1.0 - similarity, 0.0)


def head_of(degrees: NDArray[np.int64]) -> NDArray[np.bool_]:
    """A mask of the share `HEAD` of the items that is most popular, (n_items,); of equal ones the first positions."""
    order = np.argsort(-degrees, kind="stable")
    head = np.zeros(len(degrees), dtype=bool)
    head[order[: max(1, round(HEAD * len(degrees)))]] = True
    return head


def recall_within(
    positions: NDArray[np.int32], held_out: Interactions, items: NDArray[np.bool_], k: int
) -> NDArray[np.float64]:
    """The recall@k of the held-out items among `items`, (n_users,); NaN for users with none of them held out."""
    relevant = held_out.keep(items[held_out.matrix.indices])
    values = per_user(positions, relevant.matrix, ["recall"], [k])[f"recall@{k}"].copy()
    values[relevant.user_degrees == 0] = np.nan
    return values


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """numerator / denominator, 0 for a denominator of 0."""
    return np.asarray(np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0))


def _mean_over_slots(values: NDArray[Any], positions: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """The mean value of the items of each list, (n_users,); empty slots do not count, and an empty list has 0."""
    filled = positions >= 0
    return _ratio(np.where(filled, values[positions], 0).sum(axis=1), filled.sum(axis=1))


def _check_cutoff(k: int, positions: NDArray[np.integer[Any]]) -> None:
    DataError.unless(
        1 <= k <= positions.shape[1],
        f"A cut-off must lie between 1 and the length of the lists, {positions.shape[1]}; saw {k}. "
        "Recommend longer lists, or take a lower cut-off.",
    )
