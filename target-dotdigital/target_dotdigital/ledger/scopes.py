"""Ledger scopes: one for each account and data field.

Labels belong to account and data field. The address book is no part of a scope: another one asks only for membership again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import msgspec
import sqlalchemy as sa

from target_dotdigital.ledger.tables import scopes


class Feed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stream that feeds the data field.

    Args:
        version: last version of which an input contained every contact, with its ACTIVATE_VERSION; None if there was none.
        marks: whether its schema has had `_sdc_deleted_at`, which marks removed contacts.
    """

    version: int | None = None
    marks: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """A ledger scope as a run or command finds it.

    Args:
        id: number of the scope.
        labels: label settings of the last run, as JSON; None before the first.
        terms: settings of the last run that decide what of the input is used, as JSON; None before the first.
        account_contacts: contacts in the account at the last complete reading; None before the first.
        read_at: time up to which every contact that was created in dotdigital has been read back, in seconds since 1970; None before
            the first complete reading.
        address_book_id: address book whose members the ledger knows; None if no run has used one, or the last run used none.
        address_book_offset: contacts in the address book beyond the ledger's members of it, at the last complete reading.
        whole: whether a complete input has been received, so that all other labels are orphaned.
        forgotten: whether an address was forgotten that the source may still have.
        changed_run: last run whose input changed desired labels; 0 before the first.
        streams: streams that have sent STATE before, so that an input of theirs without STATE is incomplete.
        feeds: streams that the data field has been fed by.
        truncated: bookmark (digest) from which the last input started, if that input was truncated; empty if it started from nothing.
    """

    id: int
    labels: str | None
    terms: str | None
    account_contacts: int | None
    read_at: float | None
    address_book_id: int | None
    address_book_offset: int | None
    whole: bool
    forgotten: bool
    changed_run: int
    streams: frozenset[str]
    feeds: dict[str, Feed]
    truncated: str | None


@dataclass(frozen=True, slots=True)
class KnownScope:
    """A scope of the ledger.

    Args:
        id: its number.
        account_id: account that it belongs to.
        data_field: data field that holds its labels, in capitals.
        address_book: address book of the last run's settings, as shown to people; None without an address book.
    """

    id: int
    account_id: int
    data_field: str
    address_book: str | None


def open_scope(connection: sa.Connection, account_id: int, data_field: str, address_book: str | None) -> Scope:
    """Return the scope for an account and data field, creating it if it is missing.

    Args:
        connection: the transaction.
        account_id: ID of the account.
        data_field: data field that holds the labels.
        address_book: address book of the settings, as shown to people; None without an address book.
    """
    scope = find_scope(connection, account_id, data_field)
    if scope is None:
        values = {"account_id": account_id, "data_field": data_field.upper(), "address_book": address_book}
        (scope,) = connection.execute(sa.insert(scopes).values(values)).inserted_primary_key or (0,)
    else:
        update_scope(connection, scope, address_book=address_book)
    found = connection.execute(sa.select(*(scopes.c[one.name] for one in fields(Scope))).where(scopes.c.id == scope)).one()
    streams = frozenset(msgspec.json.decode(found.streams or "[]", type=list[str]))
    feeds = msgspec.json.decode(found.feeds or "{}", type=dict[str, Feed])
    return Scope(**{**found._asdict(), "streams": streams, "feeds": feeds})


def find_scope(connection: sa.Connection, account_id: int, data_field: str) -> int | None:
    """Return the number of the scope for an account and data field; None if it is not in the ledger yet."""
    query = sa.select(scopes.c.id).where(scopes.c.account_id == account_id, scopes.c.data_field == data_field.upper())
    found: int | None = connection.scalar(query)
    return found


def update_scope(connection: sa.Connection, scope: int, **values: Any) -> None:
    """Store facts about a scope."""
    connection.execute(sa.update(scopes).where(scopes.c.id == scope).values(**values))


def known_scopes(connection: sa.Connection) -> list[KnownScope]:
    """Return all scopes of the ledger."""
    columns = [scopes.c[one.name] for one in fields(KnownScope)]
    return [KnownScope(*row) for row in connection.execute(sa.select(*columns).order_by(scopes.c.id))]


def accounts(connection: sa.Connection) -> list[int]:
    """Return the IDs of all accounts in the ledger."""
    return list(connection.scalars(sa.select(scopes.c.account_id).distinct()))
