"""Compare the current snapshot with earlier ones, and read the changes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tap_nosto_segments.errors import SnapshotError
from tap_nosto_segments.snapshots.database import explain_storage_errors, quote_literal, quote_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import duckdb

    from tap_nosto_segments.snapshots.store import Manifest, SnapshotStore


def as_json(query: str) -> str:
    """Return the query for the rows of another query, each as one JSON object."""
    return f"SELECT to_json(record) FROM ({query}) AS record"  # noqa: S608 - a query of this module


def all_contacts(new: Path, exported_at: str) -> str:
    """Return the query for every contact of a snapshot."""
    return f"""
        SELECT email, segments, {quote_literal(exported_at)} AS exported_at, CAST(NULL AS VARCHAR) AS _sdc_deleted_at
        FROM {_parquet(new)}
    """  # noqa: S608 - every part is quoted


def changed_addresses(new: Path, base: Path) -> str:
    """Return the query for the addresses whose segments differ between two snapshots, or that only one of them has."""
    return f"""
        SELECT coalesce(new.email, base.email) AS email
        FROM {_hashed(new)} AS new FULL JOIN {_hashed(base)} AS base USING (email)
        WHERE new.hash IS DISTINCT FROM base.hash
    """  # noqa: S608 - every part is quoted


def changed_contacts(new: Path, exported_at: str, changed: str) -> str:
    """Return the query for the current state of the contacts in a table of addresses; missing ones were removed."""
    timestamp = quote_literal(exported_at)
    return f"""
        SELECT email, segments, {timestamp} AS exported_at, CAST(NULL AS VARCHAR) AS _sdc_deleted_at
        FROM {_parquet(new)} SEMI JOIN {changed} USING (email)
        UNION ALL
        SELECT email, CAST([] AS VARCHAR[]), {timestamp}, {timestamp}
        FROM (SELECT DISTINCT email FROM {changed}) ANTI JOIN (SELECT email FROM {_parquet(new)}) USING (email)
    """  # noqa: S608 - every part is quoted


def all_memberships(new: Path, exported_at: str) -> str:
    """Return the query for every membership of a snapshot as entered."""
    return f"""
        SELECT email, unnest(segments) AS segment, {quote_literal(exported_at)} AS exported_at, 'entered' AS change
        FROM {_parquet(new)}
    """  # noqa: S608 - every part is quoted


def changed_memberships(new: Path, base: Path, exported_at: str, changed: str) -> str:
    """Return the query for the segments that the contacts in a table of addresses entered or left since the base."""
    return f"""
        SELECT
            email,
            segment,
            {quote_literal(exported_at)} AS exported_at,
            CASE WHEN sum(entered) > 0 THEN 'entered' ELSE 'left' END AS change
        FROM (
            SELECT email, unnest(segments) AS segment, 1 AS entered FROM {_parquet(new)} SEMI JOIN {changed} USING (email)
            UNION ALL
            SELECT email, unnest(segments) AS segment, -1 AS entered FROM {_parquet(base)} SEMI JOIN {changed} USING (email)
        )
        GROUP BY email, segment HAVING sum(entered) <> 0
    """  # noqa: S608 - every part is quoted


def _parquet(path: Path) -> str:
    return f"read_parquet({quote_source(path)})"


def _hashed(path: Path) -> str:
    """Return a subquery with 64-bit hashes instead of the lists, so that many more contacts fit in memory.

    A change would be missed if the old and the new list of a contact had the same hash: a chance of 1 in 10^19.
    """
    return f"(SELECT email, hash(segments) AS hash FROM {_parquet(path)})"  # noqa: S608 - every part is quoted


LOGGER = logging.getLogger("tap-nosto-segments")
BATCH_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Changes:
    """The differences between the current snapshot and a bookmark's.

    Args:
        query: the query for the records; None if nothing changed.
        is_full: whether the query returns everything, because there is no base to compare with.
        is_proof: whether contacts that a full query does not return were removed.
    """

    query: str | None = None
    is_full: bool = False
    is_proof: bool = False


class SnapshotDiff:
    """The comparison of the current snapshot with earlier ones.

    Args:
        store: the snapshots.
        database: the database that compares them.
        folder: working folder for their Parquet files.
        current: the current snapshot.
        current_path: its Parquet file, if this run has made it.
    """

    def __init__(
        self,
        store: SnapshotStore,
        database: duckdb.DuckDBPyConnection,
        folder: Path,
        current: Manifest,
        current_path: Path | None,
    ) -> None:
        self._store = store
        self._database = database
        self._folder = folder
        self._current = current
        self._paths: dict[str, Path | None] = {} if current_path is None else {current.id: current_path}
        self._changed_tables: dict[tuple[Path, ...], str] = {}

    def compare_contacts(self, bookmark: str | None) -> Changes:
        """Compare the contacts with those of the bookmark's snapshot.

        The snapshots stored after the bookmark's are bases as well: their changes may have been delivered by a run that failed later,
        or whose STATE was lost.

        Raises:
            SnapshotError: a snapshot cannot be read, or there is no space to compare.
        """
        base = self._store.get(bookmark)
        later = [] if base is None else [other for other in self._store.newer_than(base) if other.id != self._current.id]
        if base is not None and base.id == self._current.id and not later:
            return Changes()
        new = self._require_current_path()
        bases = [self._fetch(manifest) for manifest in (*([base] if base else []), *later)]
        readable = [path for path in bases if path is not None]
        if base is None or len(readable) < len(bases):
            if bookmark is not None:
                LOGGER.warning(
                    "The snapshot of the bookmark is missing or damaged: the changes since then are unknown, so every contact "
                    "is emitted. Nothing is lost; keep the snapshot folder from one run to the next."
                )
            return self._everything(new)
        if reason := self._why_not_comparable([base, *later]):
            LOGGER.info("%s, so every contact is emitted.", reason)
            return self._everything(new)
        changed = self._create_changed_table(new, readable)
        return Changes(changed_contacts(new, self._current.timestamp, changed))

    def _everything(self, new: Path) -> Changes:
        is_proof = self._current.is_complete
        if not is_proof:
            LOGGER.warning(
                "Lines of the export are malformed, and no earlier snapshot shows whose they are: ACTIVATE_VERSION is not emitted, and no "
                "contact counts as removed. The next export without malformed lines is emitted as a whole."
            )
        return Changes(all_contacts(new, self._current.timestamp), is_full=True, is_proof=is_proof)

    def _why_not_comparable(self, bases: Sequence[Manifest]) -> str | None:
        """Return why a comparison of snapshots would not show what the target lacks; None if it does."""
        if any(base.maps not in {None, self._current.maps} for base in bases):
            return "stream_maps or the selected properties have changed since the bookmark"
        if self._current.is_complete and not all(base.is_complete for base in bases):
            return "Contacts are missing in the snapshot of the bookmark, because lines of its export were malformed"
        return None

    def compare_memberships(self, bookmark: str | None) -> Changes:
        """Compare the memberships with those of the bookmark's snapshot.

        Raises:
            SnapshotError: a snapshot cannot be read, or there is no space to compare.
        """
        base = self._store.get(bookmark)
        if base is not None and base.id == self._current.id:
            return Changes()
        new = self._require_current_path()
        old = self._fetch(base) if base else None
        if old is not None:
            changed = self._create_changed_table(new, [old])
            return Changes(changed_memberships(new, old, self._current.timestamp, changed))
        if bookmark is not None:
            LOGGER.warning(
                "The snapshot of the bookmark is missing or damaged: the history since then is unknown, so every membership is "
                "emitted as entered."
            )
        else:
            LOGGER.info(
                "segment_changes starts without a bookmark (first run or full refresh): every membership is emitted as entered, "
                "including those that an earlier run has emitted."
            )
        return Changes(all_memberships(new, self._current.timestamp), is_full=True)

    def read_records(self, changes: Changes) -> Iterator[dict[str, object]]:
        """Read the changes as records.

        Raises:
            SnapshotError: there is no space to read them.
        """
        if changes.query is None:
            return
        for rows in self._read_batches(changes.query):
            columns = [column[0] for column in self._database.description or []]
            for row in rows:
                yield dict(zip(columns, row, strict=True))

    def read_json(self, changes: Changes) -> Iterator[list[str]]:
        """Read the changes as records in JSON, in batches.

        Raises:
            SnapshotError: there is no space to read them.
        """
        if changes.query is None:
            return
        for rows in self._read_batches(as_json(changes.query)):
            yield [cast("str", row[0]) for row in rows]

    def _read_batches(self, query: str) -> Iterator[list[tuple[object, ...]]]:
        with explain_storage_errors("read back", emitted=True):
            # snapshots are sorted by address: a target that keeps contacts in the same order can compare the two as they come
            self._database.execute("SET preserve_insertion_order = true")
            reader = self._database.execute(query)
            rows = reader.fetchmany(BATCH_ROWS)
        while rows:
            yield rows
            with explain_storage_errors("read back", emitted=True):
                rows = reader.fetchmany(BATCH_ROWS)

    def _create_changed_table(self, new: Path, bases: Sequence[Path]) -> str:
        """Return the table of the addresses that differ from any base; streams with the same bases share it."""
        if (table := self._changed_tables.get(tuple(bases))) is None:
            table = f"changed_{len(self._changed_tables)}"
            with explain_storage_errors("compared"):
                self._database.execute(f"CREATE TABLE {table} (email VARCHAR)")
                for base in bases:
                    self._database.execute(f"INSERT INTO {table} {changed_addresses(new, base)}")
            self._changed_tables[tuple(bases)] = table
        return table

    def _fetch(self, manifest: Manifest) -> Path | None:
        if manifest.id not in self._paths:
            with explain_storage_errors("compared"):
                self._paths[manifest.id] = self._store.fetch(manifest, self._folder)
        return self._paths[manifest.id]

    def _require_current_path(self) -> Path:
        path = self._fetch(self._current)
        if path is None:
            msg = (
                "The newest snapshot is damaged, and Nosto's export has not changed since it was made, so the changes are unknown. "
                "Nothing was emitted. Delete the newest pair of files in the snapshot folder and run again."
            )
            raise SnapshotError(msg)
        return path
