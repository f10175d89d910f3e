"""Safe to switch on and to run: nothing is written without activation, under a brake or in a dry run; what was done can be undone."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from nosto_dotdigital_sandbox import Fault, Shop
from nosto_dotdigital_sandbox.faults import answer
from support.cases import slow_except
from support.oracle import FIELD, expected, folded
from support.running import Pipeline, run_target, singer
from support.wire import contacts_sent
from target_dotdigital.ledger.schema import METADATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from nosto_dotdigital_sandbox import Sandbox

LEDGERS, SLOW_LEDGERS = ["sqlite"], ["postgresql"]


def people(count: int, names: list[str] | None = None) -> list[dict[str, Any]]:
    return [{"email": f"p{number:04d}@example.com", "segments": ["A"] if names is None else names} for number in range(count)]


def lose_ledger(pipeline: Pipeline) -> None:
    """Drop everything that the ledger holds."""
    for path in pipeline.folder.glob("ledger.db*"):
        path.unlink()
    if pipeline.target["ledger_url"].startswith("postgresql"):
        engine = sa.create_engine(pipeline.target["ledger_url"])
        METADATA.drop_all(engine)
        engine.dispose()


def ledger_rows(pipeline: Pipeline) -> list[Any]:
    """Give everything that the ledger holds."""
    engine = sa.create_engine(pipeline.target["ledger_url"])
    with engine.connect() as connection:
        rows = [tuple(row) for table in METADATA.sorted_tables for row in connection.execute(table.select())]
    engine.dispose()
    return sorted(rows, key=repr)


def values(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    return {email: contact.data_fields for email, contact in folded(sandbox.account.snapshot()).items()}


# Activation


@pytest.mark.parametrize(
    "change",
    [
        {"data_field": "OTHERFIELD"},
        {"address_book": "Another book"},
        {"upload_emails": "none"},
        {"segment_delimiter": "|"},
        {"enclose_segments": True},
        {"max_value_length": 255},
        {"overflow": "fail"},
        {"segment_priority": ["A"]},
        {"segment_labels": {"A": "B"}},
        {"synced_at_field": "SYNCED"},
        {"on_removed": "keep"},
        {"activation_code": "WRONG"},
        {"activation_code": None},
    ],
)
def test_another_choice_asks_again_and_writes_nothing(pipeline: Pipeline, change: dict[str, Any]) -> None:
    assert pipeline.load(singer(people(3))).code == 0
    before = pipeline.sandbox.account.snapshot()
    pipeline.sandbox.journal.clear()
    pipeline.target |= change
    outcome = pipeline.load(singer(people(3, ["C"])))
    assert (outcome.code, outcome.output) == (1, "")
    assert "activation_code" in outcome.errors[-1]
    assert pipeline.sandbox.journal.writes() == []
    assert pipeline.sandbox.account.snapshot() == before


def test_the_code_lives_through_the_making_of_the_book_and_is_the_same_in_any_spelling(pipeline: Pipeline) -> None:
    assert pipeline.load(singer(people(1))).code == 0
    pipeline.target["activation_code"] = f" {pipeline.target['activation_code'].lower()} "
    assert pipeline.load(singer(people(2))).code == 0


def test_the_review_names_everything(pipeline: Pipeline, sandbox: Sandbox) -> None:
    account = sandbox.account
    account.add_contact("p0000@example.com", data_fields={"FIRSTNAME": "x"})
    account.add_field(FIELD)
    account.add_contact("p0001@example.com", data_fields={FIELD: "A"}, lists={account.add_book("Nosto contacts").id})
    account.add_contact("p0002@example.com", data_fields={FIELD: "old"})
    account.programs += [
        {"id": 1, "name": "Welcome", "status": "Active", "dateCreated": "2026-01-01T09:00:00Z"},
        {"id": 2, "name": "Old", "status": "Draft", "dateCreated": "2026-01-01T09:00:00Z"},
    ]
    pipeline.target |= {"activation_code": None, "max_value_length": 20, "max_contacts_per_run": 2}
    records = [
        *people(2),
        {"email": "p0002@example.com", "segments": []},
        {"email": "new@example.com", "segments": ["VIP", "VIP Lapsed" * 3]},
    ]
    outcome = pipeline.load(singer([*records, {"email": "bad", "segments": []}]))
    assert outcome.code == 1
    text = (pipeline.folder / "reports" / "review.txt").read_text()
    for words in (
        *("Demo shop (id 101)", sandbox.home_url, "Nosto contacts (id", "1 contacts)", "NOSTOSEGMENT"),
        *("1  contacts would be created", "1  contacts would get different labels", "1  contacts would lose all labels"),
        *("1  contacts are unchanged", "1  records would be left out", "'Welcome'", "'VIP' is part of", "VIP LapsedVIP Lapsed"),
        *("; the account allows 1,000", "2 contacts in the first run", "join actions", "double opt-in", "subscribed"),
        f"activation_code: {pipeline.report['activation_code']}",
    ):
        assert words in text, words
    assert "'Old'" not in text
    assert "@example.com" not in text + outcome.log


def test_a_user_who_may_not_see_programs_gets_the_review_all_the_same(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.deviations.add("programs_hidden")
    pipeline.target["activation_code"] = None
    pipeline.load(singer(people(1)))
    assert "not visible to this API user" in (pipeline.folder / "reports" / "review.txt").read_text()


def test_the_review_tells_what_is_left_of_the_old_hourly_limit(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.limits.flat = 1985
    pipeline.target["activation_code"] = None
    pipeline.load(singer(people(1)))
    assert "1,985 calls left in this hour" in (pipeline.folder / "reports" / "review.txt").read_text()


def test_the_review_command(pipeline: Pipeline) -> None:
    outcome = run_target(pipeline.target, "", pipeline.time, review=True)
    assert outcome.code == 1, "an empty ledger has nothing to agree to"
    assert outcome.errors[-1].startswith("There is nothing to review yet")
    assert "activation_code" not in outcome.output + outcome.log
    assert pipeline.load(singer(people(3))).code == 0
    pipeline.sandbox.journal.clear()
    outcome = run_target(pipeline.target, "", pipeline.time, review=True)
    assert outcome.code == 0, outcome.log
    assert "pending for the next run" in outcome.output
    assert "already active for these settings" in outcome.output
    assert "3  'A'" in outcome.output
    assert pipeline.sandbox.journal.writes() == []


def test_an_address_book_with_a_number_for_a_name_has_another_code_than_the_id(pipeline: Pipeline, sandbox: Sandbox) -> None:
    book = sandbox.account.add_book("By ID")
    pipeline.target |= {"address_book": str(book.id)}
    code = pipeline.activate()
    pipeline.target |= {"address_book_id": book.id}
    assert pipeline.activate() != code


def test_labels_that_the_settings_cannot_express_are_not_restored(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert pipeline.load(singer(people(3))).code == 0
    assert pipeline.load(singer(people(3, ["B"]))).code == 0
    run, before = pipeline.report["run"], values(sandbox)
    # the same data field, but the before-images have its former spelling
    pipeline.target |= {"data_field": FIELD.lower()}
    pipeline.activate()
    outcome = run_target(pipeline.target, "", pipeline.time, restore=True, run=run)
    assert outcome.code == 1
    assert FIELD in outcome.errors[-1]
    assert "defect" not in outcome.log
    assert values(sandbox) == before


@pytest.mark.parametrize("label", ["", " ", "\u200b"])
def test_a_blank_label_is_refused(pipeline: Pipeline, label: str) -> None:
    pipeline.target["segment_labels"] = {"A": label}
    outcome = pipeline.load(singer(people(1)))
    assert (outcome.code, outcome.output) == (1, "")
    assert "segment_labels" in outcome.errors[-1]
    assert pipeline.sandbox.journal.calls() == []


def test_a_review_that_is_no_longer_true_is_removed(pipeline: Pipeline) -> None:
    path = pipeline.folder / "reports" / "review.txt"
    code = pipeline.target.pop("activation_code")
    pipeline.load(singer(people(3)))
    assert path.exists()
    password, pipeline.target["api_password"] = pipeline.target["api_password"], "wrong"
    pipeline.load(singer(people(3)))
    assert path.exists(), "a run that does not get that far leaves it as it is"
    pipeline.target |= {"api_password": password, "activation_code": code}
    assert pipeline.load(singer(people(3))).code == 0
    assert not path.exists()
    # a review that cannot be made leaves none of other settings
    pipeline.target |= {"activation_code": None, "data_field": "OTHERFIELD"}
    pipeline.load(singer(people(3)))
    assert "OTHERFIELD" in path.read_text()
    pipeline.target["data_field"] = "THIRDFIELD"
    pipeline.sandbox.faults.add(Fault("answer", path="programs", times=9, response=answer(503)))
    assert pipeline.load(singer(people(3))).code == 1
    assert pipeline.report["outcome"] == "failed"
    assert not path.exists()


def test_a_wrong_activation_code_is_named_as_wrong(pipeline: Pipeline) -> None:
    pipeline.target["activation_code"] = "AAAA-BBBB-CCCC"
    outcome = pipeline.load(singer(people(3)))
    assert outcome.code == 1
    assert "The activation_code in the settings (AAAA-BBBB-CCCC) is not the code of this review" in outcome.errors[-1]
    pipeline.target["activation_code"] = None
    assert "is not the code" not in pipeline.load(singer(people(3))).errors[-1]


# Brakes


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (people(40, []), "40 of 150 labelled contacts (26.7 %) would lose all labels, more than max_clear_percent (20)"),
        (
            people(80, ["B"]),
            "80 of 150 labelled contacts (53.3 %) would have their labels changed, more than max_change_percent (50)",
        ),
    ],
)
def test_brakes_stop_before_any_write_and_let_one_day_through(
    pipeline: Pipeline, records: list[dict[str, Any]], words: str
) -> None:
    assert pipeline.load(singer(people(150), state={"day": 1})).code == 0
    before = pipeline.sandbox.account.snapshot()
    pipeline.sandbox.journal.clear()
    outcome = pipeline.load(singer(records, state={"day": 2}))
    assert (outcome.code, outcome.output) == (1, "")
    assert words in outcome.errors[-1]
    today = pipeline.time.clock().today().isoformat()
    assert f"set brake_override_date to {today}" in outcome.errors[-1]
    assert f"(TARGET_DOTDIGITAL_BRAKE_OVERRIDE_DATE={today})" in outcome.errors[-1]
    assert pipeline.sandbox.journal.writes() == []
    assert pipeline.sandbox.account.snapshot() == before
    assert pipeline.report["outcome"] == "braked"

    # nothing of it stays behind: a run with nothing new has nothing to send
    assert pipeline.load(singer([])).code == 0
    assert pipeline.sandbox.journal.writes() == []

    pipeline.target["brake_override_date"] = "2020-01-01"
    assert pipeline.load(singer(records)).code == 1
    pipeline.target["brake_override_date"] = pipeline.time.clock().today().isoformat()
    assert pipeline.load(singer(records)).code == 0


def test_brakes_leave_small_accounts_and_small_changes_alone(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(99)))
    assert pipeline.load(singer(people(99, []))).code == 0
    pipeline.load(singer(people(200)))
    assert pipeline.load(singer(people(40, []))).code == 0


# Dry run


def test_a_dry_run_tells_before_and_after_and_writes_nothing(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(5), state={"day": 1}))
    before, ledger = pipeline.sandbox.account.snapshot(), ledger_rows(pipeline)
    pipeline.sandbox.journal.clear()
    pipeline.target["dry_run"] = True
    outcome = pipeline.load(singer([*people(2, ["B"]), {"email": "new@example.com", "segments": ["C"]}], state={"day": 2}))
    assert (outcome.code, outcome.output) == (0, "")
    assert pipeline.sandbox.journal.writes() == []
    assert pipeline.sandbox.account.snapshot() == before
    assert ledger_rows(pipeline) == ledger
    assert pipeline.report["outcome"] == "dry run"
    assert pipeline.report["plan"]["samples"] == [
        {"before": {FIELD: "A"}, "after": {FIELD: "B"}, "contacts": 2},
        {"before": None, "after": {FIELD: "C"}, "contacts": 1},
    ]
    pipeline.target["dry_run"] = False
    assert pipeline.load(singer([])).code == 0
    assert pipeline.report["sent"] == 0


def test_a_first_load_can_be_ramped_up(pipeline: Pipeline) -> None:
    pipeline.target["max_contacts_per_run"] = 40
    for text, there in ((singer(people(100)), 40), (singer([]), 80), (singer([]), 100), (singer([]), 100)):
        outcome = pipeline.load(text)
        assert outcome.code == 0
        assert outcome.state is not None
        assert len(pipeline.sandbox.account.snapshot()) == there
    assert pipeline.report["left_for_later"] == 0


# No uploads


def test_without_uploads_nobody_is_created(pipeline: Pipeline, sandbox: Sandbox) -> None:
    account = sandbox.account
    for number in range(0, 60, 2):
        account.add_contact(f"P{number:04d}@example.com", data_fields={"FIRSTNAME": "x"})
    pipeline.target["upload_emails"] = "none"
    pipeline.activate()
    assert pipeline.load(singer(people(60))).code == 0
    assert values(sandbox) == {f"p{number:04d}@example.com": {"FIRSTNAME": "x", FIELD: "A"} for number in range(0, 60, 2)}
    assert all(isinstance(one, int) for one in contacts_sent(sandbox))
    assert not any(contact.lists for contact in account.contacts.values())
    assert pipeline.report["unknown_to_dotdigital"] == 30
    assert sorted(book.name for book in account.books.values()) == ["Newsletter"]

    # deleted meanwhile: seen when the account is read back for the unknown ones, and not made again
    account.remove_contact("p0000@example.com")
    assert pipeline.load(singer(people(60, ["B"]))).code == 0
    assert set(values(sandbox)) == {f"p{number:04d}@example.com" for number in range(2, 60, 2)}
    assert pipeline.report["unknown_to_dotdigital"] == 31
    account.remove_contact("p0002@example.com")
    assert pipeline.load(singer([{"email": "p0002@example.com", "segments": ["C"]}])).code == 0
    assert (pipeline.report["outcome"], pipeline.report["rejections"], pipeline.report["sent"]) == ("delivered", {}, 0)
    assert set(values(sandbox)) == {f"p{number:04d}@example.com" for number in range(4, 60, 2)}

    # made by somebody else since: found by its new id
    account.add_contact("p0001@example.com")
    account.add_contact("p0000@example.com")
    assert pipeline.load(singer(people(2, ["C"]))).code == 0
    assert values(sandbox)["p0001@example.com"] == {FIELD: "C"}
    assert values(sandbox)["p0000@example.com"] == {FIELD: "C"}


def test_contacts_without_segments_are_created_only_if_all_are_uploaded(pipeline: Pipeline, sandbox: Sandbox) -> None:
    account = sandbox.account
    account.add_field(FIELD)
    account.add_contact("old@example.com", data_fields={FIELD: "A"})
    account.add_contact("plain@example.com", data_fields={"FIRSTNAME": "x"})
    source = {"ann@example.com": ["A"], "bob@example.com": [], "old@example.com": [], "plain@example.com": []}
    records = [{"email": email, "segments": names} for email, names in source.items()]
    pipeline.target["upload_emails"] = "with_segments"
    code = pipeline.target.pop("activation_code")
    assert pipeline.load(singer(records)).code == 1
    review = (pipeline.folder / "reports" / "review.txt").read_text()
    plan = pipeline.report["plan"]
    assert (plan["created"], plan["created_without_labels"], plan["cleared"]) == (1, 0, 1)
    assert "1  contacts are unknown to dotdigital and would not be written" in review
    pipeline.target["activation_code"] = pipeline.report["activation_code"]
    assert pipeline.target["activation_code"] != code

    assert pipeline.load(singer(records)).code == 0
    book = account.book_named("Nosto contacts")
    assert book is not None
    # neither created nor put into the address book, but cleared
    assert values(sandbox) == {"ann@example.com": {FIELD: "A"}, "old@example.com": {}, "plain@example.com": {"FIRSTNAME": "x"}}
    assert {email for email, contact in account.snapshot().items() if book.id in contact.lists} == {"ann@example.com"}
    ids = {contact.email: contact.id for contact in account.contacts.values()}
    assert sorted(map(str, contacts_sent(sandbox))) == [str(ids["old@example.com"]), "ann@example.com"]

    # the contact loses its segments, and was deleted meanwhile: not created again
    account.remove_contact("ann@example.com")
    assert pipeline.load(singer([{"email": "ann@example.com", "segments": []}])).code == 0
    assert "ann@example.com" not in values(sandbox)
    assert pipeline.report["left_for_later"] == 0

    # everybody after all: the ledger knows whom the source has
    pipeline.target["upload_emails"] = "all"
    pipeline.target["activation_code"] = code
    assert pipeline.load(singer([])).code == 0
    assert set(values(sandbox)) == {*source}
    assert all(book.id in contact.lists for contact in account.contacts.values())


def test_the_review_counts_new_contacts_without_labels(pipeline: Pipeline) -> None:
    del pipeline.target["activation_code"]
    records = [{"email": f"p{number}@example.com", "segments": ["A"] if number < 3 else []} for number in range(10)]
    assert pipeline.load(singer(records)).code == 1
    assert pipeline.report["plan"]["created_without_labels"] == 7
    assert "           7  of these are in no chosen segment" in (pipeline.folder / "reports" / "review.txt").read_text()


@pytest.mark.parametrize(
    "email", ["o'neil+news@example.com", "a&b=c@example.com", "per%cent@example.com", "wh?at#x@example.com", "ü/ö@example.com"]
)
def test_addresses_are_asked_for_one_by_one_whatever_they_hold(pipeline: Pipeline, sandbox: Sandbox, email: str) -> None:
    pipeline.target["upload_emails"] = "none"
    pipeline.activate()
    pipeline.load(singer(people(1)))
    sandbox.account.add_contact(email)
    assert pipeline.load(singer([{"email": email, "segments": ["A"]}])).code == 0
    assert values(sandbox)[email] == {FIELD: "A"}
    assert [call for call in sandbox.journal.calls("dotdigital", "GET") if "/contacts/v3/email/" in call.path]


# Reconcile


def reconcile(pipeline: Pipeline) -> dict[str, int]:
    outcome = run_target(pipeline.target, "", pipeline.time, reconcile=True)
    assert outcome.code == 0, outcome.log
    found = re.findall(r"^ *([\d,]+)  (.*)$", outcome.output, re.MULTILINE)
    return {words: int(count.replace(",", "")) for count, words in found}


def test_reconcile_finds_every_kind_of_drift_and_the_next_run_repairs_it(pipeline: Pipeline, sandbox: Sandbox) -> None:
    shop = Shop(300)
    pipeline.export(shop.export(0))
    pipeline.run()
    account = sandbox.account
    wanted = values(sandbox)
    book = account.book_named("Nosto contacts")
    assert book is not None
    emails = sorted(wanted)
    labelled = [email for email in emails if wanted[email]]
    account.edit(labelled[0], FIELD, "by hand")
    account.edit(labelled[1], FIELD, None)
    account.by_email[emails[10]].lists.discard(book.id)
    account.remove_contact(emails[11])
    account.add_contact("stranger@example.com", data_fields={FIELD: "VIP"})
    account.add_contact("friend@example.com", lists={book.id})
    sandbox.journal.clear()

    drift = reconcile(pipeline)

    assert sandbox.journal.writes() == []
    assert drift["labels changed by others"] == 2
    assert drift["removed from the address book"] == 1
    assert drift["deleted in dotdigital"] == 1
    assert drift["orphaned labels (contact not in the source)"] == 1
    assert drift["contacts pending: the next run corrects them, within the brakes"] == 5
    assert pipeline.run().code == 0
    assert len(contacts_sent(sandbox)) == 5
    now = values(sandbox)
    assert {email: now[email] for email in wanted} == wanted
    assert now["stranger@example.com"] == {}
    assert book.id in account.by_email[emails[10]].lists
    assert sum(reconcile(pipeline).values()) == len(now)


def test_a_lost_ledger_stops_the_run_until_a_full_refresh(pipeline: Pipeline, sandbox: Sandbox) -> None:
    """Reconcile brings back what dotdigital holds, but not that it is what the tap assumes."""
    shop = Shop(400)
    pipeline.export(shop.export(0))
    pipeline.run()
    labelled = sum(bool(fields) for fields in values(sandbox).values())
    lose_ledger(pipeline)
    assert reconcile(pipeline)["orphaned labels (contact not in the source)"] == labelled
    sandbox.journal.clear()
    wanted = expected(pipeline.export(shop.export(1), 1))
    outcome = pipeline.run()
    assert (outcome.code, outcome.output) == (1, "")
    assert "--full-refresh" in outcome.errors[-1]
    assert sandbox.journal.writes() == []
    changed = len(pipeline.extract().records())
    pipeline.state = None
    assert pipeline.run().code == 0
    assert 0 < len(contacts_sent(sandbox)) <= changed
    assert {email: fields.get(FIELD, "") for email, fields in values(sandbox).items() if email in wanted} == {
        email: ";".join(names) for email, names in wanted.items()
    }
    assert not [email for email, fields in values(sandbox).items() if email not in wanted and fields]


def test_a_lost_ledger_without_reconcile_is_made_good_by_reading_back(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.export(Shop(400).export(0))
    pipeline.run()
    lose_ledger(pipeline)
    sandbox.journal.clear()
    pipeline.state = None
    assert pipeline.run().code == 0
    assert contacts_sent(sandbox) == []


def test_reading_back_two_contacts_of_one_address(pipeline: Pipeline, sandbox: Sandbox) -> None:
    """Dotdigital says that it has none such; if it has, that is no reason to stop."""
    sandbox.account.add_contact("Jane@Example.com")
    sandbox.account.add_contact("jane@example.com")
    assert reconcile(pipeline)["contacts read back from dotdigital"] == 2
    assert pipeline.load(singer([{"email": "jane@example.com", "segments": ["A"]}])).code == 0
    assert contacts_sent(sandbox) == ["jane@example.com"]


def test_reading_back_goes_on_over_many_pages(pipeline: Pipeline, sandbox: Sandbox) -> None:
    for number in range(12_000):
        sandbox.account.add_contact(f"p{number:05d}@example.com")
    sandbox.faults.add(Fault("cut", path="limit=5000", nth=2))
    assert reconcile(pipeline)["contacts read back from dotdigital"] == 12_000


def test_values_that_are_right_already_are_taken_over(pipeline: Pipeline, sandbox: Sandbox) -> None:
    """As after Nosto's own integration: its field in its spelling, its values in its address book."""
    account = sandbox.account
    book = account.add_book("Nosto contacts")
    account.add_field(FIELD)
    for number, value in enumerate(["A;B", "A;B", "B;A", "A", None]):
        account.add_contact(f"p000{number}@example.com", data_fields={FIELD: value} if value else {}, lists={book.id})
    pipeline.target["data_field"] = "nostosegment"
    pipeline.activate()
    sandbox.journal.clear()
    assert pipeline.load(singer(people(5, ["A", "B"]))).code == 0
    assert contacts_sent(sandbox) == ["p0002@example.com", "p0003@example.com", "p0004@example.com"]
    assert {fields[FIELD] for fields in values(sandbox).values()} == {"A;B"}


