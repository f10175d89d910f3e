"""The retry policy and the pace: never a second call too early, never one too many."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nosto_dotdigital_sandbox import Fault, Sandbox
from nosto_dotdigital_sandbox.faults import answer
from support.running import FakeTime, Pipeline, singer
from target_dotdigital.dotdigital import retries as retry
from target_dotdigital.dotdigital.retries import Failure

MANY = singer([{"email": f"a{number}@example.com", "segments": ["A"]} for number in range(100)])

# what a header may hold that is no number, though Python reads some of it as one
NO_NUMBERS = ["9" * 5_000, "٣", "²", "nan", "inf", "-inf", "1e999", "1e3", "-1", "+1", "0x10", "1_0", " ", "soon"]
NO_DATES = [
    *("Fri, 31 Dec 10000 23:59:59 GMT", "Fri, 31 Dec 99999999999 23:59:59 GMT", f"Fri, 31 Dec {'9' * 5_000} 23:59:59 GMT"),
    *(
        "Mon, 01 Jan 2026 00:00:00 -9999",
        "Mon, 01 Jan 2026 00:00:00 +99999999999999",
        "Mon, 32 Jan 2026 00:00:00 GMT",
        ", , ,",
        "()",
    ),
]


@pytest.mark.parametrize(
    ("failure", "tries", "seconds"),
    [
        (Failure(None, None, {}), 1, 1),
        (Failure(503, None, {}), 3, 4),
        (Failure(503, None, {"retry-after": "7"}), 1, 7),
        (Failure(503, None, {}), 6, None),
        (Failure(429, None, {"x-ratelimit-reset": "12"}), 1, 12),
        (Failure(429, None, {"x-ratelimit-reset": "1790001030"}), 1, 30),
        (Failure(429, None, {"x-ratelimit-reset": "1790099999"}), 1, 65),
        (Failure(429, None, {"x-ratelimit-reset": "0"}), 1, 0.1),
        (Failure(429, None, {"x-ratelimit-reset": "soon"}), 1, 65),
        *((Failure(429, None, {"x-ratelimit-reset": text}), 1, 65) for text in NO_NUMBERS),
        *((Failure(429, None, {"retry-after": text, "x-ratelimit-reset": "9"}), 1, 9) for text in (*NO_NUMBERS, *NO_DATES)),
        *((Failure(503, None, {"retry-after": text}), 2, 2) for text in (*NO_NUMBERS, *NO_DATES)),
        (Failure(503, None, {"retry-after": "Fri, 31 Dec 9999 23:59:59 -0100"}), 1, 300),
        (Failure(503, None, {"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"}), 1, 0),
        (Failure(503, None, {"retry-after": "999999999999999"}), 1, 300),
        (Failure(429, None, {"x-ratelimit-reset": "12.5"}), 1, 12.5),
        (Failure(429, None, {"retry-after": "Mon, 21 Sep 2026 14:30:10 GMT"}), 1, 10),
        (Failure(429, "contacts:tooManyActiveImports", {}), 1, None),
        (Failure(400, "ERROR_APIUSAGE_EXCEEDED", {}), 13, 300),
        (Failure(400, "ERROR_APIUSAGE_EXCEEDED", {}), 14, None),
        *((Failure(status, None, {}), 1, None) for status in (400, 401, 403, 404, 409)),
    ],
)
def test_the_policy(failure: Failure, tries: int, seconds: float | None) -> None:
    time = FakeTime()
    if "GMT" in failure.headers.get("retry-after", ""):
        time.seconds = 1_000_000.0 + 800.0 - 1_000_000.0 + 200.0
    assert retry.pause(failure, tries, time.clock()) == pytest.approx(seconds)


HEADER = st.text(max_size=30) | st.text("09²٣.e+-", max_size=6) | st.from_regex(r"[0-9]{1,40}(\.[0-9]*)?(e[0-9]*)?", fullmatch=True)
DATE = st.from_regex(
    r"(Mon, )?[0-9]{1,3} [JFM][aeu][nb] -?[0-9]{1,12} [0-9]{1,3}:[0-9]{1,3}(:[0-9]{1,3})? ([+-][0-9]{1,9}|GMT)?", fullmatch=True
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(HEADER | DATE, HEADER, st.sampled_from([429, 500, 503, None]), st.integers(1, 5))
def test_no_header_makes_the_policy_fail_or_wait_longer_than_its_bounds(
    after: str, reset: str, status: int | None, tries: int
) -> None:
    seconds = retry.pause(Failure(status, None, {"retry-after": after, "x-ratelimit-reset": reset}), tries, FakeTime().clock())
    assert seconds is not None
    assert 0 <= seconds <= retry.CAPPED_PAUSE_SECONDS


@pytest.mark.parametrize("reset_as", ["epoch", "seconds"])
def test_a_first_load_of_a_hundred_imports_keeps_the_pace(pipeline: Pipeline, time: FakeTime, reset_as: str) -> None:
    pipeline.sandbox.limits.per_minute["low"] = 35
    pipeline.sandbox.limits.reset_as = reset_as
    pipeline.target |= {"contacts_per_import": 1, "max_active_imports": 20}
    assert pipeline.load(MANY).code == 0
    assert len([call for call in pipeline.sandbox.journal.imports() if call.status == 202]) == 100
    assert pipeline.sandbox.limits.refused <= 1
    assert time.seconds < 1_000 + 5 * 60


def test_another_worker_that_uses_up_the_limit_is_waited_for(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.limits.per_minute["low"] = 10

    def spend(_request: object) -> None:
        sandbox.limits.spend("low", 4)

    for number in range(1, 60, 2):
        sandbox.faults.add(Fault("rewrite", method="PUT", nth=number, after=spend, rewrite=lambda response: response))
    pipeline.target |= {"contacts_per_import": 5, "max_active_imports": 20}
    assert pipeline.load(MANY).code == 0
    assert len(sandbox.account.snapshot()) == 100


def test_the_old_hourly_cap_is_sat_out(pipeline: Pipeline, sandbox: Sandbox, time: FakeTime) -> None:
    text = json.dumps({"message": "Your account has generated excess API activity. ERROR_APIUSAGE_EXCEEDED"}).encode()
    sandbox.faults.add(Fault("answer", method="PUT", times=3, response=answer(400, text)))
    assert pipeline.load(MANY).code == 0
    assert time.naps.count(300.0) == 3


def test_slots_that_others_hold_are_waited_for(pipeline: Pipeline, sandbox: Sandbox, time: FakeTime) -> None:
    sandbox.account.busy_imports = 25

    def let_go() -> None:
        if time.seconds > 1_200:
            sandbox.account.busy_imports = 0

    time.waited = let_go
    assert pipeline.load(MANY).code == 0
    assert [call.status for call in sandbox.journal.imports()].count(429) > 3


def test_slots_that_never_come_free_end_the_run(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.busy_imports = 25
    outcome = pipeline.load(MANY)
    assert (outcome.code, outcome.output) == (1, "")
    assert "import slots" in outcome.errors[-1]
