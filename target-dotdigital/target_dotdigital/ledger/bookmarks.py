"""Bookmarks that a ledger scope has acknowledged.

The tap remembers what it emitted, the ledger what was delivered. An incremental input contains only the changes since a
bookmark. It can be applied only if this scope has acknowledged exactly that bookmark (design.md 3, "two memories that agree").
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger.tables import bookmarks

if TYPE_CHECKING:
    import datetime

# keys that SDK taps, and older taps while they run, store in a state in addition to the bookmark
_NOTES = frozenset({"progress_markers", "starting_replication_value", "replication_key_signpost", "currently_syncing"})
# number of runs that Meltano's STATE may lag behind
MAX_BOOKMARKS = 1_000


def normal_form(state: object) -> Any:
    """Return a state without progress markers and empty parts; None if it contains no bookmark."""
    if isinstance(state, dict):
        parts = {name: normal_form(value) for name, value in state.items() if name not in _NOTES}
        return {name: value for name, value in parts.items() if value is not None} or None
    if isinstance(state, list):
        return [part for part in map(normal_form, state) if part is not None] or None
    return None if state == "" else state


def digest_of(state: object) -> str | None:
    """Return the digest that identifies a state's bookmark; None if the state contains none."""
    form = normal_form(state)
    if form is None:
        return None
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()


class Bookmarks:
    """The acknowledged bookmarks of one ledger scope, within one transaction.

    Args:
        connection: the transaction.
        scope: number of the scope.
    """

    def __init__(self, connection: sa.Connection, scope: int) -> None:
        """Create the view of one scope's bookmarks."""
        self._connection = connection
        self._mine = bookmarks.c.scope == scope
        self._scope = scope

    def run_of(self, digest: str) -> int | None:
        """Return the run that acknowledged a bookmark; None if no run did."""
        found: int | None = self._connection.scalar(sa.select(bookmarks.c.run).where(self._mine, bookmarks.c.digest == digest))
        return found

    def latest(self) -> str | None:
        """Return when the last bookmark was acknowledged (ISO 8601, UTC); None if there is none."""
        found: str | None = self._connection.scalar(sa.select(sa.func.max(bookmarks.c.acknowledged_at)).where(self._mine))
        return found

    def acknowledge(self, digest: str, run: int, now: datetime.datetime) -> None:
        """Record that everything up to a bookmark is in the ledger as of a run, and drop the oldest bookmarks."""
        self._connection.execute(sa.delete(bookmarks).where(self._mine, bookmarks.c.digest == digest))
        values = {"scope": self._scope, "digest": digest, "run": run, "acknowledged_at": now.isoformat()}
        self._connection.execute(sa.insert(bookmarks).values(values))
        kept = sa.select(bookmarks.c.run).where(self._mine).order_by(bookmarks.c.run.desc()).offset(MAX_BOOKMARKS).limit(1)
        oldest: int | None = self._connection.scalar(kept)
        if oldest is not None:
            self._connection.execute(sa.delete(bookmarks).where(self._mine, bookmarks.c.run <= oldest))

    def withdraw(self) -> None:
        """Withdraw every acknowledgement, because the desired labels no longer match what the tap emitted."""
        self._connection.execute(sa.delete(bookmarks).where(self._mine))
