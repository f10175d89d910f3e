"""`--check`: it shows what a run would find, stores and emits nothing, and ends as the run would."""

from __future__ import annotations

import base64
import datetime
import gzip
import itertools
import json
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import ExportFile, Fault
from nosto_dotdigital_sandbox.faults import answer
from support.running import BIN, run_tap
from support.streams import catalog
from tap_nosto_segments.errors import ExportUnavailableError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nosto_dotdigital_sandbox import Sandbox
    from support.running import Outcome

NOW = datetime.datetime.now(datetime.UTC)
BODY = (
    b'{"email":"B.shopper@example.com","seg":["Loyal Customers","VIP"]}\n'
    b'{"email":"a.shopper@example.com","seg":[]}\n'
    b'{"email":"c.shopper@example.com","seg":["VIP"]}\n'
)


@pytest.fixture
def config(sandbox: Sandbox, tmp_path: Path) -> dict[str, Any]:
    sandbox.nosto.export = ExportFile(BODY, NOW - datetime.timedelta(hours=3))
    return {
        "export_url": sandbox.export_url,
        "export_token": sandbox.nosto.token,
        "snapshot_uri": str(tmp_path / "snapshots"),
    }


def many(count: int, names: str = '["VIP"]') -> bytes:
    return "".join(f'{{"email":"p{number}@example.com","seg":{names}}}\n' for number in range(count)).encode()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def row(outcome: Outcome, label: str) -> str:
    return next(line for line in outcome.output.splitlines() if line.strip().startswith(label)).strip().removeprefix(label).strip()


def test_the_table_shows_what_was_found(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    sandbox.nosto.form = "redirect"
    outcome = check({**config, "segments": ["V*", "Lapsed*"]})
    assert (outcome.code, outcome.log) == (0, "")
    addresses = [line.strip() for line in outcome.output.splitlines() if line.strip().startswith("Address")]
    assert len(addresses) == 2
    assert sandbox.export_url.removesuffix("/export") + ": status 302, redirects to " + sandbox.nosto.file_host in addresses[0]
    assert sandbox.nosto.file_host + ": status 200" in addresses[1]
    assert row(outcome, "Content type") == "application/json"
    assert row(outcome, "Length") == f"{len(BODY)} bytes announced"
    assert row(outcome, "Read") == f"the complete export: {len(BODY)} bytes (not compressed)"
    # made three hours before the test's module was imported
    assert re.fullmatch(r"3\.\d hours .*", row(outcome, "Age"))
    assert row(outcome, "Keys") == "email, seg (in the first 3 lines)"
    assert row(outcome, "Lists of names") == "seg"
    assert row(outcome, "Lines") == "3, of which 0 are malformed and 0 are duplicates"
    assert row(outcome, "Contacts") == "3, of which 1 are in no segment"
    lines = [line.split() for line in outcome.output.splitlines()]
    assert ["chosen", "2", "'VIP'"] in lines
    assert ["-", "1", "'Loyal", "Customers'"] in lines
    assert row(outcome, "Without effect") == "'Lapsed*' in segments matches no segment; the nearest name is 'Loyal Customers'"
    assert row(outcome, "Snapshots").startswith("none")


def test_nothing_is_stored_emitted_or_revealed(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome], tmp_path: Path
) -> None:
    sandbox.nosto.form, sandbox.nosto.segments = "redirect", [("5a49", "VIP")]
    config |= {"api_token": sandbox.nosto.api_token, "graphql_url": sandbox.graphql_url}
    outcome = check(config)
    assert outcome.code == 0
    assert files(tmp_path) == {}
    assert not (tmp_path / "snapshots").exists()
    assert run_tap(config).code == 0
    stored = files(tmp_path)
    again = check(config)
    assert files(tmp_path) == stored
    for text in (outcome.output, outcome.log, again.output, again.log):
        assert not any(line.startswith("{") for line in text.splitlines())
        assert not any(
            secret in text for secret in ("@example.com", "shopper", "nosto-token", "nosto-api-token", "signature", "/export")
        )


