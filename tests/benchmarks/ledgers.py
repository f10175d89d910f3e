"""The ledger in PostgreSQL against SQLite, and reading the account back: the same target on both, in turn."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from measuring import BIN, config, target_settings, working_sandbox
from postgres import postgres
from processes import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox
    from postgres import Server
    from processes import Measure
    from table import Table


def compare_ledgers(folder: Path, table: Table, everything: Path, records: Path, count: str, limits: tuple[str, str]) -> None:
    """Compare both ledgers on a first load and on a day without changes.

    Args:
        folder: where the ledgers go.
        table: where the figures go.
        everything: a first day's messages.
        records: the same records without STATE and ACTIVATE_VERSION, so that nothing is read back.
        count: how many contacts that is, in words.
        limits: what no program could save on the first load, and on the day.
    """
    with contextlib.ExitStack() as cleanup:
        server = cleanup.enter_context(postgres())
        ledgers = {"sqlite": _Ledger(folder / "sqlite", None), "postgresql": _Ledger(folder / "postgresql", server)}
        what = f"target, first load, {count}, ledger in PostgreSQL"
        table.compare(
            what, ledgers["postgresql"].first_load(everything), ledgers["sqlite"].first_load(everything), "SQLite", limits[0]
        )
        days = {name: cleanup.enter_context(ledger.loaded(records)) for name, ledger in ledgers.items()}
        what = f"target, {count}, nothing to send, ledger in PostgreSQL"
        table.compare(what, days["postgresql"], days["sqlite"], "SQLite", limits[1])


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
        "one call for 5,000 contacts; contacts per call are dotdigital's limit",
    )


class _Ledger:
    """Loads of one kind of ledger.

    Args:
        folder: where ledger and reports go.
        server: the server of a PostgreSQL ledger; None for SQLite.
    """

    def __init__(self, folder: Path, server: Server | None) -> None:
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
