"""The account at the other end: its region, the address book, the data fields, the programs. Reads first, creates late."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from target_dotdigital.client import Client
from target_dotdigital.errors import AccountError, ApiError
from target_dotdigital.settings import Settings, is_loopback

if TYPE_CHECKING:
    from target_dotdigital.retry import Clock

PAGE = 1000
DOMAIN = ".dotdigital.com"


class Property(msgspec.Struct):
    """One property of the account; values are texts, whatever their type."""

    name: str
    value: str | None = None


class AccountInfo(msgspec.Struct):
    """The answer of account-info."""

    id: int
    properties: list[Property]


class Book(msgspec.Struct):
    """An address book (list)."""

    id: int
    name: str
    contacts: int = 0


class Field(msgspec.Struct):
    """A contact data field."""

    name: str
    type: str


class Program(msgspec.Struct):
    """An automation program."""

    name: str
    status: str


@dataclass(frozen=True, slots=True)
class Account:
    """The account as a run finds it.

    Args:
        id: dotdigital's id of the account.
        name: its name.
        endpoint: the address of its region.
        book: the address book; None if it is to be created, or none is used.
        fields: name as configured -> name as the account spells it; those that are to be created are absent.
        calls_left: calls left in this hour under the old flat limit; None under the tiered one.
        stamps: the fields that hold a time rather than labels.
    """

    id: int
    name: str
    endpoint: str
    book: Book | None
    fields: dict[str, str]
    calls_left: int | None
    stamps: frozenset[str] = frozenset()

    def spelled(self, field: str) -> str:
        """Give a field's name as the account spells it."""
        return self.fields.get(field, field)


def connect(settings: Settings, clock: Clock) -> tuple[Client, AccountInfo]:
    """Log in and find the account's region.

    Raises:
        AccountError: credentials or region are wrong.
        ApiError: dotdigital does not answer.
    """
    first = Client(settings.api_url.rstrip("/"), settings.api_user, settings.api_password, settings.request_timeout, clock)
    try:
        info = first.get("account", "/v2/account-info", AccountInfo)
    except ApiError as error:
        if error.status != 403:  # noqa: PLR2004 - Forbidden
            raise
        msg = (
            "dotdigital denied access (status 403): the account does not live in the region that api_url names. Take api_url out "
            "of the settings: the region is then found by itself."
        )
        raise AccountError(msg) from None
    endpoint = (_property(info, "ApiEndpoint") or first.base_url).rstrip("/")
    host, first_host = urlsplit(endpoint).hostname or "", urlsplit(first.base_url).hostname or ""
    secure = urlsplit(endpoint).scheme == "https" and host.endswith(DOMAIN)
    if not secure and not (is_loopback(host) and is_loopback(first_host)):
        msg = (
            "dotdigital names an API address for this account that is not its own (https, dotdigital.com): the password was not "
            "sent there. Report this to dotdigital."
        )
        raise AccountError(msg)
    if endpoint == first.base_url:
        return first, info
    client = Client(endpoint, settings.api_user, settings.api_password, settings.request_timeout, clock)
    client.calls.update(first.calls)
    return client, info


def read_account(settings: Settings, client: Client, info: AccountInfo) -> Account:
    """Read what the settings name; nothing is created.

    Raises:
        AccountError: the address book is missing by its id, or a data field has the wrong type.
        ApiError: dotdigital does not answer.
    """
    left = _property(info, "ApiCallsRemaining")
    return Account(
        id=info.id,
        name=_property(info, "Name") or str(info.id),
        endpoint=client.base_url,
        book=_find_book(settings, client) if settings.upload_emails else None,
        fields=_find_fields(settings, client),
        calls_left=int(left) if left and left.isdigit() else None,
        stamps=frozenset({settings.synced_at_field} if settings.synced_at_field else ()),
    )


def complete(settings: Settings, client: Client, account: Account, needed: tuple[str, ...]) -> Account:
    """Create the address book and those of the needed data fields that are missing.

    Raises:
        AccountError: dotdigital does not allow it.
        ApiError: dotdigital does not answer.
    """
    book = account.book
    if book is None and settings.upload_emails:
        book = _create_book(settings, client)
    fields = dict(account.fields)
    for name in needed:
        if name not in fields:
            fields[name] = _create_field(name, "Date" if name == settings.synced_at_field else "String", client)
    return replace(account, book=book, fields=fields)


