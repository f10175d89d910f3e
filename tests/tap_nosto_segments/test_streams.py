"""The streams: RECORD messages in bulk or one by one, selected properties, and stream maps that let marks of removal pass."""

from __future__ import annotations

import copy
import datetime
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.running import START, run_tap
from support.streams import catalog
from tap_nosto_segments.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.running import Outcome

CONTACTS = "contact_segments"
MARK = "_sdc_deleted_at"
KEPT = {"email": "email", MARK: MARK, "segments": "segments"}
ODD = [[], ["VIP"], ['q"\\', "Ä, ö", "漢字 🛒", "\u0000", "</script>", "a\tb"]]


def write(config: dict[str, Any], minutes: int = 0, /, **names: list[str]) -> None:
    path = Path(config["export_url"])
    path.write_text("".join(json.dumps({"email": f"{name}@example.com", "seg": listed}) + "\n" for name, listed in names.items()))
    os.utime(path, (START.timestamp() + 60 * minutes,) * 2)


def summary(outcome: Outcome) -> list[tuple[Any, ...]]:
    """Return each record as address, names and whether it is a removal, and each ACTIVATE_VERSION, without its number."""
    assert outcome.code == 0, outcome.log
    found: list[tuple[Any, ...]] = []
    for line in outcome.lines:
        if line["type"] == "RECORD" and MARK in line["record"]:
            record = line["record"]
            found.append((record["email"], record.get("segments"), record[MARK] is not None))
        elif line["type"] == "ACTIVATE_VERSION":
            found.append(("ACTIVATE_VERSION",))
    return found


def messages(outcome: Outcome) -> list[str]:
    """Return each record with its keys in order, without the time of the run."""
    found = []
    for line in outcome.lines:
        if line["type"] == "RECORD":
            moment = datetime.datetime.fromisoformat(line.pop("time_extracted"))
            assert datetime.datetime.now(datetime.UTC) - moment < datetime.timedelta(minutes=1)
            found.append(json.dumps({**line, "version": "version" in line}))
    return sorted(found)


@pytest.mark.parametrize("stream", [CONTACTS, "segment_changes"])
def test_bulk_and_single_records_are_the_same(local: dict[str, Any], tmp_path: Path, stream: str) -> None:
    seen = []
    for name in ("bulk", "single"):
        maps: dict[str, Any] = {"stream_maps": {stream: {}}} if name == "single" else {}
        config = {**local, **maps, "snapshot_uri": str(tmp_path / name)}
        write(config, 0, **{f"{number}é'": names for number, names in enumerate(ODD)})
        first = run_tap(config, None, catalog(stream))
        write(config, 1, **{f"{number}é'": names for number, names in enumerate([*ODD[::-1], ["VIP"]][1:])})
        second = run_tap(config, first.bookmark, catalog(stream))
        # the SDK itself would escape the letter
        assert ("é" in first.output) == (name == "bulk")
        seen.append((messages(first), messages(second)))
    assert seen[0] == seen[1]
    assert min(map(len, seen[0])) >= 3


@pytest.mark.parametrize("removed", ["segments", MARK, "exported_at"])
@pytest.mark.parametrize("how", ["schema", "selection"])
def test_a_deselected_property_is_not_emitted(local: dict[str, Any], removed: str, how: str) -> None:
    chosen = catalog(CONTACTS)
    entry = next(entry for entry in chosen["streams"] if entry["tap_stream_id"] == CONTACTS)
    if how == "schema":
        del entry["schema"]["properties"][removed]
        entry["schema"]["required"] = [name for name in entry["schema"]["required"] if name != removed]
        entry["metadata"] = [item for item in entry["metadata"] if removed not in item["breadcrumb"]]
    else:
        next(item["metadata"] for item in entry["metadata"] if removed in item["breadcrumb"])["selected"] = False
    outcome = run_tap(local, None, chosen)
    assert outcome.code == 0, outcome.log
    # a key or a replication key cannot be deselected, and the mark of removal not even by a catalog without it
    stays = removed == MARK or (how == "selection" and removed == "exported_at")
    assert [removed in record for record in outcome.records()] == [stays] * 2
    assert (removed in outcome.lines[0]["schema"]["properties"]) == stays


