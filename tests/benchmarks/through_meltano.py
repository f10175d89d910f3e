"""Both pairs through the real Meltano: ours on the second day, and the plain one that hands over everything and counts."""

from __future__ import annotations

import os
import re
import shutil
import statistics
from typing import TYPE_CHECKING

from measuring import BIN, HERE, enlarge, target_settings, working_sandbox
from processes import Part, measure
from table import ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox
    from processes import Measure
    from table import Table

ROOT = HERE.parents[1]
TAP, TARGET = "tap-nosto-segments", "target-dotdigital"
PROGRAMS = {"tap": TAP, "target": TARGET, "Meltano": "meltano", "discovery": f"{TAP} --discover"}
PLAIN = """
plugins:
  extractors:
  - name: plain-tap
    namespace: plain_tap
    executable: {folder}/plain-tap
    capabilities: [catalog, discover, state]
    config: {{path: {export}}}
  loaders:
  - name: plain-target
    namespace: plain_target
    executable: {folder}/plain-target
"""


def write_project(folder: Path) -> None:
    """Write the repository's project, with the plugins that are installed already."""
    folder.mkdir(parents=True)
    text = (ROOT / "meltano.yml").read_text()
    (folder / "meltano.yml").write_text(
        re.sub(r"pip_url: .*\n    executable: (\S+)", lambda found: f"executable: {BIN / found[1]}", text)
    )


def neutral_environment() -> dict[str, str]:
    """Return this process's environment without settings of plugins, Meltano or Airflow."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TAP_", "TARGET_", "MELTANO_", "AIRFLOW"))}


class Own:
    """A project with our pair.

    Args:
        folder: where it goes.
        sandbox: the stand-in.
        first: the first day's export.
        second: the second day's.
    """

    def __init__(self, folder: Path, sandbox: Sandbox, first: Path, second: Path) -> None:
        """Write the project, and activate the sync."""
        self._folder, self._first, self._second = folder, first, second
        write_project(folder / "own")
        settings = target_settings(sandbox, folder / "asked")
        self._environment = {
            **neutral_environment(),
            "TAP_NOSTO_SEGMENTS_MAX_EXPORT_AGE_HOURS": "0",
            **{
                f"TARGET_DOTDIGITAL_{name.upper()}": str(value)
                for name, value in settings.items()
                if name not in {"ledger_url", "report_dir"}
            },
        }

    def first_day(self) -> Measure:
        """The first load."""
        return self._run(self._folder / "own", self._first)

    def second_day(self) -> Measure:
        """The second day, from a copy of what the first one left."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._folder / "own", copy)
        # so that the copy is not written to the disk while the day is measured
        os.sync()
        return self._run(copy, self._second)

    def _run(self, project: Path, export: Path) -> Measure:
        environment = {**self._environment, "TAP_NOSTO_SEGMENTS_EXPORT_URL": str(export)}
        return measure([BIN / "meltano", "run", TAP, TARGET], cwd=project, environment=environment)


