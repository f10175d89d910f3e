"""What a run read, plans and delivered, in numbers: filled in by the run, shown by the report."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field

from target_dotdigital.records import Verdict


@dataclass(slots=True)
class InputStats:
    """What came in, in numbers.

    Args:
        read: records.
        invalid: records that were left out, by reason.
        excluded: records that exclude_emails leaves alone.
        kept: removed contacts whose labels on_removed keeps.
        removed: records of removed contacts, and contacts that a whole input does not name.
        distinct: contacts named, each once.
        dropped: names that were left out, and the number of segment sets affected.
    """

    read: int = 0
    invalid: collections.Counter[str] = field(default_factory=collections.Counter)
    excluded: int = 0
    kept: int = 0
    removed: int = 0
    distinct: int = 0
    dropped: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def duplicates(self) -> int:
        """Records for an address that another record of this run names too."""
        return max(0, self.read - sum(self.invalid.values()) - self.excluded - self.kept - self.distinct)


@dataclass(slots=True)
class DeliveryStats:
    """What became of everything that was sent.

    Args:
        sent: rows sent, a resubmission not counted again.
        verdicts: rows by verdict.
        reasons: rejected rows by dotdigital's code.
        new_reasons: those of them that were not rejected with that code before.
        held: rows of imports that the Data Watchdog rejected.
        problems: one sentence for each import that went wrong.
    """

    sent: int = 0
    verdicts: collections.Counter[Verdict] = field(default_factory=collections.Counter)
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)
    new_reasons: collections.Counter[str] = field(default_factory=collections.Counter)
    held: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def unconfirmed(self) -> int:
        """Rows whose fate dotdigital did not tell."""
        return self.sent - sum(self.verdicts[v] for v in (Verdict.CREATED, Verdict.UPDATED, Verdict.REJECTED))


@dataclass(frozen=True, slots=True)
class Sample:
    """One change of labels that many contacts share: payloads before and after."""

    before: str | None
    after: str
    contacts: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is about to be sent.

    Args:
        created: contacts that dotdigital does not have.
        updated: contacts whose labels change.
        cleared: contacts that lose all labels.
        added_to_address_book: contacts whose labels are right, and that only join the address book.
        resent: contacts sent before whose fate is not known.
        unchanged: contacts of the input that are right already.
        orphaned: those of the cleared whose labels belong to no contact that the source ever had.
        labelled: contacts of the account that have labels now.
        relabelled: those of them whose labels change or go.
        samples: the most frequent changes.
    """

    created: int
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
