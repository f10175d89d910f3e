"""Errors occur before the first message: a failed run must not look like one in which nothing changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import ExportFile, Fault, Sandbox, Shop
from nosto_dotdigital_sandbox.faults import answer
from support.running import START, Outcome, run_tap
from tap_nosto_segments.tap import TapNostoSegments

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = b'{"email":"B@example.com","seg":["Loyal Customers","VIP"]}\n{"email":"a@example.com","seg":[]}\n'


@pytest.fixture
def config(sandbox: Sandbox, tmp_path: Path) -> dict[str, object]:
    sandbox.nosto.export = ExportFile(BODY, START)
    return {
        "export_url": sandbox.export_url,
        "export_token": sandbox.nosto.token,
        "snapshot_uri": str(tmp_path / "snapshots"),
        "max_export_age_hours": 0,
    }


def selecting(*names: str) -> dict[str, Any]:
    catalog = TapNostoSegments(config={}, validate_config=False, setup_mapper=False).catalog_dict
    for entry in catalog["streams"]:
        root = next(one for one in entry["metadata"] if not one["breadcrumb"])
        root["metadata"]["selected"] = entry["tap_stream_id"] in names
    return catalog


def assert_silent(outcome: Outcome, words: str) -> None:
    assert (outcome.code, outcome.output) == (1, "")
    assert len(outcome.errors) == 1, outcome.log
    assert words in outcome.errors[0]


def smaller(body: bytes) -> bytes:
    return b"".join(body.splitlines(keepends=True)[:200])


@pytest.mark.parametrize(
    ("day", "change", "settings", "words"),
    [
        (2, lambda _: None, {}, "no export file yet"),
        (2, lambda _: b"", {}, "contains no contacts"),
        (2, smaller, {}, "The export shrank"),
        (2, lambda body: body + b"{}\n", {}, "max_invalid_lines"),
        (2, lambda body: body[:-9], {}, "middle of a line"),
        (1, lambda body: body + b"\n", {}, "before the one that was emitted last"),
        (2, bytes, {"max_export_age_hours": 1}, "The export was made"),
        (2, bytes, {"export_token": "wrong"}, "refused the export token"),
        (2, bytes, {"segments": ["vip"]}, "choose none of Nosto's segments"),
        (2, bytes, {"segment_identifier": "other"}, "no key 'other'"),
    ],
)
def test_a_failed_run_writes_nothing_even_with_a_bookmark(
    sandbox: Sandbox,
    config: dict[str, object],
    day: int,
    change: Callable[[bytes], bytes | None],
    settings: dict[str, object],
    words: str,
) -> None:
    whole = Shop(500).export(0)
    sandbox.nosto.export = ExportFile(whole, START.replace(hour=5))
    state = run_tap(config).bookmark
    body = change(whole)
    sandbox.nosto.export = None if body is None else ExportFile(body, START.replace(day=day))
    assert_silent(run_tap({**config, **settings}, state), words)


def test_an_unavailable_server_and_a_damaged_snapshot_write_nothing(sandbox: Sandbox, config: dict[str, object]) -> None:
    assert run_tap(config).code == 0
    next(Path(str(config["snapshot_uri"])).glob("*.parquet")).write_bytes(b"PAR1")
    assert_silent(run_tap(config), "The newest snapshot is damaged")
    sandbox.faults.add(Fault("answer", service="nosto", times=9, response=answer(503)))
    assert_silent(run_tap(config), "Fetching the Segment Export failed")


def test_a_requested_catalogue_fails_before_the_first_message(sandbox: Sandbox, config: dict[str, object]) -> None:
    config |= {"api_token": "wrong", "graphql_url": sandbox.graphql_url}
    assert run_tap(config).code == 0
    shutil.rmtree(str(config["snapshot_uri"]))
    assert_silent(run_tap(config, catalog=selecting("contact_segments", "segments")), "GraphQL API answered with status 401")


def test_the_starting_state_is_the_first_message_if_there_is_one(config: dict[str, object], sandbox: Sandbox) -> None:
    first = run_tap(config)
    assert [line["type"] for line in first.lines] == ["SCHEMA", "RECORD", "RECORD", "ACTIVATE_VERSION", "STATE"]
    sandbox.nosto.export = ExportFile(BODY.replace(b"VIP", b"Prospects"), START.replace(day=2))
    second = run_tap(config, first.bookmark)
    assert [line["type"] for line in second.lines] == ["STATE", "SCHEMA", "RECORD", "STATE"]
    assert second.lines[0]["value"] == first.bookmark


def test_two_streams_with_two_bases_are_compared_before_the_first_message(sandbox: Sandbox, config: dict[str, object]) -> None:
    both = selecting("contact_segments", "segment_changes")
    first = run_tap(config, None, both).bookmark["bookmarks"]
    sandbox.nosto.export = ExportFile(BODY.replace(b"VIP", b"Y"), START.replace(day=2))
    second = run_tap(config, {"bookmarks": first}, both).bookmark["bookmarks"]
    sandbox.nosto.export = ExportFile(BODY.replace(b"VIP", b"Z"), START.replace(day=3))
    # the STATE of segment_changes was lost on the second day
    state = {"bookmarks": {**second, "segment_changes": first["segment_changes"]}}
    outcome = run_tap(config, state, both)
    assert [record["segments"] for record in outcome.records()] == [["Loyal Customers", "Z"]]
    moved = {(record["segment"], record["change"]) for record in outcome.records("segment_changes")}
    assert moved == {("VIP", "left"), ("Z", "entered")}


def test_about_discover_and_test_work(command: Callable[..., Outcome], local: dict[str, object]) -> None:
    assert json.loads(command({}, "--about", "--format=json").output)["name"] == "tap-nosto-segments"
    assert len(json.loads(command({}, "--discover").output)["streams"]) == 3
    tested = command(local, "--test")
    assert tested.code == 0, tested.log
    assert {line["stream"] for line in tested.lines if line["type"] == "RECORD"} == {
        "contact_segments",
        "segment_changes",
        "segments",
    }
    schema = command({"export_url": "nothing"}, "--test=schema")
    assert (schema.code, [line["type"] for line in schema.lines]) == (0, ["SCHEMA"] * 3)
    assert_silent(command({**local, "export_url": "nothing"}, "--test"), "export_url names no readable file")


def test_a_catalog_that_selects_nothing_fails(config: dict[str, object]) -> None:
    assert_silent(run_tap(config, catalog=selecting()), "selects no stream")
