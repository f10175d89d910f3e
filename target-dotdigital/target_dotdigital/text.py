"""Text: e-mail addresses, what is safe to display, and folders that only their owner may read."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

import idna
from email_validator import EmailNotValidError, validate_email

if TYPE_CHECKING:
    from pathlib import Path

# A strict subset of what the library accepts. Addresses of this form skip the library, which is forty times slower.
_PLAIN = re.compile(
    r"[a-z0-9_'+-]{1,30}(?:\.[a-z0-9_'+-]{1,30})?@(?:[a-z0-9][a-z0-9-]{0,20}[a-z0-9]\.){1,4}(?:com|org|net|de|co\.uk|fi|fr|se)"
)
MAX_CHARACTERS = 256


def normalise(address: str) -> str:
    """Return the form by which addresses are compared: trimmed, in lower case, composed (Unicode NFC)."""
    plain = address.strip()
    if plain.isascii():
        return plain.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", plain).lower())


def spelled_alike(address: str) -> str:
    """Return a form that two spellings of one address share: its domain in ASCII, as the DNS has it.

    For comparison only. A mailbox may exist under a single spelling, so addresses are sent and stored as the source has them.
    """
    plain = normalise(address)
    if plain.isascii() and "xn--" not in plain:
        return plain
    local, _, domain = plain.rpartition("@")
    try:
        return f"{local}@{idna.encode(domain, uts46=True).decode().lower()}"
    except idna.IDNAError:
        return plain


def spellings(address: str) -> set[str]:
    """Return the other spellings of a normalised address under which the source or dotdigital may have it."""
    form = spelled_alike(address)
    if form == address and "xn--" not in address:
        return set()
    local, _, domain = form.rpartition("@")
    try:
        readable = normalise(f"{local}@{idna.decode(domain)}")
    except idna.IDNAError:
        readable = form
    return {form, readable} - {address}


def is_address(address: str) -> bool:
    """Return whether a normalised text has the syntax of an e-mail address."""
    return (_PLAIN.fullmatch(address) is not None and "--" not in address) or _is_unusual_address(address)


@lru_cache(maxsize=10_000)
def _is_unusual_address(address: str) -> bool:
    if len(address) > MAX_CHARACTERS:
        return False
    try:
        validate_email(address, check_deliverability=False)
    except (EmailNotValidError, ValueError):
        return False
    return True


MAX_SHOWN_CHARACTERS = 200
# zero-width characters, which str.strip() keeps
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


def make_private_folder(path: Path) -> None:
    """Create a private folder if it is missing, with a `.gitignore` that excludes its content.

    Raises:
        OSError: the folder cannot be created.
    """
    if path.is_dir():
        return
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignored = path / ".gitignore"
    ignored.write_text("*\n")
    ignored.chmod(0o600)
