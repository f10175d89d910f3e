"""Find the key of the export's records that holds the segment names."""

from __future__ import annotations

import collections
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_nosto_segments.errors import ExportDamagedError
from tap_nosto_segments.text import enumerated, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

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
            # half of a surrogate pair cannot be encoded; DuckDB rejects such a line, too
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
