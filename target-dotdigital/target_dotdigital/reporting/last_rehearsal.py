"""Finds the last rehearsal in the report folder, for reviews and reports."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.clock import local_time
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from pathlib import Path

JSON_FILE = "rehearsal.json"


class _Account(msgspec.Struct):
    id: int
    name: str


class _Finding(msgspec.Struct):
    title: str
    verdict: str


class _Stored(msgspec.Struct):
    account: _Account
    finished_at: datetime.datetime
    counts: dict[str, int]
    findings: list[_Finding]


@dataclass(frozen=True, slots=True)
class RehearsalSummary:
    """The last rehearsal for an account.

    Args:
        account: name of the account.
        finished_at: when it ended, in UTC.
        confirmed: number of confirmed assumptions.
        refuted: titles of the refuted assumptions.
        not_tested: number of assumptions that were not tested.
    """

    account: str
    finished_at: datetime.datetime
    confirmed: int
    refuted: tuple[str, ...]
    not_tested: int

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {
            "finished_at": self.finished_at.isoformat(),
            "confirmed": self.confirmed,
            "refuted": len(self.refuted),
            "not_tested": self.not_tested,
            "refuted_titles": list(self.refuted),
        }


def last_rehearsal(folder: Path, account_id: int) -> RehearsalSummary | None:
    """Return the last rehearsal for an account, or None if the report folder holds none.

    Args:
        folder: the report folder.
        account_id: the account's ID.
    """
    try:
        stored = msgspec.json.decode((folder / JSON_FILE).read_bytes(), type=_Stored)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    if stored.account.id != account_id:
        return None
    counts = stored.counts
    refuted = tuple(shown(finding.title) for finding in stored.findings if finding.verdict == "refuted")
    return RehearsalSummary(
        shown(stored.account.name), stored.finished_at, counts.get("confirmed", 0), refuted, counts.get("not tested", 0)
    )


def rehearsal_line(summary: RehearsalSummary | None, zone: datetime.tzinfo = datetime.UTC) -> str:
    """Return one line about the last rehearsal, for reviews and reports."""
    if summary is None:
        return "Rehearsal: none for this account. Run the command rehearse before you activate (setting rehearsal_emails)."
    counts = f"{summary.confirmed} confirmed, {len(summary.refuted)} refuted, {summary.not_tested} not tested"
    line = f"Rehearsal: {local_time(summary.finished_at, zone)}, {counts}"
    return f"{line}. Refuted: {', '.join(summary.refuted)}; see rehearsal.html." if summary.refuted else f"{line}."
