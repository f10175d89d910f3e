"""The activation code, by which the operator approves what a review shows."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.settings import Settings


def activation_code(settings: Settings, account: Account) -> str:
    """Compute the activation code from the account and the settings that the operator has to approve."""
    chosen = {
        "account": account.id,
        # a number for an ID, a text for a name, which may be a number
        "address book": (settings.address_book_id or settings.address_book.strip().lower()) if settings.has_address_book else None,
        "data field": settings.data_field.upper(),
        "upload": settings.upload_emails,
        "labels": asdict(settings.labels),
        "time": settings.synced_at_field,
        "removed": settings.on_removed,
    }
    digest = hashlib.sha256(msgspec.json.encode(chosen, order="sorted")).digest()
    text = base64.b32encode(digest).decode()
    return f"{text[:4]}-{text[4:8]}-{text[8:12]}"


def is_active(settings: Settings, account: Account) -> bool:
    """Return whether the sync is activated for the current settings."""
    given = (settings.activation_code or "").strip().upper()
    return given == activation_code(settings, account)
