"""Look at the beginning of an export: whether it is JSON lines at all, and which keys its records have."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_nosto_segments.errors import ExportDamagedError
from tap_nosto_segments.snapshots.identifier import MAX_LINE_BYTES, MAX_SAMPLED_RECORDS, KeySurvey, survey_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    """

    lines: int
    objects: int
    undecodable: int
    keys: KeySurvey
    links: tuple[str, ...]
    is_web_page: bool


def read_head(path: Path) -> Head:
    """Read the first lines of an export."""
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
    return Head(lines, objects, undecodable, keys, links, _is_web_page(path))


def require_no_web_page(path: Path) -> None:
    """Reject a web page, which servers send instead of a file, with status 200, to clients that have to log in first.

    Raises:
        ExportDamagedError: the file is a web page.
    """
    if _is_web_page(path):
        msg = (
            "Nosto's answer is a web page, probably for logging in, and not the export: it was not used. Check export_url, "
            "export_token and export_auth; --check --try-auth shows which form of authorisation opens the file."
        )
        raise ExportDamagedError(msg)


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
