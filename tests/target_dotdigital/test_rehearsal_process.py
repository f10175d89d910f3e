"""The rehearsal as a process: its options, and what happens if it is killed."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import Fault, Sandbox
from support.running import BIN
from target_dotdigital.rehearsal.assumptions import BY_ID

if TYPE_CHECKING:
    from pathlib import Path

    from nosto_dotdigital_sandbox.web import Request

REAL_TIME = True
pytestmark = pytest.mark.fields("NOSTOSEGME", "NOSTOSEGMEN")
ADDRESSES = ["ann@example.com", "bob@example.com", "cleo@example.com", "dan@example.com"]


class Operator:
    """An operator who starts the command as a process.

    Args:
        sandbox: the services.
        folder: folder for ledger and reports.
    """

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        """Create the operator's contacts, and write the settings."""
        self.sandbox, self.folder = sandbox, folder
        newsletter = sandbox.account.book_named("Newsletter")
        assert newsletter is not None
        known = sandbox.account.add_contact(
            ADDRESSES[2], status="unsubscribed", lists={newsletter.id}, data_fields={"FIRSTNAME": "Cleo"}
        )
        known.created = "2020-01-01T00:00:00Z"
        sandbox.account.add_contact(ADDRESSES[3], status="suppressed")
        folder.mkdir(exist_ok=True)
        config: dict[str, Any] = {
            "api_url": sandbox.api_url,
            "api_user": sandbox.user,
            "api_password": sandbox.password,
            "ledger_url": f"sqlite:///{folder / 'ledger.db'}",
            "report_dir": str(folder / "reports"),
            "poll_interval_ms": 1,
            "rehearsal_emails": ADDRESSES,
        }
        (folder / "config.json").write_text(json.dumps(config))
        self.process: subprocess.Popen[str] | None = None

    def rehearse(self, *options: str) -> tuple[int, str, str]:
        """Run the command; return exit code, output and log."""
        command = [str(BIN / "target-dotdigital"), "rehearse", "--config", str(self.folder / "config.json"), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        output, log = self.process.communicate(timeout=60)
        return self.process.returncode, output, log

    def start(self, *options: str) -> tuple[int, str]:
        """Run the target with other options; return exit code and log."""
        command = [str(BIN / "target-dotdigital"), "--config", str(self.folder / "config.json"), *options]
        done = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stderr

    def code(self) -> str:
        """Return the code of the plan."""
        code, output, log = self.rehearse()
        assert code == 0, log
        return output.split("--confirm ")[1].split()[0]

    def kill(self, _request: Request) -> None:
        """Kill the process, and wait until it is gone."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdict by assumption."""
        facts = json.loads((self.folder / "reports" / "rehearsal.json").read_text())
        return {finding["id"]: finding["verdict"] for finding in facts["findings"]}


def kill_and_repeat(sandbox: Sandbox, folder: Path, moment: str, nth: int) -> bool:
    """Kill the confirmed rehearsal at its nth call, and confirm it again; return whether it made that many calls."""
    operator = Operator(sandbox, folder)
    plan = operator.code()
    sandbox.faults.add(Fault("drop_after", service=None, nth=nth, **{moment: operator.kill}))  # type: ignore[arg-type]
    ended, _, log = operator.rehearse("--confirm", plan)
    sandbox.faults.clear()
    if ended == 0:
        return False
    assert ended == -signal.SIGKILL, log
    # the plan is the one that was confirmed, although some addresses may be contacts by now
    assert operator.code() == plan
    code, output, log = operator.rehearse("--confirm", plan)
    assert code == 0, (moment, nth, log)
    assert operator.verdicts == dict.fromkeys(BY_ID, "confirmed"), (moment, nth)
    assert f"{len(BY_ID)} confirmed, 0 refuted, 0 not tested." in output
    assert set(sandbox.account.snapshot()) == set(ADDRESSES)
    return True


@pytest.mark.parametrize("options", [["--read-only"], ["--confirm", "AAAA-BBBB-CCCC"]])
def test_options_of_the_rehearsal_do_not_start_a_sync(sandbox: Sandbox, tmp_path: Path, options: list[str]) -> None:
    code, log = Operator(sandbox, tmp_path).start(*options)
    assert code == 2
    assert "need --rehearse: nothing was done" in log
    assert sandbox.journal.calls() == []


# the ninth call creates the address book, the 13th submits the first import
@pytest.mark.slow
@pytest.mark.parametrize(("moment", "nth"), [("after", 9), ("before", 13), ("after", 13), ("after", 40)])
def test_a_killed_rehearsal_continues(sandbox: Sandbox, tmp_path: Path, moment: str, nth: int) -> None:
    assert kill_and_repeat(sandbox, tmp_path, moment, nth)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("moment", ["before", "after"])
def test_calls_all_over_the_rehearsal_can_be_the_last(tmp_path: Path, moment: str) -> None:
    nth, killed = 1, True
    while killed:
        with Sandbox() as sandbox:
            killed = kill_and_repeat(sandbox, tmp_path / f"{moment}{nth}", moment, nth)
        nth += 9
    assert nth > 80
