"""Fixtures that run the tap as an operator does: its command, in a separate process."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.plugin_base import _ConfigInput
from support.running import BIN, Outcome
from tap_nosto_segments.tap import TapNostoSegments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BODY = b'{"email":"B@example.com","seg":["Loyal Customers","VIP"]}\n{"email":"a@example.com","seg":[]}\n'


@pytest.fixture
def local(tmp_path: Path) -> dict[str, object]:
    """Return the settings for an export in a local file."""
    path = tmp_path / "export.jsonl"
    path.write_bytes(BODY)
    return {"export_url": str(path), "snapshot_uri": str(tmp_path / "snapshots"), "max_export_age_hours": 0}


@pytest.fixture
def check() -> Callable[..., Outcome]:
    """Return a function that runs `--check` in this process."""

    def run(config: dict[str, Any], state: dict[str, Any] | None = None, **options: Any) -> Outcome:
        class Timed(TapNostoSegments):
            """The tap, without pauses."""

            @staticmethod
            def sleep(seconds: float) -> None:
                """Let no time pass."""

        code, output, log = 0, io.StringIO(), io.StringIO()
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            with contextlib.redirect_stdout(output):
                file = None if state is None else io.StringIO(json.dumps(state))
                Timed.invoke(config=_ConfigInput(dict(config)), state=file, **{"check": True, **options})
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
        return Outcome(code, output.getvalue(), log.getvalue())

    return run


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Outcome]:
    """Return a function that runs the command with settings and further arguments."""

    def run(
        config: dict[str, Any], *arguments: object, environment: dict[str, str] | None = None, kilobytes: int = 0, memory: str = ""
    ) -> Outcome:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        start: list[object] = [BIN / "tap-nosto-segments"]
        if memory:
            code = f"""
from tap_nosto_segments.snapshots import database
from tap_nosto_segments.tap import TapNostoSegments
database.MEMORY_LIMIT = {memory!r}
TapNostoSegments.cli()
"""
            start = [sys.executable, "-c", code]
        if kilobytes:
            # a limit on the size of files stands for a full disk; sh counts in blocks of 512 bytes
            start = ["sh", "-c", f'ulimit -f {kilobytes * 2}; exec "$0" "$@"', *start]
        done = subprocess.run(
            [str(argument) for argument in (*start, "--config", path, *arguments)],
            capture_output=True,
            check=False,
            env={**os.environ, **(environment or {})},
        )
        log = "\n".join(
            " ".join(line.split(" | ", 3)[1::2]) if " | " in line else line
            for line in done.stderr.decode(errors="replace").splitlines()
        )
        return Outcome(done.returncode, done.stdout.decode(), log.replace("ERROR    ", "ERROR "))

    return run