def test_addresses_in_keys_and_names_are_not_shown(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    body = b'{"email":"a@example.com","b@example.com":1,"seg":["c@example.com"]}\n'
    sandbox.nosto.export = ExportFile(body, NOW)
    sandbox.nosto.segments = [("1", "d@example.com"), ("2", "d@example.com")]
    outcome = check({**config, "api_token": sandbox.nosto.api_token, "graphql_url": sandbox.graphql_url})
    assert "(an address)" in outcome.output
    assert "@example.com" not in outcome.output + outcome.log


def without_names(body: bytes, count: int) -> bytes:
    """Take the first contacts of an export out of their segments."""
    return body.replace(b'["VIP"]', b"[]", count)


# kind -> export, its age in hours, settings; the accepted one before it holds 200 contacts and was made 26 hours ago
REFUSED: dict[str, tuple[bytes, int, dict[str, Any]]] = {
    "empty": (b"", 1, {}),
    "malformed": (many(200) + b"{broken\n", 1, {}),
    "shrunken": (many(100), 1, {}),
    "shrunken segment": (without_names(many(200), 100), 1, {}),
    "stale": (many(200), 72, {}),
    "older": (many(201), 30, {}),
    "no segment": (many(200), 1, {"segments": ["Nothing"]}),
    "hashes": (many(200).replace(b"@example.com", b""), 1, {}),
    "IDs": (many(200).replace(b"VIP", b"5a49" + 20 * b"0"), 1, {}),
    "renamed key": (many(200), 1, {"segment_identifier": "other"}),
    "web page": (b"<html></html>\n", 1, {}),
    "cut": (many(200)[:-9], 1, {}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_the_check_ends_with_the_line_of_the_run(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome], kind: str
) -> None:
    sandbox.nosto.export = ExportFile(many(200), NOW - datetime.timedelta(hours=26))
    state = run_tap(config).bookmark
    body, hours, settings = REFUSED[kind]
    sandbox.nosto.export = ExportFile(body, NOW - datetime.timedelta(hours=hours))
    config |= settings
    checked, ran = check(config, state), run_tap(config, state)
    assert (ran.code, ran.output, len(ran.errors)) == (1, "", 1), ran.log
    assert (checked.code, checked.errors) == (1, ran.errors)
    assert checked.log.splitlines()[-1] == f"ERROR {ran.errors[0]}"
    assert "OK:" not in checked.output


def test_the_shrink_guard_compares_with_the_bookmark_or_the_newest_snapshot(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]
) -> None:
    states: list[dict[str, Any]] = []
    for number, count in enumerate((200, 170, 145)):
        sandbox.nosto.export = ExportFile(many(count), NOW - datetime.timedelta(hours=30 - number))
        states.append(run_tap(config, states[-1] if states else None).bookmark)
    sandbox.nosto.export = ExportFile(many(130), NOW)
    assert check(config).code == 0
    assert check(config, states[-1]).code == 0
    assert "contacts 170 -> 130" in check(config, states[1]).errors[0]
    assert check({**config, "shrink_override_date": NOW.date().isoformat()}, states[1]).code == 0


def test_an_identical_export_passes_as_in_a_run(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    # it was accepted with fewer restrictions, and a run reuses its snapshot
    sandbox.nosto.export = ExportFile(many(200) + b"{broken\n", NOW - datetime.timedelta(hours=1))
    state = run_tap({**config, "max_invalid_lines": 1}).bookmark
    assert run_tap(config, state).code == 0
    assert check(config, state).code == 0


def test_an_unreadable_catalogue_fails_only_a_run_that_emits_it(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]
) -> None:
    config |= {"api_token": "wrong", "graphql_url": sandbox.graphql_url}
    outcome = check(config)
    assert outcome.code == 0
    assert outcome.output.splitlines()[-1].endswith("1 assumption is refuted: see above what that means.")
    every_stream = catalog()
    failed = check(config, catalog=every_stream)
    assert failed.code == 1
    assert failed.errors == run_tap(config, None, every_stream).errors
    assert "status 401" in failed.errors[0]


@pytest.mark.parametrize("form", ["body", "gzip", "content-encoding", "redirect", "link"])
def test_every_form_of_the_export_is_checked(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome], form: str
) -> None:
    sandbox.nosto.form = form  # type: ignore[assignment]
    if form == "link":
        config["export_link_pointer"] = "/data/url"
    outcome = check(config)
    assert outcome.code == 0, outcome.log
    assert row(outcome, "Contacts") == "3, of which 1 are in no segment"
    assert ("gzip" in row(outcome, "Read")) == (form in {"gzip", "content-encoding"})


