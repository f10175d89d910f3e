"""SQL over the Parquet files of snapshots. Pure: returns queries, runs none.

The changed addresses go into a table first, because joins that run at the same time would each claim their own memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_nosto_segments.snapshots.database import quote_literal, quote_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def snapshot_contents(chosen: Sequence[str], *, is_every_segment: bool) -> str:
    """Return the query for the contents of a snapshot: every row of `contacts` and `kept`, sorted, with its chosen segments."""
    source = "(SELECT email, names FROM contacts UNION ALL SELECT email, names FROM kept)"
    if is_every_segment:
        return f"SELECT email, names AS segments FROM {source} ORDER BY email"  # noqa: S608 - no value from outside
    literals = ", ".join(map(quote_literal, chosen))
    segments = f"list_filter(names, lambda name: name IN ({literals}))" if chosen else "CAST([] AS VARCHAR[])"
    return f"SELECT email, {segments} AS segments FROM {source} ORDER BY email"  # noqa: S608 - every part is quoted


def unknown_contacts(earlier: Path, *, is_any_missing: bool) -> str:
    """Return the query for the contacts of an earlier snapshot of which the current export says nothing.

    Args:
        earlier: the snapshot.
        is_any_missing: whether these are all that `contacts` lacks, and not only those in the table `unknown`.
    """
    named = "" if is_any_missing else "SEMI JOIN unknown USING (email)"
    return f"SELECT email, segments AS names FROM {_parquet(earlier)} {named} ANTI JOIN (SELECT email FROM contacts) USING (email)"  # noqa: S608 - every part is quoted


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
