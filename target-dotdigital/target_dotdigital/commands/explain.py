"""Shows one contact: its labels in the source, its deliveries, and whether and why the next run sends it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import msgspec

from target_dotdigital.commands.ledger_view import open_view, scope_title
from target_dotdigital.commands.tables import iso, labels, labels_text, moment, table
from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.contacts import read_contact
from target_dotdigital.errors import SettingsError
from target_dotdigital.ledger.contact_queries import find_contact
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.ledger.imports import DeliveryRecord, ImportState, deliveries_of, history_start
from target_dotdigital.ledger.runs import RunRecord, find_run
from target_dotdigital.models import EMPTY
from target_dotdigital.reporting.page import advice_on
from target_dotdigital.reporting.report import SEGMENT_LAG
from target_dotdigital.sync.labels import Labels
from target_dotdigital.text import normalise, without_controls

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.contacts import LiveContact
    from target_dotdigital.ledger.contact_queries import ContactRecord
    from target_dotdigital.ledger.runs import KnownScope
    from target_dotdigital.settings import Settings

MAX_DELIVERIES = 10
EXCLUDED = "exclude_emails matches the address: records of the contact are not used, and its labels stay as they are."
NOT_CHOSEN = (
    "segments that the tap's settings do not choose never reach this target; `meltano invoke tap-nosto-segments:check --find EMAIL` shows "
    "all segments of an address"
)
# statuses of the e-mail channel to which dotdigital sends marketing mail
MAILABLE = frozenset({"subscribed", "softbounced"})
DELIVERIES = ("Run", "Sent (UTC)", "Before", "After", "Outcome", "Import")
# results of the rows of an import that did not finish
UNFINISHED = {
    ImportState.SUBMITTING: "unconfirmed, dotdigital's answer was not received",
    ImportState.OPEN: "not known yet",
    ImportState.FAILED: "unconfirmed, the import failed",
    ImportState.REJECTED: "held, the Data Watchdog rejected the import",
    ImportState.OVER_QUOTA: "unconfirmed, the account's contact limit was reached",
    ImportState.LOST: "unconfirmed, the import's result is not known",
}


@dataclass(frozen=True, slots=True)
class ContactStatus:
    """Whether a contact is sent, and why.

    Args:
        code: one word or two, for machines.
        text: one or two sentences for the operator.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class ContactFacts:
    """What a ledger scope contains about a contact.

    Args:
        scope: the scope.
        configured: whether it is the scope of the configured data field.
        contact: the contact.
        status: whether it is sent, and why.
        changed: run whose input changed it last; None if no input has.
        deliveries: its last deliveries, newest first.
        confirmed_at: when the run ended that received dotdigital's confirmation of the labels; None if they were only read back.
        left_out: labels of its segments that did not fit into the data field.
        kept_since: time since which the ledger has deliveries, in seconds since 1970; None if it has none.
    """

    scope: KnownScope
    configured: bool
    contact: ContactRecord
    status: ContactStatus
    changed: RunRecord | None
    deliveries: tuple[DeliveryRecord, ...]
    confirmed_at: datetime.datetime | None
    left_out: tuple[str, ...]
    kept_since: float | None

    @property
    def safe_to_mail_at(self) -> datetime.datetime | None:
        """When dotdigital's own segments contain the contact's current labels; None if these are not confirmed, or were restored."""
        restored = self.contact.restored is not None
        if self.confirmed_at is None or restored or self.contact.confirmed != self.contact.desired:
            return None
        return self.confirmed_at + SEGMENT_LAG


def explain_contact(settings: Settings, clock: Clock, address: str, *, live: bool, as_json: bool) -> None:
    """Print what the ledger and, on request, dotdigital contain about a contact, without taking the lock of a run that is working.

    Args:
        settings: the settings.
        clock: injectable clock.
        address: the address, as entered.
        live: whether to read the contact from dotdigital.
        as_json: whether to print JSON.

    Raises:
        SettingsError: the ledger does not contain the address.
        TargetError: the ledger is missing or unusable, or dotdigital cannot be read.
    """
    email = normalise(address)
    excluded = settings.is_excluded is not None and settings.is_excluded(email)
    account_id, remote = _read_live(settings, clock, email) if live else (None, None)
    found = _read_ledger(settings, clock, email, account_id)
    if as_json:
        facts: dict[str, Any] = {"email": email, "excluded": excluded, "scopes": [_contact_json(contact) for contact in found]}
        if live:
            facts["live"] = None if remote is None else _live_json(remote)
        click.echo(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())
    elif found or live:
        click.echo(f"Contact:      {without_controls(email)}")
        if excluded:
            click.echo(f"Excluded:     {EXCLUDED}")
        for contact in found:
            click.echo("\n".join(_contact_lines(contact) if contact.configured else _other_scope_lines(contact)))
        if live:
            click.echo("\n".join(_live_lines(remote, next((contact for contact in found if contact.configured), None))))
    if not found:
        there = " dotdigital holds the contact, but no run has read it back." if remote else ""
        why = EXCLUDED if excluded else "No input for this account has contained it. Check the spelling."
        msg = f"The ledger does not know this address, so there is nothing to explain.{there} {why}"
        raise SettingsError(msg)


