"""What the sync does when dotdigital behaves otherwise than its documents, or our reading of them, say.

Each switch of the sandbox breaks one assumption; `support.deviation_table` says what is expected. The sync then goes through a review, the activation, a first load, a day with
changes and the same day again. It must lose nothing, claim nothing that is not so, and never write consent itself (every request of
these tests is held against `support.wire`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import Fault
from nosto_dotdigital_sandbox.deviations import DOTDIGITAL, LIVE
from nosto_dotdigital_sandbox.faults import answer
from support.cases import slow_except
from support.deviation_table import DEVIATIONS, Sync, deviations_that
from support.oracle import BOOK, FIELD, assert_account, expected, folded
from support.running import Outcome, Pipeline, run_target

if TYPE_CHECKING:
    from pathlib import Path

    from nosto_dotdigital_sandbox import Contact, Sandbox
    from support.running import FakeTime

LONG = [f"Affinity: {'long ' * 8}{number}" for number in range(8)]
FIRST = {
    "new@example.com": ["VIP"],
    "plain@example.com": [],
    "long@example.com": LONG,
    "text@example.com": [' "Men\'s" \U0001f45f, Sale '],
    "invalid@example.com": ["VIP"],
    "unsubscribed@example.com": ["VIP"],
    "suppressed@example.com": ["VIP"],
    "double@example.com": ["VIP"],
    "leaver@example.com": ["Loyal", "VIP"],
    "changer@example.com": ["VIP"],
    "removed@example.com": ["VIP"],
    "deleted@example.com": ["VIP"],
}
SECOND = {
    **{email: names for email, names in FIRST.items() if email not in {"removed@example.com", "deleted@example.com"}},
    "unsubscribed@example.com": ["Loyal"],
    "suppressed@example.com": ["Loyal"],
    "double@example.com": ["Loyal"],
    "leaver@example.com": [],
    "changer@example.com": ["Loyal"],
    "late@example.com": ["VIP"],
    "empty@example.com": [],
}
# the words of a report that claimed something about what the sync does not read
CLAIMS = ("consent", "opt-in", "opt_in", "preference", "FIRSTNAME", "Newsletter")


def export(rows: dict[str, list[str]]) -> bytes:
    return "".join(
        json.dumps({"email": email, "names": names}, ensure_ascii=False) + "\n" for email, names in rows.items()
    ).encode()


@dataclass(slots=True)
class Story:
    """The first days of a sync with an account that holds contacts already.

    Args:
        sandbox: the sandbox.
        pipeline: the pipeline, not activated.
        before: the contacts of before the first run.
    """

    sandbox: Sandbox
    pipeline: Pipeline
    before: dict[str, Contact]
    export: bytes = b""

    def first_load(self) -> Outcome:
        self.export = self.pipeline.export(export(FIRST))
        return self.pipeline.run()

    def changes(self) -> Outcome:
        """Run a day with changes; a contact that the export no longer has was deleted in dotdigital as well."""
        if "deleted@example.com" in self.sandbox.account.by_email:
            self.sandbox.account.remove_contact("deleted@example.com")
        self.export = self.pipeline.export(export(SECOND), day=1)
        return self.pipeline.run()

    def full_refresh(self) -> Outcome:
        self.pipeline.state = None
        return self.pipeline.run()

    def wrong(self) -> set[str]:
        """Return the contacts whose labels or address book are not what the export says, and removed ones that have labels."""
        account = self.sandbox.account
        book = account.book_named(BOOK)
        contacts = folded(account.snapshot())
        wanted = expected(self.export)
        wrong = {
            email
            for email, names in wanted.items()
            if email not in contacts
            or contacts[email].data_fields.get(FIELD, "") != ";".join(names)
            or book is None
            or book.id not in contacts[email].lists
        }
        return wrong | {email for email, one in contacts.items() if email not in wanted and one.data_fields.get(FIELD)}

    def assert_right(self) -> None:
        """Compare the whole account, consent and other data included, with what is wanted."""
        wanted = expected(self.export)
        gone = {"removed@example.com"} & set(self.sandbox.account.by_email) - set(wanted)
        assert_account(self.sandbox, wanted, self.before, sorted(gone))

    @property
    def report(self) -> dict[str, Any]:
        """The last run's report; every row that it says was sent has one result."""
        report = self.pipeline.report
        assert report["sent"] == sum(report[name] for name in ("created", "updated", "rejected", "unconfirmed"))
        return report


