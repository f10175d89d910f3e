"""Text from outside, made safe for a log line and a terminal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# what a terminal would carry out rather than show (ECMA-48)
ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -~])|\x9b[0-?]*[ -/]*[@-~]")
MAX_SHOWN_LENGTH = 80


def printable(text: str) -> str:
    """Return a text on one line, cut to `MAX_SHOWN_LENGTH`, without escape sequences and control characters."""
    clean = "".join(character for character in ESCAPE_SEQUENCE.sub("", text) if character.isprintable())
    return clean if len(clean) <= MAX_SHOWN_LENGTH else f"{clean[:MAX_SHOWN_LENGTH]}..."


def enumerated(items: Sequence[str], most: int) -> str:
    """Return the first items as a list for a sentence, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
