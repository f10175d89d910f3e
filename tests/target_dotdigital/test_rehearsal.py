"""The rehearsal: what it writes, what it concludes, and what it leaves behind."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any, Literal

import pytest
from nosto_dotdigital_sandbox import Fault
from nosto_dotdigital_sandbox.deviations import LIVE
from nosto_dotdigital_sandbox.faults import answer
from support.cases import slow_except
from support.deviation_table import DEVIATIONS
from support.running import FakeTime, Outcome, run_target
from target_dotdigital.ledger.database import open_ledger
from target_dotdigital.rehearsal.assumptions import ASSUMPTIONS
from target_dotdigital.reporting.last_rehearsal import last_rehearsal, rehearsal_line

if TYPE_CHECKING:
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox

NEW, SECOND, KNOWN, SILENT = "ann@example.com", "bob@example.com", "cleo@example.com", "dan@example.com"
CAPITALS = "fay@example.com"
IDS = [assumption.id for assumption in ASSUMPTIONS]
FIELD = "NOSTOSEGME_REHEARSAL"
pytestmark = pytest.mark.fields(FIELD)


class Rehearsal:
    """A sandbox with an operator's contacts, and the command.

    Args:
        sandbox: the services.
        folder: folder for ledger and reports.
        time: the clock.
    """

    def __init__(self, sandbox: Sandbox, folder: Path, time: FakeTime) -> None:
        """Create the contacts: two addresses stay unknown, one contact is unsubscribed, one suppressed, one is a customer."""
        self.sandbox, self.folder, self.time = sandbox, folder, time
        account = sandbox.account
        newsletter = account.book_named("Newsletter")
        assert newsletter is not None
        customer = account.add_contact("customer@example.com", lists={newsletter.id}, data_fields={"FIRSTNAME": "Eve"})
        customer.created = "2020-01-01T00:00:00Z"
        account.add_contact(
            KNOWN,
            status="unsubscribed",
            opt_in_type="Double",
            lists={newsletter.id},
            data_fields={"FIRSTNAME": "Cleo", "POSTCODE": "8001"},
            preferences={1: True, 2: False},
        )
        account.add_contact(SILENT, status="suppressed")
        account.add_contact("Fay@example.com")
        self.config: dict[str, Any] = {
            "api_url": sandbox.api_url,
            "api_user": sandbox.user,
            "api_password": sandbox.password,
            "ledger_url": f"sqlite:///{folder / 'ledger.db'}",
            "report_dir": str(folder / "reports"),
            "poll_interval_ms": 1000,
            "rehearsal_emails": [NEW, SECOND, KNOWN, SILENT, CAPITALS],
        }

    def ask(self, code: str | None = None, *, read_only: bool = False) -> Outcome:
        """Run the command once."""
        return run_target(self.config, "", self.time, rehearse=True, confirm=code, read_only=read_only)

    def code(self) -> str:
        """Read the code off the plan, as an operator does."""
        plan = self.ask()
        assert plan.code == 0, plan.log
        return plan.output.split("--confirm ")[1].split()[0]

    def run(self) -> Outcome:
        """Ask for the plan, and confirm it, unless the plan could not be made."""
        plan = self.ask()
        if "--confirm " not in plan.output:
            return plan
        return self.ask(plan.output.split("--confirm ")[1].split()[0])

    @property
    def facts(self) -> dict[str, Any]:
        """The stored result."""
        facts: dict[str, Any] = json.loads((self.folder / "reports" / "rehearsal.json").read_text())
        return facts

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdict by assumption."""
        return {finding["id"]: finding["verdict"] for finding in self.facts["findings"]}

    def finding(self, assumption: str) -> dict[str, Any]:
        """Return what was found out about an assumption."""
        (found,) = [finding for finding in self.facts["findings"] if finding["id"] == assumption]
        return dict(found)

    def having(self, verdict: str) -> set[str]:
        """Return the assumptions with a verdict."""
        return {name for name, one in self.verdicts.items() if one == verdict}


@pytest.fixture
def rehearsal(sandbox: Sandbox, tmp_path: Path, time: FakeTime) -> Rehearsal:
    """An account with contacts of the operator."""
    return Rehearsal(sandbox, tmp_path, time)


