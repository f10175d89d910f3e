"""Delivers pending contacts as imports, records the outcomes in the ledger, and looks up some of the delivered contacts."""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.account import find_book
from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.dotdigital.imports import RowEncoder, chunks, prefetch
from target_dotdigital.errors import DeliveryError
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.models import EMPTY, DeliveryStats, Row, RowResult, Verdict
from target_dotdigital.sync.imports import Imports, Pace
from target_dotdigital.sync.readback import look_up

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import sqlalchemy as sa

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.ledger.imports import ImportLog
    from target_dotdigital.models import Observed
    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.session import Session

LOGGER = logging.getLogger("target-dotdigital")
FIRST_PAUSE_SECONDS = 2.0
ROWS = 5_000
# polls of an import are up to a minute apart
SECONDS_PER_LINE = 55.0
# nothing is published about how long dotdigital may take for an import; import_timeout is 6 hours by default
LATEST_SECONDS = 48 * 3600.0
# So many contacts are not all kept out of the address book: if it stays empty, it is the wrong one, or imports ignore it. Of fewer
# contacts, only the first delivery is not trusted.
MIN_MEMBERS = 10
MISTAKEN = (
    "dotdigital's reports name other addresses for the IDs of some contacts, again after these were looked up: other contacts may "
    "have been changed. All of them are looked up by the next run. Run the command `rehearse`."
)


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


class Progress:
    """Logs how far a delivery is, once a minute.

    Args:
        clock: injectable clock.
        contacts: contacts to send; 0 if it is not known.
        imports: imports that they make.
    """

    def __init__(self, clock: Clock, contacts: int, imports: int) -> None:
        """Start at 0."""
        self._clock = clock
        self._contacts, self._imports = contacts, imports
        self._contacts_done, self._imports_done = 0, 0
        self._started = self._logged = clock.monotonic()

    def count(self, contacts: int) -> None:
        """Count the contacts of an import that has ended."""
        self._contacts_done += contacts
        self._imports_done += 1

    def log(self, open_imports: int, last_error: str) -> None:
        """Log a line if the last one is a minute ago.

        Args:
            open_imports: imports that dotdigital has not finished.
            last_error: why the last poll failed; empty if it did not.
        """
        now = self._clock.monotonic()
        if now - self._logged < SECONDS_PER_LINE:
            return
        self._logged = now
        minutes, done = (now - self._started) / 60, self._contacts_done
        LOGGER.info(
            "Waiting for %d imports since %.0f minutes%s%s%s",
            open_imports,
            minutes,
            f": {self._imports_done:,} of about {self._imports:,} imports, {done:,} of {self._contacts:,} contacts" if done else "",
            f", about {math.ceil(minutes * (self._contacts - done) / done)} minutes left" if 0 < done < self._contacts else "",
            f"; the last poll failed: {last_error}" if last_error else "",
        )


