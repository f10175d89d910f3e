"""The order of the input: contacts in the order of their addresses are compared as they come, others at the end, with the same result."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from support.oracle import FIELD, folded
from support.running import singer

if TYPE_CHECKING:
    from collections.abc import Callable

    from nosto_dotdigital_sandbox import Sandbox
    from support.running import Pipeline

LEDGERS, SLOW_LEDGERS = ["sqlite"], ["postgresql"]
# more than two batches of records, so that a batch continues where the one before it ended
PEOPLE = 11_000
Records = list[tuple[str, list[str]]]


def in_order(records: Records) -> Records:
    return sorted(records)


def rotated(records: Records) -> Records:
    """Two parts, each in order, as a source emits them that reads with two threads; the first is one batch."""
    return sorted(records)[6_000:] + sorted(records)[:6_000]


def shuffled(records: Records) -> Records:
    return random.Random(4).sample(records, len(records))


def repeated(records: Records) -> Records:
    """In order, but some come once more behind all others, and only what comes last counts."""
    return [(email, ["Z"]) if index % 100 == 0 else (email, names) for index, (email, names) in enumerate(sorted(records))] + [
        record for index, record in enumerate(sorted(records)) if index % 100 == 0
    ]


def message(records: Records) -> str:
    """Write a whole input, as a tap does that names every contact."""
    schema: dict[str, Any] = {"properties": {"email": {}, "segments": {}}}
    lines: list[dict[str, Any]] = [{"type": "SCHEMA", "stream": "people", "schema": schema, "key_properties": ["email"]}]
    lines += [
        {"type": "RECORD", "stream": "people", "record": {"email": email, "segments": names}, "version": 1}
        for email, names in records
    ]
    lines += [{"type": "ACTIVATE_VERSION", "stream": "people", "version": 1}, {"type": "STATE", "value": {"bookmarks": {}}}]
    return "".join(json.dumps(line) + "\n" for line in lines)


def run(pipeline: Pipeline, content: dict[str, list[str]], order: Callable[[Records], Records]) -> dict[str, Any]:
    """Run on a whole input in some order, and return the report."""
    records = order(list(content.items()))
    outcome = pipeline.load(message(records))
    assert outcome.code == 0, outcome.log
    report = pipeline.report
    assert (report["read"], report["duplicates"]) == (len(records), len(records) - len(content))
    return report


@pytest.mark.parametrize("order", [in_order, rotated, shuffled, repeated])
def test_the_end_is_the_same_in_any_order(pipeline: Pipeline, sandbox: Sandbox, order: Callable[[Records], Records]) -> None:
    content = {f"p{number:05d}@example.com": [["A"], ["A", "B"], [], ["B"]][number % 4] for number in range(PEOPLE)}
    changed = {email: ["C"] for email in list(content)[50::500]}
    gone = list(content)[21::500]
    new = {f"q{number:05d}@example.com": ["B"] for number in range(3)} | {"o00000@example.com": ["A"]}
    pipeline.target |= {"max_change_percent": 100, "contacts_per_import": 5000}
    assert run(pipeline, content, order)["created"] == PEOPLE
    assert (run(pipeline, content, order)["sent"], pipeline.report["plan"]["unchanged"]) == (0, PEOPLE)
    content = {email: names for email, names in (content | changed | new).items() if email not in gone}
    report = run(pipeline, content, order)
    assert report["sent"] == len(changed) + len(new) + len(gone)
    assert report["plan"]["unchanged"] == len(content) - len(changed) - len(new)
    held = {email: contact.data_fields.get(FIELD) or "" for email, contact in folded(sandbox.account.snapshot()).items()}
    assert held == dict.fromkeys(gone, "") | {email: ";".join(names) for email, names in content.items()}


def test_what_is_repeated_counts_like_the_first_time(pipeline: Pipeline) -> None:
    records: list[dict[str, Any]] = [
        {"email": "a@example.com", "segments": ["A"]},
        {"email": "b@example.com", "segments": [], "_sdc_deleted_at": "2026-11-24T00:00:00Z"},
        {"email": "c@example.com", "segments": ["B", "A", "B"]},
        {"email": "d@example.com", "segments": "B;A"},
        # no list of names
        {"email": "e@example.com", "segments": ["A", 1]},
        {"email": "f@example.com", "segments": {"A": 1e999}},
        {"email": "g@example.com", "segments": None},
        {"email": "h@example.com"},
    ]
    figures = []
    for _ in range(3):
        assert pipeline.load(singer(records)).code == 0
        report = pipeline.report
        figures.append([report[name] for name in ("read", "removed", "invalid")])
    assert figures == [[len(records), 1, {"no list of segments": 4}]] * 3
    assert (pipeline.report["sent"], pipeline.report["plan"]["unchanged"]) == (0, 4)
