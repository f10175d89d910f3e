"""How the live service answers beside its documents, as dotdigital's own clients recorded it (docs/assumptions.md, published facts)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from nosto_dotdigital_sandbox.answers import error3
from nosto_dotdigital_sandbox.rules import instead_of
from nosto_dotdigital_sandbox.web import Request, Response

if TYPE_CHECKING:
    from nosto_dotdigital_sandbox.records import Contact, Records

Rows = list[dict[str, Any]]
Refuse = Callable[[Rows], Response | None]
Answer = Callable[[Request], Response]

# switch -> what dotdigital does if it is on
LIVE = {
    "refuses_calls": "An import with a row that would be rejected is refused as a whole; the description names the first such row.",
    "refuses_calls_in_details": "An import with rows that would be rejected is refused as a whole; the details name all of them.",
    "refuses_calls_silently": "An import with a row that would be rejected is refused as a whole, and no row is named.",
    "refuses_calls_by_number": "An import with a row that would be rejected is refused as a whole; rows are counted from 1.",
    "codes_in_words": "Failures have codes in words, several for one row, and no matchIdentifier.",
    "nulls": "Members without a value are null.",
    "endpoint_with_version": "The account's endpoint ends in /v2/.",
    "stores_punycode": "The domain of an address is stored and shown in ASCII.",
    "first_page_empty": "The list of contacts begins with an empty page that has a next one.",
    "new_contacts_wait": "A new contact is pendingOptIn, and in no address book until it confirms.",
}
WORDS = {"invalidContactId": "Invalid Contact Id", "globallySuppressed": "Globally Suppressed", "invalidEmail": "Invalid Email"}


def _rejected(api: Any, rows: Rows) -> list[int]:
    account = api.account
    return [
        number
        for number, row in enumerate(rows)
        if account.refusal(row, account.matching(row["matchIdentifier"], row["identifiers"]), set())
    ]


def _path(number: int) -> str:
    return f"contacts[{number}].dataFields[0].value"


@instead_of("refusal_of_call")
def refuses_calls(api: Any, documented: Refuse, rows: Rows) -> Response | None:
    """Name the first row in the description."""
    wrong = _rejected(api, rows)
    return error3(400, "contacts:invalidValue", f"The value of {_path(wrong[0])} is invalid") if wrong else documented(rows)


@instead_of("refusal_of_call")
def refuses_calls_by_number(api: Any, documented: Refuse, rows: Rows) -> Response | None:
    """Name the row after the first one."""
    wrong = _rejected(api, rows)
    return error3(400, "contacts:invalidValue", f"The value of {_path(wrong[0] + 1)} is invalid") if wrong else documented(rows)


@instead_of("refusal_of_call")
def refuses_calls_in_details(api: Any, documented: Refuse, rows: Rows) -> Response | None:
    """Name all rows in the details."""
    wrong = _rejected(api, rows)
    if not wrong:
        return documented(rows)
    details = [{"item": f"line 1, position {one}", "description": f"Error converting value. Path '{_path(one)}'."} for one in wrong]
    return Response.of({"errorCode": "server:badRequest", "description": "The request is invalid", "details": details}, 400)


@instead_of("refusal_of_call")
def refuses_calls_silently(api: Any, documented: Refuse, rows: Rows) -> Response | None:
    """Name no row."""
    return error3(400, "server:badJson", "The request JSON is badly formed") if _rejected(api, rows) else documented(rows)


@instead_of("refusal_of_call")
def capitals_refused(api: Any, documented: Refuse, rows: Rows) -> Response | None:
    """Refuse rows for contacts that are stored with capitals."""
    for number, row in enumerate(rows):
        contact = api.account.find(str(row["identifiers"].get("email", "")))
        if contact is not None and contact.email != contact.email.lower() and row["identifiers"]["email"] != contact.email:
            return error3(400, "contacts:invalidValue", f"The value of contacts[{number}].identifiers.email is invalid")
    return documented(rows)


@instead_of("apply")
def new_contacts_wait(account: Records, documented: Callable[..., None], row: dict[str, Any], job: Any, seen: set[str]) -> None:
    """Create the contact pending, and outside of every address book; keep it there until it confirms."""
    number = next(reversed(account.contacts), 0)
    documented(row, job, seen)
    for contact in account.contacts.values():
        if contact.id > number:
            contact.status = "pendingOptIn"
        if contact.status == "pendingOptIn":
            contact.lists.clear()


@instead_of("complete_report")
def codes_in_words(_: Records, documented: Callable[[Any], None], job: Any) -> None:
    """Write the codes in words, and add another one to each row."""
    documented(job)
    for failure in job.failures:
        failure.pop("matchIdentifier", None)
        code = failure["failures"][0]["failureCode"]
        failure["failures"] = [{"failureCode": "Invalid list Ids"}, {"failureCode": WORDS.get(code, code), "description": None}]


@instead_of("answer")
def nulls(_: object, documented: Answer, request: Request) -> Response:
    """Add null members to the answers about imports and contacts, and an item that is null to their lists."""
    response = documented(request)
    if request.method != "GET" or not request.path.startswith("/contacts/v3") or response.status != 200:
        return response
    body = msgspec.json.decode(response.body)
    if "importId" in body:
        body = {"created": None, "updated": None, "failures": None, **body}
        for name in ("created", "updated", "failures"):
            for one in body[name] or ():
                one |= {"channelProperties": None, "lists": None}
            body[name] = body[name] and [*body[name], None, {"contactId": None, "identifiers": None, "failures": None}]
        body["status"] = None if body["status"] == "NotFinished" else body["status"]
        return replace(response, body=msgspec.json.encode(body))
    for one in body.get("_items", [body]):
        one |= {"status": None, "preferences": None, "consentRecords": None}
        if "channelProperties" in one:
            one["channelProperties"] = {"email": {"status": None, "optInType": None}, "sms": None}
    if "_links" in body:
        body["_items"].append(None)
        body["_links"] = {"next": {"marker": None, "link": None}, **body["_links"], "prev": None}
        body["_links"]["next"]["marker"] = None
    return replace(response, body=msgspec.json.encode(body))


@instead_of("region", "endpoint_with_version")
def region_with_version(_: Any, documented: Callable[[], str]) -> str:
    """Add the version to the URL."""
    return f"{documented()}/v2/"


@instead_of("create", "stores_punycode")
def create_in_ascii(_: Records, documented: Callable[[str], Contact], email: str) -> Contact:
    """Store the domain in ASCII."""
    return documented(_in_ascii(email))


@instead_of("find", "stores_punycode")
def find_in_ascii(_: Records, documented: Callable[[str], Contact | None], email: str) -> Contact | None:
    """Find a contact by the ASCII form of the domain."""
    return documented(_in_ascii(email)) or documented(email)


def _in_ascii(email: str) -> str:
    local, _, domain = email.rpartition("@")
    return f"{local}@{domain.encode('idna').decode()}" if domain else email


@instead_of("answer")
def first_page_empty(_: object, documented: Answer, request: Request) -> Response:
    """Answer the first read of a list with an empty page."""
    if request.path != "/contacts/v3" or request.query.get("marker"):
        return documented(request)
    link = {"marker": "MA==", "link": "/contacts/v3?marker=MA=="}
    return replace(documented(request), body=msgspec.json.encode({"_items": [], "_links": {"self": link, "next": link}}))
