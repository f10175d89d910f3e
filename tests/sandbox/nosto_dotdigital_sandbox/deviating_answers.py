"""What dotdigital's API answers while a switch of `deviations.DOTDIGITAL` is on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from nosto_dotdigital_sandbox.rules import instead_of
from nosto_dotdigital_sandbox.web import Request, Response

CONTACTS = "/contacts/v3"
IMPORTS = "/contacts/v3/import"

Answer = Callable[[Request], Response]


@instead_of("region")
def account_info_names_wrong_region(api: Any, _: Callable[[], str]) -> str:
    """Return a region that denies the account access."""
    return str(api.forbidden)


@instead_of("answer")
def contacts_not_readable(_: object, documented: Answer, request: Request) -> Response:
    """Deny reads of contacts."""
    reads = request.method == "GET" and request.path.startswith(CONTACTS) and not request.path.startswith(IMPORTS)
    return _denied() if reads else documented(request)


@instead_of("answer")
def imports_not_permitted(_: object, documented: Answer, request: Request) -> Response:
    """Deny imports."""
    return _denied() if request.method == "PUT" else documented(request)


@instead_of("answer")
def programs_hidden(_: object, documented: Answer, request: Request) -> Response:
    """Deny the list of programs."""
    return _denied("ERROR_FEATURENOTACTIVE") if request.path == "/v2/programs" else documented(request)


@instead_of("answer")
def no_rate_limit_headers(_: object, documented: Answer, request: Request) -> Response:
    """Leave out the rate-limit headers."""
    response = documented(request)
    kept = {name: value for name, value in response.headers.items() if not name.startswith("X-RateLimit-")}
    return replace(response, headers=kept)


@instead_of("answer")
def pages_repeat(_: object, documented: Answer, request: Request) -> Response:
    """Answer with the first page whatever the marker says."""
    return documented(_without(request, "marker"))


@instead_of("answer")
def paging_stops_early(_: object, documented: Answer, request: Request) -> Response:
    """Name no next page."""

    def stop(page: dict[str, Any]) -> None:
        page["_links"].pop("next", None)

    return _with_page(request, documented(request), stop)


@instead_of("answer")
def include_lists_missing(_: object, documented: Answer, request: Request) -> Response:
    """Leave out the address books of contacts."""

    def leave_out(page: dict[str, Any]) -> None:
        for contact in page["_items"]:
            contact.pop("lists", None)

    return _with_page(request, documented(request), leave_out)


@instead_of("answer")
def list_filter_ignored(_: object, documented: Answer, request: Request) -> Response:
    """Read all contacts whatever the filter says."""
    return documented(_without(request, "~listId"))


@instead_of("answer")
def created_filter_ignored(_: object, documented: Answer, request: Request) -> Response:
    """Read all contacts, whenever they were created."""
    return documented(_without(request, "~created"))


@instead_of("answer")
def created_filter_shows_nothing(_: object, documented: Answer, request: Request) -> Response:
    """Read no contacts if the time of their creation is asked for."""

    def empty(page: dict[str, Any]) -> None:
        page["_items"] = []
        page["_links"].pop("next", None)

    response = documented(request)
    return _with_page(request, response, empty) if "~created" in request.query else response


def _denied(code: str = "") -> Response:
    return Response.of({"message": f"Access is denied. {code}".strip()}, 403)


def _without(request: Request, parameter: str) -> Request:
    if request.path != CONTACTS:
        return request
    path, _, query = request.target.partition("?")
    kept = [pair for pair in query.split("&") if not re.match(rf"(~|%7E)?{parameter.lstrip('~')}=", pair, re.IGNORECASE)]
    return replace(request, target=f"{path}?{'&'.join(kept)}")


def _with_page(request: Request, response: Response, change: Callable[[dict[str, Any]], None]) -> Response:
    if request.path != CONTACTS or response.status != 200:
        return response
    page = msgspec.json.decode(response.body)
    change(page)
    return replace(response, body=msgspec.json.encode(page))
