"""A rehearsal session: the plan and its code, how rows are sent and contacts read, and the result."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.contacts import ContactReader, FullContactReader
from target_dotdigital.dotdigital.imports import Chunk, RowEncoder, body
from target_dotdigital.dotdigital.messages import FailureReason, Identifiers, ImportStatus, RowFailure
from target_dotdigital.errors import ApiError, DeliveryError, SettingsError, TooManyImportsError
from target_dotdigital.models import EMPTY, Row, Uploads, letters_of, main_code, to_payload
from target_dotdigital.reporting.checklist import CHECKLIST
from target_dotdigital.sync.imports import MAX_INTERVAL_SECONDS, MAX_SLOT_PAUSES, NOT_FINISHED, SLOT_PAUSE_SECONDS
from target_dotdigital.sync.refusals import is_refusal
from target_dotdigital.text import is_address, normalise, shown

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Sequence

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.dotdigital.client import Client
    from target_dotdigital.dotdigital.contacts import FullContact
    from target_dotdigital.dotdigital.messages import ContactReference
    from target_dotdigital.settings import Settings

MIN_ADDRESSES, MAX_ADDRESSES = 4, 10
# dotdigital's limits for names
MAX_BOOK_CHARACTERS = 128
MAX_FIELD_CHARACTERS = 20
BOOK_SUFFIX = " rehearsal"
FIELD_SUFFIX = "_REHEARSAL"
# e-mail statuses other than suppressed, in lower case
NOT_SUPPRESSED = frozenset({"subscribed", "unsubscribed", "pendingoptin", "nosubscription"})
# lengths of the values to write, in characters
LENGTHS = (255, 256, 1000, 1001)
# imports besides those with values of several lengths
OTHER_IMPORTS = 8
# states of an import by their letters
FINISHED, FAILED = "finished", "failed"
MAX_ATTEMPTS = 2
# polls in a row without a usable response; dotdigital may not know an import yet that it has just accepted
MAX_FAILED_POLLS = 5
RESULT_VERSION = 2


# The plan


@dataclass(frozen=True, slots=True, eq=False)
class OwnContact:
    """One of the operator's addresses.

    Args:
        number: position in the setting, from 1.
        email: normalised address.
        before: the contact before the rehearsal wrote anything; None if it did not exist.
    """

    number: int
    email: str
    before: FullContact | None

    @property
    def name(self) -> str:
        """The name in results, which hold no addresses."""
        return f"address {self.number}"

    @property
    def is_suppressed(self) -> bool:
        """Whether the contact was suppressed before the rehearsal."""
        return self.before is not None and self.before.email_status.lower() not in NOT_SUPPRESSED


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rehearsal is going to do.

    Args:
        account_id: the account's ID.
        account: its name.
        address_book: name of the rehearsal's address book.
        data_field: name of the rehearsal's data field.
        contacts: the operator's addresses.
        max_value_length: the setting to check.
    """

    account_id: int
    account: str
    address_book: str
    data_field: str
    contacts: tuple[OwnContact, ...]
    max_value_length: int

    @property
    def new(self) -> list[OwnContact]:
        """Addresses that are not in the account, in the order of the setting."""
        return [contact for contact in self.contacts if contact.before is None]

    @property
    def existing(self) -> list[tuple[OwnContact, FullContact]]:
        """Addresses of contacts, in the order of the setting, with the contacts before the rehearsal."""
        return [(contact, contact.before) for contact in self.contacts if contact.before is not None]

    @property
    def new_contact_without_labels(self) -> OwnContact | None:
        """The address that is created with null; None if there is only one new address."""
        return self.new[1] if len(self.new) > 1 else None

    @property
    def test_contact(self) -> OwnContact:
        """The address that the experiments with values are made with."""
        existing = [contact for contact, _ in self.existing]
        return (self.new or [contact for contact in existing if not contact.is_suppressed] or existing)[0]

    @property
    def first_contacts(self) -> list[OwnContact]:
        """The addresses of the first import, which is one that the sync would send."""
        return [contact for contact in self.contacts if contact is not self.new_contact_without_labels]

    @property
    def lengths(self) -> list[int]:
        """Lengths of the values to write, in ascending order."""
        return sorted({*LENGTHS, self.max_value_length})

    @property
    def code(self) -> str:
        """The code that confirms this plan: account, names, addresses and whether they are contacts."""
        addresses = [[contact.email, contact.before is None] for contact in self.contacts]
        chosen = [self.account_id, self.address_book, self.data_field.upper(), addresses, self.lengths]
        text = base64.b32encode(hashlib.sha256(msgspec.json.encode(chosen)).digest()).decode()
        return f"{text[:4]}-{text[4:8]}-{text[8:12]}"

    def roles(self) -> list[str]:
        """Return what each address is used for, without the addresses."""
        return [f"{contact.name}: {self._role(contact)}" for contact in self.contacts]

    def lines(self) -> list[str]:
        """Return the plan for the screen; it contains the operator's own addresses."""
        email = self.test_contact.email
        return [
            f"Account:      {self.account} (id {self.account_id})",
            f"Address book: {self.address_book} (separate, private; created if it is missing)",
            f"Data field:   {self.data_field} (separate, private; created if it is missing)",
            "",
            "Addresses:",
            *(f"  {contact.email}: {self._role(contact)}" for contact in self.contacts),
            "",
            *self._missing(),
            "What the rehearsal writes:",
            f"  {OTHER_IMPORTS + len(self.lengths)} small imports into this address book and data field, with rows as the sync sends them;",
            "  only these addresses, and two texts derived from one of them:",
            f"  the address in capitals ({in_capitals(email)}), and an invalid address ({invalid(email)});",
            "  one row for a contact ID that does not exist.",
            "It sends no status, opt-in type, preference or consent, and it deletes nothing: the result says what to remove by hand.",
            "dotdigital may send e-mails to the new addresses: a confirmation, if double opt-in is enforced for bulk uploads, and those of",
            "programs that start when a contact is created. It takes a few minutes, depending on how fast dotdigital processes imports.",
            "",
        ]

    def _role(self, contact: OwnContact) -> str:
        if contact.before is None:
            labels = "without" if contact is self.new_contact_without_labels else "with"
            return f"not in the account: created {labels} labels"
        lists, fields = len(contact.before.lists or ()), len(contact.before.fields)
        facts = f"{contact.before.email_status}, {_count(lists, 'address book')}, {_count(fields, 'data field')} with values"
        return f"a contact ({facts}): must stay as it is"

    def _missing(self) -> list[str]:
        """Return a line for each kind of address that would allow more checks."""
        existing = self.existing
        wanted = {
            "an address that is not in the account: status and opt-in type of new contacts": self.new,
            "another address that is not in the account: new contacts without labels": self.new[1:],
            "a contact with values in other data fields: that these are kept": any(before.fields for _, before in existing),
            "a contact that is in another address book: that it stays there": any(before.lists for _, before in existing),
            "a contact, best an unsubscribed one with preferences: that its consent is kept": any(
                not contact.is_suppressed for contact, _ in existing
            ),
            "a suppressed contact: that it gets labels and stays suppressed": any(contact.is_suppressed for contact, _ in existing),
            "a contact that dotdigital shows with capitals in its address: that lower case finds it": any(
                before.has_capitals for _, before in existing
            ),
        }
        missing = [f"  {line}" for line, found in wanted.items() if not found]
        return ["Further addresses of yours would allow more checks:", *missing, ""] if missing else []


