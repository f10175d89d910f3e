"""Opens a run: account, ledger, unfinished imports of earlier runs, and the collector of its input."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.errors import TargetError
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.ledger.imports import ImportLog
from target_dotdigital.ledger.runs import begin_run, end_run, update_scope
from target_dotdigital.settings import InputTerms
from target_dotdigital.sync.activation import is_active
from target_dotdigital.sync.agreement import keep_terms
from target_dotdigital.sync.delivery import Delivery
from target_dotdigital.sync.intake import Collector, keep_labels_current
from target_dotdigital.sync.labels import LabelEncoder, Labels

if TYPE_CHECKING:
    import datetime

    import sqlalchemy as sa

    from target_dotdigital.ledger.runs import Scope
    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.locked_account import LockedAccount


@dataclass(frozen=True, slots=True)
class OpenRun:
    """Everything that a run works with.

    Args:
        place: the account, with its ledger open and locked.
        scope: facts about the ledger scope from before the run.
        number: number of the run.
        active: whether the operator has activated the sync for these settings.
        moved: whether the address book is another one than that of the last run, so that membership has to be read back.
        relabelled: whether the label settings or upload_emails are others than those of the last run.
        connection: one transaction for input and plan, so that a run that may not deliver leaves nothing behind.
        ledger: the ledger scope's contacts, within that transaction.
        collector: takes the input.
        delivery: sends contacts; unfinished imports of earlier runs have ended.
    """

    place: LockedAccount
    scope: Scope
    number: int
    active: bool
    moved: bool
    relabelled: bool
    connection: sa.Connection
    ledger: ContactLedger
    collector: Collector
    delivery: Delivery

    @property
    def writes(self) -> bool:
        """Whether the run may write to dotdigital."""
        return self.active and not self.place.settings.dry_run


def open_run(place: LockedAccount, started_at: datetime.datetime) -> OpenRun:
    """Open a run and, if it may write, wait for unfinished imports of earlier runs.

    Args:
        place: the account; releases what this function acquires.
        started_at: start of the run.

    Raises:
        TargetError: the run cannot start.
    """
    settings, engine = place.settings, place.ledger.engine
    active = is_active(settings, place.account)
    writes = active and not settings.dry_run
    # the number of a run that may not write is rolled back with everything else
    with engine.begin() if writes else nullcontext(place.stack.enter_context(engine.connect())) as first:
        scope = place.open_scope(first)
        number = begin_run(first, scope.id, started_at.isoformat())
    log = ImportLog(engine, scope.id, number, settings.upload_emails, clears=settings.on_removed == "clear")
    delivery = Delivery(place, log, started_at=started_at)
    if writes:
        try:
            delivery.resume(place.account)
        except TargetError:
            with engine.begin() as ended:
                end_run(ended, number, "failed", finished_at=place.clock.now().isoformat())
            raise
    else:
        log.mark_open_unknown(first)
    connection = place.stack.enter_context(engine.connect()) if writes else first
    ledger = ContactLedger(connection, scope.id, uploads=settings.upload_emails, run=number)
    ledger.release_due(place.clock.wall())
    labels = Labels(settings.labels)
    encoder = LabelEncoder(labels)
    relabelled = keep_labels_current(ledger, scope, settings, encoder)
    keep_excluded_current(ledger, scope, settings)
    keep_terms(connection, scope, settings)
    moved = keep_membership_current(ledger, scope, place)
    ledger.open_input()
    collector = Collector(ledger, labels, encoder, settings)
    return OpenRun(place, scope, number, active, moved, relabelled, connection, ledger, collector, delivery)


def keep_excluded_current(ledger: ContactLedger, scope: Scope, settings: Settings) -> None:
    """Mark the contacts that are excluded, if the patterns changed: waiting contacts are not sent any more, and others are again."""
    before = () if scope.input_filter is None else msgspec.json.decode(scope.input_filter, type=InputTerms).exclude_emails
    if set(before) != set(settings.exclude_emails):
        ledger.mark_excluded(settings.is_excluded)


def keep_membership_current(ledger: ContactLedger, scope: Scope, place: LockedAccount) -> bool:
    """Forget who is in the address book if it is another one than that of the last run, and return whether it is.

    In the same transaction as the reading of the members: a run that is killed must not leave the members of one address book as those
    of another.
    """
    book = place.account.book.id if place.account.book else None
    # an address book that is still to be created has no members, whoever was in the one before
    if book == scope.address_book_id and (book is not None or not place.settings.has_address_book):
        return False
    update_scope(ledger.connection, scope.id, address_book_id=book, address_book_offset=None)
    if not place.settings.has_address_book:
        # nobody has to be in one
        return False
    ledger.forget_membership()
    ledger.recompute_pending()
    return scope.account_contacts is not None
