"""Answers of dotdigital that nobody documents: a clear line, never a defect, an endless reading, or a password for another host."""

from __future__ import annotations

import itertools
import json
import re
import socket
import socketserver
import ssl
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import requests
import urllib3.exceptions as u3
from nosto_dotdigital_sandbox import Fault, Sandbox
from nosto_dotdigital_sandbox.faults import answer
from nosto_dotdigital_sandbox.web import Response
from support.cases import slow_except
from support.oracle import FIELD
from support.running import FakeTime, Outcome, Pipeline, run_target, singer
from support.wire import contacts_sent
from target_dotdigital.dotdigital.client import Client, own_address, trouble_of, without_user
from target_dotdigital.dotdigital.contacts import payload_of
from target_dotdigital.dotdigital.messages import usable_id
from target_dotdigital.errors import ApiError
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ONE = singer([{"email": "a@example.com", "segments": ["A"]}])
DEEP = b"[" * 100_000
# JSON that cannot be an id
IMPOSSIBLE_IDS = [
    *("0", "-1", "9223372036854775808", "18446744073709551616", "1" * 5_000, "1e999", "1.0", "1e3"),
    *('"35000001"', "null", "true", "[]", '{"id":1}'),
]
# too large, no number, nothing
SOME_IDS = slow_except({"9223372036854775808", '"35000001"', "null"}, IMPOSSIBLE_IDS)
UUID = "d7de900d-d337-43f6-b1e1-c8ec73e1a434"
HOSTILE = "\x1b[31mred\x07\u202e\x9b\r\nDone"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture
def client(sandbox: Sandbox, time: FakeTime) -> Client:
    return Client(sandbox.home_url, sandbox.user, sandbox.password, 1, time.clock())


def command(pipeline: Pipeline, name: str) -> Outcome:
    return run_target(pipeline.target, "", pipeline.time, **{name: True})


def assert_clear(outcome: Outcome, *words: str) -> None:
    """Require that a run ended with one line that says all the words."""
    assert outcome.code == 1, outcome.log
    assert "Traceback" not in outcome.log
    assert "defect" not in outcome.log, outcome.errors
    assert all(word in outcome.errors[-1] for word in words), outcome.errors


def changed(pattern: str, replacement: str) -> Callable[[Response], Response]:
    """Return a rewriting of answers by a regular expression."""
    return lambda response: Response(
        response.status, re.sub(pattern.encode(), replacement.encode(), response.body), {"Content-Type": "application/json"}
    )


# Answers that never end; the faults do, so that a reader who follows them for ever is seen rather than waited for


def page_of(ids: list[int], marker: str) -> bytes:
    items = [{"contactId": number, "identifiers": {"email": f"p{number}@example.com"}} for number in ids]
    return json.dumps({"_items": items, "_links": {"next": {"marker": marker}}}).encode()


@pytest.mark.parametrize(
    "pages",
    [
        [([1, 2], "QQ=="), ([3, 4], "Qg==")],
        [([1, 2], "QQ==")],
        [([7, 8], str(number)) for number in range(40)],
        [([number, 8], str(number)) for number in range(1, 8)],
    ],
    ids=["two markers in turn", "one marker", "new markers, old contacts", "new markers, nothing higher"],
)
def test_a_listing_that_repeats_is_not_followed_for_ever(
    pipeline: Pipeline, sandbox: Sandbox, pages: list[tuple[list[int], str]]
) -> None:
    for page in itertools.islice(itertools.cycle(pages), 40):
        sandbox.faults.add(Fault("answer", path="limit=5000", response=answer(200, page_of(*page))))
    outcome = command(pipeline, "reconcile")
    assert_clear(outcome, "contacts", "does not come to an end", "Nothing was written")
    assert len(sandbox.journal.calls("dotdigital", "GET", "/contacts/v3")) <= 3


def test_a_listing_is_read_to_its_end_in_any_order_within_a_page(pipeline: Pipeline, sandbox: Sandbox) -> None:
    for ids, marker in (([3, 1, 2], "QQ=="), ([6, 5, 4], "Qg=="), ([2], "")):
        sandbox.faults.add(Fault("answer", path="limit=5000", response=answer(200, page_of(ids, marker))))
    outcome = command(pipeline, "reconcile")
    assert outcome.code == 0, outcome.log
    assert re.search(r"^ *7  contacts read back", outcome.output, re.MULTILINE)


@pytest.mark.parametrize("link", ["https://[", "::", "/contacts/v3?marker="])
def test_a_link_that_is_no_address_ends_the_listing(pipeline: Pipeline, sandbox: Sandbox, link: str) -> None:
    body = json.dumps({"_items": [], "_links": {"next": {"link": link}}}).encode()
    sandbox.faults.add(Fault("answer", path="limit=5000", response=answer(200, body)))
    assert command(pipeline, "reconcile").code == 0


