"""Performs a rehearsal: the steps in order, each recorded in the journal when it is complete."""

from __future__ import annotations

import datetime
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.dotdigital.creating import ensure_book_and_fields
from target_dotdigital.errors import AccountError, ApiError
from target_dotdigital.ledger.database import open_ledger
from target_dotdigital.ledger.imports import ImportLog
from target_dotdigital.ledger.runs import begin_run, end_run, open_scope
from target_dotdigital.records import Uploads
from target_dotdigital.rehearsal import first_import, matching_steps, reading_steps, value_steps
from target_dotdigital.rehearsal.forecast import forecast
from target_dotdigital.rehearsal.result import Finding, RehearsalResult, confirmed, not_tested, refuted
from target_dotdigital.rehearsal.sending import Sender
from target_dotdigital.rehearsal.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.dotdigital.full_contacts import Record
    from target_dotdigital.rehearsal.journal import JournalFile
    from target_dotdigital.rehearsal.opening import OpenRehearsal
    from target_dotdigital.rehearsal.plan import Participant

FORBIDDEN = 403
READ_ONLY = "Not tested without writing (--read-only)."
STEPS: tuple[tuple[str, Callable[[Stage], list[Finding]]], ...] = (
    ("first import", first_import.first_import),
    ("null for a new contact", first_import.null_for_new),
    ("clearing", value_steps.clearing),
    ("lengths", value_steps.lengths),
    ("exact text", value_steps.exact_text),
    ("capitals", matching_steps.capitals),
    ("duplicates", matching_steps.duplicates),
    ("contact IDs", matching_steps.contact_ids),
    ("invalid address", matching_steps.invalid_address),
    ("unknown data field", matching_steps.unknown_field),
)


class _Visibility(msgspec.Struct):
    name: str
    visibility: str = ""


def look(opened: OpenRehearsal, planned: int | None) -> RehearsalResult:
    """Check what can be checked without writing.

    Args:
        opened: the rehearsal.
        planned: number of contacts of a first load; None if unknown.

    Raises:
        TargetError: dotdigital cannot be reached.
    """
    findings = [_login(opened)]
    if opened.account.book is not None and opened.account.fields:
        findings.append(_visibility(opened, opened.account))
    read, permitted = _read(opened, opened.account)
    if permitted:
        read.append(not_tested("permissions", "Reads are permitted. Whether imports are is not known without writing."))
    return _result(opened, [*findings, *read], READ_ONLY, planned)


def perform(opened: OpenRehearsal, file: JournalFile, planned: int | None, announce: Callable[[str], None]) -> RehearsalResult:
    """Perform the plan, from where an interrupted rehearsal stopped.

    Args:
        opened: the rehearsal.
        file: the journal's file.
        planned: number of contacts of a first load; None if unknown.
        announce: called with the name of each step.

    Raises:
        TargetError: an import could not be completed, or dotdigital or the ledger cannot be used.
    """
    journal, facts = opened.journal, opened.journal.facts
    with ExitStack() as stack:
        ledger = open_ledger(opened.settings.ledger_url)
        stack.callback(ledger.close)
        stack.enter_context(ledger.locked(opened.account.id))
        file.save(journal)
        try:
            account = ensure_book_and_fields(opened.settings, opened.client, opened.account, (opened.settings.data_field,))
        except AccountError as error:
            facts.blocked = "The rehearsal's address book or data field could not be created as requested."
            return _result(
                opened, [_login(opened), refuted("names_created_privately", str(error)), *_others(opened)], facts.blocked, planned
            )
        findings = [_login(opened), _visibility(opened, account)]
        with ledger.engine.begin() as connection:
            names = opened.plan.names
            scope = open_scope(connection, account.id, names.data_field, names.address_book).id
            run = begin_run(connection, scope, opened.clock.now().isoformat())
        stage = _stage(opened, account, ImportLog(ledger.engine, scope, run, Uploads.ALL))
        stage.sender.resume()
        for name, step in STEPS:
            if facts.blocked:
                break
            if name not in journal.steps:
                announce(name)
                journal.steps[name] = step(stage)
                file.save(journal)
        findings += [finding for name, _ in STEPS for finding in journal.steps.get(name, ())]
        announce("list of contacts")
        stage.settle()
        read, _ = _read(opened, account)
        with ledger.engine.begin() as connection:
            end_run(connection, run, "rehearsed", finished_at=opened.clock.now().isoformat())
    return _result(opened, [*findings, *read], facts.blocked, planned)


