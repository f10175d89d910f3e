"""What every step of a rehearsal works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from target_dotdigital.rehearsal.sending import FINISHED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.full_contacts import ContactRecords, Record
    from target_dotdigital.rehearsal.journal import Facts
    from target_dotdigital.rehearsal.plan import Participant, Plan
    from target_dotdigital.rehearsal.recording import RecordingClient
    from target_dotdigital.rehearsal.sending import Sender, Sent, SentRow

# a client tolerates that results become visible within about two minutes
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Stage:
    """A rehearsal that may write.

    Args:
        client: API client.
        clock: injectable clock.
        plan: the confirmed plan.
        records: reads contacts.
        sender: sends imports.
        book: ID of the rehearsal's address book.
        facts: what later steps need to know; steps add to it.
    """

    client: RecordingClient
    clock: Clock
    plan: Plan
    records: ContactRecords
    sender: Sender
    book: int
    facts: Facts

    @property
    def worker(self) -> Participant:
        """The address that the experiments with values are made with."""
        return self.plan.worker

    def send(self, *rows: SentRow, narrows: bool = False) -> Sent:
        """Send rows as one import, and record how long it took.

        Args:
            rows: the rows.
            narrows: whether a refused call is narrowed down to the rows that it is refused for, as the sync does.

        Raises:
            TargetError: the import could not be completed.
        """
        sent = self.sender.send(rows, narrows=narrows)
        if sent.state == FINISHED:
            self.facts.import_seconds.append(round(sent.seconds, 1))
            self.facts.import_polls.append(sent.polls)
        return sent

    def write(self, value: str | None) -> Sent:
        """Write a value into the worker's data field."""
        return self.send(self.sender.labelled(self.worker.email, value))

    def read(self, participant: Participant | None = None) -> Record | None:
        """Read a contact after an import, late enough that the import must be visible."""
        self.settle()
        return self.records.by_email((participant or self.worker).email)

    def read_value(self) -> str | None:
        """Read the worker's data field after an import; None if the contact does not exist."""
        record = self.read()
        return None if record is None else record.value

    def settle(self) -> None:
        """Wait as long as the first import took to become visible, and as many reads."""
        facts = self.facts
        if facts.stale_reads:
            self.clock.wait(facts.stale_seconds)
            for _ in range(facts.stale_reads):
                self.records.by_email(self.worker.email)

    def await_values(self, wanted: dict[Participant, str]) -> dict[Participant, Record | None]:
        """Read contacts until they show their new values, and note how long that took.

        Returns:
            The contacts as they were read last; after about two minutes whatever they are.
        """
        started = self.clock.monotonic()
        found: dict[Participant, Record | None] = {}
        stale: dict[Participant, int] = {}
        for pause in (*PAUSES_SECONDS, None):
            for one in self._missing(wanted, found):
                found[one] = self.records.by_email(one.email)
            waiting = self._missing(wanted, found)
            for one in waiting:
                stale[one] = stale.get(one, 0) + 1
            if not waiting:
                break
            if pause is not None:
                self.clock.wait(pause)
        hidden = self._missing(wanted, found)
        # a value that never appears says nothing about how long results take
        late = {one: reads for one, reads in stale.items() if one not in hidden}
        if late:
            self.facts.stale_reads = sum(late.values())
            self.facts.stale_seconds = self.clock.monotonic() - started
        return found

    @staticmethod
    def _missing(wanted: dict[Participant, str], found: dict[Participant, Record | None]) -> Sequence[Participant]:
        return [one for one in wanted if (record := found.get(one)) is None or record.value != wanted[one]]
