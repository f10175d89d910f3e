"""How the benchmarks measure: whole processes, in turn with a baseline, and a table of what came of it."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nosto_dotdigital_sandbox import Sandbox, Shop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HERE = Path(__file__).parent
FIGURES = HERE / "figures.json"
BIN = Path(sys.executable).parent
SEGMENTS = tuple(f"Affinity: Brand number {number:02d}" for number in range(50))


@dataclass(frozen=True, slots=True)
class Measure:
    """One process: seconds by the clock, peak memory in MB, and processor seconds (user and system)."""

    seconds: float
    megabytes: float
    busy: float = 0.0


def shop(contacts: int) -> Shop:
    """Give a shop with 0 to 8 names of about 20 characters out of 50, of which 1 % changes in a day."""
    return Shop(contacts, segments=SEGMENTS, most=8, change_per_mille=10, vanish_per_mille=1, new_per_mille=1, doubled_per_mille=0)


def enlarge(small: Path, large: Path, times: int) -> None:
    """Write an export that holds every contact of another `times` times, under other addresses."""
    with large.open("wb") as file:
        for number in range(times):
            with small.open("rb") as lines:
                while part := lines.read(1 << 24):
                    file.write(part.replace(b"@", f".{number}@".encode()))


def measure(
    command: Sequence[object],
    source: Path | None = None,
    output: Path | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Measure:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.
    """
    started = time.monotonic()
    with _open(source, "rb") as stdin, _open(output, "wb") as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            stderr.seek(0)
            msg = stderr.read().decode()[-2000:]
            raise RuntimeError(msg)
    return Measure(seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def _open(path: Path | None, mode: str) -> IO[Any]:
    return (path or Path(os.devnull)).open(mode)


@contextlib.contextmanager
def working_sandbox(**options: Any) -> Iterator[Sandbox]:
    """Give a sandbox that works on imports in the background, as dotdigital does, and does not get in the measurement's way."""
    stopped = threading.Event()
    gc.disable()  # a million contacts hold no cycles
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    with Sandbox(bodies=False, **options) as sandbox:
        sandbox.account.import_polls = 0

        def work() -> None:
            while not stopped.wait(0.005):
                sandbox.account.work()

        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield sandbox
        finally:
            stopped.set()
            worker.join()
            sys.setswitchinterval(interval)
            gc.enable()


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


@dataclass(slots=True)
class Table:
    """What was measured.

    Args:
        runs: how often each figure is measured.
        part: the part of the benchmark that is running.
        parts: part -> its rows.
    """

    runs: int
    part: str = ""
    parts: dict[str, list[list[str]]] = field(default_factory=dict)

    def compare(self, what: str, ours: Callable[[], Measure], baseline: Callable[[], Measure], named: str) -> None:
        """Measure ours and the baseline in turn, and note the ratio of their medians."""
        pairs = [(baseline(), ours()) for _ in range(self.runs)]
        (base, base_busy), (own, own_busy) = (
            ([pair[side].seconds for pair in pairs], [pair[side].busy for pair in pairs]) for side in (0, 1)
        )
        ratio = statistics.median(base) / statistics.median(own)
        busy = statistics.median(base_busy) / statistics.median(own_busy)
        figure = f"{_spread(own)} against {_spread(base)} ({named}); processor {_spread(own_busy)} against {_spread(base_busy)}"
        self.note(what, figure, f"{ratio:.2g} times as fast, {busy:.2g} by processor time")

    def memory(self, what: str, large: Measure, small: Measure) -> None:
        """Note two peaks of memory."""
        figure = f"{large.megabytes:.0f} MB against {small.megabytes:.0f} MB"
        self.note(what, figure, f"{large.megabytes / small.megabytes:.2f} times")

    def note(self, what: str, figure: str, verdict: str) -> None:
        """Add a line."""
        self.parts.setdefault(self.part, []).append([what, figure, verdict])
        print(f"{what}: {figure}: {verdict}", flush=True)

    def write(self, order: Sequence[str]) -> None:
        """Write the page; parts that did not run keep their figures.

        Args:
            order: all parts, in the order of the page.
        """
        kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        parts: dict[str, list[list[str]]] = {**kept, **self.parts}
        FIGURES.write_text(json.dumps({part: parts[part] for part in order if part in parts}, indent=1) + "\n")
        packages = ", ".join(f"{name} {version(name)}" for name in ("singer-sdk", "meltano", "duckdb", "sqlalchemy", "msgspec"))
        lines = [
            "# Benchmarks",
            "",
            "Made by `make bench`, or a part of it (`make bench BENCH=postgresql`); the figures are kept in `figures.json`. Each figure is",
            "a whole process, start-up included, and the baseline runs in turn with it; of several runs the median, with the lowest and",
            "highest. Records: an address and 0 to 8 names of about 20 characters out of 50. The",
            "baselines are a plain singer-sdk tap that yields the same records, and a plain BatchSink that only counts (`plain_*.py`).",
            "The sandbox runs beside the target, on the second core. Processor time is user and system time of the process, and of a",
            "PostgreSQL server of the benchmark's own; it depends less than the clock on what else the machine does. Rows called limit",
            "are small programs that do nothing but what their name says with the same bytes.",
            "",
            f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {packages}; {self.runs} runs, of memory and calls one.",
            "",
            "| what | figure | against the baseline |",
            "| --- | --- | --- |",
            *(f"| {what} | {figure} | {verdict} |" for part in order for what, figure, verdict in parts.get(part, ())),
            "",
        ]
        (HERE / "README.md").write_text("\n".join(lines))


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} s ({min(values):.1f} to {max(values):.1f})"
