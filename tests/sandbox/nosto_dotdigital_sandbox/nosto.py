"""Nosto's public interfaces: the Segment Export in every plausible form, and the GraphQL catalogue of segments."""

from __future__ import annotations

import base64
import gzip
import hashlib
import threading
from dataclasses import dataclass, field
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from nosto_dotdigital_sandbox.nosto_deviations import NOSTO
from nosto_dotdigital_sandbox.rules import Deviations, rule
from nosto_dotdigital_sandbox.web import Request, Response

if TYPE_CHECKING:
    import datetime

Form = Literal["body", "gzip", "content-encoding", "redirect", "link"]
Auth = Literal["basic", "bearer", "header", "query", "none"]


@dataclass(slots=True)
class ExportFile:
    """One day's export.

    Args:
        body: JSON lines.
        made: time of creation, sent as Last-Modified; None sends no header.
        etag: whether an ETag is sent.
        sent: number of bytes that are sent although Content-Length announces all; None sends all.
    """

    body: bytes
    made: datetime.datetime | None = None
    etag: bool = True
    sent: int | None = None


@dataclass(slots=True)
class NostoAccount:
    """Nosto's data for one shop.

    Args:
        token: the integration token.
        api_token: the GraphQL token.
        auth: how the token has to be sent; `auth_name` names the header or parameter.
        form: how the export is served.
        export: the export; None if the Segment Export was enabled less than a day ago.
        not_ready_status: HTTP status while there is no export.
        segments: the catalogue: ID and name, both of which may be null.
        graphql_body: raw GraphQL response instead of the catalogue.
        deviations: the switches of `nosto_deviations.NOSTO` that are on.
    """

    token: str = "nosto-token"
    api_token: str = "nosto-api-token"
    auth: Auth = "basic"
    auth_name: str = ""
    form: Form = "body"
    export: ExportFile | None = None
    not_ready_status: int = 404
    segments: list[tuple[str | None, str | None]] = field(default_factory=list)
    graphql_body: bytes | None = None
    conditional: bool = True
    file_host: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    deviations: Deviations = field(default_factory=lambda: Deviations(NOSTO))

    @property
    def file_url(self) -> str:
        """URL of the export on the file host, with a signature."""
        return f"{self.file_host}/files/export.json?signature=abc"

    def handle(self, request: Request) -> Response:
        """Handle a request to Nosto's own host."""
        if request.path == "/v1/graphql":
            return self.answer_catalogue(request)
        if request.path != "/export":
            return Response(404)
        return self.answer_export(request)

    @rule
    def answer_export(self, request: Request) -> Response:
        """Answer a request for the export."""
        if not self._authorised(request):
            return Response(401, b"Unauthorized", {"Content-Type": "text/plain"})
        if self.export is None:
            return Response(self.not_ready_status)
        if self.form == "redirect":
            return Response(302, b"", {"Location": self.file_url})
        if self.form == "link":
            return Response.of({"data": {"url": self.file_url}})
        return self.send_file(request)

    def handle_file(self, request: Request) -> Response:
        """Handle a request to the file host, which rejects requests with credentials for another host."""
        carried = {"authorization", self.auth_name.lower() or "authorization"} & set(request.headers)
        if carried or self.token in request.target:
            return Response(400, b"Only one authorisation is allowed", {"Content-Type": "text/plain"})
        if self.export is None or not request.path.startswith("/files/"):
            return Response(404)
        return self.send_file(request)

    @rule
    def send_file(self, request: Request) -> Response:
        """Send the export, or status 304 if the request says that the client has it."""
        export = self.export
        assert export is not None
        plain, etag, made = self.export_body(), self.etag(), self.made()
        body = gzip.compress(plain, 1) if self.form in {"gzip", "content-encoding"} else plain
        headers = {"Content-Type": "application/json"}
        if self.form == "content-encoding":
            headers["Content-Encoding"] = "gzip"
        if etag is not None:
            headers["ETag"] = etag
        if made is not None:
            headers["Last-Modified"] = format_datetime(made, usegmt=True)
        if self.conditional and self._unchanged(request, etag, made):
            return Response(304, b"", headers)
        sent = len(body) if export.sent is None else export.sent
        return Response(200, body[:sent], headers, length=len(body))

    @rule
    def export_body(self) -> bytes:
        """Return the content of the export."""
        return self.export.body if self.export is not None else b""

    @rule
    def made(self) -> datetime.datetime | None:
        """Return the time of Last-Modified; None sends no header."""
        return self.export.made if self.export is not None else None

    @rule
    def etag(self) -> str | None:
        """Return the ETag; None sends no header."""
        if self.export is None or not self.export.etag:
            return None
        return f'"{hashlib.sha256(self.export.body).hexdigest()[:32]}"'

    @rule
    def catalogue(self) -> list[tuple[str | None, str | None]]:
        """Return the segments as ID and name."""
        return self.segments

    @staticmethod
    def _unchanged(request: Request, etag: str | None, made: datetime.datetime | None) -> bool:
        if "if-none-match" in request.headers:
            return request.headers["if-none-match"] == etag
        since = request.headers.get("if-modified-since")
        return since is not None and made is not None and made.replace(microsecond=0) <= parsedate_to_datetime(since)

    def _authorised(self, request: Request) -> bool:
        match self.auth:
            case "basic":
                expected = base64.b64encode(f":{self.token}".encode()).decode()
                return request.headers.get("authorization") == f"Basic {expected}"
            case "bearer":
                return request.headers.get("authorization") == f"Bearer {self.token}"
            case "header":
                return request.headers.get(self.auth_name.lower()) == self.token
            case "query":
                return request.query.get(self.auth_name) == self.token
            case "none":
                return True

    @rule
    def answer_catalogue(self, request: Request) -> Response:
        """Answer a request to the GraphQL API."""
        expected = base64.b64encode(f":{self.api_token}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {expected}":
            return Response(401, headers={"X-Request-Id": "sandbox-401"})
        if request.method != "POST" or request.headers.get("content-type") != "application/json":
            return Response(400, headers={"X-Request-Id": "sandbox-400"})
        if self.graphql_body is not None:
            return Response(200, self.graphql_body, {"Content-Type": "application/json"})
        try:
            query = request.json()["query"]
        except (msgspec.DecodeError, KeyError, TypeError):
            return Response(400)
        if "segments" not in query:
            error = {"message": "Unknown field", "path": None, "locations": None, "errorType": "ValidationError"}
            return Response.of({"errors": [error]})
        segments = [{"id": key, "name": name} for key, name in self.catalogue()]
        return Response.of({"data": {"segments": {"segments": segments}}}, headers={"X-Request-Id": "sandbox-1"})
