"""Submits imports and polls them until they end. Contacts are written in no other way."""

from __future__ import annotations

import collections
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.imports import Chunk, RowEncoder, body, match_report
from target_dotdigital.dotdigital.messages import ImportStatus
from target_dotdigital.errors import ApiError, TooManyImportsError
from target_dotdigital.ledger.imports import ImportLog, ImportState, OpenImport
from target_dotdigital.models import Row, RowResult, Verdict, letters_of
from target_dotdigital.sync.refusals import MAX_REFUSED_IN_A_ROW, Part, Refusals, is_refusal, reason_of_refusals
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.client import Client
    from target_dotdigital.ledger.imports import Recorded
    from target_dotdigital.models import DeliveryStats

LOGGER = logging.getLogger("target-dotdigital")
MAX_INTERVAL_SECONDS = 60.0
SLOT_PAUSE_SECONDS = 30.0
MAX_SLOT_PAUSES = 120
MAX_NOT_FOUND = 5
# polls that return a state which nobody knows
MAX_STRANGE = 5
MAX_ATTEMPTS = 2
MAX_ROWS_KEPT = 100_000
GONE = "gone"  # ours, not dotdigital's
# an import without a state is not finished yet (docs/assumptions.md, dotdigital 5)
NOT_FINISHED = frozenset({"", "notfinished"})


@dataclass(slots=True)
class _Open:
    key: int
    import_id: str
    attempt: int
    # None if the ledger has to be asked for them
    rows: list[Row] | None
    interval: float
    next_poll: float
    deadline: float
    missing: int = 0
    strange: int = 0
    counts: bool = True

    @property
    def name(self) -> str:
        """The import ID, safe to display."""
        return shown(self.import_id)


@dataclass(frozen=True, slots=True)
class Pace:
    """How imports are awaited.

    Args:
        most_open: maximum number of open imports.
        first_interval: seconds before an import is polled for the first time.
        timeout: seconds to wait for an import.
    """

    most_open: int
    first_interval: float
    timeout: float


