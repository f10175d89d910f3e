"""Renders the report of a run as an HTML page."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import jinja2

from target_dotdigital.clock import local_time
from target_dotdigital.models import letters_of
from target_dotdigital.reporting.checklist import BEFORE_ACTIVATION
from target_dotdigital.reporting.history import MAX_DAYS, dates, lanes, segment_lines
from target_dotdigital.reporting.report import HEALTHY, RunStatus
from target_dotdigital.reporting.review import SUBSCRIBED
from target_dotdigital.text import without_controls

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from target_dotdigital.reporting.history import PastRun

# shown at once; the others are folded
MAX_MOVERS = 10
MAX_NAMES = 10
# comparing every label with every other takes quadratic time
MAX_COMPARED = 500
MAX_ALSO_SELECTED = 5

_NO_BOOK = "The address book was deleted during the run. Run again."
_CONFLICT = "The identifiers of this contact belong to different contacts in dotdigital. Merge them there, or correct one of them."
# by the letters of dotdigital's code of a rejection, or of our reason for leaving a record out
ADVICE = {
    "invalidemail": "The address cannot receive e-mail. Correct it in the shop.",
    "invaliddomain": "The domain of the address does not exist. Correct it in the shop.",
    "globallysuppressed": "dotdigital suppresses this address in every account, because of a complaint or as a spam trap. Nothing to do.",
    "suppressedbydomain": "The domain asked dotdigital not to send to it. Nothing to do.",
    "duplicateidentifier": "dotdigital takes another spelling of this address for the same contact. Use one spelling in the shop.",
    "blocker": "dotdigital blocks this address. If that is wrong, contact dotdigital's support.",
    "invalidcontactid": "The contact was deleted in dotdigital. Nothing to do.",
    "invalidaddressbookids": _NO_BOOK,
    "invalidlistids": _NO_BOOK,
    "identifierconflict": _CONFLICT,
    "invalidcontact": _CONFLICT,
    "invalidvalue": "dotdigital refuses a value of this contact. Rename the segment with segment_labels, or lower max_value_length.",
    "refusedstatus": "dotdigital refuses an import with this contact without giving a reason. Ask dotdigital's support.",
    "apischemaviolation": "A value does not fit its data field. Lower max_value_length, or check the field's type.",
    "noemailaddress": "The source contains a value that is not an e-mail address. Correct it in the shop.",
    "nolistofsegments": "The record has no list of segments, so the labels were not changed. Check the tap.",
}
UNKNOWN_CODE = "Ask dotdigital's support what this code means."


def advice_on(code: str | None) -> str:
    """Return what to do about a code of a rejection, however it is spelled."""
    return ADVICE.get(letters_of(code), UNKNOWN_CODE)


class PageKind(enum.StrEnum):
    """The kinds of pages; the template has the text of each."""

    REVIEW = "review"
    DRY_RUN = "dry run"
    BRAKED = "braked"
    NOT_STARTED = "not started"
    FAILED = "failed"
    INCOMPLETE = "incomplete"
    NO_INPUT = "no input"
    RESTORED = "restored"
    DELIVERED = "delivered"
    PARTLY = "partly delivered"
    NOTHING = "nothing to do"


KINDS = {
    RunStatus.NOT_ACTIVATED: PageKind.REVIEW,
    RunStatus.DRY_RUN: PageKind.DRY_RUN,
    RunStatus.BRAKED: PageKind.BRAKED,
    RunStatus.INCOMPLETE: PageKind.INCOMPLETE,
    RunStatus.NO_INPUT: PageKind.NO_INPUT,
    RunStatus.PARTLY: PageKind.PARTLY,
    RunStatus.NOTHING: PageKind.NOTHING,
}


def page_kind(facts: dict[str, Any]) -> PageKind:
    """Return the kind of page for a report, given as JSON values."""
    outcome = RunStatus(facts["outcome"])
    if outcome is RunStatus.FAILED:
        return PageKind.FAILED if facts["plan"] or facts["sent"] else PageKind.NOT_STARTED
    if outcome is RunStatus.DELIVERED:
        return PageKind.DELIVERED if facts["restored_run"] is None else PageKind.RESTORED
    return KINDS[outcome]


@dataclass(frozen=True, slots=True)
class Rule:
    """How to select the contacts of a segment in dotdigital: a data field that contains a text.

    A rule has a contact data field, an operator and a text (dotdigital's help centre, articles 212213738 and 8198893).

    Args:
        segment: name of the segment in Nosto.
        field: the data field.
        text: what the field has to contain.
        also: other segments whose contacts the rule selects; some of them if there are many.
    """

    segment: str
    field: str
    text: str
    also: tuple[str, ...]


def rules(labels: dict[str, Any] | None, sizes: dict[str, int]) -> list[Rule]:
    """Return a rule for each segment, largest segment first.

    Args:
        labels: how labels are written, as in a report; None if it is not known.
        sizes: segment -> contacts.
    """
    if labels is None:
        return []
    delimiter: str = labels["delimiter"] if labels["enclosed"] else ""
    # what the data field holds for a contact that is in this segment only
    texts = {name: f"{delimiter}{labels['renamed'].get(name, name)}{delimiter}" for name in sizes}
    folded = {name: text.casefold() for name, text in list(texts.items())[:MAX_COMPARED]}
    return [
        Rule(
            name,
            labels["fields"][0],
            texts[name],
            tuple(_also_selected(name, texts[name].casefold(), folded))[:MAX_ALSO_SELECTED],
        )
        for name in sorted(sizes, key=lambda name: (-sizes[name], name))
    ]


def _also_selected(name: str, text: str, folded: dict[str, str]) -> Iterable[str]:
    """Yield the segments whose own text contains a text; dotdigital may ignore case."""
    return (other for other, value in folded.items() if other != name and text in value)


@cache
def environment() -> jinja2.Environment:
    """Return the environment of the pages: names of segments, fields and programs are escaped, and control characters removed."""
    return jinja2.Environment(
        finalize=lambda value: without_controls(value) if type(value) is str else value,
        loader=jinja2.PackageLoader("target_dotdigital.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(
    facts: dict[str, Any],
    history: Sequence[PastRun],
    delivered: PastRun | None = None,
    zone: datetime.tzinfo = datetime.UTC,
    *,
    rejected_file: str | None = None,
    changes_file: str | None = None,
) -> str:
    """Render the report as HTML.

    Args:
        facts: the report as JSON values.
        history: the last runs, oldest first, with this one as the last.
        delivered: the last run whose labels dotdigital has; None if there is none.
        zone: time zone of all times.
        rejected_file: file of the rejected contacts beside the page; None if there is none.
        changes_file: file of the contacts that the run changed; None if there is none.
    """
    kind = page_kind(facts)
    problems = _distinct(facts["problems"])
    is_current = delivered is history[-1]
    labels, segments = (delivered.labels, delivered.segments) if delivered else (facts["labels"], {})
    sizes = {name: segment.contacts for name, segment in segments.items()}
    planned = facts["segments"] if kind is not PageKind.RESTORED else {}
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            **facts,
            kind=kind,
            # nothing was sent, so that the figures say what would change
            would_be=not facts["sent"] and facts["outcome"] not in HEALTHY,
            history=history,
            lanes=lanes(history),
            dates=dates(history),
            lines=segment_lines(history),
            days=[run for run in reversed(history) if run.is_settled][:MAX_DAYS],
            delivered=delivered,
            # a run that failed early does not know its destination
            shown=delivered if delivered and not facts["data_field"] else history[-1],
            is_current=is_current,
            delivered_at=_last_delivery(history),
            partly_changed=delivered is not None and _sent_since(history, delivered),
            # its first problem is that a review waits for approval
            shown_problems=problems[1:] if kind is PageKind.REVIEW else problems,
            movers=_by_change(planned) if is_current else _by_size(segments),
            planned_movers=[] if is_current else _by_change(planned),
            rules=rules(labels, sizes or {name: segment["contacts"] for name, segment in planned.items()}),
            delimiter=labels["delimiter"] if labels else None,
            new_reasons=_reasons(facts["new_rejections"]) + _reasons(facts["invalid"]),
            advice_on=advice_on,
            rejected_file=rejected_file,
            changes_file=changes_file,
            checklist=BEFORE_ACTIVATION,
            subscribed=SUBSCRIBED,
            max_movers=MAX_MOVERS,
            max_names=MAX_NAMES,
            time=partial(local_time, zone=zone),
            day=partial(_day, zone=zone),
            date=partial(_date, zone=zone),
        )
    )


def _distinct(problems: Sequence[str]) -> list[str]:
    """Return the problems without those that an earlier one quotes."""
    return [problem for index, problem in enumerate(problems) if not any(problem in earlier for earlier in problems[:index])]


def _last_delivery(runs: Sequence[PastRun]) -> datetime.datetime | None:
    """Return when a run last sent something and delivered all of it."""
    return next((run.finished_at for run in reversed(runs) if run.outcome is RunStatus.DELIVERED and run.sent), None)


def _sent_since(runs: Sequence[PastRun], delivered: PastRun) -> bool:
    """Return whether a run after the last one that delivered has sent something, so that some labels are newer."""
    return any(run.sent for run in runs if run.started_at > delivered.started_at)


def _by_change(segments: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the segments that most contacts joined or left first."""

    def order(entry: tuple[str, Any]) -> tuple[int, int, int, str]:
        name, size = entry
        return -abs(size["change"]), -size["joined"] - size["left"], -size["contacts"], name

    return sorted(segments.items(), key=order)


def _by_size(segments: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(segments.items(), key=lambda entry: (-entry[1].contacts, entry[0]))


def _reasons(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _date(moment: datetime.datetime, zone: datetime.tzinfo) -> str:
    """Return a date, such as 27 November 2026."""
    local = moment.astimezone(zone)
    return f"{local.day} {local:%B %Y}"


def _day(moment: datetime.datetime, zone: datetime.tzinfo) -> str:
    """Return a short date, such as 27 Nov."""
    local = moment.astimezone(zone)
    return f"{local.day} {local:%b}"
