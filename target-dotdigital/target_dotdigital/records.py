"""Values that pass between dotdigital, the ledger and the run, so that neither of them has to know the other."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec


class Verdict(enum.StrEnum):
    """What became of a row."""

    CREATED = "created"
    UPDATED = "updated"
    REJECTED = "rejected"
    UNCONFIRMED = "unconfirmed"


class Row(msgspec.Struct, frozen=True):
    """One contact in one import.

    Args:
        email: normalised.
        contact_id: to match by; None matches by address.
        before: payload that was confirmed; None where nothing was known.
        after: payload that is sent.
    """

    email: str
    contact_id: int | None
    before: str | None
    after: str


class Outcome(msgspec.Struct, frozen=True):
    """What dotdigital said of one row.

    Args:
        email: normalised, as it was sent.
        verdict: what became of it.
        contact_id: dotdigital's id, where it was row_results.
        reason: dotdigital's code of a rejection.
    """

    email: str
    verdict: Verdict
    contact_id: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What dotdigital holds of one contact, read back."""

    email: str
    contact_id: int | None
    payload: str
    in_address_book: bool
    excluded: bool = False