def test_a_missing_link_is_explained(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    sandbox.nosto.form = "link"
    outcome = check({**config, "export_link_pointer": "/data/nothing"})
    assert outcome.code == 1
    assert "REFUTED     answer_is_export" in outcome.output
    assert "confirmed   token_opens_export" in outcome.output
    assert "no link to the export" in outcome.errors[0]


def test_only_the_last_attempt_is_shown(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    sandbox.faults.add(Fault("answer", service="nosto", times=2, response=answer(503)))
    outcome = check(config)
    assert outcome.code == 0
    assert [line.split()[-1] for line in outcome.output.splitlines() if line.strip().startswith("Address")] == ["200"]
    sandbox.faults.add(Fault("answer", service="nosto", times=9, response=answer(503)))
    failed = check(config)
    assert failed.code == 1
    assert "temporarily unavailable" in failed.errors[0]
    assert "REFUTED" not in failed.output


def test_a_broken_download_shows_the_lines_so_far(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    sandbox.nosto.export = ExportFile(many(100_000), NOW)
    sandbox.faults.add(Fault("cut", service="nosto", times=9))
    outcome = check(config)
    assert outcome.code == 1
    shown = int(row(outcome, "Read").partition(" ")[0].replace(",", ""))
    assert 20_000 < shown < 80_000


def test_a_local_file_is_checked_without_http(local: dict[str, object], check: Callable[..., Outcome]) -> None:
    outcome = check(local)
    assert outcome.code == 0
    assert row(outcome, "Address") == "a file, not an http address"
    skipped = next(
        before for before, line in itertools.pairwise(outcome.output.splitlines()) if "export_url is not an http" in line
    )
    assert {"token_opens_export", "redirects_are_secure", "length_is_announced"} < set(skipped.replace(",", "").split())
    assert "confirmed   json_lines" in outcome.output
    path = Path(str(local["export_url"]))
    path.write_bytes(gzip.compress(path.read_bytes())[:-9])
    damaged = check(local)
    assert damaged.code == 1
    assert "REFUTED     arrives_complete" in damaged.output


def test_an_unreachable_host_is_one_line(config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/export"
        outcome = check({**config, "export_url": url})
    assert (outcome.code, len(outcome.log.splitlines())) == (1, 1)
    assert "the connection could not be established" in outcome.errors[0]
    assert row(outcome, "Address") == "no answer"
    assert "REFUTED" not in outcome.output
    assert "confirmed   " not in outcome.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"export_token": None}, "export_token is not set"),
        ({"export_url": "http://nosto.example.com/export"}, "export_url is not an https address"),
        ({"segmets": ["A"]}, "'segmets' was unexpected"),
        ({"snapshot_uri": "nosuchscheme://bucket"}, "The snapshot folder"),
    ],
)
def test_wrong_settings_are_one_line(
    config: dict[str, Any], check: Callable[..., Outcome], change: dict[str, Any], words: str
) -> None:
    outcome = check({name: value for name, value in {**config, **change}.items() if value is not None})
    assert (outcome.code, outcome.output, len(outcome.log.splitlines())) == (1, "", 1)
    assert words in outcome.errors[0]


AUTHORISATIONS = {"basic": "", "bearer": "", "header": "X-Token", "query": "token", "none": ""}


@pytest.mark.parametrize("right", AUTHORISATIONS)
@pytest.mark.parametrize("form", ["body", "redirect"])
def test_each_form_of_authorisation_is_tried(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome], right: str, form: str
) -> None:
    name = AUTHORISATIONS[right]
    sandbox.nosto.auth, sandbox.nosto.auth_name, sandbox.nosto.form = right, name, form  # type: ignore[assignment]
    if name:
        config["export_auth_name"] = name
    outcome = check(config, try_auth=True)
    advice = {"basic": "export_auth is correct: basic opened the file", "none": "the address needs no token: set export_auth to none"}
    assert row(outcome, "Result") == advice.get(right, f"set export_auth to {right}")
    assert outcome.code == 0
    # one request for each form that can be tried, to the host of export_url only, with this token and nothing else
    tried = sandbox.journal.calls("nosto")
    sent = [
        "basic" if call.headers.get("authorization") == f"Basic {base64.b64encode(b':nosto-token').decode()}"
        else "bearer" if call.headers.get("authorization") == "Bearer nosto-token"
        else "header" if name and call.headers.get(name.lower()) == "nosto-token"
        else "query" if name and call.target == f"/export?{name}=nosto-token"
        else "none" if "authorization" not in call.headers and call.target == "/export"
        else "?"
        for call in tried
    ]  # fmt: skip
    assert sent == (["basic", "bearer", "header", "query", "none"] if name else ["basic", "bearer", "none"])
    assert sandbox.journal.calls("files") == []
    if not name:
        assert row(outcome, "header") == row(outcome, "query") == "not tried: it needs export_auth_name"


