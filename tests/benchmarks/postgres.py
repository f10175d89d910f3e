"""A PostgreSQL server of the benchmark's own: its processor time, its connections, and who waits for a lock in it."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import sqlalchemy as sa
from embedded_postgres import embedded_server
from processes import TICKS_PER_SECOND, stat_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE_SECONDS = 0.05
LOCK_WAITS = "SELECT extract(epoch FROM clock_timestamp() - waitstart) FROM pg_locks WHERE NOT granted AND waitstart IS NOT NULL"
CONNECTIONS = (
    "SELECT datname, count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname <> 'postgres' GROUP BY 1"
)


class Server:
    """A PostgreSQL server of the benchmark's own.

    Args:
        url: its database `postgres`.
    """

    def __init__(self, url: sa.URL) -> None:
        """Find the server's process."""
        self.url = url
        self.engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with self.engine.connect() as connection:
            backend = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        self._pid = stat_fields(f"{backend}")[1]
        self._schemas = 0

    def schema(self) -> str:
        """Create a schema and return the URL of a ledger in it."""
        self._schemas += 1
        name = f"bench_{self._schemas}"
        with self.engine.connect() as connection:
            connection.execute(sa.schema.CreateSchema(name))
        return self.url.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)

    def database(self, name: str) -> str:
        """Create a database and return its URL."""
        with self.engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        return self.url.set(database=name).render_as_string(hide_password=False)

    def busy(self) -> float:
        """Return the processor seconds of the server so far, those of ended connections included."""
        running = [
            fields
            for path in Path("/proc").iterdir()
            if path.name.isdigit() and (fields := stat_fields(path.name))[1:2] == [self._pid]
        ]
        ended = sum(map(int, stat_fields(self._pid)[11:15]))
        return (ended + sum(int(fields[11]) + int(fields[12]) for fields in running)) / TICKS_PER_SECOND

    def vacuum(self) -> None:
        """Do what autovacuum does between two days, so that it does not happen while something is measured."""
        with self.engine.connect() as connection:
            connection.execute(sa.text("VACUUM (ANALYZE)"))

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()


class Activity:
    """Sample the server from a connection of its own, until the end of a `with` block.

    Attributes:
        samples: how often it looked.
        waiting: in how many of the samples somebody waited for a lock.
        longest_wait: the longest wait for a lock that a sample saw, in seconds.
        connections: database -> the most connections at once.
    """

    def __init__(self, server: Server) -> None:
        """Store the server."""
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.samples = self.waiting = 0
        self.longest_wait = 0.0
        self.connections: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        with self._server.engine.connect() as connection:
            while not self._ended.wait(SAMPLE_SECONDS):
                self.samples += 1
                waits = [float(seconds) for seconds in connection.scalars(sa.text(LOCK_WAITS))]
                self.waiting += bool(waits)
                self.longest_wait = max([self.longest_wait, *waits])
                for name, count in connection.execute(sa.text(CONNECTIONS)):
                    self.connections[name] = max(self.connections.get(name, 0), count)


@contextlib.contextmanager
def postgres() -> Iterator[Server]:
    """Start a server, and stop it afterwards."""
    with embedded_server() as url:
        server = Server(url)
        try:
            yield server
        finally:
            server.close()
