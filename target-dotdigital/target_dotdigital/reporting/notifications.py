"""Notifies people about problems, once a day until they are over, and on request about every run.

Messages are sent through Apprise, an optional dependency (the extra `notify`), to the receivers in notify_urls.
"""

from __future__ import annotations

import datetime
import logging
import re
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from target_dotdigital.clock import find_zone, local_time
from target_dotdigital.environment import read_setting
from target_dotdigital.errors import SettingsError
from target_dotdigital.reporting.folder import ReportFolder
from target_dotdigital.reporting.history import past_runs
from target_dotdigital.reporting.report import HEALTHY, RunStatus
from target_dotdigital.settings import SCHEMA, is_loopback
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import apprise

    from target_dotdigital.reporting.report import Report

LOGGER = logging.getLogger("target-dotdigital")
STATE_FILE = "notified.json"
VERSION = 2
ALWAYS = "always"
# problems that wait for a decision of the operator; nothing is broken
WARNINGS = frozenset({RunStatus.NOT_ACTIVATED, RunStatus.BRAKED, RunStatus.PARTLY})
# counts, dates, IDs and codes vary from run to run, although the problem is the same
VARIABLE = re.compile(r"\S*\d\S*")
# messages about settings quote values, and some of these are addresses
ADDRESS = re.compile(r"[^\s\"'<>()\[\],;:]+@[^\s\"'<>()\[\],;:]+")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
MAX_SEGMENTS = 20
# Apprise gives up a connection or a read after 4 seconds, unless a URL says otherwise (cto, rto); this limit is for all receivers together
MAX_SEND_SECONDS = 15.0
UNSENT = "A notification could not be sent (%s://). The run is not affected, and the next one tries again. Check notify_urls."
OVER = "The problem that was reported before is over."
NOT_INSTALLED = (
    "notify_urls is set, but Apprise, which sends the notifications, is not installed, so nothing was done. Install "
    "target-dotdigital[notify], or remove the setting."
)


