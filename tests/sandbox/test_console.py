"""The command `nosto-dotdigital-sandbox`."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import requests
from nosto_dotdigital_sandbox.deviations import DOTDIGITAL, LIVE, NOSTO

COMMAND = Path(sys.executable).parent / "nosto-dotdigital-sandbox"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_both_services_until_it_is_interrupted(end: signal.Signals) -> None:
    names = ("programs_hidden", "no_rate_limit_headers", "no_etag")
    deviations = [part for name in names for part in ("--deviation", name)]
    process = subprocess.Popen(
        [COMMAND, "--contacts", "50", *deviations], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        given = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines if line.startswith("export "))
        token = ("", given["TAP_NOSTO_SEGMENTS_EXPORT_TOKEN"])
        exported = requests.get(given["TAP_NOSTO_SEGMENTS_EXPORT_URL"], auth=token, timeout=9)
        assert (exported.status_code, len(exported.text.splitlines()) >= 50, "ETag" in exported.headers) == (200, True, False)
        user = (given["TARGET_DOTDIGITAL_API_USER"], given["TARGET_DOTDIGITAL_API_PASSWORD"])
        info = requests.get(given["TARGET_DOTDIGITAL_API_URL"] + "/v2/account-info", auth=user, timeout=9)
        region = next(one["value"] for one in info.json()["properties"] if one["name"] == "ApiEndpoint")
        assert "X-RateLimit-Limit" not in info.headers
        assert requests.get(f"{region}/v2/address-books", auth=user, timeout=9).status_code == 200
        assert requests.get(f"{region}/v2/programs", auth=user, timeout=9).status_code == 403
        assert any("programs_hidden: The API user may not list programs" in line for line in lines)
    finally:
        process.send_signal(end)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


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