def _stage(opened: OpenRehearsal, account: Account, log: ImportLog) -> Stage:
    settings, book = opened.settings, account.book
    if book is None:
        msg = "dotdigital has no address book for the rehearsal, although it was created. Run the rehearsal again."
        raise AccountError(msg)
    sender = Sender(opened.client, log, opened.clock, settings, book.id, account.spelled(settings.data_field))
    return Stage(opened.client, opened.clock, opened.plan, opened.records, sender, book.id, opened.journal.facts)


def _login(opened: OpenRehearsal) -> Finding:
    return confirmed("login_and_region", f"The account's region answers at {opened.client.base_url}.")


def _visibility(opened: OpenRehearsal, account: Account) -> Finding:
    """Read visibility and spelling of the rehearsal's address book and data field."""
    client, field = opened.client, account.spelled(opened.settings.data_field)
    book = client.get("address books", f"/v2/address-books/{account.book.id if account.book else 0}", _Visibility)
    fields = client.get("data fields", "/v2/data-fields", list[_Visibility])
    found = {
        "address book": book.visibility,
        "data field": next((one.visibility for one in fields if one.name == field), "not found"),
    }
    public = [
        f"the {what} is {visibility or 'of unknown visibility'}" for what, visibility in found.items() if visibility != "Private"
    ]
    if public:
        return refuted("names_created_privately", f"Private was requested, but {' and '.join(public)}.")
    return confirmed("names_created_privately", f"Both are private; dotdigital spells the data field {field}.")


def _read(opened: OpenRehearsal, account: Account) -> tuple[list[Finding], bool]:
    """Check the list of contacts, programs and rate limits; return whether all reads were permitted, too."""
    findings, permitted = [], True
    try:
        found = {one: record for one in opened.plan.participants if (record := opened.records.by_email(one.email)) is not None}
        book = account.book.id if account.book else None
        members = {record.contact_id for record in found.values() if record.contact_id is not None and book in (record.lists or ())}
        findings += [
            reading_steps.pages(opened.records, len({record.contact_id for record in found.values()})),
            *reading_steps.lists(opened.records, book, members),
        ]
        if not opened.plan.read_only:
            findings.append(_created(opened, account, found))
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise
        permitted = False
        findings.append(refuted("permissions", f"A call that only reads was denied: {error}"))
    return [*findings, *_others(opened)], permitted


def _created(opened: OpenRehearsal, account: Account, found: dict[Participant, Record]) -> Finding:
    """Check the filter by time of creation with the contacts that the rehearsal has created."""
    journal, plan = opened.journal, opened.plan
    new = {record.contact_id for one, record in found.items() if one.before is None and record.contact_id is not None}
    if not new:
        reason = first_import.NOT_CREATED if plan.new else first_import.NONE_NEW
        return not_tested("filter_by_creation", journal.facts.blocked or reason)
    return reading_steps.created(ContactReader(opened.client, account), datetime.datetime.fromisoformat(journal.started_at), new)


def _others(opened: OpenRehearsal) -> list[Finding]:
    return [reading_steps.programs(opened.client), reading_steps.rate_limits(opened.client)]


def _result(opened: OpenRehearsal, findings: list[Finding], reason: str, planned: int | None) -> RehearsalResult:
    plan, facts, client = opened.plan, opened.journal.facts, opened.client
    limit = client.limit_of("import") or client.limit_of("contacts")
    return RehearsalResult(
        account_id=plan.account_id,
        account=plan.account,
        region=client.base_url,
        started_at=datetime.datetime.fromisoformat(opened.journal.started_at),
        finished_at=opened.clock.now(),
        read_only=plan.read_only,
        address_book=plan.names.address_book,
        data_field=plan.names.data_field,
        addresses=tuple(plan.roles()),
        findings=tuple(findings),
        reason=reason or "Not reached.",
        max_value_length=facts.max_value_length,
        forecast=tuple(forecast(planned, opened.settings.contacts_per_import, limit[1] if limit else None, facts)),
        cleanup=() if plan.read_only else _cleanup(opened),
        calls=dict(client.calls),
    )


def _cleanup(opened: OpenRehearsal) -> tuple[str, ...]:
    plan = opened.plan
    created = ", ".join(one.name for one in plan.new)
    return (
        f"the address book {plan.names.address_book}",
        f"the data field {plan.names.data_field}",
        *([f"the contacts that the rehearsal created, if you do not need them: {created}"] if created else []),
        *opened.journal.facts.leftovers,
    )
