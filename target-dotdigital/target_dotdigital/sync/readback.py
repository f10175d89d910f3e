"""Reads dotdigital back into the ledger: current labels, drift, orphaned labels, and the spot check of every run."""

from __future__ import annotations

import datetime
import enum
import logging
import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.contacts import CONTACTS_PER_PAGE, prefetch_pages
from target_dotdigital.errors import ApiError
from target_dotdigital.ledger.runs import update_scope
from target_dotdigital.models import CHECKED_CONTACTS
from target_dotdigital.text import spellings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import sqlalchemy as sa

    from target_dotdigital.dotdigital.contacts import ContactReader
    from target_dotdigital.ledger.contact_queries import Believed
    from target_dotdigital.ledger.contacts import ContactLedger
    from target_dotdigital.ledger.runs import Scope
    from target_dotdigital.models import Observed
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")
# In a large account, contacts leave the address book every day, and the difference adds up until the account is read back. An account of
# fewer pages is read back for any difference; a larger one only if the difference exceeds one contact per this many pages.
PAGES_PER_DIFFERENCE = 10


def spot_check(ledger: ContactLedger, reader: ContactReader, scope: Scope) -> tuple[int, bool]:
    """Look up a few contacts that need no update, and compare the number of contacts in the address book.

    Args:
        ledger: the ledger scope, with the input in it.
        reader: reads contacts from the account; its address book is the one whose members are in the ledger.
        scope: facts about the ledger scope from before the run.

    Returns:
        The number of contacts that were looked up, and whether dotdigital differs from the ledger.

    Raises:
        ApiError: a look-up failed.
    """
    believed = ledger.believed()
    # seeded, so that the choice is reproducible, and differs between runs
    chance = random.Random(f"{ledger.scope} {ledger.run} {reader.client.clock.now()}")  # noqa: S311 - not security-relevant
    chosen = _choose(ledger, believed, chance)
    found = {contact.email: contact for contact in reader.look_up([row.email for row in chosen])}
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
    """Choose contacts of both kinds, but mostly with labels: contacts without labels look the same after a data field was emptied."""
    without = min(believed.unlabelled, max(1, CHECKED_CONTACTS - believed.labelled))
    labelled = min(believed.labelled, CHECKED_CONTACTS - without)
    return [
        *ledger.unchanged_at(chance.sample(range(believed.labelled), labelled), labelled=True),
        *ledger.unchanged_at(chance.sample(range(believed.unlabelled), without), labelled=False),
    ]


# contacts come and go while the account is read, and some have no e-mail address
MIN_NOT_SHOWN = 10
# removed contacts that the list of contacts does not show, and that are looked up; most were deleted in dotdigital as well
MAX_REMOVALS = 100
# a contact may become visible later than it is created; both times are dotdigital's
VISIBILITY_MARGIN = datetime.timedelta(hours=1)


