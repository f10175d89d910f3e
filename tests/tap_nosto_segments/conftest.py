"""Fixtures that run the tap as an operator does: its command, in a separate process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.running import BIN, Outcome, captured
from tap_nosto_segments import cli
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
    """Return a function that runs the command `check`, or `try-auth`, in this process."""

    def run(
        config: dict[str, Any],
        state: dict[str, Any] | None = None,
        catalog: dict[str, Any] | None = None,
        *,
        try_auth: bool = False,
        email: str | None = None,
    ) -> Outcome:
        class Timed(TapNostoSegments):
            """The tap, without pauses."""

            @staticmethod
            def sleep(seconds: float) -> None:
                """Let no time pass."""

        settings = cli.Config(dict(config))
        files = [None if value is None else io.StringIO(json.dumps(value)) for value in (state, catalog)]
        code, error = 0, None
        with captured() as (output, log):
            try:
                if try_auth:
                    cli.run_try_auth(settings, Timed)
                else:
                    cli.run_check(settings, *files, Timed, email=email)
            except SystemExit as end:
                code, error = int(end.code or 0), end.__context__
        return Outcome(code, output.getvalue(), log.getvalue(), error)

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
from tap_nosto_segments import cli
from tap_nosto_segments.snapshots import database
database.MEMORY_LIMIT = {memory!r}
cli.main()
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
