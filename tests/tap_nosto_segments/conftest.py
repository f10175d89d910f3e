"""Fixtures that run the tap as an operator does, in this process or as a command of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import ExportFile
from support.running import BIN, START, Outcome, captured
from tap_nosto_segments import cli
from tap_nosto_segments.tap import TapNostoSegments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox

BODY = b'{"email":"B@example.com","seg":["Loyal Customers","VIP"]}\n{"email":"a@example.com","seg":[]}\n'


@pytest.fixture
def local(tmp_path: Path) -> dict[str, Any]:
    """Return the settings for an export in a local file."""
    path = tmp_path / "export.jsonl"
    path.write_bytes(BODY)
    return {"export_url": str(path), "snapshot_uri": str(tmp_path / "snapshots"), "max_export_age_hours": 0}


@pytest.fixture
def config(sandbox: Sandbox, tmp_path: Path) -> dict[str, Any]:
    """Return the settings for the sandbox, which has an export."""
    sandbox.nosto.export = ExportFile(BODY, START)
    return {
        "export_url": sandbox.export_url,
        "export_token": sandbox.nosto.token,
        "snapshot_uri": str(tmp_path / "snapshots"),
        "max_export_age_hours": 0,
    }


@pytest.fixture
def check() -> Callable[..., Outcome]:
    """Return a function that runs the command `check`, or `try-auth`, in this process."""

    class Timed(TapNostoSegments):
        """The tap, without pauses."""

        @staticmethod
        def sleep(seconds: float) -> None:
            """Let no time pass."""

    def run(
        config: dict[str, Any],
        state: dict[str, Any] | None = None,
        catalog: dict[str, Any] | None = None,
        *,
        try_auth: bool = False,
        email: str | None = None,
    ) -> Outcome:
        settings = cli.Config(dict(config))
        files = tuple(None if value is None else io.StringIO(json.dumps(value)) for value in (state, catalog))
        code, error = 0, None
        with captured() as (output, log):
            try:
                if try_auth:
                    cli.run_try_auth(settings, Timed)
                else:
                    cli.run_check(settings, files[0], files[1], Timed, email=email)
            except SystemExit as end:
                code, error = int(end.code or 0), end.__context__
        return Outcome(code, output.getvalue(), log.getvalue(), error)

    return run


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Outcome]:
    """Return a function that runs the command in a process of its own, without settings from this environment."""

    def run(*arguments: object, environment: dict[str, str] | None = None, kilobytes: int = 0) -> Outcome:
        start: list[object] = [BIN / "tap-nosto-segments", *arguments]
        if kilobytes:
            # a limit on the size of files stands for a full disk; sh counts in blocks of 512 bytes
            start = ["sh", "-c", f'ulimit -f {kilobytes * 2}; exec "$0" "$@"', *start]
        ours = ("TAP_", "MELTANO_", "SINGER_SDK_", "LOGLEVEL")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        done = subprocess.run(
            [str(argument) for argument in start],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            env={**kept, **(environment or {})},
        )
        log = "\n".join(
            " ".join(part.strip() for part in line.split(" | ", 3)[1::2]) if " | " in line else line
            for line in done.stderr.decode(errors="replace").splitlines()
        )
        return Outcome(done.returncode, done.stdout.decode(), log)

    return run


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Return a function that writes settings into a file."""

    def write(config: dict[str, Any]) -> Path:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        return path

    return write
