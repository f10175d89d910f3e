"""One run, from logging in to the report: the stations of the data flow, in their order."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.contacts import PAGE, ContactReader
from target_dotdigital.errors import (
    AgreementError,
    BrakeError,
    DeliveryError,
    IncompleteInputError,
    NotActivatedError,
    SettingsError,
    TargetError,
)
from target_dotdigital.ledger.bookmarks import Bookmarks, digest_of
from target_dotdigital.ledger.contacts import ContactLedger, open_scope
from target_dotdigital.ledger.imports import ImportLog
from target_dotdigital.ledger.runs import begin_run, latest_segments
from target_dotdigital.ledger.tables import contacts
from target_dotdigital.reporting.report import ENDED, Outcome, Report
from target_dotdigital.reporting.review import review
from target_dotdigital.sync.delivery import Delivery, needed_fields
from target_dotdigital.sync.intake import Collector
from target_dotdigital.sync.labels import LabelEncoder, Labels, ambiguous_names
from target_dotdigital.sync.locked_account import LockedAccount
from target_dotdigital.sync.plan import activation_code, brakes, import_calls, is_active, make_plan
from target_dotdigital.sync.reading import AccountReading

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.reporting.folder import ReportFolder
    from target_dotdigital.settings import Settings
    from target_dotdigital.stats import Plan

LOGGER = logging.getLogger("target-dotdigital")
# fewer rejections than this are no sign of something wrong
MIN_REJECTED = 10
SHOWN_CODES = 5


@dataclass(frozen=True, slots=True)
class States:
    """What the STATE messages of an input say.

    Args:
        begin: the STATE with which the input begins; None if it begins with another message.
        end: the last STATE; None if there is none.
    """

    begin: Any = None
    end: Any = None

    @property
    def begins_at(self) -> str | None:
        """The digest of the bookmark that the input starts from; None if it starts from nothing."""
        return digest_of(self.begin)

    @property
    def ends_at(self) -> str | None:
        """The digest of the bookmark that the input leads to."""
        return digest_of(self.end)


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
        # whether rows are matched by contact id wherever one is known, so that nobody is created
        self._by_id = not settings.upload_emails
        # a restoring run, which sends what it puts back and nothing else
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
            self.acknowledged = self.report.outcome in ENDED - {Outcome.FAILED, Outcome.INCOMPLETE}
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

        What the source has emitted no longer stands for what is desired then: every acknowledged bookmark is withdrawn, and the
        next input has to be a whole one.

        Raises:
            SettingsError: there is no such run.
        """
        images = ImportLog(self._place.ledger.engine, self.ledger.scope, run).before_images(run)
        if not images:
            msg = f"Run {run} has delivered nothing to this account, address book and data field: nothing can be put back."
            raise SettingsError(msg)
        self._by_id = True
        self._restored = self.ledger.run
        self._read_account()
        changed = self.ledger.put_back(images)
        Bookmarks(self._connection, self.ledger.scope).withdraw()
        self.report.restored = run
        LOGGER.info("Restore: run %d delivered to %d contacts, of which %d are as it left them", run, len(images), changed)

    def review(self) -> str:
        """Return the review of what waits in the ledger; writes nothing.

        Raises:
            SettingsError: the ledger has not been written to yet.
        """
        try:
            if self._scope.account_contacts is None:
                msg = (
                    "There is nothing to review yet: no run has delivered to this account, address book and data field. Run the sync "
                    f"once: it writes nothing and ends with the review ({self._folder.path / 'review.txt'})."
                )
                raise SettingsError(msg)
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
        # One transaction for all that comes in: a run that may not deliver leaves nothing behind.
        self._connection = place.stack.enter_context(engine.connect())
        self._scope = open_scope(self._connection, place.scope_key, self.account.id)
        if not self._writes:
            run = begin_run(self._connection, self._scope.id, started)
        self.report.run = run
        self.ledger = ContactLedger(self._connection, self._scope.id, uploads=settings.upload_emails, run=run)
        self.ledger.release(self._clock.wall())
        self.labels = Labels(settings.labels)
        self._encoder = LabelEncoder(self.labels)
        self._keep_labels_current()
        self.collector = Collector(self.ledger, self.labels, self._encoder, settings)

    @property
    def _writes(self) -> bool:
        return self.active and not self.settings.dry_run

    def _keep_labels_current(self) -> None:
        """Make all desired values anew where the settings turn names into other labels than before."""
        now = msgspec.json.encode(asdict(self.settings.labels), order="sorted").decode()
        if self._scope.labels not in {None, now}:
            LOGGER.info("Ledger: the label settings changed; every contact's labels are made anew")
            self.ledger.relabel(self._encoder.payload_of)
        self.ledger.update_scope(labels=now)

    def _run(self) -> None:
        report, settings = self.report, self.settings
        report.incomplete = self._read_input()
        plan = self._prepare()
        if not self.active:
            self._ask()
        if settings.dry_run:
            report.outcome = Outcome.DRY_RUN
            self._require_complete("Nothing was written (dry_run)")
            return
        if stops := brakes(plan, settings, self._clock.today()):
            report.outcome = Outcome.BRAKED
            msg = (
                f"The brakes stopped the run before anything was written: {'; '.join(stops)}. The bookmark stays. Look at the "
                f"report; if this is meant, set brake_override_date to {self._clock.today().isoformat()} for today's run."
            )
            raise BrakeError(msg)
        account = accounts.ensure_book_and_fields(settings, self._client, self.account, needed_fields(self.ledger, settings))
        if plan.total:
            Bookmarks(self._connection, self.ledger.scope).withdraw_others(self.account.id, settings.data_field)
        self._connection.commit()
        self._delivery.deliver(account, self.ledger.scope, plan.total, by_id=self._by_id, restored=self._restored)
        self._check_results()
        self._require_complete("What it said was delivered")
        self._acknowledge()

    def _require_complete(self, done: str) -> None:
        if self.report.incomplete:
            self.report.outcome = Outcome.INCOMPLETE
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
        incomplete = self._is_incomplete()
        self._read_back(self._agree(incomplete=incomplete))
        collector.remove_unmentioned()
        return incomplete

    def _is_incomplete(self) -> bool:
        """Say whether the tap broke off, as far as that can be told from what it said.

        A source that never sends STATE, or one whose STATE holds no bookmark, cannot say where it ends. An SDK tap does not repeat
        a STATE that has not changed, so records behind the last one count only if they changed something.
        """
        collector, after = self.collector, self.collector.after_state
        if self._states.end is None:
            known = set(msgspec.json.decode(self._scope.streams or "[]"))
            return bool(after & known) or collector.unactivated
        return bool(after) and self._states.ends_at is not None and bool(after & self.ledger.changed_streams())

    def _agree(self, *, incomplete: bool) -> int | None:
        """Require that the ledger knows what the input builds on.

        Returns:
            The run that acknowledged the bookmark that the input starts from; None for an input that builds on nothing.

        Raises:
            AgreementError: it does not.
        """
        begin = self._states.begins_at
        if begin is None or self.collector.is_whole:
            return None
        bookmarks = Bookmarks(self._connection, self.ledger.scope)
        since = bookmarks.run_of(begin)
        if since is None:
            latest = bookmarks.latest()
            reason = (
                f"the last bookmark that it acknowledged, on {latest[:10]}, is another one: the ledger was restored from a backup, or the "
                "STATE is that of another machine or pipeline"
                if latest
                else "it has not acknowledged any: the ledger is new or lost, a run was put back with restore, or the address book, data "
                "field or upload_emails changed"
            )
            raise AgreementError(_disagreement("starts from a bookmark that this ledger has never acknowledged", reason))
        may_miss = self._scope.changed_run > since and not incomplete
        if may_miss and (missed := self.ledger.missed_since(since, self.collector.streams)):
            reason = "the tap's snapshots or its STATE were restored from a backup"
            raise AgreementError(_disagreement(f"does not mention {missed} contacts that changed since its bookmark", reason))
        return since

    def _prepare(self) -> Plan:
        report = self.report
        report.unknown = self.ledger.settle_unknown(removed_only=self.settings.upload_emails)
        report.segments = self.ledger.segments()
        report.segments_before = msgspec.json.decode(latest_segments(self._connection, self.ledger.scope) or "{}")
        report.ambiguous_names = ambiguous_names(list(report.segments)[:500], self.settings.labels.delimiter)
        report.plan = plan = make_plan(self.ledger, self._restored)
        report.import_calls = import_calls(plan, self.settings)
        report.held = self.ledger.count(contacts.c.held.is_not(None))
        LOGGER.info(
            "Plan: %d to create, %d to update, %d to clear, %d to list, %d to repeat, %d right already",
            *(plan.created, plan.updated, plan.cleared, plan.added_to_address_book, plan.resent, plan.unchanged),
        )
        return plan

    def _read_back(self, since: int | None) -> None:
        """Learn what dotdigital holds of contacts that the ledger cannot tell.

        The whole account is read by the first run of a ledger, for a whole input, and for an input that establishes a new base:
        what is right already is not sent, what is replaced can be put back, and labels that only dotdigital remembers are found.
        Otherwise only contacts are asked for that the ledger has no id of where rows may be matched by ids alone, and those that
        the input repeats without news.

        Args:
            since: the run that acknowledged the bookmark that the input starts from.
        """
        if self._restored is not None:
            return
        self.ledger.forget_shared_ids(by_id=self._by_id)
        c, read, states = contacts.c, self._scope.account_contacts, self._states
        establishes = states.begins_at is None and states.ends_at is not None and self.report.intake.read
        if read is None or self.collector.whole or establishes:
            self._read_account()
            return
        unknown = c.pending & c.contact_id.is_(None) & c.confirmed.is_(None)
        if self.settings.upload_emails:
            unknown &= c.removed
        if since is not None:
            unknown |= self.ledger.repeated_since(since)
        if asked := self.ledger.emails(unknown):
            if len(asked) > max(1, read // PAGE):
                self._read_account()
                return
            self.ledger.stage_remote(ContactReader(self._client, self.account).look_up(asked))
            self.ledger.apply_remote()
            self.ledger.forget_unseen(contacts.c.email.in_(asked))
            self.ledger.recompute_pending()

    def _read_account(self) -> None:
        reading = AccountReading(self.ledger, uploads=self.settings.upload_emails, is_excluded=self.settings.is_excluded)
        total = reading.read(ContactReader(self._client, self.account).pages())
        LOGGER.info("ContactReader: %d contacts of dotdigital read back", total)

    def _ask(self) -> None:
        report = self.report
        report.outcome = Outcome.NOT_ACTIVATED
        text = self._reviewed()
        self._folder.write_text("review.txt", text)
        for line in text.splitlines():
            LOGGER.info("%s", line)
        wrong = (
            f"The activation_code in the settings ({self.settings.activation_code.strip()}) is not the code of this review: it has a "
            "typo, or the account, address book, data field or label settings changed since. "
            if self.settings.activation_code
            else ""
        )
        msg = (
            f"Not activated: nothing was written. {wrong}Read the review above ({self._folder.path / 'review.txt'}). To switch the daily "
            f"sync on for exactly this, set the setting activation_code to {report.activation_code} "
            f"(TARGET_DOTDIGITAL_ACTIVATION_CODE={report.activation_code})"
        )
        raise NotActivatedError(msg)

    def _reviewed(self) -> str:
        report = self.report
        report.activation_code = activation_code(self.settings, self.account)
        report.programs = accounts.active_programs(self._client)
        report.limits = dict(self._client.limits)
        return review(report, self.settings, self.account, active=self.active)

    def _check_results(self) -> None:
        """Decide whether what was sent has arrived; only then may STATE go out.

        Raises:
            DeliveryError: it has not, or too much of it is rejected that was not rejected before.
        """
        report, tally = self.report, self._delivery.tally
        with self._place.ledger.engine.connect() as connection:
            ledger = ContactLedger(connection, self.ledger.scope, uploads=self.settings.upload_emails)
            report.left = ledger.count(contacts.c.pending)
            report.held = ledger.count(contacts.c.held.is_not(None))
            should_hold = ledger.count(~contacts.c.removed)
            report.still_rejected = ledger.count(contacts.c.rejection.is_not(None))
        report.problems += tally.problems
        if tally.problems or tally.unconfirmed:
            msg = (
                f"{tally.unconfirmed} of {tally.sent} contacts were sent, but dotdigital did not confirm them. The bookmark stays. "
                f"{' '.join(tally.problems[:3])}"
            )
            raise DeliveryError(msg)
        news = tally.new_reasons + report.intake.invalid
        offered = should_hold + sum(report.intake.invalid.values())
        if news.total() >= MIN_REJECTED and news.total() * 100 > offered * self.settings.max_rejected_percent:
            codes = ", ".join(f"{code} {count}" for code, count in news.most_common(SHOWN_CODES))
            msg = (
                f"{news.total()} of {offered} contacts were newly rejected, more than max_rejected_percent "
                f"({self.settings.max_rejected_percent}): {codes}. The others were delivered; the bookmark stays. Look at the report for "
                "what to do; the next run judges only what is rejected for the first time."
            )
            raise DeliveryError(msg)
        if report.held or (self.settings.max_contacts_per_run and report.left):
            report.outcome = Outcome.PARTLY
        else:
            report.outcome = Outcome.DELIVERED if tally.sent or report.intake.read else Outcome.NOTHING
        if report.held:
            LOGGER.warning(
                "%d contacts are held since dotdigital's Data Watchdog rejected their import: ask its support, then release them with "
                "the command `release`",
                report.held,
            )

    def _acknowledge(self) -> None:
        """Note the bookmark up to which everything is in the ledger; an older one may come back, and is known then."""
        begin, end, scope = self._states.begins_at, self._states.ends_at, self.ledger.scope
        if end is None or self._restored is not None:
            return
        streams = set(msgspec.json.decode(self._scope.streams or "[]")) | self.collector.streams
        with self._place.ledger.engine.begin() as connection:
            ContactLedger(connection, scope, uploads=self.settings.upload_emails).update_scope(
                streams=msgspec.json.encode(sorted(streams)).decode()
            )
            if end != begin or self.collector.is_whole:
                Bookmarks(connection, scope).acknowledge(end, self.ledger.run, self._clock.now())

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
                delivered = report.plan is not None and report.outcome is not Outcome.FAILED
                self._log.finish_run(report.outcome, msgspec.json.encode(report.segments).decode() if delivered else None)
                self._folder.write_rejected(self._log.rejected(), self.settings)
            except (sa.exc.SQLAlchemyError, OSError) as error:
                report.problems.append(f"The file of rejected contacts could not be written ({type(error).__name__}).")
        self._folder.publish(report)


def _disagreement(what: str, reason: str) -> str:
    return (
        f"The input {what}. It holds only what changed, and applied to an unknown base it would leave wrong labels, so nothing was "
        f"written and the bookmark stays. Run once with --full-refresh: everything is then compared with what dotdigital holds, and only "
        f"what differs is sent. Cause: {reason}."
    )
