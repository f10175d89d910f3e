"""The report of a run: one summary line, a JSON file for machines and a page for people."""

from __future__ import annotations

import enum
import heapq
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import msgspec

from target_dotdigital.collector import Intake
from target_dotdigital.deliveries import Verdict
from target_dotdigital.errors import SettingsError
from target_dotdigital.imports import Tally
from target_dotdigital.metrics import emit
from target_dotdigital.private import make_private_folder
from target_dotdigital.texts import without_controls

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable

    from target_dotdigital.plan import Plan
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")
VERSION = 1
# as much as a report takes: a full disk has room for an empty file
PROBE = " " * 65_536
# a page or a report with millions of names is of use to nobody
MAX_SEGMENTS = 1_000
ADVICE = {
    "invalidemail": "The address is not one that can receive mail. Correct it in the shop.",
    "invaliddomain": "The domain of the address does not exist. Correct it in the shop.",
    "globallysuppressed": "dotdigital mails this address for nobody: it complained, or is a trap. Leave it.",
    "suppressedbydomain": "The domain asked dotdigital not to be mailed. Leave it.",
    "blocker": "dotdigital blocks this address. Leave it, or ask its support.",
    "invalidcontactid": "The contact was deleted in dotdigital since. Nothing to do.",
    "invalidaddressbookids": "The address book was deleted while the run worked. Run again.",
    "apischemaviolation": "A value does not fit its data field. Lower max_value_length, or check the field's type.",
    "no e-mail address": "The source holds something that is no e-mail address. Correct it in the shop.",
    "no list of segments": "The record names no list of segments, so its labels were left alone. Check the tap.",
}


class Outcome(enum.StrEnum):
    """How a run ended."""

    DELIVERED = "delivered"
    PARTLY = "partly delivered"
    NOTHING = "nothing to do"
    INCOMPLETE = "incomplete input"
    NO_INPUT = "no input"
    NOT_ACTIVATED = "not activated"
    DRY_RUN = "dry run"
    BRAKED = "braked"
    FAILED = "failed"


# the ends of a run that was allowed to write
ENDED = frozenset({Outcome.DELIVERED, Outcome.PARTLY, Outcome.NOTHING, Outcome.INCOMPLETE, Outcome.FAILED})


@dataclass(slots=True)
class Report:
    """Everything that a run has to tell. Holds no address of a contact and no secret."""

    started_at: datetime.datetime
    finished_at: datetime.datetime | None = None
    run: int = 0
    outcome: Outcome = Outcome.FAILED
    account: str = ""
    region: str = ""
    address_book: str = ""
    data_field: str = ""
    intake: Intake = field(default_factory=Intake)
    plan: Plan | None = None
    import_calls: int = 0
    tally: Tally = field(default_factory=Tally)
    unknown: int = 0
    left: int = 0
    held: int = 0
    still_refused: int = 0
    incomplete: bool = False
    restored: int | None = None
    unwritten: str | None = None
    segments: dict[str, int] = field(default_factory=dict)
    segments_before: dict[str, int] = field(default_factory=dict)
    look_alikes: list[str] = field(default_factory=list)
    programs: list[str] | None = None
    limits: dict[str, int] = field(default_factory=dict)
    activation_code: str | None = None
    calls: dict[str, int] = field(default_factory=dict)
    waited: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def received(self) -> tuple[int, int, int]:
        """Records, contacts, and records left out."""
        intake = self.intake
        return intake.read, intake.distinct, sum(intake.invalid.values()) + intake.excluded

    def summary(self) -> str:
        """Say in one line what the run did."""
        read, distinct, left_out = self.received
        planned = self.plan.total if self.plan else 0
        verdicts = self.tally.verdicts
        parts = [
            f"{read:,} records read",
            f"{distinct:,} contacts",
            f"{planned:,} to change",
            f"{self.tally.sent:,} sent",
            f"{verdicts[Verdict.CREATED]:,} created",
            f"{verdicts[Verdict.UPDATED]:,} updated",
            f"{verdicts[Verdict.REFUSED] + left_out:,} refused or left out",
            *([f"{self.held:,} held"] if self.held else []),
            f"{self.tally.unaccounted:,} unaccounted for",
            f"{sum(self.calls.values()):,} calls to dotdigital",
        ]
        # a run that may not write leaves no number behind
        name = f"Run {self.run}" if self.run and self.outcome in ENDED else "Run"
        return f"{name} {self.outcome.value}: {', '.join(parts)}."

    def to_dict(self) -> dict[str, Any]:
        """Give the report as JSON values; the keys are documented in the README and stay."""
        plan, intake, verdicts = self.plan, self.intake, self.tally.verdicts
        return {
            "version": VERSION,
            "run": self.run,
            "outcome": self.outcome.value,
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "account": {"name": self.account, "region": self.region},
            "address_book": self.address_book,
            "data_field": self.data_field,
            "read": intake.read,
            "distinct": intake.distinct,
            "doubled": intake.doubled,
            "vanished": intake.vanished,
            "excluded": intake.excluded,
            "invalid": dict(intake.invalid),
            "unknown_to_dotdigital": self.unknown,
            "incomplete": self.incomplete,
            "restored_run": self.restored,
            "plan": None
            if plan is None
            else {
                "total": plan.total,
                "created": plan.created,
                "updated": plan.updated,
                "cleared": plan.cleared,
                "listed": plan.listed,
                "repeated": plan.repeated,
                "untouched": plan.untouched,
                "orphaned": plan.orphaned,
                "labelled": plan.labelled,
                "import_calls": self.import_calls,
                "samples": [
                    {"before": _values(sample.before), "after": _values(sample.after), "contacts": sample.contacts}
                    for sample in plan.samples
                ],
            },
            "sent": self.tally.sent,
            "created": verdicts[Verdict.CREATED],
            "updated": verdicts[Verdict.UPDATED],
            "refused": verdicts[Verdict.REFUSED],
            "unaccounted": self.tally.unaccounted,
            "left_for_later": self.left,
            "held": self.held,
            "refusals": dict(self.tally.reasons),
            "new_refusals": dict(self.tally.new_reasons),
            "still_refused": self.still_refused,
            "segments": self._segments(),
            "segments_not_shown": max(0, len(self.segments_before | self.segments) - MAX_SEGMENTS),
            "overflow": dict(intake.dropped),
            "look_alikes": self.look_alikes,
            "active_programs": self.programs,
            "activation_code": self.activation_code,
            "calls": self.calls,
            "waited_seconds": round(self.waited, 1),
            "problems": self.problems,
        }

    def _segments(self) -> dict[str, dict[str, int]]:
        counted = dict.fromkeys(self.segments_before, 0) | self.segments
        if len(counted) > MAX_SEGMENTS:
            largest = heapq.nlargest(MAX_SEGMENTS, counted.items(), key=lambda one: one[1])
            counted = dict(sorted(largest))
        return {name: {"contacts": count, "change": count - self.segments_before.get(name, 0)} for name, count in counted.items()}


