"""The folder that a run's report is written to."""

from __future__ import annotations

import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.errors import SettingsError
from target_dotdigital.private import make_private_folder
from target_dotdigital.reporting.history import DEFAULT_KEEP, history_name, past_run, prune, read_history
from target_dotdigital.reporting.metrics import emit
from target_dotdigital.reporting.page import page
from target_dotdigital.reporting.rejected_csv import write_rejected_csv

if TYPE_CHECKING:
    from collections.abc import Iterable

    from target_dotdigital.ledger.contacts.lookup import RejectedContact
    from target_dotdigital.reporting.report import Report
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")
# about the size of a report: an empty probe file would fit on a full disk
PROBE = " " * 65_536
REJECTED_FILE = "rejected.csv"


@dataclass(frozen=True, slots=True)
class ReportFolder:
    """The report folder; only its owner may read the files in it."""

    path: Path

    def publish(self, report: Report, keep: int = DEFAULT_KEEP) -> None:
        """Write the report and emit its metrics; if the folder is not writable, record that in `report.unwritten`.

        Args:
            report: the report.
            keep: number of runs to keep in the history.
        """
        try:
            self.write(report, keep)
        except OSError as error:
            report.unwritten = (
                f"The report could not be written ({type(error).__name__}: {error.strerror}): the disk of report_dir is perhaps full, and "
                f"report.json is still that of an earlier run. {report.summary()} Free some space, and run again."
            )
            LOGGER.error("%s", report.unwritten)  # noqa: TRY400 - one line
        emit(report)

    def write(self, report: Report, keep: int = DEFAULT_KEEP) -> None:
        """Write report.json, report.html and the file of this run in the history.

        Args:
            report: the report.
            keep: number of runs to keep in the history.

        Raises:
            OSError: the disk is full, or the folder was removed.
        """
        facts = report.to_dict()
        text = msgspec.json.format(msgspec.json.encode(facts), indent=2).decode() + "\n"
        history = read_history(self.path, past_run(facts))
        self.write_text("report.json", text)
        self.write_text("report.html", page(facts, history, has_rejected_file=(self.path / REJECTED_FILE).exists()))
        self.write_text(history_name(self.path, report.started_at), text)
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
        with self._open(".rejected.singer.jsonl.part") as file:
            for count, (address, names, reason) in enumerate(rows):
                if not count:
                    file.write(msgspec.json.encode(lines[0]) + b"\n")
                record = {"reason": reason, email: address, segments: msgspec.Raw(names.encode())}
                file.write(msgspec.json.encode({"type": "RECORD", "stream": stream, "record": record}) + b"\n")
        (self.path / ".rejected.singer.jsonl.part").replace(self.path / "rejected.singer.jsonl")

    def write_rejected_table(self, found: Iterable[RejectedContact], now: float) -> None:
        """Write the rejected contacts as CSV.

        Args:
            found: the contacts.
            now: seconds since 1970.

        Raises:
            OSError: the disk is full, or the folder was removed.
        """
        part = f".{REJECTED_FILE}.part"
        with self._open(part) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
            write_rejected_csv(text, found, now)
        (self.path / part).replace(self.path / REJECTED_FILE)

    def write_text(self, name: str, text: str) -> None:
        """Write a file atomically.

        Args:
            name: its path in the folder.
            text: its content.

        Raises:
            OSError: the disk is full, or the folder was removed.
        """
        path = self.path / name
        part = path.with_name(f".{path.name}.part")
        with self._open(str(part.relative_to(self.path))) as file:
            file.write(text.encode())
        part.replace(path)

    def _open(self, name: str) -> Any:
        return open(self.path / name, "wb", opener=lambda path, flags: os.open(path, flags, 0o600))


def open_folder(path: str) -> ReportFolder:
    """Create the report folder if it is missing, and check that it is writable.

    Raises:
        SettingsError: the folder is not writable.
    """
    folder = ReportFolder(Path(path))
    try:
        make_private_folder(folder.path)
        folder.write_text(".probe", PROBE)
        (folder.path / ".probe").unlink()
    except OSError as error:
        msg = (
            f"The report folder (report_dir) is not writable ({type(error).__name__}), so the run could not be reported. Nothing was "
            "done. Check its permissions and the free space."
        )
        raise SettingsError(msg) from None
    return folder