@pytest.mark.parametrize("kind", ["address-books", "programs"])
def test_a_list_that_ignores_skip_is_not_followed_for_ever(pipeline: Pipeline, sandbox: Sandbox, kind: str) -> None:
    items = [{"id": number, "name": f"n{number}", "status": "Active"} for number in range(1000, 0, -1)]
    sandbox.faults.add(Fault("answer", path=kind, times=40, response=answer(200, json.dumps(items).encode())))
    outcome = command(pipeline, "check")
    assert_clear(outcome, kind.replace("-", " "), "does not come to an end", "Nothing was written")
    assert len(sandbox.journal.calls("dotdigital", "GET", f"/v2/{kind}")) == 2


def test_long_lists_are_read_to_their_end(pipeline: Pipeline, sandbox: Sandbox) -> None:
    for number in range(2_100):
        sandbox.account.add_book(f"book {number}")
    book = sandbox.account.add_book(" nosto CONTACTS")
    sandbox.account.programs += [{"id": n, "name": f"p{n}", "status": "Active", "dateCreated": ""} for n in range(2_100, 0, -1)]
    outcome = command(pipeline, "check")
    assert outcome.code == 0, outcome.log
    assert f"(id {book.id}, 0 contacts)" in outcome.output
    assert "2100 active" in outcome.output


# Ids that cannot be


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("9223372036854775807", (1 << 63) - 1), *((one, None) for one in IMPOSSIBLE_IDS)]
)
def test_ids(text: str, number: int | None) -> None:
    assert usable_id(msgspec.Raw(text.encode())) == number


@pytest.mark.parametrize("impossible", SOME_IDS)
def test_a_contact_without_a_usable_id_is_matched_by_its_address(pipeline: Pipeline, sandbox: Sandbox, impossible: str) -> None:
    """Left out, it would keep labels that it should lose, and nothing would say so."""
    book = sandbox.account.add_book("Nosto contacts")
    sandbox.account.add_field(FIELD)
    first = sandbox.account.add_contact("first@example.com", lists={book.id}, data_fields={FIELD: "old"})
    sandbox.account.add_contact("second@example.com", lists={book.id})
    rename = changed(rf'"contactId":{first.id}\b', f'"contactId":{impossible}')
    sandbox.faults.add(Fault("rewrite", path="limit=5000", times=9, rewrite=rename))
    outcome = command(pipeline, "reconcile")
    assert outcome.code == 0, outcome.log
    assert re.search(r"^ *2  contacts read back", outcome.output, re.MULTILINE)
    lines = singer([{"email": "second@example.com", "segments": ["A"]}], state={"day": 1}).splitlines(keepends=True)
    lines.insert(-1, '{"type":"ACTIVATE_VERSION","stream":"people","version":1}\n')
    outcome = pipeline.load("".join(lines))
    assert outcome.code == 0, outcome.log
    held = {email: contact.data_fields for email, contact in sandbox.account.snapshot().items()}
    assert held == {"first@example.com": {}, "second@example.com": {FIELD: "A"}}


