"""A pooler of PostgreSQL sessions, as PgBouncer in transaction or session mode: as much of it as locks can notice."""

from __future__ import annotations

import secrets
import select
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
KEY_DATA, READY = b"K", b"Z"
IDLE = b"I"


class Pooler:
    """Listens on a free port of 127.0.0.1, and shares the sessions of a server between its clients.

    Args:
        port: port of the server on 127.0.0.1.
        shares: whether a session goes back to the pool after each transaction, and not only when its client leaves.
    """

    def __init__(self, port: int, *, shares: bool) -> None:
        """Start to listen."""
        self._server = port
        self._shares = shares
        self._free: list[socket.socket] = []
        self._sessions: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._run(self._accept)

    def close(self) -> None:
        """Stop to listen, and end all sessions."""
        # wakes the thread that waits in `accept`
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for session in self._sessions:
            with suppress(OSError):
                session.shutdown(socket.SHUT_RDWR)
            session.close()
        for thread in self._threads:
            thread.join(10)

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._run(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client:
            greeting = _greeting(client)
            session, answer = self._start(greeting)
            client.sendall(answer)
            if self._shares:
                self._free.append(session)
            held = None if self._shares else session
            while (data := client.recv(65536)) and data[:1] != b"X":
                # the one that was used last, as PgBouncer does
                held = held or (self._free.pop() if self._free else self._start(greeting)[0])
                held.sendall(data)
                self._relay(client, held)
                if self._shares:
                    self._free.append(held)
                    held = None

    def _start(self, greeting: bytes) -> tuple[socket.socket, bytes]:
        """Open a session of the server; return it with the answer, whose process ID is invented."""
        session = socket.create_connection(("127.0.0.1", self._server))
        self._sessions.append(session)
        session.sendall(greeting)
        answer = b""
        while True:
            kind, body = _message(session)
            if kind == KEY_DATA:
                body = secrets.token_bytes(len(body))
            answer += kind + struct.pack("!i", len(body) + 4) + body
            if kind == READY:
                return session, answer

    def _relay(self, client: socket.socket, session: socket.socket) -> None:
        """Relay in both directions until the server is outside a transaction."""
        while True:
            ready, _, _ = select.select([client, session], [], [])
            if client in ready:
                data = client.recv(65536)
                if not data:
                    raise EOFError
                session.sendall(data)
            if session in ready:
                kind, body = _message(session)
                client.sendall(kind + struct.pack("!i", len(body) + 4) + body)
                if kind == READY and body == IDLE:
                    return


@contextmanager
def open_pooler(port: int, *, shares: bool) -> Iterator[int]:
    """Run a pooler before a server; yield its port."""
    pooler = Pooler(port, shares=shares)
    try:
        yield pooler.port
    finally:
        pooler.close()


def _greeting(client: socket.socket) -> bytes:
    """Return the start-up message of a client; encryption is declined."""
    while True:
        head = _exactly(client, 8)
        length, code = struct.unpack("!ii", head)
        if code in {SSL_REQUEST, GSS_REQUEST}:
            client.sendall(b"N")
        elif code == CANCEL_REQUEST:
            raise EOFError
        else:
            return head + _exactly(client, length - 8)


def _message(session: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(session, 5)
    return head[:1], _exactly(session, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
