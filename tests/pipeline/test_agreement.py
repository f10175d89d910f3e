"""Two memories that agree: whatever one of them has lost, the account ends as the export says, or the run stops before a write."""

from __future__ import annotations

import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import Fault
from nosto_dotdigital_sandbox.faults import answer
from support.cases import slow_except
from support.oracle import FIELD, expected, folded
from support.running import Outcome, Pipeline, run_target, singer
from support.wire import contacts_sent
from target_dotdigital.ledger.runs import digest_of, normal_form

if TYPE_CHECKING:
    from pathlib import Path

Content = dict[str, list[str]]
START: Content = {f"p{number:03d}@example.com": [["A"], ["A", "B"], [], ["B"], ["C"]][number % 5] for number in range(150)}


def body(content: Content) -> bytes:
    return "".join(json.dumps({"email": email, "nosto_segments": names}) + "\n" for email, names in content.items()).encode()


class Days:
    """A shop that changes a little every day, and what is kept of it and lost."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.content = dict(START)
        self.day = 0
        self.field = FIELD
        self.book = "Nosto contacts"
        self.delimiter = ";"
        self.label: dict[str, str] = {}
        self.put()
        assert pipeline.run().code == 0
        self.assert_right()

    def put(self, changes: Content | None = None, leave: tuple[int, ...] = ()) -> None:
        """Make the next day's export."""
        self.day += 1
        self.content |= changes or {}
        for number in leave:
            del self.content[person(number)]
        self.pipeline.export(body(self.content), self.day)

    def run(self, changes: Content | None = None, leave: tuple[int, ...] = ()) -> Outcome:
        """Make the next day's export, and run."""
        self.put(changes, leave)
        return self.pipeline.run()

    def refused_then_refreshed(self, reason: str = "") -> None:
        """The run stops before any write and names --full-refresh; with it, the account is right."""
        journal = self.pipeline.sandbox.journal
        before, writes, state = self.pipeline.sandbox.account.snapshot(), len(journal.writes()), self.pipeline.state
        outcome = self.pipeline.run()
        assert outcome.code == 1, "the run has to stop"
        assert outcome.output == ""
        assert "--full-refresh" in outcome.errors[-1]
        assert reason in outcome.errors[-1]
        assert len(journal.writes()) == writes, "nothing was written"
        assert self.pipeline.sandbox.account.snapshot() == before
        assert (self.pipeline.report["outcome"], self.pipeline.state) == ("failed", state)
        self.refresh()

    def refresh(self) -> None:
        """Run with --full-refresh."""
        self.pipeline.state = None
        outcome = self.pipeline.run()
        assert outcome.code == 0, outcome.log
        self.assert_right()

    def refresh_with(self, **settings: Any) -> None:
        """Change settings, and run with --full-refresh."""
        self.restart(**settings)
        self.pipeline.state = None
        outcome = self.pipeline.run()
        assert outcome.code == 0, outcome.log

    def assert_labels(self) -> None:
        """Every contact has the labels that the last export says; nobody else has labels."""
        wanted = expected(body(self.content))
        for email, contact in folded(self.pipeline.sandbox.account.snapshot()).items():
            labels = [self.label.get(name, name) for name in wanted.get(email, [])]
            assert contact.data_fields.get(self.field, "") == self.delimiter.join(labels), email

    def assert_right(self) -> None:
        """The account is what the last export says; nobody else has labels."""
        self.assert_labels()
        account = folded(self.pipeline.sandbox.account.snapshot())
        wanted = expected(body(self.content))
        book = self.pipeline.sandbox.account.book_named(self.book)
        if self.pipeline.target.get("upload_emails") != "none":
            assert book is not None
            missing = [email for email in wanted if email not in account or book.id not in account[email].lists]
            assert not missing, "every address is in the address book"

    def restart(self, **settings: Any) -> None:
        """Change settings of the target, and activate anew."""
        self.pipeline.target |= settings
        self.pipeline.activate()
        self.field = self.pipeline.target.get("data_field", FIELD)
        self.book = self.pipeline.target.get("address_book", self.book)


@pytest.fixture
def days(pipeline: Pipeline) -> Days:
    return Days(pipeline)


def person(number: int) -> str:
    return f"p{number:03d}@example.com"


def lose_ledger(folder: Path) -> None:
    for path in folder.glob("ledger.db*"):
        path.unlink()


def backup(folder: Path) -> None:
    with sqlite3.connect(folder / "ledger.db") as source, sqlite3.connect(folder / "backup.db") as copy:
        source.backup(copy)


def restore_ledger(folder: Path) -> None:
    lose_ledger(folder)
    shutil.copy(folder / "backup.db", folder / "ledger.db")