def test_a_contact_without_a_usable_address_is_left_out_when_read_back(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.add_contact("a\u0000b@example.com")
    sandbox.account.add_contact("second@example.com")
    outcome = command(pipeline, "reconcile")
    assert outcome.code == 0, outcome.log
    assert re.search(r"^ *1  contacts read back", outcome.output, re.MULTILINE)
    assert "1 contacts read back without a usable address were left out" in outcome.log


@pytest.mark.parametrize("impossible", SOME_IDS)
def test_an_address_book_of_a_contact_whose_id_cannot_be_is_another_one(
    pipeline: Pipeline, sandbox: Sandbox, impossible: str
) -> None:
    book = sandbox.account.add_book("Nosto contacts")
    sandbox.account.add_contact("a@example.com", lists={book.id})
    sandbox.faults.add(Fault("rewrite", path="limit=5000", rewrite=changed(rf'"id":{book.id}\b', f'"id":{impossible}')))
    assert command(pipeline, "reconcile").code == 0


@pytest.mark.parametrize("impossible", SOME_IDS)
@pytest.mark.parametrize("verdict", ["created", "updated"])
def test_a_row_whose_id_cannot_be_is_confirmed_by_its_address(
    pipeline: Pipeline, sandbox: Sandbox, impossible: str, verdict: str
) -> None:
    if verdict == "updated":
        sandbox.account.add_contact("A@example.com")
    sandbox.faults.add(
        Fault("rewrite", path="import/", times=999, rewrite=changed(r'"contactId":\d+', f'"contactId":{impossible}'))
    )
    outcome = pipeline.load(ONE)
    assert outcome.code == 0, outcome.log
    assert (pipeline.report["sent"], pipeline.report[verdict]) == (1, 1)
    sandbox.journal.clear()
    assert pipeline.load(singer([])).code == 0
    assert contacts_sent(sandbox) == []


@pytest.mark.parametrize("impossible", SOME_IDS)
def test_a_rejected_row_whose_id_cannot_be_is_rejected_by_its_address(
    pipeline: Pipeline, sandbox: Sandbox, impossible: str
) -> None:
    sandbox.account.refuse = lambda _email: "globallySuppressed"
    with_id = changed(r'"matchIdentifier":"email"', f'"contactId":{impossible},"matchIdentifier":"email"')
    sandbox.faults.add(Fault("rewrite", path="import/", times=999, rewrite=with_id))
    assert pipeline.load(ONE).code == 0
    assert '"globallySuppressed": 1' in json.dumps(pipeline.report)


def test_a_rejected_row_may_repeat_its_id_as_the_row_had_it(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert pipeline.load(ONE).code == 0
    (contact,) = sandbox.account.contacts.values()
    sandbox.account.globally_suppressed.add(contact.email.lower())
    inside = changed(rf'"contactId":{contact.id}(.*"identifiers":)\{{', rf'"note":1\1{{"contactId":{contact.id},')
    moved = changed(rf'"identifiers":\{{\}}(.*)"contactId":{contact.id}', rf'"identifiers":{{"contactId":{contact.id}}}\1"note":1')
    sandbox.faults.add(Fault("rewrite", path="import/", times=999, rewrite=lambda body: moved(inside(body))))
    # removed from the source: matched by ID
    assert pipeline.load(singer([{"email": "a@example.com", "segments": [], "_sdc_deleted_at": "2026-11-02T00:00:00Z"}])).code == 0
    assert pipeline.report["rejections"] == {"globallySuppressed": 1}


@pytest.mark.parametrize("impossible", SOME_IDS)
@pytest.mark.parametrize("place", ["account-info", "address-books", "address-books, created"])
def test_an_account_or_an_address_book_whose_id_cannot_be(
    pipeline: Pipeline, sandbox: Sandbox, impossible: str, place: str
) -> None:
    path, _, created = place.partition(", ")
    if path == "address-books" and not created:
        sandbox.account.add_book("Nosto contacts")
    rewrite = changed(r'"id":\d+(?=,"(?:properties"|name":"Nosto))', f'"id":{impossible}')
    fault = Fault("rewrite", service=None, method="POST" if created else "GET", path=path, times=9, rewrite=rewrite)
    sandbox.faults.add(fault)
    assert_clear(
        pipeline.load(ONE), "account" if path == "account-info" else "address book", "returned an invalid ID", "was written"
    )
    assert fault.struck == 1
    assert sandbox.journal.imports() == []


@pytest.mark.parametrize(
    ("value", "payload"),
    [
        *(
            ("null", "{}"),
            ('""', "{}"),
            ('"A;B"', '{"F":"A;B"}'),
            ('"\\u0041"', '{"F":"A"}'),
            ("5", '{"F":"5"}'),
            ("1e999", '{"F":"1e999"}'),
        ),
        *(
            ("9" * 5_000, f'{{"F":"{"9" * 5_000}"}}'),
            ("[1]", '{"F":"[1]"}'),
            ("[" * 900 + "]" * 900, f'{{"F":"{"[" * 900 + "]" * 900}"}}'),
        ),
    ],
    ids=["null", "empty", "text", "escape", "number", "large number", "5,000 digits", "array", "nested"],
)
def test_values_of_data_fields_are_taken_as_they_are(value: str, payload: str) -> None:
    assert payload_of({"F": msgspec.Raw(value.encode())}) == payload


def test_a_value_that_is_no_unicode_is_read_all_the_same() -> None:
    assert payload_of({"F": msgspec.Raw(b'"A\xff"')}) == '{"F":"A\ufffd"}'


# Headers and bodies


@pytest.mark.slow
@pytest.mark.parametrize("value", ["9" * 5_000, "٣", "²", "nan", "inf", "-inf", "1e999", "-1", "0x10", "1_0", "", "soon"])
@pytest.mark.parametrize("name", ["Remaining", "Limit", "Reset"])
def test_rate_limit_headers_that_cannot_be(pipeline: Pipeline, sandbox: Sandbox, name: str, value: str) -> None:
    headers = {f"X-RateLimit-{one}": "1" for one in ("Remaining", "Limit", "Reset")} | {"X-RateLimit-Scope": "lowCallRate"}
    headers[f"X-RateLimit-{name}"] = value
    sandbox.faults.add(Fault("answer", method="PUT", response=answer(429, b"", headers)))
    sandbox.faults.add(
        Fault("rewrite", service=None, times=99, rewrite=lambda response: Response(response.status, response.body, headers))
    )
    outcome = pipeline.load(ONE)
    assert outcome.code == 0, outcome.log
    assert max(pipeline.time.naps) <= 65


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        *("9" * 5_000, "²", "nan", "inf", "-1", "Fri, 31 Dec 9999 23:59:59 -0100", "Fri, 31 Dec 10000 23:59:59 GMT", "soon"),
        *("Mon, 01 Jan 0001 00:00:00 +2359", "Mon, 01 Jan 2026 00:00:00 -9999", "Mon, 01 Jan 2026 99:00:00 GMT", ", , , ,", "()"),
        *(
            "Fri, 31 Dec 99999999999 23:59:59 GMT",
            f"Fri, 31 Dec {'9' * 5_000} 23:59:59 GMT",
            "Mon, 01 Jan 2026 00:00:00 +99999999999999",
        ),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_that_cannot_be(pipeline: Pipeline, sandbox: Sandbox, status: int, value: str) -> None:
    sandbox.faults.add(Fault("answer", method="PUT", times=2, response=answer(status, b"", {"Retry-After": value})))
    outcome = pipeline.load(ONE)
    assert outcome.code == 0, outcome.log
    assert max(pipeline.time.naps) <= 300


@pytest.mark.slow
@pytest.mark.parametrize("body", [DEEP, b'{"id":' * 20_000, b'{"message":' * 20_000, b"\xff\xfe", b'{"id":"\xff"}', b"null", b""])
@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("path", ["account-info", "address-books", "data-fields", "limit=", "import$", "import/"])
def test_bodies_that_cannot_be_read(pipeline: Pipeline, sandbox: Sandbox, path: str, status: int, body: bytes) -> None:
    pipeline.target["import_timeout"] = 60
    fault = sandbox.faults.add(Fault("answer", service=None, path=path, times=99, response=answer(status, body)))
    assert_clear(command(pipeline, "reconcile") if path == "limit=" else pipeline.load(ONE))
    assert fault.struck


# The address that account-info names


@pytest.fixture
def elsewhere() -> Iterator[socket.socket]:
    """A port of another host, which nobody may call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


HOSTILE_ADDRESSES = [
    *("https://127.0.0.1:{p}\\.dotdigital.com", "https://127.0.0.1:{p}/.dotdigital.com", "https://127.0.0.1:{p}#.dotdigital.com"),
    *("https://127.0.0.1:{p}?.dotdigital.com", "https://127.0.0.1:{p}%2f.dotdigital.com", "https://127.0.0.1:{p}\t.dotdigital.com"),
    *(
        "https://127.0.0.1:{p}\x00.dotdigital.com",
        "https://127.0.0.1:{p}\n.dotdigital.com",
        "https://127.0.0.1:{p} .dotdigital.com",
    ),
    *(
        "https://r1-api.dotdigital.com@127.0.0.1:{p}",
        "https://127.0.0.1:{p}@r1-api.dotdigital.com",
        "https://u:p@r1-api.dotdigital.com",
    ),
    *("https://localhost\\.dotdigital.com", "https://localhost\t.dotdigital.com", "https://localhost\x00.dotdigital.com"),
    *("https://localhost%2f.dotdigital.com", "https://localhost%00.dotdigital.com", "https://localhost;.dotdigital.com"),
    *(
        "https://localhost\\@r1-api.dotdigital.com",
        "https://localhost#@r1-api.dotdigital.com",
        "https://localhost,r1-api.dotdigital.com",
    ),
    *("https://127.0.0.1:{p}", "https://localhost:{p}", "http://r1-api.dotdigital.com", "http://127.0.0.1.dotdigital.com:{p}"),
    *("https://dotdigital.com", "https://.dotdigital.com", "https://r1-api..dotdigital.com", "https://r1-api.dotdigital.com."),
    *("https://evildotdigital.com", "https://r1-api.dotdigital.com.example.com", "https://r1-api.dotdigital.com:8443"),
    *("https://r1-api.dotdigital.com:443:1", "https://r1-api.dotdigital.com:", "https://r1-api.dotdigital.com:\uff14\uff14\uff13"),
    *(
        "https://r1-api.dotdigital.com/path",
        "https://r1-api.dotdigital.com//",
        "https://r1-api.dotdigital.com?",
        "https://r1-api.dotdigital.com#",
    ),
    *(
        "https://r1-api。dotdigital.com",
        "https://ŕ1.dotdigital.com",
        "https://r1-ap\u0131.dotdigital.com",
        "http\u017f://r1-api.dotdigital.com",
        "https://r1-api.dotdigital.com\n",
        " https://r1-api.dotdigital.com",
    ),
    *(
        "https://[::1].dotdigital.com",
        "https://[r1-api.dotdigital.com]",
        "https://-r1.dotdigital.com",
        "https://r1_api.dotdigital.com",
    ),
    *(
        "https:\\\\r1-api.dotdigital.com",
        "https:r1-api.dotdigital.com",
        "//r1-api.dotdigital.com",
        "r1-api.dotdigital.com",
        "ftp://127.0.0.1:{p}",
    ),
    *("::", "https://[", "https://", "http://", "/", " ", "http://127.0.0.1:{p}@example.com", "http://127.0.0.1:{p}\\@example.com"),
    *(
        "http://127.0.0.1:99999",
        "http://127.0.0.1:-1",
        "http://2130706433:{p}",
        "http://127.0.0.1:{p}/path",
        "http://localhost.example.com:{p}",
    ),
    *(5, 1.5, True, [], {}, ["https://r1-api.dotdigital.com"]),
]


@pytest.mark.slow
@pytest.mark.parametrize("address", HOSTILE_ADDRESSES, ids=repr)
def test_no_call_goes_to_an_address_that_is_not_dotdigitals(
    pipeline: Pipeline, sandbox: Sandbox, elsewhere: socket.socket, address: Any
) -> None:
    port = str(elsewhere.getsockname()[1])
    sandbox.account.properties["ApiEndpoint"] = address.replace("{p}", port) if isinstance(address, str) else address
    pipeline.target["request_timeout"] = 1
    assert_clear(pipeline.load(ONE), "not its own", "password was not sent")
    assert [call.service for call in sandbox.journal.calls()] == ["elsewhere"]
    with pytest.raises(BlockingIOError):
        elsewhere.accept()


@pytest.mark.parametrize("address", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:8080", "http://127.0.0.1:8080/"])
def test_only_an_address_on_this_machine_may_name_another_one_on_it(address: str) -> None:
    assert own_address(address, "https://r1-api.dotdigital.com") is None
    assert own_address(address, "http://user@127.0.0.1:1") is None
    assert own_address(address, "http://127.0.0.1:1") is not None


@pytest.mark.parametrize(
    ("address", "own"),
    [
        *(
            (f"https://{host}", f"https://{host}")
            for host in ("r1-api.dotdigital.com", "r3-api.dotdigital.com", "a.b-c.dotdigital.com")
        ),
        *((f"https://r2-api.dotdigital.com{end}", "https://r2-api.dotdigital.com") for end in ("/", ":443", ":443/")),
        ("HTTPS://R2-API.DotDigital.com", "https://r2-api.dotdigital.com"),
        ("http://LOCALHOST:8080/", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_addresses_of_dotdigital_are_built_anew(address: str, own: str) -> None:
    assert own_address(address, "http://127.0.0.1:1") == own


@pytest.mark.parametrize("value", [None, ""])
def test_an_account_that_names_no_address_is_asked_where_it_answered(
    pipeline: Pipeline, sandbox: Sandbox, value: str | None
) -> None:
    pipeline.target["api_url"] = sandbox.home_url
    sandbox.account.properties["ApiEndpoint"] = value  # type: ignore[assignment]  # as it may be on the wire
    assert pipeline.load(ONE).code == 0


# Ids of imports

HOSTILE_IMPORT_IDS = [
    *(
        "x/../../v2/account-info?",
        "..",
        "",
        "\x1b[2J",
        "a\u0000b",
        "1",
        f"{UUID}\n",
        f" {UUID}",
        f"{UUID}/",
        f"{UUID}?x",
        UUID[:-1],
    ),
    *(UUID.replace("-", ""), UUID.replace("d", "g"), f"%2e{UUID[3:]}", "-" * 36, UUID.replace("4", "\uff14")),
]
# another path, nothing, characters that drive a terminal, almost an ID
SOME_IMPORT_IDS = slow_except({"x/../../v2/account-info?", "", "\x1b[2J", f"{UUID}\n"}, HOSTILE_IMPORT_IDS)


@pytest.mark.parametrize("import_id", SOME_IMPORT_IDS, ids=repr)
def test_an_import_id_that_cannot_be_one_goes_into_no_path_and_no_line(
    pipeline: Pipeline, sandbox: Sandbox, import_id: str
) -> None:
    body = json.dumps({"importId": import_id}).encode()
    sandbox.faults.add(Fault("answer", method="PUT", times=99, response=answer(202, body)))
    outcome = pipeline.load(ONE)
    assert_clear(outcome, "import failed after 3 tries", "not as dotdigital documents it", "sent again")
    assert not [call for call in sandbox.journal.calls() if call.path.startswith("/contacts/v3/import/")]
    assert len(sandbox.journal.imports()) == 3
    assert not import_id or import_id in {"1", ".."} or import_id not in outcome.log
    assert not CONTROL.search(outcome.log)
    # nor is the sync blocked by it
    sandbox.faults.clear()
    assert pipeline.load(ONE).code == 0


@pytest.mark.parametrize("import_id", HOSTILE_IMPORT_IDS, ids=repr)
def test_an_import_id_in_the_ledger_that_cannot_be_one_is_not_asked_for(client: Client, sandbox: Sandbox, import_id: str) -> None:
    with pytest.raises(ApiError) as caught:
        client.import_status(import_id)
    assert caught.value.code == "contacts:invalidId"
    assert not import_id or import_id in {"1", ".."} or import_id not in str(caught.value)
    assert sandbox.journal.calls() == []


def test_import_ids_may_be_in_upper_case(pipeline: Pipeline, sandbox: Sandbox) -> None:
    upper = UUID.upper()
    # the import that the sandbox knows under another ID is never processed
    pipeline.target["verify_timeout"] = 0
    sandbox.faults.add(Fault("rewrite", method="PUT", rewrite=changed(r'"importId":"[^"]*"', f'"importId":"{upper}"')))
    status = json.dumps(
        {"importId": upper, "status": "Finished", "created": [{"identifiers": {"email": "a@example.com"}}]}
    ).encode()
    sandbox.faults.add(Fault("answer", path=f"import/{upper}$", response=answer(200, status)))
    assert pipeline.load(ONE).code == 0


# Control characters


def test_a_text_is_shown_on_one_line_without_control_characters() -> None:
    assert shown(HOSTILE) == "[31mredDone"
    assert shown("Ünïcode 🛒 \u00a0x") == "Ünïcode 🛒 \u00a0x"
    assert len(shown("x" * 5_000)) == 200
    assert not CONTROL.search(shown("".join(map(chr, range(0x3000)))))


def test_names_of_the_account_drive_no_terminal(pipeline: Pipeline, sandbox: Sandbox) -> None:
    account = sandbox.account
    account.name = account.properties["Name"] = f"Demo{HOSTILE}"
    book = account.add_book(f"Book{HOSTILE}")
    account.programs.append({"id": 1, "name": f"Welcome{HOSTILE}", "status": "Active", "dateCreated": ""})
    pipeline.target |= {"address_book_id": book.id, "activation_code": None}
    outcome = pipeline.load(ONE)
    review = (pipeline.folder / "reports" / "review.txt").read_text()
    for text in (outcome.log, command(pipeline, "check").output, review, json.dumps(pipeline.report, ensure_ascii=False)):
        assert not CONTROL.search(text)
    for name in ("Demo", "Book", "Welcome"):
        assert f"{name}[31mredDone" in review


def test_the_name_of_an_address_book_is_compared_as_it_is(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.add_book("Nosto\x00 contacts")
    assert pipeline.load(ONE).code == 0
    made = sandbox.account.book_named("Nosto contacts")
    assert made is not None
    assert sandbox.account.by_email["a@example.com"].lists == {made.id}


def test_codes_of_rejected_rows_drive_no_terminal(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.refuse = lambda _email: HOSTILE
    outcome = pipeline.load(ONE)
    assert not CONTROL.search(outcome.log)
    assert '"[31mredDone": 1' in json.dumps(pipeline.report)


def test_the_scope_of_a_rate_limit_drives_no_terminal(client: Client, sandbox: Sandbox) -> None:
    headers = {"X-RateLimit-Scope": "low\x1b[31m", "X-RateLimit-Remaining": "3", "X-RateLimit-Limit": "7"}
    sandbox.faults.add(Fault("answer", path="import/", response=answer(200, json.dumps({"importId": UUID}).encode(), headers)))
    client.import_status(UUID)
    assert client.limits == {"low[31m": 7}


def test_the_type_of_a_data_field_and_the_number_of_a_request_drive_no_terminal(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.add_field("NOSTOSEGMENT", HOSTILE)
    outcome = pipeline.load(ONE)
    assert_clear(outcome, "NOSTOSEGMENT exists", "[31mredDone")
    assert not CONTROL.search(outcome.log)
    headers = {"X-Request-Id": f"\x1b[31mr-17{'x' * 900}"}
    sandbox.faults.add(Fault("answer", path="data-fields", response=answer(418, b'{"message":"no"}', headers)))
    outcome = pipeline.load(ONE)
    assert_clear(outcome, "request [31mr-17")
    assert not CONTROL.search(outcome.log)
    assert len(outcome.errors[-1]) < 500


def test_a_field_that_was_not_asked_for_is_not_written_to(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("rewrite", method="POST", path="data-fields", rewrite=changed("NOSTOSEGMENT", "FIRSTNAME")))
    assert_clear(pipeline.load(ONE), "created another data field than NOSTOSEGMENT")
    assert sandbox.journal.imports() == []


def test_an_address_book_that_is_named_by_its_id_stays_that_one(pipeline: Pipeline, sandbox: Sandbox) -> None:
    book = sandbox.account.add_book("Ours")
    pipeline.target["address_book_id"] = book.id
    pipeline.activate()
    sandbox.faults.add(Fault("rewrite", path=f"address-books/{book.id}", rewrite=changed(rf'"id":{book.id}\b', '"id":7')))
    assert pipeline.load(ONE).code == 0
    assert sandbox.account.by_email["a@example.com"].lists == {book.id}


# What an error says


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("address", "tries", "words"),
    [
        ("https://no-such-host.invalid", "6 tries", "cannot reach https://no-such-host.invalid: the name does not resolve"),
        ("http://127.0.0.1:{free}", "6 tries", "cannot reach http://127.0.0.1:{free}: the connection was rejected"),
        ("https://127.0.0.1:{sandbox}", "6 tries", "cannot reach https://127.0.0.1:{sandbox}: no TLS connection can be made"),
        ("https://user:secret@127.0.0.1:{free}", "6 tries", "cannot reach https://127.0.0.1:{free}: the connection was rejected"),
        ("https://a..b", "1 try", "cannot reach https://a..b: that is not an address. Check api_url."),
        ("https://a.example.com:99999", "1 try", "that is not an address. Check api_url."),
        (f"https://{'a' * 70}.example.com", "1 try", "that is not an address. Check api_url."),
    ],
)
def test_a_connection_that_cannot_be_made(
    pipeline: Pipeline, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, address: str, tries: str, words: str
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    ports = {"free": free_port(), "sandbox": sandbox.home_url.rpartition(":")[2]}
    pipeline.target["api_url"] = address.format(**ports)
    outcome = command(pipeline, "check")
    assert_clear(
        outcome, f"account failed after {tries}", words.format(**ports), "Nothing was written by this call. Run again later."
    )
    assert outcome.log.count("trying again") == int(tries[0]) - 1
    assert "secret" not in outcome.log


@pytest.mark.parametrize(
    ("variable", "value", "tries", "words"),
    [
        ("REQUESTS_CA_BUNDLE", "/no/such/file.pem", "1 try", "file of trusted certificates"),
        ("CURL_CA_BUNDLE", "/no/such/file.pem", "1 try", "Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE."),
        ("HTTPS_PROXY", "://", "1 try", "the address of the proxy is not valid. Check HTTPS_PROXY, ALL_PROXY and NO_PROXY."),
        ("HTTPS_PROXY", "http://127.0.0.1:port", "1 try", "the address of the proxy is not valid"),
        ("ALL_PROXY", "ftp://127.0.0.1:21", "1 try", "the address of the proxy is not valid"),
        ("ALL_PROXY", "socks5://127.0.0.1:{free}", "1 try", "the address of the proxy is not valid"),
        ("https_proxy", "http://user:secret@127.0.0.1:{free}", "6 tries", "the proxy cannot be used. Check HTTPS_PROXY"),
        ("HTTPS_PROXY", "http://no-such-host.invalid:3128", "6 tries", "the proxy cannot be used. Check HTTPS_PROXY"),
    ],
)
def test_a_mistake_outside_the_settings_is_named(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, tries: str, words: str
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv(variable, value.format(free=free_port()))
    pipeline.target["api_url"] = "https://api.example.com"
    outcome = command(pipeline, "check")
    assert_clear(outcome, f"account failed after {tries}: cannot reach https://api.example.com: ", words)
    assert "secret" not in outcome.log


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_plain_http_on_this_machine_never_takes_a_proxy(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Both services: the proxy would get token and password unencrypted."""
    proxied: list[bytes] = []
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), proxy_that_notes(proxied)) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(variable, "")
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_address[1]}")
        pipeline.export(b'{"email": "a@example.com", "segments": ["A"]}\n')
        pipeline.tap |= {"api_token": pipeline.sandbox.nosto.api_token, "graphql_url": pipeline.sandbox.graphql_url}
        outcome = pipeline.run()
        proxy.shutdown()
    assert outcome.code == 0, outcome.log
    assert proxied == []
    assert len(pipeline.sandbox.account.snapshot()) == 1