class ReportFolder:
    """Where reports are written; nobody else may read them.

    Args:
        path: the folder.

    Raises:
        SettingsError: it cannot be written to.
    """

    def __init__(self, path: str) -> None:
        """Make the folder if it is missing, and try it."""
        self.path = Path(path)
        try:
            make_private_folder(self.path)
            self.write_text(".probe", PROBE)
            (self.path / ".probe").unlink()
        except OSError as error:
            msg = (
                f"The report folder (report_dir) cannot be written to ({type(error).__name__}): nobody would learn what the run did, so "
                "nothing was done. Check its rights and the free space."
            )
            raise SettingsError(msg) from None

    def publish(self, report: Report) -> None:
        """Write the report and its metrics; a folder that cannot be written to is noted in the report."""
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
            OSError: the disk is full, or the folder was taken away.
        """
        facts = report.to_dict()
        self.write_text("report.json", msgspec.json.format(msgspec.json.encode(facts), indent=2).decode() + "\n")
        self.write_text("report.html", page(facts, report.summary()))

    def write_refused(self, rows: Iterable[tuple[str, str, str]], settings: Settings) -> None:
        """Write the refused contacts as Singer input for this target: address, JSON array of names, dotdigital's code."""
        stream = "refused_contacts"
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
        with self._open(".refused.singer.jsonl.part") as file:
            for count, (address, names, reason) in enumerate(rows):
                if not count:
                    file.write(msgspec.json.encode(lines[0]) + b"\n")
                record = {"reason": reason, email: address, segments: msgspec.Raw(names.encode())}
                file.write(msgspec.json.encode({"type": "RECORD", "stream": stream, "record": record}) + b"\n")
        (self.path / ".refused.singer.jsonl.part").replace(self.path / "refused.singer.jsonl")

    def write_text(self, name: str, text: str) -> None:
        """Write a file, whole or not at all."""
        with self._open(f".{name}.part") as file:
            file.write(text.encode())
        (self.path / f".{name}.part").replace(self.path / name)

    def _open(self, name: str) -> Any:
        return open(self.path / name, "wb", opener=lambda path, flags: os.open(path, flags, 0o600))


def page(facts: dict[str, Any], summary: str) -> str:
    """Give the page for people."""
    environment = jinja2.Environment(
        # names of segments come from outside
        finalize=lambda value: without_controls(value) if type(value) is str else value,
        loader=jinja2.PackageLoader("target_dotdigital"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(**facts, summary=summary, advice=ADVICE)


def _values(payload: str | None) -> dict[str, str] | None:
    return None if payload is None else msgspec.json.decode(payload)
