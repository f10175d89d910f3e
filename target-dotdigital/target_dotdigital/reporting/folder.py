"""The report folder: the report, its history, and the files of rejected and changed contacts, readable by their owner only."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from target_dotdigital.errors import AnotherRunError, SettingsError
from target_dotdigital.reporting.history import (
    DEFAULT_KEEP,
    FOLDER,
    PART,
    TABLE_SUFFIX,
    history_name,
    past_run,
    prune,
    prune_before,
    read_history,
)
from target_dotdigital.reporting.metrics import emit
from target_dotdigital.reporting.page import advice_on, page
from target_dotdigital.reporting.report import RunStatus, outcome_of
from target_dotdigital.text import make_private_folder, without_controls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from target_dotdigital.ledger.contact_queries import RejectedContact
    from target_dotdigital.reporting.report import Report
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")
# about the size of a report: an empty probe file would fit on a full disk
PROBE = " " * 65_536
REPORT_FILE = "report.json"
REJECTED_FILE = "rejected.csv"
REVIEW_FILE = "review.txt"
REJECTED_COLUMNS = ("address", "labels", "code", "advice", "first_seen", "last_seen", "next_attempt")
CHANGES_COLUMNS = ("address", "joined", "left")
NEXT_RUN, ON_CHANGE = "next run", "when it changes"
# a spreadsheet shows no more rows
MAX_TABLE_ROWS = 1_000_000
# spreadsheets run a cell that begins like this as a formula
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class ReportFolder:
    """The report folder.

    Args:
        path: the folder.
        zone: time zone of the times on the page.
    """

    path: Path
    zone: datetime.tzinfo = datetime.UTC

    def publish(self, report: Report, keep: int = DEFAULT_KEEP, *, latest: bool = True) -> None:
        """Write the report and emit its metrics; if the folder is not writable, record that in `report.unwritten`.

        Args:
            report: the report.
            keep: number of runs to keep in the history.
            latest: whether report.json and report.html are written too, and not the history alone.
        """
        report.unwritten = None
        try:
            self.write(report, keep, latest=latest)
        except OSError as error:
            report.unwritten = (
                f"The report could not be written ({type(error).__name__}: {error.strerror}): the disk of report_dir is perhaps full, and "
                f"report.json is still that of an earlier run. {report.summary()} Free some space, and run again."
            )
        # without input, the tap's last line contains the cause, and has to stay on the screen
        if report.outcome is not RunStatus.NO_INPUT:
            emit(report)

    def publish_failure(self, report: Report, error: BaseException, message: str, keep: int = DEFAULT_KEEP) -> None:
        """Publish the report of a run that failed, even if it has published another one before: the cause is its first problem.

        Args:
            report: the report so far.
            error: the exception that ended the run.
            message: the message for the operator.
            keep: number of runs to keep in the history.
        """
        report.outcome = outcome_of(error)
        report.problems = [message, *(problem for problem in report.problems if problem != message)]
        # report.json belongs to the run that holds the lock
        latest = not isinstance(error, AnotherRunError) or not (self.path / REPORT_FILE).exists()
        self.publish(report, keep, latest=latest)
        if report.unwritten is not None:
            LOGGER.warning("%s", report.unwritten)
        elif not latest:
            LOGGER.warning(
                "%s stays that of the other run; the report of this one is %s", REPORT_FILE, self.path / str(report.file)
            )

    def write(self, report: Report, keep: int = DEFAULT_KEEP, *, latest: bool = True) -> None:
        """Write report.json, report.html and the file of this run in the history.

        Args:
            report: the report.
            keep: number of runs to keep in the history.
            latest: whether to write report.json and report.html.

        Raises:
            OSError: the disk is full, or the folder was removed.
        """
        facts = report.to_dict()
        text = msgspec.json.format(msgspec.json.encode(facts), indent=2).decode() + "\n"
        report.file = report.file or history_name(self.path, report.started_at)
        if latest:
            history, delivered = read_history(self.path, past_run(facts), report.file)
            self.write_text(REPORT_FILE, text)
            tables = [REJECTED_FILE, changes_file(report.file)]
            rejected, changes = (name if (self.path / name).exists() else None for name in tables)
            self.write_text("report.html", page(facts, history, delivered, self.zone, rejected_file=rejected, changes_file=changes))
        self.write_text(report.file, text)
        prune(self.path, keep)

    def write_rejected(self, rows: Iterable[tuple[str, str, str]], settings: Settings) -> None:
        """Write the rejected contacts as Singer input for this target.

        Args:
            rows: address, JSON array of segment names, and dotdigital's code.
            settings: name the properties of the records.
        """
        stream = "rejected_contacts"
        email, segments = settings.email_property, settings.segments_property
        schema = {
            "type": "object",
            "properties": {
                email: {"type": "string"},
                segments: {"type": "array", "items": {"type": "string"}},
                "reason": {"type": "string"},
            },
        }
        lines = [{"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": [email]}]
        with self._replacing("rejected.singer.jsonl") as file:
            for count, (address, names, reason) in enumerate(rows):
                if not count:
                    file.write(msgspec.json.encode(lines[0]) + b"\n")
                record = {"reason": reason, email: address, segments: msgspec.Raw(names.encode())}
                file.write(msgspec.json.encode({"type": "RECORD", "stream": stream, "record": record}) + b"\n")

    def write_rejected_table(self, found: Iterable[RejectedContact], now: float) -> None:
        """Write the rejected contacts as CSV.

        Args:
            found: the contacts.
            now: seconds since 1970.

        Raises:
            OSError: the disk is full, or the folder was removed.
        """
        with self._replacing(REJECTED_FILE) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
            write_rejected_csv(text, found, now)

    def write_changes(self, report: Report, rows: Iterable[tuple[str, AbstractSet[str], AbstractSet[str]]]) -> None:
        """Write the contacts that joined or left a segment in a run as CSV, beside its report in the history.

        Args:
            report: report of the run.
            rows: address, segments joined, segments left.

        Raises:
            OSError: the disk is full, or the folder was removed.
        """
        report.file = report.file or history_name(self.path, report.started_at)
        with self._replacing(changes_file(report.file)) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(CHANGES_COLUMNS)
            writer.writerows(map(_harmless, (address, _joined(joined), _joined(left))) for address, joined, left in rows)

    def write_text(self, name: str, text: str) -> None:
        """Write a file atomically.

        Args:
            name: its path in the folder.
            text: its content.

        Raises:
            OSError: the disk is full, or the folder was removed.
        """
        with self._replacing(name) as file:
            file.write(text.encode())

    def remove_before(self, moment: datetime.datetime) -> None:
        """Remove the reports of single runs that started before a moment, in UTC.

        Raises:
            OSError: a file cannot be removed.
        """
        prune_before(self.path, moment)

    def remove_review(self) -> None:
        """Remove a review that is out of date."""
        with contextlib.suppress(OSError):
            (self.path / REVIEW_FILE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _replacing(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file that replaces another one when it is complete. Its name is unique to this process."""
        path = self.path / name
        part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
        try:
            with open(part, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                yield file
            part.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise


def open_folder(path: str, zone: datetime.tzinfo = datetime.UTC) -> ReportFolder:
    """Create the report folder if it is missing, and check that it is writable.

    Args:
        path: the folder.
        zone: time zone of the times on the page.

    Raises:
        SettingsError: the folder is not writable.
    """
    folder = ReportFolder(Path(path), zone)
    try:
        make_private_folder(folder.path)
        # a name unique to this process: another run may be starting
        probe = f".probe.{os.getpid()}"
        folder.write_text(probe, PROBE)
        (folder.path / probe).unlink()
    except OSError as error:
        msg = (
            f"The report folder (report_dir) is not writable ({error.strerror or type(error).__name__}), so the run could not be "
            "reported. Nothing was done. Correct report_dir, or the folder's permissions."
        )
        raise SettingsError(msg) from None
    return folder


def changes_file(report_file: str) -> str:
    """Return the file of the contacts that a run changed, for the file of its report in the history."""
    return report_file.removesuffix(".json") + TABLE_SUFFIX


def write_rejected_csv(file: IO[str], found: Iterable[RejectedContact], now: float) -> int:
    """Write a header and a row for each rejected contact, and return the number of contacts.

    Args:
        file: a text file without translation of line ends.
        found: the contacts.
        now: seconds since 1970.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(REJECTED_COLUMNS)
    count = 0
    for count, contact in enumerate(found, 1):  # noqa: B007 - the number of rows is the result
        cells = (contact.email, _labels(contact.desired), contact.code, advice_on(contact.code))
        writer.writerow([*map(_harmless, cells), _iso(contact.first_seen), _iso(contact.last_seen), _next(contact, now)])
    return count


def remove_address(folder: Path, email: str) -> int:
    """Remove an address from the files of rejected and changed contacts, and return the number of rows that were removed.

    Args:
        folder: the report folder, which may be missing.
        email: normalised address.

    Raises:
        OSError: a file cannot be read or written.
    """
    return sum(
        _remove_rows(path, _harmless(email)) for path in (folder / REJECTED_FILE, *(folder / FOLDER).glob(f"*{TABLE_SUFFIX}"))
    )


def _remove_rows(path: Path, cell: str) -> int:
    if not path.exists():
        return 0
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    kept = [row for row in rows if not row or row[0] != cell]
    if len(kept) < len(rows):
        # in place, so that the file keeps its mode
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(kept)
    return len(rows) - len(kept)


def _labels(payload: str) -> str:
    """Return the value of the data field."""
    return without_controls("; ".join(msgspec.json.decode(payload, type=dict[str, str]).values()))


def _next(contact: RejectedContact, now: float) -> str:
    if contact.pending or (contact.retry_at is not None and contact.retry_at <= now):
        return NEXT_RUN
    return ON_CHANGE if contact.retry_at is None else _iso(contact.retry_at)


def _iso(seconds: float | None) -> str:
    return "" if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def _joined(names: AbstractSet[str]) -> str:
    return without_controls("; ".join(sorted(names)))


def _harmless(cell: str) -> str:
    """Return a cell that no spreadsheet runs as a formula."""
    return f"'{cell}" if cell.startswith(FORMULAS) else cell
