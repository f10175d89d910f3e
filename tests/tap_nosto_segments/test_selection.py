"""Patterns that match no segment stop the run; segments that are only empty today do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import ExportFile
from support.running import START, run_tap
from tap_nosto_segments.errors import GuardError
from tap_nosto_segments.settings import Selection
from tap_nosto_segments.text import nearest_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from nosto_dotdigital_sandbox import Sandbox
    from support.running import Outcome


def publish(sandbox: Sandbox, day: int, *names: list[str]) -> None:
    lines = [json.dumps({"email": f"p{number}@example.com", "seg": listed}) + "\n" for number, listed in enumerate(names)]
    sandbox.nosto.export = ExportFile("".join(lines).encode(), START.replace(day=day))


@pytest.fixture
def config(config: dict[str, Any], sandbox: Sandbox) -> dict[str, Any]:
    publish(sandbox, 1, ["VIP"], ["Loyal Customers"])
    return config


@pytest.mark.parametrize("patterns", [{"segments": ["vip", "Loyal"]}, {"segments": []}, {"exclude_segments": ["*"]}])
def test_a_selection_of_nothing_stops_and_lists_the_segments(config: dict[str, Any], patterns: dict[str, object]) -> None:
    outcome = run_tap(config | patterns)
    assert (outcome.code, outcome.output, type(outcome.error)) == (1, "", GuardError)
    assert "'Loyal Customers', 'VIP'." in outcome.errors[0]
    assert not list(Path(config["snapshot_uri"]).glob("*.json"))


def test_twenty_names_are_listed_and_the_others_counted(sandbox: Sandbox, config: dict[str, Any]) -> None:
    publish(sandbox, 1, [f"S{number:02d}\x1b[31m" for number in range(23)])
    error = run_tap(config | {"segments": ["none"]}).errors[0]
    assert r"'S00\x1b[31m'" in error
    assert ("'S19" in error, "'S20" in error, "and 3 more" in error) == (True, False, True)


def test_a_segment_of_an_earlier_snapshot_may_become_empty(sandbox: Sandbox, config: dict[str, Any]) -> None:
    config["segments"] = ["VIP"]
    state = run_tap(config).bookmark
    for number, names in enumerate((["Loyal Customers"], []), start=2):
        publish(sandbox, number, names, names)
        outcome = run_tap(config, state)
        assert outcome.code == 0, outcome.log
        # even if the same export is read again
        assert run_tap(config, outcome.bookmark).code == 0
        state = outcome.bookmark
    outcome = run_tap(config | {"segments": ["vip"]}, state)
    assert (outcome.code, outcome.output) == (1, "")


def test_a_segment_of_the_catalogue_may_be_empty(sandbox: Sandbox, config: dict[str, Any]) -> None:
    sandbox.nosto.segments = [("1" * 24, "Black Friday"), ("2" * 24, "VIP")]
    config |= {"segments": ["Black Friday"]}
    assert run_tap(config).code == 1
    outcome = run_tap(config | {"api_token": sandbox.nosto.api_token, "graphql_url": sandbox.graphql_url})
    assert (outcome.code, [record["segments"] for record in outcome.records()]) == (0, [[], []])
    # a segment that was once in the catalogue is known from the snapshot
    publish(sandbox, 2, ["VIP"])
    assert run_tap(config, outcome.bookmark).code == 0


def test_an_export_without_any_segment(sandbox: Sandbox, config: dict[str, Any]) -> None:
    publish(sandbox, 1, [], [])
    config["segment_identifier"] = "seg"
    assert isinstance(run_tap(config | {"segments": ["VIP"]}).error, GuardError)
    everything = run_tap(config)
    assert (everything.code, "WARNING" in everything.log) == (0, False)
    publish(sandbox, 2)
    assert run_tap(config | {"segments": ["VIP"], "allow_empty_export": True}).code == 0


def test_snapshots_of_an_earlier_version_are_read(sandbox: Sandbox, config: dict[str, Any]) -> None:
    config["segments"] = ["VIP"]
    state = run_tap(config).bookmark
    (path,) = Path(config["snapshot_uri"]).glob("*.json")
    manifest = json.loads(path.read_text())
    assert manifest.pop("chosen") == ["VIP"]
    path.write_text(json.dumps(manifest))
    publish(sandbox, 2, ["VIP"], ["VIP"])
    outcome = run_tap(config, state)
    assert (outcome.code, [record["email"] for record in outcome.records()]) == (0, ["p1@example.com"])
    assert "missing or damaged" not in outcome.log


BRACKETS = ["[VIP]", "V", "Sale [A]", "Sale A", "[!x]", "y", "[a-c] *", "b z"]


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        (["[VIP]"], [], ["[VIP]"]),
        (["Sale [A]"], [], ["Sale [A]"]),
        (["[!x]"], [], ["[!x]"]),
        (["[a-c] *"], [], ["[a-c] *"]),
        # no segment has this name, so it is a pattern
        (["Sale [AB]"], [], ["Sale A"]),
        (["[VW]"], [], ["V"]),
        (["[[]VIP]"], [], ["[VIP]"]),
        (["*[[]A]"], [], ["Sale [A]"]),
        (["*"], ["[VIP]", "[!x]", "[a-c] *"], ["Sale A", "Sale [A]", "V", "b z", "y"]),
        (["Sale *"], ["Sale [A]"], ["Sale A"]),
    ],
)
def test_an_exact_name_wins_before_its_brackets_are_a_set_of_characters(
    include: list[str], exclude: list[str], names: list[str]
) -> None:
    selection = Selection(tuple(include), tuple(exclude)).among(BRACKETS)
    assert selection.chosen(BRACKETS) == names
    assert selection.unmatched_patterns(BRACKETS) == []


@pytest.mark.parametrize("patterns", [{"segments": ["Sale [A]"]}, {"exclude_segments": ["Sale [A]"]}])
def test_an_exact_name_stays_one_while_its_segment_is_empty(
    sandbox: Sandbox, config: dict[str, Any], patterns: dict[str, object]
) -> None:
    config |= patterns
    names = ["Sale [A]"] if "segments" in patterns else ["Sale A"]
    publish(sandbox, 1, ["Sale A", "Sale [A]"])
    first = run_tap(config)
    assert [record["segments"] for record in first.records()] == [names]
    state = first.bookmark
    for number in (2, 3):
        publish(sandbox, number, ["Sale A"], *[[]] * number)
        outcome = run_tap(config, state)
        assert outcome.code == 0, outcome.log
        changed = {record["email"]: record["segments"] for record in outcome.records()}
        assert changed.get("p0@example.com", names) == ([] if "segments" in patterns and number == 2 else names)
        state = outcome.bookmark


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [
        ("loyal*", "Loyal Customers"),
        ("Loyal Custmers", "Loyal Customers"),
        ("VlP", "VIP"),
        (" Loyal Customers", "Loyal Customers"),
        ("[Loyal Customers]", "Loyal Customers"),
        ("LOYAL?CUSTOMERS", "Loyal Customers"),
    ],
)
def test_the_nearest_name_of_a_pattern(pattern: str, nearest: str) -> None:
    assert nearest_name(pattern, ["VIP", "Loyal Customers"]) == nearest


@pytest.mark.parametrize("patterns", [{"segments": ["VIP", "loyal*"]}, {"exclude_segments": ["vip"]}])
def test_a_pattern_that_matches_nothing_is_named_with_the_nearest_name(
    config: dict[str, Any], check: Callable[..., Outcome], patterns: dict[str, list[str]]
) -> None:
    outcome, checked = run_tap(config | patterns), check(config | patterns)
    (setting,) = patterns
    nearest = "'Loyal Customers'" if setting == "segments" else "'VIP'"
    (warning,) = [line for line in outcome.log.splitlines() if line.startswith("WARNING")]
    (line,) = [line for line in checked.output.splitlines() if "Without effect" in line]
    for text in (warning, line):
        assert f"in {setting} matches no segment" in text
        assert f"nearest name is {nearest}" in text
    assert (outcome.code, checked.code) == (0, 0)


@pytest.mark.parametrize("blank", ["", "\t \n", "\u3000"])
def test_a_blank_name_is_left_out(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome], blank: str) -> None:
    publish(sandbox, 1, [blank], ["VIP", blank], [blank, "A"], [])
    sandbox.nosto.segments = [("1" * 24, blank), ("2" * 24, "VIP")]
    catalogue = {"api_token": sandbox.nosto.api_token, "graphql_url": sandbox.graphql_url}
    for more in ({"segments": [blank, "VIP", "A"]}, catalogue):
        outcome = run_tap(config | more)
        assert [record["segments"] for record in outcome.records()] == [[], ["VIP"], ["A"], []]
    assert "3 contacts are in a segment whose name is blank" in outcome.log
    assert "left out for 3 contacts" in check(config).output


def test_an_export_of_blank_names_only_is_one_without_segments(sandbox: Sandbox, config: dict[str, Any]) -> None:
    publish(sandbox, 1, [""], ["  "])
    assert [record["segments"] for record in run_tap(config).records()] == [[], []]
