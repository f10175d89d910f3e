"""Sends the rows of an experiment with the sync's own import code, and returns what dotdigital reported."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from target_dotdigital.addresses import normalise
from target_dotdigital.dotdigital.rows import Chunk, RowEncoder
from target_dotdigital.errors import DeliveryError
from target_dotdigital.payloads import EMPTY, to_payload
from target_dotdigital.records import UNKNOWN, Row, RowResult, Verdict, letters_of, main_code
from target_dotdigital.stats import DeliveryStats
from target_dotdigital.sync.imports import NOT_FINISHED, Imports, Pace
from target_dotdigital.texts import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.messages import ContactReference, ImportStatus
    from target_dotdigital.ledger.imports import ImportLog
    from target_dotdigital.rehearsal.recording import RecordingClient
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")
# states of an import by their letters, and ours for a call that was not accepted
FINISHED, FAILED, REFUSED = "finished", "failed", "refused"
# an import that dotdigital answers with one of these is refused for what is in it
CLIENT_ERRORS = range(400, 429)


@dataclass(frozen=True, slots=True)
class SentRow:
    """A row of an experiment: the row as the ledger records it, its JSON, and the encoder that made it."""

    row: Row
    encoded: bytes
    encoder: RowEncoder


@dataclass(frozen=True, slots=True)
class Reference:
    """A contact in the report of an import; the code is empty for imported rows."""

    email: str
    contact_id: int | None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """What dotdigital reported about an import.

    Args:
        state: finished, failed, or refused if the call was not accepted.
        code: status and error code of a refused call.
        status: HTTP status of a refused call.
        created: contacts reported as created.
        updated: contacts reported as updated.
        failures: rows reported as failed.
        polls: number of status reads.
        seconds: time from submission to the end.
        resent: whether the import failed and was sent a second time.
        narrowed: whether dotdigital refused the whole call, and accepted it without the rows in `failures`.
    """

    state: str
    code: str = ""
    status: int | None = None
    created: tuple[Reference, ...] = ()
    updated: tuple[Reference, ...] = ()
    failures: tuple[Reference, ...] = ()
    polls: int = 0
    seconds: float = 0.0
    resent: bool = False
    narrowed: bool = False

    @property
    def imported(self) -> tuple[Reference, ...]:
        """Contacts reported as created or updated."""
        return self.created + self.updated

    def code_of(self, email: str) -> str:
        """Return the code of the failure that the report names for an address; empty if there is none."""
        return next((one.code for one in self.failures if one.email == normalise(email)), "")

    def trouble(self) -> str:
        """Describe an import that did not finish, as the end of a sentence; empty if it finished."""
        if self.state == REFUSED:
            return f"dotdigital refused the whole import ({self.code})"
        return "" if self.state == FINISHED else f"the whole import ended as {self.state.capitalize()}"


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends rows to the rehearsal's address book and data field.

    Args:
        client: API client.
        log: the ledger's record of imports, in the rehearsal's own scope.
        clock: injectable clock.
        settings: settings with the names of the rehearsal.
        book: ID of the rehearsal's address book.
        spelled: the rehearsal's data field as the account spells it.
    """

    client: RecordingClient
    log: ImportLog
    clock: Clock
    settings: Settings
    book: int
    spelled: str

    def labelled(self, email: str, value: str | None, *, written: str = "", contact_id: int | None = None) -> SentRow:
        """Return a row as the sync would send it.

        Args:
            email: normalised address.
            value: value of the data field; None clears it.
            written: the address as it is sent, if it differs.
            contact_id: contact ID to match by, instead of the address.
        """
        field = self.settings.data_field
        row = Row(written or email, contact_id, EMPTY, to_payload({field: value}) if value is not None else EMPTY)
        encoder = RowEncoder(self.book, {field: self.spelled}, field)
        return SentRow(Row(email, contact_id, row.before, row.after), encoder.encode(row), encoder)

    def unlabelled(self, email: str) -> SentRow:
        """Return a row that names the address book only."""
        row = Row(email, None, EMPTY, EMPTY)
        encoder = RowEncoder(self.book, {}, self.settings.data_field)
        return SentRow(row, encoder.encode(row), encoder)

    def misnamed(self, email: str, value: str, name: str) -> SentRow:
        """Return a row with a data field that the account does not have."""
        row = Row(email, None, EMPTY, to_payload({name: value}))
        encoder = RowEncoder(self.book, {name: name}, name)
        return SentRow(row, encoder.encode(row), encoder)

    def send(self, rows: Sequence[SentRow], *, narrows: bool = False) -> Sent:
        """Send rows as one import, and wait until it has ended.

        Args:
            rows: the rows.
            narrows: whether a refused call is narrowed down to the rows that it is refused for, as the sync does.

        Raises:
            DeliveryError: the import did not end, or dotdigital stopped it for a reason that is not in its rows.
            ApiError: dotdigital could not be reached.
        """
        client, started, before = self.client, self.clock.monotonic(), len(self.client.submitted)
        client.refusal = None
        # several rows of one contact are one entry in the ledger
        unique = list({sent.row.email: sent.row for sent in rows}.values())
        refused: list[RowResult] = []

        def observe(_rows: Sequence[Row], results: Sequence[RowResult]) -> None:
            refused.extend(one for one in results if one.verdict is Verdict.REJECTED)

        # an import that fails is sent a second time by the sync's own rules, with the same encoder
        imports = self._imports(rows[0].encoder, observe, narrows=narrows)
        with _without_advice():
            imports.send([Chunk(unique, [sent.encoded for sent in rows])])
        if len(client.submitted) == before:
            return self._refused()
        if narrows and self.client.refusal is not None:
            return self._narrowed(client.submitted[before:], refused, self.clock.monotonic() - started)
        import_id = client.submitted[-1]
        status = client.statuses.get(import_id)
        if status is None or letters_of(status.status) not in {FINISHED, FAILED}:
            raise DeliveryError(_unfinished(shown(import_id), "" if status is None else shown(status.status)))
        again = len(client.submitted) - before > 1
        return _sent(status, client.polls[import_id], self.clock.monotonic() - started, resent=again)

    def resume(self) -> None:
        """Wait for the imports of a rehearsal that was interrupted.

        Raises:
            DeliveryError: one of them is still not finished.
        """
        if found := self.log.open_imports():
            self._imports(RowEncoder(self.book, {}, self.settings.data_field)).resume(found)
            if self.log.open_imports():
                msg = (
                    "An import of an interrupted rehearsal is still not finished, so nothing new was sent. Run the rehearsal again later; "
                    "if it stays so, ask dotdigital's support for the import."
                )
                raise DeliveryError(msg)

    def _narrowed(self, import_ids: Sequence[str], refused: Sequence[RowResult], seconds: float) -> Sent:
        """Return what became of rows that were accepted in several imports, or refused alone."""
        parts = [
            _sent(status, self.client.polls[one], seconds, resent=False)
            for one in import_ids
            if (status := self.client.statuses.get(one)) is not None
        ]
        if any(one.state != FINISHED for one in parts) or len(parts) < len(import_ids):
            raise DeliveryError(_unfinished(shown(import_ids[-1]), ""))
        return Sent(
            FINISHED,
            created=tuple(one for part in parts for one in part.created),
            updated=tuple(one for part in parts for one in part.updated),
            failures=(
                *(one for part in parts for one in part.failures),
                *(Reference(one.email, None, one.reason or UNKNOWN) for one in refused),
            ),
            polls=sum(part.polls for part in parts),
            seconds=seconds,
            narrowed=True,
        )

    def _refused(self) -> Sent:
        error = self.client.refusal
        if error is None or error.status not in CLIENT_ERRORS:
            raise error or DeliveryError("No import was sent: a defect. Please report it.")
        code = f"status {error.status}" + (f", {error.code}" if error.code else "")
        return Sent(REFUSED, code, error.status)

    def _imports(
        self,
        encoder: RowEncoder,
        observe: Callable[[Sequence[Row], Sequence[RowResult]], None] = lambda _rows, _results: None,
        *,
        narrows: bool = False,
    ) -> Imports:
        settings = self.settings
        return Imports(
            self.client,
            self.log,
            encoder,
            self.clock,
            DeliveryStats(),
            pace=Pace(1, settings.poll_interval, settings.import_timeout),
            observe=observe,
            narrows=narrows,
        )


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Log no warnings about the end of an import: they advise a sync, and rejected rows and failed imports are expected here."""

    def is_kept(record: logging.LogRecord) -> bool:
        return record.levelno < logging.WARNING or record.module != "imports"

    LOGGER.addFilter(is_kept)
    try:
        yield
    finally:
        LOGGER.removeFilter(is_kept)


def _unfinished(import_id: str, state: str) -> str:
    if letters_of(state) == "rejectedbywatchdog":
        return (
            f"dotdigital's Data Watchdog, which checks the quality of addresses, rejected import {import_id} of the rehearsal, so it "
            "stopped. Contact dotdigital's support with the ID, then run the rehearsal again: it continues."
        )
    if letters_of(state) == "exceedsallowedcontactlimit":
        return (
            f"Import {import_id} of the rehearsal was stopped (ExceedsAllowedContactLimit): the account has reached the number of contacts "
            "that its contract allows. Raise it, or remove contacts, then run the rehearsal again: it continues."
        )
    if letters_of(state) not in NOT_FINISHED:
        return (
            f"Import {import_id} of the rehearsal ended with the state {state!r}, so the rehearsal stopped. Run it again: it continues. If "
            "it happens again, contact dotdigital's support with the ID."
        )
    return (
        f"Import {import_id} of the rehearsal has not finished (state {state or 'unknown'}), so the rehearsal stopped. Run it again later: "
        "it waits for this import first, then continues."
    )


def _sent(status: ImportStatus, polls: int, seconds: float, *, resent: bool) -> Sent:
    return Sent(
        letters_of(status.status),
        created=tuple(_references(status.created)),
        updated=tuple(_references(status.updated)),
        failures=tuple(
            Reference(
                normalise(one.identifiers.email or ""), one.contact_id, main_code(reason.failure_code for reason in one.failures)
            )
            for one in status.failures or ()
        ),
        polls=polls,
        seconds=seconds,
        resent=resent,
    )


def _references(found: Sequence[ContactReference] | None) -> Iterator[Reference]:
    for one in found or ():
        yield Reference(normalise(one.identifiers.email or ""), one.contact_id)