def plain_pair(folder: Path, export: Path) -> Callable[[], Measure]:
    """Write a project with the plain pair, and return a function that measures it, from nothing."""
    folder.mkdir(parents=True)
    head = "project_id: plain\nsend_anonymous_usage_stats: false\ndefault_environment: prod\nenvironments:\n- name: prod\n"
    (folder / "meltano.yml").write_text(head + PLAIN.format(folder=folder, export=export))
    for name in ("plain-tap", "plain-target"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {BIN / "python"} {HERE / name.replace("-", "_")}.py "$@"\n')
        script.chmod(0o755)
    command = [BIN / "meltano", "run", "--full-refresh", "plain-tap", "plain-target"]
    return lambda: measure(command, cwd=folder, environment=neutral_environment())


def compare_pairs(folder: Path, table: Table, days: tuple[Path, Path], contacts: int) -> list[Measure]:
    """Compare our second day with the plain pair, and return our measures."""
    measures: list[Measure] = []
    with working_sandbox() as sandbox:
        own = Own(folder, sandbox, *days)
        own.first_day()
        what = f"`meltano run`, day two, {contacts:,} contacts, 1 % changed, sandbox"
        named = "plain pair, all records, only counting"
        limit = f"start-up: {start_up():.1f} s of processor time for Meltano, discovery, tap and target that do nothing"

        def second_day() -> Measure:
            measures.append(own.second_day())
            return measures[-1]

        table.compare(what, second_day, plain_pair(folder / "plain", days[1]), named, limit)
    shutil.rmtree(folder)
    return measures


def compare_sizes(folder: Path, table: Table, days: tuple[Path, Path], sizes: tuple[int, int], small: Sequence[Measure]) -> None:
    """Compare the second day of a large shop with that of a small one.

    Args:
        folder: where the large shop's project goes; some GB for each million contacts.
        table: where the figures go.
        days: the small shop's exports; the large one's hold the same contacts several times, under other addresses.
        sizes: contacts of the large shop and of the small one.
        small: measures of the small shop's second day.
    """
    folder.mkdir()
    times = sizes[0] // sizes[1]
    exports = folder / "day0.jsonl", folder / "day1.jsonl"
    for export, day in zip(exports, days, strict=True):
        enlarge(day, export, times)
    # the snapshot of the second day must be the newer one
    os.utime(exports[0], (days[0].stat().st_atime, days[0].stat().st_mtime))
    with working_sandbox(lean=True) as sandbox:
        own = Own(folder / "project", sandbox, *exports)
        first = own.first_day()
        loaded = len(sandbox.account.contacts)
        assert loaded >= sizes[0], f"{loaded} contacts in the account"
        large = [own.second_day() for _ in range(table.runs)]
    shutil.rmtree(folder)
    table.note(
        f"`meltano run`, first load, {sizes[0]:,} contacts, sandbox",
        f"{first.seconds:.0f} s, processor {first.busy:.0f} s; {_peaks(first)}",
        f"{first.busy / loaded * 1e6:.0f} µs of processor time for each contact",
        "dotdigital: one import call for 10,000 contacts, 35 a minute at the lowest published tier",
    )
    what = f"`meltano run`, day two, 1 % changed, {sizes[0]:,} contacts against {sizes[1]:,}"
    reading = f"reading both exports: {times} times the bytes"
    for name, of in (("wall time", _seconds), ("processor time, all processes", _busy)):
        compared = ratio(of(large), of(small))
        table.note(
            f"{what}, {name}",
            compared.rpartition(": ")[0],
            f"{compared.rpartition(': ')[2]} for {times} times the contacts",
            reading,
        )
    for name, own_name in PROGRAMS.items():
        used = [[one.parts.get(own_name, Part()) for one in measures] for measures in (large, small)]
        busy = [statistics.median(part.busy for part in parts) for parts in used]
        peak = [max(part.megabytes for part in parts) for parts in used]
        figure = f"{busy[0]:.1f} s against {busy[1]:.1f} s of processor time; peak memory {peak[0]:.0f} MB against {peak[1]:.0f} MB"
        compared = f"{busy[0] / max(busy[1], 0.01):.1f} times the time, {peak[0] / max(peak[1], 1):.2f} times the memory"
        table.note(
            f"{what}, {name} alone", figure, compared, reading if name == "tap" else "none for each contact that did not change"
        )


def start_up() -> float:
    """Return the processor seconds that the programs of one run take to start and do nothing."""
    commands = ([BIN / "meltano", "--version"], [BIN / TAP, "--discover"], [BIN / TAP, "--version"], [BIN / TARGET, "--version"])
    return sum(measure(command).busy for command in commands)


def _seconds(measures: Sequence[Measure]) -> float:
    return statistics.median(one.seconds for one in measures)


def _busy(measures: Sequence[Measure]) -> float:
    return statistics.median(one.busy for one in measures)


def _peaks(one: Measure) -> str:
    peaks = (f"{name} {one.parts[program].megabytes:.0f} MB" for name, program in PROGRAMS.items() if program in one.parts)
    return f"peak memory: {', '.join(peaks)}"
