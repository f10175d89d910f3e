"""Reads dotdigital back into the ledger: current labels, drift and orphaned labels."""

from __future__ import annotations

import enum
import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from target_dotdigital.dotdigital.contacts import PAGE
from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.tables import contacts, observed
from target_dotdigital.payloads import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from target_dotdigital.dotdigital.contacts import ContactReader
    from target_dotdigital.ledger.contacts import ContactLedger
    from target_dotdigital.records import Observed
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")


class Drift(enum.StrEnum):
    """Kinds of differences between account and ledger."""

    LABELS = "labels were changed by somebody else"
    LISTED = "taken off the address book"
    DELETED = "deleted in dotdigital"
    ORPHANED = "orphaned labels, of contacts that the source does not have"


class AccountReading:
    """Reads the whole account back into the ledger.

    Afterwards every labelled contact of the account is in the ledger. A contact that is not in the source keeps its labels as
    desired labels until a complete input shows that they are orphaned.

    Args:
        ledger: the ledger scope.
        uploads: whether contacts are added to an address book.
        is_excluded: whether an address is excluded by the settings; None if no pattern is set.
    """

    def __init__(self, ledger: ContactLedger, *, uploads: bool, is_excluded: Callable[[str], bool] | None) -> None:
        """Create a reading without drift."""
        self._is_excluded = is_excluded
        self.drift: Counter[Drift] = Counter()
        self._ledger = ledger
        self._uploads = uploads
        self._mine = contacts.c.scope == ledger.scope

    def read(self, pages: Iterable[Sequence[Observed]]) -> int:
        """Read all pages of the account into the ledger, and return the number of contacts."""
        total = sum(map(self._take, pages))
        self.drift[Drift.DELETED] = self._ledger.forget_unseen()
        self._ledger.recompute_pending()
        self._ledger.update_scope(account_contacts=total)
        return total

    def _take(self, page: Sequence[Observed]) -> int:
        """Compare a page of the account with the ledger, store it, and return its length."""
        if self._is_excluded is not None:
            page = [replace(one, excluded=self._is_excluded(one.email)) for one in page]
        # drift is counted before the ledger is overwritten
        self._ledger.stage_remote(page)
        c, there = contacts.c, observed.c
        known = sa.select(sa.func.count()).select_from(contacts).where(self._mine, bulk.matching(c.email, observed))
        changed = known.where(c.confirmed.is_not(None), c.confirmed != there.payload)
        self.drift[Drift.LABELS] += self._ledger.connection.scalar(changed) or 0
        if self._uploads:
            unlisted = known.where(c.in_address_book, ~there.in_address_book, ~c.removed)
            self.drift[Drift.LISTED] += self._ledger.connection.scalar(unlisted) or 0
        self._ledger.apply_remote()
        self._adopt()
        return len(page)

    def _adopt(self) -> None:
        """Add labelled contacts that are missing from the ledger, with their current labels as desired labels."""
        values = {
            "scope": sa.literal(self._ledger.scope),
            "email": observed.c.email,
            "contact_id": observed.c.contact_id,
            "confirmed": observed.c.payload,
            "desired": observed.c.payload,
            "removed": sa.true(),
            "in_address_book": observed.c.in_address_book if self._uploads else sa.true(),
            "in_doubt": sa.false(),
            "rejections": sa.literal(0),
            "pending": sa.false(),
            "checked_run": sa.literal(self._ledger.run),
        }
        stranger = ~sa.exists().where(self._mine, contacts.c.email == observed.c.email)
        select = sa.select(*values.values()).where(stranger, observed.c.payload != EMPTY, ~observed.c.excluded)
        insert = sa.insert(contacts).from_select(list(values), select).execution_options(preserve_rowcount=True)
        self.drift[Drift.ORPHANED] += self._ledger.connection.execute(insert).rowcount


def read_account(ledger: ContactLedger, reader: ContactReader, settings: Settings) -> None:
    """Read the whole account back into the ledger, and log the number of contacts."""
    reading = AccountReading(ledger, uploads=settings.upload_emails, is_excluded=settings.is_excluded)
    total = reading.read(reader.pages())
    LOGGER.info("dotdigital: %d contacts read back", total)


def read_back(
    ledger: ContactLedger,
    reader: ContactReader,
    settings: Settings,
    *,
    everything: bool,
    account_contacts: int,
    since: int | None,
) -> None:
    """Read contacts back from dotdigital whose state the ledger does not know.

    If the whole account is read, current labels are not sent again, replaced labels can be restored, and orphaned labels are
    found. Otherwise only two kinds of contacts are looked up: contacts without a known ID that can only be matched by ID, and
    contacts that the input repeats without changes.

    Args:
        ledger: the ledger scope, with the input in it.
        reader: reads contacts from the account.
        settings: the settings.
        everything: whether the whole account is read.
        account_contacts: number of contacts in the account at the last complete reading.
        since: run that acknowledged the bookmark that the input starts from.
    """
    c = contacts.c
    unknown = c.pending & c.contact_id.is_(None) & c.confirmed.is_(None)
    if settings.upload_emails:
        unknown &= c.removed
    if since is not None:
        unknown |= ledger.repeated_since(since)
    asked = [] if everything else ledger.emails(unknown)
    # look up contacts one by one only if that takes no more calls than reading every page
    if everything or len(asked) > max(1, account_contacts // PAGE):
        read_account(ledger, reader, settings)
    elif asked:
        ledger.stage_remote(reader.look_up(asked))
        ledger.apply_remote()
        ledger.forget_unseen(c.email.in_(asked))
        ledger.recompute_pending()
