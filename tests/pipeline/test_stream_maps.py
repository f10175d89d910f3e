"""Stream maps of the target: whatever they filter, rename or drop, a contact that left the source, or the filter, loses its labels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.cases import slow_except
from support.oracle import FIELD
from support.running import covering
from support.wire import contacts_sent

if TYPE_CHECKING:
    from support.running import Outcome, Pipeline

LEDGERS, SLOW_LEDGERS = ["sqlite"], ["postgresql"]
ANN, BOB, EVE = (f"{who}@example.com" for who in ("ann", "bob", "eve"))
SCHEMA: dict[str, Any] = {"properties": {name: {} for name in ("email", "segments", "country", "updated_at", "_sdc_deleted_at")}}
GONE = "2026-11-02T00:00:00Z"
FINNISH = "country == 'FI'"


def line(kind: str, **values: Any) -> str:
    return json.dumps({"type": kind, **values}) + "\n"


def given(*records: dict[str, Any], day: int, since: int | None = None, version: int | None = None) -> str:
    """Write the input of a day: changes since another day, or all contacts in a version."""
    extra = {} if version is None else {"version": version}
    lines = [] if since is None else [line("STATE", value={"day": since})]
    lines.append(line("SCHEMA", stream="people", schema=SCHEMA, key_properties=["email"]))
    lines += [line("RECORD", stream="people", record=record, **extra) for record in records]
    if version is not None:
        lines.append(line("ACTIVATE_VERSION", stream="people", version=version))
    return "".join([*lines, line("STATE", value={"day": day})])


def person(email: str, country: str | None = "FI", names: object = None, **more: Any) -> dict[str, Any]:
    return {"email": email, "country": country, "segments": ["A"] if names is None else names, **more}


def load(pipeline: Pipeline, text: str, stream: str = "people") -> Outcome:
    """Load an input, with the approval of the stream that the maps lead to."""
    pipeline.target["activation_code"] = covering(pipeline.target["activation_code"], [stream])
    pipeline.approved.clear()
    return pipeline.load(text)


def labels(pipeline: Pipeline) -> dict[str, str | None]:
    return {email: contact.data_fields.get(FIELD) for email, contact in pipeline.sandbox.account.snapshot().items()}


MAPS: dict[str, Any] = {
    "a filter": {"people": {"__filter__": FINNISH}},
    "a filter of all streams": {"*": {"__filter__": FINNISH}},
    "an alias": {"people": {"__alias__": "finns", "__filter__": FINNISH}},
    "a copy": {"finns": {"__source__": "people", "__filter__": FINNISH}, "people": None},
    "no other property": {"people": {"__filter__": FINNISH, "email": "email", "segments": "segments", "__else__": None}},
    "no other property, by name": {
        "people": {"__filter__": FINNISH, "email": "self", "segments": "record['segments']", "__else__": "__NULL__"}
    },
    "no mark": {"people": {"__filter__": FINNISH, "_sdc_deleted_at": None}},
    "another mark": {"people": {"__filter__": FINNISH, "_sdc_deleted_at": "None"}},
    "a filter that removed contacts do not pass": {"people": {"__filter__": f"not record.get('_sdc_deleted_at') and {FINNISH}"}},
    "an address": {"people": {"__filter__": FINNISH, "email": "email.strip().lower()"}},
    "names": {"people": {"__filter__": FINNISH, "segments": "[name.strip() for name in segments]"}},
    "no other stream": {"__else__": None, "people": {"__filter__": FINNISH}},
}


@pytest.mark.parametrize("name", slow_except(["a filter", "an alias", "a copy", "no other property"], MAPS))
@pytest.mark.parametrize("how", ["removed", "dropped"])
def test_who_leaves_the_source_or_the_filter_loses_the_labels(pipeline: Pipeline, name: str, how: str) -> None:
    pipeline.target["stream_maps"] = MAPS[name]
    stream = "finns" if name in {"an alias", "a copy"} else "people"
    outcome = load(pipeline, given(person(ANN), person(BOB), person(EVE, "SE"), day=1), stream)
    assert outcome.code == 0, outcome.log
    assert labels(pipeline) == {ANN: "A", BOB: "A"}
    leaver = (
        # a tap need not send more of a removed contact than its key
        {"email": ANN, "_sdc_deleted_at": GONE} if how == "removed" else person(ANN, "SE", ["A", "B"])
    )
    sent = len(contacts_sent(pipeline.sandbox))
    outcome = load(pipeline, given(leaver, person(EVE, "SE", ["B"]), day=2, since=1), stream)
    assert outcome.code == 0, outcome.log
    assert labels(pipeline) == {ANN: None, BOB: "A"}
    assert len(contacts_sent(pipeline.sandbox)) == sent + 1
    # who never passed the filter is nowhere in the ledger
    assert pipeline.report["excluded"] == 1
    # and the contact comes back
    outcome = load(pipeline, given(person(ANN, names=["C"]), day=3, since=2), stream)
    assert outcome.code == 0, outcome.log
    assert labels(pipeline) == {ANN: "C", BOB: "A"}


@pytest.mark.parametrize("name", slow_except(["no other property"], ["no other property", "no mark", "another mark"]))
def test_who_is_gone_at_both_ends_is_not_created_again(pipeline: Pipeline, name: str) -> None:
    """An erased person: without the mark of removal, the record would be one of a contact in no segment."""
    pipeline.target["stream_maps"] = MAPS[name]
    assert load(pipeline, given(person(ANN), person(BOB), day=1)).code == 0
    pipeline.sandbox.account.remove_contact(ANN)
    assert load(pipeline, given(person(ANN, names=[], _sdc_deleted_at=GONE), day=2, since=1)).code == 0
    assert labels(pipeline) == {BOB: "A"}


@pytest.mark.parametrize("name", slow_except(["a filter"], ["a filter", "no other property"]))
def test_removed_contacts_keep_their_labels_if_the_operator_wants_it(pipeline: Pipeline, name: str) -> None:
    pipeline.target |= {"on_removed": "keep", "stream_maps": MAPS[name]}
    pipeline.activate()
    assert load(pipeline, given(person(ANN), person(BOB), day=1)).code == 0
    leavers = (person(ANN, names=[], _sdc_deleted_at=GONE), person(BOB, "SE"))
    assert load(pipeline, given(*leavers, day=2, since=1)).code == 0
    assert labels(pipeline) == {ANN: "A", BOB: "A"}


@pytest.mark.parametrize("order", [1, -1], ids=["in the order of addresses", "staged"])
@pytest.mark.every_ledger
def test_a_full_input_through_a_filter(pipeline: Pipeline, order: int) -> None:
    """Whoever the filter drops is not in the source, also if only dotdigital has the labels."""
    account = pipeline.sandbox.account
    account.add_field(FIELD)
    account.add_contact(EVE, data_fields={FIELD: "from before"})
    pipeline.target["stream_maps"] = MAPS["a filter"]
    first = [person(ANN), person(BOB), person(EVE, "SE"), person("zoe@example.com", "SE")][::order]
    assert load(pipeline, given(*first, day=1, version=1)).code == 0
    assert labels(pipeline) == {ANN: "A", BOB: "A", EVE: None}
    second = [person(ANN, "SE"), person(BOB, names=["B"]), person("zoe@example.com")][::order]
    assert load(pipeline, given(*second, day=2, version=2)).code == 0
    assert labels(pipeline) == {ANN: None, BOB: "B", EVE: None, "zoe@example.com": "A"}


def test_several_records_of_one_contact_of_which_the_last_counts(pipeline: Pipeline) -> None:
    pipeline.target["stream_maps"] = MAPS["a filter"]
    assert load(pipeline, given(person(ANN), day=1)).code == 0
    records = [person(ANN, "SE"), person(ANN, names=["B"]), person(BOB), person(BOB, "SE")]
    assert load(pipeline, given(*records, day=2, since=1)).code == 0
    assert labels(pipeline) == {ANN: "B"}


def test_a_new_contact_that_the_filter_drops_in_the_end_is_not_created(pipeline: Pipeline) -> None:
    """The addresses are not in order, so the records are staged."""
    pipeline.target["stream_maps"] = MAPS["a filter"]
    assert load(pipeline, given(person(EVE), person(BOB), person(BOB, "SE"), day=1)).code == 0
    assert labels(pipeline) == {EVE: "A"}


def test_labels_that_no_stream_has_named_are_cleared_if_the_filter_drops_the_contact(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.add_field(FIELD)
    pipeline.sandbox.account.add_contact(EVE, data_fields={FIELD: "from before"})
    pipeline.target["stream_maps"] = MAPS["a filter"]
    assert load(pipeline, given(person(ANN), day=1)).code == 0
    assert labels(pipeline) == {ANN: "A", EVE: "from before"}
    assert load(pipeline, given(person(EVE, "SE"), day=2, since=1)).code == 0
    assert labels(pipeline) == {ANN: "A", EVE: None}


def test_a_contact_that_moves_between_two_copies_of_a_stream_keeps_its_labels(pipeline: Pipeline) -> None:
    pipeline.target["stream_maps"] = {
        "people": {"__filter__": FINNISH},
        "others": {"__source__": "people", "__filter__": f"not {FINNISH}", "segments": "['Other']", "email": "email.upper()"},
    }
    pipeline.target["activation_code"] = covering(pipeline.target["activation_code"], ["people", "others"])
    pipeline.approved.clear()
    assert pipeline.load(given(person(ANN), person(BOB, "SE"), day=1)).code == 0
    assert labels(pipeline) == {ANN: "A", BOB: "Other"}
    assert pipeline.load(given(person(ANN, "SE"), person(BOB), day=2, since=1)).code == 0
    assert labels(pipeline) == {ANN: "Other", BOB: "A"}
    # no contact counts as dropped, because one of the copies lets it pass
    assert pipeline.report["excluded"] == 0


def test_a_record_without_address_that_a_filter_drops_is_no_invalid_one(pipeline: Pipeline) -> None:
    pipeline.target["stream_maps"] = {"people": {"__filter__": "bool(email)", "email": "email.lower()"}}
    records = [{"email": None, "segments": ["A"]}] * 3
    assert load(pipeline, given(person(ANN), *records, day=1)).code == 0
    assert labels(pipeline) == {ANN: "A"}
    assert pipeline.report["invalid"] == {}


def test_a_map_that_hides_every_address_is_not_delivered(pipeline: Pipeline) -> None:
    assert load(pipeline, given(person(ANN), person(BOB), day=1, version=1)).code == 0
    pipeline.target["stream_maps"] = {"people": {"email": "sha256(email)"}}
    outcome = load(pipeline, given(person(ANN), person(BOB), day=2, version=2))
    assert (outcome.code, outcome.output) == (1, "")
    assert "stream_maps" in outcome.errors[-1]
    assert labels(pipeline) == {ANN: "A", BOB: "A"}


@pytest.mark.parametrize("maps", [{"people": None}, {"people": "__NULL__"}, {"__else__": None}, {"p*": None}])
@pytest.mark.parametrize("version", [None, 2])
def test_a_stream_with_contacts_is_not_dropped_as_a_whole(pipeline: Pipeline, maps: dict[str, Any], version: int | None) -> None:
    assert load(pipeline, given(person(ANN), day=1)).code == 0
    pipeline.target["stream_maps"] = maps
    text = given(person(ANN, names=["B"]), day=2, version=version) + line(
        "SCHEMA", stream="other", schema=SCHEMA, key_properties=["email"]
    )
    if "__else__" in maps:
        # another stream, which is in use
        pipeline.target["stream_maps"] = {"other": {}, **maps}
    outcome = load(pipeline, text, "other")
    assert (outcome.code, outcome.output) == (1, "")
    assert "'people' is dropped by stream_maps" in outcome.errors[-1]
    assert labels(pipeline) == {ANN: "A"}


def test_what_falls_away_from_the_maps_asks_for_a_full_refresh(pipeline: Pipeline) -> None:
    """`__else__` is one of the settings that decide what is used of the input."""
    pipeline.target["stream_maps"] = {"people": {}, "__else__": None}
    assert load(pipeline, given(person(ANN), day=1)).code == 0
    pipeline.target["stream_maps"] = {"people": {}}
    outcome = load(pipeline, given(person(ANN), day=2, since=1))
    assert outcome.code == 1
    assert "--full-refresh" in outcome.errors[-1]


@pytest.mark.parametrize("mark", ["country", "True", "1", "''"])
def test_a_map_that_gives_the_mark_another_meaning_is_refused(pipeline: Pipeline, mark: str) -> None:
    pipeline.target["stream_maps"] = {"people": {"_sdc_deleted_at": mark}}
    outcome = load(pipeline, given(person(ANN), day=1))
    assert (outcome.code, outcome.output) == (1, "")
    assert "_sdc_deleted_at" in outcome.errors[-1]


def test_a_map_may_mark_contacts_as_removed(pipeline: Pipeline) -> None:
    pipeline.target["stream_maps"] = {"people": {"_sdc_deleted_at": "updated_at if country == 'SE' else None"}}
    assert load(pipeline, given(person(ANN), day=1)).code == 0
    assert load(pipeline, given(person(ANN, "SE", updated_at=GONE), day=2, since=1)).code == 0
    assert labels(pipeline) == {ANN: None}