# What is lost


def test_ledger_lost_then_contacts_leave(days: Days) -> None:
    lose_ledger(days.pipeline.folder)
    days.put({person(1): ["C"]})
    days.refused_then_refreshed("it has not acknowledged any")
    assert days.run(leave=(0, 3)).code == 0
    days.assert_right()


def test_ledger_lost_and_full_refresh_on_the_day_that_contacts_leave(days: Days) -> None:
    lose_ledger(days.pipeline.folder)
    days.put(leave=(0, 3))
    days.refresh()
    assert days.pipeline.report["plan"]["orphaned"] == 2
    # only what differs is sent
    assert days.pipeline.report["sent"] == 2


def test_ledger_snapshots_and_state_lost_on_the_day_that_contacts_leave(days: Days) -> None:
    lose_ledger(days.pipeline.folder)
    shutil.rmtree(days.pipeline.folder / "snapshots")
    days.put({person(1): ["C"]}, leave=(0, 3))
    days.refresh()
    assert days.pipeline.report["sent"] == 3


def test_ledger_and_snapshots_lost_state_kept(days: Days) -> None:
    """The tap then names everybody, which needs no base."""
    lose_ledger(days.pipeline.folder)
    shutil.rmtree(days.pipeline.folder / "snapshots")
    assert days.run({person(1): ["C"]}, leave=(0,)).code == 0
    days.assert_right()


def test_an_older_ledger_restored_from_a_backup(days: Days) -> None:
    backup(days.pipeline.folder)
    assert days.run({person(1): ["C"]}).code == 0
    restore_ledger(days.pipeline.folder)
    days.put({person(1): START[person(1)]}, leave=(0,))
    days.refused_then_refreshed("restored from a backup")


@pytest.mark.fields("OTHER")
def test_another_data_field_needs_a_full_refresh(days: Days) -> None:
    days.restart(data_field="OTHER")
    days.put({person(1): ["C"]})
    days.refused_then_refreshed("the data field or a setting changed")
    assert days.run(leave=(0,)).code == 0
    days.assert_right()
    # and back: the first field has seen none of this
    days.restart(data_field=FIELD)
    days.put({person(5): ["C"]})
    days.refused_then_refreshed()


MEMBERSHIP: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another name": ({"address_book": "Other"}, {"address_book": "Nosto contacts"}),
    "none": ({"upload_emails": "none"}, {"upload_emails": "all"}),
    "with segments": ({"upload_emails": "with_segments"}, {"upload_emails": "all"}),
    "none, then another name": ({"upload_emails": "none"}, {"upload_emails": "all", "address_book": "Other"}),
}


@pytest.mark.parametrize("case", slow_except({"another name", "none"}, MEMBERSHIP))
def test_another_address_book_or_upload_mode_asks_only_for_membership(days: Days, case: str) -> None:
    """Labels belong to account and data field: no full refresh is needed, and nothing else is sent again."""
    there, back = MEMBERSHIP[case]
    days.restart(**there)
    assert days.run({person(1): ["C"], "new@example.com": ["A"], "plain@example.com": []}, leave=(0,)).code == 0
    days.assert_labels()
    if there.get("address_book"):
        assert (days.pipeline.report["plan"]["added_to_address_book"], days.pipeline.report["updated"]) == (148, 150)
        days.assert_right()
    days.restart(**back)
    assert days.run({person(1): ["A"], person(6): ["C"]}, leave=(3,)).code == 0
    days.assert_right()
    assert days.run({person(7): ["C"]}).code == 0
    assert days.pipeline.report["sent"] == 1
    days.assert_right()


@pytest.mark.parametrize("case", slow_except({"another name", "none"}, MEMBERSHIP))
def test_a_source_without_state_that_goes_to_another_address_book_and_back(pipeline: Pipeline, case: str) -> None:
    there, back = MEMBERSHIP[case]
    account = pipeline.sandbox.account
    # the second day without changes, so that what is new in dotdigital is not read again when the labels are those of before
    for names, settings in ((["A"], {}), (["A"], {}), (["B"], there), (["A"], back)):
        pipeline.target |= {**settings, "max_change_percent": 100}
        pipeline.activate()
        records = [{"email": person(number), "segments": names} for number in range(150)]
        assert pipeline.load(singer(records)).code == 0
        held = {contact.data_fields.get(FIELD) for contact in account.snapshot().values()}
        assert held == {names[0]}
    book = account.book_named(pipeline.target.get("address_book", "Nosto contacts"))
    assert book is not None
    assert all(book.id in contact.lists for contact in account.snapshot().values())


