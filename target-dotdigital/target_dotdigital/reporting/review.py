"""The review: what a run would do, for the operator to approve. No I/O."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.models import CHECKED_CONTACTS
from target_dotdigital.reporting.checklist import BEFORE_ACTIVATION
from target_dotdigital.reporting.last_rehearsal import rehearsal_line
from target_dotdigital.reporting.report import ReviewFacts
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.models import Planned
    from target_dotdigital.reporting.report import Report
    from target_dotdigital.settings import Settings

MAX_NAMES = 12
MAX_SEGMENTS = 60
SEPARATOR = "-" * 78
WIDTH_CHARACTERS = 110
MAX_VALUE_CHARACTERS = 60
SUBSCRIBED = "A contact that dotdigital creates without a status is subscribed to e-mail, with opt-in type unknown."


def review_facts(
    planned: Planned,
    settings: Settings,
    account: Account,
    *,
    code: str,
    programs: list[str] | None,
    limits: Mapping[str, int],
    rehearsal: str,
) -> ReviewFacts:
    """Return what only the review shows.

    Args:
        planned: the plan.
        settings: the settings.
        account: the account to deliver to.
        code: activation code for these settings.
        programs: names of active programs; None if the API user may not see them.
        limits: calls per minute, by scope of the rate limit.
        rehearsal: the last rehearsal, in one line.
    """
    book, field = _places(settings, account)
    return ReviewFacts(
        code,
        programs,
        address_book=book,
        data_field=field,
        cost=_cost(planned, settings, account, limits),
        rehearsal=rehearsal,
        code_given=bool(settings.activation_code),
    )


def review(
    report: Report,
    planned: Planned,
    facts: ReviewFacts,
    settings: Settings,
    account: Account,
    *,
    active: bool,
    streams: Iterable[str],
    feeds: str = "",
) -> str:
    """Return the text of the review.

    Args:
        report: report of the run that made the plan.
        planned: the plan.
        facts: what only the review shows.
        settings: the settings.
        account: the account to deliver to.
        active: whether the sync is already activated for these settings and streams.
        streams: streams that feed the data field.
        feeds: how they differ from those that fed it before, as sentences; empty if they do not.
    """
    title = "pending for the next run; this command writes nothing" if active else "nothing has been written to dotdigital"
    return "\n".join(
        [
            SEPARATOR,
            f"REVIEW - {title}",
            SEPARATOR,
            *_caution_first(report, feeds),
            *_where(account, facts),
            f"Streams:      {', '.join(map(shown, sorted(streams))) or 'none'}",
            "",
            *_what(report, planned),
            facts.cost,
            "",
            *_samples(planned),
            *_segments(planned),
            *_cautions(report, planned),
            *_programs(facts.programs),
            "What the API does not show - check in dotdigital before you activate:",
            *(
                line
                for question, where in BEFORE_ACTIVATION
                for line in textwrap.wrap(
                    f"[ ] {question} ({where})", WIDTH_CHARACTERS, initial_indent="  ", subsequent_indent="      "
                )
            ),
            SUBSCRIBED,
            rehearsal_line(report.rehearsal, settings.zone),
            "",
            f"A data field belongs to one pipeline: nothing else may write to {settings.data_field}.",
            "The activation code covers account, address book, data field, label settings and streams. It does not cover the choice of",
            "segments: another choice changes labels without a new review, within the brakes. These limit how many contacts may lose all",
            "labels (max_clear_percent) or have them changed (max_change_percent) in one run.",
            "",
            "The sync is already active for these settings." if active else f"activation_code: {facts.activation_code}",
            SEPARATOR,
        ],
    )


def _caution_first(report: Report, feeds: str) -> list[str]:
    lines = textwrap.wrap(f"CAUTION: {feeds}", WIDTH_CHARACTERS) if feeds else []
    if report.incomplete:
        lines.append("CAUTION: the input was truncated, so the numbers below are too small. Run again before you activate.")
    return [*lines, ""] if lines else []


def _segments(planned: Planned) -> list[str]:
    if not planned.segments:
        return []
    largest = sorted(planned.segments.items(), key=lambda segment: (-segment[1], segment[0]))
    lines = [f"{count:>12,}  {name!r}" for name, count in largest[:MAX_SEGMENTS]]
    more = [f"              and {len(largest) - MAX_SEGMENTS} more"] if len(largest) > MAX_SEGMENTS else []
    return ["Segments, and the contacts in each:", *lines, *more, ""]


def _places(settings: Settings, account: Account) -> tuple[str, str]:
    """Return address book and data field, and whether they would be created."""
    if not settings.has_address_book:
        book = "none (upload_emails is none: no contact is created, or put into an address book)"
    elif account.book is None:
        book = f"{settings.address_book} - will be created as private"
    else:
        book = f"{account.book.name} (id {account.book.id}, {account.book.contacts:,} contacts)"
    return (
        book,
        settings.data_field if settings.data_field in account.fields else f"{settings.data_field} - will be created as private",
    )


def _where(account: Account, facts: ReviewFacts) -> list[str]:
    return [
        f"Account:      {account.name} (id {account.id})",
        f"Region:       {account.endpoint}",
        f"Address book: {facts.address_book}",
        f"Data field:   {facts.data_field}",
    ]


def _what(report: Report, planned: Planned) -> list[str]:
    plan = planned.plan
    lines = [
        f"{plan.created:>12,}  contacts would be created",
        *(
            [
                f"{plan.created_without_labels:>12,}  of these are in no chosen segment (not created with upload_emails: with_segments)"
            ]
            if plan.created_without_labels
            else []
        ),
        f"{plan.updated:>12,}  contacts would get different labels",
        f"{plan.cleared:>12,}  contacts would lose all labels",
        *(
            [f"{plan.orphaned:>12,}  of these are not in the source: orphaned labels, perhaps from another integration"]
            if plan.orphaned
            else []
        ),
        f"{plan.added_to_address_book:>12,}  contacts would only be added to the address book",
        f"{plan.unchanged:>12,}  contacts are unchanged",
    ]
    if planned.unknown:
        lines.append(f"{planned.unknown:>12,}  contacts are unknown to dotdigital and would not be written")
    if invalid := sum(report.intake.invalid.values()):
        lines.append(f"{invalid:>12,}  records would be left out: {', '.join(report.intake.invalid)}")
    return lines


def _cost(planned: Planned, settings: Settings, account: Account, limits: Mapping[str, int]) -> str:
    cost = f"Cost: {planned.import_calls:,} import call{'' if planned.import_calls == 1 else 's'}"
    if planned.plan.cleared:
        cost += ", perhaps one more, because contacts that left the source are sent before the others, in an import of their own"
    if limit := limits.get("lowCallRate"):
        cost += f"; the account allows {limit:,} such calls a minute"
    if account.calls_left is not None:
        cost += f"; the account has {account.calls_left:,} calls left in this hour, and each poll of an import counts"
    if settings.max_contacts_per_run and planned.plan.total > settings.max_contacts_per_run:
        cost += f"; {settings.max_contacts_per_run:,} contacts in the first run, the rest in the next ones"
    if settings.verify_timeout:
        cost += f"; every later run also looks up {CHECKED_CONTACTS} contacts that it believes unchanged"
    return cost


def _samples(planned: Planned) -> list[str]:
    if not planned.plan.samples:
        return []
    lines = ["The most frequent changes:"]
    for sample in planned.plan.samples:
        before = _shown(sample.before) if sample.before is not None else "(new contact)"
        lines.append(f"{sample.contacts:>12,}  {before}  ->  {_shown(sample.after)}")
    return [*lines, ""]


def _cautions(report: Report, planned: Planned) -> list[str]:
    lines = [f"  {name}" for name in planned.ambiguous_names[:MAX_NAMES]]
    if lines:
        lines.insert(0, 'Names contained in other names. A "contains" rule would match both (set enclose_segments):')
    if len(planned.ambiguous_names) > MAX_NAMES:
        lines.append(f"  and {len(planned.ambiguous_names) - MAX_NAMES} more")
    if report.intake.dropped:
        lines.append("Names that do not fit into the data field for some contacts:")
        lines += [f"  {name}" for name, _ in report.intake.dropped.most_common(MAX_NAMES)]
    return [*lines, ""] if lines else []


def _programs(programs: list[str] | None) -> list[str]:
    if programs is None:
        return ["Active programs: not visible to this API user. Check in dotdigital.", ""]
    if not programs:
        return ["Active programs: none.", ""]
    more = f" and {len(programs) - MAX_NAMES} more" if len(programs) > MAX_NAMES else ""
    return [
        f"Active programs, which may pick up new or changed contacts: {', '.join(map(repr, programs[:MAX_NAMES]))}{more}",
        "",
    ]


def _shown(payload: str) -> str:
    values: dict[str, str] = msgspec.json.decode(payload)
    return " | ".join(f"{value[:MAX_VALUE_CHARACTERS]!r}" for value in values.values()) or "(empty)"