@pytest.mark.parametrize("how", ["deselected", "not in the schema", "no metadata"])
def test_removed_contacts_are_marked_whatever_the_catalog_says(local: dict[str, Any], how: str) -> None:
    chosen = catalog(CONTACTS)
    entry = next(entry for entry in chosen["streams"] if entry["tap_stream_id"] == CONTACTS)
    facts = next(item for item in entry["metadata"] if MARK in item["breadcrumb"])
    assert facts["metadata"] == {"inclusion": "automatic"}
    # as an earlier version discovered it
    facts["metadata"] = {"inclusion": "available", "selected": False}
    if how != "deselected":
        del entry["schema"]["properties"][MARK]
        entry["metadata"].remove(facts)
    if how == "no metadata":
        entry["metadata"], chosen["streams"] = [], [entry]
    write(local, a=["A"], b=["B"])
    state = run_tap(local, None, chosen).bookmark
    write(local, 1, a=["A"])
    outcome = run_tap(local, state, chosen)
    assert summary(outcome) == [("b@example.com", [], True)]
    assert MARK in next(line for line in outcome.lines if line["type"] == "SCHEMA")["schema"]["properties"]


def test_a_full_refresh_of_the_changes_repeats_them_and_says_so(local: dict[str, Any]) -> None:
    first, again = (run_tap(local, None, catalog("segment_changes")) for _ in range(2))
    assert first.records("segment_changes") == again.records("segment_changes") != []
    assert "every membership is emitted as entered" in again.log
    assert "every membership" not in run_tap(local, first.bookmark, catalog("segment_changes")).log


def test_the_catalogue_has_a_row_for_each_segment_and_export(local: dict[str, Any]) -> None:
    write(local, a=["A", "B"], b=["B"])
    first = run_tap({**local, "exclude_segments": ["A"]}, None, catalog("segments"))
    write(local, 60, a=["B"])
    second = run_tap(local, first.bookmark, catalog("segments"))
    rows = [
        (row["name"], row["selected"], row["contact_count"], row["exported_at"])
        for outcome in (first, second)
        for row in outcome.records("segments")
    ]
    assert rows == [
        ("A", False, 1, "2026-11-01T04:00:00Z"),
        ("B", True, 2, "2026-11-01T04:00:00Z"),
        ("B", True, 1, "2026-11-01T05:00:00Z"),
    ]
    assert first.lines[0]["key_properties"] == ["name", "exported_at"]
    # it would delete the sizes of earlier exports
    assert "ACTIVATE_VERSION" not in second.output


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({CONTACTS: {"x": "nofn(email)"}}, "nofn(email) (FunctionNotDefined)"),
        ({CONTACTS: {"x": "1 +"}}, "1 + (SyntaxError)"),
        ({CONTACTS: {"x": ""}}, "IndexError"),
        ({CONTACTS: {"x": "email + 1"}}, "TypeError in the expression 'email + 1'"),
        ({CONTACTS: {"x": "emial"}}, "emial (NameNotDefined)"),
        ({CONTACTS: {"x": 5}}, "config['stream_maps']['contact_segments']"),
        ({CONTACTS: {"email": None}}, "Removing key property 'email'"),
        ({CONTACTS: {"__else__": "x"}}, "it does not have the form that the SDK documents"),
        ({"contact_segment": {"email": "md5(email)"}}, "the stream 'contact_segment'"),
        ({"people": {"__source__": "contacts", "email": "md5(email)"}}, "the stream 'contacts'"),
        ("drop", "TAP_NOSTO_SEGMENTS_STREAM_MAPS"),
    ],
)
def test_an_invalid_stream_map_is_explained(local: dict[str, Any], rules: object, problem: str) -> None:
    outcome = run_tap({**local, "stream_maps": rules})
    assert (outcome.code, outcome.output, len(outcome.errors)) == (1, "", 1), outcome.log
    assert problem in outcome.errors[0]
    assert "@example.com" not in outcome.log
    assert "defect" not in outcome.log


