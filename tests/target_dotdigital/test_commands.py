"""Commands that answer an operator's questions from the ledger: runs, restore without a run, explain, rejected."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from nosto_dotdigital_sandbox import Fault
from nosto_dotdigital_sandbox.web import Response
from support.cases import slow_except
from support.oracle import FIELD
from support.running import BIN, HOURS, Outcome, Pipeline, run_target, singer
from target_dotdigital.cli import CommandLine
from target_dotdigital.errors import LedgerError, SettingsError
from target_dotdigital.ledger.database import open_ledger

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result
    from nosto_dotdigital_sandbox import Sandbox

LEDGERS, SLOW_LEDGERS = ["sqlite"], ["postgresql"]
ANN, BOB, CLEO = "ann@example.com", "bob@example.com", "cleo@example.com"
HOUR = 3600.0


def people(**names: list[str]) -> list[dict[str, Any]]:
    return [{"email": f"{who}@example.com", "segments": segments} for who, segments in names.items()]


def day(value: object, *, stream: str = "people") -> dict[str, Any]:
    return {"bookmarks": {stream: {"replication_key": "exported_at", "replication_key_value": value}}}


def ask(pipeline: Pipeline, **options: Any) -> Outcome:
    """Run a command; it must not write to dotdigital or log an address."""
    writes = len(pipeline.sandbox.journal.writes())
    outcome = run_target(pipeline.target, "", pipeline.time, **options)
    assert len(pipeline.sandbox.journal.writes()) == writes
    assert "@example.com" not in outcome.log
    return outcome


def starts(pipeline: Pipeline, **options: Any) -> list[dict[str, Any]]:
    outcome = ask(pipeline, runs=True, json=True, **options)
    assert outcome.code == 0, outcome.log
    return json.loads(outcome.output)  # type: ignore[no-any-return]


def runs(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Return the starts that became runs of the ledger."""
    return [start for start in starts(pipeline) if start["run"] is not None]


def explained(pipeline: Pipeline, email: str = ANN, *, live: bool = False) -> dict[str, Any]:
    outcome = ask(pipeline, explain=email, live=live, json=True)
    assert outcome.code == 0, outcome.log
    facts = json.loads(outcome.output)
    return facts if live else facts["scopes"][0]  # type: ignore[no-any-return]