def test_a_killed_run_leaves_no_members_of_another_address_book(days: Days) -> None:
    """Killed after the account was read back for the other one: who is in the first one is not what was read."""
    days.restart(address_book="Other")
    days.pipeline.sandbox.faults.add(Fault("answer", method="POST", path="/v2/address-books", times=99, response=answer(500)))
    assert days.run({person(1): ["C"]}).code == 1
    days.pipeline.sandbox.faults.clear()
    account = days.pipeline.sandbox.account
    account.by_email[person(4)].lists.clear()
    days.restart(address_book="Nosto contacts")
    assert days.pipeline.run().code == 0
    days.assert_right()


def test_an_address_book_of_a_number_is_not_the_one_with_that_id(days: Days) -> None:
    account = days.pipeline.sandbox.account
    book = account.add_book("by id")
    days.restart(address_book_id=book.id)
    code = days.pipeline.target["activation_code"]
    days.book = book.name
    assert days.run({person(1): ["C"]}).code == 0
    days.assert_right()
    days.pipeline.target |= {"address_book_id": None, "address_book": str(book.id)}
    outcome = days.run({person(2): ["C"]})
    assert outcome.code == 1
    assert days.pipeline.report["activation_code"] not in {None, code}
    days.restart()
    assert days.pipeline.run().code == 0
    days.assert_right()
    assert account.book_named(str(book.id)) is not None


# what is used of the input, first and then
WIDER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "exclude_emails": ({"exclude_emails": ["p001@*", "q*"]}, {"exclude_emails": ["q*"]}),
    "on_removed": ({"on_removed": "keep"}, {"on_removed": "clear"}),
    "stream_maps": ({"stream_maps": {"contact_segments": {"__filter__": "email != 'p001@example.com'"}}}, {"stream_maps": {}}),
}


@pytest.mark.parametrize("setting", list(WIDER))
def test_what_was_left_out_of_the_input_comes_again_only_in_a_whole_one(days: Days, setting: str) -> None:
    narrow, wide = WIDER[setting]
    days.refresh_with(**narrow)
    # a change, a newcomer and a leaver, of which each setting leaves something out
    assert days.run({person(1): ["C"], "p900@example.com": ["B"]}, leave=(2 if setting == "on_removed" else 0,)).code == 0
    days.restart(**wide)
    days.put({person(7): ["C"]})
    days.refused_then_refreshed("a setting changed that decides what is used of the input")
    assert days.run({person(8): ["C"]}).code == 0
    days.assert_right()


@pytest.mark.parametrize("setting", list(WIDER))
def test_using_less_of_the_input_needs_no_full_refresh(days: Days, setting: str) -> None:
    narrow, _ = WIDER[setting]
    days.restart(**narrow)
    if setting == "stream_maps":
        # what a map does cannot be judged
        outcome = days.run({person(7): ["C"]})
        assert outcome.code == 1
        assert "--full-refresh" in outcome.errors[-1]
    else:
        assert days.run({person(7): ["C"]}).code == 0
        days.assert_right()


def test_another_place_stops_before_the_review(days: Days) -> None:
    """A review of a day's changes would hide that everything is missing."""
    days.pipeline.target |= {"data_field": "OTHER"}
    outcome = days.run({person(1): ["C"]})
    assert outcome.code == 1
    assert "--full-refresh" in outcome.errors[-1]
    assert days.pipeline.report["activation_code"] is None


def test_a_second_machine_with_the_same_state_and_a_ledger_of_its_own(days: Days) -> None:
    first = dict(days.pipeline.target)
    days.pipeline.target |= {"ledger_url": f"sqlite:///{days.pipeline.folder / 'second.db'}"}
    days.put({person(1): ["C"]})
    days.refused_then_refreshed()
    assert days.run({person(2): ["C"]}).code == 0
    # the first machine again: it has missed what the second one did
    days.pipeline.target = first
    days.put({person(1): START[person(1)]})
    days.refused_then_refreshed("restored from a backup, or the STATE is that of another machine")


def test_an_older_state_that_was_acknowledged_goes_on_working(days: Days) -> None:
    older = days.pipeline.state
    assert days.run({person(1): ["C"], person(2): ["C"]}, leave=(0,)).code == 0
    days.pipeline.state = older
    assert days.run({person(1): START[person(1)]}).code == 0
    days.assert_right()


