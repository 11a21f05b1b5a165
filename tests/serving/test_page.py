"""The page in a real browser: of a service, and as static files; by keyboard, on a phone, in light and dark."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import Server
from unblur.data.interactions import Interactions
from unblur.data.output import OutputFolder
from unblur.recommender import Recommender
from unblur.serving.answers import Served
from unblur.serving.export import WEB, export
from unblur.serving.limits import ServiceLimits

api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("needs Chromium: `apt-get install chromium`", allow_module_level=True)

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that must neither complain nor ask another host."""
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.problems, opened.asked = [], []
    opened.on("console", lambda message: opened.problems.append(message.text))
    opened.on("pageerror", lambda problem: opened.problems.append(str(problem)))
    opened.on("request", lambda request: opened.asked.append(request.url))
    yield opened
    assert opened.problems == []
    opened.close()


def opened_at(page: Any, address: str) -> Any:
    page.goto(address)
    page.wait_for_selector("html[data-state=ready]")
    return page


def titles(page: Any, list_name: str) -> list[str]:
    return [
        text.partition(". ")[2] or text for text in page.locator(f"#{list_name} .title").all_inner_texts()
    ]


def settled(page: Any, list_name: str, expected: list[str]) -> None:
    """Wait until a list has these titles, with ranks or without."""
    texts = [re.compile(rf"^(\d+\. )?{re.escape(title)}$") for title in expected]
    api.expect(page.locator(f"#{list_name} .title")).to_have_text(texts, timeout=10_000)


def best(server: Server, history: list[str], exclude: tuple[str, ...] = (), k: int = 10) -> list[str]:
    body = json.dumps({"users": [{"history": history, "exclude": exclude}], "k": k}).encode()
    asked = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/v1/recommend", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return [item["item"] for item in json.loads(answer.read())["users"][0]["items"]]


def test_a_history_is_built_by_keyboard_and_the_list_is_the_services(page: Any, server: Server) -> None:
    opened_at(page, f"http://localhost:{server.port}/")
    assert titles(page, "list") == best(server, [])
    page.keyboard.press("/")
    page.keyboard.type("item-07")
    settled(page, "found", ["item-07"])
    page.keyboard.press("Enter")
    settled(page, "list", best(server, ["item-07"]))
    page.fill("#search", "item-1")
    api.expect(page.locator("#found li")).to_have_count(10)
    second = titles(page, "found")[1]
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    settled(page, "history", ["item-07", second])
    settled(page, "list", best(server, ["item-07", second]))
    reasons = page.locator("#list li .reason").all_inner_texts()
    assert all("because of item-" in text and "%" in text for text in reasons)
    assert reasons
    # What if not: the list is that without the item, which is still the user's own.
    page.get_by_label("Leave out item-07").click()
    settled(page, "list", best(server, [second], ("item-07",)))
    assert "What if not: item-07" in page.inner_text("#note")
    assert page.get_by_label("Leave out item-07").get_attribute("aria-pressed") == "true"
    page.get_by_label("Leave out item-07").press("Enter")  # the focus stayed where it was
    settled(page, "list", best(server, ["item-07", second]))
    page.select_option("#k", "20")
    settled(page, "list", best(server, ["item-07", second], k=20))
    page.get_by_label("Remove item-07").click()
    settled(page, "history", [second])
    page.locator("#list").get_by_role("button", name="Items similar to").first.click()
    page.wait_for_selector("#similar[open]")
    assert page.locator("#similar-list li").count() == 10
    page.keyboard.press("Escape")
    page.click("#clear")
    settled(page, "list", best(server, [], k=20))
    assert all(url.startswith((f"http://localhost:{server.port}/", "data:")) for url in page.asked)


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_a_desk_in_light_and_dark(
    page: Any, server: Server, width: int, scheme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    opened_at(page, f"http://localhost:{server.port}/")
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    def lightness() -> int:
        colours = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(number) for number in colours.partition("(")[2].rstrip(")").split(",")[:3])

    assert (lightness() > 380) == (scheme == "light")
    page.click("#theme")
    assert (lightness() > 380) == (scheme == "dark")


def test_titles_are_text_and_a_refusal_is_shown(page: Any, server: Server) -> None:
    def answer(route: Any) -> None:
        item = {"item": 1, "title": "<img src=x onerror=alert(1)>", "count": 3}
        route.fulfill(json={"items": [item]})

    page.route("**/v1/items*", answer)
    opened_at(page, f"http://localhost:{server.port}/")
    assert titles(page, "found") == ["<img src=x onerror=alert(1)>"]
    assert page.locator("main img").count() == 0
    page.route(
        "**/v1/recommend",
        lambda route: route.fulfill(status=503, json={"error": {"code": "busy", "message": "Come again."}}),
    )
    page.click("#found button")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "Come again."
    page.problems.clear()  # the browser itself reports the 503


def test_a_token_is_asked_for(page: Any, server: Server) -> None:
    def guard(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer a-token":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": {"code": "unauthorized", "message": "Give a token."}})

    page.route("**/v1/**", guard)
    page.goto(f"http://localhost:{server.port}/")
    page.wait_for_selector("#token-dialog[open]")
    page.fill("#token", "a-token")
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-state=ready]")
    assert page.locator("#list li").count() == 10
    page.problems.clear()  # the browser itself reports the 401


def test_the_exported_page_is_the_model_without_a_server(
    page: Any, saved: Path, knn: Recommender, log: Interactions, tmp_path: Path
) -> None:
    exported = export(
        Served.load(saved, ServiceLimits()), OutputFolder(tmp_path / "web", WEB), keep=len(knn.items)
    )
    assert exported.overlap == 1
    opened_at(page, (tmp_path / "web" / "index.html").as_uri())
    history = ["item-03", "item-07"]
    for item in history:
        page.fill("#search", item)
        settled(page, "found", [item])
        page.press("#search", "Enter")
    row = Interactions.from_pairs(["u", "u"], history, item_vocabulary=log.items)
    settled(page, "list", [str(label) for label in knn.recommend(row, k=10).labels()])
    page.locator("#history").get_by_label("Items similar to item-07").click()
    settled(page, "similar-list", [str(label) for label in knn.similar_items("item-07", 10).labels()])
    assert all(url.startswith(("file:", "data:")) for url in page.asked)
