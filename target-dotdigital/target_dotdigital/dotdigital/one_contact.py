"""Reads one contact by an identifier."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from target_dotdigital.dotdigital.messages import ContactReference
from target_dotdigital.errors import ApiError

if TYPE_CHECKING:
    from target_dotdigital.dotdigital.client import Client

# contacts:contactNotFound by its letters alone: dotdigital spells its codes in several ways
NOT_FOUND = "contactscontactnotfound"
Contact = TypeVar("Contact", bound=ContactReference)


def get_contact(client: Client, identifier: str, value: str, kind: type[Contact]) -> Contact | None:
    """Return the contact with an identifier, or None if there is none.

    Args:
        client: API client.
        identifier: `email` or `contactId`.
        value: its value.
        kind: what of the contact is decoded.

    Raises:
        ApiError: the call failed.
    """
    try:
        # quoted completely, so that the value stays one path segment
        return client.get("contact", f"/contacts/v3/{identifier}/{quote(value, safe='')}", kind)
    except ApiError as error:
        # any other 404 is not dotdigital's: of a gateway, or of an account without version 3, and says nothing about the contact
        if error.status == HTTPStatus.NOT_FOUND and "".join(filter(str.isalpha, error.code or "")).lower() == NOT_FOUND:
            return None
        raise
