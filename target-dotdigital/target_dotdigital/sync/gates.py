"""What may stop a run: brakes before any write, and the results after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.errors import AccountError, BrakeError, DeliveryError, IncompleteInputError, NotActivatedError, SettingsError
from target_dotdigital.sync.plan import brakes
from target_dotdigital.texts import shown

if TYPE_CHECKING:
    import datetime
    from collections import Counter
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.settings import Settings
    from target_dotdigital.stats import DeliveryStats, Plan

# fewer rejections than this are no sign of something wrong
MIN_REJECTED = 10
SHOWN_CODES = 5
SHOWN_STREAMS = 5


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
        DeliveryError: something has not arrived, or too much is rejected that was not rejected before.
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
        codes = ", ".join(f"{code} {count}" for code, count in news.most_common(SHOWN_CODES))
        msg = (
            f"{news.total()} of {offered} contacts were newly rejected, more than max_rejected_percent "
            f"({settings.max_rejected_percent}): {codes}. The others were delivered; the bookmark stays. Look at the report for "
            "what to do; the next run judges only what is rejected for the first time."
        )
        raise DeliveryError(msg)


def not_activated(settings: Settings, code: str, path: Path, feeds: str) -> NotActivatedError:
    """Return the error for a run that the operator has not activated.

    Args:
        settings: the settings.
        code: the activation code of the review.
        path: where the review was written.
        feeds: how the streams of the input differ from those that the data field was fed by, as sentences; empty if they do not.
    """
    given = (settings.activation_code or "").strip()
    wrong = (
        f"The activation_code in the settings ({given}) is not the code of this review: it has a typo, or the account, address book, data "
        "field, label settings or streams changed since. "
        if given and not feeds
        else ""
    )
    msg = (
        f"Not activated: nothing was written. {feeds}{wrong}Read the review above ({path}). To switch the daily "
        f"sync on for exactly this, set the setting activation_code to {code} "
        f"(TARGET_DOTDIGITAL_ACTIVATION_CODE={code})"
    )
    return NotActivatedError(msg)


def cannot_restore(run: int, fields: Iterable[str]) -> SettingsError:
    """Return the error for a run whose labels the settings cannot express any more.

    Args:
        run: number of the run.
        fields: data fields with labels that it replaced, and that the settings do not write.
    """
    msg = (
        f"Run {run} replaced labels in {', '.join(sorted(fields))}, which the settings do not write today, so nothing was put back. Set "
        "data_field and overflow as they were then, and try again."
    )
    return SettingsError(msg)


def feeds_of(streams: Iterable[str], before: Iterable[str], missing: Iterable[str]) -> str:
    """Return how the streams of an input differ from those that the data field was fed by, as sentences; empty if they do not.

    Args:
        streams: streams with contacts that the input announces.
        before: streams that fed the data field before; none before the first delivery.
        missing: streams of which the ledger has contacts and that a full input does not announce.
    """
    before, told = sorted(before), []
    if before and (new := sorted(set(streams).difference(before))):
        told.append(
            f"The data field was never fed by {_listed(new)} before, only by {_listed(before)}: a new source would overwrite labels. If it "
            "is not meant for this data field, give it one of its own (data_field)."
        )
    if gone := sorted(missing):
        told.append(
            f"The input contains every contact of {_listed(streams)}, but it has no stream {_listed(gone)} any more, whose contacts would "
            "lose their labels. If the tap broke off, run again."
        )
    return "".join(f"{one} " for one in told)


def _listed(streams: Iterable[str]) -> str:
    names = [repr(shown(stream)) for stream in sorted(streams)]
    return ", ".join(names[:SHOWN_STREAMS]) + (f" and {len(names) - SHOWN_STREAMS} more" if len(names) > SHOWN_STREAMS else "")


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


def incomplete_input(reason: str, done: str) -> IncompleteInputError:
    """Return the error for an input that was truncated.

    Args:
        reason: how the messages show it, as a clause.
        done: what was done with it, as a clause.
    """
    msg = (
        f"The input is incomplete: {reason}. {done}; contacts that it does not mention keep their labels, the bookmark stays, and the next "
        "run gets the rest. The tap's own message may say more."
    )
    return IncompleteInputError(msg)
