"""Imports that dotdigital accepted although the response was lost, and that it applies after later ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from nosto_dotdigital_sandbox import Fault
from nosto_dotdigital_sandbox.web import Response
from support.cases import slow_except
from support.oracle import FIELD, folded
from support.running import Pipeline, singer

if TYPE_CHECKING:
    from nosto_dotdigital_sandbox import Sandbox

DAY = 86_400.0


def day(pipeline: Pipeline, number: int, names: dict[str, list[str]]) -> int:
    """Run on what changed since the bookmark, which stays if the run fails, and return the exit code."""
    begin = "" if pipeline.state is None else singer([], state=pipeline.state).splitlines(keepends=True)[-1]
    records = [{"email": f"{who}@example.com", "segments": segments} for who, segments in names.items()]
    state = {"bookmarks": {"people": {"replication_key_value": f"2026-11-{number:02d}"}}}
    pipeline.time.skipped += DAY
    return pipeline.load(begin + singer(records, state=state)).code


def labels(sandbox: Sandbox) -> dict[str, str]:
    return {email: contact.data_fields.get(FIELD) or "" for email, contact in folded(sandbox.account.snapshot()).items()}


def test_an_import_whose_response_was_lost_does_not_have_the_last_word(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target["max_change_percent"] = 100
    people = {f"p{number}": ["A"] for number in range(5)}
    assert day(pipeline, 1, people) == 0
    account = sandbox.account
    # accepted, but nobody hears of it, and dotdigital takes its time
    sandbox.faults.add(Fault("drop_after", method="PUT", path="contacts/v3/import", times=9))
    account.import_polls = 10_000
    assert day(pipeline, 2, {"p0": ["B"], "p1": ["B"]}) == 1
    sandbox.faults.clear()
    account.import_polls = 0
    assert day(pipeline, 3, {"p0": ["C"], "p1": ["C"]}) == 0
    assert account.by_email["p0@example.com"].data_fields[FIELD] == "C"
    account.settle()
    assert account.by_email["p0@example.com"].data_fields[FIELD] == "B", "the late one has overwritten the newer labels"
    assert day(pipeline, 4, {"p2": ["C"]}) == 0
    assert labels(sandbox) == {f"p{number}@example.com": "C" if number < 3 else "A" for number in range(5)}


def test_after_some_days_a_lost_import_is_not_waited_for(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert day(pipeline, 1, {"p0": ["A"]}) == 0
    sandbox.faults.add(Fault("drop_after", method="PUT", path="contacts/v3/import", times=9))
    assert day(pipeline, 2, {"p0": ["B"]}) == 1
    sandbox.faults.clear()
    whole = []
    for number in range(3, 8):
        sandbox.journal.clear()
        assert day(pipeline, number, {"p0": [f"C{number}"]}) == 0
        listings = [call.target for call in sandbox.journal.calls("dotdigital", "GET") if call.path == "/contacts/v3"]
        whole.append(any("~created" not in target for target in listings))
    assert whole == [True, True, False, False, False]


def _answers(response: Response) -> Fault:
    return Fault("rewrite", rewrite=lambda _: response)


LOST_ATTEMPTS = {
    "accepted, then the connection ends": Fault("drop_after"),
    "accepted, then half an answer": Fault("cut"),
    "accepted, then an answer that is not JSON": Fault("garble"),
    "accepted, then an answer without an ID": _answers(Response(202, b"{}")),
    **{f"accepted, then {status}": _answers(Response(status)) for status in (500, 502, 503, 504)},
}


@pytest.mark.parametrize("how", slow_except({"accepted, then 504", "accepted, then the connection ends"}, LOST_ATTEMPTS))
def test_an_attempt_whose_response_was_lost_is_compared_although_its_retry_succeeded(
    pipeline: Pipeline, sandbox: Sandbox, how: str
) -> None:
    pipeline.target["max_change_percent"] = 100
    assert day(pipeline, 1, {f"p{number}": ["A"] for number in range(5)}) == 0
    account = sandbox.account
    lost = replace(LOST_ATTEMPTS[how], method="PUT", path="contacts/v3/import", after=lambda _: setattr(account, "import_polls", 0))
    account.import_polls = 10_000
    sandbox.faults.add(lost)
    assert day(pipeline, 2, {"p0": ["B"]}) == 0, "the retry succeeds"
    assert day(pipeline, 3, {"p0": ["C"]}) == 0
    assert account.by_email["p0@example.com"].data_fields[FIELD] == "C"
    account.settle()
    assert account.by_email["p0@example.com"].data_fields[FIELD] == "B", "the first copy has overwritten the newer labels"
    assert day(pipeline, 4, {"p2": ["C"]}) == 0
    assert labels(sandbox) == {f"p{number}@example.com": "C" if number in {0, 2} else "A" for number in range(5)}


OTHER_SCOPES: dict[str, dict[str, str]] = {
    "another address book": {"address_book": "Other"},
    "no address book": {"upload_emails": "none"},
    "other uploads": {"upload_emails": "with_segments"},
}


@pytest.mark.parametrize("how", ["lost", "stuck"])
@pytest.mark.parametrize("change", slow_except({"another address book", "no address book"}, OTHER_SCOPES))
def test_an_open_or_lost_import_counts_for_the_data_field(pipeline: Pipeline, sandbox: Sandbox, change: str, how: str) -> None:
    """Another address book or upload mode writes the same data field, and the first import may land last."""
    pipeline.target |= {"max_change_percent": 100, "import_timeout": 60}
    assert day(pipeline, 1, {f"p{number}": ["A"] for number in range(5)}) == 0
    account = sandbox.account
    account.import_polls = 10_000
    if how == "lost":
        sandbox.faults.add(Fault("drop_after", method="PUT", path="contacts/v3/import", times=9))
    assert day(pipeline, 2, {"p0": ["B"], "p1": ["B"]}) == 1
    sandbox.faults.clear()
    pipeline.target |= OTHER_SCOPES[change]
    pipeline.activate()
    if how == "stuck":
        writes = len(sandbox.journal.writes())
        assert day(pipeline, 3, {"p0": ["C"], "p1": ["C"]}) == 1
        assert len(sandbox.journal.writes()) == writes, "nothing is sent while the first may still land"
        for job in account.imports.values():
            job.polls = 0
    account.import_polls = 0
    assert day(pipeline, 4, {"p0": ["C"], "p1": ["C"]}) == 0
    account.settle()
    assert day(pipeline, 5, {"p2": ["C"]}) == 0
    assert labels(sandbox) == {f"p{number}@example.com": "C" if number < 3 else "A" for number in range(5)}
    if change == "another address book":
        book = account.book_named("Other")
        assert book is not None
        assert all(book.id in contact.lists for contact in account.snapshot().values())


def test_an_attempt_that_was_limited_is_not_lost(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert day(pipeline, 1, {"p0": ["A"]}) == 0
    sandbox.faults.add(Fault(method="PUT", path="contacts/v3/import", response=Response(429, b"{}")))
    assert day(pipeline, 2, {"p0": ["B"]}) == 0
    sandbox.journal.clear()
    assert day(pipeline, 3, {"p0": ["C"]}) == 0
    assert all("~created" in call.target for call in sandbox.journal.calls("dotdigital", "GET") if call.path == "/contacts/v3")


def test_an_import_that_was_refused_is_not_lost(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert day(pipeline, 1, {"p0": ["A"]}) == 0
    sandbox.faults.add(Fault(method="PUT", path="contacts/v3/import", response=Response(400, b"{}"), times=9))
    assert day(pipeline, 2, {"p0": ["B"]}) == 1
    sandbox.faults.clear()
    sandbox.journal.clear()
    assert day(pipeline, 3, {"p0": ["C"]}) == 0
    assert all("~created" in call.target for call in sandbox.journal.calls("dotdigital", "GET") if call.path == "/contacts/v3")
