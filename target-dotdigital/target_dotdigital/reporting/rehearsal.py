"""Shows the result of a rehearsal, stores it in the report folder, and finds it again for reviews and reports."""

from __future__ import annotations

import datetime  # noqa: TC003 - msgspec reads the annotations
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2
import msgspec

from target_dotdigital.errors import ReportError
from target_dotdigital.texts import shown, without_controls

if TYPE_CHECKING:
    from pathlib import Path

    from target_dotdigital.reporting.folder import ReportFolder

JSON_FILE, PAGE_FILE = "rehearsal.json", "rehearsal.html"
WIDTH = 100
INDENT = " " * 14


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


class _StoredPlan(msgspec.Struct):
    total: int


class _StoredReport(msgspec.Struct):
    plan: _StoredPlan | None = None


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


def rehearsal_line(summary: RehearsalSummary | None) -> str:
    """Return one line about the last rehearsal, for reviews and reports."""
    if summary is None:
        return "Rehearsal: none for this account. Run target-dotdigital --rehearse before you activate (setting rehearsal_emails)."
    counts = f"{summary.confirmed} confirmed, {len(summary.refuted)} refuted, {summary.not_tested} not tested"
    line = f"Rehearsal: {summary.finished_at:%Y-%m-%d %H:%M} UTC, {counts}"
    return f"{line}. Refuted: {', '.join(summary.refuted)}; see rehearsal.html." if summary.refuted else f"{line}."


def planned_contacts(folder: Path) -> int | None:
    """Return the number of contacts that the last run wanted to send, or None if it is unknown or none."""
    try:
        stored = msgspec.json.decode((folder / "report.json").read_bytes(), type=_StoredReport)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return stored.plan.total or None if stored.plan else None


def write_rehearsal(folder: ReportFolder, facts: dict[str, Any]) -> None:
    """Write rehearsal.json and rehearsal.html, readable by their owner only.

    Raises:
        ReportError: the disk is full, or the folder was removed.
    """
    try:
        folder.write_text(PAGE_FILE, rehearsal_page(facts))
        folder.write_text(JSON_FILE, msgspec.json.format(msgspec.json.encode(facts), indent=2).decode() + "\n")
    except OSError as error:
        msg = (
            f"The result of the rehearsal could not be written to report_dir ({type(error).__name__}). Free some space, and run it again: "
            "it continues where it stopped."
        )
        raise ReportError(msg) from None


def rehearsal_page(facts: dict[str, Any]) -> str:
    """Render the result as an HTML page.

    Args:
        facts: the result as JSON values.
    """
    environment = jinja2.Environment(
        # names of programs and fields are untrusted
        finalize=lambda value: without_controls(value) if type(value) is str else value,
        loader=jinja2.PackageLoader("target_dotdigital.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("rehearsal.html.j2").render(**facts)


def rehearsal_table(facts: dict[str, Any]) -> str:
    """Return the result as a table for the screen.

    Args:
        facts: the result as JSON values.
    """
    lines = []
    for finding in facts["findings"]:
        lines.append(
            f"{finding['verdict'].upper() if finding['verdict'] == 'refuted' else finding['verdict']:<12}  {finding['title']}"
        )
        lines += _wrapped(finding["seen"])
        if finding["consequence"]:
            lines += _wrapped(f"What to do: {finding['consequence']}")
    lines.append("")
    lines += [f"First load: {line}" for line in facts["forecast"]]
    if length := facts["settings"].get("max_value_length"):
        lines.append(f"Recommended setting: max_value_length: {length}")
    if facts["cleanup"]:
        lines += ["Remove by hand in dotdigital when you no longer need them:", *(f"  {one}" for one in facts["cleanup"])]
    counts = facts["counts"]
    lines += ["", ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + "."]
    return "\n".join(without_controls(line) for line in lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
