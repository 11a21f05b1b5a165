"""A service in a process of its own: signals, swaps under load, overload. `make live` runs the same at length."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from benchmarks.serving import (
    Connection,
    Load,
    Server,
    closed_loop,
    open_loop,
    recommendations,
    request,
    swapped_under_load,
)
from unblur.recommender import Recommender
from unblur.serving.limits import ServiceLimits
from unblur.serving.running import is_loopback, listen, read_tokens


@pytest.fixture(scope="module")
def messages(knn: Recommender) -> list[bytes]:
    return recommendations(knn.items.to_list(), 20)


def digest(server: Server) -> str:
    return str(json.loads(server.get("/v1/model"))["model"])


def test_a_model_is_swapped_under_load_without_a_failed_request(
    server: Server, folder: Path, knn: Recommender, messages: list[bytes]
) -> None:
    load = swapped_under_load(server, messages, 5, lambda: knn.save(folder, overwrite=True))
    assert set(load.seconds) == {200}
    assert not load.failures
    manifest = json.loads((folder / "manifest.json").read_text())
    assert digest(server) == f"sha256:{manifest['sha256']}"


def test_an_idle_connection_is_kept(server: Server, messages: list[bytes]) -> None:
    async def ask_twice() -> Load:
        load, connection = Load(), Connection(server.port)
        await connection.ask(messages[0], load)
        await asyncio.sleep(5.5)  # uvicorn's own default closes it after 5
        await connection.ask(messages[0], load)
        await connection.close()
        return load

    load = asyncio.run(ask_twice())
    assert (len(load.seconds[200]), load.failures) == (2, [])


def test_a_damaged_model_is_refused_and_the_old_one_stays(
    server: Server, folder: Path, messages: list[bytes]
) -> None:
    before = digest(server)
    whole = folder.with_name("whole")
    shutil.copytree(folder, whole)
    (folder / "tensors.safetensors").write_bytes(b"damaged")
    server.swap("refused")
    assert digest(server) == before
    assert set(closed_loop(server, messages, 1, 0.2).seconds) == {200}
    shutil.rmtree(folder)
    whole.rename(folder)


def test_under_overload_requests_are_answered_or_told_to_come_again(server: Server, knn: Recommender) -> None:
    labels = knn.items.to_list()
    users = [{"history": labels[:10]}] * 200  # more than the queue holds: one such request fills it
    load = closed_loop(server, [request("/v1/recommend", {"users": users, "k": 20})], 12, 1.0)
    assert set(load.seconds) == {200, 503}
    assert not load.failures  # each 503 has Retry-After
    assert "unblur_queue_users 0.0" in server.get("/metrics")
    calm = open_loop(server, recommendations(labels, 5), 20, 0.5)
    assert set(calm.seconds) == {200}


def test_sigterm_answers_what_was_asked_and_the_log_has_no_user_data(folder: Path, knn: Recommender) -> None:
    command = [sys.executable, "-m", "unblur", "serve", str(folder), "--port", "0", "--access-log"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = process.stderr.readline().rpartition(" at ")[2].strip()
    users = [{"id": "anna", "history": knn.items.to_list()[:20]}] * 250
    body = json.dumps({"users": users, "k": 20, "explain": False}).encode()
    asked = urllib.request.Request(f"{address}v1/recommend", body, {"content-type": "application/json"})
    answers: list[int] = []

    def ask() -> None:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            answers.append(len(json.loads(answer.read())["users"]))

    urllib.request.urlopen(f"{address}readyz", timeout=30).close()
    asking = [threading.Thread(target=ask) for _ in range(1)]
    for each in asking:
        each.start()
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    for each in asking:
        each.join()
    _, log = process.communicate(timeout=30)
    assert answers == [250]
    assert process.returncode == 0, log
    assert "POST /v1/recommend 200" in log
    assert "anna" not in log
    assert "item-" not in log


# -------------------------------------------------------------------------------------------------- starting


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_another_address_than_loopback_needs_a_token(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback
    if not loopback:
        with pytest.raises(ValueError, match="--token-file"):
            listen(host, 0, has_token=False)


def test_tokens_are_read_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNBLUR_TOKEN", raising=False)
    assert read_tokens(None) == []
    monkeypatch.setenv("UNBLUR_TOKEN", "token-of-the-environment")
    assert read_tokens(None) == ["token-of-the-environment"]
    file = tmp_path / "tokens"
    file.write_text("first-token-of-sixteen\nsecond-token-of-sixteen\n")
    assert read_tokens(file) == ["first-token-of-sixteen", "second-token-of-sixteen"]
    for text in ("", "short", "with-a-letter-like-ä-in-it"):
        file.write_text(text)
        with pytest.raises(ValueError, match="token"):
            read_tokens(file)


def test_the_command_refuses_what_cannot_be_served(tmp_path: Path, folder: Path) -> None:
    from unblur.cli.main import main

    assert main(["serve", str(tmp_path / "nothing"), "--port", "0"]) == 2
    assert main(["serve", str(folder), "--host", "0.0.0.0", "--port", "0"]) == 2
    with listen("127.0.0.1", 0, has_token=False) as taken:
        assert main(["serve", str(folder), "--port", str(taken.getsockname()[1])]) == 2


def test_the_options_are_the_limits() -> None:
    import inspect
    from dataclasses import asdict

    from unblur.cli.serving import serve

    options = {
        name.removeprefix("max_"): each.default for name, each in inspect.signature(serve).parameters.items()
    }
    assert {name: options[name] for name in asdict(ServiceLimits())} == asdict(ServiceLimits())
