"""Incremental runs: only changes are emitted, whatever happened to the bookmark, the base and the selection in between."""

from __future__ import annotations

import datetime
import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nosto_dotdigital_sandbox import ExportFile, Fault, Shop
from nosto_dotdigital_sandbox.faults import answer
from support.cases import slow_except
from support.oracle import FIELD, assert_account, expected
from support.running import START, Pipeline, run_tap
from support.wire import contacts_sent

if TYPE_CHECKING:
    from collections.abc import Callable

SHOP = Shop(1_500)


def lines(contacts: dict[str, list[str]], key: str = "nosto_segments") -> bytes:
    return "".join(json.dumps({"email": email, key: names}) + "\n" for email, names in contacts.items()).encode()


def changed_contacts(first: dict[str, list[str]], second: dict[str, list[str]]) -> set[str]:
    """Return the contacts whose labels differ between two days, or that are new."""
    return {email for email in set(first) | set(second) if first.get(email, []) != second.get(email, [])} | (
        set(second) - set(first)
    )


def test_ten_days_send_only_what_changed(pipeline: Pipeline) -> None:
    gone: set[str] = set()
    before: dict[str, list[str]] = {}
    for day in range(10):
        pipeline.sandbox.journal.clear()
        now = expected(pipeline.export(SHOP.export(day), day))
        assert pipeline.run().code == 0
        gone = (gone | (set(before) - set(now))) - set(now)
        assert_account(pipeline.sandbox, now, gone=sorted(gone))
        ids: dict[str | int, str] = {contact.id: contact.email for contact in pipeline.sandbox.account.contacts.values()}
        assert sorted(ids.get(one, str(one)) for one in contacts_sent(pipeline.sandbox)) == sorted(changed_contacts(before, now))
        before = now
    assert len(list((pipeline.folder / "snapshots").glob("*.parquet"))) <= 2


MALFORMED = {"readable": b'{"email":"b@example.com","nosto_segments":"B"}\n', "unreadable": b'{"email":"b@example.com"\n'}


@pytest.mark.parametrize(
    ("line", "lost"),
    slow_except(
        {("readable", "the STATE"), ("unreadable", "nothing"), ("readable", "the STATE and the snapshots")},
        itertools.product(MALFORMED, ("nothing", "the STATE", "the STATE and the snapshots")),
    ),
)
def test_contacts_of_malformed_lines_keep_their_labels(pipeline: Pipeline, line: str, lost: str) -> None:
    """With the bookmark, in a full refresh, and in a full refresh without snapshots; afterwards it is known who left."""
    pipeline.tap |= {"max_invalid_lines": 1, "max_shrink_percent": 100, "segment_identifier": "nosto_segments"}
    pipeline.target |= {"max_clear_percent": 100}

    def labels() -> dict[str, Any]:
        return {email[0]: contact.data_fields.get(FIELD) for email, contact in pipeline.sandbox.account.snapshot().items()}

    people = {f"{name}@example.com": [name.upper()] for name in "abc"}
    pipeline.export(lines(people), 0)
    assert pipeline.run().code == 0
    if lost != "nothing":
        pipeline.state = None
    if lost == "the STATE and the snapshots":
        shutil.rmtree(pipeline.folder / "snapshots")
    pipeline.export(lines({"a@example.com": ["NEW"]}) + MALFORMED[line], 1)
    outcome = pipeline.run()
    assert outcome.code == 0, outcome.log
    # c is known to have left only if the line shows whose it is, and a snapshot who else there was
    c = None if line == "readable" and lost != "the STATE and the snapshots" else "C"
    assert labels() == {"a": "NEW", "b": "B", "c": c}
    pipeline.export(lines({"a@example.com": ["NEW"]}), 2)
    outcome = pipeline.run()
    assert outcome.code == 0, outcome.log
    assert labels() == {"a": "NEW", "b": None, "c": None}
    # the day after is incremental again
    pipeline.export(lines({"a@example.com": ["NEWER"]}), 3)
    extracted = pipeline.extract()
    assert len(extracted.records()) == 1
    assert pipeline.load(extracted.output).code == 0
    assert labels()["a"] == "NEWER"