def test_a_documented_service_confirms_every_assumption(rehearsal: Rehearsal) -> None:
    outcome = rehearsal.run()
    assert outcome.code == 0, outcome.log
    assert rehearsal.verdicts == dict.fromkeys(IDS, "confirmed")


# switch -> assumptions that cannot be tested while it is on; of those that stop the rehearsal: all others but these
UNTESTED = {
    "ignores_lists": {"lists_in_read_back"},
    "distinguishes_capitals": {"stored_capitals"},
    "report_without_ids": {"ids_are_stable"},
    "created_filter_shows_nothing": {"lists_in_read_back"},
}
CONFIRMED_BEFORE_THE_STOP = {"imports_not_permitted": {"names_created_privately", "read_back_pages"}}


@pytest.mark.parametrize("switch", DEVIATIONS)
def test_each_deviation_refutes_exactly_its_assumption(rehearsal: Rehearsal, switch: str) -> None:
    rehearsal.sandbox.account.deviations.add(switch)
    outcome = rehearsal.run()
    expected = DEVIATIONS[switch]
    if expected.stops:
        assert expected.stops in outcome.errors[-1]
        assert rehearsal.sandbox.journal.imports() == []
        assert not (rehearsal.folder / "reports" / "rehearsal.json").exists()
        return
    assert rehearsal.having("refuted") == ({expected.refutes} - {""})
    if switch in CONFIRMED_BEFORE_THE_STOP:
        assert rehearsal.having("confirmed") == CONFIRMED_BEFORE_THE_STOP[switch]
    else:
        assert rehearsal.having("not tested") == UNTESTED.get(switch, set())
    assert outcome.code == int(bool(expected.refutes))
    if expected.refutes:
        assert rehearsal.finding(expected.refutes)["consequence"] in re.sub(r"\s+", " ", outcome.output)
        (error,) = outcome.errors
        assert error.startswith("The rehearsal refutes 1 of")
        assert expected.refutes in error


# switch -> verdicts that are not "confirmed"; what a service does not show cannot be tested
NOT_CONFIRMED = {
    "new_contacts_wait": {"new_contact_status": "refuted", "lists_in_read_back": "not tested"},
    "nulls": dict.fromkeys(("new_contact_status", "existing_consent_kept"), "not tested"),
}


@pytest.mark.parametrize("switch", slow_except({"refuses_calls_silently", "nulls", "new_contacts_wait", "first_page_empty"}, LIVE))
def test_what_the_live_service_does_beside_its_documents_refutes_nothing_else(rehearsal: Rehearsal, switch: str) -> None:
    rehearsal.sandbox.account.deviations.add(switch)
    rehearsal.run()
    assert rehearsal.verdicts == dict.fromkeys(IDS, "confirmed") | NOT_CONFIRMED.get(switch, {})


def test_every_assumption_is_broken_by_a_deviation() -> None:
    # login, region and permissions are tested before the plan: what stops the rehearsal there breaks no other assumption
    assert {expected.refutes for expected in DEVIATIONS.values()} - {""} == set(IDS)


@pytest.mark.parametrize(
    ("switch", "seen"),
    [
        ("cuts_at_255", "256: cut to 255 characters, without an error"),
        ("rejects_over_255", "256: the row was rejected"),
        ("fails_import_over_255", "256: the whole import ended as Failed"),
    ],
)
def test_the_longest_value_becomes_a_setting(rehearsal: Rehearsal, switch: str, seen: str) -> None:
    rehearsal.sandbox.account.deviations.add(switch)
    rehearsal.run()
    assert rehearsal.facts["settings"] == {"max_value_length": 255}
    (finding,) = [one for one in rehearsal.facts["findings"] if one["id"] == "value_length"]
    assert "255: unchanged" in finding["seen"]
    assert seen in finding["seen"]
    assert "max_value_length to 255" in finding["consequence"]
    # with the setting, the same account passes
    rehearsal.config["max_value_length"] = 255
    rehearsal.run()
    assert rehearsal.verdicts["value_length"] == "confirmed"


