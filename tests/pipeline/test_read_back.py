"""What is not known is read back before it is counted, and what is believed is checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import Fault
from nosto_dotdigital_sandbox.faults import answer
from support.cases import slow_except
from support.oracle import BOOK, FIELD, folded
from support.running import Pipeline, run_target, singer

if TYPE_CHECKING:
    from collections.abc import Callable

    from nosto_dotdigital_sandbox import Contact, Sandbox

LEDGERS, SLOW_LEDGERS = ["sqlite"], ["postgresql"]
DAY = 86_400.0
Names = dict[str, list[str]]


def people(count: int, *names: str) -> Names:
    return {f"p{number:03d}": list(names) for number in range(count)}


class Source:
    """A source that emits changes since its bookmark, and everything on the first day."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.account = pipeline.sandbox.account
        self.day = 0

    def run(self, names: Names, *leave: str) -> int:
        """Run on what has changed, and return the exit code; the bookmark stays if the run fails."""
        begin = "" if self.pipeline.state is None else _line("STATE", value=self.pipeline.state)
        return self._load(begin + self._records(names, *leave))

    def whole(self, names: Names) -> int:
        """Run on everything that the source has."""
        return self._load(self._records(names, version=1) + _line("ACTIVATE_VERSION", stream="people", version=1))

    def _records(self, names: Names, *leave: str, **extra: int) -> str:
        schema: dict[str, Any] = {"properties": {"email": {}, "segments": {}, "_sdc_deleted_at": {}}}
        records: list[dict[str, Any]] = [{"email": f"{who}@example.com", "segments": found} for who, found in names.items()]
        records += [{"email": f"{who}@example.com", "segments": [], "_sdc_deleted_at": "2026-11-01T00:00:00Z"} for who in leave]
        lines = [_line("RECORD", stream="people", record=record, **extra) for record in records]
        return "".join([_line("SCHEMA", stream="people", schema=schema, key_properties=["email"]), *lines])

    def _load(self, text: str) -> int:
        self.day += 1
        self.pipeline.time.skipped += DAY
        self.pipeline.sandbox.journal.clear()
        state = {"bookmarks": {"people": {"replication_key_value": f"2026-11-{self.day:02d}"}}}
        return self.pipeline.load(text + _line("STATE", value=state)).code

    @property
    def report(self) -> dict[str, Any]:
        report = self.pipeline.report
        assert report["sent"] == sum(report[name] for name in ("created", "updated", "rejected", "unconfirmed"))
        return report

    def labels(self) -> dict[str, str]:
        """Return the labels of all contacts by the local part of their address."""
        contacts = folded(self.account.snapshot()).items()
        return {email.partition("@")[0]: contact.data_fields.get(FIELD, "") for email, contact in contacts}

    def members(self) -> set[str]:
        book = self.account.book_named(BOOK)
        assert book is not None
        return {email.partition("@")[0] for email, one in folded(self.account.snapshot()).items() if book.id in one.lists}

    def reads(self) -> list[str]:
        """Return which readings of contacts the last run made: the whole account, new contacts, or single ones."""
        kinds = {"/contacts/v3": "whole"}
        targets = [
            call for call in self.pipeline.sandbox.journal.calls("dotdigital", "GET") if call.path.startswith("/contacts/v3")
        ]
        targets = [call for call in targets if not call.path.startswith("/contacts/v3/import")]
        return ["new" if "~created" in call.target else kinds.get(call.path, "one") for call in targets]


def _line(kind: str, **values: object) -> str:
    return json.dumps({"type": kind, **values}) + "\n"


@pytest.fixture
def source(pipeline: Pipeline) -> Source:
    return Source(pipeline)


# What is not known