def active_programs(client: Client) -> list[str] | None:
    """Give the names of the active programs; None if the user may not see them."""
    names: list[str] = []
    try:
        while page := client.get("programs", "/v2/programs", list[Program], select=PAGE, **({"skip": len(names)} if names else {})):
            names += [program.name if program.status == "Active" else "" for program in page]
            if len(page) < PAGE:
                break
    except ApiError as error:
        if error.status == 403:  # noqa: PLR2004 - Forbidden
            return None
        raise
    return [name for name in names if name]


def _find_book(settings: Settings, client: Client) -> Book | None:
    if settings.address_book_id is not None:
        try:
            return client.get("address books", f"/v2/address-books/{settings.address_book_id}", Book)
        except ApiError as error:
            if error.status == 404 or error.code == "ERROR_ADDRESSBOOK_NOT_FOUND":  # noqa: PLR2004 - Not Found
                msg = f"There is no address book with the id {settings.address_book_id} in this account. Check address_book_id."
                raise AccountError(msg) from None
            raise
    wanted = settings.address_book.strip().lower()
    skip = 0
    while page := client.get("address books", "/v2/address-books", list[Book], select=PAGE, skip=skip):
        if found := next((book for book in page if book.name.strip().lower() == wanted), None):
            return found
        if len(page) < PAGE:
            break
        skip += len(page)
    return None


def _create_book(settings: Settings, client: Client) -> Book:
    try:
        return client.post(
            "address books", "/v2/address-books", {"name": settings.address_book.strip(), "visibility": "Private"}, Book
        )
    except ApiError as error:
        if error.code == "ERROR_ADDRESSBOOK_DUPLICATE":
            # an answer that was lost may have created it
            if found := _find_book(settings, client):
                return found
            msg = (
                f"The name {settings.address_book!r} is taken in dotdigital, but not by an address book: by a segment, by a name that "
                "dotdigital reserves, or by something in the recycle bin. Nothing was written. Choose another name for address_book."
            )
        elif error.code == "ERROR_ADDRESSBOOK_LIMITEXCEEDED":
            msg = "The account holds as many address books as it may. Nothing was written. Remove one, or name an existing one."
        elif error.code in {"ERROR_ADDRESSBOOK_INVALID", "ERROR_ADDRESSBOOK_NOTWRITABLE"}:
            msg = f"dotdigital does not accept {settings.address_book!r} as the name of an address book. Choose another name."
        else:
            raise
        raise AccountError(msg) from None


def _find_fields(settings: Settings, client: Client) -> dict[str, str]:
    there = {field.name.upper(): field for field in client.get("data fields", "/v2/data-fields", list[Field])}
    found: dict[str, str] = {}
    wanted = dict.fromkeys(settings.labels.fields, "String")
    if settings.synced_at_field:
        wanted[settings.synced_at_field] = "Date"
    for name, kind in wanted.items():
        if field := there.get(name.upper()):
            if field.type != kind:
                raise AccountError(_wrong_type(name, field.type, kind))
            found[name] = field.name
    return found


def _create_field(name: str, kind: str, client: Client) -> str:
    try:
        # no default value: personalisation would show it for a contact whose labels were cleared (contracts/dotdigital.md 3)
        return client.post("data fields", "/v2/data-fields", {"name": name, "type": kind, "visibility": "Private"}, Field).name
    except ApiError as error:
        if error.code == "ERROR_NON_UNIQUE_DATAFIELD":
            field = next(
                (one for one in client.get("data fields", "/v2/data-fields", list[Field]) if one.name.upper() == name.upper()), None
            )
            if field is not None and field.type == kind:
                return field.name
            msg = _wrong_type(name, field.type if field else "unknown", kind)
        elif error.code == "ERROR_DATAFIELD_LIMITEXCEEDED":
            msg = f"The account holds as many data fields as it may, so {name} was not created. Remove one in dotdigital."
        elif error.code == "ERROR_DATAFIELD_INVALID":
            msg = f"dotdigital does not accept {name!r} as the name of a data field. Choose another name."
        else:
            raise
        raise AccountError(msg) from None


def _wrong_type(name: str, there: str, wanted: str) -> str:
    return (
        f"The data field {name} exists in dotdigital with the type {there}, but has to be {wanted}. Nothing was written. Name "
        "another field in the settings, or change the one in dotdigital."
    )


def _property(info: AccountInfo, name: str) -> str | None:
    return next((item.value for item in info.properties if item.name.lower() == name.lower()), None)
