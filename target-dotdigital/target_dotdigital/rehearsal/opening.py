"""Opens a rehearsal: logs in, reads what is there, and makes the plan. Writes nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.account import AccountInfo
from target_dotdigital.dotdigital.full_contacts import ContactRecords
from target_dotdigital.errors import AccountError, ApiError
from target_dotdigital.rehearsal.names import Names, rehearsal_settings
from target_dotdigital.rehearsal.plan import Participant, Plan
from target_dotdigital.rehearsal.recording import RecordingClient
from target_dotdigital.rehearsal.result import Finding, RehearsalResult, confirmed, refuted

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.rehearsal.journal import Journal, JournalFile
    from target_dotdigital.settings import Settings

FORBIDDEN = 403


@dataclass(frozen=True, slots=True)
class OpenRehearsal:
    """A rehearsal that is ready to start.

    Args:
        settings: settings with the rehearsal's address book and data field.
        clock: injectable clock.
        client: API client, logged in.
        account: the account, with the rehearsal's address book and data field if they exist.
        plan: what the rehearsal is going to do.
        journal: state of the rehearsal, of an interrupted one if there is one.
    """

    settings: Settings
    clock: Clock
    client: RecordingClient
    account: Account
    plan: Plan
    journal: Journal

    @property
    def records(self) -> ContactRecords:
        """Reader of contacts."""
        return ContactRecords(self.client, self.settings.data_field)


def open_rehearsal(
    settings: Settings, clock: Clock, emails: tuple[str, ...], file: JournalFile, *, read_only: bool
) -> OpenRehearsal | RehearsalResult:
    """Log in, read the account and the operator's contacts, and make the plan.

    Args:
        settings: settings of the sync.
        clock: injectable clock.
        emails: the operator's addresses, normalised.
        file: the journal's file.
        read_only: whether nothing is going to be written.

    Returns:
        The rehearsal, or its result if the account cannot be read.

    Raises:
        TargetError: login failed, or dotdigital cannot be reached.
    """
    started = clock.now()
    names = Names.of(settings)
    own = rehearsal_settings(settings, names)
    first, info = accounts.connect(own, clock)
    client = RecordingClient(first.base_url, own.api_user, own.api_password, own.request_timeout, clock)
    client.calls.update(first.calls)
    client.ahead = first.ahead

    def end(finding: Finding, *findings: Finding) -> RehearsalResult:
        return RehearsalResult(
            account_id=info.id or 0,
            account=str(info.id),
            region=client.base_url,
            started_at=started,
            finished_at=clock.now(),
            read_only=True,
            address_book=names.address_book,
            data_field=names.data_field,
            addresses=(),
            findings=(finding, *findings),
            reason="The account could not be read.",
            calls=dict(client.calls),
        )

    try:
        client.get("account", "/v2/account-info", AccountInfo)
    except (ApiError, AccountError) as error:
        if isinstance(error, ApiError) and error.status != FORBIDDEN:
            raise
        return end(refuted("login_and_region", "The API address that account-info names denies access (status 403)."))
    login = confirmed("login_and_region", f"The account's region answers at {client.base_url}.")
    records = ContactRecords(client, names.data_field)
    try:
        account = accounts.read_account(own, client, info)
        key = _key(account, names, emails, settings.labels.length)
        journal = None if read_only else file.load(key)
        before = journal.before if journal else [records.by_email(email) for email in emails]
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise
        return end(login, refuted("permissions", f"A call that only reads was denied: {error}"))
    participants = tuple(
        Participant(number, email, record) for number, (email, record) in enumerate(zip(emails, before, strict=True), start=1)
    )
    plan = Plan(account.id, account.name, names, participants, settings.labels.length, read_only)
    if journal is None:
        journal = file.new(key, started.isoformat(), before)
    return OpenRehearsal(own, clock, client, account, plan, journal)


def _key(account: Account, names: Names, emails: tuple[str, ...], length: int) -> str:
    text = msgspec.json.encode([account.id, names.address_book, names.data_field.upper(), emails, length])
    return hashlib.sha256(text).hexdigest()