@pytest.mark.parametrize("how", ["not visible", "lost", "not named"])
def test_brakes_count_what_was_read_of_contacts_whose_result_is_unknown(source: Source, how: str) -> None:
    account, pipeline = source.account, source.pipeline
    assert source.run({"old": ["A"], **people(150)}) == 0
    if how == "not visible":
        account.deviations.add("read_back_lags")
        account.reads_behind = 10_000
    elif how == "lost":
        pipeline.sandbox.faults.add(Fault("drop_after", method="PUT", times=99))
    else:
        account.forget_rows = 149
    assert source.run(people(150, "A")) == 1
    account.deviations.clear()
    account.outdated = None
    account.forget_rows = 0
    pipeline.sandbox.faults.clear()
    account.settle()
    state = pipeline.state
    assert source.run({**people(1, "A"), **{f"p{number:03d}": [] for number in range(1, 150)}}) == 1
    assert (source.report["outcome"], source.report["plan"]["cleared"], source.report["plan"]["labelled"]) == ("braked", 149, 151)
    assert (pipeline.sandbox.journal.writes(), pipeline.state) == ([], state)
    pipeline.target["max_clear_percent"] = pipeline.target["max_change_percent"] = 100
    assert source.run({**people(1, "A"), **{f"p{number:03d}": [] for number in range(1, 150)}}) == 0
    assert source.report["cleared"] == 149
    assert {who for who, value in source.labels().items() if value} == {"old", "p000"}


def test_few_contacts_without_a_result_are_looked_up_and_not_sent_again(source: Source) -> None:
    assert source.run(people(9, "A")) == 0
    source.account.forget_rows = 1
    assert source.run({"p001": ["B"], "p002": ["B"]}) == 1
    source.account.forget_rows = 0
    assert source.run({"p001": ["B"], "p002": ["B"], "p003": ["C"]}) == 0
    assert source.report["sent"] == 1
    # what the failed run did not look at, the contact without a result, three of the others, and what was delivered
    assert sorted(source.reads()) == ["new", *["one"] * 6]
    assert source.labels() == {**dict.fromkeys(people(9), "A"), "p001": "B", "p002": "B", "p003": "C"}


def test_contacts_of_an_import_that_was_held_are_looked_up_once(source: Source) -> None:
    assert source.run(people(3, "A")) == 0
    source.account.outcomes = ["RejectedByWatchdog"]
    assert source.run({"p001": ["B"]}) == 1
    for names, looked_up in (({"p001": ["B"]}, 1 + 2), ({}, 2)):
        assert source.run(names) == 0
        assert source.reads().count("one") == looked_up
    assert source.report["held"] == 1
    assert run_target(source.pipeline.target, "", source.pipeline.time, release=True).code == 0
    assert source.run({}) == 0
    assert source.labels()["p001"] == "B"


# What is believed


def _empty_field(account: Any, _pipeline: Pipeline) -> None:
    account.remove_field = account.fields.pop(FIELD)
    account.add_field(FIELD)
    for contact in account.contacts.values():
        contact.data_fields.pop(FIELD, None)


def _empty_book(account: Any, _pipeline: Pipeline) -> None:
    for contact in account.contacts.values():
        contact.lists.clear()


def _leave_book(account: Any, _pipeline: Pipeline) -> None:
    account.by_email["p044@example.com"].lists.clear()


def _delete_one(account: Any, _pipeline: Pipeline) -> None:
    account.remove_contact("p044@example.com")


def _import_over(account: Any, _pipeline: Pipeline) -> None:
    for contact in account.contacts.values():
        contact.data_fields[FIELD] = "by hand"


FOUND: dict[str, Callable[[Any, Pipeline], None]] = {
    "the data field was made again": _empty_field,
    "the address book was emptied": _empty_book,
    "one contact was taken off the address book": _leave_book,
    "one contact was deleted": _delete_one,
    "labels were imported over ours": _import_over,
}


