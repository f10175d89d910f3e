"""Reads complete contact records, and keeps what has to be compared. Values of other data fields are kept as digests only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.dotdigital.messages import NULL, ContactReference, Identified, Links
from target_dotdigital.dotdigital.one_contact import get_contact

if TYPE_CHECKING:
    from target_dotdigital.dotdigital.client import Client


class _EmailChannel(msgspec.Struct, rename="camel"):
    status: str = ""
    opt_in_type: str = ""


class _Channels(msgspec.Struct):
    email: _EmailChannel | None = None


class _Contact(ContactReference, rename="camel"):
    status: str = ""
    data_fields: dict[str, msgspec.Raw] | None = None
    channel_properties: _Channels | None = None
    lists: list[Identified] | None = None
    preferences: msgspec.Raw = NULL
    consent_records: msgspec.Raw = NULL


class _Field(msgspec.Struct):
    name: str


class _Page(msgspec.Struct):
    items: list[_Contact] = msgspec.field(name="_items")
    links: Links = msgspec.field(name="_links", default_factory=Links)


class Record(msgspec.Struct, frozen=True):
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
    has_capitals: bool = False

    @property
    def is_pending_opt_in(self) -> bool:
        """Whether the contact has yet to confirm that it wants e-mails."""
        return "pendingoptin" in {self.status.lower(), self.email_status.lower()}


@dataclass(frozen=True, slots=True)
class ContactPage:
    """One page of the list of contacts, and the marker of the next; empty if there is none."""

    records: list[Record]
    marker: str


@dataclass(frozen=True, slots=True)
class ContactRecords:
    """Reads contacts.

    Args:
        client: API client.
        data_field: the rehearsal's data field.
    """

    client: Client
    data_field: str

    def by_email(self, email: str) -> Record | None:
        """Return the contact with an address, or None if there is none.

        Raises:
            ApiError: the call failed.
        """
        return self._one("email", email)

    def by_id(self, contact_id: int) -> Record | None:
        """Return the contact with an ID, or None if there is none.

        Raises:
            ApiError: the call failed.
        """
        return self._one("contactId", str(contact_id))

    def field_names(self) -> set[str]:
        """Return the names of all data fields of the account, in capitals.

        Raises:
            ApiError: the call failed.
        """
        return {field.name.upper() for field in self.client.get("data fields", "/v2/data-fields", list[_Field])}

    def page(self, limit: int, marker: str = "", book: int | None = None) -> ContactPage:
        """Return a page of the list of contacts with their address books.

        Raises:
            ApiError: the call failed.
        """
        params: dict[str, str | int] = {"limit": limit, "include": "lists", "data-fields": self.data_field}
        if marker:
            params["marker"] = marker
        if book is not None:
            params["~listId"] = book
        page = self.client.get("contacts", "/contacts/v3", _Page, **params)
        return ContactPage([self._record(contact) for contact in page.items], page.links.next_marker)

    def _one(self, identifier: str, value: str) -> Record | None:
        contact = get_contact(self.client, identifier, value, _Contact)
        return None if contact is None else self._record(contact)

    def _record(self, contact: _Contact) -> Record:
        values = {name.upper(): msgspec.json.decode(raw) for name, raw in (contact.data_fields or {}).items()}
        own = values.pop(self.data_field.upper(), None)
        channel = contact.channel_properties.email if contact.channel_properties else None
        return Record(
            contact_id=contact.contact_id,
            status=contact.status,
            email_status=channel.status if channel else contact.status,
            opt_in_type=channel.opt_in_type if channel else "",
            consent=(_digest(contact.preferences), _digest(contact.consent_records)),
            fields={name: _digest_of(value) for name, value in values.items() if value not in (None, "")},
            lists=None if contact.lists is None else [one.id for one in contact.lists if one.id is not None],
            value=own if isinstance(own, str) else "" if own is None else str(own),
            has_capitals=(contact.identifiers.email or "") != (contact.identifiers.email or "").lower(),
        )


def _digest(raw: msgspec.Raw) -> str:
    value = msgspec.json.decode(raw)
    # order has no meaning here
    return _digest_of(sorted(value, key=_digest_of) if isinstance(value, list) else value) if value else ""


def _digest_of(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:16]