@pytest.mark.parametrize("others", [(3,), (50,), ()], ids=["compared as it comes", "staged", "looked up alone"])
def test_ledger_and_state_restored_to_the_same_day(days: Days, others: tuple[int, ...]) -> None:
    """The two agree with each other, but not with dotdigital: the tap repeats contacts that the ledger holds for unchanged."""
    # after a day on which all contacts were still new in dotdigital, and were read back
    assert days.run({person(5): ["C"]}).code == 0
    older = days.pipeline.state
    backup(days.pipeline.folder)
    assert days.run({person(1): ["C"]}, leave=others).code == 0
    restore_ledger(days.pipeline.folder)
    days.pipeline.state = older
    assert days.run({person(number): START[person(number)] for number in (1, *others)}).code == 0
    days.assert_right()


def test_many_contacts_repeated_without_news_are_read_back(days: Days) -> None:
    older = days.pipeline.state
    backup(days.pipeline.folder)
    days.pipeline.target |= {"max_change_percent": 100}
    changed = {person(number): ["C"] for number in range(60)}
    assert days.run(changed).code == 0
    restore_ledger(days.pipeline.folder)
    days.pipeline.state = older
    days.pipeline.sandbox.journal.clear()
    assert days.run({person(number): START[person(number)] for number in range(60)}).code == 0
    days.assert_right()
    reads = [call for call in days.pipeline.sandbox.journal.calls("dotdigital", "GET") if call.path == "/contacts/v3"]
    assert len(reads) == 1


def test_snapshots_and_state_restored_ledger_kept(days: Days) -> None:
    folder = days.pipeline.folder
    older = days.pipeline.state
    shutil.copytree(folder / "snapshots", folder / "copied")
    assert days.run({person(1): ["C"]}, leave=(3,)).code == 0
    shutil.rmtree(folder / "snapshots")
    (folder / "copied").rename(folder / "snapshots")
    days.pipeline.state = older
    days.put({person(1): START[person(1)]})
    days.refused_then_refreshed("does not mention 1 contacts that changed since its bookmark")


def test_all_memories_restored_to_the_same_day_are_found_by_the_spot_check(days: Days) -> None:
    folder, pipeline = days.pipeline.folder, days.pipeline
    pipeline.target["max_change_percent"] = 100
    # a day on which all contacts were still new in dotdigital, and are read back by the next run
    assert days.run({person(5): ["C"]}).code == 0
    older, content = pipeline.state, dict(days.content)
    backup(folder)
    shutil.copytree(folder / "snapshots", folder / "copied")
    assert days.run({email: ["D"] for email in content}).code == 0
    restore_ledger(folder)
    shutil.rmtree(folder / "snapshots")
    (folder / "copied").rename(folder / "snapshots")
    pipeline.state, days.content = older, content
    assert days.run({person(1): ["C"]}).code == 0
    days.assert_right()


def test_a_ledger_restored_to_before_a_restore_is_found_by_the_spot_check(days: Days) -> None:
    pipeline = days.pipeline
    pipeline.target["max_change_percent"] = 100
    assert days.run({email: ["D"] for email in days.content}).code == 0
    assert days.run({person(5): ["C"]}).code == 0
    backup(pipeline.folder)
    run = pipeline.report["run"] - 1
    assert run_target(pipeline.target, "", pipeline.time, restore=True, run=run).code == 0
    restore_ledger(pipeline.folder)
    assert days.run({person(1): ["C"]}).code == 0
    days.assert_right()


def test_a_failed_run_needs_no_full_refresh(days: Days) -> None:
    fault = days.pipeline.sandbox.faults
    fault.add(Fault("answer", method="PUT", times=99, response=answer(500)))
    assert days.run({person(1): ["C"]}, leave=(0,)).code == 1
    fault.clear()
    assert days.run({person(1): START[person(1)], person(2): ["B"]}).code == 0
    days.assert_right()


def test_brakes_judge_by_the_account_after_a_loss(days: Days) -> None:
    lose_ledger(days.pipeline.folder)
    days.pipeline.tap["max_shrink_percent"] = 100
    days.pipeline.state = None
    days.put(leave=tuple(number for number in range(100) if number % 5 != 2))
    outcome = days.pipeline.run()
    assert outcome.code == 1
    assert "80 of 120 labelled contacts" in outcome.errors[-1]
    assert days.pipeline.report["outcome"] == "braked"


def test_a_snapshot_folder_that_begins_anew_gives_no_name_twice(days: Days) -> None:
    """Else a bookmark would name another snapshot than the one that was delivered, and the tap would see nothing new."""
    folder, faults = days.pipeline.folder / "snapshots", days.pipeline.sandbox.faults
    first = dict(days.content)
    shutil.rmtree(folder)
    faults.add(Fault("answer", method="PUT", times=99, response=answer(500)))
    assert days.run({person(1): ["C"]}).code == 1
    faults.clear()
    shutil.rmtree(folder)
    days.content = first
    days.put()
    assert days.pipeline.run().code == 0
    days.assert_right()


