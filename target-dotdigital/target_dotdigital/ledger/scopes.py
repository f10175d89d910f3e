"""Ledger scopes: one for each account, address book and data field."""

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
        address_book_id: address book that the last run delivered to; None if none did, or without an address book.
        whole: whether a complete input has been received, so that all other labels are orphaned.
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
    whole: bool
    changed_run: int
    streams: frozenset[str]
    feeds: dict[str, Feed]
    truncated: str | None


@dataclass(frozen=True, slots=True)
class KnownScope:
    """A scope of the ledger: its number, its key and the account that it belongs to."""

    id: int
    key: str
    account_id: int


def open_scope(connection: sa.Connection, key: str, account_id: int) -> Scope:
    """Return the scope for an account, address book and data field, creating it if it is missing."""
    query = sa.select(*(scopes.c[one.name] for one in fields(Scope))).where(scopes.c.key == key)
    found = connection.execute(query).one_or_none()
    if found is None:
        connection.execute(sa.insert(scopes).values(key=key, account_id=account_id))
        found = connection.execute(query).one()
    streams = frozenset(msgspec.json.decode(found.streams or "[]", type=list[str]))
    feeds = msgspec.json.decode(found.feeds or "{}", type=dict[str, Feed])
    return Scope(**{**found._asdict(), "streams": streams, "feeds": feeds})


def find_scope(connection: sa.Connection, key: str) -> int | None:
    """Return the number of the scope with this key; None if it is not in the ledger yet."""
    found: int | None = connection.scalar(sa.select(scopes.c.id).where(scopes.c.key == key))
    return found


def update_scope(connection: sa.Connection, scope: int, **values: Any) -> None:
    """Store facts about a scope."""
    connection.execute(sa.update(scopes).where(scopes.c.id == scope).values(**values))


def known_scopes(connection: sa.Connection) -> list[KnownScope]:
    """Return all scopes of the ledger."""
    c = scopes.c
    return [KnownScope(*row) for row in connection.execute(sa.select(c.id, c.key, c.account_id).order_by(c.id))]


def accounts(connection: sa.Connection) -> list[int]:
    """Return the IDs of all accounts in the ledger."""
    return list(connection.scalars(sa.select(scopes.c.account_id).distinct()))


def doubt_completeness(connection: sa.Connection) -> None:
    """Record that the ledger may no longer know every contact of the source, so it cannot identify orphaned labels."""
    connection.execute(sa.update(scopes).values(segments=None, whole=False))
