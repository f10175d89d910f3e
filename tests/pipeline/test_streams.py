"""Inputs of several streams, of which only some hold contacts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.oracle import FIELD
from support.running import singer

if TYPE_CHECKING:
    from nosto_dotdigital_sandbox import Sandbox
    from support.running import Outcome, Pipeline

LEDGERS, SLOW_LEDGERS = ["sqlite"], ["postgresql"]
ANN, BOB = "ann@example.com", "bob@example.com"
TEXT = {"type": "string"}


def labels(sandbox: Sandbox) -> dict[str, str | None]:
    return {email: contact.data_fields.get(FIELD) for email, contact in sandbox.account.snapshot().items()}


def people(**names: list[str]) -> list[dict[str, Any]]:
    return [{"email": f"{who}@example.com", "segments": segments} for who, segments in names.items()]


def orders(count: int = 3, *, version: int | None = None) -> str:
    """Return a stream that has addresses, but no segments."""
    text = singer([{"email": BOB, "total": number} for number in range(count)], "orders", email=TEXT, total={})
    lines = [json.loads(line) for line in text.splitlines()[:-1]]
    if version is not None:
        lines = [line | ({"version": version} if line["type"] == "RECORD" else {}) for line in lines]
        lines.append({"type": "ACTIVATE_VERSION", "stream": "orders", "version": version})
    return "".join(json.dumps(line) + "\n" for line in lines)


def skipped(outcome: Outcome) -> list[str]:
    return [line for line in outcome.log.splitlines() if "skipped" in line]


@pytest.mark.parametrize("version", [None, 7])
@pytest.mark.parametrize("first", ["orders", "people"])
def test_a_stream_without_contacts_is_skipped_with_one_warning(
    pipeline: Pipeline, sandbox: Sandbox, first: str, version: int | None
) -> None:
    contacts = singer(people(ann=["A"]), state={"bookmarks": {"people": {"replication_key_value": "1"}}})
    *body, state = contacts.splitlines(keepends=True)
    if first == "orders":
        text = orders(version=version) + contacts
    else:
        # records of both streams in turn, and another null record
        null = json.dumps({"type": "RECORD", "stream": "orders", "record": None}) + "\n"
        text = "".join(body) + orders(version=version) + body[-1] + null + body[-1] + orders(1) + state
    outcome = pipeline.load(text)
    assert outcome.code == 0, outcome.log
    assert labels(sandbox) == {ANN: "A"}
    assert skipped(outcome) == [
        "WARNING The stream 'orders' has no property 'segments' (segments_property; it has: email, total), so the stream is skipped."
    ]
    assert pipeline.report["invalid"] == {}
    assert outcome.state == json.loads(state)["value"]


def test_a_skipped_stream_does_not_make_an_input_without_state_incomplete(pipeline: Pipeline, sandbox: Sandbox) -> None:
    schema, record, _ = singer(people(ann=["A"])).splitlines(keepends=True)
    other, *versioned, _ = orders(version=7).splitlines(keepends=True)
    assert pipeline.load("".join([schema, other, record, *versioned])).code == 0
    assert labels(sandbox) == {ANN: "A"}


def test_a_run_without_any_contacts_fails(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert pipeline.load(singer(people(ann=["A"]))).code == 0
    sandbox.journal.clear()
    outcome = pipeline.load(orders() + json.dumps({"type": "STATE", "value": {"bookmarks": {"orders": 1}}}) + "\n")
    assert (outcome.code, outcome.output) == (1, "")
    assert outcome.errors[-1].startswith("The stream 'orders' has no property 'segments'")
    assert "no other stream of the input holds contacts. Nothing was written" in outcome.errors[-1]
    assert pipeline.report["outcome"] == "failed"
    assert {call.method for call in sandbox.journal.calls()} == {"GET"}


@pytest.mark.every_ledger
def test_a_stream_whose_contacts_are_known_is_not_skipped(pipeline: Pipeline, sandbox: Sandbox) -> None:
    def table(stream: str, version: int, *records: dict[str, Any], **types: Any) -> str:
        lines = [json.loads(line) for line in singer(list(records), stream, **types).splitlines()[:-1]]
        lines = [line | ({"version": version} if line["type"] == "RECORD" else {}) for line in lines]
        lines.append({"type": "ACTIVATE_VERSION", "stream": stream, "version": version})
        return "".join(json.dumps(line) + "\n" for line in lines)

    state = json.dumps({"type": "STATE", "value": {"bookmarks": {}}}) + "\n"
    ann, bob = people(ann=["A"], bob=["B"])
    assert pipeline.load(table("one", 1, ann) + table("two", 1, bob) + state).code == 0
    assert labels(sandbox) == {ANN: "A", BOB: "B"}
    sandbox.journal.clear()
    # the second stream lost its segments: skipped, its contacts would count as removed
    broken = table("one", 2, ann) + table("two", 2, {"email": BOB}, email=TEXT) + state
    outcome = pipeline.load(broken)
    assert (outcome.code, outcome.output) == (1, "")
    assert "'two' has no property 'segments'" in outcome.errors[-1]
    assert "an earlier run got contacts from it" in outcome.errors[-1]
    assert sandbox.journal.writes() == []
    # what the message says to do
    assert pipeline.load(table("one", 3, ann) + state).code == 0
    assert labels(sandbox) == {ANN: "A", BOB: None}


def test_a_schema_that_loses_its_segments_while_the_input_runs_stops_the_run(pipeline: Pipeline, sandbox: Sandbox) -> None:
    whole = singer(people(ann=["A"], bob=["B"]))
    *body, state = whole.splitlines(keepends=True)
    later = singer([{"email": ANN}], email=TEXT).splitlines(keepends=True)[:-1]
    outcome = pipeline.load("".join([*body, *later, state]))
    assert (outcome.code, outcome.output) == (1, "")
    assert "although its schema had it before" in outcome.errors[-1]
    assert sandbox.journal.writes() == []
