"""Signals: the run ends with 128 + n, nothing half-done is acknowledged, and the next run completes it."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from nosto_dotdigital_sandbox import Fault, Sandbox
from support.cases import slow_except
from support.oracle import FIELD
from support.running import BIN, Pipeline, singer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT = singer([{"email": f"a{number}@example.com", "segments": ["A"]} for number in range(40)])
CALLS = ("account-info", "address-books", "data-fields", "contacts/v3.limit", "import$", "import/")
# before anything is known, at the write, and while it is waited for
SOME_CALLS = {
    (signal.SIGTERM, "account-info"),
    (signal.SIGTERM, "import$"),
    (signal.SIGTERM, "import/"),
    (signal.SIGINT, "import$"),
}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as started:
        yield started


def start(plugin: str, config: dict[str, object], folder: Path) -> subprocess.Popen[str]:
    path = folder / f"{plugin}.json"
    path.write_text(json.dumps(config))
    return subprocess.Popen(
        [BIN / plugin, "--config", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("number", "call"), slow_except(SOME_CALLS, itertools.product([signal.SIGTERM, signal.SIGINT], CALLS)))
def test_the_target_ends_at_once_and_the_next_run_completes(
    pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path, number: signal.Signals, call: str
) -> None:
    running: list[subprocess.Popen[str]] = []
    fault = Fault("hang", service=None, path=call, before=lambda _: running[0].send_signal(number), hang_seconds=20)
    sandbox.faults.add(fault)
    pipeline.target["poll_interval_ms"] = 50
    process = start("target-dotdigital", pipeline.target, tmp_path)
    running.append(process)
    output, log = process.communicate(TEXT, timeout=30)
    assert fault.struck == 1, log
    assert (process.returncode, output) == (128 + number, ""), log
    assert "@example.com" not in log

    sandbox.faults.clear()
    outcome = pipeline.load(TEXT)
    assert outcome.code == 0, outcome.log
    account = sandbox.account.snapshot()
    assert len(account) == 40
    assert {contact.data_fields[FIELD] for contact in account.values()} == {"A"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_tap_ends_without_a_bookmark(pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path, number: signal.Signals) -> None:
    pipeline.export(b'{"email":"a@example.com","s":["A"]}\n')
    running: list[subprocess.Popen[str]] = []
    fault = Fault("hang", service="nosto", before=lambda _: running[0].send_signal(number), hang_seconds=20)
    sandbox.faults.add(fault)
    process = start("tap-nosto-segments", pipeline.tap, tmp_path)
    running.append(process)
    output, log = process.communicate("", timeout=30)
    assert process.returncode == 128 + number, log
    assert output == "", "nothing is said before the export is there"
