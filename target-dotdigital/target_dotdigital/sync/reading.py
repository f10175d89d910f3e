"""Reads dotdigital back into the ledger: what contacts really hold, and which labels belong to no contact of the source."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.tables import contacts, observed
from target_dotdigital.payloads import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from target_dotdigital.ledger.contacts import ContactLedger
    from target_dotdigital.records import Observed


class Drift(enum.StrEnum):
    """How account and ledger differ over a contact."""

    LABELS = "labels were changed by somebody else"
    LISTED = "taken off the address book"
    DELETED = "deleted in dotdigital"
    ORPHANED = "orphaned labels, of contacts that the source does not have"


class AccountReading:
    """One reading back of the whole account.

    Every labelled contact of the account is in the ledger afterwards. One that no stream of the source has named keeps its
    labels as desired ones until a whole input shows that it belongs to nobody.

    Args:
        ledger: the ledger's part.
        uploads: whether contacts are put into an address book.
        is_excluded: whether the settings leave an address alone; None if they name no such address.
    """

    def __init__(self, ledger: ContactLedger, *, uploads: bool, is_excluded: Callable[[str], bool] | None) -> None:
        """Start with nothing read."""
        self._is_excluded = is_excluded
        self.drift: Counter[Drift] = Counter()
        self._ledger = ledger
        self._uploads = uploads
        self._mine = contacts.c.scope == ledger.scope

    def read(self, pages: Iterable[Sequence[Observed]]) -> int:
        """Read all pages of the account into the ledger; return the number of contacts."""
        total = sum(map(self._take, pages))
        self.drift[Drift.DELETED] = self._ledger.forget_unseen()
        self._ledger.recompute_pending()
        self._ledger.update_scope(account_contacts=total)
        return total

    def _take(self, page: Sequence[Observed]) -> int:
        """Compare a page of the account with the ledger, and store what is there; return its length."""
        if self._is_excluded is not None:
            page = [replace(one, excluded=self._is_excluded(one.email)) for one in page]
        # what the ledger knew is compared before it is overwritten
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
        """Take labelled contacts into the ledger that it does not know, with their labels as they are."""
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
