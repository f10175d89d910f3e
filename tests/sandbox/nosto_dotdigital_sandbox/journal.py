"""Records every request in order, with the status of its response."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nosto_dotdigital_sandbox.web import Request, Response


@dataclass(slots=True)
class Call:
    """One call; `status` and `answer` are None until the response is sent."""

    service: str
    method: str
    target: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None = None
    answer: bytes | None = None
    request: Request | None = None

    def json(self) -> Any:
        """Decode the request body as JSON."""
        if self.request is None:
            msg = "this journal keeps no bodies"
            raise ValueError(msg)
        return self.request.json()


class Journal:
    """All calls since the start or the last `clear`. Thread-safe.

    Args:
        bodies: whether request and response bodies are kept (off for large loads).
    """

    def __init__(self, *, bodies: bool = True) -> None:
        """Start empty."""
        self.bodies = bodies
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def note(self, request: Request) -> Call:
        """Record a request."""
        call = Call(
            request.service,
            request.method,
            request.target,
            request.path,
            request.headers,
            request.body if self.bodies else b"",
            request=request if self.bodies else None,
        )
        with self._lock:
            self._calls.append(call)
        return call

    def answered(self, call: Call, response: Response) -> None:
        """Record the response of a call."""
        call.status = response.status
        if self.bodies:
            call.answer = response.body

    def clear(self) -> None:
        """Delete all recorded calls."""
        with self._lock:
            self._calls.clear()

    def calls(self, service: str | None = None, method: str | None = None, path: str | None = None) -> list[Call]:
        """Return the calls so far, filtered; `path` is a prefix."""
        with self._lock:
            calls = list(self._calls)
        return [
            call
            for call in calls
            if (service is None or call.service == service)
            and (method is None or call.method == method)
            and (path is None or call.path.startswith(path))
        ]

    def imports(self) -> list[Call]:
        """Return the calls that submit imports."""
        return self.calls("dotdigital", "PUT", "/contacts/v3/import")

    def writes(self) -> list[Call]:
        """Return all calls to dotdigital except reads."""
        return [call for call in self.calls("dotdigital") if call.method != "GET"]
