"""From layout 1, which recorded no number, to layout 2: other names of columns, and no labels in further data fields.

`overflow: spill` wrote labels into numbered data fields. They stay in dotdigital, but no run writes them any more, so the ledger keeps
only the labels in the data field itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa
from alembic import op

from target_dotdigital.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Sequence

revision = "2"
down_revision = None

RENAMED = (
    ("dotdigital_scopes", "terms", "input_filter"),
    ("dotdigital_scopes", "whole", "had_full_input"),
    ("dotdigital_imports", "settled_run", "result_run"),
)
# rows that are read, and written, at once
ROWS_PER_PAGE = 50_000


def upgrade() -> None:
    """Change the tables.

    Raises:
        LedgerError: the tables are not those of layout 1.
    """
    connection = op.get_bind()
    inspector = sa.inspect(connection)
    for table, old, _ in RENAMED:
        if not inspector.has_table(table) or old not in {column["name"] for column in inspector.get_columns(table)}:
            msg = (
                "The ledger cannot be upgraded: its tables were made before the first release, or changed by another program. Nothing "
                "was done. Move it away (ledger_url), and run once with --full-refresh: a new one is made, what dotdigital holds is "
                "read back, and only what differs is sent."
            )
            raise LedgerError(msg)
    for table, old, new in RENAMED:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    scopes = connection.execute(sa.text("SELECT id, data_field FROM dotdigital_scopes")).all()
    for scope, field in scopes:
        contacts = sa.table("dotdigital_contacts", *map(sa.column, ("scope", "email", "desired", "confirmed", "rejected")))
        _keep_data_field(connection, contacts, contacts.c.scope == scope, ("scope", "email"), field)
        deliveries = sa.table("dotdigital_deliveries", *map(sa.column, ("import", "email", "before", "after")))
        imports = sa.table("dotdigital_imports", sa.column("id"), sa.column("scope"))
        sent = deliveries.c["import"].in_(sa.select(imports.c.id).where(imports.c.scope == scope))
        _keep_data_field(connection, deliveries, sent, ("import", "email"), field)


def _keep_data_field(
    connection: sa.Connection, table: sa.TableClause, mine: sa.ColumnElement[bool], keys: Sequence[str], field: str
) -> None:
    """Remove labels in other data fields from every column of a table that is not part of its key.

    Args:
        connection: the transaction.
        table: the table.
        mine: which of its rows belong to the scope.
        keys: columns of the primary key.
        field: data field of the scope, in capitals.
    """
    labels = [column for column in table.c if column.name not in keys]
    # the second field was always used first
    spilled = sa.or_(*(sa.cast(column, sa.Text).icontains(f'"{field}_2":', autoescape=True) for column in labels))
    update = sa.update(table).where(*(table.c[name] == sa.bindparam(f"key_{name}") for name in keys))
    update = update.values({column.name: sa.bindparam(f"new_{column.name}", type_=sa.Text) for column in labels})
    # a row that was changed is not found again
    while rows := connection.execute(sa.select(table).where(mine, spilled).limit(ROWS_PER_PAGE)).all():
        changes = []
        for row in rows:
            values = row._asdict()
            key = {f"key_{name}": values.pop(name) for name in keys}
            changes.append(key | {f"new_{name}": _only(payload, field) for name, payload in values.items()})
        connection.execute(update, changes)


def _only(payload: str | None, field: str) -> str | None:
    """Return labels as JSON with the given data field alone; its name may be in any case."""
    if payload is None:
        return None
    values = msgspec.json.decode(payload, type=dict[str, str])
    return msgspec.json.encode({name: value for name, value in values.items() if name.upper() == field}).decode()
