"""The base of all recommenders: score history rows, rank, find similar items, explain, save.

The module of a model imports from here all that it needs: `Recommender`, `RecommenderSpec`, `learned`, and the types of
`learn`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, TypeAlias, cast, final, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from typing_extensions import TypeVar

from unblur.data.changes import Change
from unblur.data.interactions import Interactions, Unknown, check_interactions
from unblur.data.side import check_side, side_of, title_column
from unblur.data.vocabulary import Vocabulary
from unblur.errors import Argument, CapabilityError, DataError, VocabularyMismatch, nearest, some
from unblur.fitted import (
    Array,
    Fitted,
    FittedSpec,
    S_co,
    StoppingData as StoppingData,
    is_finite,
    learned as learned,
)
from unblur.progress import Progress, ProgressEvent, Run as Run, silent
from unblur.randomness import RNG as RNG
from unblur.ranking import (
    BY_SCORE,
    NOT_FINITE,
    Chooser,
    Excluded,
    Explanation,
    Ranking,
    Selection,
    excluded_rows,
    rank_rows,
    tie_ranks,
)
from unblur.ranking.conditions import holds
from unblur.saving.models import load_as, save

_NO_LENGTH = 1e-30
"""Products of lengths below this are those of a vector at the mean, which is similar to none: cosine 0."""


@runtime_checkable
class Scorer(Protocol):
    """Anything that can be evaluated, of this library or not."""

    @property
    def items(self) -> Vocabulary:
        """The items of the scores' columns."""
        ...

    def score(self, histories: Interactions) -> NDArray[np.float32]:
        """Return scores (n_users, n_items), finite; higher is better."""
        ...


_BATCHES_AT_A_TIME = 4
"""Batches of users whose lists are in memory at once: those that a few threads can share, a gigabyte for 40,000 items."""
_ROWS_AT_A_TIME = 2**21
"""Entries of these lists if there are more batches: some 100 megabytes as a table."""
_NOISE = 1e-6
"""The share of the largest score of a history of one item that rounding in float32 can make of nothing: some units in the
last place of 2**-24, since a score is the sum of many."""
_NEIGHBOURS = 100
"""Similar items that diversity counts with, as many as are re-ranked: those below are as good as different."""
_PROBES = 32
"""Popular items whose largest scores say how large scores are: any of them would do; 32 are scored as fast as one."""

_SCORES_AT_A_TIME = 2**24
"""Scores of a batch of these lists: 64 megabytes for each thread, and as much again for what is done with them."""

R_co = TypeVar("R_co", bound="Recommender", covariant=True, default="Recommender")


class RecommenderSpec(FittedSpec[R_co]):
    """Hyper-parameters of a recommender, and how to fit them to data."""

    weights_setting: ClassVar[str] = ""
    """The path of the setting that makes weights of interactions count if it is ``"use"``; empty if they never do."""

    @property
    def uses_weights(self) -> bool:
        """True if the weights of interactions count, or only which interactions there are."""
        return False

    def with_weights(self, data: Interactions) -> Interactions:
        """Return the interactions with the weights that count: their own, or 1 each."""
        return data if self.uses_weights else data.binarized()

    def notes_on(self, train: Interactions) -> tuple[str, ...]:
        """A note if the interactions have weights that do not count."""
        if self.with_weights(train) is train:
            return ()
        setting = self.weights_setting
        advice = f'with model.{setting} = "use" they count' if setting else "no setting of it uses them"
        return (f"the weights of the interactions do not count: {self.kind} takes each as 1; {advice}",)

    @property
    def refit_reason(self) -> str | None:
        """Why a fitted model of it cannot take a change of its log (`Recommender.updated`); `None` if it can."""
        return "what it learns of one item rests on all users at once"

    def update(self, model: Recommender, change: Change, run: Run) -> R_co:
        """Return what a fit to the log after a change gives, from the `model` of the log before it.

        It is called for specs that need not be refitted (`refit_reason`). Those whose fit costs no more than reading the log
        have no other way.
        """
        return self.fit_in(run, change.after)

    def with_statistics(self, model: Recommender, log: Interactions) -> R_co:
        """Return `model` with its sums over `log`, as `Recommender.keeping_statistics` calls it; as it is if it needs none."""
        return cast("R_co", model)


