"""Normalisation and validation of e-mail addresses."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import idna
from email_validator import EmailNotValidError, validate_email

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

    It only compares. A mailbox may exist under a single spelling, so addresses are sent and stored as the source has them.
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