@pytest.mark.parametrize("rules", [{}, {"segments": "[name for name in segments if name != 'B']"}])
def test_labels_follow_the_maps_of_the_tap(pipeline: Pipeline, rules: dict[str, str]) -> None:
    """On a day without another change, there and back."""
    pipeline.target |= {"max_change_percent": 100, "max_clear_percent": 100}
    people = {f"{name}@example.com": [name.upper(), "X"] for name in "abc"}
    pipeline.export(lines(people))
    for maps in ({}, {"contact_segments": rules}, {}):
        pipeline.tap["stream_maps"] = maps
        outcome = pipeline.run()
        assert outcome.code == 0, outcome.log
        wanted = {email: [name for name in names if not (maps and rules and name == "B")] for email, names in people.items()}
        assert_account(pipeline.sandbox, wanted)


@pytest.mark.slow
def test_ten_days_of_fifty_thousand(pipeline: Pipeline) -> None:
    shop = Shop(50_000)
    before: dict[str, list[str]] = {}
    for day in range(10):
        now = expected(pipeline.export(shop.export(day), day))
        assert pipeline.run().code == 0
        assert pipeline.report["sent"] == len(changed_contacts(before, now))
        before = now


def test_removed_contacts_are_cleared_or_kept_but_never_deleted(pipeline: Pipeline) -> None:
    for keep in (False, True):
        pipeline.target["on_removed"] = "keep" if keep else "clear"
        pipeline.activate()
        pipeline.export(lines({"a@example.com": ["A"], "b@example.com": ["B"]}), day=2 * keep)
        pipeline.run()
        pipeline.export(lines({"a@example.com": ["A"]}), day=2 * keep + 1)
        tombstone = next(r for r in pipeline.extract().records() if r["email"] == "b@example.com")
        assert tombstone["segments"] == []
        assert tombstone["_sdc_deleted_at"] == tombstone["exported_at"]
        assert pipeline.run().code == 0
        contact = pipeline.sandbox.account.snapshot()["b@example.com"]
        assert contact.data_fields == ({FIELD: "B"} if keep else {})
        assert contact.lists


def test_a_removed_contact_that_was_deleted_is_not_created_again(pipeline: Pipeline) -> None:
    pipeline.export(lines({"a@example.com": ["A"], "b@example.com": ["B"]}))
    pipeline.run()
    pipeline.sandbox.account.remove_contact("b@example.com")
    pipeline.export(lines({"a@example.com": ["A"]}), day=1)
    assert pipeline.run().code == 0
    assert set(pipeline.sandbox.account.snapshot()) == {"a@example.com"}


def days(*contents: dict[str, list[str]]) -> list[bytes]:
    return [lines(content) for content in contents]


A, B, C = {"x@example.com": ["A"]}, {"x@example.com": ["B"]}, {"x@example.com": ["C"]}


def test_the_next_run_delivers_what_a_failed_target_did_not(pipeline: Pipeline) -> None:
    one, two, _ = (expected(pipeline.export(SHOP.export(day), day)) for day in range(3))
    for day, failing in ((0, False), (1, True), (2, False)):
        pipeline.export(SHOP.export(day), day)
        pipeline.sandbox.faults.clear()
        if failing:
            pipeline.sandbox.faults.add(Fault("answer", method="PUT", times=99, response=answer(500)))
        state = pipeline.state
        assert pipeline.run().code == failing
        if failing:
            assert pipeline.state == state
    three = expected(SHOP.export(2))
    assert_account(pipeline.sandbox, three, gone=sorted((set(one) | set(two)) - set(three) - (set(two) - set(one))))


def test_a_label_that_comes_back_after_two_lost_states_is_delivered(pipeline: Pipeline) -> None:
    """Days two and three are delivered, but their STATE is lost; day four equals day one, so the contact must get its first label."""
    for day, body in enumerate(days(A, B, C)):
        pipeline.export(body, day)
        extracted = pipeline.extract()
        state = pipeline.state
        assert pipeline.load(extracted.output).code == 0
        if day:
            pipeline.state = state  # as if Meltano could not store it
    pipeline.export(lines(A), 3)
    assert pipeline.run().code == 0
    assert_account(pipeline.sandbox, A)


