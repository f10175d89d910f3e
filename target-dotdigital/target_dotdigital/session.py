"""One run, from logging in to the report: the stations of the data flow, in their order."""

from __future__ import annotations

import collections
import logging
import weakref
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from target_dotdigital import account as accounts
from target_dotdigital.collector import Collector, encode, payload
from target_dotdigital.deliveries import DeliveryLog, Row, begin_run, latest_segments
from target_dotdigital.directory import PAGE, Directory
from target_dotdigital.errors import BrakeError, DeliveryError, NotActivatedError, TargetError
from target_dotdigital.imports import Imports, Tally
from target_dotdigital.labels import Labels, look_alikes
from target_dotdigital.ledger import Book, Ledger, open_scope
from target_dotdigital.plan import activation_code, brakes, import_calls, is_active, make_plan
from target_dotdigital.report import ENDED, Outcome, Report, ReportFolder
from target_dotdigital.review import review
from target_dotdigital.tables import contacts
from target_dotdigital.wire import Shape, chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_dotdigital.account import Account
    from target_dotdigital.ledger import Observed
    from target_dotdigital.retry import Clock
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")
ROWS = 5_000
# fewer refusals than this are no sign of something wrong
FEWEST_REFUSED = 10


class Session:
    """A run against one account.

    Args:
        settings: the settings.
        clock: what waiting is measured by.

    Raises:
        TargetError: the run cannot even begin.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Log in, read the account, open the ledger, and see imports of earlier runs through."""
        self.settings = settings
        self.acknowledged = False
        self._clock = clock
        self._stack = ExitStack()
        # the SDK tells nobody that a run broke off: whoever lets go of this object lets go of the ledger, too
        weakref.finalize(self, self._stack.close)
        self._tally = Tally()
        self.report = Report(started_at=clock.now())
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of ledger and lock."""
        self._stack.close()

    def finish(self) -> None:
        """Deliver what was collected, and report.

        `acknowledged` is true afterwards if STATE may go out.

        Raises:
            TargetError: the run was not allowed to deliver, or not everything arrived.
        """
        try:
            self._run()
            self.acknowledged = self.report.outcome in ENDED - {Outcome.FAILED}
        except TargetError as error:
            self.report.problems.insert(0, str(error))
            raise
        finally:
            self._complete_report()
            self.close()

    def _open(self) -> None:
        settings = self.settings
        self._folder = ReportFolder(settings.report_dir)
        self._client, info = accounts.connect(settings, self._clock)
        self.account = accounts.read_account(settings, self._client, info)
        LOGGER.info("Account: %s (%d) at %s", self.account.name, self.account.id, self.account.endpoint)
        self.active = is_active(settings, self.account)
        self._ledger = Ledger(settings.ledger_url)
        self._stack.callback(self._ledger.close)
        self._stack.enter_context(self._ledger.locked(self.account.id))
        writes = self.active and not settings.dry_run
        key = scope_key(settings, self.account)
        started = self.report.started_at.isoformat()
        if writes:
            with self._ledger.engine.begin() as connection:
                scope = open_scope(connection, key, self.account.id)
                run = begin_run(connection, scope.id, started)
            self._log = DeliveryLog(self._ledger.engine, scope.id, run)
            self._resume()
        # One transaction for all that comes in: a run that may not deliver leaves nothing behind.
        self._connection = self._stack.enter_context(self._ledger.engine.connect())
        self._scope = open_scope(self._connection, key, self.account.id)
        if not writes:
            run = begin_run(self._connection, self._scope.id, started)
        self.report.run = run
        self.book = Book(self._connection, self._scope.id, run, uploads=settings.upload_emails)
        self.labels = Labels(settings.labels)
        self._keep_labels_current()
        self.collector = Collector(self.book, self.labels, settings)

    def _resume(self) -> None:
        if found := self._log.open_imports():
            imports = self._imports(self.account)
            imports.resume(found)
            self._tally = imports.tally

    def _keep_labels_current(self) -> None:
        """Make all desired values anew where the settings turn names into other labels than before."""
        now = encode(asdict(self.settings.labels)).decode()
        if self._scope.labels not in {None, now}:
            LOGGER.info("Ledger: the label settings changed; every contact's labels are made anew")
            self.book.relabel(lambda names: payload(dict(self.labels.of(msgspec.json.decode(names)).values)))
        self.book.describe(labels=now)

    def _run(self) -> None:
        report, settings = self.report, self.settings
        report.intake = self.collector.finish()
        LOGGER.info("Input: %d records, %d contacts, %d left out", *report.received)
        self._read_back()
        report.segments = self._count_segments()
        report.segments_before = msgspec.json.decode(latest_segments(self._connection, self.book.scope) or "{}")
        report.look_alikes = look_alikes(list(report.segments)[:500], settings.labels.delimiter)
        report.plan = plan = make_plan(self.book)
        report.import_calls = import_calls(plan, settings)
        LOGGER.info(
            "Plan: %d to create, %d to update, %d to clear, %d to list, %d to repeat, %d right already",
            *(plan.created, plan.updated, plan.cleared, plan.listed, plan.repeated, plan.untouched),
        )
        if not self.active:
            self._ask()
        if settings.dry_run:
            report.outcome = Outcome.DRY_RUN
            return
        if stops := brakes(plan, settings, self._clock.today()):
            report.outcome = Outcome.BRAKED
            msg = (
                f"The brakes stopped the run before anything was written: {'; '.join(stops)}. The bookmark stays. Look at the "
                f"report; if this is meant, set brakes_released_on to {self._clock.today().isoformat()} for today's run."
            )
            raise BrakeError(msg)
        report.outcome = Outcome.FAILED
        account = accounts.complete(settings, self._client, self.account, self._needed_fields())
        self._connection.commit()
        self._send(account)
        self._judge()

    def _read_back(self) -> None:
        """Learn what dotdigital holds of contacts that the ledger has not delivered yet.

        The first run of a ledger reads the whole account: what is right already is not sent, and what is replaced can be
        put back. Later on it is only needed where contacts may be matched by their ids alone.
        """
        c = contacts.c
        unknown = c.pending & c.contact_id.is_(None)
        waiting = self.book.count(unknown)
        read = self._scope.account_contacts
        if waiting and (read is None or not self.settings.upload_emails):
            directory = Directory(self._client, self.account)
            if read is not None and waiting <= max(1, read // PAGE):
                self._observe(directory.look_up(self.book.emails(unknown)))
            else:
                total = sum(map(self._observe, directory.pages()))
                self.book.describe(account_contacts=total)
                LOGGER.info("Directory: %d contacts of dotdigital read back", total)
            self.book.weigh()
        self.report.unknown = self.book.settle_unknown(vanished_only=self.settings.upload_emails)

    def _observe(self, observed: list[Observed]) -> int:
        self.book.observe(observed)
        return len(observed)

    def _ask(self) -> None:
        report = self.report
        report.outcome = Outcome.NOT_ACTIVATED
        report.activation_code = activation_code(self.settings, self.account)
        report.programs = accounts.active_programs(self._client)
        report.limits = dict(self._client.limits)
        text = review(report, self.settings, self.account)
        self._folder.write_text("review.txt", text)
        for line in text.splitlines():
            LOGGER.info("%s", line)
        msg = (
            "Not activated: nothing was written. Read the review above"
            f" ({self._folder.path / 'review.txt'}). To switch the daily sync on for exactly this, set the setting activation_code to "
            f"{report.activation_code} (TARGET_DOTDIGITAL_ACTIVATION_CODE={report.activation_code})"
        )
        raise NotActivatedError(msg)

    def _needed_fields(self) -> tuple[str, ...]:
        """Give the data fields that this run writes."""
        fields = self.settings.labels.fields
        used = self.book.fields_used(fields[1:]) if len(fields) > 1 else ()
        stamp = (self.settings.synced_at_field,) if self.settings.synced_at_field else ()
        return (fields[0], *used, *stamp)

    def _send(self, account: Account) -> None:
        imports = self._imports(account)
        imports.tally = self._tally
        imports.send(chunks(self._rows(), self._shape(account), self.settings.contacts_per_import))
        self._tally = imports.tally

    def _rows(self) -> Iterator[Row]:
        """Give the rows to send, by address; memory holds one page of them."""
        left = self.settings.max_contacts_per_run or None
        after = ""
        while left is None or left > 0:
            with self._ledger.engine.connect() as connection:
                book = Book(connection, self.book.scope, self.book.run, uploads=self.settings.upload_emails)
                page = book.pending(ROWS if left is None else min(ROWS, left), after)
            if not page:
                return
            for row in page:
                by_id = row.vanished or not self.settings.upload_emails
                yield Row(row.email, row.contact_id if by_id else None, row.confirmed, row.desired)
            after = page[-1].email
            left = None if left is None else left - len(page)

    def _imports(self, account: Account) -> Imports:
        return Imports(
            self._client,
            self._log,
            self._shape(account),
            self._clock,
            most_open=self.settings.max_active_imports,
            first_interval=self.settings.poll_interval,
            timeout=self.settings.import_timeout,
        )

    def _shape(self, account: Account) -> Shape:
        stamp = self.settings.synced_at_field
        return Shape(
            book=account.book.id if account.book else None,
            spelled={name: spelled for name, spelled in account.fields.items() if name != stamp},
            field=self.settings.data_field,
            stamp=(account.spelled(stamp), self.report.started_at.strftime("%Y-%m-%dT%H:%M:%SZ")) if stamp else None,
        )

    def _judge(self) -> None:
        """Decide whether what was sent has arrived; only then may STATE go out."""
        report, tally = self.report, self._tally
        with self._ledger.engine.connect() as connection:
            book = Book(connection, self.book.scope, self.book.run, uploads=self.settings.upload_emails)
            report.left = book.count(contacts.c.pending)
        refused = sum(tally.reasons.values()) + sum(report.intake.invalid.values())
        offered = tally.sent + sum(report.intake.invalid.values())
        report.problems += tally.problems
        if tally.problems or tally.unaccounted:
            msg = (
                f"{tally.unaccounted} of {tally.sent} contacts were sent, but dotdigital did not confirm them. The bookmark stays: the "
                f"next run sends them again. {' '.join(tally.problems[:3])}"
            )
            raise DeliveryError(msg)
        if refused >= FEWEST_REFUSED and refused * 100 > offered * self.settings.max_refused_percent:
            msg = (
                f"{refused} of {offered} contacts were refused, more than max_refused_percent ({self.settings.max_refused_percent}). "
                "The others were delivered; the bookmark stays. Look at the report for the reasons."
            )
            raise DeliveryError(msg)
        if self.settings.max_contacts_per_run and report.left:
            report.outcome = Outcome.PARTLY
        else:
            report.outcome = Outcome.DELIVERED if tally.sent or report.intake.read else Outcome.NOTHING

    def _count_segments(self) -> dict[str, int]:
        counted: collections.Counter[str] = collections.Counter()
        for names, count in self.book.all_names().items():
            for name in msgspec.json.decode(names):
                counted[name] += count
        return dict(sorted(counted.items()))

    def _complete_report(self) -> None:
        # what was not committed by now is not to be: no trace of a run that was not allowed to deliver
        self._connection.rollback()
        report = self.report
        report.tally = self._tally
        report.calls = dict(sorted(self._client.calls.items()))
        report.waited = self._clock.waited
        report.finished_at = self._clock.now()
        report.account, report.region = self.account.name, self.account.endpoint
        report.address_book = self.account.book.name if self.account.book else self.settings.address_book
        report.data_field = self.settings.data_field
        if report.outcome in ENDED and self.active and not self.settings.dry_run:
            try:
                self._log.finish_run(report.outcome, encode(report.segments).decode())
                self._folder.write_refused(self._log.refused(), self.settings)
            except sa.exc.SQLAlchemyError as error:
                report.problems.append(f"The ledger could not be read for the report ({type(error).__name__}).")
        self._folder.write(report)
        LOGGER.info("%s", report.summary())


def scope_key(settings: Settings, account: Account) -> str:
    """Name the ledger's part for an account, address book and data field."""
    if not settings.upload_emails:
        book = "-"
    elif settings.address_book_id is not None:
        book = str(settings.address_book_id)
    else:
        book = settings.address_book.strip().lower()
    return f"{account.id}|{book}|{settings.data_field.upper()}"
