"""Opens a run: account, ledger, unfinished imports of earlier runs, and the collector of its input."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from target_dotdigital.errors import TargetError
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.ledger.contacts.outcomes import ContactOutcomes
from target_dotdigital.ledger.imports import ImportLog
from target_dotdigital.ledger.runs import begin_run, end_run
from target_dotdigital.ledger.scopes import open_scope
from target_dotdigital.sync.activation import is_active
from target_dotdigital.sync.agreement import keep_terms
from target_dotdigital.sync.delivery import Delivery
from target_dotdigital.sync.intake import Collector, keep_labels_current
from target_dotdigital.sync.labels import LabelEncoder, Labels

if TYPE_CHECKING:
    import datetime

    import sqlalchemy as sa

    from target_dotdigital.ledger.scopes import Scope
    from target_dotdigital.sync.locked_account import LockedAccount


@dataclass(frozen=True, slots=True)
class OpenRun:
    """Everything that a run works with.

    Args:
        place: the account, with its ledger open and locked.
        scope: facts about the ledger scope from before the run.
        number: number of the run.
        active: whether the operator has activated the sync for these settings.
        connection: one transaction for input and plan, so that a run that may not deliver leaves nothing behind.
        ledger: the ledger scope's contacts, within that transaction.
        collector: takes the input.
        delivery: sends contacts; unfinished imports of earlier runs have ended.
    """

    place: LockedAccount
    scope: Scope
    number: int
    active: bool
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
        scope = open_scope(first, place.scope_key, place.account.id)
        number = begin_run(first, scope.id, started_at.isoformat())
    log = ImportLog(engine, scope.id, number, settings.upload_emails)
    delivery = Delivery(place, log, started_at=started_at)
    if writes:
        try:
            delivery.resume(place.account)
        except TargetError:
            with engine.begin() as ended:
                end_run(ended, number, "failed", finished_at=place.clock.now().isoformat())
            raise
    else:
        log.doubt_open(first)
    connection = place.stack.enter_context(engine.connect()) if writes else first
    ledger = ContactLedger(connection, scope.id, uploads=settings.upload_emails, run=number)
    ContactOutcomes(connection, scope.id, settings.upload_emails).release_due(place.clock.wall())
    labels = Labels(settings.labels)
    encoder = LabelEncoder(labels)
    keep_labels_current(ledger, scope, settings, encoder)
    keep_terms(connection, scope, settings)
    ledger.open_input()
    collector = Collector(ledger, labels, encoder, settings)
    return OpenRun(place, scope, number, active, connection, ledger, collector, delivery)
