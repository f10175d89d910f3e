"""The command `nosto-dotdigital-sandbox`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from email.utils import parsedate_to_datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from nosto_dotdigital_sandbox import Shop
from nosto_dotdigital_sandbox.deviations import DOTDIGITAL, LIVE, NOSTO

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = Path(sys.executable).parent / "nosto-dotdigital-sandbox"


@contextlib.contextmanager
def running(*options: str, end: signal.Signals = signal.SIGTERM) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield what the command prints when it is ready, and the variables in it; check that it ends cleanly."""
    process = subprocess.Popen([COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        yield lines, dict(line.removeprefix("export ").strip().split("=", 1) for line in lines if line.startswith("export "))
    finally:
        process.send_signal(end)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def exported(given: dict[str, str]) -> requests.Response:
    return requests.get(given["TAP_NOSTO_SEGMENTS_EXPORT_URL"], auth=("", given["TAP_NOSTO_SEGMENTS_EXPORT_TOKEN"]), timeout=9)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_both_services_until_it_is_interrupted(end: signal.Signals) -> None:
    names = ("programs_hidden", "no_rate_limit_headers", "no_etag")
    deviations = [part for name in names for part in ("--deviation", name)]
    with running("--contacts", "50", *deviations, end=end) as (lines, given):
        export = exported(given)
        assert (export.status_code, len(export.text.splitlines()) >= 50, "ETag" in export.headers) == (200, True, False)
        user = (given["TARGET_DOTDIGITAL_API_USER"], given["TARGET_DOTDIGITAL_API_PASSWORD"])
        info = requests.get(given["TARGET_DOTDIGITAL_API_URL"] + "/v2/account-info", auth=user, timeout=9)
        region = next(one["value"] for one in info.json()["properties"] if one["name"] == "ApiEndpoint")
        assert "X-RateLimit-Limit" not in info.headers
        assert requests.get(f"{region}/v2/address-books", auth=user, timeout=9).status_code == 200
        assert requests.get(f"{region}/v2/programs", auth=user, timeout=9).status_code == 403
        assert any("programs_hidden: The API user may not list programs" in line for line in lines)


def next_day(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "next-day", *options],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_the_next_day_is_a_newer_export() -> None:
    with running("--contacts", "300", "--day", "3") as (_, given):
        days = [exported(given)]
        for _ in range(2):
            done = next_day(**given)
            assert done.returncode == 0, done.stderr
            days.append(exported(given))
        assert [day.content for day in days] == [Shop(300).export(day) for day in (3, 4, 5)]
        made = [parsedate_to_datetime(day.headers["Last-Modified"]) for day in days]
        assert made == sorted(set(made)), "each export is newer than the one before"
        refused = requests.get(f"http://127.0.0.1:{given['NOSTO_DOTDIGITAL_SANDBOX_PORT']}/next-day", timeout=9)
        assert refused.status_code == 404, "only a POST goes on"


def free_ports() -> int:
    """Return the first of six consecutive free ports."""
    for _ in range(50):
        with contextlib.ExitStack() as sockets, contextlib.suppress(OSError):
            first = sockets.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            for port in range(first + 1, first + 6):
                sockets.enter_context(socket.create_server(("127.0.0.1", port)))
            return int(first)
    pytest.skip("no six consecutive ports are free")


def test_fixed_ports_are_the_same_each_time() -> None:
    port = str(free_ports())
    with running("--contacts", "9", "--port", port) as (_, first):
        assert next_day("--port", port).returncode == 0
        taken = subprocess.run([COMMAND, "--port", port], capture_output=True, text=True, timeout=20, check=False)
        assert (taken.returncode, "Traceback" in taken.stderr) == (2, False)
    with running("--contacts", "9", "--port", port) as (_, second):
        assert first == second


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ((), {}),
        ((), {"NOSTO_DOTDIGITAL_SANDBOX_PORT": "a port"}),
        (("--port", "99999"), {}),
        (("--port", "-1"), {}),
        # nothing answers there
        (("--port", "1"), {}),
    ],
)
def test_the_next_day_of_no_sandbox_is_one_line(options: tuple[str, ...], environment: dict[str, str]) -> None:
    done = next_day(*options, **environment)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_another_port_of_the_sandbox_is_refused() -> None:
    with running("--contacts", "9") as (_, given):
        export = urlsplit(given["TAP_NOSTO_SEGMENTS_EXPORT_URL"])
        done = next_day("--port", str(export.port))
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_an_unknown_deviation_is_refused_with_the_known_ones() -> None:
    ended = subprocess.run([COMMAND, "--deviation", "ignores_nul"], capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "ignores_nul" in ended.stderr
    assert "'ignores_null'" in ended.stderr


def test_help_explains_every_deviation() -> None:
    ended = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, timeout=20, check=True)
    assert all(f"{name:<32} {sentence}" in ended.stdout for name, sentence in (DOTDIGITAL | LIVE | NOSTO).items())


def test_the_console_script_names_an_existing_function() -> None:
    (script,) = entry_points(group="console_scripts", name="nosto-dotdigital-sandbox")
    assert callable(script.load())
