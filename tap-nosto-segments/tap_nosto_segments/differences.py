"""How the current snapshot differs from those that the bookmarks name, and the records that this makes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_nosto_segments import comparison
from tap_nosto_segments.database import space_for
from tap_nosto_segments.errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import duckdb

    from tap_nosto_segments.snapshots import Manifest, SnapshotStore

LOGGER = logging.getLogger("tap-nosto-segments")
ROWS_PER_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a stream is going to emit.

    Args:
        query: the query for its records; None where nothing is new.
        everything: whether the query is for all contacts, rather than for those that changed.
    """

    query: str | None = None
    everything: bool = False


class Differences:
    """The current snapshot, compared with earlier ones.

    Args:
        store: the snapshots.
        database: where it is compared.
        folder: where Parquet files are fetched to.
    """

    def __init__(self, store: SnapshotStore, database: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._store = store
        self._database = database
        self._folder = folder
        self._files: dict[str, Path | None] = {}
        self._tables: dict[tuple[Path, ...], str] = {}

    def add_file(self, manifest: Manifest, path: Path) -> None:
        """Keep the file of a snapshot that was made in this run, so that it need not be fetched."""
        self._files[manifest.id] = path

    def contacts(self, current: Manifest, bookmark: str | None) -> Plan:
        """Compare the contacts with those of the bookmark's snapshot.

        Besides the bookmark's snapshot, those that were stored after it count as bases too: they may have been delivered by a
        run that failed, or whose STATE was lost.

        Raises:
            SnapshotError: a snapshot cannot be read, or there is no room to compare.
        """
        base = self._store.get(bookmark)
        later = [] if base is None else [other for other in self._store.newer_than(base) if other.id != current.id]
        if base is not None and base.id == current.id and not later:
            return Plan()
        new = self._current_file(current)
        bases = [self._file(manifest) for manifest in (*([base] if base else []), *later)]
        whole = [path for path in bases if path is not None]
        if base is None or len(whole) < len(bases):
            if bookmark is not None:
                LOGGER.warning(
                    "The snapshot that the bookmark names is missing or damaged: what changed cannot be told, so every contact is "
                    "emitted. Nothing is lost; keep the snapshot folder from one run to the next."
                )
            return Plan(comparison.all_contacts(new, current.stamp), everything=True)
        return Plan(comparison.changed_contacts(new, current.stamp, self._differing(new, whole)))

    def memberships(self, current: Manifest, bookmark: str | None) -> Plan:
        """Compare the memberships with those of the bookmark's snapshot.

        Raises:
            SnapshotError: a snapshot cannot be read, or there is no room to compare.
        """
        base = self._store.get(bookmark)
        if base is not None and base.id == current.id:
            return Plan()
        new = self._current_file(current)
        old = self._file(base) if base else None
        if old is not None:
            return Plan(comparison.changed_memberships(new, old, current.stamp, self._differing(new, [old])))
        if bookmark is not None:
            LOGGER.warning(
                "The snapshot that the bookmark names is missing or damaged: the history since then is unknown, and every contact "
                "of a segment is reported as entering it now."
            )
        else:
            LOGGER.info(
                "segment_changes starts without a bookmark (first run or full refresh): every membership is emitted as entered, also "
                "those that an earlier run emitted before."
            )
        return Plan(comparison.all_memberships(new, current.stamp), everything=True)

    def rows(self, query: str) -> Iterator[list[tuple[object, ...]]]:
        """Run a query and return its rows in batches, so that memory stays flat.

        Raises:
            SnapshotError: there is no room to run it.
        """
        with space_for("read back", emitted=True):
            reader = self._database.execute(query)
            rows = reader.fetchmany(ROWS_PER_BATCH)
        while rows:
            yield rows
            with space_for("read back", emitted=True):
                rows = reader.fetchmany(ROWS_PER_BATCH)

    @property
    def columns(self) -> list[str]:
        """The columns of the query that runs."""
        return [column[0] for column in self._database.description or []]

    def _differing(self, new: Path, bases: Sequence[Path]) -> str:
        """Return the table of the addresses that differ from any base; two streams with the same base share it."""
        if (table := self._tables.get(tuple(bases))) is None:
            table = f"differing_{len(self._tables)}"
            with space_for("compared"):
                self._database.execute(f"CREATE TABLE {table} (email VARCHAR)")
                for base in bases:
                    self._database.execute(f"INSERT INTO {table} {comparison.differing(new, base)}")
            self._tables[tuple(bases)] = table
        return table

    def _file(self, manifest: Manifest) -> Path | None:
        if manifest.id not in self._files:
            with space_for("compared"):
                self._files[manifest.id] = self._store.fetch(manifest, self._folder)
        return self._files[manifest.id]

    def _current_file(self, current: Manifest) -> Path:
        path = self._file(current)
        if path is None:
            msg = (
                "The newest snapshot is damaged, and Nosto's export is the same as its own: nothing can be told from it. Remove the "
                "newest pair of files in the snapshot folder and run again."
            )
            raise SnapshotError(msg)
        return path