@pytest.mark.parametrize(
    ("switch", "seen", "advice"),
    [
        (None, "Contacts of the rehearsal that were listed: 1 of 1. Earlier contacts that were listed: 0 of 1.", ""),
        ("created_filter_ignored", "UTC were listed: 1 of 1.", "every run reads the whole account"),
        ("created_filter_shows_nothing", "Contacts of the rehearsal that were listed: 0 of 1.", "run the command reconcile"),
    ],
)
def test_the_filter_by_creation_is_tested_with_new_and_earlier_contacts(
    rehearsal: Rehearsal, switch: str | None, seen: str, advice: str
) -> None:
    if switch is not None:
        rehearsal.sandbox.account.deviations.add(switch)
    rehearsal.run()
    finding = rehearsal.finding("filter_by_creation")
    assert seen in finding["seen"]
    assert advice in finding["consequence"]


@pytest.mark.parametrize(
    ("created", "seen"),
    [
        # without a time zone, it is UTC
        ("2020-01-01T00:00:00.5", "Earlier contacts that were listed: 0 of 1."),
        # within the hour by which the sync looks back
        ("now", "The account showed no earlier contact."),
        ("unknown", "The account showed no earlier contact."),
    ],
)
def test_earlier_contacts_are_recognised_by_their_time_of_creation(rehearsal: Rehearsal, created: str, seen: str) -> None:
    account = rehearsal.sandbox.account
    account.by_email["customer@example.com"].created = account.timestamp() if created == "now" else created
    rehearsal.run()
    finding = rehearsal.finding("filter_by_creation")
    assert finding["verdict"] == "confirmed"
    assert finding["seen"].endswith(f"1 of 1. {seen}")


def test_a_filter_that_is_not_accepted_is_a_result(rehearsal: Rehearsal) -> None:
    rehearsal.sandbox.faults.add(Fault("answer", path="created=", times=99, response=answer(400)))
    assert rehearsal.run().code == 1
    assert rehearsal.having("refuted") == {"filter_by_creation"}
    assert rehearsal.finding("filter_by_creation")["consequence"].startswith("Do not activate: every run but one")


@pytest.mark.parametrize("switches", [[], ["pages_repeat"]])
def test_new_contacts_that_are_not_on_the_first_pages_are_not_looked_for(rehearsal: Rehearsal, switches: list[str]) -> None:
    rehearsal.sandbox.account.page_limit = 1
    rehearsal.sandbox.account.deviations.update(switches)
    rehearsal.run()
    assert rehearsal.having("refuted") == {"read_back_pages" for _ in switches}
    assert rehearsal.having("not tested") == {"filter_by_creation", "lists_in_read_back"}


def test_results_that_never_become_visible_end_the_rehearsal(rehearsal: Rehearsal) -> None:
    rehearsal.sandbox.account.deviations.add("read_back_lags")
    rehearsal.sandbox.account.reads_behind = float("inf")
    outcome = rehearsal.run()
    assert rehearsal.having("refuted") == {"results_visible"}
    assert "Do not activate. Ask dotdigital's support why." in outcome.output
    assert len(rehearsal.sandbox.journal.imports()) == 1


def test_values_of_an_earlier_rehearsal_do_not_count(rehearsal: Rehearsal) -> None:
    rehearsal.run()
    rehearsal.sandbox.account.deviations.add("read_back_lags")
    rehearsal.run()
    assert rehearsal.having("refuted") == {"results_visible"}


# What is on the wire


