"""The real `meltano run`, from a copy of the project, with Meltano's own state."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from nosto_dotdigital_sandbox import ExportFile, Sandbox, Shop
from support.meltano import ROOT, Project
from support.oracle import assert_account, expected
from support.running import BIN, START
from support.wire import contacts_sent

if TYPE_CHECKING:
    from pathlib import Path

REAL_TIME = True
EXCLUDED = ["First-Time Customers", "Returning Visitors", "geo-area *", "VIP Lapsed"]


@pytest.fixture
def project(tmp_path: Path, sandbox: Sandbox) -> Project:
    return Project(tmp_path, sandbox)


def put(sandbox: Sandbox, shop: Shop, day: int) -> dict[str, list[str]]:
    body = shop.export(day)
    sandbox.nosto.export = ExportFile(body, START + datetime.timedelta(days=day))
    return expected(body, exclude=EXCLUDED)


def healthy(project: Project) -> bool:
    """Ask as the documentation's recipe does."""
    (line,) = (
        line.strip()
        for line in (ROOT / "docs" / "operations.md").read_text().splitlines()
        if line.strip().startswith("cd var/prod/reports")
    )
    return not subprocess.run(["sh", "-c", line.replace("/prod/", "/sandbox/")], cwd=project.folder, check=False).returncode


def test_first_run_activation_and_two_days(project: Project, sandbox: Sandbox) -> None:
    shop = Shop(500, invalid=1)
    first = put(sandbox, shop, 0)
    assert not healthy(project)
    said = project.sync(code=1)
    assert not healthy(project)
    code = project.report["activation_code"]
    assert f"activation_code to {code}" in said
    assert sandbox.journal.writes() == []

    project.environment["TARGET_DOTDIGITAL_ACTIVATION_CODE"] = code
    said = project.sync()
    assert_account(sandbox, first)
    # as fields, not as text: what a log collector can count
    assert re.search(rf"METRIC +metric_name=contacts_created metric_value={len(first)}\b", said), said
    state = json.loads(project.meltano("state", "get", "sandbox:tap-nosto-segments-to-target-dotdigital"))
    bookmark = state["singer_state"]["bookmarks"]["contact_segments"]
    assert bookmark["replication_key_value"] == "2026-11-01T04:00:00Z"

    assert healthy(project)

    second = put(sandbox, shop, 1)
    project.sync()
    assert_account(sandbox, second, gone=sorted(set(first) - set(second)))

    project.environment["MELTANO_CLI_LOG_LEVEL"] = "warning"
    before = len(sandbox.journal.writes())
    project.meltano("run", "nosto-to-dotdigital")
    assert len(sandbox.journal.writes()) == before
    assert "OK: login, region and permissions verified" in project.meltano("invoke", "target-dotdigital:check")
    assert "OK: a run would pass its guards" in project.meltano("invoke", "tap-nosto-segments:check")


def test_the_project_file_is_what_meltano_expects(project: Project) -> None:
    listed = json.loads(project.meltano("schedule", "list", "--format=json"))
    assert "nosto-to-dotdigital-daily" in json.dumps(listed)
    folder = project.folder / "deeper"
    folder.mkdir()
    project.meltano("config", "list", "target-dotdigital", cwd=folder)
    printed = project.meltano("config", "print", "target-dotdigital")
    assert project.environment["TARGET_DOTDIGITAL_API_PASSWORD"] not in printed


@pytest.mark.slow  # `make lint` shows the same
def test_settings_in_every_document_are_the_plugins_own() -> None:
    done = subprocess.run([BIN / "python", ROOT / "tools" / "documents.py", "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_ten_days_of_fifty_thousand_through_meltano(project: Project, sandbox: Sandbox) -> None:
    shop = Shop(50_000)
    # a day passes between two runs, so that what a run created is not new to the next one
    sandbox.account.wall = lambda: time.time() - 86_400
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
    assert len(sandbox.journal.calls("dotdigital")) + len(sandbox.journal.calls("elsewhere")) <= 6
