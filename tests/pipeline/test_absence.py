"""Nothing is cleared because the input did not mention it, unless the input is known to be full; and what is known of it is said each time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.cases import slow_except
from support.oracle import FIELD
from support.running import covering, singer

if TYPE_CHECKING:
    from support.running import Outcome, Pipeline

LEDGERS, SLOW_LEDGERS = ["sqlite"], ["postgresql"]
TYPES = {"email": {"type": "string"}, "segments": {"type": "array"}, "updated_at": {}}


def line(kind: str, stream: str, **values: Any) -> str:
    return json.dumps({"type": kind, "stream": stream, **values}) + "\n"


def schema(stream: str = "people", *more: str) -> str:
    return line("SCHEMA", stream, schema={"properties": TYPES | {name: {} for name in more}}, key_properties=["email"])


def record(who: str, names: object, stream: str = "people", version: int | None = None, **more: Any) -> str:
    values = {"email": f"{who}@example.com", "segments": names, **more}
    return line("RECORD", stream, record=values, **({} if version is None else {"version": version}))


def records(stream: str, version: int | None, **names: object) -> str:
    return "".join(record(who, value, stream, version) for who, value in names.items())


def activate(version: int, stream: str = "people") -> str:
    return line("ACTIVATE_VERSION", stream, version=version)


def full(stream: str, version: int, **names: object) -> str:
    return schema(stream) + records(stream, version, **names) + activate(version, stream)


def state(**bookmarks: Any) -> str:
    return json.dumps({"type": "STATE", "value": {"bookmarks": bookmarks}}) + "\n"


def at(value: Any, **notes: Any) -> dict[str, Any]:
    return {"replication_key": "updated_at", "replication_key_value": value, **notes}


def labels(pipeline: Pipeline) -> dict[str, str | None]:
    return {
        email.partition("@")[0]: contact.data_fields.get(FIELD) for email, contact in pipeline.sandbox.account.snapshot().items()
    }


def approve(pipeline: Pipeline, *streams: str) -> None:
    """Activate the sync for exactly these streams, as a review of them would ask for."""
    pipeline.target["activation_code"] = covering(pipeline.target["activation_code"], streams)
    pipeline.approved.clear()


def assert_delivered(pipeline: Pipeline, text: str) -> None:
    outcome = pipeline.load(text)
    assert outcome.code == 0, outcome.log
    assert pipeline.report["outcome"] in {"delivered", "nothing to do"}


def assert_truncated(pipeline: Pipeline, text: str) -> Outcome:
    outcome = pipeline.load(text)
    assert (outcome.code, outcome.output) == (1, ""), outcome.log
    assert pipeline.report["outcome"] == "incomplete input"
    return outcome


def assert_refused(pipeline: Pipeline, text: str, outcome: str = "failed") -> str:
    """Load an input that is refused, and give the error."""
    before, writes = labels(pipeline), len(pipeline.sandbox.journal.writes())
    found = pipeline.load(text)
    assert (found.code, found.output) == (1, ""), found.log
    assert pipeline.report["outcome"] == outcome
    assert (labels(pipeline), len(pipeline.sandbox.journal.writes())) == (before, writes)
    return found.errors[-1]


# Two full streams, of which one does not come, or not to its end

SECOND = {
    "nothing": "",
    "a schema": schema("two"),
    "a schema and a record": schema("two") + records("two", 2, cid=["C"]),
    "a schema and a record without version": schema("two") + records("two", None, cid=["C"]),
    "an activation of another version": schema("two") + records("two", 2, cid=["C"]) + activate(1, "two"),
}


@pytest.mark.parametrize("end", ["", state(one={}), state(one={}, two={}), state(d=1)])
@pytest.mark.parametrize("second", slow_except(["nothing", "a schema and a record"], SECOND))
def test_a_tap_that_dies_after_the_first_of_two_full_streams(pipeline: Pipeline, second: str, end: str) -> None:
    approve(pipeline, "one", "two")
    whole = full("one", 1, ann=["A"], eve=["A"]) + full("two", 1, bob=["B"], cid=["B"]) + state(one={}, two={})
    assert_delivered(pipeline, whole)
    for _ in range(2):
        assert_truncated(pipeline, full("one", 2, ann=["X"]) + SECOND[second] + end)
        # what it said is true; nothing follows from what it did not say
        held = labels(pipeline)
        assert held.pop("cid") in {"B", "C"}
        assert held == {"ann": "X", "eve": "A", "bob": "B"}
    assert_delivered(pipeline, full("one", 3, ann=["X"]) + full("two", 3, bob=["B"]) + state(one={}, two={}))
    assert labels(pipeline) == {"ann": "X", "eve": None, "bob": "B", "cid": None}


def test_the_first_run_of_two_streams_that_breaks_off_needs_its_own_approval(pipeline: Pipeline) -> None:
    """The ledger is new, so only the activation code says that there are two streams."""
    pipeline.sandbox.account.add_field(FIELD)
    pipeline.sandbox.account.add_contact("bob@example.com", data_fields={FIELD: "B"})
    approve(pipeline, "one", "two")
    assert_refused(pipeline, full("one", 1, ann=["A"]) + state(one={}), "not activated")


def test_labels_of_unknown_streams_are_not_orphaned_as_long_as_one_stream_is_incremental(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.add_field(FIELD)
    pipeline.sandbox.account.add_contact("bob@example.com", data_fields={FIELD: "B"})
    assert_delivered(pipeline, full("one", 1, ann=["A"]) + schema("two") + state(one={}, two=at(1)))
    assert labels(pipeline) == {"ann": "A", "bob": "B"}


def test_a_full_stream_does_not_mention_a_contact_that_left_it_the_day_before(pipeline: Pipeline) -> None:
    """The STATE of the other stream is the same on all days."""
    approve(pipeline, "one", "two")
    quiet = state(one=at(1))
    assert_delivered(pipeline, schema("one") + record("ann", ["A"], "one") + full("two", 1, bob=["B"], cid=["B"]) + quiet)
    for version in (2, 3):
        assert_delivered(pipeline, quiet + schema("one") + full("two", version, bob=["B"]) + quiet)
        assert labels(pipeline) == {"ann": "A", "bob": "B", "cid": None}


def test_a_stream_that_is_left_out_on_purpose_is_cleared_with_an_approval(pipeline: Pipeline) -> None:
    approve(pipeline, "one", "two")
    assert_delivered(pipeline, full("one", 1, ann=["A"]) + full("two", 1, bob=["B"]) + state(one={}, two={}))
    text = full("one", 2, ann=["A"]) + state(one={})
    code = covering(pipeline.target["activation_code"], ["one"])
    assert code in assert_truncated(pipeline, text).errors[-1]
    pipeline.target["activation_code"] = code
    assert_delivered(pipeline, text)
    assert labels(pipeline) == {"ann": "A", "bob": None}
    # the stream is forgotten: if it comes back, it is new
    assert "'two'" in assert_refused(pipeline, text + full("two", 2, bob=["B"]), "not activated")


# Inputs that break off, each time they do

BEHIND = {
    "a change": record("bob", ["B"]),
    "a record that is newer and changes nothing": record("ann", ["A"], updated_at=2),
    "a record with a newer time": record("ann", ["A"], updated_at="2026-11-02T00:00:00+00:00"),
}


@pytest.mark.parametrize("behind", BEHIND)
def test_truncated_is_truncated_every_time(pipeline: Pipeline, behind: str) -> None:
    time = "time" in behind
    first, second = ("2026-11-01T00:00:00Z", "2026-11-03T00:00:00Z") if time else (1, 3)
    assert_delivered(pipeline, schema() + record("ann", ["A"], updated_at=first) + state(people=at(first)))
    for _ in range(3):
        assert_truncated(pipeline, state(people=at(first)) + schema() + BEHIND[behind])
    # the tap comes to its end
    end = state(people=at(second))
    assert_delivered(pipeline, state(people=at(first)) + schema() + BEHIND[behind] + record("cid", ["C"]) + end)
    # and a quiet day after that is a quiet day
    assert_delivered(pipeline, end + schema() + record("cid", ["C"], updated_at=second))


@pytest.mark.parametrize(
    "text",
    [
        # a STATE in the middle: with nothing behind it, with a record behind it
        schema() + record("ann", ["A"]) + state(people={"progress_markers": {"replication_key_value": 1}}),
        schema() + record("ann", ["A"]) + state(people={"partitions": [{"context": {"x": 1}, "progress_markers": {}}]}),
        schema() + record("ann", ["A"]) + state(people=at(1)) + record("bob", ["B"]),
        # records of a version that never comes
        schema() + records("people", 7, ann=["A"]),
        schema() + records("people", 7, ann=["A"]) + state(people=at(1)),
        schema() + records("people", 7, ann=["A"]) + state(people={}),
    ],
)
def test_a_first_run_that_breaks_off_again_and_again(pipeline: Pipeline, text: str) -> None:
    for _ in range(3):
        assert_truncated(pipeline, text)
    assert labels(pipeline)["ann"] == "A"


def test_a_source_that_has_sent_state_before_ends_with_one(pipeline: Pipeline) -> None:
    assert_delivered(pipeline, schema() + record("ann", ["A"]) + state(people=at(1)))
    for _ in range(2):
        assert_truncated(pipeline, schema() + record("ann", ["X"]))


def test_a_full_refresh_that_breaks_off_after_a_truncated_day(pipeline: Pipeline) -> None:
    assert_delivered(pipeline, schema() + record("ann", ["A"]) + record("bob", ["B"]) + state(people=at(1)))
    assert_truncated(pipeline, state(people=at(1)) + schema() + record("ann", ["X"]))
    # the last record changes nothing
    assert_truncated(pipeline, schema() + record("ann", ["X"]) + state(people=at(1)) + record("bob", ["B"]))


@pytest.mark.parametrize(
    "quiet",
    [
        schema() + record("ann", ["A"], updated_at="2026-11-01T01:00:00+01:00"),
        schema() + record("ann", ["A"]),
        schema() + record("ann", ["A"], updated_at=None),
        schema(),
        # another stream, which has no bookmark, is as long as it likes
        schema() + schema("table") + record("tom", ["T"], "table") + state(people=at("2026-11-01T00:00:00Z"), table={})
        + record("tim", ["T"], "table"),
    ],
)  # fmt: skip
def test_a_quiet_day_is_healthy(pipeline: Pipeline, quiet: str) -> None:
    """SDK taps repeat the record at the bookmark, and no STATE that has not changed."""
    begin = state(people=at("2026-11-01T00:00:00Z"), table={})
    assert_delivered(pipeline, schema() + record("ann", ["A"]) + begin)
    for _ in range(2):
        assert_delivered(pipeline, begin + quiet)


# An ACTIVATE_VERSION that something in between drops


@pytest.mark.parametrize("version", [2, None])
def test_a_full_refresh_whose_activation_was_lost(pipeline: Pipeline, version: int | None) -> None:
    assert_delivered(pipeline, full("people", 1, ann=["A"], eve=["A"]) + state(people=at(1)))
    lost = schema() + records("people", version, ann=["X"]) + state(people=at(2))
    for _ in range(2):
        assert "mapper" in assert_truncated(pipeline, lost).errors[-1]
        assert labels(pipeline) == {"ann": "X", "eve": "A"}
    assert_delivered(pipeline, full("people", 3, ann=["X"]) + state(people=at(2)))
    assert labels(pipeline) == {"ann": "X", "eve": None}
    # a day of changes announces nothing
    assert_delivered(pipeline, state(people=at(2)) + schema() + record("ann", ["Y"]) + state(people=at(3)))


def test_a_tap_that_reads_a_log_goes_on_with_its_version(pipeline: Pipeline) -> None:
    assert_delivered(pipeline, full("people", 5, ann=["A"], bob=["B"]) + state(people={"version": 5, "lsn": 1}))
    assert_delivered(pipeline, schema() + records("people", 5, ann=["X"]) + state(people={"version": 5, "lsn": 2}))
    assert labels(pipeline) == {"ann": "X", "bob": "B"}


# Versions

KNOWN = {f"p{number:02d}": ["K"] for number in range(20)}


@pytest.mark.parametrize("order", [1, -1], ids=["in the order of addresses", "staged"])
@pytest.mark.parametrize("other", ["", record("zoe", ["Z"], "other")], ids=["alone", "interleaved"])
@pytest.mark.every_ledger
def test_of_two_versions_in_one_input_the_last_counts(pipeline: Pipeline, order: int, other: str) -> None:
    assert_delivered(pipeline, full("people", 1, **KNOWN) + full("other", 1, zoe=["Z"]) + state(people={}, other={}))

    def version(number: int, **names: list[str]) -> str:
        listed = list(names.items())[::order]
        return "".join(record(who, value, "people", number) + other for who, value in listed) + activate(number)

    first = {who: names for who, names in KNOWN.items() if who != "p00"} | {"new": ["N"], "p02": ["X"]}
    last = {who: names for who, names in KNOWN.items() if who not in {"p01", "p02"}} | {"p03": ["Y"]}
    text = schema() + schema("other") + version(2, **first) + version(3, **last)
    # it breaks off before the end of the second version
    assert_truncated(pipeline, text.removesuffix(activate(3)) + state(people={}, other={}))
    held = labels(pipeline)
    assert {who: held[who] for who in ("p00", "p01", "p02", "p03", "new")} == {
        "p00": "K", "p01": "K", "p02": "X", "p03": "Y", "new": "N",
    }  # fmt: skip
    assert_delivered(pipeline, text + full("other", 2, zoe=["Z"]) + state(people={}, other={}))
    assert labels(pipeline) == {
        **{who: ";".join(names) for who, names in last.items()}, "p01": None, "p02": None, "new": None, "zoe": "Z",
    }  # fmt: skip


def test_a_contact_that_only_the_first_of_two_versions_names_is_not_created(pipeline: Pipeline) -> None:
    text = schema() + records("people", 1, ann=["A"], eve=["E"]) + activate(1) + records("people", 2, ann=["A"]) + activate(2)
    assert_delivered(pipeline, text + state(people={}))
    assert labels(pipeline) == {"ann": "A"}


@pytest.mark.parametrize(
    "early",
    [
        schema() + activate(2) + records("people", 2, ann=["A"]) + activate(3) + records("people", 3, ann=["A"]) + state(people={}),
        schema() + activate(2) + records("people", 2, ann=["A"]) + activate(2) + state(people={}),
        schema() + activate(2) + state(people={}) + records("people", 2, ann=["A"]) + state(people={}),
        schema() + records("people", None, ann=["A"]) + activate(2) + state(people={}),
    ],
)
def test_an_activation_before_the_records_of_its_version(pipeline: Pipeline, early: str) -> None:
    """As SDK taps send it; the STATE at the end says that nothing broke off."""
    assert_delivered(pipeline, full("people", 1, ann=["A"], eve=["E"]) + state(people={}))
    assert_delivered(pipeline, early)
    assert labels(pipeline) == {"ann": "A", "eve": None}


def test_an_activation_before_its_records_proves_nothing_without_a_state(pipeline: Pipeline) -> None:
    assert_delivered(pipeline, full("people", 1, ann=["A"], eve=["E"]))
    assert_delivered(pipeline, schema() + activate(2) + records("people", 2, ann=["X"]))
    assert labels(pipeline) == {"ann": "X", "eve": "E"}


@pytest.mark.parametrize(
    "wrong",
    [
        records("people", 2, ann=["A"]) + activate(3),
        records("people", 2, ann=["A"]) + activate(1),
        activate(3) + records("people", 2, ann=["A"]),
        records("people", 2, ann=["A"]) + activate(2) + activate(3),
        records("people", 2, ann=["A"]) + activate(2) + records("people", 3, ann=["A"]),
    ],
)
def test_an_activation_of_another_version_proves_nothing(pipeline: Pipeline, wrong: str) -> None:
    assert_delivered(pipeline, full("people", 1, ann=["A"], eve=["E"]) + state(people={}))
    assert_truncated(pipeline, schema() + wrong + state(people={}))
    assert labels(pipeline) == {"ann": "A", "eve": "E"}


def test_records_that_go_back_to_an_older_version_are_refused(pipeline: Pipeline) -> None:
    text = schema() + records("people", 1, ann=["A"]) + records("people", 2, ann=["A"]) + records("people", 1, eve=["E"])
    assert "'people'" in assert_refused(pipeline, text + activate(2) + state(people={}))


# The mark of removal

MARK = "_sdc_deleted_at"


def test_a_stream_that_loses_the_mark_of_removal(pipeline: Pipeline) -> None:
    marked = schema("people", MARK)
    assert_delivered(pipeline, marked + records("people", 1, ann=["A"], eve=["E"]) + activate(1) + state(people=at(1)))
    day = state(people=at(1)) + schema() + record("eve", []) + state(people=at(2))
    assert MARK in assert_refused(pipeline, day)
    # all contacts: who left is not among them
    assert_delivered(pipeline, full("people", 2, ann=["A"]) + state(people=at(2)))
    assert labels(pipeline) == {"ann": "A", "eve": None}
    assert MARK in assert_refused(pipeline, day.replace("2", "3").replace("1", "2"))
    gone = record("ann", [], _sdc_deleted_at="2026-11-03T00:00:00Z")
    assert_delivered(pipeline, state(people=at(2)) + marked + gone + state(people=at(3)))
    assert labels(pipeline) == {"ann": None, "eve": None}


# Most of it left out


@pytest.mark.parametrize(
    ("good", "bad", "refused"),
    [(2, 3, True), (3, 2, False), (2, 2, False), (0, 1, True), (0, 0, False), (20, 21, True), (40, 1, False)],
)
@pytest.mark.parametrize("whole", [True, False])
def test_an_input_most_of_which_is_left_out_is_not_delivered(
    pipeline: Pipeline,
    good: int,
    bad: int,
    refused: bool,  # noqa: FBT001 - a table of cases
    whole: bool,  # noqa: FBT001 - a table of cases
) -> None:
    assert_delivered(pipeline, full("people", 1, ann=["A"], bob=["B"]) + state(people=at(1)))
    text = (
        schema()
        + "".join(record(f"p{number:02d}", ["A"], "people", 2) for number in range(good))
        + "".join(line("RECORD", "people", record={"email": "0a1b2c", "segments": ["A"]}, version=2) for _ in range(bad))
        + activate(2)
        if whole
        else state(people=at(1))
        + schema()
        + "".join(record(f"p{number:02d}", ["A"]) for number in range(good))
        + "".join(record(f"q{number:02d}", None) for number in range(bad))
    )
    if refused:
        assert f"{bad} of the {good + bad} records" in assert_refused(pipeline, text + state(people=at(2)))
        assert labels(pipeline) == {"ann": "A", "bob": "B"}
    else:
        assert_delivered(pipeline, text + state(people=at(2)))


def test_records_that_are_left_out_by_choice_are_no_reason_to_stop(pipeline: Pipeline) -> None:
    pipeline.target |= {
        "exclude_emails": ["p*"],
        "stream_maps": {"people": {"__filter__": "not email.startswith('q')"}},
    }
    rest = {f"{letter}{number}": ["A"] for letter in "pq" for number in range(9)}
    assert_delivered(pipeline, schema() + records("people", None, ann=["A"], **rest) + state(people=at(1)))
    assert labels(pipeline) == {"ann": "A"}


# Streams that the data field was never fed by


@pytest.mark.parametrize("whole", [True, False])
def test_a_new_stream_ends_with_a_review(pipeline: Pipeline, whole: bool) -> None:  # noqa: FBT001 - a table of cases
    approve(pipeline, "people")
    assert_delivered(pipeline, singer([{"email": "ann@example.com", "segments": ["A"]}]))
    other = (
        full("loyalty", 1, ann=["Gold"], bob=["Gold"])
        if whole
        else schema("loyalty") + records("loyalty", None, ann=["Gold"], bob=["Gold"])
    )
    error = assert_refused(pipeline, other, "not activated")
    assert "'loyalty'" in error
    review = (pipeline.folder / "reports" / "review.txt").read_text()
    assert "loyalty" in review
    code = pipeline.report["activation_code"]
    assert code in error
    assert code != pipeline.target["activation_code"]
    assert code[:10] == pipeline.target["activation_code"][:10]
    # the first pipeline goes on
    assert_delivered(pipeline, singer([{"email": "ann@example.com", "segments": ["B"]}]))
    # and the operator may agree
    pipeline.target["activation_code"] = code
    assert_delivered(pipeline, other)
    assert labels(pipeline) == {"ann": "Gold", "bob": "Gold"}


def test_the_first_delivery_is_of_the_stream_that_was_reviewed(pipeline: Pipeline) -> None:
    approve(pipeline, "people")
    assert_refused(pipeline, schema("loyalty") + records("loyalty", None, ann=["Gold"]), "not activated")
    assert_delivered(pipeline, schema() + records("people", None, ann=["A"]))


def test_a_mark_of_removal_without_a_usable_address_is_nothing_to_do(pipeline: Pipeline) -> None:
    mark = record("nohost", [], _sdc_deleted_at="2026-11-01T00:00:00Z").replace("nohost@example.com", "nohost")
    assert_delivered(pipeline, schema("people", "_sdc_deleted_at") + record("a", ["A"]) + state(people=at(1)))
    assert_delivered(pipeline, schema("people", "_sdc_deleted_at") + mark + state(people=at(2)))
    assert pipeline.report["invalid"] == {}
    assert labels(pipeline) == {"a": "A"}


def test_contacts_that_were_left_out_may_be_missing_without_a_starting_state(pipeline: Pipeline) -> None:
    pipeline.target["exclude_emails"] = ["a@example.com"]
    assert_delivered(pipeline, schema() + record("a", ["A"]) + record("b", ["B"]) + state(people=at(1)))
    pipeline.target["exclude_emails"] = []
    assert pipeline.load(schema() + record("b", ["C"]) + state(people=at(2))).code == 0
    assert pipeline.report["outcome"] == "partly delivered"
    assert "left out before" in pipeline.report["problems"][0]
