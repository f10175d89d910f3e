"""Receives the input: stores it in the ledger, on a base that the ledger knows, and reads back what dotdigital holds."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.errors import AgreementError
from target_dotdigital.ledger.runs import update_scope
from target_dotdigital.sync.activation import activation_code, covers
from target_dotdigital.sync.agreement import (
    missing_feeds,
    require_agreement,
    require_marks,
    require_no_skipped_contacts,
    require_readable,
    truncation,
)
from target_dotdigital.sync.reading import read_back
from target_dotdigital.texts import shown

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from target_dotdigital.stats import InputStats
    from target_dotdigital.sync.agreement import States
    from target_dotdigital.sync.opening import OpenRun
    from target_dotdigital.sync.reading import Drift

LOGGER = logging.getLogger("target-dotdigital")


@dataclass(frozen=True, slots=True)
class Received:
    """The input of a run, as the ledger has it.

    Args:
        stats: figures of the input.
        truncated: how the messages show that the input was truncated, as a clause; None if they do not show it.
        missing: streams of which the ledger has contacts and that the input does not announce.
        drift: contacts that dotdigital did not hold as the ledger expected, as far as they were read back.
        checked: contacts that the spot check looked up.
    """

    stats: InputStats
    truncated: str | None
    missing: frozenset[str]
    drift: Counter[Drift]
    checked: int


def receive(opened: OpenRun, states: States, skipped: Mapping[str, str]) -> Received:
    """Store the collected input in the ledger.

    Args:
        opened: the run.
        states: what the STATE messages of the input say.
        skipped: streams of the input without contacts, and what they lack.

    Raises:
        AgreementError: the input builds on a base that the ledger does not know.
        StreamError: a skipped stream had contacts before, most records are invalid, or removed contacts cannot be recognised any more.
    """
    require_no_skipped_contacts(opened.ledger, skipped)
    settings, collector, ledger, scope = opened.place.settings, opened.collector, opened.ledger, opened.scope
    stats = collector.finish()
    LOGGER.info("Input: %d records, %d contacts, %d left out", stats.read, stats.distinct, stats.left_out)
    require_readable(stats)
    require_marks(collector, scope)
    missing = missing_feeds(collector, ledger, scope)
    truncated = truncation(states, collector, ledger, scope, has_skipped=bool(skipped))
    if truncated is None and missing and collector.is_whole:
        truncated = _short(opened, missing)
    update_scope(ledger.connection, ledger.scope, truncated=states.begins_at if truncated else None)
    since = require_agreement(states, collector, ledger, scope, truncated=truncated is not None)
    establishes = states.begins_at is None and states.ends_at is not None and stats.read > 0
    compared = _is_another_place(opened)
    if scope.forgotten:
        if since is not None and (compared or opened.relabelled):
            raise _may_lack_contacts()
        if truncated is None and (collector.is_whole or establishes):
            update_scope(ledger.connection, scope.id, forgotten=False)
    # a new ledger, a complete input and a new base are compared with everything that dotdigital holds
    everything = scope.account_contacts is None or bool(collector.whole) or establishes or compared
    if opened.delivery.may_be_late(ledger.connection):
        LOGGER.info(
            "dotdigital may have applied an import late whose response was lost: every contact is compared with what it holds"
        )
        everything = True
    if not everything:
        opened.delivery.recheck(ledger)
    ledger.forget_shared_ids()
    found = read_back(
        ledger,
        ContactReader(opened.place.client, opened.place.account),
        settings,
        everything=everything,
        scope=scope,
        since=since,
    )
    if not opened.writes:
        opened.delivery.mark_open(ledger.connection)
    if truncated is None:
        collector.remove_unmentioned()
    return Received(stats, truncated, frozenset(missing), found.drift, found.checked)


def _short(opened: OpenRun, missing: set[str]) -> str | None:
    """Return how a full input is short of streams, as a clause; None if the operator has approved that its streams replace all others."""
    settings, account, streams = opened.place.settings, opened.place.account, opened.collector.streams
    if not covers(settings, account, streams | opened.scope.feeds.keys()):
        return None
    return (
        f"it has every contact of its streams, but no stream {shown(min(missing))!r}, of which the ledger has contacts. Either the tap "
        "broke off, or the stream was left out on purpose: to clear the labels of its contacts, set activation_code to "
        f"{activation_code(settings, account, streams)}"
    )


def _is_another_place(opened: OpenRun) -> bool:
    """Return whether address book or data field are not those of the last run, so that they do not hold what it delivered."""
    account, settings = opened.place.account, opened.place.settings
    lost = settings.data_field not in account.fields
    if lost and opened.scope.account_contacts is not None:
        LOGGER.warning("The data field was deleted in dotdigital since the last run: every contact is compared with what it holds.")
    elif opened.moved:
        LOGGER.info(
            "The address book is another one than that of the last run: every contact is compared with what dotdigital holds"
        )
    return lost or opened.moved


def _may_lack_contacts() -> AgreementError:
    msg = (
        "An address was forgotten (command forget) while the source still had it, so the ledger may lack a contact of the source. Now the "
        "label settings, upload_emails, the address book or the data field are others than in the last run, and such a contact would "
        "not get what the others get, so nothing was written and the bookmark stays. Run once with --full-refresh."
    )
    return AgreementError(msg)
