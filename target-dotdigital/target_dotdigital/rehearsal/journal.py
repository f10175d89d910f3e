"""The journal of an unfinished rehearsal, so that one that was interrupted continues with what it knew before it wrote anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.dotdigital.full_contacts import Record  # noqa: TC001 - msgspec reads the annotations
from target_dotdigital.errors import ReportError
from target_dotdigital.rehearsal.result import Finding  # noqa: TC001 - likewise

if TYPE_CHECKING:
    from target_dotdigital.reporting.folder import ReportFolder

FILE = "rehearsal-progress.json"
VERSION = 1


class Facts(msgspec.Struct):
    """What later steps need to know of earlier ones.

    Args:
        blocked: why nothing more can be written; empty if nothing stands in the way.
        stale_reads: number of reads after the first import that did not show it yet.
        stale_seconds: seconds until the first import was visible.
        import_seconds: duration of each import.
        import_polls: number of status reads of each import.
        max_value_length: longest value that came back unchanged; None if unknown.
        capitals_matter: whether the same address in capitals is another contact.
        leftovers: what was created besides the rehearsal's own names and addresses.
    """

    blocked: str = ""
    stale_reads: int = 0
    stale_seconds: float = 0.0
    import_seconds: list[float] = []
    import_polls: list[int] = []
    max_value_length: int | None = None
    capitals_matter: bool = False
    leftovers: list[str] = []


class Journal(msgspec.Struct):
    """The state of a rehearsal.

    Args:
        key: digest of account, names and addresses.
        started_at: time at which it was confirmed.
        before: the contacts before anything was written, in the order of the setting.
        steps: findings of the completed steps.
        facts: what later steps need to know.
        version: version of this format.
    """

    key: str
    started_at: str
    before: list[Record | None]
    steps: dict[str, list[Finding]] = {}
    facts: Facts = msgspec.field(default_factory=Facts)
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class JournalFile:
    """The file of the journal, in the report folder.

    Args:
        folder: the report folder.
    """

    folder: ReportFolder

    def load(self, key: str) -> Journal | None:
        """Return the journal of an interrupted rehearsal, or None if there is none for this account and these addresses."""
        try:
            journal = msgspec.json.decode((self.folder.path / FILE).read_bytes(), type=Journal)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return journal if journal.key == key and journal.version == VERSION else None

    @staticmethod
    def new(key: str, started_at: str, before: list[Record | None]) -> Journal:
        """Return the journal of a new rehearsal; it is not written yet."""
        return Journal(key, started_at, before)

    def save(self, journal: Journal) -> None:
        """Write the journal.

        Raises:
            ReportError: the disk is full, or the folder was removed.
        """
        try:
            self.folder.write_text(FILE, msgspec.json.encode(journal).decode())
        except OSError as error:
            msg = (
                f"The progress of the rehearsal could not be written to report_dir ({type(error).__name__}), so it stopped. Free some "
                "space, and run it again: it continues."
            )
            raise ReportError(msg) from None

    def remove(self) -> None:
        """Remove the journal of a completed rehearsal."""
        (self.folder.path / FILE).unlink(missing_ok=True)
