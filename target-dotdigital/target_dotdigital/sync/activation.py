"""The activation code, by which the operator approves what a review shows."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.settings import Settings


def activation_code(settings: Settings, account: Account, streams: Iterable[str]) -> str:
    """Compute the activation code from what the operator has to approve: account and settings, and the streams that feed the data field."""
    return f"{_place(settings, account)}-{stream_group(streams)}"


def stream_group(streams: Iterable[str]) -> str:
    """Return the last group of the activation code, which stands for the streams."""
    return _digest(sorted(streams))[:4]


def is_active(settings: Settings, account: Account) -> bool:
    """Return whether the sync is activated for account and settings; the streams are only known when the input has ended."""
    return _given(settings).startswith(f"{_place(settings, account)}-")


def covers(settings: Settings, account: Account, streams: Iterable[str]) -> bool:
    """Return whether the sync is activated for account, settings and exactly these streams."""
    return _given(settings) == activation_code(settings, account, streams)


def _given(settings: Settings) -> str:
    return (settings.activation_code or "").strip().upper()


def _place(settings: Settings, account: Account) -> str:
    """Return the groups of the activation code that stand for account and settings."""
    book: dict[str, int | str] | None = None
    if settings.has_address_book:
        # an address book may have the name "12"
        book = {"id": settings.address_book_id} if settings.address_book_id else {"name": settings.address_book.strip().lower()}
    text = _digest(
        {
            "account": account.id,
            "address book": book,
            "data field": settings.data_field.upper(),
            "upload": settings.upload_emails,
            "labels": asdict(settings.labels),
            "time": settings.synced_at_field,
            "removed": settings.on_removed,
        }
    )
    return f"{text[:4]}-{text[4:8]}"


def _digest(chosen: object) -> str:
    return base64.b32encode(hashlib.sha256(msgspec.json.encode(chosen, order="sorted")).digest()).decode()