def check_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the normalised addresses of the setting `rehearsal_emails`.

    Raises:
        SettingsError: there are too few or too many, or one is a duplicate or not an e-mail address.
    """
    normalised = tuple(normalise(address) for address in addresses)
    if not MIN_ADDRESSES <= len(normalised) <= MAX_ADDRESSES:
        msg = (
            f"rehearsal_emails has {_count(len(normalised), 'address', 'addresses')}: the rehearsal needs {MIN_ADDRESSES} to "
            f"{MAX_ADDRESSES}. Nothing was done. Set addresses of your own: some that are contacts, and at least two that are not."
        )
        raise SettingsError(msg)
    for position, address in enumerate(normalised):
        if not is_address(address):
            msg = f"rehearsal_emails: entry {position + 1} is not an e-mail address. Nothing was done. Correct it."
            raise SettingsError(msg)
        if address in normalised[:position]:
            msg = f"rehearsal_emails: entry {position + 1} is a duplicate. Nothing was done. Remove it, or set another address."
            raise SettingsError(msg)
    return normalised


def rehearsal_settings(settings: Settings) -> Settings:
    """Return the settings with the rehearsal's address book and data field instead of the sync's.

    Raises:
        SettingsError: a derived name is one that the sync itself writes to.
    """
    synced_book, synced_field = settings.address_book.strip(), settings.data_field
    book = synced_book[: MAX_BOOK_CHARACTERS - len(BOOK_SUFFIX)] + BOOK_SUFFIX
    data_field = synced_field[: MAX_FIELD_CHARACTERS - len(FIELD_SUFFIX)] + FIELD_SUFFIX
    synced = {name.upper() for name in (settings.data_field, settings.synced_at_field or "")}
    if book.lower() == synced_book.lower() or data_field.upper() in synced:
        msg = (
            f"The rehearsal would use the address book {book!r} and the data field {data_field}, which the sync itself uses, so nothing "
            "was done. Change address_book, data_field or synced_at_field."
        )
        raise SettingsError(msg)
    return replace(
        settings,
        address_book=book,
        address_book_id=None,
        data_field=data_field,
        upload_emails=Uploads.ALL,
        synced_at_field=None,
        overflow="drop",
    )


def in_capitals(email: str) -> str:
    """Return an address with the part before the @ in capitals, or the part after it if that has no letters."""
    local, _, domain = email.rpartition("@")
    return f"{local.upper()}@{domain}" if local.upper() != local else f"{local}@{domain.upper()}"


def invalid(email: str) -> str:
    """Return a text derived from an address that cannot be an address, because it has no @."""
    return email.replace("@", "-at-")


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


# Imports


@dataclass(frozen=True, slots=True)
class Sent:
    """A sent import.

    Args:
        report: what dotdigital reported; for a call that it refused, only the failures of its rows.
        status: HTTP status of a refused call; None if the call was accepted.
        code: error code of a refused call.
        seconds: time from submission to the end.
        narrowed: whether dotdigital refused the whole call, and accepted it without the rows that failed.
    """

    report: ImportStatus
    status: int | None = None
    code: str = ""
    seconds: float = 0.0
    narrowed: bool = False

    @property
    def imported(self) -> list[ContactReference]:
        """Contacts reported as created or updated."""
        return [*(self.report.created or ()), *(self.report.updated or ())]

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Address and code of the rows reported as failed."""
        rows = self.report.failures or ()
        return [(email_of(row), main_code(reason.failure_code for reason in row.failures)) for row in rows]

    @property
    def refusal(self) -> str:
        """Status and code of a refused call; empty if the call was accepted."""
        return "" if self.status is None else f"status {self.status}" + (f", {self.code}" if self.code else "")

    @property
    def failure(self) -> str:
        """Why an import did not finish, as the end of a sentence; empty if it finished."""
        if self.refusal:
            return f"dotdigital refused the whole import ({self.refusal})"
        return "the whole import ended as Failed" if letters_of(self.report.status) == FAILED else ""

    def code_of(self, email: str) -> str:
        """Return the code with which the row of an address failed; empty if it did not fail."""
        return next((code for failed, code in self.failures if failed == normalise(email)), "")


