"""What it costs to call dotdigital once for each contact, and what it costs in bulk: calls, and time with a real network's latency."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import requests
from measuring import BIN, config, shop, target_settings, working_sandbox
from nosto_dotdigital_sandbox import Sandbox
from processes import measure

if TYPE_CHECKING:
    from pathlib import Path

    from table import Table

LATENCY, IMPORT_SECONDS = 0.05, 2.0


def compare_calls(folder: Path, table: Table, contacts: int, singly: int) -> None:
    """Note calls and time for `contacts`; the baseline is measured for `singly` of them and multiplied."""
    folder.mkdir()
    shop(contacts).write(folder / "export.jsonl", 0)
    tap = config(
        folder / "tap.json", {"export_url": str(folder / "export.jsonl"), "snapshot_uri": str(folder), "max_export_age_hours": 0}
    )
    measure([BIN / "tap-nosto-segments", "--config", tap], output=folder / "all.jsonl")
    with working_sandbox(latency=LATENCY) as sandbox:
        sandbox.account.import_seconds = IMPORT_SECONDS
        settings = target_settings(sandbox, folder, poll_interval_ms=2000)
        sandbox.journal.clear()
        bulk = measure([BIN / "target-dotdigital", "--config", config(folder / "t.json", settings)], source=folder / "all.jsonl")
        calls, imports = len(sandbox.journal.calls()), len(sandbox.journal.imports())
        assert len(sandbox.account.contacts) == contacts
    seconds = _one_by_one(singly) * contacts / singly
    table.note(
        f"import calls, {contacts:,} contacts",
        f"{imports} ({calls} calls in all) against {contacts:,} (one call for each contact)",
        f"{contacts / imports:,.0f} times fewer",
        "40 MB in one call: about 130,000 contacts; by default 10,000",
    )
    table.note(
        f"wall time, {contacts:,} contacts, 50 ms for each call, 2 s for each import",
        f"{bulk.seconds:.1f} s against {seconds:,.0f} s (one call for each contact; measured for {singly} of them)",
        f"{seconds / bulk.seconds:.0f} times as fast",
        "dotdigital's own processing of an import",
    )


def _one_by_one(contacts: int) -> float:
    """Give the seconds that one call for each contact takes, over one connection, not waiting for any import."""
    with Sandbox(bodies=False, latency=LATENCY) as sandbox, requests.Session() as session:
        sandbox.account.import_polls = 0
        session.auth = (sandbox.user, sandbox.password)
        started = time.monotonic()
        for number in range(contacts):
            row = {"matchIdentifier": "email", "identifiers": {"email": f"p{number}@example.com"}, "dataFields": {}}
            answer = session.put(
                f"{sandbox.home_url}/contacts/v3/import", json={"mergeOption": "overwrite", "contacts": [row]}, timeout=10
            )
            answer.raise_for_status()
        return time.monotonic() - started