@pytest.mark.parametrize(
    ("switch", "seen"),
    [
        ("login_page", "a web page, probably for logging in"),
        ("other_email_key", "an answer that does not begin with a record"),
    ],
)
def test_another_answer_with_status_200_does_not_count_as_opened(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome], switch: str, seen: str
) -> None:
    sandbox.nosto.deviations.add(switch)
    outcome = check(config, try_auth=True)
    assert row(outcome, "basic (configured)") == f"status 200: {seen}"
    assert outcome.code == 1
    assert isinstance(outcome.error, ExportUnavailableError)


def test_no_other_host_is_asked_for_authorisation(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    elsewhere = answer(302, headers={"Location": f"{sandbox.nosto.file_host}/login?next=secret"})
    sandbox.faults.add(Fault("answer", service="nosto", times=3, response=elsewhere))
    outcome = check({**config, "export_token": "wrong"}, try_auth=True)
    assert f"redirected to {sandbox.nosto.file_host}, which was not followed" in row(outcome, "basic")
    assert sandbox.journal.calls("files") == []
    assert "secret" not in outcome.output


def test_authorisation_needs_an_address_and_a_token(
    local: dict[str, object], config: dict[str, Any], check: Callable[..., Outcome], sandbox: Sandbox
) -> None:
    assert isinstance(check(local, try_auth=True).error, SettingsError)
    del config["export_token"]
    assert isinstance(check({**config, "export_auth": "none"}, try_auth=True).error, SettingsError)
    assert sandbox.journal.calls("nosto") == []


def run_command(*arguments: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("TAP_", "MELTANO_", "SINGER_SDK_", "LOGLEVEL"))
    }
    return subprocess.run(
        [str(BIN / "tap-nosto-segments"), *map(str, arguments)],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_settings_from_the_environment_do_not_precede_the_answer(local: dict[str, object], tmp_path: Path) -> None:
    environment = {
        "TAP_NOSTO_SEGMENTS_EXPORT_URL": str(local["export_url"]),
        "TAP_NOSTO_SEGMENTS_SNAPSHOT_URI": str(local["snapshot_uri"]),
        "TAP_NOSTO_SEGMENTS_SEGMENTS": '["*", "VIP"]',
    }
    done = run_command("check", "--config=ENV", folder=tmp_path, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Export\n")
    discovered = run_command("--config=ENV", "--discover", folder=tmp_path, **environment)
    assert (discovered.returncode, discovered.stderr) == (0, "")
    # a name may contain a comma, so a list needs brackets
    refused = run_command("--config=ENV", "--discover", folder=tmp_path, **environment | {"TAP_NOSTO_SEGMENTS_SEGMENTS": "VIP,B"})
    assert [line.split(" | ")[1].strip() for line in refused.stderr.splitlines()] == ["ERROR"]
    assert refused.returncode == 1


def test_help_and_version_answer(tmp_path: Path) -> None:
    help_text = run_command("--help", folder=tmp_path)
    assert (help_text.returncode, help_text.stderr) == (0, "")
    assert all(word in help_text.stdout for word in ("check", "try-auth", "Segment Export", "--about"))
    version = run_command("--version", folder=tmp_path)
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.startswith("tap-nosto-segments v")


def test_a_missing_config_file_is_one_line(tmp_path: Path) -> None:
    for option in ("check", "--about", "--discover"):
        done = run_command("--config", "nothing.json", option, folder=tmp_path)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), option
        assert "The config file nothing.json (--config) cannot be used" in done.stderr
