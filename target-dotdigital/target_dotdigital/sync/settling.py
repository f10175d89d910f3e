"""Settles a delivery: what was confirmed has to be there, and what could not be settled is reported."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from target_dotdigital.errors import DeliveryError
from target_dotdigital.reporting.report import RunStatus
from target_dotdigital.sync.reading import Drift

if TYPE_CHECKING:
    from collections import Counter

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.stats import Remaining
    from target_dotdigital.sync.opening import OpenRun

LOGGER = logging.getLogger("target-dotdigital")


def require_held(opened: OpenRun, account: Account) -> None:
    """Look up a few of the delivered contacts, and require that dotdigital holds what it confirmed.

    Args:
        opened: the run.
        account: the account, whose address book and data fields exist.

    Raises:
        ApiError: a look-up failed.
        DeliveryError: a contact is not as it was sent; every contact of the run is sent again by the next one.
    """
    delivery, timeout = opened.delivery, opened.place.settings.verify_timeout
    if wrong := delivery.verify(account, opened.scope.id):
        msg = (
            f"dotdigital confirmed {delivery.tally.sent} contacts, but {wrong} of {len(delivery.samples.chosen)} that were looked up do "
            f"not hold what was sent, not even after {timeout} s (verify_timeout). The bookmark stays, and the next run sends all of them "
            "again. The command `rehearse` shows what dotdigital does differently."
        )
        raise DeliveryError(msg)


def unsettled(opened: OpenRun, drift: Counter[Drift]) -> list[str]:
    """Return a sentence for each thing about the delivered contacts that no run can settle.

    Args:
        opened: the run.
        drift: what the reading of the account found.
    """
    found = []
    if missing := drift[Drift.NOT_SHOWN]:
        found.append(
            f"The address book has {missing} contacts more than dotdigital showed when the account was read back, so labels of contacts "
            "that are not in the source may have been missed. Ask dotdigital's support, or run once with --full-refresh later."
        )
    if not_joined := drift[Drift.NOT_JOINED] + opened.delivery.tally.not_joined:
        found.append(
            f"dotdigital confirmed {not_joined} contacts twice, but did not put them into the address book: they are suppressed, or have "
            "yet to confirm a double opt-in. Their labels are current, and they are not sent again for this."
        )
    if twice := drift[Drift.TWICE]:
        found.append(
            f"dotdigital holds {twice} addresses twice, in different capitals. Only one contact of each gets labels. Remove the other in "
            "dotdigital, and run once with --full-refresh."
        )
    if again := opened.delivery.tally.created_again:
        found.append(
            f"dotdigital created {again} contacts that it had listed at the beginning of this run: they were deleted meanwhile, or it "
            "takes addresses in other capitals for other contacts, which the command `rehearse` shows."
        )
    return found


def status_of(opened: OpenRun, remaining: Remaining, *, settled: bool) -> RunStatus:
    """Return how a run ended in which everything that was sent has arrived.

    Args:
        opened: the run.
        remaining: what the ledger scope holds after the delivery.
        settled: whether nothing remains that no run can settle.
    """
    if remaining.held:
        LOGGER.warning(
            "%d contacts are held since dotdigital's Data Watchdog rejected their import: ask its support, then use the command `release`",
            remaining.held,
        )
    limited = opened.place.settings.max_contacts_per_run and remaining.pending
    if remaining.held or limited or not settled:
        return RunStatus.PARTLY
    return RunStatus.DELIVERED if opened.delivery.tally.sent or opened.collector.intake.read else RunStatus.NOTHING
