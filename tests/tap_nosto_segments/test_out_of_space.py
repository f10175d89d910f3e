"""A lack of disk space or memory is reported as such, wherever it occurs, and any other failure of the disk by its own name."""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nosto_dotdigital_sandbox import Shop
from support.running import BIN, run_tap

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.running import Outcome


def assert_no_room(outcome: Outcome, words: str) -> None:
    assert outcome.code == 1
    assert len(outcome.errors) == 1, outcome.log
    assert f"The export could not be {words}" in outcome.errors[0]
    assert "probably the disk for temporary files is full" in outcome.errors[0]
    assert "Traceback" not in outcome.log


def contacts(count: int, host: str, *, numbers: random.Random | None = None) -> str:
    names = (numbers.getrandbits(128) if numbers else number for number in range(count))
    return "".join(f'{{"email":"{name:032x}@{host}","seg":["A"]}}\n' for name in names)


@pytest.mark.parametrize(
    ("base", "kilobytes", "error"),
    [
        # the Parquet file is too large
        (contacts(20_000, "example.com", numbers=random.Random(1)), 256, "OSError"),
        # the Parquet file is small, because its addresses are similar, but the table of removed contacts is too large
        (contacts(60_000, "example.com"), 1_400, "TransactionException"),
    ],
    ids=["fetched", "compared"],
)
def test_a_full_disk_during_the_comparison_is_explained(
    command: Callable[..., Outcome], local: dict[str, object], tmp_path: Path, base: str, kilobytes: int, error: str
) -> None:
    export, state = tmp_path / "export.jsonl", tmp_path / "state.json"
    export.write_text(base)
    state.write_text(json.dumps(run_tap(local).bookmark))
    export.write_text(contacts(1_000, "example.org"))
    local["max_shrink_percent"] = 100
    outcome = command(local, "--state", state, kilobytes=kilobytes)
    assert_no_room(outcome, f"compared ({error})")
    assert outcome.output == ""
    # the next run succeeds
    assert command(local, "--state", state).code == 0


def test_too_little_memory_for_the_export_is_explained(
    command: Callable[..., Outcome], local: dict[str, object], tmp_path: Path
) -> None:
    Shop(5_000).write(tmp_path / "export.jsonl", 0)
    outcome = command(local, memory="8MB")
    assert_no_room(outcome, "stored")
    assert outcome.output == ""


def test_too_little_memory_to_read_the_snapshot_is_explained(
    command: Callable[..., Outcome], local: dict[str, object], tmp_path: Path
) -> None:
    Shop(5_000).write(tmp_path / "export.jsonl", 0)
    assert run_tap(local).code == 0
    outcome = command(local, memory="1MB")
    assert_no_room(outcome, "read back")
    assert "The output is incomplete, and the bookmark stays" in outcome.errors[0]
    assert "STATE" not in [line["type"] for line in outcome.lines]


def test_standard_output_on_a_full_disk_is_explained(local: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(local))
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([BIN / "tap-nosto-segments", "--config", path], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"The export could not be written out (OSError)" in done.stderr.splitlines()[-1]
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(("place", "reason"), [("nothing", "No such file or directory"), ("file", "Not a directory")])
def test_another_failure_of_the_disk_is_not_a_full_disk(
    local: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / place))
    outcome = run_tap(local)
    assert (outcome.code, outcome.output, len(outcome.errors)) == (1, "", 1), outcome.log
    assert f": {reason})" in outcome.errors[0]
    assert "TMPDIR" in outcome.errors[0]
    assert "full" not in outcome.errors[0]


def test_standard_output_that_cannot_be_written_is_explained(local: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(local))
    with Path("/dev/null").open("rb") as closed:
        done = subprocess.run([BIN / "tap-nosto-segments", "--config", path], stdout=closed, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"The operating system reports 'Bad file descriptor'" in done.stderr.splitlines()[-1]
    assert b"a defect" not in done.stderr
