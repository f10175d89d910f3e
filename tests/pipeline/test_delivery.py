"""The main job: after a run the account is what the export says, and nothing else of it has changed."""

from __future__ import annotations

from collections import Counter

import pytest
from nosto_dotdigital_sandbox import Shop
from support.oracle import BOOK, FIELD, assert_account, expected
from support.running import Pipeline, singer
from support.wire import contacts_sent

CHOSEN = ["Loyal Customers", "Affinity: *", "VIP*", "Men's*"]

LEDGERS, SLOW_LEDGERS = ["sqlite"], ["postgresql"]


def furnish(pipeline: Pipeline, shop: Shop) -> None:
    """Give the account contacts of before: unsubscribed, suppressed, with consent, preferences and fields of their own."""
    account = pipeline.sandbox.account
    newsletter = next(iter(account.books))
    address = shop.address
    account.add_contact(address(3).upper(), status="unsubscribed", data_fields={"FIRSTNAME": "Ada"}, lists={newsletter})
    account.add_contact(address(4), status="suppressed", opt_in_type="Double", preferences={7: True})
    account.add_contact(address(5), opt_in_type="VerifiedDouble", consent=[{"text": "yes"}])
    account.add_contact("stranger@example.org", data_fields={"LASTNAME": "Nobody"}, lists={newsletter})


@pytest.mark.every_ledger
def test_two_days_give_the_account_that_the_exports_say(pipeline: Pipeline) -> None:
    shop = Shop(2_000, invalid=2)
    furnish(pipeline, shop)
    before = pipeline.sandbox.account.snapshot()
    pipeline.tap["segments"] = CHOSEN

    first = expected(pipeline.export(shop.export(0)), CHOSEN)
    assert pipeline.run().code == 0
    assert_account(pipeline.sandbox, first, before)
    assert len(pipeline.sandbox.journal.imports()) == 1

    second = expected(pipeline.export(shop.export(1), day=1), CHOSEN)
    assert pipeline.run().code == 0
    gone = sorted(set(first) - set(second))
    assert gone
    assert_account(pipeline.sandbox, second, before, gone)
    changed = {email for email, names in second.items() if first.get(email) != names} | {e for e in gone if first[e]}
    assert pipeline.report["sent"] == len(changed)
    sizes = pipeline.report["segments"].items()
    assert {name: size["joined"] for name, size in sizes if size["joined"]} == memberships(second, first)
    assert {name: size["left"] for name, size in sizes if size["left"]} == memberships(first, second)


def memberships(one: dict[str, list[str]], other: dict[str, list[str]]) -> Counter[str]:
    """Count the contacts in each segment that are in it in one export alone."""
    return Counter(name for email, names in one.items() for name in names if name not in other.get(email, []))


def test_the_same_export_again_writes_nothing(pipeline: Pipeline) -> None:
    pipeline.export(Shop(300).export(0))
    assert pipeline.run().code == 0
    state = pipeline.state
    pipeline.sandbox.journal.clear()

    assert pipeline.run().code == 0

    assert pipeline.sandbox.journal.writes() == []
    assert len(pipeline.sandbox.journal.calls("dotdigital")) + len(pipeline.sandbox.journal.calls("elsewhere")) <= 8
    assert pipeline.state == state


def test_one_import_call_for_each_ten_thousand_contacts(pipeline: Pipeline) -> None:
    pipeline.export(Shop(20_500, doubled_per_mille=0).export(0))
    assert pipeline.run().code == 0
    assert [len(call.json()["contacts"]) for call in pipeline.sandbox.journal.imports()] == [10_000, 10_000, 500]


def test_leaving_the_last_segment_empties_the_field(pipeline: Pipeline) -> None:
    pipeline.export(b'{"email":"a@example.com","s":["VIP"]}\n')
    pipeline.run()
    pipeline.export(b'{"email":"a@example.com","s":[]}\n', day=1)
    assert pipeline.run().code == 0
    (row,) = pipeline.sandbox.journal.imports()[-1].json()["contacts"]
    assert row["dataFields"] == {FIELD: None}
    assert FIELD not in pipeline.sandbox.account.snapshot()["a@example.com"].data_fields


@pytest.mark.every_ledger
def test_flipping_there_and_back_arrives_each_time(pipeline: Pipeline) -> None:
    for day, names in enumerate((["A"], ["B"], ["A"], [], ["A"])):
        body = pipeline.export(singer_line("a@example.com", names), day)
        assert pipeline.run().code == 0
        assert_account(pipeline.sandbox, expected(body))


def singer_line(email: str, names: list[str]) -> bytes:
    import json  # noqa: PLC0415

    return (json.dumps({"email": email, "nosto_segments": names}) + "\n").encode()


