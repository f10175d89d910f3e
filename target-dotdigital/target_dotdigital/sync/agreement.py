"""Two memories that agree: whether the ledger knows what an input builds on, and whether the input is complete."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.errors import AgreementError, StreamError
from target_dotdigital.ledger.bookmarks import Bookmarks, digest_of
from target_dotdigital.ledger.scopes import update_scope
from target_dotdigital.settings import InputTerms

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping

    import sqlalchemy as sa

    from target_dotdigital.ledger.contacts import ContactLedger
    from target_dotdigital.ledger.scopes import Scope
    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.intake import Collector


LOGGER = logging.getLogger("target-dotdigital")


@dataclass(frozen=True, slots=True)
class States:
    """What the STATE messages of an input say.

    Args:
        begin: the STATE with which the input begins; None if it begins with another message.
        end: the last STATE; None if there is none.
    """

    begin: Any = None
    end: Any = None

    @property
    def begins_at(self) -> str | None:
        """The digest of the bookmark that the input starts from; None if it starts from nothing."""
        return digest_of(self.begin)

    @property
    def ends_at(self) -> str | None:
        """The digest of the bookmark that the input leads to."""
        return digest_of(self.end)


def is_incomplete(states: States, collector: Collector, ledger: ContactLedger, scope: Scope, *, has_skipped: bool) -> bool:
    """Return whether the tap broke off, as far as its messages can show.

    A source that never sends STATE, or one whose STATE holds no bookmark, cannot say where it ends. An SDK tap does not repeat
    a STATE that has not changed, so records behind the last one count only if they changed something.
    """
    after = collector.after_state
    if states.begin is not None and not collector.streams and not has_skipped:
        # SDK taps send their starting STATE first, and then a SCHEMA in any case
        return True
    if states.end is None:
        return bool(after & scope.streams) or collector.unactivated
    return bool(after) and states.ends_at is not None and bool(after & ledger.changed_streams())


def require_agreement(states: States, collector: Collector, ledger: ContactLedger, scope: Scope, *, incomplete: bool) -> int | None:
    """Require that the ledger knows what the input builds on.

    Args:
        states: what the STATE messages of the input say.
        collector: the input.
        ledger: the ledger scope.
        scope: the facts about it from before the run.
        incomplete: whether the input broke off, so that it cannot mention everything.

    Returns:
        The run that acknowledged the bookmark that the input starts from; None for an input that builds on nothing.

    Raises:
        AgreementError: it does not.
    """
    begin = states.begins_at
    if begin is None or collector.is_whole:
        return None
    bookmarks = Bookmarks(ledger.connection, ledger.scope)
    since = bookmarks.run_of(begin)
    if since is None:
        latest = bookmarks.latest()
        reason = (
            f"the last bookmark that it acknowledged, on {latest[:10]}, is another one: the ledger was restored from a backup, or the "
            "STATE is that of another machine or pipeline"
            if latest
            else "it has not acknowledged any: the ledger is new or lost, a run was restored, an address was forgotten whose delivery was "
            "outstanding, or the data field or a setting changed that decides what is used of the input (exclude_emails, on_removed, "
            "stream_maps, the properties)"
        )
        raise AgreementError(_disagreement("starts from a bookmark that this ledger has never acknowledged", reason))
    may_miss = scope.changed_run > since and not incomplete
    if may_miss and (missed := ledger.missed_since(since, collector.streams)):
        reason = "the tap's snapshots or its STATE were restored from a backup"
        raise AgreementError(_disagreement(f"does not mention {missed} contacts that changed since its bookmark", reason))
    return since


def require_no_skipped_contacts(ledger: ContactLedger, skipped: Mapping[str, str]) -> None:
    """Require that no stream is skipped whose contacts are in the ledger: they would keep old labels, or lose them.

    Args:
        ledger: the ledger scope.
        skipped: streams without contacts, and what they lack.

    Raises:
        StreamError: the ledger holds contacts of a skipped stream.
    """
    for stream, lack in skipped.items():
        if ledger.has_stream(stream):
            msg = (
                f"{lack}, but an earlier run got contacts from it: their labels would be wrong from now on. Nothing was written, and the "
                "bookmark stays. Check the tap, or deselect the stream and run once with --full-refresh, which clears the labels of "
                "contacts that no other stream has."
            )
            raise StreamError(msg)


def keep_terms(connection: sa.Connection, scope: Scope, settings: Settings) -> None:
    """Withdraw every bookmark if the settings now use more of the input than those of the last run.

    Records that were left out under the earlier settings are part of what these bookmarks stand for, but not of the ledger.
    """
    terms = settings.input_terms
    if scope.terms is not None and terms.uses_more_than(msgspec.json.decode(scope.terms, type=InputTerms)):
        LOGGER.warning(
            "exclude_emails, on_removed, stream_maps or the properties changed: records that earlier runs left out are used now, so the "
            "input has to name every contact once (--full-refresh)."
        )
        Bookmarks(connection, scope.id).withdraw()
    update_scope(connection, scope.id, terms=msgspec.json.encode(terms).decode())


def acknowledge(states: States, collector: Collector, ledger: ContactLedger, scope: Scope, now: datetime.datetime) -> None:
    """Note the bookmark up to which everything is in the ledger; an older one may come back, and is known then.

    Args:
        states: what the STATE messages of the input say.
        collector: the input.
        ledger: the ledger scope.
        scope: the facts about it from before the run.
        now: the time, in UTC.
    """
    if states.ends_at is None:
        return
    streams = scope.streams | collector.streams
    update_scope(ledger.connection, ledger.scope, streams=msgspec.json.encode(sorted(streams)).decode())
    if states.ends_at != states.begins_at or collector.is_whole:
        Bookmarks(ledger.connection, ledger.scope).acknowledge(states.ends_at, ledger.run, now)


def _disagreement(what: str, reason: str) -> str:
    return (
        f"The input {what}. It holds only what changed, and applied to an unknown base it would leave wrong labels, so nothing was "
        f"written and the bookmark stays. Run once with --full-refresh: everything is then compared with what dotdigital holds, and only "
        f"what differs is sent. Cause: {reason}."
    )
