"""dotdigital's codes of rejected rows, by what the ledger does about them (contracts/dotdigital.md 4 and 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# the contact that a row was matched with by ID does not exist
GONE_ID = "invalidcontactid"
# rejections that are not retried until the contact changes
PERMANENT = frozenset(
    {
        *("invalidemail", "invaliddomain", "duplicate", "duplicateidentifier", "globallysuppressed", "suppressedbydomain"),
        *("blocker", GONE_ID),
    },
)
UNKNOWN = "Unknown"


def letters_of(code: str | None) -> str:
    """Return the form by which codes are compared: the letters alone, in lower case, without the prefix of a refused call.

    dotdigital spells one code in several ways: `InvalidContactId`, `invalidContactId`, `Invalid Contact Id`, `contacts:invalidContactId`.
    """
    return "".join(filter(str.isalpha, (code or "").rpartition(":")[2])).lower()


def main_code(codes: Iterable[str]) -> str:
    """Return the code that counts, of several for one row; their order makes no difference, because it may change from day to day.

    An ID that does not exist comes first, because the row can be sent by address, then what only a change of the contact can cure.
    """

    def rank(code: str) -> tuple[bool, bool, str]:
        letters = letters_of(code)
        return letters != GONE_ID, letters not in PERMANENT, letters

    return min((code for code in codes if letters_of(code)), key=rank, default=UNKNOWN)
