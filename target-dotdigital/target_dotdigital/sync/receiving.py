"""Receives the input: stores it in the ledger, on a base that the ledger knows, and reads back what dotdigital holds."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.sync.agreement import is_incomplete, require_agreement, require_no_skipped_contacts
from target_dotdigital.sync.reading import read_back

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_dotdigital.stats import InputStats
    from target_dotdigital.sync.agreement import States
    from target_dotdigital.sync.opening import OpenRun

LOGGER = logging.getLogger("target-dotdigital")


@dataclass(frozen=True, slots=True)
class Received:
    """The input of a run, as the ledger has it.

    Args:
        stats: figures of the input.
        incomplete: whether the input broke off.
    """

    stats: InputStats
    incomplete: bool


def receive(opened: OpenRun, states: States, skipped: Mapping[str, str]) -> Received:
    """Store the collected input in the ledger.

    Args:
        opened: the run.
        states: what the STATE messages of the input say.
        skipped: streams of the input without contacts, and what they lack.

    Raises:
        AgreementError: the input builds on a base that the ledger does not know.
        StreamError: a skipped stream had contacts before.
    """
    require_no_skipped_contacts(opened.ledger, skipped)
    settings, collector, ledger, scope = opened.place.settings, opened.collector, opened.ledger, opened.scope
    stats = collector.finish()
    LOGGER.info("Input: %d records, %d contacts, %d left out", stats.read, stats.distinct, stats.left_out)
    incomplete = is_incomplete(states, collector, ledger, scope)
    since = require_agreement(states, collector, ledger, scope, incomplete=incomplete)
    establishes = states.begins_at is None and states.ends_at is not None and stats.read > 0
    ledger.forget_shared_ids()
    read_back(
        ledger,
        ContactReader(opened.place.client, opened.place.account),
        settings,
        # a new ledger, a complete input and a new base are compared with everything that dotdigital holds
        everything=scope.account_contacts is None or bool(collector.whole) or establishes,
        account_contacts=scope.account_contacts or 0,
        since=since,
    )
    collector.remove_unmentioned()
    return Received(stats, incomplete)