# Commands in between


def test_ordinary_runs_stop_after_a_restore(days: Days) -> None:
    days.run({person(1): ["C"]})
    outcome = run_target(days.pipeline.target, "", days.pipeline.time, restore=True, run=days.pipeline.report["run"])
    assert outcome.code == 0, outcome.log
    assert "--full-refresh" in outcome.output
    assert days.pipeline.sandbox.account.by_email[person(1)].data_fields == {FIELD: ";".join(START[person(1)])}
    page = (days.pipeline.folder / "reports" / "report.html").read_text()
    assert "which may differ from their segments" in page
    days.put({person(2): ["B"]})
    days.refused_then_refreshed("a run was restored")


def test_restore_sends_only_what_it_puts_back_and_claims_no_more(pipeline: Pipeline) -> None:
    """Rows that are matched by id name no address book, so they put nobody into it."""
    account = pipeline.sandbox.account
    for number in range(4):
        account.add_contact(person(number))
    content = {person(number): ["A"] for number in range(4)}
    pipeline.export(body(content))
    pipeline.target["max_contacts_per_run"] = 2
    assert pipeline.run().code == 0
    run = pipeline.report["run"]
    del pipeline.target["max_contacts_per_run"]
    pipeline.sandbox.journal.clear()
    account.by_email[person(0)].lists.clear()
    assert run_target(pipeline.target, "", pipeline.time, restore=True, run=run).code == 0
    assert len(contacts_sent(pipeline.sandbox)) == 2, "those that wait are not part of what is put back"
    with sqlite3.connect(pipeline.folder / "ledger.db") as ledger:
        rows = ledger.execute("SELECT email FROM dotdigital_contacts WHERE in_address_book").fetchall()
    assert rows == [(person(1),)], "what a row confirms is what it said"
    pipeline.state = None
    assert pipeline.run().code == 0
    book = account.book_named("Nosto contacts")
    assert book is not None
    held = account.snapshot().values()
    assert [contact.email for contact in held if book.id not in contact.lists] == []
    assert {contact.data_fields[FIELD] for contact in held} == {"A"}


def test_a_forgotten_contact_that_leaves_is_cleared(days: Days) -> None:
    assert run_target(days.pipeline.target, "", days.pipeline.time, forget=person(0)).code == 0
    assert days.run(leave=(0,)).code == 0
    days.assert_right()


@pytest.mark.parametrize("what", ["label settings", "address book", "uploads", "the data field was deleted"])
def test_a_forgotten_contact_of_the_source_gets_what_all_get(days: Days, what: str) -> None:
    """The ledger does not have it any more, so a run that has to compare every contact asks for a full refresh."""
    pipeline = days.pipeline
    assert forget(days, 1) == "The source still had the address when it was last read."
    # what changed since then does not depend on it
    assert days.run({person(5): ["C"]}).code == 0
    days.assert_right()
    match what:
        case "label settings":
            days.restart(segment_labels={"A": "Apple"})
            days.label = {"A": "Apple"}
        case "address book":
            days.restart(address_book="Other")
        case "uploads":
            days.restart(upload_emails="with_segments")
        case _:
            del pipeline.sandbox.account.fields[FIELD]
            for contact in pipeline.sandbox.account.contacts.values():
                contact.data_fields.pop(FIELD, None)
    days.put({person(6): ["C"]})
    days.refused_then_refreshed("An address was forgotten")
    # once is enough
    days.restart(segment_delimiter="|")
    days.delimiter = "|"
    assert days.run({person(7): ["A", "B"]}).code == 0
    days.assert_right()


def test_a_contact_forgotten_before_it_was_delivered_needs_a_full_refresh(days: Days) -> None:
    days.pipeline.target["max_contacts_per_run"] = 1
    assert days.run({person(1): ["C"], person(2): ["C"]}).code == 0
    assert days.pipeline.report["left_for_later"] == 1
    forget(days, 2)
    days.pipeline.target["max_contacts_per_run"] = 0
    days.put({person(3): ["C"]})
    days.refused_then_refreshed("an address was forgotten whose delivery was outstanding")


def test_a_contact_forgotten_while_its_import_may_be_applied_late_needs_a_full_refresh(days: Days) -> None:
    account, faults = days.pipeline.sandbox.account, days.pipeline.sandbox.faults
    account.import_polls = 10_000
    lost = Fault("drop_after", method="PUT", path="contacts/v3/import", after=lambda _: setattr(account, "import_polls", 0))
    faults.add(lost)
    assert days.run({person(1): ["C"]}).code == 0
    assert days.run({person(1): ["D"]}).code == 0
    forget(days, 1)
    account.settle()
    assert account.by_email[person(1)].data_fields[FIELD] == "C"
    days.put()
    days.refused_then_refreshed("an address was forgotten whose delivery was outstanding")


