"""Formats the answers of commands as text."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.text import without_controls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

UNKNOWN = "-"
MAX_CELL_CHARACTERS = 48


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> Iterator[str]:
    """Yield the lines of a table.

    Args:
        header: titles of the columns.
        rows: cells, as many as there are columns; long ones are cut.
        numbers: places of the columns that are aligned to the right.
    """
    cut = [
        [cell if len(cell) <= MAX_CELL_CHARACTERS else f"{cell[: MAX_CELL_CHARACTERS - 3]}..." for cell in row]
        for row in [header, *rows]
    ]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    for row in cut:
        cells = (
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def moment(value: float | str | None) -> str:
    """Return a time in UTC, to the minute.

    Args:
        value: seconds since 1970, or ISO 8601; None if there is none.
    """
    if value is None:
        return UNKNOWN
    time = (
        datetime.datetime.fromisoformat(value) if isinstance(value, str) else datetime.datetime.fromtimestamp(value, datetime.UTC)
    )
    return time.strftime("%Y-%m-%d %H:%M")


def iso(value: float | None) -> str | None:
    """Return seconds since 1970 as ISO 8601 in UTC; None if there are none."""
    return None if value is None else datetime.datetime.fromtimestamp(value, datetime.UTC).isoformat()


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def number(value: int | None) -> str:
    """Return a number with separators."""
    return UNKNOWN if value is None else f"{value:,}"


def counted(value: int, noun: str) -> str:
    """Return a number with its noun, such as "1 run" or "2 runs"."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def labels(payload: str | None) -> dict[str, str] | None:
    """Return the labels of a payload by data field; None if they are not known."""
    return None if payload is None else msgspec.json.decode(payload, type=dict[str, str])


def labels_text(payload: str | None) -> str:
    """Return labels as text."""
    values = labels(payload)
    if values is None:
        return "not known"
    return without_controls(next(iter(values.values()), "none"))
