"""Texts from outside, before they are logged or shown."""

from __future__ import annotations

import re

MAX_SHOWN_CHARACTERS = 200
# C0, DEL and C1 drive terminals; the others break lines or turn the direction of the text that follows
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def without_controls(text: str) -> str:
    """Return a text without control characters."""
    return _CONTROL.sub("", text)


def shown(text: str) -> str:
    """Return a text as it may be shown on a terminal: on one line, without control characters, and not longer than 200 characters."""
    clean = without_controls(text)
    return clean if len(clean) <= MAX_SHOWN_CHARACTERS else clean[: MAX_SHOWN_CHARACTERS - 3] + "..."


def is_clean(text: str) -> bool:
    """Say whether a text holds no control characters."""
    return _CONTROL.search(text) is None
