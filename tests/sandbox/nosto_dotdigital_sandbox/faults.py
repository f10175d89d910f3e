"""Faults on a script: "after accepting the third import, drop the connection"."""

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
    """One fault and the calls that it strikes.

    Args:
        kind: `answer` gives `response` in place of the service's; `drop_before` closes the connection before the service
            sees the request; `drop_after` after it has done its work; `cut` in the middle of the answer; `hang` keeps the
            request waiting and never does its work; `garble` answers with something that is not JSON; `rewrite` gives
            what the function `rewrite` makes of the answer.
        service: the service by name; None means any.
        method: the method; None means any.
        path: a regular expression that the path is searched for.
        nth: the first matching call that is struck, counted from 1.
        times: how many matching calls are struck from then on.
        before: called before anything else, with the request (to kill a process, say).
        after: called when the service has done its work, before it answers.
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
        """Count a matching call, and say whether it is one to strike."""
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
        """Strike.

        Raises:
            Disconnect: where the fault closes the connection.
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
        """Let go of requests that hang."""
        self._release.set()


class Faults:
    """The faults on the script. The first that matches a call strikes it."""

    def __init__(self) -> None:
        """Start with none."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Put a fault on the script."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Take all faults off the script and let go of what hangs."""
        with self._lock:
            for fault in self._faults:
                fault.release()
            self._faults.clear()

    def due(self, request: Request) -> Fault | None:
        """The fault that strikes this call, if any."""
        with self._lock:
            return next((fault for fault in self._faults if fault.strikes(request)), None)


def answer(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, content_type: str = "application/json"
) -> Response:
    """A raw answer for a fault."""
    return Response(status, body, {"Content-Type": content_type, **(headers or {})})
