"""Notifications: one a day while a problem lasts, one when it is over; a receiver never delays a run or gets an address."""

from __future__ import annotations

import json
import logging
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from support.running import Outcome, Pipeline, run_target, singer
from target_dotdigital.reporting.notifications import Message, load_receivers, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nosto_dotdigital_sandbox import Sandbox

# the e-mail plugin of Apprise imports it where Python still has it
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

TOKEN = "canary-token"
PLACE = "Demo shop / Nosto contacts"


@dataclass(slots=True)
class Inbox:
    """A receiver on loopback.

    Args:
        messages: the messages that it accepted.
        output: what the target had written to standard output when a message arrived.
        status: the status that it answers with.
        silent: whether it keeps senders waiting until the test ends.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    status: int = 200
    silent: bool = False
    port: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"json://someone:{TOKEN}@127.0.0.1:{self.port}/{TOKEN}"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]

    def receive(self, body: bytes) -> None:
        # as a library that Apprise uses might
        logging.getLogger("library").warning("Sent to %s", self.url)
        if self.silent:
            self.released.wait(30)
        elif self.status == 200:
            self.output.append(getattr(sys.stdout, "getvalue", str)())
            self.messages.append(json.loads(body))


@pytest.fixture
def inboxes() -> Iterator[Callable[[], Inbox]]:
    opened: list[tuple[Inbox, ThreadingHTTPServer]] = []

    def open_inbox() -> Inbox:
        inbox = Inbox()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                inbox.receive(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(inbox.status)
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        inbox.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        opened.append((inbox, server))
        return inbox

    yield open_inbox
    for inbox, server in opened:
        inbox.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def inbox(inboxes: Callable[[], Inbox], pipeline: Pipeline) -> Inbox:
    opened = inboxes()
    pipeline.target["notify_urls"] = [opened.url]
    return opened


def people(count: int, names: list[str] | None = None) -> list[dict[str, Any]]:
    return [{"email": f"p{number:04d}@example.com", "segments": ["A"] if names is None else names} for number in range(count)]


def state_file(pipeline: Pipeline) -> Any:
    return pipeline.folder / "reports" / "notified.json"


# What is a problem


def wrong_password(pipeline: Pipeline) -> Outcome:
    pipeline.target["api_password"] = "wrong"
    return pipeline.load(singer([]))


def wrong_name(pipeline: Pipeline) -> Outcome:
    pipeline.target["address_book"] = "Test"
    return pipeline.load(singer([]))


def unknown_setting(pipeline: Pipeline) -> Outcome:
    pipeline.target["data_feild"] = "X"
    return pipeline.load(singer([]))


def not_activated(pipeline: Pipeline) -> Outcome:
    pipeline.target.pop("activation_code", None)
    return pipeline.load(singer(people(3)))


def braked(pipeline: Pipeline) -> Outcome:
    if not pipeline.sandbox.account.contacts:
        urls = pipeline.target.pop("notify_urls")
        assert pipeline.load(singer(people(150))).code == 0
        pipeline.target["notify_urls"] = urls
    return pipeline.load(singer(people(150, [])))


def incomplete(pipeline: Pipeline) -> Outcome:
    # records of a whole table, but neither ACTIVATE_VERSION nor STATE after them
    *lines, _state = map(json.loads, singer(people(3)).splitlines())
    return pipeline.load("".join(json.dumps(line | {"version": 7}) + "\n" for line in lines))


def no_input(pipeline: Pipeline) -> Outcome:
    return pipeline.load("")


def held(pipeline: Pipeline) -> Outcome:
    if not pipeline.sandbox.account.imports:
        urls = pipeline.target.pop("notify_urls")
        pipeline.sandbox.account.outcomes = ["RejectedByWatchdog"]
        assert pipeline.load(singer(people(3))).code == 1
        pipeline.target["notify_urls"] = urls
    return pipeline.load(singer(people(3)))


PROBLEMS: list[tuple[Callable[[Pipeline], Outcome], str, str, str]] = [
    (wrong_password, "failed: Nosto contacts", "dotdigital rejected the API user", "failure"),
    (wrong_name, "failed: Test", "dotdigital reserves", "failure"),
    (unknown_setting, "failed: Nosto contacts", "data_feild", "failure"),
    (not_activated, f"not activated: {PLACE}", "TARGET_DOTDIGITAL_ACTIVATION_CODE=", "warning"),
    (braked, f"braked: {PLACE}", "150 of 150 labelled contacts", "warning"),
    (incomplete, f"incomplete input: {PLACE}", "the tap broke off", "failure"),
    (no_input, "no input: Nosto contacts", "the tap failed before its first message", "failure"),
    (held, f"partly delivered: {PLACE}", "3 contacts are held", "warning"),
]


@pytest.mark.parametrize(("cause", "title", "words", "kind"), PROBLEMS, ids=[problem[0].__name__ for problem in PROBLEMS])
def test_a_problem_is_notified_once_a_day(
    pipeline: Pipeline, inbox: Inbox, cause: Callable[[Pipeline], Outcome], title: str, words: str, kind: str
) -> None:
    outcomes = [cause(pipeline) for _ in range(2)]
    assert {outcome.code for outcome in outcomes} == {0 if cause is held else 1}, outcomes[0].log
    assert inbox.titles == [title]
    problem, summary = inbox.messages[0]["message"].split("\n\n")
    # the line about a tap that failed is short, so that the tap's own is seen
    assert cause is no_input or f"INFO {summary}\n" in outcomes[0].log
    assert words in problem
    assert inbox.messages[0]["type"] == kind


def test_a_run_with_many_new_rejections_is_notified(pipeline: Pipeline, inbox: Inbox, sandbox: Sandbox) -> None:
    sandbox.account.refuse = lambda email: "invalidDomain" if email < "p0024" else None
    assert pipeline.load(singer(people(300))).code == 1
    assert inbox.titles == [f"failed: {PLACE}"]
    assert "24 of 300 contacts were newly rejected" in inbox.messages[0]["message"]
    assert pipeline.load(singer(people(300))).code == 0
    assert inbox.titles[1:] == [f"recovered: {PLACE}"]


def test_healthy_runs_are_not_notified(pipeline: Pipeline, inbox: Inbox, sandbox: Sandbox) -> None:
    sandbox.account.refuse = lambda email: "invalidDomain" if email == "p0001@example.com" else None
    pipeline.target["max_contacts_per_run"] = 2
    for outcome in ("partly delivered", "delivered", "delivered"):
        assert pipeline.load(singer(people(4))).code == 0
        assert pipeline.report["outcome"] == outcome
    assert inbox.messages == []
    assert not state_file(pipeline).exists()


# One message a day until the problem changes


def test_the_same_problem_is_repeated_daily_with_the_number_of_the_day(pipeline: Pipeline, inbox: Inbox) -> None:
    assert pipeline.load(singer(people(150))).code == 0
    for count in (150, 120, 140):
        for _ in range(2):
            assert pipeline.load(singer(people(count, []))).code == 1
            assert pipeline.report["outcome"] == "braked"
        pipeline.time.seconds += 19 * 3600
    pipeline.time.seconds += 10 * 24 * 3600
    assert pipeline.load(singer(people(150, []))).code == 1
    title = f"braked: {PLACE}"
    assert inbox.titles == [title, f"{title} (second day)", f"{title} (third day)", f"{title} (day 14)"]


def test_days_are_counted_in_local_time(pipeline: Pipeline, inbox: Inbox) -> None:
    # 17:00 and 19:30 in UTC
    pipeline.target["report_timezone"] = "Asia/Karachi"
    no_input(pipeline)
    no_input(pipeline)
    assert inbox.titles == ["no input: Nosto contacts", "no input: Nosto contacts (second day)"]


def test_a_change_of_the_problem_and_its_end_are_notified(pipeline: Pipeline, inbox: Inbox) -> None:
    password = pipeline.target["api_password"]
    for _ in range(2):
        wrong_password(pipeline)
    pipeline.target["api_password"] = password
    no_input(pipeline)
    wrong_password(pipeline)
    pipeline.target["api_password"] = password
    for _ in range(2):
        assert pipeline.load(singer(people(3))).code == 0
    titles = ["failed: Nosto contacts", "no input: Nosto contacts", "failed: Nosto contacts", f"recovered: {PLACE}"]
    assert inbox.titles == titles
    assert inbox.messages[-1]["type"] == "success"
    assert "The problem that was reported before is over." in inbox.messages[-1]["message"]
    wrong_password(pipeline)
    assert inbox.titles == [*titles, f"failed: {PLACE}"]


def test_a_problem_is_repeated_if_its_state_is_lost(pipeline: Pipeline, inbox: Inbox) -> None:
    no_input(pipeline)
    other_version = state_file(pipeline).read_text().replace('"version":2', '"version":99')
    assert "99" in other_version
    state_file(pipeline).unlink()
    no_input(pipeline)
    for content in ("{", "[]", other_version):
        state_file(pipeline).write_text(content)
        no_input(pipeline)
    no_input(pipeline)
    assert inbox.titles == ["no input: Nosto contacts"] * 5


def test_the_state_is_private_and_holds_no_secret(pipeline: Pipeline, inbox: Inbox) -> None:
    no_input(pipeline)
    assert len(inbox.messages) == 1
    assert state_file(pipeline).stat().st_mode & 0o777 == 0o600
    assert TOKEN not in state_file(pipeline).read_text()


def test_a_run_that_delivers_but_cannot_write_its_report_is_notified_as_failed(pipeline: Pipeline, inbox: Inbox) -> None:
    blocked = pipeline.folder / "reports" / "report.html"
    blocked.mkdir(parents=True)
    (blocked / "x").touch()
    outcome = pipeline.load(singer(people(3)))
    assert (outcome.code, len(outcome.lines)) == (1, 1)
    assert inbox.titles == [f"failed: {PLACE}"]
    assert "The report could not be written" in inbox.messages[0]["message"]


# Who is notified of what


@pytest.mark.parametrize("options", [{"check": True}, {"review": True}, {"restore": True, "run": 99}, {"release": True}])
def test_commands_notify_nobody(pipeline: Pipeline, inbox: Inbox, options: dict[str, Any]) -> None:
    assert pipeline.load(singer(people(3))).code == 0
    pipeline.target["api_password"] = "wrong"
    assert run_target(pipeline.target, "", pipeline.time, **options).code == 1
    assert inbox.messages == []


def test_a_dry_run_notifies_nobody_and_ends_no_problem(pipeline: Pipeline, inbox: Inbox) -> None:
    no_input(pipeline)
    before = state_file(pipeline).read_text()
    pipeline.target["dry_run"] = True
    assert pipeline.load(singer(people(3))).code == 0
    assert incomplete(pipeline).code == 1
    assert pipeline.report["outcome"] == "incomplete input"
    assert inbox.titles == ["no input: Nosto contacts"]
    assert state_file(pipeline).read_text() == before


def test_settings_that_are_only_in_the_environment_notify_as_well(
    pipeline: Pipeline, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARGET_DOTDIGITAL_NOTIFY_URLS", json.dumps(pipeline.target.pop("notify_urls")))
    unknown_setting(pipeline)
    assert inbox.titles == ["failed: Nosto contacts"]


def test_a_title_has_the_account_as_soon_as_one_run_has_seen_it(pipeline: Pipeline, inbox: Inbox) -> None:
    no_input(pipeline)
    assert pipeline.load(singer(people(3))).code == 0
    no_input(pipeline)
    assert inbox.titles == ["no input: Nosto contacts", f"recovered: {PLACE}", f"no input: {PLACE}"]


# A summary of every run


def test_every_run_without_a_problem_is_summed_up_on_request(pipeline: Pipeline, inbox: Inbox) -> None:
    pipeline.target |= {"notify_when": "always", "report_timezone": "Europe/Berlin"}
    assert pipeline.load(singer(people(3))).code == 0
    assert pipeline.load(singer([*people(1, []), *people(4, ["B"])[3:]])).code == 0
    assert pipeline.load(singer([])).code == 0
    assert inbox.titles == [f"delivered: {PLACE}", f"delivered: {PLACE}", f"nothing to do: {PLACE}"]
    assert {message["type"] for message in inbox.messages} == {"info"}
    safe, segments, summary = inbox.messages[1]["message"].split("\n\n")
    assert safe.startswith("Safe to mail from 2026-09-2")
    assert safe.endswith(" CEST on.")
    assert segments == "Contacts in each segment:\nA: 2 (0 joined, 1 left)\nB: 1 (1 joined, 0 left)"
    assert summary.startswith("Run ")
    assert "Safe to mail" not in inbox.messages[2]["message"]


def test_a_summary_lists_the_segments_with_most_changes(pipeline: Pipeline, inbox: Inbox) -> None:
    pipeline.target["notify_when"] = "always"
    names = [f"Segment {number:02}" for number in range(30)]
    assert pipeline.load(singer([{"email": f"p{n}@example.com", "segments": names[: n + 1]} for n in range(30)])).code == 0
    lines = inbox.messages[0]["message"].splitlines()
    assert "Segment 00: 30 (30 joined, 0 left)" in lines
    assert "and 10 more" in lines


def test_the_end_of_a_problem_is_summed_up_once(pipeline: Pipeline, inbox: Inbox) -> None:
    pipeline.target["notify_when"] = "always"
    no_input(pipeline)
    assert pipeline.load(singer(people(3))).code == 0
    assert inbox.titles == ["no input: Nosto contacts", f"recovered: {PLACE}"]
    assert "A: 3 (3 joined, 0 left)" in inbox.messages[1]["message"]


# Receivers that cannot be reached


@pytest.mark.parametrize("status", [500, 404])
def test_a_notification_that_cannot_be_sent_is_a_warning_and_is_tried_again(pipeline: Pipeline, inbox: Inbox, status: int) -> None:
    no_input(pipeline)
    inbox.status = status
    for _ in range(2):
        outcome = pipeline.load(singer(people(3)))
        assert outcome.code == 0, outcome.log
        assert len(outcome.lines) == 1, "STATE"
        warnings = [line for line in outcome.log.splitlines() if line.startswith("WARNING ")]
        assert len(warnings) == 1
        assert "(json://)" in warnings[0]
        assert outcome.log.splitlines()[-1].startswith("INFO Run ")
    inbox.status = 200
    pipeline.load(singer(people(3)))
    pipeline.load(singer(people(3)))
    assert inbox.titles == ["no input: Nosto contacts", f"recovered: {PLACE}"]


def test_the_cause_of_a_failure_is_the_last_line_also_if_nobody_can_be_notified(pipeline: Pipeline, inbox: Inbox) -> None:
    inbox.status = 500
    outcome = no_input(pipeline)
    assert outcome.code == 1
    assert outcome.log.splitlines()[-1].startswith("ERROR No input: ")
    assert "could not be sent (json://)" in outcome.log
    inbox.status = 200
    no_input(pipeline)
    assert inbox.titles == ["no input: Nosto contacts"]


def test_receivers_do_not_depend_on_each_other(pipeline: Pipeline, inboxes: Callable[[], Inbox]) -> None:
    first, second, third = (inboxes() for _ in range(3))
    pipeline.target["notify_urls"] = [first.url, second.url, first.url]
    first.status = 500
    no_input(pipeline)
    no_input(pipeline)
    assert (first.titles, second.titles) == ([], ["no input: Nosto contacts"])
    first.status = 200
    pipeline.target["notify_urls"].append(third.url)
    no_input(pipeline)
    assert first.titles == second.titles == third.titles == ["no input: Nosto contacts"]
    pipeline.target["notify_urls"] = [second.url]
    assert pipeline.load(singer(people(3))).code == 0
    assert (len(first.titles), second.titles[1:]) == (1, [f"recovered: {PLACE}"])


def test_state_is_emitted_before_anybody_is_notified(pipeline: Pipeline, inbox: Inbox) -> None:
    no_input(pipeline)
    outcome = pipeline.load(singer(people(3), state={"day": 1}))
    assert outcome.state == {"day": 1}
    assert inbox.output == ["", outcome.output]


def test_a_receiver_that_never_answers_is_given_up(inboxes: Callable[[], Inbox]) -> None:
    dead, healthy = inboxes(), inboxes()
    dead.silent = True
    receivers = load_receivers([f"{dead.url}?rto=30", healthy.url])
    accepted = send([(receiver, Message("title", "body", "failure")) for receiver in receivers], seconds=0.5)
    assert accepted == {receivers[1].key}
    assert healthy.titles == ["title"]
    threads = [thread for thread in threading.enumerate() if thread.name.endswith("(_send)")]
    assert [thread.daemon for thread in threads] == [True], "the process would wait for it when it ends"
    assert not logging.root.manager.disable


# Nothing leaks


@pytest.mark.parametrize("status", [200, 500])
def test_the_log_holds_no_part_of_a_url_at_any_level(
    pipeline: Pipeline, inbox: Inbox, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "apprise", "urllib3", "target-dotdigital"):
        caplog.set_level(logging.DEBUG, logger=name)
    inbox.status = status
    outcome = no_input(pipeline)
    assert "No input" in caplog.text
    for text in (outcome.log, outcome.output, caplog.text):
        assert [secret for secret in (TOKEN, "someone", f"127.0.0.1:{inbox.port}") if secret in text] == []


@pytest.mark.parametrize(
    "change",
    [{"address_book": ["someone@example.com"]}, {"someone@example.com": 1}],
)
def test_a_message_holds_no_address(pipeline: Pipeline, inbox: Inbox, change: dict[str, Any]) -> None:
    pipeline.target |= change
    pipeline.load(singer([]))
    assert inbox.titles == ["failed: Nosto contacts"]
    assert "[address]" in inbox.messages[0]["message"]
    assert "someone" not in json.dumps(inbox.messages)


# Wrong settings stop the run before anything is read or written


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"nothing://{TOKEN}", "Apprise does not understand URL 2 (nothing://)"),
        (TOKEN, "Apprise does not understand URL 2 (without a scheme)"),
        (f"slack://{TOKEN}", "Apprise does not understand URL 2 (slack://)"),
        (f"https://example.com/{TOKEN}", "Apprise does not understand URL 2 (https://)"),
        (f"json://example.com/{TOKEN}", "URL 2 (json://) would be sent unencrypted, so nothing was done. Use jsons://."),
        (
            f"mailto://someone:{TOKEN}@example.com",
            "URL 2 (mailto://) would be sent unencrypted, so nothing was done. Use mailtos://.",
        ),
        (5, "notify_urls is not a list of texts as it should be"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(pipeline: Pipeline, inbox: Inbox, sandbox: Sandbox, url: Any, words: str) -> None:
    pipeline.target["notify_urls"].append(url)
    outcome = pipeline.load(singer(people(3)))
    assert (outcome.code, outcome.output) == (1, "")
    assert words in outcome.errors[-1]
    assert TOKEN not in outcome.log
    assert sandbox.journal.calls() == []
    # those that can be used are notified of it
    assert inbox.titles == ["failed: Nosto contacts"]
    assert words in inbox.messages[0]["message"]


@pytest.mark.parametrize(
    "url",
    [
        f"jsons://someone:{TOKEN}@example.com/x",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alerts",
        "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "mailtos://someone:password@example.com?smtp=mail.example.com&to=ops@example.com",
        "pagerduty://a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3@key?action=map&dedup=nosto-dotdigital",
        "json://localhost/x",
        "json://[::1]:8000/x",
    ],
)
def test_urls_as_documented_are_accepted(url: str) -> None:
    (receiver,) = load_receivers([url])
    assert receiver.scheme == url.split(":", maxsplit=1)[0]
    assert url not in receiver.key


def test_a_missing_extra_is_named_before_anything_is_read_or_written(
    pipeline: Pipeline, inbox: Inbox, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if it were not installed
    monkeypatch.setitem(sys.modules, "apprise", None)
    outcome = pipeline.load(singer(people(3)))
    assert (outcome.code, outcome.output) == (1, "")
    assert "target-dotdigital[notify]" in outcome.errors[-1]
    assert sandbox.journal.calls() == []
    assert inbox.messages == []
    pipeline.target["notify_urls"] = []
    assert pipeline.load(singer(people(3))).code == 0