def test_a_braked_export_has_no_effect(pipeline: Pipeline) -> None:
    many = {f"x{number}@example.com": ["A"] for number in range(200)}
    pipeline.export(lines(many))
    pipeline.run()
    before = pipeline.sandbox.account.snapshot()
    pipeline.export(lines({email: [] for email in many}), 1)
    pipeline.tap["max_shrink_percent"] = 100
    outcome = pipeline.run()
    assert outcome.code == 1
    assert "brakes" in outcome.errors[-1]
    assert pipeline.sandbox.account.snapshot() == before
    pipeline.export(lines(many), 2)
    assert pipeline.run().code == 0
    assert pipeline.sandbox.account.snapshot() == before


def test_a_changed_selection_is_applied_to_the_same_export(pipeline: Pipeline) -> None:
    body = SHOP.export(0)
    for number, chosen in enumerate((["VIP*"], ["*"], ["Affinity*"], ["Affinity*", "VIP"])):
        pipeline.export(body)  # the same export, the same time
        pipeline.tap["segments"] = chosen
        pipeline.target["brake_override_date"] = (
            datetime.datetime.fromtimestamp(pipeline.time.wall(), datetime.UTC).date().isoformat()
        )
        assert pipeline.run().code == 0, number
        assert_account(pipeline.sandbox, expected(body, chosen))
    pipeline.tap["segments"] = []
    outcome = pipeline.extract()
    assert (outcome.code, outcome.output) == (1, "")
    assert_account(pipeline.sandbox, expected(body, chosen))


def test_a_renamed_identifier_changes_nothing(pipeline: Pipeline) -> None:
    pipeline.export(lines(A, "one"))
    pipeline.run()
    pipeline.export(lines(A, "two"), 1)
    assert pipeline.extract().records() == []


@pytest.mark.parametrize("damage", ["folder deleted", "parquet damaged", "parquet gone", "manifest damaged"])
def test_a_lost_base_emits_everything_and_sends_only_changes(pipeline: Pipeline, damage: str) -> None:
    first = expected(pipeline.export(SHOP.export(0)))
    pipeline.run()
    folder = pipeline.folder / "snapshots"
    match damage:
        case "folder deleted":
            shutil.rmtree(folder)
        case "parquet damaged":
            path = next(folder.glob("*.parquet"))
            path.write_bytes(path.read_bytes()[:-9] + b"123456789")
        case "parquet gone":
            next(folder.glob("*.parquet")).unlink()
        case "manifest damaged":
            next(folder.glob("*.json")).write_text("{")
    second = expected(pipeline.export(SHOP.export(1), 1))
    extracted = pipeline.extract()
    assert "missing or damaged" in extracted.log
    assert len(extracted.records()) == len(second)
    assert pipeline.run().code == 0
    assert_account(pipeline.sandbox, second, gone=sorted(set(first) - set(second)))
    assert pipeline.report["sent"] == len(changed_contacts(first, second))


def test_a_full_refresh_clears_removed_contacts(pipeline: Pipeline) -> None:
    first = expected(pipeline.export(SHOP.export(0)))
    pipeline.run()
    second = expected(pipeline.export(SHOP.export(1), 1))
    pipeline.state = None
    assert pipeline.run().code == 0
    assert_account(pipeline.sandbox, second, gone=sorted(set(first) - set(second)))
    assert pipeline.report["sent"] == len(changed_contacts(first, second))


def test_a_clock_that_is_set_back_is_tolerated(pipeline: Pipeline) -> None:
    """Nosto sends no time, and our own clock is set back: the export is accepted, and the bookmark does not go back."""
    stamps = []
    for number, body in enumerate(days(A, B)):
        pipeline.sandbox.nosto.export = ExportFile(body, None, etag=False)
        moment = START - datetime.timedelta(hours=number)
        extracted = run_tap(pipeline.tap, pipeline.state, moment=moment)
        assert pipeline.load(extracted.output).code == 0
        stamps.append(bookmark(pipeline)["replication_key_value"])
    assert_account(pipeline.sandbox, B)
    assert stamps == ["2026-11-01T04:00:00Z", "2026-11-01T04:00:01Z"]


