"""The folder that a run's report is written to."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.errors import SettingsError
from target_dotdigital.private import make_private_folder
from target_dotdigital.reporting.metrics import emit
from target_dotdigital.reporting.page import page

if TYPE_CHECKING:
    from collections.abc import Iterable

    from target_dotdigital.reporting.report import Report
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")
# about the size of a report: an empty probe file would fit on a full disk
PROBE = " " * 65_536


@dataclass(frozen=True, slots=True)
class ReportFolder:
    """The report folder; only its owner may read the files in it."""

    path: Path

    def publish(self, report: Report) -> None:
        """Write the report and emit its metrics; if the folder is not writable, record that in `report.unwritten`."""
        try:
            self.write(report)
        except OSError as error:
            report.unwritten = (
                f"The report could not be written ({type(error).__name__}: {error.strerror}): the disk of report_dir is perhaps full, and "
                f"report.json is still that of an earlier run. {report.summary()} Free some space, and run again."
            )
            LOGGER.error("%s", report.unwritten)  # noqa: TRY400 - one line
        emit(report)

    def write(self, report: Report) -> None:
        """Write report.json and report.html.

        Raises:
            OSError: the disk is full, or the folder was removed.
        """
        facts = report.to_dict()
        self.write_text("report.json", msgspec.json.format(msgspec.json.encode(facts), indent=2).decode() + "\n")
        self.write_text("report.html", page(facts))

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

    def write_text(self, name: str, text: str) -> None:
        """Write a file atomically."""
        with self._open(f".{name}.part") as file:
            file.write(text.encode())
        (self.path / f".{name}.part").replace(self.path / name)

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
