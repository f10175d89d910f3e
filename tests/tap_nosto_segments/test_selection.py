"""Patterns that match no segment stop the run; segments that are only empty today do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nosto_dotdigital_sandbox import ExportFile, Sandbox
from support.running import START, run_tap

if TYPE_CHECKING:
    import datetime


def lines(*names: list[str]) -> bytes:
    return "".join(json.dumps({"email": f"p{number}@example.com", "seg": one}) + "\n" for number, one in enumerate(names)).encode()


def day(number: int) -> datetime.datetime:
    return START.replace(day=number)


@pytest.fixture
def config(sandbox: Sandbox, tmp_path: Path) -> dict[str, object]:
    sandbox.nosto.export = ExportFile(lines(["VIP"], ["Loyal Customers"]), day(1))
    return {
        "export_url": sandbox.export_url,
        "export_token": sandbox.nosto.token,
        "snapshot_uri": str(tmp_path / "snapshots"),
        "max_export_age_hours": 0,
    }


@pytest.mark.parametrize("patterns", [{"segments": ["vip", "Loyal"]}, {"segments": []}, {"exclude_segments": ["*"]}])
def test_a_selection_of_nothing_stops_and_lists_the_segments(config: dict[str, object], patterns: dict[str, object]) -> None:
    outcome = run_tap(config | patterns)
    assert (outcome.code, outcome.output, len(outcome.errors)) == (1, "", 1)
    assert "which are: 'Loyal Customers', 'VIP'." in outcome.errors[0]
    assert "Correct segments" in outcome.errors[0]
    assert not list(Path(str(config["snapshot_uri"])).glob("*.json"))


def test_twenty_names_are_listed_and_the_others_counted(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.nosto.export = ExportFile(lines([f"S{number:02d}\x1b[31m" for number in range(23)]), day(1))
    outcome = run_tap(config | {"segments": ["none"]})
    assert r"'S00\x1b[31m'" in outcome.errors[0]
    assert "'S19" in outcome.errors[0]
    assert "'S20" not in outcome.errors[0]
    assert "and 3 more" in outcome.errors[0]


def test_a_segment_of_an_earlier_snapshot_may_become_empty(sandbox: Sandbox, config: dict[str, object]) -> None:
    config["segments"] = ["VIP"]
    state = run_tap(config).bookmark
    for number, names in enumerate((["Loyal Customers"], ["Prospects"], []), start=2):
        sandbox.nosto.export = ExportFile(lines(names, names), day(number))
        outcome = run_tap(config, state)
        assert outcome.code == 0, outcome.log
        # also if the same export is read again
        assert run_tap(config, outcome.bookmark).code == 0
        state = outcome.bookmark
    assert run_tap(config | {"segments": ["V*P", "Loyal"]}, state).code == 0
    outcome = run_tap(config | {"segments": ["vip"]}, state)
    assert (outcome.code, outcome.output) == (1, "")


def test_a_segment_of_the_catalogue_may_be_empty(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.nosto.segments = [("1" * 24, "Black Friday"), ("2" * 24, "VIP")]
    config |= {"segments": ["Black Friday"]}
    assert run_tap(config).code == 1
    catalogue = {"api_token": sandbox.nosto.api_token, "graphql_url": sandbox.graphql_url}
    outcome = run_tap(config | catalogue)
    assert (outcome.code, [record["segments"] for record in outcome.records()]) == (0, [[], []])
    # a segment that was once in the catalogue is known from the snapshot
    sandbox.nosto.export = ExportFile(lines(["VIP"]), day(2))
    assert run_tap(config, outcome.bookmark).code == 0


def test_an_export_without_any_segment(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.nosto.export = ExportFile(lines([], []), day(1))
    config["segment_identifier"] = "seg"
    outcome = run_tap(config | {"segments": ["VIP"]})
    assert (outcome.code, outcome.output) == (1, "")
    assert "the export contains none at all" in outcome.errors[0]
    everything = run_tap(config)
    assert everything.code == 0
    assert "WARNING" not in everything.log
    sandbox.nosto.export = ExportFile(b"", day(2))
    assert run_tap(config | {"segments": ["VIP"], "allow_empty_export": True}).code == 0


def test_a_pattern_that_matches_nothing_is_named(config: dict[str, object]) -> None:
    outcome = run_tap(config | {"segments": ["VIP", "loyal*"]})
    assert outcome.code == 0
    warnings = [line for line in outcome.log.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "The pattern 'loyal*' in segments matches no segment" in warnings[0]
    assert "WARNING" not in run_tap(config).log


def test_snapshots_of_an_earlier_version_are_read(sandbox: Sandbox, config: dict[str, object]) -> None:
    config["segments"] = ["VIP"]
    state = run_tap(config).bookmark
    (path,) = Path(str(config["snapshot_uri"])).glob("*.json")
    manifest = json.loads(path.read_text())
    assert manifest.pop("chosen") == ["VIP"]
    path.write_text(json.dumps(manifest))
    sandbox.nosto.export = ExportFile(lines(["VIP"], ["VIP"]), day(2))
    outcome = run_tap(config, state)
    assert (outcome.code, [record["email"] for record in outcome.records()]) == (0, ["p1@example.com"])
    assert "missing or damaged" not in outcome.log
