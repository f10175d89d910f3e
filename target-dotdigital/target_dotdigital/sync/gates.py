"""What may stop a run: brakes before any write, and the results after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.errors import AccountError, BrakeError, DeliveryError, IncompleteInputError, NotActivatedError, SettingsError
from target_dotdigital.sync.plan import brakes

if TYPE_CHECKING:
    import datetime
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.settings import Settings
    from target_dotdigital.stats import DeliveryStats, Plan

# fewer rejections than this are no sign of something wrong
MIN_REJECTED = 10
SHOWN_CODES = 5


def require_brakes(plan: Plan, settings: Settings, today: datetime.date) -> None:
    """Stop a plan that would change more than the brakes allow.

    Raises:
        BrakeError: it would.
    """
    if stops := brakes(plan, settings, today):
        msg = (
            f"The brakes stopped the run before anything was written: {'; '.join(stops)}. The bookmark stays. Look at the "
            f"report; if this is meant, set brake_override_date to {today.isoformat()} for today's run."
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
        DeliveryError: something has not arrived, or too much is rejected that was not rejected before.
    """
    if tally.problems or tally.unconfirmed:
        msg = (
            f"{tally.unconfirmed} of {tally.sent} contacts were sent, but dotdigital did not confirm them. The bookmark stays. "
            f"{' '.join(tally.problems[:3])}"
        )
        raise DeliveryError(msg)
    news = tally.new_reasons + invalid
    if news.total() < MIN_REJECTED:
        return
    offered = in_source() + invalid.total()
    if news.total() * 100 > offered * settings.max_rejected_percent:
        codes = ", ".join(f"{code} {count}" for code, count in news.most_common(SHOWN_CODES))
        msg = (
            f"{news.total()} of {offered} contacts were newly rejected, more than max_rejected_percent "
            f"({settings.max_rejected_percent}): {codes}. The others were delivered; the bookmark stays. Look at the report for "
            "what to do; the next run judges only what is rejected for the first time."
        )
        raise DeliveryError(msg)


def not_activated(settings: Settings, code: str, path: Path) -> NotActivatedError:
    """Return the error for a run that the operator has not activated.

    Args:
        settings: the settings.
        code: the activation code of the review.
        path: where the review was written.
    """
    wrong = (
        f"The activation_code in the settings ({settings.activation_code.strip()}) is not the code of this review: it has a "
        "typo, or the account, address book, data field or label settings changed since. "
        if settings.activation_code
        else ""
    )
    msg = (
        f"Not activated: nothing was written. {wrong}Read the review above ({path}). To switch the daily "
        f"sync on for exactly this, set the setting activation_code to {code} "
        f"(TARGET_DOTDIGITAL_ACTIVATION_CODE={code})"
    )
    return NotActivatedError(msg)


def nothing_to_review(path: Path) -> SettingsError:
    """Return the error for a review of a ledger that no run has delivered from.

    Args:
        path: where a run writes its review.
    """
    msg = (
        "There is nothing to review yet: no run has delivered to this account and data field. Run the sync "
        f"once: it writes nothing and ends with the review ({path})."
    )
    return SettingsError(msg)


def incomplete_input(done: str) -> IncompleteInputError:
    """Return the error for an input that broke off.

    Args:
        done: what was done with it, as a clause.
    """
    msg = (
        f"The input is incomplete: it ended without a STATE behind its last record, so the tap broke off. {done}; the bookmark "
        "stays, and the next run gets the rest. The tap's own message says why."
    )
    return IncompleteInputError(msg)
