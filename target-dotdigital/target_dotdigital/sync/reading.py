"""Reads dotdigital back into the ledger: current labels, drift and orphaned labels."""

from __future__ import annotations

import enum
import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.contacts import CONTACTS_PER_PAGE
from target_dotdigital.ledger.scopes import update_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from target_dotdigital.dotdigital.contacts import ContactReader
    from target_dotdigital.ledger.contacts import ContactLedger
    from target_dotdigital.records import Observed
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")


class Drift(enum.StrEnum):
    """Kinds of differences between account and ledger."""

    LABELS = "labels changed by others"
    LISTED = "removed from the address book"
    DELETED = "deleted in dotdigital"
    ORPHANED = "orphaned labels (contact not in the source)"


class AccountReading:
    """Reads the whole account back into the ledger.

    Afterwards every labelled contact of the account is in the ledger. A contact that is not in the source keeps its labels as
    desired labels until a complete input shows that they are orphaned.

    Args:
        ledger: the ledger scope.
        is_excluded: whether an address is excluded by the settings; None if no pattern is set.
    """

    def __init__(self, ledger: ContactLedger, is_excluded: Callable[[str], bool] | None) -> None:
        """Create a reading without drift."""
        self._is_excluded = is_excluded
        self.drift: Counter[Drift] = Counter()
        self._ledger = ledger

    def read(self, pages: Iterable[Sequence[Observed]]) -> int:
        """Read all pages of the account into the ledger, and return the number of contacts."""
        total = sum(map(self._store, pages))
        self.drift[Drift.DELETED] = self._ledger.forget_unseen()
        self._ledger.recompute_pending()
        update_scope(self._ledger.connection, self._ledger.scope, account_contacts=total)
        return total

    def _store(self, page: Sequence[Observed]) -> int:
        """Compare a page of the account with the ledger, store it, and return its length."""
        if self._is_excluded is not None:
            page = [replace(one, excluded=self._is_excluded(one.email)) for one in page]
        ledger, drift = self._ledger, self.drift
        ledger.stage_remote(page)
        relabelled, taken_off = ledger.count_drift()
        drift[Drift.LABELS] += relabelled
        drift[Drift.LISTED] += taken_off
        ledger.apply_remote()
        drift[Drift.ORPHANED] += ledger.adopt_labelled()
        return len(page)


def read_account(ledger: ContactLedger, reader: ContactReader, settings: Settings) -> None:
    """Read the whole account back into the ledger, and log the number of contacts."""
    reading = AccountReading(ledger, settings.is_excluded)
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
    found. Otherwise only the contacts that `ContactLedger.to_look_up` names are looked up.

    Args:
        ledger: the ledger scope, with the input in it.
        reader: reads contacts from the account.
        settings: the settings.
        everything: whether the whole account is read.
        account_contacts: number of contacts in the account at the last complete reading.
        since: run that acknowledged the bookmark that the input starts from.
    """
    asked = [] if everything else ledger.to_look_up(since)
    # look up contacts one by one only if that takes no more calls than reading every page
    if everything or len(asked) > max(1, account_contacts // CONTACTS_PER_PAGE):
        read_account(ledger, reader, settings)
    elif asked:
        ledger.stage_remote(reader.look_up(asked))
        ledger.apply_remote()
        ledger.forget_unseen(asked)
        ledger.recompute_pending()
