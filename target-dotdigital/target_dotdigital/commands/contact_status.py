"""Explains why a contact is or is not sent. Pure logic, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from target_dotdigital.commands.tables import moment
from target_dotdigital.ledger.imports import ImportState
from target_dotdigital.payloads import EMPTY
from target_dotdigital.reporting.page import advice_on

if TYPE_CHECKING:
    from target_dotdigital.ledger.contact_queries import ContactRecord
    from target_dotdigital.ledger.imports import DeliveryRecord


@dataclass(frozen=True, slots=True)
class ContactStatus:
    """Whether a contact is sent, and why.

    Args:
        code: one word or two, for machines.
        text: one or two sentences for the operator.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Queue:
    """The contacts that wait together with one: their number, and how many of them a run sends (0: all)."""

    pending: int
    limit: int


def status_of(contact: ContactRecord, last: DeliveryRecord | None, queue: Queue, now: float) -> ContactStatus:
    """Explain the status of a contact.

    Args:
        contact: the contact.
        last: its last delivery; None if it was never sent.
        queue: the contacts that are pending.
        now: seconds since 1970.
    """
    if contact.held is not None:
        return ContactStatus(
            "held",
            f"Held since dotdigital's Data Watchdog rejected import {contact.held_import_id or 'without an ID'}: not sent before it is "
            "released. Ask dotdigital's support about the import, then use the command release.",
        )
    if contact.result_unknown and last is not None and last.state == ImportState.OPEN:
        text = f"Sent in import {last.import_id}, whose result is not known yet: a later run waits for it."
        return ContactStatus("unknown", text)
    if contact.excluded:
        return ContactStatus("excluded", "exclude_emails matches the address: the contact is not sent, and keeps what it has.")
    if contact.pending:
        return _pending(contact, queue)
    if contact.rejected == contact.desired:
        return _rejected(contact, now)
    return _settled(contact)


def _pending(contact: ContactRecord, queue: Queue) -> ContactStatus:
    why = ""
    if contact.result_unknown:
        why = "It was sent, but dotdigital did not confirm it. "
    elif contact.rejection is not None:
        why = f"Its last delivery was rejected ({contact.rejection}); since then its labels changed or its pause ended. "
    if queue.limit and queue.pending > queue.limit:
        text = (
            f"Waiting: {queue.pending:,} contacts are pending, and max_contacts_per_run lets a run send {queue.limit:,} of them, removed "
            "contacts first and then by address."
        )
        return ContactStatus("waiting", why + text)
    return ContactStatus("pending", f"{why}Pending: the next run sends it, unless a brake stops the run.")


def _rejected(contact: ContactRecord, now: float) -> ContactStatus:
    if contact.retry_at is None:
        after = "Not sent again until its labels change."
    elif contact.retry_at <= now:
        after = "The next run sends it again."
    else:
        after = f"Sent again by the first run after {moment(contact.retry_at)} UTC."
    return ContactStatus(
        "rejected", f"Rejected by dotdigital with the code {contact.rejection}. {advice_on(contact.rejection)} {after}"
    )


def _settled(contact: ContactRecord) -> ContactStatus:
    if contact.confirmed is None and contact.contact_id is None:
        if contact.removed:
            return ContactStatus("removed", "No longer in the source, and not in dotdigital: there is nothing to clear.")
        return ContactStatus("not created", "Not in dotdigital, and upload_emails does not let this target create it.")
    if contact.confirmed != contact.desired:
        return ContactStatus(
            "unconfirmed", "Not pending, although dotdigital has not confirmed the labels. Use the command reconcile."
        )
    if contact.stream is None and contact.desired != EMPTY:
        text = "No stream of the source has named it: its labels stay until a complete input shows that they are orphaned."
        return ContactStatus("orphaned", text)
    if contact.removed:
        return ContactStatus("removed", "No longer in the source; dotdigital has confirmed that it has no labels.")
    return ContactStatus("confirmed", "Up to date: dotdigital has confirmed the labels.")