def test_only_the_rehearsal_is_written(rehearsal: Rehearsal) -> None:
    before = rehearsal.sandbox.account.snapshot()
    rehearsal.run()
    account, journal = rehearsal.sandbox.account, rehearsal.sandbox.journal
    book = account.book_named("Nosto contacts rehearsal")
    assert book is not None
    assert [call.json()["name"] for call in journal.writes() if call.method == "POST"] == [book.name, "NOSTOSEGME_REHEARSAL"]
    addresses, fields, ids = set(), set(), set()
    for call in journal.imports():
        for row in call.json()["contacts"]:
            identifiers = row["identifiers"]
            addresses |= {identifiers["email"]} if "email" in identifiers else set()
            ids |= {identifiers["contactId"]} if "contactId" in identifiers else set()
            fields |= set(row["dataFields"])
            assert row.get("lists", [book.id]) == [book.id]
    assert addresses == {NEW, SECOND, KNOWN, SILENT, CAPITALS, "ANN@example.com", "ann-at-example.com"}
    assert fields == {"NOSTOSEGME_REHEARSAL"}
    after = account.snapshot()
    assert ids == {after[NEW].id, after[NEW].id + 900_000_000}
    assert {call.method for call in journal.calls("dotdigital")} == {"GET", "POST", "PUT"}
    assert set(after) == {*before, NEW, SECOND}
    assert after["customer@example.com"] == before["customer@example.com"]
    for email in (KNOWN, SILENT):
        after[email].data_fields.pop("NOSTOSEGME_REHEARSAL")
        after[email].lists.discard(book.id)
        after[email].updated = before[email].updated
        assert after[email] == before[email]


def test_nothing_is_written_without_the_code_of_the_plan(rehearsal: Rehearsal) -> None:
    plan = rehearsal.ask()
    assert all(address in plan.output for address in (NEW, SECOND, KNOWN, SILENT, "ANN@example.com", "ann-at-example.com"))
    wrong = rehearsal.ask("AAAA-BBBB-CCCC")
    assert wrong.code == 1
    assert "belongs to another plan" in wrong.errors[-1]
    code = rehearsal.code()
    # the plan is another one once an address has become a contact
    rehearsal.sandbox.account.add_contact(NEW)
    assert rehearsal.ask(code).code == 1
    assert rehearsal.sandbox.journal.writes() == []
    assert not (rehearsal.folder / "reports" / "rehearsal.json").exists()


def test_read_only_writes_nothing_and_needs_no_code(rehearsal: Rehearsal) -> None:
    outcome = rehearsal.ask(read_only=True)
    assert outcome.code == 0, outcome.log
    assert rehearsal.sandbox.journal.writes() == []
    assert "Nothing was written to dotdigital." in outcome.output
    assert "did not create" not in outcome.output
    lines = [line.split("  ")[0] for line in outcome.output.splitlines() if re.match(r"(confirmed|not tested|REFUTED)", line)]
    assert (lines.count("confirmed"), lines.count("not tested")) == (1, len(ASSUMPTIONS) - 1)
    assert list((rehearsal.folder / "reports").glob("rehearsal*")) == []
    assert not (rehearsal.folder / "ledger.db").exists()


def test_read_only_after_a_rehearsal_keeps_its_result(rehearsal: Rehearsal) -> None:
    rehearsal.run()
    before = rehearsal.facts
    rehearsal.sandbox.account.deviations.add("pages_repeat")
    outcome = rehearsal.ask(read_only=True)
    assert outcome.code == 1
    assert "read_back_pages" in outcome.errors[-1]
    assert rehearsal.facts == before


# What is stored, and shown


