"""The live service beside its documents, as dotdigital's own clients recorded it: refused calls, odd states, odd spellings, odd answers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from nosto_dotdigital_sandbox import Fault, Sandbox
from nosto_dotdigital_sandbox.faults import answer
from support.cases import slow_except
from support.oracle import FIELD
from support.running import Pipeline, run_target, singer
from target_dotdigital.dotdigital.client import own_address, read_error
from target_dotdigital.dotdigital.imports import Chunk, match_report
from target_dotdigital.dotdigital.messages import ContactReference, Identifiers, ImportStatus
from target_dotdigital.errors import ApiError
from target_dotdigital.models import Row, Verdict
from target_dotdigital.sync.refusals import Part, Refusals
from target_dotdigital.text import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nosto_dotdigital_sandbox.web import Response
    from support.running import FakeTime

LEDGERS = ["sqlite"]
SLOW_LEDGERS = ["postgresql"]
REFUSALS = ("refuses_calls", "refuses_calls_in_details", "refuses_calls_silently", "refuses_calls_by_number")


def people(count: int, *names: str) -> dict[str, list[str]]:
    return {f"p{number:04d}@example.com": list(names) for number in range(count)}


def load(pipeline: Pipeline, contacts: dict[str, list[str]]) -> int:
    records = [{"email": email, "segments": names} for email, names in contacts.items()]
    return pipeline.load(singer(records)).code


def labels(sandbox: Sandbox) -> dict[str, str]:
    return {email.lower(): one.data_fields.get(FIELD) or "" for email, one in sandbox.account.snapshot().items()}


def wanted(contacts: dict[str, list[str]], but: Iterable[str] = ()) -> dict[str, str]:
    return {email: ";".join(sorted(names)) for email, names in contacts.items() if email not in set(but)}


def refuse(sandbox: Sandbox, emails: Iterable[str], code: str = "invalidValue") -> None:
    bad = set(emails)
    sandbox.account.refuse = lambda email: code if email in bad else None


def refused_calls(sandbox: Sandbox) -> int:
    return sum(call.status != 202 for call in sandbox.journal.imports())


# Refused calls

BAD = {
    "the first": [0],
    "the last": [599],
    "one": [250],
    "two neighbours": [99, 100],
    "some of one import": [7, 31, 64, 90],
    "one of each import": [3, 103, 203, 303, 403, 503],
    "a whole import": list(range(200, 300)),
}


@pytest.mark.parametrize(
    ("how", "which"),
    slow_except(
        {("refuses_calls", "some of one import"), ("refuses_calls_by_number", "two neighbours"), ("refuses_calls_silently", "one")},
        [(how, which) for how in REFUSALS for which in BAD],
    ),
)
def test_a_bad_row_stops_no_other(pipeline: Pipeline, sandbox: Sandbox, how: str, which: str) -> None:
    pipeline.target |= {"contacts_per_import": 100, "max_rejected_percent": 20}
    contacts = people(600, "A")
    bad = {f"p{number:04d}@example.com" for number in BAD[which]}
    refuse(sandbox, bad)
    sandbox.account.deviations.add(how)
    assert load(pipeline, contacts) == 0
    assert labels(sandbox) == wanted(contacts, bad)
    report = pipeline.report
    assert (report["sent"], report["created"], report["rejected"], report["unconfirmed"]) == (600, 600 - len(bad), len(bad), 0)
    assert report["new_rejections"] == report["rejections"]
    assert sum(report["rejections"].values()) == report["still_rejected"] == len(bad)
    assert refused_calls(sandbox) <= 3 * len(bad) + 8 * min(len(bad), 6)
    # the next days: still rejected, with growing pauses, and nothing else is held up
    sandbox.account.deviations.discard(how)
    sandbox.account.deviations.add("refuses_calls_silently")
    for day in range(3):
        later = {**contacts, "p0400@example.com": [f"B{day}"]}
        sandbox.journal.clear()
        assert load(pipeline, later) == 0
        assert labels(sandbox) == wanted(later, bad)
        assert (pipeline.report["new_rejections"] == {}) == (how == "refuses_calls_silently" or day > 0)
        assert pipeline.report["left_for_later"] == 0
    # and cured, they arrive
    sandbox.account.deviations.clear()
    refuse(sandbox, ())
    pipeline.time.skipped += 8 * 86_400
    assert load(pipeline, contacts) == 0
    assert labels(sandbox) == wanted(contacts)
    assert pipeline.report["still_rejected"] == 0


def test_a_bad_row_alone_on_a_quiet_day_is_rejected_because_dotdigital_accepts_another(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    contacts = people(5, "A")
    assert load(pipeline, contacts) == 0
    sandbox.account.deviations.add("refuses_calls")
    refuse(sandbox, ["p0002@example.com"])
    for _ in range(3):
        assert load(pipeline, {**contacts, "p0002@example.com": ["B"]}) == 0
        assert labels(sandbox) == wanted(contacts), "the control changes nothing"
        assert pipeline.report["still_rejected"] == 1


REFUSED_WHOLE = {
    "a code": answer(400, b'{"errorCode":"contacts:badRequest","description":"The request is invalid"}'),
    "a server code": answer(400, b'{"errorCode":"server:badJson","description":"line 1, position 7"}'),
    "always the first row": answer(400, b'{"errorCode":"contacts:invalidValue","description":"contacts[0].lists is invalid"}'),
    "all rows": answer(
        400,
        json.dumps(
            {"errorCode": "contacts:invalidValue", "details": [{"item": f"contacts[{n}].lists"} for n in range(100)]}
        ).encode(),
    ),
    "a row that is not there": answer(400, b'{"errorCode":"contacts:invalidValue","description":"contacts[999999].lists"}'),
    "version 2": answer(400, b'{"message":"Error: ERROR_INVALID_REQUEST"}'),
    "no body": answer(400),
    "too large": answer(413, b"<html>"),
    "unprocessable": answer(422, b'{"errorCode":"contacts:invalidValue"}'),
    "a firewall": answer(403, b"<html>blocked", content_type="text/html"),
}


@pytest.mark.parametrize(
    ("what", "count"),
    slow_except(
        {("a code", 1), ("a code", 600), ("always the first row", 7), ("too large", 7), ("a firewall", 7)},
        [(what, count) for what in REFUSED_WHOLE for count in (1, 7, 600)],
    ),
)
def test_a_service_that_refuses_every_call_rejects_no_row(pipeline: Pipeline, sandbox: Sandbox, what: str, count: int) -> None:
    pipeline.target["contacts_per_import"] = 100
    contacts = people(count, "A")
    fault = sandbox.faults.add(Fault(response=REFUSED_WHOLE[what], times=10_000, method="PUT", path="contacts/v3/import"))
    outcome = pipeline.load(singer([{"email": email, "segments": names} for email, names in contacts.items()]))
    assert (outcome.code, outcome.output) == (1, "")
    response = REFUSED_WHOLE[what]
    code = (
        json.loads(response.body).get("errorCode", "ERROR_INVALID_REQUEST") if response.body[:1] == b"{" else str(response.status)
    )
    assert code in outcome.errors[-1]
    assert 1 <= fault.struck <= 50
    report = pipeline.report
    assert (report["outcome"], report["rejected"], report["still_rejected"], report["unconfirmed"]) == ("failed", 0, 0, 0)
    assert report["left_for_later"] == count
    sandbox.faults.clear()
    assert load(pipeline, contacts) == 0
    assert labels(sandbox) == wanted(contacts)


def test_a_service_that_refuses_every_call_after_a_good_day_rejects_no_row(pipeline: Pipeline, sandbox: Sandbox) -> None:
    contacts = people(300, "A")
    pipeline.target |= {"contacts_per_import": 50, "max_change_percent": 100}
    assert load(pipeline, contacts) == 0
    sandbox.faults.add(Fault(response=REFUSED_WHOLE["a code"], nth=2, times=10_000, method="PUT", path="contacts/v3/import"))
    changed = people(300, "B")
    assert load(pipeline, changed) == 1
    assert pipeline.report["still_rejected"] == 0
    sandbox.faults.clear()
    assert load(pipeline, changed) == 0
    assert labels(sandbox) == wanted(changed)


def test_a_refused_call_is_no_reason_to_read_the_account_again(pipeline: Pipeline, sandbox: Sandbox) -> None:
    contacts = people(20, "A")
    sandbox.account.deviations.add("refuses_calls_silently")
    refuse(sandbox, ["p0003@example.com"])
    assert load(pipeline, contacts) == 0
    with_explain = run_target(pipeline.target, "", pipeline.time, explain="p0004@example.com")
    assert with_explain.code == 0
    sandbox.journal.clear()
    assert load(pipeline, {**contacts, "p0005@example.com": ["B"]}) == 0
    listings = [call.target for call in sandbox.journal.calls("dotdigital", "GET") if call.path == "/contacts/v3"]
    assert all("~created" in target for target in listings)


NAMED: list[tuple[object, set[int]]] = [
    ({"errorCode": "contacts:invalidValue", "description": "contacts[12].consentRecords[3].dateTimeConsented is invalid"}, {12}),
    (
        {
            "errorCode": "server:badRequest",
            "details": [{"item": "line 1, position 7", "description": "Path 'contacts[4].lists[0]'"}],
        },
        {4},
    ),
    ({"errorCode": "contacts:invalidValue", "details": [{"item": "contacts[0]", "error": "x"}, {"item": "contacts[9]"}]}, {0, 9}),
    ({"title": "One or more validation errors", "errors": {"$.contacts[7].dataFields": ["x"], "Contacts[8].Lists": ["y"]}}, {7, 8}),
    ({"errorCode": "contacts:invalidValue", "description": "/contacts/5/identifiers: wrong"}, {5}),
    ({"errorCode": "contacts:invalidValue", "description": "contacts.6.identifiers"}, {6}),
    ({"errorCode": "contacts:invalidValue", "description": "[2].identifiers.email"}, {2}),
    ({"message": "importContacts[3] is invalid. ERROR_INVALID_REQUEST"}, {3}),
    ({"errorCode": "contacts:invalidValue", "description": "consentRecords[3] of some contact"}, set()),
    ({"errorCode": "contacts:invalidValue", "description": "too many contacts (600000000000)"}, set()),
    ([{"description": "contacts[3]"}], set()),
]


@pytest.mark.parametrize(("body", "rows"), NAMED)
def test_which_rows_an_answer_names(body: object, rows: set[int]) -> None:
    assert set(read_error(msgspec.json.encode(body)).rows) == rows


def test_an_answer_that_names_every_row_is_read_to_its_end() -> None:
    lines = [
        {"item": f"contacts[{number}].dataFields", "description": "The value is too long for this field"}
        for number in range(10_000)
    ]
    found = read_error(msgspec.json.encode({"errorCode": "contacts:invalidValue", "description": "x", "details": lines}))
    assert (found.code, len(found.rows)) == ("contacts:invalidValue", 10_000)


def test_imports_that_are_too_large_are_halved(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.dotdigital.max_body = 3_000
    contacts = people(400, "A")
    assert load(pipeline, contacts) == 0
    assert labels(sandbox) == wanted(contacts)
    assert pipeline.report["rejected"] == 0


def test_a_run_narrows_down_with_500_refused_calls_and_leaves_the_rest_to_the_next() -> None:
    refusals, calls = Refusals(), 0
    rows = [Row(email, None, None, "{}") for email in people(1_000)]
    part: Part | None = Part(Chunk(rows, [b""] * len(rows)))
    while part is not None:
        # halves of imports that are too large are accepted in the end
        refusals.refuse(part, ApiError("refused", status=400 if calls >= 3 else 413))
        calls += 1
        part = refusals.next(last=True)
    assert calls == 503
    assert len(refusals.alone) + refusals.left == len(rows)
    assert refusals.drop() == len(rows)


@pytest.mark.slow
def test_refused_calls_are_bounded_and_the_next_runs_continue(pipeline: Pipeline, sandbox: Sandbox) -> None:
    """One row of three is bad, and nothing names them: more than a run narrows down."""
    pipeline.target |= {"contacts_per_import": 400, "max_rejected_percent": 100}
    contacts = people(1_200, "A")
    bad = {email for number, email in enumerate(contacts) if number % 3 == 0}
    refuse(sandbox, bad)
    sandbox.account.deviations.add("refuses_calls_silently")
    outcome = pipeline.load(singer([{"email": email, "segments": names} for email, names in contacts.items()]))
    assert outcome.code == 1
    assert "invalid" not in outcome.errors[-1]
    assert "server:badJson" in outcome.errors[-1]
    assert refused_calls(sandbox) <= 510
    report = pipeline.report
    assert report["left_for_later"] > 0
    assert report["sent"] == report["created"] + report["rejected"]
    for _ in range(4):
        pipeline.time.skipped += 1_000
        if load(pipeline, contacts) == 0:
            break
    assert set(labels(sandbox)) == set(contacts) - bad


def test_a_removed_contact_that_is_refused_stops_no_other(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target |= {"max_clear_percent": 100, "max_change_percent": 100}
    contacts = people(30, "A")
    schema, *records, state = singer([{"email": email, "segments": names} for email, names in contacts.items()]).splitlines()
    assert pipeline.load("\n".join([schema, *records, state]) + "\n").code == 0
    sandbox.account.deviations.add("refuses_calls_in_details")
    refuse(sandbox, ["p0004@example.com", "p0020@example.com"])
    later = {email: ["B"] if number % 2 else [] for number, email in enumerate(contacts)}
    assert load(pipeline, later) == 0
    assert labels(sandbox) == {**wanted(later), "p0004@example.com": "A", "p0020@example.com": "A"}


# States


@pytest.mark.parametrize(
    "state",
    slow_except(
        {"Unknown", "Queued"}, ["Unknown", "InvalidFileFormat", "NotAvailableInThisVersion", "Queued", "Cancelled by user", "???"]
    ),
)
def test_a_state_that_nobody_knows_ends_an_import_after_a_few_polls(pipeline: Pipeline, sandbox: Sandbox, state: str) -> None:
    pipeline.target["contacts_per_import"] = 10
    contacts = people(30, "A")
    sandbox.account.outcomes = ["Finished", state]
    outcome = pipeline.load(singer([{"email": email, "segments": names} for email, names in contacts.items()]))
    assert (outcome.code, outcome.output) == (1, "")
    assert state in outcome.errors[-1]
    assert pipeline.report["unconfirmed"] == 10
    assert pipeline.time.seconds < 2_000
    polls = [call.path for call in sandbox.journal.calls("dotdigital", "GET") if "/import/" in call.path]
    assert max(map(polls.count, polls)) <= 8
    assert load(pipeline, contacts) == 0
    assert labels(sandbox) == wanted(contacts)


@pytest.mark.parametrize("state", ["FINISHED", "finished", " Finished "])
def test_states_are_compared_by_their_letters(pipeline: Pipeline, sandbox: Sandbox, state: str) -> None:
    def respell(response: Response) -> Response:
        return replace(response, body=response.body.replace(b'"Finished"', json.dumps(state).encode()))

    sandbox.faults.add(Fault("rewrite", path="/import/", times=99, rewrite=respell))
    assert load(pipeline, people(3, "A")) == 0


@pytest.mark.parametrize("state", [b"null", b'""', b'"Not Finished"', b'"notfinished"'])
def test_an_import_without_a_state_is_not_finished(pipeline: Pipeline, sandbox: Sandbox, state: bytes) -> None:
    sandbox.account.import_polls = 12

    def respell(response: Response) -> Response:
        return replace(response, body=response.body.replace(b'"NotFinished"', state))

    sandbox.faults.add(Fault("rewrite", path="/import/", times=99, rewrite=respell))
    assert load(pipeline, people(3, "A")) == 0


def test_an_import_of_an_earlier_run_that_ends_strangely_is_sent_again(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target["import_timeout"] = 30
    sandbox.account.import_polls = 10_000
    sandbox.account.outcomes = ["InvalidFileFormat"]
    assert load(pipeline, people(3, "A")) == 1
    for job in sandbox.account.imports.values():
        job.polls = 0
    sandbox.account.import_polls = 0
    assert load(pipeline, people(3, "A")) == 0
    assert labels(sandbox) == wanted(people(3, "A"))


# Codes


def test_a_code_in_another_spelling_is_the_same_code(pipeline: Pipeline, sandbox: Sandbox) -> None:
    contacts = people(30, "A")
    refuse(sandbox, list(contacts)[:12], "globallySuppressed")
    pipeline.target["max_rejected_percent"] = 100
    assert load(pipeline, contacts) == 0
    assert pipeline.report["new_rejections"] == {"globallySuppressed": 12}
    pipeline.target["max_rejected_percent"] = 0
    sandbox.account.deviations.add("codes_in_words")
    for code in ("globallySuppressed", "GloballySuppressed", "Globally Suppressed", "globally_suppressed"):
        refuse(sandbox, list(contacts)[:12], code)
        assert load(pipeline, {**contacts, **{email: [code] for email in list(contacts)[:12]}}) == 0, (
            "permanent: sent because it changed"
        )
        assert pipeline.report["new_rejections"] == {}
        assert pipeline.report["rejections"] == {"globallySuppressed": 12}


def test_the_order_of_several_reasons_makes_no_difference(pipeline: Pipeline, sandbox: Sandbox) -> None:
    reasons = ["Some Thing", "Invalid list Ids", "Another Thing"]
    contacts = people(40, "A")
    refuse(sandbox, list(contacts)[:20])

    def several(response: Response) -> Response:
        body = msgspec.json.decode(response.body)
        for failure in body.get("failures") or ():
            failure["failures"] = [{"failureCode": code} for code in reasons]
        return replace(response, body=msgspec.json.encode(body))

    sandbox.faults.add(Fault("rewrite", path="/import/", times=999, rewrite=several))
    pipeline.target["max_rejected_percent"] = 100
    assert load(pipeline, contacts) == 0
    pipeline.target["max_rejected_percent"] = 0
    for _ in range(2):
        reasons.append(reasons.pop(0))
        pipeline.time.skipped += 8 * 86_400
        assert load(pipeline, contacts) == 0
        assert (pipeline.report["rejected"], pipeline.report["new_rejections"]) == (20, {})


@pytest.mark.parametrize("in_book", [True, False])
def test_a_row_that_is_imported_and_failed_keeps_its_reason(pipeline: Pipeline, sandbox: Sandbox, in_book: bool) -> None:  # noqa: FBT001
    pipeline.target["verify_timeout"] = 5
    if not in_book:
        sandbox.account.deviations.add("ignores_lists")

    def both(response: Response) -> Response:
        body = msgspec.json.decode(response.body)
        if body.get("created"):
            identifiers = body["created"][0]["identifiers"]
            body["failures"] = [{"identifiers": identifiers, "failures": [{"failureCode": "Invalid list Ids"}]}]
        return replace(response, body=msgspec.json.encode(body))

    sandbox.faults.add(Fault("rewrite", path="/import/", times=999, rewrite=both))
    assert load(pipeline, people(3, "A")) == (0 if in_book else 1)
    report = pipeline.report
    assert (report["created"], report["rejected"], report["remarks"]) == (3, 0, {"Invalid list Ids": 1})
    assert "Invalid list Ids 1" in (pipeline.folder / "reports" / "report.html").read_text()


# Odd answers


def test_nulls_and_odd_items_hide_nothing_else(pipeline: Pipeline, sandbox: Sandbox) -> None:
    contacts = people(12, "A")
    sandbox.account.page_limit = 5
    refuse(sandbox, ["p0003@example.com"])
    sandbox.account.deviations.add("nulls")
    assert load(pipeline, contacts) == 0
    assert pipeline.report["rejected"] == 1
    refuse(sandbox, [])
    pipeline.time.skipped += 8 * 86_400
    assert load(pipeline, {**contacts, "p0001@example.com": []}) == 0
    assert labels(sandbox) == wanted({**contacts, "p0001@example.com": []})
    ledger = pipeline.folder / "ledger.db"
    if ledger.exists():
        ledger.unlink()
        sandbox.account.edit("p0007@example.com", FIELD, "Other")
        assert load(pipeline, contacts) == 0
        assert labels(sandbox) == wanted(contacts), "all pages were read"


@pytest.mark.parametrize("odd", ["null", "5", '"text"', "[]", '{"contactId":"x","identifiers":{"email":7}}', '{"identifiers":[]}'])
def test_an_odd_item_of_a_report_hides_no_other(pipeline: Pipeline, sandbox: Sandbox, odd: str) -> None:
    def insert(response: Response) -> Response:
        body = msgspec.json.decode(response.body)
        for name in ("created", "updated", "failures"):
            body[name] = [json.loads(odd), *(body.get(name) or [])]
        return replace(response, body=msgspec.json.encode(body))

    sandbox.faults.add(Fault("rewrite", path="/import/", times=999, rewrite=insert))
    assert load(pipeline, people(3, "A")) == 0
    assert pipeline.report["created"] == 3


@pytest.mark.parametrize("body", [b"{}", b'{"_items":null}', b'{"_items":{}}', b"[]", b"null", b'{"items":[]}'])
def test_a_page_without_its_items_is_not_an_empty_page(pipeline: Pipeline, sandbox: Sandbox, body: bytes) -> None:
    sandbox.faults.add(Fault(path=r"/contacts/v3\?", times=99, response=answer(200, body)))
    assert load(pipeline, people(3, "A")) == 1
    assert sandbox.journal.imports() == []


def test_a_list_that_begins_with_an_empty_page_is_read_on(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.add_field(FIELD)
    sandbox.account.add_contact("p0000@example.com", data_fields={FIELD: "Old"})
    sandbox.account.add_contact("stranger@example.com", data_fields={FIELD: "A"})
    sandbox.account.deviations.add("first_page_empty")
    pipeline.target["activation_code"] = None
    pipeline.load(singer([{"email": "p0000@example.com", "segments": ["A"]}]))
    assert (pipeline.report["plan"]["created"], pipeline.report["plan"]["updated"]) == (0, 1)


def test_empty_pages_without_end_end_the_run(pipeline: Pipeline, sandbox: Sandbox) -> None:
    page = b'{"_items":[],"_links":{"next":{"marker":"again"}}}'
    fault = sandbox.faults.add(Fault(path=r"/contacts/v3\?", times=9_999, response=answer(200, page)))
    outcome = pipeline.load(singer([{"email": "a@example.com", "segments": ["A"]}]))
    assert outcome.code == 1
    assert "does not come to an end" in outcome.errors[-1]
    assert fault.struck < 200


FOREIGN = {
    "a gateway": answer(404, b"<html>404 Not Found", content_type="text/html"),
    "JSON of a gateway": answer(404, b'{"message":"no Route matched with those values"}'),
    "nothing": answer(404),
    "another code": answer(404, b'{"errorCode":"contacts:importNotFound","description":""}'),
}


@pytest.mark.parametrize("whose", slow_except({"a gateway", "another code"}, FOREIGN))
def test_only_dotdigital_can_say_that_a_contact_is_not_there(pipeline: Pipeline, sandbox: Sandbox, whose: str) -> None:
    contacts = people(6, "A")
    assert load(pipeline, contacts) == 0
    sandbox.faults.add(Fault(path="/contacts/v3/email/", times=9_999, response=FOREIGN[whose]))
    # matched by ID, and looked up after the delivery
    removed = [{"email": "p0002@example.com", "segments": [], "_sdc_deleted_at": "2026-11-02T00:00:00Z"}]
    outcome = pipeline.load(singer([*removed, {"email": "p0003@example.com", "segments": ["B"]}]))
    assert (outcome.code, outcome.output) == (1, "")
    assert "404" in outcome.errors[-1]
    sandbox.faults.clear()
    # the bookmark stayed, so the source repeats what it said
    assert pipeline.load(singer([*removed, {"email": "p0003@example.com", "segments": ["B"]}])).code == 0
    assert labels(sandbox)["p0002@example.com"] == ""


# The account


@pytest.mark.parametrize("ending", ["", "/", "/v2", "/v2/", "/V2/", " "])
def test_the_endpoint_may_end_as_it_likes(pipeline: Pipeline, sandbox: Sandbox, ending: str) -> None:
    sandbox.account.properties["ApiEndpoint"] = f"{sandbox.home_url}{ending}"
    assert load(pipeline, people(2, "A")) == 0
    pipeline.target["api_url"] = f"{sandbox.home_url}{ending.strip()}"
    assert load(pipeline, people(2, "B")) == 0


@pytest.mark.parametrize(
    ("endpoint", "is_own"),
    [
        *(
            (url, True)
            for url in ("https://r2-api.dotmailer.com", "https://r1-api.dotdigital.com/v2", "https://API.dotmailer.com/")
        ),
        *(
            (url, False)
            for url in ("https://r1.apiconnector.com", "https://dotmailer.com.example.com", "https://evildotmailer.com")
        ),
        *(
            (url, False)
            for url in ("http://r2-api.dotmailer.com", "https://r2-api.dotmailer.com/v2/x", "https://api.example.com/v2")
        ),
    ],
)
def test_the_password_goes_to_dotdigitals_own_hosts_only(endpoint: str, is_own: bool) -> None:  # noqa: FBT001
    assert (own_address(endpoint, "https://r1-api.dotdigital.com") is not None) == is_own


def test_another_host_may_be_set(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.properties["ApiEndpoint"] = "https://api.example.com/"
    outcome = pipeline.load(singer([]))
    assert outcome.code == 1
    assert "api_url" in outcome.errors[-1]


def test_pasted_credentials_are_trimmed(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target |= {"api_user": f" {sandbox.user}\n", "api_password": f"\t{sandbox.password} \r\n"}
    assert load(pipeline, people(2, "A")) == 0


@pytest.mark.parametrize("status", [404, 403])
def test_an_account_without_version_3_is_told_so(pipeline: Pipeline, sandbox: Sandbox, status: int) -> None:
    sandbox.faults.add(Fault(path="/contacts/v3", times=9_999, response=answer(status, b"<html>", content_type="text/html")))
    outcome = pipeline.load(singer([{"email": "a@example.com", "segments": ["A"]}]))
    assert outcome.code == 1
    assert "may lack version 3" in outcome.errors[-1]


def test_a_login_that_fails_reports_its_calls(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service=None, path="account-info", times=99, response=answer(503)))
    outcome = pipeline.load(singer([]))
    assert outcome.code == 1
    assert pipeline.report["calls"] == {"account": 6}
    assert pipeline.report["waited_seconds"] > 0


# Clocks


@pytest.mark.parametrize("hours", [-3.0, -0.5, 0.5, 3.0])
def test_contacts_that_are_new_in_dotdigital_are_found_whatever_this_machines_clock_says(
    pipeline: Pipeline, sandbox: Sandbox, time: FakeTime, hours: float
) -> None:
    sandbox.account.wall = lambda: time.wall() - hours * 3600
    contacts = people(3, "A")
    assert load(pipeline, contacts) == 0
    # signs up while the service deletes nothing: created in dotdigital, without labels
    sandbox.account.remove_contact("p0001@example.com")
    sandbox.account.add_contact("p0001@example.com")
    body = singer([], state=pipeline.state).splitlines(keepends=True)[-1]
    assert pipeline.load(body + singer([])).code == 0
    assert labels(sandbox) == wanted(contacts)


def test_a_reset_time_is_read_by_dotdigitals_clock(pipeline: Pipeline, sandbox: Sandbox, time: FakeTime) -> None:
    sandbox.account.wall = lambda: time.wall() - 3 * 3600
    sandbox.limits.wall = sandbox.account.wall
    sandbox.limits.per_minute["low"] = 3
    sandbox.limits.reset_as = "epoch"
    pipeline.target["contacts_per_import"] = 1
    assert load(pipeline, people(10, "A")) == 0
    assert sandbox.limits.refused <= 1


# Spellings of addresses

INTERNATIONAL = {
    "ann@münchen.example": ["A"],
    "bob@xn--bcher-kva.example": ["A"],
    "cleo@example.com": ["A"],
    "ÅSA@ÅNGSTRÖM.example": ["A"],
}


def test_an_address_that_dotdigital_spells_otherwise_is_the_same_contact(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target["max_change_percent"] = 100
    sandbox.account.deviations.add("stores_punycode")
    for day in range(3):
        contacts = {email: [f"A{day}"] for email in INTERNATIONAL}
        assert load(pipeline, contacts) == 0
        report = pipeline.report
        assert (report["sent"], report["unconfirmed"], report["still_rejected"]) == (4, 0, 0)
        assert report["respelled"] == 2
        assert set(labels(sandbox).values()) == {f"A{day}"}
        assert len(sandbox.account.contacts) == 4
    sandbox.journal.clear()
    outcome = run_target(pipeline.target, "", pipeline.time, reconcile=True)
    assert outcome.code == 0
    assert load(pipeline, contacts) == 0
    assert sandbox.journal.imports() == [], "read back, they are the contacts that the ledger has"


def test_two_spellings_of_one_address_are_never_mixed_up(pipeline: Pipeline, sandbox: Sandbox) -> None:
    contacts = {"ann@münchen.example": ["A"], "ann@xn--mnchen-3ya.example": ["B"]}
    assert load(pipeline, contacts) == 0
    assert labels(sandbox) == wanted(contacts)
    assert pipeline.report["respelled"] == 0


MATCHES: list[tuple[list[str], list[str], set[str]]] = [
    (["a@münchen.de"], ["a@xn--mnchen-3ya.de"], {"a@münchen.de"}),
    (["a@xn--mnchen-3ya.de"], ["a@münchen.de"], {"a@xn--mnchen-3ya.de"}),
    (["a@münchen.de"], ["A@MÜNCHEN.DE"], {"a@münchen.de"}),
    (["a@münchen.de"], ["a@MU\u0308NCHEN.de"], {"a@münchen.de"}),
    (["a@münchen.de"], ["b@xn--mnchen-3ya.de"], set()),
    (["a@straße.de"], ["a@strasse.de"], set()),
    (["a@münchen.de", "a@xn--mnchen-3ya.de"], ["a@xn--mnchen-3ya.de"], {"a@xn--mnchen-3ya.de"}),
    (["a@xn--mnchen-3ya.de", "a@münchen.de"], ["a@xn--MNCHEN-3ya.de"], {"a@xn--mnchen-3ya.de"}),
    (["a@xn--mnchen-3ya.bücher.de", "a@münchen.bücher.de"], ["a@xn--mnchen-3ya.xn--bcher-kva.de"], {"a@münchen.bücher.de"}),
    (["a@münchen.de", "a@xn--mnchen-3ya.de"], ["a@XN--MNCHEN-3YA.de", "a@münchen.de"], {"a@münchen.de", "a@xn--mnchen-3ya.de"}),
    (["a@-bad-.de"], ["a@xn--.de"], set()),
]


@pytest.mark.parametrize(("sent", "reported", "matched"), MATCHES)
def test_which_row_a_report_means(sent: list[str], reported: list[str], matched: set[str]) -> None:
    references = [ContactReference(identifiers=Identifiers(email)) for email in reported]
    found = match_report(
        [Row(normalise(email), None, None, "{}") for email in sent], ImportStatus("", "Finished", updated=references)
    )
    assert {one.email for one in found if one.verdict is Verdict.UPDATED} == matched
    if matched:
        assert {one.verdict for one in found if one.email not in matched} <= {Verdict.REJECTED}


def test_two_spellings_that_are_one_contact_to_dotdigital_are_duplicates(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target["max_change_percent"] = 100
    sandbox.account.deviations.add("stores_punycode")
    contacts = {"ann@münchen.example": ["A"], "ann@xn--mnchen-3ya.example": ["A"], "bob@example.com": ["A"]}

    def once(response: Response) -> Response:
        body = msgspec.json.decode(response.body)
        by_id = {one["contactId"]: one for name in ("updated", "created") for one in body.get(name) or ()}
        created = {one["contactId"] for one in body.get("created") or ()}
        if by_id:
            body["created"] = [by_id[number] for number in by_id if number in created]
            body["updated"] = [by_id[number] for number in by_id if number not in created]
        return replace(response, body=msgspec.json.encode(body))

    sandbox.faults.add(Fault("rewrite", path="/import/", times=999, rewrite=once))
    assert load(pipeline, contacts) == 0
    report = pipeline.report
    assert (report["created"], report["rejections"], report["unconfirmed"]) == (2, {"duplicateIdentifier": 1}, 0)
    for _ in range(2):
        assert load(pipeline, contacts) == 0
        assert pipeline.report["sent"] == 0
    assert load(pipeline, {email: ["B"] for email in contacts}) == 0
    assert labels(sandbox) == {"ann@xn--mnchen-3ya.example": "B", "bob@example.com": "B"}


def test_a_report_may_name_a_known_contact_by_its_id_alone(pipeline: Pipeline, sandbox: Sandbox) -> None:
    contacts = people(6, "A")
    assert load(pipeline, contacts) == 0

    def without_addresses(response: Response) -> Response:
        body = msgspec.json.decode(response.body)
        for failure in body.get("failures") or ():
            failure["contactId"] = sandbox.account.by_email[failure["identifiers"]["email"]].id
        for name in ("created", "updated", "failures"):
            for one in body.get(name) or ():
                one["identifiers"] = {}
        return replace(response, body=msgspec.json.encode(body))

    sandbox.faults.add(Fault("rewrite", path="/import/", times=999, rewrite=without_addresses))
    refuse(sandbox, ["p0001@example.com"])
    assert load(pipeline, people(6, "B")) == 0
    report = pipeline.report
    assert (report["updated"], report["rejected"], report["unconfirmed"]) == (5, 1, 0)
    # a new contact has no known ID
    assert load(pipeline, people(7, "C")) == 1
    assert pipeline.report["unconfirmed"] == 1


def test_an_id_that_two_rows_have_confirms_neither() -> None:
    rows = [Row(email, None, None, "{}") for email in ("a@example.com", "b@example.com", "c@example.com")]
    reference = ContactReference(raw_contact_id=msgspec.Raw(b"7"))
    ids = {"a@example.com": 7, "b@example.com": 7, "c@example.com": 8}
    found = match_report(rows, ImportStatus("", "Finished", updated=[reference]), lambda _emails: ids)
    assert {one.verdict for one in found} == {Verdict.UNCONFIRMED}
    named = ContactReference(raw_contact_id=msgspec.Raw(b"8"), identifiers=Identifiers("d@example.com"))
    found = match_report(rows, ImportStatus("", "Finished", updated=[named]), lambda _emails: ids)
    assert {one.verdict for one in found} == {Verdict.UNCONFIRMED}


# Progress


def test_a_delivery_that_waits_logs_its_progress_every_minute(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target |= {"contacts_per_import": 5, "max_active_imports": 1, "poll_interval_ms": 60_000}
    sandbox.account.import_polls = 4
    sandbox.faults.add(Fault("answer", method="GET", path="/import/", response=answer(403)))
    records = [{"email": email, "segments": ["A"]} for email in people(10)]
    outcome = pipeline.load(singer(records))
    assert outcome.code == 0, outcome.log
    lines = [line for line in outcome.log.splitlines() if "Waiting for 1 imports" in line]
    # both imports are polled five times, once a minute, and the first poll of all is denied
    assert len(lines) >= 8
    assert "the last poll failed" in lines[0] or "the last poll failed" in lines[1]
    assert "1 of about 2 imports, 5 of 10 contacts, about " in lines[-1]
