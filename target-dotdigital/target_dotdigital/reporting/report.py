"""The report of a run: one summary line, a JSON file for machines and a page for people."""

from __future__ import annotations

import datetime
import enum
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from target_dotdigital.errors import BrakeError, IncompleteInputError, NoInputError, NotActivatedError
from target_dotdigital.models import DeliveryStats, InputStats, LabelChanges, Planned, Remaining, Verdict
from target_dotdigital.reporting.last_rehearsal import last_rehearsal

if TYPE_CHECKING:
    from pathlib import Path

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.reporting.last_rehearsal import RehearsalSummary
    from target_dotdigital.settings import LabelSettings, Settings

VERSION: Literal[1] = 1
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


# outcomes of runs after which dotdigital has the labels of the source
HEALTHY = frozenset({RunStatus.DELIVERED, RunStatus.PARTLY, RunStatus.NOTHING})
# outcomes of runs that were allowed to write
ENDED = HEALTHY | {RunStatus.INCOMPLETE, RunStatus.FAILED}

# outcomes of runs that ended with an exception; all others failed
ENDINGS: dict[type[BaseException], RunStatus] = {
    BrakeError: RunStatus.BRAKED,
    IncompleteInputError: RunStatus.INCOMPLETE,
    NoInputError: RunStatus.NO_INPUT,
    NotActivatedError: RunStatus.NOT_ACTIVATED,
}