@pytest.fixture
def story(sandbox: Sandbox, tmp_path: Path, time: FakeTime) -> Story:
    account = sandbox.account
    newsletter = next(iter(account.books))
    # small pages, so that every reading of the account has several
    account.page_limit = 5
    account.add_contact("unsubscribed@example.com", status="unsubscribed", data_fields={"FIRSTNAME": "Ada"}, lists={newsletter})
    account.add_contact("suppressed@example.com", status="suppressed", opt_in_type="Double", preferences={7: True})
    account.add_contact("double@example.com", opt_in_type="VerifiedDouble", lists={newsletter}, preferences={8: False})
    for number in range(6):
        account.add_contact(f"other{number}@example.org", lists={newsletter}, data_fields={"LASTNAME": "Hopper"})
    return Story(sandbox, Pipeline(sandbox, tmp_path, time), account.snapshot())


def test_without_a_switch_every_day_is_right(story: Story) -> None:
    story.pipeline.activate()
    for run in (story.first_load, story.changes, story.pipeline.run, story.full_refresh):
        assert run().code == 0
        story.assert_right()
    assert story.report["sent"] == 0


@pytest.mark.parametrize(("switch", "said"), deviations_that(Sync.CANNOT_READ))
def test_a_run_that_cannot_read_the_account_writes_nothing(story: Story, switch: str, said: str) -> None:
    story.sandbox.account.deviations.add(switch)
    for run in (story.first_load, story.changes, story.pipeline.run):
        outcome = run()
        assert outcome.code == 1
        assert said in outcome.errors[-1]
        assert story.report["outcome"] == "failed"
    assert story.pipeline.state is None
    assert story.sandbox.journal.writes() == []
    assert story.sandbox.account.snapshot() == story.before
    _assert_it_recovers(story)


def test_a_data_field_of_another_name_is_not_written_to(story: Story) -> None:
    story.pipeline.activate()
    story.sandbox.account.deviations.add("renames_fields")
    for run in (story.first_load, story.changes, story.pipeline.run):
        outcome = run()
        assert outcome.code == 1
        assert "another data field than NOSTOSEGMENT" in outcome.errors[-1]
        assert story.report["outcome"] == "failed"
    assert story.pipeline.state is None
    assert story.sandbox.journal.imports() == []
    _assert_it_recovers(story)


@pytest.mark.parametrize(("switch", "confirmed"), deviations_that(Sync.LEAVES_PENDING))
def test_what_is_not_confirmed_stays_pending(story: Story, switch: str, confirmed: int) -> None:
    if switch == "invalid_address_fails_import":
        story.sandbox.account.refuse = _refuse_one
    story.pipeline.activate()
    story.sandbox.account.deviations.add(switch)
    assert story.first_load().code == 1
    report = story.report
    assert (report["outcome"], report["created"] + report["updated"] + report["rejected"]) == ("failed", confirmed)
    assert report["unconfirmed"] == report["left_for_later"] == len(FIRST) - confirmed
    assert report["problems"]
    assert story.changes().code == 1
    assert story.report["left_for_later"] > 0
    assert story.pipeline.state is None
    story.sandbox.account.refuse = lambda _email: None
    _assert_it_recovers(story)


