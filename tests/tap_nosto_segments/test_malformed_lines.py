"""Malformed lines that `max_invalid_lines` allows: nothing is known of their contacts, so they are neither changed nor removed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.running import run_tap
from tap_nosto_segments.errors import GuardError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.running import Outcome

GONE = "b@example.com"
DEEP = "[" * 100_000 + "]" * 100_000
# whether the address can be read
LINES: dict[str, tuple[str, bool]] = {
    "no list": (f'{{"email":"{GONE}"}}', True),
    "null": (f'{{"email":"{GONE}","seg":null}}', True),
    "text": (f'{{"email":"{GONE}","seg":"B"}}', True),
    "an object in the list": (f'{{"email":"{GONE}","seg":["B",{{}}]}}', True),
    "a number in the list": (f'{{"email":" B@EXAMPLE.com","seg":[1]}}', True),  # noqa: F541 - as the others
    "no JSON": (f'{{"email":"{GONE}","seg":["B"', False),
    "two records": (f'{{"email":"{GONE}","seg":["B"]}}{{"email":"x@example.com","seg":["B"]}}', False),
    "an array": (f'["{GONE}",["B"]]', False),
    "no address": ('{"seg":["B"]}', False),
    "a number for an address": ('{"email":7,"seg":["B"]}', False),
    "a blank address": ('{"email":" ","seg":["B"]}', False),
    "garbage": ("\x00\x01", False),
    "no number": (f'{{"email":"{GONE}","seg":[NaN]}}', True),
    "half of a surrogate pair": (f'{{"email":"{GONE}","seg":["\\ud800"]}}', False),
    "a key with half of a surrogate pair": (f'{{"email":"{GONE}","\\ud800":["B"]}}', False),
    "too deep": (f'{{"email":"{GONE}","seg":{DEEP}}}', True),
}


@pytest.fixture
def config(local: dict[str, Any]) -> dict[str, Any]:
    return {**local, "segment_identifier": "seg", "max_invalid_lines": 2, "max_shrink_percent": 100}


def write(config: dict[str, Any], *extra: str, **names: list[str]) -> None:
    lines = [json.dumps({"email": f"{name}@example.com", "seg": listed}) for name, listed in names.items()]
    Path(config["export_url"]).write_text("".join(f"{line}\n" for line in [*lines, *extra]))


def summary(outcome: Outcome) -> list[tuple[Any, ...]]:
    """Return each record as its first letter, names and whether it is a removal, and each ACTIVATE_VERSION."""
    assert outcome.code == 0, outcome.log
    found: list[tuple[Any, ...]] = []
    for line in outcome.lines:
        if line["type"] == "RECORD":
            record = line["record"]
            found.append((record["email"][0], record["segments"], record["_sdc_deleted_at"] is not None))
        elif line["type"] == "ACTIVATE_VERSION":
            found.append(("ACTIVATE_VERSION",))
    return found


@pytest.mark.parametrize("case", LINES)
def test_their_contacts_are_neither_changed_nor_removed(config: dict[str, Any], case: str) -> None:
    line, is_readable = LINES[case]
    write(config, a=["A"], b=["B"], c=["C"])
    state = run_tap(config).bookmark
    write(config, line, a=["A2"])
    stopped = run_tap({**config, "max_invalid_lines": 0}, state)
    assert (stopped.code, stopped.output, type(stopped.error)) == (1, "", GuardError)
    outcome = run_tap(config, state)
    # c left; without the address of the line, it could be that of c
    left: list[tuple[Any, ...]] = [("c", [], True)] if is_readable else []
    assert summary(outcome) == [("a", ["A2"], False), *left]
    kept = [("b", ["B"], False), *([] if is_readable else [("c", ["C"], False)])]
    # a full refresh
    assert summary(run_tap(config)) == [("a", ["A2"], False), *kept, ("ACTIVATE_VERSION",)]
    # the line is malformed on several days
    write(config, line, a=["A4"])
    outcome = run_tap(config, outcome.bookmark)
    assert summary(outcome) == [("a", ["A4"], False)]
    # and then it is known who left
    write(config, a=["A4"])
    assert summary(run_tap(config, outcome.bookmark)) == [(name, [], True) for name, _, _ in kept]


@pytest.mark.parametrize("case", ["text", "garbage"])
def test_without_a_snapshot_nobody_is_said_to_be_removed(config: dict[str, Any], case: str) -> None:
    write(config, LINES[case][0], a=["A"])
    first = run_tap(config)
    assert summary(first) == [("a", ["A"], False)]
    assert not any("version" in line for line in first.lines)
    # the same again, and another one
    assert summary(run_tap(config, first.bookmark)) == []
    assert summary(run_tap(config)) == [("a", ["A"], False)]
    write(config, LINES[case][0], a=["A"], d=["D"])
    second = run_tap(config, first.bookmark)
    assert summary(second) == [("d", ["D"], False)]
    # the first export without malformed lines says who is left
    write(config, a=["A"], b=["B"])
    third = run_tap(config, second.bookmark)
    assert summary(third) == [("a", ["A"], False), ("b", ["B"], False), ("ACTIVATE_VERSION",)]
    write(config, a=["A"])
    assert summary(run_tap(config, third.bookmark)) == [("b", [], True)]


@pytest.mark.parametrize("lost", ["the folder", "the Parquet files"])
def test_lost_snapshots_remove_nobody(config: dict[str, Any], lost: str) -> None:
    write(config, a=["A"], b=["B"])
    state = run_tap(config).bookmark
    folder = Path(config["snapshot_uri"])
    if lost == "the folder":
        shutil.rmtree(folder)
    else:
        for path in folder.glob("*.parquet"):
            path.unlink()
    write(config, LINES["no list"][0], a=["A"])
    outcome = run_tap(config, state)
    assert summary(outcome) == [("a", ["A"], False)]
    write(config, a=["A"])
    assert summary(run_tap(config, outcome.bookmark)) == [("a", ["A"], False), ("ACTIVATE_VERSION",)]


def test_what_was_last_known_is_kept(config: dict[str, Any]) -> None:
    """Of a run whose STATE was lost, too: its changes may have been delivered."""
    write(config, a=["A"], b=["B"])
    state = run_tap(config).bookmark
    write(config, a=["A"], b=["B2"], d=["D"])
    run_tap(config, state)
    write(config, "garbage", a=["A"])
    assert summary(run_tap(config, state)) == [("b", ["B2"], False), ("d", ["D"], False)]


def test_one_of_two_lines_of_a_contact(config: dict[str, Any]) -> None:
    write(config, a=["A"], b=["B", "C"])
    state = run_tap(config).bookmark
    write(config, LINES["text"][0], a=["A"], b=["B"])
    assert summary(run_tap(config, state)) == []


def test_names_that_are_no_longer_chosen_are_not_kept(config: dict[str, Any]) -> None:
    write(config, a=["A"], b=["A", "B"])
    state = run_tap(config).bookmark
    write(config, "garbage", a=["A"])
    assert summary(run_tap({**config, "exclude_segments": ["A"]}, state)) == [("a", [], False), ("b", ["B"], False)]


def test_the_operator_is_told(config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    write(config, a=["A"], b=["B"], c=["C"])
    state = run_tap(config).bookmark
    write(config, "garbage", LINES["text"][0], a=["A"])
    log = run_tap(config, state).log
    assert "2 of 3 lines of the export are malformed" in log
    assert "2 contacts keep the segments" in log
    assert "@example.com" not in log
    assert "of which 2 are malformed" in check(config, state).output


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", "9" * 5_000, DEEP, '{"a":' * 9_999 + "1" + "}" * 9_999])
def test_unused_values_may_be_anything(config: dict[str, Any], value: str) -> None:
    lines = [f'{{"x":{given},"email":"{number}@example.com","seg":["A"]}}' for number, given in enumerate((value, "1", value))]
    del config["segment_identifier"]
    Path(config["export_url"]).write_text("\n".join(lines))
    outcome = run_tap({**config, "max_invalid_lines": 0})
    assert [(record["email"], record["segments"]) for record in outcome.records()] == [
        (f"{number}@example.com", ["A"]) for number in range(3)
    ]
