"""What a report says about how a run ended: the kind of its page, its badge and its first sentence. No I/O."""

from __future__ import annotations

import enum
from typing import Any

from target_dotdigital.reporting.report import RunStatus


class PageKind(enum.StrEnum):
    """The kinds of pages; each says what its run knows, and no more."""

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
# kind -> text and tone of the badge
BADGES = {
    PageKind.REVIEW: ("review: waiting for you", "stop"),
    PageKind.DRY_RUN: ("dry run: nothing written", "stop"),
    PageKind.BRAKED: ("braked: nothing written", "bad"),
    PageKind.NOT_STARTED: ("failed before it began", "bad"),
    PageKind.FAILED: ("failed", "bad"),
    PageKind.INCOMPLETE: ("incomplete input", "bad"),
    PageKind.NO_INPUT: ("no input", "bad"),
    PageKind.RESTORED: ("restored", "stop"),
    PageKind.DELIVERED: ("delivered", ""),
    PageKind.PARTLY: ("partly delivered", "stop"),
    PageKind.NOTHING: ("nothing to do", ""),
}
HEADLINES = {
    PageKind.REVIEW: "Nothing has been written to dotdigital. This page shows what the sync would do once you activate it.",
    PageKind.DRY_RUN: "Nothing was written: this run only shows what would happen.",
    PageKind.BRAKED: "Nothing was written: more contacts would change than the brakes allow. Check the changes below.",
    PageKind.NOT_STARTED: "The run stopped before anything was written.",
    PageKind.FAILED: "The run stopped before anything was written.",
    PageKind.NO_INPUT: "The tap failed before its first message. Nothing was done, and the labels in dotdigital are as they were.",
    PageKind.PARTLY: "The changes are delivered, but something remains that no run can settle. The problems below say what.",
    PageKind.NOTHING: "The source had no changes.",
}


def page_kind(facts: dict[str, Any]) -> PageKind:
    """Return the kind of page for a report.

    Args:
        facts: the report as JSON values.
    """
    outcome = RunStatus(facts["outcome"])
    if outcome is RunStatus.FAILED:
        return PageKind.FAILED if facts["plan"] or facts["sent"] else PageKind.NOT_STARTED
    if outcome is RunStatus.DELIVERED:
        return PageKind.DELIVERED if facts["restored_run"] is None else PageKind.RESTORED
    return KINDS[outcome]


def would_be(facts: dict[str, Any]) -> bool:
    """Return whether the figures of a report say what would change, because nothing was sent."""
    writes = facts["outcome"] in {RunStatus.DELIVERED, RunStatus.PARTLY, RunStatus.NOTHING}
    return not facts["sent"] and not writes


def headline(kind: PageKind, facts: dict[str, Any]) -> str:
    """Return the first sentences of a page.

    Args:
        kind: the kind of page.
        facts: the report as JSON values.
    """
    if kind is PageKind.DELIVERED:
        rejected = facts["still_rejected"]
        but = f", except for {rejected:,} contact{'' if rejected == 1 else 's'} that dotdigital rejects" if rejected else ""
        return f"All changes of the source are delivered{but}."
    if kind is PageKind.RESTORED:
        return (
            f"Run {facts['restored_run']} was restored: contacts that have not changed since then have the labels from before that run, "
            "which may differ from their segments. Fix the cause, then run once with --full-refresh; ordinary runs stop until then."
        )
    if kind is PageKind.PARTLY and (facts["held"] or facts["left_for_later"]):
        return "A part of the changes is delivered; the rest waits. What it waits for is below."
    if kind is PageKind.INCOMPLETE:
        what = "What it sent until then was delivered" if facts["sent"] else "Nothing was written"
        return f"The tap stopped early. {what}; the next run receives the rest."
    if kind is PageKind.FAILED and facts["sent"]:
        return "Not everything was delivered. The problems below say what happens to the rest."
    return HEADLINES[kind]
