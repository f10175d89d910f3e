"""Bad input and accounts that are not as they should be: one clear line, a non-zero exit, nothing written, no STATE."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nosto_dotdigital_sandbox import Fault, Sandbox
from nosto_dotdigital_sandbox.faults import answer
from support.running import Outcome, Pipeline, run_target, singer

ONE = singer([{"email": "a@example.com", "segments": ["A"]}])


def assert_refused(pipeline: Pipeline, outcome: Outcome, *words: str) -> None:
    assert outcome.code == 1, outcome.log
    assert outcome.output == ""
    assert len(outcome.errors) == 1, outcome.errors
    assert all(word in outcome.errors[0] for word in words), outcome.errors
    assert "Traceback" not in outcome.log
    assert pipeline.sandbox.journal.imports() == []
    assert pipeline.sandbox.account.snapshot() == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"api_password": "wrong-secret"}, ["rejected the API user", "api_password"]),
        ({"api_url": "http://r1-api.dotdigital.com"}, ["api_url", "https"]),
        ({"address_book": "Test"}, ["address_book", "a name that dotdigital reserves"]),
        ({"address_book_id": 99}, ["no address book with the ID 99:"]),
        ({"data_field": "LASTNAME"}, ["'LASTNAME' is one of dotdigital's own"]),
        ({"data_field": "EMAIL"}, ["'EMAIL' is one of dotdigital's own"]),
        ({"segments_property": "email"}, ["both 'email'"]),
        ({"stream_maps": {"people": {"email": "email if segments else 'x@example.com'"}}}, ["makes email depend on segments"]),
        ({"stream_maps": {"people": {"email": "record['_sdc_deleted_at'] and 'x@example.com' or email"}}}, ["on _sdc_deleted_at"]),
        ({"overflow": "spill"}, ["overflow: spill is no longer supported", "drop", "fail"]),
        ({"synced_at_field": "nostosegment"}, ["same field"]),
        ({"brake_override_date": "2026-02-30"}, ["brake_override_date is '2026-02-30', which is not a date"]),
        ({"ledger_url": "sqlite://"}, ["ledger_url names no file"]),
        ({"ledger_url": "sqlite:////proc/nothing/ledger.db"}, ["The ledger cannot be used"]),
        ({"ledger_url": "no address at all"}, ["The ledger cannot be used"]),
        ({"report_dir": "/proc/nothing"}, ["report folder"]),
    ],
)
def test_settings_that_cannot_be(pipeline: Pipeline, change: dict[str, Any], words: list[str]) -> None:
    pipeline.target |= change
    outcome = pipeline.load(ONE)
    assert_refused(pipeline, outcome, *words)
    assert "wrong-secret" not in outcome.log


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_feild": "X"}, "'data_feild' was unexpected"),
        ({"data_field": "has space"}, "does not match"),
        ({"data_field": "X" * 21}, "does not match"),
        ({"contacts_per_import": 0}, "less than the minimum"),
        ({"max_active_imports": 25}, "greater than the maximum"),
        ({"overflow": "cut"}, "is not one of"),
        ({"load_method": "upsert"}, "'load_method' was unexpected"),
        ({"request_timeout": 3_601}, "greater than the maximum"),
    ],
)
def test_settings_that_the_schema_refuses(pipeline: Pipeline, change: dict[str, Any], words: str) -> None:
    pipeline.target |= change
    outcome = pipeline.load(ONE)
    assert (outcome.code, outcome.output) == (1, "")
    assert words in outcome.errors[-1]
    assert "Traceback" not in outcome.log


def test_whole_numbers_may_be_written_with_a_fraction_of_zero(pipeline: Pipeline, sandbox: Sandbox) -> None:
    """JSON Schema accepts 5.0 as an integer; in a path it would be another address book."""
    book = sandbox.account.add_book("Given by its ID")
    pipeline.target |= {"address_book_id": float(book.id), "contacts_per_import": 2.0}
    pipeline.activate()
    sandbox.journal.clear()
    assert pipeline.load(singer([{"email": f"{name}@example.com", "segments": ["A"]} for name in "abc"])).code == 0
    assert {call.path for call in sandbox.journal.calls() if "address-books" in call.path} == {f"/v2/address-books/{book.id}"}
    assert [len(call.json()["contacts"]) for call in sandbox.journal.imports()] == [2, 1]
    assert all(contact.lists == {book.id} for contact in sandbox.account.snapshot().values())


def test_a_null_means_the_default(pipeline: Pipeline) -> None:
    pipeline.target |= {"segment_delimiter": None, "max_value_length": None, "brake_override_date": None}
    pipeline.activate()
    assert pipeline.load(singer([{"email": "a@example.com", "segments": ["A", "B"]}])).code == 0
    assert pipeline.sandbox.account.snapshot()["a@example.com"].data_fields == {"NOSTOSEGMENT": "A;B"}


def test_the_wrong_region(pipeline: Pipeline) -> None:
    pipeline.target["api_url"] = pipeline.sandbox.forbidden_url
    assert_refused(pipeline, pipeline.load(ONE), "denied access", "region", "api_url")


def test_an_endpoint_that_is_not_dotdigitals_gets_no_password(pipeline: Pipeline) -> None:
    pipeline.sandbox.dotdigital.endpoint = "https://api.example.com"
    assert_refused(pipeline, pipeline.load(ONE), "not one of its own", "password was not sent", "api_url")


def test_an_address_book_name_that_a_segment_has(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.segments.add("Nosto contacts")
    assert_refused(pipeline, pipeline.load(ONE), "'Nosto contacts' is taken", "segment", "address_book")


def test_a_data_field_of_the_wrong_type(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.add_field("NOSTOSEGMENT", "Numeric")
    assert_refused(pipeline, pipeline.load(ONE), "NOSTOSEGMENT exists", "Numeric")


def test_an_account_that_holds_all_the_fields_it_may(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.field_limit = 6
    assert_refused(pipeline, pipeline.load(ONE), "reached its limit of data fields")


@pytest.mark.parametrize("code", ["ERROR_ADDRESSBOOK_LIMITEXCEEDED", "ERROR_ADDRESSBOOK_INVALID"])
def test_an_address_book_that_is_not_made(pipeline: Pipeline, code: str) -> None:
    rejection = answer(400, json.dumps({"message": f"Error: {code}"}).encode())
    pipeline.sandbox.faults.add(Fault("answer", method="POST", path="address-books", response=rejection))
    assert_refused(pipeline, pipeline.load(ONE), "address book")


def test_a_stream_without_an_address(pipeline: Pipeline) -> None:
    text = singer([], stream="orders", id={}, total={})
    assert_refused(pipeline, pipeline.load(text), "'orders'", "'email'", "id, total", "email_property", "stream_maps")
    text = singer([], stream="people", email={}, name={})
    assert_refused(pipeline, pipeline.load(text), "'people'", "'segments'", "email, name", "segments_property")


@pytest.mark.parametrize(
    "line",
    [
        *("{broken secret@example.com", "[]", "5", '"x"', '{"type":"RECORD"}', '{"stream":"s"}', '{"type":"WHAT"}'),
        '{"type":"RECORD","stream":"unknown","record":{"email":"secret@example.com"}}',
        '{"type":"SCHEMA","stream":"people","schema":{}}',
    ],
)
def test_lines_that_are_no_singer(pipeline: Pipeline, line: str) -> None:
    outcome = pipeline.load(ONE + line + "\n")
    assert_refused(pipeline, outcome, "not valid Singer")
    assert "secret@example.com" not in outcome.log


def test_batch_messages_are_refused(pipeline: Pipeline) -> None:
    batch = {"type": "BATCH", "stream": "people", "encoding": {"format": "jsonl"}, "manifest": []}
    assert_refused(pipeline, pipeline.load(ONE + json.dumps(batch) + "\n"), "BATCH", "batch_config")


def test_check_reads_and_writes_nothing(pipeline: Pipeline) -> None:
    outcome = run_target(pipeline.target, "", pipeline.time, check=True)
    assert outcome.code == 0, outcome.log
    assert "Demo shop" in outcome.output
    assert "Nothing was written" in outcome.output
    assert pipeline.sandbox.journal.writes() == []
    pipeline.target["api_password"] = "wrong"
    outcome = run_target(pipeline.target, "", pipeline.time, check=True)
    assert (outcome.code, len(outcome.errors)) == (1, 1)


def test_check_finds_that_contacts_cannot_be_read(pipeline: Pipeline) -> None:
    """An old account may lack version 3 of the API, which `--check` needs for nothing else."""
    missing = answer(404, b'{"errorCode":"server:notFound"}')
    pipeline.sandbox.faults.add(Fault(response=missing, times=99, path="^/contacts/v3"))
    outcome = run_target(pipeline.target, "", pipeline.time, check=True)
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert "OK" not in outcome.output


def test_overflow_fail_stops_before_anything(pipeline: Pipeline) -> None:
    pipeline.target |= {"overflow": "fail", "max_value_length": 20}
    pipeline.activate()
    pipeline.sandbox.journal.clear()
    text = singer([{"email": "a@example.com", "segments": ["a long name of a segment"]}])
    assert_refused(pipeline, pipeline.load(text), "do not fit", "overflow")


def test_two_runs_at_once(pipeline: Pipeline, sandbox: Sandbox) -> None:
    from target_dotdigital.ledger.database import open_ledger  # noqa: PLC0415

    ledger = open_ledger(pipeline.target["ledger_url"])
    with ledger.locked(sandbox.account.id):
        assert_refused(pipeline, pipeline.load(ONE), "Another run is working on this account")
    ledger.close()
    assert pipeline.load(ONE).code == 0