def email_of(contact: ContactReference) -> str:
    """Return the normalised address of a contact in a report."""
    return normalise(contact.identifiers.email or "")


@dataclass(frozen=True, slots=True)
class FirstImport:
    """The first import: rows as the sync would send them, for new and existing contacts.

    Args:
        sent: what dotdigital reported.
        visible: the contacts that show their new values.
        failure: why nothing can be tested with it; empty if nothing is in the way.
    """

    sent: Sent
    visible: dict[OwnContact, FullContact] = field(default_factory=dict)
    failure: str = ""


# The session


class NotTestableError(Exception):
    """An assumption cannot be tested; the message is the reason, and contains no address."""


@dataclass(slots=True)
class Session:
    """A rehearsal of one account. Sends to the rehearsal's address book and data field only.

    Args:
        settings: settings with the rehearsal's address book and data field.
        clock: injectable clock.
        client: API client, logged in.
        account: the account, with the rehearsal's address book and data field if they exist.
        plan: what the rehearsal is going to do.
        started_at: time of the first call.
        first_import: the first import; None if nothing is written.
        stale_reads: number of reads after the first import that did not show it yet.
        stale_seconds: seconds until the first import was visible.
        longest_value: longest value that came back unchanged, in characters; None if unknown.
        leftovers: descriptions of contacts that were created besides the planned ones.
    """

    settings: Settings
    clock: Clock
    client: Client
    account: Account
    plan: Plan
    started_at: datetime.datetime
    first_import: FirstImport | None = None
    stale_reads: int = 0
    stale_seconds: float = 0.0
    longest_value: int | None = None
    leftovers: list[str] = field(default_factory=list)

    @property
    def contacts(self) -> FullContactReader:
        """Reader of complete contacts."""
        return FullContactReader(self.client, self.settings.data_field)

    @property
    def first(self) -> FirstImport:
        """The first import.

        Raises:
            NotTestableError: nothing is written.
        """
        if self.first_import is None:
            msg = "Not tested without writing (--read-only)."
            raise NotTestableError(msg)
        return self.first_import

    @property
    def visible(self) -> dict[OwnContact, FullContact]:
        """The contacts of the first import that show their new values.

        Raises:
            NotTestableError: nothing is written, or the first import failed.
        """
        if self.first.failure:
            raise NotTestableError(self.first.failure)
        return self.first.visible

    @property
    def test_contact(self) -> str:
        """The address that the experiments with values are made with.

        Raises:
            NotTestableError: it was not imported.
        """
        contact = self.plan.test_contact
        if contact not in self.visible:
            code = self.first.sent.code_of(contact.email) or "not in the report"
            msg = f"dotdigital did not import {contact.name} ({code}). Set another address."
            raise NotTestableError(msg)
        return contact.email

    @property
    def book_id(self) -> int:
        """ID of the rehearsal's address book; 0 if it does not exist."""
        return self.account.book.id if self.account.book else 0

    def write(self, value: str | None) -> Sent:
        """Write a value into the test contact's data field; None clears it."""
        return self.send(self.row(self.test_contact, value))

    def row(self, email: str, value: str | None, contact_id: int | None = None) -> tuple[str, bytes]:
        """Return an address and its row as the sync would send it.

        Args:
            email: address.
            value: value of the data field; None clears it.
            contact_id: contact ID to match by, instead of the address.
        """
        name = self.settings.data_field
        encoder = RowEncoder(self.book_id, {name: self.account.spelled(name)}, name)
        return email, encoder.encode(Row(email, contact_id, EMPTY, to_payload({name: value}) if value is not None else EMPTY))

    def send(self, *rows: tuple[str, bytes]) -> Sent:
        """Send rows as one import, and wait until it has ended. If dotdigital refuses the call, send each row alone.

        Raises:
            DeliveryError: the import did not end, or dotdigital stopped it for a reason that is not in its rows.
            ApiError: dotdigital could not be reached.
        """
        sent = self._import(rows)
        if sent.status in {None, HTTPStatus.FORBIDDEN} or len(rows) == 1:
            return sent
        parts = [(email, self._import([(email, encoded)])) for email, encoded in rows]
        accepted = [part for _, part in parts if not part.failure]
        if not accepted:
            return sent
        failed = [
            RowFailure(identifiers=Identifiers(email), failures=[FailureReason(part.refusal or FAILED)])
            for email, part in parts
            if part.failure
        ]
        report = ImportStatus(
            created=[contact for part in accepted for contact in part.report.created or ()],
            updated=[contact for part in accepted for contact in part.report.updated or ()],
            failures=[*(row for part in accepted for row in part.report.failures or ()), *failed],
        )
        return Sent(report, seconds=sum(part.seconds for part in accepted), narrowed=True)

    def read(self, email: str) -> FullContact | None:
        """Read a contact after the measured visibility delay."""
        self.wait_until_visible()
        return self.contacts.by_email(email)

    def read_value(self) -> str | None:
        """Read the test contact's data field after an import; None if the contact does not exist."""
        contact = self.read(self.test_contact)
        return None if contact is None else contact.value

    def wait_until_visible(self) -> None:
        """Wait as long, and read as often, as the first import needed to become visible."""
        if self.stale_reads:
            self.clock.wait(self.stale_seconds)
            for _ in range(self.stale_reads):
                self.contacts.by_email(self.plan.test_contact.email)

    def _import(self, rows: Sequence[tuple[str, bytes]]) -> Sent:
        """Send rows as one import; one that fails is sent a second time, as the sync does."""
        started = self.clock.monotonic()
        content = body(Chunk([], [encoded for _, encoded in rows]))
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                import_id = self._submit(content)
            except ApiError as error:
                if not is_refusal(error) and error.status != HTTPStatus.FORBIDDEN:
                    raise
                return Sent(ImportStatus(), error.status, error.code or "")
            report = self._await_end(import_id)
            if letters_of(report.status) == FINISHED or attempt == MAX_ATTEMPTS:
                break
        return Sent(report, seconds=self.clock.monotonic() - started)

    def _submit(self, content: bytes) -> str:
        for _ in range(MAX_SLOT_PAUSES):
            try:
                # an attempt whose response was lost writes the same values as the retry
                return self.client.start_import(content, lambda: None)
            except TooManyImportsError:
                self.clock.wait(SLOT_PAUSE_SECONDS)
        return self.client.start_import(content, lambda: None)

    def _await_end(self, import_id: str) -> ImportStatus:
        """Poll an import until it ends, and return its last status."""
        deadline, interval = self.clock.monotonic() + self.settings.import_timeout, self.settings.poll_interval
        failed = 0
        while self.clock.monotonic() < deadline:
            self.clock.wait(interval)
            interval = min(interval * 1.5, MAX_INTERVAL_SECONDS)
            try:
                status = self.client.import_status(import_id)
            except ApiError:
                # a failed poll does not say anything about the state of the import
                failed += 1
                if failed >= MAX_FAILED_POLLS:
                    raise
                continue
            failed, state = 0, shown(status.status)
            if letters_of(state) in {FINISHED, FAILED}:
                return status
            if letters_of(state) not in NOT_FINISHED:
                msg = (
                    f"Import {shown(import_id)} of the rehearsal ended with the state {state}, so the rehearsal stopped. Look up the state "
                    "in dotdigital's documentation, or contact its support with the ID, then rehearse again."
                )
                raise DeliveryError(msg)
        msg = (
            f"Import {shown(import_id)} of the rehearsal was not finished within import_timeout, so the rehearsal stopped. Rehearse again "
            "when dotdigital has finished it."
        )
        raise DeliveryError(msg)


