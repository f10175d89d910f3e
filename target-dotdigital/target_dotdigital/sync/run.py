"""One run, from logging in to the report: the stations of the data flow, in their order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.errors import (
    BrakeError,
    IncompleteInputError,
    SettingsError,
    TargetError,
)
from target_dotdigital.ledger.bookmarks import Bookmarks
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.ledger.imports import ImportLog
from target_dotdigital.ledger.runs import begin_run, latest_segments
from target_dotdigital.ledger.scopes import open_scope
from target_dotdigital.ledger.tables import contacts
from target_dotdigital.reporting.report import ENDED, Report, RunStatus
from target_dotdigital.reporting.review import review
from target_dotdigital.sync.agreement import States, acknowledge, is_incomplete, require_agreement
from target_dotdigital.sync.delivery import Delivery, needed_fields
from target_dotdigital.sync.gates import check_results, not_activated, nothing_to_review, require_brakes
from target_dotdigital.sync.intake import Collector, keep_labels_current
from target_dotdigital.sync.labels import LabelEncoder, Labels, ambiguous_names
from target_dotdigital.sync.locked_account import LockedAccount
from target_dotdigital.sync.plan import activation_code, import_calls, is_active, make_plan
from target_dotdigital.sync.reading import read_account, read_back

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.reporting.folder import ReportFolder
    from target_dotdigital.settings import Settings
    from target_dotdigital.stats import Plan

LOGGER = logging.getLogger("target-dotdigital")


class SyncRun:
    """A run against one account.

    Args:
        settings: the settings.
        clock: what waiting is measured by.
        report: what the run tells; filled in as it goes.
        folder: where it is written.

    Raises:
        TargetError: the run cannot even begin.
    """

    def __init__(self, settings: Settings, clock: Clock, report: Report, folder: ReportFolder) -> None:
        """Log in, read the account, open the ledger, and see imports of earlier runs through."""
        self.settings = settings
        self.acknowledged = False
        self.report = report
        self._clock = clock
        # whether rows are matched by contact id, so that no contact is created, and the run that only sends what it puts back
        self._by_id = not settings.upload_emails
        self._restored: int | None = None
        self._states = States()
        self._folder = folder
        self._place = LockedAccount(settings, clock)
        report.account, report.region = self._place.account.name, self._place.account.endpoint
        try:
            self._open(self._place)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of ledger and lock."""
        self._place.close()

    def finish(self, states: States) -> None:
        """Deliver what was collected, and report.

        `acknowledged` is true afterwards if STATE may go out.

        Raises:
            TargetError: the run was not allowed to deliver, or not everything arrived.
        """
        self._states = states
        try:
            self._run()
            self.acknowledged = self.report.outcome in ENDED - {RunStatus.FAILED, RunStatus.INCOMPLETE}
        except TargetError as error:
            self.report.problems.insert(0, str(error))
            raise
        finally:
            self._complete_report()
            self.close()

    def fail(self, message: str) -> None:
        """Report that the run broke off before its input had ended."""
        self.report.problems.insert(0, message)
        self._complete_report()
        self.close()

    def restore(self, run: int) -> None:
        """Ask for what a run replaced, for contacts that nobody has changed since; `finish` then delivers it.

        Every acknowledged bookmark is withdrawn: what the source has emitted no longer stands for what is desired.

        Raises:
            SettingsError: there is no such run.
        """
        images = ImportLog(self._place.ledger.engine, self.ledger.scope, run).before_images(run)
        if not images:
            msg = f"Run {run} has delivered nothing to this account, address book and data field: nothing can be put back."
            raise SettingsError(msg)
        self._by_id = True
        self._restored = self.ledger.run
        read_account(self.ledger, ContactReader(self._client, self.account), self.settings)
        changed = self.ledger.put_back(images)
        Bookmarks(self._connection, self.ledger.scope).withdraw()
        self.report.restored = run
        LOGGER.info("Restore: %d of the %d contacts of run %d are still as it left them", changed, len(images), run)

    def review(self) -> str:
        """Return the review of what waits in the ledger; writes nothing.

        Raises:
            SettingsError: the ledger has not been written to yet.
        """
        try:
            if self._scope.account_contacts is None:
                raise nothing_to_review(self._folder.path / "review.txt")
            self._read_input()
            self._prepare()
            return self._reviewed()
        finally:
            self._connection.rollback()
            self.close()

    def _open(self, place: LockedAccount) -> None:
        settings, engine = self.settings, place.ledger.engine
        self._client, self.account = place.client, place.account
        self.active = is_active(settings, self.account)
        started = self.report.started_at.isoformat()
        if self._writes:
            with engine.begin() as connection:
                scope = open_scope(connection, place.scope_key, self.account.id)
                run = begin_run(connection, scope.id, started)
            self._log = ImportLog(engine, scope.id, run)
            self._delivery = Delivery(place, self._log, started_at=self.report.started_at)
            self._delivery.resume(self.account)
        # one transaction for the whole input, so that a run that may not deliver leaves nothing behind
        self._connection = place.stack.enter_context(engine.connect())
        self._scope = open_scope(self._connection, place.scope_key, self.account.id)
        if not self._writes:
            run = begin_run(self._connection, self._scope.id, started)
        self.report.run = run
        self.ledger = ContactLedger(self._connection, self._scope.id, uploads=settings.upload_emails, run=run)
        self.ledger.release(self._clock.wall())
        self.labels = Labels(settings.labels)
        self._encoder = LabelEncoder(self.labels)
        keep_labels_current(self.ledger, self._scope, settings, self._encoder)
        self.collector = Collector(self.ledger, self.labels, self._encoder, settings)

    @property
    def _writes(self) -> bool:
        return self.active and not self.settings.dry_run

    def _run(self) -> None:
        report, settings = self.report, self.settings
        report.incomplete = self._read_input()
        plan = self._prepare()
        if not self.active:
            self._require_activation()
        if settings.dry_run:
            report.outcome = RunStatus.DRY_RUN
            self._require_complete("Nothing was written (dry_run)")
            return
        try:
            require_brakes(plan, settings, self._clock.today())
        except BrakeError:
            report.outcome = RunStatus.BRAKED
            raise
        account = accounts.ensure_book_and_fields(settings, self._client, self.account, needed_fields(self.ledger, settings))
        if plan.total:
            Bookmarks(self._connection, self.ledger.scope).withdraw_others(self.account.id, settings.data_field)
        self._connection.commit()
        self._delivery.deliver(account, self.ledger.scope, plan.total, by_id=self._by_id, restored=self._restored)
        self._check_results()
        self._require_complete("What it said was delivered")
        if self._restored is None:
            with self._place.ledger.engine.begin() as connection:
                ledger = ContactLedger(connection, self.ledger.scope, uploads=settings.upload_emails, run=self.ledger.run)
                acknowledge(self._states, self.collector, ledger, self._scope, self._clock.now())

    def _require_complete(self, done: str) -> None:
        if self.report.incomplete:
            self.report.outcome = RunStatus.INCOMPLETE
            msg = (
                f"The input is incomplete: it ended without a STATE behind its last record, so the tap broke off. {done}; the bookmark "
                "stays, and the next run gets the rest. The tap's own message says why."
            )
            raise IncompleteInputError(msg)

    def _read_input(self) -> bool:
        """Put what came in into the ledger, on a base that it knows; return whether the input is incomplete.

        Raises:
            AgreementError: the input builds on something that this ledger cannot vouch for.
        """
        report, collector = self.report, self.collector
        report.intake = collector.finish()
        LOGGER.info("Input: %d records, %d contacts, %d left out", *report.received)
        incomplete = is_incomplete(self._states, collector, self.ledger, self._scope)
        since = require_agreement(self._states, collector, self.ledger, self._scope, incomplete=incomplete)
        if self._restored is None:
            establishes = self._states.begins_at is None and self._states.ends_at is not None and report.intake.read > 0
            self.ledger.forget_shared_ids(by_id=self._by_id)
            read_back(
                self.ledger,
                ContactReader(self._client, self.account),
                self.settings,
                # a new ledger, a whole input and a new base are compared with everything that dotdigital holds
                everything=self._scope.account_contacts is None or bool(collector.whole) or establishes,
                account_contacts=self._scope.account_contacts or 0,
                since=since,
            )
        collector.remove_unmentioned()
        return incomplete

    def _prepare(self) -> Plan:
        report = self.report
        report.unknown = self.ledger.settle_unknown(removed_only=self.settings.upload_emails)
        report.segments = self.ledger.segments()
        report.segments_before = msgspec.json.decode(latest_segments(self._connection, self.ledger.scope) or "{}")
        report.ambiguous_names = ambiguous_names(list(report.segments)[:500], self.settings.labels.delimiter)
        report.plan = plan = make_plan(self.ledger, self._restored)
        report.import_calls = import_calls(plan, self.settings)
        if not self._writes:
            report.held = self.ledger.count(contacts.c.held.is_not(None))
        return plan

    def _require_activation(self) -> None:
        report = self.report
        report.outcome = RunStatus.NOT_ACTIVATED
        text = self._reviewed()
        self._folder.write_text("review.txt", text)
        for line in text.splitlines():
            LOGGER.info("%s", line)
        raise not_activated(report, self.settings, self._folder.path / "review.txt")

    def _reviewed(self) -> str:
        report = self.report
        report.activation_code = activation_code(self.settings, self.account)
        report.programs = accounts.active_programs(self._client)
        report.limits = dict(self._client.limits)
        return review(report, self.settings, self.account, active=self.active)

    def _check_results(self) -> None:
        """Check that what was sent has arrived, and note what is left."""
        report, tally = self.report, self._delivery.tally
        with self._place.ledger.engine.connect() as connection:
            ledger = ContactLedger(connection, self.ledger.scope, uploads=self.settings.upload_emails)
            report.left, report.held, report.still_rejected, should_hold = ledger.counts(
                contacts.c.pending, contacts.c.held.is_not(None), contacts.c.rejection.is_not(None), ~contacts.c.removed
            )
        check_results(report, tally, self.settings, should_hold)
        if report.held or (self.settings.max_contacts_per_run and report.left):
            report.outcome = RunStatus.PARTLY
        else:
            report.outcome = RunStatus.DELIVERED if tally.sent or report.intake.read else RunStatus.NOTHING
        if report.held:
            LOGGER.warning(
                "%d contacts are held since dotdigital's Data Watchdog rejected their import: ask its support, then release them with "
                "the command `release`",
                report.held,
            )

    def _complete_report(self) -> None:
        # what was not committed by now is not to be: no trace of a run that was not allowed to deliver
        self._connection.rollback()
        report = self.report
        if self._writes:
            report.tally = self._delivery.tally
        report.calls = dict(sorted(self._client.calls.items()))
        report.waited = self._clock.waited
        report.finished_at = self._clock.now()
        report.address_book = self.account.book.name if self.account.book else self.settings.address_book
        report.data_field = self.settings.data_field
        if report.outcome in ENDED and self._writes:
            try:
                delivered = report.plan is not None and report.outcome is not RunStatus.FAILED
                self._log.finish_run(report.outcome, msgspec.json.encode(report.segments).decode() if delivered else None)
                self._folder.write_rejected(self._log.rejected(), self.settings)
            except (sa.exc.SQLAlchemyError, OSError) as error:
                report.problems.append(f"The file of rejected contacts could not be written ({type(error).__name__}).")
        self._folder.publish(report)
