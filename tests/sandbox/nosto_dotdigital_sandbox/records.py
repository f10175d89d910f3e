"""What a dotdigital account holds: contacts, address books, data fields and programs."""

from __future__ import annotations

import datetime
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nosto_dotdigital_sandbox.rules import Deviations, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESERVED_BOOKS = frozenset({"test", "all contacts"})
FIELD_TYPES = frozenset({"String", "Numeric", "Date", "Boolean"})
DEFAULT_FIELDS = {
    "FIRSTNAME": "String",
    "LASTNAME": "String",
    "FULLNAME": "String",
    "GENDER": "String",
    "POSTCODE": "String",
    "LASTSUBSCRIBED": "Date",
}


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
    """One contact data field. `through_api` is False for fields that a person created, and for dotdigital's own."""

    name: str
    type: str = "String"
    visibility: str = "Private"
    through_api: bool = False


class Records:
    """The records of an account, and the changes that a person makes to them in dotdigital's user interface.

    Attributes:
        deviations: the switches that are on, see `deviations.DOTDIGITAL`.
        wall: returns seconds since 1970.
        reads_behind: with the switch `read_back_lags`, the number of reads of contacts that do not yet show a finished import.
    """

    def __init__(self, deviations: Deviations, wall: Callable[[], float] = time.time) -> None:
        """Create dotdigital's default data fields and one address book."""
        self.deviations = deviations
        self.wall = wall
        self.lock = threading.RLock()
        self.contacts: dict[int, Contact] = {}
        self.by_email: dict[str, Contact] = {}
        self.books: dict[int, Book] = {}
        self.segments: set[str] = set()
        self.fields = {name: DataField(name, kind, "Public") for name, kind in DEFAULT_FIELDS.items()}
        self.programs: list[dict[str, Any]] = []
        self.reads_behind: float = 3
        self.outdated: Mapping[int, Contact] | None = None
        self.outdated_reads: float = 0
        self._next_contact = 35_000_000
        self._next_book = 5_000
        self.add_book("Newsletter", "Public")

    def add_book(self, name: str, visibility: str = "Private") -> Book:
        """Create an address book."""
        with self.lock:
            self._next_book += 1
            book = self.books[self._next_book] = Book(self._next_book, name, visibility)
            return book

    def add_field(self, name: str, kind: str = "String", visibility: str = "Private") -> DataField:
        """Create a data field."""
        with self.lock:
            made = self.fields[name.upper()] = DataField(name.upper(), kind, visibility)
            return made

    def add_contact(self, email: str, **values: Any) -> Contact:
        """Create a contact; `values` are attributes of Contact."""
        with self.lock:
            self._next_contact += 1
            now = self.timestamp()
            contact = Contact(self._next_contact, email, now, now, **values)
            self.contacts[contact.id] = contact
            if email:
                self.by_email[email.strip().lower()] = contact
            return contact

    def timestamp(self) -> str:
        """Return the current time as dotdigital writes it."""
        return _written(int(self.wall()))

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
            contact.updated = self.timestamp()

    def book_named(self, name: str) -> Book | None:
        """Find an address book by its name."""
        with self.lock:
            return next((book for book in self.books.values() if book.name.lower() == name.strip().lower()), None)

    # Rules of the API

    @rule
    def create_book(self, name: str, visibility: str) -> Book:
        """Create an address book through the API."""
        return self.add_book(name, visibility)

    @rule
    def create_field(self, name: str, kind: str, visibility: str) -> DataField:
        """Create a data field through the API."""
        made = self.add_field(name, kind, visibility)
        made.through_api = True
        return made

    @rule
    def find(self, email: str) -> Contact | None:
        """Find a contact by its address; capitals and surrounding spaces make no difference."""
        return self.by_email.get(email.strip().lower())

    @rule
    def visible(self) -> Mapping[int, Contact]:
        """Return the contacts that a read of contacts shows."""
        return self.contacts


@lru_cache(maxsize=1)
def _written(second: int) -> str:
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
