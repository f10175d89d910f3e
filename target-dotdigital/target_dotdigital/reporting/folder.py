"""The folder that a run's report is written to."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from target_dotdigital.errors import AnotherRunError, SettingsError
from target_dotdigital.private import make_private_folder
from target_dotdigital.reporting.history import DEFAULT_KEEP, PART, history_name, past_run, prune, prune_before, read_history
from target_dotdigital.reporting.metrics import emit
from target_dotdigital.reporting.page import page
from target_dotdigital.reporting.rejected_csv import write_rejected_csv
from target_dotdigital.reporting.report import outcome_of

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Iterator

    from target_dotdigital.ledger.contact_queries import RejectedContact
    from target_dotdigital.reporting.report import Report
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")
# about the size of a report: an empty probe file would fit on a full disk
PROBE = " " * 65_536
REPORT_FILE = "report.json"
REJECTED_FILE = "rejected.csv"
REVIEW_FILE = "review.txt"


@dataclass(frozen=True, slots=True)
class ReportFolder:
    """The report folder; only its owner may read the files in it."""

    path: Path

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
            history = read_history(self.path, past_run(facts), report.file)
            self.write_text(REPORT_FILE, text)
            self.write_text("report.html", page(facts, history, has_rejected_file=(self.path / REJECTED_FILE).exists()))
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
        """Remove a review that is no longer true."""
        with contextlib.suppress(OSError):
            (self.path / REVIEW_FILE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _replacing(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file that replaces another one when it is complete. Its name is of this process alone."""
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


def open_folder(path: str) -> ReportFolder:
    """Create the report folder if it is missing, and check that it is writable.

    Raises:
        SettingsError: the folder is not writable.
    """
    folder = ReportFolder(Path(path))
    try:
        make_private_folder(folder.path)
        # a name of this process alone: another run may be starting
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
