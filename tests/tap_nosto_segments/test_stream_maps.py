"""Stream maps: the mark of removal passes every one of them, or it is refused by name; changed maps emit what they change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.running import run_tap
from tap_nosto_segments.tap import TapNostoSegments

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.running import Outcome

CONTACTS = "contact_segments"
KEPT = {"email": "email", "_sdc_deleted_at": "_sdc_deleted_at", "segments": "segments"}


def catalog(*names: str) -> dict[str, Any]:
    """Return a catalog that selects these streams; all if there are no names."""
    made: dict[str, Any] = TapNostoSegments(config={}, validate_config=False, setup_mapper=False).catalog_dict
    for entry in made["streams"]:
        root = next(one for one in entry["metadata"] if not one["breadcrumb"])
        root["metadata"]["selected"] = not names or entry["tap_stream_id"] in names
    return made


def write(config: dict[str, Any], **names: list[str]) -> None:
    lines = [json.dumps({"email": f"{name}@example.com", "seg": one}) + "\n" for name, one in names.items()]
    Path(config["export_url"]).write_text("".join(lines))


def summary(outcome: Outcome) -> list[tuple[Any, ...]]:
    """Return each record as address, names and whether it is a removal, and each ACTIVATE_VERSION, without its number."""
    assert outcome.code == 0, outcome.log
    found: list[tuple[Any, ...]] = []
    for line in outcome.lines:
        if line["type"] == "RECORD" and "_sdc_deleted_at" in line["record"]:
            record = line["record"]
            found.append((record["email"], record.get("segments"), record["_sdc_deleted_at"] is not None))
        elif line["type"] == "ACTIVATE_VERSION":
            found.append(("ACTIVATE_VERSION",))
    return found


UNSAFE: dict[str, tuple[Any, str]] = {
    "a filter": ({CONTACTS: {"__filter__": "email.endswith('.com')"}}, "exclude_segments"),
    "a filter of a pattern": ({"contact*": {"__filter__": "True"}}, "exclude_emails"),
    "a filter of everything": ({"*": {"__filter__": "False"}}, "__filter__"),
    "a filter of a copy": ({CONTACTS: {}, "people": {"__source__": "*_segments", "__filter__": "segments"}}, "'people'"),
    "a filter of another name": ({CONTACTS: {"__alias__": "people", "__filter__": "segments"}}, "__filter__"),
    "no expression": ({CONTACTS: {"__filter__": "segmnts"}}, "__filter__"),
    "null": ({CONTACTS: None}, "Deselect the stream"),
    "null as text": ({CONTACTS: "__NULL__"}, "Deselect the stream"),
    "null for a pattern": ({"contact_?egments": None}, "Deselect the stream"),
    "null for all others": ({"__else__": None}, "Deselect the stream"),
    "null for all others as text": ({"segments": {}, "__else__": "__NULL__"}, "Deselect the stream"),
    "the mark dropped": ({CONTACTS: {"_sdc_deleted_at": None}}, "drops or replaces _sdc_deleted_at"),
    "the mark dropped as text": ({CONTACTS: {"_sdc_deleted_at": "__NULL__"}}, "drops or replaces _sdc_deleted_at"),
    "the mark dropped with the others": (
        {CONTACTS: {"email": "email", "segments": "segments", "__else__": None}},
        "drops _sdc_deleted_at by its __else__",
    ),
    "the mark of a copy": ({CONTACTS: {}, "people": {"__source__": CONTACTS, "_sdc_deleted_at": None}}, "'people'"),
    "the mark renamed": ({CONTACTS: {"deleted": "_sdc_deleted_at", "_sdc_deleted_at": None}}, "drops or replaces"),
    "the mark replaced": ({CONTACTS: {"_sdc_deleted_at": "exported_at if segments else None"}}, "drops or replaces"),
    "the mark as text": ({CONTACTS: {"_sdc_deleted_at": "str(_sdc_deleted_at)"}}, "drops or replaces"),
    "an address of the names": ({CONTACTS: {"email": "email if segments else 'x@example.com'"}}, "more than the address"),
    "an address of the record": ({CONTACTS: {"email": "md5(str(record))"}}, "more than the address"),
    "an address of the day": ({CONTACTS: {"email": "email + exported_at"}}, "more than the address"),
    "a random address": ({CONTACTS: {"email": "email + str(randint(9))"}}, "more than the address"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_a_map_that_could_lose_a_removal_is_refused(local: dict[str, Any], case: str) -> None:
    rules, words = UNSAFE[case]
    outcome = run_tap({**local, "stream_maps": rules}, None, catalog())
    assert (outcome.code, outcome.output, len(outcome.errors)) == (1, "", 1), outcome.log
    assert outcome.errors[0].startswith("stream_maps ")
    assert words in outcome.errors[0]
    assert not Path(local["snapshot_uri"]).exists()


def test_the_check_refuses_it_as_well(local: dict[str, Any], check: Callable[..., Outcome]) -> None:
    outcome = check({**local, "stream_maps": {CONTACTS: {"__filter__": "email"}}})
    assert (outcome.code, outcome.output) == (1, "")
    assert "__filter__" in outcome.errors[0]


SAFE: dict[str, Any] = {
    "other streams": {"segment_*": {"__filter__": "False"}, "segments": None},
    "an alias": {CONTACTS: {"__alias__": "people"}},
    "an alias alone": {CONTACTS: {"__alias__": "people"}, "__else__": None},
    "only a copy": {CONTACTS: None, "people": {"__source__": CONTACTS}},
    "no filter": {CONTACTS: {"__filter__": None}},
    "the mark kept": {CONTACTS: {**KEPT, "__else__": None}},
    "the mark kept as itself": {CONTACTS: {**KEPT, "_sdc_deleted_at": "self", "__else__": None}},
    "the mark kept out of the record": {CONTACTS: {**KEPT, "_sdc_deleted_at": "record['_sdc_deleted_at']", "__else__": None}},
    "the address out of the record": {CONTACTS: {"email": "_['email'].lower()"}},
    "the address letter by letter": {CONTACTS: {"email": "''.join([letter for letter in self])"}},
    "another property": {CONTACTS: {"hash": "md5(email + config['salt'])"}},
}


@pytest.mark.parametrize("case", SAFE)
def test_removals_pass_every_other_map(local: dict[str, Any], case: str) -> None:
    config = {**local, "stream_maps": SAFE[case], "stream_map_config": {"salt": "x"}}
    write(config, a=["A"], b=["B"])
    first = run_tap(config, None, catalog())
    assert len(summary(first)) == 3
    config = {**local, "stream_maps": SAFE[case], "stream_map_config": {"salt": "x"}}
    write(config, a=["A"])
    assert summary(run_tap(config, first.bookmark, catalog())) == [("b@example.com", [], True)]


def test_maps_for_a_deselected_stream_do_not_matter(local: dict[str, Any]) -> None:
    outcome = run_tap({**local, "stream_maps": {CONTACTS: None}}, None, catalog("segments"))
    assert (outcome.code, len(outcome.records("segments"))) == (0, 2)


EVERYTHING = [("a@example.com", ["A"], False), ("b@example.com", ["B"], False), ("ACTIVATE_VERSION",)]
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rules": ({}, {"stream_maps": {CONTACTS: {"x": "'1'"}}}),
    "another expression": ({"stream_maps": {CONTACTS: {"x": "'1'"}}}, {"stream_maps": {CONTACTS: {"x": "'2'"}}}),
    "a copy": ({}, {"stream_maps": {"people": {"__source__": CONTACTS}, CONTACTS: None}}),
    "an alias": ({}, {"stream_maps": {"*_segments": {"__alias__": "people"}}}),
    "their config": (
        {"stream_maps": {CONTACTS: {"x": "config['y']"}}, "stream_map_config": {"y": 1}},
        {"stream_maps": {CONTACTS: {"x": "config['y']"}}, "stream_map_config": {"y": 2}},
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changed_maps_emit_everything_once(local: dict[str, Any], case: str) -> None:
    """The same export, and both ways."""
    write(local, a=["A"], b=["B"])
    state = None
    for maps in (0, 1, 0):
        config = {**local, **json.loads(json.dumps(CHANGES[case][maps]))}
        outcome = run_tap(config, state)
        assert summary(outcome) == EVERYTHING
        again = run_tap({**local, **json.loads(json.dumps(CHANGES[case][maps]))}, outcome.bookmark)
        assert (summary(again), again.bookmark) == ([], outcome.bookmark)
        state = outcome.bookmark


@pytest.mark.parametrize("same", [{"stream_map_config": {"y": 2}}, {"stream_maps": {"segments": {"x": "'1'"}}}])
def test_maps_of_other_streams_change_nothing(local: dict[str, Any], same: dict[str, Any]) -> None:
    state = run_tap(local, None, catalog()).bookmark
    assert summary(run_tap({**local, **same}, state, catalog())) == []


def test_maps_of_a_run_that_was_not_acknowledged_count(local: dict[str, Any]) -> None:
    """What a run with other maps emitted may have been delivered, even if its STATE was lost."""
    write(local, a=["A"], b=["B"])
    state = run_tap(local).bookmark
    assert summary(run_tap({**local, "stream_maps": {CONTACTS: {"segments": "['X']"}}}, state)) != []
    assert summary(run_tap(local, state)) == EVERYTHING


def test_a_run_without_contacts_in_between_does_not_matter(local: dict[str, Any]) -> None:
    maps = {"stream_maps": {CONTACTS: {"x": "'1'"}}}
    write(local, a=["A"])
    state = run_tap({**local, **maps}).bookmark
    write(local, a=["A"], b=["B"])
    assert run_tap(local, None, catalog("segments")).code == 0
    assert summary(run_tap({**local, **maps}, state)) == [("b@example.com", ["B"], False)]


def test_a_selected_property_is_emitted_for_every_contact(local: dict[str, Any]) -> None:
    chosen = catalog(CONTACTS)
    next(one["metadata"] for one in chosen["streams"][0]["metadata"] if "segments" in one["breadcrumb"])["selected"] = False
    write(local, a=["A"], b=["B"])
    first = run_tap(local, None, chosen)
    assert [names for _, names, _ in summary(first)[:2]] == [None, None]
    assert summary(run_tap(local, first.bookmark)) == EVERYTHING


@pytest.mark.parametrize("setting", ["flattening_enabled", "flattening_max_depth", "flattening_separator"])
def test_flattening_is_refused_like_an_unknown_setting(local: dict[str, Any], setting: str) -> None:
    """It would turn the list of names into text."""
    outcome = run_tap({**local, setting: {"flattening_enabled": True, "flattening_max_depth": 2}.get(setting, "_")})
    assert (outcome.code, outcome.output) == (1, "")
    assert setting in outcome.errors[0]