def _read_live(settings: Settings, clock: Clock, email: str) -> tuple[int, LiveContact | None]:
    client, info = accounts.connect(settings, clock)
    account = accounts.read_account(settings, client, info)
    return account.id, read_contact(client, account, email)


def _read_ledger(settings: Settings, clock: Clock, email: str, account_id: int | None) -> list[ContactFacts]:
    """Return what each scope of the account contains about the contact, the configured scope first."""
    with open_view(settings, clock, account_id) as view:
        scopes = {scope.id: scope for scope in (view.scope, *view.others) if scope is not None}
        return [
            _read_facts(view.connection, scopes[contact.scope], contact, settings, clock.wall(), view.scope)
            for contact in find_contact(view.connection, list(scopes), email)
        ]


def _read_facts(
    connection: sa.Connection,
    scope: KnownScope,
    contact: ContactRecord,
    settings: Settings,
    now: float,
    configured: KnownScope | None,
) -> ContactFacts:
    """Read the facts about a contact of a scope.

    Args:
        connection: the transaction.
        scope: the ledger scope.
        contact: the contact in that scope.
        settings: the settings.
        now: seconds since 1970.
        configured: the scope of the settings.
    """
    deliveries = tuple(deliveries_of(connection, scope.id, contact.email, MAX_DELIVERIES))
    limit = settings.max_contacts_per_run
    # only a limited run leaves pending contacts behind, so only then their number matters
    pending = (
        ContactLedger(connection, scope.id, uploads=settings.upload_emails).count_pending() if limit and contact.pending else 0
    )
    names = () if contact.names is None else msgspec.json.decode(contact.names, type=list[str])
    return ContactFacts(
        scope,
        scope == configured,
        contact,
        _status_of(contact, deliveries[0] if deliveries else None, pending, limit, now),
        find_run(connection, contact.changed_run),
        deliveries,
        _confirmed_at(connection, contact, deliveries),
        Labels(settings.labels).of(names).dropped,
        history_start(connection, scope.id),
    )


def _confirmed_at(
    connection: sa.Connection, contact: ContactRecord, deliveries: tuple[DeliveryRecord, ...]
) -> datetime.datetime | None:
    confirming = (
        delivery.result_run
        for delivery in deliveries
        if delivery.state == ImportState.FINISHED and delivery.outcome is None and delivery.after == contact.confirmed
    )
    run = find_run(connection, next(confirming, None))
    return None if run is None or run.finished_at is None else datetime.datetime.fromisoformat(run.finished_at)


# Status


def _status_of(contact: ContactRecord, last: DeliveryRecord | None, pending: int, limit: int, now: float) -> ContactStatus:
    """Return the status of a contact.

    Args:
        contact: the contact.
        last: its last delivery; None if it was never sent.
        pending: number of contacts that are pending.
        limit: number of contacts that a run sends; 0 for all.
        now: seconds since 1970.
    """
    if contact.held is not None:
        return ContactStatus(
            "held",
            f"Held since dotdigital's Data Watchdog rejected import {contact.held_import_id or 'without an ID'}: not sent before it is "
            "released. Ask dotdigital's support about the import, then use the command release.",
        )
    if contact.result_unknown and last is not None and last.state == ImportState.OPEN:
        text = f"Sent in import {last.import_id}, whose result is not known yet: a later run waits for it."
        return ContactStatus("unknown", text)
    if contact.excluded:
        return ContactStatus("excluded", "exclude_emails matches the address: the contact is not sent, and keeps what it has.")
    if contact.pending:
        return _pending_status(contact, pending, limit)
    if contact.rejected == contact.desired:
        return _rejected_status(contact, now)
    return _settled_status(contact)


def _pending_status(contact: ContactRecord, pending: int, limit: int) -> ContactStatus:
    why = ""
    if contact.result_unknown:
        why = "It was sent, but dotdigital did not confirm it. "
    elif contact.rejection is not None:
        why = f"Its last delivery was rejected ({contact.rejection}); since then its labels changed or its pause ended. "
    if limit and pending > limit:
        text = (
            f"Waiting: {pending:,} contacts are pending, and max_contacts_per_run lets a run send {limit:,} of them, removed "
            "contacts first and then by address."
        )
        return ContactStatus("waiting", why + text)
    return ContactStatus("pending", f"{why}Pending: the next run sends it, unless a brake stops the run.")


