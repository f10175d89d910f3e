"""The commands `check` and `try-auth`: they show what a run would find, store and emit nothing, and end as the run would."""

from __future__ import annotations

import base64
import datetime
import gzip
import json
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import ExportFile, Fault
from nosto_dotdigital_sandbox.faults import answer
from support.running import run_tap
from support.streams import catalog
from tap_nosto_segments.errors import ExportUnavailableError, GuardError, SettingsError

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
def config(config: dict[str, Any], sandbox: Sandbox) -> dict[str, Any]:
    sandbox.nosto.export = ExportFile(BODY, NOW - datetime.timedelta(hours=3))
    return {**config, "max_export_age_hours": 48}


def many(count: int, names: str = '["VIP"]') -> bytes:
    return "".join(f'{{"email":"p{number}@example.com","seg":{names}}}\n' for number in range(count)).encode()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(outcome: Outcome, label: str) -> list[str]:
    lines = [line.strip() for line in outcome.output.splitlines()]
    return [line.removeprefix(label).strip() for line in lines if line.startswith(f"{label} ")]


def test_the_table_shows_what_was_found(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    sandbox.nosto.form = "redirect"
    outcome = check({**config, "segments": ["V*", "Lapsed*"]})
    assert (outcome.code, outcome.log) == (0, "")
    host = sandbox.export_url.removesuffix("/export")
    # made three hours before the test's module was imported
    (age,) = rows(outcome, "Age")
    assert re.fullmatch(r"3\.\d hours .*", age)
    expected = {
        "Address": [f"{host}: status 302, redirects to {sandbox.nosto.file_host}", f"{sandbox.nosto.file_host}: status 200"],
        "Content type": ["application/json"],
        "Length": [f"{len(BODY)} bytes announced"],
        "Read": [f"the complete export: {len(BODY)} bytes (not compressed)"],
        "Keys": ["email, seg (in the first 3 lines)"],
        "Lists of names": ["seg"],
        "Lines": ["3, of which 0 are malformed and 0 are duplicates"],
        "Contacts": ["3, of which 1 are in no segment"],
        "chosen": ["2  'VIP'"],
        "-": ["1  'Loyal Customers'"],
        "Without effect": ["'Lapsed*' in segments matches no segment; the nearest name is 'Loyal Customers'"],
    }
    assert {label: rows(outcome, label) for label in expected} == expected
    assert rows(outcome, "Snapshots")[0].startswith("none")


def test_nothing_is_stored_emitted_or_revealed(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome], tmp_path: Path
) -> None:
    body = BODY + b'{"email":"a@example.com","b@example.com":1,"seg":["c@example.com"]}\n'
    sandbox.nosto.export = ExportFile(body, NOW)
    sandbox.nosto.form, sandbox.nosto.segments = "redirect", [("5a49", "VIP"), ("1", "d@example.com"), ("2", "d@example.com")]
    config |= {"api_token": sandbox.nosto.api_token, "graphql_url": sandbox.graphql_url}
    outcomes = [check(config), check(config, try_auth=True)]
    assert [outcome.code for outcome in outcomes] == [0, 0]
    assert files(tmp_path) == {}
    assert not (tmp_path / "snapshots").exists()
    assert run_tap(config).code == 0
    stored = files(tmp_path)
    outcomes.append(check(config))
    assert files(tmp_path) == stored
    text = "".join(outcome.output + outcome.log for outcome in outcomes)
    assert "(an address)" in text
    for secret in ("@example.com", "shopper", "nosto-token", "nosto-api-token", "signature", "/export", '{"'):
        assert secret not in text


FOUND = b"""{"email":"Jane@Example.com","seg":["VIP","Loyal"]}
{"email":"joe@example.com","seg":["VIP"]}
{"email": " jane@example.com", "seg": ["New"], "x": "\\u001b[31m"}
{"email":"jim@example.com","seg":"VIP"}
"""