def open_session(settings: Settings, clock: Clock, emails: tuple[str, ...]) -> Session:
    """Log in, read the account and the operator's contacts, and make the plan. Writes nothing.

    Args:
        settings: settings of the sync.
        clock: injectable clock.
        emails: the operator's addresses, normalised.

    Raises:
        TargetError: login failed, a permission is missing, or dotdigital cannot be reached.
    """
    started_at = clock.now()
    own = rehearsal_settings(settings)
    client, info = accounts.connect(own, clock)
    account = accounts.read_account(own, client, info)
    ContactReader(client, account).require_v3()
    reader = FullContactReader(client, own.data_field)
    contacts = tuple(OwnContact(number, email, reader.by_email(email)) for number, email in enumerate(emails, start=1))
    plan = Plan(account.id, account.name, own.address_book, own.data_field, contacts, own.labels.length)
    return Session(own, clock, client, account, plan, started_at)


# The result


class AssumptionVerdict(StrEnum):
    """Whether an assumption holds for this account."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of testing an assumption.

    Args:
        verdict: whether it holds.
        seen: what was seen; for `not tested`, the reason. Contains no address.
        advice: what to do, if it is more specific than the assumption's consequence.
    """

    verdict: AssumptionVerdict
    seen: str
    advice: str = ""

    @property
    def is_refuted(self) -> bool:
        """Whether the assumption does not hold."""
        return self.verdict is AssumptionVerdict.REFUTED


