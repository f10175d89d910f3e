"""What changed between snapshots, as SQL over their Parquet files. Pure: builds queries, runs none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_nosto_segments.database import literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def selected(names: Sequence[str]) -> str:
    """Query the table `contacts` for a snapshot: every contact, sorted, with its chosen segments."""
    chosen = f"list_filter(names, lambda name: name IN ({', '.join(map(literal, names))}))" if names else "CAST([] AS VARCHAR[])"
    return f"SELECT email, {chosen} AS segments FROM contacts ORDER BY email"  # noqa: S608 - every part is quoted


def all_contacts(new: Path, exported_at: str) -> str:
    """Query every contact of a snapshot."""
    return f"""
        SELECT email, segments, {literal(exported_at)} AS exported_at, CAST(NULL AS VARCHAR) AS _sdc_deleted_at
        FROM {_table(new)}
    """  # noqa: S608 - every part is quoted


def changed_contacts(new: Path, bases: Sequence[Path], exported_at: str) -> str:
    """Query the contacts that differ between a snapshot and any of its bases; who is in a base only has vanished."""
    differing = " UNION ".join(
        f"""
        SELECT coalesce(new.email, base.email) AS email
        FROM {_table(new)} AS new FULL JOIN {_table(base)} AS base USING (email)
        WHERE new.email IS NULL OR base.email IS NULL OR new.segments <> base.segments
        """  # noqa: S608 - every part is quoted
        for base in bases
    )
    stamp = literal(exported_at)
    return f"""
        SELECT
            email,
            coalesce(new.segments, []) AS segments,
            {stamp} AS exported_at,
            CASE WHEN new.segments IS NULL THEN {stamp} END AS _sdc_deleted_at
        FROM ({differing}) AS differing LEFT JOIN {_table(new)} AS new USING (email)
        ORDER BY email
    """  # noqa: S608 - every part is quoted


def moves(new: Path, base: Path | None, exported_at: str) -> str:
    """Query who entered and who left which segment since the base; without one, everybody entered."""
    old = _table(base) if base else "(SELECT '' AS email, CAST([] AS VARCHAR[]) AS segments WHERE false)"
    return f"""
        WITH compared AS (
            SELECT
                coalesce(new.email, base.email) AS email,
                coalesce(new.segments, []) AS now,
                coalesce(base.segments, []) AS before
            FROM {_table(new)} AS new FULL JOIN {old} AS base USING (email)
            WHERE new.segments IS DISTINCT FROM base.segments
        )
        SELECT email, segment, {literal(exported_at)} AS exported_at, change FROM (
            SELECT email, unnest(list_filter(now, lambda name: NOT list_contains(before, name))) AS segment, 'entered' AS change
            FROM compared
            UNION ALL
            SELECT email, unnest(list_filter(before, lambda name: NOT list_contains(now, name))) AS segment, 'left' AS change
            FROM compared
        )
        ORDER BY email, segment
    """  # noqa: S608 - every part is quoted


def _table(path: Path) -> str:
    return f"read_parquet({literal(str(path))})"