class Delivery:
    """The delivery of one run.

    Args:
        session: account and ledger.
        log: record of imports.
        started_at: start of the run, written to synced_at_field.

    Attributes:
        tally: outcomes of all rows sent, including imports of earlier runs.
        samples: delivered contacts to look up.
    """

    def __init__(self, session: Session, log: ImportLog, *, started_at: datetime.datetime) -> None:
        """Create a delivery with an empty tally."""
        self.tally = DeliveryStats()
        self.samples = Samples()
        self._session = session
        self._log = log
        self._started_at = started_at

    def resume(self, account: Account) -> None:
        """Wait for open imports of earlier runs.

        Raises:
            DeliveryError: an import is still not finished.
        """
        if not (found := self._log.open_imports()):
            return
        imports = self._imports(account)
        imports.resume(found)
        if self._log.open_imports():
            msg = (
                "An import of an earlier run is still not finished: its rows could overwrite newer values. Nothing new was "
                "sent, and the bookmark stays. Run again later; if that does not help, contact dotdigital's support."
            )
            raise DeliveryError(msg)

    def deliver(self, account: Account, scope: int, waiting: int, restored: int | None = None) -> None:
        """Send pending contacts, and wait until every import has ended.

        Args:
            account: the account; its address book and data fields have to exist.
            scope: number of the ledger scope.
            waiting: number of pending contacts, for the progress in the log.
            restored: number of a restoring run, which sends only the contacts that it restores; None for any other run.
        """
        settings, shape = self._session.settings, self._shape(account)
        left = (settings.max_contacts_per_run or None) if restored is None else None
        total = waiting if left is None else min(waiting, left)
        progress = Progress(self._session.clock, total, math.ceil(total / settings.contacts_per_import))

        def observe(rows: Sequence[Row], results: Sequence[RowResult]) -> None:
            progress.count(len(rows))
            self.samples.note(rows, results)

        imports = self._imports(account, observe, progress.log)
        # what rows by ID have done to other contacts than they were meant for is corrected in a second round
        for is_last in (False, True) if restored is None else (True,):
            mistaken, wrong = self.tally.mistaken, self._misses
            # Removed contacts are sent first, and their imports awaited. They are matched by ID, and the contact with that ID
            # may have a new address by now. The row of the new address has to be applied last. Rows that were rejected before come
            # after the others, in imports of their own: dotdigital may refuse an import because of one of them.
            for removed, rejected in itertools.product((True, False), (False, True)):
                sent, missed = self.tally.sent, self._misses
                rows = self._rows(scope, left, removed=removed, rejected=rejected, restored=restored)
                imports.send(prefetch(chunks(rows, shape, settings.contacts_per_import)))
                left = None if left is None else left - (self.tally.sent - sent)
                if self._misses > missed and not is_last:
                    self._look_up(account, scope)
            if self._misses == wrong:
                break
            if is_last and self.tally.mistaken > mistaken:
                self.tally.problems.append(MISTAKEN)

    @property
    def _misses(self) -> int:
        """Rows by ID that updated another contact, or whose contact does not exist."""
        return self.tally.mistaken + self.tally.gone

    def _look_up(self, account: Account, scope: int) -> None:
        """Look up contacts whose ID turned out to be that of another address, or of none; those that do not exist need nothing."""
        with self._session.ledger.engine.begin() as connection:
            ledger = self._contacts(connection, scope)
            reader = ContactReader(self._session.client, account)
            self.tally.not_joined += look_up(ledger, reader, ledger.contacts_to_verify(None), self._session.settings)
            ledger.drop_unknown()

    def _contacts(self, connection: sa.Connection, scope: int) -> ContactLedger:
        return ContactLedger(connection, scope, uploads=self._session.settings.upload_emails, run=self._log.run)

    def _rows(self, scope: int, left: int | None, *, removed: bool, rejected: bool, restored: int | None) -> Iterator[Row]:
        """Yield the rows to send, ordered by address, reading one page at a time."""
        after = ""
        while left is None or left > 0:
            with self._session.ledger.engine.connect() as connection:
                ledger = self._contacts(connection, scope)
                limit = ROWS if left is None else min(ROWS, left)
                page = ledger.next_to_send(limit, after, removed=removed, rejected=rejected, restored=restored)
            if not page:
                return
            for email, contact_id, confirmed, desired, creatable in page:
                yield Row(email, None if creatable and restored is None else contact_id, confirmed, desired)
            after = page[-1].email
            left = None if left is None else left - len(page)

    def verify_previous_run(self, ledger: ContactLedger) -> None:
        """Look up some contacts of an earlier run that ended before it could; if they are wrong, all of them have an unknown result.

        Args:
            ledger: the ledger scope, in the transaction of this run, which then looks them up.
        """
        samples, rows = Samples(), self._log.unverified_rows(ledger.connection)
        samples.note(rows, [RowResult(row.email, Verdict.UPDATED) for row in rows])
        reader = ContactReader(self._session.client, self._session.account)
        if (
            samples.chosen
            and self._session.settings.verify_timeout
            and verify(samples.chosen, reader, self._session.clock, 0).wrong
        ):
            LOGGER.warning("dotdigital does not hold what it confirmed to an earlier run: all contacts of that run are looked up")
            self._log.mark_unverified(ledger.connection)

    def mark_open(self, connection: sa.Connection) -> None:
        """Mark contacts of imports that are not finished: what dotdigital holds of them now does not show what it will hold.

        Args:
            connection: the transaction of a run that may not wait for them.
        """
        self._log.mark_open_unknown(connection)

    def may_apply_late(self, connection: sa.Connection) -> bool:
        """Return whether an import whose ID was lost may have overwritten what later ones delivered: the account has to be read back.

        Args:
            connection: the transaction of this run.
        """
        return self._log.expire_lost_imports(connection, self._session.clock.wall() - LATEST_SECONDS)

    def verify_sample(self, account: Account, scope: int) -> int:
        """Look up some of the delivered contacts; if dotdigital does not hold them, the result of all is unknown.

        Args:
            account: the account, whose address book and data fields exist.
            scope: number of the ledger scope.

        Returns:
            The number of contacts that are not as they were sent.

        Raises:
            ApiError: a look-up failed; the next run looks again.
        """
        samples, timeout = self.samples.chosen, self._session.settings.verify_timeout
        found = Verified(0, [], [])
        if samples and timeout:
            found = verify(samples, ContactReader(self._session.client, account), self._session.clock, timeout)
        # dotdigital may keep contacts out of the address book, and their status does not always say why
        unexplained = sum(not one.kept_out for one in found.unlisted)
        is_empty = not found.wrong and unexplained and self._is_empty(account)
        with self._session.ledger.engine.begin() as connection:
            ledger, wrong = self._contacts(connection, scope), found.wrong
            if is_empty:
                believed = ledger.believed()
                if believed.members >= MIN_MEMBERS or (believed.members and not believed.assumed):
                    wrong = unexplained
                if believed.members < MIN_MEMBERS:
                    self.tally.not_joined += ledger.note_empty_book()
            if wrong:
                self._log.mark_unverified(connection)
                return wrong
            self._log.mark_verified(connection)
            if found.held:
                ledger.stage_remote(found.held)
                self.tally.not_joined += ledger.compare_remote().not_joined
                ledger.apply_remote()
                ledger.recompute_pending(None if is_empty else [one.email for one in found.held])
        return 0

    def _is_empty(self, account: Account) -> bool:
        """Return whether the address book has no contact, although some were delivered to it."""
        if account.book is None:
            return False
        book = find_book(replace(self._session.settings, address_book_id=account.book.id), self._session.client)
        return book is not None and not book.contacts

    def _imports(
        self,
        account: Account,
        observe: Callable[[Sequence[Row], Sequence[RowResult]], None] = lambda _rows, _results: None,
        log_progress: Callable[[int, str], None] | None = None,
    ) -> Imports:
        settings = self._session.settings
        return Imports(
            self._session.client,
            self._log,
            self._shape(account),
            self._session.clock,
            self.tally,
            pace=Pace(settings.max_active_imports, settings.poll_interval, settings.import_timeout),
            require_lock=self._session.ledger.require_lock,
            observe=observe,
            log_progress=log_progress or Progress(self._session.clock, 0, 0).log,
        )

    def _shape(self, account: Account) -> RowEncoder:
        settings = self._session.settings
        stamp = settings.synced_at_field
        return RowEncoder(
            book=account.book.id if account.book else None,
            spelled={name: spelled for name, spelled in account.fields.items() if name != stamp},
            field=settings.data_field,
            stamp=(account.spelled(stamp), self._started_at.strftime("%Y-%m-%dT%H:%M:%SZ")) if stamp else None,
        )


def needed_fields(settings: Settings) -> tuple[str, ...]:
    """Return the data fields that a run writes."""
    return (settings.data_field, *((settings.synced_at_field,) if settings.synced_at_field else ()))
