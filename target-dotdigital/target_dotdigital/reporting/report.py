"""The report of a run: one summary line, a JSON file for machines and a page for people."""

from __future__ import annotations

import datetime
import enum
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.errors import BrakeError, IncompleteInputError, NoInputError, NotActivatedError
from target_dotdigital.records import Verdict
from target_dotdigital.stats import DeliveryStats, InputStats, Planned, Remaining

if TYPE_CHECKING:
    from target_dotdigital.reporting.last_rehearsal import RehearsalSummary
    from target_dotdigital.settings import LabelSettings

VERSION = 1
# After a bulk update through the API, dotdigital may take up to 30 minutes before it begins to refresh the segments that look at it:
# dotdigital's help centre, "Changes to the way Segments refresh when using the API" (212210628).
SEGMENT_LAG = datetime.timedelta(minutes=30)
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

# outcomes of runs that ended with an exception; all others failed
ENDINGS: dict[type[BaseException], RunStatus] = {
    BrakeError: RunStatus.BRAKED,
    IncompleteInputError: RunStatus.INCOMPLETE,
    NoInputError: RunStatus.NO_INPUT,
    NotActivatedError: RunStatus.NOT_ACTIVATED,
}


def outcome_of(error: BaseException) -> RunStatus:
    """Return how a run ended that an exception has ended."""
    return ENDINGS.get(type(error), RunStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a run delivers to.

    Args:
        account: name of the account.
        region: base URL of the account's region.
        address_book: name of the address book.
        data_field: data field that holds the labels.
        account_id: ID of the account; None if the run failed before it knew it.
        labels: how segment names become data field values; None likewise.
    """

    account: str = ""
    region: str = ""
    address_book: str = ""
    data_field: str = ""
    account_id: int | None = None
    labels: LabelSettings | None = None


@dataclass(frozen=True, slots=True)
class ReviewFacts:
    """What only a review shows.

    Args:
        activation_code: code that activates the sync for these settings.
        programs: names of active programs; None if the API user may not see them.
        address_book: the address book, and whether it would be created.
        data_field: the data field, and whether it would be created.
        cost: import calls, and what the account allows; one sentence.
        rehearsal: the last rehearsal, in one line.
        code_given: whether the settings have an activation code, which is not this one unless the sync is active.
    """

    activation_code: str
    programs: list[str] | None
    address_book: str
    data_field: str
    cost: str
    rehearsal: str
    code_given: bool


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls to dotdigital by kind, and seconds spent waiting."""

    calls: dict[str, int] = field(default_factory=dict)
    waited: float = 0.0


@dataclass(slots=True)
class Report:
    """The facts of a run, to which each of its steps adds a part. Contains no contact addresses and no secrets."""

    started_at: datetime.datetime
    finished_at: datetime.datetime | None = None
    run: int = 0
    outcome: RunStatus = RunStatus.FAILED
    destination: Destination = field(default_factory=Destination)
    dry_run: bool = False
    restored: int | None = None
    intake: InputStats = field(default_factory=InputStats)
    incomplete: bool = False
    checked: int = 0
    planned: Planned | None = None
    review: ReviewFacts | None = None
    tally: DeliveryStats = field(default_factory=DeliveryStats)
    cleared: int = 0
    remaining: Remaining = field(default_factory=Remaining)
    traffic: Traffic = field(default_factory=Traffic)
    rehearsal: RehearsalSummary | None = None
    unwritten: str | None = None
    # its file in the history, relative to the report folder; None before it is written
    file: str | None = None
    problems: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return the summary of the run in one line."""
        intake = self.intake
        planned = self.planned.plan.total if self.planned else 0
        verdicts = self.tally.verdicts
        parts = [
            f"{intake.read:,} records read",
            f"{intake.distinct:,} contacts",
            f"{planned:,} to change",
            f"{self.tally.sent:,} sent",
            f"{verdicts[Verdict.CREATED]:,} created",
            f"{verdicts[Verdict.UPDATED]:,} updated",
            f"{verdicts[Verdict.REJECTED] + intake.left_out:,} rejected or left out",
            *([f"{self.remaining.held:,} held"] if self.remaining.held else []),
            f"{self.tally.unconfirmed:,} unconfirmed",
            *([f"{self.checked} checked"] if self.checked else []),
            f"{sum(self.traffic.calls.values()):,} calls to dotdigital",
        ]
        # the number of a run that may not write is not kept
        name = f"Run {self.run}" if self.run and self.outcome in ENDED else "Run"
        return f"{name} {self.outcome.value}: {', '.join(parts)}."

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values; the keys are a public interface, which report.schema.json describes."""
        intake, verdicts, planned, review, remaining = self.intake, self.tally.verdicts, self.planned, self.review, self.remaining
        destination = self.destination
        return {
            "version": VERSION,
            "run": self.run,
            "outcome": self.outcome.value,
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "dry_run": self.dry_run,
            "account": {"id": destination.account_id, "name": destination.account, "region": destination.region},
            "address_book": destination.address_book,
            "data_field": destination.data_field,
            "labels": _labels(destination.labels, planned) if destination.labels else None,
            "read": intake.read,
            "distinct": intake.distinct,
            "duplicates": intake.duplicates,
            "removed": intake.removed,
            "excluded": intake.excluded,
            "invalid": dict(intake.invalid),
            "checked": self.checked,
            "unknown_to_dotdigital": planned.unknown if planned else 0,
            "incomplete": self.incomplete,
            "restored_run": self.restored,
            "plan": _plan(planned) if planned else None,
            "sent": self.tally.sent,
            "created": verdicts[Verdict.CREATED],
            "updated": verdicts[Verdict.UPDATED],
            "cleared": self.cleared,
            "rejected": verdicts[Verdict.REJECTED],
            "unconfirmed": self.tally.unconfirmed,
            "left_for_later": remaining.pending,
            "held": remaining.held,
            "rejections": dict(self.tally.reasons),
            "new_rejections": dict(self.tally.new_reasons),
            "remarks": dict(self.tally.remarks),
            "respelled": self.tally.respelled,
            "still_rejected": remaining.rejected,
            **_segments(planned),
            "overflow": dict(intake.dropped),
            "ambiguous_names": list(planned.ambiguous_names) if planned else [],
            "active_programs": review.programs if review else None,
            "activation_code": review.activation_code if review else None,
            "review": _review(review) if review else None,
            "rehearsal": self.rehearsal.to_dict() if self.rehearsal else None,
            "safe_to_mail_at": self._safe_to_mail_at(),
            "calls": self.traffic.calls,
            "waited_seconds": round(self.traffic.waited, 1),
            "problems": self.problems,
        }

    def _safe_to_mail_at(self) -> str | None:
        """Return from when on dotdigital's own segments contain what the run delivered; None if it did not deliver all of it."""
        if self.finished_at is None or not self.tally.sent or self.outcome is not RunStatus.DELIVERED or self.restored is not None:
            return None
        return (self.finished_at + SEGMENT_LAG).isoformat()


def _review(review: ReviewFacts) -> dict[str, Any]:
    return {
        "address_book": review.address_book,
        "data_field": review.data_field,
        "cost": review.cost,
        "rehearsal": review.rehearsal,
        "code_given": review.code_given,
    }


def _labels(labels: LabelSettings, planned: Planned | None) -> dict[str, Any]:
    """Return how labels are written, and the labels of the segments that are renamed."""
    segments = _segments(planned)["segments"]
    return {
        "fields": [labels.field],
        "delimiter": labels.delimiter,
        "enclosed": labels.enclosed,
        "renamed": {name: label for name, label in labels.labels if name in segments},
    }


def _plan(planned: Planned) -> dict[str, Any]:
    plan = planned.plan
    return {
        "total": plan.total,
        "created": plan.created,
        "created_without_labels": plan.created_without_labels,
        "updated": plan.updated,
        "cleared": plan.cleared,
        "added_to_address_book": plan.added_to_address_book,
        "resent": plan.resent,
        "unchanged": plan.unchanged,
        "orphaned": plan.orphaned,
        "labelled": plan.labelled,
        "import_calls": planned.import_calls,
        "samples": [
            {"before": _values(sample.before), "after": _values(sample.after), "contacts": sample.contacts}
            for sample in plan.samples
        ],
    }


def _segments(planned: Planned | None) -> dict[str, Any]:
    before = planned.segments_before if planned else {}
    counted = dict.fromkeys(before, 0) | (planned.segments if planned else {})
    left_out = max(0, len(counted) - MAX_SEGMENTS)
    if left_out:
        counted = dict(sorted(heapq.nlargest(MAX_SEGMENTS, counted.items(), key=lambda one: one[1])))
    shown = {name: {"contacts": count, "change": count - before.get(name, 0)} for name, count in counted.items()}
    return {"segments": shown, "segments_not_shown": left_out}


def _values(payload: str | None) -> dict[str, str] | None:
    return None if payload is None else msgspec.json.decode(payload)
