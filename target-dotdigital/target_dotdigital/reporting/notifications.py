"""Notifies the operator about problems: one message per problem until it changes, and one when it is over."""

from __future__ import annotations

import logging
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.environment import read_setting
from target_dotdigital.errors import SettingsError
from target_dotdigital.reporting.folder import ReportFolder
from target_dotdigital.reporting.receivers import Message, Receiver, load_receiver, send
from target_dotdigital.reporting.report import RunStatus
from target_dotdigital.settings import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_dotdigital.reporting.report import Report

LOGGER = logging.getLogger("target-dotdigital")
STATE_FILE = "notified.json"
VERSION = 1
# problems that wait for a decision of the operator; nothing is broken
WARNINGS = frozenset({RunStatus.NOT_ACTIVATED, RunStatus.BRAKED, RunStatus.PARTLY})
HEALTHY = frozenset({RunStatus.DELIVERED, RunStatus.PARTLY, RunStatus.NOTHING})
# counts, dates, IDs and codes vary from run to run, although the problem is the same
VARIABLE = re.compile(r"\S*\d\S*")
# messages about settings quote values, and some of these are addresses
ADDRESS = re.compile(r"[^\s\"'<>()\[\],;:]+@[^\s\"'<>()\[\],;:]+")
UNSENT = "A notification could not be sent (%s://). The run is not affected, and the next one tries again. Check notify_urls."
OVER = "The problem that was reported before is over."


class State(msgspec.Struct, frozen=True):
    """What receivers were notified of.

    Args:
        problems: key of a receiver -> digest of the last problem that it was notified of and that is not over.
        version: version of the file.
    """

    problems: dict[str, str] = msgspec.field(default_factory=dict)
    version: int = VERSION


def notify(report: Report, config: Mapping[str, Any], failure: str | None = None) -> None:
    """Notify every receiver of what is new to it. Never fails a run, and does nothing after a dry run.

    Args:
        report: the report of the run, after it was published.
        config: the settings, unchecked, because a run may fail on them.
        failure: why the run failed; None if it did not.
    """
    urls = _setting(config, "notify_urls")
    if not urls or not isinstance(urls, list) or _setting(config, "dry_run") is True:
        return
    folder = ReportFolder(Path(str(_setting(config, "report_dir"))))
    place = (report.destination.account, report.destination.address_book or str(_setting(config, "address_book")))
    message, problem = _message(report, " / ".join(filter(None, place)), failure)
    known = _read(folder)
    receivers = _usable(urls)
    due = [receiver for receiver in receivers if known.get(receiver.key) != problem]
    accepted = send(message, due)
    for receiver in due:
        if receiver.key not in accepted:
            LOGGER.warning(UNSENT, receiver.scheme)
    new = {receiver.key: problem if receiver.key in accepted else known.get(receiver.key) for receiver in receivers}
    _write(folder, known, {key: value for key, value in new.items() if value is not None})


def _message(report: Report, place: str, failure: str | None) -> tuple[Message, str | None]:
    """Return the message about a run, and what identifies its problem; None if it is healthy."""
    problem = _problem(report) if failure is None else failure
    if problem is None:
        return Message(_shown(f"recovered: {place}"), _shown(f"{OVER}\n\n{report.summary()}"), "success"), None
    # a run may fail after it has delivered, such as when its report cannot be written
    outcome = RunStatus.FAILED if failure is not None and report.outcome in HEALTHY else report.outcome
    title, body = f"{outcome.value}: {place}", f"{report.summary()}\n\n{problem}"
    message = Message(_shown(title), _shown(body), "warning" if outcome in WARNINGS else "failure")
    return message, sha256(f"{outcome.value}: {VARIABLE.sub('#', problem)}".encode()).hexdigest()


def _problem(report: Report) -> str | None:
    """Return the first problem of a run that did not fail; None if it is healthy."""
    if report.remaining.held:
        return (
            f"{report.remaining.held:,} contacts are held, because dotdigital's Data Watchdog rejected their import. They are not updated "
            "until they are released. Ask dotdigital's support, then use the command `release`."
        )
    return next(iter(report.problems), None)


def _shown(text: str) -> str:
    """Remove addresses."""
    return ADDRESS.sub("[address]", text)


def _setting(config: Mapping[str, Any], name: str) -> Any:
    return read_setting(config, SCHEMA, name)


def _usable(urls: list[Any]) -> list[Receiver]:
    """Return the receivers that can be loaded. The others are the reason why the run failed."""
    receivers = {}
    for number, url in enumerate(urls, start=1):
        try:
            receiver = load_receiver(str(url), number)
        except SettingsError:
            continue
        receivers[receiver.key] = receiver
    return list(receivers.values())


def _read(folder: ReportFolder) -> dict[str, str]:
    """Return the problems that receivers know of. None if the file is lost: one message too many is better than none."""
    try:
        state = msgspec.json.decode((folder.path / STATE_FILE).read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return {}
    return state.problems if state.version == VERSION else {}


def _write(folder: ReportFolder, before: dict[str, str], problems: dict[str, str]) -> None:
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