# Restore and forget


def test_restore_gives_back_the_account_of_before(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.add_field(FIELD)
    sandbox.account.add_contact("p0000@example.com", data_fields={FIELD: "from before"}, status="unsubscribed")
    sandbox.account.add_contact("p0001@example.com")
    pipeline.load(singer(people(150)))
    first, first_run = values(sandbox), pipeline.report["run"]
    pipeline.target |= {"max_change_percent": 100, "max_clear_percent": 100}
    assert pipeline.load(singer([*people(100, ["B"]), *people(20, []), {"email": "new@example.com", "segments": ["A"]}])).code == 0
    second = pipeline.report["run"]
    sandbox.account.edit("p0050@example.com", FIELD, "by hand")
    sandbox.account.remove_contact("p0051@example.com")
    outcome = run_target(pipeline.target, "", pipeline.time, restore=True, run=second)
    assert outcome.code == 0, outcome.log
    now = values(sandbox)
    assert now.pop("p0050@example.com") == {FIELD: "by hand"}
    assert now.pop("new@example.com") == {}
    assert now == {email: fields for email, fields in first.items() if email not in {"p0050@example.com", "p0051@example.com"}}

    outcome = run_target(pipeline.target, "", pipeline.time, restore=True, run=first_run)
    assert outcome.code == 0, outcome.log
    now = values(sandbox)
    assert now["p0000@example.com"] == {FIELD: "from before"}
    assert now["p0001@example.com"] == {}


def test_restore_keeps_to_the_brakes_and_needs_a_run_that_delivered(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.load(singer(people(150)))
    before = sandbox.account.snapshot()
    for options, words in (
        ({"run": pipeline.report["run"]}, "brakes"),
        ({"run": 77}, "The ledger has no delivery of run 77"),
    ):
        outcome = run_target(pipeline.target, "", pipeline.time, restore=True, **options)
        assert outcome.code == 1
        assert words in outcome.errors[-1]
    assert sandbox.account.snapshot() == before


def test_forget_leaves_no_trace(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.refuse = lambda email: "invalidDomain" if email == "p0001@example.com" else None
    pipeline.load(singer(people(3)))
    pipeline.load(singer(people(3, ["B"])))
    files = [path for path in pipeline.folder.rglob("*") if path.is_file()]
    assert any(b"p0001@example.com" in path.read_bytes() for path in files)
    assert "p0001@example.com" in repr(ledger_rows(pipeline))
    outcome = run_target(pipeline.target, "", pipeline.time, forget=" P0001@example.com")
    assert outcome.code == 0, outcome.log
    assert "p0001" not in outcome.log
    files = [path for path in pipeline.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"p0001@example.com" in path.read_bytes()]
    assert "p0001@example.com" not in repr(ledger_rows(pipeline))
    assert "p0002@example.com" in repr(ledger_rows(pipeline))


# Excluded addresses

ZOE = "zoe@example.com"


def _waiting(pipeline: Pipeline, _sandbox: Sandbox) -> None:
    pipeline.target["max_contacts_per_run"] = 9
    pipeline.load(singer([*people(9), {"email": ZOE, "segments": ["A"]}]))
    assert pipeline.report["left_for_later"] == 1
    pipeline.target["max_contacts_per_run"] = 0


def _rejected(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.refuse = lambda email: "tooBusy" if email == ZOE else None
    pipeline.load(singer([*people(9), {"email": ZOE, "segments": ["A"]}]))
    sandbox.account.refuse = lambda _email: None
    pipeline.time.skipped += 86_400


def _relabelled(pipeline: Pipeline, _sandbox: Sandbox) -> None:
    pipeline.load(singer([*people(9), {"email": ZOE, "segments": ["A", "B"]}]))
    pipeline.target |= {"segment_delimiter": "|"}


def _moved(pipeline: Pipeline, _sandbox: Sandbox) -> None:
    pipeline.load(singer([*people(9), {"email": ZOE, "segments": ["A"]}]))
    pipeline.target |= {"address_book": "Other"}


def _unknown(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.load(singer([*people(9), {"email": ZOE, "segments": ["A"]}]))
    sandbox.account.outcomes = ["Failed", "Failed"]
    assert pipeline.load(singer([{"email": ZOE, "segments": ["B"]}])).code == 1


def _held(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.load(singer([*people(9), {"email": ZOE, "segments": ["A"]}]))
    sandbox.account.outcomes = ["RejectedByWatchdog"]
    assert pipeline.load(singer([{"email": ZOE, "segments": ["B"]}])).code == 1
    assert run_target(pipeline.target, "", pipeline.time, release=True).code == 0


def _edited(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.load(singer([*people(9), {"email": ZOE, "segments": ["A"]}]))
    sandbox.account.edit(ZOE, FIELD, "by hand")
    assert run_target(pipeline.target, "", pipeline.time, reconcile=True).code == 0


def _deleted(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.load(singer([*people(9), {"email": ZOE, "segments": ["A"]}]))
    sandbox.account.remove_contact(ZOE)


TO_SEND: dict[str, Callable[[Pipeline, Sandbox], None]] = {
    "waits for its turn": _waiting,
    "rejected, and due again": _rejected,
    "relabelled": _relabelled,
    "to be added to another address book": _moved,
    "sent with an unknown result": _unknown,
    "held and released": _held,
    "edited in dotdigital": _edited,
    "deleted in dotdigital": _deleted,
}


@pytest.mark.parametrize("why", slow_except({"waits for its turn", "rejected, and due again", "relabelled"}, TO_SEND))
def test_an_excluded_address_is_not_sent_whatever_it_waits_for(pipeline: Pipeline, sandbox: Sandbox, why: str) -> None:
    TO_SEND[why](pipeline, sandbox)
    before = values(sandbox).get(ZOE)
    sandbox.journal.clear()
    pipeline.target["exclude_emails"] = ["zoe@*"]
    pipeline.activate()
    for _ in range(2):
        assert pipeline.load(singer([])).code == 0
        assert ZOE not in contacts_sent(sandbox)
        assert values(sandbox).get(ZOE) == before
        report = pipeline.report
        assert (report["left_for_later"], report["held"], report["still_rejected"]) == (0, 0, 0)
        assert report["sent"] == report["plan"]["total"]
    restored = run_target(pipeline.target, "", pipeline.time, reconcile=True)
    assert "0  contacts pending" in restored.output
    # and used again, it gets what it should have
    pipeline.target["exclude_emails"] = []
    assert pipeline.load(singer([])).code == 0
    assert values(sandbox)[ZOE][FIELD] in {"A", "B", "A|B"}


def test_an_excluded_address_is_not_restored(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target["max_change_percent"] = 100
    pipeline.load(singer(people(9)))
    pipeline.load(singer(people(9, ["B"])))
    pipeline.target["exclude_emails"] = ["p0001@*"]
    assert run_target(pipeline.target, "", pipeline.time, restore=True, run=pipeline.report["run"]).code == 0
    assert {email for email, one in values(sandbox).items() if one == {FIELD: "B"}} == {"p0001@example.com"}


# Labels


@pytest.mark.fields("SYNCED")
def test_the_time_field_holds_when_labels_were_written(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target |= {"synced_at_field": "SYNCED"}
    pipeline.activate()
    assert pipeline.load(singer(people(1))).code == 0
    stamp = pipeline.time.clock().now().strftime("%Y-%m-%dT")
    (fields,) = values(sandbox).values()
    assert fields.pop("SYNCED").startswith(stamp)
    assert fields == {FIELD: "A"}
    assert sandbox.account.fields["SYNCED"].type == "Date"


def test_changed_label_settings_change_every_contact(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.load(singer(people(10, ["A", "B"])))
    pipeline.target |= {"segment_delimiter": "|", "enclose_segments": True, "segment_labels": {"B": "Bee"}}
    pipeline.activate()
    assert pipeline.load(singer([])).code == 0
    assert {fields[FIELD] for fields in values(sandbox).values()} == {"|A|Bee|"}


def test_excluded_addresses_are_left_alone(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target["exclude_emails"] = ["p000?@Example.com"]
    assert pipeline.load(singer(people(12))).code == 0
    assert set(values(sandbox)) == {"p0010@example.com", "p0011@example.com"}
    assert pipeline.report["excluded"] == 10


def test_an_address_that_is_excluded_as_it_is_may_hold_brackets(pipeline: Pipeline, sandbox: Sandbox) -> None:
    """An invalid one, too: alone in an input, it would stop the run."""
    assert pipeline.load(singer(people(3))).code == 0
    book = sandbox.account.book_named("Nosto contacts")
    assert book is not None
    sandbox.account.add_contact("zoe[1]@example.com", data_fields={FIELD: "by hand"}, lists={book.id})
    pipeline.target["exclude_emails"] = ["Zoe[1]@example.com"]
    assert pipeline.load(singer([{"email": "zoe[1]@example.com", "segments": ["A"]}])).code == 0
    assert (pipeline.report["excluded"], pipeline.report["invalid"]) == (1, {})
    lines = singer(people(3)).splitlines(keepends=True)
    lines.insert(-1, json.dumps({"type": "ACTIVATE_VERSION", "stream": "people", "version": 2}) + "\n")
    assert pipeline.load("".join(lines)).code == 0
    assert values(sandbox)["zoe[1]@example.com"] == {FIELD: "by hand"}


def test_who_is_named_without_labels_has_not_vanished(pipeline: Pipeline, sandbox: Sandbox) -> None:
    """A whole version clears whom it does not name; to be excluded, or to come with no list, is to be named."""
    assert pipeline.load(singer(people(12))).code == 0
    before = values(sandbox)
    pipeline.target["exclude_emails"] = ["p000[0-4]@example.com"]
    rows = [*people(5), {"email": "p0005@example.com", "segments": None}, *people(11)[6:]]
    lines = singer(rows).splitlines(keepends=True)
    lines.insert(-1, json.dumps({"type": "ACTIVATE_VERSION", "stream": "people", "version": 2}) + "\n")
    assert pipeline.load("".join(lines)).code == 0
    now = values(sandbox)
    assert now.pop("p0011@example.com") == {}
    assert now == {email: fields for email, fields in before.items() if email != "p0011@example.com"}


# Refusals and the report


def test_metrics_say_what_was_on_the_wire(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.refuse = lambda email: "invalidDomain" if email == "p0001@example.com" else None
    pipeline.target["contacts_per_import"] = 4
    outcome = pipeline.load(singer([*people(9), {"email": "none", "segments": []}]))
    assert outcome.code == 0
    lines = [line.partition("METRIC: ")[2] for line in outcome.log.splitlines() if "METRIC: " in line]
    points = [json.loads(line) for line in lines]
    found = {point["metric"]: point["value"] for point in points if "endpoint" not in point["tags"]}
    assert {name: found[name] for name in found if name.startswith(("contacts_", "records_"))} == {
        "contacts_sent": 9,
        "contacts_created": 8,
        "contacts_updated": 0,
        "contacts_rejected": 1,
        "contacts_unconfirmed": 0,
        "contacts_waiting": 0,
        "contacts_held": 0,
        "records_left_out": 1,
    }
    assert found["record_count"] == 10
    assert found["wait_seconds"] == sum(pipeline.time.naps)
    calls = {point["tags"]["endpoint"]: point["value"] for point in points if point["metric"].startswith("http_request_count.")}
    assert calls["import"] == len(sandbox.journal.imports()) == 3
    assert sum(calls.values()) == len(sandbox.journal.calls("dotdigital")) + len(sandbox.journal.calls("elsewhere"))
    assert {point["tags"]["status"] for point in points if "status" in point["tags"]} == {"delivered"}


def test_refusals_are_told_kept_and_not_sent_again(pipeline: Pipeline, sandbox: Sandbox) -> None:
    codes = {"p0001@example.com": "globallySuppressed", "p0002@example.com": "tooBusy"}
    sandbox.account.refuse = codes.get
    assert pipeline.load(singer(people(9))).code == 0
    assert pipeline.report["rejections"] == {"globallySuppressed": 1, "tooBusy": 1}
    rejected = (pipeline.folder / "reports" / "rejected.singer.jsonl").read_text()
    assert [json.loads(line)["record"]["email"] for line in rejected.splitlines()[1:]] == sorted(codes)
    sandbox.journal.clear()

    # the permanent one waits for a change, the other comes with the next run
    assert pipeline.load(singer([])).code == 0
    assert contacts_sent(sandbox) == ["p0002@example.com"]
    # then after a pause, also where the source goes on naming it
    sandbox.journal.clear()
    sandbox.account.refuse = lambda _email: None
    assert pipeline.load(rejected).code == 0
    assert contacts_sent(sandbox) == []
    pipeline.time.seconds += 20 * 3600
    assert pipeline.load(singer([])).code == 0
    assert set(values(sandbox)) == {row["email"] for row in people(9)} - {"p0001@example.com"}
    assert pipeline.load(singer(people(9, ["B"]))).code == 0
    assert values(sandbox)["p0001@example.com"] == {FIELD: "B"}


def test_too_many_refusals_fail_the_run(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.refuse = lambda email: "invalidDomain" if email < "p0012" else None
    outcome = pipeline.load(singer(people(100)))
    assert (outcome.code, outcome.output) == (1, "")
    assert "12 of 100 contacts were newly rejected, more than max_rejected_percent (5): invalidDomain 12." in outcome.errors[-1]
    assert len(values(sandbox)) == 88


def test_rows_that_the_report_does_not_name_fail_the_run_and_are_looked_up(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.load(singer(people(50)))
    sandbox.account.forget_rows = 3
    outcome = pipeline.load(singer(people(50, ["B"])))
    assert (outcome.code, outcome.output) == (1, "")
    assert "3 of 50 contacts were sent, but dotdigital did not confirm them" in outcome.errors[-1]
    assert pipeline.report["unconfirmed"] == 3
    sandbox.account.forget_rows = 0
    sandbox.journal.clear()
    # one of them was not applied, after all
    sandbox.account.edit("p0000@example.com", FIELD, "A")
    assert pipeline.load(singer([])).code == 0
    assert contacts_sent(sandbox) == ["p0000@example.com"]
    assert {one[FIELD] for one in values(sandbox).values()} == {"B"}


def test_the_report_is_for_people_and_holds_no_address(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.refuse = lambda email: "invalidDomain" if email.startswith("p0001") else None
    nasty = '<script>alert(1)</script>"&{{ 7*7 }}'
    records = [*people(5), {"email": "nobody", "segments": []}, {"email": "x@example.com", "segments": [nasty]}]
    assert pipeline.load(singer(records)).code == 0
    page = (pipeline.folder / "reports" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "49" not in page.split("Contacts in each segment")[1].split("</section>")[0]
    assert "@example.com" not in page + json.dumps(pipeline.report)
    assert "The domain of the address does not exist. Correct it in the shop." in page
    assert "http" not in page.replace(sandbox.home_url, "")
    facts = pipeline.report
    assert facts["segments"]["A"] == {"contacts": 5, "change": 5, "joined": 4, "left": 0}
    assert (facts["sent"], facts["created"], facts["rejected"], facts["unconfirmed"]) == (6, 5, 1, 0)
    pipeline.load(singer(people(2, [])))
    assert pipeline.report["segments"]["A"] == {"contacts": 3, "change": -2, "joined": 0, "left": 1}
    assert (pipeline.folder / "reports").stat().st_mode & 0o777 == 0o700
    files = [path for path in (pipeline.folder / "reports").rglob("*") if path.is_file()]
    files += pipeline.folder.glob("ledger.db*")
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert ("ledger.db" in {path.name for path in files}) == pipeline.target["ledger_url"].startswith("sqlite")


def test_a_dry_run_shows_which_brakes_would_stop_the_run(pipeline: Pipeline) -> None:
    assert pipeline.load(singer(people(120))).code == 0
    pipeline.target["dry_run"] = True
    assert pipeline.load(singer([{**one, "segments": []} for one in people(120)])).code == 0
    (problem,) = pipeline.report["problems"]
    assert "max_clear_percent" in problem
