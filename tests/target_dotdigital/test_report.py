"""The report as data: its schema, its history, the file of rejected contacts, and what it offers to a marketer."""

from __future__ import annotations

import csv
import datetime
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import Fault
from support.outcomes import NAMES, OUTCOMES, people, shop
from support.report_schema import deviations
from support.running import BIN, run_target, singer
from target_dotdigital.reporting.folder import remove_address
from target_dotdigital.reporting.page import Rule, rules

if TYPE_CHECKING:
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox
    from support.running import Outcome, Pipeline

OUTCOME = {
    "review": "not activated",
    "not started": "failed",
    "incomplete": "incomplete input",
    "restored": "delivered",
}


def reports(pipeline: Pipeline) -> Path:
    return pipeline.folder / "reports"


def page(pipeline: Pipeline) -> str:
    return (reports(pipeline) / "report.html").read_text()


def history(pipeline: Pipeline) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((reports(pipeline) / "runs").glob("*.json"))]


def section(text: str, heading: str) -> str:
    """The section of a page with a heading."""
    return text.split(f"<h2>{heading}")[1].split("</section>", maxsplit=1)[0]


# The schema


@pytest.mark.parametrize("kind", OUTCOMES)
def test_every_report_follows_the_published_schema(kind: str, pipeline: Pipeline) -> None:
    OUTCOMES[kind](pipeline)
    facts = pipeline.report
    assert facts["outcome"] == OUTCOME.get(kind, kind)
    assert deviations(facts) == []
    assert [deviation for past in history(pipeline) for deviation in deviations(past)] == []


def test_the_schema_refuses_keys_that_it_does_not_name(pipeline: Pipeline) -> None:
    pipeline.load(singer(shop()))
    facts = pipeline.report
    for changed in (
        facts | {"new": 1},
        {key: value for key, value in facts.items() if key != "sent"},
        facts | {"plan": facts["plan"] | {"new": 1}},
        facts | {"segments": {"VIP": {"contacts": -1, "change": 0, "joined": 0, "left": 0}}},
    ):
        assert len(deviations(changed)) == 1


# History


def test_each_run_leaves_a_private_file_and_the_oldest_go(pipeline: Pipeline) -> None:
    pipeline.target["report_keep"] = 3
    for number in range(4):
        pipeline.time.seconds += 60
        assert pipeline.load(singer(people(number + 1, "VIP"))).code == 0
    password = pipeline.target["api_password"]
    pipeline.target["api_password"] = "wrong"
    pipeline.time.seconds += 60
    assert pipeline.load(singer(people(9))).code == 1
    kept = history(pipeline)
    assert [(past["outcome"], past["created"]) for past in kept] == [("delivered", 1), ("delivered", 1), ("failed", 0)]
    assert kept[-1] == pipeline.report
    folder = reports(pipeline) / "runs"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    pipeline.target |= {"api_password": password, "report_keep": 1}
    assert pipeline.load("").code == 1
    # the page still shows the sizes of the last delivery
    assert [past["outcome"] for past in history(pipeline)] == ["delivered", "no input"]


def test_the_number_of_runs_to_keep_is_read_from_the_environment_too(tmp_path: Path) -> None:
    """Also by a run that fails before it has checked its settings."""
    (tmp_path / "runs").mkdir()
    for number in range(3):
        (tmp_path / "runs" / f"20260101T00000{number}.000000Z-000000.json").touch()
    settings = {"REPORT_DIR": str(tmp_path), "REPORT_KEEP": "2", "API_USER": "apiuser-x@example.com", "API_PASSWORD": "x"}
    environment = os.environ | {f"TARGET_DOTDIGITAL_{name}": value for name, value in settings.items()}
    done = subprocess.run([BIN / "target-dotdigital", "--config=ENV"], env=environment, input=b"", capture_output=True, check=False)
    assert done.returncode == 1
    kept = sorted((tmp_path / "runs").glob("*.json"))
    assert [path.stat().st_size > 0 for path in kept] == [False, True]
    assert json.loads(kept[1].read_text())["outcome"] == "no input"