def proxy_that_notes(proxied: list[bytes]) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            proxied.append(self.rfile.readline())

    return Handler


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("drop_before", path="data-fields", times=9), "data fields failed after 6 tries: the connection was broken off."),
        (Fault("cut", path="data-fields", times=9), "data fields failed after 6 tries: the connection was broken off."),
        (
            Fault("answer", path="data-fields", times=9, response=answer(200, b"<html>")),
            "data fields failed after 6 tries: the answer is not JSON.",
        ),
        (
            Fault("answer", path="data-fields", times=9, response=answer(200, b'{"no":"list"}')),
            "data fields failed after 6 tries: the answer is not as dotdigital documents it.",
        ),
        (
            Fault("answer", path="data-fields", times=9, response=answer(502, b"<html>")),
            "data fields failed after 6 tries: status 502.",
        ),
        (
            Fault(
                "answer",
                path="data-fields",
                response=answer(400, b'{"message":"x ERROR_PARAMETER_INVALID"}', {"X-Request-Id": "r-9"}),
            ),
            "data fields failed after 1 try: status 400, code ERROR_PARAMETER_INVALID, request r-9. Look up the code",
        ),
    ],
    ids=["dropped", "cut", "not JSON", "other JSON", "broken server", "rejected"],
)
def test_why_a_call_failed(pipeline: Pipeline, sandbox: Sandbox, fault: Fault, words: str) -> None:
    sandbox.faults.add(fault)
    outcome = command(pipeline, "check")
    assert_clear(outcome, words)
    if "Look up the code" not in words:
        assert_clear(outcome, "Nothing was written by this call. Run again later.")


