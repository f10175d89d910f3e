"""Reads contacts: the pages of the account, single contacts, and complete ones for the rehearsal."""

from __future__ import annotations

import hashlib
import logging
import threading
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from target_dotdigital.dotdigital.messages import NULL, ContactReference, Identified, Links
from target_dotdigital.errors import ApiError, EndlessListError
from target_dotdigital.models import Observed, to_payload
from target_dotdigital.text import is_clean, normalise, shown, spelled_alike

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator, Mapping, Sequence

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.dotdigital.client import Client

# contacts:contactNotFound by its letters alone: dotdigital spells its codes in several ways
NOT_FOUND = "contactscontactnotfound"


Item = TypeVar("Item")


class _Prefetch(Generic[Item]):
    """One item that is being read in a background thread.

    The thread is a daemon: a run that ends, for example after a signal, does not wait for a call whose result is not needed any more.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._found: list[Item] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def result(self) -> list[Item]:
        """Wait for the item and return it in a list, which is empty at the end of the iterator; what reading raised is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found

    def _read(self) -> None:
        try:
            self._found.extend([next(self._items)])
        except StopIteration:
            return
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for it
            self._error = error


def prefetch_pages(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items of an iterator, reading the next one in the background while the caller works on the current one.

    At most one item is read ahead. A caller that stops early leaves at most one call behind, which ends by itself.
    """
    reading = _Prefetch(items)
    reading.start()
    while found := reading.result():
        reading = _Prefetch(items)
        reading.start()
        yield found[0]


LOGGER = logging.getLogger("target-dotdigital")
CONTACTS_PER_PAGE = 5_000
# pages without contacts that link to another page; a list with more of them counts as endless
MAX_EMPTY_PAGES = 100
PAGES_PER_PROGRESS_LINE = 20
CALL_KIND = "contacts"


class _EmailChannel(msgspec.Struct, rename="camel"):
    status: str = ""
    opt_in_type: str = ""


class _Channels(msgspec.Struct):
    email: _EmailChannel | None = None


class Contact(ContactReference, rename="camel", kw_only=True):
    """A contact as dotdigital returns it; each call returns some of these members."""

    created: str | None = None
    raw_status: msgspec.Raw = msgspec.field(name="status", default=NULL)
    # raw JSON: a field that this target does not own may hold any type
    data_fields: dict[str, msgspec.Raw] | None = None
    channel_properties: _Channels | None = None
    lists: list[Identified] | None = None
    preferences: msgspec.Raw = NULL
    consent_records: msgspec.Raw = NULL

    @property
    def status(self) -> str:
        """Its status; empty if it is missing or not a text."""
        status = msgspec.json.decode(self.raw_status)
        return status if isinstance(status, str) else ""

    @property
    def channel(self) -> _EmailChannel | None:
        """Its e-mail channel."""
        return self.channel_properties.email if self.channel_properties else None

    @property
    def is_pending_opt_in(self) -> bool:
        """Whether the contact has yet to confirm a double opt-in."""
        return b"pending" in bytes(self.raw_status).lower()

    @property
    def is_kept_out(self) -> bool:
        """Whether the contact is suppressed, or has yet to confirm a double opt-in (docs/assumptions.md, dotdigital 7)."""
        return self.is_pending_opt_in or b"suppressed" in bytes(self.raw_status).lower()


class ContactPage(msgspec.Struct):
    """One page of the list of contacts."""

    items: list[Contact] = msgspec.field(name="_items")
    links: Links = msgspec.field(name="_links", default_factory=Links)


def get_contact(client: Client, identifier: str, value: str) -> Contact | None:
    """Return the contact with an identifier, or None if there is none.

    Args:
        client: API client.
        identifier: `email` or `contactId`.
        value: its value.

    Raises:
        ApiError: the call failed.
    """
    try:
        # quoted completely, so that the value stays one path segment
        return client.get("contact", f"/contacts/v3/{identifier}/{quote(value, safe='')}", Contact)
    except ApiError as error:
        # any other 404 comes from a gateway, or an account without version 3 of the API, and does not mean that the contact is missing
        if error.status == HTTPStatus.NOT_FOUND and "".join(filter(str.isalpha, error.code or "")).lower() == NOT_FOUND:
            return None
        raise


@dataclass(frozen=True, slots=True)
class ContactReader:
    """Reads an account's contacts: addresses, labels and membership of the address book.

    Args:
        client: API client.
        account: the address book and the spelling of the data fields.
    """

    client: Client
    account: Account

    def require_v3(self) -> None:
        """Read one contact: an old account may lack version 3 of the API, which everything about contacts needs.

        Raises:
            ApiError: the call failed.
        """
        self.client.get(CALL_KIND, "/contacts/v3", ContactPage, limit=1)

    def pages(self, created_since: datetime.datetime | None = None) -> Iterator[list[Observed]]:
        """Yield every contact of the account that has an address, 5,000 at a time.

        Args:
            created_since: leave out contacts that were created before this time (UTC).

        dotdigital lists contacts by ascending ID (docs/assumptions.md, dotdigital 10). Each page that is followed by another must therefore
        end with a higher ID than the page before it. Without this check, repeating pages would never end.

        Raises:
            ApiError: a page cannot be read.
            EndlessListError: the pages repeat.
        """
        params: dict[str, str | int] = {"limit": CONTACTS_PER_PAGE}
        if self.account.fields:
            params["data-fields"] = "|".join(self.account.fields.values())
        if self.account.book is not None:
            params["include"] = "lists"
        if created_since is not None:
            params["~created"] = f"gte::{created_since:%Y-%m-%dT%H:%M:%SZ}"
        read, highest, left_out, empty, marker = 0, 0, 0, 0, ""
        while True:
            page = self.client.get(CALL_KIND, "/contacts/v3", ContactPage, **params, **({"marker": marker} if marker else {}))
            marker = page.links.next_marker
            last = max((contact.contact_id or 0 for contact in page.items), default=0)
            empty = 0 if page.items else empty + 1
            if marker and ((page.items and last <= highest) or empty > MAX_EMPTY_PAGES):
                raise EndlessListError(CALL_KIND)
            highest = max(highest, last)
            usable = [contact for contact in page.items if _is_usable(contact)]
            left_out += len(page.items) - len(usable)
            yield self._observed(usable)
            read += 1
            if read % PAGES_PER_PROGRESS_LINE == 0:
                LOGGER.info("dotdigital: %d contacts read back so far", read * CONTACTS_PER_PAGE)
            # an empty page may link to another page
            if not marker:
                break
        _warn(left_out)

    def look_up(self, emails: Sequence[str]) -> list[Observed]:
        """Look up addresses one by one and return the contacts that exist.

        Raises:
            ApiError: a call failed.
        """
        found = {email: contact for email in emails if (contact := get_contact(self.client, "email", email)) is not None}
        usable = {email: contact for email, contact in found.items() if _is_usable(contact) and contact.identifiers.email}
        _warn(sum(not _is_usable(contact) for contact in found.values()))
        return [
            # the requested spelling, if dotdigital spells the domain differently
            replace(contact, email=email) if spelled_alike(contact.email) == spelled_alike(email) else contact
            for email, contact in zip(usable, self._observed(list(usable.values())), strict=True)
        ]

    def _observed(self, contacts: Sequence[Contact]) -> list[Observed]:
        book = self.account.book
        names = {spelled.upper(): name for name, spelled in self.account.fields.items() if name in self.label_fields}
        return [
            Observed(
                normalise(contact.identifiers.email),
                contact.contact_id,
                payload_of(
                    {names[key.upper()]: value for key, value in (contact.data_fields or {}).items() if key.upper() in names}
                ),
                book is not None and any(listed.id == book.id for listed in contact.lists or ()),
                contact.is_kept_out,
                is_pending_opt_in=contact.is_pending_opt_in,
            )
            for contact in contacts
            if contact.identifiers.email
        ]

    @property
    def label_fields(self) -> set[str]:
        """The data fields that hold labels."""
        return {name for name in self.account.fields if name not in self.account.stamps}


def payload_of(values: Mapping[str, msgspec.Raw]) -> str:
    """Return data-field values as a payload; empty values are left out, and values that are not text keep their JSON form."""
    return to_payload({name: text for name, value in values.items() if (text := _text_of(value))})


def _text_of(value: msgspec.Raw) -> str:
    text = bytes(value).decode(errors="replace")
    if text.startswith('"'):
        return msgspec.json.decode(text, type=str)
    return "" if text == "null" else text


def _is_usable(contact: Contact) -> bool:
    """Return whether a contact can be used; one without an address is outside this target's scope and passes without a warning."""
    email = contact.identifiers.email
    return not email or is_clean(email)


def _warn(left_out: int) -> None:
    if left_out:
        LOGGER.warning("dotdigital: %d contacts read back without a usable address were left out", left_out)


@dataclass(frozen=True, slots=True)
class LiveContact:
    """A contact as dotdigital holds it.

    Args:
        contact_id: its ID; None if dotdigital returned an invalid one.
        payload: the labels.
        in_address_book: whether it is in the configured address book; None if no address book is used or it does not exist.
        email_status: status of its e-mail channel, such as subscribed or unsubscribed.
    """

    contact_id: int | None
    payload: str
    in_address_book: bool | None
    email_status: str


def read_contact(client: Client, account: Account, email: str) -> LiveContact | None:
    """Return the contact with an address, or None if there is none.

    Raises:
        ApiError: the call failed.
    """
    found = get_contact(client, "email", email)
    if found is None:
        return None
    names = {spelled.upper(): name for name, spelled in account.fields.items() if name not in account.stamps}
    values = {names[key.upper()]: value for key, value in (found.data_fields or {}).items() if key.upper() in names}
    book = account.book
    return LiveContact(
        found.contact_id,
        payload_of(values),
        None if book is None else any(listed.id == book.id for listed in found.lists or ()),
        shown(found.channel.status) if found.channel else "",
    )


@dataclass(frozen=True, slots=True)
class FullContact:
    """A contact at one moment.

    Args:
        contact_id: its ID; None if dotdigital returned none.
        status: status of the contact.
        email_status: status of its e-mail channel.
        opt_in_type: opt-in type of its e-mail channel.
        consent: digests of preferences and consent records.
        fields: digests of all data fields that have a value, by name in capitals, without the rehearsal's.
        lists: IDs of its address books; None if dotdigital did not return them.
        value: value of the rehearsal's data field; empty if there is none.
        has_capitals: whether the address is stored with capitals.
    """

    contact_id: int | None
    status: str
    email_status: str
    opt_in_type: str
    consent: tuple[str, str]
    fields: dict[str, str]
    lists: list[int] | None
    value: str
    has_capitals: bool

    @property
    def is_pending_opt_in(self) -> bool:
        """Whether the contact has yet to confirm a double opt-in."""
        return "pendingoptin" in {self.status.lower(), self.email_status.lower()}


@dataclass(frozen=True, slots=True)
class FullContactReader:
    """Reads complete contacts for the rehearsal.

    Args:
        client: API client.
        data_field: the rehearsal's data field.
    """

    client: Client
    data_field: str

    def by_email(self, email: str) -> FullContact | None:
        """Return the contact with an address, or None if there is none.

        Raises:
            ApiError: the call failed.
        """
        contact = get_contact(self.client, "email", email)
        if contact is None:
            return None
        values = {name.upper(): msgspec.json.decode(raw) for name, raw in (contact.data_fields or {}).items()}
        own = values.pop(self.data_field.upper(), None)
        channel = contact.channel
        written = contact.identifiers.email or ""
        return FullContact(
            contact_id=contact.contact_id,
            status=contact.status,
            email_status=channel.status if channel else contact.status,
            opt_in_type=channel.opt_in_type if channel else "",
            consent=(_digest(contact.preferences), _digest(contact.consent_records)),
            fields={name: _digest_of(value) for name, value in values.items() if value not in (None, "")},
            lists=None if contact.lists is None else [book.id for book in contact.lists if book.id is not None],
            value=own if isinstance(own, str) else "" if own is None else str(own),
            has_capitals=written != written.lower(),
        )

    def has_id(self, contact_id: int) -> bool:
        """Return whether there is a contact with an ID.

        Raises:
            ApiError: the call failed.
        """
        return get_contact(self.client, "contactId", str(contact_id)) is not None

    def page(self, limit: int, marker: str = "") -> ContactPage:
        """Return a page of the list of contacts.

        Raises:
            ApiError: the call failed.
        """
        return self.client.get("contacts", "/contacts/v3", ContactPage, limit=limit, **({"marker": marker} if marker else {}))


def _digest(raw: msgspec.Raw) -> str:
    value = msgspec.json.decode(raw)
    # the order has no meaning
    return _digest_of(sorted(value, key=_digest_of) if isinstance(value, list) else value) if value else ""


def _digest_of(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:16]
