"""A headless Chromium for tests of pages: Playwright's or the system's; without one the tests are skipped."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = "chromium", "chromium-headless-shell", "chromium-browser", "google-chrome"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def chromium() -> Iterator:
    """Yield a Playwright browser, or skip the test."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        found = str(own) if own.exists() else next(filter(None, map(shutil.which, NAMES)), None)
        if found is None:
            pytest.skip("no Chromium: `playwright install chromium`, or a package of the system")
        browser = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser, path: Path, width: int, height: int = 900) -> Iterator:
    """Open a file at a width in pixels; check that it requests nothing else and leaves the console empty."""
    page = browser.new_page(viewport={"width": width, "height": height})
    requests, console = [], []
    page.on("request", lambda request: request.url.startswith("data:") or requests.append(request.url))
    page.on("console", lambda message: console.append(message.text))
    page.on("pageerror", lambda error: console.append(str(error)))
    try:
        page.goto(path.resolve().as_uri())
        yield page
        assert {url.partition("#")[0] for url in requests} == {path.resolve().as_uri()}
        assert console == []
    finally:
        page.close()


def check_page(page) -> None:
    """Check a page: language, title, no horizontal scrolling, pictures that decode and have alternative text."""
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.title()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(each => each.id)")
    assert len(ids) == len(set(ids))
    for link in page.locator("a[href^='#']").all():
        assert link.get_attribute("href")[1:] in ids
    pictures = page.locator("img").all()
    assert pictures
    for picture in pictures:
        assert picture.get_attribute("alt")
        picture.evaluate("each => each.decode()")
        assert picture.evaluate("each => each.naturalWidth") > 100