@pytest.mark.parametrize(
    ("email", "lines", "others"),
    [
        (
            "JANE@example.com ",
            ['{"email":"Jane@Example.com","seg":["VIP","Loyal"]}', '{"email": " jane@example.com", "seg": ["New"]'],
            {
                "Normalised address": ["jane@example.com"],
                "Segments": ["'Loyal', 'New', 'VIP'"],
                "Chosen": ["'New', 'VIP'"],
                "Malformed lines": [],
            },
        ),
        (
            "jim@example.com",
            ['{"email":"jim@example.com","seg":"VIP"}'],
            {"Segments": ["unknown"], "Malformed lines": ["1 with this address: the contact keeps the segments last known"]},
        ),
        ("it's@example.com", [], {"Segments": ["none: the address is not in the export"], "Malformed lines": []}),
    ],
)
def test_find_shows_the_lines_of_an_address_and_its_segments(
    local: dict[str, Any], check: Callable[..., Outcome], email: str, lines: list[str], others: dict[str, list[str]]
) -> None:
    Path(local["export_url"]).write_bytes(FOUND)
    outcome = check({**local, "max_invalid_lines": 1, "exclude_segments": ["Loyal"]}, email=email)
    assert outcome.code == 0, outcome.log
    shown = rows(outcome, "Line")
    assert len(shown) == len(lines)
    assert all(line.startswith(start) for line, start in zip(shown, lines, strict=True))
    assert {label: rows(outcome, label) for label in others} == others
    assert "joe@example.com" not in outcome.output
    assert "@example.com" not in outcome.log


def test_find_shows_the_contact_even_if_a_guard_stops_the_run(local: dict[str, Any], check: Callable[..., Outcome]) -> None:
    Path(local["export_url"]).write_bytes(FOUND)
    outcome = check(local, email="joe@example.com")
    assert isinstance(outcome.error, GuardError)
    assert rows(outcome, "Segments") == ["'VIP'"]


# kind -> export, its age in hours, settings; the accepted one before it holds 200 contacts and was made 26 hours ago
REFUSED: dict[str, tuple[bytes, int, dict[str, Any]]] = {
    "empty": (b"", 1, {}),
    "malformed": (many(200) + b"{broken\n", 1, {}),
    "shrunken": (many(100), 1, {}),
    "shrunken segment": (many(200).replace(b'["VIP"]', b"[]", 100), 1, {}),
    "stale": (many(200), 72, {}),
    "older": (many(201), 30, {}),
    "no segment": (many(200), 1, {"segments": ["Nothing"]}),
    "hashes": (many(200).replace(b"@example.com", b""), 1, {}),
    "IDs": (many(200).replace(b"VIP", b"5a49" + 20 * b"0"), 1, {}),
    "renamed key": (many(200), 1, {"segment_identifier": "other"}),
    "web page": (b"<html></html>\n", 1, {}),
    "cut": (many(200)[:-9], 1, {}),
}


def test_the_check_ends_with_the_line_of_the_run(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    sandbox.nosto.export = ExportFile(many(200), NOW - datetime.timedelta(hours=26))
    state = run_tap(config).bookmark
    for kind, (body, hours, settings) in REFUSED.items():
        sandbox.nosto.export = ExportFile(body, NOW - datetime.timedelta(hours=hours))
        checked, ran = check(config | settings, state), run_tap(config | settings, state)
        assert (ran.code, ran.output, len(ran.errors)) == (1, "", 1), kind
        assert (checked.code, checked.errors, type(checked.error)) == (1, ran.errors, type(ran.error)), kind
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
    failed = check(config, catalog=catalog())
    assert failed.code == 1
    assert failed.errors == run_tap(config, None, catalog()).errors


@pytest.mark.parametrize("form", ["gzip", "link"])
def test_other_forms_of_the_export_are_checked(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome], form: str
) -> None:
    sandbox.nosto.form = form  # type: ignore[assignment]
    outcome = check(config | ({"export_link_pointer": "/data/url"} if form == "link" else {}))
    assert outcome.code == 0, outcome.log
    assert rows(outcome, "Contacts") == ["3, of which 1 are in no segment"]
    assert ("gzip" in rows(outcome, "Read")[0]) == (form == "gzip")


def test_a_missing_link_refutes_that_the_answer_is_the_export(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]
) -> None:
    sandbox.nosto.form = "link"
    outcome = check({**config, "export_link_pointer": "/data/nothing"})
    assert outcome.code == 1
    assert "REFUTED     answer_is_export" in outcome.output
    assert "confirmed   token_opens_export" in outcome.output


