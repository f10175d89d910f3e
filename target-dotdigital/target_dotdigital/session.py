"""One run, from logging in to the report: the stations of the data flow, in their order."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from target_dotdigital import account as accounts
from target_dotdigital.book import Book, open_scope
from target_dotdigital.collector import Collector, encode, payload
from target_dotdigital.deliveries import DeliveryLog, begin_run, latest_segments
from target_dotdigital.delivery import Delivery, needed_fields
from target_dotdigital.directory import PAGE, Directory
from target_dotdigital.errors import BrakeError, DeliveryError, NotActivatedError, SettingsError, TargetError
from target_dotdigital.labels import Labels, look_alikes
from target_dotdigital.metrics import emit
from target_dotdigital.plan import activation_code, brakes, import_calls, is_active, make_plan
from target_dotdigital.report import ENDED, Outcome, Report, ReportFolder
from target_dotdigital.review import review
from target_dotdigital.tables import contacts
from target_dotdigital.workplace import Workplace

if TYPE_CHECKING:
    from target_dotdigital.book import Observed
    from target_dotdigital.plan import Plan
    from target_dotdigital.retry import Clock
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")
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
        # whether rows are matched by contact id wherever one is known, so that nobody is created
        self._by_id = not settings.upload_emails
        self.report = Report(started_at=clock.now())
        self._folder = ReportFolder(settings.report_dir)
        self._place = Workplace(settings, clock)
        try:
            self._open(self._place)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of ledger and lock."""
        self._place.close()

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

    def restore(self, run: int) -> None:
        """Ask for what a run replaced, for contacts that nobody has changed since; `finish` then delivers it.

        Raises:
            SettingsError: there is no such run.
        """
        images = DeliveryLog(self._place.ledger.engine, self.book.scope, run).before_images(run)
        if not images:
            msg = f"Run {run} has delivered nothing to this account, address book and data field: nothing can be put back."
            raise SettingsError(msg)
        self._by_id = True
        total = sum(map(self._observe, self._directory().pages()))
        self.book.describe(account_contacts=total)
        changed = self.book.put_back(images)
        LOGGER.info("Restore: run %d delivered to %d contacts, of which %d are as it left them", run, len(images), changed)

    def review(self) -> str:
        """Give the review of what waits in the ledger; writes nothing."""
        try:
            self._prepare()
            return self._reviewed()
        finally:
            self._connection.rollback()
            self.close()

    def _open(self, place: Workplace) -> None:
        settings, engine = self.settings, place.ledger.engine
        self._client, self.account = place.client, place.account
        self.active = is_active(settings, self.account)
        started = self.report.started_at.isoformat()
        if self._writes:
            with engine.begin() as connection:
                scope = open_scope(connection, place.scope_key, self.account.id)
                run = begin_run(connection, scope.id, started)
            self._log = DeliveryLog(engine, scope.id, run)
            self._delivery = Delivery(place, self._log, started_at=self.report.started_at)
            self._delivery.resume(self.account)
        # One transaction for all that comes in: a run that may not deliver leaves nothing behind.
        self._connection = place.stack.enter_context(engine.connect())
        self._scope = open_scope(self._connection, place.scope_key, self.account.id)
        if not self._writes:
            run = begin_run(self._connection, self._scope.id, started)
        self.report.run = run
        self.book = Book(self._connection, self._scope.id, uploads=settings.upload_emails)
        self.labels = Labels(settings.labels)
        self._keep_labels_current()
        self.collector = Collector(self.book, self.labels, settings)

    @property
    def _writes(self) -> bool:
        return self.active and not self.settings.dry_run

    def _keep_labels_current(self) -> None:
        """Make all desired values anew where the settings turn names into other labels than before."""
        now = encode(asdict(self.settings.labels)).decode()
        if self._scope.labels not in {None, now}:
            LOGGER.info("Ledger: the label settings changed; every contact's labels are made anew")
            self.book.relabel(lambda names: payload(dict(self.labels.of(msgspec.json.decode(names)).values)))
        self.book.describe(labels=now)

    def _run(self) -> None:
        report, settings = self.report, self.settings
        plan = self._prepare()
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
        account = accounts.complete(settings, self._client, self.account, needed_fields(self.book, settings))
        self._connection.commit()
        self._delivery.deliver(account, self.book.scope, plan.total, by_id=self._by_id)
        self._judge()

    def _prepare(self) -> Plan:
        report = self.report
        report.intake = self.collector.finish()
        LOGGER.info("Input: %d records, %d contacts, %d left out", *report.received)
        self._read_back()
        report.segments = self.book.segments()
        report.segments_before = msgspec.json.decode(latest_segments(self._connection, self.book.scope) or "{}")
        report.look_alikes = look_alikes(list(report.segments)[:500], self.settings.labels.delimiter)
        report.plan = plan = make_plan(self.book)
        report.import_calls = import_calls(plan, self.settings)
        LOGGER.info(
            "Plan: %d to create, %d to update, %d to clear, %d to list, %d to repeat, %d right already",
            *(plan.created, plan.updated, plan.cleared, plan.listed, plan.repeated, plan.untouched),
        )
        return plan

    def _read_back(self) -> None:
        """Learn what dotdigital holds of contacts that the ledger cannot tell.

        The first run of a ledger reads the whole account: what is right already is not sent, and what is replaced can be
        put back. Later on it is only needed where contacts may be matched by their ids alone: without uploads, and for
        vanished contacts that an earlier run sent without learning what became of them.
        """
        c = contacts.c
        unknown = c.pending & c.contact_id.is_(None)
        read = self._scope.account_contacts
        if read is not None and self.settings.upload_emails:
            unknown &= c.vanished & c.in_doubt
        if asked := self.book.count(unknown):
            directory = self._directory()
            if read is not None and asked <= max(1, read // PAGE):
                self._observe(directory.look_up(self.book.emails(unknown)))
            else:
                total = sum(map(self._observe, directory.pages()))
                self.book.describe(account_contacts=total)
                LOGGER.info("Directory: %d contacts of dotdigital read back", total)
            self.book.weigh()
        self.report.unknown = self.book.settle_unknown(vanished_only=self.settings.upload_emails)

    def _directory(self) -> Directory:
        return Directory(self._client, self.account)

    def _observe(self, found: list[Observed]) -> int:
        self.book.see(found)
        self.book.observe()
        return len(found)

    def _ask(self) -> None:
        report = self.report
        report.outcome = Outcome.NOT_ACTIVATED
        text = self._reviewed()
        self._folder.write_text("review.txt", text)
        for line in text.splitlines():
            LOGGER.info("%s", line)
        msg = (
            f"Not activated: nothing was written. Read the review above ({self._folder.path / 'review.txt'}). To switch the daily sync "
            f"on for exactly this, set the setting activation_code to {report.activation_code} "
            f"(TARGET_DOTDIGITAL_ACTIVATION_CODE={report.activation_code})"
        )
        raise NotActivatedError(msg)

    def _reviewed(self) -> str:
        report = self.report
        report.activation_code = activation_code(self.settings, self.account)
        report.programs = accounts.active_programs(self._client)
        report.limits = dict(self._client.limits)
        return review(report, self.settings, self.account)

    def _judge(self) -> None:
        """Decide whether what was sent has arrived; only then may STATE go out."""
        report, tally = self.report, self._delivery.tally
        with self._place.ledger.engine.connect() as connection:
            book = Book(connection, self.book.scope, uploads=self.settings.upload_emails)
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

    def _complete_report(self) -> None:
        # what was not committed by now is not to be: no trace of a run that was not allowed to deliver
        self._connection.rollback()
        report = self.report
        if self._writes:
            report.tally = self._delivery.tally
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
        emit(report)
        LOGGER.info("%s", report.summary())