def _rejected_status(contact: ContactRecord, now: float) -> ContactStatus:
    if contact.retry_at is None:
        after = "Not sent again until its labels change."
    elif contact.retry_at <= now:
        after = "The next run sends it again."
    else:
        after = f"Sent again by the first run after {moment(contact.retry_at)} UTC."
    return ContactStatus(
        "rejected", f"Rejected by dotdigital with the code {contact.rejection}. {advice_on(contact.rejection)} {after}"
    )


def _settled_status(contact: ContactRecord) -> ContactStatus:
    """Return the status of a contact that is neither pending nor rejected."""
    if contact.confirmed is None and contact.contact_id is None:
        if contact.removed:
            return ContactStatus("removed", "No longer in the source, and not in dotdigital: there is nothing to clear.")
        return ContactStatus("not created", "Not in dotdigital, and upload_emails does not let this target create it.")
    if contact.confirmed != contact.desired:
        return ContactStatus(
            "unconfirmed", "Not pending, although dotdigital has not confirmed the labels. Use the command reconcile."
        )
    if contact.stream is None and contact.desired != EMPTY:
        text = "No stream of the source has contained it: its labels stay until a full input shows that they are orphaned."
        return ContactStatus("orphaned", text)
    if contact.removed:
        return ContactStatus("removed", "No longer in the source; dotdigital has confirmed that it has no labels.")
    return ContactStatus("confirmed", "Up to date: dotdigital has confirmed the labels.")


# Text


def _other_scope_lines(facts: ContactFacts) -> Iterator[str]:
    contact = facts.contact
    yield ""
    yield f"Also known:   {scope_title(facts.scope)} (not that of the settings)"
    yield f"Status:       {facts.status.code}. {facts.status.text}"
    yield f"Labels:       {labels_text(contact.desired)} desired, {labels_text(contact.confirmed)} confirmed"


def _contact_lines(facts: ContactFacts) -> Iterator[str]:
    contact = facts.contact
    yield f"Destination:  account {facts.scope.account_id}, {scope_title(facts.scope)}"
    yield f"Status:       {facts.status.code}. {facts.status.text}"
    yield f"Source:       {_source(facts)}"
    yield f"Not chosen:   {NOT_CHOSEN}"
    if facts.left_out:
        yield f"Left out:     {without_controls(', '.join(facts.left_out))} (more than max_value_length; see segment_priority)"
    yield f"Desired:      {labels_text(contact.desired)}"
    yield f"Confirmed:    {labels_text(contact.confirmed)}{_confirmation(facts)}"
    if facts.safe_to_mail_at is not None:
        yield f"Safe to mail: from {moment(facts.safe_to_mail_at.timestamp())} UTC, when dotdigital's own segments contain these labels"
    yield f"dotdigital:   {_remote(facts)}"
    if contact.rejection is not None:
        yield (
            f"Rejections:   {contact.rejections} in a row; {contact.rejection} since {moment(contact.rejected_since)}, last "
            f"{moment(contact.rejected_at)} UTC"
        )
    if contact.restored is not None:
        yield f"Restored:     run {contact.restored} put back the labels that another run had replaced"
    kept = "" if facts.kept_since is None else f" (kept since {moment(facts.kept_since)} UTC)"
    if not facts.deliveries:
        yield f"Deliveries:   none{kept}"
        return
    yield f"Deliveries, newest first{kept}:"
    rows = [
        [
            str(delivery.run),
            moment(delivery.submitted_at),
            labels_text(delivery.before),
            labels_text(delivery.after),
            _outcome(delivery),
            delivery.import_id or "-",
        ]
        for delivery in facts.deliveries
    ]
    for line in table(DELIVERIES, rows, numbers=(0,)):
        yield f"  {line}"


def _live_lines(live: LiveContact | None, known: ContactFacts | None) -> Iterator[str]:
    """Yield the lines that show what dotdigital holds now.

    Args:
        live: the contact; None if there is none.
        known: what the ledger contains about it for the configured data field; None if nothing.
    """
    if live is None:
        yield "Live:         not in dotdigital"
    else:
        book = {True: "in the address book", False: "not in the address book", None: "no address book"}[live.in_address_book]
        yield f"Live:         {labels_text(live.payload)}; {book}; e-mail status {live.email_status or 'not known'}"
        if not _is_mailable(live):
            yield f"No mail:      dotdigital sends no marketing mail to a contact that is {live.email_status}, whatever its labels are"
    confirmed = known.contact.confirmed if known else None
    if confirmed is not None and confirmed != (live.payload if live else None):
        yield (
            "Drift:        dotdigital does not hold the confirmed labels: somebody changed or deleted the contact there, or a run is "
            "working. The command reconcile finds it, and the next run corrects it."
        )


