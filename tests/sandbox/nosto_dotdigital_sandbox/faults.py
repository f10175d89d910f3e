"""Scripted faults, such as "after accepting the third import, drop the connection"."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from nosto_dotdigital_sandbox.web import Disconnect, Response, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nosto_dotdigital_sandbox.web import Request

Kind = Literal["answer", "drop_before", "drop_after", "cut", "hang", "garble", "rewrite"]


@dataclass(slots=True)
class Fault:
    """One fault and the calls that it affects.

    Args:
        kind: `answer` returns `response` instead of calling the service; `drop_before` closes the connection before the service
            handles the request; `drop_after` closes it afterwards; `cut` closes it in the middle of the response; `hang` never
            handles the request and keeps the client waiting; `garble` returns invalid JSON; `rewrite` returns the response as
            changed by the function `rewrite`.
        service: name of the service; None matches any.
        method: HTTP method; None matches any.
        path: regular expression that is searched in the path.
        nth: number of the first matching call that is affected, counted from 1.
        times: number of matching calls that are affected.
        before: called with the request before anything else, for example to kill a process.
        after: called with the request after the service has handled it, before the response is sent.
    """

    kind: Kind = "answer"
    service: str | None = "dotdigital"
    method: str | None = None
    path: str = ""
    nth: int = 1
    times: int = 1
    response: Response | None = None
    rewrite: Callable[[Response], Response] | None = None
    before: Callable[[Request], None] | None = None
    after: Callable[[Request], None] | None = None
    hang_seconds: float = 30.0
    struck: int = 0
    _seen: int = 0
    _release: threading.Event = field(default_factory=threading.Event)

    def strikes(self, request: Request) -> bool:
        """Count a matching call, and return whether the fault affects it."""
        if self.service not in {None, request.service} or self.method not in {None, request.method}:
            return False
        if not re.search(self.path, request.target):
            return False
        self._seen += 1
        if not self.nth <= self._seen < self.nth + self.times:
            return False
        self.struck += 1
        return True

    def play(self, request: Request, handle: Callable[[Request], Response]) -> Response:
        """Apply the fault to a call.

        Raises:
            Disconnect: the fault closes the connection.
        """
        if self.before is not None:
            self.before(request)
        match self.kind:
            case "drop_before":
                raise Disconnect
            case "hang":
                self._release.wait(self.hang_seconds)
                raise Disconnect
            case "answer" if self.response is not None:
                return self.response
        response = handle(request)
        if self.after is not None:
            self.after(request)
        match self.kind:
            case "drop_after":
                raise Disconnect
            case "cut":
                wire = encode(response)
                raise Disconnect(wire[: max(1, len(wire) - max(1, len(response.body) // 2))])
            case "garble":
                return Response(response.status, b'{"importId": "tr', response.headers)
            case "rewrite" if self.rewrite is not None:
                return self.rewrite(response)
        return response

    def release(self) -> None:
        """Release hanging requests."""
        self._release.set()


class Faults:
    """The scripted faults. The first matching fault affects a call."""

    def __init__(self) -> None:
        """Start without faults."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Add a fault."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all faults, and release hanging requests."""
        with self._lock:
            for fault in self._faults:
                fault.release()
            self._faults.clear()

    def due(self, request: Request) -> Fault | None:
        """Return the fault that affects this call, if any."""
        with self._lock:
            return next((fault for fault in self._faults if fault.strikes(request)), None)


def answer(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, content_type: str = "application/json"
) -> Response:
    """Return a raw response for a fault."""
    return Response(status, body, {"Content-Type": content_type, **(headers or {})})