class Imports:
    """Submits rows as imports and polls each import until it ends.

    Args:
        client: API client.
        log: record of imports, written before each import is submitted.
        shape: encodes rows as JSON.
        clock: injectable clock.
        tally: counts outcomes.
        pace: how many imports are open at once, and how they are awaited.
        require_lock: called before each import is submitted; raises an exception if another run may have started.
        observe: called with the rows of each finished import of this run, and their outcomes.
        log_progress: called before each poll with the number of open imports, and why the last poll failed.
    """

    def __init__(
        self,
        client: Client,
        log: ImportLog,
        shape: RowEncoder,
        clock: Clock,
        tally: DeliveryStats,
        *,
        pace: Pace,
        require_lock: Callable[[], None] = lambda: None,
        observe: Callable[[Sequence[Row], Sequence[RowResult]], None] = lambda _rows, _results: None,
        log_progress: Callable[[int, str], None] = lambda _open, _error: None,
    ) -> None:
        """Start without open imports."""
        self._require_lock = require_lock
        self._observe = observe
        self._log_progress = log_progress
        self._last_error = ""
        self._client = client
        self._log = log
        self._shape = shape
        self._clock = clock
        self._most_open = pace.most_open
        self._first_interval = pace.first_interval
        self._timeout = pace.timeout
        self._open: list[_Open] = []
        self._again: list[tuple[list[Row], int]] = []
        self._refusals = Refusals()
        self._stopped = False
        self._resuming = False
        # what ends an import, by the letters of its state
        self._endings = {
            "finished": self._account,
            "failed": self._fail,
            "rejectedbywatchdog": self._hold,
            "exceedsallowedcontactlimit": self._exceed,
            GONE: self._miss,
        }
        self.tally = tally

    def resume(self, found: Iterable[OpenImport]) -> None:
        """Wait for open imports of earlier runs without sending anything again."""
        self._resuming = True
        for one in found:
            LOGGER.info("Import %s of an earlier run: waiting for it (%d contacts)", shown(one.import_id), one.rows)
            self._watch(one.key, one.import_id, one.attempt, None)
            self.tally.sent += one.rows
        self.settle()
        self._resuming = False

    def send(self, chunks: Iterable[Chunk]) -> None:
        """Send chunks of rows, and wait until every import has ended; a contact may be part of one chunk only.

        Problems are collected in `tally.problems`. Open imports are polled to their end even after a problem.
        """
        for chunk in chunks:
            while len(self._open) >= self._most_open:
                self._poll_next()
            if self._stopped:
                break
            self._require_lock()
            self.tally.sent += len(chunk.rows)
            self._submit(Part(chunk))
            self._narrow()
        self.settle()

    def settle(self) -> None:
        """Wait until no import is open; STATE is emitted only after this."""
        while True:
            self._narrow(last=True)
            if not self._open and not self._again:
                # may submit another import
                self._end_refusals()
                if not self._open:
                    return
            self._poll_next()
            self._submit_again()

    def _submit(self, part: Part) -> None:
        """Submit a part; if it is refused, plan what is submitted instead."""
        refusals, error = self._refusals, self._try(part.chunk, part.attempt)
        if error is None:
            if not self._stopped:
                refusals.accept(part)
                self._reject()
            return
        LOGGER.info(
            "dotdigital refused an import of %d contacts (%s)", len(part.chunk.rows), error.code or f"status {error.status}"
        )
        refusals.refuse(part, error)
        if refusals.in_a_row >= MAX_REFUSED_IN_A_ROW:
            self._settle_refused()

    def _narrow(self, *, last: bool = False) -> None:
        """Submit the parts of refused imports.

        Args:
            last: whether everything else has been submitted.
        """
        while not self._stopped and (part := self._refusals.next(last=last)):
            while len(self._open) >= self._most_open:
                self._poll_next()
            self._submit(part)

    def _end_refusals(self) -> None:
        """Reject the rows that were refused alone, and say how many rows wait for the next run."""
        refusals = self._refusals
        if refusals.alone and not self._stopped:
            if refusals.any_accepted:
                self._reject()
            else:
                self._settle_refused()
        if left := refusals.drop():
            self.tally.sent -= left
            if not self._stopped:
                self._problem(
                    f"dotdigital refused {refusals.total} import calls because of single rows, which is as many as a run narrows down: "
                    f"{left} contacts wait for the next run. {refusals.last}"
                )

    def _settle_refused(self) -> None:
        """Find out whether dotdigital refuses the rows or every call, with a row that it has accepted before."""
        while self._open:
            self._poll_next()
        row = None if self._stopped else self._log.accepted_row()
        if row is not None and self._try(Chunk([row], [self._shape.encode(row)]), counts=False) is None and not self._stopped:
            self._refusals.in_a_row = 0
            self._reject()
        elif not self._stopped:
            self._stop(reason_of_refusals(self._refusals.in_a_row, self._refusals.last))

    def _reject(self) -> None:
        """Record the rows as rejected of which a call with the row alone was refused."""
        alone = self._refusals.alone
        if not alone:
            return
        rows = [row for row, _ in alone]
        outcomes = [RowResult(row.email, Verdict.REJECTED, reason=code) for row, code in alone]
        alone.clear()
        LOGGER.info("dotdigital refused %d contacts, each alone", len(rows))
        self._count(rows, outcomes, self._log.reject(rows, outcomes, self._clock.wall()))

    def _try(self, chunk: Chunk, attempt: int = 1, *, counts: bool = True) -> ApiError | None:
        """Submit rows as one import, and return the error if it was refused for what is in it; other errors stop the run.

        Args:
            chunk: the rows.
            attempt: how often these rows have been submitted, including this time.
            counts: whether their outcomes are part of the figures of the delivery.
        """
        self._require_lock()
        key = self._log.begin(chunk.rows, self._clock.wall(), attempt)
        try:
            import_id = self._start(key, body(chunk))
        except ApiError as error:
            if is_refusal(error):
                self._log.refused(key)
                return error
            # without a response, or with one of a gateway, dotdigital may have accepted the import
            refused = (
                error.status is not None
                and HTTPStatus.BAD_REQUEST <= error.status < HTTPStatus.INTERNAL_SERVER_ERROR
                and error.status != HTTPStatus.REQUEST_TIMEOUT
            )
            self._log.mark_failed(key, ImportState.FAILED if refused else ImportState.LOST, self._clock.wall())
            self._stop(str(error))
            return None
        self._log.accepted(key, import_id)
        LOGGER.info("Import %s: %d contacts sent", import_id, len(chunk.rows))
        # what is kept of all open imports is bounded
        rows = chunk.rows if len(chunk.rows) * self._most_open <= MAX_ROWS_KEPT else None
        self._watch(key, import_id, attempt, rows, counts=counts)
        return None

    def _start(self, key: int, body: bytes) -> str:
        pauses = 0
        while True:
            try:
                return self._client.start_import(body, lambda: self._log.record_lost_response(key, self._clock.wall()))
            except TooManyImportsError:
                pauses += 1
                if pauses > MAX_SLOT_PAUSES:
                    raise
                if self._open:
                    self._poll_next()
                else:
                    LOGGER.info("dotdigital: other clients use all import slots; retrying in %.0f s", SLOT_PAUSE_SECONDS)
                    self._clock.wait(SLOT_PAUSE_SECONDS)

    def _watch(self, key: int, import_id: str, attempt: int, rows: list[Row] | None, *, counts: bool = True) -> None:
        now = self._clock.monotonic()
        first = self._first_interval
        self._open.append(_Open(key, import_id, attempt, rows, first, now + first, now + self._timeout, counts=counts))

    def _poll_next(self) -> None:
        """Wait until the next poll is due, poll that import, and handle its state."""
        if not self._open:
            return
        self._log_progress(len(self._open), self._last_error)
        one = min(self._open, key=lambda other: other.next_poll)
        self._clock.wait(one.next_poll - self._clock.monotonic())
        status = self._ask(one)
        state = letters_of(status.status) if status else ""
        if status is not None and state in self._endings:
            self._open.remove(one)
            self._endings[state](one, status)
            return
        one.strange = 0 if state in NOT_FINISHED else one.strange + 1
        if status is not None and one.strange >= MAX_STRANGE:
            self._open.remove(one)
            self._lose(one, f"ended with the state {shown(status.status)!r}", stops=False)
        elif self._clock.monotonic() >= one.deadline:
            self._open.remove(one)
            self._stop(
                f"Import {one.name} was not finished within import_timeout ({self._timeout:.0f} s). It is not lost, and its "
                "contacts are not sent again: the next run continues to wait for it.",
            )
        else:
            one.interval = min(one.interval * 1.5, MAX_INTERVAL_SECONDS)
            one.next_poll = self._clock.monotonic() + one.interval

    def _fail(self, one: _Open, _status: ImportStatus) -> None:
        self._log.mark_failed(one.key, ImportState.FAILED, self._clock.wall())
        if self._resuming:
            # not resubmitted here: the input of this run may have changed the desired labels
            self._leave_to_run(one, "failed at dotdigital")
        elif one.attempt < MAX_ATTEMPTS:
            LOGGER.warning("Import %s failed at dotdigital; resending its contacts", one.name)
            self._again.append((self._log.rows_of(one.key), one.attempt + 1))
        else:
            self._problem(
                f"Import {one.name} failed at dotdigital, twice: contact its support with the id. The next run sends its "
                "contacts again.",
            )

    def _hold(self, one: _Open, _status: ImportStatus) -> None:
        held = self._log.quarantine(one.key)
        self._stop(
            f"Import {one.name} was rejected by dotdigital's Data Watchdog, which checks the quality of addresses. Its "
            f"{held} contacts are held and not sent again: contact dotdigital's support with the id, then release them "
            "with the command `release`.",
        )

    def _exceed(self, one: _Open, _status: ImportStatus) -> None:
        self._log.mark_failed(one.key, ImportState.OVER_QUOTA, self._clock.wall())
        self._stop(
            f"Import {one.name} was stopped (ExceedsAllowedContactLimit): the account has reached the number of contacts that "
            "its contract allows. Raise it, or remove contacts; the next run sends these contacts again.",
        )

    def _miss(self, one: _Open, _status: ImportStatus) -> None:
        self._lose(one, "is no longer known to dotdigital", stops=True)

    def _lose(self, one: _Open, what: str, *, stops: bool) -> None:
        """End an import whose result will not be known.

        Args:
            one: the import.
            what: what is known of it, worded as the end of a sentence.
            stops: whether nothing more is sent.
        """
        self._log.mark_failed(one.key, ImportState.LOST, self._clock.wall())
        if self._resuming:
            self._leave_to_run(one, what)
            return
        text = f"Import {one.name} {what}, so its result is unknown, and the next run sends its contacts again."
        (self._stop if stops else self._problem)(f"{text} If it happens again, contact dotdigital's support with the id.")

    def _ask(self, one: _Open) -> ImportStatus | None:
        """Poll an import once; a failed poll says nothing about the import's state."""
        self._last_error = ""
        try:
            return self._client.import_status(one.import_id)
        except ApiError as error:
            self._last_error = error.code or (f"status {error.status}" if error.status else "no answer")
            if error.code in {"contacts:importNotFound", "contacts:invalidId"}:
                # an import may not be found right after it was accepted (docs/assumptions.md, dotdigital 5)
                one.missing += 1
                if one.missing >= MAX_NOT_FOUND:
                    return ImportStatus(one.import_id, GONE)
            LOGGER.debug("Import %s: poll failed", one.name)
            return None

    def _submit_again(self) -> None:
        while self._again:
            rows, attempt = self._again.pop()
            if self._stopped:
                self._problem("An import that failed at dotdigital was not sent again, because the run stops.")
            else:
                self._submit(Part(Chunk(rows, [self._shape.encode(row) for row in rows]), attempt))

    def _account(self, one: _Open, status: ImportStatus) -> None:
        rows = self._log.rows_of(one.key) if one.rows is None else one.rows
        outcomes = match_report(rows, status, self._log.contact_ids)
        recorded = self._log.finished(one.key, rows, outcomes, self._clock.wall())
        if not one.counts:
            return
        counted = self._count(rows, outcomes, recorded)
        if recorded.gone:
            LOGGER.info(
                "Import %s: dotdigital no longer knows the IDs of %d contacts; looking up their addresses", one.name, recorded.gone
            )
        if respelled := sum(outcome.is_respelled for outcome in outcomes):
            LOGGER.info("Import %s: dotdigital spells the addresses of %d contacts otherwise", one.name, respelled)
        if mistaken := sum(outcome.other_email is not None for outcome in outcomes):
            # these rows have updated other contacts than they were meant for
            self.tally.mistaken += mistaken
            self.tally.verdicts[Verdict.UNCONFIRMED] -= mistaken
            self.tally.verdicts[Verdict.UPDATED] += mistaken
            LOGGER.warning("Import %s: dotdigital names other addresses for the IDs of %d contacts", one.name, mistaken)
        if lost := counted[Verdict.UNCONFIRMED] - mistaken:
            self._problem(
                f"dotdigital's report of import {one.name} does not name {lost} of {len(outcomes)} contacts: they are sent again "
                "by the next run.",
            )
        LOGGER.info(
            "Import %s: finished, %s",
            one.name,
            ", ".join(f"{counted[verdict]} {verdict.value}" for verdict in Verdict if counted[verdict]),
        )

    def _count(self, rows: Sequence[Row], outcomes: Sequence[RowResult], recorded: Recorded) -> collections.Counter[Verdict]:
        """Add the outcomes of rows to the figures of the delivery, and return them by verdict."""
        self.tally.new_reasons.update(recorded.new_rejections)
        self.tally.created_again += recorded.created_again
        if not self._resuming:
            self._observe(rows, outcomes)
        counted = collections.Counter(outcome.verdict for outcome in outcomes)
        self.tally.verdicts += counted
        self.tally.reasons.update(recorded.reasons)
        self.tally.remarks.update(one.reason for one in outcomes if one.reason and one.verdict is not Verdict.REJECTED)
        self.tally.respelled += sum(one.is_respelled for one in outcomes)
        # looked up by address: most were deleted in dotdigital, so that nothing is left to clear
        self.tally.gone += recorded.gone
        self.tally.sent -= recorded.gone
        self.tally.verdicts[Verdict.REJECTED] -= recorded.gone
        return counted

    def _leave_to_run(self, one: _Open, ended: str) -> None:
        """Note that an import of an earlier run has no result: this run sends its contacts again, if the input has not changed them."""
        LOGGER.warning("Import %s of an earlier run %s; its contacts are sent again", one.name, ended)
        self.tally.sent -= len(self._log.rows_of(one.key))

    def _problem(self, text: str) -> None:
        LOGGER.error(text)
        self.tally.problems.append(text)

    def _stop(self, text: str) -> None:
        self._stopped = True
        self._problem(text)
