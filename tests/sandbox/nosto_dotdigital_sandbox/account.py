"""A dotdigital account: contacts, address books, data fields, programs and imports, following the published documentation."""

from __future__ import annotations

import copy
import datetime
import re
import threading
import time
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

RESERVED_BOOKS = frozenset({"test", "all contacts"})
FIELD_TYPES = frozenset({"String", "Numeric", "Date", "Boolean"})
_EMAIL = re.compile(r"[^@\s\"<>(),;:\\\[\]]+@[^@\s.\"<>(),;:\\\[\]]+(\.[^@\s.\"<>(),;:\\\[\]]+)+")


@dataclass(slots=True)
class Contact:
    """One contact. `status` is that of the e-mail channel; `lists` holds ids of address books."""

    id: int
    email: str
    created: str
    updated: str
    status: str = "subscribed"
    opt_in_type: str = "Unknown"
    data_fields: dict[str, Any] = field(default_factory=dict)
    lists: set[int] = field(default_factory=set)
    preferences: dict[int, bool] = field(default_factory=dict)
    consent: list[dict[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Book:
    """One address book (list)."""

    id: int
    name: str
    visibility: str = "Private"


@dataclass(slots=True)
class DataField:
    """One contact data field."""

    name: str
    type: str = "String"
    visibility: str = "Private"


@dataclass(slots=True)
class Import:
    """One accepted import. Its rows are applied after `polls` status reads and not before the time `due`."""

    id: str
    contacts: list[dict[str, Any]]
    merge_option: str
    polls: int
    due: float
    outcome: str = "Finished"
    status: str = "NotFinished"
    created: list[dict[str, Any]] = field(default_factory=list)
    updated: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    forgets: int = 0
    applies: float = 1.0


class Account:
    """The account's data. Every public method is safe to call from any thread.

    Attributes:
        import_polls: number of status reads that return NotFinished for an import.
        import_seconds: minimum duration of an import in seconds.
        outcomes: final states of the next imports, instead of Finished.
        refuse: called with an address; returns a failure code to reject the row, or None.
        forget_rows: number of rows that the next imports apply but leave out of their report.
        contact_limit: quota of contacts; None means no quota.
        max_active_imports: number of open imports that the account allows.
        value_limit: maximum number of characters of a text value.
        newest_first: whether open imports are applied in reverse order, since dotdigital guarantees no order.
    """

    def __init__(self, *, name: str = "Demo shop", clock: Callable[[], float] = time.monotonic) -> None:
        """Create a new account with dotdigital's default data fields and one address book."""
        self.id = 101
        self.name = name
        self.clock = clock
        self.lock = threading.RLock()
        self._accepting = threading.Lock()
        self.contacts: dict[int, Contact] = {}
        self.by_email: dict[str, Contact] = {}
        self.books: dict[int, Book] = {}
        self.segments: set[str] = set()
        self.fields: dict[str, DataField] = {
            name: DataField(name, kind, "Public")
            for name, kind in {
                "FIRSTNAME": "String",
                "LASTNAME": "String",
                "FULLNAME": "String",
                "GENDER": "String",
                "POSTCODE": "String",
                "LASTSUBSCRIBED": "Date",
            }.items()
        }
        self.programs: list[dict[str, Any]] = []
        self.imports: dict[str, Import] = {}
        self.globally_suppressed: set[str] = set()
        self.import_polls = 1
        self.import_seconds = 0.0
        self.outcomes: list[str] = []
        self.refuse: Callable[[str], str | None] = lambda _email: None
        self.forget_rows = 0
        self.partial = 1.0
        self.contact_limit: int | None = None
        self.field_limit = 100
        self.max_active_imports = 25
        self.busy_imports = 0
        self.value_limit = 1000
        self.newest_first = False
        self.properties: dict[str, str] = {}
        self._next_contact = 35_000_000
        self._next_book = 5_000
        self.add_book("Newsletter", "Public")

    # Changes that a person makes in dotdigital's user interface

    def add_book(self, name: str, visibility: str = "Private") -> Book:
        """Create an address book."""
        with self.lock:
            self._next_book += 1
            book = self.books[self._next_book] = Book(self._next_book, name, visibility)
            return book

    def add_field(self, name: str, kind: str = "String") -> DataField:
        """Create a data field."""
        with self.lock:
            made = self.fields[name.upper()] = DataField(name.upper(), kind)
            return made

    def add_contact(self, email: str, **values: Any) -> Contact:
        """Create a contact; `values` are attributes of Contact."""
        with self.lock:
            self._next_contact += 1
            now = _now()
            contact = Contact(self._next_contact, email, now, now, **values)
            self.contacts[contact.id] = contact
            self.by_email[email.strip().lower()] = contact
            return contact

    def remove_contact(self, email: str) -> None:
        """Delete a contact, as a person would in the user interface."""
        with self.lock:
            contact = self.by_email.pop(email.strip().lower())
            del self.contacts[contact.id]

    def edit(self, email: str, name: str, value: object) -> None:
        """Change a data field by hand; None empties it."""
        with self.lock:
            contact = self.by_email[email.strip().lower()]
            if value is None:
                contact.data_fields.pop(name, None)
            else:
                contact.data_fields[name] = value
            contact.updated = _now()

    def book_named(self, name: str) -> Book | None:
        """Find an address book by its name."""
        with self.lock:
            return next((book for book in self.books.values() if book.name.lower() == name.strip().lower()), None)

    def snapshot(self) -> dict[str, Contact]:
        """Finish every accepted import, and return a deep copy of all contacts by address."""
        with self.lock:
            self.settle()
            return {contact.email: copy.deepcopy(contact) for contact in self.contacts.values()}

    # Imports

    def open_imports(self) -> int:
        """Return the number of unfinished imports."""
        return sum(job.status == "NotFinished" for job in list(self.imports.values())) + self.busy_imports

    def accept(self, contacts: list[dict[str, Any]], merge_option: str) -> str | None:
        """Accept an import and return its ID; None if too many imports are open."""
        self.work()
        with self._accepting:
            if self.open_imports() >= self.max_active_imports:
                return None
            job = Import(
                str(uuid.uuid4()),
                contacts,
                merge_option,
                self.import_polls,
                self.clock() + self.import_seconds,
                self.outcomes.pop(0) if self.outcomes else "Finished",
                forgets=self.forget_rows,
                applies=self.partial,
            )
            self.imports[job.id] = job
            return job.id

    def poll(self, import_id: str) -> Import | None:
        """Return the import with its current state, as a status read does; None if it does not exist."""
        job = self.imports.get(import_id)
        # a finished import does not change any more, so polling it does not need the lock
        if job is None or job.status != "NotFinished":
            return job
        with self.lock:
            if job.status == "NotFinished":
                if job.polls > 0:
                    job.polls -= 1
                elif self.clock() >= job.due:
                    self._finish(job)
            return job

    def settle(self) -> None:
        """Finish every accepted import at once."""
        with self.lock:
            jobs = [job for job in self.imports.values() if job.status == "NotFinished"]
        for job in reversed(jobs) if self.newest_first else jobs:
            self._settle(job)

    def work(self) -> None:
        """Finish the imports that are due, as dotdigital would in the background."""
        for job in list(self.imports.values()):
            if job.status == "NotFinished" and job.polls <= 0 and self.clock() >= job.due:
                self._settle(job)

    def _settle(self, job: Import) -> None:
        with self.lock:
            if job.status == "NotFinished":
                self._finish(job)

    def _finish(self, job: Import) -> None:
        if job.outcome in {"Finished", "Failed", "ExceedsAllowedContactLimit"}:
            rows = job.contacts
            if job.outcome != "Finished":
                rows = rows[: int(len(rows) * job.applies)] if job.applies < 1 else []
            seen: set[str] = set()
            for row in rows:
                self._apply(row, job, seen)
            if job.forgets:
                job.updated = job.updated[job.forgets :] if len(job.updated) > job.forgets else []
        job.contacts = []
        job.status = job.outcome

    def _apply(self, row: dict[str, Any], job: Import, seen: set[str]) -> None:
        identifiers = row["identifiers"]
        match = row["matchIdentifier"]
        key = f"{match}:{identifiers.get(match)}".lower()
        contact = self._matching(match, identifiers)
        code = self._refusal(row, match, contact, seen, key)
        if code is not None:
            failure: dict[str, Any] = {
                "matchIdentifier": match,
                "identifiers": {k: v for k, v in identifiers.items() if k != "contactId"},
                "failures": [{"failureCode": code, "description": f"The contact was refused: {code}"}],
            }
            if "contactId" in identifiers:
                failure["contactId"] = identifiers["contactId"]
            job.failures.append(failure)
            return
        seen.add(key)
        is_new = contact is None
        if contact is None:
            contact = self.add_contact(identifiers["email"])
        for name, value in row.get("dataFields", {}).items():
            spelled = self.fields[name.upper()].name
            if value is None:
                if job.merge_option == "overwrite":
                    contact.data_fields.pop(spelled, None)
            else:
                contact.data_fields[spelled] = value
        contact.lists.update(row.get("lists", ()))
        email = row.get("channelProperties", {}).get("email", {})
        contact.status = email.get("status", contact.status)
        contact.opt_in_type = email.get("optInType", contact.opt_in_type)
        contact.updated = _now()
        (job.created if is_new else job.updated).append({"contactId": contact.id, "identifiers": {"email": contact.email}})

    def _matching(self, match: str, identifiers: dict[str, Any]) -> Contact | None:
        if match == "contactId":
            return self.contacts.get(int(identifiers["contactId"]))
        return self.by_email.get(str(identifiers.get("email", "")).strip().lower())

    def _refusal(self, row: dict[str, Any], match: str, contact: Contact | None, seen: set[str], key: str) -> str | None:
        identifiers = row["identifiers"]
        if match == "contactId":
            if contact is None:
                return "invalidContactId"
        elif match != "email" or not identifiers.get("email"):
            return "invalidMatchIdentifier"
        elif not _EMAIL.fullmatch(identifiers["email"]):
            return "invalidEmail"
        if key in seen:
            return "duplicateIdentifier"
        email = contact.email if contact else identifiers["email"]
        if email.lower() in self.globally_suppressed:
            return "globallySuppressed"
        if any(book not in self.books for book in row.get("lists", ())):
            return "invalidAddressBookIds"
        for name, value in row.get("dataFields", {}).items():
            if name.upper() not in self.fields or (isinstance(value, str) and len(value) > self.value_limit):
                return "apiSchemaViolation"
        if contact is None and self.contact_limit is not None and len(self.contacts) >= self.contact_limit:
            return "contactLimitReached"
        return self.refuse(email)


def _now() -> str:
    return _written(int(time.time()))


@lru_cache(maxsize=1)
def _written(second: int) -> str:
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
