"""The reference of errors: each kind of error is provoked, and ends with a line that the reference lists."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import Fault
from nosto_dotdigital_sandbox.faults import answer
from support.meltano import ROOT
from support.running import Outcome, Pipeline, run_tap, run_target, singer
from tap_nosto_segments import errors as tap_errors
from tap_nosto_segments.tap import TapNostoSegments
from target_dotdigital import errors as target_errors
from target_dotdigital.ledger.database import open_ledger

if TYPE_CHECKING:
    from collections.abc import Callable

ERRORS = ROOT / "docs" / "reference" / "errors.md"
ONE = singer([{"email": "jane@example.com", "segments": ["VIP"]}])
BODY = b'{"email": "jane@example.com", "segments": ["VIP"]}\n{"email": "joe@example.com", "segments": []}\n'


def run_with(**settings: Any) -> Callable[[Pipeline], Outcome]:
    """Provoke an error of the target by its settings."""

    def provoke(pipeline: Pipeline) -> Outcome:
        pipeline.target |= settings
        return pipeline.load(ONE)

    return provoke


def extract_with(body: bytes = BODY, **settings: Any) -> Callable[[Pipeline], Outcome]:
    """Provoke an error of the tap by an export or its settings."""

    def provoke(pipeline: Pipeline) -> Outcome:
        pipeline.export(body)
        pipeline.tap |= settings
        return pipeline.extract()

    return provoke


def invalid_state(pipeline: Pipeline) -> Outcome:
    pipeline.export(BODY)
    return run_tap(pipeline.tap, {"bookmarks": 5})


def snapshots_in_a_file(pipeline: Pipeline) -> Outcome:
    path = pipeline.folder / "file"
    path.write_text("")
    return extract_with(snapshot_uri=str(path / "snapshots"))(pipeline)


def wrong_api_token(pipeline: Pipeline) -> Outcome:
    catalog = TapNostoSegments(config={}, validate_config=False, setup_mapper=False).catalog_dict
    for stream in catalog["streams"]:
        root = next(one for one in stream["metadata"] if not one["breadcrumb"])
        root["metadata"]["selected"] = stream["tap_stream_id"] == "segments"
    pipeline.catalog = catalog
    return extract_with(api_token="wrong", graphql_url=pipeline.sandbox.graphql_url)(pipeline)


def tap_that_breaks_off(pipeline: Pipeline) -> Outcome:
    pipeline.export(BODY)
    whole = pipeline.extract().output.splitlines(keepends=True)
    return pipeline.load("".join(whole[:2]))


def lost_ledger(pipeline: Pipeline) -> Outcome:
    pipeline.export(BODY)
    assert pipeline.run().code == 0
    (pipeline.folder / "ledger.db").unlink()
    return pipeline.run()


def many_cleared(pipeline: Pipeline) -> Outcome:
    people = [{"email": f"p{number}@example.com", "segments": ["A"]} for number in range(150)]
    assert pipeline.load(singer(people)).code == 0
    return pipeline.load(singer([{**one, "segments": []} for one in people]))


def no_report(pipeline: Pipeline) -> Outcome:
    def block(_request: object) -> None:
        (pipeline.folder / "reports" / "report.json").mkdir()

    pipeline.sandbox.faults.add(Fault("rewrite", method="PUT", before=block, rewrite=lambda response: response))
    return pipeline.load(ONE)


def refuted(pipeline: Pipeline) -> Outcome:
    pipeline.sandbox.account.deviations.add("programs_hidden")
    pipeline.target["rehearsal_emails"] = [f"me+{number}@example.com" for number in range(4)]
    return run_target(pipeline.target, "", pipeline.time, rehearse=True, read_only=True)


def rejected_contacts(pipeline: Pipeline) -> Outcome:
    pipeline.sandbox.account.refuse = lambda _email: "invalidDomain"
    return pipeline.load(singer([{"email": f"p{number}@example.com", "segments": ["A"]} for number in range(20)]))


def failing_call(pipeline: Pipeline) -> Outcome:
    pipeline.sandbox.faults.add(Fault("answer", path="data-fields", times=99, response=answer(503)))
    return pipeline.load(ONE)


def busy_imports(pipeline: Pipeline) -> Outcome:
    pipeline.sandbox.account.busy_imports = 25
    return pipeline.load(ONE)


def endless_list(pipeline: Pipeline) -> Outcome:
    books = [{"id": number, "name": f"book {number}"} for number in range(1000, 0, -1)]
    response = answer(200, json.dumps(books).encode())
    pipeline.sandbox.faults.add(Fault("answer", path="address-books", times=40, response=response))
    return run_target(pipeline.target, "", pipeline.time, check=True)


def another_run(pipeline: Pipeline) -> Outcome:
    ledger = open_ledger(pipeline.target["ledger_url"])
    try:
        with ledger.locked(pipeline.sandbox.account.id):
            return pipeline.load(ONE)
    finally:
        ledger.close()


TAP, TARGET = "tap-nosto-segments", "target-dotdigital"
PROVOCATIONS: dict[tuple[str, str], Callable[[Pipeline], Outcome]] = {
    (TAP, "Settings"): extract_with(export_token=None),
    (TAP, "Files on the command line"): invalid_state,
    (TAP, "Export not available"): extract_with(export_token="wrong"),
    (TAP, "Export damaged"): extract_with(BODY.rstrip()[:-1]),
    (TAP, "Guards"): extract_with(b""),
    (TAP, "Snapshots"): snapshots_in_a_file,
    (TAP, "Catalogue"): wrong_api_token,
    (TARGET, "Settings"): run_with(api_url="http://api.example.com"),
    (TARGET, "Input that does not fit"): lambda pipeline: pipeline.load(singer([], stream="orders", id={}, total={})),
    (TARGET, "Account"): run_with(api_password="wrong"),
    (TARGET, "Ledger"): run_with(ledger_url="sqlite://"),
    (TARGET, "Another run"): another_run,
    (TARGET, "Agreement of the two memories"): lost_ledger,
    (TARGET, "No input"): lambda pipeline: pipeline.load(""),
    (TARGET, "Incomplete input"): tap_that_breaks_off,
    (TARGET, "Report"): no_report,
    (TARGET, "Not activated"): run_with(activation_code=None),
    (TARGET, "Brakes"): many_cleared,
    (TARGET, "Rehearsal"): refuted,
    (TARGET, "Delivery"): rejected_contacts,
    (TARGET, "Calls to dotdigital"): failing_call,
    (TARGET, "Import slots"): busy_imports,
    (TARGET, "Endless list"): endless_list,
}


MODULES = {TAP: tap_errors, TARGET: target_errors}
# the line of a run quotes this error, and is of another kind
QUOTED_BY = {(TARGET, "Import slots"): "Delivery"}


def documented() -> set[tuple[str, str]]:
    """Return plugin and title of each kind of error that the reference lists."""
    parts = re.split(r"^## (.+)$", ERRORS.read_text(), flags=re.MULTILINE)
    return {
        (plugin, title)
        for plugin, text in zip(parts[1::2], parts[2::2], strict=True)
        for title in re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE)[2:]
        if plugin in MODULES
    }


@pytest.mark.parametrize("kind", PROVOCATIONS, ids=" - ".join)
def test_each_kind_of_error_ends_with_its_own_line(kind: tuple[str, str], pipeline: Pipeline) -> None:
    outcome = PROVOCATIONS[kind](pipeline)
    assert outcome.code == 1
    assert getattr(outcome.error, "title", None) == QUOTED_BY.get(kind, kind[1])
    assert outcome.errors[-1] == str(outcome.error)


def test_each_kind_of_error_is_listed_and_provoked() -> None:
    declared = {
        (plugin, vars(error)["title"])
        for plugin, module in MODULES.items()
        for error in vars(module).values()
        if inspect.isclass(error) and error.__module__ == module.__name__ and "title" in vars(error)
    }
    assert documented() == declared == set(PROVOCATIONS)


@pytest.mark.parametrize(
    ("change", "text", "opening"),
    [
        ({"max_clear_percent": "many"}, "", "The settings cannot be used"),
        ({"stream_maps": {"people": {"email": "1/0"}}}, "", "The setting stream_maps cannot be applied"),
        ({}, "[]\n", "The input is not valid Singer: line"),
    ],
)
def test_other_last_lines_are_listed(pipeline: Pipeline, change: dict[str, Any], text: str, opening: str) -> None:
    pipeline.target |= change
    outcome = pipeline.load(ONE + text)
    assert outcome.code == 1
    assert outcome.errors[-1].startswith(opening)
    assert opening in ERRORS.read_text()
