"""What the service answers is what the model says; what it refuses, it refuses by name and at once."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from tests.serving.conftest import Client, serving
from unblur.data.interactions import Interactions
from unblur.models.linear.recency import Recency
from unblur.models.popularity import Popularity
from unblur.parallel.threads import n_threads
from unblur.recommender import Recommender
from unblur.serving.answers import Served
from unblur.serving.limits import Refused, ServiceLimits
from unblur.serving.messages import Answer, Recommend, Request, User
from unblur.serving.scoring import Scoring

HISTORY = ["item-03", "item-07", "item-12"]


def lists(http: Any, **body: Any) -> list[dict[str, Any]]:
    answer = http.post("/v1/recommend", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["users"]  # type: ignore[no-any-return]


def history(knn: Recommender, labels: list[str]) -> Interactions:
    return Interactions.from_pairs(["u"] * len(labels), labels, item_vocabulary=knn.items)


def test_lists_are_those_of_the_model(http: TestClient, knn: Recommender, log: Interactions) -> None:
    labels = [log.items.take(log.take_users([row]).matrix.indices).to_list() for row in range(20)]
    users = [{"id": row, "history": items} for row, items in enumerate(labels)]
    answers = lists(http, users=users, k=7)
    ranking = knn.recommend(log.take_users(slice(20)), k=7)
    for row, answer in enumerate(answers):
        assert answer["id"] == row
        assert [item["item"] for item in answer["items"]] == ranking.labels(row)
        np.testing.assert_array_equal([item["score"] for item in answer["items"]], ranking.scores[row])
        assert answer["ignored"] == []


def test_a_user_has_events_exclusions_candidates_and_unknown_items(
    http: TestClient, knn: Recommender
) -> None:
    events = [{"item": HISTORY[0], "time": 5}, HISTORY[1], HISTORY[2], HISTORY[2], "nothing", 17]
    (plain,) = lists(http, users=[{"history": HISTORY}], k=30)
    (user,) = lists(http, users=[{"id": "a", "history": events, "exclude": ["item-01", "other"]}], k=30)
    assert user["ignored"] == ["nothing", 17]
    assert [each["item"] for each in user["items"]] == [
        each["item"] for each in plain["items"] if each["item"] != "item-01"
    ]
    (chosen,) = lists(
        http, users=[{"history": HISTORY}], k=9, candidates=["item-20", "item-05", "nothing", "item-03"]
    )
    assert {each["item"] for each in chosen["items"]} == {
        "item-20",
        "item-05",
    }  # what is left, of the history nothing
    (empty,) = lists(http, users=[{"history": HISTORY}], candidates=["nothing"])
    assert empty["items"] == []
    (new,) = lists(http, users=[{}], k=3)
    assert all(each["filled"] for each in new["items"])
    assert [each["item"] for each in new["items"]] == [
        knn.items.to_list()[position] for position in np.argsort(knn.tie_ranks)[:3]
    ]


def test_reasons_are_the_parts_of_the_score(http: TestClient, knn: Recommender) -> None:
    (user,) = lists(http, users=[{"history": HISTORY}], k=5, explain=True)
    for item in user["items"]:
        assert sum(reason["share"] for reason in item["because"]) == pytest.approx(item["score"], rel=1e-5)
        answer = http.post("/v1/explain", json={"history": HISTORY, "item": item["item"]}).json()
        assert answer["exact"]
        assert answer["score"] == item["score"]
        expected = knn.explain(history(knn, HISTORY), item["item"])
        assert [reason["item"] for reason in answer["because"]] == expected.history.to_list()
        np.testing.assert_allclose([reason["share"] for reason in answer["because"]], expected.shares)


def test_similar_items_and_scores_are_those_of_the_model(http: TestClient, knn: Recommender) -> None:
    answer = http.post("/v1/similar", json={"items": ["item-07", "nothing"], "k": 4}).json()
    assert answer["unknown"] == ["nothing"]
    (near,) = answer["items"]
    assert [each["item"] for each in near["similar"]] == knn.similar_items("item-07", 4).labels()
    answer = http.post(
        "/v1/score", json={"users": [{"history": HISTORY}], "items": ["item-20", "x", "item-01"]}
    ).json()
    (user,) = answer["users"]
    assert [each["item"] for each in user["items"]] == ["item-20", "item-01"]
    expected = knn.score(history(knn, HISTORY))[0, knn.items.positions(["item-20", "item-01"])]
    np.testing.assert_array_equal([each["score"] for each in user["items"]], expected)
    assert answer["unknown"] == ["x"]


def test_items_are_found_by_a_part_of_their_title(http: TestClient, knn: Recommender) -> None:
    items = http.get("/v1/items", params={"search": "ITEM-0", "limit": 4}).json()["items"]
    counts = {label: int(count) for label, count in zip(knn.items.to_list(), knn.item_counts, strict=True)}
    expected = sorted((label for label in counts if "item-0" in label), key=lambda label: -counts[label])[:4]
    assert [each["item"] for each in items] == expected
    assert [each["count"] for each in items] == [counts[label] for label in expected]
    assert http.get("/v1/items", params={"search": "(["}).json()["items"] == []


def test_a_history_without_times_is_in_the_order_of_its_list(
    client: Client, log: Interactions, tmp_path: Path
) -> None:
    model = Recency(half_life=1).fit(log)
    model.save(tmp_path / "recency")
    http = client(tmp_path / "recency")
    forward, backward = lists(http, users=[{"history": HISTORY}, {"history": HISTORY[::-1]}], k=20)
    timed = [{"item": item, "time": time} for item, time in zip(HISTORY, (30, 20, 10), strict=True)]
    (by_time,) = lists(http, users=[{"history": timed}], k=20)
    assert by_time["items"] == backward["items"] != forward["items"]


def test_the_model_says_what_it_is(http: TestClient, knn: Recommender, saved: Path) -> None:
    information = http.get("/v1/model").json()
    manifest = json.loads((saved / "manifest.json").read_text())
    assert information["model"] == f"sha256:{manifest['sha256']}"
    assert (information["kind"], information["items"], information["labels"]) == (
        "item-knn",
        len(knn.items),
        "str",
    )
    assert information["limits"]["history"] == 5000


def test_a_kind_without_similar_items_says_so(client: Client, log: Interactions, tmp_path: Path) -> None:
    Popularity().fit(log).save(tmp_path / "popular")
    answer = client(tmp_path / "popular").post("/v1/similar", json={"items": ["item-01"]})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "no_similar_items"


def test_items_have_titles_and_conditions_are_over_their_columns(
    client: Client, knn: Recommender, tmp_path: Path
) -> None:
    labels = knn.items.to_list()
    price = [position % 5 for position in range(len(labels))]
    side = pl.DataFrame(
        {"item": labels, "title": [f"Title {label[-2:]}" for label in labels], "price": price}
    )
    knn.with_side(side).save(tmp_path / "with-side")
    http = client(tmp_path / "with-side")
    assert http.get("/v1/model").json()["columns"] == ["item", "title", "price"]
    assert http.get("/v1/items", params={"search": "title 07"}).json()["items"][0]["item"] == "item-07"
    (all_items,) = lists(http, users=[{"history": HISTORY}], k=30)
    (cheap,) = lists(http, users=[{"history": HISTORY}], k=30, where="price < 2")
    assert [each["item"] for each in cheap["items"]] == [
        each["item"] for each in all_items["items"] if int(each["item"][-2:]) % 5 < 2
    ]
    assert cheap["items"][0]["title"] == f"Title {cheap['items'][0]['item'][-2:]}"
    (none,) = lists(http, users=[{"history": HISTORY}], where="price > 9")
    assert none["items"] == []
    for condition in ("colour = 1", "price <", "__import__('os')", "(" * 200, "x" * 20_000):
        answer = http.post("/v1/recommend", json={"users": [{}], "where": condition})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "where"), condition


def test_descriptions_name_no_class(http: TestClient) -> None:
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    names = {name for name in schemas if re.search("[a-z][A-Z]", name)}
    for name, schema in schemas.items():
        assert not names.intersection(re.findall(r"\w+", schema.get("description", ""))), name


# ------------------------------------------------------------------------------------------------------- refusals

USER = {"history": HISTORY}


@pytest.fixture(scope="module")
def strict(saved: Path) -> Iterator[TestClient]:
    """A service that allows little."""
    with serving(saved, limits=ServiceLimits(body=2000, history=5, k=8, batch=4, reasons=5)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/recommend", {"users": [{"history": ["a"] * 6}]}, 422, "too_many"),
        ("/v1/recommend", {"users": [{"exclude": ["a"] * 6}]}, 422, "too_many"),
        ("/v1/recommend", {"users": [USER], "k": 9}, 422, "too_many"),
        ("/v1/recommend", {"users": [USER] * 5}, 422, "too_many"),
        ("/v1/recommend", {"users": [USER] * 3, "explain": True}, 422, "too_many"),
        ("/v1/score", {"users": [USER], "items": ["a"] * 9}, 422, "too_many"),
        ("/v1/similar", {"items": ["a"] * 5}, 422, "too_many"),
        ("/v1/explain", {"history": ["a"] * 6, "item": "a"}, 422, "too_many"),
        ("/v1/explain", {"history": HISTORY, "item": "nothing"}, 422, "unknown_item"),
        ("/v1/explain", {"history": ["nothing"], "item": "item-01"}, 422, "unknown_items"),
        ("/v1/recommend", {"users": []}, 422, "invalid"),
        ("/v1/recommend", {"users": [USER], "k": 0}, 422, "invalid"),
        ("/v1/recommend", {"users": [USER], "size": 3}, 422, "invalid"),
        ("/v1/recommend", {"users": [{"history": [1.5]}]}, 422, "invalid"),
        ("/v1/recommend", {"users": [{"history": [True]}]}, 422, "invalid"),
        ("/v1/recommend", {"users": [{"history": [{"item": "a", "time": 2**63}]}]}, 422, "invalid"),
        ("/v1/recommend", {"users": [USER], "filler": "x" * 2000}, 413, "too_large"),
        ("/nothing", {}, 404, "not_found"),
        ("/v1/model", {}, 405, "method"),
    ],
)
def test_what_asks_too_much_is_refused(
    strict: TestClient, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    answer = strict.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"]
    assert len(answer.headers["x-request-id"]) == 16


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"\xff", 400), (b"[" * 1500, 400), (b'"a"', 422), (b"{}", 422)]
)
def test_a_body_that_is_no_request_is_refused(http: TestClient, body: bytes, status: int) -> None:
    for path in ("/v1/recommend", "/v2/models/knn/infer"):
        answer = http.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status, path
    for encoding in ("utf-8-sig", "utf-16"):
        body = '{"users": []}'.encode(encoding)
        answer = http.post("/v1/recommend", content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, "UTF-8" in answer.text) == (400, True), encoding
    half = b'{"users": [{"history": ["\\ud800"]}]}'  # of a surrogate pair, which JSON has, and no text
    answer = http.post("/v1/recommend", content=half, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/vnd.shop+json", 200),
        ("text/plain", 422),  # as a form of another site's page would send it
        ("text/json+json", 422),
        ("", 422),
    ],
)
def test_a_body_says_that_it_is_json(http: TestClient, kind: str, status: int) -> None:
    body = json.dumps({"users": [{"history": HISTORY}]}).encode()
    answer = http.post("/v1/recommend", content=body, headers={"content-type": kind} if kind else {})
    assert answer.status_code == status
    assert (
        ("application/json" in answer.json()["error"]["message"]) if status == 422 else answer.json()["users"]
    )


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/recommend"), ("POST", "/v1/items")])
def test_another_method_is_refused_by_name(http: TestClient, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method")
    assert answer.headers["allow"] == ("POST" if method == "GET" else "GET")


def test_who_leaves_before_the_body_ends_is_no_fault(
    http: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Message] = []
    parts: Iterator[Message] = iter(
        [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> Message:
        return next(parts)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/recommend", "headers": headers}
    with caplog.at_level(logging.ERROR):
        asyncio.run(http.service.app({**scope, "query_string": b""}, receive, send))  # type: ignore[attr-defined]
    assert sent[0]["status"] == 400
    assert not caplog.records


class Blocked(Served):
    """A model that says when it scores, and waits until it may answer."""

    def __init__(self, served: Served, queue: int) -> None:
        super().__init__(served.model, served.name, served.manifest, ServiceLimits(queue=queue))
        self.begun, self.go_on = threading.Event(), threading.Event()

    def answer(self, requests: Sequence[Request]) -> list[Answer | Refused]:
        self.begun.set()
        assert self.go_on.wait(10)
        return super().answer(requests)


def users(n: int) -> Recommend:
    return Recommend(users=[User(history=HISTORY)] * n)


def test_users_count_until_they_are_answered(http: TestClient) -> None:
    async def ask() -> list[bool]:
        blocked = Blocked(http.service.served, queue=2)  # type: ignore[attr-defined]
        scoring = Scoring(blocked, lambda _: None)
        scored = asyncio.create_task(scoring.answer(users(1)))
        await asyncio.to_thread(blocked.begun.wait, 10)
        full = [scoring.full]  # one is scored
        waiting = asyncio.create_task(scoring.answer(users(1)))
        await asyncio.sleep(0)
        full.append(scoring.full)  # and one waits
        with pytest.raises(Refused, match="capacity"):
            await scoring.answer(users(1))
        blocked.go_on.set()
        await asyncio.gather(scored, waiting)
        scoring.end()
        return [*full, scoring.full]

    assert asyncio.run(ask()) == [False, True, False]


def test_one_waits_behind_a_request_of_more_users_than_the_queue(http: TestClient) -> None:
    async def ask() -> list[int]:
        blocked = Blocked(http.service.served, queue=24)  # type: ignore[attr-defined]
        scoring = Scoring(blocked, lambda _: None)
        scored = asyncio.create_task(scoring.answer(users(30)))
        await asyncio.to_thread(blocked.begun.wait, 10)
        waiting = asyncio.create_task(scoring.answer(users(1)))
        await asyncio.sleep(0)
        in_hand = scoring.rows
        with pytest.raises(Refused, match="capacity"):
            await scoring.answer(users(1))
        blocked.go_on.set()
        await asyncio.gather(scored, waiting)
        scoring.end()
        return [in_hand, scoring.rows]

    assert asyncio.run(ask()) == [31, 0]


def test_a_request_that_an_idle_thread_has_not_taken_yet_does_not_wait(http: TestClient) -> None:
    async def ask() -> list[bool]:
        scoring = Scoring(http.service.served, lambda _: None)  # type: ignore[attr-defined]
        while not scoring._idle:
            await asyncio.sleep(0.001)
        with scoring._changed:  # so long the thread does not wake
            first = asyncio.create_task(scoring.answer(users(30)))
            await asyncio.sleep(0)
            full = [scoring.full]
            second = asyncio.create_task(scoring.answer(users(1)))
            await asyncio.sleep(0)
            full.append(scoring.full)
        await asyncio.gather(first, second)
        scoring.end()
        return full

    assert asyncio.run(ask()) == [False, True]


def test_a_request_past_its_time_counts_until_it_has_left_the_queue(http: TestClient) -> None:
    async def ask() -> list[int]:
        blocked = Blocked(http.service.served, queue=4)  # type: ignore[attr-defined]
        batches: list[int] = []
        scoring = Scoring(blocked, batches.append)
        scored = asyncio.create_task(scoring.answer(users(1)))
        await asyncio.to_thread(blocked.begun.wait, 10)
        late = 0
        for _ in range(20):
            try:
                await asyncio.wait_for(scoring.answer(users(1)), 0.01)
            except TimeoutError:
                late += 1
            except Refused:
                assert scoring.full
        in_hand = scoring.rows
        blocked.go_on.set()
        await scored
        async with asyncio.timeout(10):
            while scoring.rows:  # the late ones are let go without being scored
                await asyncio.sleep(0.001)
            await scoring.answer(users(2))  # and the thread goes on
        scoring.end()
        assert batches == [1, 2]
        return [late, in_hand, scoring.rows]

    assert asyncio.run(ask()) == [3, 4, 0]


def test_a_body_without_a_length_is_stopped_when_it_is_too_large(client: Client) -> None:
    http = client(limits=ServiceLimits(body=1000))
    answer = http.post(
        "/v1/recommend", content=(b" " * 100 for _ in range(50)), headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_a_token_is_asked_for_except_of_probes_and_the_page(client: Client) -> None:
    http = client(tokens=["first-token-of-sixteen", "second-token-of-sixteen"])
    for path in ("/", "/page.js", "/healthz", "/readyz", "/v2/health/live"):
        assert http.get(path).status_code == 200
    for path in ("/v1/model", "/metrics", "/openapi.json", "/v2", "/nothing"):
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic first-token-of-sixteen"},
        ):
            answer = http.get(path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
    for token in ("first-token-of-sixteen", "second-token-of-sixteen"):
        assert http.get("/v1/model", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_a_token_has_a_rate_of_its_own(client: Client) -> None:
    http = client(
        tokens=["first-token-of-sixteen", "second-token-of-sixteen"], limits=ServiceLimits(rate=3.0)
    )
    first, second = ({"authorization": f"Bearer {name}-token-of-sixteen"} for name in ("first", "second"))
    statuses = [http.get("/v1/model", headers=first).status_code for _ in range(4)]
    assert statuses[:3] == [200, 200, 200]
    refused = http.get("/v1/model", headers=first)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert http.get("/v1/model", headers=second).status_code == 200


def test_without_a_token_only_localhost_is_answered(http: TestClient) -> None:
    for host in ("localhost", "localhost:8765", "127.0.0.1:80", "[::1]:8765", "[::1]"):
        assert http.get("/v1/model", headers={"host": host}).status_code == 200, host
    for host in ("example.org", "localhost.example.org", "127.0.0.1.example.org:8765", ""):
        assert http.get("/v1/model", headers={"host": host}).status_code == 421, host


def test_no_path_of_a_request_is_a_file(http: TestClient, saved: Path) -> None:
    for path in (
        "/manifest.json",
        "/../manifest.json",
        "/%2e%2e/manifest.json",
        f"/{saved}/manifest.json",
        "/page.py",
    ):
        assert http.get(path).status_code == 404, path


def test_a_failure_is_no_stack_trace_and_the_log_does_not_say_what_was_asked(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = client(access_log=True)
    lists(http, users=[{"id": "anna", "history": ["item-03", "secret-taste"]}])
    http.get("/v1/items", params={"search": "secret-search"})
    scoring = http.service.scoring  # type: ignore[attr-defined]

    def fail(requests: list[Any]) -> Any:
        raise RuntimeError(f"about {requests}")

    monkeypatch.setattr(type(scoring.served), "answer", lambda self, requests: fail(requests))
    with caplog.at_level(logging.INFO):
        answer = http.post("/v1/recommend", json={"users": [{"id": "anna", "history": ["secret-taste"]}]})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "failed"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    # What the client of this test logs is another thing.
    log = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    assert answer.headers["x-request-id"] in log
    assert "RuntimeError" in log
    assert "test_service.py" in log
    assert "secret" not in log
    assert "anna" not in log


def test_a_request_that_takes_too_long_is_told_to_come_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = client(limits=ServiceLimits(seconds=0.3))
    answer = Served.answer

    def slow(self: Served, requests: Any) -> Any:
        time.sleep(0.8)
        return answer(self, requests)

    with monkeypatch.context() as patch:
        patch.setattr(Served, "answer", slow)
        late = http.post("/v1/recommend", json={"users": [{"history": HISTORY}]})
    assert (late.status_code, late.json()["error"]["code"], late.headers["retry-after"]) == (503, "late", "1")
    time.sleep(0.8)
    assert len(lists(http, users=[{"history": HISTORY}], k=3)[0]["items"]) == 3


def test_a_new_model_in_the_folder_is_taken_and_a_damaged_one_is_refused_once(
    client: Client, knn: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    knn.save(path)
    http = client(path, watch=True)

    def swaps() -> dict[str, str]:
        lines = http.get("/metrics").text.splitlines()
        pairs = (line.rpartition(" ")[::2] for line in lines if line.startswith("unblur_model_swaps_total{"))
        return {name.partition('"')[2].rstrip('"}'): value for name, value in pairs}

    def wait_for(outcomes: dict[str, str]) -> None:
        end = time.monotonic() + 20
        while swaps() != outcomes:
            assert time.monotonic() < end, swaps()
            time.sleep(0.05)

    knn.with_side(pl.DataFrame({"item": knn.items.to_list(), "title": "New"})).save(path, overwrite=True)
    wait_for({"taken": "1.0"})
    assert lists(http, users=[{"history": HISTORY}], k=1)[0]["items"][0]["title"] == "New"
    # Made elsewhere and moved here, as a folder that is replaced is.
    knn.save(tmp_path / "next")
    (tmp_path / "next" / "tensors.safetensors").write_bytes(b"damaged")
    path.rename(tmp_path / "before")
    (tmp_path / "next").rename(path)
    wait_for({"taken": "1.0", "refused": "1.0"})
    time.sleep(1.5)  # longer than it takes to look again
    assert swaps() == {"taken": "1.0", "refused": "1.0"}
    assert lists(http, users=[{"history": HISTORY}], k=1)[0]["items"][0]["title"] == "New"
    # One that the memory does not hold next to the present one is refused as well, and the next is taken.
    with monkeypatch.context() as patch:
        patch.setattr(Served, "load", lambda path, limits: np.empty(1 << 60))
        knn.save(tmp_path / "large")
        path.rename(tmp_path / "damaged")
        (tmp_path / "large").rename(path)
        wait_for({"taken": "1.0", "refused": "2.0"})
    path.rename(tmp_path / "unloaded")
    knn.with_side(pl.DataFrame({"item": knn.items.to_list(), "title": "Newer"})).save(path)
    wait_for({"taken": "2.0", "refused": "2.0"})


@pytest.mark.parametrize("threads", [1, 2])
def test_the_thread_that_scores_has_its_number_of_threads(
    client: Client, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    http = client(threads=threads)
    seen = []
    monkeypatch.setattr(
        Served, "answer", lambda self, requests: [seen.append(n_threads()) or {} for _ in requests]
    )
    assert http.post("/v1/similar", json={"items": ["item-07"]}).status_code == 200
    assert seen == [threads]


def test_metrics_count_requests_batches_and_unknown_items(client: Client) -> None:
    http = client()
    lists(http, users=[{"history": ["item-03", "x", "y"]}, {}], k=2)
    http.get("/v1/nothing")
    lines = http.get("/metrics").text.splitlines()
    values = {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }
    assert values['unblur_requests_total{route="/v1/recommend",status="200"}'] == 1
    assert values['unblur_requests_total{route="other",status="404"}'] == 1
    assert values['unblur_request_seconds_count{route="/v1/recommend"}'] == 1
    assert values["unblur_batch_users_sum"] == 2
    assert values["unblur_queue_users"] == 0
    assert values["unblur_unknown_items_total"] == 2
    assert (values["unblur_recommended_items_total"], values["unblur_filled_items_total"]) == (4, 2)


# ----------------------------------------------------------------------------------------------------- inference


def test_the_open_inference_protocol(http: TestClient, knn: Recommender) -> None:
    assert http.get("/v2").json()["name"] == "unblur"
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get("/v2/models/knn/ready").json() == {"name": "knn", "ready": True}
    (tensor,) = http.get("/v2/models/knn").json()["inputs"]
    assert tensor == {"name": "history", "datatype": "BYTES", "shape": [-1, -1]}
    rows = [["item-03", "item-07"], ["item-12", ""], ["", ""]]
    lists_of = [
        lists(http, users=[{"history": [item for item in row if item]}], k=28)[0]["items"] for row in rows
    ]
    for data in (rows, [text for row in rows for text in row]):
        inputs = [{"name": "history", "shape": [3, 2], "datatype": "BYTES", "data": data}]
        answer = http.post(
            "/v2/models/knn/infer", json={"id": "7", "inputs": inputs, "parameters": {"k": 31}}
        ).json()
        assert (answer["model_name"], answer["id"]) == ("knn", "7")
        items, scores = answer["outputs"]
        assert (items["datatype"], items["shape"], scores["datatype"]) == ("BYTES", [3, 31], "FP32")
        table = np.array(items["data"]).reshape(3, 31)
        for row, expected in zip(table, lists_of, strict=True):
            assert row[:28].tolist() == [each["item"] for each in expected]
        assert table[0, -2:].tolist() == ["", ""]  # 31 items, of which the user has two
        assert np.isfinite(scores["data"]).all()


@pytest.mark.parametrize(
    ("path", "change", "status"),
    [
        ("other", {}, 404),
        ("knn", {"shape": [2, 2]}, 422),
        ("knn", {"shape": [10**9, 0], "data": []}, 422),
        ("knn", {"shape": [1, -2]}, 422),
        ("knn", {"datatype": "FP32"}, 422),
        ("knn", {"name": "x"}, 422),
        ("knn", {"data": [["a", "b", "c"], ["d"]], "shape": [2, 2]}, 422),
        ("knn", {"data": [1.5, 2]}, 422),
    ],
)
def test_an_error_of_the_inference_protocol_is_a_text(
    http: TestClient, path: str, change: dict[str, Any], status: int
) -> None:
    tensor = {"name": "history", "shape": [1, 2], "datatype": "BYTES", "data": ["item-03", ""], **change}
    answer = http.post(f"/v2/models/{path}/infer", json={"inputs": [tensor]})
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["error"], str)


def test_labels_of_numbers_are_texts_in_the_inference_protocol(client: Client, tmp_path: Path) -> None:
    from unblur.models.linear.neighbours import ItemKNN

    pairs = [(user, item) for user in range(8) for item in range(6) if (user + item) % 3]
    model = ItemKNN(neighbours=5).fit(Interactions.from_pairs(*zip(*pairs, strict=True)))
    model.save(tmp_path / "numbers")
    inputs = [{"name": "history", "shape": [1, 3], "datatype": "BYTES", "data": ["1", "2", "9" * 30]}]
    answer = client(tmp_path / "numbers").post(
        "/v2/models/numbers/infer", json={"inputs": inputs, "parameters": {"k": 2}}
    )
    expected = model.recommend(
        Interactions.from_pairs([0, 0], [1, 2], item_vocabulary=model.items), k=2
    ).labels()
    assert answer.json()["outputs"][0]["data"] == [str(label) for label in expected]