def test_what_a_failed_call_means_depends_on_its_kind(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("drop_before", method="PUT", times=9))
    assert_clear(
        pipeline.load(ONE), "import failed after 3 tries: the connection was broken off.", "is sent again by the next run."
    )
    sandbox.faults.clear()
    sandbox.account.books.clear()
    sandbox.faults.add(Fault("drop_before", method="POST", times=9))
    assert_clear(pipeline.load(ONE), "address books failed after 6 tries", "if it was created nevertheless, the next run finds it.")


def test_an_answer_that_does_not_come_in_time(client: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("hang", path="import/"))
    with pytest.raises(ApiError, match=r"import status failed after 1 try: the answer timed out\. Nothing was written"):
        client.import_status(UUID)


def wrapped(reason: Exception) -> u3.MaxRetryError:
    return u3.MaxRetryError(None, "/secret@example.com", reason)  # type: ignore[arg-type]  # the pool is not looked at


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            requests.exceptions.SSLError(wrapped(u3.SSLError(ssl.SSLCertVerificationError("secret@example.com")))),
            "the certificate is not trusted",
        ),
        (requests.exceptions.SSLError(wrapped(u3.SSLError(ssl.SSLError("x")))), "no TLS connection can be made"),
        (requests.ConnectTimeout(wrapped(u3.ConnectTimeoutError("x"))), "connecting timed out"),
        (requests.ReadTimeout(u3.ReadTimeoutError(None, "", "x")), "the answer timed out"),  # type: ignore[arg-type]
        (requests.ConnectionError(u3.ReadTimeoutError(None, "", "x")), "the answer timed out"),  # type: ignore[arg-type]
        (requests.exceptions.ProxyError(wrapped(u3.ProxyError("x", socket.gaierror(-2, "x")))), "the proxy cannot be used"),
        (requests.ConnectionError(wrapped(u3.NewConnectionError(None, "x"))), "no connection can be made"),  # type: ignore[arg-type]
        (requests.ConnectionError(u3.ProtocolError("x", ConnectionResetError())), "the connection was broken off"),
        (requests.exceptions.SSLError(wrapped(u3.SSLError(FileNotFoundError(2, "x")))), "the file of trusted certificates"),
        (
            requests.exceptions.SSLError(wrapped(u3.SSLError(ssl.SSLError(0, "[X509: NO_START_LINE]")))),
            "no TLS connection can be made",
        ),
        (requests.ConnectionError(wrapped(u3.NewConnectionError(None, "x")), PermissionError(1, "x")), "no connection can be made"),  # type: ignore[arg-type]
        (OSError("anything else"), "the connection was broken off"),
    ],
)
def test_the_reason_is_found_in_the_exceptions(error: Exception, text: str) -> None:
    assert trouble_of(error).text.startswith(text)


def test_an_address_is_shown_without_user_and_password() -> None:
    assert without_user("https://user:pa@ss\n@r1-api.dotdigital.com:443") == "https://r1-api.dotdigital.com:443"


def test_a_password_may_hold_any_character(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.dotdigital.password = pipeline.target["api_password"] = "pä€ss:🛒"
    assert pipeline.load(ONE).code == 0