@pytest.mark.parametrize(("switch", "created"), deviations_that(Sync.LOOKS_UP_DELETED))
def test_a_deleted_contact_whose_deletion_is_not_confirmed_is_looked_up(story: Story, switch: str, created: int) -> None:
    account = story.sandbox.account
    # without the spot check, which finds that the address book has lost a contact
    story.pipeline.target["verify_timeout"] = 0
    story.pipeline.activate()
    account.deviations.add(switch)
    assert story.first_load().code == 0
    state = story.pipeline.state
    assert story.changes().code == 1
    report = story.report
    assert (report["outcome"], report["unconfirmed"], report["left_for_later"]) == ("failed", 1, 1)
    assert story.pipeline.state == state
    assert story.pipeline.run().code == 0
    assert story.report["sent"] == 0
    without_address = [number for number, one in account.contacts.items() if not one.email]
    assert len(without_address) == created
    for number in without_address:
        del account.contacts[number]
    assert story.full_refresh().code == 0
    story.assert_right()


@pytest.mark.parametrize(("switch", "detail"), deviations_that(Sync.REJECTS))
def test_what_is_rejected_is_reported_and_the_rest_is_delivered(story: Story, switch: str, detail: tuple[str, set[str]]) -> None:
    code, rejected = detail
    story.sandbox.account.deviations.add(switch)
    if switch == "capitals_refused":
        story.sandbox.account.by_email["double@example.com"].email = "Double@example.com"
    story.pipeline.activate()
    for run in (story.first_load, story.changes, story.pipeline.run):
        assert run().code == 0
        today = rejected & set(expected(story.export))
        assert story.wrong() == today
        lines = (story.pipeline.folder / "reports" / "rejected.singer.jsonl").read_text().splitlines()[1:]
        listed = {(line["record"]["email"], line["record"]["reason"]) for line in map(json.loads, lines)}
        assert listed - {("deleted@example.com", "invalidContactId")} == {(email, code) for email in today}
        assert story.report["still_rejected"] == len(listed)


# those that a full refresh or the reading of the account has to cope with
@pytest.mark.parametrize(
    ("switch", "sent"),
    slow_except(
        {
            *(("list_filter_ignored", 0), ("report_without_ids", 0), ("read_back_lags", 0)),
            *(("include_lists_missing", 12), ("paging_stops_early", 9)),
        },
        deviations_that(Sync.DELIVERS),
    ),
)
def test_the_account_is_right_all_the_same(story: Story, switch: str, sent: int) -> None:
    story.sandbox.account.deviations.add(switch)
    story.pipeline.activate()
    for run in (story.first_load, story.changes, story.pipeline.run, story.full_refresh):
        assert run().code == 0
        story.assert_right()
    assert story.report["sent"] <= sent


@pytest.mark.parametrize("switch", [None, "created_filter_ignored"])
def test_a_contact_that_comes_back_gets_its_labels(story: Story, switch: str | None) -> None:
    come_back(story, switch)
    answers = [call.answer or b"" for call in story.sandbox.journal.calls("dotdigital", "GET") if call.path == "/contacts/v3"]
    read = sum(body.count(b'"contactId"') for body in answers)
    # with the filter ignored, the whole account is read
    assert read == (1 if switch is None else len(story.sandbox.account.contacts))
    assert story.report["sent"] == 1
    assert story.wrong() == set()


@pytest.mark.parametrize("cure", ["reconcile", "full refresh"])
def test_a_contact_that_comes_back_and_is_not_shown_waits_until_the_account_is_read(story: Story, cure: str) -> None:
    # without the spot check, which finds that the address book has lost a contact
    story.pipeline.target["verify_timeout"] = 0
    come_back(story, "created_filter_shows_nothing")
    assert (story.report["sent"], story.report["problems"]) == (0, [])
    assert story.wrong() == {"new@example.com"}
    if cure == "reconcile":
        assert run_target(story.pipeline.target, "", story.pipeline.time, reconcile=True).code == 0
        assert story.pipeline.run().code == 0
    else:
        assert story.full_refresh().code == 0
    assert story.wrong() == set()