def _is_mailable(live: LiveContact) -> bool:
    return not live.email_status or live.email_status.lower() in MAILABLE


def _source(facts: ContactFacts) -> str:
    contact, run = facts.contact, facts.changed
    if contact.stream is None:
        what = "in no stream so far; its labels were read back from dotdigital"
    elif contact.removed:
        what = f"removed (stream {without_controls(contact.stream)})"
    elif contact.names is None:
        what = f"in the source (stream {without_controls(contact.stream)}), but its labels were put back by a restore"
    else:
        names = without_controls(", ".join(msgspec.json.decode(contact.names, type=list[str]))) or "in no chosen segment"
        what = f"{names} (stream {without_controls(contact.stream)})"
    if run is None:
        return what if contact.changed_run is None else f"{what}; since run {contact.changed_run}, which is older than history_days"
    read = f", source at {', '.join(map(str, run.figures.bookmarks.values()))}" if run.figures and run.figures.bookmarks else ""
    return f"{what}; since run {run.run} of {moment(run.started_at)} UTC{read}"


def _confirmation(facts: ContactFacts) -> str:
    if facts.contact.confirmed is None:
        return ""
    if facts.confirmed_at is not None:
        return f", at {moment(facts.confirmed_at.timestamp())} UTC"
    return ", read back from dotdigital" if facts.contact.checked_run is not None else ""


def _remote(facts: ContactFacts) -> str:
    contact = facts.contact
    known = f"contact ID {contact.contact_id}" if contact.contact_id is not None else "no contact ID known"
    if facts.scope.address_book is None:
        book = "no address book is used"
    else:
        tried = (
            f", although dotdigital confirmed {contact.membership_tries} deliveries to it" if contact.membership_tries > 1 else ""
        )
        book = "in the address book" if contact.in_address_book else f"not in the address book{tried}"
    read = f"; last read back by run {contact.checked_run}" if contact.checked_run is not None else ""
    return f"{known}; {book}{read}; e-mail status: only --live shows it, and an unsubscribed contact gets no mail"


def _outcome(delivery: DeliveryRecord) -> str:
    if delivery.state != ImportState.FINISHED:
        return UNFINISHED.get(ImportState(delivery.state), delivery.state)
    if delivery.outcome is None:
        return "created or updated"
    return f"{delivery.outcome} ({delivery.reason})" if delivery.reason else delivery.outcome


# JSON


def _contact_json(facts: ContactFacts) -> dict[str, Any]:
    """Return the facts about a contact as JSON values; times are ISO 8601 in UTC."""
    contact, changed = facts.contact, facts.changed
    return {
        "account_id": facts.scope.account_id,
        "address_book": facts.scope.address_book,
        "data_field": facts.scope.data_field,
        "configured": facts.configured,
        "status": facts.status.code,
        "explanation": facts.status.text,
        "source": {
            "stream": contact.stream,
            "segments": None if contact.names is None else msgspec.json.decode(contact.names),
            "removed": contact.removed,
            "run": contact.changed_run,
            "run_started_at": changed.started_at if changed else None,
            "bookmarks": changed.figures.bookmarks if changed and changed.figures else {},
        },
        "left_out": facts.left_out,
        "desired": labels(contact.desired),
        "confirmed": labels(contact.confirmed),
        "confirmed_at": facts.confirmed_at and facts.confirmed_at.isoformat(),
        "safe_to_mail_at": facts.safe_to_mail_at and facts.safe_to_mail_at.isoformat(),
        "pending": contact.pending,
        "result_unknown": contact.result_unknown,
        "held_import": contact.held_import_id,
        "contact_id": contact.contact_id,
        "in_address_book": None if facts.scope.address_book is None else contact.in_address_book,
        "read_back_run": contact.checked_run,
        "restored_run": contact.restored,
        "rejection": None
        if contact.rejection is None
        else {
            "code": contact.rejection,
            "count": contact.rejections,
            "since": iso(contact.rejected_since),
            "last": iso(contact.rejected_at),
            "next_attempt": iso(contact.retry_at),
        },
        "deliveries_kept_since": iso(facts.kept_since),
        "deliveries": [
            {
                "run": delivery.run,
                "run_started_at": delivery.started_at,
                "sent_at": iso(delivery.submitted_at),
                "import_id": delivery.import_id,
                "before": labels(delivery.before),
                "after": labels(delivery.after),
                "outcome": _outcome(delivery),
                "result_run": delivery.result_run,
            }
            for delivery in facts.deliveries
        ],
    }


def _live_json(live: LiveContact) -> dict[str, Any]:
    return {
        "contact_id": live.contact_id,
        "labels": labels(live.payload),
        "in_address_book": live.in_address_book,
        "email_status": live.email_status,
        "gets_mail": _is_mailable(live),
    }