@dataclass(frozen=True, slots=True)
class Message:
    """A notification: one line, a text, and Apprise's type of message (failure, warning, success or info)."""

    title: str
    body: str
    kind: str


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver of notifications.

    Args:
        key: digest of the URL, which stands for it wherever something is stored.
        scheme: scheme of the URL, which stands for it in the log.
        service: Apprise with this receiver only.
    """

    key: str
    scheme: str
    service: apprise.Apprise


class Notified(msgspec.Struct, frozen=True):
    """What a receiver was notified of: digest of the problem, its first day, and the day of the last message."""

    problem: str
    since: datetime.date
    last: datetime.date


class State(msgspec.Struct, frozen=True):
    """Key of a receiver -> the problem that it was last notified of, if it is not over."""

    problems: dict[str, Notified] = {}
    version: int = VERSION


def notify(report: Report, config: Mapping[str, Any], failure: str | None = None) -> None:
    """Notify each receiver of changes since its last message. Never fails a run, and does nothing after a dry run.

    Args:
        report: the report of the run, after it was published.
        config: the settings, unchecked, because a run may fail on them.
        failure: why the run failed; None if it did not.
    """
    urls = _setting(config, "notify_urls")
    if not urls or not isinstance(urls, list) or _setting(config, "dry_run") is True:
        return
    zone = find_zone(_setting(config, "report_timezone")) or datetime.UTC
    folder = ReportFolder(Path(str(_setting(config, "report_dir"))), zone)
    today, destination = report.started_at.astimezone(zone).date(), _destination(report, config, folder)
    problem = _problem(report) if failure is None else failure
    # a run may fail after it has delivered, such as when its report cannot be written
    outcome = RunStatus.FAILED if failure is not None and report.outcome in HEALTHY else report.outcome
    digest = None if problem is None else sha256(f"{outcome.value}: {VARIABLE.sub('#', problem)}".encode()).hexdigest()
    known, receivers = _read(folder), _usable(urls)
    after, due = {}, []
    for receiver in receivers:
        before = known.get(receiver.key)
        if problem is None or digest is None:
            if before is not None or _setting(config, "notify_when") == ALWAYS:
                due.append((receiver, _health(report, destination, zone, is_over=before is not None, config=config)))
            continue
        since = before.since if before is not None and before.problem == digest else today
        after[receiver.key] = Notified(digest, since, today)
        if before is None or before.problem != digest or before.last < today:
            due.append((receiver, _alert(report, outcome, destination, problem, (today - since).days + 1)))
    accepted = send(due)
    for receiver, _ in due:
        if receiver.key not in accepted:
            LOGGER.warning(UNSENT, receiver.scheme)
            # the next run tries again
            after.pop(receiver.key, None)
            if receiver.key in known:
                after[receiver.key] = known[receiver.key]
    _write(folder, known, after)


def load_receivers(urls: Sequence[str]) -> list[Receiver]:
    """Return the receivers of notify_urls; contacts none of them.

    Raises:
        SettingsError: Apprise is missing, does not understand a URL, or would send it unencrypted. The message does not quote the URL.
    """
    return [_load_receiver(url, number) for number, url in enumerate(urls, start=1)]


def send(messages: Sequence[tuple[Receiver, Message]], seconds: float = MAX_SEND_SECONDS) -> set[str]:
    """Send messages to all receivers at once, and return the keys of the receivers that accepted theirs.

    Args:
        messages: receivers, and the message for each.
        seconds: how long to wait for all of them; a receiver that has not answered by then has not accepted its message.
    """
    accepted: set[str] = set()
    # daemon threads: a receiver that never answers must not keep the process from ending
    threads = [threading.Thread(target=_send, args=(*pair, accepted), daemon=True) for pair in messages]
    end = time.monotonic() + seconds
    with _silence():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
    return accepted.copy()


def _destination(report: Report, config: Mapping[str, Any], folder: ReportFolder) -> str:
    """Return account and address book; a run that failed before it knew its account has that of the last run that did."""
    account = report.destination.account or next((run.account.name for run in past_runs(folder.path) if run.account.name), "")
    return " / ".join(filter(None, (account, report.destination.address_book or str(_setting(config, "address_book")))))


def _problem(report: Report) -> str | None:
    """Return the first problem of a run that did not fail; None if it is healthy."""
    if report.remaining.held:
        return (
            f"{report.remaining.held:,} contacts are held, because dotdigital's Data Watchdog rejected their import. They are not updated "
            "until they are released. Ask dotdigital's support, then use the command `release`."
        )
    return next(iter(report.problems), None)


def _alert(report: Report, outcome: RunStatus, destination: str, problem: str, days: int) -> Message:
    lasting = "" if days == 1 else f" ({ORDINALS[days - 1]} day)" if days <= len(ORDINALS) else f" (day {days})"
    body = f"{problem}\n\n{report.summary()}"
    return Message(
        _masked(f"{outcome.value}: {destination}{lasting}"), _masked(body), "warning" if outcome in WARNINGS else "failure"
    )


def _health(report: Report, destination: str, zone: datetime.tzinfo, *, is_over: bool, config: Mapping[str, Any]) -> Message:
    parts = [OVER] if is_over else []
    if _setting(config, "notify_when") == ALWAYS:
        if report.safe_to_mail_at:
            parts.append(f"Safe to mail from {local_time(report.safe_to_mail_at, zone)} on.")
        if report.restored is None and (sizes := report.segments()):
            ordered = sorted(sizes.items(), key=lambda item: (-item[1].joined - item[1].left, -item[1].contacts, item[0]))
            lines = [f"{shown(name)}: {s.contacts:,} ({s.joined:,} joined, {s.left:,} left)" for name, s in ordered[:MAX_SEGMENTS]]
            if (more := len(ordered) - MAX_SEGMENTS) > 0:
                lines.append(f"and {more:,} more")
            parts.append("\n".join(["Contacts in each segment:", *lines]))
    title = f"{'recovered' if is_over else report.outcome.value}: {destination}"
    return Message(_masked(title), _masked("\n\n".join([*parts, report.summary()])), "success" if is_over else "info")


def _masked(text: str) -> str:
    return ADDRESS.sub("[address]", text)


def _setting(config: Mapping[str, Any], name: str) -> Any:
    return read_setting(config, SCHEMA, name)


def _read(folder: ReportFolder) -> dict[str, Notified]:
    """Return what receivers were notified of; nothing if the file is lost, because one message too many is better than none."""
    try:
        state = msgspec.json.decode((folder.path / STATE_FILE).read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return {}
    return state.problems if state.version == VERSION else {}


def _write(folder: ReportFolder, before: dict[str, Notified], problems: dict[str, Notified]) -> None:
    if problems == before:
        return
    try:
        folder.write_text(STATE_FILE, msgspec.json.encode(State(problems)).decode() + "\n")
    except OSError as error:
        LOGGER.warning(
            "%s could not be written (%s), so the next run may repeat a notification. Check report_dir and the free space.",
            STATE_FILE,
            type(error).__name__,
        )


def _usable(urls: list[Any]) -> list[Receiver]:
    """Return the receivers that can be loaded. Invalid ones are the reason why the run failed."""
    receivers = {}
    for number, url in enumerate(urls, start=1):
        try:
            receiver = _load_receiver(str(url), number)
        except SettingsError:
            continue
        receivers[receiver.key] = receiver
    return list(receivers.values())


def _load_receiver(url: str, number: int) -> Receiver:
    try:
        with warnings.catch_warnings():
            # one of its modules imports imghdr, which Python 3.12 warns of
            warnings.simplefilter("ignore", DeprecationWarning)
            import apprise  # noqa: PLC0415 - optional, and a tenth of a second to load
    except ImportError:
        raise SettingsError(NOT_INSTALLED) from None
    # its messages contain recipients, hosts and parts of URLs
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    found = SCHEME.match(url)
    scheme = found[1].lower() if found else ""
    # no time limit of Apprise's own: it would keep threads that the process waits for when it ends
    asset = apprise.AppriseAsset(app_id="target-dotdigital", app_desc="target-dotdigital", async_mode=False, service_timeout=0)
    plugin = apprise.Apprise.instantiate(url, asset=asset)
    if plugin is None:
        what = f"({scheme}://)" if scheme else "(without a scheme)"
        msg = (
            f"notify_urls: Apprise does not understand URL {number} {what}, so nothing was done. Correct it; appriseit.com/services lists "
            "the form for each service."
        )
        raise SettingsError(msg)
    if _is_unencrypted(plugin, scheme) and not is_loopback(_host(url)):
        msg = f"notify_urls: URL {number} ({scheme}://) would be sent unencrypted, so nothing was done. Use {scheme}s://."
        raise SettingsError(msg)
    service = apprise.Apprise(asset=asset)
    service.add(plugin)
    return Receiver(sha256(url.encode()).hexdigest(), scheme, service)


def _is_unencrypted(plugin: Any, scheme: str) -> bool:
    """Return whether a service that has an encrypted and an unencrypted form is addressed by the latter."""
    plain = plugin.protocol or ()
    return bool(plugin.secure_protocol) and scheme in ((plain,) if isinstance(plain, str) else plain)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _send(receiver: Receiver, message: Message, accepted: set[str]) -> None:
    try:
        if receiver.service.notify(title=message.title, body=message.body, notify_type=message.kind, body_format="text"):
            accepted.add(receiver.key)
    except Exception:  # noqa: BLE001 - plugins may raise anything, and a traceback would show the URL
        return


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress all logging: Apprise's dependencies log secret URLs at DEBUG."""
    # keep urllib3 quiet for threads that outlive the timeout
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
