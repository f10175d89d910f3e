"""What changed between snapshots, as SQL over their Parquet files. Pure: builds queries, runs none.

The addresses that differ are put into a table first: joins that run at the same time would each claim their memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_nosto_segments.database import literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def selected(names: Sequence[str], *, everything: bool = False) -> str:
    """Query the table `contacts` for a snapshot: every contact, sorted, with its chosen segments."""
    if everything:
        return "SELECT email, names AS segments FROM contacts ORDER BY email"
    chosen = f"list_filter(names, lambda name: name IN ({', '.join(map(literal, names))}))" if names else "CAST([] AS VARCHAR[])"
    return f"SELECT email, {chosen} AS segments FROM contacts ORDER BY email"  # noqa: S608 - every part is quoted


def all_contacts(new: Path, exported_at: str) -> str:
    """Query every contact of a snapshot."""
    return f"""
        SELECT email, segments, {literal(exported_at)} AS exported_at, CAST(NULL AS VARCHAR) AS _sdc_deleted_at
        FROM {_table(new)}
    """  # noqa: S608 - every part is quoted


def differing(new: Path, base: Path) -> str:
    """Query the addresses whose segments differ between a snapshot and a base, or that only one of them holds."""
    return f"""
        SELECT coalesce(new.email, base.email) AS email
        FROM {_hashed(new)} AS new FULL JOIN {_hashed(base)} AS base USING (email)
        WHERE new.hash IS DISTINCT FROM base.hash
    """  # noqa: S608 - every part is quoted


def changed_contacts(new: Path, exported_at: str, differing: str) -> str:
    """Query the contacts of a table of addresses as they are now; those that the snapshot does not hold were removed."""
    stamp = literal(exported_at)
    return f"""
        SELECT email, segments, {stamp} AS exported_at, CAST(NULL AS VARCHAR) AS _sdc_deleted_at
        FROM {_table(new)} SEMI JOIN {differing} USING (email)
        UNION ALL
        SELECT email, CAST([] AS VARCHAR[]), {stamp}, {stamp}
        FROM (SELECT DISTINCT email FROM {differing}) ANTI JOIN (SELECT email FROM {_table(new)}) USING (email)
    """  # noqa: S608 - every part is quoted


def all_memberships(new: Path, exported_at: str) -> str:
    """Query every membership of a snapshot as entered."""
    return f"""
        SELECT email, unnest(segments) AS segment, {literal(exported_at)} AS exported_at, 'entered' AS change FROM {_table(new)}
    """  # noqa: S608 - every part is quoted


def changed_memberships(new: Path, base: Path, exported_at: str, differing: str) -> str:
    """Query who entered and who left which segment since the base, among the contacts of a table of addresses."""
    return f"""
        SELECT
            email,
            segment,
            {literal(exported_at)} AS exported_at,
            CASE WHEN sum(entered) > 0 THEN 'entered' ELSE 'left' END AS change
        FROM (
            SELECT email, unnest(segments) AS segment, 1 AS entered FROM {_table(new)} SEMI JOIN {differing} USING (email)
            UNION ALL
            SELECT email, unnest(segments) AS segment, -1 AS entered FROM {_table(base)} SEMI JOIN {differing} USING (email)
        )
        GROUP BY email, segment HAVING sum(entered) <> 0
    """  # noqa: S608 - every part is quoted


def _table(path: Path) -> str:
    return f"read_parquet({literal(str(path))})"


def _hashed(path: Path) -> str:
    """Query a snapshot with 64 bits in place of its lists, so that many times more of it fits in memory.

    Two lists of one contact that differ and hash alike would be missed: one in 10^19.
    """
    return f"(SELECT email, hash(segments) AS hash FROM {_table(path)})"  # noqa: S608 - every part is quoted
