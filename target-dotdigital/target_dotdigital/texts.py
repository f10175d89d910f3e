"""Sanitises external text before it is logged or displayed."""

from __future__ import annotations

import re

MAX_SHOWN_CHARACTERS = 200
# characters of no width, which str.strip() keeps
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
# C0, DEL and C1 control terminals; the others break lines or change the direction of text
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def without_controls(text: str) -> str:
    """Return a text without control characters."""
    return _CONTROL.sub("", text)


def shown(text: str) -> str:
    """Return a text that is safe to display: one line, without control characters, at most 200 characters."""
    clean = without_controls(text)
    return clean if len(clean) <= MAX_SHOWN_CHARACTERS else clean[: MAX_SHOWN_CHARACTERS - 3] + "..."


def is_clean(text: str) -> bool:
    """Return whether a text contains no control characters."""
    return _CONTROL.search(text) is None


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character."""
    return not text.strip().strip(INVISIBLE).strip()
