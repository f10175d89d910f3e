"""The plan: what a run would change, and the brakes."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from target_dotdigital.ledger.contacts.figures import plan_figures
from target_dotdigital.ledger.label_changes import planned_changes
from target_dotdigital.ledger.runs import latest_segments
from target_dotdigital.stats import Planned
from target_dotdigital.sync.labels import LabelDecoder, ambiguous_names, unmatched_entries

if TYPE_CHECKING:
    import datetime

    from target_dotdigital.settings import Settings
    from target_dotdigital.stats import Plan
    from target_dotdigital.sync.opening import OpenRun

LOGGER = logging.getLogger("target-dotdigital")
# comparing every name with every other takes quadratic time
MAX_COMPARED_NAMES = 500

# below this number, a few contacts would already exceed a percentage
MIN_LABELLED = 100


def make_plan(opened: OpenRun, restored: int | None = None) -> Planned:
    """Compute what a run would do, from what is pending in the ledger.

    Args:
        opened: the run.
        restored: number of the run, if it restores; it then sends only what it restores.
    """
    ledger, settings = opened.ledger, opened.place.settings
    unknown = ledger.settle_unknown()
    segments = ledger.segments()
    for entry in unmatched_entries(settings.labels, segments):
        LOGGER.warning("%s. Correct it, unless its segment is yet to be created or filled; capitals count.", entry)
    plan = plan_figures(ledger, restored)
    LOGGER.info(
        "Plan: %d to create, %d to update, %d to clear, %d to add to the address book, %d to resend, %d unchanged",
        *(plan.created, plan.updated, plan.cleared, plan.added_to_address_book, plan.resent, plan.unchanged),
    )
    return Planned(
        plan,
        import_calls=import_calls(plan, settings),
        unknown=unknown,
        segments=segments,
        segments_before=latest_segments(opened.connection, ledger.scope),
        ambiguous_names=tuple(ambiguous_names(list(segments)[:MAX_COMPARED_NAMES], settings.labels.delimiter)),
        changes=LabelDecoder(settings.labels).count(planned_changes(opened.connection, ledger.scope, restored)),
    )


def import_calls(plan: Plan, settings: Settings) -> int:
    """Return the number of import calls for the plan, assuming that no body exceeds its size limit."""
    total = min(plan.total, settings.max_contacts_per_run or plan.total)
    return math.ceil(total / settings.contacts_per_import)


def brakes(plan: Plan, settings: Settings, today: datetime.date) -> list[str]:
    """Return a sentence for each brake that the plan exceeds."""
    if settings.brake_override_date == today or plan.labelled < MIN_LABELLED:
        return []
    judged = (
        (plan.cleared, settings.max_clear_percent, "would lose all labels", "max_clear_percent"),
        (plan.relabelled, settings.max_change_percent, "would have their labels changed", "max_change_percent"),
    )
    return [
        f"{count} of {plan.labelled} labelled contacts ({100 * count / plan.labelled:.1f} %) {what}, more than {name} ({most})"
        for count, most, what, name in judged
        if count * 100 > plan.labelled * most
    ]
