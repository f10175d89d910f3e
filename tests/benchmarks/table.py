"""What was measured: one row for each figure, on a page that says when each row was measured and what limits it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processes import Measure

HERE = Path(__file__).parent
FIGURES = HERE / "figures.json"
PACKAGES = ("singer-sdk", "meltano", "duckdb", "sqlalchemy", "msgspec")
HEAD = """\
# Benchmarks

Made by `make bench`, or a part of it (`make bench BENCH=postgresql`); the figures are kept in `figures.json`. Each figure is
a whole process, start-up included, and the baseline runs in turn with it; of several runs the median, with the lowest and
highest. Records: an address and 0 to 8 names of about 20 characters out of 50. The
baselines are a plain singer-sdk tap that yields the same records, and a plain BatchSink that only counts (`plain_*.py`).
The sandbox runs beside the target, on the second core. Processor time is user and system time of the process, and of a
PostgreSQL server of the benchmark's own; it depends less than the clock on what else the machine does. Parts were measured on machines of one kind, of which
some are twice as fast as others: compare figures within a row, and ratios between rows. Peak memory is the
kernel's VmHWM of the process, sampled until it ends; in rows measured up to 2026-11-23 it was `ru_maxrss`.
The last but one column says what no program could save, because dotdigital, the disk or the format demands it. Rows called limit are small programs
that do nothing but what their name says with the same bytes.

Other sizes, to try it out, are environment variables: `BENCH_CONTACTS`, `BENCH_TIMES` (large shop against small one).
Their figures are printed and not written.
"""


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

    def compare(self, what: str, ours: Callable[[], Measure], baseline: Callable[[], Measure], named: str, limit: str) -> None:
        """Measure ours and the baseline in turn, and note the ratio of their medians."""
        pairs = [(baseline(), ours()) for _ in range(self.runs)]
        (base, base_busy), (own, own_busy) = (
            ([pair[side].seconds for pair in pairs], [pair[side].busy for pair in pairs]) for side in (0, 1)
        )
        ratio = statistics.median(base) / statistics.median(own)
        busy = statistics.median(base_busy) / statistics.median(own_busy)
        figure = f"{spread(own)} against {spread(base)} ({named}); processor {spread(own_busy)} against {spread(base_busy)}"
        self.note(what, figure, f"{ratio:.2g} times as fast, {busy:.2g} by processor time", limit)

    def memory(self, what: str, large: float, small: float, limit: str) -> None:
        """Note two peaks of memory in MB."""
        self.note(what, f"{large:.0f} MB against {small:.0f} MB", f"{large / small:.2f} times", limit)

    def note(self, what: str, figure: str, verdict: str, limit: str) -> None:
        """Add a row.

        Args:
            what: what was measured.
            figure: the figure, and the baseline's.
            verdict: how they compare.
            limit: what no program could save.
        """
        self.parts.setdefault(self.part, []).append([what, figure, verdict, limit, _commit_date()])
        print(f"{what}: {figure}: {verdict}", flush=True)

    def write(self, order: Sequence[str]) -> None:
        """Write the page; parts that did not run keep their figures, with their dates.

        Args:
            order: all parts, in the order of the page.
        """
        kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        parts: dict[str, list[list[str]]] = {**kept, **self.parts}
        parts = {part: parts[part] for part in order if part in parts}
        FIGURES.write_text(json.dumps(parts, indent=1) + "\n")
        (HERE / "README.md").write_text(page(parts, self.runs))


def page(parts: dict[str, list[list[str]]], runs: int) -> str:
    """Return the page with all rows."""
    rows = [row for part in parts.values() for row in part]
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {packages}"
    return "\n".join(
        [
            HEAD,
            f"{machine}; {runs} runs, of memory and calls one.",
            "",
            _dates(sorted({row[4] for row in rows})),
            "",
            "| what | figure | against the baseline | physical limit | commit of |",
            "| --- | --- | --- | --- | --- |",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        ]
    )


def spread(values: Sequence[float]) -> str:
    """Return the median of some seconds, with the lowest and highest."""
    return f"{statistics.median(values):.1f} s ({min(values):.1f} to {max(values):.1f})"


def ratio(large: float, small: float) -> str:
    """Return two seconds and how they compare."""
    return f"{large:.1f} s against {small:.1f} s: {large / small:.1f} times"


def _dates(dates: Sequence[str]) -> str:
    if len(dates) < 2:
        return "All rows were measured with the code of one day."
    older = ", ".join(dates[:-1])
    return f"Rows of {older} were measured with older code than those of {dates[-1]} (last column)."


def _commit_date() -> str:
    """Return the date of the commit whose code is measured."""
    command = ["git", "-C", str(HERE), "log", "-1", "--format=%cs"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