def bookmark(pipeline: Pipeline) -> dict[str, Any]:
    assert pipeline.state is not None
    found: dict[str, Any] = pipeline.state["bookmarks"]["contact_segments"]
    return found


def test_an_export_older_than_the_bookmark_is_rejected(pipeline: Pipeline) -> None:
    pipeline.export(lines(B), 5)
    pipeline.run()
    pipeline.export(lines(A), 4)
    outcome = pipeline.run()
    assert outcome.code == 1
    assert "before the one that was emitted last" in outcome.errors[0]
    assert_account(pipeline.sandbox, B)


def test_an_export_that_shrank_as_a_whole_or_in_a_segment_stops_the_run(pipeline: Pipeline) -> None:
    whole = {f"x{number}@example.com": ["A", "B"] if number < 120 else ["A"] for number in range(300)}
    pipeline.export(lines(whole))
    pipeline.run()
    for smaller, words in (
        (dict(list(whole.items())[:200]), "contacts 300 -> 200"),
        ({email: ["A"] for email in whole}, "segment 'B' 120 -> 0"),
    ):
        pipeline.export(lines(smaller), 1)
        outcome = pipeline.extract()
        assert outcome.code == 1
        assert words in outcome.errors[0]
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        assert f"TAP_NOSTO_SEGMENTS_SHRINK_OVERRIDE_DATE={today}" in outcome.errors[0]
        assert outcome.records() == []
        assert run_tap(pipeline.tap | {"shrink_override_date": today, "snapshot_uri": copied(pipeline)}, pipeline.state).code == 0


def copied(pipeline: Pipeline) -> str:
    copy = Path(tempfile.mkdtemp(dir=pipeline.folder)) / "snapshots"
    shutil.copytree(pipeline.folder / "snapshots", copy)
    return str(copy)


def test_a_renamed_segment_is_logged_and_updated_in_one_pass(pipeline: Pipeline) -> None:
    shop = Shop(400, change_per_mille=0, vanish_per_mille=0, new_per_mille=0, renames=((1, "VIP", "Very important"),))
    pipeline.tap |= {"api_token": pipeline.sandbox.nosto.api_token, "graphql_url": pipeline.sandbox.graphql_url}
    for day in (0, 1):
        wanted = expected(pipeline.export(shop.export(day), day))
        pipeline.sandbox.nosto.segments = list(shop.catalogue(day))
        extracted = pipeline.extract()
        assert extracted.code == 0, extracted.log
        pipeline.load(extracted.output)
        assert_account(pipeline.sandbox, wanted)
    assert "'VIP' is now 'Very important'" in extracted.log
    assert "dotdigital" in extracted.log
    _, *renaming = (call.json()["contacts"] for call in pipeline.sandbox.journal.imports())
    assert len(renaming) == 1
    assert renaming[0]
    assert all("Very important" in row["dataFields"][FIELD] for row in renaming[0])


def test_a_renamed_segment_that_is_no_longer_chosen_counts_as_shrinkage(pipeline: Pipeline) -> None:
    shop = Shop(1_000, change_per_mille=0, vanish_per_mille=0, renames=((1, "VIP", "Very important"),))
    pipeline.tap |= {
        "api_token": pipeline.sandbox.nosto.api_token,
        "graphql_url": pipeline.sandbox.graphql_url,
        "segments": ["VIP"],
    }
    for day in (0, 1):
        pipeline.export(shop.export(day), day)
        pipeline.sandbox.nosto.segments = list(shop.catalogue(day))
        extracted = pipeline.extract()
        if day == 0:
            pipeline.state = extracted.bookmark
    assert (extracted.code, extracted.output) == (1, "")
    assert "segment 'VIP'" in extracted.errors[0]


