"""The figures of the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from target_dotdigital.ledger.contacts.pending import may_create, to_send
from target_dotdigital.ledger.tables import contacts
from target_dotdigital.payloads import EMPTY
from target_dotdigital.stats import Plan, Sample

if TYPE_CHECKING:
    from target_dotdigital.ledger.contacts import ContactLedger

SAMPLES = 8


def plan_figures(ledger: ContactLedger, restored: int | None = None) -> Plan:
    """Count the contacts to send by kind of change.

    Args:
        ledger: the ledger scope.
        restored: number of a restoring run, which sends only the contacts that it restores; None for any other run.
    """
    c = contacts.c
    mine = [c.scope == ledger.scope]
    sent = to_send(restored)
    labelled = c.confirmed.is_not(None) & (c.confirmed != EMPTY) & ~c.excluded
    kind = sa.case(
        (c.contact_id.is_(None) & c.confirmed.is_(None) & may_create(ledger.uploads), "created"),
        (labelled & (c.desired == EMPTY), "cleared"),
        (c.confirmed.is_distinct_from(c.desired), "updated"),
        (~c.in_address_book & may_create(ledger.uploads), "added_to_address_book"),
        else_="resent",
    )
    relabelled = labelled & (c.confirmed != c.desired)
    orphaned = labelled & (c.desired == EMPTY) & c.stream.is_(None)
    unlabelled = (kind == "created") & (c.desired == EMPTY)
    sums = (sa.func.sum(sa.case((one, 1), else_=0)) for one in (relabelled, ledger.is_named(), orphaned, unlabelled))
    query = sa.select(kind, sa.func.count(), *sums).where(*mine, sent).group_by(kind)
    rows = ledger.connection.execute(query).all()
    kinds: dict[str, int] = {row[0]: row[1] for row in rows}
    samples = (
        sa.select(c.confirmed, c.desired, sa.func.count().label("contacts"))
        .where(*mine, sent)
        .group_by(c.confirmed, c.desired)
        .order_by(sa.desc("contacts"), c.desired, c.confirmed)
        .limit(SAMPLES)
    )
    return Plan(
        **{name: kinds.get(name, 0) for name in ("created", "updated", "cleared", "added_to_address_book", "resent")},
        created_without_labels=sum(row[5] for row in rows),
        unchanged=ledger.named - sum(row[3] for row in rows),
        orphaned=sum(row[4] for row in rows),
        labelled=ledger.connection.scalar(sa.select(sa.func.count()).select_from(contacts).where(*mine, labelled)) or 0,
        relabelled=sum(row[2] for row in rows),
        samples=tuple(Sample(*row) for row in ledger.connection.execute(samples)),
    )
