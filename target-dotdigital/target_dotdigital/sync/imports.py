"""Submits imports and polls them until they end. Contacts are written in no other way."""

from __future__ import annotations

import collections
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.messages import ImportStatus
from target_dotdigital.dotdigital.rows import Chunk, RowEncoder, body
from target_dotdigital.errors import ApiError, TooManyImportsError
from target_dotdigital.ledger.codes import GONE_ID
from target_dotdigital.ledger.imports import ImportLog, OpenImport, State
from target_dotdigital.records import Row, RowResult, Verdict
from target_dotdigital.sync.verdicts import verdicts
from target_dotdigital.texts import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.client import Client
    from target_dotdigital.stats import DeliveryStats

LOGGER = logging.getLogger("target-dotdigital")
MAX_INTERVAL_SECONDS = 60.0
SLOT_PAUSE_SECONDS = 30.0
MAX_SLOT_PAUSES = 120
MAX_NOT_FOUND = 5
MAX_ATTEMPTS = 2
MAX_ROWS_KEPT = 100_000
GONE = "Gone"  # ours, not dotdigital's


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

    @property
    def name(self) -> str:
        """The import ID, safe to display."""
        return shown(self.import_id)


class Imports:
    """Submits rows as imports and polls each import until it ends.

    Args:
        client: API client.
        log: record of imports, written before each import is submitted.
        shape: encodes rows as JSON.
        clock: injectable clock.
        tally: counts outcomes.
        most_open: maximum number of open imports.
        first_interval: seconds before an import is polled for the first time.
        timeout: seconds to wait for an import.
        require_lock: called before each import is submitted; raises an exception if another run may have started.
        observe: called with the rows of each finished import of this run, and their outcomes.
    """

    def __init__(  # noqa: PLR0913 - what an import needs
        self,
        client: Client,
        log: ImportLog,
        shape: RowEncoder,
        clock: Clock,
        tally: DeliveryStats,
        *,
        most_open: int,
        first_interval: float,
        timeout: float,
        require_lock: Callable[[], None] = lambda: None,
        observe: Callable[[Sequence[Row], Sequence[RowResult]], None] = lambda _rows, _results: None,
    ) -> None:
        """Start without open imports."""
        self._require_lock = require_lock
        self._observe = observe
        self._client = client
        self._log = log
        self._shape = shape
        self._clock = clock
        self._most_open = most_open
        self._first_interval = first_interval
        self._timeout = timeout
        self._open: list[_Open] = []
        self._again: list[tuple[list[Row], int]] = []
        self._stopped = False
        self._resuming = False
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
            self._submit(chunk, attempt=1)
            self.tally.sent += len(chunk.rows)
        self.settle()

    def settle(self) -> None:
        """Wait until no import is open; STATE is emitted only after this."""
        while self._open or self._again:
            self._poll_next()
            self._submit_again()

    def _submit(self, chunk: Chunk, attempt: int) -> None:
        self._require_lock()
        key = self._log.begin(chunk.rows, self._clock.wall(), attempt)
        try:
            import_id = self._start(body(chunk))
        except ApiError as error:
            # without a response, or with one of a gateway, dotdigital may have accepted the import
            refused = error.status is not None and HTTPStatus.BAD_REQUEST <= error.status < HTTPStatus.INTERNAL_SERVER_ERROR
            self._log.abandoned(key, State.FAILED if refused else State.LOST)
            self._stop(str(error))
            return
        self._log.accepted(key, import_id)
        LOGGER.info("Import %s: %d contacts sent", import_id, len(chunk.rows))
        # what is kept of all open imports is bounded
        self._watch(key, import_id, attempt, chunk.rows if len(chunk.rows) * self._most_open <= MAX_ROWS_KEPT else None)

    def _start(self, body: bytes) -> str:
        pauses = 0
        while True:
            try:
                return self._client.start_import(body)
            except TooManyImportsError:
                pauses += 1
                if pauses > MAX_SLOT_PAUSES:
                    raise
                if self._open:
                    self._poll_next()
                else:
                    LOGGER.info("dotdigital: other clients use all import slots; retrying in %.0f s", SLOT_PAUSE_SECONDS)
                    self._clock.wait(SLOT_PAUSE_SECONDS)

    def _watch(self, key: int, import_id: str, attempt: int, rows: list[Row] | None) -> None:
        now = self._clock.monotonic()
        first = self._first_interval
        self._open.append(_Open(key, import_id, attempt, rows, first, now + first, now + self._timeout))

    def _poll_next(self) -> None:
        """Wait until the next poll is due, poll that import, and handle its state."""
        if not self._open:
            return
        one = min(self._open, key=lambda other: other.next_poll)
        self._clock.wait(one.next_poll - self._clock.monotonic())
        status = self._ask(one)
        match status.status if status else "":
            case "Finished" if status is not None:
                self._open.remove(one)
                self._account(one, status)
            case "Failed":
                self._open.remove(one)
                self._log.abandoned(one.key, State.FAILED)
                if self._resuming:
                    # not resubmitted here: the input of this run may have changed the desired labels
                    LOGGER.warning("Import %s of an earlier run failed at dotdigital; its contacts are sent again", one.name)
                    self.tally.sent -= len(self._log.rows_of(one.key))
                elif one.attempt < MAX_ATTEMPTS:
                    LOGGER.warning("Import %s failed at dotdigital; resending its contacts", one.name)
                    self._again.append((self._log.rows_of(one.key), one.attempt + 1))
                else:
                    self._problem(
                        f"Import {one.name} failed at dotdigital, twice: contact its support with the id. The next run sends its "
                        "contacts again.",
                    )
            case "RejectedByWatchdog":
                self._open.remove(one)
                held = self._log.hold(one.key)
                self._stop(
                    f"Import {one.name} was rejected by dotdigital's Data Watchdog, which checks the quality of addresses. Its "
                    f"{held} contacts are held and not sent again: contact dotdigital's support with the id, then release them "
                    "with the command `release`.",
                )
            case "ExceedsAllowedContactLimit":
                self._open.remove(one)
                self._log.abandoned(one.key, State.OVER_QUOTA)
                self._stop(
                    f"Import {one.name} was stopped (ExceedsAllowedContactLimit): the account has reached the number of contacts that "
                    "its contract allows. Raise it, or remove contacts; the next run sends these contacts again.",
                )
            case _ if status is not None and status.status == GONE:
                self._open.remove(one)
                self._log.abandoned(one.key, State.LOST)
                self._stop(f"dotdigital no longer knows import {one.name}: its contacts are sent again by the next run.")
            case _ if self._clock.monotonic() >= one.deadline:
                self._open.remove(one)
                self._stop(
                    f"Import {one.name} was not finished within import_timeout ({self._timeout:.0f} s). It is not lost, and its "
                    "contacts are not sent again: the next run continues to wait for it.",
                )
            case _:
                one.interval = min(one.interval * 1.5, MAX_INTERVAL_SECONDS)
                one.next_poll = self._clock.monotonic() + one.interval

    def _ask(self, one: _Open) -> ImportStatus | None:
        """Poll an import once; a failed poll says nothing about the import's state."""
        try:
            return self._client.import_status(one.import_id)
        except ApiError as error:
            if error.code in {"contacts:importNotFound", "contacts:invalidId"}:
                # an import may not be found right after it was accepted (contracts/dotdigital.md 4)
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
                self._submit(Chunk(rows, [self._shape.encode(row) for row in rows]), attempt)

    def _account(self, one: _Open, status: ImportStatus) -> None:
        rows = self._log.rows_of(one.key) if one.rows is None else one.rows
        outcomes = verdicts(rows, status)
        recorded = self._log.finished(one.key, rows, outcomes, self._clock.wall())
        self.tally.new_reasons.update(recorded.new_rejections)
        self.tally.created_again += recorded.created_again
        if not self._resuming:
            self._observe(rows, outcomes)
        counted = collections.Counter(outcome.verdict for outcome in outcomes)
        self.tally.verdicts += counted
        self.tally.reasons.update(outcome.reason or "Unknown" for outcome in outcomes if outcome.verdict is Verdict.REJECTED)
        if recorded.gone:
            # looked up by address: most were deleted in dotdigital, so that nothing is left to clear
            self.tally.gone += recorded.gone
            self.tally.sent -= recorded.gone
            self.tally.verdicts[Verdict.REJECTED] -= recorded.gone
            self.tally.reasons -= collections.Counter(
                {code: recorded.gone for code in self.tally.reasons if code.lower() == GONE_ID}
            )
            LOGGER.info(
                "Import %s: dotdigital no longer knows the IDs of %d contacts; looking up their addresses", one.name, recorded.gone
            )
        if mistaken := sum(outcome.other_email is not None for outcome in outcomes):
            # not counted as sent: these rows have changed other contacts than they were meant for
            self.tally.mistaken += mistaken
            self.tally.sent -= mistaken
            self.tally.verdicts[Verdict.UNCONFIRMED] -= mistaken
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

    def _problem(self, text: str) -> None:
        LOGGER.error(text)
        self.tally.problems.append(text)

    def _stop(self, text: str) -> None:
        self._stopped = True
        self._problem(text)
