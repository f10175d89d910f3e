"""Opens pages in a headless Chromium that is installed on this machine. Nothing is downloaded."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: A desktop by day and a phone at night: width in pixels, and colour scheme.
WIDTHS = (1280, 390)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


def find_chromium() -> str | None:
    """Return the path of an installed Chromium, which the variable CHROMIUM may name; None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium; skip the test where there is none."""
    found = find_chromium()
    if found is None:
        pytest.skip("no Chromium is installed, so the pages were not checked for accessibility (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        # as root, Chromium has no sandbox of its own; it opens only the pages of these tests
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, path: Path, width: int, scheme: Literal["light", "dark"]) -> Iterator[Page]:
    """Open a file at a width in pixels; requests for anything else fail the test."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        page = context.new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        yield page
        assert requests == [path.as_uri()], "the page is self-contained"
    finally:
        context.close()


def unfold(page: Page) -> None:
    """Open everything that is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


def violations(page: Page) -> str:
    """Return what axe-core finds wrong with a page; empty if it is accessible."""
    results = Axe().run(page, options={"runOnly": {"type": "tag", "values": list(TAGS)}, "resultTypes": ["violations"]})
    return results.generate_report() if results.violations_count else ""