@pytest.mark.parametrize("what", slow_except({"the data field was made again", "the address book was emptied"}, FOUND))
@pytest.mark.parametrize("uploads", ["all", "none"])
def test_the_spot_check_finds_what_no_memory_can_know(source: Source, what: str, uploads: str) -> None:
    account, pipeline = source.account, source.pipeline
    pipeline.target |= {"max_change_percent": 100, "upload_emails": uploads}
    if uploads == "none":
        if what not in {"the data field was made again", "labels were imported over ours"}:
            pytest.skip("without an address book")
        account.add_field(FIELD)
        for who in people(60):
            account.add_contact(f"{who}@example.com")
    pipeline.activate()
    names = {**people(60, "A"), "p000": [], "p001": ["A", "B"]}
    # a day later, what is new in dotdigital is not read again
    assert (source.run(names), source.run({})) == (0, 0)
    FOUND[what](account, pipeline)
    assert source.run({"p002": ["C"]}) == 0
    assert source.report["checked"] == 3
    assert source.labels() == {who: ";".join(found) for who, found in (names | {"p002": ["C"]}).items()}
    if uploads == "all":
        assert source.members() == set(names)
    # and then everything is as expected again, also if it happens once more
    assert source.run({"p003": ["C"]}) == 0
    assert (source.report["sent"], "whole" in source.reads()) == (1, False)
    FOUND[what](account, pipeline)
    assert source.run({"p004": ["C"]}) == 0
    changed = {"p002": ["C"], "p003": ["C"], "p004": ["C"]}
    assert source.labels() == {who: ";".join(found) for who, found in (names | changed).items()}
    if uploads == "all":
        assert source.members() == set(names)


def test_the_spot_check_costs_three_look_ups_or_none(source: Source) -> None:
    assert source.run(people(30, "A")) == 0
    assert "every later run also looks up 3 contacts" in _review(source)
    assert source.run({}) == 0
    assert (source.reads(), source.report["checked"]) == (["new", "one", "one", "one"], 3)
    source.pipeline.target["dry_run"] = True
    assert source.run({"p001": ["B"]}) == 0
    assert (source.reads(), source.report["checked"], source.report["outcome"]) == (["new", "one", "one", "one"], 3, "dry run")
    source.pipeline.target |= {"dry_run": False, "verify_timeout": 0}
    assert source.run({"p001": ["B"]}) == 0
    assert (source.reads(), source.report["checked"]) == (["new"], 0)
    assert "looks up" not in _review(source)


def _review(source: Source) -> str:
    outcome = run_target(source.pipeline.target, "", source.pipeline.time, review=True)
    assert outcome.code == 0, outcome.log
    return outcome.output


def test_different_runs_check_different_contacts(source: Source) -> None:
    assert source.run(people(30, "A")) == 0
    checked = set()
    for _ in range(6):
        assert source.run({}) == 0
        checked |= {call.path for call in source.pipeline.sandbox.journal.calls("dotdigital", "GET") if "/email/" in call.path}
    assert len(checked) > 6


def test_what_the_target_creates_is_not_what_others_created(pipeline: Pipeline, sandbox: Sandbox) -> None:
    source = Source(pipeline)
    assert source.run(people(20, "A")) == 0
    sandbox.account.add_contact("stranger@example.com")
    pipeline.time.skipped -= DAY
    state = {"bookmarks": {"people": {"replication_key_value": "x"}}}
    outcome = pipeline.load(
        _line("STATE", value=pipeline.state) + singer([], state=state, email={}, segments={}, _sdc_deleted_at={})
    )
    assert "1 contacts were created by others" in outcome.log


# Rows by ID that reach another contact


@pytest.mark.parametrize("uploads", ["none", "with_segments"])
@pytest.mark.parametrize("who", ["nobody", "somebody of the source", "somebody who left"])
def test_a_row_that_reaches_another_contact_is_counted_and_corrected_in_the_same_run(
    source: Source, who: str, uploads: str
) -> None:
    account, pipeline = source.account, source.pipeline
    pipeline.target |= {"upload_emails": uploads, "max_change_percent": 100}
    account.add_field(FIELD)
    for one in people(9):
        account.add_contact(f"{one}@example.com")
    pipeline.activate()
    names: Names = {**people(9, "A"), "renamed": ["B"]} if who != "nobody" else people(9, "A")
    assert source.whole(names) == 0
    if who == "somebody who left":
        assert source.run({}, "renamed") == 0
        del names["renamed"]
    if "renamed@example.com" in account.by_email:
        account.remove_contact("renamed@example.com")
    _rename(account)
    # with_segments: only a contact without labels is matched by ID
    assert source.run({"p001": ["C"] if uploads == "none" else []}) == 0
    wanted = dict.fromkeys(names, "A") | {"renamed": "B" if who == "somebody of the source" else ""}
    assert source.labels() == {one: value for one, value in wanted.items() if one != "p001"}
    sent = source.report["sent"]
    assert sent == source.report["updated"]
    # with an address book, its size has shown before that a contact is gone
    assert sent == 2 if uploads == "none" else sent == 1
    assert source.run({"p002": ["A"]}) == 0
    assert source.report["sent"] == 0


