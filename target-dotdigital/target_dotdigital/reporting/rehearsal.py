"""Shows the result of a rehearsal, and stores it in the report folder."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.errors import ReportError
from target_dotdigital.reporting.last_rehearsal import JSON_FILE
from target_dotdigital.reporting.page import environment
from target_dotdigital.text import without_controls

if TYPE_CHECKING:
    from target_dotdigital.reporting.folder import ReportFolder

PAGE_FILE = "rehearsal.html"
WIDTH_CHARACTERS = 100
INDENT = " " * 14


def write_rehearsal(folder: ReportFolder, facts: dict[str, Any]) -> None:
    """Write rehearsal.json and rehearsal.html, readable by their owner only.

    Raises:
        ReportError: the disk is full, or the folder was removed.
    """
    try:
        folder.write_text(PAGE_FILE, environment().get_template("rehearsal.html.j2").render(**facts))
        folder.write_text(JSON_FILE, msgspec.json.format(msgspec.json.encode(facts), indent=2).decode() + "\n")
    except OSError as error:
        msg = f"The result could not be written to report_dir ({type(error).__name__}). Free some space, and rehearse again."
        raise ReportError(msg) from None


def rehearsal_table(facts: dict[str, Any]) -> str:
    """Return the result as a table for the screen.

    Args:
        facts: the result as JSON values.
    """
    lines = []
    for finding in facts["findings"]:
        verdict = finding["verdict"]
        lines.append(f"{verdict.upper() if verdict == 'refuted' else verdict:<12}  {finding['title']}")
        lines += _wrapped(finding["seen"])
        if finding["consequence"]:
            lines += _wrapped(f"What to do: {finding['consequence']}")
    lines.append("")
    if length := facts["settings"].get("max_value_length"):
        lines.append(f"Recommended setting: max_value_length: {length}")
    if facts["cleanup"]:
        lines += ["Remove by hand in dotdigital when you no longer need them:", *(f"  {line}" for line in facts["cleanup"])]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in facts["counts"].items())
    return "\n".join(without_controls(line) for line in (*lines, "", f"{counts}."))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH_CHARACTERS, initial_indent=INDENT, subsequent_indent=INDENT)
