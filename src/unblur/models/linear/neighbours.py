"""Nearest neighbours: of items (ItemKNN), along random walks (RP3beta) and of users (UserKNN).

All three keep the strongest entries of a product of sparse matrices, which `strongest` computes in blocks, so that the
whole product is never in memory.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat
from scipy import sparse

from unblur.data.changes import Change
from unblur.data.interactions import Interactions
from unblur.models.linear.item_weights import ItemWeights, ItemWeightsSpec, dense_product
from unblur.models.linear.weighting import EntryWeighting, EntryWeights
from unblur.parallel.threads import in_threads
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.ranking import top_k
from unblur.recommender import RNG, Recommender, StoppingData, WeighingSpec, WeightUse, learned
from unblur.spec import Count, Dimension, choices, spec

BLOCK_PRODUCTS = 1 << 20
"""About how many entries of the product, before duplicates are summed, a block holds: a few megabytes, which stay in cache."""

DENSE_FROM = 0.5
"""Products a cell from which a block is computed with all its cells: adding a product to one takes 3 ns, and 8 where it must be found
among the entries of a sparse row; but then there are the cells without products."""
DENSE_PER_ENTRY = 16
"""Columns for each entry of a list, at least: a choice of many among few is a sort of the row, and dense rows are longer."""
DENSE_UP_TO = 16 * BLOCK_PRODUCTS
"""Products of a dense block, at most, since all are in memory at once: a row of an item that everybody has may have any number."""

Weigh: TypeAlias = Callable[
    [NDArray[np.integer], NDArray[np.integer], NDArray[np.float32]], NDArray[np.float32]
]
"""From rows, columns and values of entries of the product to their strengths, which are 0 where the values are; by
broadcasting, since a dense block has its rows down and its columns across."""


def strongest(
    left: sparse.csr_array,
    right: sparse.csr_array,
    k: int,
    *,
    weigh: Weigh,
    ties: NDArray[np.int64] | None = None,
    without_diagonal: bool = True,
    only: NDArray[np.intp] | None = None,
    progress: Progress = silent,
) -> sparse.csr_array:
    """Return the `k` strongest entries of each row of ``left @ right``; float32, columns sorted.

    `weigh` turns entries into strengths; only strengths above 0 count. Ties go to the column of the lower rank in `ties`
    (`Interactions.item_ranks`), or to the first column if it is `None`. With `only`, the result has these rows alone.
    """
    numbers = np.arange(left.shape[0], dtype=np.int32)
    if only is not None:
        numbers, left = numbers[only], left[only]
    n_rows, n_columns = left.shape[0], right.shape[1]
    all_columns, lengths = np.arange(n_columns, dtype=np.int32), np.diff(right.indptr)
    ranks = all_columns.astype(np.int64) if ties is None else ties

    def strongest_of(rows: slice) -> sparse.csr_array:
        block, owners = left[rows], numbers[rows]
        n_products = int(lengths[block.indices].sum())
        n_cells = len(owners) * n_columns
        if DENSE_FROM * n_cells <= n_products <= DENSE_UP_TO and DENSE_PER_ENTRY * k <= n_columns:
            strengths = weigh(owners[:, None], all_columns, dense_product(block, right))
            if without_diagonal:
                strengths[np.arange(len(owners)), owners] = 0
            return _lists(*top_k(strengths, k, ranks, above=0.0), n_columns)
        product = sparse.csr_array(block @ right)
        owners = np.repeat(owners, np.diff(product.indptr))
        product.data = weigh(owners, product.indices, product.data)
        keep = product.data > 0
        if without_diagonal:
            keep &= owners != product.indices
        return top_per_row(product, k, keep, ties)

    blocks, parts = list(row_blocks(left, right)), []
    progress(ProgressEvent("find neighbours", 0, n_rows))
    with closing(in_threads(strongest_of, blocks)) as finished:
        for rows, part in zip(blocks, finished, strict=True):
            parts.append(part)
            progress(ProgressEvent("find neighbours", rows.stop, n_rows))
    if not parts:
        return sparse.csr_array(np.zeros((n_rows, n_columns), dtype=np.float32))
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def _lists(columns: NDArray[np.int32], values: NDArray[np.float32], n_columns: int) -> sparse.csr_array:
    """Return lists (n_rows, k) as `top_k` gives them as a matrix, columns sorted."""
    entries = columns >= 0
    indptr = np.concatenate(([0], np.cumsum(entries.sum(axis=1)))).astype(np.int32)
    lists = sparse.csr_array((values[entries], columns[entries], indptr), shape=(len(columns), n_columns))
    lists.sort_indices()
    return lists


def product_norms(left: sparse.csr_array, right: sparse.csr_array) -> NDArray[np.float64]:
    """Return the L2 norm of each row of ``left @ right``, in the blocks of `strongest`."""

    def norms_of(rows: slice) -> NDArray[np.float64]:
        return column_norms(sparse.csr_array((left[rows] @ right).T))

    with closing(in_threads(norms_of, list(row_blocks(left, right)))) as parts:
        return np.concatenate([np.zeros(0), *parts])


def top_per_row(
    matrix: sparse.csr_array,
    k: int,
    keep: NDArray[np.bool_] | None = None,
    ties: NDArray[np.int64] | None = None,
) -> sparse.csr_array:
    """Return the `k` largest stored entries of each row among those to `keep`, columns sorted; ties as in `strongest`.

    Values must be floats above −∞. Only each row's k-th largest value is found, by partition: a few entries of a row
    reach it, and these alone are sorted.
    """
    values = matrix.data if keep is None else np.where(keep, matrix.data, matrix.dtype.type(-np.inf))
    lengths, bounds = np.diff(matrix.indptr), matrix.indptr.tolist()
    least = np.full(matrix.shape[0], np.finfo(values.dtype).min, dtype=values.dtype)
    for row in np.flatnonzero(lengths > k).tolist():
        entries = values[bounds[row] : bounds[row + 1]]
        least[row] = max(least[row], np.partition(entries, len(entries) - k)[len(entries) - k])
    reach = np.flatnonzero(values >= np.repeat(least, lengths))
    # Arrays of 64 bits would make the indices of the result as long.
    indptr = np.searchsorted(reach, matrix.indptr).astype(matrix.indptr.dtype)
    best = sparse.csr_array((values[reach], matrix.indices[reach], indptr), shape=matrix.shape)
    best.sort_indices()
    if np.diff(indptr).max(initial=0) <= k:
        return best
    # Entries equal to the k-th largest fill, in the order of ties, the places that larger ones leave.
    rows = np.repeat(np.arange(len(lengths)), np.diff(indptr))
    equal = np.flatnonzero(best.data == least[rows])
    places = k - np.diff(indptr) + np.bincount(rows[equal], minlength=len(lengths))
    if ties is not None:
        equal = equal[np.lexsort((ties[best.indices[equal]], rows[equal]))]
    owners = rows[equal]
    chosen = np.ones(best.nnz, dtype=bool)
    chosen[equal[np.arange(len(equal)) - np.searchsorted(owners, owners) >= places[owners]]] = False
    counts = np.concatenate(([0], np.cumsum(chosen))).astype(indptr.dtype)
    return sparse.csr_array((best.data[chosen], best.indices[chosen], counts[indptr]), shape=matrix.shape)


def row_blocks(left: sparse.csr_array, right: sparse.csr_array) -> Iterator[slice]:
    """Yield runs of rows of `left` whose products with `right` fit into memory; at least one row each."""
    costs = np.concatenate(([0], np.cumsum(np.diff(right.indptr)[left.indices].astype(np.int64))))
    cumulative, start, n_rows = costs[left.indptr], 0, left.shape[0]
    while start < n_rows:
        stop = int(np.searchsorted(cumulative, cumulative[start] + BLOCK_PRODUCTS, side="right")) - 1
        stop = min(max(stop, start + 1), n_rows)
        yield slice(start, stop)
        start = stop


def transposed(matrix: sparse.csr_array) -> sparse.csr_array:
    """Return the transpose, in CSR with sorted indices."""
    transpose = sparse.csr_array(matrix.T.tocsr())
    transpose.sort_indices()
    return transpose


def column_norms(matrix: sparse.csr_array) -> NDArray[np.float64]:
    """Return the L2 norm of each column."""
    squares = np.bincount(
        matrix.indices, weights=matrix.data.astype(np.float64) ** 2, minlength=matrix.shape[1]
    )
    return np.asarray(np.sqrt(squares))


def cosine(left: NDArray[np.float64], right: NDArray[np.float64], shrinkage: float = 0.0) -> Weigh:
    """Return the function to strengths ``x·y / (‖x‖‖y‖ + shrinkage)``, from the norms of the rows and of the columns."""
    left, right = np.where(left > 0, left, 1), np.where(right > 0, right, 1)  # 0 / 1 where a vector is 0
    return lambda row, column, dots: np.asarray(
        dots / (left[row] * right[column] + shrinkage), dtype=np.float32
    )


def inverse(values: NDArray[np.float64], power: float = 1.0) -> NDArray[np.float64]:
    """Return ``values^-power``, and 0 where a value is not above 0."""
    positive = values > 0
    return np.where(positive, np.where(positive, values, 1.0) ** -power, 0.0)


@dataclass(frozen=True, eq=False)
class Product:
    """A product of two matrices: the entries of an item's row are, weighed, the strengths of its neighbours."""

    left: sparse.csr_array
    """(n_items, n_users)"""
    right: sparse.csr_array
    """(n_users, n_items)"""
    weigh: Weigh
    symmetric: bool = False
    """True if it equals its transpose, strengths included."""

    def columns(self, items: NDArray[np.intp]) -> sparse.csr_array:
        """Return the strengths (n_items, n_items) in the columns of `items`, ascending; those above 0, off the diagonal."""
        if self.symmetric:  # rows are found through the items' own users, columns through all users
            product = transposed(sparse.csr_array(self.left[items] @ self.right))
        else:
            product = sparse.csr_array(self.left @ self.right[:, items])
            product.sort_indices()
        owners = np.repeat(np.arange(product.shape[0], dtype=np.int32), np.diff(product.indptr))
        columns = items[product.indices].astype(np.int32)
        strengths = self.weigh(owners, columns, product.data)
        keep = (strengths > 0) & (owners != columns)
        indptr = np.concatenate(([0], np.cumsum(keep)))[product.indptr]
        return sparse.csr_array(
            (strengths[keep], columns[keep], indptr), shape=(product.shape[0], self.right.shape[1])
        )


