"""One run: its input is read, planned, authorised, delivered, settled and reported, in this order."""

from __future__ import annotations

import datetime
import logging
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.dotdigital.creating import ensure_book_and_fields
from target_dotdigital.errors import ReportError, SettingsError
from target_dotdigital.ledger.contact_queries import rejected_contacts
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.ledger.imports import before_images, history_start
from target_dotdigital.ledger.runs import Bookmarks, update_scope
from target_dotdigital.payloads import fields_of
from target_dotdigital.reporting.folder import REVIEW_FILE
from target_dotdigital.reporting.history import SETTLED
from target_dotdigital.reporting.last_rehearsal import rehearsal_line
from target_dotdigital.reporting.report import Report, RunStatus, Traffic, outcome_of
from target_dotdigital.reporting.review import review, review_facts
from target_dotdigital.sync.activation import activation_code, covers
from target_dotdigital.sync.agreement import States, acknowledge, keep_feeds
from target_dotdigital.sync.delivery import needed_fields
from target_dotdigital.sync.gates import (
    cannot_restore,
    check_results,
    feeds_of,
    incomplete_input,
    not_activated,
    nothing_to_review,
    require_brakes,
    require_private,
)
from target_dotdigital.sync.plan import make_plan
from target_dotdigital.sync.reading import read_account
from target_dotdigital.sync.receiving import Received, receive
from target_dotdigital.sync.recording import delete_history, leave, record_end
from target_dotdigital.sync.settling import require_held, status_of, unsettled

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import sqlalchemy as sa

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.reporting.folder import ReportFolder
    from target_dotdigital.stats import Planned
    from target_dotdigital.sync.intake import Collector
    from target_dotdigital.sync.opening import OpenRun
    from target_dotdigital.sync.reading import Drift

LOGGER = logging.getLogger("target-dotdigital")


