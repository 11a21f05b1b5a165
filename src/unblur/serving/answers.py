"""A loaded model and what is asked of it, in labels; without HTTP, so that agents and static pages ask the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.document.text import visible
from unblur.errors import ArtifactError, CapabilityError, DataError
from unblur.ranking import Ranking, Selection
from unblur.recommender import Recommender
from unblur.saving.container import writer
from unblur.saving.models import load_with_manifest
from unblur.serving.limits import Refused, ServiceLimits
from unblur.serving.messages import (
    Answer,
    Explain,
    Explained,
    Find,
    Found,
    History,
    Information,
    Item,
    Label,
    Reason,
    Recommend,
    Recommended,
    Request,
    Score,
    Scored,
    ScoredUsers,
    Similar,
    Similars,
    User,
)

REASONS = 5
"""Reasons given for an item of a list: more than anybody reads."""


@dataclass(frozen=True, eq=False)
class Served:
    """A model that is served, with its limits. It answers from one thread at a time."""

    model: Recommender
    name: str
    """The name of its folder, as `visible`: it need not be Unicode, and answers must be."""
    manifest: Mapping[str, Any]
    limits: ServiceLimits

    @classmethod
    def load(cls, path: Path, limits: ServiceLimits) -> Served:
        """Read a saved model and answer a first request with it.

        Raises `ArtifactError` if it is damaged, or replaced meanwhile.
        """
        model, manifest = load_with_manifest(Recommender, path)  # type: ignore[type-abstract]
        served = cls(model, visible(path.resolve().name), manifest, limits)
        ArtifactError.unless(
            served.labels, f"A model to ask must have items; that in {path} has none. Fit one to more data."
        )
        served.check()
        return served

    def check(self) -> None:
        """Recommend to a user of one item, so that whatever is computed at first use is there, and works."""
        first = self.labels[0]
        self.answer([Recommend(users=[User(history=[first])], k=1)])

    @property
    def digest(self) -> str:
        """The sha256 of the manifest, which has those of all files."""
        return f"sha256:{self.manifest['sha256']}"

    @cached_property
    def labels(self) -> list[Label]:
        """The label of each item, by position."""
        return cast("list[Label]", self.model.items.to_list())

    @cached_property
    def positions(self) -> dict[Label, int]:
        """The position of each label."""
        return {label: position for position, label in enumerate(self.labels)}

    @cached_property
    def titles(self) -> list[str]:
        """The title of each item, by position; its label if it has none."""
        titles = [None] * len(self.labels) if self.model.titles is None else self.model.titles.to_list()
        return [
            str(label) if title is None else str(title)
            for label, title in zip(self.labels, titles, strict=True)
        ]

    @cached_property
    def _searched(self) -> tuple[NDArray[np.int64], pl.Series]:
        """The positions of items, the most popular first, and their titles in lower case."""
        popular = np.argsort(self.model.tie_ranks)
        return popular, pl.Series(self.titles).str.to_lowercase()[popular]

    def information(self) -> Information:
        """What the model is, and the limits of a request."""
        return Information(
            model=self.digest,
            name=self.name,
            kind=self.model.spec.kind,
            items=len(self.labels),
            labels=self.model.items.kind,
            columns=["item", *(() if self.model.side is None else self.model.side.columns)],
            created=visible(str(self.manifest.get("created", ""))),
            unblur=visible(writer(self.manifest)),
            needs_timestamps=self.model.needs_timestamps,
            similar=self.model.spec.personal,
            exact=self.model.linear,
            limits=asdict(self.limits),
        )

    # ---------------------------------------------------------------------------------------------- answering

    def rows(self, request: Request) -> int:
        """Return the users that a request scores, or refuse it for its size."""
        check, limits = self.limits.check, self.limits
        if isinstance(request, Find):
            check("items in a list", request.limit, limits.k)
            return 1
        if isinstance(request, Similar):
            check("items in a list", request.k, limits.k)
            check("items", len(request.items), limits.batch)
            return len(request.items)
        if isinstance(request, Explain):
            check(
                "items in a history with reasons", len(request.history), min(limits.history, limits.reasons)
            )
            return len(request.history)
        check("users", len(request.users), limits.batch)
        check("items in a history", max(len(user.history) for user in request.users), limits.history)
        check("items to exclude", max(len(user.exclude) for user in request.users), limits.history)
        if isinstance(request, Score):
            check("items to score", len(request.items), limits.k)
            return len(request.users)
        check("items in a list", request.k, limits.k)
        check("candidates", len(request.candidates or ()), limits.history)
        n_explained = sum(len(user.history) for user in request.users) if request.explain else 0
        check("items of histories with reasons", n_explained, limits.reasons)
        return len(request.users) + n_explained

    def answer(self, requests: Sequence[Request]) -> list[Answer | Refused]:
        """Answer requests, or refuse them; those for lists of all items are answered with one product."""
        together = [each for each in requests if _chooses_from_all(each)]
        lists = iter(self._recommend(together))
        return [next(lists) if _chooses_from_all(each) else self._one(each) for each in requests]

    def _one(self, request: Request) -> Answer | Refused:
        try:
            match request:
                case Recommend():
                    return self._recommend([request])[0]
                case Similar():
                    return self._similar(request)
                case Explain():
                    return self._explain(request)
                case Score():
                    return self._score(request)
                case Find():
                    return self._search(request)
        except Refused as refusal:
            return refusal
        except DataError as problem:
            if isinstance(request, Recommend) and request.where is not None:  # which cannot be read
                return Refused(422, "where", str(problem))
            raise

    def _recommend(self, requests: Sequence[Recommend]) -> list[Recommended]:
        """Lists of several requests, which all choose from all items, or of one with candidates or a condition."""
        if not requests:
            return []
        users = [user for request in requests for user in request.users]
        histories, ignored = self._histories([user.history for user in users])
        candidates = requests[0].candidates
        chosen = None if candidates is None else self._known(candidates)[0]
        ranking = None
        if chosen is None or chosen:
            ranking = self.model.recommend(
                histories,
                selection=Selection(where=requests[0].where),
                k=max(request.k for request in requests),
                exclude=self._excluded(histories, users),
                candidates=None if chosen is None else [self.labels[position] for position in chosen],
            )
        lists, first = [], 0
        for request in requests:
            rows = range(first, first + len(request.users))
            first = rows.stop
            lists.append(
                Recommended(
                    model=self.digest,
                    users=[
                        {
                            "id": user.id,
                            "items": [] if ranking is None else self._list(ranking, row, request, histories),
                            "ignored": ignored[row],
                        }
                        for row, user in zip(rows, request.users, strict=True)
                    ],
                )
            )
        return lists

    def _list(self, ranking: Ranking, row: int, request: Recommend, histories: Interactions) -> list[Any]:
        positions = ranking.positions[row, : request.k]
        positions = positions[positions >= 0]
        filled = cast("NDArray[np.bool_]", ranking.filled)[row]
        items: list[dict[str, Any]] = [
            {**self._scored(position, score), "filled": popular}
            for position, score, popular in zip(
                positions.tolist(), ranking.scores[row].tolist(), filled.tolist(), strict=False
            )
        ]
        if request.explain:
            reasons = self._reasons(histories.take_users([row]), positions)
            for item, because in zip(items, reasons, strict=True):
                item["because"] = because
        return items

    def _reasons(self, history: Interactions, positions: NDArray[Any]) -> list[list[Reason]]:
        """The items of the history that add most to the score of each item; none without a history."""
        if not history.n_interactions:
            return [[] for _ in positions]
        _, shares = self.model.shares(history, positions)
        parts = (self._because(history, column)[:REASONS] for column in shares.T)
        return [[reason for reason in because if reason["share"] > 0] for because in parts]

    def _because(self, history: Interactions, shares: NDArray[np.float64]) -> list[Reason]:
        """The items of one history row, the largest share first."""
        columns = history.matrix.indices
        order = np.lexsort((columns, -shares))
        return [
            {**self._item(column), "share": share}
            for column, share in zip(columns[order].tolist(), shares[order].tolist(), strict=True)
        ]

    def _similar(self, request: Similar) -> Similars:
        positions, unknown = self._known(request.items)
        if not positions:
            return {"model": self.digest, "items": [], "unknown": unknown}
        try:
            ranking = self.model.similar_items([self.labels[position] for position in positions], request.k)
        except CapabilityError as problem:
            raise Refused(422, "no_similar_items", str(problem)) from None
        return {
            "model": self.digest,
            "items": [
                {
                    **self._item(position),
                    "similar": [
                        self._scored(near, score)
                        for near, score in zip(neighbours.tolist(), scores.tolist(), strict=True)
                        if near >= 0
                    ],
                }
                for position, neighbours, scores in zip(
                    positions, ranking.positions, ranking.scores, strict=True
                )
            ],
            "unknown": unknown,
        }

    def _explain(self, request: Explain) -> Explained:
        positions, _ = self._known([request.item])
        Refused.unless(
            positions, 422, "unknown_item", "The item must be one of the model's. Check its label."
        )
        history, ignored = self._histories([request.history])
        Refused.unless(
            history.n_interactions,
            422,
            "unknown_items",
            "At least one item of the history must be one of the model's. Check their labels.",
        )
        scores, shares = self.model.shares(history, np.array(positions))
        return {
            "model": self.digest,
            **self._scored(positions[0], float(scores[0])),
            "exact": self.model.linear,
            "because": self._because(history, shares[:, 0]),
            "ignored": ignored[0],
        }

    def _score(self, request: Score) -> ScoredUsers:
        positions, unknown = self._known(request.items)
        histories, ignored = self._histories([user.history for user in request.users])
        scores = self.model.score(histories)[:, positions]
        return {
            "model": self.digest,
            "users": [
                {
                    "id": user.id,
                    "items": [
                        self._scored(position, score)
                        for position, score in zip(positions, row.tolist(), strict=True)
                    ],
                    "ignored": unknown_items,
                }
                for user, row, unknown_items in zip(request.users, scores, ignored, strict=True)
            ],
            "unknown": unknown,
        }

    def _search(self, request: Find) -> Found:
        popular, titles = self._searched
        matches = titles.str.contains(request.search.lower(), literal=True).arg_true().head(request.limit)
        counts = self.model.item_counts
        positions = popular[matches.to_numpy()].tolist()
        return {"items": [{**self._item(position), "count": int(counts[position])} for position in positions]}

    def _item(self, position: int) -> Item:
        return {"item": self.labels[position], "title": self.titles[position]}

    def _scored(self, position: int, score: float) -> Scored:
        return {**self._item(position), "score": score}

    # ------------------------------------------------------------------------------------------------ labels

    def _known(self, labels: Sequence[Label]) -> tuple[list[int], list[Label]]:
        """The positions of distinct labels that the model knows, and those that it does not know."""
        known: dict[int, None] = {}
        unknown: dict[Label, None] = {}
        for label in labels:
            position = self.positions.get(label)
            if position is None:
                unknown[label] = None
            else:
                known[position] = None
        return list(known), list(unknown)

    def _histories(self, histories: Sequence[History]) -> tuple[Interactions, list[list[Label]]]:
        """History rows over the model's items, each item once at its last time, and the unknown labels of each."""
        ignored, rows, times = [], [], []
        for history in histories:
            labels = [event if isinstance(event, int | str) else event.item for event in history]
            positions = [self.positions.get(label) for label in labels]
            known = {position for position in positions if position is not None}
            rows.append(sorted(known))
            ignored.append([] if None not in positions else self._known(labels)[1])
            if self.model.needs_timestamps:
                last = self._last_times(history, positions)
                times += [last[column] for column in rows[-1]]
        return self.histories_at(rows, times), ignored

    def _last_times(self, history: History, positions: Sequence[int | None]) -> dict[int, int]:
        """The last time of each item of a history; in the order of its list unless every event has a time."""
        times = [None if isinstance(event, int | str) else event.time for event in history]
        moments = range(len(times)) if None in times else cast("list[int]", times)
        last: dict[int, int] = {}
        for position, moment in zip(positions, moments, strict=True):
            if position is not None:
                last[position] = max(moment, last.get(position, moment))
        return last

    def _excluded(self, histories: Interactions, users: Sequence[User]) -> Interactions:
        """The rows of what is left out of lists: the histories, and what the users exclude."""
        if not any(user.exclude for user in users):
            return histories
        indices, ends = histories.matrix.indices, histories.matrix.indptr
        return self.histories_at(
            [
                sorted({*indices[ends[row] : ends[row + 1]].tolist(), *self._known(user.exclude)[0]})
                for row, user in enumerate(users)
            ]
        )

    def histories_at(self, rows: Sequence[Sequence[int]], times: Sequence[int] | None = None) -> Interactions:
        """Histories of these item positions, row by row, sorted and distinct; in their order for a model that needs times."""
        columns = np.array([column for row in rows for column in row], dtype=np.int32)
        ends = np.cumsum([0, *(len(row) for row in rows)])
        matrix = sparse.csr_array(
            (np.ones(len(columns), dtype=np.float32), columns, ends), shape=(len(rows), len(self.labels))
        )
        moments = None
        if self.model.needs_timestamps:
            moments = np.arange(len(columns)) if times is None else np.array(times, dtype=np.int64)
        return Interactions(matrix, Vocabulary.range(len(rows)), self.model.items, moments)


def _chooses_from_all(request: Request) -> TypeGuard[Recommend]:
    return isinstance(request, Recommend) and request.candidates is None and request.where is None
