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
        if connection.dialect.driver != "psycopg" or not _copy(connection, table, names, rows):
            _put_json(connection, table, chosen, rows)
    else:
        insert = sa.insert(table).prefix_with("OR REPLACE").compile(dialect=connection.dialect, column_keys=names)
        connection.exec_driver_sql(str(insert), list(rows))


def analyze(connection: sa.Connection, table: sa.Table) -> None:
    """Renew PostgreSQL's statistics of a table in which much has changed; SQLite needs none.

    Without them, PostgreSQL takes a new table for nearly empty, and reading it page by page sorts the rest of it for every page.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"ANALYZE {table.name}")


def matching(column: sa.Column[Any], staged: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition that joins a table by address to the staged rows that meet all conditions.

    The `IN` clause is redundant, but it keeps SQLite from scanning the whole table.
    """
    return column.in_(sa.select(staged.c.email).where(*conditions)) & (column == staged.c.email)


def _copy(connection: sa.Connection, table: sa.Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> bool:
    """Insert the rows with COPY, and return whether that was possible; nothing was inserted if a key exists already."""
    columns = ", ".join(f'"{name}"' for name in names)
    dbapi: Any = connection.dialect.loaded_dbapi
    savepoint = connection.begin_nested()
    try:
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    except dbapi.IntegrityError:
        savepoint.rollback()
        return False
    except dbapi.Error as error:
        # SQLAlchemy does not see what the driver raises here
        msg = f"COPY {table.name}"
        raise sa.exc.DBAPIError(msg, None, error, hide_parameters=True) from None
    savepoint.commit()
    return True


def _put_json(connection: sa.Connection, table: sa.Table, columns: list[sa.Column[Any]], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert or replace the rows, passed as one JSON parameter that the database unpacks; slower than COPY, which cannot replace."""
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
