"""Collects what a ledger scope knows about one contact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from target_dotdigital.commands.contact_status import ContactStatus, Queue, status_of
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.ledger.imports import DeliveryRecord, deliveries_of, history_start
from target_dotdigital.ledger.runs import RunRecord, find_run

if TYPE_CHECKING:
    import sqlalchemy as sa

    from target_dotdigital.ledger.contact_queries import ContactRecord
    from target_dotdigital.ledger.runs import KnownScope
    from target_dotdigital.settings import Settings

MAX_DELIVERIES = 10


@dataclass(frozen=True, slots=True)
class ContactFacts:
    """What a ledger scope knows about a contact.

    Args:
        scope: the scope.
        configured: whether it is the scope of the configured data field.
        contact: the contact.
        status: whether it is sent, and why.
        changed: run whose input changed it last; None if no input has.
        deliveries: its last deliveries, newest first.
        kept_since: time since which the ledger has deliveries, in seconds since 1970; None if it has none.
    """

    scope: KnownScope
    configured: bool
    contact: ContactRecord
    status: ContactStatus
    changed: RunRecord | None
    deliveries: tuple[DeliveryRecord, ...]
    kept_since: float | None


def facts_of(
    connection: sa.Connection, scope: KnownScope, contact: ContactRecord, settings: Settings, now: float, *, configured: bool
) -> ContactFacts:
    """Collect the facts about a contact.

    Args:
        connection: the transaction.
        scope: the ledger scope.
        contact: the contact in that scope.
        settings: the settings.
        now: seconds since 1970.
        configured: whether the scope is that of the settings.
    """
    deliveries = tuple(deliveries_of(connection, scope.id, contact.email, MAX_DELIVERIES))
    limit = settings.max_contacts_per_run
    # only a limited run leaves pending contacts behind, so only then their number matters
    pending = (
        ContactLedger(connection, scope.id, uploads=settings.upload_emails).count_pending() if limit and contact.pending else 0
    )
    status = status_of(contact, deliveries[0] if deliveries else None, Queue(pending, limit), now)
    changed, kept_since = find_run(connection, contact.changed_run), history_start(connection, scope.id)
    return ContactFacts(scope, configured, contact, status, changed, deliveries, kept_since)
