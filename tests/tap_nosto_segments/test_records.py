"""RECORD messages: written in bulk or one by one, they are the same; and the properties of the streams."""

from __future__ import annotations

import copy
import datetime
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.running import START, run_tap
from tap_nosto_segments.tap import TapNostoSegments

if TYPE_CHECKING:
    from support.running import Outcome

ODD = [[], ["VIP"], ['q"\\', "Ä, ö", "漢字 🛒", "\u0000", "</script>", "a\tb"]]


def catalog(*names: str) -> dict[str, Any]:
    made: dict[str, Any] = TapNostoSegments(config={}, validate_config=False, setup_mapper=False).catalog_dict
    for entry in made["streams"]:
        root = next(one for one in entry["metadata"] if not one["breadcrumb"])
        root["metadata"]["selected"] = entry["tap_stream_id"] in names
    return made


def write(config: dict[str, object], names: list[list[str]], host: str = "example.com") -> None:
    records = [{"email": f"{number}é'@{host}", "seg": one} for number, one in enumerate(names)]
    Path(str(config["export_url"])).write_text("".join(json.dumps(record) + "\n" for record in records))


def comparable(outcome: Outcome) -> list[tuple[list[str], str]]:
    """Return each line as its keys, in order, and its content without the times of the run."""
    found = []
    for line in outcome.lines:
        keys = list(line)
        if line["type"] == "RECORD":
            stamp = line.pop("time_extracted")
            moment = datetime.datetime.fromisoformat(stamp)
            assert moment.utcoffset() == datetime.timedelta(0)
            assert stamp == moment.isoformat()
            assert datetime.datetime.now(datetime.UTC) - moment < datetime.timedelta(minutes=1)
        if "version" in line:
            line["version"] = 0
        found.append((keys, json.dumps(line)))
    return sorted(found) if len(found) > 1 else found


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("stream", ["contact_segments", "segment_changes"])
def test_bulk_and_single_records_are_the_same(local: dict[str, object], tmp_path: Path, stream: str, full: bool) -> None:  # noqa: FBT001
    long_way: dict[str, object] = {"stream_maps": {stream: {}}}
    outcomes = []
    for name, change in (("quick", {}), ("long", long_way)):
        config = {**local, **change, "snapshot_uri": str(tmp_path / name)}
        write(config, ODD)
        os.utime(str(config["export_url"]), (START.timestamp(), START.timestamp()))
        outcome = run_tap(config, None, catalog(stream))
        if not full:
            write(config, [*ODD[::-1], ["VIP"]][1:], "example.com")
            os.utime(str(config["export_url"]), (START.timestamp() + 60, START.timestamp() + 60))
            outcome = run_tap(config, outcome.bookmark, catalog(stream))
        assert outcome.code == 0, outcome.log
        outcomes.append(comparable(outcome))
    types = [json.loads(text)["type"] for _, text in outcomes[0]]
    assert types.count("RECORD") >= 3
    records = [[(keys, text) for keys, text in outcome if '"RECORD"' in text] for outcome in outcomes]
    assert records[0] == records[1]
    assert [keys for keys, _ in outcomes[0]] == [keys for keys, _ in outcomes[1]]


def test_records_are_written_in_bulk_by_default(local: dict[str, object]) -> None:
    """Also with the discovered catalog, which Meltano passes. The SDK itself would escape the letter."""
    write(local, ODD)
    assert "é" in run_tap(local, None, catalog("contact_segments")).output
    assert "é" in run_tap(local).output
    assert "é" not in run_tap({**local, "stream_maps": {"contact_segments": {}}}).output


@pytest.mark.parametrize("removed", ["segments", "_sdc_deleted_at", "exported_at"])
@pytest.mark.parametrize("how", ["schema", "selection"])
def test_a_deselected_property_is_not_emitted(local: dict[str, object], removed: str, how: str) -> None:
    chosen = copy.deepcopy(catalog("contact_segments"))
    entry = next(one for one in chosen["streams"] if one["tap_stream_id"] == "contact_segments")
    if how == "schema":
        del entry["schema"]["properties"][removed]
        entry["schema"]["required"] = [name for name in entry["schema"]["required"] if name != removed]
        entry["metadata"] = [one for one in entry["metadata"] if removed not in one["breadcrumb"]]
    else:
        (facts,) = (one["metadata"] for one in entry["metadata"] if removed in one["breadcrumb"])
        facts["selected"] = False
    outcome = run_tap(local, None, chosen)
    assert outcome.code == 0, outcome.log
    # a key or a replication key cannot be deselected, and the mark of removal not even by a catalog without it
    stays = removed == "_sdc_deleted_at" or (how == "selection" and removed == "exported_at")
    assert [removed in record for record in outcome.records()] == [stays] * 2
    assert (removed in outcome.lines[0]["schema"]["properties"]) == stays


@pytest.mark.parametrize("how", ["deselected", "not in the schema", "no metadata"])
def test_removed_contacts_are_marked_whatever_the_catalog_says(local: dict[str, object], how: str) -> None:
    chosen = copy.deepcopy(catalog("contact_segments"))
    entry = next(one for one in chosen["streams"] if one["tap_stream_id"] == "contact_segments")
    (facts,) = (one for one in entry["metadata"] if one["breadcrumb"][-1:] == ["_sdc_deleted_at"])
    assert facts["metadata"] == {"inclusion": "automatic"}
    # as an earlier version discovered it
    facts["metadata"] = {"inclusion": "available", "selected": False}
    if how != "deselected":
        del entry["schema"]["properties"]["_sdc_deleted_at"]
        entry["metadata"].remove(facts)
    if how == "no metadata":
        entry["metadata"], chosen["streams"] = [], [entry]
    write(local, [["A"], ["B"]])
    state = run_tap(local, None, chosen).bookmark
    write(local, [["A"]])
    outcome = run_tap(local, state, chosen)
    assert [bool(record["_sdc_deleted_at"]) for record in outcome.records()] == [True], outcome.log
    assert "_sdc_deleted_at" in next(line for line in outcome.lines if line["type"] == "SCHEMA")["schema"]["properties"]


def test_a_full_refresh_of_the_changes_logs_that_it_repeats_them(local: dict[str, object]) -> None:
    first = run_tap(local, None, catalog("segment_changes"))
    again = run_tap(local, None, catalog("segment_changes"))
    assert first.records("segment_changes") == again.records("segment_changes") != []
    assert "every membership is emitted as entered" in again.log
    assert "every membership" not in run_tap(local, first.bookmark, catalog("segment_changes")).log
    entry = catalog()["streams"][1]
    assert "every full refresh" in entry["schema"]["properties"]["change"]["description"]


def test_a_new_snapshot_folder_stays_out_of_version_control(local: dict[str, object], tmp_path: Path) -> None:
    outcome = run_tap(local)
    folder = Path(str(local["snapshot_uri"]))
    assert (folder / ".gitignore").read_text() == "*\n"
    assert run_tap(local, outcome.bookmark).bookmark == outcome.bookmark
    # a folder that existed already belongs to the operator
    mine = tmp_path / "mine"
    mine.mkdir()
    assert run_tap({**local, "snapshot_uri": str(mine)}).code == 0
    assert not (mine / ".gitignore").exists()
