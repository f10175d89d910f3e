"""Looks up a few delivered contacts, because dotdigital has to hold what it confirmed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from target_dotdigital.payloads import EMPTY
from target_dotdigital.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.contacts import ContactReader
    from target_dotdigital.records import Observed, Row, RowResult

LOGGER = logging.getLogger("target-dotdigital")
FIRST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A delivered contact.

    Args:
        row: the row that was sent.
        contact_id: the contact ID that the import's report names, if it names one.
    """

    row: Row
    contact_id: int | None

    def is_held(self, found: Observed | None) -> bool:
        """Return whether a contact in dotdigital is as the row left it.

        Args:
            found: the contact of that address; None if there is none.
        """
        row = self.row
        if found is None:
            # matched by ID, so it may have another address by now, or have been deleted
            return row.contact_id is not None
        same = self.contact_id is None or found.contact_id in {None, self.contact_id}
        return same and found.payload == row.after

    def is_listed(self, found: Observed | None) -> bool:
        """Return whether a contact in dotdigital is in the address book, if the row put it there.

        Args:
            found: the contact of that address; None if there is none.
        """
        return self.row.contact_id is not None or (found is not None and found.in_address_book)

    def is_visible(self, found: Observed | None) -> bool:
        """Return whether nothing more of the row is to be expected: unchanged labels do not show whether it was applied.

        Args:
            found: the contact of that address; None if there is none.
        """
        return self.is_held(found) and (self.row.before != self.row.after or self.is_listed(found))


class Samples:
    """Chooses the delivered contacts that are the most likely to be stored differently from what was sent."""

    def __init__(self) -> None:
        """Start without any contact."""
        self._chosen: dict[str, tuple[int, Sample]] = {}

    def note(self, rows: Iterable[Row], results: Iterable[RowResult]) -> None:
        """Consider the rows of a finished import."""
        done = [
            Sample(row, result.contact_id)
            for row, result in zip(rows, results, strict=True)
            if result.verdict in {Verdict.CREATED, Verdict.UPDATED}
        ]
        distinct = {sample.row.after: sample for sample in done}
        for after, sample in distinct.items():
            self._keep("longest", len(after), sample)
            self._keep("unusual", _unusual(after), sample)
        cleared = next((one for one in done if one.row.after == EMPTY and one.row.before not in {None, EMPTY}), None)
        if cleared is not None:
            self._keep("cleared", 1, cleared)

    @property
    def chosen(self) -> list[Sample]:
        """The chosen contacts: the longest value, the one with the most unusual characters, and a cleared one."""
        return list({sample.row.email: sample for _, sample in self._chosen.values()}.values())

    def _keep(self, kind: str, weight: int, sample: Sample) -> None:
        if kind not in self._chosen or weight > self._chosen[kind][0]:
            self._chosen[kind] = weight, sample


@dataclass(frozen=True, slots=True)
class Verified:
    """What looking up delivered contacts has shown.

    Args:
        wrong: number of contacts that do not hold what was sent.
        held: the contacts that do.
        unlisted: those of them that are not in the address book, although they were sent to it.
    """

    wrong: int
    held: list[Observed]
    unlisted: list[Observed]


def verify(samples: list[Sample], reader: ContactReader, clock: Clock, timeout: float) -> Verified:
    """Look up delivered contacts until they are as they were sent.

    Args:
        samples: the contacts.
        reader: reads contacts from the account; its address book and data fields exist.
        clock: injectable clock.
        timeout: seconds to wait, because an import may become visible later than it is finished.

    Raises:
        ApiError: a look-up failed.
    """
    deadline, pause = clock.monotonic() + timeout, FIRST_PAUSE_SECONDS
    found: dict[str, Observed] = {}
    waiting = samples
    while True:
        found |= {one.email: one for one in reader.look_up([sample.row.email for sample in waiting])}
        waiting = [sample for sample in waiting if not sample.is_visible(found.get(sample.row.email))]
        left = deadline - clock.monotonic()
        if not waiting or left <= 0:
            break
        LOGGER.info("dotdigital: %d delivered contacts are not visible yet; looking again", len(waiting))
        clock.wait(min(pause, left))
        pause *= 2
    held = [sample for sample in samples if sample.is_held(found.get(sample.row.email))]
    there = [(sample, found[sample.row.email]) for sample in held if sample.row.email in found]
    return Verified(
        len(samples) - len(held), [one for _, one in there], [one for sample, one in there if not sample.is_listed(one)]
    )


def _unusual(payload: str) -> int:
    """Return how many characters of a payload a service might change: not ASCII, escaped, or spaces at the ends of a value."""
    return (
        len(payload.encode()) - len(payload) + payload.count("\\") + payload.count("'") + payload.count('" ') + payload.count(' "')
    )
