"""Reads back what dotdigital holds of contacts: the one way in which the ledger learns of what it did not deliver itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from target_dotdigital.addresses import normalise
from target_dotdigital.book import EMPTY, Observed
from target_dotdigital.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from target_dotdigital.account import Account
    from target_dotdigital.client import Client

LOGGER = logging.getLogger("target-dotdigital")
PAGE = 5_000
PROGRESS = 20


class _Identifiers(msgspec.Struct):
    email: str | None = None


class _List(msgspec.Struct):
    id: int


class _Contact(msgspec.Struct, rename="camel"):
    contact_id: int
    identifiers: _Identifiers
    data_fields: dict[str, Any] | None = None
    lists: list[_List] | None = None


class _Marker(msgspec.Struct):
    marker: str = ""
    link: str = ""


class _Links(msgspec.Struct):
    next: _Marker | None = None


class _Page(msgspec.Struct):
    items: list[_Contact] = msgspec.field(name="_items")
    links: _Links = msgspec.field(name="_links", default_factory=_Links)


@dataclass(frozen=True, slots=True)
class Directory:
    """The contacts of an account, as far as this target is concerned with them.

    Args:
        client: the account.
        account: its address book and the spelling of its data fields.
    """

    client: Client
    account: Account

    def pages(self) -> Iterator[list[Observed]]:
        """Give every contact of the account that has an address, 5,000 at a time.

        Raises:
            ApiError: dotdigital does not give them.
        """
        params: dict[str, str | int] = {"limit": PAGE}
        if self.account.fields:
            params["data-fields"] = "|".join(self.account.fields.values())
        if self.account.book is not None:
            params["include"] = "lists"
        read, marker = 0, ""
        while True:
            page = self.client.get("contacts", "/contacts/v3", _Page, **params, **({"marker": marker} if marker else {}))
            yield self._observed(page.items)
            read += 1
            if read % PROGRESS == 0:
                LOGGER.info("Reading dotdigital back: %d contacts so far", read * PAGE)
            following = _marker_of(page.links.next)
            if not following or following == marker or not page.items:
                return
            marker = following

    def look_up(self, emails: Sequence[str]) -> list[Observed]:
        """Give those of the addresses that dotdigital holds, one call each.

        Raises:
            ApiError: dotdigital does not say.
        """
        found: list[_Contact] = []
        for email in emails:
            try:
                # whatever the address holds, it stays one segment of the path
                path = f"/contacts/v3/email/{quote(email, safe='')}"
                found.append(self.client.get("contact", path, _Contact))
            except ApiError as error:
                if error.status != 404:  # noqa: PLR2004 - Not Found
                    raise
        return self._observed(found)

    def _observed(self, contacts: Iterable[_Contact]) -> list[Observed]:
        book = self.account.book.id if self.account.book else None
        names = {spelled.upper(): name for name, spelled in self.account.fields.items() if name in self.label_fields}
        return [
            Observed(
                normalise(contact.identifiers.email),
                contact.contact_id,
                payload_of(
                    {names[key.upper()]: value for key, value in (contact.data_fields or {}).items() if key.upper() in names}
                ),
                any(one.id == book for one in contact.lists or ()),
            )
            for contact in contacts
            if contact.identifiers.email
        ]

    @property
    def label_fields(self) -> set[str]:
        """The data fields that hold labels."""
        return {name for name in self.account.fields if name not in self.account.stamps}


def payload_of(values: dict[str, Any]) -> str:
    """Give the ledger's form of data-field values; what is empty is absent."""
    kept = {name: str(value) for name, value in values.items() if value is not None and value != ""}
    return msgspec.json.encode(kept, order="sorted").decode() if kept else EMPTY


def _marker_of(link: _Marker | None) -> str:
    if link is None:
        return ""
    return link.marker or parse_qs(urlsplit(link.link).query).get("marker", [""])[0]
