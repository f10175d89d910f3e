"""Parse an export with DuckDB into one row per contact, with a normalised address and the names of all its segments."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from tap_nosto_segments.errors import ExportDamagedError
from tap_nosto_segments.snapshots.database import quote_literal, quote_source
from tap_nosto_segments.text import enumerated, is_blank, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path


# the characters that Python's str.strip removes
WHITESPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
CASED = r"\p{Lu}\p{Ll}\p{Lt}\x{aa}\x{ba}"
# characters between letters that do not end a word (Unicode 3.13, "case-ignorable")
CASE_IGNORABLE = r"\p{Mn}\p{Me}\p{Cf}\p{Lm}\p{Sk}'.:\x{b7}\x{387}\x{2018}\x{2019}\x{2024}\x{2027}"
FINAL_SIGMA = f"([{CASED}][{CASE_IGNORABLE}]*)\u03a3([{CASE_IGNORABLE}]*(?:[^{CASED}{CASE_IGNORABLE}]|$))"


def normalised(address: str) -> str:
    """Return the SQL expression for the normal form of an address.

    Addresses are trimmed, in NFC, in lower case, and in NFC again, exactly as Python's `strip`, `normalize` and `lower` do it. For
    visible ASCII, lower case is enough and much faster.

    Args:
        address: an SQL expression.
    """
    return f"CASE WHEN regexp_full_match({address}, '[!-~]*') THEN lower({address}) ELSE {_normalised_unicode(address)} END"


def _normalised_unicode(address: str) -> str:
    """Return the expression for any text.

    DuckDB's `lower` maps single characters, so a dotted I and a sigma at the end of a word, which Python's `lower` maps by their
    context, are replaced first.
    """
    trimmed = f"nfc_normalize(trim({address}, {quote_literal(WHITESPACE)}))"
    dotted = f"replace({trimmed}, '\u0130', 'i\u0307')"
    final = f"regexp_replace({dotted}, {quote_literal(FINAL_SIGMA)}, '\\1\u03c2\\2', 'g')"
    return f"nfc_normalize(lower({final}))"


MAX_SAMPLED_RECORDS = 1_000
MAX_SHOWN_KEYS = 10
MAX_LINE_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class KeySurvey:
    """The keys of the first records.

    Args:
        records: key -> number of records that have it.
        lists_of_names: key -> number of records in which it holds a list of text.
    """

    records: Mapping[str, int]
    lists_of_names: Mapping[str, int]

    @property
    def candidates(self) -> list[str]:
        """The keys that could hold the segment names.

        A majority is enough, so that a few malformed records do not hide the key.
        """
        return [key for key, count in self.records.items() if self.lists_of_names.get(key, 0) * 2 > count and key != "email"]


def survey_keys(path: Path) -> KeySurvey:
    """Count the keys of the first `MAX_SAMPLED_RECORDS` records."""
    records: collections.Counter[str] = collections.Counter()
    lists_of_names: collections.Counter[str] = collections.Counter()
    for record in itertools.islice(_read_records(path), MAX_SAMPLED_RECORDS):
        for key, value in record.items():
            records[key] += 1
            lists_of_names[key] += _is_list_of_names(value)
    return KeySurvey(records, lists_of_names)


def find_identifier(path: Path, expected: str | None) -> str | None:
    """Return the key that holds the segment names; None if the export has no records and no key is expected.

    Args:
        path: the export.
        expected: the configured key; None detects it in the first records.

    Raises:
        ExportDamagedError: the expected key is missing, or no key or several keys could hold the names.
    """
    survey = survey_keys(path)
    records, candidates = survey.records, survey.candidates
    if not records:
        return expected
    if expected is not None:
        if expected in records:
            return expected
        msg = (
            f"The export's records have no key {expected!r}; they have: {enumerate_keys(records)}. The segment identifier may have "
            "been renamed in Nosto: correct segment_identifier, or leave it empty to detect it."
        )
        raise ExportDamagedError(msg)
    if len(candidates) == 1:
        return candidates[0]
    problem = f"several keys could hold the names: {enumerate_keys(candidates)}" if candidates else "no key holds a list of names"
    msg = (
        f"In the export's first records {problem} (keys: {enumerate_keys(records)}). Set segment_identifier to the one entered in "
        "Nosto's admin."
    )
    raise ExportDamagedError(msg)


def _read_records(path: Path) -> Iterator[dict[str, object]]:
    """Read the records of all lines that are not blank; a malformed line counts as an empty record."""
    with path.open("rb") as file:
        for line in filter(bytes.strip, iter(lambda: file.readline(MAX_LINE_BYTES), b"")):
            yield _parse_record(line)


def _parse_record(line: bytes) -> dict[str, object]:
    try:
        # numbers are not needed, and Python refuses to parse very long ones
        record = json.loads(line.decode(), parse_int=str)
        if isinstance(record, dict):
            # half of a surrogate pair cannot be encoded; DuckDB rejects such a line as well
            "".join(record).encode()
            return record
    except (ValueError, RecursionError):
        pass
    return {}


def enumerate_keys(keys: Iterable[str]) -> str:
    """Return keys for a message. In a file of another format, they may be addresses of contacts."""
    return enumerated(["(an address)" if "@" in key else printable(key) for key in sorted(keys)], MAX_SHOWN_KEYS)


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


# formats that a file has instead of JSON lines, by its first bytes
SIGNATURES = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x1f\x8b", "gzip within gzip, compressed twice"),
    (b"\x1f\x9d", "a compress (.Z) file"),
    (b"\x04\x22\x4d\x18", "an lz4 file"),
    (b"PAR1", "a Parquet file"),
    (b"Obj\x01", "an Avro file"),
    (b"%PDF", "a PDF file"),
    (b"<?xml", "XML"),
    (b"\xff\xfe", "text in UTF-16 or UTF-32, not UTF-8"),
    (b"\xfe\xff", "text in UTF-16, not UTF-8"),
    (b"\x00\x00\xfe\xff", "text in UTF-32, not UTF-8"),
    (b"x\x01", "compressed with deflate"),
    (b"x\x5e", "compressed with deflate"),
    (b"x\x9c", "compressed with deflate"),
    (b"x\xda", "compressed with deflate"),
    (b"{\x00", "text in UTF-16 or UTF-32, not UTF-8"),
    (b"\x00{", "text in UTF-16, not UTF-8"),
    (b"\x00\x00\x00{", "text in UTF-32, not UTF-8"),
)
JSON_ARRAY = re.compile(r"\[\s*\{")
# a body with this Content-Encoding is what it seems to be
PLAIN_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip"})
# no line of JSON begins like this
WEB_PAGE = re.compile(rb"\s*<(?:!doctype\s+html|html|head)\b", re.IGNORECASE)
MAX_PAGE_HEAD_BYTES = 1 << 12
# larger answers are exports, not JSON that links to one
MAX_LINK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Head:
    """The first lines of an export.

    Args:
        lines: lines that were read, at most `MAX_SAMPLED_RECORDS`; blank ones are skipped.
        objects: lines that are JSON objects.
        undecodable: lines that are not UTF-8.
        keys: the keys of the records.
        links: JSON pointers to the http addresses in the file, if it is a single JSON value and no record has the key email.
        is_web_page: whether the file is a web page.
        other_format: what the file is instead of JSON lines, as part of a sentence; None if it may be JSON lines.
    """

    lines: int
    objects: int
    undecodable: int
    keys: KeySurvey
    links: tuple[str, ...]
    is_web_page: bool
    other_format: str | None


def read_head(path: Path, content_encoding: str) -> Head:
    """Read the first lines of an export.

    Args:
        path: the export.
        content_encoding: Content-Encoding of the response; empty if missing.
    """
    lines = objects = undecodable = 0
    with path.open("rb") as file:
        for line in itertools.islice(filter(bytes.strip, iter(lambda: file.readline(MAX_LINE_BYTES), b"")), MAX_SAMPLED_RECORDS):
            lines += 1
            try:
                objects += isinstance(json.loads(line.decode(), parse_int=str), dict)
            except UnicodeDecodeError:
                undecodable += 1
            except (ValueError, RecursionError):
                pass
    keys = survey_keys(path)
    links = () if "email" in keys.records else tuple(_find_links(path))
    return Head(lines, objects, undecodable, keys, links, _is_web_page(path), find_other_format(path, content_encoding))


def require_json_lines(path: Path, content_encoding: str) -> None:
    """Reject a file of another format, such as the web page that servers send, with status 200, to clients that have to log in first.

    Args:
        path: the export.
        content_encoding: Content-Encoding of the response; empty if missing.

    Raises:
        ExportDamagedError: the file is not JSON lines.
    """
    if _is_web_page(path):
        msg = (
            "Nosto's answer is a web page, probably for logging in, and not the export: it was not used. Check export_url, "
            "export_token and export_auth; the command try-auth shows which form of authorisation opens the file."
        )
        raise ExportDamagedError(msg)
    if (other := find_other_format(path, content_encoding)) is not None:
        msg = (
            f"The export is {other}, and not JSON lines (one record per line, in UTF-8, plain or gzip), so it was not used. Running again "
            "does not help. Check export_url, and what makes or forwards the file."
        )
        raise ExportDamagedError(msg)


def find_other_format(path: Path, content_encoding: str) -> str | None:
    """Return what a file is instead of JSON lines, as part of a sentence; None if it may be JSON lines.

    Args:
        path: the export.
        content_encoding: Content-Encoding of the response; empty if missing.
    """
    with path.open("rb") as file:
        lines = filter(bytes.strip, iter(lambda: file.readline(MAX_LINE_BYTES), b""))
        line, following = next(lines, b""), next(lines, b"")
    if (name := next((name for signature, name in SIGNATURES if line.startswith(signature)), None)) is not None:
        return name
    if line.lstrip()[:1] in {b"{", b"["}:
        return _find_other_json(line, following)
    if line and content_encoding not in PLAIN_ENCODINGS:
        return f"compressed with {printable(content_encoding)}"
    return "binary data" if b"\x00" in line else None


def _find_other_json(line: bytes, following: bytes) -> str | None:
    """Return how JSON, of which these are the first lines, differs from JSON lines.

    A line that is merely malformed is not another format: `max_invalid_lines` may allow it.
    """
    text = line.decode(errors="replace").strip()
    end = 0
    with contextlib.suppress(ValueError, RecursionError):
        _, end = json.JSONDecoder(parse_int=str).raw_decode(text)
    is_alone = not following
    if (text == "{" and not following.lstrip().startswith(b"{")) or (
        (text == "[" or JSON_ARRAY.match(text)) and (is_alone or end < len(text))
    ):
        return "one JSON array or object over the whole file"
    rest = text[end:]
    if text[0] == "{" and end and "{" in rest and (is_alone or rest.lstrip(" ,")[:1] == "\r"):
        return "a file with carriage returns, or nothing, between its records"
    return None


def count_lines(path: Path) -> int:
    """Return the number of complete lines in a file; 0 if there is no file."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def _is_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        return WEB_PAGE.match(file.read(MAX_PAGE_HEAD_BYTES)) is not None


