"""One run: its input is read, planned, authorised, delivered, settled and reported, in this order."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.dotdigital.creating import ensure_book_and_fields
from target_dotdigital.errors import BrakeError, SettingsError, TargetError
from target_dotdigital.ledger.bookmarks import Bookmarks
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.ledger.contacts.lookup import rejected_contacts
from target_dotdigital.ledger.deliveries import before_images
from target_dotdigital.ledger.scopes import update_scope
from target_dotdigital.reporting.last_rehearsal import rehearsal_line
from target_dotdigital.reporting.report import Report, RunStatus, Traffic
from target_dotdigital.reporting.review import review, review_facts
from target_dotdigital.sync.activation import activation_code
from target_dotdigital.sync.agreement import States, acknowledge
from target_dotdigital.sync.delivery import needed_fields
from target_dotdigital.sync.gates import (
    check_results,
    incomplete_input,
    not_activated,
    nothing_to_review,
    require_brakes,
    require_private,
)
from target_dotdigital.sync.plan import make_plan
from target_dotdigital.sync.reading import read_account
from target_dotdigital.sync.receiving import Received, receive
from target_dotdigital.sync.recording import leave, record_end
from target_dotdigital.sync.settling import require_held, status_of, unsettled

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping

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
    """

    def __init__(self, opened: OpenRun, report: Report, folder: ReportFolder) -> None:
        """Store the parts."""
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

    def fail(self, message: str) -> None:
        """Report that the run ended before its input did."""
        self.report.problems.insert(0, message)
        self._publish()
        self._place.close()

    def restore(self, run: int) -> None:
        """Deliver the labels that a run replaced, to contacts that still have what replaced them.

        Every acknowledged bookmark is withdrawn, because the desired labels no longer match what the source has emitted.

        Raises:
            SettingsError: the run delivered nothing.
            TargetError: the run was not allowed to deliver, or not everything arrived.
        """
        ledger, opened = self._ledger, self._opened
        images = before_images(opened.connection, ledger.scope, run)
        if not images:
            leave(opened, "nothing put back")
            msg = f"Run {run} has delivered nothing to this account and data field: nothing to restore. Check --run."
            raise SettingsError(msg)
        with self._reported():
            self.report.restored = run
            drift = read_account(ledger, ContactReader(self._place.client, self._place.account), self._settings)
            changed = ledger.put_back(images)
            Bookmarks(opened.connection, ledger.scope).withdraw()
            LOGGER.info("Restore: %d of the %d contacts of run %d are still as it left them", changed, len(images), run)
            planned = self._plan(opened.number)
            if self._authorise(planned):
                self._settle(self._deliver(planned, opened.number), drift)

    def review(self) -> str:
        """Return the review of what is pending in the ledger; writes nothing.

        Raises:
            SettingsError: no run has delivered to this ledger scope.
        """
        try:
            if self._opened.scope.account_contacts is None:
                raise nothing_to_review(self._folder.path / "review.txt")
            self._receive(States(), {})
            return self._review(self._plan())
        finally:
            leave(self._opened, "reviewed")

    def _sync(self, states: States, skipped: Mapping[str, str]) -> bool:
        received = self._receive(states, skipped)
        planned = self._plan()
        if not self._authorise(planned):
            self._require_complete(received, "Nothing was written (dry_run)")
            return False
        self._settle(self._deliver(planned), received.drift)
        self._require_complete(received, "What it said was delivered")
        with self._place.ledger.engine.begin() as connection:
            acknowledge(states, self.collector, self._reopened(connection), self._opened.scope, self._place.clock.now())
        return True

    def _receive(self, states: States, skipped: Mapping[str, str]) -> Received:
        """Store the input in the ledger, and add its figures to the report.

        Raises:
            TargetError: the input cannot be applied to this ledger.
        """
        # also if the input is refused, the report says what it was
        self.report.intake = self.collector.intake
        received = receive(self._opened, states, skipped)
        self.report.incomplete = received.incomplete
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

    def _authorise(self, planned: Planned) -> bool:
        """Return whether the plan may be delivered; a dry run may not.

        Raises:
            NotActivatedError: the operator has not activated the sync.
            BrakeError: the plan exceeds a brake.
        """
        report, settings, today = self.report, self._settings, self._place.clock.today()
        if not self._opened.active:
            report.outcome = RunStatus.NOT_ACTIVATED
            path = self._folder.path / "review.txt"
            text = self._review(planned)
            self._folder.write_text(path.name, text)
            for line in text.splitlines():
                LOGGER.info("%s", line)
            raise not_activated(settings, activation_code(settings, self._place.account), path)
        if settings.dry_run:
            report.outcome = RunStatus.DRY_RUN
            return False
        try:
            require_brakes(planned.plan, settings, today)
        except BrakeError:
            report.outcome = RunStatus.BRAKED
            raise
        return True

    def _deliver(self, planned: Planned, restored: int | None = None) -> Account:
        """Send what is pending, wait until every import has ended, and return the account with all that was created in it.

        Args:
            planned: the plan.
            restored: number of this run, if it restores.
        """
        settings, ledger, connection, place = self._settings, self._ledger, self._opened.connection, self._place
        needed, total = needed_fields(ledger, settings), planned.plan.total
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

    def _settle(self, account: Account, drift: Counter[Drift]) -> None:
        """Check that everything sent has arrived, and count what remains.

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
        report.outcome = status_of(opened, remaining, settled=not found)

    def _require_complete(self, received: Received, done: str) -> None:
        if received.incomplete:
            self.report.outcome = RunStatus.INCOMPLETE
            raise incomplete_input(done)

    def _review(self, planned: Planned) -> str:
        settings, account, client = self._settings, self._place.account, self._place.client
        programs, code = accounts.active_programs(client), activation_code(settings, account)
        line = rehearsal_line(self.report.rehearsal)
        self.report.review = facts = review_facts(
            planned, settings, account, code=code, programs=programs, limits=client.limits, rehearsal=line
        )
        return review(self.report, planned, facts, settings, account, active=self._opened.active)

    def _reopened(self, connection: sa.Connection) -> ContactLedger:
        """Return the ledger scope in another transaction, which sees what was delivered."""
        return ContactLedger(connection, self._ledger.scope, uploads=self._settings.upload_emails, run=self._opened.number)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Publish the report however the run ends, and release ledger and lock."""
        try:
            yield
        except TargetError as error:
            self.report.problems.insert(0, str(error))
            raise
        finally:
            try:
                self._publish()
            finally:
                self._place.close()

    def _publish(self) -> None:
        # what is not committed by now must not be: a run that was not allowed to deliver leaves no trace
        self._opened.connection.rollback()
        report, place = self.report, self._place
        report.tally = self._opened.delivery.tally
        report.traffic = Traffic(dict(sorted(place.client.calls.items())), place.clock.waited)
        report.finished_at = place.clock.now()
        if self._opened.writes:
            try:
                record_end(self._opened, report, self._states)
                with place.ledger.engine.connect() as connection:
                    self._folder.write_rejected(self._reopened(connection).rejected(), self._settings)
                    self._folder.write_rejected_table(rejected_contacts(connection, self._ledger.scope), place.clock.wall())
            except (sa.exc.SQLAlchemyError, OSError) as error:
                report.problems.append(f"The file of rejected contacts could not be written ({type(error).__name__}).")
        self._folder.publish(report, self._settings.report_keep)
