"""dotdigital's REST API for an `Account`: operations of the published OpenAPI documents, with their errors."""

from __future__ import annotations

import base64
import datetime
import re
from contextlib import nullcontext
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from nosto_dotdigital_sandbox.answers import body_of, error, error3, link, page_of, shown_book, shown_contact, shown_field
from nosto_dotdigital_sandbox.records import FIELD_TYPES, RESERVED_BOOKS
from nosto_dotdigital_sandbox.rules import Deviations, rule
from nosto_dotdigital_sandbox.web import Request, Response

if TYPE_CHECKING:
    from nosto_dotdigital_sandbox.account import Account
    from nosto_dotdigital_sandbox.limits import Limits

MAX_BODY = 50_000_000
FIELD_NAME = re.compile(r"[A-Za-z0-9_-]{1,20}")
ALLOWED_STATUS_FIELDS = ("newContacts", "updatedContacts", "globallySuppressed", "invalidEntries", "duplicateIdentifiers")


class Dotdigital:
    """Handles requests for one account in one region.

    Args:
        account: the account's data.
        user: name of the API user.
        password: password of the API user.
        limits: the call limits.

    Attributes:
        endpoint: URL of the account's own region.
        forbidden: URL of a region that denies the account all access.
        max_body: maximum number of bytes of an import.
    """

    def __init__(self, account: Account, user: str, password: str, limits: Limits) -> None:
        """Create the API of an account."""
        self.account = account
        self.user = user
        self.password = password
        self.limits = limits
        self.endpoint = ""
        self.forbidden = ""
        self.programs_permitted = True
        self.max_body = MAX_BODY

    @property
    def deviations(self) -> Deviations:
        """The account's switches."""
        return self.account.deviations

    def handle(self, request: Request) -> Response:
        """Handle a request in the account's own region."""
        return self._dated(self._unauthorised(request) or self.answer(request))

    def _dated(self, response: Response) -> Response:
        """Add the time by dotdigital's clock."""
        date = format_datetime(datetime.datetime.fromtimestamp(self.account.wall(), datetime.UTC), usegmt=True)
        return Response(response.status, response.body, {"Date": date, **response.headers}, response.length)

    @rule
    def region(self) -> str:
        """Return the URL of the region that account-info names."""
        return self.endpoint

    @rule
    def answer(self, request: Request) -> Response:
        """Answer an authorised request, within the limits."""
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
            # docs/assumptions.md, dotdigital 1
            body = msgspec.json.encode({"errorCode": "server:unauthorized", "description": "Authorization has been denied."})
            return Response(401, body, {"Content-Type": "application/json; charset=utf-8"})
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
            "ApiEndpoint": self.region(),
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
            page = page_of(request)
            if page is None:
                return error(400, "Invalid paging. ERROR_PARAMETER_INVALID")
            select, skip = page
            books = sorted(self.account.books.values(), key=lambda book: book.id)[skip : skip + select]
            return Response.of([shown_book(self.account, book.id) for book in books])
        body = body_of(request)
        name = str(body.get("name", "")).strip()
        if not name or len(name) > 128:
            return error(400, "Error: ERROR_ADDRESSBOOK_INVALID")
        taken = {book.name.lower() for book in self.account.books.values()}
        taken |= {segment.lower() for segment in self.account.segments} | RESERVED_BOOKS
        if name.lower() in taken:
            return error(400, "Error: ERROR_ADDRESSBOOK_DUPLICATE")
        book = self.account.create_book(name, body.get("visibility", "Private"))
        return Response.of(shown_book(self.account, book.id))

    def _book(self, book_id: int) -> Response:
        if book_id not in self.account.books:
            return error(404, "Error: ERROR_ADDRESSBOOK_NOT_FOUND")
        return Response.of(shown_book(self.account, book_id))

    def _fields(self, request: Request) -> Response:
        fields = self.account.fields
        if request.method == "GET":
            return Response.of([shown_field(item) for item in fields.values()])
        body = body_of(request)
        name, kind = str(body.get("name", "")), str(body.get("type", ""))
        if not FIELD_NAME.fullmatch(name) or kind not in FIELD_TYPES:
            return error(400, "Error: ERROR_DATAFIELD_INVALID")
        if name.upper() in fields:
            return error(400, "Field already exists. ERROR_NON_UNIQUE_DATAFIELD")
        if len(fields) >= self.account.field_limit:
            return error(400, "Error: ERROR_DATAFIELD_LIMITEXCEEDED")
        made = self.account.create_field(name, kind, body.get("visibility", "Private"))
        return Response.of(shown_field(made), 201)

    def _programs(self, request: Request) -> Response:
        if not self.programs_permitted:
            return error(403, "Error: ERROR_FEATURENOTACTIVE")
        page = page_of(request)
        if page is None:
            return error(400, "Invalid paging. ERROR_PARAMETER_INVALID")
        select, skip = page
        return Response.of(self.account.programs[skip : skip + select])

    # Version 3

    def _import(self, request: Request) -> Response:
        if len(request.body) > self.max_body:
            # in front of the API, so that there is no error of its own
            return Response(413, b"Request Entity Too Large", {"Content-Type": "text/plain"})
        try:
            body = request.json()
        except msgspec.DecodeError:
            return error3(400, "contacts:badJson", "The request JSON is badly formed")
        contacts = body.get("contacts") if isinstance(body, dict) else None
        if not isinstance(contacts, list) or not contacts:
            return error3(400, "contacts:badRequest", "The Contacts field is required")
        for row in contacts:
            if not isinstance(row, dict) or not isinstance(row.get("identifiers"), dict):
                return error3(400, "contacts:badRequest", "The Identifiers field is required")
            lists = row.get("lists")
            if "matchIdentifier" not in row or (lists is not None and not 1 <= len(lists) <= 100):
                return error3(400, "contacts:badRequest", "The request does not follow the schema")
        if refusal := self.refusal_of_call(contacts):
            return refusal
        import_id = self.account.accept(contacts, body.get("mergeOption", "overwrite"))
        if import_id is None:
            text = (
                "Your import request cannot be accepted as too many imports are being processed for you account. "
                "Please wait for an import to complete and then resubmit."
            )
            return error3(429, "contacts:tooManyActiveImports", text)
        return Response.of({"importId": import_id}, 202)

    @rule
    def refusal_of_call(self, _contacts: list[dict[str, Any]]) -> Response | None:
        """Return the refusal of a whole import for what is in its rows; None if it is accepted."""
        return None

    def _status(self, import_id: str) -> Response:
        if not re.fullmatch(r"[0-9a-fA-F-]{36}", import_id):
            return error3(400, "contacts:invalidId", f"The id value '{import_id}' is invalid for the identifier 'importId'")
        job = self.account.poll(import_id)
        if job is None:
            text = f"The import request '{import_id}' could not be found!"
            return error3(404, "contacts:importNotFound", text)
        answer: dict[str, Any] = {"importId": job.id, "status": job.status, "summary": None}
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
            return error3(400, "contacts:invalidFilter", f"The limit '{query.get('limit')}' is invalid")
        limit = min(limit, self.account.page_limit)
        after = int(base64.urlsafe_b64decode(query["marker"])) if "marker" in query else 0
        wanted = int(query["~listId"]) if "~listId" in query else None
        since, created = (query.get(name, "gte::").removeprefix("gte::") for name in ("~modified", "~created"))
        found = [
            contact
            for number, contact in sorted(self.account.visible().items())
            if number > after and (wanted is None or wanted in contact.lists)
            if contact.updated >= since and contact.created >= created
        ]
        page = found[:limit]
        names = [name for name in query.get("data-fields", "").split("|") if name]
        include = [name for name in query.get("include", "").split("|") if name]
        links = {"self": link(query.get("marker", ""), query), "first": link("", query)}
        if len(found) > limit:
            links["next"] = link(base64.urlsafe_b64encode(str(page[-1].id).encode()).decode(), query)
        items = [shown_contact(self.account, contact, names, include) for contact in page]
        return Response.of({"_items": items, "_links": links})

    def _contact(self, identifier: str, value: str, request: Request) -> Response:
        number = int(value) if identifier == "contactId" and value.isdigit() else None
        if identifier == "email" and (found := self.account.find(value)):
            number = found.id
        contact = self.account.visible().get(number) if number is not None else None
        if contact is None:
            details = [{"item": value, "description": f"Not found using the identifier '{identifier}'"}]
            body = {"errorCode": "contacts:contactNotFound", "description": "The following contacts could not be found"}
            return Response.of({**body, "details": details}, 404)
        names = [name for name in request.query.get("data-fields", "[[ALL]]").split("|") if name]
        return Response.of(
            shown_contact(self.account, contact, names, ["channelProperties", "lists", "preferences", "consentRecords"])
        )


def _tier(request: Request) -> str:
    if request.path.startswith("/contacts/v3/import/"):
        return "unlimited"
    if request.path in {"/contacts/v3/import", "/contacts/v3"}:
        return "low"
    return "high" if request.path == "/v2/account-info" else "medium"