def confirmed(seen: str) -> Finding:
    """Return that an assumption holds."""
    return Finding(AssumptionVerdict.CONFIRMED, seen)


def refuted(seen: str, advice: str = "") -> Finding:
    """Return that an assumption does not hold."""
    return Finding(AssumptionVerdict.REFUTED, seen, advice)


def not_tested(reason: str) -> Finding:
    """Return that an assumption could not be tested."""
    return Finding(AssumptionVerdict.NOT_TESTED, reason)


def sentence(parts: Iterable[str]) -> str:
    """Join parts into one sentence."""
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def result_of(session: Session, findings: list[dict[str, str]]) -> dict[str, Any]:
    """Return the result as JSON values; the keys are a public interface. Contains no address.

    Args:
        session: the session.
        findings: one per assumption: what is assumed, and what was found out.
    """
    plan, wrote = session.plan, session.first_import is not None
    created = ", ".join(contact.name for contact in plan.new)
    counted = Counter(finding["verdict"] for finding in findings)
    cleanup = [
        f"the address book {plan.address_book}",
        f"the data field {plan.data_field}",
        *([f"the contacts that the rehearsal created, if you do not need them: {created}"] if created else []),
        *session.leftovers,
    ]
    return {
        "version": RESULT_VERSION,
        "account": {"id": plan.account_id, "name": plan.account, "region": session.client.base_url},
        "started_at": session.started_at.isoformat(),
        "finished_at": session.clock.now().isoformat(),
        "read_only": not wrote,
        "address_book": plan.address_book,
        "data_field": plan.data_field,
        "addresses": plan.roles(),
        "counts": {verdict.value: counted[verdict] for verdict in AssumptionVerdict},
        "findings": findings,
        "settings": {} if session.longest_value is None else {"max_value_length": session.longest_value},
        "cleanup": cleanup if wrote else [],
        "checklist": [{"question": question, "where": where} for question, where in CHECKLIST],
        "calls": dict(session.client.calls),
    }
