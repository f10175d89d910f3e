"""Renders the report of a run as an HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from target_dotdigital.reporting.advice import advice_on
from target_dotdigital.reporting.campaign import rules
from target_dotdigital.reporting.charts import lanes, segment_lines
from target_dotdigital.reporting.checklist import BEFORE_ACTIVATION
from target_dotdigital.reporting.rendering import environment
from target_dotdigital.reporting.review import SUBSCRIBED
from target_dotdigital.reporting.wording import BADGES, PageKind, headline, page_kind, would_be

if TYPE_CHECKING:
    from collections.abc import Sequence

    from target_dotdigital.reporting.history import PastRun

# shown at once; the others are folded
MAX_MOVERS = 10
MAX_NAMES = 10


def page(facts: dict[str, Any], history: Sequence[PastRun], *, has_rejected_file: bool = False) -> str:
    """Render the report as HTML.

    Args:
        facts: the report as JSON values.
        history: the last runs, oldest first, with this one as the last.
        has_rejected_file: whether rejected.csv is beside the page.
    """
    kind = page_kind(facts)
    badge, tone = BADGES[kind]
    problems = _distinct(facts["problems"])
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            **facts,
            kind=kind,
            badge=badge,
            tone=tone,
            headline=headline(kind, facts),
            would_be=would_be(facts),
            history=history,
            lanes=lanes(history),
            lines=segment_lines(history),
            delivered_before=_last_delivery(history[:-1]),
            # a review waits, and that is its first problem
            shown_problems=problems[1:] if kind is PageKind.REVIEW else problems,
            movers=_by_change(facts["segments"]),
            rules=rules(facts),
            new_reasons=_reasons(facts["new_rejections"]) + _reasons(facts["invalid"]),
            advice_on=advice_on,
            has_rejected_file=has_rejected_file,
            checklist=BEFORE_ACTIVATION,
            subscribed=SUBSCRIBED,
            max_movers=MAX_MOVERS,
            max_names=MAX_NAMES,
        )
    )


def _distinct(problems: Sequence[str]) -> list[str]:
    """Return the problems without those that an earlier one quotes."""
    return [problem for place, problem in enumerate(problems) if not any(problem in earlier for earlier in problems[:place])]


def _last_delivery(runs: Sequence[PastRun]) -> PastRun | None:
    return next((run for run in reversed(runs) if run.outcome == "delivered" and run.sent), None)


def _by_change(segments: dict[str, dict[str, int]]) -> list[tuple[str, dict[str, int]]]:
    """Return the segments, those that changed most first."""
    return sorted(segments.items(), key=lambda one: (-abs(one[1]["change"]), -one[1]["contacts"], one[0]))


def _reasons(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))
