"""The demo: a new operator's first days with the real pipeline, run by `make sync`."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nosto_dotdigital_sandbox.generator import Shop
from nosto_dotdigital_sandbox.nosto import ExportFile
from nosto_dotdigital_sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND = ("run", "tap-nosto-segments", "target-dotdigital")
CONTACTS = 20_000
FIELD = "NOSTOSEGMENT"
# extracts a plugin's own message from Meltano's log line
SAID = re.compile(r"^\S+ \[(?P<level>\w+)\s*\] (?P<plugin>tap-nosto-segments|target-dotdigital)(?: (?P<text>.*))?$")
WHEN = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(hours=30)


class Failed(Exception):  # noqa: N818 - the story took another turn
    """A step of the demo did not end as expected."""


class Story:
    """The demo: a sandbox, a shop, and Meltano in the project's own folder.

    Args:
        sandbox: the sandbox of both services.
        project: the project folder.
    """

    def __init__(self, sandbox: Sandbox, project: Path) -> None:
        """Create a shop, and an account that already has contacts."""
        self.sandbox = sandbox
        self.project = project
        self.shop = Shop(CONTACTS, seed=7, invalid=2)
        self.place = project / "var" / "sandbox"
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        self.environment = {
            **os.environ,
            "MELTANO_ENVIRONMENT": "sandbox",
            # a new one each time, with the state in it; relative to the project, whose path may hold a question mark
            "MELTANO_DATABASE_URI": "sqlite:///var/sandbox/meltano.db",
            "TAP_NOSTO_SEGMENTS_EXPORT_URL": sandbox.export_url,
            "TAP_NOSTO_SEGMENTS_EXPORT_TOKEN": sandbox.nosto.token,
            "TAP_NOSTO_SEGMENTS_GRAPHQL_URL": sandbox.graphql_url,
            "TAP_NOSTO_SEGMENTS_API_TOKEN": sandbox.nosto.api_token,
            "TARGET_DOTDIGITAL_API_URL": sandbox.api_url,
            "TARGET_DOTDIGITAL_API_USER": sandbox.user,
            "TARGET_DOTDIGITAL_API_PASSWORD": sandbox.password,
            "NO_COLOR": "1",
        }
        account = sandbox.account
        account.programs.append(
            {"id": 1, "name": "Welcome series", "status": "Active", "dateCreated": "2026-01-01T09:00:00Z"},
        )
        newsletter = next(iter(account.books))
        first, second = ({email: names for email, names in self.shop.rows(day)} for day in (0, 1))
        changed = [email for email, names in first.items() if email.islower() and second.get(email, names) != names]
        self.shown = [self.shop.address(6).lower(), self.shop.address(17).lower(), *changed[:2]]
        account.add_contact(self.shown[0], status="unsubscribed", lists={newsletter}, data_fields={"FIRSTNAME": "Ada"})
        account.add_contact(self.shown[1], opt_in_type="Double", data_fields={"FIRSTNAME": "Grace"})

    def tell(self) -> None:
        """Run every step of the demo.

        Raises:
            Failed: a step did not end as expected.
        """
        _say(
            "Day one. Nosto exports 20,000 contacts in 12 segments; 8 of them are chosen. The first run only shows what it would do."
        )
        self._export(0)
        self._run(expected=1)
        self._expect(not self.sandbox.journal.writes(), "nothing was written before the activation")

        code = self._report()["activation_code"]
        _say(f"The operator has read the review, and switches the sync on: activation_code {code}.")
        self.environment["TARGET_DOTDIGITAL_ACTIVATION_CODE"] = code
        self._run()
        self._show()

        _say("Day two. A new export; only what changed is carried over.")
        self._export(1)
        self._run()
        self._show()
        self._expect(self._report()["sent"] < CONTACTS // 10, "only changes were sent")
        kept = [Path(shutil.copy(self.place / "reports" / name, self.place / name)) for name in ("report.html", "report.json")]

        _say("Day three. Nosto's export is broken: most of it is missing. The run stops before the first record.")
        self._export(2, keep=0.4)
        before = self.sandbox.account.snapshot()
        self._run(expected=1)
        self._expect(self.sandbox.account.snapshot() == before, "no contact was touched")

        _say("The report of day two, for people and for machines:")
        for path in kept:
            print(f"  {path.relative_to(self.project)}")

    def _export(self, day: int, keep: float = 1.0) -> None:
        body = self.shop.export(day)
        cut = body.rfind(b"\n", 0, max(1, int(len(body) * keep))) + 1
        made = WHEN + datetime.timedelta(hours=10 * day)
        self.sandbox.nosto.export = ExportFile(body[:cut], made)
        self.sandbox.nosto.segments = list(self.shop.catalogue(day))

    def _run(self, expected: int = 0) -> None:
        print(f"$ meltano {' '.join(COMMAND)}", flush=True)
        meltano = Path(sys.executable).parent / "meltano"
        process = subprocess.run(
            [str(meltano), *COMMAND], cwd=self.project, env=self.environment, capture_output=True, text=True, check=False
        )
        output = process.stdout + process.stderr
        if process.returncode != expected:
            print(output)
            msg = f"`meltano {' '.join(COMMAND)}` ended with {process.returncode}, not {expected}"
            raise Failed(msg)
        for line in _spoken(output):
            print(f"  {line}")
        print()

    def _report(self) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = json.loads((self.place / "reports" / "report.json").read_text())
        return facts

    def _show(self) -> None:
        contacts = {email.lower(): contact for email, contact in self.sandbox.account.snapshot().items()}
        book = self.sandbox.account.book_named("Nosto contacts")
        listed = sum(book is not None and book.id in contact.lists for contact in contacts.values())
        print(
            f"  dotdigital now: {len(contacts):,} contacts, {listed:,} of them in the address book 'Nosto contacts'. Four of them:"
        )
        for email in self.shown:
            contact = contacts[email]
            name = contact.data_fields.get("FIRSTNAME", "-")
            print(f"    {email}  [{contact.status}, opt-in {contact.opt_in_type}, FIRSTNAME {name}]")
            print(f"      {FIELD} = {contact.data_fields.get(FIELD) or '(empty)'}")
        print()

    @staticmethod
    def _expect(holds: bool, what: str) -> None:  # noqa: FBT001 - reads like an assertion
        if not holds:
            msg = f"It does not hold that {what}"
            raise Failed(msg)
        print(f"  Checked: {what}.\n")


def _spoken(output: str) -> list[str]:
    """Return the log lines of the two plugins, without the SDK's metrics and start-up messages."""
    found = [match for match in map(SAID.match, output.splitlines()) if match]
    return [
        f"{match['plugin']:<19}{'! ' if match['level'] == 'error' else '  '}{match['text'] or ''}".rstrip()
        for match in found
        if not any(talk in (match["text"] or "") for talk in TALK)
    ]


TALK = (
    "METRIC",
    "Skipping",
    "Beginning sync",
    "Starting incremental",
    "Reader '",
    "Meltano SDK",
    "env var",
    "metric",
    "bookmark value",
)


def _say(text: str) -> None:
    print(f"\n== {text}\n", flush=True)


def main() -> int:
    """Run the demo."""
    project = Path(__file__).resolve().parents[3]
    with Sandbox(bodies=False) as sandbox:
        try:
            Story(sandbox, project).tell()
        except Failed as failed:
            print(f"\nThe demo stopped: {failed}.")
            return 1
    print("\nEverything ran on loopback, against a sandbox of Nosto and dotdigital.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