def test_results_hold_no_address_and_are_private(rehearsal: Rehearsal) -> None:
    outcome = rehearsal.run()
    reports = rehearsal.folder / "reports"
    assert {path.name for path in reports.glob("rehearsal*")} == {"rehearsal.json", "rehearsal.html"}
    for path in reports.glob("rehearsal*"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert "@" not in path.read_text().replace("@media", "").replace("instead of @", "")
    assert "@" not in outcome.log


def test_the_page_shows_every_finding_and_the_checklist(rehearsal: Rehearsal) -> None:
    rehearsal.sandbox.account.deviations.add("new_contacts_pending")
    rehearsal.sandbox.account.name = "<b>Welcome</b>"
    rehearsal.run()
    page = (rehearsal.folder / "reports" / "rehearsal.html").read_text()
    assert all(len(re.findall(rf"<(?:h3|b)>{assumption.title}</", html.unescape(page))) == 1 for assumption in ASSUMPTIONS)
    assert "read before you activate" in page
    assert "status pendingOptIn" in page
    assert "&lt;b&gt;Welcome&lt;/b&gt;" in page
    assert page.count('class="note"') == len(rehearsal.facts["checklist"]) > 3
    assert "<script" not in page


def test_the_last_rehearsal_is_found_for_its_account_only(rehearsal: Rehearsal) -> None:
    reports = rehearsal.folder / "reports"
    assert last_rehearsal(reports, 101) is None
    assert rehearsal_line(None).startswith("Rehearsal: none for this account.")
    rehearsal.sandbox.account.deviations.add("ignores_null")
    rehearsal.run()
    assert last_rehearsal(reports, 102) is None
    summary = last_rehearsal(reports, 101)
    assert summary is not None
    counts = rehearsal.facts["counts"]
    assert (summary.confirmed, len(summary.refuted), summary.not_tested) == (len(ASSUMPTIONS) - 1, 1, 0)
    assert (counts["confirmed"], counts["refuted"], counts["not tested"]) == (len(ASSUMPTIONS) - 1, 1, 0)
    assert summary.finished_at.isoformat() == rehearsal.facts["finished_at"]
    assert "Labels can be cleared" in rehearsal_line(summary)
    (reports / "rehearsal.json").write_text("{")
    assert last_rehearsal(reports, 101) is None


# Settings


@pytest.mark.parametrize(
    "change",
    [
        {"data_field": "NOSTOSEGME_REHEARSAL"},
        {"synced_at_field": "nostosegme_rehearsal"},
        {"address_book": "A" * 118 + " rehearsal"},
    ],
)
def test_names_that_the_sync_itself_uses(rehearsal: Rehearsal, change: dict[str, Any]) -> None:
    rehearsal.config |= change
    outcome = rehearsal.ask()
    assert outcome.code == 1
    assert "which the sync itself uses" in outcome.errors[-1]
    assert rehearsal.sandbox.journal.calls() == []


def test_a_dry_run_writes_nothing(rehearsal: Rehearsal) -> None:
    code = rehearsal.code()
    rehearsal.config["dry_run"] = True
    outcome = rehearsal.ask(code)
    assert outcome.code == 1
    assert "dry_run is set" in outcome.errors[-1]
    assert rehearsal.sandbox.journal.writes() == []


def test_a_contact_id_that_exists_is_not_used(rehearsal: Rehearsal) -> None:
    account, number = rehearsal.sandbox.account, 35_000_004 + 900_000_000
    stranger = account.add_contact("stranger@example.com")
    account.contacts[number] = account.contacts.pop(stranger.id)
    stranger.id = number
    code = rehearsal.code()
    account._next_contact = 35_000_003  # noqa: SLF001 - so that the first new contact has the ID below
    rehearsal.ask(code)
    assert rehearsal.having("not tested") == {"id_match_never_creates"}
    assert account.contacts[number].data_fields == {}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("RejectedByWatchdog", "ended with the state RejectedByWatchdog"),
        ("InvalidFileFormat", "ended with the state InvalidFileFormat"),
        ("Not Finished", "was not finished within import_timeout"),
    ],
)
def test_an_import_that_does_not_finish_stops_the_rehearsal(rehearsal: Rehearsal, state: str, words: str) -> None:
    rehearsal.config["import_timeout"] = 600
    rehearsal.sandbox.account.outcomes = ["Finished", "Finished", state]
    started = rehearsal.time.seconds
    outcome = rehearsal.run()
    (error,) = outcome.errors
    assert outcome.code == 1
    assert words in error
    assert (rehearsal.time.seconds - started >= 600) == (state == "Not Finished")
    assert not (rehearsal.folder / "reports" / "rehearsal.json").exists()


@pytest.mark.parametrize(("failing", "code"), [(4, 0), (5, 1)])
def test_a_few_failed_polls_do_not_stop_the_rehearsal(rehearsal: Rehearsal, failing: int, code: int) -> None:
    plan = rehearsal.code()
    rehearsal.sandbox.faults.add(Fault("answer", path="/contacts/v3/import/", times=failing, response=answer(500)))
    assert rehearsal.ask(plan).code == code


def test_a_sync_that_holds_the_account_keeps_the_rehearsal_out(rehearsal: Rehearsal) -> None:
    ledger = open_ledger(rehearsal.config["ledger_url"])
    with ledger.locked(101):
        outcome = rehearsal.run()
    ledger.close()
    assert outcome.code == 1
    assert "Another run is working on this account" in outcome.errors[-1]
    assert rehearsal.sandbox.journal.writes() == []


