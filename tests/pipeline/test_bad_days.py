"""Bad days that look like bad days: the cause is the last line, the report is of this run, and nothing is blocked for ever."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import ExportFile, Fault, Sandbox
from nosto_dotdigital_sandbox.faults import answer
from support.meltano import Project
from support.oracle import FIELD
from support.running import BIN, Pipeline, run_target, singer
from support.wire import contacts_sent

if TYPE_CHECKING:
    from pathlib import Path


def people(count: int, names: list[str] | None = None) -> list[dict[str, Any]]:
    return [{"email": f"p{number:04d}@example.com", "segments": ["A"] if names is None else names} for number in range(count)]


def labels(sandbox: Sandbox) -> dict[str, Any]:
    return {email: contact.data_fields.get(FIELD) for email, contact in sandbox.account.snapshot().items()}


# The cause is the last line


LARGE = singer(people(20_000, ["a segment with a name of some length"]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"api_password": "wrong"}, "dotdigital rejected the API user"),
        ({"data_feild": "X"}, "The settings cannot be used, so nothing was done: "),
        pytest.param({"address_book": "Test"}, "a name that dotdigital reserves", marks=pytest.mark.slow),
        pytest.param(
            {"email_property": "mail"},
            "The stream 'people' has no property 'mail' (email_property; it has: email, segments), and no other stream",
            marks=pytest.mark.slow,
        ),
        pytest.param({"report_dir": "/proc/nothing"}, "The report folder (report_dir) is not writable", marks=pytest.mark.slow),
        ({"activation_code": None}, "Not activated"),
    ],
)
def test_a_target_that_stops_early_reads_its_input_to_the_end_and_says_why_last(
    pipeline: Pipeline, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({name: value for name, value in (pipeline.target | change).items() if value is not None}))
    source = tmp_path / "input"
    source.write_text(LARGE)
    assert source.stat().st_size > 1_000_000
    with source.open() as given:
        # a writer that is broken off dies of SIGPIPE, as the tap would
        tap = subprocess.Popen(["cat"], stdin=given, stdout=subprocess.PIPE)
        done = subprocess.run(
            [BIN / "target-dotdigital", "--config", path], stdin=tap.stdout, capture_output=True, text=True, check=False
        )
        assert tap.stdout is not None
        tap.stdout.close()
        assert tap.wait(30) == 0, "the tap was not broken off"
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("TARGET_DOTDIGITAL_API_PASSWORD", "wrong", "dotdigital rejected the API user"),
        pytest.param("TARGET_DOTDIGITAL_CONTACTS_PER_IMPORT", "0", "less than the minimum", marks=pytest.mark.slow),
        ("TAP_NOSTO_SEGMENTS_EXPORT_TOKEN", "wrong", "Nosto refused the export token"),
    ],
)
def test_meltano_shows_the_cause_and_no_traceback(sandbox: Sandbox, tmp_path: Path, variable: str, value: str, words: str) -> None:
    project = Project(tmp_path, sandbox)
    body = "".join(
        json.dumps({"email": f"p{number}@example.com", "s": ["Loyal Customers", "VIP" * 20]}) + "\n" for number in range(12_000)
    )
    sandbox.nosto.export = ExportFile(body.encode(), None)
    project.environment[variable] = value
    said = project.sync(code=1)
    assert words in said
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    assert said.count("\n") < 60
    report = project.report
    assert report["outcome"] == ("no input" if variable.startswith("TAP") else "failed")
    assert report["problems"]


# Every failure writes a report


@pytest.mark.parametrize(
    ("change", "text", "words"),
    [
        ({"api_password": "wrong"}, singer([]), "rejected the API user"),
        ({"address_book": "Test"}, singer([]), "a name that dotdigital reserves"),
        ({"overflow": "cut"}, singer([]), "The settings cannot be used"),
        ({"api_password": 12345}, singer([]), "api_password is not a text"),
        ({"ledger_url": "sqlite:////proc/nothing/ledger.db"}, singer([]), "The ledger cannot be used"),
        ({}, "{no json\n", "line 1 is a line that is not a JSON object"),
        ({}, singer(people(2)) + "[]\n", "line 5 is a line that is not a JSON object"),
        ({"stream_maps": {"people": {"segments": "segmnets"}}}, singer(people(2)), "stream_maps"),
    ],
)
def test_a_failure_leaves_no_older_report_behind(pipeline: Pipeline, change: dict[str, Any], text: str, words: str) -> None:
    assert pipeline.load(singer(people(3))).code == 0
    assert pipeline.report["outcome"] == "delivered"
    pipeline.target |= change
    outcome = pipeline.load(text)
    assert (outcome.code, outcome.output) == (1, "")
    assert words in outcome.errors[-1]
    assert "12345" not in outcome.log
    assert pipeline.report["outcome"] == "failed"
    assert words in pipeline.report["problems"][0]
    assert pipeline.report["sent"] == 0
    page = (pipeline.folder / "reports" / "report.html").read_text()
    assert "The run stopped before anything was written." in page
    assert "Everything that the source said is delivered" not in page


@pytest.mark.parametrize("nth", [1, 3, 7])
def test_a_run_that_is_terminated_reports_itself(pipeline: Pipeline, sandbox: Sandbox, nth: int) -> None:
    """The handler of the signal raises SystemExit wherever the run is."""

    class Terminated(type(pipeline.time)):  # type: ignore[misc]  # the class of the fixture
        def sleep(self, _seconds: float) -> None:
            raise SystemExit(143)

    assert pipeline.load(singer(people(3))).code == 0
    sandbox.faults.add(Fault("answer", service=None, nth=nth, times=99, response=answer(503)))
    outcome = run_target(pipeline.target, singer(people(3, ["B"])), Terminated())
    assert (outcome.code, outcome.output) == (143, "")
    assert pipeline.report["outcome"] == "failed"
    assert "Ended by SIGTERM" in outcome.errors[-1]


def test_a_command_that_fails_leaves_the_report_of_the_last_run(pipeline: Pipeline) -> None:
    assert pipeline.load(singer(people(3))).code == 0
    pipeline.target["api_password"] = "wrong"
    assert run_target(pipeline.target, "", pipeline.time, check=True).code == 1
    assert pipeline.report["outcome"] == "delivered"


def test_a_disk_that_is_full_under_the_reports_after_delivery(pipeline: Pipeline, sandbox: Sandbox) -> None:
    """What was delivered is said, STATE goes out, and the run is no healthy one."""

    def block(_request: object) -> None:
        # from now on, nothing can take its place
        report = pipeline.folder / "reports" / "report.json"
        report.unlink(missing_ok=True)
        report.mkdir()

    sandbox.faults.add(Fault("rewrite", method="PUT", before=block, rewrite=lambda response: response))
    outcome = pipeline.load(singer(people(3), state={"day": 1}))
    assert outcome.code == 1
    assert outcome.state == {"day": 1}
    assert outcome.errors[-1].startswith("The report could not be written")
    assert len(outcome.errors) == 1
    assert "3 sent, 3 created" in outcome.errors[-1]
    assert "defect" not in outcome.log
    assert len(labels(sandbox)) == 3


# Rejections never stop a sync


def test_a_few_rejections_do_not_block_the_next_days(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.refuse = lambda email: "somethingNew" if email < "p0024" else None
    outcome = pipeline.load(singer(people(3_000), state={"day": 0}))
    assert outcome.code == 0, outcome.log
    tried = []
    for day in range(1, 12):
        pipeline.time.seconds += 24 * 3600
        sandbox.journal.clear()
        outcome = pipeline.load(singer([{"email": f"z{day}@example.com", "segments": ["A"]}], state={"day": day}))
        assert (outcome.code, outcome.state) == (0, {"day": day})
        sent = contacts_sent(sandbox)
        assert f"z{day}@example.com" in sent
        tried.append(len(sent) > 1)
    # with growing pauses: the next day, two days, four days later, then once a week
    assert [day for day, again in enumerate(tried, 1) if again] == [1, 2, 5]
    sandbox.account.refuse = lambda _email: None
    pipeline.time.seconds += 8 * 24 * 3600
    assert pipeline.load(singer([])).code == 0
    assert len(labels(sandbox)) == 3_011
    assert pipeline.report["still_rejected"] == 0


def test_a_day_with_many_new_rejections_fails_once_and_names_the_codes(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.refuse = lambda email: "tooBusy" if email < "p0010" else "invalidDomain" if email < "p0024" else None
    outcome = pipeline.load(singer(people(300)))
    assert outcome.code == 1
    assert (
        "24 of 300 contacts were newly rejected, more than max_rejected_percent (5): invalidDomain 14, tooBusy 10."
        in outcome.errors[-1]
    )
    assert pipeline.load(singer(people(300))).code == 0
    assert pipeline.report["new_rejections"] == {}
    assert pipeline.report["still_rejected"] == 24


def test_bad_addresses_of_a_quiet_day_are_judged_by_the_whole_account(pipeline: Pipeline) -> None:
    assert pipeline.load(singer(people(1_000))).code == 0
    bad = [{"email": f"nobody {number}", "segments": ["A"]} for number in range(15)]
    assert pipeline.load(singer([*bad, *people(15, ["B"])])).code == 0


def test_the_file_of_refused_contacts_keeps_its_content_over_quiet_runs(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.refuse = lambda email: "invalidDomain" if email == "p0001@example.com" else None
    pipeline.load(singer(people(3)))
    path = pipeline.folder / "reports" / "rejected.singer.jsonl"
    first = path.read_text()
    record = json.loads(first.splitlines()[1])["record"]
    assert record == {"email": "p0001@example.com", "segments": ["A"], "reason": "invalidDomain"}
    assert pipeline.load(singer([])).code == 0
    assert path.read_text() == first


# The Data Watchdog


def test_rows_that_the_watchdog_rejected_are_held_until_they_are_released(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target["contacts_per_import"] = 10
    pipeline.target["max_active_imports"] = 1
    sandbox.account.outcomes = ["Finished", "RejectedByWatchdog"]
    outcome = pipeline.load(singer(people(30)))
    assert outcome.code == 1
    assert "Data Watchdog" in outcome.errors[-1]
    assert "10 contacts are held" in outcome.errors[-1]
    assert "release" in outcome.errors[-1]
    for names in (["A"], ["B"]):
        sandbox.journal.clear()
        outcome = pipeline.load(singer(people(30, names), state={"names": names}))
        assert (outcome.code, outcome.state) == (0, {"names": names}), outcome.log
        assert not {f"p{number:04d}@example.com" for number in range(10, 20)} & set(map(str, contacts_sent(sandbox)))
        assert (pipeline.report["outcome"], pipeline.report["held"]) == ("partly delivered", 10)
    assert len(labels(sandbox)) == 20
    page = (pipeline.folder / "reports" / "report.html").read_text()
    assert "10 contacts are held" in page
    outcome = run_target(pipeline.target, "", pipeline.time, release=True)
    assert outcome.code == 0, outcome.log
    assert "10 contacts are no longer held" in outcome.output
    assert pipeline.load(singer([])).code == 0
    assert set(labels(sandbox).values()) == {"B"}
    assert len(labels(sandbox)) == 30
    assert pipeline.report["outcome"] == "delivered"


def test_an_import_that_takes_too_long_is_waited_for_and_said_so(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target["import_timeout"] = 5
    sandbox.account.import_seconds = 100
    outcome = pipeline.load(singer(people(3)))
    assert outcome.code == 1
    assert "the next run continues to wait for it" in outcome.errors[-1]
    assert "sends" not in outcome.errors[-1]
    pipeline.time.seconds += 100
    sandbox.journal.clear()
    assert pipeline.load(singer(people(3))).code == 0
    assert sandbox.journal.imports() == []


def test_the_quota_of_contacts_is_named(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.outcomes = ["ExceedsAllowedContactLimit"]
    outcome = pipeline.load(singer(people(3)))
    assert outcome.code == 1
    assert "ExceedsAllowedContactLimit" in outcome.errors[-1]
    assert "number of contacts that its contract allows" in outcome.errors[-1]


# Labels


def test_overflow_fail_holds_also_where_labels_are_made_anew(pipeline: Pipeline, sandbox: Sandbox) -> None:
    names = ["a name of a segment", "another name of one"]
    assert pipeline.load(singer(people(3, names))).code == 0
    before = labels(sandbox)
    pipeline.target |= {"max_value_length": 30, "overflow": "fail"}
    pipeline.target["activation_code"] = code_of(pipeline)
    sandbox.journal.clear()
    outcome = pipeline.load(singer([]))
    assert outcome.code == 1
    assert "do not fit into 30 characters" in outcome.errors[-1]
    assert sandbox.journal.writes() == []
    assert labels(sandbox) == before


def code_of(pipeline: Pipeline) -> str:
    """Return the activation code for settings with which no label can be made."""
    from target_dotdigital.dotdigital import account as accounts  # noqa: PLC0415
    from target_dotdigital.settings import Settings  # noqa: PLC0415
    from target_dotdigital.sync.activation import Activation  # noqa: PLC0415

    settings = Settings.from_config(pipeline.target)
    client, info = accounts.connect(settings, pipeline.time.clock())
    return Activation(settings, accounts.read_account(settings, client, info)).code(["people"])


def test_names_that_are_dropped_by_new_settings_are_reported(pipeline: Pipeline, sandbox: Sandbox) -> None:
    names = ["a name of a segment", "another name of one"]
    assert pipeline.load(singer(people(3, names))).code == 0
    pipeline.target["max_value_length"] = 30
    pipeline.activate()
    assert pipeline.load(singer([])).code == 0
    assert pipeline.report["overflow"] == {"another name of one": 1}
    assert set(labels(sandbox).values()) == {"a name of a segment"}


# Mistakes of the operator, and of other people's taps


SCHEMA = singer([]).splitlines(keepends=True)[0]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            '{"type":"ACTIVATE_VERSION","stream":"people","version":1}\n' + SCHEMA,
            "line 1 is a message of type ACTIVATE_VERSION for",
        ),
        ('{"type":"SCHEMA","stream":"people","schema":null}\n', "line 1 is a SCHEMA message whose schema is not an object"),
        ('{"type":"SCHEMA","stream":"people","schema":{"properties":[]}}\n', "line 1 is a SCHEMA message without properties"),
        (
            '{"type":"SCHEMA","stream":"people","schema":{"properties":{}},"key_properties":"email"}\n',
            "key_properties are not a list",
        ),
        (SCHEMA + '{"type":"RECORD","stream":"people","record":[1]}\n', "line 2 is a RECORD message whose record is not an object"),
        (SCHEMA + '{"type":"RECORD","stream":5,"record":{}}\n', "line 2 is a RECORD without the name of a stream"),
        (
            SCHEMA + '{"type":"ACTIVATE_VERSION","stream":"people","version":null}\n',
            "line 2 is an ACTIVATE_VERSION message whose version is not an integer",
        ),
        (SCHEMA + '{"type":"STATE","value":[1]}\n', "line 2 is a STATE message whose value is not an object"),
        (SCHEMA + '{"type":"STATE"}\n', "line 2 is a STATE message whose value is not an object"),
        (
            SCHEMA
            + '{"type":"RECORD","stream":"people","record":{"email":"a@example.com","segments":[],"_sdc_deleted_at":false}}\n',
            "line 2 is a RECORD message whose _sdc_deleted_at is neither a time nor null",
        ),
        (
            SCHEMA + '{"type":"RECORD","stream":"people","record":{"email":"a@example.com","segments":[],"_sdc_deleted_at":""}}\n',
            "line 2 is a RECORD message whose _sdc_deleted_at is neither a time nor null",
        ),
        (
            SCHEMA + '{"type":"RECORD","stream":"people","record":' + "[" * 100_000 + "\n",
            "line 2 is a line that is not a JSON object",
        ),
        (SCHEMA + '{"type":"NEWS"}\n', "line 2 is a message of an unknown type"),
    ],
)
def test_a_line_that_is_not_singer_is_named_by_its_number(pipeline: Pipeline, lines: str, words: str) -> None:
    outcome = pipeline.load(lines)
    assert (outcome.code, outcome.output) == (1, "")
    assert words in outcome.errors[-1]
    assert len(outcome.errors) == 1
    assert "defect" not in outcome.log
    assert pipeline.report["outcome"] == "failed"


def test_a_record_that_is_null_is_left_out_and_counted(pipeline: Pipeline, sandbox: Sandbox) -> None:
    text = singer(people(2)).splitlines(keepends=True)
    text.insert(2, '{"type":"RECORD","stream":"people","record":null}\n')
    assert pipeline.load("".join(text)).code == 0
    assert (pipeline.report["read"], pipeline.report["invalid"]) == (3, {"no e-mail address": 1})
    assert len(labels(sandbox)) == 2


def test_a_number_that_only_python_writes_stops_nothing(pipeline: Pipeline, sandbox: Sandbox) -> None:
    text = singer([{**one, "score": float("nan")} for one in people(2)])
    assert "NaN" in text
    assert pipeline.load(text).code == 0
    assert len(labels(sandbox)) == 2


@pytest.mark.parametrize(
    "maps",
    [
        {"people": {"segments": "segmnets"}},
        {"people": {"segments": "unknown_function(email)"}},
        {"people": {"segments": "email +"}},
        {"people": {"segments": "email + 5"}},
        {"people": {"segments": "email.nothing()"}},
        {"people": {"__filter__": "nothing == 1"}},
        {"people": 5},
        {"people": {"__alias__": 5}},
        {"people": {"segments": 5}},
    ],
)
def test_a_mistake_in_stream_maps_is_named(pipeline: Pipeline, maps: dict[str, Any]) -> None:
    pipeline.target["stream_maps"] = maps
    outcome = pipeline.load(singer(people(2)))
    assert (outcome.code, outcome.output) == (1, "")
    assert "stream_maps" in outcome.errors[-1]
    assert "defect" not in outcome.log
    assert "p0000@example.com" not in outcome.log
    assert "Traceback" not in outcome.log


def test_a_terminal_without_accents_ends_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**pipeline.target, "poll_interval_ms": 20}))
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    text = singer(people(2, ["Frühling ☃"]), state={"bookmark": "☃"})
    command = [str(BIN / "target-dotdigital"), "--config", str(path)]
    done = subprocess.run(command, input=text.encode(), capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"bookmark": "☃"}
    done = subprocess.run([*command, "review"], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\\u2603" in done.stdout


def test_a_defect_is_logged_with_all_its_frames(pipeline: Pipeline, sandbox: Sandbox) -> None:
    """Provoked where no input reaches: a clock that has none of its parts."""
    sandbox.faults.add(Fault("answer", service=None, path="account-info", times=9, response=answer(500)))
    outcome = run_broken(pipeline)
    assert outcome.code == 1
    assert "Unexpected ZeroDivisionError at " in outcome.errors[-1]
    assert outcome.errors[-1].count(" > ") > 5
    assert "clock.py:" in outcome.errors[-1]


def run_broken(pipeline: Pipeline) -> Any:
    class Broken(type(pipeline.time)):  # type: ignore[misc]  # the class of the fixture
        def sleep(self, seconds: float) -> None:
            self.seconds += seconds / 0

    return run_target(pipeline.target, singer([]), Broken())


def test_forgetting_an_unknown_address_says_so(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(2)))
    outcome = run_target(pipeline.target, "", pipeline.time, forget="nobody@example.com")
    assert outcome.code == 1
    assert "stores nothing about that address" in outcome.errors[-1]
    assert "nobody@example.com" not in outcome.log


def test_folders_that_hold_addresses_are_not_for_git(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.target |= {"ledger_url": f"sqlite:///{tmp_path}/one/ledger.db", "report_dir": f"{tmp_path}/two/reports"}
    assert pipeline.load(singer(people(2))).code == 0
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shown = subprocess.run(["git", "-C", tmp_path, "status", "--porcelain", "-uall", "one", "two"], capture_output=True, check=True)
    assert shown.stdout == b""


def test_an_address_is_the_same_in_any_composition(pipeline: Pipeline, sandbox: Sandbox) -> None:
    composed, decomposed = "jos\u00e9@example.com", "Jose\u0301@example.com"
    assert pipeline.load(singer([{"email": decomposed, "segments": ["A"]}, {"email": composed, "segments": ["B"]}])).code == 0
    assert labels(sandbox) == {composed: "B"}
    sandbox.journal.clear()
    assert pipeline.load(singer([{"email": decomposed, "segments": ["B"]}])).code == 0
    assert contacts_sent(sandbox) == []