def test_a_contact_forgotten_after_it_left_is_not_missed(days: Days) -> None:
    """As the documents advise: erased in Nosto first, then forgotten."""
    assert days.run(leave=(0,)).code == 0
    assert forget(days, 0) == ""
    days.restart(segment_delimiter="|")
    days.delimiter = "|"
    assert days.run({person(7): ["A", "B"]}).code == 0
    days.assert_right()


def forget(days: Days, number: int) -> str:
    """Forget a contact, and return the beginning of what is said about the source."""
    outcome = run_target(days.pipeline.target, "", days.pipeline.time, forget=person(number))
    assert outcome.code == 0, outcome.log
    return next((line.partition(" If ")[0] for line in outcome.output.splitlines() if line.startswith("The source")), "")


def test_a_forgotten_contact_of_the_source_is_nobody_elses_to_clear(days: Days) -> None:
    """Once an address is forgotten, labels that the ledger does not know may still be those of the source."""
    assert run_target(days.pipeline.target, "", days.pipeline.time, forget=person(0)).code == 0
    assert run_target(days.pipeline.target, "", days.pipeline.time, reconcile=True).code == 0
    assert days.run({person(1): ["C"]}).code == 0
    days.assert_right()


def test_an_address_that_changed_at_both_ends_keeps_its_labels(days: Days) -> None:
    """The contact keeps its id: the row that clears the old address and the one for the new address are about the same contact."""
    account = days.pipeline.sandbox.account
    contact = account.by_email.pop(person(0))
    contact.email = "renamed@example.com"
    account.by_email[contact.email] = contact
    assert days.run({"renamed@example.com": ["A"]}, leave=(0,)).code == 0
    days.assert_right()
    assert days.run({person(1): ["C"]}).code == 0
    days.assert_right()


def test_an_address_that_changed_before_the_old_one_left_keeps_its_labels(days: Days) -> None:
    account = days.pipeline.sandbox.account
    contact = account.by_email.pop(person(0))
    contact.email = "renamed@example.com"
    account.by_email[contact.email] = contact
    assert days.run({"renamed@example.com": ["A"]}).code == 0
    assert days.run(leave=(0,)).code == 0
    days.assert_right()


def test_reconcile_needs_no_full_refresh(days: Days) -> None:
    days.pipeline.sandbox.account.edit(person(0), FIELD, "by hand")
    assert run_target(days.pipeline.target, "", days.pipeline.time, reconcile=True).code == 0
    assert days.run({person(1): ["C"]}).code == 0
    days.assert_right()


@pytest.mark.parametrize("limit", [2, 40])
def test_a_ramp_goes_on_after_the_state_was_lost(pipeline: Pipeline, limit: int) -> None:
    pipeline.target["max_contacts_per_run"] = limit
    pipeline.export(body(START))
    assert pipeline.run().code == 0
    assert pipeline.report["outcome"] == "partly delivered"
    pipeline.state = None
    for _ in range(3):
        assert pipeline.run().code == 0
    assert len(pipeline.sandbox.account.snapshot()) == 4 * limit if limit < 40 else 150


# What belongs to nobody


def test_orphaned_labels_are_cleared_by_a_whole_input_and_counted_in_the_review(pipeline: Pipeline) -> None:
    account = pipeline.sandbox.account
    account.add_field(FIELD)
    for number in range(3):
        account.add_contact(f"old{number}@example.com", data_fields={FIELD: "from before", "FIRSTNAME": "x"})
    account.add_contact("left@alone.example.com", data_fields={FIELD: "from before"})
    pipeline.target["exclude_emails"] = ["*@alone.example.com"]
    code = pipeline.target.pop("activation_code")
    pipeline.export(body({"new@example.com": ["A"]}))
    assert pipeline.run().code == 1
    review = (pipeline.folder / "reports" / "review.txt").read_text()
    assert "3  of these are not in the source: orphaned labels" in review
    assert "1  'A'" in review
    assert "belongs to one pipeline" in review
    assert "does not cover the choice of" in review
    pipeline.target["activation_code"] = code
    assert pipeline.run().code == 0
    held = {email: contact.data_fields for email, contact in account.snapshot().items()}
    assert held.pop("left@alone.example.com") == {FIELD: "from before"}
    assert held == {"new@example.com": {FIELD: "A"}, **{f"old{number}@example.com": {"FIRSTNAME": "x"} for number in range(3)}}