class NeighbourSpec(ItemWeightsSpec):
    """The spec of a model whose weights are lists: for each item the strongest entries of its row of a product.

    A changed user adds to entries between his own items only. These items are the touched ones: strengths between two others
    stay as they are, and so does their order in a tie. `update` finds again the lists of the touched items, and those into which
    a touched item may come, or out of which it may fall; elsewhere it sets the strengths of touched items.
    """

    neighbours: Count

    @abstractmethod
    def product(self, rows: sparse.csr_array) -> Product:
        """Return the product whose rows are searched."""

    @property
    @abstractmethod
    def lists_are_columns(self) -> bool:
        """True if an item's list is its column of the weights, not its row."""

    @property
    @abstractmethod
    def divisor(self) -> Literal["nothing", "list", "others"]:
        """What strengths are divided by: the sum of their list, or one that goes across lists."""

    @abstractmethod
    def over_divisor(self, weights: sparse.csr_array) -> sparse.csr_array:
        """Return the weights, each divided by its sum if there is one."""

    @property
    def refit_reason(self) -> str | None:
        """Why all lists change at once, if they do."""
        return (
            "each weight is divided by a sum across all lists (`normalize` with this `neighbours_of`)"
            if self.divisor == "others"
            else None
        )

    @final
    def item_weights(
        self, rows: sparse.csr_array, ties: NDArray[np.int64], progress: Progress
    ) -> sparse.csr_array:
        """Find the neighbours: Σ_u degree_u² operations, in blocks; twice as many with the norm "gram"."""
        product = self.product(rows)
        lists = strongest(
            product.left, product.right, self.neighbours, weigh=product.weigh, ties=ties, progress=progress
        )
        return self._arranged(lists)

    def _arranged(self, lists: sparse.csr_array) -> sparse.csr_array:
        return self.over_divisor(transposed(lists) if self.lists_are_columns else lists)

    def update(self, model: Recommender, change: Change, run: Run) -> ItemWeights:
        """Find the lists again that a change may touch, in the rows after it; all of them if it touches most."""
        assert isinstance(model, ItemWeights)  # what this spec fits
        after, touched = self.with_weights(change.after), change.items
        if after.item_degrees[touched].sum() > _MOST_TOUCHED * after.n_interactions or not self._stays(
            change
        ):
            return self.fit_in(run, after)
        weights = _moved(sparse.csr_array(model.weights), change.moved, after.n_items)
        if model.weakest is not None and after.items == model.items:
            weakest = model.weakest.copy()
        else:
            weakest = _weakest(weights, columns=self.lists_are_columns)
        weights = self._found_again(weights, weakest, after, touched, run.progress)
        return ItemWeights(self, after.items, after.item_degrees, weights=weights, weakest=weakest)

    def _stays(self, change: Change) -> bool:
        """Return whether strengths between two items that a change does not touch stay as they are."""
        return True

    def _found_again(
        self,
        weights: sparse.csr_array,
        weakest: NDArray[np.float32],
        after: Interactions,
        touched: NDArray[np.intp],
        progress: Progress,
    ) -> sparse.csr_array:
        """Return the weights after a change, from those before it, over the items after it.

        `weakest` holds for each list a strength that nothing outside it exceeds, and nothing in it is below; it is brought up to date.
        """
        product = self.product(after.matrix)
        is_touched = np.zeros(after.n_items, dtype=bool)
        is_touched[touched] = True
        now = product.columns(touched)
        # The entries of touched items in the lists of others, as (owner of the list, member), and their strengths now.
        entries = _entries_of(weights, is_touched, rows=self.lists_are_columns)
        ends = np.searchsorted(weights.indptr, entries, side="right") - 1, weights.indices[entries]
        owners, members = ends[::-1] if self.lists_are_columns else ends
        keys = np.repeat(np.arange(after.n_items), np.diff(now.indptr)) * after.n_items + now.indices
        entry_keys = owners * np.int64(after.n_items) + members
        place = np.minimum(np.searchsorted(keys, entry_keys), max(len(keys) - 1, 0))
        is_product = keys[place] == entry_keys if len(keys) else np.zeros(len(entry_keys), dtype=bool)
        strengths = (
            np.where(is_product, now.data[place], 0) if len(keys) else np.zeros(len(entry_keys), np.float32)
        )
        is_again = is_touched.copy()
        if self.divisor == "list":  # the strengths before the division are gone
            is_again[np.flatnonzero(np.diff(now.indptr))] = True
        else:
            is_again[owners[strengths <= weakest[owners]]] = True
            outside = np.ones(len(keys), dtype=bool)
            outside[place[is_product]] = False
            is_again[(keys // after.n_items)[outside & (now.data >= weakest[keys // after.n_items])]] = True
        again = np.flatnonzero(is_again)
        lists = strongest(
            product.left,
            product.right,
            self.neighbours,
            weigh=product.weigh,
            ties=after.item_ranks,
            only=again,
            progress=progress,
        )
        weakest[again] = _weakest(lists, columns=False)
        lengths = np.zeros(after.n_items, dtype=np.int64)
        lengths[again] = np.diff(lists.indptr)
        indptr = np.concatenate(([0], np.cumsum(lengths))).astype(weights.indptr.dtype)
        lists = sparse.csr_array((lists.data, lists.indices, indptr), shape=weights.shape)
        data = weights.data.copy()
        data[entries] = strengths
        data[_entries_of(weights, is_again, rows=not self.lists_are_columns)] = 0
        # A sum of sparse matrices has no stored zeros: the earlier lists of `again` are gone with it.
        unchanged = sparse.csr_array((data, weights.indices, weights.indptr), shape=weights.shape)
        return sparse.csr_array(unchanged + self._arranged(lists))


_MOST_TOUCHED = 0.25
"""The share of all interactions that are with touched items from which all lists are found again: that is as quick then."""


def _moved(matrix: sparse.csr_array, positions: NDArray[np.intp], size: int) -> sparse.csr_array:
    """Return a square matrix with rows and columns at new, ascending positions; those at −1 are left out."""
    if size == len(positions) and (positions >= 0).all():
        return matrix
    columns = positions[matrix.indices]
    rows = np.repeat(positions, np.diff(matrix.indptr))
    keep = (rows >= 0) & (columns >= 0)
    indptr = np.searchsorted(rows[keep], np.arange(size + 1)).astype(matrix.indptr.dtype)
    columns = columns[keep].astype(matrix.indices.dtype)
    return sparse.csr_array((matrix.data[keep], columns, indptr), shape=(size, size))


def _entries_of(matrix: sparse.csr_array, chosen: NDArray[np.bool_], *, rows: bool) -> NDArray[np.intp]:
    """Return the places in ``matrix.data`` of the chosen rows, or columns."""
    if not rows:
        return np.flatnonzero(chosen[matrix.indices])
    numbers = np.flatnonzero(chosen)
    lengths = np.diff(matrix.indptr)[numbers]
    starts = np.cumsum(lengths) - lengths
    return np.repeat(matrix.indptr[numbers] - starts, lengths) + np.arange(lengths.sum())


def _weakest(weights: sparse.csr_array, *, columns: bool) -> NDArray[np.float32]:
    """Return the smallest entry of each row, or column, (n_items,); ∞ where there is none."""
    weakest = np.full(weights.shape[0], np.inf, dtype=np.float32)
    owners = weights.indices if columns else np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    np.minimum.at(weakest, owners, weights.data)
    return weakest


@spec(added={"norm": "cosine", "weighting": "none", "weights": "binary"})
class ItemKNN(NeighbourSpec):
    """Item-based top-N recommendation (Deshpande and Karypis, ACM TOIS 22(1), 2004, section 4).

    Items are similar by the cosine of their columns, shrunk where it rests on little (Bell and Koren, ICDM
    2007): ``s_ij = G_ij / (‖x_i‖‖x_j‖ + h)`` with ``G = XᵀX``, or by ``s_ij = G_ij / (√(‖G_i‖‖G_j‖) + h)``, which holds items
    back by the length of their column of G (the scaling of SANSA; Spišák et al., RecSys 2023). A score is the sum of the
    similarities to the history's items, over the `neighbours` strongest pairs of each item.

    `weighting` is that of X: a user's row is weighted by how few items he has (see `EntryWeights`; rows are items, columns
    users). It is for comparing items: the history that is scored stays 0/1.
    """

    kind: ClassVar[str] = "item-knn"
    neighbours: Count = 100
    """The number of neighbours of each item that count: k."""
    shrinkage: NonNegativeFloat = 0.0
    """A term added to the denominator of the similarity: h."""
    norm: Literal["cosine", "gram"] = "cosine"
    """What co-occurrences are divided by: the norms of the items' columns of X, or the roots of those of the Gram matrix."""
    weighting: EntryWeighting = "none"
    """The weight of a user: none, by his degree, by TF-IDF or by BM25."""
    neighbours_of: Literal["target", "history"] = "target"
    """Whose neighbours they are: of the item that is scored, or of the items in the history (the paper's)."""
    normalize: bool = False
    """Divide an item's weights by their sum, so that a score is a weighted mean over its neighbours."""
    weights: WeightUse = "binary"
    """The entries of X, and of the history: 0/1, or the weights of the interactions."""

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(
            neighbours=(20, 50, 100, 200, 400, 1000),
            shrinkage=(0.0, 10.0, 100.0, 1000.0),
            norm=("cosine", "gram"),
            weighting=("none", "degree", "tf-idf", "bm25"),
            normalize=(False, True),
        )

    @property
    def lists_are_columns(self) -> bool:
        """True if lists are of the item that is scored."""
        return self.neighbours_of == "target"

    @property
    def divisor(self) -> Literal["nothing", "list", "others"]:
        """The sum of the weights that lead to an item, if `normalize`."""
        return "nothing" if not self.normalize else "list" if self.lists_are_columns else "others"

    @property
    def refit_reason(self) -> str | None:
        """Why all lists change at once, if they do."""
        if self.weighting == "bm25":
            return "the weights of bm25 depend on the mean number of users of an item, which any change moves"
        return super().refit_reason

    def _stays(self, change: Change) -> bool:
        # log(n / (1 + d)) of TF-IDF changes with the number of items, n.
        return self.weighting == "none" or change.before.n_items == change.after.n_items

    def product(self, rows: sparse.csr_array) -> Product:
        """The Gram matrix of the weighted columns."""
        by_item, by_user = transposed(rows), rows
        if self.weighting != "none":
            by_item = EntryWeights.of(self.weighting, by_item).apply(by_item)
            by_user = transposed(by_item)
        norms = column_norms(by_user) if self.norm == "cosine" else np.sqrt(product_norms(by_item, by_user))
        return Product(by_item, by_user, cosine(norms, norms, self.shrinkage), symmetric=True)

    def over_divisor(self, weights: sparse.csr_array) -> sparse.csr_array:
        """Divide by the sum of each column, if `normalize`."""
        return over_sums(weights, weights.indices) if self.normalize else weights


def over_sums(weights: sparse.csr_array, groups: NDArray[np.integer]) -> sparse.csr_array:
    """Return weights above 0, each divided by the sum of its group; `groups` holds a number for each stored weight."""
    sums = np.bincount(groups, weights=weights.data.astype(np.float64))
    data = (weights.data / sums[groups]).astype(np.float32)
    return sparse.csr_array((data, weights.indices, weights.indptr), shape=weights.shape)


@spec(switches={"normalize": ("no", "target")}, added={"weights": "binary"})
class RP3Beta(NeighbourSpec):
    """RP³β (Paudel, Christoffel, Newell and Bernstein, ACM TiiS 7(1), 2017, section 3). P³α (Cooper, Lee, Radinsky and
    Siantos, WWW 2014) is β = 0.

    A walk goes from a history's item i to a user v who has it, and on to an item j:
    ``w_ij = Σ_v p(v|i)^α p(j|v)^α / d_j^β``, where a transition's probability is its share of the row and d_j is
    item j's popularity. The walk's first step is the same for all items of a history and is left out.
    """

    kind: ClassVar[str] = "rp3beta"
    alpha: PositiveFloat = 1.0
    """The power of the transitions' probabilities: α."""
    beta: NonNegativeFloat = 0.6
    """The power of the item's popularity that a score is divided by: β."""
    neighbours: Count = 100
    """The number of weights of each item that are kept."""
    neighbours_of: Literal["target", "history"] = "history"
    """Whose weights they are: of the item that is scored, or of the items in the history."""
    normalize: Literal["no", "source", "target"] = "no"
    """What the weights that are kept are divided by, if anything: the sum of those that go out from an item of the history
    (each walk then ends somewhere that counts), or of those that lead to an item."""
    weights: WeightUse = "binary"
    """What a transition's probability, and d_j, are shares and sums of: interactions, or their weights."""

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(
            alpha=(0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2),
            beta=(0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8),
            neighbours=(50, 100, 200, 400, 800),
            normalize=("no", "source"),
        )

    @property
    def lists_are_columns(self) -> bool:
        """True if lists are of the item that is scored."""
        return self.neighbours_of == "target"

    @property
    def divisor(self) -> Literal["nothing", "list", "others"]:
        """The sum of the weights of a source or a target, if `normalize`."""
        if self.normalize == "no":
            return "nothing"
        return "list" if self.lists_are_columns == (self.normalize == "target") else "others"

    def product(self, rows: sparse.csr_array) -> Product:
        """The transitions to the users, times those to the items."""
        penalty = inverse(np.asarray(rows.sum(axis=0), dtype=np.float64).ravel(), self.beta)
        to_users, to_items = _transitions(transposed(rows), self.alpha), _transitions(rows, self.alpha)
        of_target = self.lists_are_columns
        # The strongest of each column are the strongest of each row of the transposed product, (AB)ᵀ = BᵀAᵀ.
        return Product(
            *((transposed(to_items), transposed(to_users)) if of_target else (to_users, to_items)),
            weigh=lambda row, column, walks: np.asarray(
                walks * penalty[row if of_target else column], dtype=np.float32
            ),
        )

    def over_divisor(self, weights: sparse.csr_array) -> sparse.csr_array:
        """Divide by the sums of rows or columns, if `normalize`."""
        if self.normalize == "no":
            return weights
        sources = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        return over_sums(weights, sources if self.normalize == "source" else weights.indices)


def _transitions(matrix: sparse.csr_array, power: float) -> sparse.csr_array:
    """Return each row divided by its sum, to the given power."""
    sums = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    probabilities = matrix.data * np.repeat(inverse(sums), np.diff(matrix.indptr))
    return sparse.csr_array(
        ((probabilities**power).astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape
    )


ROWS_TOGETHER = 16
"""Histories whose votes are counted together where many users vote: a user's similarities to them are one line of the cache."""
VOTE_COST = 10
"""The time of a vote that is added by itself, in that of one of a whole column of users times a dense block: 5 where users have 27 items, and 12 where
the rows of the voters are long and outgrow the caches."""


@spec(added={"weighting": "none", "power": 1.0, "score_exponent": 0.0, "weights": "binary"})
class UserKNN(WeighingSpec["Neighbours"]):
    """User-based collaborative filtering (Resnick et al., CSCW 1994; for implicit feedback: Sarwar et al., EC 2000).

    The `neighbours` train rows v closest to a history x, by ``s(x, v) = x·v / (‖x‖‖v‖ + h)``, vote for their items: a score
    is ``d_j^e·Σ_v s(x, v)^q·v_j``. With a `weighting` the similarity is that of weighted rows, the history's among them (see
    `EntryWeights`; rows are users, columns items), and the votes are 0/1 still. A history that was in train is its own
    nearest neighbour; it votes only for items that are left out of its list anyway.

    This model keeps the train rows, sparse and without the users' labels: the one exception to the rule that
    models hold items only. Whoever has the saved model has those rows.
    """

    kind: ClassVar[str] = "user-knn"
    refit_reason: ClassVar[str | None] = None
    zero_without_signal: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.linear.neighbours:Neighbours"
    neighbours: Count | Literal["all"] = 100
    """The number of train rows that vote: k, or all that share an item with the history."""
    shrinkage: NonNegativeFloat = 0.0
    """A term added to the denominator of the cosine: h."""
    weighting: EntryWeighting = "none"
    """The weight of an item where users are compared: none, by its degree, by TF-IDF or by BM25."""
    power: PositiveFloat = 1.0
    """The power of the similarity that is a vote: q. The larger, the more the closest rows decide."""
    score_exponent: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """The power of the item's degree that a score is multiplied by: e. Below 0 it holds popular items back."""
    normalize: bool = False
    """Divide the votes by their sum; it changes no user's ranking, only the scale."""
    weights: WeightUse = "binary"
    """The entries of x and v, where they are compared and where v votes: 0/1, or the weights of the interactions."""

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(
            neighbours=(20, 50, 100, 200, 400, 800, "all"),
            shrinkage=(0.0, 10.0, 100.0),
            weighting=("none", "degree", "tf-idf", "bm25"),
            power=(1.0, 2.0, 3.0, 4.0),
            score_exponent=(-0.3, -0.2, -0.15, -0.1, 0.0),
        )

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> Neighbours:
        """Keep the rows that are not empty."""
        rows = self.with_weights(train).matrix[np.flatnonzero(train.user_degrees)]
        return Neighbours(self, train.items, train.item_degrees, device=run.device, rows=rows)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Neighbours(Recommender["UserKNN"]):
    """Scores are votes of the train rows closest to the history."""

    rows: sparse.csr_array = learned("train users", "items", sparse=True)
    """The rows of train, without labels."""

    @cached_property
    def _weights(self) -> EntryWeights:
        return EntryWeights.of(self.spec.weighting, self.rows)

    @cached_property
    def _columns(self) -> sparse.csr_array:
        return transposed(self._weights.apply(self.rows))

    @cached_property
    def _norms(self) -> NDArray[np.float64]:
        return column_norms(self._columns)

    @cached_property
    def _voters(self) -> sparse.csr_array:
        return transposed(self.rows)

    def _votes(self, nearest: sparse.csr_array) -> NDArray[np.float32]:
        """Return the product of similarities (n_rows, train users) and train rows, by whichever way is faster.

        Both add up the users in the order of their rows, so they give the same bits.
        """
        votes = np.empty((nearest.shape[0], len(self.items)), dtype=np.float32)
        for start in range(0, nearest.shape[0], ROWS_TOGETHER):
            block = nearest[start : start + ROWS_TOGETHER]
            n_votes = int(np.diff(self.rows.indptr)[block.indices].sum())
            if n_votes <= DENSE_UP_TO and n_votes * VOTE_COST < self.rows.nnz * block.shape[0]:
                votes[start : start + ROWS_TOGETHER] = dense_product(block, self.rows)
            else:
                similarities = np.ascontiguousarray(block.toarray().T)
                votes[start : start + ROWS_TOGETHER] = (self._voters @ similarities).T
        return votes

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        rows = self._weights.apply(self.spec.with_weights(histories).matrix)
        similarity = cosine(column_norms(transposed(rows)), self._norms, self.spec.shrinkage)
        k = self.rows.shape[0] if self.spec.neighbours == "all" else self.spec.neighbours
        nearest = strongest(rows, self._columns, k, weigh=similarity, without_diagonal=False)
        if self.spec.power != 1:
            nearest.data **= np.float32(self.spec.power)
        votes = self._votes(nearest)
        if self.spec.normalize:
            votes *= inverse(np.asarray(nearest.sum(axis=1), dtype=np.float64))[:, None].astype(np.float32)
        if self.spec.score_exponent != 0:
            votes *= inverse(self.item_counts.astype(np.float64), -self.spec.score_exponent).astype(
                np.float32
            )
        return votes