def written(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def reject(sandbox: Sandbox, **codes: str) -> None:
    """Let dotdigital reject contacts, by the local part of the address."""
    sandbox.account.refuse = lambda email: codes.get(email.partition("@")[0])


# Runs


def test_runs_lists_figures_times_and_the_bookmark_of_the_source(pipeline: Pipeline, sandbox: Sandbox) -> None:
    before = pipeline.time.wall()
    pipeline.load(singer(people(ann=["A"], bob=["A"], cleo=["A"]), state=day("2026-11-01T04:00:00Z")))
    first, first_end = written(before + HOURS), written(pipeline.time.wall())
    pipeline.time.seconds += HOUR
    reject(sandbox, cleo="tooBusy")
    pipeline.target["max_clear_percent"] = 100
    pipeline.load(singer(people(ann=[], bob=["B"], cleo=[], dan=["B"]), state=day("2026-11-02T04:00:00Z")))
    second, earlier = runs(pipeline)
    assert second["run"] > earlier["run"]
    assert (earlier["started_at"], earlier["finished_at"]) == (first, first_end)
    assert earlier["duration_seconds"] == datetime.timedelta.total_seconds(
        datetime.datetime.fromisoformat(first_end) - datetime.datetime.fromisoformat(first)
    )
    counts = ("read", "sent", "created", "updated", "cleared", "rejected", "unconfirmed")
    assert [earlier[name] for name in counts] == [3, 3, 3, 0, 0, 0, 0]
    assert [second[name] for name in counts] == [4, 4, 1, 2, 1, 1, 0]
    assert (earlier["outcome"], second["outcome"]) == ("delivered", "delivered")
    assert [run["bookmarks"] for run in (earlier, second)] == [{"people": f"2026-11-0{number}T04:00:00Z"} for number in (1, 2)]
    text = ask(pipeline, runs=True)
    assert "2026-11-02T04:00:00Z" in text.output.splitlines()[1]
    assert ask(pipeline, runs=True, limit=1).output.count("delivered") == 1
    assert "Older and not shown: 1 run." in ask(pipeline, runs=True, limit=1).output
    assert len(starts(pipeline, limit=1)) == 1


@pytest.mark.parametrize("value", ["ann@example.com", None, {"deep": 1}, True])
def test_a_bookmark_that_is_no_plain_value_or_could_be_an_address_is_not_shown(pipeline: Pipeline, value: object) -> None:
    pipeline.load(singer(people(ann=["A"]), state=day(value) | {"other": 1}))
    assert [run["bookmarks"] for run in runs(pipeline)] == [{}]


def test_every_start_is_listed_and_those_that_may_not_write_have_no_number(pipeline: Pipeline) -> None:
    crowd = {f"p{number}": ["A"] for number in range(150)}
    pipeline.load(singer(people(**crowd)))
    pipeline.load(singer(people(**{name: ["B"] for name in crowd})))
    pipeline.target["dry_run"] = True
    pipeline.load(singer(people(**crowd)))
    pipeline.target |= {"dry_run": False, "activation_code": "WRONG"}
    pipeline.load(singer(people(**crowd)))
    assert [(start["run"] is None, start["outcome"], start["sent"]) for start in starts(pipeline)] == [
        *[(True, "not activated", None), (True, "dry run", None)],
        *[(False, "braked", 0), (False, "delivered", 150)],
    ]


def test_a_failed_run_is_listed_with_what_it_sent(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.add_contact(ANN)
    sandbox.account.forget_rows = 1
    assert pipeline.load(singer(people(ann=["A"], bob=["A"]))).code == 1
    (run,) = runs(pipeline)
    assert (run["outcome"], run["sent"], run["created"], run["unconfirmed"]) == ("failed", 2, 1, 1)


def test_reviews_and_wrong_restores_do_not_look_as_if_they_were_broken_off(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(ann=["A"])))
    assert ask(pipeline, review=True).code == 0
    assert ask(pipeline, restore=True, run=77).code == 1
    assert ask(pipeline, reconcile=True).code == 0
    assert [run["outcome"] for run in runs(pipeline)] == ["reconciled", "failed", "delivered"], "a review is not a run"


def test_failed_starts_and_days_without_input_are_listed(pipeline: Pipeline) -> None:
    password = pipeline.target["api_password"]
    pipeline.load(singer(people(ann=["A"])))
    pipeline.load("")
    pipeline.target["api_password"] = "wrong"
    pipeline.load(singer(people(ann=["B"])))
    pipeline.target |= {"api_password": password, "data_field": "OTHERFIELD", "activation_code": "WRONG"}
    pipeline.load(singer(people(ann=["B"])))
    pipeline.target |= {"data_field": "NOSTOSEGMENT", "dry_run": "perhaps"}
    pipeline.load(singer(people(ann=["B"])))
    pipeline.target["dry_run"] = False
    outcomes = [start["outcome"] for start in starts(pipeline)]
    assert outcomes == ["failed", "failed", "no input", "delivered"], "a run for another data field is not listed"
    assert all(start["started_at"] and start["duration_seconds"] is not None for start in starts(pipeline))
    assert [start["outcome"] for start in starts(pipeline, limit=2)] == outcomes[:2]
    assert "Older and not shown: 1 run." in ask(pipeline, runs=True, limit=3).output
    # what restore lists can be put back
    assert "no input" not in ask(pipeline, restore=True).output


def test_starts_are_listed_even_if_the_ledger_is_unusable(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(ann=["A"])))
    pipeline.target["ledger_url"] = f"sqlite:///{pipeline.folder / 'lost.db'}"
    outcome = ask(pipeline, runs=True, json=True)
    assert (outcome.code, [start["outcome"] for start in json.loads(outcome.output)]) == (1, ["delivered"])
    assert isinstance(outcome.error, LedgerError)


def test_a_run_without_an_end_may_be_working_only_if_it_is_the_last(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(ann=["A"])))
    engine = sa.create_engine(pipeline.target["ledger_url"])
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE dotdigital_runs SET outcome = NULL, finished_at = NULL, figures = NULL")
    engine.dispose()
    assert [run["outcome"] for run in runs(pipeline)] == ["unfinished"]
    pipeline.load(singer(people(ann=["B"])))
    assert [run["outcome"] for run in runs(pipeline)] == ["delivered", "broken off"]