WeightUse: TypeAlias = Literal["binary", "use"]
"""What the weight of an interaction is: 1, or the one that it has."""


class WeighingSpec(RecommenderSpec[R_co]):
    """A spec with the setting `weights`; each says by which equation weights count."""

    weights_setting: ClassVar[str] = "weights"
    weights: WeightUse

    @property
    def uses_weights(self) -> bool:
        """True if `weights` says so."""
        return self.weights == "use"


@dataclass(frozen=True, eq=False, repr=False)
class Recommender(Fitted[S_co], ABC):
    """Fitted and immutable. It holds items, never users: a user is a history row, of train or new."""

    item_counts: NDArray[np.int64]
    """(n_items,) the number of training users of each item."""

    side: pl.DataFrame | None = field(default=None, kw_only=True)
    """A row for each item, with what is known of it (title, category, price …); `with_side` gives it."""

    noun: ClassVar[str] = "model"
    linear: ClassVar[bool] = False
    """True if scores are linear in the history row; then `explain` is exact."""
    batch: ClassVar[int] = 1024
    """The number of rows scored at a time, unless the caller passes one."""
    in_threads: ClassVar[bool] = False
    """True if batches are best scored in parallel on a CPU, one thread for each."""

    @property
    def needs_timestamps(self) -> bool:
        """True if histories must carry timestamps to be scored."""
        return self.spec.needs_timestamps

    @property
    def exact(self) -> bool:
        """True if the shares of an explanation add up to the score."""
        return self.linear

    @property
    def popularity(self) -> NDArray[np.float32]:
        """(n_items,) the item counts over the largest of them."""
        largest = max(1, int(self.item_counts.max(initial=0)))
        return np.asarray(self.item_counts / largest, dtype=np.float32)

    @cached_property
    def tie_ranks(self) -> NDArray[np.int64]:
        """(n_items,) the rank of each item among equal scores: by its count, largest first, then by position."""
        return tie_ranks(self.item_counts)

    @abstractmethod
    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        """Return scores (n_users, n_items) of rows over `self.items`, in any memory order, in a fresh array."""

    def item_vectors(self) -> NDArray[np.float32] | None:
        """Return vectors (n_items, any width) of which similar items have a small angle, as `similar_items` compares them.

        `None` if the scores of a history of one item tell as much: not those of a network that learned long histories,
        which gives nearly the same list for each.
        """
        return None

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """The number of training users of each item."""
        return {"count": self.item_counts}

    def with_side(self, table: pl.DataFrame) -> Self:
        """Return the same model with a side of its items: a table whose first column has their labels.

        Its titles are in lists, its columns serve as conditions and limits, and it is saved with the model. Raises `DataError`
        as `unblur.data.side.side_of` does, which has notes as well.
        """
        return replace(self, side=side_of(table, self.items)[0])

    def saved_tables(self) -> Mapping[str, pl.DataFrame]:
        """The side of the items, if there is one."""
        return {} if self.side is None else {"side": self.side}

    def with_saved_tables(self, tables: Mapping[str, pl.DataFrame]) -> Self:
        """See `Fitted.with_saved_tables`."""
        remaining = dict(tables)
        side = remaining.pop("side", None)
        model = super().with_saved_tables(remaining)
        return model if side is None else replace(model, side=check_side(side, self.items))

    @property
    def titles(self) -> pl.Series | None:
        """The title of each item, from its side."""
        column = title_column(self.side)
        return None if self.side is None or column is None else self.side[column]

    @classmethod
    def _other_fields(
        cls, columns: Mapping[str, NDArray[Any]], remaining: dict[str, Array]
    ) -> dict[str, Any]:
        counts = columns["count"]
        whole = counts.ndim == 1 and counts.dtype.kind in "iu"
        if not whole or counts.min(initial=0) < 0 or counts.max(initial=0) >= 2**31:
            raise ValueError(
                "count is not a column of whole numbers from 0 to below 2**31, as many as there can be users"
            )
        return {"item_counts": counts.astype(np.int64)}

    @final
    def score(self, histories: Interactions) -> NDArray[np.float32]:
        """Return scores (n_users, n_items) float32, finite, higher is better; one row for each row of `histories`.

        `histories` must be over `self.items`. A user without any history gets item popularity (the item's train
        degree over the largest one). A row's scores do not depend on the rows around it. Raises `DataError` for scores that
        are not finite, those of a model that did not fit.
        """
        check_interactions(histories, "score")
        if histories.items != self.items:
            raise _foreign_items(histories, self.items)
        DataError.unless(
            histories.timestamps is not None or not self.needs_timestamps,
            f"{type(self).__name__} weighs a history by its order in time, so histories must carry timestamps; "
            "these have none. Read the data with its time column.",
        )
        scores = self._score(histories)
        empty = histories.user_degrees == 0
        if empty.any():
            scores[empty] = self.popularity
        DataError.unless(is_finite(scores), NOT_FINITE)
        return scores

    @final
    def updated(self, change: Change, *, progress: Progress = silent) -> Self:
        """Return the model of the log after a change: that which a fit to it gives, found without a fit to everything.

        Raises `DataError` unless the model was fitted to the log before the change, and `CapabilityError`, with what a refit
        costs, for models that must be refitted (`RecommenderSpec.refit_reason`).
        """
        spec = cast("RecommenderSpec[Self]", self.spec)
        reason = spec.refit_reason
        if reason is not None:
            epochs = sum(plan.epochs for plan in spec.plans().values())
            cost = f"{epochs:,} epochs" if epochs else "one fit"
            raise CapabilityError(
                f"A model of kind {spec.kind} must be refitted to take new events or to forget users: {reason}. Fit its spec "
                f"to the log after the change: {cost} over {change.after.n_interactions:,} interactions."
            )
        self._check_log(change.before)
        model = spec.update(self, change, Run(self.device, progress))
        if self.side is None:
            return model
        return model.with_side(pl.DataFrame([self.items.series.rename(" item"), *self.side.get_columns()]))

    @final
    def keeping_statistics(self, log: Interactions) -> Self:
        """Return the same model with the sums over all users of `log` that `updated` would otherwise form again.

        They are for EASE its Gram matrix; other kinds find from the log what changes, and keep nothing. Raises `DataError` unless the
        model was fitted to `log`.
        """
        self._check_log(log)
        return cast("RecommenderSpec[Self]", self.spec).with_statistics(self, log)

    def _check_log(self, log: Interactions) -> None:
        DataError.unless(
            log.items == self.items and np.array_equal(log.item_degrees, self.item_counts),
            "The log before a change must be the one that the model was fitted to; its items, or how many users each has, "
            "are others. Give that log, read as it was for the fit.",
        )

    @final
    def recommend(
        self,
        histories: Interactions,
        *,
        k: int,
        exclude: Excluded = "history",
        candidates: ArrayLike | Interactions | None = None,
        unknown_items: Unknown = "raise",
        selection: Selection = BY_SCORE,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> Ranking:
        """Return the best `k` items for each history row; ties go to the item of more training users, then by position.

        - `exclude`: ``"history"`` leaves out the items of the row itself; Interactions with the same rows leave out
          their pairs; `None` leaves out nothing.
        - `candidates`: item labels to choose from, or Interactions with the same rows, whose items alone are allowed to
          each of them; all items if `None`.
        - `unknown_items`: ``"raise"`` for items of a history that the model never saw, or ignore and count them.
        - `selection`: further conditions, limits, and re-ranking.
        - `batch_size`: the number of rows scored at a time; the model's own if `None`.

        A row with fewer than `k` items to choose from ends in position −1 and score −inf; no list is longer than there
        are items to choose from. Raises `DataError` if `k` is below 1.
        """
        _check_k(k)
        histories, notes = self._over_items(histories, unknown_items, selection)
        choice = self._choice(histories, k, exclude, candidates, selection)
        positions, best = rank_rows(
            self.score,
            histories,
            choice,
            batch_size=self.batch if batch_size is None else batch_size,
            parallel=self.in_threads and self.device == "cpu",
            progress=progress,
        )
        fallback = histories.user_degrees == 0
        filled = self._filled(positions, best, fallback)
        lists = Ranking(histories.users, self.items, positions, best, fallback, notes, filled, self.titles)
        return replace(lists, notes=(*notes, *_filled_note(lists.n_filled)))

    def _choice(
        self,
        histories: Interactions,
        k: int,
        exclude: Excluded,
        candidates: ArrayLike | Interactions | None,
        selection: Selection,
    ) -> Chooser:
        """The choice of the lists for `histories`, which are over the model's items."""
        ties, allowed = self.tie_ranks, None
        if isinstance(candidates, Interactions):
            allowed = candidates
        elif candidates is not None:
            ties = ties.copy()
            ties[np.isin(np.arange(len(ties)), self.items.positions(candidates), invert=True)] = -1
        if selection.filler == "none":
            ties = np.where(self.item_counts == 0, -1, ties)
        if selection.where is not None:
            ties = np.where(holds(selection.where, self._known_side, self.items), ties, -1)
        most = int((ties >= 0).sum())
        if allowed is not None:
            most = min(most, int(allowed.user_degrees.max(initial=0)))
        return Chooser(
            k=max(1, min(k, most)),
            ties=ties,
            excluded=excluded_rows(exclude, histories),
            allowed=excluded_rows(allowed, histories, "candidates"),
            signal_threshold=self.signal_threshold,
            selection=selection,
            counts=self.item_counts if selection.popularity else None,
            groups=None if selection.limit is None else self._groups(selection.limit[1]),
            neighbours=self.neighbours if selection.diversity < 1 else None,
        )

    @property
    def _known_side(self) -> pl.DataFrame:
        if self.side is None:
            raise DataError(
                "Conditions and limits are over columns of the items; this model has no table of them. Give one at fit: "
                "unblur fit --items items.parquet, or `model.with_side(table)`."
            )
        return self.side

    def _groups(self, column: str) -> NDArray[np.int64]:
        """The number of each item's value in a column of the side, −1 without a value."""
        side = self._known_side
        if column not in side.columns:
            hint = nearest(column, side.columns) or f" There are {some(side.columns)}."
            raise DataError(
                f"A limit must name a column of the items' table; {column!r} is none of them.{hint}"
            )
        codes = side[column].rank("dense").cast(pl.Int64) - 1
        return codes.fill_null(-1).to_numpy().astype(np.int64)

    @cached_property
    def neighbours(self) -> sparse.csr_array:
        """(n_items, n_items) the similarity, from 0 to 1, of each item to the 100 most similar ones of `similar_items`.

        A cosine below 0 counts as 0; where similarity is a score, it is the share of the largest score of the same list.
        """
        lists = self.similar_items(self.items.series, min(_NEIGHBOURS, len(self.items)))
        values = np.where(lists.positions >= 0, np.maximum(lists.scores, 0), 0).astype(np.float32)
        if self.item_vectors() is None:
            values /= np.maximum(values.max(axis=1, keepdims=True), _NO_LENGTH)
        rows, columns = np.nonzero(values)
        entries = (values[rows, columns], (rows, lists.positions[rows, columns]))
        return sparse.csr_array(entries, shape=(len(self.items), len(self.items)))

    @cached_property
    def signal_threshold(self) -> float | None:
        """The size up to which a score is that of an item without signal; `None` if no score of this kind says so."""
        if not self.spec.zero_without_signal or not len(self.items):
            return None
        popular = self.tie_ranks.argsort()[:_PROBES]
        return _NOISE * float(np.abs(self.score(self._alone(popular))).max())

    def _filled(
        self, positions: NDArray[np.int32], scores: NDArray[np.float32], fallback: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return which items of lists have no signal: nobody had them, the user has nothing, or the score says so."""
        unseen = self.item_counts[positions] == 0 if len(self.items) else positions < 0
        silent_scores = False if self.signal_threshold is None else np.abs(scores) <= self.signal_threshold
        return (positions >= 0) & (unseen | silent_scores | fallback[:, None])

    def _alone(self, positions: NDArray[np.integer[Any]]) -> Interactions:
        """A history of one item for each position; all are of the same time."""
        n_rows = len(positions)
        rows = sparse.csr_array(
            (np.ones(n_rows, np.float32), positions, np.arange(n_rows + 1)), shape=(n_rows, len(self.items))
        )
        times = np.zeros(n_rows, dtype=np.int64) if self.needs_timestamps else None
        return Interactions(rows, self.items.take(positions), self.items, times)

    def _over_items(
        self, histories: Interactions, unknown_items: Unknown, selection: Selection
    ) -> tuple[Interactions, tuple[str, ...]]:
        """The histories over the model's items, and notes on what was ignored and on users without a history."""
        check_interactions(histories, "recommend")
        notes = []
        if histories.items != self.items:
            known = histories.items.kind == self.items.kind and (
                self.items.positions_or_missing(histories.items)[histories.item_degrees > 0] >= 0
            )
            if unknown_items == "raise" and not np.all(known):
                raise _foreign_items(histories, self.items)
            n_before = histories.n_interactions
            histories = histories.onto(items=self.items, unknown=unknown_items)
            n_lost = n_before - histories.n_interactions
            if n_lost:
                notes.append(
                    f"{n_lost:,} history interactions with items that the model never saw were ignored"
                )
        n_empty = int((histories.user_degrees == 0).sum())
        if n_empty:
            substitute = "popular items" if selection.filler == "popular" else "an empty list"
            notes.append(f"{n_empty:,} users without a history were given {substitute}")
        return histories, tuple(notes)

    @final
    def recommend_batches(
        self,
        histories: Interactions,
        *,
        k: int,
        exclude: Excluded = "history",
        candidates: ArrayLike | Interactions | None = None,
        unknown_items: Unknown = "raise",
        selection: Selection = BY_SCORE,
        progress: Progress = silent,
    ) -> Iterator[Ranking]:
        """Yield the lists of `recommend` for some users at a time, so that memory does not grow with their number.

        The notes on all of them are those of the first, and of the last on items without signal.
        """
        _check_k(k)
        histories, notes = self._over_items(histories, unknown_items, selection)
        n_users, n_filled = histories.n_users, 0
        size = self.batch * max(_BATCHES_AT_A_TIME, _ROWS_AT_A_TIME // (self.batch * min(k, len(self.items))))
        for start in range(0, max(n_users, 1), size):

            def on_the_way(event: ProgressEvent, start: int = start) -> None:
                progress(replace(event, done=start + event.done, total=n_users))

            rows = slice(start, start + size)
            ranking = self.recommend(
                histories.take_users(rows),
                k=k,
                exclude=exclude.take_users(rows) if isinstance(exclude, Interactions) else exclude,
                candidates=candidates.take_users(rows)
                if isinstance(candidates, Interactions)
                else candidates,
                selection=selection,
                batch_size=max(1, min(self.batch, _SCORES_AT_A_TIME // max(1, len(self.items)))),
                progress=on_the_way,
            )
            n_filled += ranking.n_filled
            is_last = start + size >= n_users
            yield replace(
                ranking,
                notes=(*(() if start else notes), *(_filled_note(n_filled) if is_last else ())),
            )

    @final
    def similar_items(
        self, items: int | str | ArrayLike, k: int, *, candidates: ArrayLike | None = None
    ) -> Ranking:
        """Return the `k` items closest to an item, or to each of several: a list for each.

        By the cosine of `item_vectors`, less their mean; without such vectors, those that the model ranks first for a
        history of that item alone. `candidates` are the labels to choose from. Raises `CapabilityError` for a kind that
        is not `personal`, such as popularity.
        """
        CapabilityError.unless(
            self.spec.personal,
            f"Similar items follow from what users have in common; {self.spec.kind} looks at no history. "
            "Fit another model, such as item-knn.",
        )
        _check_k(k)
        columns = self.items.positions([items] if isinstance(items, int | str | np.integer) else items)
        histories, vectors = self._alone(columns), self.item_vectors()
        if vectors is None:
            return self.recommend(histories, k=k, candidates=candidates)
        centred = vectors - vectors.mean(axis=0)
        lengths = np.linalg.norm(centred, axis=1)

        def cosines(rows: Interactions) -> NDArray[np.float32]:
            own = rows.matrix.indices
            products = lengths[own][:, None] * lengths
            return np.asarray((centred[own] @ centred.T) / np.maximum(products, _NO_LENGTH), dtype=np.float32)

        choice = replace(self._choice(histories, k, "history", candidates, BY_SCORE), signal_threshold=None)
        positions, best = rank_rows(cosines, histories, choice, batch_size=self.batch)
        nobody = np.zeros(len(columns), dtype=bool)
        return Ranking(histories.users, self.items, positions, best, nobody, titles=self.titles)

    @final
    def explain(self, history: Interactions, item: int | str) -> Explanation:
        """Return the contribution of each item of one history row to the score of `item`.

        Exact for a linear model, where the score of a row is the sum of the scores of its items. Otherwise each
        share is what the score loses when that one item is left out of the history (occlusion), and the shares
        need not add up.
        """
        check_interactions(history, "explain")
        DataError.unless(
            history.n_users == 1 and history.n_interactions,
            f"One user with at least one interaction can be explained; saw {history.n_users:,} users with "
            f"{history.n_interactions:,} interactions. Select one with `.select_users([label])`.",
        )
        scores, shares = self.shares(history, self.items.positions([item]))
        order = np.lexsort((history.matrix.indices, -shares[:, 0]))
        return Explanation(
            item=item,
            score=float(scores[0]),
            history=self.items.take(history.matrix.indices[order]),
            shares=shares[order, 0],
            exact=self.exact,
        )

    def shares(
        self, history: Interactions, targets: NDArray[np.intp]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the scores (n_targets,) of one history row for the items at these positions, and their parts by its items.

        The parts are (n_history, n_targets), as in `explain`, the history in the order of positions. `batch` rows are scored
        at a time.
        """
        whole = self.score(history)[0, targets]
        n_items = history.n_interactions
        parts = np.empty((n_items, len(targets)))
        for start in range(0, n_items, self.batch):
            chosen = np.arange(start, min(start + self.batch, n_items))
            repeated = history.take_users(np.zeros(len(chosen), dtype=np.intp))
            # A row holds one item alone if scores add up, and all items but that one otherwise.
            is_own = chosen[:, None] == np.arange(n_items)[None, :]
            rows = repeated.keep((is_own if self.linear else ~is_own).ravel())
            parts[chosen] = self.score(rows)[:, targets]
        # Without its only item a history is empty: its score is popularity then, which the model did not learn.
        if not self.linear and n_items == 1:
            parts[:] = 0.0
        return whole, parts if self.linear else whole - parts

    @final
    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a new folder; `unblur.load` reads it back. See `unblur.saving.models.save`."""
        save(self, path, overwrite=overwrite)


def load(path: str | Path, *, device: str = "cpu") -> Recommender:
    """Read a recommender that `Recommender.save` wrote; it gives the same scores, bit for bit, on the same machine.

    Raises `ArtifactError` as `unblur.saving.models.load_as` does.
    """
    return load_as(Recommender, path, device=device)  # type: ignore[type-abstract]


def _filled_note(n_filled: int) -> tuple[str, ...]:
    words = f"{n_filled:,} recommended items have no signal for their user: popular items fill the lists, flagged as filled"
    return (words,) if n_filled else ()


def _check_k(k: int) -> None:
    DataError.unless(
        isinstance(k, int | np.integer) and not isinstance(k, bool) and k >= 1,
        f"k must be a whole number from 1, the most items of a list; saw {k!r}. Correct it.",
    )


def _foreign_items(histories: Interactions, items: Vocabulary) -> VocabularyMismatch:
    if histories.items.kind == items.kind:
        unknown = histories.items.series.filter(items.positions_or_missing(histories.items) < 0)
        detail = (
            f"; {len(unknown):,} of theirs are unknown to it: {some(unknown.to_list())}"
            if len(unknown)
            else ""
        )
    else:
        detail = f"; theirs are {histories.items.kind} labels and its are {items.kind} labels"
    return VocabularyMismatch(
        f"Histories must be over the model's {len(items):,} items; these are over {len(histories.items):,}{detail}. "
        "Read them with `item_vocabulary=model.items`, or recommend with ",
        Argument("unknown_items", "ignore"),
        ".",
    )