def test_two_rows_about_one_contact_whose_address_changed(source: Source) -> None:
    """The old and the new address change on one day: matched by ID, both rows would be about the same contact."""
    account, pipeline = source.account, source.pipeline
    pipeline.target |= {"upload_emails": "none", "max_change_percent": 100}
    account.add_field(FIELD)
    for one in people(9):
        account.add_contact(f"{one}@example.com")
    pipeline.activate()
    assert source.whole(people(9, "A")) == 0
    _rename(account)
    assert source.run({"p001": ["C"], "renamed": ["D"]}) == 0
    assert (source.labels()["renamed"], source.report["rejected"]) == ("D", 0)
    assert source.run({}, "p001") == 0
    assert source.labels()["renamed"] == "D"


def test_a_contact_that_left_and_whose_id_belongs_to_another(source: Source) -> None:
    account, pipeline = source.account, source.pipeline
    pipeline.target |= {"max_change_percent": 100, "verify_timeout": 0}
    assert source.whole({**people(9, "A"), "renamed": ["B"]}) == 0
    account.remove_contact("renamed@example.com")
    _rename(account)
    assert source.run({}, "p001") == 0
    assert source.labels()["renamed"] == "B"
    assert (source.report["sent"], source.report["updated"]) == (2, 2)


def _rename(account: Any) -> None:
    contact = account.by_email.pop("p001@example.com")
    contact.email = "renamed@example.com"
    account.by_email[contact.email] = contact


def test_a_row_of_an_earlier_run_that_reached_another_contact_is_corrected(source: Source) -> None:
    account, pipeline = source.account, source.pipeline
    pipeline.target |= {"upload_emails": "none", "max_change_percent": 100, "import_timeout": 60}
    account.add_field(FIELD)
    for one in people(9):
        account.add_contact(f"{one}@example.com")
    pipeline.activate()
    assert source.whole(people(9, "A")) == 0
    _rename(account)
    account.import_polls = 10_000
    assert source.run({"p001": ["C"]}) == 1
    account.import_polls = 0
    account.settle()
    assert account.by_email["renamed@example.com"].data_fields[FIELD] == "C"
    assert source.run({"p001": ["C"]}) == 0
    assert source.labels()["renamed"] == ""
    assert (source.report["sent"], source.report["updated"]) == (2, 2)


# Membership that does not come true


KEPT_OUT: dict[str, Callable[[Contact], bool]] = {
    "suppressed": lambda contact: contact.status == "suppressed",
    "without a reason": lambda contact: contact.email == "p002@example.com",
}


@pytest.mark.parametrize("why", KEPT_OUT)
def test_one_contact_that_dotdigital_lets_into_no_address_book_fails_no_run(source: Source, why: str) -> None:
    account = source.account
    account.kept_out = KEPT_OUT[why]
    account.add_contact("p002@example.com", status="suppressed" if why == "suppressed" else "subscribed")
    findings, sent = [], []
    for names in (people(4, "A"), people(3, "B"), people(3, "C"), {"p001": ["D"]}, {}, {}):
        source.pipeline.target["max_change_percent"] = 100
        assert source.run(names) == 0
        findings += [one for one in source.report["problems"] if "did not put them into the address book" in one]
        sent.append(source.report["sent"])
    assert sent[0] == 4
    # it is delivered once more, and then no more for this
    assert sum(sent) <= 4 + 3 + 3 + 1 + 1
    assert sent[-2:] == [0, 0]
    assert len(findings) == 1
    assert source.labels() == {"p000": "C", "p001": "D", "p002": "C", "p003": "A"}
    assert source.members() == {"p000", "p001", "p003"}
    # as soon as dotdigital lets it in, reconcile is the way to try once more
    account.kept_out = lambda _contact: False
    outcome = run_target(source.pipeline.target, "", source.pipeline.time, reconcile=True)
    assert (outcome.code, "0  removed from the address book" in outcome.output) == (0, True)
    assert source.run({}) == 0
    assert source.members() == {"p000", "p001", "p002", "p003"}


