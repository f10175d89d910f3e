"""Shows the result of a rehearsal, and stores it in the report folder."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.errors import ReportError
from target_dotdigital.reporting.last_rehearsal import JSON_FILE
from target_dotdigital.reporting.page import environment
from target_dotdigital.texts import without_controls

if TYPE_CHECKING:
    from pathlib import Path

    from target_dotdigital.reporting.folder import ReportFolder

PAGE_FILE = "rehearsal.html"
WIDTH = 100
INDENT = " " * 14


class _StoredPlan(msgspec.Struct):
    total: int


class _StoredReport(msgspec.Struct):
    plan: _StoredPlan | None = None


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
    return environment().get_template("rehearsal.html.j2").render(**facts)


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
