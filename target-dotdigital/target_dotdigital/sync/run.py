"""One run: a `with` block that acquires account, ledger and lock, and records how it ends."""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.account import ensure_book_and_fields
from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.errors import AgreementError, LedgerError, ReportError, SettingsError
from target_dotdigital.ledger.contact_queries import rejected_contacts
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.ledger.imports import ImportLog, before_images, count_cleared, delete_old_imports, history_start
from target_dotdigital.ledger.label_changes import changed_contacts, delivered_changes
from target_dotdigital.ledger.runs import Bookmarks, RunFigures, begin_run, delete_old_runs, end_run, update_scope
from target_dotdigital.models import Verdict, fields_of
from target_dotdigital.reporting.folder import MAX_TABLE_ROWS, REVIEW_FILE, ReportFolder, open_folder
from target_dotdigital.reporting.last_rehearsal import rehearsal_line
from target_dotdigital.reporting.report import HEALTHY, Report, RunStatus, Traffic, outcome_of
from target_dotdigital.reporting.review import review, review_facts
from target_dotdigital.settings import InputFilter
from target_dotdigital.sync import agreement
from target_dotdigital.sync.activation import Activation, changed_feeds
from target_dotdigital.sync.agreement import StateSpan
from target_dotdigital.sync.delivery import Delivery, needed_fields
from target_dotdigital.sync.intake import Collector, relabel_if_settings_changed
from target_dotdigital.sync.labels import LabelDecoder, LabelEncoder, Labels
from target_dotdigital.sync.plan import (
    brakes,
    check_results,
    make_plan,
    require_brakes,
    require_held,
    require_private,
    status_of,
    unresolved,
)
from target_dotdigital.sync.readback import read_account, read_back
from target_dotdigital.sync.session import open_session
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    import sqlalchemy as sa

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.ledger.imports import BeforeImages
    from target_dotdigital.ledger.runs import Scope
    from target_dotdigital.models import Planned
    from target_dotdigital.settings import LabelSettings, Settings
    from target_dotdigital.sync.readback import Drift
    from target_dotdigital.sync.session import Session

LOGGER = logging.getLogger("target-dotdigital")
# outcomes after which the counts of the segments are not those of a delivered run
NOT_DELIVERED = frozenset({RunStatus.BRAKED, RunStatus.FAILED})


@contextmanager
def published(
    report: Report, destination: Callable[[], tuple[ReportFolder, int]], explain: Callable[[BaseException], str]
) -> Iterator[None]:
    """Publish the report at the end of the block; if an exception ends it, its message is the first problem.

    Args:
        report: the report.
        destination: returns the report folder, which may not exist yet, and the number of runs to keep in the history.
        explain: returns the line for the operator about an exception.

    Raises:
        ReportError: everything was delivered and acknowledged, but the report could not be written.
    """
    try:
        yield
        folder, keep = destination()
        folder.publish(report, keep)
        _require_written(report)
    except BaseException as error:
        report.finished_at = report.finished_at or report.started_at
        report.outcome = outcome_of(error)
        report.problems.insert(0, explain(error))
        folder, keep = destination()
        with contextlib.suppress(SettingsError):
            open_folder(str(folder.path), folder.zone).publish_failure(report, error, report.problems[0], keep)
        raise


def _require_written(report: Report) -> None:
    if report.unwritten is not None:
        raise ReportError(report.unwritten)


@contextmanager
def open_run(settings: Settings, clock: Clock, report: Report) -> Iterator[Run]:
    """Log in, read the account, open and lock its ledger, and wait for unfinished imports of earlier runs.

    At the end of the block ledger and lock are released. If an exception ends it, the run is recorded as failed before.

    Args:
        settings: the settings.
        clock: injectable clock.
        report: the report, to which each step adds its part.

    Raises:
        TargetError: the run cannot start.
    """
    folder, calls = open_folder(settings.report_dir, settings.zone), Counter[str]()
    with ExitStack() as stack:
        try:
            session = stack.enter_context(open_session(settings, clock, calls))
        finally:
            report.traffic = Traffic(dict(calls), clock.waited)
        report.describe_start(settings, session.account, folder.path)
        activation = Activation(settings, session.account)
        writes, engine = activation.is_active and not settings.dry_run, session.ledger.engine
        # the number of a run that may not write is rolled back with everything else
        with engine.begin() if writes else nullcontext(stack.enter_context(engine.connect())) as first:
            scope = session.open_scope(first)
            report.run = begin_run(first, scope.id, report.started_at.isoformat())
        log = ImportLog(engine, scope.id, report.run, settings.upload_emails, clears=settings.on_removed == "clear")
        connection = stack.enter_context(engine.connect()) if writes else first
        ledger = ContactLedger(connection, scope.id, uploads=settings.upload_emails, run=report.run)
        record = RunRecord(session, ledger, Delivery(session, log, started_at=report.started_at), report, folder, writes=writes)
        try:
            if writes:
                record.delivery.resume(session.account)
            else:
                log.mark_open_unknown(connection)
            yield _prepare(record, scope, activation)
            if report.outcome in HEALTHY:
                record.delete_history()
        except BaseException as error:
            record.add_failure(error)
            raise


