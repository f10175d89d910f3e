"""Reads complete contacts, and keeps what has to be compared. Values of other data fields are kept as digests only."""

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


class DatedContact(ContactReference, kw_only=True):
    """A contact of a list, with its time of creation."""

    created: str | None = None


class ContactPage(msgspec.Struct):
    """One page of the list of contacts."""

    items: list[DatedContact] = msgspec.field(name="_items")
    links: Links = msgspec.field(name="_links", default_factory=Links)


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
        """Whether the contact has yet to confirm that it wants e-mails."""
        return "pendingoptin" in {self.status.lower(), self.email_status.lower()}


@dataclass(frozen=True, slots=True)
class FullContactReader:
    """Reads contacts.

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
        contact = get_contact(self.client, "email", email, _Contact)
        if contact is None:
            return None
        values = {name.upper(): msgspec.json.decode(raw) for name, raw in (contact.data_fields or {}).items()}
        own = values.pop(self.data_field.upper(), None)
        channel = contact.channel_properties.email if contact.channel_properties else None
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
        return get_contact(self.client, "contactId", str(contact_id), ContactReference) is not None

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