def test_capitals_and_spaces_are_one_contact(pipeline: Pipeline) -> None:
    pipeline.export(b'{"email":" A@Example.com","s":["X"]}\n{"email":"a@example.COM ","s":["Y"]}\n')
    pipeline.sandbox.account.add_contact("A@example.com", status="unsubscribed")
    assert pipeline.run().code == 0
    assert contacts_sent(pipeline.sandbox) == ["a@example.com"]
    (contact,) = pipeline.sandbox.account.snapshot().values()
    assert (contact.data_fields[FIELD], contact.status) == ("X;Y", "unsubscribed")


def test_duplicates_of_another_tap_are_merged_and_counted(pipeline: Pipeline) -> None:
    text = singer([{"email": "A@example.com", "segments": ["old"]}, {"email": "a@example.com ", "segments": ["new"]}])
    assert pipeline.load(text).code == 0
    assert pipeline.sandbox.account.snapshot()["a@example.com"].data_fields == {FIELD: "new"}
    assert (pipeline.report["read"], pipeline.report["distinct"], pipeline.report["duplicates"]) == (2, 1, 1)


@pytest.mark.parametrize("segments", [["VIP", "Sale"], "VIP;Sale", ";Sale; VIP ;"])
def test_any_tap_with_an_address_and_names_is_delivered(pipeline: Pipeline, segments: object) -> None:
    pipeline.target |= {"email_property": "mail", "segments_property": "tags"}
    outcome = pipeline.load(singer([{"mail": "a@example.com", "tags": segments, "id": 7}], mail={}, tags={}, id={}))
    assert outcome.code == 0, outcome.log
    assert pipeline.sandbox.account.snapshot()["a@example.com"].data_fields == {FIELD: "Sale;VIP"}


def test_what_is_no_address_is_reported_and_the_others_delivered(pipeline: Pipeline) -> None:
    known = [f"{letter}@example.com" for letter in "abcd"]
    records = [{"email": email, "segments": ["A"]} for email in ("nobody", *known, None, 5, "b@@example.com")]
    assert pipeline.load(singer(records)).code == 0
    assert contacts_sent(pipeline.sandbox) == known
    assert pipeline.report["invalid"] == {"no e-mail address": 4}


def test_a_record_without_names_leaves_the_labels_alone(pipeline: Pipeline) -> None:
    pipeline.load(singer([{"email": "a@example.com", "segments": ["A"]}]))
    records: list[dict[str, object]] = [
        {"email": "a@example.com", "segments": None},
        {"email": "a@example.com"},
        {"email": "a@example.com", "segments": [1]},
    ]
    records += [{"email": f"{letter}@example.com", "segments": []} for letter in "bcd"]
    assert pipeline.load(singer(records)).code == 0
    assert pipeline.sandbox.account.snapshot()["a@example.com"].data_fields == {FIELD: "A"}
    assert pipeline.report["invalid"] == {"no list of segments": 3}


def test_lists_that_arrive_as_text(pipeline: Pipeline) -> None:
    """Flattening and databases write arrays into texts; none of them is a label."""
    texts = {"json": '["A","B"]', "postgres": '{A,"B"}', "delimited": "A;B", "empty": "[]"}
    records: list[dict[str, object]] = [{"email": f"{name}@example.com", "segments": text} for name, text in texts.items()]
    unreadable = ("null", '["A"', "['A']")
    records += [{"email": f"bad{number}@example.com", "segments": text} for number, text in enumerate(unreadable)]
    assert pipeline.load(singer(records)).code == 0
    held = {email.partition("@")[0]: contact.data_fields for email, contact in pipeline.sandbox.account.snapshot().items()}
    assert held == {name: {} if name == "empty" else {FIELD: "A;B"} for name in texts}
    assert pipeline.report["invalid"] == {"no list of segments": len(unreadable)}


def test_a_field_in_other_spelling_is_written_as_the_account_spells_it(pipeline: Pipeline) -> None:
    pipeline.target["data_field"] = "NostoSegment"
    pipeline.sandbox.account.add_field(FIELD)
    pipeline.activate()
    assert pipeline.load(singer([{"email": "a@example.com", "segments": ["A"]}])).code == 0
    assert pipeline.sandbox.account.snapshot()["a@example.com"].data_fields == {FIELD: "A"}


def test_the_address_book_is_found_by_name_or_id(pipeline: Pipeline) -> None:
    book = pipeline.sandbox.account.add_book(BOOK.upper())
    pipeline.load(singer([{"email": "a@example.com", "segments": []}]))
    assert pipeline.sandbox.account.snapshot()["a@example.com"].lists == {book.id}
    other = pipeline.sandbox.account.add_book("By id")
    pipeline.target["address_book_id"] = other.id
    pipeline.activate()
    pipeline.load(singer([{"email": "a@example.com", "segments": []}]))
    assert pipeline.sandbox.account.snapshot()["a@example.com"].lists == {book.id, other.id}
    assert not [call for call in pipeline.sandbox.journal.writes() if call.path == "/v2/address-books"]
