"""The plan: what a run would change, the brakes that may stop it, and whether everything arrived."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from target_dotdigital.errors import AccountError, BrakeError, DeliveryError
from target_dotdigital.ledger.label_changes import planned_changes
from target_dotdigital.ledger.runs import latest_segments
from target_dotdigital.models import Planned
from target_dotdigital.reporting.report import RunStatus
from target_dotdigital.sync.labels import LabelDecoder, ambiguous_names, unmatched_entries
from target_dotdigital.sync.readback import Drift

if TYPE_CHECKING:
    import datetime
    from collections import Counter
    from collections.abc import Callable

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.ledger.contacts import ContactLedger
    from target_dotdigital.models import DeliveryStats, InputStats, Plan, Remaining
    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.delivery import Delivery

LOGGER = logging.getLogger("target-dotdigital")
# comparing every name with every other takes quadratic time
MAX_COMPARED_NAMES = 500
# below this number, a few contacts would already exceed a percentage
MIN_LABELLED = 100
# fewer rejections than this do not indicate a problem with the input
MIN_REJECTED = 10
MAX_SHOWN_CODES = 5


def make_plan(ledger: ContactLedger, settings: Settings, restored: int | None = None) -> Planned:
    """Compute the plan from the pending contacts of the ledger.

    Args:
        ledger: the ledger scope.
        settings: the settings.
        restored: number of the run, if it restores; it then sends only the contacts that it restores.
    """
    unknown = ledger.drop_unknown()
    segments = ledger.segments()
    for entry in unmatched_entries(settings.labels, segments):
        LOGGER.warning("%s. Correct it, unless its segment is yet to be created or filled; capitals count.", entry)
    plan = ledger.plan_figures(restored)
    LOGGER.info(
        "Plan: %d to create, %d to update, %d to clear, %d to add to the address book, %d to resend, %d unchanged",
        *(plan.created, plan.updated, plan.cleared, plan.added_to_address_book, plan.resent, plan.unchanged),
    )
    return Planned(
        plan,
        import_calls=import_calls(plan, settings),
        unknown=unknown,
        segments=segments,
        segments_before=latest_segments(ledger.connection, ledger.scope),
        ambiguous_names=tuple(ambiguous_names(list(segments)[:MAX_COMPARED_NAMES], settings.labels.delimiter)),
        changes=LabelDecoder(settings.labels).count(planned_changes(ledger.connection, ledger.scope, restored)),
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


def require_brakes(plan: Plan, settings: Settings, today: datetime.date) -> None:
    """Stop a plan that would change more than the brakes allow.

    Raises:
        BrakeError: it would.
    """
    if stops := brakes(plan, settings, today):
        msg = (
            f"The brakes stopped the run before anything was written: {'; '.join(stops)}. The bookmark stays. Look at the "
            f"report; if this is meant, set brake_override_date to {today.isoformat()} for today's run "
            f"(TARGET_DOTDIGITAL_BRAKE_OVERRIDE_DATE={today.isoformat()})."
        )
        raise BrakeError(msg)


def require_private(account: Account) -> None:
    """Stop before a contact is written if dotdigital has created something as public.

    Raises:
        AccountError: it has.
    """
    if account.public:
        msg = (
            f"dotdigital has created the {' and the '.join(account.public)} as public, although private was asked for: contacts could see "
            "it. No contact was written, and the bookmark stays. Make it private in dotdigital, and run again."
        )
        raise AccountError(msg)


def check_results(tally: DeliveryStats, invalid: Counter[str], settings: Settings, in_source: Callable[[], int]) -> None:
    """Check that everything sent has arrived; STATE may only be emitted after this.

    Args:
        tally: figures of the delivery.
        invalid: records of the input that were left out, by reason; they count as new rejections.
        settings: the settings.
        in_source: counts the contacts that the account should hold, against which new rejections are judged.

    Raises:
        DeliveryError: something has not arrived, or there are too many new rejections.
    """
    if tally.problems or tally.unconfirmed:
        missing = f"{tally.unconfirmed} of {tally.sent} contacts were sent, but dotdigital did not confirm them. "
        msg = f"{missing if tally.unconfirmed else ''}The bookmark stays. {' '.join(tally.problems[:3])}"
        raise DeliveryError(msg)
    news = tally.new_reasons + invalid
    if news.total() < MIN_REJECTED:
        return
    offered = in_source() + invalid.total()
    if news.total() * 100 > offered * settings.max_rejected_percent:
        codes = ", ".join(f"{code} {count}" for code, count in news.most_common(MAX_SHOWN_CODES))
        msg = (
            f"{news.total()} of {offered} contacts were newly rejected, more than max_rejected_percent "
            f"({settings.max_rejected_percent}): {codes}. The others were delivered; the bookmark stays. Look at the report for "
            "what to do; the next run judges only what is rejected for the first time."
        )
        raise DeliveryError(msg)


def require_held(delivery: Delivery, account: Account, scope: int, settings: Settings) -> None:
    """Look up a few of the delivered contacts, and require that dotdigital holds what it confirmed.

    Args:
        delivery: the delivery of the run.
        account: the account, whose address book and data fields exist.
        scope: number of the ledger scope.
        settings: the settings.

    Raises:
        ApiError: a look-up failed.
        DeliveryError: a contact is not as it was sent; every contact of the run is sent again by the next one.
    """
    if wrong := delivery.verify_sample(account, scope):
        msg = (
            f"dotdigital confirmed {delivery.tally.sent} contacts, but {wrong} of {len(delivery.samples.chosen)} that were looked up do "
            f"not hold what was sent, not even after {settings.verify_timeout} s (verify_timeout). The bookmark stays, and the next run "
            "sends all of them again. The command `rehearse` shows what dotdigital does differently."
        )
        raise DeliveryError(msg)


def unresolved(drift: Counter[Drift], tally: DeliveryStats, *, may_lack: bool) -> list[str]:
    """Return a sentence for each problem with the delivered contacts that no run can resolve.

    Args:
        drift: differences that the read-back found.
        tally: figures of the delivery.
        may_lack: whether contacts that earlier runs left out may be missing, although the settings use them now.
    """
    found = []
    if may_lack:
        found.append(
            "exclude_emails, on_removed, stream_maps or the properties changed, so contacts that were left out before are used now. The "
            "source did not show that it sent all of its contacts, so some may be missing: let it send all of them once."
        )
    if missing := drift[Drift.NOT_SHOWN]:
        found.append(
            f"The address book has {missing} contacts more than dotdigital showed when the account was read back, so labels of contacts "
            "that are not in the source may have been missed. Ask dotdigital's support, or run once with --full-refresh later."
        )
    if not_joined := drift[Drift.NOT_JOINED] + tally.not_joined:
        found.append(
            f"dotdigital confirmed {not_joined} contacts twice, but did not put them into the address book: they are suppressed, or have "
            "yet to confirm a double opt-in. Their labels are current, and they are not sent again for this."
        )
    if twice := drift[Drift.TWICE]:
        found.append(
            f"dotdigital holds {twice} addresses twice, in different capitals. Only one contact of each gets labels. Remove the other in "
            "dotdigital, and run once with --full-refresh."
        )
    if again := tally.created_again:
        found.append(
            f"dotdigital created {again} contacts that it had listed at the beginning of this run: they were deleted meanwhile, or it "
            "takes addresses in other capitals for other contacts, which the command `rehearse` shows."
        )
    return found


def status_of(remaining: Remaining, tally: DeliveryStats, intake: InputStats, *, is_limited: bool, has_problems: bool) -> RunStatus:
    """Return how a run ended in which everything that was sent has arrived.

    Args:
        remaining: what the ledger scope holds after the delivery.
        tally: figures of the delivery.
        intake: figures of the input.
        is_limited: whether max_contacts_per_run is set.
        has_problems: whether something remains that no run can resolve.
    """
    if remaining.held:
        LOGGER.warning(
            "%d contacts are held since dotdigital's Data Watchdog rejected their import: ask its support, then use the command `release`",
            remaining.held,
        )
    if remaining.held or has_problems or (is_limited and remaining.pending):
        return RunStatus.PARTLY
    return RunStatus.DELIVERED if tally.sent or intake.read else RunStatus.NOTHING
