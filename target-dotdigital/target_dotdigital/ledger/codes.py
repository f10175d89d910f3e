"""dotdigital's codes of rejected rows, in lower case, by what the ledger does about them (contracts/dotdigital.md 4)."""

from __future__ import annotations

# the contact that a row was matched with by ID does not exist
GONE_ID = "invalidcontactid"
# rejections that are not retried until the contact changes
PERMANENT = frozenset(
    {
        *("invalidemail", "invaliddomain", "duplicate", "duplicateidentifier", "globallysuppressed", "suppressedbydomain"),
        *("blocker", GONE_ID),
    },
)
