"""Many rows at once: they are put into a table in one go, mostly a temporary one, and one statement over the table does the rest.

Row by row the driver's own work would cost several times as much as the database's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from collections.abc import Sequence


def stage(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]] = ()) -> None:
    """Make a temporary table hold just these rows."""
    connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
    if connection.dialect.name == "postgresql":
        # rows that were deleted would stay, and be read past, until the run ends
        connection.exec_driver_sql(f"TRUNCATE {table.name}")
    else:
        connection.execute(sa.delete(table))
    put(connection, table, rows)


def put(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]], columns: Sequence[str] = ()) -> None:
    """Put rows into a table; one with the key of an earlier one takes its place.

    Args:
        connection: the transaction.
        table: the table.
        rows: a value for each of the columns; no two of the rows have the same key.
        columns: names of the columns; if none are named, all.
    """
    if not rows:
        return
    chosen = [table.c[name] for name in columns] if columns else list(table.c)
    names = [column.name for column in chosen]
    if connection.dialect.name == "postgresql":
        _put_json(connection, table, chosen, rows)
    else:
        insert = sa.insert(table).prefix_with("OR REPLACE").compile(dialect=connection.dialect, column_keys=names)
        connection.exec_driver_sql(str(insert), list(rows))


def matching(column: sa.Column[Any], staged: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Join a table to the staged rows for which all conditions hold, by address.

    That the address is among theirs goes without saying, but said so it keeps SQLite from reading the whole table.
    """
    return column.in_(sa.select(staged.c.email).where(*conditions)) & (column == staged.c.email)


def _put_json(connection: sa.Connection, table: sa.Table, columns: list[sa.Column[Any]], rows: Sequence[tuple[Any, ...]]) -> None:
    """Send the rows as one JSON text, which the database takes apart itself."""
    text = sa.cast(sa.bindparam("rows", type_=sa.Text), postgresql.JSONB)
    each = sa.func.jsonb_array_elements(text).table_valued("value", name="each")
    values = [
        sa.cast(sa.cast(each.c.value, postgresql.JSONB).op("->>")(sa.literal_column(str(place))), column.type)
        for place, column in enumerate(columns)
    ]
    insert = postgresql.insert(table).from_select([column.name for column in columns], sa.select(*values))
    keys = [column.name for column in table.primary_key]
    others = {column.name: insert.excluded[column.name] for column in columns if column.name not in keys}
    again = insert.on_conflict_do_update(index_elements=keys, set_=others) if others else insert.on_conflict_do_nothing()
    connection.execute(again, {"rows": msgspec.json.encode(rows).decode()})