# Addresses


ABOUT_NEW = {
    *("new_contact_status", "new_contact_opt_in_type", "null_harmless_for_new"),
    *("filter_by_creation", "lists_in_read_back"),
}


def test_addresses_that_are_all_contacts(rehearsal: Rehearsal) -> None:
    rehearsal.run()
    outcome = rehearsal.run()
    assert outcome.code == 0, outcome.log
    assert rehearsal.having("not tested") == ABOUT_NEW
    assert "None of your addresses is new to the account." in outcome.output


def test_a_plan_names_the_addresses_that_would_add_checks(rehearsal: Rehearsal) -> None:
    rehearsal.config["rehearsal_emails"] = [NEW, KNOWN, "eli@example.com", "fay@example.com"]
    assert "a suppressed contact: that it gets labels and stays suppressed" in rehearsal.ask().output
    rehearsal.config["rehearsal_emails"] = [NEW, SILENT, "customer@example.com", KNOWN]
    assert "another address that is not in the account" in rehearsal.ask().output
    rehearsal.config["rehearsal_emails"] = [NEW, SECOND, KNOWN, SILENT]
    assert "shows with capitals" in rehearsal.ask().output
    rehearsal.config["rehearsal_emails"] = [NEW, SECOND, KNOWN, SILENT, CAPITALS]
    assert "Further addresses" not in rehearsal.ask().output


@pytest.mark.parametrize(
    ("emails", "words"),
    [
        ([], "has 0 addresses"),
        ([f"{number}@example.com" for number in range(11)], "has 11 addresses"),
        ([NEW, SECOND, KNOWN, "no address"], "entry 4 is not an e-mail address"),
        ([NEW, SECOND, KNOWN, "ANN@example.com"], "entry 4 is a duplicate"),
    ],
)
def test_addresses_that_cannot_be(rehearsal: Rehearsal, emails: list[str], words: str) -> None:
    rehearsal.config["rehearsal_emails"] = emails
    outcome = rehearsal.ask()
    assert outcome.code == 1
    assert words in outcome.errors[-1]
    assert "@" not in outcome.errors[-1]
    assert rehearsal.sandbox.journal.calls() == []


def test_an_invalid_setting_is_not_quoted(rehearsal: Rehearsal) -> None:
    rehearsal.config["rehearsal_emails"] = NEW
    outcome = rehearsal.ask()
    assert outcome.code == 1
    assert "rehearsal_emails" in outcome.errors[-1]
    assert "@" not in outcome.log


# Interruptions


# the eighth call creates the address book or submits the first import, the thirtieth is in the middle of the values
@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
@pytest.mark.parametrize(
    "nth", [8, 30, *(pytest.param(nth, marks=[pytest.mark.slow, pytest.mark.long]) for nth in range(1, 72, 7) if nth != 8)]
)
def test_an_interrupted_rehearsal_starts_again(rehearsal: Rehearsal, kind: Literal["drop_before", "drop_after"], nth: int) -> None:
    before = rehearsal.sandbox.account.snapshot()
    code = rehearsal.code()
    rehearsal.sandbox.faults.add(Fault(kind, service=None, nth=nth, times=10_000))
    first = rehearsal.ask(code)
    assert (first.code, len(first.errors)) == (1, 1)
    rehearsal.sandbox.faults.clear()
    again = rehearsal.run()
    assert again.code == 0, again.log
    # addresses that the first attempt has created are not new any more
    assert rehearsal.having("not tested") <= ABOUT_NEW
    account = rehearsal.sandbox.account
    assert set(account.snapshot()) == {*before, NEW, SECOND}
    assert len([book for book in account.books.values() if book.name == "Nosto contacts rehearsal"]) == 1
    for email, contact in before.items():
        now = account.snapshot()[email]
        assert (now.status, now.opt_in_type, now.preferences) == (contact.status, contact.opt_in_type, contact.preferences)
        assert contact.data_fields.items() <= now.data_fields.items()