def come_back(story: Story, switch: str | None) -> None:
    """Delete a contact in dotdigital some time after the last run, create it again, and run without any change in the source."""
    story.pipeline.activate()
    for run in (story.first_load, story.changes, story.pipeline.run):
        assert run().code == 0
    if switch is not None:
        story.sandbox.account.deviations.add(switch)
    story.sandbox.account.remove_contact("new@example.com")
    story.pipeline.time.skipped += 86_400
    story.sandbox.account.add_contact("new@example.com")
    story.sandbox.journal.clear()
    assert story.pipeline.run().code == 0


def test_a_removed_contact_that_a_full_refresh_cannot_see_is_cleared_by_a_later_one(story: Story) -> None:
    account = story.sandbox.account
    account.reads_behind = 99
    story.pipeline.target["verify_timeout"] = 0
    story.pipeline.activate()
    account.deviations.add("read_back_lags")
    assert story.first_load().code == 0
    story.pipeline.state = None
    assert story.changes().code == 0
    assert story.report["unknown_to_dotdigital"] == 2
    assert story.wrong() == {"removed@example.com"}
    account.deviations.clear()
    assert story.full_refresh().code == 0
    story.assert_right()


def test_the_review_says_that_programs_are_hidden(story: Story) -> None:
    story.sandbox.account.programs.append({"id": 1, "name": "Welcome", "status": "Active", "dateCreated": "2026-01-01T09:00:00Z"})
    assert story.first_load().code == 1
    assert story.report["active_programs"] == ["Welcome"]
    story.sandbox.account.deviations.add("programs_hidden")
    assert story.first_load().code == 1
    assert story.report["active_programs"] is None


def test_a_limit_without_headers_is_waited_for(story: Story) -> None:
    story.sandbox.account.deviations.add("no_rate_limit_headers")
    story.pipeline.target["contacts_per_import"] = 1
    story.pipeline.activate()
    story.sandbox.limits.per_minute["low"] = 10
    assert story.first_load().code == 0
    assert story.sandbox.limits.refused > 0
    story.assert_right()


def test_an_invalid_address_that_is_accepted_is_reported_as_created(story: Story) -> None:
    story.sandbox.account.refuse = _refuse_one
    story.pipeline.activate()
    story.sandbox.account.deviations.add("invalid_address_accepted")
    assert story.first_load().code == 0
    assert (story.report["created"], story.report["rejected"]) == (len(FIRST) - 3, 0)
    story.assert_right()


@pytest.mark.parametrize(
    ("switch", "at_first"),
    slow_except({("ignores_lists", True), ("cuts_at_255", True), ("ignores_null", False)}, deviations_that(Sync.FAILS_LOOK_UP)),
)
def test_what_dotdigital_confirms_and_does_not_hold_is_no_success(story: Story, switch: str, at_first: bool) -> None:  # noqa: FBT001 - a case
    story.pipeline.activate()
    story.sandbox.account.deviations.add(switch)
    assert story.first_load().code == int(at_first)
    state = story.pipeline.state
    for run in (story.changes, story.pipeline.run):
        outcome = run()
        assert outcome.code == 1
        assert "that were looked up do not hold what was sent" in outcome.errors[-1]
        assert (story.report["outcome"], story.pipeline.state) == ("failed", state)
        assert story.report["left_for_later"] == 0 or story.report["problems"]
    _assert_it_recovers(story)


def test_a_run_that_cannot_look_leaves_that_to_the_next(story: Story) -> None:
    story.pipeline.activate()
    assert story.first_load().code == 0
    state = story.pipeline.state
    story.sandbox.account.deviations.add("ignores_null")
    # the imports end, and then no contact can be looked up
    faults = story.sandbox.faults

    def forbid(_request: object) -> None:
        faults.add(Fault("answer", path="/contacts/v3/email/", times=999, response=answer(500)))

    faults.add(Fault("rewrite", method="PUT", rewrite=lambda response: response, after=forbid))
    assert story.changes().code == 1
    assert (story.report["unconfirmed"], story.pipeline.state) == (0, state)
    story.sandbox.faults.clear()
    outcome = story.pipeline.run()
    assert outcome.code == 1
    assert "does not hold what it confirmed to an earlier run" in outcome.log
    assert "do not hold what was sent" in outcome.errors[-1]
    _assert_it_recovers(story)


