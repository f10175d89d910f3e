"""JSON of dotdigital's responses, and the parts of requests that several operations read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from nosto_dotdigital_sandbox.web import Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nosto_dotdigital_sandbox.records import Contact, DataField, Records


def body_of(request: Request) -> dict[str, Any]:
    """Return a request's JSON object; an empty one if it holds none."""
    try:
        body = request.json()
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def page_of(request: Request) -> tuple[int, int] | None:
    """Return `select` and `skip` of a request of version 2; None if they are invalid."""
    select, skip = request.query.get("select", "1000"), request.query.get("skip", "0")
    if not select.isdigit() or not skip.isdigit() or not 1 <= int(select) <= 1000:
        return None
    return int(select), int(skip)


def error(status: int, message: str) -> Response:
    """Return an error of version 2."""
    return Response.of({"message": message}, status)


def error3(status: int, code: str, description: str) -> Response:
    """Return an error of version 3."""
    return Response.of({"errorCode": code, "description": description}, status)


def link(marker: str, query: Mapping[str, str]) -> dict[str, str]:
    """Return a link to a page of contacts; it carries the criteria of the query (docs/assumptions.md, dotdigital 10)."""
    criteria = {name: value for name, value in query.items() if name != "marker"}
    return {"marker": marker, "link": f"/contacts/v3?{urlencode({**criteria, 'marker': marker})}"}


def shown_field(field: DataField) -> dict[str, Any]:
    """Return the JSON of a data field."""
    return {"name": field.name, "type": field.type, "visibility": field.visibility, "defaultValue": None}


def shown_book(account: Records, book_id: int) -> dict[str, Any]:
    """Return the JSON of an address book."""
    book = account.books[book_id]
    count = sum(book_id in contact.lists for contact in account.contacts.values())
    return {"id": book.id, "name": book.name, "visibility": book.visibility, "contacts": count}


def shown_contact(account: Records, contact: Contact, names: list[str], include: list[str]) -> dict[str, Any]:
    """Return the JSON of a contact with the data fields `names` and the data sets `include`."""
    shown: dict[str, Any] = {
        "contactId": contact.id,
        "status": contact.status,
        "created": contact.created,
        "updated": contact.updated,
        "identifiers": {"email": contact.email} if contact.email else {},
    }
    if names:
        everything = "[[ALL]]" in names
        spelled = {name.upper() for name in names}
        shown["dataFields"] = {
            name: contact.data_fields.get(name) for name in account.fields if everything or name.upper() in spelled
        }
    if "channelProperties" in include:
        email = {"emailType": "Html", "optInType": contact.opt_in_type}
        shown["channelProperties"] = {"email": {**email, "status": contact.status}}
    if "lists" in include:
        shown["lists"] = [{"id": book, "name": account.books[book].name, "status": "subscribed"} for book in sorted(contact.lists)]
    # the schema of preferences allows no empty array
    if "preferences" in include and contact.preferences:
        shown["preferences"] = [
            {"id": number, "isOptedIn": chosen, "name": f"Preference {number}"}
            for number, chosen in sorted(contact.preferences.items())
        ]
    if "consentRecords" in include and contact.consent:
        shown["consentRecords"] = contact.consent
    return shown