def test_the_strip_has_the_same_numbers_as_its_table(pipeline: Pipeline) -> None:
    pipeline.target["history_days"] = 0
    pipeline.activate()
    OUTCOMES["delivered"](pipeline)
    (reports(pipeline) / "runs" / "20200101T000000.000000Z-000000.json").write_text("{broken")
    assert pipeline.load(singer([])).code == 0
    strip = section(page(pipeline), "The last")
    runs = history_without_broken(pipeline)
    assert len(runs) == 9
    for label, key in (("Created", "created"), ("Updated", "updated"), ("Cleared", "cleared"), ("Rejected", "rejected")):
        counts = [past[key] for past in runs]
        shown = sum(count > 0 for count in counts)
        assert f'aria-label="{label}: more than 0 in {shown} of 9 runs, at most {max(counts):,}"' in strip
    assert 'aria-label="Failures: more than 0 in 1 of 9 runs' in strip
    rows = strip.split("<tbody>")[1].count("<tr>")
    assert rows == 9
    for past in runs:
        cells = "".join(f'<td class="num">{past[key]:,}</td>' for key in ("created", "updated", "cleared", "rejected"))
        assert f"{past['outcome']}</td>{cells}" in strip


def history_without_broken(pipeline: Pipeline) -> list[dict[str, Any]]:
    (reports(pipeline) / "runs" / "20200101T000000.000000Z-000000.json").unlink()
    return history(pipeline)


def test_only_the_last_thirty_runs_of_this_account_and_field_are_shown(pipeline: Pipeline) -> None:
    pipeline.target["history_days"] = 0
    pipeline.activate()
    assert pipeline.load(singer(people(1, "VIP"))).code == 0
    facts = pipeline.report
    folder = reports(pipeline) / "runs"
    for number in range(40):
        other = {"account": {"id": 999, "name": "Other", "region": ""}} if number % 2 else {}
        moment = f"2026-01-01T00:{number:02}:00+00:00"
        old = facts | other | {"started_at": moment, "created": 100 + number}
        (folder / f"20260101T00{number:02}00.000000Z-000000.json").write_text(json.dumps(old))
    pipeline.load(singer([]))
    strip = section(page(pipeline), "The last")
    # the review, the two runs above, and the 20 old ones of the same account
    assert strip.count('<th scope="row">') == 23
    assert '<td class="num">138</td>' in strip
    assert '<td class="num">139</td>' not in strip
    for number in range(40):
        (folder / f"20260102T00{number:02}00.000000Z-000000.json").write_text(json.dumps(facts))
    pipeline.load(singer([]))
    assert section(page(pipeline), "The last").count('<th scope="row">') == 30


def test_cleared_contacts_are_counted_when_they_are_delivered(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(5, "VIP")))
    assert pipeline.report["cleared"] == 0
    pipeline.load(singer([*people(2), *people(1, "Other", first=2)]))
    assert (pipeline.report["updated"], pipeline.report["cleared"]) == (3, 2)


# Segments


def test_the_largest_movers_come_first_and_the_others_are_folded(pipeline: Pipeline) -> None:
    names = [f"Segment {number:03}" for number in range(200)]
    records = [{"email": f"p{number}@example.com", "segments": names[: number + 1]} for number in range(200)]
    assert pipeline.load(singer(records)).code == 0
    records = [{"email": f"new{number}@example.com", "segments": [names[150 + number]] * 2} for number in range(3)]
    records.append({"email": "new9@example.com", "segments": [names[152], names[20]]})
    assert pipeline.load(singer(records)).code == 0
    shown, folded, by_day = section(page(pipeline), "Contacts in each segment").split("<details>")
    order = [name for _, name in sorted((shown.index(name), name) for name in names if f">{name}<" in shown)]
    # by the change, then by size; contacts of Segment N before: 200 - N
    assert order == [names[152], names[20], names[150], names[151], *names[:6]]
    assert folded.count('<th scope="row">') == 190
    assert by_day.count('<th scope="row">') == 10
    assert "The other 190 segments" in folded
    assert section(page(pipeline), "For the campaign").split("<details><summary>The other")[1].count('<th scope="row">') == 190
    assert 'aria-label="from 180 to 181 in 2 runs"' in shown


