"""Reads contacts back from dotdigital, so that the ledger learns of changes that it did not deliver itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.addresses import normalise, spelled_alike
from target_dotdigital.dotdigital.messages import NULL, ContactReference, Identified, Links
from target_dotdigital.dotdigital.one_contact import get_contact
from target_dotdigital.errors import EndlessListError
from target_dotdigital.payloads import to_payload
from target_dotdigital.records import Observed
from target_dotdigital.texts import is_clean

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator, Mapping, Sequence

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.dotdigital.client import Client

LOGGER = logging.getLogger("target-dotdigital")
CONTACTS_PER_PAGE = 5_000
# pages without contacts that name another page; more of them are taken for a list without end
MAX_EMPTY_PAGES = 100
PAGES_PER_PROGRESS_LINE = 20
KIND = "contacts"


class _Contact(ContactReference, rename="camel"):
    # raw JSON: a field that this target does not own may hold any type
    data_fields: dict[str, msgspec.Raw] | None = None
    lists: list[Identified] | None = None
    status: msgspec.Raw = NULL

    @property
    def is_pending_opt_in(self) -> bool:
        """Whether the contact has yet to confirm a double opt-in."""
        return b"pending" in bytes(self.status).lower()

    @property
    def is_kept_out(self) -> bool:
        """Whether the contact is suppressed, or has yet to confirm a double opt-in (contracts/dotdigital.md 7)."""
        return self.is_pending_opt_in or b"suppressed" in bytes(self.status).lower()


class _Page(msgspec.Struct):
    items: list[_Contact] = msgspec.field(name="_items")
    links: Links = msgspec.field(name="_links", default_factory=Links)


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
        self.client.get(KIND, "/contacts/v3", _Page, limit=1)

    def pages(self, created_since: datetime.datetime | None = None) -> Iterator[list[Observed]]:
        """Yield every contact of the account that has an address, 5,000 at a time.

        Args:
            created_since: leave out contacts that were created before this time (UTC).

        dotdigital lists contacts by ascending ID (contracts/dotdigital.md 4). Each page that is followed by another must therefore
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
            page = self.client.get(KIND, "/contacts/v3", _Page, **params, **({"marker": marker} if marker else {}))
            marker = page.links.next_marker
            last = max((contact.contact_id or 0 for contact in page.items), default=0)
            empty = 0 if page.items else empty + 1
            if marker and ((page.items and last <= highest) or empty > MAX_EMPTY_PAGES):
                raise EndlessListError(KIND)
            highest = max(highest, last)
            usable = [contact for contact in page.items if _is_usable(contact)]
            left_out += len(page.items) - len(usable)
            yield self._observed(usable)
            read += 1
            if read % PAGES_PER_PROGRESS_LINE == 0:
                LOGGER.info("dotdigital: %d contacts read back so far", read * CONTACTS_PER_PAGE)
            # a page may be empty, and yet name another one
            if not marker:
                break
        _warn(left_out)

    def look_up(self, emails: Sequence[str]) -> list[Observed]:
        """Look up addresses one by one and return the contacts that exist.

        Raises:
            ApiError: a call failed.
        """
        found = {email: contact for email in emails if (contact := get_contact(self.client, "email", email, _Contact)) is not None}
        usable = {email: contact for email, contact in found.items() if _is_usable(contact) and contact.identifiers.email}
        _warn(sum(not _is_usable(contact) for contact in found.values()))
        return [
            # as it was asked for, if dotdigital spells the domain otherwise
            replace(one, email=email) if spelled_alike(one.email) == spelled_alike(email) else one
            for email, one in zip(usable, self._observed(list(usable.values())), strict=True)
        ]

    def _observed(self, contacts: Sequence[_Contact]) -> list[Observed]:
        book = self.account.book
        names = {spelled.upper(): name for name, spelled in self.account.fields.items() if name in self.label_fields}
        return [
            Observed(
                normalise(contact.identifiers.email),
                contact.contact_id,
                payload_of(
                    {names[key.upper()]: value for key, value in (contact.data_fields or {}).items() if key.upper() in names}
                ),
                book is not None and any(one.id == book.id for one in contact.lists or ()),
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


def _is_usable(contact: _Contact) -> bool:
    """Return whether a contact can be used; one without an address is outside this target's scope and passes without a warning."""
    email = contact.identifiers.email
    return not email or is_clean(email)


def _warn(left_out: int) -> None:
    if left_out:
        LOGGER.warning("dotdigital: %d contacts read back without a usable address were left out", left_out)
