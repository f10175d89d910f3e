"""Bulk operations: rows are inserted at once, usually into a temporary table, and one statement over that table does the rest.

Row by row, the overhead of the driver would be several times the work of the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from collections.abc import Sequence


def stage(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]] = ()) -> None:
    """Replace the content of a temporary table with these rows, creating the table if it is missing."""
    connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
    if connection.dialect.name == "postgresql":
        # deleted rows would remain as dead tuples, and slow down every scan, until the transaction ends
        connection.exec_driver_sql(f"TRUNCATE {table.name}")
    else:
        connection.execute(sa.delete(table))
    put(connection, table, rows)


def put(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]], columns: Sequence[str] = ()) -> None:
    """Insert rows into a table; a row replaces an existing one with the same key.

    Args:
        connection: the transaction.
        table: the table.
        rows: a value for each column; all rows have different keys.
        columns: names of the columns; all columns if empty.
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
    """Return the condition that joins a table by address to the staged rows that meet all conditions.

    The `IN` clause is redundant, but it keeps SQLite from scanning the whole table.
    """
    return column.in_(sa.select(staged.c.email).where(*conditions)) & (column == staged.c.email)


def _put_json(connection: sa.Connection, table: sa.Table, columns: list[sa.Column[Any]], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert the rows as one JSON parameter that the database unpacks."""
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