def test_only_the_last_attempt_is_shown(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    sandbox.faults.add(Fault("answer", service="nosto", times=2, response=answer(503)))
    assert [address.split()[-1] for address in rows(check(config), "Address")] == ["200"]
    sandbox.faults.add(Fault("answer", service="nosto", times=9, response=answer(503)))
    failed = check(config)
    assert (failed.code, type(failed.error)) == (1, ExportUnavailableError)
    assert "REFUTED" not in failed.output


def test_a_broken_download_shows_the_lines_so_far(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    sandbox.nosto.export = ExportFile(many(100_000), NOW)
    sandbox.faults.add(Fault("cut", service="nosto", times=9))
    outcome = check(config)
    assert outcome.code == 1
    assert 20_000 < int(rows(outcome, "Read")[0].partition(" ")[0].replace(",", "")) < 80_000


def test_a_local_file_is_checked_without_http(local: dict[str, Any], check: Callable[..., Outcome]) -> None:
    outcome = check(local)
    assert (outcome.code, rows(outcome, "Address")) == (0, ["a file, not an http address"])
    before, _, _ = outcome.output.partition("\n" + " " * 14 + "because: export_url is not an http address")
    assert {"token_opens_export", "redirects_are_secure"} < set(before.splitlines()[-1].replace(",", "").split())
    assert "confirmed   json_lines" in outcome.output
    path = Path(local["export_url"])
    path.write_bytes(gzip.compress(path.read_bytes())[:-9])
    damaged = check(local)
    assert damaged.code == 1
    assert "REFUTED     arrives_complete" in damaged.output


def test_an_unreachable_host_is_one_line(config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        outcome = check({**config, "export_url": f"http://127.0.0.1:{free.getsockname()[1]}/export"})
    assert (outcome.code, len(outcome.log.splitlines()), type(outcome.error)) == (1, 1, ExportUnavailableError)
    assert rows(outcome, "Address") == ["no answer"]
    assert "REFUTED" not in outcome.output
    assert "confirmed   " not in outcome.output


AUTHORISATIONS = {"basic": "", "bearer": "", "header": "X-Token", "query": "token", "none": ""}


@pytest.mark.parametrize("right", AUTHORISATIONS)
def test_each_form_of_authorisation_is_tried(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome], right: str
) -> None:
    name = AUTHORISATIONS[right]
    sandbox.nosto.auth, sandbox.nosto.auth_name = right, name  # type: ignore[assignment]
    sandbox.nosto.form = "redirect" if right == "bearer" else "body"
    outcome = check(config | ({"export_auth_name": name} if name else {}), try_auth=True)
    advice = {
        "basic": "export_auth is correct: basic opened the file",
        "none": "the address needs no token: set export_auth to none",
    }
    assert (outcome.code, rows(outcome, "Result")) == (0, [advice.get(right, f"set export_auth to {right}")])
    # one request for each form that can be tried, to the host of export_url only, with this token and nothing else
    sent = [
        "basic" if call.headers.get("authorization") == f"Basic {base64.b64encode(b':nosto-token').decode()}"
        else "bearer" if call.headers.get("authorization") == "Bearer nosto-token"
        else "header" if name and call.headers.get(name.lower()) == "nosto-token"
        else "query" if name and call.target == f"/export?{name}=nosto-token"
        else "none" if "authorization" not in call.headers and call.target == "/export"
        else "?"
        for call in sandbox.journal.calls("nosto")
    ]  # fmt: skip
    assert sent == (["basic", "bearer", "header", "query", "none"] if name else ["basic", "bearer", "none"])
    assert sandbox.journal.calls("files") == []
    if not name:
        assert rows(outcome, "header") == rows(outcome, "query") == ["not tried: it needs export_auth_name"]


@pytest.mark.parametrize("switch", ["login_page", "other_email_key"])
def test_another_answer_with_status_200_does_not_count_as_opened(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome], switch: str
) -> None:
    sandbox.nosto.deviations.add(switch)
    outcome = check(config, try_auth=True)
    assert (outcome.code, type(outcome.error)) == (1, ExportUnavailableError)
    assert rows(outcome, "basic (configured)")[0].startswith("status 200: a")


def test_no_other_host_is_asked_for_authorisation(sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]) -> None:
    elsewhere = answer(302, headers={"Location": f"{sandbox.nosto.file_host}/login?next=secret"})
    sandbox.faults.add(Fault("answer", service="nosto", times=3, response=elsewhere))
    outcome = check({**config, "export_token": "wrong"}, try_auth=True)
    assert f"redirected to {sandbox.nosto.file_host}, which was not followed" in rows(outcome, "basic")[0]
    assert sandbox.journal.calls("files") == []
    assert "secret" not in outcome.output


def test_authorisation_needs_an_address_and_a_token(
    local: dict[str, Any], config: dict[str, Any], check: Callable[..., Outcome], sandbox: Sandbox
) -> None:
    for settings in (local, {**config, "export_token": None, "export_auth": "none"}):
        outcome = check(settings, try_auth=True)
        assert (outcome.code, outcome.output, type(outcome.error)) == (1, "", SettingsError)
    assert sandbox.journal.calls("nosto") == []


def test_the_bookmark_of_the_state_is_compared_with(local: dict[str, Any], check: Callable[..., Outcome]) -> None:
    state = run_tap(local).bookmark
    assert rows(check(local, json.loads(json.dumps(state))), "Snapshots")[0].startswith("1; compared with")
