"""Every kind of page of the report, opened in a browser: accessible, readable on a phone, and true."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.browser import SCHEMES, WIDTHS, open_browser, opened, unfold, violations
from support.outcomes import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page
    from support.running import Pipeline

#: A folder for pictures of the pages, for people who want to look at them.
PICTURES = os.environ.get("PAGE_PICTURES")
#: Kind -> the badge, and words that the page must and must not have.
PAGES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "review": (
        "review: waiting for you",
        (
            "Your decision",
            "would be created",
            "Welcome",
            "join actions",
            "import call;",
            "Also look at",
            "as they would be",
            "(limits on",
        ),
        ("Needs attention", "went wrong", "What happened", "Safe to mail", "Labels are of"),
    ),
    "dry run": (
        "dry run: nothing written",
        ("What would change", "would join"),
        ("What happened", "Safe to mail", "Your decision"),
    ),
    "braked": (
        "braked: nothing written",
        (
            "What would change",
            "max_clear_percent",
            "Labels are of 21 September 2026",
            "A brake is a limit",
            "The bookmark is",
            "VIP",
        ),
        ("What happened", "Safe to mail", "Some labels are newer"),
    ),
    "not started": (
        "failed before it began",
        ("The run stopped before anything was written", "Needs attention", "Labels are of 21 September 2026", "Affinity: Brand 1"),
        ("What happened", "What would change", "Safe to mail", "Some labels are newer"),
    ),
    "failed": (
        "failed",
        ("Not everything was delivered", "Do not mail by segment yet", "Labels are of 21 September 2026", "Some labels are newer"),
        ("Safe to mail", "would be created"),
    ),
    "incomplete": (
        "incomplete input",
        ("What it sent until then was delivered", "Do not mail", "Labels are of 21 September 2026", "Some labels are newer"),
        ("Safe to mail",),
    ),
    "no input": (
        "no input",
        ("failed before its first message", "Labels are of 21 September 2026", "Affinity: Brand 1", "Nothing was delivered since"),
        ("What happened", "Safe to mail", "Some labels are newer"),
    ),
    "restored": (
        "restored",
        ("--full-refresh", "may differ", "Do not mail"),
        ("All changes", "Safe to mail", "Contacts in each segment", " contains ", "Labels are of"),
    ),
    "delivered": (
        "delivered",
        ("Safe to mail from", "What happened", "The other", "rejects 2 contacts", "no e-mail address", "Joined and left by day"),
        ("would be", "Your decision", "Labels are of"),
    ),
    "partly delivered": ("partly delivered", ("wait for the next runs", "Do not mail"), ("Safe to mail", "would be")),
    "nothing to do": (
        "nothing to do",
        ("had no changes", "The last delivery ended at", "Labels are of 21 September 2026"),
        ("would be", "Safe to"),
    ),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for all tests of this module."""
    with open_browser() as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize("kind", OUTCOMES)
def test_each_kind_of_page_is_true_and_accessible(kind: str, pipeline: Pipeline, browser: Browser) -> None:
    badge, words, others = PAGES[kind]
    OUTCOMES[kind](pipeline)
    path = pipeline.folder / "reports" / "report.html"
    for width, scheme in zip(WIDTHS, SCHEMES, strict=True):
        with opened(browser, path, width, scheme) as page:
            _picture(page, f"{kind}-{width}")
            unfold(page)
            assert page.locator(".badge").inner_text() == badge
            text = page.locator("body").inner_text()
            assert not [word for word in words if word not in text]
            assert not [word for word in others if word in text]
            assert violations(page) == ""
            assert page.locator("th:not([scope])").count() == 0, "axe-core does not ask for it"
            assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is cut off"


def test_what_is_folded_opens_by_keyboard(pipeline: Pipeline, browser: Browser) -> None:
    OUTCOMES["delivered"](pipeline)
    with opened(browser, pipeline.folder / "reports" / "report.html", WIDTHS[0], SCHEMES[0]) as page:
        folded = page.locator("details").count()
        assert folded > 3
        # one more stop for each link, and for each table that scrolls
        for _ in range(folded + 4):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.tagName") == "SUMMARY":
                page.keyboard.press("Enter")
        assert page.locator("details:not([open])").count() == 0


def _picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name.replace(' ', '-')}.png", full_page=True)
