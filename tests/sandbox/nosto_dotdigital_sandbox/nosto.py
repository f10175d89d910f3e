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

    def handle(self, request: Request) -> Response:
        """Handle a request to Nosto's own host."""
        if request.path == "/v1/graphql":
            return self._graphql(request)
        if request.path != "/export":
            return Response(404)
        if not self._authorised(request):
            return Response(401, b"Unauthorized", {"Content-Type": "text/plain"})
        if self.export is None:
            return Response(self.not_ready_status)
        if self.form == "redirect":
            return Response(302, b"", {"Location": f"{self.file_host}/files/export.json?signature=abc"})
        if self.form == "link":
            return Response.of({"data": {"url": f"{self.file_host}/files/export.json?signature=abc"}})
        return self._file(request, self.export)

    def handle_file(self, request: Request) -> Response:
        """Handle a request to the file host, which rejects requests with credentials for another host."""
        carried = {"authorization", self.auth_name.lower() or "authorization"} & set(request.headers)
        if carried or self.token in request.target:
            return Response(400, b"Only one authorisation is allowed", {"Content-Type": "text/plain"})
        if self.export is None or not request.path.startswith("/files/"):
            return Response(404)
        return self._file(request, self.export)

    def _file(self, request: Request, export: ExportFile) -> Response:
        body = gzip.compress(export.body, 1) if self.form in {"gzip", "content-encoding"} else export.body
        etag = f'"{hashlib.sha256(export.body).hexdigest()[:32]}"'
        headers = {"Content-Type": "application/json"}
        if self.form == "content-encoding":
            headers["Content-Encoding"] = "gzip"
        if export.etag:
            headers["ETag"] = etag
        if export.made is not None:
            headers["Last-Modified"] = format_datetime(export.made, usegmt=True)
        if self.conditional and self._unchanged(request, export, etag):
            return Response(304, b"", headers)
        sent = len(body) if export.sent is None else export.sent
        return Response(200, body[:sent], headers, length=len(body))

    @staticmethod
    def _unchanged(request: Request, export: ExportFile, etag: str) -> bool:
        if "if-none-match" in request.headers:
            return export.etag and request.headers["if-none-match"] == etag
        since = request.headers.get("if-modified-since")
        return since is not None and export.made is not None and export.made <= parsedate_to_datetime(since)

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

    def _graphql(self, request: Request) -> Response:
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
        segments = [{"id": key, "name": name} for key, name in self.segments]
        return Response.of({"data": {"segments": {"segments": segments}}}, headers={"X-Request-Id": "sandbox-1"})
