"""The switches that make Nosto behave otherwise than its published documents, or our reading of them, say."""

from __future__ import annotations

import gzip
import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

import msgspec

from nosto_dotdigital_sandbox.rules import instead_of
from nosto_dotdigital_sandbox.web import Disconnect, Request, Response

Records = list[dict[str, Any]]

# switch -> what Nosto does if it is on
NOSTO = {
    # answers
    "token_rejected": "The export is denied with status 401, whatever the token.",
    "token_forbidden": "The export is denied with status 403, whatever the token.",
    "export_missing": "There is no export: 404.",
    "export_not_ready": "The export is not ready: 202.",
    "get_not_allowed": "GET is not allowed: 405.",
    "login_page": "The answer is a web page for logging in, with status 200.",
    "link_in_json": "The answer is JSON that holds a link to the export.",
    "redirects_to_plain_http": "The answer is a redirect to a plain http address.",
    "redirects_to_another_host": "The answer is a redirect to another host, which needs no token.",
    # the file on its way
    "wrong_length": "Content-Length is larger than the body; the connection is closed after the body.",
    "cuts_last_line": "The file ends in the middle of a line, as long as announced.",
    "truncated_gzip": "The file is gzip whose end is missing, as long as announced.",
    "no_length": "The answer has neither Content-Length nor chunks: it ends with the connection.",
    "other_content_type": "The content type is text/csv.",
    "gzip_label_without_gzip": "The answer is labelled as gzip, but is plain text.",
    "no_etag": "Answers have no ETag.",
    "no_last_modified": "Answers have no Last-Modified.",
    "last_modified_is_now": "Last-Modified is the time of the request.",
    "etag_changes": "The ETag is another one for each request.",
    "ignores_conditions": "Conditional requests are answered with the whole file.",
    "etag_never_changes": "All exports have the same ETag, and conditional requests are answered by it.",
    "export_stops": "The export was made a week earlier.",
    # records
    "empty_export": "The export is empty.",
    "json_array": "The export is one JSON array.",
    "csv": "The export is CSV.",
    "some_lines_malformed": "Every fifth line ends too early.",
    "latin_1": "The text is encoded in Latin-1.",
    "other_email_key": "The address is under the key mail.",
    "hashed_addresses": "Addresses are SHA-256 hashes.",
    "several_lists": "Each record has a second list of names.",
    "names_as_text": "The names are one text, separated by commas.",
    "names_as_objects": "Segments are objects with ID and name.",
    "renames_identifier": "The key of the names is another one than the identifier that was entered.",
    "ids_instead_of_names": "The lists hold the IDs of segments.",
    "duplicate_lines": "Every fifth contact has a second line, with its address in capitals.",
    "omits_contacts_without_segments": "Contacts in no segment are left out.",
    "only_changes": "The export holds every tenth contact only.",
    # catalogue
    "catalogue_rejects_token": "The GraphQL API rejects the token: 401.",
    "catalogue_answers_errors": "The GraphQL API answers with status 200 and errors.",
    "catalogue_unavailable": "The GraphQL API is unavailable: 503.",
    "catalogue_respells_names": "The names in the catalogue are in capitals.",
    "catalogue_repeats_names": "The catalogue holds the first name twice, with different IDs.",
    "catalogue_renews_ids": "The IDs in the catalogue are new for each request.",
}
OTHER_IDENTIFIER = "renamed_segments"
LOGIN_PAGE = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head><body><form></form></body></html>\n"
A_WEEK = timedelta(days=7)

Answer = Callable[[Request], Response]
Body = Callable[[], bytes]


