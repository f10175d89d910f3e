"""Files against the pipe: the tap writes files and sends BATCH messages, the target reads them, and both are measured."""

from __future__ import annotations

import shlex
import shutil
import statistics
from typing import TYPE_CHECKING

from measuring import BIN, config, target_settings, working_sandbox
from processes import measure
from table import ratio

if TYPE_CHECKING:
    from pathlib import Path

    from processes import Measure
    from table import Table

TAP, TARGET = "tap-nosto-segments", "target-dotdigital"


def compare_files(folder: Path, table: Table, export: Path, count: str, limit: str) -> None:
    """Compare a first load through files with one through the pipe, up to what would be sent.

    Args:
        folder: where everything goes.
        table: where the figures go.
        export: the export.
        count: how many contacts that is, in words.
        limit: what no program could save.
    """
    batch = {"encoding": {"format": "jsonl", "compression": "gzip"}, "storage": {"root": (folder / "batches").as_uri()}}
    with working_sandbox() as sandbox:
        target = target_settings(sandbox, folder / "target", dry_run=True)
        tap = {"export_url": str(export), "snapshot_uri": str(folder / "snapshots"), "max_export_age_hours": 0}
        pairs = [(_load(folder, tap, target), _load(folder, tap, target, batch_config=batch)) for _ in range(table.runs)]
    pipe, files = ([pair[side] for pair in pairs] for side in (0, 1))
    what = f"first load, {count}, `tap | target` with files of BATCH messages (gzip) against the pipe alone, collected, checked and planned"
    for name in (TAP, TARGET):
        with_files, without = (statistics.median(one.parts[name].busy for one in measures) for measures in (files, pipe))
        compared = ratio(with_files, without)
        figure, _, verdict = compared.rpartition(": ")
        table.note(f"{what}: {name}", f"{figure} of processor time", f"{verdict} the time", limit)
    with_files, without = (statistics.median(one.seconds for one in measures) for measures in (files, pipe))
    figure, _, verdict = ratio(with_files, without).rpartition(": ")
    table.note(f"{what}: by the clock", figure, f"{verdict} the time", limit)


def _load(folder: Path, tap: dict[str, object], target: dict[str, object], **more: object) -> Measure:
    for name in ("snapshots", "batches"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "batches").mkdir()
    given = [config(folder / "tap.json", {**tap, **more}), config(folder / "target.json", {**target, **more})]
    tap_command, target_command = (
        shlex.join([str(BIN / name), "--config", str(path)]) for name, path in zip((TAP, TARGET), given, strict=True)
    )
    # a tap that fails must not look like a short load
    command = ["bash", "-o", "pipefail", "-c", f"{tap_command} | {target_command}"]
    done = measure(command)
    assert bool(more) == any((folder / "batches").iterdir()), "files are written if and only if batch_config is set"
    return done
