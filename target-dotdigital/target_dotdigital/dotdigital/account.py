"""The account: region, address book, data fields and programs. Creates what is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from target_dotdigital.dotdigital import retries as retry
from target_dotdigital.dotdigital.client import Client, own_address, without_version
from target_dotdigital.dotdigital.messages import Identified
from target_dotdigital.errors import AccountError, ApiError, EndlessListError
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_dotdigital.clock import Clock
    from target_dotdigital.settings import Settings

ITEMS_PER_PAGE = 1000
MAX_PAGES = 1000  # a million address books or programs, more than any account has


class Property(msgspec.Struct):
    """One property of the account; dotdigital sends every value as text."""

    name: str
    value: Any = None


class AccountInfo(Identified):
    """The response of account-info."""

    properties: list[Property]


class Field(msgspec.Struct):
    """A contact data field."""

    name: str
    type: str
    visibility: str | None = None


class Program(Identified):
    """An automation program."""

    name: str
    status: str


class ListedBook(Identified):
    """An address book as dotdigital returns it."""

    name: str
    visibility: str | None = None
    contacts: int = 0


@dataclass(frozen=True, slots=True)
class AddressBook:
    """An address book (list); its name is safe to display."""

    id: int
    name: str
    contacts: int = 0


Item = TypeVar("Item", bound=Identified)


@dataclass(frozen=True, slots=True)
class Account:
    """The account at the start of a run.

    Args:
        id: account ID in dotdigital.
        name: account name.
        endpoint: base URL of the account's region.
        book: the address book; None if it does not exist yet, or none is used.
        fields: configured name -> name as the account spells it; fields that do not exist yet are absent.
        calls_left: calls left in this hour under the old flat limit; None under the tiered limits.
        stamps: fields that hold a time instead of labels.
        public: address book and data fields that dotdigital has created as public, although private was requested.
    """

    id: int
    name: str
    endpoint: str
    book: AddressBook | None
    fields: dict[str, str]
    calls_left: int | None
    stamps: frozenset[str] = frozenset()
    public: tuple[str, ...] = ()

    def spelled(self, field: str) -> str:
        """Return a field's name as the account spells it."""
        return self.fields.get(field, field)


def connect(settings: Settings, clock: Clock, calls: Counter[str] | None = None) -> tuple[Client, AccountInfo]:
    """Log in and find the account's region.

    Args:
        settings: the settings.
        clock: injectable clock.
        calls: counts the calls, including those of a failed login.

    Raises:
        AccountError: credentials or region are wrong.
        ApiError: the call failed.
    """

    def client(url: str) -> Client:
        return Client(url, settings.api_user, settings.api_password, settings.request_timeout, clock, calls)

    calls = Counter() if calls is None else calls
    first = client(without_version(settings.api_url))
    try:
        info = first.get("account", "/v2/account-info", AccountInfo)
    except ApiError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        msg = "dotdigital denied access (status 403): api_url is in another region than the account. Remove api_url: it is detected then."
        raise AccountError(msg) from None
    endpoint = _property(info, "ApiEndpoint")
    if endpoint in (None, "") or (isinstance(endpoint, str) and without_version(endpoint) == first.base_url):
        return first, info
    address = own_address(endpoint, first.base_url)
    if address is None:
        msg = (
            "dotdigital names an API address for this account that is not one of its own (https, dotdigital.com or dotmailer.com), so the "
            "password was not sent there. If dotdigital's support says that the address is right, set api_url to it."
        )
        raise AccountError(msg)
    return client(address), info


def read_account(settings: Settings, client: Client, info: AccountInfo) -> Account:
    """Read the configured address book and data fields, without creating anything.

    Raises:
        AccountError: there is no address book with the configured ID, or a data field has the wrong type.
        ApiError: a call failed.
    """
    if info.id is None:
        msg = "dotdigital returned an invalid ID for this account. Nothing was written. Report this to dotdigital."
        raise AccountError(msg)
    fields = _find_fields(settings, client)
    left = retry.number(str(_property(info, "ApiCallsRemaining")))
    return Account(
        id=info.id,
        name=shown(str(_property(info, "Name") or "")) or str(info.id),
        endpoint=client.base_url,
        book=find_book(settings, client) if settings.has_address_book else None,
        fields=fields,
        calls_left=None if left is None else int(left),
        stamps=frozenset({settings.synced_at_field} if settings.synced_at_field else ()),
    )


