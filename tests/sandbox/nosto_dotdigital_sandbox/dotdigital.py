"""dotdigital's REST API for an `Account`: operations of the published OpenAPI documents, with their errors."""

from __future__ import annotations

import base64
import re
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from nosto_dotdigital_sandbox.account import FIELD_TYPES, RESERVED_BOOKS, Account, Contact
from nosto_dotdigital_sandbox.web import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BODY = 50_000_000
FIELD_NAME = re.compile(r"[A-Za-z0-9_-]{1,20}")
ALLOWED_STATUS_FIELDS = ("newContacts", "updatedContacts", "globallySuppressed", "invalidEntries", "duplicateIdentifiers")


class Limits:
    """Call limits of the account.

    Attributes:
        per_minute: limit of each tier by name; absent tiers are unlimited.
        window: length of the tiered window in seconds.
        flat: calls per hour under the old flat limit; None selects the tiered limits.
        reset_as: unit of X-RateLimit-Reset: "epoch" or "seconds".
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float] = time.time) -> None:
        """Set the limits of the default package."""
        self.clock = clock
        self.wall = wall
        self.per_minute: dict[str, int] = {"low": 1000, "medium": 1000, "high": 1000}
        self.window = 60.0
        self.flat: int | None = None
        self.reset_as = "epoch"
        self.refused = 0
        self._spent: dict[str, int] = {}
        self._opened: dict[str, float] = {}

    def spend(self, tier: str, calls: int = 1) -> tuple[dict[str, str], bool]:
        """Count calls, and return the response headers and whether the calls are within the limit."""
        if self.flat is not None:
            self._spent["flat"] = self._spent.get("flat", 0) + calls
            return {}, self._spent["flat"] <= self.flat
        if tier not in self.per_minute:
            return {}, True
        now = self.clock()
        if now >= self._opened.get(tier, -1e9) + self.window:
            self._opened[tier], self._spent[tier] = now, 0
        limit = self.per_minute[tier]
        allowed = self._spent[tier] + calls <= limit
        if allowed:
            self._spent[tier] += calls
        left = max(0.0, self._opened[tier] + self.window - now)
        reset = self.wall() + left if self.reset_as == "epoch" else left
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(0, limit - self._spent[tier])),
            "X-RateLimit-Reset": str(int(reset) + 1),
            "X-RateLimit-Scope": f"{tier}CallRate",
        }
        return headers, allowed


class Dotdigital:
    """Handles requests for one account in one region.

    Args:
        account: the account's data.
        user: name of the API user.
        password: password of the API user.
        limits: the call limits.
    """

    def __init__(self, account: Account, user: str, password: str, limits: Limits) -> None:
        """Create the API of an account."""
        self.account = account
        self.user = user
        self.password = password
        self.limits = limits
        self.endpoint = ""
        self.programs_permitted = True

    def handle(self, request: Request) -> Response:
        """Handle a request in the account's own region."""
        refusal = self._unauthorised(request)
        if refusal:
            return refusal
        tier = _tier(request)
        headers, allowed = self.limits.spend(tier)
        if not allowed:
            self.limits.refused += 1
            if self.limits.flat is not None:
                text = "Your account has generated excess API activity and is being temporarily capped."
                return Response.of({"message": f"{text} ERROR_APIUSAGE_EXCEEDED"}, 400)
            return Response.of({"message": "Too many requests"}, 429, headers)
        # imports are processed while others are submitted and polled
        with nullcontext() if request.path.startswith("/contacts/v3/import") else self.account.lock:
            response = self._route(request)
        return Response(response.status, response.body, {**response.headers, **headers})

    def handle_elsewhere(self, request: Request) -> Response:
        """Handle a request in another region, where only account-info is allowed."""
        refusal = self._unauthorised(request)
        if refusal:
            return refusal
        if request.path == "/v2/account-info":
            return self.handle(request)
        return Response.of({"message": "Access is denied"}, 403)

    def handle_forbidden(self, request: Request) -> Response:
        """Handle a request in a region that denies the account all access."""
        return self._unauthorised(request) or Response.of({"message": "Access is denied"}, 403)

    def _unauthorised(self, request: Request) -> Response | None:
        expected = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if request.headers.get("authorization") == f"Basic {expected}":
            return None
        if request.path.startswith("/contacts/v3"):
            return Response(401)
        return Response.of({"message": "Authorization has been denied for this request."}, 401)

    def _route(self, request: Request) -> Response:
        path, method = request.path.rstrip("/"), request.method
        if path == "/v2/account-info" and method == "GET":
            return self._account_info()
        if path == "/v2/address-books" and method in {"GET", "POST"}:
            return self._books(request)
        if (found := re.fullmatch(r"/v2/address-books/(-?\d+)", path)) and method == "GET":
            return self._book(int(found[1]))
        if path == "/v2/data-fields" and method in {"GET", "POST"}:
            return self._fields(request)
        if path == "/v2/programs" and method == "GET":
            return self._programs(request)
        if path == "/contacts/v3/import" and method == "PUT":
            return self._import(request)
        if (found := re.fullmatch(r"/contacts/v3/import/([^/]+)", path)) and method == "GET":
            return self._status(unquote(found[1]))
        if path == "/contacts/v3" and method == "GET":
            return self._contacts(request)
        if (found := re.fullmatch(r"/contacts/v3/([^/]+)/([^/]+)", path)) and method == "GET":
            return self._contact(found[1], unquote(found[2]), request)
        # dotdigital has single writes and deletions, but the plugins must never call them; the journal records any attempt
        return Response.of({"message": "Not served by this sandbox. ERROR_INVALID_REQUEST"}, 405)

    # Version 2

    def _account_info(self) -> Response:
        values = {
            "Name": self.account.name,
            "MainEmail": "owner@example.com",
            "APILocale": "en-GB",
            "ApiEndpoint": f"{self.endpoint}/",
            "TimeZoneIana": "Europe/London",
            "CurrencyCode": "GBP",
            **self.account.properties,
        }
        properties = [{"name": name, "type": "String", "value": value} for name, value in values.items()]
        if self.limits.flat is not None:
            properties.append({"name": "ApiCallsRemaining", "type": "Int", "value": str(self.limits.flat)})
        return Response.of({"id": self.account.id, "properties": properties})

    def _books(self, request: Request) -> Response:
        if request.method == "GET":
            page = _page(request)
            if page is None:
                return _error(400, "Invalid paging. ERROR_PARAMETER_INVALID")
            select, skip = page
            books = sorted(self.account.books.values(), key=lambda book: book.id)[skip : skip + select]
            return Response.of([self._shown(book.id) for book in books])
        body = _body(request)
        name = str(body.get("name", "")).strip()
        if not name or len(name) > 128:
            return _error(400, "Error: ERROR_ADDRESSBOOK_INVALID")
        taken = {book.name.lower() for book in self.account.books.values()}
        taken |= {segment.lower() for segment in self.account.segments} | RESERVED_BOOKS
        if name.lower() in taken:
            return _error(400, "Error: ERROR_ADDRESSBOOK_DUPLICATE")
        book = self.account.add_book(name, body.get("visibility", "Private"))
        return Response.of(self._shown(book.id))

    def _book(self, book_id: int) -> Response:
        if book_id not in self.account.books:
            return _error(404, "Error: ERROR_ADDRESSBOOK_NOT_FOUND")
        return Response.of(self._shown(book_id))

    def _shown(self, book_id: int) -> dict[str, Any]:
        book = self.account.books[book_id]
        count = sum(book_id in contact.lists for contact in self.account.contacts.values())
        return {"id": book.id, "name": book.name, "visibility": book.visibility, "contacts": count}

    def _fields(self, request: Request) -> Response:
        fields = self.account.fields
        if request.method == "GET":
            return Response.of([_shown_field(item.name, item.type, item.visibility) for item in fields.values()])
        body = _body(request)
        name, kind = str(body.get("name", "")), str(body.get("type", ""))
        if not FIELD_NAME.fullmatch(name) or kind not in FIELD_TYPES:
            return _error(400, "Error: ERROR_DATAFIELD_INVALID")
        if name.upper() in fields:
            return _error(400, "Field already exists. ERROR_NON_UNIQUE_DATAFIELD")
        if len(fields) >= self.account.field_limit:
            return _error(400, "Error: ERROR_DATAFIELD_LIMITEXCEEDED")
        made = self.account.add_field(name, kind)
        return Response.of(_shown_field(made.name, made.type, made.visibility), 201)

    def _programs(self, request: Request) -> Response:
        if not self.programs_permitted:
            return _error(403, "Error: ERROR_FEATURENOTACTIVE")
        page = _page(request)
        if page is None:
            return _error(400, "Invalid paging. ERROR_PARAMETER_INVALID")
        select, skip = page
        return Response.of(self.account.programs[skip : skip + select])

    # Version 3

    def _import(self, request: Request) -> Response:
        if len(request.body) > MAX_BODY:
            return _error3(400, "contacts:badRequest", "The request is too large")
        try:
            body = request.json()
        except msgspec.DecodeError:
            return _error3(400, "contacts:badJson", "The request JSON is badly formed")
        contacts = body.get("contacts") if isinstance(body, dict) else None
        if not isinstance(contacts, list) or not contacts:
            return _error3(400, "contacts:badRequest", "The Contacts field is required")
        for row in contacts:
            if not isinstance(row, dict) or not isinstance(row.get("identifiers"), dict):
                return _error3(400, "contacts:badRequest", "The Identifiers field is required")
            lists = row.get("lists")
            if "matchIdentifier" not in row or (lists is not None and not 1 <= len(lists) <= 100):
                return _error3(400, "contacts:badRequest", "The request does not follow the schema")
        import_id = self.account.accept(contacts, body.get("mergeOption", "overwrite"))
        if import_id is None:
            text = (
                "Your import request cannot be accepted as too many imports are being processed for you account. "
                "Please wait for an import to complete and then resubmit."
            )
            return _error3(429, "contacts:tooManyActiveImports", text)
        return Response.of({"importId": import_id}, 202)

    def _status(self, import_id: str) -> Response:
        if not re.fullmatch(r"[0-9a-fA-F-]{36}", import_id):
            return _error3(400, "contacts:invalidId", f"The id value '{import_id}' is invalid for the identifier 'importId'")
        job = self.account.poll(import_id)
        if job is None:
            text = f"The import request '{import_id}' could not be found!"
            return _error3(404, "contacts:importNotFound", text)
        answer: dict[str, Any] = {"importId": job.id, "status": job.status}
        if job.status == "Finished":
            codes = [failure["failures"][0]["failureCode"] for failure in job.failures]
            suppressed, doubled = codes.count("globallySuppressed"), codes.count("duplicateIdentifier")
            counts = (len(job.created), len(job.updated), suppressed, len(codes) - suppressed - doubled, doubled)
            answer["summary"] = dict(zip(ALLOWED_STATUS_FIELDS, counts, strict=True))
            answer |= {"created": job.created, "updated": job.updated, "failures": job.failures}
        return Response.of(answer)

    def _contacts(self, request: Request) -> Response:
        query = request.query
        limit = int(query.get("limit", "5000")) if query.get("limit", "5000").isdigit() else 0
        if not 1 <= limit <= 5000:
            return _error3(400, "contacts:invalidFilter", f"The limit '{query.get('limit')}' is invalid")
        after = int(base64.urlsafe_b64decode(query["marker"])) if "marker" in query else 0
        wanted = int(query["~listId"]) if "~listId" in query else None
        since = query.get("~modified", "gte::").removeprefix("gte::")
        found = [
            contact
            for number, contact in sorted(self.account.contacts.items())
            if number > after and (wanted is None or wanted in contact.lists) and contact.updated >= since
        ]
        page = found[:limit]
        names = [name for name in query.get("data-fields", "").split("|") if name]
        include = [name for name in query.get("include", "").split("|") if name]
        links = {"self": _link(query.get("marker", "")), "first": _link("")}
        if len(found) > limit:
            links["next"] = _link(base64.urlsafe_b64encode(str(page[-1].id).encode()).decode())
        items = [self._shown_contact(contact, names, include) for contact in page]
        return Response.of({"_items": items, "_links": links})

    def _contact(self, identifier: str, value: str, request: Request) -> Response:
        contact = (
            self.account.by_email.get(value.strip().lower())
            if identifier == "email"
            else self.account.contacts.get(int(value))
            if identifier == "contactId" and value.isdigit()
            else None
        )
        if contact is None:
            details = [{"item": value, "description": f"Not found using the identifier '{identifier}'"}]
            body = {"errorCode": "contacts:contactNotFound", "description": "The following contacts could not be found"}
            return Response.of({**body, "details": details}, 404)
        names = [name for name in request.query.get("data-fields", "[[ALL]]").split("|") if name]
        return Response.of(self._shown_contact(contact, names, ["channelProperties", "lists"]))

    def _shown_contact(self, contact: Contact, names: list[str], include: list[str]) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "contactId": contact.id,
            "status": contact.status,
            "created": contact.created,
            "updated": contact.updated,
            "identifiers": {"email": contact.email},
        }
        if names:
            everything = "[[ALL]]" in names
            spelled = {name.upper() for name in names}
            shown["dataFields"] = {
                name: contact.data_fields.get(name) for name in self.account.fields if everything or name.upper() in spelled
            }
        if "channelProperties" in include:
            email = {"emailType": "Html", "optInType": contact.opt_in_type}
            shown["channelProperties"] = {"email": {**email, "status": contact.status}}
        if "lists" in include:
            shown["lists"] = [
                {"id": book, "name": self.account.books[book].name, "status": "subscribed"} for book in sorted(contact.lists)
            ]
        return shown


def _tier(request: Request) -> str:
    if request.path.startswith("/contacts/v3/import/"):
        return "unlimited"
    if request.path in {"/contacts/v3/import", "/contacts/v3"}:
        return "low"
    return "high" if request.path == "/v2/account-info" else "medium"


def _body(request: Request) -> dict[str, Any]:
    try:
        body = request.json()
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _page(request: Request) -> tuple[int, int] | None:
    select, skip = request.query.get("select", "1000"), request.query.get("skip", "0")
    if not select.isdigit() or not skip.isdigit() or not 1 <= int(select) <= 1000:
        return None
    return int(select), int(skip)


def _shown_field(name: str, kind: str, visibility: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "visibility": visibility, "defaultValue": None}


def _link(marker: str) -> dict[str, str]:
    return {"marker": marker, "link": f"/contacts/v3?marker={marker}"}


def _error(status: int, message: str) -> Response:
    return Response.of({"message": message}, status)


def _error3(status: int, code: str, description: str) -> Response:
    return Response.of({"errorCode": code, "description": description}, status)