def _answer_with(switch: str, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
    """Register a switch that answers each request for the export in the same way."""

    def replacement(_: object, _documented: Answer, _request: Request) -> Response:
        return Response(status, body, headers or {"Content-Type": "text/plain"})

    instead_of("answer_export", switch)(replacement)


_answer_with("token_rejected", HTTPStatus.UNAUTHORIZED)
_answer_with("token_forbidden", HTTPStatus.FORBIDDEN)
_answer_with("export_missing", HTTPStatus.NOT_FOUND)
_answer_with("export_not_ready", HTTPStatus.ACCEPTED)
_answer_with("get_not_allowed", HTTPStatus.METHOD_NOT_ALLOWED)
_answer_with("login_page", HTTPStatus.OK, LOGIN_PAGE, {"Content-Type": "text/html"})
_answer_with("redirects_to_plain_http", HTTPStatus.FOUND, headers={"Location": "http://files.example.com/export.json"})


@instead_of("answer_export")
def link_in_json(nosto: Any, _: Answer, _request: Request) -> Response:
    """Return a link to the export."""
    return Response.of({"data": {"url": nosto.file_url}})


@instead_of("answer_export")
def redirects_to_another_host(nosto: Any, _: Answer, _request: Request) -> Response:
    """Redirect to the file host."""
    return Response(HTTPStatus.FOUND, b"", {"Location": nosto.file_url})


def _change_headers(switch: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Register a switch that changes the headers of the file."""

    def replacement(_: object, documented: Answer, request: Request) -> Response:
        response = documented(request)
        return replace(response, headers=change(dict(response.headers)))

    instead_of("send_file", switch)(replacement)


_change_headers("other_content_type", lambda headers: {**headers, "Content-Type": "text/csv"})
_change_headers("gzip_label_without_gzip", lambda headers: {**headers, "Content-Encoding": "gzip"})
_change_headers(
    "last_modified_is_now", lambda headers: {**headers, "Last-Modified": format_datetime(datetime.now(UTC), usegmt=True)}
)
_change_headers("no_last_modified", lambda headers: {name: value for name, value in headers.items() if name != "Last-Modified"})


@instead_of("etag")
def no_etag(_: object, _documented: Callable[[], str | None]) -> None:
    """Send no ETag."""


@instead_of("etag")
def etag_changes(_: object, _documented: Callable[[], str | None]) -> str:
    """Return another ETag each time."""
    return f'"{secrets.token_hex(16)}"'


@instead_of("etag")
def etag_never_changes(_: object, _documented: Callable[[], str | None]) -> str:
    """Return the same ETag for all exports."""
    return '"1"'


@instead_of("send_file")
def ignores_conditions(_: object, documented: Answer, request: Request) -> Response:
    """Answer as if the request had no conditions."""
    conditions = {"if-none-match", "if-modified-since"}
    return documented(replace(request, headers={key: value for key, value in request.headers.items() if key not in conditions}))


@instead_of("send_file")
def wrong_length(_: object, documented: Answer, request: Request) -> Response:
    """Announce more than is sent, and close the connection."""
    response = documented(request)
    if response.status != HTTPStatus.OK:
        return response
    raise Disconnect(_head(response, {"Content-Length": str(len(response.body) + 100)}) + response.body)


@instead_of("send_file")
def no_length(_: object, documented: Answer, request: Request) -> Response:
    """Send the body without its length, and close the connection."""
    response = documented(request)
    if response.status != HTTPStatus.OK:
        return response
    raise Disconnect(_head(response, {"Connection": "close"}) + response.body)


@instead_of("send_file")
def truncated_gzip(_: object, documented: Answer, request: Request) -> Response:
    """Compress the file, and leave out the end."""
    response = documented(request)
    if response.status != HTTPStatus.OK:
        return response
    return replace(response, body=gzip.compress(response.body)[:-12], length=None)


@instead_of("made")
def export_stops(_: object, documented: Callable[[], datetime | None]) -> datetime | None:
    """Return a time a week earlier."""
    made = documented()
    return made and made - A_WEEK


@instead_of("export_body")
def cuts_last_line(_: object, documented: Body) -> bytes:
    """Leave out the end of the last line."""
    return documented()[:-12]


@instead_of("export_body")
def empty_export(_: object, _documented: Body) -> bytes:
    """Return nothing."""
    return b""


@instead_of("export_body")
def json_array(_: object, documented: Body) -> bytes:
    """Return the records as one array."""
    return b"[" + b",".join(documented().splitlines()) + b"]\n"


@instead_of("export_body")
def csv(_: object, documented: Body) -> bytes:
    """Return the records as CSV."""
    rows = [f'{email},"{";".join(names)}"' for email, names in map(dict.values, _records(documented()))]
    return "\n".join(["email,segments", *rows, ""]).encode()


@instead_of("export_body")
def some_lines_malformed(_: object, documented: Body) -> bytes:
    """Leave out the end of every fifth line."""
    return b"".join((line[:-1] if number % 5 == 0 else line) + b"\n" for number, line in enumerate(documented().splitlines()))


@instead_of("export_body")
def latin_1(_: object, documented: Body) -> bytes:
    """Encode the text in Latin-1."""
    return documented().decode().encode("latin-1", errors="replace")


def _change_records(switch: str, change: Callable[[Any, Records], Iterable[dict[str, Any]]]) -> None:
    """Register a switch that changes the records of the export."""

    def replacement(nosto: object, documented: Body) -> bytes:
        return b"".join(msgspec.json.encode(record) + b"\n" for record in change(nosto, _records(documented())))

    instead_of("export_body", switch)(replacement)


def _change_names(switch: str, change: Callable[[Any, list[str]], dict[str, Any]]) -> None:
    """Register a switch that replaces the list of names of each record by other keys."""

    def replacement(nosto: object, records: Records) -> Iterable[dict[str, Any]]:
        for record in records:
            email, names = record.values()
            yield {"email": email, **change(nosto, names)}

    _change_records(switch, replacement)


def _id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:24]


_change_records("only_changes", lambda _, records: records[::10])
_change_records("omits_contacts_without_segments", lambda _, records: [one for one in records if list(one.values())[1]])
_change_records(
    "other_email_key",
    lambda _, records: [{("mail" if key == "email" else key): value for key, value in one.items()} for one in records],
)
_change_records(
    "hashed_addresses",
    lambda _, records: [{**one, "email": hashlib.sha256(one["email"].encode()).hexdigest()} for one in records],
)
_change_records("duplicate_lines", lambda _, records: [*records, *({**one, "email": one["email"].upper()} for one in records[::5])])
_change_names("several_lists", lambda _, names: {"nosto_segments": names, "interests": names})
_change_names("names_as_text", lambda _, names: {"nosto_segments": ",".join(names)})
_change_names("names_as_objects", lambda _, names: {"nosto_segments": [{"id": _id(name), "name": name} for name in names]})
_change_names("renames_identifier", lambda _, names: {OTHER_IDENTIFIER: names})
_change_names("ids_instead_of_names", lambda _, names: {"nosto_segments": [_id(name) for name in names]})


def _answer_graphql(switch: str, response: Response) -> None:
    """Register a switch that answers each request for the catalogue in the same way."""

    def replacement(_: object, _documented: Answer, _request: Request) -> Response:
        return response

    instead_of("answer_catalogue", switch)(replacement)


_answer_graphql("catalogue_rejects_token", Response(HTTPStatus.UNAUTHORIZED))
_answer_graphql("catalogue_unavailable", Response(HTTPStatus.SERVICE_UNAVAILABLE))
_answer_graphql("catalogue_answers_errors", Response.of({"errors": [{"message": "x", "errorType": "ValidationError"}]}))


def _change_catalogue(switch: str, change: Callable[[list[Any]], list[Any]]) -> None:
    """Register a switch that changes the catalogue, a list of IDs and names."""

    def replacement(_: object, documented: Callable[[], list[Any]]) -> list[Any]:
        return change(documented())

    instead_of("catalogue", switch)(replacement)


_change_catalogue("catalogue_respells_names", lambda known: [(key, name and name.upper()) for key, name in known])
_change_catalogue("catalogue_repeats_names", lambda known: [*known, *((secrets.token_hex(12), name) for _, name in known[:1])])
_change_catalogue("catalogue_renews_ids", lambda known: [(secrets.token_hex(12), name) for _, name in known])


def _records(body: bytes) -> Records:
    return [msgspec.json.decode(line) for line in body.splitlines() if line.strip()]


def _head(response: Response, headers: dict[str, str]) -> bytes:
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in {**response.headers, **headers}.items()), "", ""]
    return "\r\n".join(lines).encode()
