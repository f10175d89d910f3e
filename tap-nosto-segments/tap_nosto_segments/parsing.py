"""Reads a whole export into a table: one row per contact, normalised, with the names of all its segments."""

from __future__ import annotations

import collections
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from tap_nosto_segments.database import literal
from tap_nosto_segments.errors import ExportDamagedError
from tap_nosto_segments.text import enumerated, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SAMPLE = 1000
MAX_SHOWN_KEYS = 10
LARGEST_LINE = 1 << 24
# what Python's str.strip takes away, so that every part of the pipeline trims alike
WHITESPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
CASED = r"\p{Lu}\p{Ll}\p{Lt}\x{aa}\x{ba}"
# what stands between letters without ending a word (Unicode 3.13, "case-ignorable")
IGNORED = r"\p{Mn}\p{Me}\p{Cf}\p{Lm}\p{Sk}'.:\x{b7}\x{387}\x{2018}\x{2019}\x{2024}\x{2027}"
FINAL_SIGMA = f"([{CASED}][{IGNORED}]*)\u03a3([{IGNORED}]*(?:[^{CASED}{IGNORED}]|$))"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What an export holds.

    Args:
        identifier: the key that holds the names; None in an export without records.
        lines: lines that are not blank.
        invalid: lines that are malformed.
        doubled: lines for an address that stands there already, perhaps in another spelling.
        contacts: distinct addresses.
        counts: for every segment name, how many contacts are in it.
    """

    identifier: str | None
    lines: int
    invalid: int
    doubled: int
    contacts: int
    counts: Mapping[str, int]


def parse(path: Path, identifier: str | None, database: duckdb.DuckDBPyConnection) -> Parsed:
    """Read an export into the table `contacts` (email VARCHAR, names VARCHAR[] distinct and sorted).

    Args:
        path: the export.
        identifier: the key that holds the names; None finds it.
        database: where the table goes.

    Raises:
        ExportDamagedError: no key, or several, could hold the names, or the file is not text.
    """
    key = _identify(path, identifier)
    try:
        return _parse(path, key, database)
    except (duckdb.DataError, duckdb.InvalidInputException) as error:
        msg = (
            f"The export cannot be read as JSON lines ({type(error).__name__}): it is not what Nosto documents, so nothing was "
            "read from it. Look at the file; if it is right, report this."
        )
        raise ExportDamagedError(msg) from None


def _parse(path: Path, key: str | None, database: duckdb.DuckDBPyConnection) -> Parsed:
    # Malformed lines arrive as NULL. A line without a list of names says nothing about its contact: to read it as "in no
    # segment" would take every label away.
    # All of the spelling but capitals is left out where it cannot matter, because it is slow: in an address of visible ASCII.
    database.execute(f"""
        CREATE TABLE lines AS
        SELECT
            CASE WHEN regexp_full_match(address, '[!-~]*') THEN lower(address) ELSE {_spelled("address")} END AS email,
            typed AND email <> '' AS valid,
            CASE WHEN valid THEN list_sort(list_distinct(from_json(names, '["VARCHAR"]'))) END AS names
        FROM (
            SELECT
                raw.email ->> '$' AS address,
                coalesce(json_type(raw.email) = 'VARCHAR' AND json_type(raw.names) = 'ARRAY', false)
                    AND json_type(raw.names, '$[*]') <@ ['VARCHAR'] AS typed,
                raw.names
            FROM ({_source(path, key or "segments")}) AS raw
        )
    """)  # noqa: S608 - every part is quoted
    lines, valid, distinct = _numbers(
        database, "SELECT count(*), count(*) FILTER (valid), count(DISTINCT email) FILTER (valid) FROM lines"
    )
    if distinct == valid:
        # an anti-join with nothing would still cost as much as a fifth of the reading
        database.execute("CREATE VIEW contacts AS SELECT email, names FROM lines WHERE valid")
    else:
        database.execute("""
            CREATE TABLE doubled AS SELECT email FROM lines WHERE valid GROUP BY email HAVING count(*) > 1;
            CREATE VIEW contacts AS
            SELECT email, names FROM lines
            WHERE valid AND NOT EXISTS (SELECT 1 FROM doubled WHERE doubled.email = lines.email)
            UNION ALL
            SELECT email, list_sort(list_distinct(flatten(list(names)))) AS names FROM lines
            SEMI JOIN doubled USING (email) WHERE valid GROUP BY email
        """)
    counts = dict(
        database.execute("SELECT name, count(*) FROM (SELECT unnest(names) AS name FROM contacts) GROUP BY name").fetchall()
    )
    return Parsed(key, lines, lines - valid, valid - distinct, distinct, counts)


def _spelled(address: str) -> str:
    """Return the expression for the one spelling of an address that stands for all that mean the same.

    That is trimmed, in NFC, in lower case, and in NFC again, as Python's `strip`, `normalize` and `lower` do it. DuckDB's `lower`
    looks at one character at a time, and so spells a dotted I and a sigma at the end of a word otherwise than Python.
    """
    trimmed = f"nfc_normalize(trim({address}, {literal(WHITESPACE)}))"
    dotted = f"replace({trimmed}, '\u0130', 'i\u0307')"
    final = f"regexp_replace({dotted}, {literal(FINAL_SIGMA)}, '\\1\u03c2\\2', 'g')"
    return f"nfc_normalize(lower({final}))"


def _source(path: Path, key: str) -> str:
    """Query an export for two columns of JSON: email and names."""
    options = f"ignore_errors = true, maximum_object_size = {LARGEST_LINE}"
    if key.casefold() != "email":
        columns = f"columns = {{'email': 'JSON', {literal(key)}: 'JSON'}}"
        name = '"' + key.replace('"', '""') + '"'
        read = f"read_json({literal(str(path))}, format = 'newline_delimited', {columns}, {options})"
        return f"SELECT email, {name} AS names FROM {read}"  # noqa: S608 - every part is quoted
    # DuckDB's columns know no capitals, so a key that differs from "email" only in them has to be asked for by name
    pointer = literal("/" + key)
    read = f"read_ndjson_objects({literal(str(path))}, {options})"
    return f"SELECT json -> '/email' AS email, json -> {pointer} AS names FROM {read}"  # noqa: S608 - every part is quoted


def _numbers(database: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    return tuple(database.execute(query).fetchall()[0])


def _identify(path: Path, identifier: str | None) -> str | None:
    """Find the key that holds the names in the first records; None if there is no record at all."""
    seen: collections.Counter[str] = collections.Counter()
    good: collections.Counter[str] = collections.Counter()
    with path.open("rb") as file:
        for line in itertools.islice(filter(bytes.strip, iter(lambda: file.readline(LARGEST_LINE), b"")), SAMPLE):
            for key, value in _record(line).items():
                seen[key] += 1
                good[key] += _are_names(value)
    if not seen:
        return identifier
    # a few malformed records do not hide the key
    found = [key for key, records in seen.items() if good[key] * 2 > records and key != "email"]
    shown = _shown(seen)
    if identifier is not None:
        if identifier in seen:
            return identifier
        msg = (
            f"The export's records have no key {identifier!r}; they have: {shown}. The segment identifier was perhaps renamed at "
            "Nosto: correct segment_identifier, or leave it empty to have it found."
        )
        raise ExportDamagedError(msg)
    if len(found) == 1:
        return found[0]
    problem = "no key holds a list of names" if not found else f"several keys could hold the names: {_shown(found)}"
    msg = f"In the export's first records {problem} (keys: {shown}). Set segment_identifier to the one typed in Nosto's admin."
    raise ExportDamagedError(msg)


def _record(line: bytes) -> dict[str, object]:
    """Return a line's object; nothing for a line that is none, or that cannot be read here."""
    try:
        # numbers are not needed, and one that is too long for Python is no reason to pass over its line
        record = json.loads(line.decode(), parse_int=str)
        if isinstance(record, dict):
            # half of a surrogate pair is no text: DuckDB refuses its line, and a key with one could not be asked for
            "".join(record).encode()
            return record
    except (ValueError, RecursionError):
        pass
    return {}


def _shown(keys: Iterable[str]) -> str:
    """Return keys for a message. In a file of another form, they may be addresses."""
    return enumerated(["(an address)" if "@" in key else printable(key) for key in sorted(keys)], MAX_SHOWN_KEYS)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
