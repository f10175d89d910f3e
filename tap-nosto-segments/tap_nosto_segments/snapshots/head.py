"""Look at the beginning of an export: whether it is JSON lines at all, and which keys its records have."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_nosto_segments.errors import ExportDamagedError
from tap_nosto_segments.snapshots.identifier import MAX_LINE_BYTES, MAX_SAMPLED_RECORDS, KeySurvey, survey_keys
from tap_nosto_segments.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
        lines: lines that were looked at, at most `MAX_SAMPLED_RECORDS`; blank ones are skipped.
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
            "export_token and export_auth; --check --try-auth shows which form of authorisation opens the file."
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