# Who joined and left


def days(pipeline: Pipeline) -> None:
    """Three contacts join VIP; the next day two leave, one of them for Lapsed, and one is new in both."""
    assert pipeline.load(singer(people(3, "VIP"))).code == 0
    records = [*people(1, "VIP"), *people(1, first=1), *people(1, "Lapsed", first=2), *people(1, "VIP", "Lapsed", first=3)]
    assert pipeline.load(singer(records)).code == 0


MOVED = {
    "VIP": {"contacts": 2, "change": -1, "joined": 1, "left": 2},
    "Lapsed": {"contacts": 2, "change": 2, "joined": 2, "left": 0},
}


def test_joined_and_left_are_counted_for_each_segment_and_day(pipeline: Pipeline) -> None:
    days(pipeline)
    assert pipeline.report["segments"] == MOVED
    by_day = section(page(pipeline), "Contacts in each segment").split("<tbody>")[-1]
    cells = ('<span class="up">+1</span> <span class="down">&minus;2</span>', '<span class="up">+3</span>')
    assert '<th scope="row">VIP</th>' + "".join(f'<td class="num">{cell}</td>' for cell in cells) in by_day


@pytest.mark.parametrize("labels", [{"enclose_segments": True}, {"segment_labels": {"VIP": "Very important"}}])
def test_joined_and_left_count_segments_however_their_labels_are_written(pipeline: Pipeline, labels: dict[str, Any]) -> None:
    pipeline.target |= labels
    pipeline.activate()
    days(pipeline)
    assert pipeline.report["segments"] == MOVED


def test_a_run_that_writes_nothing_counts_who_would_join_and_leave(pipeline: Pipeline) -> None:
    pipeline.target["dry_run"] = True
    assert pipeline.load(singer(people(3, "VIP"))).code == 0
    assert pipeline.report["segments"] == {"VIP": {"contacts": 3, "change": 3, "joined": 3, "left": 0}}


