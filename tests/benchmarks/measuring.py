"""What the benchmarks run on: exports, a sandbox that does not get in the way, and the plugins' settings."""

from __future__ import annotations

import contextlib
import gc
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nosto_dotdigital_sandbox import Sandbox, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nosto_dotdigital_sandbox import Account

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SEGMENTS = tuple(f"Affinity: Brand number {number:02d}" for number in range(50))
# more than an account may have open at once
KEPT_REPORTS = 50
SECONDS_PER_DAY = 86_400


def shop(contacts: int, seed: int = 1) -> Shop:
    """Give a shop with 0 to 8 names of about 20 characters out of 50, of which 1 % changes in a day."""
    return Shop(
        contacts,
        seed=seed,
        segments=SEGMENTS,
        most=8,
        change_per_mille=10,
        vanish_per_mille=1,
        new_per_mille=1,
        doubled_per_mille=0,
    )


def enlarge(small: Path, large: Path, times: int) -> None:
    """Write an export that holds every contact of another `times` times, under other addresses."""
    with large.open("wb") as file:
        for number in range(times):
            with small.open("rb") as lines:
                while part := lines.read(1 << 24):
                    file.write(part.replace(b"@", f".{number}@".encode()))


class Lean:
    """Keep an account of millions of contacts small: old reports of imports are dropped, and what is the same in all contacts is shared.

    Args:
        account: the sandbox's account.
    """

    def __init__(self, account: Account) -> None:
        """Start with the first import."""
        self._account = account
        self._done = 0
        self._lists: dict[frozenset[int], set[int]] = {}
        self._preferences: dict[int, bool] = {}
        self._consent: list[dict[str, str]] = []

    def trim(self) -> None:
        """Trim the imports that have finished since the last call, except the newest, which may not have been read yet."""
        jobs = list(self._account.imports.values())
        while self._done < len(jobs) - KEPT_REPORTS and jobs[self._done].status != "NotFinished":
            job = jobs[self._done]
            with self._account.lock:
                for row in job.created:
                    contact = self._account.contacts[row["contactId"]]
                    contact.lists = self._lists.setdefault(frozenset(contact.lists), contact.lists)
                    contact.preferences, contact.consent = self._preferences, self._consent
            job.created, job.updated = [], []
            self._done += 1


@contextlib.contextmanager
def working_sandbox(*, lean: bool = False, **options: Any) -> Iterator[Sandbox]:
    """Give a sandbox that works on imports in the background, as dotdigital does, and does not get in the measurement's way.

    Args:
        lean: whether to keep the account small, which takes the sandbox some time.
        options: of the sandbox.
    """
    with Sandbox(bodies=False, **options) as sandbox, quick_threads():
        sandbox.account.import_polls = 0
        with working([sandbox.account], lean=lean):
            yield sandbox


@contextlib.contextmanager
def quick_threads() -> Iterator[None]:
    """Let this process answer quickly although it holds many contacts."""
    gc.disable()  # a million contacts hold no cycles
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.enable()


@contextlib.contextmanager
def working(accounts: Sequence[Account], *, lean: bool) -> Iterator[None]:
    """Finish imports in the background, as dotdigital does.

    Contacts are a day old when they are created: a run reads back what was created since the one before, which is not what it created itself a
    day ago.
    """
    for account in accounts:
        account.wall = lambda: time.time() - SECONDS_PER_DAY
    stopped = threading.Event()
    trimmers = [Lean(account) for account in accounts] if lean else []

    def work() -> None:
        while not stopped.wait(0.005):
            for account in accounts:
                account.work()
            for trimmer in trimmers:
                trimmer.trim()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stopped.set()
        worker.join()


def target_settings(sandbox: Sandbox, folder: Path, **more: object) -> dict[str, object]:
    """Give the target's settings for a sandbox, switched on: the code is read off a first run's report."""
    settings: dict[str, object] = {
        "api_url": sandbox.api_url,
        "api_user": sandbox.user,
        "api_password": sandbox.password,
        "ledger_url": f"sqlite:///{folder / 'ledger.db'}",
        "report_dir": str(folder / "reports"),
        "poll_interval_ms": 20,
        **more,
    }
    asked = config(folder / "asked.json", settings)
    schema: dict[str, object] = {"properties": {"email": {}, "segments": {}}}
    line = json.dumps({"type": "SCHEMA", "stream": "contact_segments", "schema": schema, "key_properties": ["email"]}) + "\n"
    subprocess.run([BIN / "target-dotdigital", "--config", asked], input=line.encode(), capture_output=True, check=False)
    return {**settings, "activation_code": json.loads((folder / "reports" / "report.json").read_text())["activation_code"]}


def config(path: Path, values: Mapping[str, object]) -> Path:
    """Write a configuration."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return path
