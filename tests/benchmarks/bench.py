"""Speed and memory as ratios against baselines that run in turn with the plugins: `make bench`.

Writes the table to `tests/benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from calls import compare_calls
from ledgers import compare_ledgers, read_back
from limits import DECODING, INSERTING, least, show_limits
from measuring import BIN, HERE, config, enlarge, shop, target_settings, working_sandbox
from processes import measure
from table import Table
from through_meltano import compare_pairs, compare_sizes

if TYPE_CHECKING:
    from processes import Measure

PARTS = ("memory", "tap", "target", "postgresql", "reading", "meltano", "calls", "limits")
# parts that run with fewer contacts than the others
MAX_CONTACTS = {"postgresql": 300_000}
# sizes of the figures on the page; others, set by these environment variables, are only printed
SIZES = {"BENCH_CONTACTS": 1_000_000, "BENCH_TIMES": 10}


class Bench:
    """The measurements, on exports made once.

    Args:
        folder: where everything goes; needs some gigabytes.
        contacts: how many for the figures of speed.
        times: how many times as many for the figures that compare two sizes.
        table: where the figures go.
    """

    def __init__(self, folder: Path, contacts: int, times: int, table: Table) -> None:
        """Make the exports."""
        self.folder, self.contacts, self.times, self.table = folder, contacts, times, table
        self.measured: dict[str, str] = {}
        folder.mkdir()
        self.count = f"{contacts:,} contacts"
        for day in range(2):
            shop(contacts).write(folder / f"day{day}.jsonl", day)
        os.utime(folder / "day0.jsonl", (1_790_000_000, 1_790_000_000))
        self.first_load()

    def tap_config(self, export: Path, snapshots: Path) -> Path:
        """Write the tap's configuration."""
        return config(
            self.folder / "tap.json", {"export_url": str(export), "snapshot_uri": str(snapshots), "max_export_age_hours": 0}
        )

    def plain_tap(self) -> Measure:
        """The baseline of the tap."""
        given = config(self.folder / "plain.json", {"path": str(self.folder / "day1.jsonl")})
        return measure([BIN / "python", HERE / "plain_tap.py", "--config", given])

    def plain_target(self) -> Measure:
        """The baseline of the target."""
        return measure([BIN / "python", HERE / "plain_target.py"], source=self.folder / "full.jsonl")

    def first_load(self) -> Measure:
        """The tap without a bookmark."""
        snapshots = self.folder / "snapshots"
        shutil.rmtree(snapshots, ignore_errors=True)
        done = measure(
            [BIN / "tap-nosto-segments", "--config", self.tap_config(self.folder / "day0.jsonl", snapshots)],
            output=self.folder / "full.jsonl",
        )
        # only the end of it: a process that is started counts this one's peak memory as its own
        with (self.folder / "full.jsonl").open("rb") as file:
            file.seek(-4096, os.SEEK_END)
            last = file.read().rstrip().rpartition(b"\n")[2]
        config(self.folder / "state.json", json.loads(last)["value"])
        return done

    def day_two(self) -> Measure:
        """The tap with a bookmark, a day later."""
        snapshots = self.folder / "copied"
        shutil.rmtree(snapshots, ignore_errors=True)
        shutil.copytree(self.folder / "snapshots", snapshots)
        given = self.tap_config(self.folder / "day1.jsonl", snapshots)
        return measure([BIN / "tap-nosto-segments", "--config", given, "--state", self.folder / "state.json"])

    def limit(self, name: str) -> str:
        """Return what an operation that no program can do without takes with a first day's messages; measured once."""
        if name not in self.measured:
            self.measured[name] = least(self.folder / "full.jsonl", self.folder, name)
        return f"{name}: {self.measured[name]} s of processor time"

    def tap(self) -> None:
        """Measure the tap."""
        limit = self.limit(DECODING)
        self.table.compare(f"tap, first load, {self.count}", self.first_load, self.plain_tap, "plain tap", limit)
        what = f"tap, day two, {self.count}, 1 % changed, download and snapshot included"
        self.table.compare(what, self.day_two, self.plain_tap, "plain tap, all records", limit)

    def target(self) -> None:
        """Measure the target against the sandbox at no latency."""
        place = self.folder / "target"
        source = self.folder / "full.jsonl"

        def first() -> Measure:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            with working_sandbox() as sandbox:
                return load(target_settings(sandbox, place))

        def load(settings: dict[str, object], source: Path = source) -> Measure:
            return measure([BIN / "target-dotdigital", "--config", config(place / "target.json", settings)], source=source)

        what = f"target, first load, {self.count}, request bodies built and outcomes recorded"
        limit = f"{self.limit(INSERTING)}; one import call for 10,000 contacts"
        self.table.compare(what, first, self.plain_target, "counting target", limit)
        shutil.rmtree(place)
        place.mkdir()
        with working_sandbox() as sandbox:
            settings = target_settings(sandbox, place)
            load(settings)
            what = f"target, {self.count}, all named (ACTIVATE_VERSION), nothing to send: the account is read back"
            limit = f"{self.limit(DECODING)}; one call for 5,000 contacts"
            self.table.compare(what, lambda: load(settings), self.plain_target, "counting target", limit)
        shutil.rmtree(place)
        place.mkdir()
        records = self.records()
        with working_sandbox() as sandbox:
            settings = target_settings(sandbox, place)
            load(settings, records)
            what = f"target, {self.count} collected, checked and in the ledger, nothing to send"
            self.table.compare(what, lambda: load(settings, records), self.plain_target, "counting target", self.limit(DECODING))

    def records(self) -> Path:
        """Write the records alone: a source that sends no STATE is taken as it is, so nothing is read back."""
        records = self.folder / "records.jsonl"
        with (self.folder / "full.jsonl").open("rb") as lines, records.open("wb") as file:
            file.writelines(
                re.sub(rb',"version":\d+', b"", line) for line in lines if not line.startswith((b'{"type":"ACT', b'{"type":"STATE'))
            )
        return records

    def postgresql(self) -> None:
        """Compare a ledger in PostgreSQL with one in SQLite."""
        limits = self.limit(INSERTING), self.limit(DECODING)
        compare_ledgers(self.folder / "ledgers", self.table, self.folder / "full.jsonl", self.records(), self.count, limits)

    def reading(self) -> None:
        """Measure the reading of the account."""
        read_back(self.folder / "reading", self.table, self.folder / "full.jsonl", self.records(), self.count)

    def limits(self) -> None:
        """Measure what no program can do without."""
        show_limits(self.table, self.folder / "full.jsonl", self.count, self.folder)

    def meltano(self) -> None:
        """Measure both through Meltano, and the second day of a shop that is some times as large."""
        days = self.folder / "day0.jsonl", self.folder / "day1.jsonl"
        small = compare_pairs(self.folder / "project", self.table, days, self.contacts)
        sizes = self.times * self.contacts, self.contacts
        compare_sizes(self.folder / "sizes", self.table, days, sizes, small)

    def calls(self) -> None:
        """Count and time the calls."""
        compare_calls(self.folder / "calls", self.table, contacts=100_000, singly=500)

    def memory(self) -> None:
        """Compare peak memory at two sizes."""
        large = self.folder / "large.jsonl"
        enlarge(self.folder / "day0.jsonl", large, self.times)
        sizes = f"{self.times * self.contacts:,} contacts against {self.contacts:,}"
        small = self.first_load()
        everything = self.folder / "everything.jsonl"
        snapshots = self.folder / "large"
        command = [BIN / "tap-nosto-segments", "--config", self.tap_config(large, snapshots)]
        limit = "none: memory need not grow"
        self.table.memory(f"tap, peak memory, {sizes}", measure(command, output=everything).megabytes, small.megabytes, limit)
        large.unlink()
        shutil.rmtree(snapshots)
        peaks = []
        for source in (everything, self.folder / "full.jsonl"):
            place = self.folder / f"of-{source.stem}"
            place.mkdir()
            with working_sandbox() as sandbox:
                given = config(place / "target.json", target_settings(sandbox, place, dry_run=True))
                peaks.append(measure([BIN / "target-dotdigital", "--config", given], source=source).megabytes)
            shutil.rmtree(place)
        self.table.memory(f"target, peak memory, {sizes}, collected, checked and planned", peaks[0], peaks[1], limit)
        everything.unlink()


def main() -> None:
    """Measure everything, or the parts that are named; figures of other sizes than the page's are only printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    sizes = {name: int(os.environ.get(name, size)) for name, size in SIZES.items()}
    table = Table(options.runs)
    with tempfile.TemporaryDirectory() as folder:
        benches: dict[int, Bench] = {}
        for what in options.what or PARTS:
            table.part = what
            contacts = min(sizes["BENCH_CONTACTS"], MAX_CONTACTS.get(what, sizes["BENCH_CONTACTS"]))
            if contacts not in benches:
                benches[contacts] = Bench(Path(folder) / f"{contacts}", contacts, sizes["BENCH_TIMES"], table)
            getattr(benches[contacts], what)()
    if sizes == SIZES:
        table.write(PARTS)


if __name__ == "__main__":
    main()
