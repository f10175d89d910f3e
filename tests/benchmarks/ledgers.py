"""The ledger in PostgreSQL against SQLite, and reading the account back: the same target on both, in turn."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from embedded_postgres import embedded_server
from measuring import BIN, config, measure, target_settings, working_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from measuring import Measure, Table
    from nosto_dotdigital_sandbox import Sandbox

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def compare_ledgers(folder: Path, table: Table, everything: Path, records: Path, count: str) -> None:
    """Compare both ledgers on a first load and on a day without changes.

    Args:
        folder: where the ledgers go.
        table: where the figures go.
        everything: a first day's messages.
        records: the same records without STATE and ACTIVATE_VERSION, so that nothing is read back.
        count: how many contacts that is, in words.
    """
    with contextlib.ExitStack() as cleanup:
        server = cleanup.enter_context(_postgres())
        ledgers = {"sqlite": _Ledger(folder / "sqlite", None), "postgresql": _Ledger(folder / "postgresql", server)}
        what = f"target, first load, {count}, ledger in PostgreSQL"
        table.compare(what, ledgers["postgresql"].first_load(everything), ledgers["sqlite"].first_load(everything), "SQLite")
        days = {name: cleanup.enter_context(ledger.loaded(records)) for name, ledger in ledgers.items()}
        what = f"target, {count}, nothing to send, ledger in PostgreSQL"
        table.compare(what, days["postgresql"], days["sqlite"], "SQLite")


def read_back(folder: Path, table: Table, everything: Path, records: Path, count: str) -> None:
    """Measure the reading of the account: the same day with and without it."""
    read, unread = _Ledger(folder / "whole", None), _Ledger(folder / "records", None)
    with read.loaded(everything) as whole, unread.loaded(records) as partial:
        pairs = [(whole(), partial()) for _ in range(table.runs)]
    seconds = sorted(long.seconds - short.seconds for long, short in pairs)
    busy = sorted(long.busy - short.busy for long, short in pairs)
    table.note(
        f"reading the account back, {count} at 0 ms latency",
        f"{seconds[len(seconds) // 2]:.1f} s ({seconds[0]:.1f} to {seconds[-1]:.1f}) more than the same day without it; "
        f"{busy[len(busy) // 2]:.1f} s of processor time",
        "pages of 5,000, one read ahead",
    )


class _Server:
    """A PostgreSQL server of the benchmark's own.

    Args:
        url: a database for all measurements, each in a schema of its own.
    """

    def __init__(self, url: sa.URL) -> None:
        """Find the server's process."""
        self.url = url
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with self._engine.connect() as connection:
            backend = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        self._pid = _fields(f"{backend}")[1]
        self._schemas = 0

    def schema(self) -> str:
        """Create a schema and return the URL of a ledger in it."""
        self._schemas += 1
        name = f"bench_{self._schemas}"
        with self._engine.connect() as connection:
            connection.execute(sa.schema.CreateSchema(name))
        return self.url.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)

    def busy(self) -> float:
        """Return the processor seconds of the server so far, those of ended connections included."""
        running = [
            fields for path in Path("/proc").iterdir() if path.name.isdigit() and (fields := _fields(path.name))[1:2] == [self._pid]
        ]
        ended = sum(map(int, _fields(self._pid)[11:15]))
        return (ended + sum(int(fields[11]) + int(fields[12]) for fields in running)) / TICKS_PER_SECOND

    def vacuum(self) -> None:
        """Do what autovacuum does between two days, so that it does not happen while something is measured."""
        with self._engine.connect() as connection:
            connection.execute(sa.text("VACUUM (ANALYZE)"))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


@contextlib.contextmanager
def _postgres() -> Iterator[_Server]:
    with embedded_server() as url:
        server = _Server(url)
        try:
            yield server
        finally:
            server.close()


def _fields(pid: str) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name: state, parent, ...; none if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class _Ledger:
    """Loads of one kind of ledger.

    Args:
        folder: where ledger and reports go.
        server: the server of a PostgreSQL ledger; None for SQLite.
    """

    def __init__(self, folder: Path, server: _Server | None) -> None:
        """Store the arguments."""
        self._folder, self._server = folder, server

    def first_load(self, source: Path) -> Callable[[], Measure]:
        """Return a function that measures a load into an empty ledger."""

        def load() -> Measure:
            with working_sandbox() as sandbox:
                return self._load(self._settings(sandbox), source)

        return load

    @contextlib.contextmanager
    def loaded(self, source: Path) -> Iterator[Callable[[], Measure]]:
        """Load once, and yield a function that measures the same load again."""
        with working_sandbox() as sandbox:
            settings = self._settings(sandbox)
            self._load(settings, source)
            if self._server:
                self._server.vacuum()
            yield lambda: self._load(settings, source)

    def _settings(self, sandbox: Sandbox) -> dict[str, object]:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        url = f"sqlite:///{self._folder / 'ledger.db'}" if self._server is None else self._server.schema()
        return target_settings(sandbox, self._folder, ledger_url=url)

    def _load(self, settings: dict[str, object], source: Path) -> Measure:
        before = self._server.busy() if self._server else 0.0
        done = measure([BIN / "target-dotdigital", "--config", config(self._folder / "target.json", settings)], source=source)
        return replace(done, busy=done.busy + (self._server.busy() if self._server else 0.0) - before)
