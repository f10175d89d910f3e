"""Mistakes on the command line and in its files: one line that says what to correct, and no output."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.plugin_base import _ConfigInput
from support.cases import slow_except
from support.running import run_tap
from tap_nosto_segments.tap import TapNostoSegments

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.running import Outcome

CATALOG: dict[str, Any] = TapNostoSegments(config={}, validate_config=False, setup_mapper=False).catalog_dict


def assert_explained(outcome: Outcome, *words: str) -> None:
    assert (outcome.code, outcome.output) == (1, ""), outcome.log
    assert len(outcome.errors) == 1, outcome.log
    assert outcome.log.splitlines()[-1] == f"ERROR {outcome.errors[0]}"
    assert all(word in outcome.errors[0] for word in words), outcome.errors
    assert "defect" not in outcome.log
    assert "Traceback" not in outcome.log


STATES = [
    ("", "it is empty"),
    ('{"bookmarks', "it is not JSON (line 1, column 2)"),
    ("[]", "not an object"),
    ("7", "not an object"),
    ("null", "not an object"),
    ("\xff", "it is not UTF-8 text"),
    ("[" * 100_000, "nested too deeply"),
    ('{"bookmarks": 5}', "bookmarks: Expected `object`, got `int`"),
    ('{"bookmarks": {"contact_segments": 5}}', "the bookmark of contact_segments: Expected `object`, got `int`"),
    ('{"bookmarks": {"contact_segments": {"snapshot": 5}}}', "Expected `str | null`, got `int` - at `$.snapshot`"),
    ('{"bookmarks": {"contact_segments": {"partitions": [{"context": {}}]}}}', "`$.partitions`"),
    ('{"bookmarks": {"contact_segments": {"progress_markers": 5}}}', "`$.progress_markers`"),
    ('{"bookmarks": {"bookmarks": {"contact_segments": {}}}}', "none of this tap's streams"),
    ('{"contact_segments": {"snapshot": "1"}}', "it has no bookmarks"),
    ('{"singer_state": {"bookmarks": {}}}', "it has no bookmarks"),
]


@pytest.mark.parametrize(("text", "problem"), slow_except({STATES[0], STATES[5], STATES[6], STATES[9], STATES[-1]}, STATES))
def test_an_invalid_state_is_explained(
    command: Callable[..., Outcome], local: dict[str, object], tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "state.json"
    path.write_text(text, encoding="latin-1")
    assert_explained(command(local, "--state", path), "The state file (--state) cannot be used", problem)


def test_an_empty_state_is_a_first_run(local: dict[str, object]) -> None:
    assert run_tap(local, {}).lines[0]["type"] == "SCHEMA"
    assert run_tap(local, {"bookmarks": {}}).code == 0


def changed(**entry: object) -> str:
    return json.dumps({"streams": [{**CATALOG["streams"][0], **entry}]})


CATALOGS = [
    ("", "it is empty"),
    ("{", "it is not JSON"),
    ("[]", "not an object"),
    ("{}", "missing required field `streams`"),
    ('{"streams": 5}', "`$.streams`"),
    ('{"streams": [5]}', "`$.streams[0]`"),
    ('{"streams": []}', "selects no stream"),
    (changed(schema=5), "`$.streams[0].schema`"),
    (changed(schema={"properties": {"email": {"anyOf": 5}}}), "anyOf"),
    (changed(schema={"properties": {"segments": {"items": 5}}}), "it does not have the expected form"),
    (changed(metadata=5), "`$.streams[0].metadata`"),
    (changed(tap_stream_id="x\x1b[31m"), "this tap has no stream 'x'"),
    (changed(stream="people"), "it renames the stream contact_segments to 'people'"),
    (changed(replication_key="email"), "no replication key 'email'"),
    (changed(replication_method="LOG_BASED"), "cannot be replicated with the method 'LOG_BASED'"),
]


@pytest.mark.parametrize(
    ("text", "problem"), slow_except({CATALOGS[0], CATALOGS[6], CATALOGS[7], CATALOGS[11], CATALOGS[-1]}, CATALOGS)
)
def test_an_invalid_catalog_is_explained(
    command: Callable[..., Outcome], local: dict[str, object], tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "catalog.json"
    path.write_text(text)
    assert_explained(command(local, "--catalog", path), "--catalog", problem)


def test_a_catalog_may_omit_the_replication_key(local: dict[str, object]) -> None:
    entry = {**CATALOG["streams"][0], "replication_key": None, "metadata": [{"breadcrumb": [], "metadata": {"selected": True}}]}
    state = run_tap(local, None, {"streams": [entry]}).bookmark
    assert state == run_tap(local).bookmark
    assert run_tap(local, state, {"streams": [entry]}).records() == []


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({"contact_segments": {"x": "nofn(email)"}}, "nofn(email) (FunctionNotDefined)"),
        ({"contact_segments": {"x": "1 +"}}, "1 + (SyntaxError)"),
        ({"contact_segments": {"x": ""}}, "IndexError"),
        ({"contact_segments": {"x": "email + 1"}}, "TypeError in the expression 'email + 1'"),
        ({"contact_segments": {"x": "int(email)"}}, "ValueError in the expression 'int(email)'"),
        ({"contact_segments": {"x": "emial"}}, "emial (NameNotDefined)"),
        ({"contact_segments": {"x": 5}}, "config['stream_maps']['contact_segments']"),
        ({"contact_segments": {"email": None}}, "Removing key property 'email'"),
        ({"contact_segments": {"__else__": "x"}}, "it does not have the form that the SDK documents"),
        ({"contact_segment": {"email": "md5(email)"}}, "the stream 'contact_segment'"),
        ({"people": {"__source__": "contacts", "email": "md5(email)"}}, "the stream 'contacts'"),
        ("drop", "TAP_NOSTO_SEGMENTS_STREAM_MAPS"),
    ],
)
def test_an_invalid_stream_map_is_explained(local: dict[str, object], rules: object, problem: str) -> None:
    outcome = run_tap({**local, "stream_maps": rules})
    assert_explained(outcome, "stream_maps", problem)
    assert "@example.com" not in outcome.log


def test_a_stream_map_of_a_deselected_property_is_explained(local: dict[str, object]) -> None:
    catalog = copy.deepcopy(CATALOG)
    next(one for one in catalog["streams"][0]["metadata"] if "segments" in one["breadcrumb"])["metadata"]["selected"] = False
    outcome = run_tap({**local, "stream_maps": {"contact_segments": {"x": "str(segments)"}}}, None, catalog)
    assert_explained(outcome, "str(segments) (NameNotDefined)")


def test_a_stream_map_that_fails_later_is_explained_too(local: dict[str, object]) -> None:
    many = [{"email": f"p{number}@example.com", "seg": ["A"] if number < 5_000 else []} for number in range(6_000)]
    Path(str(local["export_url"])).write_text("".join(json.dumps(record) + "\n" for record in many))
    outcome = run_tap({**local, "stream_maps": {"contact_segments": {"first": "segments[0]"}}})
    assert outcome.code == 1
    assert outcome.errors == [
        "stream_maps cannot be applied: IndexError in the expression 'segments[0]'. The bookmark stays. Correct it."
    ]
    assert "snapshot" not in str([line for line in outcome.lines if line["type"] == "STATE"])


def test_valid_stream_maps_are_applied(local: dict[str, object]) -> None:
    rules = {"contact_*": {"hash": "md5(email)", "segments": None}, "names": {"__source__": "segments", "name": "name"}}
    outcome = run_tap({**local, "stream_maps": rules})
    assert outcome.code == 0, outcome.log
    records = outcome.records()
    assert records
    assert all(len(record["hash"]) == 32 and "segments" not in record for record in records)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read (FileNotFoundError)"),
        ("", "it is not JSON"),
        pytest.param('{"export', "it is not JSON", marks=pytest.mark.slow),
        pytest.param("5", "does not have the expected form", marks=pytest.mark.slow),
    ],
)
def test_an_unreadable_config_file_is_explained(
    command: Callable[..., Outcome], tmp_path: Path, text: str | None, problem: str
) -> None:
    path = tmp_path / "second.json"
    if text is not None:
        path.write_text(text)
    for arguments in ([], ["--discover"], ["--test"]):
        assert_explained(command({}, "--config", path, *arguments), f"The config file {path} (--config) cannot be used", problem)


def test_several_config_files_are_merged(command: Callable[..., Outcome], local: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "second.json"
    path.write_text(json.dumps({"segments": ["VIP"]}))
    assert [record["segments"] for record in command(local, "--config", path).records() if record["segments"]] == [["VIP"]]


def test_invalid_settings_are_explained_without_secrets(command: Callable[..., Outcome]) -> None:
    outcome = command({"export_url": "x", "segmets": ["A"], "export_token": 123456789, "max_shrink_percent": 200})
    assert_explained(outcome, "'segmets' was unexpected", "export_token is not valid", "200 is greater than the maximum")
    assert "123456789" not in outcome.log
    assert_explained(command({}, "--test"), "'export_url' is a required property")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"export_token": "se\ncret"}, "export_token contains a line break"),
        ({"export_auth": "header", "export_auth_name": "X Token"}, "export_auth_name is 'X Token'"),
    ],
)
def test_tokens_and_headers_that_http_cannot_carry_are_rejected(
    local: dict[str, object], change: dict[str, object], words: str
) -> None:
    outcome = run_tap({**local, "export_url": "https://nosto.example.com/export", "export_token": "t", **change})
    assert_explained(outcome, words)
    assert "cret" not in outcome.log


def test_a_defect_is_reported_with_its_trace_and_without_data(local: dict[str, object]) -> None:
    class Broken(TapNostoSegments):
        """A tap with a defect: its clock fails."""

        @staticmethod
        def now() -> Any:
            """Fail."""
            msg = "secret@example.com"
            raise LookupError(msg)

    log, output = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger("tap-nosto-segments").addHandler(handler)
    try:
        with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
            Broken.invoke(config=_ConfigInput({**local, "max_export_age_hours": 9}))
    finally:
        logging.getLogger("tap-nosto-segments").removeHandler(handler)
    line = next(line for line in log.getvalue().splitlines() if "a defect" in line)
    assert line.startswith("Unexpected LookupError (tap_nosto_segments/failures.py:")
    places = ["tap.py", "streams.py", "extraction.py", "test_command_line.py"]
    assert [line.index(place) for place in places] == sorted(line.index(place) for place in places)
    assert "secret@example.com" not in log.getvalue()
    assert output.getvalue() == ""


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.slow),
        {"PYTHONIOENCODING": "ascii"},
    ],
)
def test_output_is_utf8_whatever_the_locale(
    command: Callable[..., Outcome], local: dict[str, object], tmp_path: Path, environment: dict[str, str]
) -> None:
    Path(str(local["export_url"])).write_text('{"email":"ä@example.com","seg":["Café 漢字","Loyal"]}\n', encoding="utf-8")
    outcome = command({**local, "segments": ["*", "Ünknown"]}, environment=environment)
    assert outcome.code == 0, outcome.log
    assert [(record["email"], record["segments"]) for record in outcome.records()] == [("ä@example.com", ["Café 漢字", "Loyal"])]
    # nor does the log line with the pattern end the run
    assert "nknown' in segments matches no segment" in outcome.log
    assert "Logging error" not in outcome.log
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps(CATALOG, ensure_ascii=False).replace("Address", "Adresse é"), encoding="utf-8")
    assert command(local, "--catalog", path, environment=environment).code == 0
