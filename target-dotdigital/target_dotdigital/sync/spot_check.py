"""The spot check: whether dotdigital still holds what the ledger believes unchanged.

It finds what no memory on our side can show: a data field that was deleted and made again by hand, an address book that was emptied,
or a ledger that was restored from a backup together with the tap's snapshots and STATE.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.contacts import CONTACTS_PER_PAGE
from target_dotdigital.stats import CHECKED_CONTACTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import sqlalchemy as sa

    from target_dotdigital.dotdigital.contacts import ContactReader
    from target_dotdigital.ledger.contact_queries import Believed
    from target_dotdigital.ledger.contacts import ContactLedger
    from target_dotdigital.ledger.runs import Scope

LOGGER = logging.getLogger("target-dotdigital")
# In a large account somebody leaves the address book every day. The difference adds up until the account is read back, so up to 50,000
# contacts it is read for one, and beyond that never more often than for each so many pages.
PAGES_PER_DIFFERENCE = 10


def spot_check(ledger: ContactLedger, reader: ContactReader, scope: Scope) -> tuple[int, bool]:
    """Look up a few contacts that the run believes unchanged, and compare the number of contacts in the address book.

    Args:
        ledger: the ledger scope, with the input in it.
        reader: reads contacts from the account; its address book is the one whose members the ledger knows.
        scope: facts about the ledger scope from before the run.

    Returns:
        The number of contacts that were looked up, and whether dotdigital differs from the ledger.

    Raises:
        ApiError: a look-up failed.
    """
    believed = ledger.believed()
    # the same contacts if the same run is made again at the same time; another run chooses others
    chance = random.Random(f"{ledger.scope} {ledger.run} {reader.client.clock.now()}")  # noqa: S311 - nobody gains by guessing it
    chosen = _choose(ledger, believed, chance)
    found = {one.email: one for one in reader.look_up([row.email for row in chosen])}
    book = reader.account.book
    wrong = 0
    for row in chosen:
        held = found.get(row.email)
        missing = book is not None and row.in_address_book and held is not None and not held.in_address_book
        wrong += held is None or held.payload != row.confirmed or missing
    more = 0
    if book is not None and scope.address_book_offset is not None:
        more = book.contacts - believed.members - scope.address_book_offset
        if not more and believed.assumed:
            ledger.trust_membership()
    LOGGER.info("Spot check: %d contacts that need no update were looked up, %d differ from the ledger", len(chosen), wrong)
    if more:
        LOGGER.info("Spot check: the address book has %+d contacts against the ledger", more)
    pages = (scope.account_contacts or 0) // CONTACTS_PER_PAGE
    return len(chosen), bool(wrong) or abs(more) > pages // PAGES_PER_DIFFERENCE


def _choose(ledger: ContactLedger, believed: Believed, chance: random.Random) -> Sequence[sa.Row[Any]]:
    """Choose contacts of both kinds, but most with labels: those without look the same after a data field was emptied."""
    without = min(believed.unlabelled, max(1, CHECKED_CONTACTS - believed.labelled))
    labelled = min(believed.labelled, CHECKED_CONTACTS - without)
    return [
        *ledger.unchanged_at(chance.sample(range(believed.labelled), labelled), labelled=True),
        *ledger.unchanged_at(chance.sample(range(believed.unlabelled), without), labelled=False),
    ]
