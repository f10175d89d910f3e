"""Speed and memory as ratios against a baseline that runs in turn with the plugins: `make bench`.

Each figure is a whole process, start-up included. Writes the table to `tests/benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nosto_dotdigital_sandbox import Sandbox, Shop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SEGMENTS = tuple(f"Affinity: Brand number {number:02d}" for number in range(50))


@dataclass(frozen=True, slots=True)
class Measure:
    """One process: seconds by the clock and peak memory in MB."""

    seconds: float
    megabytes: float


def shop(contacts: int) -> Shop:
    """Give a shop with 0 to 8 names of about 20 characters out of 50, of which 1 % changes in a day."""
    return Shop(contacts, segments=SEGMENTS, most=8, change_per_mille=10, vanish_per_mille=1, new_per_mille=1, doubled_per_mille=0)


def measure(command: Sequence[object], source: Path | None = None, output: Path | None = None) -> Measure:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.
    """
    started = time.monotonic()
    with _open(source, "rb") as stdin, _open(output, "wb") as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen([str(part) for part in command], stdin=stdin, stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            stderr.seek(0)
            msg = stderr.read().decode()[-2000:]
            raise RuntimeError(msg)
    return Measure(seconds, usage.ru_maxrss / 1024)


def _open(path: Path | None, mode: str) -> IO[Any]:
    return (path or Path(os.devnull)).open(mode)


class Bench:
    """The measurements, on exports made once.

    Args:
        folder: where everything goes; needs some gigabytes.
        contacts: how many for the figures of speed.
        large: how many for the second figure of memory.
        runs: how often each figure is measured.
    """

    def __init__(self, folder: Path, contacts: int, large: int, runs: int) -> None:
        """Make the exports."""
        self.folder, self.contacts, self.large, self.runs = folder, contacts, large, runs
        self.rows: list[tuple[str, str, str]] = []
        for day in range(2):
            shop(contacts).write(folder / f"day{day}.jsonl", day)
        os.utime(folder / "day0.jsonl", (1_790_000_000, 1_790_000_000))

    def config(self, name: str, **values: object) -> Path:
        """Write a configuration."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(values))
        return path

    def tap(self, export: Path, snapshots: Path) -> Path:
        """Write the tap's configuration."""
        return self.config("tap", export_url=str(export), snapshot_uri=str(snapshots), max_export_age_hours=0)

    def compare(self, what: str, ours: Callable[[], Measure], baseline: Callable[[], Measure], named: str) -> None:
        """Measure ours and the baseline in turn, and note the ratio of their medians."""
        pairs = [(baseline(), ours()) for _ in range(self.runs)]
        base, own = ([pair[side].seconds for pair in pairs] for side in (0, 1))
        ratio = statistics.median(base) / statistics.median(own)
        self.note(what, f"{_spread(own)} against {_spread(base)} ({named})", f"{ratio:.1f} times as fast")

    def note(self, what: str, figure: str, verdict: str) -> None:
        """Add a line to the table."""
        self.rows.append((what, figure, verdict))
        print(f"{what}: {figure}: {verdict}", flush=True)

    def plain_tap(self) -> Measure:
        """The baseline of the tap."""
        config = self.config("plain", path=str(self.folder / "day1.jsonl"))
        return measure([BIN / "python", HERE / "plain_tap.py", "--config", config])

    def first_load(self) -> Measure:
        """The tap without a bookmark."""
        snapshots = self.folder / "snapshots"
        shutil.rmtree(snapshots, ignore_errors=True)
        done = measure(
            [BIN / "tap-nosto-segments", "--config", self.tap(self.folder / "day0.jsonl", snapshots)],
            output=self.folder / "full.jsonl",
        )
        # only the end of it: a process that is started counts this one's peak memory as its own
        with (self.folder / "full.jsonl").open("rb") as file:
            file.seek(-4096, os.SEEK_END)
            last = file.read().rstrip().rpartition(b"\n")[2]
        (self.folder / "state.json").write_text(json.dumps(json.loads(last)["value"]))
        return done

    def day_two(self) -> Measure:
        """The tap with a bookmark, a day later."""
        snapshots = self.folder / "copied"
        shutil.rmtree(snapshots, ignore_errors=True)
        shutil.copytree(self.folder / "snapshots", snapshots)
        config = self.tap(self.folder / "day1.jsonl", snapshots)
        return measure([BIN / "tap-nosto-segments", "--config", config, "--state", self.folder / "state.json"])

    def plain_target(self) -> Measure:
        """The baseline of the target."""
        return measure([BIN / "python", HERE / "plain_target.py"], source=self.folder / "full.jsonl")

    def memory(self) -> None:
        """Compare the tap's peak memory at two sizes."""
        small = self.first_load()
        export = self.folder / "large.jsonl"
        shop(self.large).write(export, 0)
        snapshots = self.folder / "large"
        large = measure([BIN / "tap-nosto-segments", "--config", self.tap(export, snapshots)])
        self.note(
            f"tap, peak memory, {self.large:,} contacts against {self.contacts:,}",
            f"{large.megabytes:.0f} MB against {small.megabytes:.0f} MB",
            f"{large.megabytes / small.megabytes:.2f} times",
        )
        export.unlink()
        shutil.rmtree(snapshots)

    def target(self) -> None:
        """Measure the target against the sandbox at no latency."""
        for path in self.folder.glob("ledger.db*"):
            path.unlink()
        with Sandbox(bodies=False) as sandbox:
            settings = {
                "api_url": sandbox.api_url,
                "api_user": sandbox.user,
                "api_password": sandbox.password,
                "ledger_url": f"sqlite:///{self.folder / 'ledger.db'}",
                "report_dir": str(self.folder / "reports"),
                "poll_interval_ms": 20,
            }
            command = [BIN / "target-dotdigital", "--config", self.config("target", **settings)]
            subprocess.run(command, input=b"", capture_output=True, check=False)
            code = json.loads((self.folder / "reports" / "report.json").read_text())["activation_code"]
            self.config("target", **settings, activation_code=code)
            first = measure(command, source=self.folder / "full.jsonl")
            base = self.plain_target()
            count = f"{self.contacts:,} contacts"
            self.note(
                f"target, first load, {count}, sandbox included",
                f"{first.seconds:.1f} s against {base.seconds:.1f} s (counting target)",
                f"{base.seconds / first.seconds:.2f} times as fast, {first.megabytes:.0f} MB",
            )
            self.compare(
                f"target, {count}, nothing to send",
                lambda: measure(command, source=self.folder / "full.jsonl"),
                self.plain_target,
                "counting target",
            )

    def write(self) -> None:
        """Write the table."""
        packages = ", ".join(f"{name} {version(name)}" for name in ("singer-sdk", "duckdb", "sqlalchemy", "msgspec"))
        lines = [
            "# Benchmarks",
            "",
            "Made by `make bench`. Each figure is a whole process, start-up included, and the baseline runs in turn with it; of several",
            "runs the median, with the lowest and highest. Records: an address and 0 to 8 names of about 20 characters out of 50. The",
            "baselines are a plain singer-sdk tap that yields the same records, and a plain BatchSink that only counts (`plain_*.py`).",
            "",
            f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {packages}; {self.runs} runs.",
            "",
            "| what | figure | against the baseline |",
            "| --- | --- | --- |",
            *(f"| {what} | {figure} | {verdict} |" for what, figure, verdict in self.rows),
            "",
        ]
        (HERE / "README.md").write_text("\n".join(lines))


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} s ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.contacts, options.large, options.runs)
        count = f"{options.contacts:,} contacts"
        bench.compare(f"tap, first load, {count}", bench.first_load, bench.plain_tap, "plain tap")
        bench.compare(f"tap, day two, {count}, 1 % changed", bench.day_two, bench.plain_tap, "plain tap, all records")
        bench.memory()
        bench.first_load()
        bench.target()
        bench.write()


if __name__ == "__main__":
    main()
