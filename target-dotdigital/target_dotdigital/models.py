"""Values that several modules exchange: rows and their results, figures of a run, and payloads."""

from __future__ import annotations

import collections
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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
        reason: dotdigital's code for a rejection, or for the part of an imported row that was not applied.
        other_email: normalised address that the report lists for the row's contact ID, if it is not the row's own.
        is_respelled: whether the report spells the address differently.
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
    """Return the form in which codes are compared: letters only, in lower case, without the prefix of a refused call."""
    return "".join(filter(str.isalpha, (code or "").rpartition(":")[2])).lower()


def main_code(codes: Iterable[str]) -> str:
    """Return the decisive code of a row with several codes, regardless of their order, which may change from day to day.

    A missing ID comes first, because the row can be sent by address; then codes that only a change of the contact can resolve.
    """

    def rank(code: str) -> tuple[bool, bool, str]:
        letters = letters_of(code)
        return letters != ID_NOT_FOUND, letters not in PERMANENT, letters

    return min((code for code in codes if letters_of(code)), key=rank, default=UNKNOWN)


#: Contacts that need no update and that a run looks up as a spot check.
CHECKED_CONTACTS = 3


@dataclass(slots=True)
class InputStats:
    """Figures of the input.

    Args:
        read: records read.
        invalid: records left out, by reason.
        excluded: records that match exclude_emails.
        kept: records of removed contacts whose labels are kept, because on_removed is `keep`.
        removed: records of removed contacts, plus contacts that are missing in a full input.
        distinct: unique contacts.
        dropped: dropped names, and the number of segment sets affected.
    """

    read: int = 0
    invalid: collections.Counter[str] = field(default_factory=collections.Counter)
    excluded: int = 0
    kept: int = 0
    removed: int = 0
    distinct: int = 0
    dropped: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def left_out(self) -> int:
        """Records that are invalid or excluded."""
        return self.invalid.total() + self.excluded

    @property
    def duplicates(self) -> int:
        """Records for an address that another record of this run already has."""
        return max(0, self.read - sum(self.invalid.values()) - self.excluded - self.kept - self.distinct)


@dataclass(slots=True)
class DeliveryStats:
    """Figures of the delivery.

    Args:
        sent: rows sent, not counting resubmissions.
        verdicts: rows by verdict.
        reasons: rejected rows by dotdigital's code.
        new_reasons: rejected rows that were not rejected with the same code before.
        remarks: rows that were imported only in part, by dotdigital's code.
        respelled: rows whose address dotdigital's report spells differently.
        mistaken: rows matched by ID that updated a contact with another address; both contacts are looked up.
        gone: rows matched by ID whose contact no longer exists, so that the address was looked up; not counted as sent.
        created_again: contacts that were created although this run had read them back.
        not_joined: contacts that were looked up, and are not in the address book after two deliveries.
        problems: one sentence for each problem with an import.
    """

    sent: int = 0
    verdicts: collections.Counter[Verdict] = field(default_factory=collections.Counter)
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)
    new_reasons: collections.Counter[str] = field(default_factory=collections.Counter)
    remarks: collections.Counter[str] = field(default_factory=collections.Counter)
    respelled: int = 0
    mistaken: int = 0
    gone: int = 0
    created_again: int = 0
    not_joined: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def unconfirmed(self) -> int:
        """Rows whose result dotdigital did not report."""
        return self.sent - sum(self.verdicts[v] for v in (Verdict.CREATED, Verdict.UPDATED, Verdict.REJECTED))


@dataclass(frozen=True, slots=True)
class Sample:
    """A change of labels that several contacts share: payloads before and after, and the number of contacts."""

    before: str | None
    after: str
    contacts: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The contacts to send, in numbers.

    Args:
        created: contacts that do not exist in dotdigital.
        created_without_labels: created contacts that are in no chosen segment.
        updated: contacts whose labels change.
        cleared: contacts that lose all labels.
        added_to_address_book: contacts whose labels are current, and that are only added to the address book.
        resent: contacts sent before whose result is unknown.
        unchanged: contacts of the input that need no update.
        orphaned: cleared contacts whose labels are orphaned.
        labelled: contacts of the account that have labels now.
        relabelled: labelled contacts whose labels are changed or cleared.
        samples: the most frequent changes.
    """

    created: int
    created_without_labels: int
    updated: int
    cleared: int
    added_to_address_book: int
    resent: int
    unchanged: int
    orphaned: int
    labelled: int
    relabelled: int
    samples: tuple[Sample, ...]

    @property
    def total(self) -> int:
        """Contacts to send."""
        return self.created + self.updated + self.cleared + self.added_to_address_book + self.resent


@dataclass(frozen=True, slots=True)
class LabelChanges:
    """Who joined and left: segment -> contacts that got, or lost, its label."""

    joined: collections.Counter[str] = field(default_factory=collections.Counter)
    left: collections.Counter[str] = field(default_factory=collections.Counter)


@dataclass(frozen=True, slots=True)
class Remaining:
    """What a ledger scope holds after a delivery, in contacts.

    Args:
        pending: contacts that are still to be sent.
        held: contacts of imports that the Data Watchdog rejected.
        rejected: contacts whose last delivery was rejected.
    """

    pending: int = 0
    held: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Planned:
    """What a run would do.

    Args:
        plan: contacts to send, by kind of change.
        import_calls: import calls for the plan.
        unknown: pending contacts that dotdigital does not hold and that are not created.
        segments: segment -> contacts.
        segments_before: the same after the last run that delivered.
        ambiguous_names: names that a rule "contains" may confuse, one sentence each.
        changes: who would join and leave.
    """

    plan: Plan
    import_calls: int
    unknown: int
    segments: dict[str, int]
    segments_before: dict[str, int]
    ambiguous_names: tuple[str, ...]
    changes: LabelChanges


EMPTY = "{}"
_decode = msgspec.json.Decoder(dict[str, str]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def to_payload(values: Mapping[str, str]) -> str:
    """Encode data-field values as a payload."""
    return _encode(values).decode() if values else EMPTY


def fields_of(payloads: Iterable[str | None]) -> set[str]:
    """Return the data fields that have a value in any of the payloads; None stands for no value."""
    return {name for payload in set(payloads) if payload is not None for name in _decode(payload)}
