"""The report of a run: one summary line, a JSON file for machines and a page for people."""

from __future__ import annotations

import enum
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.records import Verdict
from target_dotdigital.stats import DeliveryStats, InputStats

if TYPE_CHECKING:
    import datetime

    from target_dotdigital.stats import Plan

VERSION = 1
# keeps reports readable when a shop has very many segments
MAX_SEGMENTS = 1_000


class RunStatus(enum.StrEnum):
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


# outcomes of runs that were allowed to write
ENDED = frozenset({RunStatus.DELIVERED, RunStatus.PARTLY, RunStatus.NOTHING, RunStatus.INCOMPLETE, RunStatus.FAILED})


@dataclass(slots=True)
class Report:
    """The facts of a run. Contains no contact addresses and no secrets."""

    started_at: datetime.datetime
    finished_at: datetime.datetime | None = None
    run: int = 0
    outcome: RunStatus = RunStatus.FAILED
    account: str = ""
    region: str = ""
    address_book: str = ""
    data_field: str = ""
    intake: InputStats = field(default_factory=InputStats)
    plan: Plan | None = None
    import_calls: int = 0
    tally: DeliveryStats = field(default_factory=DeliveryStats)
    unknown: int = 0
    left: int = 0
    held: int = 0
    still_rejected: int = 0
    incomplete: bool = False
    restored: int | None = None
    unwritten: str | None = None
    segments: dict[str, int] = field(default_factory=dict)
    segments_before: dict[str, int] = field(default_factory=dict)
    ambiguous_names: list[str] = field(default_factory=list)
    programs: list[str] | None = None
    limits: dict[str, int] = field(default_factory=dict)
    activation_code: str | None = None
    calls: dict[str, int] = field(default_factory=dict)
    waited: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def received(self) -> tuple[int, int, int]:
        """Records read, unique contacts, and records left out."""
        intake = self.intake
        return intake.read, intake.distinct, sum(intake.invalid.values()) + intake.excluded

    def summary(self) -> str:
        """Return the summary of the run in one line."""
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
            f"{verdicts[Verdict.REJECTED] + left_out:,} rejected or left out",
            *([f"{self.held:,} held"] if self.held else []),
            f"{self.tally.unconfirmed:,} unconfirmed",
            f"{sum(self.calls.values()):,} calls to dotdigital",
        ]
        # the number of a run that may not write is not kept
        name = f"Run {self.run}" if self.run and self.outcome in ENDED else "Run"
        return f"{name} {self.outcome.value}: {', '.join(parts)}."

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values; the keys are a public interface, documented in the README."""
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
            "duplicates": intake.duplicates,
            "removed": intake.removed,
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
                "added_to_address_book": plan.added_to_address_book,
                "resent": plan.resent,
                "unchanged": plan.unchanged,
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
            "rejected": verdicts[Verdict.REJECTED],
            "unconfirmed": self.tally.unconfirmed,
            "left_for_later": self.left,
            "held": self.held,
            "rejections": dict(self.tally.reasons),
            "new_rejections": dict(self.tally.new_reasons),
            "still_rejected": self.still_rejected,
            "segments": self._segments(),
            "segments_not_shown": max(0, len(self.segments_before | self.segments) - MAX_SEGMENTS),
            "overflow": dict(intake.dropped),
            "ambiguous_names": self.ambiguous_names,
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


def _values(payload: str | None) -> dict[str, str] | None:
    return None if payload is None else msgspec.json.decode(payload)
