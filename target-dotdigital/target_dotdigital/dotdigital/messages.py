"""Messages of dotdigital as they come over the wire, with ids that may be anything."""

from __future__ import annotations

from typing import Annotated

import msgspec

from target_dotdigital.texts import shown

MAX_ID = (1 << 63) - 1
MAX_ID_DIGITS = 19
IMPORT_ID = r"\A[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z"
NULL = msgspec.Raw(b"null")


def usable_id(raw: msgspec.Raw) -> int | None:
    """Return the id that a JSON value is: a whole number from 1 to 2^63-1, as the ledger can hold it. Anything else is none."""
    text = bytes(raw)
    # the length first: an id comes with every row, and a text of thousands of digits is none
    if len(text) > MAX_ID_DIGITS or not text.isdigit() or text.startswith(b"0"):
        return None
    number = int(text)
    return number if number <= MAX_ID else None


class Identified(msgspec.Struct, kw_only=True):
    """What dotdigital names by an id. One that cannot be an id does not make the rest unreadable."""

    raw_id: msgspec.Raw = msgspec.field(name="id", default=NULL)

    @property
    def id(self) -> int | None:
        """The id, where it is a usable one."""
        return usable_id(self.raw_id)


class ImportStatus(msgspec.Struct, rename="camel"):
    """The state of an import; only id and state are always there (contracts/dotdigital.md 4)."""

    import_id: str
    status: str = ""
    created: list[ContactReference] | None = None
    updated: list[ContactReference] | None = None
    failures: list[RowFailure] | None = None


class Identifiers(msgspec.Struct, rename="camel"):
    """What a contact is known by."""

    email: str | None = None


class ContactReference(msgspec.Struct, rename="camel", kw_only=True):
    """A contact as dotdigital names it. An id that cannot be one does not make the rest unreadable."""

    raw_contact_id: msgspec.Raw = msgspec.field(name="contactId", default=NULL)
    identifiers: Identifiers = msgspec.field(default_factory=Identifiers)

    @property
    def contact_id(self) -> int | None:
        """The contact's id, where it has a usable one."""
        return usable_id(self.raw_contact_id)


class FailureReason(msgspec.Struct, rename="camel"):
    """Why a row failed. The description may quote the address and is not read."""

    failure_code: str = "Unknown"

    def __post_init__(self) -> None:
        """Make the code fit to be stored and shown."""
        self.failure_code = shown(self.failure_code) or "Unknown"


class RowFailure(ContactReference, kw_only=True):
    """A row that was not imported, or only in part."""

    failures: list[FailureReason]


class ImportAccepted(msgspec.Struct, rename="camel"):
    """An import that was accepted; its id is a UUID (contracts/dotdigital.md 4)."""

    import_id: Annotated[str, msgspec.Meta(pattern=IMPORT_ID)]
