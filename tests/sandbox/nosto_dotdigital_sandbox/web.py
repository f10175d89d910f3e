"""HTTP for the sandbox: requests and responses as plain data, and a server that can misbehave on purpose."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nosto_dotdigital_sandbox.faults import Faults
    from nosto_dotdigital_sandbox.journal import Journal


@dataclass(frozen=True, slots=True)
class Request:
    """One received request; header names are in lower case."""

    service: str
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query parameters; of a repeated parameter, the last value."""
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    def json(self) -> Any:
        """Decode the body as JSON.

        Raises:
            msgspec.DecodeError: the body is not JSON.
        """
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """One response. `length` overrides Content-Length, to simulate a truncated body."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None

    @classmethod
    def of(cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """Create a JSON response."""
        return cls(status, msgspec.json.encode(value), {"Content-Type": "application/json", **(headers or {})})


class Disconnect(Exception):  # noqa: N818 - an instruction, not an error
    """Raised to close the connection, after sending the bytes `sent` of a response."""

    def __init__(self, sent: bytes = b"") -> None:
        """Store the bytes that are sent before the connection is closed."""
        super().__init__("closed on purpose")
        self.sent = sent


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        service = cast("Service", self.server)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            service.name,
            self.command,
            self.path,
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
        )
        try:
            response = service.answer(request)
        except Disconnect as disconnect:
            self.close_connection = True
            if disconnect.sent:
                self.wfile.write(disconnect.sent)
            # without the shutdown the client would keep waiting on the keep-alive connection
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(encode(response, head=self.command == "HEAD"))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815 - the names that http.server calls

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing, because the journal records all calls."""


def encode(response: Response, *, head: bool = False) -> bytes:
    """Encode a response as the bytes to send."""
    length = len(response.body) if response.length is None else response.length
    lines = [f"HTTP/1.1 {response.status} {http.HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in {**response.headers, "Content-Length": str(length)}.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else response.body)


class Service(http.server.ThreadingHTTPServer):
    """One named service on a free port of 127.0.0.1, with its journal and its scripted faults."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        name: str,
        handle: Callable[[Request], Response],
        journal: Journal,
        faults: Faults,
        port: int = 0,
        latency: float = 0.0,
    ) -> None:
        """Bind the port, and start serving in a background thread."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.name = name
        self._handle = handle
        self._journal = journal
        self._faults = faults
        self._latency = latency
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """URL of the service, without a trailing slash."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, request: Request) -> Response:
        """Record the call, apply its fault if there is one, and return the response."""
        call = self._journal.note(request)
        if self._latency:
            time.sleep(self._latency)
        fault = self._faults.due(request)
        response = self._handle(request) if fault is None else fault.play(request, self._handle)
        self._journal.answered(call, response)
        return response

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnected, as fault tests make them do; report any other error."""
        import sys  # noqa: PLC0415

        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError, OSError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def close(self) -> None:
        """Stop serving and free the port."""
        self._closing = True
        # the thread waits for a connection: `serve_forever` would look whether it has to end only from time to time
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.server_address[1])).close()
        self._thread.join()
        self.server_close()

    def _serve(self) -> None:
        while not self._closing:
            self.handle_request()