def test_a_rejected_contact_joins_when_dotdigital_accepts_it(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.refuse = lambda email: "someCode" if email == "p0001@example.com" else None
    assert pipeline.load(singer(people(3, "VIP"))).code == 0
    assert pipeline.report["segments"]["VIP"]["joined"] == 2
    pipeline.sandbox.account.refuse = lambda _email: None
    assert pipeline.load(singer(people(3, "VIP"))).code == 0
    assert pipeline.report["segments"] == {"VIP": {"contacts": 3, "change": 0, "joined": 1, "left": 0}}


def changes(pipeline: Pipeline) -> list[Path]:
    return sorted((reports(pipeline) / "runs").glob("*.csv"))


def test_the_changes_of_a_run_are_a_private_file_without_formulas(pipeline: Pipeline) -> None:
    days(pipeline)
    _, path = changes(pipeline)
    assert f'<a href="runs/{path.name}">' in page(pipeline)
    assert path.with_suffix(".json").exists()
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open(newline="") as file:
        rows = {address: (joined, left) for address, joined, left in csv.reader(file)}
    assert rows == {
        "address": ("joined", "left"),
        "p0001@example.com": ("", "VIP"),
        "p0002@example.com": ("Lapsed", "VIP"),
        "p0003@example.com": ("Lapsed; VIP", ""),
    }
    assert pipeline.load(singer([{"email": "=cmd@example.com", "segments": ["+1"]}])).code == 0
    assert changes(pipeline)[-1].read_text().splitlines()[1:] == ["'=cmd@example.com,'+1,"]


def test_the_changes_of_a_run_go_with_its_report(pipeline: Pipeline) -> None:
    pipeline.target["report_keep"] = 1
    days(pipeline)
    first = changes(pipeline)
    assert [path.with_suffix(".json").exists() for path in first] == [True]
    assert pipeline.load(singer([])).code == 0
    assert changes(pipeline) == []
    assert "as CSV</a>" not in page(pipeline)


def test_forget_removes_an_address_from_the_changes(pipeline: Pipeline) -> None:
    days(pipeline)
    assert run_target(pipeline.target, "", pipeline.time, forget="p0002@example.com").code == 0
    texts = [path.read_text() for path in changes(pipeline)]
    assert [("p0002@" in text, "p0001@" in text) for text in texts] == [(False, True), (False, True)]


# The last good picture


def test_a_day_without_a_delivery_keeps_the_last_good_picture(pipeline: Pipeline) -> None:
    days(pipeline)
    good = page(pipeline)
    pipeline.time.seconds += 24 * 3600
    assert pipeline.load("").code == 1
    text = page(pipeline)
    assert "Labels are of 21 September 2026, from the run that ended at 2026-09-21 " in text
    assert "Demo shop &middot;" in text
    assert "field NOSTOSEGMENT." in text
    rows = [f'<th scope="row">{name}</th><td class="num">2</td>' for name in ("VIP", "Lapsed")]
    assert all(row in section(text, "Contacts in each segment") for row in rows)
    rules_before, rules_after = (section(each, "For the campaign").split("<table>")[1] for each in (good, text))
    assert rules_before == rules_after


def test_labels_are_of_the_last_run_that_delivered_even_if_the_page_shows_it_no_more(pipeline: Pipeline) -> None:
    assert pipeline.load(singer(people(2, "VIP"))).code == 0
    facts = pipeline.report | {"outcome": "failed", "segments": {}, "sent": 0, "started_at": "2026-09-22T00:00:00+00:00"}
    for number in range(40):
        (reports(pipeline) / "runs" / f"20270101T00{number:02}00.000000Z-000000.json").write_text(json.dumps(facts))
    assert pipeline.load("").code == 1
    assert "Labels are of 21 September 2026" in page(pipeline)


def test_labels_of_a_run_that_left_contacts_for_later_are_partly_older(pipeline: Pipeline) -> None:
    OUTCOMES["partly delivered"](pipeline)
    words = "Some labels are older, because that run left contacts for later runs."
    assert words not in page(pipeline)
    assert pipeline.load("").code == 1
    assert words in page(pipeline)


def test_after_a_restore_no_picture_is_shown(pipeline: Pipeline) -> None:
    OUTCOMES["restored"](pipeline)
    assert pipeline.load("").code == 1
    assert "Labels are of" not in page(pipeline)
    assert " contains " not in page(pipeline)


# Local time


def test_people_read_local_time_and_machines_utc(pipeline: Pipeline) -> None:
    pipeline.target["report_timezone"] = "Australia/Sydney"
    assert pipeline.load(singer(people(2, "VIP"))).code == 0
    started = pipeline.report["started_at"]
    assert started == "2026-09-21T17:00:00+00:00"
    assert "2026-09-22 03:00 AEST" in page(pipeline)
    assert "UTC" not in page(pipeline)
    pipeline.load("")
    assert "Labels are of 22 September 2026" in page(pipeline)
    pipeline.target["api_password"] = 5
    pipeline.load("")
    assert "AEST" in page(pipeline), "even if the settings are invalid"


@pytest.mark.parametrize("name", ["Europe/Atlantis", "europe/berlin", "Europe", "../etc/passwd", ""])
def test_an_unknown_time_zone_is_refused(pipeline: Pipeline, sandbox: Sandbox, name: str) -> None:
    pipeline.target["report_timezone"] = name
    outcome = pipeline.load(singer(people(2, "VIP")))
    assert outcome.code == 1
    assert outcome.errors[-1].startswith(f"report_timezone is {name!r}")
    assert sandbox.journal.calls() == []


# The look of it


def test_one_more_segment_is_not_one_segments(pipeline: Pipeline) -> None:
    assert pipeline.load(singer([{"email": "p@example.com", "segments": [f"S{number}" for number in range(11)]}])).code == 0
    assert page(pipeline).count("<summary>The other segment</summary>") == 2


def test_a_label_is_broken_after_a_delimiter(pipeline: Pipeline) -> None:
    assert pipeline.load(singer(people(1, "<i>", "VIP"))).code == 0
    assert "&lt;i&gt;;<wbr>VIP" in section(page(pipeline), "The most frequent changes")


def test_charts_have_dates_and_show_values_on_hover(pipeline: Pipeline) -> None:
    days(pipeline)
    text = page(pipeline)
    assert '<span style="left:0.0%">21 Sep</span>' in section(text, "The last")
    assert "<title>2026-09-21 17:00 UTC: 3 created</title>" in section(text, "The last")
    assert "<title>21 Sep: 3; 21 Sep: 2; lowest 2, highest 3</title>" in section(text, "Contacts in each segment")


def test_more_than_one_import_is_explained(pipeline: Pipeline) -> None:
    days(pipeline)
    words = "Contacts that left the source go in an import of their own"
    assert words not in page(pipeline)
    removed = {"email": "p0000@example.com", "segments": [], "_sdc_deleted_at": "2026-09-21T00:00:00Z"}
    assert pipeline.load(singer([removed, *people(1, "VIP", first=9)])).code == 0
    assert pipeline.report["calls"]["import"] == 2
    assert words in page(pipeline)


# Rejected contacts


def test_rejected_contacts_are_listed_in_a_private_file_without_formulas(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.refuse = lambda email: "invalidDomain" if email.startswith(("=", "+", "p0001")) else None
    records = [{"email": "=cmd@example.com", "segments": ["=1+1"]}, {"email": "+x@example.com", "segments": []}]
    assert pipeline.load(singer([*records, *people(3, "VIP")])).code == 0
    path = reports(pipeline) / "rejected.csv"
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open(newline="") as file:
        rows = {row["address"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"'=cmd@example.com", "'+x@example.com", "p0001@example.com"}
    assert rows["'=cmd@example.com"]["labels"] == "'=1+1"
    assert {row["code"] for row in rows.values()} == {"invalidDomain"}
    text = page(pipeline)
    assert '<a href="rejected.csv">' in text
    assert "@example.com" not in text
    pipeline.sandbox.account.refuse = lambda _email: None
    assert pipeline.load(singer([*people(3, "Other"), *({**record, "segments": ["B"]} for record in records)])).code == 0
    assert path.read_text().count("\n") == 1
    assert "rejected.csv" not in page(pipeline)


def test_an_address_is_removed_from_the_file_of_rejected_contacts(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.refuse = lambda _email: "invalidDomain"
    pipeline.load(singer([{"email": "=cmd@example.com", "segments": ["A"]}, *people(2, "VIP")]))
    path = reports(pipeline) / "rejected.csv"
    before = path.read_text().splitlines()
    for email in ("=cmd@example.com", "p0001@example.com"):
        assert remove_address(path.parent, email) == 1
        assert remove_address(path.parent, email) == 0
    assert path.read_text().splitlines() == [line for line in before if "cmd@" not in line and "p0001@" not in line]
    assert len(before) == 4
    assert path.stat().st_mode & 0o777 == 0o600
    assert remove_address(path.with_name("missing"), "p0001@example.com") == 0


# For the campaign


def rules_of(names: list[str], *, enclosed: bool = False, **labels: Any) -> dict[str, Rule]:
    written = {"fields": ["NOSTOSEGMENT"], "delimiter": ";", "enclosed": enclosed, "renamed": {}} | labels
    return {rule.segment: rule for rule in rules(written, dict.fromkeys(names, 1))}


def rules_for(facts: dict[str, Any]) -> list[Rule]:
    return rules(facts["labels"], {name: segment["contacts"] for name, segment in facts["segments"].items()})


def test_a_rule_names_field_and_text_with_the_delimiter_if_labels_are_enclosed() -> None:
    plain = rules_of(["VIP", "VIP Lapsed", "New"], renamed={"New": "vip (new)"})
    assert {name: rule.text for name, rule in plain.items()} == {"VIP": "VIP", "VIP Lapsed": "VIP Lapsed", "New": "vip (new)"}
    assert plain["VIP"].also == ("VIP Lapsed", "New")
    enclosed = rules_of(["VIP", "VIP Lapsed"], enclosed=True)
    assert {name: rule.text for name, rule in enclosed.items()} == {"VIP": ";VIP;", "VIP Lapsed": ";VIP Lapsed;"}
    assert {rule.also for rule in enclosed.values()} == {()}


def test_the_text_of_a_rule_selects_in_the_account_who_is_in_the_segment(pipeline: Pipeline) -> None:
    pipeline.target |= {"activation_code": None, "enclose_segments": True, "segment_labels": {"Affinity: Brand 2": "Second"}}
    pipeline.activate()
    assert pipeline.load(singer(shop())).code == 0
    expected = {name: {one["email"] for one in shop() if name in one["segments"]} for name in ["VIP", "VIP Lapsed", *NAMES]}
    held = {email: str(contact.data_fields.get("NOSTOSEGMENT")) for email, contact in pipeline.sandbox.account.snapshot().items()}
    found = {rule.segment: {email for email, value in held.items() if rule.text in value} for rule in rules_for(pipeline.report)}
    assert found == expected
    assert "<code>;Second;</code>" in page(pipeline)


def test_it_is_safe_to_mail_half_an_hour_after_everything_is_delivered(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(3, "VIP")))
    facts = pipeline.report
    finished = datetime.datetime.fromisoformat(facts["finished_at"])
    assert datetime.datetime.fromisoformat(facts["safe_to_mail_at"]) - finished == datetime.timedelta(minutes=30)
    assert f"Safe to mail from {facts['safe_to_mail_at'][:16].replace('T', ' ')} UTC on." in page(pipeline)


@pytest.mark.parametrize("kind", [kind for kind in OUTCOMES if kind != "delivered"])
def test_no_other_outcome_claims_that_it_is_safe_to_mail(kind: str, pipeline: Pipeline) -> None:
    OUTCOMES[kind](pipeline)
    assert pipeline.report["safe_to_mail_at"] is None
    assert "Safe to mail" not in page(pipeline)


# What needs a person


def test_a_day_without_trouble_says_so(pipeline: Pipeline) -> None:
    assert pipeline.load(singer(people(3, "VIP"))).code == 0
    text = page(pipeline)
    assert "Nothing needs your attention." in text
    assert "Needs attention" not in text
    assert "All changes of the source (usually Nosto) are delivered." in text


def test_a_review_says_that_the_given_code_is_for_other_settings(pipeline: Pipeline) -> None:
    words = "The settings contain an activation code, but not the one below."
    pipeline.target |= {"segment_delimiter": "|"}
    assert pipeline.load(singer(people(3, "VIP"))).code == 1
    assert words in page(pipeline)
    assert pipeline.report["review"]["code_given"] is True
    pipeline.target["activation_code"] = None
    assert pipeline.load(singer(people(3, "VIP"))).code == 1
    assert words not in page(pipeline)


def test_a_review_of_an_input_that_broke_off_warns(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(2, "VIP"), state={"bookmarks": {"people": {"replication_key_value": "2026-11-01"}}}))
    pipeline.target["activation_code"] = None
    pipeline.load("".join(singer(people(3, "VIP Lapsed")).splitlines(keepends=True)[:-1]))
    assert "Run again before you activate." in section(page(pipeline), "Also look at")


def test_the_last_rehearsal_is_shown(pipeline: Pipeline) -> None:
    stored = {
        "account": {"id": 101, "name": "Demo shop"},
        "finished_at": "2026-11-01T10:00:00+00:00",
        "counts": {"confirmed": 20, "refuted": 1, "not tested": 2},
        "findings": [{"title": "Null clears a data field", "verdict": "refuted"}],
    }
    pipeline.load(singer(people(1, "VIP")))
    assert "none for this account" in page(pipeline)
    (reports(pipeline) / "rehearsal.json").write_text(json.dumps(stored))
    pipeline.load(singer(people(1, "VIP")))
    assert "20 confirmed, 1 refuted, 2 not tested. Refuted: Null clears a data field" in page(pipeline)
    assert pipeline.report["rehearsal"]["refuted_titles"] == ["Null clears a data field"]
    assert deviations(pipeline.report) == []
    pipeline.target["activation_code"] = None
    pipeline.load(singer(people(1, "VIP")))
    assert "Rehearsal: 2026-11-01 10:00 UTC, 20 confirmed" in section(page(pipeline), "Your decision")
    assert "Rehearsal: 2026-11-01 10:00 UTC, 20 confirmed" in (reports(pipeline) / "review.txt").read_text()


def test_a_dry_run_of_an_input_that_broke_off_claims_no_delivery(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(2, "VIP"), state={"bookmarks": {"people": {"replication_key_value": "2026-11-01"}}}))
    pipeline.target["dry_run"] = True
    pipeline.load("".join(singer(people(3, "VIP Lapsed")).splitlines(keepends=True)[:-1]))
    text = page(pipeline)
    assert pipeline.report["outcome"] == "incomplete input"
    assert "Nothing was written; the next run receives the rest." in text
    assert "What would change in dotdigital" in text
    assert "What happened" not in text


def test_commands_leave_no_run_in_the_history(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(2, "VIP")))
    before = history(pipeline)
    assert run_target(pipeline.target, "", pipeline.time, review=True).code == 0
    assert run_target(pipeline.target, "", pipeline.time, runs=True).code == 0
    assert history(pipeline) == before