def _prepare(record: RunRecord, scope: Scope, activation: Activation) -> Run:
    """Bring the ledger scope up to date with the settings and the clock, and open it for the input."""
    session, ledger = record.session, record.ledger
    settings, connection = session.settings, ledger.connection
    ledger.release_due(session.clock.wall())
    labels = Labels(settings.labels)
    encoder = LabelEncoder(labels)
    relabelled = relabel_if_settings_changed(ledger, scope, settings, encoder)
    keep_excluded_current(ledger, scope, settings)
    widened = agreement.invalidate_on_wider_filter(connection, scope, settings)
    moved = keep_membership_current(ledger, scope, session)
    ledger.open_input()
    return Run(record, scope, activation, Collector(ledger, labels, encoder, settings), Changes(moved, relabelled, widened))


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of a run, in the ledger and in the report.

    Args:
        session: account and ledger.
        ledger: the scope's contacts, within one transaction for input and plan, so that a run that may not deliver leaves no trace.
        delivery: sends contacts.
        report: the report.
        folder: where the files of rejected contacts are written.
        writes: whether the run may write to dotdigital; no other run leaves a trace in the ledger.
    """

    session: Session
    ledger: ContactLedger
    delivery: Delivery
    report: Report
    folder: ReportFolder
    writes: bool

    @contextmanager
    def delivered(self) -> Iterator[ContactLedger]:
        """Open the ledger scope in another transaction, which sees what was delivered, and commit it at the end of the block."""
        with self.session.ledger.engine.begin() as connection:
            yield ContactLedger(connection, self.ledger.scope, uploads=self.session.settings.upload_emails, run=self.report.run)

    def add(self) -> None:
        """Complete the report, and record the end of a run that was allowed to write in the ledger and in the files of rejected contacts.

        Raises:
            LedgerError: the ledger is unavailable.
        """
        report, session = self.report, self.session
        report.tally = self.delivery.tally
        report.traffic = Traffic(dict(sorted(session.client.calls.items())), session.clock.waited)
        report.finished_at = session.clock.now()
        # changes that are not committed by now must not be stored
        self.ledger.connection.rollback()
        if not self.writes:
            return
        with self.delivered() as ledger:
            if report.tally.sent:
                report.cleared = count_cleared(ledger.connection, report.run)
                report.changes = LabelDecoder(session.settings.labels).count(delivered_changes(ledger.connection, report.run))
        # a restored contact differs from the source, so its segments are not counted
        is_counted = report.planned is not None and report.restored is None and report.outcome not in NOT_DELIVERED
        segments = report.planned.segments if report.planned is not None and is_counted else None
        with session.ledger.engine.begin() as connection:
            finished_at = report.finished_at.isoformat()
            end_run(connection, report.run, report.outcome, segments, finished_at=finished_at, figures=_figures(report))
        try:
            with self.delivered() as ledger:
                self.folder.write_rejected(ledger.rejected(), session.settings)
                self.folder.write_rejected_table(rejected_contacts(ledger.connection, ledger.scope), session.clock.wall())
                if report.tally.sent:
                    self.folder.write_changes(report, _changed_rows(ledger.connection, report.run, session.settings.labels))
        except OSError as error:
            report.problems.append(f"The files of rejected and changed contacts could not be written ({type(error).__name__}).")

    def delete_history(self) -> None:
        """Delete what is older than `history_days`: deliveries and runs in the ledger, and reports of single runs.

        A failure is logged, because the run has delivered everything, and the next one deletes the same.
        """
        session, days = self.session, self.session.settings.history_days
        if not days:
            return
        before = session.clock.now() - datetime.timedelta(days=days)
        try:
            images = delete_old_imports(session.ledger.engine, session.account.id, before.timestamp())
            with session.ledger.engine.begin() as connection:
                runs = delete_old_runs(connection, session.account.id, before.isoformat())
            if images:
                session.ledger.give_back_space()
            self.folder.remove_before(before)
        except (LedgerError, OSError) as error:
            LOGGER.warning("What is older than history_days could not be deleted; the next run tries again. %s", error)
            return
        if images or runs:
            LOGGER.info("History: %d deliveries and %d runs older than %d days deleted", images, runs, days)

    def add_failure(self, error: BaseException) -> None:
        """Record that an exception ended the run, even if it was recorded otherwise before."""
        self.report.outcome = outcome_of(error)
        try:
            self.add()
        except Exception as other:  # noqa: BLE001 - a second failure must not hide the cause
            self.report.problems.append(f"The end of the run could not be recorded in the ledger ({type(other).__name__}).")


def _changed_rows(
    connection: sa.Connection, run: int, labels: LabelSettings
) -> Iterator[tuple[str, frozenset[str], frozenset[str]]]:
    """Yield the contacts that joined or left a segment in a run: address, segments joined, segments left."""
    decoder = LabelDecoder(labels)
    for email, before, after in changed_contacts(connection, run, MAX_TABLE_ROWS):
        joined, left = decoder.joined_and_left(before, after)
        if joined or left:
            yield email, joined, left


def _figures(report: Report) -> RunFigures:
    tally, verdicts = report.tally, report.tally.verdicts
    return RunFigures(
        read=report.intake.read,
        sent=tally.sent,
        created=verdicts[Verdict.CREATED],
        updated=verdicts[Verdict.UPDATED],
        cleared=report.cleared,
        rejected=verdicts[Verdict.REJECTED],
        unconfirmed=tally.unconfirmed,
        bookmarks=report.bookmarks,
        # a restore that a brake stopped has put nothing back
        restored_run=report.restored if tally.sent else None,
    )


@dataclass(frozen=True, slots=True)
class Received:
    """The input of a run, as the ledger has it.

    Args:
        truncated: how the messages show that the input was truncated, as a clause; None if they do not show it.
        missing: streams of which the ledger has contacts and that the input does not announce.
        drift: contacts that dotdigital did not hold as the ledger expected, as far as they were read back.
        may_lack: whether contacts that earlier runs left out may be missing, although the settings use them now.
    """

    truncated: str | None
    missing: frozenset[str]
    drift: Counter[Drift]
    may_lack: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since the last run.

    Args:
        moved: whether the address book changed, so that membership has to be read back.
        relabelled: whether the label settings or upload_emails changed.
        widened: whether the settings use records that the last run left out.
    """

    moved: bool
    relabelled: bool
    widened: bool