def outcome_of(error: BaseException) -> RunStatus:
    """Return the outcome of a run that an exception has ended."""
    return ENDINGS.get(type(error), RunStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a run delivers to.

    Args:
        account: name of the account.
        region: base URL of the account's region.
        address_book: name of the address book.
        data_field: data field that holds the labels.
        account_id: ID of the account; None if the run failed before it was known.
        labels: how segment names become data field values; None if the run failed before that was known.
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
    # stream -> replication value in the STATE with which the input ended
    bookmarks: dict[str, str | int | float] = field(default_factory=dict)
    incomplete: bool = False
    checked: int = 0
    planned: Planned | None = None
    review: ReviewFacts | None = None
    tally: DeliveryStats = field(default_factory=DeliveryStats)
    cleared: int = 0
    # who joined and left in dotdigital; None if nothing was sent
    changes: LabelChanges | None = None
    remaining: Remaining = field(default_factory=Remaining)
    traffic: Traffic = field(default_factory=Traffic)
    rehearsal: RehearsalSummary | None = None
    unwritten: str | None = None
    # its file in the history, relative to the report folder; None before it is written
    file: str | None = None
    problems: list[str] = field(default_factory=list)

    def describe_start(self, settings: Settings, account: Account, folder: Path) -> None:
        """Fill in destination, mode and last rehearsal at the start of a run.

        Args:
            settings: the settings.
            account: the account to deliver to.
            folder: the report folder, from which the last rehearsal is read.
        """
        book = account.book.name if account.book else settings.address_book if settings.has_address_book else ""
        self.destination = Destination(account.name, account.endpoint, book, settings.data_field, account.id, settings.labels)
        self.dry_run = settings.dry_run
        self.rehearsal = last_rehearsal(folder, account.id)

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

    @property
    def safe_to_mail_at(self) -> datetime.datetime | None:
        """From when on dotdigital's own segments contain what the run delivered; None if it did not deliver all of it."""
        if self.finished_at is None or not self.tally.sent or self.outcome is not RunStatus.DELIVERED or self.restored is not None:
            return None
        return self.finished_at + SEGMENT_LAG

    def segments(self) -> dict[str, SegmentSize]:
        """Return the size of each segment that has contacts, or had some after the last run that delivered; none after a restore."""
        if self.restored is not None:
            return {}
        before = self.planned.segments_before if self.planned else {}
        counted = dict.fromkeys(before, 0) | (self.planned.segments if self.planned else {})
        changes = self.changes or (self.planned.changes if self.planned else LabelChanges())
        return {
            name: SegmentSize(count, count - before.get(name, 0), changes.joined[name], changes.left[name])
            for name, count in counted.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values; `ReportDocument` describes them."""
        facts: dict[str, Any] = msgspec.to_builtins(self._document())
        return facts

    def _document(self) -> ReportDocument:
        intake, verdicts, planned, review, remaining = self.intake, self.tally.verdicts, self.planned, self.review, self.remaining
        destination, safe_at = self.destination, self.safe_to_mail_at
        segments = self.segments()
        left_out = max(0, len(segments) - MAX_SEGMENTS)
        if left_out:
            segments = dict(sorted(heapq.nlargest(MAX_SEGMENTS, segments.items(), key=lambda segment: segment[1].contacts)))
        return ReportDocument(
            version=VERSION,
            run=self.run,
            outcome=self.outcome,
            started_at=self.started_at.isoformat(),
            finished_at=self.finished_at.isoformat() if self.finished_at else None,
            dry_run=self.dry_run,
            account=AccountDocument(destination.account_id, destination.account, destination.region),
            address_book=destination.address_book,
            data_field=destination.data_field,
            labels=_labels(destination.labels, segments) if destination.labels else None,
            read=intake.read,
            distinct=intake.distinct,
            duplicates=intake.duplicates,
            removed=intake.removed,
            excluded=intake.excluded,
            invalid=dict(intake.invalid),
            checked=self.checked,
            unknown_to_dotdigital=planned.unknown if planned else 0,
            incomplete=self.incomplete,
            restored_run=self.restored,
            plan=_plan(planned) if planned else None,
            sent=self.tally.sent,
            created=verdicts[Verdict.CREATED],
            updated=verdicts[Verdict.UPDATED],
            cleared=self.cleared,
            rejected=verdicts[Verdict.REJECTED],
            unconfirmed=self.tally.unconfirmed,
            left_for_later=remaining.pending,
            held=remaining.held,
            rejections=dict(self.tally.reasons),
            new_rejections=dict(self.tally.new_reasons),
            remarks=dict(self.tally.remarks),
            respelled=self.tally.respelled,
            still_rejected=remaining.rejected,
            segments=segments,
            segments_not_shown=left_out,
            overflow=dict(intake.dropped),
            ambiguous_names=list(planned.ambiguous_names) if planned else [],
            active_programs=review.programs if review else None,
            activation_code=review.activation_code if review else None,
            review=_review(review) if review else None,
            rehearsal=RehearsalDocument(**self.rehearsal.to_dict()) if self.rehearsal else None,
            safe_to_mail_at=safe_at.isoformat() if safe_at else None,
            calls=self.traffic.calls,
            waited_seconds=round(self.traffic.waited, 1),
            problems=self.problems,
        )


def _review(review: ReviewFacts) -> ReviewDocument:
    return ReviewDocument(review.address_book, review.data_field, review.cost, review.rehearsal, review.code_given)


def _labels(labels: LabelSettings, segments: dict[str, SegmentSize]) -> LabelsDocument:
    renamed = {name: label for name, label in labels.labels if name in segments}
    return LabelsDocument([labels.field], labels.delimiter, labels.enclosed, renamed)


def _plan(planned: Planned) -> PlanDocument:
    plan = planned.plan
    samples = [SampleDocument(_values(sample.before), _values(sample.after) or {}, sample.contacts) for sample in plan.samples]
    return PlanDocument(
        total=plan.total,
        created=plan.created,
        created_without_labels=plan.created_without_labels,
        updated=plan.updated,
        cleared=plan.cleared,
        added_to_address_book=plan.added_to_address_book,
        resent=plan.resent,
        unchanged=plan.unchanged,
        orphaned=plan.orphaned,
        labelled=plan.labelled,
        import_calls=planned.import_calls,
        samples=samples,
    )


def _values(payload: str | None) -> dict[str, str] | None:
    return None if payload is None else msgspec.json.decode(payload)


# report.json; the keys are a public interface, from which report.schema.json is generated

Count = Annotated[int, Meta(ge=0)]
Counts = dict[str, Count]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class _Object(msgspec.Struct, forbid_unknown_fields=True):
    pass


class AccountDocument(_Object):
    """The account of a run."""

    id: Count | None
    name: str
    region: str


class LabelsDocument(_Object):
    """How segment names become data field values."""

    fields: Annotated[list[str], Meta(description="Data fields that may hold labels.")]
    delimiter: Annotated[str, Meta(description="Text between two labels.")]
    enclosed: Annotated[bool, Meta(description="Whether the delimiter is also written at both ends.")]
    renamed: Annotated[
        dict[str, str],
        Meta(description="Segment to label, for the segments of this report that have another label (segment_labels)."),
    ]


class SampleDocument(_Object):
    """A change of labels that several contacts share."""

    before: dict[str, str] | None
    after: dict[str, str]
    contacts: Annotated[int, Meta(ge=1)]


class PlanDocument(_Object, kw_only=True):
    """What a run was to change."""

    total: Annotated[Count, Meta(description="Contacts to send.")]
    created: Annotated[Count, Meta(description="Contacts that do not exist in dotdigital.")]
    created_without_labels: Annotated[Count, Meta(description="Created contacts that are in no chosen segment.")]
    updated: Annotated[Count, Meta(description="Contacts whose labels change.")]
    cleared: Annotated[Count, Meta(description="Contacts that lose all labels.")]
    added_to_address_book: Annotated[
        Count, Meta(description="Contacts whose labels are current, and that are only added to the address book.")
    ]
    resent: Annotated[Count, Meta(description="Contacts sent before whose result is unknown.")]
    unchanged: Annotated[Count, Meta(description="Contacts of the input that need no update.")]
    orphaned: Annotated[Count, Meta(description="Cleared contacts that are not in the source.")]
    labelled: Annotated[Count, Meta(description="Contacts of the account that have labels now.")]
    import_calls: Annotated[Count, Meta(description="Import calls for the plan.")]
    samples: Annotated[
        list[SampleDocument],
        Meta(description="The most frequent changes: data field to value before and after; before is null for new contacts."),
    ]


class SegmentSize(_Object):
    """The size of a segment, and how many contacts joined and left it."""

    contacts: Annotated[Count, Meta(description="Contacts in the segment.")]
    change: Annotated[int, Meta(description="Change of that number since the last run that delivered.")]
    joined: Annotated[Count, Meta(description="Contacts that got its label in dotdigital.")]
    left: Annotated[Count, Meta(description="Contacts that lost its label in dotdigital.")]


class ReviewDocument(_Object):
    """What only a review shows."""

    address_book: Annotated[str, Meta(description="The address book, and whether it would be created.")]
    data_field: Annotated[str, Meta(description="The data field, and whether it would be created.")]
    cost: Annotated[str, Meta(description="Import calls, and what the account allows.")]
    rehearsal: Annotated[str, Meta(description="The last rehearsal, in one line.")]
    code_given: Annotated[
        bool, Meta(description="Whether the settings have an activation code, which is not the one of this review.")
    ]


class RehearsalDocument(_Object):
    """The last rehearsal for the account."""

    finished_at: Annotated[Moment, Meta(description="End of the rehearsal, in UTC.")]
    confirmed: Annotated[Count, Meta(description="Confirmed assumptions.")]
    refuted: Annotated[Count, Meta(description="Refuted assumptions.")]
    not_tested: Annotated[Count, Meta(description="Assumptions that were not tested.")]
    refuted_titles: Annotated[list[str], Meta(description="Titles of the refuted assumptions.")]


class ReportDocument(_Object, kw_only=True):
    """The report of a run, as in report.json and the JSON files of the folder runs."""

    version: Annotated[Literal[1], Meta(description="Version of this format.")]
    run: Annotated[
        Count,
        Meta(
            description="Number of the run in the ledger; 0 if it failed before it had one. "
            "The number of a run that was not allowed to write is used again."
        ),
    ]
    outcome: Annotated[RunStatus, Meta(description="How the run ended.")]
    started_at: Annotated[Moment, Meta(description="Start, in UTC.")]
    finished_at: Annotated[Moment | None, Meta(description="End, in UTC.")]
    dry_run: Annotated[bool, Meta(description="Whether the setting dry_run was on, so that nothing was written.")]
    account: Annotated[
        AccountDocument,
        Meta(description="The account and the base URL of its region; empty if the run failed before they were known."),
    ]
    address_book: Annotated[str, Meta(description="Name of the address book; empty if none is used or it is not known.")]
    data_field: Annotated[str, Meta(description="Data field that holds the labels; empty if the run failed before it was known.")]
    labels: Annotated[
        LabelsDocument | None,
        Meta(description="How segment names become data field values; null if the run failed before that was known."),
    ]
    read: Annotated[Count, Meta(description="Records read.")]
    distinct: Annotated[Count, Meta(description="Unique contacts in the input.")]
    duplicates: Annotated[Count, Meta(description="Records for an address that another record already has.")]
    removed: Annotated[Count, Meta(description="Contacts that are no longer in the source.")]
    excluded: Annotated[Count, Meta(description="Records that match exclude_emails.")]
    invalid: Annotated[Counts, Meta(description="Records left out, by reason.")]
    checked: Annotated[
        Count,
        Meta(description="Contacts believed unchanged that were looked up (spot check); 0 if the whole account was read back."),
    ]
    unknown_to_dotdigital: Annotated[
        Count, Meta(description="Pending contacts that dotdigital does not hold and that are not created.")
    ]
    incomplete: Annotated[bool, Meta(description="Whether the input was truncated.")]
    restored_run: Annotated[Count | None, Meta(description="Run whose changes this one put back; null for any other run.")]
    plan: Annotated[PlanDocument | None, Meta(description="What the run was to change; null if it ended before it had a plan.")]
    sent: Annotated[Count, Meta(description="Contacts sent, including those of earlier runs whose result this one received.")]
    created: Annotated[Count, Meta(description="Contacts that dotdigital reported as created.")]
    updated: Annotated[Count, Meta(description="Contacts that dotdigital reported as updated.")]
    cleared: Annotated[Count, Meta(description="Updated contacts that lost all labels.")]
    rejected: Annotated[Count, Meta(description="Contacts that dotdigital rejected.")]
    unconfirmed: Annotated[Count, Meta(description="Contacts whose result dotdigital did not report.")]
    left_for_later: Annotated[Count, Meta(description="Contacts that wait for later runs.")]
    held: Annotated[Count, Meta(description="Contacts held because the Data Watchdog rejected their import.")]
    rejections: Annotated[Counts, Meta(description="Rejected contacts of this run, by dotdigital's code.")]
    new_rejections: Annotated[
        Counts, Meta(description="Rejected contacts that were not rejected with the same code before, by code.")
    ]
    remarks: Annotated[
        Counts, Meta(description="Imported contacts of which dotdigital did not apply something, by dotdigital's code.")
    ]
    respelled: Annotated[
        Count,
        Meta(
            description="Contacts whose address is spelled differently in dotdigital's report, for example with the domain in Punycode."
        ),
    ]
    still_rejected: Annotated[Count, Meta(description="Contacts whose last delivery was rejected.")]
    segments: Annotated[
        dict[str, SegmentSize],
        Meta(
            description="The 1,000 largest segments: contacts in the source, the change since the last run that delivered, and how many "
            "contacts joined and left in dotdigital. If nothing was sent: how many would join and leave."
        ),
    ]
    segments_not_shown: Annotated[Count, Meta(description="Number of smaller segments.")]
    overflow: Annotated[Counts, Meta(description="Dropped names, and the number of segment sets affected.")]
    ambiguous_names: Annotated[
        list[str], Meta(description='Names for which a rule "contains" would match other names, one sentence each.')
    ]
    active_programs: Annotated[
        list[str] | None,
        Meta(description="Names of active programs, in a review; null in any other run, or if the API user may not see them."),
    ]
    activation_code: Annotated[str | None, Meta(description="Code that activates the sync for these settings, in a review.")]
    review: Annotated[ReviewDocument | None, Meta(description="What only a review shows; null for any other run.")]
    rehearsal: Annotated[
        RehearsalDocument | None, Meta(description="The last rehearsal for this account; null if report_dir holds none.")
    ]
    safe_to_mail_at: Annotated[
        Moment | None,
        Meta(
            description="From when on dotdigital's own segments contain what this run delivered; null if it did not deliver "
            "everything, or put labels back."
        ),
    ]
    calls: Annotated[Counts, Meta(description="Calls to dotdigital, by kind.")]
    waited_seconds: Annotated[float, Meta(ge=0, description="Seconds spent waiting for imports and rate limits.")]
    problems: Annotated[list[str], Meta(description="What went wrong and what to do, starting with the cause of the run's end.")]


def report_schema() -> dict[str, Any]:
    """Return the JSON schema of report.json."""
    (root,), definitions = msgspec.json.schema_components([ReportDocument], ref_template="#/$defs/{name}")
    document = definitions.pop(root["$ref"].rpartition("/")[2])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **document,
        "title": "Report of a run of target-dotdigital",
        "description": (
            "report.json in report_dir, and each JSON file in its folder runs. It holds no address and no secret. Keys are added in later "
            "versions; version changes if one changes its meaning or disappears."
        ),
        "$defs": definitions,
    }