class SyncRun:
    """A run against one account.

    Args:
        opened: account, ledger, collector and delivery.
        report: the report, to which each step adds its part.
        folder: where the report is written.
        explain: returns the line for the operator about an exception.
    """

    def __init__(self, opened: OpenRun, report: Report, folder: ReportFolder, explain: Callable[[BaseException], str]) -> None:
        """Store the parts."""
        self._explain = explain
        self._failure: BaseException | None = None
        self.report = report
        self._opened = opened
        self._place = opened.place
        self._settings = opened.place.settings
        self._ledger = opened.ledger
        self._folder = folder
        self._states = States()

    @property
    def collector(self) -> Collector:
        """Takes the input."""
        return self._opened.collector

    def finish(self, states: States, skipped: Mapping[str, str]) -> bool:
        """Deliver the collected input, and report.

        Args:
            states: what the STATE messages of the input say.
            skipped: streams of the input without contacts, and what they lack.

        Returns:
            Whether STATE may be emitted.

        Raises:
            TargetError: the run was not allowed to deliver, or not everything arrived.
        """
        self._states = states
        with self._reported():
            return self._sync(states, skipped)

    def fail(self, error: BaseException) -> None:
        """Report that the run has failed, even if it was reported otherwise before, and release ledger and lock.

        Args:
            error: the exception that ended the run; it is reported once.
        """
        if error is self._failure:
            return
        self._failure = error
        message = self._explain(error)
        self.report.outcome = outcome_of(error)
        self.report.problems.insert(0, message)
        try:
            # a run that has delivered everything stays so in the ledger if only its report cannot be written
            if not isinstance(error, ReportError):
                self._record()
        except Exception as other:  # noqa: BLE001 - nothing may hide the cause
            self.report.problems.append(f"The end of the run could not be recorded in the ledger ({type(other).__name__}).")
        try:
            self._folder.publish_failure(self.report, error, message, self._settings.report_keep)
        except Exception as other:  # noqa: BLE001 - nothing may hide the cause
            LOGGER.warning("The report could not be written (%s)", type(other).__name__)
        finally:
            self._place.close()

    def restore(self, run: int) -> None:
        """Deliver the labels that a run replaced, to contacts that still have what replaced them.

        Every acknowledged bookmark is withdrawn, because the desired labels no longer match what the source has emitted.

        Raises:
            SettingsError: the run delivered nothing, or replaced labels in a data field that the settings do not write.
            TargetError: the run was not allowed to deliver, or not everything arrived.
        """
        ledger, opened = self._ledger, self._opened
        images = before_images(opened.connection, ledger.scope, run)
        if not images:
            start = history_start(opened.connection, ledger.scope)
            since = None if start is None else datetime.datetime.fromtimestamp(start, datetime.UTC).date()
            kept = f" Deliveries are kept since {since} (history_days)." if since else ""
            leave(opened, "nothing put back")
            msg = f"Run {run} has delivered nothing to this account and data field: nothing to restore. Check --run.{kept}"
            raise SettingsError(msg)
        unknown = fields_of(before for before, _ in images.values()) - {self._settings.data_field, *self._place.account.fields}
        if unknown:
            leave(opened, "nothing put back")
            raise cannot_restore(run, unknown)
        with self._reported():
            self.report.restored = run
            drift = read_account(ledger, ContactReader(self._place.client, self._place.account), self._settings)
            changed = ledger.restore_labels(images)
            Bookmarks(opened.connection, ledger.scope).withdraw()
            LOGGER.info("Restore: %d of the %d contacts of run %d are still as it left them", changed, len(images), run)
            planned = self._plan(opened.number)
            if self._authorise(planned, None):
                self.report.outcome = self._settle(self._deliver(planned, opened.number), drift)

    def review(self) -> str:
        """Return the review of what is pending in the ledger; writes nothing.

        Raises:
            SettingsError: no run has delivered to this ledger scope.
        """
        try:
            if self._opened.scope.account_contacts is None:
                raise nothing_to_review(self._folder.path / REVIEW_FILE)
            self._receive(States(), {})
            return self._review(self._plan(), self._opened.scope.feeds)
        finally:
            leave(self._opened, "reviewed")

    def _sync(self, states: States, skipped: Mapping[str, str]) -> bool:
        received = self._receive(states, skipped)
        planned = self._plan()
        if not self._authorise(planned, received):
            self._require_complete(received, "Nothing was written (dry_run)")
            return False
        outcome = self._settle(self._deliver(planned), received.drift)
        self._require_complete(received, "What it said was delivered")
        with self._place.ledger.engine.begin() as connection:
            acknowledge(states, self.collector, self._reopened(connection), self._opened.scope, self._place.clock.now())
        self.report.outcome = outcome
        return True

    def _receive(self, states: States, skipped: Mapping[str, str]) -> Received:
        """Store the input in the ledger, and add its figures to the report.

        Raises:
            TargetError: the input cannot be applied to this ledger.
        """
        # also if the input is refused, the report says what it was
        self.report.intake = self.collector.intake
        received = receive(self._opened, states, skipped)
        self.report.incomplete = received.truncated is not None
        self.report.checked = received.checked
        return received

    def _plan(self, restored: int | None = None) -> Planned:
        """Plan, and add the plan to the report.

        Args:
            restored: number of this run, if it restores.
        """
        self.report.planned = planned = make_plan(self._opened, restored)
        if not self._opened.writes:
            self.report.remaining = replace(self._ledger.remaining(), pending=0)
        return planned

    def _authorise(self, planned: Planned, received: Received | None) -> bool:
        """Return whether the plan may be delivered; a dry run may not.

        Args:
            planned: the plan.
            received: the input; None for a run without one, which no other stream can feed.

        Raises:
            NotActivatedError: the operator has not activated the sync for these settings and streams.
            BrakeError: the plan exceeds a brake.
        """
        settings, opened = self._settings, self._opened
        self._folder.remove_review()
        if not opened.active or (received is not None and not self._covers(received)):
            before = opened.scope.feeds.keys()
            streams = self.collector.streams if self.collector.is_whole else self.collector.streams | before
            missing = received.missing if received is not None and self.collector.is_whole else frozenset[str]()
            feeds, path = feeds_of(streams, before, missing), self._folder.path / REVIEW_FILE
            text = self._review(planned, streams, feeds)
            self._folder.write_text(path.name, text)
            for line in text.splitlines():
                LOGGER.info("%s", line)
            raise not_activated(settings, activation_code(settings, self._place.account, streams), path, feeds)
        if settings.dry_run:
            self.report.outcome = RunStatus.DRY_RUN
            return False
        require_brakes(planned.plan, settings, self._place.clock.today())
        return True

    def _covers(self, received: Received) -> bool:
        """Return whether the activation code covers the streams of the input; if so, they are stored as what feeds the data field."""
        settings, account, opened, streams = self._settings, self._place.account, self._opened, self.collector.streams
        together = streams | opened.scope.feeds.keys()
        alone = covers(settings, account, streams)
        if streams and not alone and not covers(settings, account, together):
            return False
        truncated = received.truncated is not None
        replaces = alone and self.collector.is_whole and not truncated
        keep_feeds(self.collector, opened.connection, opened.scope, streams if replaces else together, truncated=truncated)
        return True

    def _deliver(self, planned: Planned, restored: int | None = None) -> Account:
        """Send what is pending, wait until every import has ended, and return the account with all that was created in it.

        Args:
            planned: the plan.
            restored: number of this run, if it restores.
        """
        settings, ledger, connection, place = self._settings, self._ledger, self._opened.connection, self._place
        needed, total = needed_fields(settings), planned.plan.total
        # before anything is created: a run that is killed then must not take a new, empty data field for the one that was filled
        connection.commit()
        account = ensure_book_and_fields(settings, place.client, place.account, needed)
        require_private(account)
        if account.book is not None and place.account.book is None:
            # none of its contacts is one that the ledger has put there
            with place.ledger.engine.begin() as stored:
                facts = {"address_book_id": account.book.id, "address_book_offset": account.book.contacts}
                update_scope(stored, ledger.scope, **facts)
        self._opened.delivery.deliver(account, ledger.scope, total, restored)
        return account

    def _settle(self, account: Account, drift: Counter[Drift]) -> RunStatus:
        """Check that everything sent has arrived, count what remains, and return how the run ends if nothing else fails.

        Args:
            account: the account, whose address book and data fields exist.
            drift: what the reading of the account found.

        Raises:
            DeliveryError: something has not arrived, or too much is newly rejected.
        """
        report, opened = self.report, self._opened
        with self._place.ledger.engine.connect() as connection:
            ledger = self._reopened(connection)
            report.remaining = remaining = ledger.remaining()
            report.problems += opened.delivery.tally.problems
            check_results(opened.delivery.tally, report.intake.invalid, self._settings, ledger.count_in_source)
        require_held(opened, account)
        report.problems += (found := unsettled(opened, drift))
        return status_of(opened, remaining, settled=not found)

    def _require_complete(self, received: Received, done: str) -> None:
        if received.truncated is not None:
            raise incomplete_input(received.truncated, done)

    def _review(self, planned: Planned, streams: Iterable[str], feeds: str = "") -> str:
        settings, account, client = self._settings, self._place.account, self._place.client
        programs, code = accounts.active_programs(client), activation_code(settings, account, streams)
        line = rehearsal_line(self.report.rehearsal)
        self.report.review = facts = review_facts(
            planned, settings, account, code=code, programs=programs, limits=client.limits, rehearsal=line
        )
        active = covers(settings, account, streams)
        return review(self.report, planned, facts, settings, account, active=active, streams=streams, feeds=feeds)

    def _reopened(self, connection: sa.Connection) -> ContactLedger:
        """Return the ledger scope in another transaction, which sees what was delivered."""
        return ContactLedger(connection, self._ledger.scope, uploads=self._settings.upload_emails, run=self._opened.number)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Record and publish the end of the run, whatever it is, and release ledger and lock."""
        try:
            yield
            self._record()
            self._folder.publish(self.report, self._settings.report_keep)
            if self.report.outcome in SETTLED:
                delete_history(self._opened, self._folder)
        except BaseException as error:
            self.fail(error)
            raise
        self._place.close()

    def _record(self) -> None:
        """Complete the report, and record the end of a run that was allowed to write in the ledger and in the rejected files.

        Raises:
            LedgerError: the ledger is unavailable.
        """
        # what is not committed by now must not be: a run that was not allowed to deliver leaves no trace
        report, place = self.report, self._place
        report.tally = self._opened.delivery.tally
        report.traffic = Traffic(dict(sorted(place.client.calls.items())), place.clock.waited)
        report.finished_at = place.clock.now()
        self._opened.connection.rollback()
        if not self._opened.writes:
            return
        record_end(self._opened, report, self._states)
        try:
            with place.ledger.engine.connect() as connection:
                self._folder.write_rejected(self._reopened(connection).rejected(), self._settings)
                self._folder.write_rejected_table(rejected_contacts(connection, self._ledger.scope), place.clock.wall())
        except OSError as error:
            report.problems.append(f"The file of rejected contacts could not be written ({type(error).__name__}).")
