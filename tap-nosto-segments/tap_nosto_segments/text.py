"""Text from outside, made safe for log lines and terminals."""

from __future__ import annotations

import difflib
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# terminals execute these sequences instead of showing them (ECMA-48)
ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -~])|\x9b[0-?]*[ -/]*[@-~]")
MAX_SHOWN_CHARACTERS = 80
ADDRESS = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")


def printable(text: str, max_characters: int = MAX_SHOWN_CHARACTERS) -> str:
    """Return a text on one line, cut to a maximum length, without escape sequences and control characters."""
    clean = "".join(character for character in ESCAPE_SEQUENCE.sub("", text) if character.isprintable())
    return clean if len(clean) <= max_characters else f"{clean[:max_characters]}..."


def enumerated(items: Sequence[str], limit: int) -> str:
    """Return the first `limit` items as a list for a sentence, with the number of the remaining ones."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def shown_name(name: str) -> str:
    """Return the name of a segment, quoted and printable; in a file of another format, it may be an address."""
    return "(an address)" if ADDRESS.search(name) else repr(printable(name))


def is_blank(name: str) -> bool:
    """Return whether the name of a segment is empty or only whitespace."""
    return not name.strip()


def nearest_name(pattern: str, names: Collection[str]) -> str | None:
    """Return the name that is most similar to a pattern without a match; None if there are no names."""
    folded = {name.casefold(): name for name in sorted(names)}
    wanted = pattern.casefold()
    if (other_case := next((name for key, name in folded.items() if fnmatchcase(key, wanted)), None)) is not None:
        return other_case
    close = difflib.get_close_matches(re.sub(r"[*?\[\]]", "", wanted), folded, n=1, cutoff=0.0)
    return folded[close[0]] if close else None
