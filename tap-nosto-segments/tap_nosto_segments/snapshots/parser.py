"""Parse an export with DuckDB into one row per contact, with a normalised address and the names of all its segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from tap_nosto_segments.errors import ExportDamagedError
from tap_nosto_segments.snapshots import queries
from tap_nosto_segments.snapshots.database import quote_literal, quote_source
from tap_nosto_segments.snapshots.emails import normalised
from tap_nosto_segments.snapshots.identifier import MAX_LINE_BYTES, find_identifier
from tap_nosto_segments.text import is_blank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ParsedExport:
    """The content of an export, in numbers.

    Args:
        identifier: the key that holds the segment names; None in an export without records.
        lines: lines that are not blank.
        invalid: malformed lines.
        unreadable: malformed lines without a readable address.
        blank: contacts that are in a segment without a name.
        duplicates: lines whose address an earlier line has already, perhaps in another spelling.
        contacts: distinct addresses.
        unlike_addresses: valid lines whose address has no "@".
        counts: segment name -> number of contacts in it. Blank names are left out.
    """

    identifier: str | None
    lines: int
    invalid: int
    unreadable: int
    blank: int
    duplicates: int
    contacts: int
    unlike_addresses: int
    counts: Mapping[str, int]


def require_complete_last_line(path: Path, size: int) -> None:
    """Reject an export that ends in the middle of a line.

    Args:
        path: the export.
        size: its size in bytes.

    Raises:
        ExportDamagedError: the last line is incomplete.
    """
    if size == 0:
        return
    with path.open("rb") as file:
        file.seek(max(0, size - MAX_LINE_BYTES))
        tail = file.read()
    if tail.endswith(b"\n"):
        return
    last = tail[tail.rfind(b"\n") + 1 :].strip()
    # any other last line is malformed as a whole, and no sign of a broken transfer
    if last.startswith(b"{") and not _is_json_object(last):
        msg = (
            "The export ends in the middle of a line: the file was truncated in transfer, so it was not used. Run again; if the error "
            "persists, contact Nosto's support."
        )
        raise ExportDamagedError(msg)


def parse_export(database: duckdb.DuckDBPyConnection, path: Path, identifier: str | None) -> ParsedExport:
    """Parse an export into the view `contacts` (email VARCHAR, names VARCHAR[], distinct and sorted).

    Args:
        database: where the view is created.
        path: the export.
        identifier: the key that holds the segment names; None detects it.

    Raises:
        ExportDamagedError: the key is missing or ambiguous, or the file is not in the documented format.
    """
    key = find_identifier(path, identifier)
    try:
        return _create_contacts(database, path, key)
    except (duckdb.DataError, duckdb.InvalidInputException) as error:
        msg = (
            f"The export cannot be read as JSON lines ({type(error).__name__}): it is not in the format that Nosto documents, so it "
            "was not used. Inspect the file; if it is correct, report this line as a bug."
        )
        raise ExportDamagedError(msg) from None


def count_without_segments(database: duckdb.DuckDBPyConnection) -> int:
    """Return how many contacts of the view `contacts` are in no segment."""
    ((count,),) = database.execute("SELECT count(*) FROM contacts WHERE len(names) = 0").fetchall()
    return int(count)


def keep_unknown_contacts(database: duckdb.DuckDBPyConnection, parsed: ParsedExport, earlier: Path | None) -> tuple[int, set[str]]:
    """Create the table `kept`: contacts of an earlier snapshot of which an export with malformed lines says nothing.

    A line without a readable address may be that of any contact which the export lacks, so none of them counts as removed then.

    Args:
        database: where `parse_export` has created the view.
        parsed: the export in numbers.
        earlier: Parquet file of the earlier snapshot; None if there is none.

    Returns:
        The number of these contacts, and the names of their segments.
    """
    database.execute("CREATE TABLE kept (email VARCHAR, names VARCHAR[])")
    if earlier is not None:
        database.execute(f"INSERT INTO kept {queries.unknown_contacts(earlier, is_any_missing=parsed.unreadable > 0)}")
    ((count,),) = database.execute("SELECT count(*) FROM kept").fetchall()
    return int(count), {name for (name,) in database.execute("SELECT DISTINCT unnest(names) FROM kept").fetchall()}


def write_contacts(database: duckdb.DuckDBPyConnection, path: Path, chosen: Sequence[str], *, is_every_segment: bool) -> None:
    """Write the view `contacts` and the table `kept` to a Parquet file, sorted by address, and drop them.

    Args:
        database: where `parse_export` has created the view, and `keep_unknown_contacts` the table.
        path: the Parquet file.
        chosen: names of the segments to keep.
        is_every_segment: whether these are all segments of the export, which is faster.
    """
    query = queries.snapshot_contents(chosen, is_every_segment=is_every_segment)
    database.execute(f"COPY ({query}) TO {quote_literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")
    database.execute("DROP VIEW contacts; DROP TABLE IF EXISTS duplicates; DROP TABLE lines; DROP TABLE unknown; DROP TABLE kept")


def _create_contacts(database: duckdb.DuckDBPyConnection, path: Path, key: str | None) -> ParsedExport:
    # Malformed lines are read as NULL. A line without a list of names is invalid: if it counted as "in no segment", the contact
    # would lose its labels.
    database.execute(f"""
        CREATE TABLE lines AS
        SELECT
            {normalised("address")} AS email,
            has_address AND email <> '' AS readable,
            readable AND has_names AS valid,
            CASE WHEN valid THEN list_sort(list_distinct(from_json(names, '["VARCHAR"]'))) END AS names
        FROM (
            SELECT
                raw.email ->> '$' AS address,
                coalesce(json_type(raw.email) = 'VARCHAR', false) AS has_address,
                coalesce(json_type(raw.names) = 'ARRAY', false) AND json_type(raw.names, '$[*]') <@ ['VARCHAR'] AS has_names,
                raw.names
            FROM ({_source_query(path, key or "segments")}) AS raw
        )
    """)  # noqa: S608 - every part is quoted
    lines, invalid, unreadable = database.execute(
        "SELECT count(*), count(*) FILTER (NOT valid), count(*) FILTER (NOT readable) FROM lines"
    ).fetchall()[0]
    database.execute("CREATE TABLE unknown AS SELECT DISTINCT email FROM lines WHERE readable AND NOT valid")
    if invalid > unreadable:
        # of a contact with a malformed line, another line shows a part only
        database.execute("DELETE FROM lines WHERE valid AND email IN (SELECT email FROM unknown)")
    valid, unlike_addresses, distinct = database.execute("""
        SELECT count(*), count(*) FILTER (NOT contains(email, '@')), count(DISTINCT email) FROM lines WHERE valid
    """).fetchall()[0]
    if distinct == valid:
        # without duplicates, skip their anti-join, which would cost a fifth of the parsing time
        database.execute("CREATE VIEW contacts AS SELECT email, names FROM lines WHERE valid")
    else:
        database.execute("""
            CREATE TABLE duplicates AS SELECT email FROM lines WHERE valid GROUP BY email HAVING count(*) > 1;
            CREATE VIEW contacts AS
            SELECT email, names FROM lines
            WHERE valid AND NOT EXISTS (SELECT 1 FROM duplicates WHERE duplicates.email = lines.email)
            UNION ALL
            SELECT email, list_sort(list_distinct(flatten(list(names)))) AS names FROM lines
            SEMI JOIN duplicates USING (email) WHERE valid GROUP BY email
        """)
    counts = dict(
        database.execute("SELECT name, count(*) FROM (SELECT unnest(names) AS name FROM contacts) GROUP BY name").fetchall()
    )
    blank = sum(counts.pop(name) for name in [name for name in counts if is_blank(name)])
    return ParsedExport(key, lines, invalid, unreadable, blank, valid - distinct, distinct, unlike_addresses, counts)


def _source_query(path: Path, key: str) -> str:
    """Return the query for the export's lines with two columns of JSON: email and names."""
    options = f"ignore_errors = true, maximum_object_size = {MAX_LINE_BYTES}"
    if key.casefold() != "email":
        columns = f"columns = {{'email': 'JSON', {quote_literal(key)}: 'JSON'}}"
        name = '"' + key.replace('"', '""') + '"'
        lines = f"read_json({quote_source(path)}, format = 'newline_delimited', {columns}, {options})"
        return f"SELECT email, {name} AS names FROM {lines}"  # noqa: S608 - every part is quoted
    # DuckDB's column names ignore case, so a key such as "Email" has to be read with a JSON pointer
    pointer = quote_literal("/" + key)
    lines = f"read_ndjson_objects({quote_source(path)}, {options})"
    return f"SELECT json -> '/email' AS email, json -> {pointer} AS names FROM {lines}"  # noqa: S608 - every part is quoted


def _is_json_object(text: bytes) -> bool:
    """Return whether DuckDB, which parses the export and is more lenient than other parsers, reads a text as a JSON object."""
    try:
        line = text.decode()
    except UnicodeDecodeError:
        return False
    with duckdb.connect() as connection:
        (row,) = connection.execute("SELECT CASE WHEN json_valid($1) THEN json_type($1) = 'OBJECT' END", [line]).fetchall()
    return bool(row[0])
