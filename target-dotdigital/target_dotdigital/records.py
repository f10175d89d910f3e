"""Values that are exchanged between the dotdigital client, the ledger and the run, so that these do not depend on each other."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


class Uploads(enum.StrEnum):
    """Which contacts are created in dotdigital and added to the address book."""

    ALL = "all"
    WITH_SEGMENTS = "with_segments"
    NONE = "none"


class Verdict(enum.StrEnum):
    """Result of a sent row."""

    CREATED = "created"
    UPDATED = "updated"
    REJECTED = "rejected"
    UNCONFIRMED = "unconfirmed"


class Row(msgspec.Struct, frozen=True):
    """One contact in one import.

    Args:
        email: normalised address.
        contact_id: contact ID to match by; None matches by address.
        before: confirmed payload; None if unknown.
        after: payload to send.
    """

    email: str
    contact_id: int | None
    before: str | None
    after: str


class RowResult(msgspec.Struct, frozen=True):
    """The outcome of one row.

    Args:
        email: normalised address, as sent.
        verdict: the result.
        contact_id: dotdigital's contact ID, if it was returned.
        reason: dotdigital's code for a rejection, or for what of an imported row it did not apply.
        other_email: normalised address that the report names for the row's contact ID, if it is not the row's own.
        is_respelled: whether the report spells the address otherwise.
    """

    email: str
    verdict: Verdict
    contact_id: int | None = None
    reason: str | None = None
    other_email: str | None = None
    is_respelled: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """A contact as read back from dotdigital.

    Args:
        email: normalised address.
        contact_id: its ID; None if dotdigital returned an invalid one.
        payload: its labels.
        in_address_book: whether it is in the address book.
        kept_out: whether its status explains that it is in no address book.
        excluded: whether exclude_emails matches its address.
        is_pending_opt_in: whether it joins the address book as soon as it confirms its double opt-in.
    """

    email: str
    contact_id: int | None
    payload: str
    in_address_book: bool
    kept_out: bool = False
    excluded: bool = False
    is_pending_opt_in: bool = False


# The codes of rejected rows, by what the ledger does about them. dotdigital spells one code in several ways, so they are compared by their
# letters: `InvalidContactId`, `invalidContactId`, `Invalid Contact Id`, `contacts:invalidContactId`.

# the contact that a row was matched with by ID does not exist
ID_NOT_FOUND = "invalidcontactid"
# rejections that are not retried until the contact changes
PERMANENT = frozenset(
    {
        *("invalidemail", "invaliddomain", "duplicate", "duplicateidentifier", "globallysuppressed", "suppressedbydomain"),
        *("blocker", ID_NOT_FOUND),
    },
)
UNKNOWN = "Unknown"


def letters_of(code: str | None) -> str:
    """Return the form by which codes are compared: the letters alone, in lower case, without the prefix of a refused call."""
    return "".join(filter(str.isalpha, (code or "").rpartition(":")[2])).lower()


def main_code(codes: Iterable[str]) -> str:
    """Return the code that counts, of several for one row; their order makes no difference, because it may change from day to day.

    An ID that does not exist comes first, because the row can be sent by address, then what only a change of the contact can cure.
    """

    def rank(code: str) -> tuple[bool, bool, str]:
        letters = letters_of(code)
        return letters != ID_NOT_FOUND, letters not in PERMANENT, letters

    return min((code for code in codes if letters_of(code)), key=rank, default=UNKNOWN)
