"""Contacts that appear in dotdigital between two runs, by a form, an import or a hand, without any change in the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.oracle import FIELD, folded
from support.running import Pipeline, singer

if TYPE_CHECKING:
    from nosto_dotdigital_sandbox import Sandbox

ANN = "ann@example.com"
OTHERS: list[dict[str, object]] = [{"email": f"p{number:02d}@example.com", "segments": ["A"]} for number in range(20)]


def state(day: int) -> dict[str, object]:
    return {"bookmarks": {"people": {"replication_key_value": f"2026-11-{day:02d}"}}}


def day(pipeline: Pipeline, number: int, *changed: dict[str, object]) -> None:
    """Run on what has changed since the day before; on day 1 on everything."""
    lines = singer(list(changed), state=state(number))
    # as SDK taps do: the STATE with which they start comes first
    begin = singer([], state=state(number - 1)).splitlines(keepends=True)[-1] if number > 1 else ""
    outcome = pipeline.load(begin + lines)
    assert outcome.code == 0, outcome.log
    assert pipeline.report["outcome"] in {"delivered", "nothing to do"}


def labels(sandbox: Sandbox, email: str = ANN) -> str:
    value = folded(sandbox.account.snapshot())[email].data_fields.get(FIELD)
    return str(value or "")


@pytest.mark.parametrize("uploads", ["none", "with_segments", "all"])
@pytest.mark.parametrize("names", [["B"], []])
def test_who_signs_up_in_dotdigital_gets_the_labels_that_nosto_has_for_them(
    pipeline: Pipeline, sandbox: Sandbox, uploads: str, names: list[str]
) -> None:
    sandbox.account.add_field(FIELD)
    sandbox.account.add_contact("p00@example.com")
    pipeline.target["upload_emails"] = uploads
    pipeline.activate()
    day(pipeline, 1, *OTHERS, {"email": ANN, "segments": names})
    known = ANN in folded(sandbox.account.snapshot())
    assert known is (uploads == "all" or (uploads == "with_segments" and bool(names)))
    pipeline.time.seconds += 86_400
    if known:
        # somebody deletes the contact, and it comes back
        sandbox.account.remove_contact(ANN)
    sandbox.account.add_contact(ANN, data_fields={FIELD: "Old"})
    day(pipeline, 2, {"email": "p01@example.com", "segments": ["C"]})
    assert labels(sandbox) == ";".join(names)
    assert labels(sandbox, "p00@example.com") == "A"


def test_only_what_is_new_is_read(pipeline: Pipeline, sandbox: Sandbox) -> None:
    for number in range(50):
        sandbox.account.add_contact(f"stranger{number}@example.com")
    day(pipeline, 1, *OTHERS)
    pipeline.time.seconds += 86_400
    day(pipeline, 2, {"email": "p01@example.com", "segments": ["C"]})
    pipeline.time.seconds += 86_400
    sandbox.account.add_contact("new@example.com")
    sandbox.journal.clear()
    day(pipeline, 3, {"email": "p01@example.com", "segments": ["D"]})
    (call,) = [call for call in sandbox.journal.calls("dotdigital", "GET") if call.path == "/contacts/v3"]
    assert call.answer is not None
    assert call.answer.count(b'"contactId"') == 1


def test_a_label_that_comes_back_with_its_contact_is_cleared_after_the_shopper_has_left(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    day(pipeline, 1, *OTHERS, {"email": ANN, "segments": ["A"]})
    pipeline.time.seconds += 86_400
    sandbox.account.remove_contact(ANN)
    # it has another ID now; it was created long ago, as far as dotdigital says
    sandbox.account.add_contact(ANN, data_fields={FIELD: "Old"}).created = "2020-01-01T00:00:00Z"
    day(pipeline, 2, {"email": ANN, "segments": [], "_sdc_deleted_at": "2026-11-02T00:00:00Z"})
    assert labels(sandbox) == ""
    assert (pipeline.report["rejected"], pipeline.report["sent"]) == (0, 1)


def test_who_is_gone_from_both_is_no_rejection(pipeline: Pipeline, sandbox: Sandbox) -> None:
    day(pipeline, 1, *OTHERS, {"email": ANN, "segments": ["A"]})
    sandbox.account.remove_contact(ANN)
    day(pipeline, 2, {"email": ANN, "segments": [], "_sdc_deleted_at": "2026-11-02T00:00:00Z"})
    assert ANN not in folded(sandbox.account.snapshot())
    assert (pipeline.report["rejected"], pipeline.report["unconfirmed"]) == (0, 0)
    sandbox.journal.clear()
    day(pipeline, 3, {"email": "p01@example.com", "segments": ["C"], "_sdc_deleted_at": None})
    assert not [call for call in sandbox.journal.calls("dotdigital", "GET") if ANN in call.target]
