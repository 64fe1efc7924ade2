"""The status page, in a headless Chromium."""

import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest

from foggen_runtime.serving.settings import Settings
from tests.support.gateway import Gateway, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytest.importorskip("playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

KEY = "a-key-of-tests-0123456789"


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    context = browser.new_context()
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if "policy" in line.text else None)
    yield page
    context.close()
    assert problems == []


def expect(locator: "Locator") -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def count(page: "Page", name: str) -> "Locator":
    return page.locator("#counts div", has=page.locator(f"dt:text-is('{name}')")).locator("dd")


def test_it_shows_what_the_server_does_as_it_does_it(
    gateway: Gateway, page: "Page", sure: str, unsure: str
) -> None:
    page.goto(gateway.url)
    expect(page.locator("#bundle")).not_to_be_empty()
    expect(count(page, "asked")).to_have_text("0")
    expect(count(page, "routed share")).to_have_text("–")
    gateway.chat(sure)
    gateway.chat(sure)
    gateway.chat(sure)
    gateway.chat(unsure)
    gateway.chat("")
    expect(count(page, "asked")).to_have_text("4")
    expect(count(page, "here")).to_have_text("3")
    expect(count(page, "no answer")).to_have_text("1")
    expect(count(page, "routed share")).to_have_text("25.0 %")
    expect(count(page, "errors")).to_have_text("1")
    rows = page.locator("#decisions tr")
    expect(rows).to_have_count(4)
    expect(rows.first).to_contain_text("below_tau")
    expect(rows.last).to_contain_text("confident")
    counts = page.locator("#latency .bar span:last-child").all_text_contents()
    assert sum(map(int, counts)) == 4
    assert sure not in page.content()


def test_it_says_when_the_server_is_gone(page: "Page", sure: str) -> None:
    with serving() as gateway:
        page.goto(gateway.url)
        gateway.chat(sure)
        expect(count(page, "asked")).to_have_text("1")
    expect(page.locator("#problem")).to_contain_text("does not answer")
    expect(count(page, "asked")).to_have_text("1")


def test_it_asks_for_the_key(page: "Page") -> None:
    with serving(Settings(api_key=KEY)) as gateway:
        page.goto(gateway.url)
        expect(page.locator("#unlock")).to_be_visible()
        expect(page.locator("#shown")).to_be_hidden()
        page.fill("#key", "wrong")
        page.click("button")
        expect(page.locator("#problem")).to_contain_text("API key")
        page.fill("#key", KEY)
        page.click("button")
        expect(count(page, "asked")).to_have_text("0")
        expect(page.locator("#unlock")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_it_is_readable(
    gateway: Gateway, browser: "Browser", sure: str, scheme: Literal["light", "dark"], width: int
) -> None:
    gateway.chat(sure)
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.goto(gateway.url)
    expect(page.locator("#decisions .local").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for selector in ("body", "#decisions .local", "#counts dt", "#facts"):
        text = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color")
        assert contrast(text, ground) >= 4.5, selector
    assert (luminance(ground) < 0.1) == (scheme == "dark")
    page.close()


def contrast(text: str, ground: str) -> float:
    """Return the contrast of two colours, as WCAG 2.2 defines it."""
    lighter, darker = sorted((luminance(text), luminance(ground)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    """Return the relative luminance of a CSS colour such as `rgb(0, 0, 0)`."""
    parts = [float(part) / 255 for part in re.findall(r"[\d.]+", color)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