class Run:
    """A run against one account.

    Args:
        record: the record of the run.
        scope: facts about the ledger scope from before the run.
        activation: what the operator has approved.
        collector: takes the input.
        changes: what changed since the last run.
    """

    def __init__(self, record: RunRecord, scope: Scope, activation: Activation, collector: Collector, changes: Changes) -> None:
        self.collector = collector
        self.report = record.report
        self._record = record
        self._session = record.session
        self._settings = record.session.settings
        self._ledger = record.ledger
        self._delivery = record.delivery
        self._scope = scope
        self._activation = activation
        self._changes = changes

    def finish(self, states: StateSpan, skipped: Mapping[str, str]) -> bool:
        """Deliver the collected input, and record the end of the run.

        Args:
            states: the first and the last STATE of the input.
            skipped: streams of the input without contacts, and the reason for each.

        Returns:
            Whether STATE may be emitted.

        Raises:
            TargetError: the run was not allowed to deliver, or not everything arrived.
        """
        received = self._receive(states, skipped)
        planned = self._plan()
        acknowledged = self._authorise(planned, received)
        if not acknowledged:
            agreement.require_complete(received.truncated, "Nothing was written (dry_run)")
        else:
            outcome = self._verify(self._deliver(planned), received.drift, may_lack=received.may_lack)
            agreement.require_complete(received.truncated, "What it said was delivered")
            with self._record.delivered() as ledger:
                agreement.acknowledge(states, self.collector, ledger, self._scope, self._session.clock.now())
            self.report.outcome = outcome
        self._record.add()
        return acknowledged

    def images_of(self, run: int) -> BeforeImages:
        """Return the labels that a run replaced.

        Raises:
            SettingsError: the run delivered nothing, or replaced labels in a data field that the settings do not write.
        """
        images = before_images(self._ledger.connection, self._ledger.scope, run)
        if not images:
            start = history_start(self._ledger.connection, self._ledger.scope)
            since = None if start is None else datetime.datetime.fromtimestamp(start, datetime.UTC).date()
            kept = f" Deliveries are kept since {since} (history_days)." if since else ""
            msg = f"The ledger has no delivery of run {run} to this account and data field: nothing to restore. Check --run.{kept}"
            raise SettingsError(msg)
        if unknown := fields_of(before for before, _ in images.values()) - {self._settings.data_field}:
            msg = (
                f"Run {run} replaced labels in {', '.join(sorted(unknown))}, which the settings do not write today, so nothing was put "
                "back. Set data_field as it was then, and try again."
            )
            raise SettingsError(msg)
        return images

    def restore(self, run: int, images: BeforeImages) -> None:
        """Deliver the labels that a run replaced, to contacts that still have the replacing labels.

        Every acknowledged bookmark is withdrawn, because the desired labels no longer match what the source has emitted.

        Args:
            run: number of the run.
            images: the labels that it replaced.

        Raises:
            TargetError: the run was not allowed to deliver, or not everything arrived.
        """
        ledger, report = self._ledger, self.report
        report.restored = run
        drift = read_account(ledger, self._reader(), self._settings)
        changed = ledger.restore_labels(images)
        Bookmarks(ledger.connection, ledger.scope).withdraw()
        LOGGER.info("Restore: %d of the %d contacts of run %d are still as it left them", changed, len(images), run)
        planned = self._plan(report.run)
        if self._authorise(planned, None):
            report.outcome = self._verify(self._deliver(planned, report.run), drift)
        self._record.add()

    def review(self) -> str:
        """Return the review of what is pending in the ledger.

        Raises:
            SettingsError: no run has delivered to this ledger scope.
        """
        if self._scope.account_contacts is None:
            msg = (
                "There is nothing to review yet: no run has delivered to this account and data field. Run the sync "
                f"once: it writes nothing and ends with the review ({self._record.folder.path / REVIEW_FILE})."
            )
            raise SettingsError(msg)
        self._receive(StateSpan(), {})
        return self._review(self._plan(), self._scope.feeds)

    def _receive(self, states: StateSpan, skipped: Mapping[str, str]) -> Received:
        """Store the input in the ledger, and read back what dotdigital holds.

        Raises:
            AgreementError: the input starts from a bookmark that the ledger has not acknowledged.
            StreamError: a skipped stream had contacts before, most records are invalid, or removed contacts cannot be recognised any more.
        """
        collector, ledger, scope, report = self.collector, self._ledger, self._scope, self.report
        agreement.require_no_skipped_contacts(ledger, skipped)
        # set first, so that the report shows the input even if it is refused
        report.intake = stats = collector.intake
        report.bookmarks = agreement.bookmark_values(states.end, collector.streams)
        collector.finish()
        LOGGER.info("Input: %d records, %d contacts, %d left out", stats.read, stats.distinct, stats.left_out)
        agreement.require_readable(stats)
        agreement.require_marks(collector, scope)
        missing = agreement.missing_feeds(collector, ledger, scope)
        truncated = agreement.truncation(states, collector, ledger, scope, has_skipped=bool(skipped))
        if truncated is None and missing and collector.is_full:
            truncated = self._lack_of(min(missing))
        report.incomplete = truncated is not None
        update_scope(ledger.connection, ledger.scope, truncated=states.begins_at if truncated else None)
        since = agreement.require_agreement(states, collector, ledger, scope, truncated=truncated is not None)
        everything = self._needs_read_back(states, since, truncated=truncated is not None)
        if not everything:
            self._delivery.verify_previous_run(ledger)
        ledger.forget_shared_ids()
        found = read_back(ledger, self._reader(), self._settings, everything=everything, scope=scope, since=since)
        report.checked = found.checked
        if not self._record.writes:
            self._delivery.mark_open(ledger.connection)
        if truncated is None:
            collector.remove_unmentioned()
        # a source that sends its starting STATE has shown that it started from nothing
        may_lack = self._changes.widened and states.begin is None and not collector.is_full
        return Received(truncated, frozenset(missing), found.drift, may_lack)

    def _needs_read_back(self, states: StateSpan, since: int | None, *, truncated: bool) -> bool:
        """Return whether every contact has to be compared with what dotdigital holds.

        Args:
            states: the first and the last STATE of the input.
            since: run that acknowledged the bookmark that the input starts from.
            truncated: whether the input was truncated.

        Raises:
            AgreementError: a comparison is needed, and the ledger may lack contacts of the source.
        """
        ledger, scope, collector = self._ledger, self._scope, self.collector
        establishes = states.begins_at is None and states.ends_at is not None and collector.intake.read > 0
        compared = self._has_new_destination()
        if scope.forgotten:
            if since is not None and (compared or self._changes.relabelled):
                msg = (
                    "An address was forgotten (command forget) while the source still had it, so the ledger may lack a contact of the "
                    "source. Now the label settings, upload_emails, the address book or the data field are others than in the last run, "
                    "and such a contact would not get what the others get, so nothing was written and the bookmark stays. Run once with "
                    "--full-refresh."
                )
                raise AgreementError(msg)
            if not truncated and (collector.is_full or establishes):
                update_scope(ledger.connection, scope.id, forgotten=False)
        if self._delivery.may_apply_late(ledger.connection):
            LOGGER.info(
                "dotdigital may have applied an import late whose response was lost: every contact is compared with what it holds"
            )
            return True
        # a new ledger, a complete input and a new base are compared with everything that dotdigital holds
        return scope.account_contacts is None or bool(collector.full_streams) or establishes or compared

    def _has_new_destination(self) -> bool:
        """Return whether the address book changed or the data field is missing, so that labels or members of the last run may be lost."""
        account, settings = self._session.account, self._settings
        lost = settings.data_field not in account.fields
        if lost and self._scope.account_contacts is not None:
            LOGGER.warning(
                "The data field was deleted in dotdigital since the last run: every contact is compared with what it holds."
            )
        elif self._changes.moved:
            LOGGER.info(
                "The address book is another one than that of the last run: every contact is compared with what dotdigital holds"
            )
        return lost or self._changes.moved

    def _lack_of(self, stream: str) -> str | None:
        """Return the missing stream as a clause; None if the operator has approved that a full input replaces all streams."""
        activation, streams = self._activation, self.collector.streams
        if not activation.covers(streams | self._scope.feeds.keys()):
            return None
        return (
            f"it has every contact of its streams, but no stream {shown(stream)!r}, of which the ledger has contacts. Either the tap "
            "broke off, or the stream was left out on purpose: to clear the labels of its contacts, set activation_code to "
            f"{activation.code(streams)}"
        )

    def _plan(self, restored: int | None = None) -> Planned:
        """Plan, and add the plan to the report.

        Args:
            restored: number of this run, if it restores.
        """
        self.report.planned = planned = make_plan(self._ledger, self._settings, restored)
        if not self._record.writes:
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
        self._record.folder.remove_review()
        if not self._activation.is_active or (received is not None and not self._keep_feeds(received)):
            self._require_activation(planned, received)
        today = self._session.clock.today()
        if self._settings.dry_run:
            self.report.outcome = RunStatus.DRY_RUN
            if stops := brakes(planned.plan, self._settings, today):
                self.report.problems.append(f"Without dry_run, the brakes would stop this run: {'; '.join(stops)}.")
            return False
        require_brakes(planned.plan, self._settings, today)
        return True

    def _keep_feeds(self, received: Received) -> bool:
        """Store which streams feed the data field, and return whether the operator has approved them."""
        truncated = received.truncated is not None
        feeds = self._activation.feeds(self.collector, self._scope, truncated=truncated)
        if feeds is None:
            return False
        agreement.keep_feeds(self.collector, self._ledger.connection, self._scope, feeds, truncated=truncated)
        return True

    def _require_activation(self, planned: Planned, received: Received | None) -> None:
        """Write the review, and stop.

        Raises:
            NotActivatedError: always.
        """
        collector, before = self.collector, self._scope.feeds.keys()
        streams: AbstractSet[str] = collector.streams if collector.is_full else collector.streams | before
        missing = received.missing if received is not None and collector.is_full else frozenset[str]()
        feeds, folder = changed_feeds(streams, before, missing), self._record.folder
        text = self._review(planned, streams, feeds)
        folder.write_text(REVIEW_FILE, text)
        for line in text.splitlines():
            LOGGER.info("%s", line)
        raise self._activation.review_needed(folder.path / REVIEW_FILE, streams, feeds)

    def _review(self, planned: Planned, streams: Iterable[str], feeds: str = "") -> str:
        settings, account, client, activation = self._settings, self._session.account, self._session.client, self._activation
        self.report.review = facts = review_facts(
            planned,
            settings,
            account,
            code=activation.code(streams),
            programs=accounts.active_programs(client),
            limits=client.limits,
            rehearsal=rehearsal_line(self.report.rehearsal),
        )
        active = activation.covers(streams)
        return review(self.report, planned, facts, settings, account, active=active, streams=streams, feeds=feeds)

    def _deliver(self, planned: Planned, restored: int | None = None) -> Account:
        """Send what is pending, wait until every import has ended, and return the account, including newly created address book and fields.

        Args:
            planned: the plan.
            restored: number of this run, if it restores.
        """
        settings, ledger, session = self._settings, self._ledger, self._session
        needed = needed_fields(settings)
        # commit before creating anything: after a crash, the next run would mistake the new, empty data field for the one it filled
        ledger.connection.commit()
        account = ensure_book_and_fields(settings, session.client, session.account, needed)
        require_private(account)
        if account.book is not None and session.account.book is None:
            # new to the ledger, so none of its contacts counts as a member that the ledger expects
            with self._record.delivered() as stored:
                facts = {"address_book_id": account.book.id, "address_book_offset": account.book.contacts}
                update_scope(stored.connection, ledger.scope, **facts)
        self._delivery.deliver(account, ledger.scope, planned.plan.total, restored)
        return account

    def _verify(self, account: Account, drift: Counter[Drift], *, may_lack: bool = False) -> RunStatus:
        """Check that everything sent has arrived, count what remains, and return how the run ends if nothing else fails.

        Args:
            account: the account, whose address book and data fields exist.
            drift: differences that the read-back found.
            may_lack: whether contacts that earlier runs left out may be missing.

        Raises:
            DeliveryError: something has not arrived, or there are too many new rejections.
        """
        report, tally = self.report, self._delivery.tally
        with self._record.delivered() as ledger:
            report.remaining = remaining = ledger.remaining()
            report.problems += tally.problems
            check_results(tally, report.intake.invalid, self._settings, ledger.count_in_source)
        require_held(self._delivery, account, self._scope.id, self._settings)
        report.problems += (found := unresolved(drift, tally, may_lack=may_lack))
        return status_of(
            remaining, tally, report.intake, is_limited=self._settings.max_contacts_per_run > 0, has_problems=bool(found)
        )

    def _reader(self) -> ContactReader:
        return ContactReader(self._session.client, self._session.account)


def keep_excluded_current(ledger: ContactLedger, scope: Scope, settings: Settings) -> None:
    """Mark the contacts that are excluded, if the patterns changed, so that newly excluded contacts are not sent, and the others are."""
    before = () if scope.input_filter is None else msgspec.json.decode(scope.input_filter, type=InputFilter).exclude_emails
    if set(before) != set(settings.exclude_emails):
        ledger.mark_excluded(settings.is_excluded)


def keep_membership_current(ledger: ContactLedger, scope: Scope, session: Session) -> bool:
    """Clear the membership if the address book changed since the last run, and return whether it did.

    Call this in the transaction that reads the new members: a killed run must not leave members of one address book recorded as members
    of another.
    """
    book = session.account.book.id if session.account.book else None
    # an address book that is still to be created has no members, so a missing one counts as changed
    if book == scope.address_book_id and (book is not None or not session.settings.has_address_book):
        return False
    update_scope(ledger.connection, scope.id, address_book_id=book, address_book_offset=None)
    if not session.settings.has_address_book:
        # no contact has to be in an address book
        return False
    ledger.forget_membership()
    ledger.recompute_pending()
    return scope.account_contacts is not None