# Two runs and one folder


def test_a_second_run_leaves_the_report_of_the_first(pipeline: Pipeline, sandbox: Sandbox) -> None:
    outcomes: list[Outcome] = []
    seen: list[Any] = []

    def start_another(_request: object) -> None:
        outcomes.append(run_target(pipeline.target, singer(people(2, "VIP")), pipeline.time))

    assert pipeline.load(singer(people(2, "VIP"))).code == 0
    first, page_before = pipeline.report, page(pipeline)
    sandbox.faults.add(Fault("rewrite", method="PUT", before=start_another, rewrite=lambda response: response))
    sandbox.faults.add(Fault("drop_before", path="import/", before=lambda _: seen.append((pipeline.report, page(pipeline)))))
    assert pipeline.load(singer(people(2, "Lapsed"))).code == 0
    assert (outcomes[0].code, outcomes[0].output) == (1, "")
    assert outcomes[0].errors[-1].startswith("Another run is working on this account")
    assert seen == [(first, page_before)]
    assert pipeline.report["outcome"] == "delivered"
    kept = history(pipeline)
    assert sorted(past["outcome"] for past in kept) == ["delivered", "delivered", "failed"]
    named = next(path for path in (reports(pipeline) / "runs").iterdir() if str(path) in outcomes[0].log)
    assert json.loads(named.read_text())["problems"][0] == outcomes[0].errors[-1]


def test_files_that_a_killed_run_left_half_written_are_removed(pipeline: Pipeline) -> None:
    assert pipeline.load(singer(people(2, "VIP"))).code == 0
    old, new = reports(pipeline) / ".rejected.csv.123.part", reports(pipeline) / ".report.json.456.part"
    runs = reports(pipeline) / "runs"
    lost = (old, runs / ".x.json.123.part", runs / "20200101T000000.000000Z-000000.csv")
    for path in (new, *lost):
        path.write_text("somebody@example.com")
    for path in lost:
        os.utime(path, (0, 0))
    assert pipeline.load(singer(people(2, "VIP"))).code == 0
    assert [path.exists() for path in lost] == [False] * 3
    assert new.exists(), "another process may be writing it"