def test_an_import_of_an_earlier_run_counts_where_its_outcome_was_received(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.load(singer(people(ann=["A"])))
    pipeline.target |= {"import_timeout": 60, "max_clear_percent": 100}
    sandbox.account.import_polls = 10_000
    assert pipeline.load(singer(people(ann=[]))).code == 1
    for job in sandbox.account.imports.values():
        job.polls = 0
    assert explained(pipeline)["status"] == "unknown"
    pipeline.load(singer([]))
    third, second, _ = runs(pipeline)
    assert (second["cleared"], second["unconfirmed"]) == (0, 1)
    assert (third["sent"], third["updated"], third["cleared"]) == (1, 1, 1)
    delivery = explained(pipeline)["deliveries"][0]
    assert (delivery["run"], delivery["result_run"]) == (second["run"], third["run"])


# Restore


def test_restore_without_a_run_lists_those_that_can_be_put_back(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert pipeline.load(singer([])).code == 0
    assert "there is nothing to put back" in ask(pipeline, restore=True).output
    pipeline.load(singer(people(ann=["A"])))
    reject(sandbox, bob="invalidDomain")
    pipeline.load(singer(people(bob=["A"])))
    numbers = [run["run"] for run in runs(pipeline)]
    outcome = ask(pipeline, restore=True)
    assert outcome.code == 0, outcome.log
    listed = [int(line.split()[0]) for line in outcome.output.splitlines() if line.split()[0].isdigit()]
    assert listed == [numbers[1]], "quiet runs and runs of rejected contacts alone have nothing to put back"
    assert outcome.output.splitlines()[-1].startswith("Nothing was done.")
    assert len(runs(pipeline)) == 3
    assert restore(pipeline, numbers[1])["restored_run"] == numbers[1]


def test_a_dry_run_shows_what_would_be_restored(pipeline: Pipeline, sandbox: Sandbox) -> None:
    crowd = {f"p{number}": ["A"] for number in range(150)}
    pipeline.load(singer(people(**crowd)))
    pipeline.target["max_change_percent"] = 100
    pipeline.load(singer(people(**{name: ["B"] for name in crowd})))
    runs_before = runs(pipeline)
    sandbox.journal.clear()
    pipeline.target |= {"dry_run": "yes", "max_change_percent": 50}
    outcome = ask(pipeline, restore=True, run=runs_before[0]["run"])
    assert outcome.code == 0, outcome.log
    lines = outcome.output.splitlines()
    assert "150 contacts: 150 updated, 0 cleared" in lines[0]
    assert lines[2].split() == ["150", "B", "A"]
    assert "brakes would stop it" in lines[3]
    assert "max_change_percent" in lines[3]
    assert "Nothing was restored" in lines[4]
    assert (pipeline.report["outcome"], sandbox.journal.writes(), runs(pipeline)) == ("dry run", [], runs_before)


def test_a_restored_contact_has_no_sizes_and_no_time_to_mail(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(ann=["A"])))
    pipeline.load(singer(people(ann=["B"])))
    assert restore(pipeline, runs(pipeline)[0]["run"])["outcome"] == "delivered"
    assert pipeline.report["segments"] == {}
    assert explained(pipeline)["safe_to_mail_at"] is None
    # the sizes of the day after are compared with the last ones of the source
    pipeline.state = None
    pipeline.load(singer(people(ann=["B"])))
    assert pipeline.report["segments"]["B"]["change"] == 0


def restore(pipeline: Pipeline, run: int) -> dict[str, Any]:
    pipeline.target["max_clear_percent"] = 100
    assert run_target(pipeline.target, "", pipeline.time, restore=True, run=run).code == 0
    return runs(pipeline)[0]


# Explain


def test_explain_shows_the_way_from_the_source_to_dotdigital(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.load(singer(people(ann=["B", "A"]), state=day("2026-11-01")))
    run = runs(pipeline)[0]
    pipeline.load(singer(people(ann=["A", "B"], bob=["A"]), state=day("2026-11-02")))
    facts = explained(pipeline, " Ann@Example.com ")
    book = sandbox.account.book_named("Nosto contacts")
    assert book is not None
    assert facts["source"] == {
        "stream": "people",
        "segments": ["A", "B"],
        "removed": False,
        "run": run["run"],
        "run_started_at": run["started_at"],
        "bookmarks": {"people": "2026-11-01"},
    }
    assert facts["desired"] == facts["confirmed"] == {FIELD: "A;B"}
    assert (facts["status"], facts["configured"], facts["in_address_book"]) == ("confirmed", True, True)
    assert facts["contact_id"] == sandbox.account.by_email[ANN].id
    (delivery,) = facts["deliveries"]
    assert (delivery["run"], delivery["after"], delivery["outcome"]) == (run["run"], {FIELD: "A;B"}, "created or updated")
    text = ask(pipeline, explain=ANN).output
    for words in (
        ANN,
        "Up to date",
        "A, B (stream people)",
        f"since run {run['run']} of",
        "source at 2026-11-01",
        "in the address book",
    ):
        assert words in text, words


def test_explain_says_from_when_a_contact_is_safe_to_mail(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert pipeline.load(singer(people(ann=["A"]))).code == 0
    (run,) = runs(pipeline)
    assert pipeline.load(singer([])).code == 0
    facts = explained(pipeline)
    safe = datetime.datetime.fromisoformat(facts["safe_to_mail_at"])
    assert facts["confirmed_at"] == run["finished_at"]
    assert safe - datetime.datetime.fromisoformat(run["finished_at"]) == datetime.timedelta(minutes=30)
    text = ask(pipeline, explain=ANN).output
    assert f"Safe to mail: from {safe:%Y-%m-%d %H:%M} UTC" in text
    assert "check --find EMAIL" in text
    # labels that dotdigital has not confirmed may be in any segment there
    reject(sandbox, ann="invalidDomain")
    pipeline.load(singer(people(ann=["B"])))
    facts = explained(pipeline)
    assert (facts["confirmed_at"], facts["safe_to_mail_at"]) == (run["finished_at"], None)
    # nobody can say since when dotdigital has had labels that were only read back
    sandbox.account.add_contact(BOB, data_fields={FIELD: "A"})
    assert ask(pipeline, reconcile=True).code == 0
    assert explained(pipeline, BOB)["confirmed_at"] is None
    assert "read back from dotdigital" in ask(pipeline, explain=BOB).output


def test_explain_lists_labels_that_do_not_fit(pipeline: Pipeline) -> None:
    pipeline.target["max_value_length"] = 20
    pipeline.activate()
    assert pipeline.load(singer(people(ann=["A", "B" * 18, "C"]))).code == 0
    facts = explained(pipeline)
    assert (facts["left_out"], facts["confirmed"]) == (["C"], {FIELD: f"A;{'B' * 18}"})
    assert "Left out:     C (" in ask(pipeline, explain=ANN).output


def test_explain_of_an_unknown_address_is_one_line(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(ann=["A"])))
    outcome = ask(pipeline, explain=BOB)
    assert (outcome.code, outcome.output) == (1, "")
    assert outcome.errors == [outcome.errors[-1]]
    assert isinstance(outcome.error, SettingsError)
    assert json.loads(ask(pipeline, explain=BOB, json=True).output)["scopes"] == []
    pipeline.target["exclude_emails"] = ["BOB@*"]
    assert "exclude_emails" in ask(pipeline, explain=BOB).errors[-1]


def test_explain_of_a_rejected_contact(pipeline: Pipeline, sandbox: Sandbox) -> None:
    reject(sandbox, ann="tooBusy", bob="invalidDomain")
    pipeline.load(singer(people(ann=["A"], bob=["A"])))
    since = explained(pipeline)["rejection"]["since"]
    pipeline.time.seconds += 30 * HOUR
    pipeline.load(singer([]))
    facts = explained(pipeline)
    rejection = facts["rejection"]
    assert (facts["status"], rejection["code"], rejection["count"], rejection["since"]) == ("rejected", "tooBusy", 2, since)
    times = [datetime.datetime.fromisoformat(rejection[name]) for name in ("since", "last", "next_attempt")]
    assert times[1] - times[0] >= datetime.timedelta(hours=30)
    assert times[2] - times[1] == datetime.timedelta(hours=20)
    assert "Sent again by the first run after" in facts["explanation"]
    assert [delivery["outcome"] for delivery in facts["deliveries"]] == ["rejected (tooBusy)"] * 2
    pipeline.time.seconds += 21 * HOUR
    assert "The next run sends it again" in explained(pipeline)["explanation"]
    other = explained(pipeline, BOB)
    assert (other["status"], other["rejection"]["next_attempt"]) == ("rejected", None)
    assert "Correct it in the shop. Not sent again until its labels change." in other["explanation"]
    # another code begins a series of its own, and a success ends it
    reject(sandbox, ann="otherCode")
    pipeline.load(singer([]))
    assert explained(pipeline)["rejection"]["since"] > since
    reject(sandbox)
    pipeline.time.seconds += 200 * HOUR
    pipeline.load(singer([]))
    assert (explained(pipeline)["status"], explained(pipeline)["rejection"]) == ("confirmed", None)


def test_explain_of_contacts_that_are_held(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.outcomes = ["RejectedByWatchdog"]
    assert pipeline.load(singer(people(ann=["A"]))).code == 1
    facts = explained(pipeline)
    assert facts["status"] == "held"
    assert facts["held_import"] in facts["explanation"]
    assert facts["deliveries"][0]["outcome"] == "held, the Data Watchdog rejected the import"
    assert ask(pipeline, release=True).code == 0
    assert explained(pipeline)["status"] == "pending"


def test_explain_of_contacts_that_wait_for_their_turn(pipeline: Pipeline) -> None:
    pipeline.target["max_contacts_per_run"] = 1
    pipeline.load(singer(people(ann=["A"], bob=["A"], cleo=["A"])))
    assert explained(pipeline)["status"] == "confirmed"
    facts = explained(pipeline, CLEO)
    assert facts["status"] == "waiting"
    assert "2 contacts are pending, and max_contacts_per_run lets a run send 1" in facts["explanation"]
    assert "Deliveries:   none" in ask(pipeline, explain=CLEO).output


def test_explain_of_contacts_that_were_sent_and_not_confirmed(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.add_contact(ANN)
    sandbox.account.forget_rows = 1
    assert pipeline.load(singer(people(ann=["A"]))).code == 1
    facts = explained(pipeline)
    assert (facts["status"], facts["result_unknown"]) == ("pending", True)
    assert "It was sent, but dotdigital did not confirm it." in facts["explanation"]
    assert facts["deliveries"][0]["outcome"] == "unconfirmed"


def test_explain_of_contacts_that_left_the_source(pipeline: Pipeline) -> None:
    pipeline.target["max_clear_percent"] = 100
    pipeline.load(singer(people(ann=["A"])))
    pipeline.load(singer([{"email": ANN, "segments": [], "_sdc_deleted_at": "2026-11-02T04:00:00Z"}]))
    facts = explained(pipeline)
    assert (facts["status"], facts["source"]["removed"], facts["confirmed"]) == ("removed", True, {})
    assert facts["deliveries"][0]["before"] == {FIELD: "A"}


@pytest.mark.parametrize(("uploads", "segments"), [("none", ["A"]), ("with_segments", [])])
def test_explain_of_contacts_that_may_not_be_created(pipeline: Pipeline, uploads: str, segments: list[str]) -> None:
    pipeline.target["upload_emails"] = uploads
    pipeline.activate()
    assert pipeline.load(singer(people(ann=segments))).code == 0
    facts = explained(pipeline)
    assert (facts["status"], facts["pending"], facts["deliveries"]) == ("not created", False, [])
    assert facts["in_address_book"] is (None if uploads == "none" else False)
    assert "upload_emails" in facts["explanation"]


def test_explain_of_orphaned_labels(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.add_field(FIELD)
    sandbox.account.add_contact(ANN, data_fields={FIELD: "old"})
    pipeline.load(singer(people(bob=["A"])))
    facts = explained(pipeline)
    assert (facts["status"], facts["source"]["stream"], facts["confirmed"]) == ("orphaned", None, {FIELD: "old"})


def test_explain_of_contacts_that_are_excluded_later(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(ann=["A"])))
    pipeline.target["exclude_emails"] = ["ann@*"]
    assert "exclude_emails matches the address" in ask(pipeline, explain=ANN).output
    assert json.loads(ask(pipeline, explain=ANN, json=True).output)["excluded"] is True


def test_explain_live_shows_what_dotdigital_holds(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.load(singer(people(ann=["A"], bob=["A"])))
    contact = sandbox.account.by_email[ANN]
    contact.status = "unsubscribed"
    contact.lists.clear()
    sandbox.account.edit(ANN, FIELD, "by hand")
    sandbox.journal.clear()
    facts = explained(pipeline, live=True)
    assert facts["live"] == {
        "contact_id": contact.id,
        "labels": {FIELD: "by hand"},
        "in_address_book": False,
        "email_status": "unsubscribed",
        "gets_mail": False,
    }
    contacts = [call for call in sandbox.journal.calls("dotdigital") if call.path.startswith("/contacts/v3")]
    assert [(call.method, call.path) for call in contacts] == [("GET", "/contacts/v3/email/ann%40example.com")]
    text = ask(pipeline, explain=ANN, live=True).output
    assert "by hand; not in the address book; e-mail status unsubscribed" in text
    assert "Drift:" in text
    assert "dotdigital sends no marketing mail to a contact that is unsubscribed" in text
    other = ask(pipeline, explain=BOB, live=True).output
    assert "Drift:" not in other
    assert "No mail:" not in other
    sandbox.account.remove_contact(BOB)
    assert "Live:         not in dotdigital" in ask(pipeline, explain=BOB, live=True).output
    sandbox.account.add_contact(CLEO)
    outcome = ask(pipeline, explain=CLEO, live=True)
    assert outcome.code == 1
    assert "e-mail status subscribed" in outcome.output
    assert "dotdigital holds the contact" in outcome.errors[-1]


@pytest.mark.fields("NOSTOSEGMENT_2")
def test_other_data_fields_of_the_account_are_mentioned_after_the_configured_one(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.add_field("NOSTOSEGMENT_2")
    pipeline.load(singer(people(ann=["A"])))
    pipeline.target |= {"data_field": "NOSTOSEGMENT_2"}
    pipeline.activate()
    pipeline.load(singer(people(ann=["B"], bob=["B"])))
    facts = json.loads(ask(pipeline, explain=ANN, json=True).output)["scopes"]
    assert [(scope["data_field"], scope["configured"]) for scope in facts] == [("NOSTOSEGMENT_2", True), ("NOSTOSEGMENT", False)]
    text = ask(pipeline, explain=ANN).output
    assert "Also known:   address book 'nosto contacts', data field NOSTOSEGMENT (not" in text
    assert (
        "Also in this ledger: 1 run for address book 'nosto contacts', data field NOSTOSEGMENT." in ask(pipeline, runs=True).output
    )
    assert len(runs(pipeline)) == 1


# Rejected


def test_rejected_lists_what_to_do(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert pipeline.load(singer([])).code == 0
    assert ask(pipeline, rejected=True).output == "No contact is rejected.\n"
    reject(sandbox, ann="tooBusy", bob="invalidDomain")
    pipeline.load(singer(people(ann=["A", "B"], bob=["A"], cleo=["A"])))
    outcome = ask(pipeline, rejected=True)
    assert outcome.code == 0
    assert "1  invalidDomain: The domain of the address does not exist. Correct it in the shop." in outcome.output
    rows = {line.split()[0]: line for line in outcome.output.splitlines() if "@" in line}
    assert rows.keys() == {ANN, BOB}
    assert "A;B" in rows[ANN]
    assert rows[ANN].endswith("next run")
    assert rows[BOB].endswith("when it changes")


@pytest.mark.parametrize("code", slow_except({"invalidEmail"}, ["invalidEmail", "tooBusy"]))
@pytest.mark.parametrize("how", ["incremental", "whole"])
@pytest.mark.parametrize(
    "what", ["label taken back", "new contact leaves", "new contact without labels leaves", "put right by hand"]
)
def test_what_is_not_wanted_any_more_is_not_rejected_any_more(
    pipeline: Pipeline, sandbox: Sandbox, what: str, how: str, code: str
) -> None:
    others = people(bob=["A"], cleo=["A"])
    labels = [] if "without" in what else ["A"]

    def load(*contacts: dict[str, Any]) -> None:
        text = singer([*contacts, *others], state=day(pipeline.time.wall()))
        if how == "whole":
            lines = [json.loads(line) for line in text.splitlines()]
            lines = [line | {"version": 1} if line["type"] == "RECORD" else line for line in lines]
            lines.insert(-1, {"type": "ACTIVATE_VERSION", "stream": "people", "version": 1})
            text = "".join(json.dumps(line) + "\n" for line in lines)
        pipeline.time.skipped += 30 * HOUR
        outcome = pipeline.load(text)
        assert outcome.code == 0, outcome.log

    if "leaves" not in what:
        load(*people(ann=labels))
    reject(sandbox, ann=code)
    load(*people(ann=["B"] if "leaves" not in what else labels))
    assert (pipeline.report["still_rejected"], explained(pipeline)["rejection"]["code"]) == (1, code)
    assert (pipeline.folder / "reports" / "rejected.csv").read_text().count(ANN) == 1
    if "leaves" in what:
        load(*([{"email": ANN, "segments": [], "_sdc_deleted_at": "2026-11-01T00:00:00Z"}] if how == "incremental" else []))
    elif what == "label taken back":
        load(*people(ann=labels))
    else:
        sandbox.account.edit(ANN, FIELD, "B")
        assert ask(pipeline, reconcile=True).code == 0
        load(*people(ann=["B"]))
    assert (pipeline.report["still_rejected"], pipeline.report["rejected"]) == (0, 0)
    assert explained(pipeline)["rejection"] is None
    assert explained(pipeline)["status"] == ("removed" if "leaves" in what else "confirmed")
    assert ANN not in (pipeline.folder / "reports" / "rejected.csv").read_text()
    assert ANN not in (pipeline.folder / "reports" / "rejected.singer.jsonl").read_text()
    assert ask(pipeline, rejected=True).output == "No contact is rejected.\n"


def test_reconcile_tries_once_more_what_was_rejected_for_good(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert pipeline.load(singer(people(ann=["A"], bob=["A"]))).code == 0
    reject(sandbox, ann="globallySuppressed", bob="globallySuppressed")
    assert pipeline.load(singer(people(ann=["B"], bob=["B"]))).code == 0
    assert pipeline.report["rejected"] == 2
    # lifted for one of them, by a person in dotdigital
    reject(sandbox, bob="globallySuppressed")
    assert pipeline.load(singer([])).code == 0
    assert pipeline.report["sent"] == 0
    assert ask(pipeline, reconcile=True).code == 0
    assert pipeline.load(singer([])).code == 0
    assert (pipeline.report["updated"], pipeline.report["rejected"]) == (1, 1)
    # and not every day
    assert pipeline.load(singer([])).code == 0
    assert pipeline.report["sent"] == 0


def test_rejected_as_csv_is_private_and_runs_in_no_spreadsheet(pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.account.refuse = lambda email: "invalidDomain" if email != CLEO else None
    records = [
        *(
            {"email": email, "segments": ["=1+1", 'with "quotes", and commas']}
            for email in (ANN, "=x@example.com", "+y@example.com")
        ),
        {"email": BOB, "segments": []},
        {"email": CLEO, "segments": ["A"]},
    ]
    pipeline.load(singer(records))
    path = tmp_path / "rejected.csv"
    path.write_text("an earlier file that everybody may read")
    path.chmod(0o644)
    outcome = ask(pipeline, rejected=True, csv=path)
    assert outcome.output == f"4 rejected contacts written to {path}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    labels = '\'=1+1;with "quotes", and commas'
    assert [(row["address"], row["labels"]) for row in rows] == [
        ("'+y@example.com", labels),
        ("'=x@example.com", labels),
        (ANN, labels),
        (BOB, ""),
    ]
    assert {row["code"] for row in rows} == {"invalidDomain"}
    assert {row["advice"] for row in rows} == {"The domain of the address does not exist. Correct it in the shop."}
    assert {row["first_seen"] == row["last_seen"] != "" for row in rows} == {True}
    assert {row["next_attempt"] for row in rows} == {"when it changes"}
    on_screen = ask(pipeline, rejected=True, csv="-")
    assert list(csv.DictReader(io.StringIO(on_screen.output))) == rows
    assert sorted(tmp_path.glob(".*.part")) == []


@pytest.mark.parametrize("name", ["", "missing/file.csv"])
def test_a_csv_file_that_cannot_be_written_is_one_line(pipeline: Pipeline, tmp_path: Path, name: str) -> None:
    assert pipeline.load(singer([])).code == 0
    outcome = ask(pipeline, rejected=True, csv=str(tmp_path / name))
    assert (outcome.code, outcome.output) == (1, "")
    assert "--csv" in outcome.errors[-1]


def test_the_file_of_rejected_contacts_keeps_content_and_reasons_over_quiet_and_braked_runs(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    reject(sandbox, p1="invalidDomain")
    crowd = {f"p{number}": ["A"] for number in range(150)}
    pipeline.load(singer(people(**crowd)))
    path = pipeline.folder / "reports" / "rejected.singer.jsonl"
    first = path.read_text()
    record = {"email": "p1@example.com", "segments": ["A"], "reason": "invalidDomain"}
    assert [line["record"] for line in map(json.loads, first.splitlines()[1:])] == [record]
    assert pipeline.load(singer([])).code == 0
    assert path.read_text() == first
    assert pipeline.load(singer(people(**{name: ["B"] for name in crowd}))).code == 1
    assert pipeline.report["outcome"] == "braked"
    assert path.read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600


# On the command line


def command(pipeline: Pipeline, *arguments: str, file: str = "config.json", **settings: Any) -> Result:
    """Run the command line with a file of settings; CONFIG stands for its path."""
    path = pipeline.folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(pipeline.target | settings))
    return CliRunner().invoke(CommandLine.get_singer_command(), [str(path) if word == "CONFIG" else word for word in arguments])


def test_the_options_of_the_commands(pipeline: Pipeline, sandbox: Sandbox) -> None:
    reject(sandbox, bob="invalidDomain")
    pipeline.load(singer(people(ann=["Ä"], bob=["A"])))
    pipeline.load(singer(people(ann=["B"])))
    listed = command(pipeline, "--config", "CONFIG", "runs", "--limit", "1", "--json")
    assert listed.exit_code == 0, listed.output
    assert [run["sent"] for run in json.loads(listed.stdout)] == [1]
    facts = json.loads(command(pipeline, "explain", "--json", "--config", "CONFIG", ANN).stdout)
    assert (facts["email"], facts["scopes"][0]["deliveries"][0]["before"]) == (ANN, {FIELD: "Ä"})
    found = command(pipeline, "rejected", "--csv", "-", "--config", "CONFIG")
    assert found.stdout.splitlines()[1].startswith(f"{BOB},A,invalidDomain,")
    unknown = command(pipeline, "--config", "CONFIG", "explain", "nobody@example.com")
    assert (unknown.exit_code, unknown.stdout) == (1, "")


def test_files_of_settings_before_and_after_the_name_of_a_command_are_read_in_this_order(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.load(singer(people(ann=["A"])))
    assert command(pipeline, file="first.json", ledger_url="sqlite:////nowhere/ledger.db").exit_code == 1
    first = str(pipeline.folder / "first.json")
    assert command(pipeline, "--config", first, "rejected", "--config", "CONFIG").exit_code == 0
    assert command(pipeline, "--config", "CONFIG", "rejected", "--config", first).exit_code == 1
    for name in ("api_user", "api_password", "ledger_url"):
        monkeypatch.setenv(f"TARGET_DOTDIGITAL_{name.upper()}", pipeline.target[name])
    assert command(pipeline, "rejected", "--config", first, "--config", "ENV").exit_code == 0
    assert command(pipeline, "--config=ENV", "rejected").exit_code == 0
    for name in ("missing.json", ""):
        missing = command(pipeline, "--config", "CONFIG", "rejected", "--config", name)
        assert (missing.exit_code, missing.stdout) == (1, "")
        assert isinstance(missing.exception, SystemExit)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["chek"], ["runs", "runs"], ["--limit", "3"], ["--live"], ["--run", "3"], ["--confirm", "AAAA"], ["--check"]),
        *(["check", "--limit", "3"], ["restore", "--run", "0"], ["restore", "7"], ["explain"], ["forget"], ["--about", "check"]),
        *(["explain", "", "--live"], ["explain", "..", "--live"], ["forget", "a\udcff@example.com"], ["runs", "--limit", "9" * 30]),
        *(["--input", "CONFIG", "check"], ["--format", "json", "runs"], ["check", "--input", "CONFIG"]),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_does_nothing(sandbox: Sandbox, tmp_path: Path, arguments: list[str]) -> None:
    outcome = command(Pipeline(sandbox, tmp_path), "--config", "CONFIG", *arguments)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert sandbox.journal.calls() == []
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("name", sorted(CommandLine.get_singer_command().commands))
def test_each_command_has_a_page_of_help_with_its_settings_and_an_example(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    page = command(Pipeline(sandbox, tmp_path), name, "--help")
    assert page.exit_code == 0
    assert all(words in page.stdout for words in ("Settings:", f"target-dotdigital {name} --config", f"target-dotdigital:{name}"))


def test_a_command_reads_nothing_from_standard_input(sandbox: Sandbox, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(Pipeline(sandbox, tmp_path).target))
    read, write = os.pipe()
    for arguments, code in ((["check", "--config", config], 0), (["chek"], 2), (["runs", "--config", config], 1)):
        # the other end stays open, so that whatever reads would wait
        done = subprocess.run([BIN / "target-dotdigital", *arguments], stdin=read, capture_output=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
    os.close(read)
    os.close(write)


# Without the account, beside a run, and without a ledger

QUESTIONS: list[dict[str, Any]] = [{"runs": True}, {"restore": True}, {"explain": ANN}, {"rejected": True}]


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_questions_need_neither_the_account_nor_the_lock(pipeline: Pipeline, sandbox: Sandbox, question: dict[str, Any]) -> None:
    pipeline.load(singer(people(ann=["A"])))
    sandbox.journal.clear()
    ledger = open_ledger(pipeline.target["ledger_url"])
    with ledger.locked(sandbox.account.id), ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE dotdigital_contacts SET names = '[]'")
        outcome = ask(pipeline, **question)
        connection.rollback()
    ledger.close()
    assert outcome.code == 0, outcome.log
    assert sandbox.journal.calls("dotdigital") == []


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_questions_do_not_make_a_ledger(pipeline: Pipeline, question: dict[str, Any], ledger_url: str) -> None:
    pipeline.activate()
    missing = pipeline.folder / "missing" / "ledger.db"
    if ledger_url.startswith("sqlite"):
        pipeline.target["ledger_url"] = f"sqlite:///{missing}"
    outcome = ask(pipeline, **question)
    if ledger_url.startswith("sqlite"):
        assert outcome.code == 1
        assert isinstance(outcome.error, LedgerError)
        # the report folder has the start that activated the sync
        assert bool(outcome.output) == ("runs" in question)
        assert not missing.parent.exists()
    else:
        # the review that activated the sync has made the tables
        assert outcome.code == (1 if "explain" in question else 0)


def test_a_ledger_of_several_accounts_is_read_for_the_one_that_the_login_names(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.load(singer(people(ann=["A"])))
    engine = sa.create_engine(pipeline.target["ledger_url"])
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO dotdigital_scopes (account_id, data_field, address_book) VALUES (7, 'NOSTOSEGMENT', 'nosto contacts')",
        )
    engine.dispose()
    sandbox.journal.clear()
    assert [run["outcome"] for run in runs(pipeline)] == ["delivered"]
    assert explained(pipeline)["account_id"] == sandbox.account.id
    calls = [*sandbox.journal.calls("dotdigital"), *sandbox.journal.calls("elsewhere")]
    assert {call.path for call in calls} == {"/v2/account-info"}
    sandbox.faults.add(Fault(service=None, path="account-info", response=Response(401), times=9))
    assert "rejected the API user" in ask(pipeline, runs=True).errors[-1]
