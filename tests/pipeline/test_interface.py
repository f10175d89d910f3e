"""The public interface of both plugins: what `--about` and `--discover` print equals the files in `interface/`.

A changed setting, capability, stream or property is thus a visible diff. `make interface` renews the files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent
INTERFACE = Path(__file__).parent / "interface"
# set by `make interface`
RENEW = "RENEW_INTERFACE" in os.environ
# they change with every release of the plugin or the SDK and say nothing about the interface
VERSIONS = {"version", "sdk_version"}


def ask(plugin: str, *options: str, folder: Path) -> dict[str, Any]:
    """Run a plugin's own command, without any setting from outside, and return the JSON that it prints."""
    prefixes = ("TAP_", "TARGET_", "MELTANO_", "SINGER_SDK_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    done = subprocess.run(
        [str(BIN / plugin), *options], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return {name: value for name, value in answer.items() if name not in VERSIONS}


@pytest.mark.parametrize(
    ("plugin", "option"),
    [("tap-nosto-segments", "about"), ("tap-nosto-segments", "discover"), ("target-dotdigital", "about")],
)
def test_interface_equals_the_stored_one(plugin: str, option: str, tmp_path: Path) -> None:
    options = ["--about", "--format=json"] if option == "about" else ["--discover"]
    shown = json.dumps(ask(plugin, *options, folder=tmp_path), indent=2, ensure_ascii=False) + "\n"
    path = INTERFACE / f"{plugin}.{option}.json"
    if RENEW:
        INTERFACE.mkdir(exist_ok=True)
        path.write_text(shown, encoding="utf-8")
    stored = path.read_text(encoding="utf-8") if path.exists() else ""
    assert shown == stored, f"the interface differs from {path.name}; if that is intended, run `make interface` and commit the diff"
