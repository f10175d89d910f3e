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
    from collections.abc import Callable

    from support.running import Outcome


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


def chosen(outcome: Outcome) -> list[str]:
    """Return the names of all emitted segments."""
    assert outcome.code == 0, outcome.log
    return sorted({name for record in outcome.records() for name in record["segments"]})


BRACKETS = ["[VIP]", "V", "Sale [A]", "Sale A", "[!x]", "y", "[a-c] *", "b z"]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ({"segments": ["[VIP]"]}, ["[VIP]"]),
        ({"segments": ["Sale [A]"]}, ["Sale [A]"]),
        ({"segments": ["[!x]"]}, ["[!x]"]),
        ({"segments": ["[a-c] *"]}, ["[a-c] *"]),
        # no segment has this name, so it is a pattern
        ({"segments": ["Sale [AB]"]}, ["Sale A"]),
        ({"segments": ["[VW]"]}, ["V"]),
        ({"segments": ["[[]VIP]"]}, ["[VIP]"]),
        ({"segments": ["*[[]A]"]}, ["Sale [A]"]),
        ({"exclude_segments": ["[VIP]", "[!x]", "[a-c] *"]}, ["Sale A", "Sale [A]", "V", "b z", "y"]),
        ({"segments": ["Sale *"], "exclude_segments": ["Sale [A]"]}, ["Sale A"]),
    ],
)
def test_an_exact_name_wins_before_its_brackets_are_a_set_of_characters(
    sandbox: Sandbox, config: dict[str, object], patterns: dict[str, object], names: list[str]
) -> None:
    sandbox.nosto.export = ExportFile(lines(*([name] for name in BRACKETS)), day(1))
    outcome = run_tap(config | patterns)
    assert chosen(outcome) == names
    assert "WARNING" not in outcome.log
    # the same export again, and a stream of its own
    assert chosen(run_tap(config | patterns)) == names


@pytest.mark.parametrize("patterns", [{"segments": ["Sale [A]"]}, {"exclude_segments": ["Sale [A]"]}])
def test_an_exact_name_stays_one_while_its_segment_is_empty(
    sandbox: Sandbox, config: dict[str, object], patterns: dict[str, object]
) -> None:
    config |= patterns
    names = ["Sale [A]"] if "segments" in patterns else ["Sale A"]
    sandbox.nosto.export = ExportFile(lines(["Sale A", "Sale [A]"]), day(1))
    state = run_tap(config).bookmark
    for number in (2, 3):
        sandbox.nosto.export = ExportFile(lines(["Sale A"], *[[]] * number), day(number))
        outcome = run_tap(config, state)
        assert outcome.code == 0, outcome.log
        changed = {record["email"]: record["segments"] for record in outcome.records()}
        assert changed.get("p0@example.com", names) == ([] if "segments" in patterns and number == 2 else names)
        state = outcome.bookmark


@pytest.mark.parametrize(
    ("patterns", "setting", "nearest"),
    [
        ({"segments": ["VIP", "loyal*"]}, "segments", "'Loyal Customers'"),
        ({"segments": ["VIP", "Loyal Custmers"]}, "segments", "'Loyal Customers'"),
        ({"exclude_segments": ["vip"]}, "exclude_segments", "'VIP'"),
        ({"exclude_segments": ["VlP"]}, "exclude_segments", "'VIP'"),
        ({"exclude_segments": [" Loyal Customers"]}, "exclude_segments", "'Loyal Customers'"),
        ({"exclude_segments": ["[Loyal Customers]"]}, "exclude_segments", "'Loyal Customers'"),
        ({"exclude_segments": ["LOYAL?CUSTOMERS"]}, "exclude_segments", "'Loyal Customers'"),
    ],
)
def test_every_pattern_that_matches_nothing_is_named_with_the_nearest_name(
    config: dict[str, object], check: Callable[..., Outcome], patterns: dict[str, object], setting: str, nearest: str
) -> None:
    outcome = run_tap(config | patterns)
    assert outcome.code == 0
    (warning,) = [line for line in outcome.log.splitlines() if line.startswith("WARNING")]
    assert f"in {setting} matches no segment" in warning
    assert f"The nearest name is {nearest}." in warning
    checked = check(config | patterns)
    (line,) = [line for line in checked.output.splitlines() if "Without effect" in line]
    assert f"in {setting} matches no segment; the nearest name is {nearest}" in line
    assert checked.code == 0


@pytest.mark.parametrize("blank", ["", " ", "\t \n", "\u00a0", "\u3000"])
def test_a_blank_name_is_left_out(sandbox: Sandbox, config: dict[str, object], check: Callable[..., Outcome], blank: str) -> None:
    sandbox.nosto.export = ExportFile(lines([blank], ["VIP", blank], [blank, "A"], []), day(1))
    sandbox.nosto.segments = [("1" * 24, blank), ("2" * 24, "VIP")]
    catalogue = {"api_token": sandbox.nosto.api_token, "graphql_url": sandbox.graphql_url}
    for more in ({}, {"segments": [blank, "VIP", "A"]}, catalogue):
        outcome = run_tap(config | more)
        assert [record["segments"] for record in outcome.records()] == [[], ["VIP"], ["A"], []]
    assert "3 contacts are in a segment whose name is blank" in run_tap({**config, "segments": ["*", "VIP"]}).log
    assert "left out for 3 contacts" in check(config).output


def test_an_export_of_blank_names_only_is_one_without_segments(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.nosto.export = ExportFile(lines([""], ["  "]), day(1))
    assert [record["segments"] for record in run_tap(config).records()] == [[], []]