class Drift(enum.StrEnum):
    """Kinds of differences between account and ledger."""

    LABELS = "labels changed by others"
    LISTED = "removed from the address book"
    DELETED = "deleted in dotdigital"
    NOT_SHOWN = "in the address book, but not shown when the account was read back"
    NOT_JOINED = "not in the address book after two deliveries (suppressed, or double opt-in not confirmed)"
    TWICE = "addresses that dotdigital holds twice, in different capitals"
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
        self._is_excluded = is_excluded
        self.drift: Counter[Drift] = Counter()
        self._listed = 0
        self._known = 0
        self._ledger = ledger

    def read(self, reader: ContactReader) -> int:
        """Read all pages of the account into the ledger, each while the one before it is stored, and return the number of contacts."""
        read_at = reader.client.wall()
        self._ledger.begin_reading()
        total = sum(map(self._store, prefetch_pages(reader.pages())))
        book = reader.account.book
        if book is not None and (missing := book.contacts - self._listed) > max(MIN_NOT_SHOWN, book.contacts // 20):
            self.drift[Drift.NOT_SHOWN] = missing
        self.drift[Drift.DELETED] = self._ledger.clear_remote_state()
        self._ledger.recompute_pending()
        offset = None if book is None else book.contacts - self._ledger.believed().members
        facts = {"account_contacts": total, "read_at": read_at, "address_book_offset": offset}
        update_scope(self._ledger.connection, self._ledger.scope, **facts)
        return total

    def read_new(self, reader: ContactReader, since: float) -> int:
        """Read the contacts that were created in dotdigital, and return the number that this target did not create.

        Args:
            reader: reads contacts from the account.
            since: seconds since 1970.
        """
        read_at = reader.client.wall()
        created_since = datetime.datetime.fromtimestamp(since, datetime.UTC) - VISIBILITY_MARGIN
        total = 0
        for page in prefetch_pages(reader.pages(created_since)):
            total += self._store(page)
            self._ledger.recompute_pending([contact.email for contact in page])
        update_scope(self._ledger.connection, self._ledger.scope, read_at=read_at)
        return total - self._known

    def _store(self, page: Sequence[Observed]) -> int:
        """Compare a page of the account with the ledger, store it, and return its length."""
        page = self._as_known(page)
        ledger, drift = self._ledger, self.drift
        ledger.stage_remote(_with_excluded(page, self._is_excluded))
        found = ledger.compare_remote()
        drift[Drift.TWICE] += len(page) - len({contact.email for contact in page}) + found.twice
        drift[Drift.LABELS] += found.relabelled
        drift[Drift.LISTED] += found.taken_off
        drift[Drift.NOT_JOINED] += found.not_joined
        self._known += found.known
        self._listed += sum(contact.in_address_book for contact in page)
        ledger.apply_remote()
        drift[Drift.ORPHANED] += ledger.add_unknown_labelled()
        return len(page)

    def _as_known(self, page: Sequence[Observed]) -> Sequence[Observed]:
        """Return a page with the addresses as the ledger has them, where dotdigital spells their domains differently."""
        others = {contact.email: found for contact in page if (found := spellings(contact.email))}
        if not others:
            return page
        known = self._ledger.known({*others, *(spelling for found in others.values() for spelling in found)})
        respelled = {
            email: known_as[0]
            for email, found in others.items()
            if email not in known and len(known_as := sorted(found & known)) == 1
        }
        return [replace(contact, email=respelled[contact.email]) if contact.email in respelled else contact for contact in page]


def read_account(ledger: ContactLedger, reader: ContactReader, settings: Settings) -> Counter[Drift]:
    """Read the whole account back into the ledger, and return the drift: contacts by kind of difference."""
    reading = AccountReading(ledger, settings.is_excluded)
    total = reading.read(reader)
    LOGGER.info("dotdigital: %d contacts read back", total)
    if changed := reading.drift[Drift.LABELS]:
        LOGGER.warning(
            "%d contacts did not hold the labels that the ledger expected: somebody changed them, or dotdigital does not keep what it "
            "confirms. They get their labels again.",
            changed,
        )
    return reading.drift


def look_up(ledger: ContactLedger, reader: ContactReader, emails: Sequence[str], settings: Settings) -> int:
    """Look up contacts one by one, and store what dotdigital holds of them.

    Args:
        ledger: the ledger scope.
        reader: reads contacts from the account.
        emails: addresses of the contacts.
        settings: the settings.

    Returns:
        The number of contacts that are not in the address book, although they were delivered to it twice.
    """
    found = reader.look_up(emails)
    ledger.stage_remote(_with_excluded(found, settings.is_excluded))
    not_joined = ledger.compare_remote().not_joined
    ledger.apply_remote()
    ledger.clear_remote_state(emails)
    ledger.recompute_pending([*emails, *(contact.email for contact in found)])
    return not_joined


def _with_excluded(page: Sequence[Observed], is_excluded: Callable[[str], bool] | None) -> Sequence[Observed]:
    if is_excluded is None:
        return page
    return [replace(contact, excluded=is_excluded(contact.email)) for contact in page]


@dataclass(frozen=True, slots=True)
class ReadBack:
    """The result of a read-back.

    Args:
        drift: contacts by kind of difference, as far as they were read.
        checked: contacts that the spot check looked up.
    """

    drift: Counter[Drift]
    checked: int = 0


def read_back(
    ledger: ContactLedger,
    reader: ContactReader,
    settings: Settings,
    *,
    everything: bool,
    scope: Scope,
    since: int | None,
) -> ReadBack:
    """Read contacts back from dotdigital whose state the ledger does not know, and check a few of the others.

    If the whole account is read, current labels are not sent again, replaced labels can be restored, and orphaned labels are
    found. Otherwise only the contacts are read that were created since the last time, because shoppers sign up, or return after
    deletion, without any change in the source; and the contacts of `ContactLedger.contacts_to_verify` are looked up. If the spot check
    then finds a difference, the whole account is read.

    Args:
        ledger: the ledger scope, with the input in it.
        reader: reads contacts from the account.
        settings: the settings.
        everything: whether the whole account is read.
        scope: facts about the ledger scope from before the run.
        since: run that acknowledged the bookmark that the input starts from.
    """
    # look up contacts one by one only if that takes no more calls than reading every page
    most = max(1, (scope.account_contacts or 0) // CONTACTS_PER_PAGE)
    asked = [] if everything else ledger.contacts_to_verify(since, most)
    if everything or scope.read_at is None or len(asked) > most:
        return ReadBack(_read_all(ledger, reader, settings))
    reading = AccountReading(ledger, settings.is_excluded)
    if new := reading.read_new(reader, scope.read_at):
        LOGGER.info("dotdigital: %d contacts were created by others since contacts were last read back", new)
    checked, differs = 0, False
    try:
        while asked:
            reading.drift[Drift.NOT_JOINED] += look_up(ledger, reader, asked, settings)
            # a contact whose address changed in dotdigital is found under the new one: the ledger's ID for the old one is wrong
            asked = ledger.contacts_to_verify(None) if ledger.forget_shared_ids() else []
        if settings.verify_timeout:
            checked, differs = spot_check(ledger, reader, scope)
    except ApiError as error:
        LOGGER.warning("Contacts could not be looked up one by one, so the whole account is read back. %s", error)
        differs = True
    return ReadBack(_read_all(ledger, reader, settings) if differs else reading.drift, checked)


def _read_all(ledger: ContactLedger, reader: ContactReader, settings: Settings) -> Counter[Drift]:
    """Read the whole account; a contact that the list does not show is looked up before its removal is dropped."""
    drift = read_account(ledger, reader, settings)
    if removals := ledger.unseen_removals(MAX_REMOVALS):
        look_up(ledger, reader, removals, settings)
    return drift