def active_programs(client: Client) -> list[str] | None:
    """Return the names of the active programs, safe to display, or None if the API user may not see them.

    Raises:
        ApiError: the list cannot be read.
    """
    try:
        pages = _pages(client, "programs", "/v2/programs", list[Program])
        return [shown(program.name) for page in pages for program in page if program.status == "Active" and program.name]
    except ApiError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            return None
        raise


def _pages(client: Client, kind: str, path: str, page_type: type[list[Item]]) -> Iterator[list[Item]]:
    """Yield the pages of a version 2 list, up to the first page that is not full.

    Raises:
        ApiError: a page cannot be read.
        EndlessListError: the pages repeat.
    """
    seen: set[int] = set()
    for number in range(MAX_PAGES):
        page = client.get(kind, path, page_type, select=ITEMS_PER_PAGE, skip=number * ITEMS_PER_PAGE)
        new = {item.id for item in page if item.id is not None} - seen
        # an endpoint that ignores `skip` would return the same page forever
        if page and number and not new:
            break
        yield page
        if len(page) < ITEMS_PER_PAGE:
            return
        seen |= new
    raise EndlessListError(kind)


def find_book(settings: Settings, client: Client) -> AddressBook | None:
    """Return the configured address book; None if it does not exist.

    Raises:
        AccountError: there is no address book with the configured ID, or its ID is invalid.
        ApiError: a call failed.
    """
    if settings.address_book_id is not None:
        try:
            book = client.get("address books", f"/v2/address-books/{settings.address_book_id}", ListedBook)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND or error.code == "ERROR_ADDRESSBOOK_NOT_FOUND":
                msg = f"There is no address book with the ID {settings.address_book_id}: nothing was written. Check the setting."
                raise AccountError(msg) from None
            raise
        return AddressBook(settings.address_book_id, shown(book.name), book.contacts)
    wanted = settings.address_book.strip().lower()
    for page in _pages(client, "address books", "/v2/address-books", list[ListedBook]):
        if found := next((book for book in page if book.name.strip().lower() == wanted), None):
            return with_valid_id(found)
    return None


def with_valid_id(book: ListedBook) -> AddressBook:
    """Return an address book with a valid ID.

    Raises:
        AccountError: the ID is invalid.
    """
    if book.id is None:
        msg = f"dotdigital returned an invalid ID for the address book {shown(book.name)!r}. No contact was written. Report this."
        raise AccountError(msg)
    return AddressBook(book.id, shown(book.name), book.contacts)


def _find_fields(settings: Settings, client: Client) -> dict[str, str]:
    """Return the configured data fields that exist: configured name -> name as the account spells it."""
    there = {field.name.upper(): field for field in client.get("data fields", "/v2/data-fields", list[Field])}
    found: dict[str, str] = {}
    wanted = {settings.data_field: "String"}
    if settings.synced_at_field:
        wanted[settings.synced_at_field] = "Date"
    for name, kind in wanted.items():
        if field := there.get(name.upper()):
            if field.type != kind:
                raise AccountError(wrong_type(name, shown(field.type), kind))
            found[name] = field.name
    return found


def wrong_type(name: str, there: str, wanted: str) -> str:
    """Return the message for a data field of the wrong type."""
    return (
        f"The data field {name} exists in dotdigital with the type {there}, but must be of type {wanted}. Nothing was written. Set "
        "another field, or change that one in dotdigital."
    )


def _property(info: AccountInfo, name: str) -> Any:
    return next((item.value for item in info.properties if item.name.lower() == name.lower()), None)


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
        return with_valid_id(made), _is_public(made.visibility)
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
        # no default value: personalisation would show it for contacts whose labels were cleared (docs/assumptions.md, dotdigital 3)
        made = client.post("data fields", "/v2/data-fields", {"name": name, "type": kind, "visibility": "Private"}, Field)
    except ApiError as error:
        if error.code == "ERROR_NON_UNIQUE_DATAFIELD":
            fields = client.get("data fields", "/v2/data-fields", list[Field])
            field = next((existing for existing in fields if existing.name.upper() == name.upper()), None)
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