def _find_links(path: Path) -> Iterator[str]:
    """Find the http addresses in a file that is one JSON value, as JSON pointers (RFC 6901)."""
    if path.stat().st_size > MAX_LINK_BYTES:
        return
    try:
        value = json.loads(path.read_bytes().decode(), parse_int=str)
    except (ValueError, RecursionError):
        return
    open_values = [("", value)]
    while open_values:
        pointer, value = open_values.pop()
        if isinstance(value, str) and value.lower().startswith(("https://", "http://")):
            yield pointer
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        open_values += [(f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}", child) for key, child in children]


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
    # any other last line is malformed as a whole, and does not indicate a broken transfer
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


@dataclass(frozen=True, slots=True)
class FoundContact:
    """The content of an export for one address.

    Args:
        email: the normalised address.
        lines: its lines, as they are; malformed lines are left out.
        malformed_lines: malformed lines with this address.
        names: the names of its segments, distinct and sorted; None if the contact cannot be read or is missing.
    """

    email: str
    lines: list[str]
    malformed_lines: int
    names: list[str] | None


def find_contact(database: duckdb.DuckDBPyConnection, path: Path, email: str) -> FoundContact:
    """Find an address in an export, in any spelling.

    Args:
        database: where `parse_export` has created the view.
        path: the export.
        email: the address.
    """
    wanted = normalised(quote_literal(email))
    source = f"read_ndjson_objects({quote_source(path)}, ignore_errors = true, maximum_object_size = {MAX_LINE_BYTES})"
    address = "json -> '/email' ->> '$'"
    database.execute("SET preserve_insertion_order = true")  # lines are shown as they follow each other in the file
    ((normal,),) = database.execute(f"SELECT {wanted}").fetchall()
    lines = database.execute(f"SELECT json FROM {source} WHERE {normalised(f'({address})')} = $1", [normal]).fetchall()  # noqa: S608 - every part is quoted
    names = database.execute("SELECT names FROM contacts WHERE email = $1", [normal]).fetchall()
    ((malformed,),) = database.execute(
        "SELECT count(*) FROM lines WHERE readable AND NOT valid AND email = $1", [normal]
    ).fetchall()
    return FoundContact(normal, [str(line) for (line,) in lines], int(malformed), names[0][0] if names else None)


def keep_unknown_contacts(database: duckdb.DuckDBPyConnection, parsed: ParsedExport, earlier: Path | None) -> tuple[int, set[str]]:
    """Create the table `kept`: contacts of an earlier snapshot whose segments cannot be read from an export with malformed lines.

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
        database.execute(f"INSERT INTO kept {unknown_contacts(earlier, is_any_missing=parsed.unreadable > 0)}")
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
    query = snapshot_contents(chosen, is_every_segment=is_every_segment)
    database.execute(f"COPY ({query}) TO {quote_literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")
    database.execute("DROP VIEW contacts; DROP TABLE IF EXISTS duplicates; DROP TABLE lines; DROP TABLE unknown; DROP TABLE kept")


def snapshot_contents(chosen: Sequence[str], *, is_every_segment: bool) -> str:
    """Return the query for the contents of a snapshot: every row of `contacts` and `kept`, sorted, with its chosen segments."""
    source = "(SELECT email, names FROM contacts UNION ALL SELECT email, names FROM kept)"
    if is_every_segment:
        return f"SELECT email, names AS segments FROM {source} ORDER BY email"  # noqa: S608 - no value from outside
    literals = ", ".join(map(quote_literal, chosen))
    segments = f"list_filter(names, lambda name: name IN ({literals}))" if chosen else "CAST([] AS VARCHAR[])"
    return f"SELECT email, {segments} AS segments FROM {source} ORDER BY email"  # noqa: S608 - every part is quoted


def unknown_contacts(earlier: Path, *, is_any_missing: bool) -> str:
    """Return the query for the contacts of an earlier snapshot whose segments cannot be read from the current export.

    Args:
        earlier: the snapshot.
        is_any_missing: whether these are all that `contacts` lacks, and not only those in the table `unknown`.
    """
    source = f"read_parquet({quote_source(earlier)})" + ("" if is_any_missing else " SEMI JOIN unknown USING (email)")
    return f"SELECT email, segments AS names FROM {source} ANTI JOIN (SELECT email FROM contacts) USING (email)"  # noqa: S608 - every part is quoted


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
        # if a contact has a malformed line, its other lines contain only some of its segments
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