def test_a_stream_map_that_fails_later_is_the_last_line(local: dict[str, Any]) -> None:
    write(local, 0, **{f"p{number}": ["A"] if number < 5_000 else [] for number in range(6_000)})
    outcome = run_tap({**local, "stream_maps": {CONTACTS: {"first": "segments[0]"}}})
    assert outcome.code == 1
    assert outcome.log.splitlines()[-1].startswith(
        "ERROR stream_maps cannot be applied: IndexError in the expression 'segments[0]'"
    )
    assert "snapshot" not in str([line for line in outcome.lines if line["type"] == "STATE"])


# rules, and what the line that refuses them says
UNSAFE: dict[str, tuple[Any, str]] = {
    "a filter": ({CONTACTS: {"__filter__": "email.endswith('.com')"}}, "exclude_segments"),
    "a filter of a pattern": ({"contact*": {"__filter__": "True"}}, "exclude_emails"),
    "a filter of everything": ({"*": {"__filter__": "False"}}, "__filter__"),
    "a filter of a copy": ({CONTACTS: {}, "people": {"__source__": "*_segments", "__filter__": "segments"}}, "'people'"),
    "a filter of another name": ({CONTACTS: {"__alias__": "people", "__filter__": "segments"}}, "__filter__"),
    "null": ({CONTACTS: None}, "Deselect the stream"),
    "null as text": ({CONTACTS: "__NULL__"}, "Deselect the stream"),
    "null for a pattern": ({"contact_?egments": None}, "Deselect the stream"),
    "null for all others": ({"__else__": None}, "Deselect the stream"),
    "null for all others as text": ({"segments": {}, "__else__": "__NULL__"}, "Deselect the stream"),
    "the mark dropped": ({CONTACTS: {MARK: None}}, "drops or replaces _sdc_deleted_at"),
    "the mark dropped as text": ({CONTACTS: {MARK: "__NULL__"}}, "drops or replaces _sdc_deleted_at"),
    "the mark dropped with the others": ({CONTACTS: {"email": "email", "__else__": None}}, "drops _sdc_deleted_at by its __else__"),
    "the mark of a copy": ({CONTACTS: {}, "people": {"__source__": CONTACTS, MARK: None}}, "'people'"),
    "the mark renamed": ({CONTACTS: {"deleted": MARK, MARK: None}}, "drops or replaces"),
    "the mark replaced": ({CONTACTS: {MARK: "exported_at if segments else None"}}, "drops or replaces"),
    "the mark as text": ({CONTACTS: {MARK: "str(_sdc_deleted_at)"}}, "drops or replaces"),
    "an address of the names": ({CONTACTS: {"email": "email if segments else 'x@example.com'"}}, "more than the address"),
    "an address of the record": ({CONTACTS: {"email": "md5(str(record))"}}, "more than the address"),
    "an address of the day": ({CONTACTS: {"email": "email + exported_at"}}, "more than the address"),
    "a random address": ({CONTACTS: {"email": "email + str(randint(9))"}}, "more than the address"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_a_map_that_could_lose_a_removal_is_refused(local: dict[str, Any], check: Callable[..., Outcome], case: str) -> None:
    rules, words = UNSAFE[case]
    config = {**local, "stream_maps": rules}
    outcome = run_tap(copy.deepcopy(config), None, catalog())
    assert (outcome.code, outcome.output, type(outcome.error)) == (1, "", SettingsError), outcome.log
    assert words in outcome.errors[0]
    assert not Path(local["snapshot_uri"]).exists()
    if case == "a filter":
        assert check(config).errors == outcome.errors


SAFE: dict[str, Any] = {
    "other streams": {"segment_*": {"__filter__": "False"}, "segments": None},
    "an alias alone": {CONTACTS: {"__alias__": "people"}, "__else__": None},
    "only a copy": {CONTACTS: None, "people": {"__source__": CONTACTS}},
    "no filter": {CONTACTS: {"__filter__": None}},
    "the mark kept": {CONTACTS: {**KEPT, "__else__": None}},
    "the mark kept as itself": {CONTACTS: {**KEPT, MARK: "self", "__else__": None}},
    "the mark kept out of the record": {CONTACTS: {**KEPT, MARK: f"record['{MARK}']", "__else__": None}},
    "the address out of the record": {CONTACTS: {"email": "_['email'].lower()"}},
    "the address letter by letter": {CONTACTS: {"email": "''.join([letter for letter in self])"}},
    "another property": {CONTACTS: {"hash": "md5(email + config['salt'])"}},
}


@pytest.mark.parametrize("case", SAFE)
def test_removals_pass_every_other_map(local: dict[str, Any], case: str) -> None:
    config = {**local, "stream_maps": SAFE[case], "stream_map_config": {"salt": "x"}}
    write(config, a=["A"], b=["B"])
    first = run_tap(copy.deepcopy(config), None, catalog())
    assert len(summary(first)) == 3
    write(config, 1, a=["A"])
    assert summary(run_tap(copy.deepcopy(config), first.bookmark, catalog())) == [("b@example.com", [], True)]


EVERYTHING = [("a@example.com", ["A"], False), ("b@example.com", ["B"], False), ("ACTIVATE_VERSION",)]
X = {"stream_maps": {CONTACTS: {"x": "config['y']"}}}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rules": ({}, {"stream_maps": {CONTACTS: {"x": "'1'"}}}),
    "a copy": ({}, {"stream_maps": {"people": {"__source__": CONTACTS}, CONTACTS: None}}),
    "an alias": ({}, {"stream_maps": {"*_segments": {"__alias__": "people"}}}),
    "their config": ({**X, "stream_map_config": {"y": 1}}, {**X, "stream_map_config": {"y": 2}}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changed_maps_emit_everything_once(local: dict[str, Any], case: str) -> None:
    """The same export, and both ways."""
    write(local, a=["A"], b=["B"])
    state = None
    for maps in (0, 1, 0):
        outcome = run_tap({**local, **copy.deepcopy(CHANGES[case][maps])}, state)
        assert summary(outcome) == EVERYTHING
        state = outcome.bookmark
        again = run_tap({**local, **copy.deepcopy(CHANGES[case][maps])}, state)
        assert (summary(again), again.bookmark) == ([], state)


def test_maps_of_other_streams_change_nothing_and_those_of_a_deselected_stream_are_allowed(local: dict[str, Any]) -> None:
    state = run_tap(local, None, catalog()).bookmark
    assert summary(run_tap({**local, "stream_maps": {"segments": {"x": "'1'"}}}, state, catalog())) == []
    assert len(run_tap({**local, "stream_maps": {CONTACTS: None}}, None, catalog("segments")).records("segments")) == 2


def test_maps_of_a_run_that_was_not_acknowledged_count(local: dict[str, Any]) -> None:
    """What a run with other maps emitted may have been delivered, even if its STATE was lost."""
    write(local, a=["A"], b=["B"])
    state = run_tap(local).bookmark
    assert summary(run_tap({**local, "stream_maps": {CONTACTS: {"segments": "['X']"}}}, state)) != []
    assert summary(run_tap(local, state)) == EVERYTHING


def test_a_run_without_contacts_in_between_does_not_matter(local: dict[str, Any]) -> None:
    maps = {"stream_maps": {CONTACTS: {"x": "'1'"}}}
    write(local, a=["A"])
    state = run_tap({**local, **copy.deepcopy(maps)}).bookmark
    write(local, 1, a=["A"], b=["B"])
    assert run_tap(local, None, catalog("segments")).code == 0
    assert summary(run_tap({**local, **maps}, state)) == [("b@example.com", ["B"], False)]


def test_a_selected_property_is_emitted_for_every_contact(local: dict[str, Any]) -> None:
    chosen = catalog(CONTACTS)
    next(item["metadata"] for item in chosen["streams"][0]["metadata"] if "segments" in item["breadcrumb"])["selected"] = False
    write(local, a=["A"], b=["B"])
    first = run_tap(local, None, chosen)
    assert [names for _, names, _ in summary(first)[:2]] == [None, None]
    assert summary(run_tap(local, first.bookmark)) == EVERYTHING


def test_flattening_is_refused_like_an_unknown_setting(local: dict[str, Any]) -> None:
    """It would turn the list of names into text."""
    outcome = run_tap({**local, "flattening_enabled": True, "flattening_max_depth": 2, "flattening_separator": "_"})
    assert (outcome.code, outcome.output) == (1, "")
    assert all(name in outcome.errors[0] for name in ("flattening_enabled", "flattening_max_depth", "flattening_separator"))