def test_full_table_sources_with_activate_version(pipeline: Pipeline) -> None:
    def table(version: int, emails: list[str], *, early: bool, whole: bool = True) -> str:
        schema = {"properties": {"email": {"type": "string"}, "segments": {"type": "array"}}}
        activate = {"type": "ACTIVATE_VERSION", "stream": "t", "version": version}
        records = [
            {"type": "RECORD", "stream": "t", "version": version, "record": {"email": email, "segments": ["A"]}} for email in emails
        ]
        state = [{"type": "STATE", "value": {"v": version}}] if whole else []
        start = {"type": "SCHEMA", "stream": "t", "schema": schema, "key_properties": ["email"]}
        lines = [start, activate, *records, *state] if early else [start, *records, activate, *state]
        return "".join(json.dumps(line) + "\n" for line in lines)

    assert pipeline.load(table(1, ["a@example.com", "b@example.com", "c@example.com"], early=False)).code == 0
    assert pipeline.load(table(2, ["a@example.com", "b@example.com"], early=False)).code == 0
    labelled = {email for email, contact in pipeline.sandbox.account.snapshot().items() if contact.data_fields}
    assert labelled == {"a@example.com", "b@example.com"}
    # the tap was killed: an early version without a final STATE does not show which contacts were removed
    outcome = pipeline.load(table(3, ["a@example.com"], early=True, whole=False))
    assert (outcome.code, outcome.output) == (1, "")
    assert outcome.errors[-1].startswith("The input is incomplete")
    assert {e for e, c in pipeline.sandbox.account.snapshot().items() if c.data_fields} == labelled
    assert pipeline.load(table(4, ["a@example.com"], early=True)).code == 0
    assert {e for e, c in pipeline.sandbox.account.snapshot().items() if c.data_fields} == {"a@example.com"}


