"""Names of the rehearsal's address book and data field, and values that are derived from the operator's addresses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from target_dotdigital.errors import SettingsError
from target_dotdigital.records import Uploads

if TYPE_CHECKING:
    from target_dotdigital.settings import Settings

# contracts/dotdigital.md 2 and 3
MAX_BOOK_CHARACTERS = 128
MAX_FIELD_CHARACTERS = 20
BOOK_SUFFIX = " rehearsal"
FIELD_SUFFIX = "_REHEARSAL"
UNKNOWN_SUFFIX = "_NO_FIELD"


@dataclass(frozen=True, slots=True)
class Names:
    """The names that the rehearsal uses in the account.

    Args:
        address_book: name of the address book.
        data_field: name of the data field.
        unknown_field: name of a data field that must not exist.
    """

    address_book: str
    data_field: str
    unknown_field: str

    @classmethod
    def of(cls, settings: Settings) -> Names:
        """Derive the names from the settings, within dotdigital's limits of length.

        Raises:
            SettingsError: a derived name is one that the sync itself writes to.
        """
        book, field = settings.address_book.strip(), settings.data_field
        names = cls(
            book[: MAX_BOOK_CHARACTERS - len(BOOK_SUFFIX)] + BOOK_SUFFIX,
            field[: MAX_FIELD_CHARACTERS - len(FIELD_SUFFIX)] + FIELD_SUFFIX,
            field[: MAX_FIELD_CHARACTERS - len(UNKNOWN_SUFFIX)] + UNKNOWN_SUFFIX,
        )
        synced = {name.upper() for name in (*settings.labels.fields, settings.synced_at_field or "")}
        if names.address_book.lower() == book.lower() or synced & {names.data_field.upper(), names.unknown_field.upper()}:
            msg = (
                f"The rehearsal would use the address book {names.address_book!r} and the data field {names.data_field}, which the sync "
                "itself uses, so nothing was done. Change address_book, data_field or synced_at_field."
            )
            raise SettingsError(msg)
        return names


def rehearsal_settings(settings: Settings, names: Names) -> Settings:
    """Return the settings with the rehearsal's address book and data field instead of the sync's."""
    return replace(
        settings,
        address_book=names.address_book,
        address_book_id=None,
        data_field=names.data_field,
        upload_emails=Uploads.ALL,
        synced_at_field=None,
        overflow="drop",
    )


def in_capitals(email: str) -> str:
    """Return an address with the part before the @ in capitals, or the part after it if that has no letters."""
    local, _, domain = email.rpartition("@")
    return f"{local.upper()}@{domain}" if local.upper() != local else f"{local}@{domain.upper()}"


def invalid(email: str) -> str:
    """Return a text that is derived from an address and cannot be anyone's address, because it has no @."""
    return email.replace("@", "-at-")
