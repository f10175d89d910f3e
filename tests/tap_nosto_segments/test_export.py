"""Fetching the export: every plausible format, and every way in which it can be unavailable or damaged."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from nosto_dotdigital_sandbox import ExportFile, Fault
from nosto_dotdigital_sandbox.faults import answer
from support.oracle import expected
from support.running import START, Outcome, run_tap

if TYPE_CHECKING:
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox

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


def assert_complete(outcome: Outcome, body: bytes = BODY) -> None:
    assert outcome.code == 0, outcome.log
    assert {record["email"]: record["segments"] for record in outcome.records()} == expected(body)
    assert outcome.lines[-1]["type"] == "STATE"
    assert "snapshot" in outcome.lines[-1]["value"]["bookmarks"]["contact_segments"]


def assert_rejected(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 1
    assert len(outcome.errors) == 1, outcome.log
    assert all(word in outcome.errors[0] for word in words), outcome.errors
    assert "Traceback" not in outcome.log
    assert outcome.output == ""


@pytest.mark.parametrize("form", ["body", "gzip", "content-encoding", "redirect", "link"])
@pytest.mark.parametrize(("auth", "name"), [("basic", ""), ("bearer", ""), ("header", "X-Token"), ("query", "token"), ("none", "")])
def test_every_format_and_authentication_method(
    sandbox: Sandbox, config: dict[str, object], form: str, auth: str, name: str
) -> None:
    sandbox.nosto.form, sandbox.nosto.auth, sandbox.nosto.auth_name = form, auth, name  # type: ignore[assignment]
    config |= {"export_auth": auth}
    if name:
        config["export_auth_name"] = name
    if form == "link":
        config["export_link_pointer"] = "/data/url"
    assert_complete(run_tap(config))
    for call in sandbox.journal.calls("files"):
        assert "authorization" not in call.headers
        assert "x-token" not in call.headers
        assert sandbox.nosto.token not in call.target


def test_a_local_file_and_a_compressed_one(config: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl.gz"
    path.write_bytes(gzip.compress(BODY[:40]) + gzip.compress(BODY[40:]))
    assert_complete(run_tap(config | {"export_url": str(path)}))
    plain = tmp_path / "export.jsonl"
    plain.write_bytes(b"\xef\xbb\xbf" + BODY.rstrip())
    assert_complete(run_tap(config | {"export_url": plain.as_uri(), "snapshot_uri": str(tmp_path / "other")}))


def test_every_kind_of_whitespace_is_trimmed_off_addresses(config: dict[str, object], sandbox: Sandbox) -> None:
    spaces = [chr(code) for code in range(0x3001) if chr(code).isspace()]
    around = [f"{space}Ann.{number}@EXAMPLE.com{' ' * (number % 2)}{space}" for number, space in enumerate(spaces)]
    # spaces inside an address stay, and so do characters that are not whitespace to Python
    others = ["a b@example.com", "\u200bzero@example.com", "Ünal@example.com"]
    lines = [
        json.dumps({"email": email, "seg": ["VIP"]}, ensure_ascii=bool(number % 2)) for number, email in enumerate(around + others)
    ]
    sandbox.nosto.export = ExportFile("\n".join(lines).encode(), START)
    found = sorted(record["email"] for record in run_tap(config).records())
    assert found == sorted(email.strip().lower() for email in around + others)


def test_an_unchanged_export_is_not_downloaded_again_and_emits_no_record(sandbox: Sandbox, config: dict[str, object]) -> None:
    state = run_tap(config).bookmark
    outcome = run_tap(config, state)
    assert (outcome.code, outcome.records()) == (0, [])
    assert outcome.bookmark == state
    assert [call.status for call in sandbox.journal.calls("nosto")] == [200, 304]


def test_the_same_content_without_validators_emits_no_record(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.nosto.export = ExportFile(BODY, None, etag=False)
    state = run_tap(config).bookmark
    outcome = run_tap(config, state)
    assert (outcome.records(), outcome.bookmark) == ([], state)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_transient_failures_are_retried(sandbox: Sandbox, config: dict[str, object], status: int) -> None:
    sandbox.faults.add(Fault("answer", service="nosto", response=answer(status)))
    sandbox.faults.add(Fault("cut", service="nosto", nth=1))
    assert_complete(run_tap(config))


def test_a_wrong_token_is_explained(config: dict[str, object]) -> None:
    config["export_token"] = "wrong-secret"
    outcome = run_tap(config)
    assert_rejected(outcome, "refused the export token", "export_token")
    assert "wrong-secret" not in outcome.log


@pytest.mark.parametrize("status", [404, 204, 202])
def test_an_export_that_is_not_ready_is_explained(sandbox: Sandbox, config: dict[str, object], status: int) -> None:
    sandbox.nosto.export, sandbox.nosto.not_ready_status = None, status
    assert_rejected(run_tap(config), "no export file yet", "within a day")


def test_truncated_or_damaged_gzip_is_rejected(sandbox: Sandbox, config: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(BODY * 100)[:-9])
    assert_rejected(run_tap(config | {"export_url": str(path)}), "gzip", "too early")
    path.write_bytes(gzip.compress(BODY * 100)[:-6] + b"abcdef")
    assert_rejected(run_tap(config | {"export_url": str(path)}), "gzip", "damaged")
    sandbox.journal.clear()


def test_a_truncated_download_is_rejected(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.nosto.export = ExportFile(BODY, START, sent=len(BODY) - 20)
    sandbox.faults.add(Fault("cut", service="nosto", times=9))
    assert_rejected(run_tap(config), "Fetching the Segment Export failed 4 times")


def test_an_incomplete_last_line_is_rejected(config: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    path.write_bytes(BODY[:-12])
    assert_rejected(run_tap(config | {"export_url": str(path)}), "middle of a line")


@pytest.mark.parametrize(
    "line",
    [
        *(b"{broken", b"[1]", b'{"seg":["A"]}', b'{"email":7,"seg":[]}', b'{"email":" ","seg":[]}', b'{"email":"c@example.com"}'),
        *(b'{"email":"c@example.com","seg":null}', b'{"email":"c@example.com","seg":"A"}', b'{"email":"c@example.com","seg":[{}]}'),
    ],
)
def test_too_many_malformed_lines_stop_the_run(sandbox: Sandbox, config: dict[str, object], line: bytes) -> None:
    sandbox.nosto.export = ExportFile(BODY + line + b"\n\n", START)
    assert_rejected(run_tap(config), "1 of 3 lines", "max_invalid_lines")
    assert_complete(run_tap(config | {"max_invalid_lines": 1}))


def test_an_empty_export_stops_the_run(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.nosto.export = ExportFile(b"", START)
    assert_rejected(run_tap(config), "contains no contacts", "allow_empty_export")
    assert run_tap(config | {"allow_empty_export": True}).code == 0


def test_a_stale_export_stops_the_run(config: dict[str, object]) -> None:
    assert_rejected(run_tap(config | {"max_export_age_hours": 48}), "hours ago", "max_export_age_hours")


def test_the_identifier_is_detected_or_requested(sandbox: Sandbox, config: dict[str, object]) -> None:
    assert_complete(run_tap(config | {"segment_identifier": "seg"}))
    assert_rejected(run_tap(config | {"segment_identifier": "segments"}), "no key 'segments'", "email, seg")
    sandbox.nosto.export = ExportFile(b'{"email":"a@example.com","one":["A"],"two":["B"]}\n', START)
    assert_rejected(run_tap(config), "several keys could hold the names: one, two", "segment_identifier")
    sandbox.nosto.export = ExportFile(b'{"email":"a@example.com","one":1}\n', START)
    assert_rejected(run_tap(config), "no key holds a list of names")


@pytest.mark.parametrize("key", ["it's", 'say "hi"', "a/b~c", "Email", "$.email", "ключ"])
def test_an_identifier_may_be_any_text(sandbox: Sandbox, config: dict[str, object], key: str) -> None:
    sandbox.nosto.export = ExportFile(json.dumps({"email": "a@example.com", key: ["Ä", "it's"]}).encode() + b"\n", START)
    outcome = run_tap(config)
    assert outcome.code == 0, outcome.log
    assert outcome.records()[0]["segments"] == ["it's", "Ä"]


def test_plain_http_is_rejected(sandbox: Sandbox, config: dict[str, object]) -> None:
    assert_rejected(run_tap(config | {"export_url": "http://nosto.example.com/export"}), "export_url", "https")
    sandbox.faults.add(
        Fault("answer", service="nosto", times=9, response=answer(302, headers={"Location": "http://files.example.com/x"})),
    )
    assert_rejected(run_tap(config), "redirects to", "https")


def test_endless_redirects_are_rejected(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.faults.add(Fault("answer", service="nosto", times=99, response=answer(302, headers={"Location": "/export"})))
    assert_rejected(run_tap(config), "redirects more than")


@pytest.mark.parametrize(("pointer", "words"), [("/data/nothing", "leads nowhere"), ("/data", "not an http or https address")])
def test_a_missing_link_is_explained(sandbox: Sandbox, config: dict[str, object], pointer: str, words: str) -> None:
    sandbox.nosto.form = "link"
    assert_rejected(run_tap(config | {"export_link_pointer": pointer}), "no link to the export", words)


def test_a_missing_file_is_explained(config: dict[str, object], tmp_path: Path) -> None:
    assert_rejected(run_tap(config | {"export_url": str(tmp_path / "nothing")}), "cannot be read", "export_url")


def test_an_unexpected_status_is_reported_with_the_request_id(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.faults.add(Fault("answer", service="nosto", response=answer(418, headers={"X-Request-Id": "r-17"})))
    assert_rejected(run_tap(config), "status 418", "r-17")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"export_token": None}, ["export_token is not set"]),
        ({"export_auth": "header"}, ["export_auth_name is not set"]),
        ({"shrink_override_date": "2026-13-45"}, ["shrink_override_date", "not a date"]),
        ({"snapshot_uri": "/proc/nothing"}, ["snapshot folder"]),
        ({"snapshot_uri": "nosuchscheme://bucket"}, ["snapshot folder"]),
        ({"api_token": "t", "graphql_url": "http://nosto.example.com/graphql"}, ["graphql_url", "https"]),
    ],
)
def test_unusable_settings_are_explained(config: dict[str, object], change: dict[str, object], words: list[str]) -> None:
    assert_rejected(run_tap(config | change), *words)
