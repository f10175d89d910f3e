"""Creates the address book and the data fields, private, where they are missing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.account import AddressBook, Field, ListedBook, find_book, usable, wrong_type
from target_dotdigital.errors import AccountError, ApiError
from target_dotdigital.texts import shown

if TYPE_CHECKING:
    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.dotdigital.client import Client
    from target_dotdigital.settings import Settings


def ensure_book_and_fields(settings: Settings, client: Client, account: Account, needed: tuple[str, ...]) -> Account:
    """Create the address book and the needed data fields where they are missing.

    Raises:
        AccountError: dotdigital does not allow it.
        ApiError: a call failed.
    """
    book, public = account.book, []
    if book is None and settings.has_address_book:
        book, is_public = _create_book(settings, client)
        public += ["address book"] * is_public
    fields = dict(account.fields)
    for name in needed:
        if name not in fields:
            fields[name], is_public = _create_field(name, "Date" if name == settings.synced_at_field else "String", client)
            public += [f"data field {name}"] * is_public
    return replace(account, book=book, fields=fields, public=tuple(public))


def _create_book(settings: Settings, client: Client) -> tuple[AddressBook, bool]:
    try:
        body = {"name": settings.address_book.strip(), "visibility": "Private"}
        made = client.post("address books", "/v2/address-books", body, ListedBook)
        return usable(made), _is_public(made.visibility)
    except ApiError as error:
        if error.code == "ERROR_ADDRESSBOOK_DUPLICATE":
            # an earlier call may have created it although its response was lost
            if found := find_book(settings, client):
                return found, False
            msg = (
                f"The name {settings.address_book!r} is taken in dotdigital, but not by an address book: by a segment, by a name that "
                "dotdigital reserves, or by something in the recycle bin. Nothing was written. Choose another name for address_book."
            )
        elif error.code == "ERROR_ADDRESSBOOK_LIMITEXCEEDED":
            msg = "The account has reached its limit of address books. Nothing was written. Remove one, or name an existing one."
        elif error.code in {"ERROR_ADDRESSBOOK_INVALID", "ERROR_ADDRESSBOOK_NOTWRITABLE"}:
            msg = f"dotdigital does not accept the address book name {settings.address_book!r}. Nothing was written. Change address_book."
        else:
            raise
        raise AccountError(msg) from None


def _create_field(name: str, kind: str, client: Client) -> tuple[str, bool]:
    try:
        # no default value: personalisation would show it for contacts whose labels were cleared (contracts/dotdigital.md 3)
        made = client.post("data fields", "/v2/data-fields", {"name": name, "type": kind, "visibility": "Private"}, Field)
    except ApiError as error:
        if error.code == "ERROR_NON_UNIQUE_DATAFIELD":
            fields = client.get("data fields", "/v2/data-fields", list[Field])
            field = next((one for one in fields if one.name.upper() == name.upper()), None)
            if field is not None and field.type == kind:
                return field.name, False
            msg = wrong_type(name, shown(field.type) if field else "unknown", kind)
        elif error.code == "ERROR_DATAFIELD_LIMITEXCEEDED":
            msg = f"The account has reached its limit of data fields, so {name} was not created. Remove a data field in dotdigital."
        elif error.code == "ERROR_DATAFIELD_INVALID":
            msg = f"dotdigital does not accept the data field name {name!r}. No contact was written. Change data_field."
        else:
            raise
        raise AccountError(msg) from None
    if made.name.upper() != name.upper():
        # labels written there would overwrite other data
        msg = f"dotdigital created another data field than {name}. No contact was written. Report this to dotdigital."
        raise AccountError(msg)
    return made.name, _is_public(made.visibility)


def _is_public(visibility: str | None) -> bool:
    return (visibility or "Private").lower() != "private"
