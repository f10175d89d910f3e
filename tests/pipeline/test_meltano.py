"""The real `meltano run`, from a copy of the project, with Meltano's own state."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import ExportFile, Sandbox, Shop
from support.oracle import assert_account, expected
from support.others import other
from support.running import BIN, START
from support.wire import assert_allowed, contacts_sent

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EXCLUDED = ["First-Time Customers", "Returning Visitors", "geo-area *", "VIP Lapsed"]


class Project:
    """A copy of the project whose plugins are linked, so that they need not be installed twice."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        """Copy `meltano.yml`, and point the plugins to the tests' own environment."""
        self.folder = folder
        self.said = ""
        text = (ROOT / "meltano.yml").read_text()
        for plugin in ("tap-nosto-segments", "target-dotdigital"):
            text = text.replace(
                f"pip_url: -c $MELTANO_PROJECT_ROOT/constraints.txt -e $MELTANO_PROJECT_ROOT/{plugin}\n    executable: {plugin}",
                f"executable: {BIN / plugin}",
            )
        (folder / "meltano.yml").write_text(text)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TAP_", "TARGET_", "MELTANO_"))},
            "MELTANO_ENVIRONMENT": "sandbox",
            "TAP_NOSTO_SEGMENTS_EXPORT_URL": sandbox.export_url,
            "TAP_NOSTO_SEGMENTS_EXPORT_TOKEN": sandbox.nosto.token,
            "TAP_NOSTO_SEGMENTS_MAX_EXPORT_AGE_HOURS": "0",
            "TARGET_DOTDIGITAL_API_URL": sandbox.api_url,
            "TARGET_DOTDIGITAL_API_USER": sandbox.user,
            "TARGET_DOTDIGITAL_API_PASSWORD": sandbox.password,
        }

    def meltano(self, *arguments: str, code: int = 0, cwd: Path | None = None) -> str:
        """Call Meltano."""
        done = subprocess.run(
            [BIN / "meltano", *arguments], cwd=cwd or self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        self.said = done.stdout + done.stderr
        return done.stdout

    def sync(self, code: int = 0, *options: str) -> str:
        """Call the main job; give all that it said."""
        self.meltano("run", *options, "tap-nosto-segments", "target-dotdigital", code=code)
        return self.said

    @property
    def report(self) -> dict[str, Any]:
        """The last run's report."""
        facts: dict[str, Any] = json.loads((self.folder / "var" / "sandbox" / "reports" / "report.json").read_text())
        return facts


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as started:
        yield started
        assert_allowed(started)


@pytest.fixture
def project(tmp_path: Path, sandbox: Sandbox) -> Project:
    return Project(tmp_path, sandbox)


def put(sandbox: Sandbox, shop: Shop, day: int) -> dict[str, list[str]]:
    body = shop.export(day)
    sandbox.nosto.export = ExportFile(body, START + datetime.timedelta(days=day))
    return expected(body, exclude=EXCLUDED)


def test_first_run_activation_and_two_days(project: Project, sandbox: Sandbox) -> None:
    shop = Shop(500, invalid=1)
    first = put(sandbox, shop, 0)
    said = project.sync(code=1)
    code = project.report["activation_code"]
    assert f"activation_code to {code}" in said
    assert sandbox.journal.writes() == []

    project.environment["TARGET_DOTDIGITAL_ACTIVATION_CODE"] = code
    project.sync()
    assert_account(sandbox, first)
    state = json.loads(project.meltano("state", "get", "sandbox:tap-nosto-segments-to-target-dotdigital"))
    bookmark = state["singer_state"]["bookmarks"]["contact_segments"]
    assert bookmark["replication_key_value"] == "2026-11-01T04:00:00Z"

    second = put(sandbox, shop, 1)
    project.sync()
    assert_account(sandbox, second, gone=sorted(set(first) - set(second)))

    project.environment["MELTANO_CLI_LOG_LEVEL"] = "warning"
    before = len(sandbox.journal.writes())
    project.meltano("run", "nosto-to-dotdigital")
    assert len(sandbox.journal.writes()) == before
    assert "All right" in project.meltano("invoke", "target-dotdigital:check")


def test_the_project_file_is_what_meltano_expects(project: Project) -> None:
    listed = json.loads(project.meltano("schedule", "list", "--format=json"))
    assert "nosto-to-dotdigital-daily" in json.dumps(listed)
    folder = project.folder / "deeper"
    folder.mkdir()
    project.meltano("config", "list", "target-dotdigital", cwd=folder)
    printed = project.meltano("config", "print", "target-dotdigital")
    assert project.environment["TARGET_DOTDIGITAL_API_PASSWORD"] not in printed


def test_settings_in_every_document_are_the_plugins_own() -> None:
    done = subprocess.run([BIN / "python", ROOT / "tools" / "documents.py", "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_tap_feeds_another_target(sandbox: Sandbox, tmp_path: Path) -> None:
    shop = Shop(50)
    wanted = put(sandbox, shop, 0)
    config = tmp_path / "tap.json"
    config.write_text(
        json.dumps(
            {
                "export_url": sandbox.export_url,
                "export_token": sandbox.nosto.token,
                "snapshot_uri": str(tmp_path / "snapshots"),
                "exclude_segments": EXCLUDED,
                "max_export_age_hours": 0,
            }
        )
    )
    tap = subprocess.run([BIN / "tap-nosto-segments", "--config", config], capture_output=True, text=True, check=True)
    loader = tmp_path / "loader.json"
    loader.write_text(json.dumps({"destination_path": str(tmp_path), "do_timestamp_file": False}))
    subprocess.run([other("target-jsonl"), "--config", loader], input=tap.stdout, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in (tmp_path / "contact_segments.jsonl").read_text().splitlines()]
    assert {line["email"]: line["segments"] for line in lines} == wanted
    assert len(lines) == len(wanted)


@pytest.mark.slow
def test_ten_days_of_fifty_thousand_through_meltano(project: Project, sandbox: Sandbox) -> None:
    shop = Shop(50_000)
    before = put(sandbox, shop, 0)
    project.sync(code=1)
    project.environment["TARGET_DOTDIGITAL_ACTIVATION_CODE"] = project.report["activation_code"]
    project.sync()
    assert_account(sandbox, before)
    gone: set[str] = set()
    for day in range(1, 10):
        sandbox.journal.clear()
        now = put(sandbox, shop, day)
        project.sync()
        gone = (gone | set(before)) - set(now)
        assert_account(sandbox, now, gone=sorted(gone))
        changed = {email for email, names in now.items() if before.get(email) != names} | {
            e for e in set(before) - set(now) if before[e]
        }
        assert len(contacts_sent(sandbox)) == len(changed)
        before = now
    sandbox.journal.clear()
    project.sync()
    assert sandbox.journal.writes() == []
    assert len(sandbox.journal.calls("dotdigital")) + len(sandbox.journal.calls("elsewhere")) <= 5
