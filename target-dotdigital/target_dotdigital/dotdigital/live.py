"""Reads one contact as dotdigital holds it now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.dotdigital.contacts import payload_of
from target_dotdigital.dotdigital.messages import ContactReference, Identified
from target_dotdigital.dotdigital.one_contact import get_contact
from target_dotdigital.texts import shown

if TYPE_CHECKING:
    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.dotdigital.client import Client


class _EmailChannel(msgspec.Struct, rename="camel"):
    status: str = ""


class _Channels(msgspec.Struct):
    email: _EmailChannel | None = None


class _Contact(ContactReference, rename="camel"):
    data_fields: dict[str, msgspec.Raw] | None = None
    channel_properties: _Channels | None = None
    lists: list[Identified] | None = None


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
    found = get_contact(client, "email", email, _Contact)
    if found is None:
        return None
    names = {spelled.upper(): name for name, spelled in account.fields.items() if name not in account.stamps}
    values = {names[key.upper()]: value for key, value in (found.data_fields or {}).items() if key.upper() in names}
    channel = found.channel_properties.email if found.channel_properties else None
    book = account.book
    return LiveContact(
        found.contact_id,
        payload_of(values),
        None if book is None else any(one.id == book.id for one in found.lists or ()),
        shown(channel.status) if channel else "",
    )
