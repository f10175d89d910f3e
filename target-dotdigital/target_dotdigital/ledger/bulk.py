"""Bulk operations: rows are inserted at once, usually into a temporary table, and one statement over that table does the rest.

Row by row, the overhead of the driver would be several times the work of the database.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


def replace_staged(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]] = ()) -> None:
    """Replace the content of a temporary table with these rows, creating the table if it is missing."""
    connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
    if connection.dialect.name == "postgresql":
        # deleted rows would remain as dead tuples, and slow down every scan, until the transaction ends
        connection.exec_driver_sql(f"TRUNCATE {table.name}")
    else:
        connection.execute(sa.delete(table))
    bulk_insert(connection, table, rows)


def bulk_insert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[tuple[Any, ...]],
    columns: Sequence[str] = (),
    *,
    replace: bool = True,
) -> None:
    """Insert rows into a table.

    Args:
        connection: the transaction.
        table: the table.
        rows: a value for each column; all rows have different keys.
        columns: names of the columns; all columns if empty.
        replace: whether a row replaces an existing one with the same key; otherwise that is an error.
    """
    if not rows:
        return
    chosen = [table.c[name] for name in columns] if columns else list(table.c)
    names = [column.name for column in chosen]
    if connection.dialect.name == "postgresql":
        if connection.dialect.driver != "psycopg" or not _copy(connection, table, names, rows):
            _put_json(connection, table, chosen, rows, replace=replace)
    else:
        # not compiled from an expression, which would put the columns in the order of the table
        listed, places = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
        verb = "INSERT OR REPLACE" if replace else "INSERT"
        connection.exec_driver_sql(f"{verb} INTO {table.name} ({listed}) VALUES ({places})", list(rows))


def bulk_update(
    connection: sa.Connection,
    table: sa.Table,
    mine: sa.ColumnElement[bool],
    given: sa.Table,
    values: Callable[[Mapping[str, sa.ColumnElement[Any]]], dict[str, Any]],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Update rows of a table by address, each with values of its own.

    Args:
        connection: the transaction.
        table: the table, which has a column `email`.
        mine: which of its rows may be updated.
        given: a temporary table with the columns of `rows`; its first column is `email`.
        values: column of the table -> expression, from the columns that are given.
        rows: a value for each of the given columns; all rows have different addresses.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        replace_staged(connection, given, rows)
        joined = sa.update(table).where(mine, joins_staged(table.c.email, given))
        connection.execute(joined.values(values({column.name: column for column in given.c})))
        return
    # one statement per row: in SQLite, this takes half the time of staging and joining
    places = {column.name: sa.bindparam(f"given_{column.name}", type_=column.type) for column in given.c}
    update = sa.update(table).where(mine, table.c.email == places["email"]).values(values({**places}))
    compiled: Any = update.compile(dialect=connection.dialect)
    fixed = {name: value for name, value in compiled.params.items() if not name.startswith("given_")}
    order = [*(f"given_{column.name}" for column in given.c), *fixed]
    arrange, constants = itemgetter(*(order.index(name) for name in compiled.positiontup)), tuple(fixed.values())
    connection.exec_driver_sql(str(compiled), [arrange(row + constants) for row in rows])


def in_values(connection: sa.Connection, column: sa.ColumnElement[str], values: Iterable[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a text column has one of these values, however many; databases limit the number of parameters."""
    text = sa.literal(msgspec.json.encode(list(values)).decode())
    if connection.dialect.name == "postgresql":
        return column.in_(sa.select(sa.func.jsonb_array_elements_text(sa.cast(text, postgresql.JSONB)).column_valued("value")))
    return column.in_(sa.select(sa.func.json_each(text).table_valued("value").c.value))


def analyze(connection: sa.Connection, table: sa.Table) -> None:
    """Renew PostgreSQL's statistics of a table in which much has changed; SQLite needs none.

    Without them, PostgreSQL assumes that a new table is nearly empty, and sorts the remaining rows for every page that is read.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"ANALYZE {table.name}")


def joins_staged(column: sa.Column[Any], staged: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
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
        # SQLAlchemy does not wrap the driver's exceptions here
        msg = f"COPY {table.name}"
        raise sa.exc.DBAPIError(msg, None, error, hide_parameters=True) from None
    savepoint.commit()
    return True


def _put_json(
    connection: sa.Connection, table: sa.Table, columns: list[sa.Column[Any]], rows: Sequence[tuple[Any, ...]], *, replace: bool
) -> None:
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
    if replace:
        insert = insert.on_conflict_do_update(index_elements=keys, set_=others) if others else insert.on_conflict_do_nothing()
    connection.execute(insert, {"rows": msgspec.json.encode(rows).decode()})
