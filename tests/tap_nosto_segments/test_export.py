"""Fetching the export: every plausible format, and every way in which it can be unavailable or damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import socket
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest
from nosto_dotdigital_sandbox import ExportFile, Fault
from nosto_dotdigital_sandbox.faults import answer
from nosto_dotdigital_sandbox.web import Response
from support.oracle import expected
from support.running import START, Outcome, run_tap

if TYPE_CHECKING:
    from collections.abc import Callable
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


def zipped(body: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("export.jsonl", body)
    return file.getvalue()


OTHER_FORMATS: dict[str, tuple[bytes, str]] = {
    "zip": (zipped(BODY), "a zip archive"),
    "bzip2": (bz2.compress(BODY), "a bzip2 file"),
    "xz": (lzma.compress(BODY), "an xz file"),
    "zstd": (b"\x28\xb5\x2f\xfd" + BODY, "a zstd file"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + BODY, "a 7z archive"),
    "gzip twice": (gzip.compress(gzip.compress(BODY)), "gzip within gzip"),
    "deflate": (zlib.compress(BODY), "compressed with deflate"),
    "deflate, best": (zlib.compress(BODY, 9), "compressed with deflate"),
    "UTF-16": (BODY.decode().encode("utf-16"), "UTF-16"),
    "UTF-16, little end first": (BODY.decode().encode("utf-16-le"), "UTF-16"),
    "UTF-16, big end first": (BODY.decode().encode("utf-16-be"), "UTF-16"),
    "UTF-32": (BODY.decode().encode("utf-32"), "UTF-32"),
    "UTF-32, big end first": (BODY.decode().encode("utf-32-be"), "UTF-32"),
    "carriage returns": (BODY.replace(b"\n", b"\r"), "carriage returns"),
    "carriage returns and one line end": (BODY.replace(b"\n", b"\r").strip() + b"\n", "carriage returns"),
    "nothing between records": (BODY.replace(b"\n", b""), "carriage returns, or nothing"),
    "an array": (b"[" + BODY.strip().replace(b"\n", b",") + b"]", "JSON array"),
    "an array with line ends": (b"[" + BODY.strip().replace(b"\n", b",\n") + b"]\n", "JSON array"),
    "an indented array": (json.dumps([{"email": "a@example.com", "seg": ["A"]}], indent=2).encode(), "JSON array"),
    "an indented object": (json.dumps({"email": "a@example.com", "seg": ["A"]}, indent=2).encode(), "object over the whole file"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "Parquet": (b"PAR1" + BODY, "a Parquet file"),
    "PDF": (b"%PDF-1.7 " + BODY, "a PDF file"),
    "binary": (b"\x7fELF\x00\x00", "binary data"),
}


@pytest.mark.parametrize("form", OTHER_FORMATS)
def test_a_file_of_another_format_is_named(config: dict[str, object], tmp_path: Path, form: str) -> None:
    content, name = OTHER_FORMATS[form]
    path = tmp_path / "export.jsonl"
    path.write_bytes(content)
    outcome = run_tap(config | {"export_url": str(path), "max_invalid_lines": 9})
    assert_rejected(outcome, f"The export is {name.split(',', 1)[0]}" if name.startswith("a") else name, "does not help")
    assert "truncated" not in outcome.errors[0]


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "compress"])
def test_an_encoding_that_was_not_asked_for_is_named(sandbox: Sandbox, config: dict[str, object], encoding: str) -> None:
    packed = zlib.compressobj(wbits=-15)  # no format of its own
    body = packed.compress(BODY) + packed.flush()
    sandbox.faults.add(Fault("answer", service="nosto", response=Response(200, body, {"Content-Encoding": encoding})))
    assert_rejected(run_tap(config), f"compressed with {encoding}")
    # a wrong label alone does no harm
    sandbox.faults.add(Fault("answer", service="nosto", response=Response(200, BODY, {"Content-Encoding": encoding})))
    assert_complete(run_tap(config))


@pytest.mark.parametrize("end", ["", "\n"])
def test_text_of_another_format_is_malformed_and_not_truncated(config: dict[str, object], tmp_path: Path, end: str) -> None:
    path = tmp_path / "export.csv"
    path.write_text(f"email,seg\na@example.com,A{end}")
    assert_rejected(run_tap(config | {"export_url": str(path)}), "2 of 2 lines", "malformed")


def test_the_check_names_another_format(config: dict[str, object], tmp_path: Path, check: Callable[..., Outcome]) -> None:
    path = tmp_path / "export.jsonl"
    path.write_bytes(zipped(BODY))
    outcome = check(config | {"export_url": str(path)})
    assert outcome.code == 1
    assert "a zip archive" in outcome.errors[0]
    assert "json_lines" in outcome.output.partition("REFUTED")[2]


@pytest.mark.parametrize("status", [400, 401, 403, 410])
@pytest.mark.parametrize("form", ["redirect", "link"])
def test_a_link_that_expired_is_not_a_refused_token(sandbox: Sandbox, config: dict[str, object], form: str, status: int) -> None:
    sandbox.nosto.form = form  # type: ignore[assignment]
    if form == "link":
        config["export_link_pointer"] = "/data/url"
    sandbox.faults.add(Fault("answer", service="files", times=9, response=answer(status)))
    outcome = run_tap(config)
    assert_rejected(outcome, f"refused by {sandbox.nosto.file_host} (status {status})", "expired")
    assert "token" not in outcome.errors[0]
    assert "signature" not in outcome.log


def test_a_signed_address_that_expired_is_not_a_refused_token(sandbox: Sandbox, config: dict[str, object]) -> None:
    sandbox.faults.add(Fault("answer", service="nosto", times=9, response=answer(403)))
    outcome = run_tap(config | {"export_auth": "none"})
    assert_rejected(outcome, "no token was sent", "expired")
    assert "refused the export token" not in outcome.errors[0]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(("content", "words"), [(None, "does not exist"), ("no certificate", "holds no certificates")])
def test_a_wrong_file_of_certificates_is_named(
    config: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, words: str
) -> None:
    path = tmp_path / "certificates.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/export"
        outcome = run_tap(config | {"export_url": url})
        assert_rejected(outcome, "REQUESTS_CA_BUNDLE", words)
        assert "disk" not in outcome.errors[0]
        # for the catalogue as well, which contacts do not wait for
        outcome = run_tap(config | {"api_token": "t", "graphql_url": url})
    assert_complete(outcome)
    assert "REQUESTS_CA_BUNDLE" in outcome.log


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:{}", "http://", "htp://127.0.0.1:{}", "http://[bad", "http://127.0.0.1:{}99999"]
)
def test_a_wrong_proxy_is_named(config: dict[str, object], monkeypatch: pytest.MonkeyPatch, closed_port: int, proxy: str) -> None:
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(closed_port))
    outcome = run_tap(config | {"export_url": "https://nosto.example.com/export"})
    assert_rejected(outcome, "proxy", "HTTPS_PROXY")
