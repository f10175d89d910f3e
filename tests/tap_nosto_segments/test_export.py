"""Fetching the export: every plausible format, and every way in which it can be unavailable or damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import socket
import time
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import ExportFile, Fault, Shop
from nosto_dotdigital_sandbox.faults import answer
from nosto_dotdigital_sandbox.web import Response
from support.oracle import expected
from support.running import START, Outcome, run_tap
from support.streams import catalog
from tap_nosto_segments.errors import (
    CatalogueError,
    ExportDamagedError,
    ExportUnavailableError,
    GuardError,
    SettingsError,
    SnapshotError,
    TapError,
)
from tap_nosto_segments.nosto.client import NostoClient
from tap_nosto_segments.nosto.export import parse_http_date
from tap_nosto_segments.snapshots.parser import find_other_format

if TYPE_CHECKING:
    from collections.abc import Callable

    from nosto_dotdigital_sandbox import Sandbox

BODY = b'{"email":"B@example.com","seg":["Loyal Customers","VIP"]}\n{"email":"a@example.com","seg":[]}\n'


def assert_complete(outcome: Outcome, body: bytes = BODY) -> None:
    assert outcome.code == 0, outcome.log
    assert {record["email"]: record["segments"] for record in outcome.records()} == expected(body)
    assert "snapshot" in outcome.lines[-1]["value"]["bookmarks"]["contact_segments"]


def assert_rejected(outcome: Outcome, kind: type[TapError], *words: str) -> None:
    """Assert that a run failed before its first message, with one line, the last one."""
    assert (outcome.code, outcome.output, type(outcome.error)) == (1, "", kind), outcome.log
    assert outcome.errors == [outcome.log.splitlines()[-1].removeprefix("ERROR ")]
    assert all(word in outcome.errors[0] for word in words), outcome.errors
    assert outcome.errors[0].isprintable()


def write(config: dict[str, Any], tmp_path: Path, content: bytes) -> dict[str, Any]:
    path = tmp_path / "export.jsonl"
    path.write_bytes(content)
    return {**config, "export_url": str(path)}


FORMS = ["body", "gzip", "content-encoding", "redirect", "link"]
METHODS = {"basic": "", "bearer": "", "header": "X-Token", "query": "token", "none": ""}


# each form with one method, and each method with the two forms that lead to another host
@pytest.mark.parametrize(
    ("form", "auth"), [*zip(FORMS, METHODS, strict=True), *((form, auth) for form in FORMS[3:] for auth in list(METHODS)[:3])]
)
def test_every_format_and_authentication_method(sandbox: Sandbox, config: dict[str, Any], form: str, auth: str) -> None:
    name = METHODS[auth]
    sandbox.nosto.form, sandbox.nosto.auth, sandbox.nosto.auth_name = form, auth, name  # type: ignore[assignment]
    config |= {"export_auth": auth, **({"export_auth_name": name} if name else {})}
    assert_complete(run_tap(config | ({"export_link_pointer": "/data/url"} if form == "link" else {})))
    for call in sandbox.journal.calls("files"):
        assert not {"authorization", "x-token"} & {header.lower() for header in call.headers}
        assert sandbox.nosto.token not in call.target


def test_a_local_file_and_a_compressed_one(config: dict[str, Any], tmp_path: Path) -> None:
    assert_complete(run_tap(write(config, tmp_path, gzip.compress(BODY[:40]) + gzip.compress(BODY[40:]))))
    plain = write(config, tmp_path, b"\xef\xbb\xbf" + BODY.rstrip())
    assert_complete(run_tap({**plain, "export_url": Path(plain["export_url"]).as_uri(), "snapshot_uri": str(tmp_path / "other")}))


def test_an_unchanged_export_is_not_downloaded_again(sandbox: Sandbox, config: dict[str, Any]) -> None:
    state = run_tap(config).bookmark
    outcome = run_tap(config, state)
    assert (outcome.code, outcome.records(), outcome.bookmark) == (0, [], state)
    assert [call.status for call in sandbox.journal.calls("nosto")] == [200, 304]


def test_the_same_content_without_validators_emits_no_record(sandbox: Sandbox, config: dict[str, Any]) -> None:
    sandbox.nosto.export = ExportFile(BODY, None, etag=False)
    state = run_tap(config).bookmark
    outcome = run_tap(config, state)
    assert (outcome.records(), outcome.bookmark) == ([], state)


def test_transient_failures_are_retried(sandbox: Sandbox, config: dict[str, Any]) -> None:
    for number, status in enumerate((500, 429, 503)):
        sandbox.faults.add(Fault("answer", service="nosto", nth=number, response=answer(status)))
    assert_complete(run_tap(config))
    shutil.rmtree(config["snapshot_uri"])
    sandbox.faults.add(Fault("cut", service="nosto"))
    assert_complete(run_tap(config))


def test_a_certificate_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", __file__)
        client = NostoClient(1, naps.append)
        with pytest.raises(ExportUnavailableError, match="REQUESTS_CA_BUNDLE"):
            client.with_retries("Fetching", lambda: client.post_json(f"https://127.0.0.1:{server.getsockname()[1]}", none(), b""))
    assert naps == []


def none() -> Any:
    from tap_nosto_segments.nosto.client import Credential  # noqa: PLC0415

    return Credential("https://nosto.example.com", "none", None, None)


LINK = {"export_link_pointer": "/data/url"}
DEEP = "[" * 100_000 + "]" * 100_000
# answer or form of Nosto, settings, class of the error, words of its line, words that it must not have
UNAVAILABLE: dict[str, tuple[str | Response, dict[str, Any], type[TapError], str, str]] = {
    "wrong token": ("body", {"export_token": "wrong-secret"}, ExportUnavailableError, "export_token", "wrong-secret"),
    "not found": (answer(404), {}, ExportUnavailableError, "status 404", "token"),
    "empty answer": (answer(204), {}, ExportUnavailableError, "status 204", "token"),
    "accepted": (answer(202), {}, ExportUnavailableError, "status 202", "token"),
    "another status": (
        answer(418, headers={"X-Request-Id": "r\x1b[2J17"}),
        {},
        ExportUnavailableError,
        "status 418 (request r17)",
        "token",
    ),
    "unavailable": (
        answer(503, headers={"X-Request-Id": "r17"}),
        {},
        ExportUnavailableError,
        "4 times, last with status 503",
        "token",
    ),
    "signed address": (
        answer(403),
        {"export_auth": "none"},
        ExportUnavailableError,
        "no token was sent",
        "refused the export token",
    ),
    "endless redirects": (answer(302, headers={"Location": "/export"}), {}, ExportUnavailableError, "redirects more than", "token"),
    "no link": ("link", {"export_link_pointer": "/data/nothing"}, ExportDamagedError, "export_link_pointer", "token"),
    "no address": ("link", {"export_link_pointer": "/data"}, ExportDamagedError, "export_link_pointer", "token"),
    "nested link": (Response(200, DEEP.encode()), LINK, ExportDamagedError, "export_link_pointer", "token"),
    "no gzip": (Response(200, b"no gzip", {"Content-Encoding": "gzip"}), LINK, ExportUnavailableError, "4 times", "token"),
    "web page": (Response(200, b"<html></html>"), {}, ExportDamagedError, "try-auth", "truncated"),
}


@pytest.mark.parametrize("case", UNAVAILABLE)
def test_an_export_that_cannot_be_fetched_is_explained(sandbox: Sandbox, config: dict[str, Any], case: str) -> None:
    given, settings, kind, words, not_words = UNAVAILABLE[case]
    if isinstance(given, str):
        sandbox.nosto.form = given  # type: ignore[assignment]
    else:
        sandbox.faults.add(Fault("answer", service="nosto", times=99, response=given))
    outcome = run_tap(config | settings)
    assert_rejected(outcome, kind, words)
    assert not_words not in outcome.errors[0]


@pytest.mark.parametrize(("form", "status"), [("redirect", 400), ("redirect", 403), ("link", 401), ("link", 410)])
def test_a_link_that_expired_is_not_a_refused_token(sandbox: Sandbox, config: dict[str, Any], form: str, status: int) -> None:
    sandbox.nosto.form = form  # type: ignore[assignment]
    sandbox.faults.add(Fault("answer", service="files", times=9, response=answer(status)))
    outcome = run_tap(config | (LINK if form == "link" else {}))
    assert_rejected(outcome, ExportUnavailableError, f"refused by {sandbox.nosto.file_host} (status {status})", "expired")
    assert "token" not in outcome.errors[0]
    assert "signature" not in outcome.log


def test_a_truncated_download_is_rejected(sandbox: Sandbox, config: dict[str, Any]) -> None:
    sandbox.nosto.export = ExportFile(BODY, START, sent=len(BODY) - 20)
    sandbox.faults.add(Fault("cut", service="nosto", times=9))
    assert_rejected(run_tap(config), ExportUnavailableError, "4 times")


ZIPPED = gzip.compress(BODY * 100)
DAMAGED: dict[str, tuple[bytes, dict[str, Any], type[TapError], str]] = {
    "gzip that ends early": (ZIPPED[:-9], {}, ExportDamagedError, "too early"),
    "gzip with another checksum": (ZIPPED[:-6] + b"abcdef", {}, ExportDamagedError, "damaged"),
    "incomplete last line": (BODY[:-12], {}, ExportDamagedError, "middle of a line"),
    "incomplete last line, nested": (
        f'{{"email":"a@example.com","seg":["A"],"x":{DEEP[:-9]}}}'.encode(),
        {},
        ExportDamagedError,
        "middle of a line",
    ),
    "CSV": (b"email,seg\na@example.com,A", {}, GuardError, "2 of 2 lines"),
    "empty": (b"", {}, GuardError, "allow_empty_export"),
    "stale": (BODY, {"max_export_age_hours": 48}, GuardError, "max_export_age_hours"),
    "another key": (BODY, {"segment_identifier": "segments"}, ExportDamagedError, "they have: email, seg"),
    "two keys": (b'{"email":"a@example.com","one":["A"],"two":["B"]}\n', {}, ExportDamagedError, "the names: one, two"),
    "no key": (b'{"email":"a@example.com","one":1}\n', {}, ExportDamagedError, "no key holds a list of names"),
    "strange keys": (
        json.dumps({"a\x1b[31mb\u202e": ["A"], "secret@example.com": ["B"], "k" * 500: 1}).encode() + b"\n",
        {},
        ExportDamagedError,
        "the names: ab, (an address)",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_or_implausible_export_is_rejected(local: dict[str, Any], tmp_path: Path, case: str) -> None:
    content, settings, kind, words = DAMAGED[case]
    settings = {**write(local, tmp_path, content), **settings}
    outcome = run_tap(settings, moment=START.replace(year=2030))
    assert_rejected(outcome, kind, words)
    assert "secret@" not in outcome.log
    if not content:
        assert run_tap(settings | {"allow_empty_export": True}).code == 0


@pytest.mark.parametrize("key", ["it's", 'say "hi"', "a/b~c", "Email", "$.email", "ключ"])
def test_an_identifier_may_be_any_text(local: dict[str, Any], tmp_path: Path, key: str) -> None:
    content = json.dumps({"email": "a@example.com", key: ["Ä", "it's"]}).encode() + b"\n"
    outcome = run_tap(write(local, tmp_path, content))
    assert [record["segments"] for record in outcome.records()] == [["it's", "Ä"]]


SETTINGS: list[tuple[dict[str, Any], type[TapError], str]] = [
    ({"export_token": None}, SettingsError, "export_token is not set"),
    ({"export_token": "se\ncret"}, SettingsError, "export_token"),
    ({"export_auth": "header"}, SettingsError, "export_auth_name is not set"),
    ({"export_auth": "header", "export_auth_name": "X Token"}, SettingsError, "export_auth_name is 'X Token'"),
    ({"shrink_override_date": "2026-13-45"}, SettingsError, "shrink_override_date"),
    ({"api_token": "t", "graphql_url": "http://nosto.example.com/graphql"}, SettingsError, "graphql_url"),
    ({"export_url": "nothing"}, ExportUnavailableError, "export_url"),
    ({"snapshot_uri": "/proc/nothing"}, SnapshotError, "permissions"),
    ({"snapshot_uri": "nosuchscheme://bucket"}, SnapshotError, "snapshot_uri"),
    ({"snapshot_uri": __file__}, SnapshotError, "a file stands where"),
    ({"snapshot_uri": f"{__file__}/snapshots"}, SnapshotError, "a file stands where"),
]


@pytest.mark.parametrize(("change", "kind", "words"), SETTINGS)
def test_unusable_settings_are_explained(
    config: dict[str, Any], check: Callable[..., Outcome], change: dict[str, Any], kind: type[TapError], words: str
) -> None:
    outcome = run_tap(config | change)
    assert_rejected(outcome, kind, words)
    assert "cret" not in outcome.log
    assert "space" not in outcome.errors[0] or kind is not SnapshotError or "stands" not in words
    if change != {"snapshot_uri": "/proc/nothing"}:  # the check creates no folder
        assert check(config | change).errors == outcome.errors


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
    "gzip twice": (gzip.compress(BODY), "gzip within gzip"),
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
def test_another_format_is_recognised(tmp_path: Path, form: str) -> None:
    content, name = OTHER_FORMATS[form]
    (tmp_path / "export.jsonl").write_bytes(content)
    found = find_other_format(tmp_path / "export.jsonl", "")
    assert found is not None
    assert name in found


def test_another_format_stops_the_run_and_the_check(local: dict[str, Any], tmp_path: Path, check: Callable[..., Outcome]) -> None:
    settings = {**write(local, tmp_path, zipped(BODY)), "max_invalid_lines": 9}
    outcome = run_tap(settings)
    assert_rejected(outcome, ExportDamagedError, "a zip archive")
    checked = check(settings)
    assert checked.errors == outcome.errors
    assert "json_lines" in checked.output.partition("REFUTED")[2]


@pytest.mark.parametrize("encoding", ["br", "compress"])
def test_an_encoding_that_was_not_asked_for_is_recognised(sandbox: Sandbox, config: dict[str, Any], encoding: str) -> None:
    packed = zlib.compressobj(wbits=-15)  # no format of its own
    body = packed.compress(BODY) + packed.flush()
    sandbox.faults.add(Fault("answer", service="nosto", response=Response(200, body, {"Content-Encoding": encoding})))
    assert_rejected(run_tap(config), ExportDamagedError, f"compressed with {encoding}")
    # a wrong label alone does no harm
    sandbox.faults.add(Fault("answer", service="nosto", response=Response(200, BODY, {"Content-Encoding": encoding})))
    assert_complete(run_tap(config))


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:{}", "http://", "htp://127.0.0.1:{}", "http://[bad", "http://127.0.0.1:{}99999"]
)
def test_a_wrong_proxy_is_named(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", proxy.format(closed.getsockname()[1]))
        outcome = run_tap(config | {"export_url": "https://nosto.example.com/export"})
    assert_rejected(outcome, ExportUnavailableError, "proxy", "HTTPS_PROXY")


def test_a_missing_file_of_certificates_is_named(config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/export"
        assert_rejected(run_tap(config | {"export_url": url}), ExportUnavailableError, "REQUESTS_CA_BUNDLE")
        # for the catalogue as well, which contacts do not wait for
        outcome = run_tap(config | {"api_token": "t", "graphql_url": url})
    assert_complete(outcome)
    assert "REQUESTS_CA_BUNDLE" in outcome.log


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("Sun, 01 Nov 2026 04:00:00 GMT", 4),
        ("Sun, 01 Nov 2026 04:00:00 -0000", 4),  # without an offset the date is in UTC
        ("Sun, 01 Nov 2026 06:00:00 +0200", 4),
        ("Mon, 01 Jan 0100 00:00:00 +2359", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Mon, 99 Jan 2026 99:99:99 GMT", None),
        ("Sun, 01 Nov 2026 04:00:00 +999999", None),
        ("1e999", None),
        ("\x01", None),
        ("", None),
        (None, None),
    ],
)
def test_an_absurd_date_counts_as_unknown(monkeypatch: pytest.MonkeyPatch, text: str | None, hour: int | None) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_http_date(text) == (None if hour is None else START.replace(hour=hour))
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("body", [DEEP, f'{{"data":{{"segments":{{"segments":{DEEP}}}}}}}', f'{{"errors":{DEEP}}}', "[]"])
def test_contacts_do_not_wait_for_an_unreadable_catalogue(sandbox: Sandbox, config: dict[str, Any], body: str) -> None:
    sandbox.nosto.graphql_body = body.encode()
    config |= {"api_token": sandbox.nosto.api_token, "graphql_url": sandbox.graphql_url}
    outcome = run_tap(config)
    assert_complete(outcome)
    assert "the catalogue was not read" in outcome.log
    shutil.rmtree(config["snapshot_uri"])
    assert_rejected(run_tap(config, None, catalog()), CatalogueError)


def smaller(body: bytes) -> bytes:
    return b"".join(body.splitlines(keepends=True)[:200])


@pytest.mark.parametrize(
    ("day", "change", "settings", "kind", "words"),
    [
        (2, lambda _: None, {}, ExportUnavailableError, "status 404"),
        (2, smaller, {}, GuardError, "max_shrink_percent"),
        (2, lambda body: body + b"{}\n", {}, GuardError, "max_invalid_lines"),
        (1, lambda body: body + b"\n", {}, GuardError, "before the one that was emitted last"),
        (2, bytes, {"segments": ["vip"]}, GuardError, "choose none"),
    ],
)
def test_a_failed_run_writes_nothing_even_with_a_bookmark(
    sandbox: Sandbox,
    config: dict[str, Any],
    day: int,
    change: Callable[[bytes], bytes | None],
    settings: dict[str, Any],
    kind: type[TapError],
    words: str,
) -> None:
    complete = Shop(500).export(0)
    sandbox.nosto.export = ExportFile(complete, START.replace(hour=5))
    state = run_tap(config).bookmark
    body = change(complete)
    sandbox.nosto.export = None if body is None else ExportFile(body, START.replace(day=day))
    assert_rejected(run_tap({**config, **settings}, state), kind, words)


def test_a_damaged_snapshot_of_the_same_export_writes_nothing(config: dict[str, Any]) -> None:
    assert run_tap(config).code == 0
    next(Path(config["snapshot_uri"]).glob("*.parquet")).write_bytes(b"PAR1")
    assert_rejected(run_tap(config), SnapshotError, "The newest snapshot is damaged")


def test_the_starting_state_is_the_first_message_if_there_is_one(config: dict[str, Any], sandbox: Sandbox) -> None:
    first = run_tap(config)
    assert [line["type"] for line in first.lines] == ["SCHEMA", "RECORD", "RECORD", "ACTIVATE_VERSION", "STATE"]
    sandbox.nosto.export = ExportFile(BODY.replace(b"VIP", b"Prospects"), START.replace(day=2))
    second = run_tap(config, first.bookmark)
    assert [line["type"] for line in second.lines] == ["STATE", "SCHEMA", "RECORD", "STATE"]
    assert second.lines[0]["value"] == first.bookmark


def test_two_streams_with_two_bases_are_compared_before_the_first_message(sandbox: Sandbox, config: dict[str, Any]) -> None:
    both = catalog("contact_segments", "segment_changes")
    first = run_tap(config, None, both).bookmark["bookmarks"]
    sandbox.nosto.export = ExportFile(BODY.replace(b"VIP", b"Y"), START.replace(day=2))
    second = run_tap(config, {"bookmarks": first}, both).bookmark["bookmarks"]
    sandbox.nosto.export = ExportFile(BODY.replace(b"VIP", b"Z"), START.replace(day=3))
    # the STATE of segment_changes was lost on the second day
    state = {"bookmarks": {**second, "segment_changes": first["segment_changes"]}}
    outcome = run_tap(config, state, both)
    assert [record["segments"] for record in outcome.records()] == [["Loyal Customers", "Z"]]
    moved = {(record["segment"], record["change"]) for record in outcome.records("segment_changes")}
    assert moved == {("VIP", "left"), ("Z", "entered")}
