"""The plan: the changes of a run in numbers, the brakes, and the activation code."""

from __future__ import annotations

import base64
import hashlib
import logging
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from target_dotdigital.ledger.queries import to_send
from target_dotdigital.ledger.tables import contacts, incoming
from target_dotdigital.payloads import EMPTY
from target_dotdigital.stats import Plan, Sample

if TYPE_CHECKING:
    import datetime

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.ledger.contacts import ContactLedger
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")
# below this number, a few contacts would already exceed a percentage
MIN_LABELLED = 100
SAMPLES = 8


def make_plan(ledger: ContactLedger, restored: int | None = None) -> Plan:
    """Compute the plan from the ledger.

    Args:
        ledger: the ledger scope.
        restored: number of a restoring run, which sends only the contacts that it restores; None for any other run.
    """
    c = contacts.c
    sent = to_send(restored)
    labelled = c.confirmed.is_not(None) & (c.confirmed != EMPTY)
    kind = sa.case(
        (c.contact_id.is_(None) & ~c.removed, "created"),
        (labelled & (c.desired == EMPTY), "cleared"),
        (c.confirmed.is_distinct_from(c.desired), "updated"),
        (~c.in_address_book, "added_to_address_book"),
        else_="resent",
    )
    relabelled = labelled & (c.confirmed != c.desired)
    named = sa.exists().where(incoming.c.email == c.email)
    orphaned = labelled & (c.desired == EMPTY) & c.stream.is_(None)
    query = (
        sa.select(kind, sa.func.count(), *(sa.func.sum(sa.case((one, 1), else_=0)) for one in (relabelled, named, orphaned)))
        .where(c.scope == ledger.scope, sent)
        .group_by(kind)
    )
    rows = ledger.connection.execute(query).all()
    kinds: dict[str, int] = {row[0]: row[1] for row in rows}
    samples = (
        sa.select(c.confirmed, c.desired, sa.func.count().label("contacts"))
        .where(c.scope == ledger.scope, sent)
        .group_by(c.confirmed, c.desired)
        .order_by(sa.desc("contacts"), c.desired, c.confirmed)
        .limit(SAMPLES)
    )
    plan = Plan(
        **{name: kinds.get(name, 0) for name in ("created", "updated", "cleared", "added_to_address_book", "resent")},
        unchanged=ledger.count_input() - sum(row[3] for row in rows),
        orphaned=sum(row[4] for row in rows),
        labelled=ledger.count(labelled),
        relabelled=sum(row[2] for row in rows),
        samples=tuple(Sample(*row) for row in ledger.connection.execute(samples)),
    )
    LOGGER.info(
        "Plan: %d to create, %d to update, %d to clear, %d to add to the address book, %d to resend, %d unchanged",
        *(plan.created, plan.updated, plan.cleared, plan.added_to_address_book, plan.resent, plan.unchanged),
    )
    return plan


def import_calls(plan: Plan, settings: Settings) -> int:
    """Return the number of import calls for the plan, assuming that no body exceeds its size limit."""
    total = min(plan.total, settings.max_contacts_per_run or plan.total)
    return math.ceil(total / settings.contacts_per_import)


def brakes(plan: Plan, settings: Settings, today: datetime.date) -> list[str]:
    """Return a sentence for each brake that the plan exceeds."""
    if settings.brake_override_date == today or plan.labelled < MIN_LABELLED:
        return []
    judged = (
        (plan.cleared, settings.max_clear_percent, "would lose all labels", "max_clear_percent"),
        (plan.relabelled, settings.max_change_percent, "would have their labels changed", "max_change_percent"),
    )
    return [
        f"{count} of {plan.labelled} labelled contacts ({100 * count / plan.labelled:.1f} %) {what}, more than {name} ({most})"
        for count, most, what, name in judged
        if most < 100 and count * 100 > plan.labelled * most  # noqa: PLR2004 - per cent
    ]


def activation_code(settings: Settings, account: Account) -> str:
    """Compute the activation code from the account and the settings that the operator has to approve."""
    chosen = {
        "account": account.id,
        "address book": str(settings.address_book_id or settings.address_book.strip().lower()) if settings.upload_emails else None,
        "data field": settings.data_field.upper(),
        "upload": settings.upload_emails,
        "labels": asdict(settings.labels),
        "time": settings.synced_at_field,
        "removed": settings.on_removed,
    }
    digest = hashlib.sha256(msgspec.json.encode(chosen, order="sorted")).digest()
    text = base64.b32encode(digest).decode()
    return f"{text[:4]}-{text[4:8]}-{text[8:12]}"


def is_active(settings: Settings, account: Account) -> bool:
    """Return whether the sync is activated for the current settings."""
    given = (settings.activation_code or "").strip().upper()
    return given == activation_code(settings, account)
