"""A dotdigital account: its records, and the imports that change them, following the published documentation."""

from __future__ import annotations

import copy
import re
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nosto_dotdigital_sandbox.deviations import DOTDIGITAL, LIVE
from nosto_dotdigital_sandbox.records import Contact, Records
from nosto_dotdigital_sandbox.rules import Deviations, rule

if TYPE_CHECKING:
    from collections.abc import Callable

_EMAIL = re.compile(r"[^@\s\"<>(),;:\\\[\]]+@[^@\s.\"<>(),;:\\\[\]]+(\.[^@\s.\"<>(),;:\\\[\]]+)+")


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


class Account(Records):
    """The account's data. Every public method is safe to call from any thread.

    Attributes:
        import_polls: number of status reads that return NotFinished for an import.
        import_seconds: minimum duration of an import in seconds.
        outcomes: final states of the next imports, instead of Finished.
        refuse: called with an address; returns a failure code to reject the row, or None.
        kept_out: called with a contact; returns whether imports do not add it to address books, such as a suppressed one.
        forget_rows: number of rows that the next imports apply but leave out of their report.
        contact_limit: quota of contacts; None means no quota.
        max_active_imports: number of open imports that the account allows.
        value_limit: maximum number of characters of a text value.
        page_limit: maximum number of contacts in a page, also if a request allows more.
        newest_first: whether open imports are applied in reverse order, since dotdigital guarantees no order.
    """

    def __init__(
        self, *, name: str = "Demo shop", clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        """Create a new account."""
        super().__init__(Deviations(DOTDIGITAL | LIVE), wall)
        self.id = 101
        self.name = name
        self.clock = clock
        self._accepting = threading.Lock()
        self.imports: dict[str, Import] = {}
        self.globally_suppressed: set[str] = set()
        self.import_polls = 1
        self.import_seconds = 0.0
        self.outcomes: list[str] = []
        self.refuse: Callable[[str], str | None] = lambda _email: None
        self.kept_out: Callable[[Contact], bool] = lambda _contact: False
        self.forget_rows = 0
        self.partial = 1.0
        self.contact_limit: int | None = None
        self.field_limit = 100
        self.max_active_imports = 25
        self.busy_imports = 0
        self.value_limit = 1000
        self.page_limit = 5000
        self.newest_first = False
        self.properties: dict[str, str] = {}

    def snapshot(self) -> dict[str, Contact]:
        """Finish every accepted import, and return a deep copy of all contacts by address."""
        with self.lock:
            self.settle()
            return {contact.email: copy.deepcopy(contact) for contact in self.contacts.values()}

    # Life cycle of imports

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
                    self.finish(job)
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
                self.finish(job)

    # Rules of imports

    @rule
    def finish(self, job: Import) -> None:
        """Apply an import's rows, unless it fails, and set its final state."""
        outcome = self.outcome(job)
        if outcome in {"Finished", "Failed", "ExceedsAllowedContactLimit"}:
            rows = job.contacts
            if outcome != "Finished":
                rows = rows[: int(len(rows) * job.applies)] if job.applies < 1 else []
            seen: set[str] = set()
            for row in rows:
                self.apply(self.read(row), job, seen)
            self.complete_report(job)
        job.contacts = []
        job.status = outcome

    @rule
    def outcome(self, job: Import) -> str:
        """Return the final state of an import."""
        return job.outcome

    @rule
    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row as dotdigital understands it."""
        return row

    @rule
    def apply(self, row: dict[str, Any], job: Import, seen: set[str]) -> None:
        """Apply one row and report it; `seen` holds the identities of the rows before it."""
        identifiers = row["identifiers"]
        match = row["matchIdentifier"]
        contact = self.matching(match, identifiers)
        code = self.refusal(row, contact, seen)
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
        seen.add(self.identity(row))
        report = job.updated
        if contact is None:
            contact, report = self.create(identifiers.get("email", "")), job.created
            self.store(contact, row, job.merge_option)
        else:
            self.change(contact, row, job.merge_option)
        shown = {"email": contact.email} if contact.email else {}
        report.append({"contactId": contact.id, "identifiers": shown})

    def matching(self, match: str, identifiers: dict[str, Any]) -> Contact | None:
        """Return the contact that a row is about; None if there is none."""
        if match == "contactId":
            return self.contacts.get(int(identifiers["contactId"]))
        return self.find(str(identifiers.get("email", "")))

    @rule
    def identity(self, row: dict[str, Any]) -> str:
        """Return what two rows of one import must not have in common."""
        match = row["matchIdentifier"]
        return f"{match}:{row['identifiers'].get(match)}".lower()

    @rule
    def refusal(self, row: dict[str, Any], contact: Contact | None, seen: set[str]) -> str | None:
        """Return the failure code of a row; None if it is accepted."""
        identifiers = row["identifiers"]
        match = row["matchIdentifier"]
        if match == "contactId":
            if contact is None:
                return "invalidContactId"
        elif match != "email" or not identifiers.get("email"):
            return "invalidMatchIdentifier"
        elif not _EMAIL.fullmatch(identifiers["email"]):
            return "invalidEmail"
        if self.identity(row) in seen:
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

    @rule
    def create(self, email: str) -> Contact:
        """Create a contact for a row that matches none."""
        return self.add_contact(email)

    @rule
    def change(self, contact: Contact, row: dict[str, Any], merge_option: str) -> None:
        """Change an existing contact as a row says."""
        self.store(contact, row, merge_option)

    def store(self, contact: Contact, row: dict[str, Any], merge_option: str) -> None:
        """Write what a row states into a contact, and nothing else."""
        for name, value in row.get("dataFields", {}).items():
            spelled = self.fields[name.upper()].name
            if value is None:
                if merge_option == "overwrite":
                    contact.data_fields.pop(spelled, None)
            else:
                contact.data_fields[spelled] = value
        if not self.kept_out(contact):
            contact.lists.update(row.get("lists", ()))
        email = row.get("channelProperties", {}).get("email", {})
        contact.status = email.get("status", contact.status)
        contact.opt_in_type = email.get("optInType", contact.opt_in_type)
        contact.updated = self.timestamp()

    @rule
    def complete_report(self, job: Import) -> None:
        """Complete the report of an import whose rows have been applied."""
        if job.forgets:
            job.updated = job.updated[job.forgets :] if len(job.updated) > job.forgets else []