def test_a_run_that_could_not_look_is_looked_after_once(story: Story) -> None:
    story.pipeline.activate()
    story.sandbox.faults.add(Fault("answer", path="/contacts/v3/email/", times=999, response=answer(500)))
    assert story.first_load().code == 1
    story.sandbox.faults.clear()
    looked_up = []
    for _ in range(2):
        story.sandbox.journal.clear()
        assert story.pipeline.run().code == 0
        assert story.sandbox.journal.imports() == []
        looked_up.append(sum("/email/" in call.path for call in story.sandbox.journal.calls("dotdigital", "GET")))
    story.assert_right()
    # the first run reads the whole account, the second looks up contacts for the spot check
    assert looked_up == [0, 3]


def test_a_run_that_ends_after_it_created_a_field_leaves_no_new_field_for_a_filled_one(story: Story) -> None:
    story.pipeline.activate()
    assert story.first_load().code == 0
    account = story.sandbox.account
    del account.fields[FIELD]
    for contact in account.contacts.values():
        contact.data_fields.pop(FIELD, None)
    # the field is created, and the run ends before it knows
    story.sandbox.faults.add(Fault("drop_after", method="POST", path="/v2/data-fields", times=999))
    assert story.changes().code == 1
    assert FIELD in account.fields
    story.sandbox.faults.clear()
    assert story.pipeline.run().code == 0
    story.assert_right()


def test_an_id_that_is_that_of_another_contact_is_not_cleared_by(story: Story) -> None:
    story.pipeline.activate()
    story.sandbox.account.deviations.add("reuses_ids")
    for run in (story.first_load, story.changes):
        assert run().code == 1
        assert story.pipeline.state is None
    # the account is read back, so that the IDs are the right ones
    assert story.pipeline.run().code == 0
    assert story.wrong() == set()
    _assert_it_recovers(story)


def test_what_becomes_visible_later_is_waited_for(story: Story) -> None:
    story.pipeline.activate()
    story.sandbox.account.reads_behind = 4
    story.sandbox.account.deviations.add("read_back_lags")
    waited = story.pipeline.time.seconds
    assert story.first_load().code == 0
    assert story.pipeline.time.seconds - waited < 120
    story.sandbox.account.reads_behind = 999
    outcome = story.changes()
    assert outcome.code == 1
    assert "not even after 120 s" in outcome.errors[-1]


def test_what_is_created_as_public_is_said_before_a_contact_is_written(story: Story) -> None:
    story.pipeline.activate()
    story.sandbox.account.deviations.add("creates_public")
    outcome = story.first_load()
    assert outcome.code == 1
    assert "created the address book and the data field NOSTOSEGMENT as public" in outcome.errors[-1]
    assert story.sandbox.journal.imports() == []
    assert story.pipeline.state is None
    # the operator has been told, and has made both private
    _assert_it_recovers(story)


def test_two_contacts_of_one_address_in_other_capitals_are_no_success(story: Story) -> None:
    account = story.sandbox.account
    account.deviations.add("distinguishes_capitals")
    account.add_field(FIELD)
    account.add_contact("NEW@example.com", data_fields={FIELD: "Old"})
    story.pipeline.activate()
    assert story.first_load().code == 0
    report = story.report
    assert report["outcome"] == "partly delivered"
    assert "created 1 contacts that it had listed at the beginning of this run" in " ".join(report["problems"])
    assert story.full_refresh().code == 0
    report = story.report
    assert report["outcome"] == "partly delivered"
    assert "holds 1 addresses twice" in " ".join(report["problems"])


