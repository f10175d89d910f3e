"""Numbers, nesting and dates that parsers cannot handle: at most their own line is lost."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nosto_dotdigital_sandbox import ExportFile, Fault, Sandbox
from nosto_dotdigital_sandbox.faults import answer
from nosto_dotdigital_sandbox.web import Response
from support.running import START, run_tap

if TYPE_CHECKING:
    from support.running import Outcome

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def config(sandbox: Sandbox, tmp_path: Path) -> dict[str, object]:
    sandbox.nosto.export = ExportFile(b'{"email":"a@example.com","seg":["A"]}\n', START)
    return {
        "export_url": sandbox.export_url,
        "export_token": sandbox.nosto.token,
        "snapshot_uri": str(tmp_path / "snapshots"),
        "max_export_age_hours": 0,
    }


def assert_explained(outcome: Outcome, words: str) -> None:
    assert (outcome.code, outcome.output, len(outcome.errors)) == (1, "", 1), outcome.log
    assert words in outcome.errors[0]
    assert "Traceback" not in outcome.log


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5_000, DEEP, '{"a":' * 9_999 + "1" + "}" * 9_999])
def test_unused_values_may_be_anything(local: dict[str, object], value: str, end: str) -> None:
    for values in ((value, "1"), ("1", value)):
        body = "\n".join(f'{{"x":{one},"email":"{number}@example.com","seg":["A"]}}' for number, one in enumerate(values))
        Path(str(local["export_url"])).write_text(body + end)
        outcome = run_tap(local)
        assert outcome.code == 0, outcome.log
        assert "0 malformed lines" in outcome.log
        assert [record["email"] for record in outcome.records()] == ["0@example.com", "1@example.com"]
        Path(str(local["export_url"])).unlink()
        for path in Path(str(local["snapshot_uri"])).glob("0*"):
            path.unlink()


@pytest.mark.parametrize("value", ["NaN", "9" * 5_000])
def test_unparsable_numbers_do_not_hide_the_identifier(local: dict[str, object], value: str) -> None:
    Path(str(local["export_url"])).write_text(f'{{"email":"a@example.com","seg":["A"],"x":{value}}}\n' * 3)
    assert [record["segments"] for record in run_tap(local).records()] == [["A"]]


@pytest.mark.parametrize("names", [DEEP, "[NaN]", "[1e999]", '["\\ud800"]', "[" * 100_000])
def test_invalid_names_make_one_malformed_line(local: dict[str, object], names: str) -> None:
    lines = [f'{{"email":"{number}@example.com","seg":{one}}}\n' for number, one in enumerate(('["A"]', names, '["A"]'))]
    Path(str(local["export_url"])).write_text("".join(lines))
    assert_explained(run_tap(local), "1 of 3 lines of the export are malformed")
    outcome = run_tap({**local, "max_invalid_lines": 1})
    assert [record["email"] for record in outcome.records()] == ["0@example.com", "2@example.com"]


def test_a_key_that_is_not_valid_unicode_makes_one_malformed_line(local: dict[str, object]) -> None:
    Path(str(local["export_url"])).write_text('{"email":"a@example.com","\\ud800":["A"]}\n{"email":"b@example.com","seg":["A"]}\n')
    assert [record["email"] for record in run_tap({**local, "max_invalid_lines": 1}).records()] == ["b@example.com"]


def test_keys_in_messages_contain_no_control_characters_and_addresses(local: dict[str, object]) -> None:
    Path(str(local["export_url"])).write_text(
        json.dumps({"a\x1b[31mb\u202e": ["A"], "secret@example.com": ["B"], "k" * 500: 1}) + "\n"
    )
    outcome = run_tap(local)
    assert_explained(outcome, "several keys could hold the names: ab, (an address) (keys: ab, ")
    assert "secret@example.com" not in outcome.log
    assert outcome.errors[0].isprintable()
    assert len(outcome.errors[0]) < 400


def test_a_deeply_nested_last_line_that_is_incomplete_is_rejected(local: dict[str, object]) -> None:
    Path(str(local["export_url"])).write_text(f'{{"email":"a@example.com","seg":["A"],"x":{DEEP[:-9]}}}')
    assert_explained(run_tap(local), "middle of a line")


@pytest.mark.parametrize(
    "date",
    [
        "Mon, 01 Jan 0100 00:00:00 +2359",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0100 00:00:00 GMT",
        "Mon, 99 Jan 2026 99:99:99 GMT",
        "Sun, 01 Nov 2026 04:00:00 +999999",
        "1e999",
        "\x01",
        "",
    ],
)
def test_an_absurd_date_counts_as_unknown(sandbox: Sandbox, config: dict[str, object], date: str) -> None:
    headers = {"Last-Modified": date, "ETag": '"one"'}
    for names in ('["A"]', '["B"]'):
        body = f'{{"email":"a@example.com","seg":{names}}}\n'.encode()
        sandbox.faults.add(Fault("answer", service="nosto", response=Response(200, body, headers)))
        outcome = run_tap(config, moment=START)
        assert outcome.code == 0, outcome.log
        assert outcome.records()[0]["exported_at"].startswith("2026-11-01T04:00:0")


def test_a_date_without_a_time_zone_is_utc(sandbox: Sandbox, config: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    import time  # noqa: PLC0415

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        headers = {"Last-Modified": "Sun, 01 Nov 2026 04:00:00 -0000"}
        body = b'{"email":"a@example.com","seg":["A"]}\n'
        sandbox.faults.add(Fault("answer", service="nosto", response=Response(200, body, headers)))
        assert run_tap(config).records()[0]["exported_at"] == "2026-11-01T04:00:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_absurd_modification_time_counts_as_unknown(local: dict[str, object]) -> None:
    # other file systems cannot store such times
    with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".jsonl") as file:
        file.write(Path(str(local["export_url"])).read_bytes())
        file.flush()
        for stamp in (253402300800 - 3600, 2**40, -(2**40)):
            os.utime(file.name, (stamp, stamp))
            outcome = run_tap({**local, "export_url": file.name})
            assert outcome.code == 0, outcome.log
            assert "made at an unknown time" in outcome.log


def test_deeply_nested_responses_are_explained(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.faults.add(Fault("answer", service="nosto", response=Response(200, DEEP.encode())))
    assert_explained(
        run_tap({**config, "export_link_pointer": "/url"}), "has no link to the export at '/url': the response is not JSON"
    )
    for number, body in enumerate(
        (DEEP, f'{{"data":{{"segments":{{"segments":{DEEP}}}}}}}', f'{{"errors":{DEEP}}}', f'{{"x":{DEEP}}}')
    ):
        sandbox.nosto.graphql_body = body.encode()
        folder = {"snapshot_uri": f"{config['snapshot_uri']}-{number}"}
        outcome = run_tap({**config, **folder, "api_token": sandbox.nosto.api_token, "graphql_url": sandbox.graphql_url})
        assert outcome.code == 0, outcome.log
        assert "the catalogue was not read" in outcome.log


def test_a_link_in_a_response_with_a_wrong_content_encoding_is_explained(sandbox: Sandbox, config: dict[str, object]) -> None:
    broken = Response(200, b"no gzip", {"Content-Encoding": "gzip"})
    sandbox.faults.add(Fault("answer", service="nosto", times=9, response=broken))
    assert_explained(run_tap({**config, "export_link_pointer": "/url"}), "Fetching the Segment Export failed")


def test_control_characters_in_a_request_id_are_removed(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.faults.add(Fault("answer", service="nosto", times=9, response=answer(503, headers={"X-Request-Id": "r\x1b[2J7"})))
    outcome = run_tap(config)
    assert_explained(outcome, "last with status 503 (request r7)")