def test_orphaned_labels_are_kept_where_removed_contacts_keep_theirs(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.add_field(FIELD)
    pipeline.sandbox.account.add_contact("old@example.com", data_fields={FIELD: "from before"})
    pipeline.target["on_removed"] = "keep"
    pipeline.activate()
    pipeline.export(body({"new@example.com": ["A"]}))
    assert pipeline.run().code == 0
    assert pipeline.sandbox.account.snapshot()["old@example.com"].data_fields == {FIELD: "from before"}


def test_a_source_that_cannot_say_who_left_keeps_orphaned_labels(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.add_field(FIELD)
    pipeline.sandbox.account.add_contact("old@example.com", data_fields={FIELD: "from before"})
    assert pipeline.load(singer([{"email": "new@example.com", "segments": ["A"]}])).code == 0
    assert pipeline.sandbox.account.snapshot()["old@example.com"].data_fields == {FIELD: "from before"}


# Other people's taps


def line(kind: str, **values: object) -> str:
    return json.dumps({"type": kind, **values}) + "\n"


def sdk_input(begin: object, records: list[dict[str, Any]], end: object, *, version: int | None = None) -> str:
    """Write what an SDK tap says: its starting STATE, the schema, records, a STATE where it has changed."""
    schema = {"properties": {"email": {"type": "string"}, "segments": {"type": "array"}}}
    extra = {"version": version} if version is not None else {}
    lines = [line("STATE", value=begin)] if begin else []
    lines.append(line("SCHEMA", stream="people", schema=schema, key_properties=["email"]))
    lines += [line("RECORD", stream="people", record=record, **extra) for record in records]
    return "".join(lines) + (line("STATE", value=end) if end is not None else "")


def state(value: object, **notes: object) -> dict[str, Any]:
    return {"bookmarks": {"people": {"replication_key": "updated_at", "replication_key_value": value, **notes}}}


ANN = {"email": "ann@example.com", "segments": ["A"]}


def test_bookmarks_are_compared_without_notes_on_progress(pipeline: Pipeline) -> None:
    assert pipeline.load(sdk_input(None, [ANN], state(1, starting_replication_value=None))).code == 0
    noted = state(1, starting_replication_value=0, progress_markers={"Note": "x"}, replication_key_signpost="now")
    noted["bookmarks"]["others"] = {}
    noted["currently_syncing"] = "people"
    bob = {"email": "bob@example.com", "segments": ["B"]}
    assert pipeline.load(sdk_input(noted, [bob], state(2))).code == 0
    outcome = pipeline.load(sdk_input(state(3), [bob], state(4)))
    assert outcome.code == 1
    assert "--full-refresh" in outcome.errors[-1]


def test_a_tap_that_breaks_off_after_its_starting_state(pipeline: Pipeline) -> None:
    assert pipeline.load(sdk_input(None, [ANN], state(1))).code == 0
    start = sdk_input(state(1), [ANN], None).splitlines(keepends=True)[0]
    assert pipeline.load(start).code == 1
    assert pipeline.report["outcome"] == "incomplete input"


def test_a_quiet_hour_of_an_sdk_tap_is_healthy(pipeline: Pipeline) -> None:
    """The SDK repeats the record at the bookmark, and leaves out a STATE that has not changed."""
    pipeline.target["verify_timeout"] = 0
    assert pipeline.load(sdk_input(None, [ANN], state(1))).code == 0
    for _ in range(3):
        pipeline.sandbox.journal.clear()
        outcome = pipeline.load(sdk_input(state(1), [ANN], None))
        assert outcome.code == 0, outcome.log
        assert contacts_sent(pipeline.sandbox) == []
    # looked up once, not every hour; only the list of what was created since is asked for
    asked = [call for call in pipeline.sandbox.journal.calls("dotdigital", "GET") if call.path.startswith("/contacts/v3")]
    assert [(call.path, "~created" in call.target) for call in asked] == [("/contacts/v3", True)]


def test_a_full_table_tap_of_the_sdk_is_healthy_every_day(pipeline: Pipeline) -> None:
    """Its state has no bookmark, and is only said once."""
    empty: dict[str, Any] = {"bookmarks": {"people": {}}}
    assert pipeline.load(sdk_input(None, [ANN], empty)).code == 0
    for names in (["B"], ["C"]):
        assert pipeline.load(sdk_input(empty, [ANN | {"segments": names}], None)).code == 0
        assert pipeline.report["outcome"] == "delivered"


def test_a_source_that_never_sends_state_is_accepted(pipeline: Pipeline) -> None:
    for names in (["A"], ["B"]):
        assert pipeline.load(sdk_input(None, [ANN | {"segments": names}], None)).code == 0
        assert pipeline.report["outcome"] == "delivered"


BOB = {"email": "bob@example.com", "segments": ["B"]}


@pytest.mark.parametrize(
    "text",
    [
        sdk_input(state(1), [BOB], None),
        sdk_input(None, [BOB], None),
        sdk_input(None, [BOB], None, version=7),
        sdk_input(state(1), [ANN], state(1, progress_markers={"replication_key_value": 2}))
        + line("RECORD", stream="people", record=BOB),
    ],
)
def test_an_input_that_breaks_off_is_delivered_and_reported_as_incomplete(pipeline: Pipeline, text: str) -> None:
    assert pipeline.load(sdk_input(None, [ANN], state(1))).code == 0
    outcome = pipeline.load(text)
    assert (outcome.code, outcome.output) == (1, "")
    assert outcome.errors[-1].startswith("The input is incomplete")
    assert pipeline.report["outcome"] == "incomplete input"
    assert pipeline.sandbox.account.snapshot()["bob@example.com"].data_fields == {FIELD: "B"}
    # the tap goes on from where it was
    assert pipeline.load(sdk_input(state(1), [ANN, BOB], state(2))).code == 0


def test_a_first_emission_that_breaks_off_is_incomplete(pipeline: Pipeline) -> None:
    outcome = pipeline.load(sdk_input(None, [ANN], None, version=7))
    assert outcome.code == 1
    assert pipeline.report["outcome"] == "incomplete input"


def test_no_input_is_no_healthy_run(pipeline: Pipeline) -> None:
    outcome = pipeline.load("")
    assert (outcome.code, outcome.output) == (1, "")
    assert outcome.errors[-1].startswith("No input")
    assert pipeline.report["outcome"] == "no input"
    assert pipeline.sandbox.journal.calls("dotdigital") == []


@pytest.mark.parametrize(
    "text",
    [singer([]), sdk_input({"bookmarks": {}}, [], None), sdk_input(None, [], None)],
    ids=["a state", "a beginning", "a schema"],
)
def test_an_input_without_records_has_nothing_to_do(pipeline: Pipeline, text: str) -> None:
    assert pipeline.load(text).code == 0
    assert pipeline.report["outcome"] == "nothing to do"


def test_a_whole_stream_beside_an_incremental_one(pipeline: Pipeline) -> None:
    """A whole stream needs no base; one beside it that builds on an unknown one does."""
    text = sdk_input(state(9), [ANN], None, version=1) + line("ACTIVATE_VERSION", stream="people", version=1)
    other = {"properties": {"email": {"type": "string"}, "segments": {"type": "array"}}}
    more = line("SCHEMA", stream="more", schema=other, key_properties=["email"])
    end = line("STATE", value=state(10))
    assert pipeline.load(text + end).code == 0
    outcome = pipeline.load(text.replace("9", "99") + more + end.replace("10", "100"))
    assert outcome.code == 1
    assert "--full-refresh" in outcome.errors[-1]


def test_contacts_of_a_stream_that_was_renamed_are_cleared_by_a_whole_input(pipeline: Pipeline) -> None:
    assert pipeline.load(singer([ANN], stream="old name")).code == 0
    text = (
        sdk_input(None, [BOB], None, version=1)
        + line("ACTIVATE_VERSION", stream="people", version=1)
        + line("STATE", value={"d": 1})
    )
    assert pipeline.load(text).code == 0
    assert pipeline.sandbox.account.snapshot()["ann@example.com"].data_fields == {}


@pytest.mark.parametrize(
    "empty", [{}, {"bookmarks": {}}, {"bookmarks": {"s": {}, "t": {"partitions": []}}}, {"currently_syncing": "s"}]
)
def test_a_state_without_a_bookmark_builds_on_nothing(empty: dict[str, Any]) -> None:
    assert digest_of(empty) is None


def test_bookmarks_are_equal_in_any_order() -> None:
    one, two = {"a": 1, "b": {"c": [1, {"d": 2, "e": None}]}}, {"b": {"c": [1, {"d": 2}]}, "a": 1}
    assert digest_of(one) == digest_of(two) is not None
    assert normal_form(one) == two
    assert digest_of({"a": 2}) != digest_of({"a": "2"})


def test_each_write_of_a_day_is_known_before_its_state_goes_out(days: Days) -> None:
    """Killed between delivery and STATE: the older bookmark is known, and what was delivered is resent."""
    older = days.pipeline.state
    assert days.run({person(1): ["C"]}, leave=(0,)).code == 0
    days.pipeline.state = older
    days.pipeline.sandbox.journal.clear()
    assert days.run().code == 0
    assert contacts_sent(days.pipeline.sandbox) == []
    days.assert_right()