def test_an_address_book_that_is_not_shown_in_full_is_no_success(story: Story) -> None:
    story.pipeline.activate()
    assert story.first_load().code == 0
    account = story.sandbox.account
    book = account.book_named(BOOK)
    assert book is not None
    for number in range(40):
        account.add_contact(f"more{number}@example.org", lists={book.id}, data_fields={FIELD: "Old"})
    account.deviations.add("paging_stops_early")
    assert story.full_refresh().code == 0
    report = story.report
    assert report["outcome"] == "partly delivered"
    assert "contacts more than dotdigital showed" in " ".join(report["problems"])
    account.deviations.clear()
    story.pipeline.target |= {"max_clear_percent": 100, "max_change_percent": 100}
    assert story.full_refresh().code == 0
    assert story.report["outcome"] == "delivered"
    assert story.wrong() == set()


@pytest.mark.parametrize("what", ["data field", "address book"])
def test_what_somebody_deleted_in_dotdigital_is_filled_again(story: Story, what: str) -> None:
    story.pipeline.activate()
    assert story.first_load().code == 0
    account = story.sandbox.account
    book = account.book_named(BOOK)
    assert book is not None
    if what == "data field":
        del account.fields[FIELD]
        for contact in account.contacts.values():
            contact.data_fields.pop(FIELD, None)
    else:
        del account.books[book.id]
        for contact in account.contacts.values():
            contact.lists.discard(book.id)
    assert story.changes().code == 0
    story.assert_right()
    assert story.pipeline.run().code == 0
    assert story.report["sent"] == 0


# one of consent, one of suppression, one of address books
@pytest.mark.parametrize(
    "switch",
    slow_except(
        {"resets_status", "resubscribes", "replaces_lists"}, [switch for switch, _ in deviations_that(Sync.DOES_NOT_READ_IT)]
    ),
)
def test_the_report_claims_nothing_about_what_the_sync_does_not_read(story: Story, switch: str) -> None:
    story.sandbox.account.deviations.add(switch)
    story.pipeline.activate()
    for run in (story.first_load, story.changes, story.pipeline.run):
        assert run().code == 0
        assert story.wrong() == set(), "the labels are right"
        facts = json.dumps(story.report)
        page = (story.pipeline.folder / "reports" / "report.html").read_text()
        assert not [word for word in CLAIMS if word in facts + page]
        assert "subscribed" not in facts
        with pytest.raises(AssertionError):
            story.assert_right()


# `new_contacts_wait` is about contacts that no run can add to the address book
LIVE_AND_RIGHT = sorted(set(LIVE) - {"new_contacts_wait"})


@pytest.mark.parametrize("switch", slow_except({"refuses_calls", "codes_in_words", "stores_punycode"}, LIVE_AND_RIGHT))
def test_what_the_live_service_does_beside_its_documents_costs_no_contact(story: Story, switch: str) -> None:
    story.sandbox.account.deviations.add(switch)
    story.sandbox.account.refuse = _refuse_one
    story.pipeline.activate()
    for run in (story.first_load, story.changes, story.pipeline.run, story.full_refresh):
        assert run().code == 0
        assert story.wrong() == {"invalid@example.com"}
        assert story.report["still_rejected"] >= 1


def test_every_switch_is_tested() -> None:
    assert set(DEVIATIONS) == set(DOTDIGITAL)


def _refuse_one(email: str) -> str | None:
    return "invalidEmail" if email == "invalid@example.com" else None


def _assert_it_recovers(story: Story) -> None:
    """Show that nothing was lost: as soon as the service follows its documents, the next run makes the account right."""
    story.sandbox.account.deviations.clear()
    if "activation_code" not in story.pipeline.target:
        story.pipeline.activate()
    assert story.pipeline.run().code == 0
    story.assert_right()
