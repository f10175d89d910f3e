"""Narrows refused import calls down to the rows that they are refused for. No I/O.

dotdigital may refuse a whole call because of one row (docs/assumptions.md, dotdigital 11). The answer may contain an index. The index
is only a hint, because it may be counted differently, or come from a value that the answer quotes: a row is rejected only if a call with
this row alone was refused as well, while dotdigital accepted another call.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.imports import Chunk
from target_dotdigital.dotdigital.retries import USAGE_EXCEEDED
from target_dotdigital.models import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from target_dotdigital.errors import ApiError
    from target_dotdigital.models import Row

# refused calls in a row after which the rows are no longer suspected: halving an import of 50,000 rows down to one takes 16
MAX_REFUSED_IN_A_ROW = 40
# refused calls of a run; at 35 calls a minute, the lowest published limit, these take a quarter of an hour
MAX_REFUSED_CALLS = 500
# wrong hints: rows that an answer pointed to, but that are accepted when they are sent alone
MAX_MISNAMED = 3
# statuses with which a call is refused for what is in it
REFUSALS = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})
# statuses with which a firewall refuses a call for its content; from dotdigital itself, they concern the API user
FOREIGN_REFUSALS = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_ACCEPTABLE})


def is_refusal(error: ApiError) -> bool:
    """Return whether an import call was refused for what is in it, so that a part of it may be accepted."""
    if error.status in FOREIGN_REFUSALS:
        return not error.is_dotdigitals
    return error.status in REFUSALS and error.code != USAGE_EXCEEDED


@dataclass(frozen=True, slots=True)
class Part:
    """Rows to submit as one import.

    Args:
        chunk: the rows.
        attempt: how often these rows have been submitted, including this time.
        is_named: whether a refused call has named exactly these rows.
    """

    chunk: Chunk
    attempt: int = 1
    is_named: bool = False

    def select(self, positions: Iterable[int], *, is_named: bool = False) -> Part:
        """Return a part with some of the rows."""
        chosen = list(positions)
        rows, encoded = self.chunk.rows, self.chunk.encoded
        return Part(Chunk([rows[index] for index in chosen], [encoded[index] for index in chosen]), self.attempt, is_named)


class Refusals:
    """The refused calls of a run, and what is submitted next because of them.

    Attributes:
        alone: rows of which a call with this row alone was refused, with its code; rejected as soon as another call is accepted.
        left: number of rows that wait for the next run, because the run has tried often enough.
        in_a_row: refused calls since the last accepted one.
        total: refused calls; those for their size are not counted, because halves of them are accepted.
        any_accepted: whether any call was accepted.
        last: the error of the last refused call.
    """

    def __init__(self) -> None:
        self.alone: list[tuple[Row, str]] = []
        self.left = 0
        self.in_a_row = 0
        self.total = 0
        self.any_accepted = False
        self.last: ApiError | None = None
        self._parts: list[Part] = []
        self._singles: list[Part] = []
        self._misnamed = 0

    def next(self, *, last: bool) -> Part | None:
        """Return the next part to submit; None if there is none.

        Args:
            last: whether everything else has been submitted: rows that are probably rejected come after all others.
        """
        if self._parts:
            return self._parts.pop()
        return self._singles.pop() if last and self._singles else None

    def accept(self, part: Part) -> None:
        """Record that a part was accepted."""
        self.any_accepted = True
        self.in_a_row = 0
        self._misnamed += part.is_named

    def refuse(self, part: Part, error: ApiError) -> None:
        """Record that a part was refused, and plan which parts are submitted instead."""
        self.last = error
        self.in_a_row += 1
        self.total += error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        count = len(part.chunk.rows)
        if count == 1:
            self.alone.append((part.chunk.rows[0], error.code or f"refused (status {error.status})"))
        elif self.total >= MAX_REFUSED_CALLS:
            self.left += count
        else:
            self._split(part, self._named(error, count))
        if self.total >= MAX_REFUSED_CALLS:
            self.left += self._clear()

    def drop(self) -> int:
        """Discard the rows that would be submitted or rejected next, and return their number, including waiting rows."""
        dropped = self._clear() + len(self.alone) + self.left
        self.alone.clear()
        self.left = 0
        return dropped

    def _named(self, error: ApiError, count: int) -> Sequence[int]:
        """Return the rows that an answer points to; none if too many hints have been wrong."""
        named = sorted({position for position in error.rows if position < count})
        return named if self._misnamed < MAX_MISNAMED else ()

    def _split(self, part: Part, named: Sequence[int]) -> None:
        count = len(part.chunk.rows)
        if len(named) == count:
            self._singles += [part.select([position], is_named=True) for position in named]
        elif named:
            wrong = part.select(named, is_named=True)
            rest = part.select(sorted(set(range(count)) - set(named)))
            # a single row shows at once whether the index is correct; most of many named rows will be rejected, so the rest comes first
            self._parts += [rest, wrong] if len(named) == 1 else [wrong, rest]
        else:
            self._parts += [part.select(range(count // 2, count)), part.select(range(count // 2))]

    def _clear(self) -> int:
        cleared = sum(len(part.chunk.rows) for part in (*self._parts, *self._singles))
        self._parts.clear()
        self._singles.clear()
        return cleared


def reason_of_refusals(refused: int, error: ApiError | None) -> str:
    """Return the sentence for an account that accepts no import call at all.

    Args:
        refused: refused calls in a row.
        error: the error of the last one.
    """
    calls = "an import call" if refused == 1 else f"{refused} import calls in a row, of different rows"
    return (
        f"dotdigital refused {calls}, and accepted none ({error.code or f'status {error.status}' if error else UNKNOWN}), so it "
        f"refuses the calls, not the rows: no contact was rejected, and all of them are sent again by the next run. {error or ''}"
    ).strip()