def test_contacts_none_of_which_dotdigital_lets_into_the_address_book_fail_one_run(source: Source) -> None:
    account = source.account
    account.kept_out = lambda _contact: True
    for email in people(3):
        account.add_contact(f"{email}@example.com")
    source.pipeline.target["max_change_percent"] = 100
    # the address book may be the wrong one
    assert source.run(people(3, "A")) == 1
    findings, sent = [], []
    for names in (people(3, "A"), {}, {"p001": ["B"]}, {}, {}):
        assert source.run(names) == 0
        findings += [one for one in source.report["problems"] if "did not put them into the address book" in one]
        sent.append(source.report["sent"])
    assert sent == [3, 0, 1, 0, 0]
    assert [one.partition(" twice")[0] for one in findings] == ["dotdigital confirmed 3 contacts"]
    assert source.labels() == {"p000": "A", "p001": "B", "p002": "A"}
    # and from then on it is no reason to overlook that nothing comes into it
    for _ in range(3):
        assert source.run(people(15, "A")) == 1
    account.kept_out = lambda _contact: False
    assert source.run(people(15, "A")) == 0
    assert source.members() == set(people(15)) - set(people(3))


def test_contacts_that_have_yet_to_confirm_are_not_taken_off_every_day(source: Source) -> None:
    """With double opt-in enforced, new contacts come onto the list when they confirm."""
    account = source.account
    account.deviations.add("new_contacts_pending")
    account.kept_out = lambda contact: contact.status == "pendingOptIn"
    source.pipeline.target["max_change_percent"] = 100
    sent = []
    for number in range(5):
        assert source.run({**people(20, "A"), f"p{number:03d}": ["B"]} if number == 0 else {f"p{number:03d}": ["B"]}) == 0
        sent.append(source.report["sent"])
    # each once more, and then only for other labels
    assert (sum(sent[:-1]) <= 20 + 20 + 3, sent[-1]) == (True, 1)
    assert source.members() == set()
    # they confirm
    book = account.book_named(BOOK)
    assert book is not None
    for contact in account.contacts.values():
        contact.status = "subscribed"
        contact.lists.add(book.id)
    assert source.run({}) == 0
    assert (source.report["sent"], source.reads()[-1]) == (0, "whole")
    assert source.run({}) == 0
    assert "whole" not in source.reads()
    # and somebody takes one off: it comes back
    account.by_email["p007@example.com"].lists.clear()
    assert source.run({}) == 0
    assert source.members() == set(people(20))


def test_an_address_book_that_stays_empty_is_no_success(source: Source) -> None:
    source.account.deviations.add("ignores_lists")
    assert source.run(people(4, "A")) == 1
    source.account.deviations.clear()
    assert source.run({}) == 0
    assert source.members() == set(people(4))


def test_a_look_up_that_fails_is_no_success_and_stops_no_delivery(source: Source) -> None:
    assert source.run(people(9, "A")) == 0
    source.account.edit("p005@example.com", FIELD, "Z")
    source.pipeline.sandbox.faults.add(Fault("answer", path="/contacts/v3/email/", times=999, response=answer(500)))
    assert source.run({"p001": ["B"]}) == 1
    # the whole account is read back instead, and what was delivered cannot be looked up
    assert (source.labels()["p001"], source.labels()["p005"]) == ("B", "A")
    assert source.report["outcome"] == "failed"
    source.pipeline.sandbox.faults.clear()
    assert source.run({"p001": ["B"]}) == 0
    assert source.labels()["p001"] == "B"