def test_snapshots_can_be_read_with_standard_tools(pipeline: Pipeline) -> None:
    wanted = expected(pipeline.export(SHOP.export(0)))
    pipeline.run()
    (path,) = (pipeline.folder / "snapshots").glob("*.parquet")
    rows = duckdb.read_parquet(str(path)).select("email", "segments").fetchall()
    assert dict(rows) == wanted
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), key=str.encode)
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["contacts"] == len(wanted)
    assert manifest["include"] == ["*"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def changes(catalog: Callable[..., Any], pipeline: Pipeline) -> list[tuple[str, str, str]]:
    pipeline.catalog = catalog("contact_segments", "segment_changes", "segments")
    extracted = pipeline.extract()
    pipeline.state = extracted.bookmark
    return sorted((r["email"], r["segment"], r["change"]) for r in extracted.records("segment_changes"))


def selecting(*names: str) -> dict[str, Any]:
    from tap_nosto_segments.tap import TapNostoSegments  # noqa: PLC0415

    catalog = TapNostoSegments(config={}, validate_config=False, setup_mapper=False).catalog_dict
    for entry in catalog["streams"]:
        root = next(one for one in entry["metadata"] if not one["breadcrumb"])
        root["metadata"]["selected"] = entry["tap_stream_id"] in names
    return catalog


def test_segment_changes_contain_who_entered_and_left(pipeline: Pipeline) -> None:
    exports = [{"a@example.com": ["X", "Y"], "b@example.com": []}, {"a@example.com": ["Y", "Z"], "c@example.com": ["X"]}, {}]
    seen = []
    pipeline.tap |= {"allow_empty_export": True}
    for day, content in enumerate(exports):
        pipeline.export(lines(content), day)
        seen.append(changes(selecting, pipeline))
    a, c = "a@example.com", "c@example.com"
    assert seen == [
        [(a, "X", "entered"), (a, "Y", "entered")],
        [(a, "X", "left"), (a, "Z", "entered"), (c, "X", "entered")],
        [(a, "Y", "left"), (a, "Z", "left"), (c, "X", "left")],
    ]


def test_each_stream_uses_its_own_bookmark(pipeline: Pipeline) -> None:
    pipeline.export(lines(A))
    pipeline.catalog = selecting("contact_segments")
    pipeline.state = pipeline.extract().bookmark
    pipeline.export(lines(B), 1)
    pipeline.catalog = selecting("contact_segments", "segment_changes")
    extracted = pipeline.extract()
    assert [r["segments"] for r in extracted.records()] == [["B"]]
    assert [(r["segment"], r["change"]) for r in extracted.records("segment_changes")] == [("B", "entered")]


def test_the_catalogue_joins_ids_and_counts(pipeline: Pipeline) -> None:
    pipeline.export(lines({"a@example.com": ["X", "Y"], "b@example.com": ["X"]}))
    pipeline.sandbox.nosto.segments = [("1" * 24, "X"), ("2" * 24, "Never"), (None, "Y"), ("3" * 24, None)]
    pipeline.tap |= {
        "api_token": pipeline.sandbox.nosto.api_token,
        "graphql_url": pipeline.sandbox.graphql_url,
        "exclude_segments": ["Y"],
    }
    pipeline.catalog = selecting("segments")
    found = pipeline.extract().records("segments")
    assert {record.pop("exported_at") for record in found} == {"2026-11-01T04:00:00Z"}
    assert found == [
        {"name": "Never", "id": "2" * 24, "selected": True, "contact_count": 0},
        {"name": "X", "id": "1" * 24, "selected": True, "contact_count": 2},
        {"name": "Y", "id": None, "selected": False, "contact_count": 1},
    ]


@pytest.mark.parametrize(
    "body", [b'{"errors":[{"message":"secret@example.com"}]}', b'{"data":null}', b"<html>", b"[]", b'{"data":{"segments":5}}']
)
def test_a_broken_catalogue_stops_only_the_segments_stream(pipeline: Pipeline, body: bytes) -> None:
    pipeline.export(lines(A))
    pipeline.tap |= {"api_token": pipeline.sandbox.nosto.api_token, "graphql_url": pipeline.sandbox.graphql_url}
    pipeline.sandbox.nosto.graphql_body = body
    extracted = pipeline.extract()
    assert extracted.code == 0
    assert len(extracted.records()) == 1
    assert "continues without it" in extracted.log
    pipeline.catalog = selecting("segments")
    pipeline.tap["snapshot_uri"] = copied(pipeline)
    shutil.rmtree(pipeline.tap["snapshot_uri"])
    extracted = pipeline.extract()
    assert extracted.code == 1
    assert "secret@example.com" not in extracted.log


NAMES = st.lists(st.sampled_from(["A", "B", "Ä, ö", 'q"\\', "x;y"]), max_size=3)
CONTENT = st.dictionaries(st.sampled_from([f"{name}@example.com" for name in "abcdefgh"]), NAMES, max_size=8)


@settings(settings.get_profile("costly"), deadline=None)
@given(CONTENT, CONTENT)
def test_applying_the_changes_to_the_first_gives_the_second(first: dict[str, list[str]], second: dict[str, list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.jsonl"
        config = {
            "export_url": str(path),
            "snapshot_uri": folder + "/s",
            "max_export_age_hours": 0,
            "allow_empty_export": True,
            "segment_identifier": "nosto_segments",
        }
        held: dict[str, list[str]] = {}
        state = None
        for number, content in enumerate((first, second)):
            path.write_bytes(lines(content))
            outcome = run_tap(config, state)
            assert outcome.code == 0, outcome.log
            state = outcome.bookmark
            emitted = {record["email"] for record in outcome.records()}
            now = {email: sorted(set(names)) for email, names in content.items()}
            before = {email: sorted(set(names)) for email, names in first.items()} if number else {}
            assert emitted == {email for email in now.keys() | before.keys() if now.get(email) != before.get(email)}
            for record in outcome.records():
                if record["_sdc_deleted_at"]:
                    del held[record["email"]]
                else:
                    held[record["email"]] = record["segments"]
        assert held == {email: sorted(set(names)) for email, names in second.items()}


def test_state_does_not_grow(pipeline: Pipeline) -> None:
    sizes: list[int] = []
    for contacts in (10, 2_000):
        pipeline.state = None
        pipeline.export(Shop(contacts).export(0), contacts)
        pipeline.run()
        sizes.append(len(json.dumps(pipeline.state)))
    assert sizes[1] <= sizes[0] + 5
